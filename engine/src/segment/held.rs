//! Rows that a builder holds, column by column, in arrival order.

use std::ops::Range;
use std::sync::Arc;

use super::gather::check_rows;
use crate::dictionary::Interner;
use crate::rows::{ColumnData, ColumnRows, RowBuffer};
use crate::types::{Physical, Schema};
use crate::{Cancel, Error, Result};

/// Rows from which on columns grow one at a time and before they must: moving all of them at once is what a request to stop would wait for.
const MANY: usize = 1 << 18;

/// Rows in the form that a segment is built from.
pub(crate) struct HeldRows {
    pub schema: Arc<Schema>,
    pub columns: Vec<HeldColumn>,
    rows: usize,
}

impl HeldRows {
    pub fn new(schema: Arc<Schema>) -> Self {
        let columns = schema.columns.iter().map(|c| HeldColumn::new(c.ty.physical())).collect();
        HeldRows { schema, columns, rows: 0 }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes allocated.
    pub fn memory(&self) -> usize {
        self.columns.iter().map(HeldColumn::memory).sum()
    }

    /// Appends rows `range` of `rows`. Errors: `Invalid` for another schema, missing rows, too many rows.
    pub fn append(&mut self, rows: &RowBuffer, range: Range<usize>) -> Result<()> {
        if **rows.schema() != *self.schema || range.start > range.end || range.end > rows.rows() {
            return Err(Error::invalid("rows of another schema, or not there"));
        }
        check_rows(self.rows + range.len())?;
        if self.rows >= MANY {
            let turn = self.rows / range.len().max(1) % self.columns.len().max(1);
            // Never further than a column would grow by itself.
            let ahead = (self.columns.len() * range.len()).min(self.rows);
            self.columns.iter_mut().skip(turn).take(1).for_each(|held| held.reserve(ahead));
        }
        for (held, column) in self.columns.iter_mut().zip(rows.columns()) {
            held.append(self.rows, column, range.clone());
        }
        self.rows += range.len();
        Ok(())
    }

    /// Takes rows over; the first ones are not copied. Errors as for [`HeldRows::append`].
    pub fn take(&mut self, rows: RowBuffer) -> Result<()> {
        if self.rows > 0 {
            return self.append(&rows, 0..rows.rows());
        }
        if **rows.schema() != *self.schema {
            return Err(Error::invalid("rows of another schema"));
        }
        check_rows(rows.rows())?;
        self.rows = rows.rows();
        for (held, column) in self.columns.iter_mut().zip(rows.into_columns()) {
            held.take(column);
        }
        Ok(())
    }

    /// The rows as they came.
    pub fn into_rows(self) -> RowBuffer {
        let columns = self.columns.into_iter().map(|column| column.into_rows(self.rows)).collect();
        RowBuffer::of_columns(self.schema, columns, self.rows)
    }
}

pub(crate) enum Held {
    I64(Vec<i64>),
    I128(Vec<i128>),
    F64(Vec<f64>),
    /// Each row's number in `values`; `u32::MAX` is NULL.
    Bytes {
        values: Interner,
        ids: Vec<u32>,
    },
}

pub(crate) struct HeldColumn {
    pub data: Held,
    /// Rows that are NULL, ascending; unused for bytes.
    nulls: Vec<u32>,
}

/// A permutation of interned values and its inverse.
pub(crate) struct SortedValues {
    /// The interner's numbers in byte order of their values.
    pub order: Vec<u32>,
    /// `ranks[order[i]] == i`.
    pub ranks: Vec<u32>,
}

impl HeldColumn {
    fn new(physical: Physical) -> Self {
        let data = match physical {
            Physical::I64 => Held::I64(Vec::new()),
            Physical::I128 => Held::I128(Vec::new()),
            Physical::F64 => Held::F64(Vec::new()),
            Physical::Bytes => Held::Bytes { values: Interner::default(), ids: Vec::new() },
        };
        HeldColumn { data, nulls: Vec::new() }
    }

    /// Makes room for so many more rows.
    fn reserve(&mut self, rows: usize) {
        match &mut self.data {
            Held::I64(values) => values.reserve(rows),
            Held::I128(values) => values.reserve(rows),
            Held::F64(values) => values.reserve(rows),
            Held::Bytes { ids, .. } => ids.reserve(rows),
        }
    }

    /// Appends rows `range` of the same physical type after the `base` rows already held.
    fn append(&mut self, base: usize, rows: &ColumnRows, range: Range<usize>) {
        let nulls = &rows.nulls[rows.nulls.partition_point(|n| (*n as usize) < range.start)..];
        match (&mut self.data, &rows.data) {
            (Held::I64(to), ColumnData::I64(from)) => to.extend_from_slice(&from[range.clone()]),
            (Held::I128(to), ColumnData::I128(from)) => to.extend_from_slice(&from[range.clone()]),
            (Held::F64(to), ColumnData::F64(from)) => to.extend_from_slice(&from[range.clone()]),
            (Held::Bytes { values, ids }, ColumnData::Bytes { ends, data }) => {
                ids.reserve(range.len());
                let mut nulls = nulls.iter().map(|n| *n as usize).peekable();
                let mut start = if range.start == 0 { 0 } else { ends[range.start - 1] as usize };
                let rows = range.clone().zip(&ends[range]).map(|(row, end)| {
                    let bytes = &data[start..*end as usize];
                    start = *end as usize;
                    if nulls.next_if_eq(&row).is_some() { None } else { Some(bytes) }
                });
                values.intern_all(rows, ids);
                return;
            }
            // The caller compared the schemas.
            _ => return,
        }
        let nulls = nulls.iter().take_while(|n| (**n as usize) < range.end);
        self.nulls.extend(nulls.map(|n| n - range.start as u32 + base as u32));
    }

    /// The first rows, whole.
    fn take(&mut self, rows: ColumnRows) {
        match (&mut self.data, rows.data) {
            (Held::I64(to), ColumnData::I64(from)) => *to = from,
            (Held::I128(to), ColumnData::I128(from)) => *to = from,
            (Held::F64(to), ColumnData::F64(from)) => *to = from,
            (_, data) => {
                let count = data.len();
                return self.append(0, &ColumnRows { data, nulls: rows.nulls }, 0..count);
            }
        }
        self.nulls = rows.nulls;
    }

    fn into_rows(self, rows: usize) -> ColumnRows {
        let data = match self.data {
            Held::I64(values) => ColumnData::I64(values),
            Held::I128(values) => ColumnData::I128(values),
            Held::F64(values) => ColumnData::F64(values),
            Held::Bytes { values, ids } => {
                let (mut ends, mut data, mut nulls) = (Vec::with_capacity(rows), Vec::new(), Vec::new());
                for (row, id) in ids.iter().enumerate() {
                    match *id {
                        u32::MAX => nulls.push(row as u32),
                        id => data.extend_from_slice(values.get(id)),
                    }
                    ends.push(data.len() as u64);
                }
                return ColumnRows { data: ColumnData::Bytes { ends, data }, nulls };
            }
        };
        ColumnRows { data, nulls: self.nulls }
    }

    pub fn memory(&self) -> usize {
        let data = match &self.data {
            Held::I64(v) => v.capacity() * 8,
            Held::I128(v) => v.capacity() * 16,
            Held::F64(v) => v.capacity() * 8,
            Held::Bytes { values, ids } => values.memory() + ids.capacity() * 4,
        };
        data + self.nulls.capacity() * 4
    }

    /// Distinct byte strings; 0 for other kinds.
    pub fn distinct(&self) -> usize {
        match &self.data {
            Held::Bytes { values, .. } => values.len(),
            _ => 0,
        }
    }

    /// Bytes only. Errors: `Canceled`.
    pub fn sorted_values(&self, cancel: &Cancel) -> Result<Option<SortedValues>> {
        let Held::Bytes { values, .. } = &self.data else { return Ok(None) };
        let order = values.sorted(cancel)?;
        let mut ranks = vec![0; order.len()];
        for (rank, id) in order.iter().enumerate() {
            ranks[*id as usize] = rank as u32;
        }
        Ok(Some(SortedValues { order, ranks }))
    }

    /// One bit a row, set where it is NULL; `None`: no row is.
    pub fn null_words(&self, rows: usize) -> Option<Vec<u64>> {
        let mut words = vec![0u64; rows.div_ceil(64)];
        let mut any = false;
        let mut set = |row: usize| {
            any = true;
            words[row / 64] |= 1 << (row % 64);
        };
        match &self.data {
            Held::Bytes { ids, .. } => {
                ids.iter().enumerate().filter(|(_, id)| **id == u32::MAX).for_each(|(row, _)| set(row))
            }
            _ => self.nulls.iter().for_each(|row| set(*row as usize)),
        }
        any.then_some(words)
    }
}
