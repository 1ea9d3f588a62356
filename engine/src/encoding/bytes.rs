//! Byte strings: constant, plain, LZ4.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::cursor::Cursor;
use super::{float, int, lz4_pays, tag, unknown};
use crate::segment::BytesBlock;
use crate::{Error, Result};

/// Longest value that a constant block or a header's min and max hold.
pub(crate) const SHORT: usize = 64;

/// Reads encoding `tag`'s values to the end of `input` into `out`, which is cleared.
pub(crate) fn decode(tag: u8, input: &mut Cursor, rows: usize, out: &mut BytesBlock) -> Result<()> {
    out.data.clear();
    out.ends.clear();
    if tag == tag::CONSTANT {
        let value = input.take(input.remaining())?;
        if value.len() > SHORT {
            return Err(Error::corrupt("a constant"));
        }
        let mut end = 0;
        for _ in 0..rows {
            out.data.extend_from_slice(value);
            end += u32::try_from(value.len()).unwrap_or_default();
            out.ends.push(end);
        }
        return Ok(());
    }
    if tag != tag::PLAIN && tag != tag::LZ4 {
        return Err(unknown(tag));
    }
    int::decode_tagged::<u32>(input, rows, &mut out.ends)?;
    let mut end = 0u32;
    for length in &mut out.ends {
        end = end.checked_add(*length).ok_or_else(|| Error::corrupt("lengths of values"))?;
        *length = end;
    }
    let rest = input.take(input.remaining())?;
    let total = end as usize;
    match tag {
        tag::PLAIN if rest.len() == total => out.data.extend_from_slice(rest),
        tag::PLAIN => return Err(Error::corrupt("lengths of values")),
        _ => out.data = float::decompress(rest, total)?,
    }
    Ok(())
}

/// Value `index` of `rows`.
pub(crate) fn get(tag: u8, input: &mut Cursor, rows: usize, index: usize) -> Result<Vec<u8>> {
    if index >= rows {
        return Err(Error::invalid("row outside of its block"));
    }
    match tag {
        tag::CONSTANT => Ok(input.take(input.remaining())?.to_vec()),
        tag::PLAIN => {
            let mut lengths: Vec<u32> = Vec::new();
            int::decode_tagged(input, rows, &mut lengths)?;
            let start: usize = lengths.iter().take(index).map(|l| *l as usize).sum();
            input.take(start)?;
            Ok(input.take(lengths.get(index).copied().unwrap_or(0) as usize)?.to_vec())
        }
        _ => {
            let mut all = BytesBlock::default();
            decode(tag, input, rows, &mut all)?;
            Ok(all.get(index).to_vec())
        }
    }
}

/// Appends `values` (not empty) in the encoding chosen; returns its tag.
pub(crate) fn encode(values: &BytesBlock, out: &mut Vec<u8>) -> u8 {
    let first = values.ends.first().map_or(0, |e| *e as usize);
    if first <= SHORT && is_constant(values, first) {
        out.extend_from_slice(values.data.get(..first).unwrap_or_default());
        return tag::CONSTANT;
    }
    let mut start = 0;
    let lengths: Vec<i64> = values
        .ends
        .iter()
        .map(|&end| {
            let length = end - start;
            start = end;
            i64::from(length)
        })
        .collect();
    int::encode_tagged(&lengths, out);
    if values.data.len() > 32 {
        let compressed = lz4_flex::block::compress(&values.data);
        if lz4_pays(values.data.len(), compressed.len()) {
            out.extend(compressed);
            return tag::LZ4;
        }
    }
    out.extend_from_slice(&values.data);
    tag::PLAIN
}

fn is_constant(values: &BytesBlock, length: usize) -> bool {
    let step = u32::try_from(length).unwrap_or(u32::MAX);
    let equal_lengths = values.ends.windows(2).all(|pair| matches!(pair, [a, b] if b - a == step));
    let first = values.data.get(..length).unwrap_or_default();
    equal_lengths && (length == 0 || values.data.chunks_exact(length).all(|value| value == first))
}
