//! Writing one column's range: blocks, dictionary, index, metadata.

use super::distinct::{DistinctSketch, less};
use super::file::PartWriter;
use super::footer::ColumnEntry;
use super::{BLOCK_ROWS, BytesBlock, ColumnKind, ColumnStatistics, index};
use crate::dictionary::DictionaryWriter;
use crate::encoding::cursor::{put_varint, put_zigzag, put_zigzag128};
use crate::encoding::{self, bytes, float, int, tag, validity, wide};
use crate::simd::widest;
use crate::types::{Column, LogicalType, Value};
use crate::{Cancel, Error, Result};

pub(crate) const HAS_BOUNDS: u8 = 1;
pub(crate) const HAS_SUM: u8 = 2;

/// Rows of one block on their way into the file.
pub(crate) struct Block {
    /// Positions of NULLs, ascending; their values are arbitrary.
    pub nulls: Vec<u16>,
    pub data: BlockData,
}

pub(crate) enum BlockData {
    I64(Vec<i64>),
    I128(Vec<i128>),
    F64(Vec<f64>),
    /// NULLs must be empty strings.
    Bytes(BytesBlock),
}

impl Block {
    pub fn new(kind: ColumnKind) -> Self {
        let data = match kind {
            ColumnKind::I64 => BlockData::I64(Vec::new()),
            ColumnKind::I128 => BlockData::I128(Vec::new()),
            ColumnKind::F64 => BlockData::F64(Vec::new()),
            ColumnKind::Bytes | ColumnKind::Dictionary => BlockData::Bytes(BytesBlock::default()),
        };
        Block { nulls: Vec::new(), data }
    }

    pub fn clear(&mut self) {
        self.nulls.clear();
        match &mut self.data {
            BlockData::I64(v) => v.clear(),
            BlockData::I128(v) => v.clear(),
            BlockData::F64(v) => v.clear(),
            BlockData::Bytes(v) => {
                v.ends.clear();
                v.data.clear();
            }
        }
    }
}

/// Gives a column's values in the segment's order.
pub(crate) trait BlockSource {
    /// Appends the next `rows` rows to an empty `block`.
    fn fill(&mut self, rows: usize, block: &mut Block) -> Result<()>;
}

/// Sizes of the blocks of `rows` rows.
pub(crate) fn block_sizes(rows: usize) -> impl Iterator<Item = usize> {
    (0..rows).step_by(BLOCK_ROWS).map(move |start| (rows - start).min(BLOCK_ROWS))
}

/// Writes a column of any kind but dictionary.
pub(crate) fn write_values(
    column: &Column,
    kind: ColumnKind,
    rows: usize,
    source: &mut dyn BlockSource,
    cancel: &Cancel,
    out: &mut PartWriter,
) -> Result<(ColumnEntry, ColumnStatistics)> {
    out.begin();
    let mut meta = Vec::new();
    let mut block = Block::new(kind);
    let mut body = Vec::new();
    let mut sketch = DistinctSketch::new();
    let mut statistics = ColumnStatistics { id: column.id, nulls: 0, min: Value::Null, max: Value::Null, distinct: 0 };
    let mut bounds_known = true;
    for block_rows in block_sizes(rows) {
        cancel.check()?;
        block.clear();
        source.fill(block_rows, &mut block)?;
        body.clear();
        let valid = validity::encode(&block.nulls, block_rows, &mut body);
        statistics.nulls += block.nulls.len() as u64;
        let (encoding, bounds, sum) = if valid == validity::ALL {
            (tag::ALL_NULL, None, None)
        } else {
            let has_nan = numeric_nan(column.ty);
            encode(&mut block, &has_nan, &mut sketch, &mut body)?
        };
        let crc = out.part(&body)?;
        let sum = sum.filter(|_| !column.ty.is_time());
        meta.extend([encoding, valid]);
        meta.push(if bounds.is_some() { HAS_BOUNDS } else { 0 } | if sum.is_some() { HAS_SUM } else { 0 });
        put_varint(&mut meta, block.nulls.len() as u64);
        let length = u32::try_from(body.len()).map_err(|_| too_long())?;
        put_varint(&mut meta, u64::from(length));
        meta.extend(crc.to_le_bytes());
        if let Some((min, max)) = bounds {
            put_bound(&mut meta, &min);
            put_bound(&mut meta, &max);
            if statistics.min.is_null() || less(&min, &statistics.min) {
                statistics.min = min;
            }
            if statistics.max.is_null() || less(&statistics.max, &max) {
                statistics.max = max;
            }
        } else if valid != validity::ALL {
            bounds_known = false;
        }
        if let Some(sum) = sum {
            put_zigzag128(&mut meta, sum);
        }
    }
    if !bounds_known {
        (statistics.min, statistics.max) = (Value::Null, Value::Null);
    }
    statistics.distinct = sketch.estimate().min(rows as u64 - statistics.nulls);
    Ok((finish(column, kind, &meta, out)?, statistics))
}

/// Takes one value.
pub(crate) type Push<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;
/// Values of a dictionary between two looks at whether the work is to end.
const LOOK: usize = 1 << 12;

/// Gives values, one after the other.
pub(crate) type Values<'a> = &'a mut dyn FnMut(Push) -> Result<()>;

/// Writes a dictionary column. `codes` holds `values` where a row is NULL, and names every value that
/// `next` gives, which it does in ascending order.
pub(crate) fn write_codes(
    column: &Column,
    values: u32,
    next: Values,
    codes: &[u32],
    cancel: &Cancel,
    out: &mut PartWriter,
) -> Result<(ColumnEntry, ColumnStatistics)> {
    out.begin();
    let mut meta = Vec::new();
    let mut dictionary = DictionaryWriter::default();
    let mut min: Option<Vec<u8>> = None;
    let mut written = 0;
    next(&mut |value| {
        if min.is_none() {
            min = Some(value.to_vec());
        }
        if written % LOOK == 0 {
            cancel.check()?;
        }
        written += 1;
        dictionary.push(value, out)
    })?;
    let max = dictionary.last().to_vec();
    if dictionary.finish(out, &mut meta)? != values {
        return Err(Error::invalid("a dictionary of another length"));
    }
    let mut nulls = 0;
    let mut body = Vec::new();
    let mut integers = Vec::new();
    for block in codes.chunks(BLOCK_ROWS) {
        cancel.check()?;
        body.clear();
        integers.clear();
        integers.extend(block.iter().map(|c| i64::from(*c)));
        let encoding = int::encode(&integers, &mut body);
        let crc = out.part(&body)?;
        let block_nulls = block.iter().filter(|c| **c == values).count();
        nulls += block_nulls as u64;
        let bounds = (block_nulls < block.len()).then(|| {
            let known = || block.iter().filter(|c| **c != values);
            (known().min().copied().unwrap_or(0), known().max().copied().unwrap_or(0))
        });
        meta.extend([encoding, validity::NONE, if bounds.is_some() { HAS_BOUNDS } else { 0 }]);
        put_varint(&mut meta, block_nulls as u64);
        put_varint(&mut meta, body.len() as u64);
        meta.extend(crc.to_le_bytes());
        if let Some((min, max)) = bounds {
            put_varint(&mut meta, u64::from(min));
            put_varint(&mut meta, u64::from(max));
        }
    }
    index::write(column, values, codes, cancel, out, &mut meta)?;
    let (min, max) = match min {
        Some(min) if min.len().max(max.len()) <= bytes::SHORT => (Value::Bytes(min), Value::Bytes(max)),
        _ => (Value::Null, Value::Null),
    };
    let statistics = ColumnStatistics { id: column.id, nulls, min, max, distinct: u64::from(values) };
    Ok((finish(column, ColumnKind::Dictionary, &meta, out)?, statistics))
}

fn finish(column: &Column, kind: ColumnKind, meta: &[u8], out: &mut PartWriter) -> Result<ColumnEntry> {
    let meta_crc = out.part(meta)?;
    let (offset, length, crc) = out.range();
    Ok(ColumnEntry { column: column.clone(), kind, offset, length, crc, meta_length: meta.len() as u64, meta_crc })
}

fn numeric_nan(ty: LogicalType) -> impl Fn(&Value) -> bool {
    move |max| {
        matches!(ty, LogicalType::Numeric { .. })
            && match max {
                Value::I64(v) => *v == LogicalType::NUMERIC_NAN_I64,
                Value::I128(v) => *v == LogicalType::NUMERIC_NAN_I128,
                _ => false,
            }
    }
}

type Encoded = (u8, Option<(Value, Value)>, Option<i128>);

/// Appends a block's values; gives their encoding, bounds and sum. Not all rows are NULL.
fn encode(
    block: &mut Block,
    has_nan: &dyn Fn(&Value) -> bool,
    sketch: &mut DistinctSketch,
    body: &mut Vec<u8>,
) -> Result<Encoded> {
    let nulls = &block.nulls;
    Ok(match &mut block.data {
        BlockData::I64(values) => {
            fill_nulls(values, nulls);
            sketch.add_all(values.iter().map(|v| v.cast_unsigned()));
            let (min, max) = int::bounds(values);
            let filled: i128 = nulls.iter().map(|n| i128::from(values[usize::from(*n)])).sum();
            let sum = sum_i64(values) - filled;
            let max = Value::I64(max);
            let sum = (!has_nan(&max)).then_some(sum);
            (int::encode(values, body), Some((Value::I64(min), max)), sum)
        }
        BlockData::I128(values) => {
            fill_nulls(values, nulls);
            values.iter().for_each(|v| sketch.add_u128(v.cast_unsigned()));
            let min = values.iter().copied().min().unwrap_or(0);
            let max = Value::I128(values.iter().copied().max().unwrap_or(0));
            let sum = if has_nan(&max) { None } else { sum_i128(values, nulls) };
            (wide::encode(values, body), Some((Value::I128(min), max)), sum)
        }
        BlockData::F64(values) => {
            fill_nulls(values, nulls);
            sketch.add_all(values.iter().map(|v| v.to_bits()));
            let min = values.iter().copied().min_by(f64::total_cmp).unwrap_or(0.0);
            let max = values.iter().copied().max_by(f64::total_cmp).unwrap_or(0.0);
            (float::encode(values, body), Some((Value::F64(min), Value::F64(max))), None)
        }
        BlockData::Bytes(values) => {
            let bounds = bytes_bounds(values, nulls, sketch);
            (encoding::bytes::encode(values, body), bounds, None)
        }
    })
}

/// Gives every NULL the value before it, and leading ones the first value.
fn fill_nulls<T: Copy>(values: &mut [T], nulls: &[u16]) {
    let leading = nulls.iter().enumerate().take_while(|(i, n)| *i == usize::from(**n)).count();
    if leading > 0 && leading < values.len() {
        let first = values[leading];
        values[..leading].fill(first);
    }
    for null in &nulls[leading..] {
        let row = usize::from(*null);
        values[row] = values[row - 1];
    }
}

fn sum_i64(values: &[i64]) -> i128 {
    // Partial sums of halves cannot overflow, and they vectorize.
    let sum = |chunk: &[i64]| {
        let high: i64 = chunk.iter().map(|v| v >> 32).sum();
        let low: u64 = chunk.iter().map(|v| v.cast_unsigned() & 0xffff_ffff).sum();
        (i128::from(high) << 32) + i128::from(low)
    };
    widest(
        #[inline(always)]
        || values.chunks(1024).map(sum).sum(),
    )
}

fn sum_i128(values: &[i128], nulls: &[u16]) -> Option<i128> {
    let mut nulls = nulls.iter().map(|n| usize::from(*n)).peekable();
    let mut sum = 0i128;
    for (row, value) in values.iter().enumerate() {
        if nulls.next_if_eq(&row).is_none() {
            sum = sum.checked_add(*value)?;
        }
    }
    Some(sum)
}

/// `None` where a value is too long for a bound.
fn bytes_bounds(values: &BytesBlock, nulls: &[u16], sketch: &mut DistinctSketch) -> Option<(Value, Value)> {
    let mut nulls = nulls.iter().map(|n| usize::from(*n)).peekable();
    let (mut min, mut max): (Option<&[u8]>, Option<&[u8]>) = (None, None);
    let mut start = 0;
    for (row, end) in values.ends.iter().enumerate() {
        let value = &values.data[start..*end as usize];
        start = *end as usize;
        if nulls.next_if_eq(&row).is_some() {
            continue;
        }
        sketch.add_bytes(value);
        min = Some(min.map_or(value, |m| m.min(value)));
        max = Some(max.map_or(value, |m| m.max(value)));
    }
    let (min, max) = (min?, max?);
    (min.len() <= bytes::SHORT && max.len() <= bytes::SHORT)
        .then(|| (Value::Bytes(min.to_vec()), Value::Bytes(max.to_vec())))
}

fn put_bound(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => {}
        Value::I64(v) => put_zigzag(out, *v),
        Value::I128(v) => put_zigzag128(out, *v),
        Value::F64(v) => out.extend(v.to_le_bytes()),
        Value::Bytes(v) => {
            put_varint(out, v.len() as u64);
            out.extend_from_slice(v);
        }
    }
}

pub(crate) fn too_long() -> Error {
    Error::Invalid("65,536 values of a column exceed 4 GiB".into())
}
