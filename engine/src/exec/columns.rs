//! A plan's columns in one segment, and the block of them that a thread works on.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::bits::{Bits, Selection};
use super::compute::{self, AttributeTable, LookupTable, MapTable, Program, Space};
use super::unify::{CodeMap, Unified};
use crate::plan::{ColumnRef, Limits};
use crate::segment::{BLOCK_ROWS, BlockHeader, BytesBlock, ColumnKind, ColumnReader, Dictionary, Segment};
use crate::types::{LogicalType, Physical, Value};
use crate::{Error, Result};

/// How a column's blocks are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    I64,
    I128,
    F64,
    /// Codes of I64 values: can be read as codes or as values.
    IntCodes,
    /// Codes of byte strings.
    Codes,
    Bytes,
}

pub(super) struct SegmentColumn<'a> {
    pub ty: LogicalType,
    pub kind: Kind,
    source: Source<'a>,
    /// Values of an I64 dictionary by code.
    pub int_values: Vec<i64>,
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
            return Ok(SegmentColumn {
                ty: column.ty,
                kind,
                source: Source::Computed(None),
                int_values: Vec::new(),
                unified: None,
            });
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
            return Ok(SegmentColumn { ty: column.ty, kind, source, int_values: Vec::new(), unified: None });
        };
        if reader.ty() != column.ty {
            return Err(Error::invalid(format!("column {} is stored as {:?}", column.id.0, reader.ty())));
        }
        let mut int_values = Vec::new();
        let kind = match (reader.kind(), physical) {
            (ColumnKind::I64, Physical::I64) => Kind::I64,
            (ColumnKind::I128, Physical::I128) => Kind::I128,
            (ColumnKind::F64, Physical::F64) => Kind::F64,
            (ColumnKind::Bytes, Physical::Bytes) => Kind::Bytes,
            (ColumnKind::Dictionary, Physical::Bytes) => Kind::Codes,
            (ColumnKind::Dictionary, Physical::I64) => {
                int_values = reader.dictionary()?.i64_values()?;
                Kind::IntCodes
            }
            _ => return Err(Error::corrupt("a column's encoding does not fit its type")),
        };
        Ok(SegmentColumn { ty: column.ty, kind, source: Source::Stored(reader), int_values, unified: None })
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
        if let Some(all) = self.mapped().filter(|all| codes.end as usize <= all.ends.len()) {
            for code in codes {
                values.data.extend_from_slice(super::like::value(all, code as usize));
                values.ends.push(values.data.len() as u32);
            }
            return Ok(values);
        }
        match (&self.source, self.dictionary()?) {
            (_, Some(dictionary)) => dictionary.range(codes, &mut values)?,
            (Source::Missing(Value::Bytes(bytes)), None) if codes == (0..1) => {
                values = BytesBlock { ends: vec![bytes.len() as u32], data: bytes.clone() };
            }
            _ if codes.is_empty() => {}
            _ => return Err(Error::invalid("code past the end of a dictionary")),
        }
        Ok(values)
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

    /// Whether no row of any block is NULL, as far as headers tell.
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

/// The block that a thread works on: each column is decoded at most once, into buffers that are kept.
pub(super) struct BlockScratch {
    block: usize,
    rows: usize,
    touched: bool,
    /// Encoded bytes of the blocks that were decoded since they were asked for.
    bytes: u64,
    columns: Vec<ColumnScratch>,
}

#[derive(Default)]
struct ColumnScratch {
    /// Whether its bytes were counted.
    read: bool,
    header: Option<BlockHeader>,
    validity: Option<Selection>,
    ints: (bool, Vec<i64>),
    wide: (bool, Vec<i128>),
    floats: (bool, Vec<f64>),
    exact: (bool, Vec<i64>),
    codes: (bool, Vec<u32>),
    bytes: (bool, BytesBlock),
    computed: Option<ComputedBlock>,
    space: Space,
    slots: Vec<u32>,
}

/// What is known of a computed column in a block.
struct ComputedBlock {
    /// Rows that it was computed for.
    rows: Selection,
    /// Whether decimals are in the integers.
    narrow: bool,
    /// Of the values there are, if none is NaN.
    limits: Limits,
}

impl BlockScratch {
    pub fn new(columns: usize) -> Self {
        BlockScratch {
            block: 0,
            rows: 0,
            touched: false,
            bytes: 0,
            columns: (0..columns).map(|_| ColumnScratch::default()).collect(),
        }
    }

    /// Turns to a block of `view`; what was decoded before is forgotten.
    pub fn begin(&mut self, view: &SegmentView<'_>, block: usize) {
        self.block = block;
        self.rows = view.block_rows(block);
        self.touched = false;
        self.columns.resize_with(view.columns.len(), ColumnScratch::default);
        for column in &mut self.columns {
            column.read = false;
            column.header = None;
            column.validity = None;
            column.ints.0 = false;
            column.wide.0 = false;
            column.floats.0 = false;
            column.exact.0 = false;
            column.codes.0 = false;
            column.bytes.0 = false;
            column.computed = None;
        }
    }

    pub fn block(&self) -> usize {
        self.block
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Notes that a column's block is decoded.
    fn touch(&mut self, view: &SegmentView<'_>, column: usize) -> Result<()> {
        self.touched = true;
        let slot = &mut self.columns[column];
        if !slot.read {
            slot.read = true;
            self.bytes += view.columns[column].stored().map_or(Ok(0), |reader| reader.block_bytes(self.block))?;
        }
        Ok(())
    }

    /// Encoded bytes of what was decoded since the last call.
    pub fn take_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.bytes)
    }

    /// Whether anything of the block was decoded.
    pub fn touched(&self) -> bool {
        self.touched
    }

    /// Computes a computed column for the rows of `rows`, unless that was done; of stored columns nothing.
    pub fn compute(&mut self, view: &SegmentView<'_>, column: usize, rows: &Selection) -> Result<()> {
        let Some(bound) = view.bound(column)? else { return Ok(()) };
        if self.columns[column].computed.as_ref().is_some_and(|done| rows.is_within(&done.rows)) {
            return Ok(());
        }
        self.touched = true;
        match bound {
            Bound::Native(program) => compute::compute(program, view, self, column, rows),
            Bound::Mapped(table) => table.apply(view, self, column, rows),
            Bound::Lookup(table) => table.apply(view, self, column, rows),
            Bound::Attribute(table) => table.apply(view, self, column, rows),
        }
    }

    /// The rows in which a column has its values; all, of a stored one.
    pub fn known_rows(&self, column: usize) -> Selection {
        self.columns[column].computed.as_ref().map_or(Selection::All, |c| c.rows.clone())
    }

    /// Fails if a computed column has no value in a row of `rows`; computes it only where that may be.
    pub fn check(&mut self, view: &SegmentView<'_>, column: usize, rows: &Selection) -> Result<()> {
        match view.bound(column)? {
            Some(Bound::Native(program)) if compute::never_fails(program, view, self)? => Ok(()),
            _ => self.compute(view, column, rows),
        }
    }

    /// The buffers of a computed column, its values among them.
    pub fn take_space(&mut self, column: usize) -> Space {
        let slot = &mut self.columns[column];
        let mut space = std::mem::take(&mut slot.space);
        space.ints = std::mem::take(&mut slot.ints.1);
        space.wide = std::mem::take(&mut slot.wide.1);
        space.floats = std::mem::take(&mut slot.floats.1);
        space
    }

    pub fn put_space(&mut self, column: usize, mut space: Space) {
        let slot = &mut self.columns[column];
        slot.ints = (false, std::mem::take(&mut space.ints));
        slot.wide = (false, std::mem::take(&mut space.wide));
        slot.floats = (false, std::mem::take(&mut space.floats));
        slot.exact.0 = false;
        slot.space = space;
    }

    /// Buffers for the slots of a mapped column and its codes.
    pub fn take_slots(&mut self, column: usize) -> (Vec<u32>, Vec<u32>) {
        let slot = &mut self.columns[column];
        (std::mem::take(&mut slot.slots), std::mem::take(&mut slot.codes.1))
    }

    pub fn keep_slots(&mut self, column: usize, slots: Vec<u32>) {
        self.columns[column].slots = slots;
    }

    pub fn put_codes(&mut self, column: usize, codes: Vec<u32>) {
        self.columns[column].codes = (false, codes);
    }

    /// Notes that the buffers hold a computed column.
    pub fn computed(
        &mut self,
        view: &SegmentView<'_>,
        column: usize,
        rows: Selection,
        valid: Selection,
        narrow: bool,
        limits: Limits,
    ) {
        let slot = &mut self.columns[column];
        slot.validity = Some(valid);
        match view.columns[column].kind {
            Kind::F64 => slot.floats.0 = true,
            Kind::Codes => slot.codes.0 = true,
            _ if narrow => slot.ints.0 = true,
            _ => slot.wide.0 = true,
        }
        slot.computed = Some(ComputedBlock { rows, narrow, limits });
    }

    /// Limits of a computed column's values in the block, and whether NaN may be among them.
    pub fn limits(&self, column: usize) -> (Limits, bool) {
        match &self.columns[column].computed {
            Some(ComputedBlock { limits: Some(limits), .. }) => (Some(*limits), false),
            _ => (None, true),
        }
    }

    /// Whether a decimal column is computed in 64 bits.
    pub fn is_narrow(&self, column: usize) -> bool {
        self.columns[column].computed.as_ref().is_some_and(|c| c.narrow)
    }

    /// What was decoded or computed before.
    pub fn decoded_ints(&self, column: usize) -> &[i64] {
        &self.columns[column].ints.1
    }

    pub fn decoded_wide(&self, column: usize) -> &[i128] {
        &self.columns[column].wide.1
    }

    pub fn decoded_floats(&self, column: usize) -> &[f64] {
        &self.columns[column].floats.1
    }

    /// Whether no row of `rows` is NULL, as far as that is known.
    pub fn is_null_free(&mut self, view: &SegmentView<'_>, column: usize, rows: &Selection) -> Result<bool> {
        if view.columns[column].is_computed() {
            return Ok(rows.is_within(self.validity(view, column)?));
        }
        Ok(self.header(view, column)?.nulls == 0)
    }

    pub fn header(&mut self, view: &SegmentView<'_>, column: usize) -> Result<&BlockHeader> {
        let slot = &mut self.columns[column].header;
        if slot.is_none() {
            let header = view.columns[column].header(self.block, self.rows)?;
            if header.rows as usize != self.rows || header.nulls > header.rows {
                return Err(Error::corrupt("row counts of a block header"));
            }
            *slot = Some(header);
        }
        slot.as_ref().ok_or_else(|| Error::invalid("block header"))
    }

    /// Rows that are not NULL.
    pub fn validity(&mut self, view: &SegmentView<'_>, column: usize) -> Result<&Selection> {
        if self.columns[column].validity.is_none() {
            let (nulls, rows) = (self.header(view, column)?.nulls as usize, self.rows);
            let selection = if nulls == 0 {
                Selection::All
            } else if nulls == rows {
                Selection::None
            } else {
                self.touch(view, column)?;
                match view.columns[column].stored() {
                    Some(reader) => match reader.validity(self.block)? {
                        Some(words) => Selection::of(Bits::from_words(words, rows)),
                        None => Selection::All,
                    },
                    None => Selection::All,
                }
            };
            self.columns[column].validity = Some(selection);
        }
        self.columns[column].validity.as_ref().ok_or_else(|| Error::invalid("validity"))
    }

    /// Values of an I64 or I64-dictionary column; arbitrary where NULL.
    pub fn ints(&mut self, view: &SegmentView<'_>, column: usize) -> Result<&[i64]> {
        if !self.columns[column].ints.0 {
            self.touch(view, column)?;
            let of = &view.columns[column];
            if of.kind == Kind::IntCodes {
                self.codes(view, column)?;
            }
            let slot = &mut self.columns[column];
            let out = &mut slot.ints.1;
            match (of.kind, of.stored()) {
                (Kind::I64, Some(reader)) => reader.decode_i64(self.block, out)?,
                (Kind::IntCodes, Some(_)) => {
                    out.clear();
                    let table = of.int_values.as_slice();
                    out.extend(slot.codes.1.iter().map(|&code| table.get(code as usize).copied().unwrap_or(0)));
                }
                _ if of.is_computed() => return Err(not_computed()),
                (Kind::I64, None) => {
                    refill(out, self.rows, if let Some(Value::I64(v)) = of.constant() { *v } else { 0 })
                }
                _ => return Err(Error::invalid("column does not hold integers")),
            }
            check_len(out.len(), self.rows)?;
            slot.ints.0 = true;
        }
        Ok(&self.columns[column].ints.1)
    }

    pub fn wide(&mut self, view: &SegmentView<'_>, column: usize) -> Result<&[i128]> {
        if !self.columns[column].wide.0 {
            self.touch(view, column)?;
            let of = &view.columns[column];
            let ColumnScratch { wide: slot, ints, computed, .. } = &mut self.columns[column];
            match of.stored() {
                None if computed.as_ref().is_some_and(|c| c.narrow) => {
                    slot.1.clear();
                    slot.1.extend(ints.1.iter().map(|v| i128::from(*v)));
                }
                None if of.is_computed() => return Err(not_computed()),
                Some(reader) => reader.decode_i128(self.block, &mut slot.1)?,
                None => refill(&mut slot.1, self.rows, if let Some(Value::I128(v)) = of.constant() { *v } else { 0 }),
            }
            check_len(slot.1.len(), self.rows)?;
            slot.0 = true;
        }
        Ok(&self.columns[column].wide.1)
    }

    pub fn floats(&mut self, view: &SegmentView<'_>, column: usize) -> Result<&[f64]> {
        if !self.columns[column].floats.0 {
            self.touch(view, column)?;
            let of = &view.columns[column];
            let slot = &mut self.columns[column].floats;
            match of.stored() {
                None if of.is_computed() => return Err(not_computed()),
                Some(reader) => reader.decode_f64(self.block, &mut slot.1)?,
                None => refill(&mut slot.1, self.rows, if let Some(Value::F64(v)) = of.constant() { *v } else { 0.0 }),
            }
            check_len(slot.1.len(), self.rows)?;
            slot.0 = true;
        }
        Ok(&self.columns[column].floats.1)
    }

    /// Keys of an F64 column in PostgreSQL's order: see [`float_key`]. Kept where integers would be.
    pub fn float_keys(&mut self, view: &SegmentView<'_>, column: usize) -> Result<&[i64]> {
        if !self.columns[column].ints.0 {
            self.floats(view, column)?;
            let slot = &mut self.columns[column];
            slot.ints.1.clear();
            slot.ints.1.extend(slot.floats.1.iter().map(|v| float_key(*v)));
            slot.ints.0 = true;
        }
        Ok(&self.columns[column].ints.1)
    }

    /// [`exact_key`]s of an F64 column.
    pub fn exact_keys(&mut self, view: &SegmentView<'_>, column: usize) -> Result<&[i64]> {
        if !self.columns[column].exact.0 {
            self.floats(view, column)?;
            let ColumnScratch { exact, floats, .. } = &mut self.columns[column];
            exact.1.clear();
            exact.1.extend(floats.1.iter().map(|v| exact_key(*v)));
            exact.0 = true;
        }
        Ok(&self.columns[column].exact.1)
    }

    pub fn codes(&mut self, view: &SegmentView<'_>, column: usize) -> Result<&[u32]> {
        if !self.columns[column].codes.0 {
            self.touch(view, column)?;
            let slot = &mut self.columns[column].codes;
            match view.columns[column].stored() {
                None if view.columns[column].is_computed() => return Err(not_computed()),
                Some(reader) => reader.decode_codes(self.block, &mut slot.1)?,
                // The one value, or NULL: code 0 either way.
                None => refill(&mut slot.1, self.rows, 0),
            }
            check_len(slot.1.len(), self.rows)?;
            slot.0 = true;
        }
        Ok(&self.columns[column].codes.1)
    }

    pub fn bytes(&mut self, view: &SegmentView<'_>, column: usize) -> Result<&BytesBlock> {
        if !self.columns[column].bytes.0 {
            self.touch(view, column)?;
            let slot = &mut self.columns[column].bytes;
            match view.columns[column].stored() {
                Some(reader) => reader.decode_bytes(self.block, &mut slot.1)?,
                None => return Err(Error::invalid("column does not hold plain bytes")),
            }
            check_len(slot.1.ends.len(), self.rows)?;
            slot.0 = true;
        }
        Ok(&self.columns[column].bytes.1)
    }
}

fn not_computed() -> Error {
    Error::invalid("a computed column was not computed")
}

fn refill<T: Copy>(out: &mut Vec<T>, rows: usize, value: T) {
    out.clear();
    out.resize(rows, value);
}

fn check_len(len: usize, rows: usize) -> Result<()> {
    if len == rows { Ok(()) } else { Err(Error::corrupt("a block decodes to another number of rows")) }
}

/// An integer that orders floats as PostgreSQL does: NaN equal to itself and greatest, -0 = 0.
#[inline(always)]
pub(crate) fn float_key(value: f64) -> i64 {
    // Adding zero turns -0 into 0; a NaN of either sign becomes the canonical one.
    let bits = if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() } as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// [`float_key`] that tells -0 from 0, which follows it.
#[inline(always)]
pub(super) fn exact_key(value: f64) -> i64 {
    let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() } as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// The [`float_key`] of an [`exact_key`]'s float.
#[inline(always)]
pub(super) fn without_sign_of_zero(key: i64) -> i64 {
    if key == NEGATIVE_ZERO { 0 } else { key }
}

/// The [`exact_key`] of -0.
const NEGATIVE_ZERO: i64 = -1;

/// The float of a [`float_key`] or [`exact_key`].
pub(super) fn float_of_key(key: i64) -> f64 {
    f64::from_bits((key ^ ((key >> 63) as u64 >> 1) as i64) as u64)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float_keys_order_as_postgresql_does() {
        let ascending =
            [f64::NEG_INFINITY, -1e300, -1.5, -f64::MIN_POSITIVE, 0.0, 5e-324, 1.0, f64::INFINITY, f64::NAN];
        for pair in ascending.windows(2) {
            assert!(float_key(pair[0]) < float_key(pair[1]), "{pair:?}");
        }
        assert_eq!(float_key(-0.0), float_key(0.0));
        assert_eq!(float_key(-f64::NAN), float_key(f64::NAN));
        for v in ascending {
            assert!(float_of_key(float_key(v)) == v || v.is_nan());
        }
        assert_eq!((exact_key(-0.0), exact_key(0.0)), (NEGATIVE_ZERO, 0));
        assert!(float_of_key(NEGATIVE_ZERO).is_sign_negative() && without_sign_of_zero(NEGATIVE_ZERO) == 0);
        assert!(exact_key(-f64::MIN_POSITIVE) < NEGATIVE_ZERO);
    }
}
