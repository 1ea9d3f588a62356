//! A plan's columns in one segment.

mod float_keys;
mod scratch;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::compute::{self, AttributeTable, LookupTable, MapTable, Program};
use super::unify::{CodeMap, Unified};
use crate::plan::{ColumnRef, Limits};
use crate::segment::{BLOCK_ROWS, BlockHeader, BytesBlock, ColumnKind, ColumnReader, Dictionary, Segment};
use crate::types::{LogicalType, Physical, Value};
use crate::{Error, Result};

pub use float_keys::float_key;
pub(super) use float_keys::{exact_key, float_of_key, without_sign_of_zero};
pub(super) use scratch::BlockScratch;

/// How a column's blocks are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    I64,
    I128,
    F64,
    /// Codes of byte strings.
    Codes,
    Bytes,
}

pub(super) struct SegmentColumn<'a> {
    pub ty: LogicalType,
    pub kind: Kind,
    source: Source<'a>,
    /// One numbering of the values of all segments that are scanned together, and what this one's codes are in it.
    pub unified: Option<(Arc<Unified>, CodeMap)>,
}

enum Source<'a> {
    /// Every row holds this: the segment is older than the column. Byte strings behave as a dictionary of one value or none.
    Missing(Value),
    Stored(ColumnReader<'a>),
    /// `None`: not bound yet.
    Computed(Option<Arc<Bound>>),
}

/// A computed column, bound to a segment.
pub(super) enum Bound {
    Native(Program),
    Mapped(Box<MapTable>),
    Lookup(LookupTable),
    Attribute(AttributeTable),
}

impl Bound {
    /// Limits of its values in the scratch's block from headers alone, and whether NaN may be among them.
    pub fn limits(&self, view: &SegmentView<'_>, scratch: &mut BlockScratch) -> Result<(Limits, bool)> {
        Ok(match self {
            Bound::Native(program) => return compute::limits(program, view, scratch),
            Bound::Mapped(table) => table.limits(),
            Bound::Lookup(table) => (table.limits(), false),
            Bound::Attribute(table) => table.limits(),
        })
    }

    /// The distinct values, ascending, of byte strings.
    fn dictionary(&self) -> Option<&BytesBlock> {
        match self {
            Bound::Mapped(table) => table.dictionary(),
            Bound::Attribute(table) => table.dictionary(),
            Bound::Native(_) | Bound::Lookup(_) => None,
        }
    }
}

impl<'a> SegmentColumn<'a> {
    fn new(segment: &'a Segment, column: &ColumnRef) -> Result<Self> {
        let physical = column.ty.physical();
        if column.computed.is_some() {
            let kind = match physical {
                Physical::I64 => Kind::I64,
                Physical::I128 => Kind::I128,
                Physical::F64 => Kind::F64,
                Physical::Bytes => Kind::Codes,
            };
            return Ok(SegmentColumn { ty: column.ty, kind, source: Source::Computed(None), unified: None });
        }
        let Some(reader) = segment.column(column.id) else {
            let kind = match (physical, &column.missing) {
                (Physical::I64, Value::I64(_) | Value::Null) => Kind::I64,
                (Physical::I128, Value::I128(_) | Value::Null) => Kind::I128,
                (Physical::F64, Value::F64(_) | Value::Null) => Kind::F64,
                (Physical::Bytes, Value::Bytes(_) | Value::Null) => Kind::Codes,
                _ => return Err(Error::invalid("a column's missing value is of another type")),
            };
            let source = Source::Missing(column.missing.clone());
            return Ok(SegmentColumn { ty: column.ty, kind, source, unified: None });
        };
        if reader.ty() != column.ty {
            return Err(Error::invalid(format!("column {} is stored as {:?}", column.id.0, reader.ty())));
        }
        let kind = match (reader.kind(), physical) {
            (ColumnKind::I64, Physical::I64) => Kind::I64,
            (ColumnKind::I128, Physical::I128) => Kind::I128,
            (ColumnKind::F64, Physical::F64) => Kind::F64,
            (ColumnKind::Bytes, Physical::Bytes) => Kind::Bytes,
            (ColumnKind::Dictionary, Physical::Bytes) => Kind::Codes,
            _ => return Err(Error::corrupt("a column's encoding does not fit its type")),
        };
        Ok(SegmentColumn { ty: column.ty, kind, source: Source::Stored(reader), unified: None })
    }

    pub fn stored(&self) -> Option<&ColumnReader<'a>> {
        match &self.source {
            Source::Stored(reader) => Some(reader),
            Source::Missing(_) | Source::Computed(_) => None,
        }
    }

    pub fn is_computed(&self) -> bool {
        matches!(self.source, Source::Computed(_))
    }

    /// Whether it is an attribute that is looked up.
    pub fn is_attribute(&self) -> bool {
        matches!(&self.source, Source::Computed(Some(bound)) if matches!(**bound, Bound::Attribute(_)))
    }

    /// The distinct values of a computed column, ascending.
    fn mapped(&self) -> Option<&BytesBlock> {
        match &self.source {
            Source::Computed(Some(bound)) => bound.dictionary(),
            _ => None,
        }
    }

    /// The value in every row of a segment that lacks the column.
    pub fn constant(&self) -> Option<&Value> {
        match &self.source {
            Source::Stored(_) | Source::Computed(_) => None,
            Source::Missing(value) => Some(value),
        }
    }

    fn dictionary(&self) -> Result<Option<Dictionary<'a>>> {
        match &self.source {
            Source::Stored(reader) => reader.dictionary().map(Some),
            Source::Missing(_) | Source::Computed(_) => Ok(None),
        }
    }

    /// Values of the dictionary: the code of NULL.
    pub fn dictionary_len(&self) -> Result<u32> {
        if let Some(values) = self.mapped() {
            return Ok(values.ends.len() as u32);
        }
        Ok(match (&self.source, self.dictionary()?) {
            (_, Some(dictionary)) => dictionary.len(),
            (Source::Missing(Value::Null), None) => 0,
            (_, None) => 1,
        })
    }

    /// Appends the bytes of `code` to `out`.
    pub fn dictionary_get(&self, code: u32, out: &mut Vec<u8>) -> Result<()> {
        if let Some(values) = self.mapped().filter(|v| (code as usize) < v.ends.len()) {
            out.extend_from_slice(super::like::value(values, code as usize));
            return Ok(());
        }
        match (&self.source, self.dictionary()?) {
            (_, Some(dictionary)) => dictionary.get(code, out),
            (Source::Missing(Value::Bytes(bytes)), None) if code == 0 => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            _ => Err(Error::invalid("code past the end of a dictionary")),
        }
    }

    /// The values of `codes`, which are in the dictionary.
    pub fn dictionary_range(&self, codes: Range<u32>) -> Result<BytesBlock> {
        let mut values = BytesBlock::default();
        self.dictionary_range_into(codes, &mut values)?;
        Ok(values)
    }

    /// [`SegmentColumn::dictionary_range`] into `values`, which is emptied first.
    pub fn dictionary_range_into(&self, codes: Range<u32>, values: &mut BytesBlock) -> Result<()> {
        if let (Source::Stored(_), Some(dictionary)) = (&self.source, self.dictionary()?) {
            return dictionary.range(codes, values);
        }
        values.ends.clear();
        values.data.clear();
        if let Some(all) = self.mapped().filter(|all| codes.end as usize <= all.ends.len()) {
            for code in codes {
                values.data.extend_from_slice(super::like::value(all, code as usize));
                values.ends.push(values.data.len() as u32);
            }
            return Ok(());
        }
        match &self.source {
            Source::Missing(Value::Bytes(bytes)) if codes == (0..1) => {
                values.ends.push(bytes.len() as u32);
                values.data.extend_from_slice(bytes);
                Ok(())
            }
            _ if codes.is_empty() => Ok(()),
            _ => Err(Error::invalid("code past the end of a dictionary")),
        }
    }

    /// As `slice::binary_search` over the dictionary.
    pub fn dictionary_search(&self, value: &[u8]) -> Result<std::result::Result<u32, u32>> {
        if let Some(values) = self.mapped() {
            let (mut low, mut high) = (0, values.len());
            while low < high {
                let middle = low + (high - low) / 2;
                match values.get(middle).cmp(value) {
                    std::cmp::Ordering::Less => low = middle + 1,
                    std::cmp::Ordering::Equal => return Ok(Ok(middle as u32)),
                    std::cmp::Ordering::Greater => high = middle,
                }
            }
            return Ok(Err(low as u32));
        }
        match (&self.source, self.dictionary()?) {
            (_, Some(dictionary)) => dictionary.search(value),
            (Source::Missing(Value::Bytes(bytes)), None) => Ok(match value.cmp(bytes) {
                std::cmp::Ordering::Less => Err(0),
                std::cmp::Ordering::Equal => Ok(0),
                std::cmp::Ordering::Greater => Err(1),
            }),
            _ => Ok(Err(0)),
        }
    }

    pub fn header(&self, block: usize, rows: usize) -> Result<BlockHeader> {
        match &self.source {
            Source::Stored(reader) => reader.block(block),
            Source::Computed(_) => Err(Error::invalid("a computed column has no headers")),
            Source::Missing(value) => {
                let nulls = if value.is_null() { rows as u32 } else { 0 };
                let sum = match value {
                    Value::I64(LogicalType::NUMERIC_NAN_I64) | Value::I128(LogicalType::NUMERIC_NAN_I128) => None,
                    Value::I64(v) => i128::from(*v).checked_mul(rows as i128),
                    Value::I128(v) => v.checked_mul(rows as i128),
                    _ => None,
                };
                let min = if self.kind == Kind::Codes && !value.is_null() { Value::I64(0) } else { value.clone() };
                Ok(BlockHeader { rows: rows as u32, nulls, max: min.clone(), min, sum })
            }
        }
    }

    pub fn is_numeric(&self) -> bool {
        matches!(self.ty, LogicalType::Numeric { .. })
    }

    pub fn is_constant(&self, block: usize) -> Result<bool> {
        match &self.source {
            Source::Stored(reader) => reader.is_constant(block),
            Source::Missing(_) => Ok(true),
            Source::Computed(_) => Ok(false),
        }
    }
}

/// Computed columns of a segment, with their positions.
pub(super) type Computed = Vec<(usize, Arc<Bound>)>;

/// One segment as a plan sees it.
pub(super) struct SegmentView<'a> {
    pub columns: Vec<SegmentColumn<'a>>,
    pub rows: usize,
    pub blocks: usize,
}

impl<'a> SegmentView<'a> {
    /// Errors: `Invalid` if a column is stored as another type; `Corrupt`.
    pub fn new(segment: &'a Segment, columns: &[ColumnRef]) -> Result<Self> {
        let columns = columns.iter().map(|c| SegmentColumn::new(segment, c)).collect::<Result<_>>()?;
        Ok(SegmentView { columns, rows: segment.rows() as usize, blocks: segment.blocks() })
    }

    /// With computed columns that were bound to the segment before.
    pub fn with(segment: &'a Segment, columns: &[ColumnRef], computed: &Computed) -> Result<Self> {
        let mut view = Self::new(segment, columns)?;
        for (column, bound) in computed {
            view.bind(*column, bound.clone());
        }
        Ok(view)
    }

    pub fn bind(&mut self, column: usize, bound: Arc<Bound>) {
        if let Some(of) = self.columns.get_mut(column).filter(|c| c.is_computed()) {
            of.source = Source::Computed(Some(bound));
        }
    }

    /// The computed columns that are bound, for another view of the segment.
    pub fn computed(&self) -> Computed {
        let bound = |(i, column): (usize, &SegmentColumn<'a>)| match &column.source {
            Source::Computed(Some(bound)) => Some((i, bound.clone())),
            _ => None,
        };
        self.columns.iter().enumerate().filter_map(bound).collect()
    }

    /// What a computed column is; `None`: it is stored.
    pub fn bound(&self, column: usize) -> Result<Option<&Bound>> {
        match &self.columns[column].source {
            Source::Computed(Some(bound)) => Ok(Some(bound)),
            Source::Computed(None) => Err(Error::invalid("a computed column was not bound")),
            Source::Missing(_) | Source::Stored(_) => Ok(None),
        }
    }

    /// Whether the columns that both have are read alike.
    pub fn kinds_equal(&self, other: &SegmentView<'_>) -> bool {
        self.columns.iter().zip(&other.columns).all(|(a, b)| a.kind == b.kind)
    }

    pub fn block_rows(&self, block: usize) -> usize {
        self.rows.saturating_sub(block * BLOCK_ROWS).min(BLOCK_ROWS)
    }
}

/// A value of a plan as its column's physical type. Errors: `Invalid`.
pub(super) fn physical_value(value: &Value, physical: Physical) -> Result<Cow<'_, Value>> {
    match (physical, value) {
        (Physical::I64, Value::I64(_)) | (Physical::I128, Value::I128(_)) => Ok(Cow::Borrowed(value)),
        (Physical::F64, Value::F64(_)) | (Physical::Bytes, Value::Bytes(_)) => Ok(Cow::Borrowed(value)),
        (Physical::I128, Value::I64(v)) => Ok(Cow::Owned(Value::I128(i128::from(*v)))),
        _ => Err(Error::invalid("an operand is of another type than its column")),
    }
}
