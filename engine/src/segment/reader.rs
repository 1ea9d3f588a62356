//! Reading a segment: lazily, checked, never trusting a byte.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use super::file::{check, slice};
use super::footer::{ColumnEntry, Footer};
use super::meta::{BlockMeta, ColumnMeta};
use super::{BLOCK_ROWS, SegmentBytes, SegmentStatistics};
use crate::dictionary::Dictionary;
use crate::encoding::cursor::Cursor;
use crate::encoding::{bytes, float, int, tag, validity, wide};
use crate::types::{Column, ColumnId, LogicalType, Value};
use crate::{Error, Result};

/// An open segment. Opening checks header and footer; every block, dictionary and bitmap is checked
/// against its CRC32C when first touched. Cheap to share between threads.
pub struct Segment {
    bytes: SegmentBytes,
    footer: Footer,
    columns: Vec<Column>,
    metas: Vec<OnceLock<ColumnMeta>>,
    /// Checksums are not compared: fuzzing gets past them.
    unchecked: bool,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Segment").field("footer", &self.footer).finish_non_exhaustive()
    }
}

impl Segment {
    /// Errors: `Corrupt`, `Unsupported`.
    pub fn open(bytes: SegmentBytes) -> Result<Segment> {
        Self::open_with(bytes, false)
    }

    /// Opens without ever comparing a checksum, so that tests and fuzzing reach what stands behind them.
    #[doc(hidden)]
    pub fn open_unchecked(bytes: SegmentBytes) -> Result<Segment> {
        Self::open_with(bytes, true)
    }

    fn open_with(bytes: SegmentBytes, unchecked: bool) -> Result<Segment> {
        let footer = Footer::read(bytes.as_slice(), unchecked)?;
        let columns = footer.columns.iter().map(|c| c.column.clone()).collect();
        let metas = footer.columns.iter().map(|_| OnceLock::new()).collect();
        Ok(Segment { bytes, footer, columns, metas, unchecked })
    }

    pub fn rows(&self) -> u32 {
        self.footer.rows
    }

    /// ceil(rows / BLOCK_ROWS); every block but the last is full, and all columns have the same blocks.
    pub fn blocks(&self) -> usize {
        (self.footer.rows as usize).div_ceil(BLOCK_ROWS)
    }

    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Position of the time column when rows are sorted by it alone.
    pub fn sorted_by_time(&self) -> Option<usize> {
        if self.footer.cluster_by.is_empty() { self.footer.time } else { None }
    }

    /// Ids of the columns by which rows are sorted, in order.
    pub(crate) fn sort_columns(&self) -> impl Iterator<Item = ColumnId> {
        let positions = self.footer.cluster_by.iter().chain(&self.footer.time);
        positions.filter_map(|p| self.columns.get(*p)).map(|c| c.id)
    }

    /// `None`: the segment is older than the column.
    pub fn column(&self, id: ColumnId) -> Option<ColumnReader<'_>> {
        let position = self.columns.iter().position(|c| c.id == id)?;
        Some(ColumnReader { segment: self, entry: self.footer.columns.get(position)?, position })
    }

    pub fn statistics(&self) -> SegmentStatistics {
        self.footer.statistics.clone()
    }

    pub(crate) fn time_column(&self) -> Option<ColumnReader<'_>> {
        self.column(self.columns.get(self.footer.time?)?.id)
    }

    /// The time column and its smallest and largest time in microseconds, if it has any.
    pub(crate) fn time_bounds(&self) -> Option<(ColumnId, i64, i64)> {
        let (min, max) = self.footer.statistics.time?;
        Some((self.columns.get(self.footer.time?)?.id, min, max))
    }
}

/// How a column's blocks decode, for the whole column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    I64,
    I128,
    F64,
    /// Bytes or I64 values behind a sorted dictionary; blocks hold codes `0..dictionary.len()`, and
    /// `dictionary.len()` itself for NULL.
    Dictionary,
    Bytes,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BlockHeader {
    pub rows: u32,
    pub nulls: u32,
    /// In physical order; `Null` where unknown (long bytes) or all NULL. Dictionary columns: the
    /// smallest and largest code as `I64`.
    pub min: Value,
    pub max: Value,
    /// Exact sum of an I64 or I128 column's non-NULL values if it fits, else `None`. A NaN among them (max is the
    /// sentinel): `None`. Times: `None`.
    pub sum: Option<i128>,
}

/// Which rows of a block are not NULL: bit `i % 64` of word `i / 64`; `None`: no NULL.
pub type Validity = Option<Vec<u64>>;

/// Decoded byte strings: value `i` is `data[ends[i-1]..ends[i]]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BytesBlock {
    pub ends: Vec<u32>,
    pub data: Vec<u8>,
}

impl BytesBlock {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Value `index`; empty past the end.
    #[inline]
    pub fn get(&self, index: usize) -> &[u8] {
        let start = match index.checked_sub(1) {
            None => 0,
            Some(before) => self.ends.get(before).copied().unwrap_or(u32::MAX),
        };
        let end = self.ends.get(index).copied().unwrap_or(0);
        self.data.get(start as usize..end as usize).unwrap_or_default()
    }
}

/// One column of an open segment. Decoders fill the caller's buffer with the block's rows and make it
/// that long (NULL rows hold an arbitrary value); calling the decoder of another kind is `Error::Invalid`.
#[derive(Clone, Copy)]
pub struct ColumnReader<'a> {
    segment: &'a Segment,
    entry: &'a ColumnEntry,
    position: usize,
}

impl<'a> ColumnReader<'a> {
    pub(crate) fn id(&self) -> ColumnId {
        self.entry.column.id
    }

    pub fn ty(&self) -> LogicalType {
        self.entry.column.ty
    }

    pub fn kind(&self) -> ColumnKind {
        self.entry.kind
    }

    pub(crate) fn unchecked(&self) -> bool {
        self.segment.unchecked
    }

    pub(crate) fn entry(&self) -> &'a ColumnEntry {
        self.entry
    }

    pub(crate) fn rows(&self) -> u32 {
        self.segment.rows()
    }

    /// The column's bytes. The footer's reader checked that they are in the file.
    pub(crate) fn range(&self) -> &'a [u8] {
        slice(self.segment.bytes.as_slice(), self.entry.offset, self.entry.length).unwrap_or_default()
    }

    pub(crate) fn meta(&self) -> Result<&'a ColumnMeta> {
        let slot = self.segment.metas.get(self.position).ok_or_else(|| Error::invalid("no such column"))?;
        if let Some(meta) = slot.get() {
            return Ok(meta);
        }
        let start = self.entry.length - self.entry.meta_length;
        let bytes = slice(self.range(), start, self.entry.meta_length)
            .ok_or_else(|| Error::corrupt("the place of a column's metadata"))?;
        check(bytes, self.entry.meta_crc, self.segment.unchecked, "a column's metadata")?;
        let meta = ColumnMeta::read(bytes, self.entry, self.segment.rows())?;
        Ok(slot.get_or_init(|| meta))
    }

    fn block_meta(&self, block: usize) -> Result<&'a BlockMeta> {
        self.meta()?.blocks.get(block).ok_or_else(|| Error::invalid("no such block"))
    }

    pub fn block(&self, block: usize) -> Result<BlockHeader> {
        Ok(self.block_meta(block)?.header.clone())
    }

    /// Whether all non-NULL rows of the block hold one value (then `block().min` is it), without decoding.
    pub fn is_constant(&self, block: usize) -> Result<bool> {
        let meta = self.block_meta(block)?;
        Ok(match self.entry.kind {
            // Floats may be equal and yet differ: -0.0 and 0.0.
            ColumnKind::F64 | ColumnKind::Bytes => meta.encoding == tag::CONSTANT,
            _ => meta.header.min == meta.header.max,
        } && !meta.header.min.is_null())
    }

    /// Bytes of a block in the file.
    pub fn block_bytes(&self, block: usize) -> Result<u64> {
        Ok(self.block_meta(block)?.body.len())
    }

    /// A block's values, behind its validity.
    fn values(&self, block: usize, kind: ColumnKind) -> Result<(&'a BlockMeta, Cursor<'a>, usize)> {
        if kind != self.entry.kind {
            return Err(Error::Invalid(format!("a column of kind {:?} decoded as {kind:?}", self.entry.kind)));
        }
        let meta = self.block_meta(block)?;
        let rows = meta.header.rows as usize;
        let mut input = Cursor::new(meta.body.bytes(self.range(), self.segment.unchecked, "a block")?);
        if kind != ColumnKind::Dictionary {
            input.take(validity::length(meta.validity, rows, meta.header.nulls as usize)?)?;
        }
        Ok((meta, input, rows))
    }

    pub fn decode_i64(&self, block: usize, out: &mut Vec<i64>) -> Result<()> {
        let (meta, mut input, rows) = self.values(block, ColumnKind::I64)?;
        if all_null(meta, out) {
            return input.end("a block");
        }
        int::decode(meta.encoding, &mut input, rows, out)?;
        input.end("a block")
    }

    pub fn decode_i128(&self, block: usize, out: &mut Vec<i128>) -> Result<()> {
        let (meta, mut input, rows) = self.values(block, ColumnKind::I128)?;
        if all_null(meta, out) {
            return input.end("a block");
        }
        wide::decode(meta.encoding, &mut input, rows, out)?;
        input.end("a block")
    }

    pub fn decode_f64(&self, block: usize, out: &mut Vec<f64>) -> Result<()> {
        let (meta, mut input, rows) = self.values(block, ColumnKind::F64)?;
        if all_null(meta, out) {
            return input.end("a block");
        }
        float::decode(meta.encoding, &mut input, rows, out)?;
        input.end("a block")
    }

    pub fn decode_codes(&self, block: usize, out: &mut Vec<u32>) -> Result<()> {
        let (meta, mut input, rows) = self.values(block, ColumnKind::Dictionary)?;
        int::decode(meta.encoding, &mut input, rows, out)?;
        input.end("a block")?;
        if !meta.codes_checked.load(Ordering::Relaxed) {
            let null = self.values_in_dictionary()?;
            let nulls = out.iter().filter(|c| **c == null).count();
            if out.iter().any(|c| *c > null) || nulls != meta.header.nulls as usize {
                return Err(Error::corrupt("codes of a block"));
            }
            meta.codes_checked.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    pub fn decode_bytes(&self, block: usize, out: &mut BytesBlock) -> Result<()> {
        let (meta, mut input, rows) = self.values(block, ColumnKind::Bytes)?;
        if meta.encoding == tag::ALL_NULL && meta.validity == validity::ALL {
            out.data.clear();
            out.ends.clear();
            out.ends.resize(rows, 0);
        } else {
            bytes::decode(meta.encoding, &mut input, rows, out)?;
        }
        input.end("a block")
    }

    /// The value of one row of the segment (dictionary columns: its bytes), decoding as little as the
    /// encoding allows. Errors: `Invalid` past the last row.
    pub fn value(&self, row: u32) -> Result<Value> {
        if row >= self.segment.rows() {
            return Err(Error::invalid("row outside of its segment"));
        }
        let (block, index) = (row as usize / BLOCK_ROWS, row as usize % BLOCK_ROWS);
        if let Some(valid) = self.stored_validity(block)?
            && valid.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 0)
        {
            return Ok(Value::Null);
        }
        let (meta, mut input, rows) = self.values(block, self.entry.kind)?;
        Ok(match self.entry.kind {
            ColumnKind::I64 => Value::I64(int::get(meta.encoding, &mut input, rows, index)?),
            ColumnKind::I128 => Value::I128(wide::get(meta.encoding, &mut input, rows, index)?),
            ColumnKind::F64 => Value::F64(float::get(meta.encoding, &mut input, rows, index)?),
            ColumnKind::Dictionary => {
                let code = u32::try_from(int::get(meta.encoding, &mut input, rows, index)?);
                let code = code.map_err(|_| Error::corrupt("codes of a block"))?;
                if code == self.values_in_dictionary()? {
                    return Ok(Value::Null);
                }
                let mut value = Vec::new();
                self.dictionary()?.get(code, &mut value)?;
                Value::Bytes(value)
            }
            ColumnKind::Bytes => Value::Bytes(bytes::get(meta.encoding, &mut input, rows, index)?),
        })
    }

    /// For dictionary columns the NULL code says the same.
    pub fn validity(&self, block: usize) -> Result<Validity> {
        let meta = self.block_meta(block)?;
        if self.entry.kind == ColumnKind::Dictionary {
            if meta.header.nulls == 0 {
                return Ok(None);
            }
            let mut codes = Vec::new();
            self.decode_codes(block, &mut codes)?;
            let null = self.values_in_dictionary()?;
            let words = codes.chunks(64).map(|chunk| {
                chunk.iter().enumerate().fold(0u64, |word, (i, code)| word | (u64::from(*code != null) << i))
            });
            return Ok(Some(words.collect()));
        }
        self.stored_validity(block)
    }

    /// The validity in front of a block's values, which codes do not have.
    fn stored_validity(&self, block: usize) -> Result<Validity> {
        let meta = self.block_meta(block)?;
        if self.entry.kind == ColumnKind::Dictionary {
            return Ok(None);
        }
        let (rows, nulls) = (meta.header.rows as usize, meta.header.nulls as usize);
        let length = validity::length(meta.validity, rows, nulls)?;
        let body = match length {
            0 => &[],
            _ => meta.body.bytes(self.range(), self.segment.unchecked, "a block")?,
        };
        let bytes = body.get(..length).ok_or_else(|| Error::corrupt("NULLs of a block"))?;
        validity::decode(meta.validity, bytes, rows, nulls)
    }

    /// The count of distinct values, which is the code of NULL.
    pub(crate) fn values_in_dictionary(&self) -> Result<u32> {
        let dictionary = self.meta()?.dictionary.as_ref();
        Ok(dictionary.ok_or_else(|| Error::invalid("a column without a dictionary"))?.count)
    }

    /// Errors: `Invalid` unless `kind()` is `Dictionary`.
    pub fn dictionary(&self) -> Result<Dictionary<'a>> {
        let meta = self.meta()?.dictionary.as_ref();
        let meta = meta.ok_or_else(|| Error::invalid("a column without a dictionary"))?;
        Ok(Dictionary { range: self.range(), meta, unchecked: self.segment.unchecked })
    }
}

/// Fills `out` for a block that holds NULLs only.
fn all_null<T: Copy + Default>(meta: &BlockMeta, out: &mut Vec<T>) -> bool {
    let all = meta.encoding == tag::ALL_NULL && meta.validity == validity::ALL;
    if all {
        out.clear();
        out.resize(meta.header.rows as usize, T::default());
    }
    all
}
