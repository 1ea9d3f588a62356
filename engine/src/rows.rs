//! Rows on their way into a segment: append-only columns in memory.

use std::ops::Range;
use std::sync::Arc;

use crate::types::{Physical, Schema};
use crate::{Error, Result};

/// Values of one column, dense: a NULL occupies a zero value or an empty byte string.
#[derive(Clone, Debug)]
pub enum ColumnData {
    I64(Vec<i64>),
    I128(Vec<i128>),
    F64(Vec<f64>),
    /// `ends[i]` is where value `i` ends in `data`; it begins where the one before ends.
    Bytes {
        ends: Vec<u64>,
        data: Vec<u8>,
    },
}

impl ColumnData {
    fn new(physical: Physical) -> Self {
        match physical {
            Physical::I64 => ColumnData::I64(Vec::new()),
            Physical::I128 => ColumnData::I128(Vec::new()),
            Physical::F64 => ColumnData::F64(Vec::new()),
            Physical::Bytes => ColumnData::Bytes { ends: Vec::new(), data: Vec::new() },
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            ColumnData::I64(v) => v.len(),
            ColumnData::I128(v) => v.len(),
            ColumnData::F64(v) => v.len(),
            ColumnData::Bytes { ends, .. } => ends.len(),
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            ColumnData::I64(v) => v.truncate(rows),
            ColumnData::I128(v) => v.truncate(rows),
            ColumnData::F64(v) => v.truncate(rows),
            ColumnData::Bytes { ends, data } => {
                ends.truncate(rows);
                data.truncate(ends.last().map_or(0, |e| *e as usize));
            }
        }
    }

    fn memory(&self) -> usize {
        match self {
            ColumnData::I64(v) => v.capacity() * 8,
            ColumnData::I128(v) => v.capacity() * 16,
            ColumnData::F64(v) => v.capacity() * 8,
            ColumnData::Bytes { ends, data } => ends.capacity() * 8 + data.capacity(),
        }
    }
}

/// One column of a [`RowBuffer`].
#[derive(Clone, Debug)]
pub struct ColumnRows {
    pub data: ColumnData,
    /// Positions of NULLs, ascending.
    pub nulls: Vec<u32>,
}

impl ColumnRows {
    /// The bytes of value `row`; empty for other kinds of columns and for NULL.
    pub fn bytes(&self, row: usize) -> &[u8] {
        match &self.data {
            ColumnData::Bytes { ends, data } => {
                let start = if row == 0 { 0 } else { ends[row - 1] as usize };
                &data[start..ends[row] as usize]
            }
            _ => &[],
        }
    }
}

/// Where the value of one column of a new row goes. Errors of its functions: `Error::Invalid` if the column's physical
/// type is another; nothing is pushed then.
pub struct Place<'a> {
    rows: &'a mut ColumnRows,
    column: usize,
}

/// A value was pushed.
pub struct Pushed(());

impl Place<'_> {
    #[inline]
    pub fn null(self) -> Pushed {
        let ColumnRows { data, nulls } = self.rows;
        nulls.push(data.len() as u32);
        match data {
            ColumnData::I64(v) => v.push(0),
            ColumnData::I128(v) => v.push(0),
            ColumnData::F64(v) => v.push(0.0),
            ColumnData::Bytes { ends, data } => ends.push(data.len() as u64),
        }
        Pushed(())
    }

    #[inline]
    pub fn i64(self, value: i64) -> Result<Pushed> {
        match &mut self.rows.data {
            ColumnData::I64(v) => v.push(value),
            ColumnData::I128(v) => v.push(i128::from(value)),
            _ => return Err(mismatch(self.column)),
        }
        Ok(Pushed(()))
    }

    #[inline]
    pub fn i128(self, value: i128) -> Result<Pushed> {
        match &mut self.rows.data {
            ColumnData::I128(v) => v.push(value),
            _ => return Err(mismatch(self.column)),
        }
        Ok(Pushed(()))
    }

    /// NaN is made canonical.
    #[inline]
    pub fn f64(self, value: f64) -> Result<Pushed> {
        match &mut self.rows.data {
            ColumnData::F64(v) => v.push(if value.is_nan() { f64::NAN } else { value }),
            _ => return Err(mismatch(self.column)),
        }
        Ok(Pushed(()))
    }

    #[inline]
    pub fn bytes(self, value: &[u8]) -> Result<Pushed> {
        match &mut self.rows.data {
            ColumnData::Bytes { ends, data } => {
                data.extend_from_slice(value);
                ends.push(data.len() as u64);
            }
            _ => return Err(mismatch(self.column)),
        }
        Ok(Pushed(()))
    }
}

/// Rows in columns, in arrival order. [`RowBuffer::push_row`] appends one; or push one value to every column, then call
/// [`RowBuffer::finish_row`]; [`RowBuffer::abandon_row`] takes a half-pushed row back.
#[derive(Clone, Debug)]
pub struct RowBuffer {
    schema: Arc<Schema>,
    columns: Vec<ColumnRows>,
    rows: usize,
}

impl RowBuffer {
    /// Rows one buffer may hold: positions are `u32`.
    pub const MAX_ROWS: usize = u32::MAX as usize;

    pub fn new(schema: Arc<Schema>) -> Self {
        let columns = schema
            .columns
            .iter()
            .map(|c| ColumnRows { data: ColumnData::new(c.ty.physical()), nulls: Vec::new() })
            .collect();
        RowBuffer { schema, columns, rows: 0 }
    }

    /// Of columns that hold `rows` values each.
    pub(crate) fn of_columns(schema: Arc<Schema>, columns: Vec<ColumnRows>, rows: usize) -> Self {
        RowBuffer { schema, columns, rows }
    }

    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub fn columns(&self) -> &[ColumnRows] {
        &self.columns
    }

    pub fn into_columns(self) -> Vec<ColumnRows> {
        self.columns
    }

    /// Bytes allocated by the columns.
    pub fn memory(&self) -> usize {
        self.columns.iter().map(|c| c.data.memory() + c.nulls.capacity() * 4).sum()
    }

    /// Appends a row: `value` is given the place of each column in turn. On its error there is no row.
    #[inline]
    pub fn push_row<E>(
        &mut self,
        mut value: impl FnMut(usize, Place) -> std::result::Result<Pushed, E>,
    ) -> std::result::Result<(), E> {
        for (column, rows) in self.columns.iter_mut().enumerate() {
            if let Err(error) = value(column, Place { rows, column }) {
                self.abandon_row();
                return Err(error);
            }
        }
        self.rows += 1;
        Ok(())
    }

    #[inline]
    fn place(&mut self, column: usize) -> Place<'_> {
        Place { rows: &mut self.columns[column], column }
    }

    pub fn push_null(&mut self, column: usize) {
        self.place(column).null();
    }

    /// Errors: `Error::Invalid` if the column's physical type is another; nothing is pushed then.
    pub fn push_i64(&mut self, column: usize, value: i64) -> Result<()> {
        self.place(column).i64(value).map(|_| ())
    }

    pub fn push_i128(&mut self, column: usize, value: i128) -> Result<()> {
        self.place(column).i128(value).map(|_| ())
    }

    /// NaN is made canonical.
    pub fn push_f64(&mut self, column: usize, value: f64) -> Result<()> {
        self.place(column).f64(value).map(|_| ())
    }

    pub fn push_bytes(&mut self, column: usize, value: &[u8]) -> Result<()> {
        self.place(column).bytes(value).map(|_| ())
    }

    /// Errors: `Error::Invalid` if a column did not get exactly one value; the row is taken back.
    pub fn finish_row(&mut self) -> Result<()> {
        if self.columns.iter().any(|c| c.data.len() != self.rows + 1) {
            self.abandon_row();
            return Err(Error::invalid("a row needs exactly one value in every column"));
        }
        self.rows += 1;
        Ok(())
    }

    /// A column, to append values of many rows to; [`RowBuffer::settle`] makes rows of them.
    pub(crate) fn column_mut(&mut self, column: usize) -> Option<&mut ColumnRows> {
        self.columns.get_mut(column)
    }

    /// Keeps the first `rows` rows of what the columns hold. Errors: `Error::Invalid` if one holds fewer; what is not finished is taken back.
    pub(crate) fn settle(&mut self, rows: usize) -> Result<()> {
        if self.columns.iter().any(|c| c.data.len() < rows) {
            self.abandon_row();
            return Err(Error::invalid("a row needs exactly one value in every column"));
        }
        self.rows = rows;
        self.truncate(rows);
        Ok(())
    }

    /// Takes back what was pushed since the last finished row.
    pub fn abandon_row(&mut self) {
        self.truncate(self.rows);
    }

    /// Keeps the first `rows` finished rows.
    pub fn truncate(&mut self, rows: usize) {
        self.rows = self.rows.min(rows);
        for c in &mut self.columns {
            c.data.truncate(self.rows);
            let kept = c.nulls.partition_point(|&p| (p as usize) < self.rows);
            c.nulls.truncate(kept);
        }
    }

    /// Appends the rows of `other`. Errors: `Error::Invalid` if the schemas differ.
    pub fn append(&mut self, other: &RowBuffer) -> Result<()> {
        self.append_range(other, 0..other.rows)
    }

    /// Appends rows `range` of `other`. Errors: `Error::Invalid` if the schemas differ or `other` has fewer rows.
    pub fn append_range(&mut self, other: &RowBuffer, range: Range<usize>) -> Result<()> {
        if self.schema != other.schema || range.start > range.end || range.end > other.rows {
            return Err(Error::invalid("rows of another schema, or not there"));
        }
        let base = self.rows as u32;
        let start = range.start as u32;
        for (to, from) in self.columns.iter_mut().zip(&other.columns) {
            let first = from.nulls.partition_point(|p| (*p as usize) < range.start);
            let last = from.nulls.partition_point(|p| (*p as usize) < range.end);
            to.nulls.extend(from.nulls[first..last].iter().map(|p| p - start + base));
            match (&mut to.data, &from.data) {
                (ColumnData::I64(a), ColumnData::I64(b)) => a.extend_from_slice(&b[range.clone()]),
                (ColumnData::I128(a), ColumnData::I128(b)) => a.extend_from_slice(&b[range.clone()]),
                (ColumnData::F64(a), ColumnData::F64(b)) => a.extend_from_slice(&b[range.clone()]),
                (ColumnData::Bytes { ends, data }, ColumnData::Bytes { ends: e, data: d }) => {
                    let from = if range.start == 0 { 0 } else { e[range.start - 1] };
                    let to = if range.end == 0 { 0 } else { e[range.end - 1] };
                    let base = data.len() as u64;
                    data.extend_from_slice(&d[from as usize..to as usize]);
                    ends.extend(e[range.clone()].iter().map(|end| end - from + base));
                }
                _ => return Err(Error::invalid("row buffers of different schemas")),
            }
        }
        self.rows += range.len();
        Ok(())
    }
}

fn mismatch(column: usize) -> Error {
    Error::invalid(format!("column {column} holds another physical type"))
}
