//! The block of a plan's columns that a thread works on.

use super::{Bound, Kind, SegmentView, exact_key, float_key};
use crate::exec::bits::{Bits, Selection};
use crate::exec::compute::{self, Space};
use crate::plan::Limits;
use crate::segment::{BlockHeader, BytesBlock};
use crate::types::Value;
use crate::{Error, Result};

/// The block that a thread works on: each column is decoded at most once, into buffers that are kept.
pub(in crate::exec) struct BlockScratch {
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

    /// Values of an I64 column; arbitrary where NULL.
    pub fn ints(&mut self, view: &SegmentView<'_>, column: usize) -> Result<&[i64]> {
        if !self.columns[column].ints.0 {
            self.touch(view, column)?;
            let of = &view.columns[column];
            let (done, out) = &mut self.columns[column].ints;
            match (of.kind, of.stored()) {
                (Kind::I64, Some(reader)) => reader.decode_i64(self.block, out)?,
                _ if of.is_computed() => return Err(not_computed()),
                (Kind::I64, None) => {
                    refill(out, self.rows, if let Some(Value::I64(v)) = of.constant() { *v } else { 0 })
                }
                _ => return Err(Error::invalid("column does not hold integers")),
            }
            check_len(out.len(), self.rows)?;
            *done = true;
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
