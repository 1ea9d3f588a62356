//! Reading a segment: lazily, checked, never trusting a byte.

use std::fs::File;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::SegmentStatistics;
use crate::Result;
use crate::types::{Column, ColumnId, LogicalType, Value};

/// Where a segment's bytes are.
#[derive(Clone)]
pub enum SegmentBytes {
    Memory(Arc<[u8]>),
    Mapped(Arc<memmap2::Mmap>),
}

impl SegmentBytes {
    /// Maps a file that nobody will ever truncate or rewrite. Errors: `Io`; `Corrupt` if its length
    /// is not `length`.
    pub fn map(_file: &File, _length: u64) -> Result<Self> {
        todo!()
    }

    pub fn as_slice(&self) -> &[u8] {
        match self {
            SegmentBytes::Memory(b) => b,
            SegmentBytes::Mapped(m) => m,
        }
    }
}

/// An open segment. Opening checks header and footer; every block, dictionary and bitmap is checked
/// against its CRC32C when first touched. Cheap to share between threads.
pub struct Segment {}

impl Segment {
    /// Errors: `Corrupt`, `Unsupported`.
    pub fn open(_bytes: SegmentBytes) -> Result<Segment> {
        todo!()
    }

    pub fn rows(&self) -> u32 {
        todo!()
    }

    /// ceil(rows / BLOCK_ROWS); every block but the last is full, and all columns have the same blocks.
    pub fn blocks(&self) -> usize {
        todo!()
    }

    pub fn columns(&self) -> &[Column] {
        todo!()
    }

    /// Position of the time column when rows are sorted by it alone.
    pub fn sorted_by_time(&self) -> Option<usize> {
        todo!()
    }

    /// `None`: the segment is older than the column.
    pub fn column(&self, _id: ColumnId) -> Option<ColumnReader<'_>> {
        todo!()
    }

    pub fn statistics(&self) -> SegmentStatistics {
        todo!()
    }

    /// Checks every checksum and every bound in the file, as after a download.
    pub fn verify(&self) -> Result<()> {
        todo!()
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
    /// sentinel): `None`.
    pub sum: Option<i128>,
}

/// Which rows of a block are not NULL: bit `i % 64` of word `i / 64`; `None`: no NULL.
pub type Validity = Option<Vec<u64>>;

/// Decoded byte strings: value `i` is `data[ends[i-1]..ends[i]]`.
#[derive(Clone, Debug, Default)]
pub struct BytesBlock {
    pub ends: Vec<u32>,
    pub data: Vec<u8>,
}

/// One column of an open segment. Decoders clear and fill the caller's buffer with the block's rows
/// (NULL rows hold an arbitrary value); calling the decoder of another kind is `Error::Invalid`.
#[derive(Clone, Copy)]
pub struct ColumnReader<'a> {
    _segment: &'a Segment,
}

impl<'a> ColumnReader<'a> {
    pub fn ty(&self) -> LogicalType {
        todo!()
    }

    pub fn kind(&self) -> ColumnKind {
        todo!()
    }

    pub fn block(&self, _block: usize) -> Result<BlockHeader> {
        todo!()
    }

    /// Whether all non-NULL rows of the block hold one value (then `block().min` is it), without decoding.
    pub fn is_constant(&self, _block: usize) -> Result<bool> {
        todo!()
    }

    pub fn decode_i64(&self, _block: usize, _out: &mut Vec<i64>) -> Result<()> {
        todo!()
    }

    pub fn decode_i128(&self, _block: usize, _out: &mut Vec<i128>) -> Result<()> {
        todo!()
    }

    pub fn decode_f64(&self, _block: usize, _out: &mut Vec<f64>) -> Result<()> {
        todo!()
    }

    pub fn decode_codes(&self, _block: usize, _out: &mut Vec<u32>) -> Result<()> {
        todo!()
    }

    pub fn decode_bytes(&self, _block: usize, _out: &mut BytesBlock) -> Result<()> {
        todo!()
    }

    /// For dictionary columns the NULL code says the same.
    pub fn validity(&self, _block: usize) -> Result<Validity> {
        todo!()
    }

    /// Errors: `Invalid` unless `kind()` is `Dictionary`.
    pub fn dictionary(&self) -> Result<Dictionary<'a>> {
        todo!()
    }

    /// Rows (of the whole segment) whose code is in `codes` (ascending; `dictionary.len()` is NULL). `None`: the column has
    /// neither bitmaps nor postings.
    pub fn rows_of_codes(&self, _codes: &[u32]) -> Result<Option<RoaringBitmap>> {
        todo!()
    }

    /// How many rows hold `code`, where an index tells without decoding.
    pub fn rows_of_code_count(&self, _code: u32) -> Result<Option<u64>> {
        todo!()
    }
}

/// A sorted dictionary: code = ordinal of the value in byte order (I64: numeric order).
#[derive(Clone, Copy)]
pub struct Dictionary<'a> {
    _segment: &'a Segment,
}

impl<'a> Dictionary<'a> {
    pub fn len(&self) -> u32 {
        todo!()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether values are I64 (else bytes).
    pub fn is_i64(&self) -> bool {
        todo!()
    }

    pub fn i64_values(&self) -> Result<Vec<i64>> {
        todo!()
    }

    /// Appends the bytes of `code` to `out`. Errors: `Invalid` past the end.
    pub fn get(&self, _code: u32, _out: &mut Vec<u8>) -> Result<()> {
        todo!()
    }

    /// All values in order.
    pub fn all(&self) -> Result<BytesBlock> {
        todo!()
    }

    /// `Ok(code)` or `Err(code of the first greater value)`, as `slice::binary_search`.
    pub fn search(&self, _value: &[u8]) -> Result<std::result::Result<u32, u32>> {
        todo!()
    }
}
