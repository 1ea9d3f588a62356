//! 128-bit integers: as 64-bit ones where a block's values fit, else constant or wide.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::bitpack::{self, Sink, packed_len, unpack_with};
use super::cursor::{Cursor, put_zigzag128};
use super::{int, tag};
use crate::{Error, Result};

/// Adds packed halves, shifted, to the values.
struct HalfSink<'a> {
    shift: u32,
    out: std::slice::IterMut<'a, i128>,
}

impl Sink for HalfSink<'_> {
    fn narrow(&mut self, values: &[u32]) {
        for (o, v) in int::take(&mut self.out, values.len()).iter_mut().zip(values) {
            *o = o.wrapping_add(i128::from(*v) << self.shift);
        }
    }

    fn long(&mut self, values: &[u64]) {
        for (o, v) in int::take(&mut self.out, values.len()).iter_mut().zip(values) {
            *o = o.wrapping_add(i128::from(*v) << self.shift);
        }
    }
}

/// Reads encoding `tag`'s values off `input` into `out`, which is made `rows` long.
pub(crate) fn decode(tag: u8, input: &mut Cursor, rows: usize, out: &mut Vec<i128>) -> Result<()> {
    out.resize(rows, 0);
    match tag {
        tag::CONSTANT => out.fill(input.zigzag128()?),
        tag::WIDE => {
            let base = input.zigzag128()?;
            let width = input.u8()?;
            if width > 128 {
                return Err(Error::corrupt("packed values"));
            }
            out.fill(base);
            for (shift, width) in [(0, width.min(64)), (64, width.saturating_sub(64))] {
                let length = packed_len(rows, width).ok_or_else(|| Error::corrupt("packed values"))?;
                unpack_with(input.take(length)?, rows, width, &mut HalfSink { shift, out: out.iter_mut() })?;
            }
        }
        _ => {
            let mut narrow: Vec<i64> = Vec::new();
            int::decode(tag, input, rows, &mut narrow)?;
            for (o, v) in out.iter_mut().zip(narrow) {
                *o = i128::from(v);
            }
        }
    }
    Ok(())
}

/// Value `index` of `rows`.
pub(crate) fn get(tag: u8, input: &mut Cursor, rows: usize, index: usize) -> Result<i128> {
    if index >= rows {
        return Err(Error::invalid("row outside of its block"));
    }
    match tag {
        tag::CONSTANT => input.zigzag128(),
        tag::WIDE => {
            let base = input.zigzag128()?;
            let width = input.u8()?;
            let mut value = base;
            for (shift, width) in [(0, width.min(64)), (64, width.saturating_sub(64))] {
                let length = packed_len(rows, width).ok_or_else(|| Error::corrupt("packed values"))?;
                let half = bitpack::unpack_one(input.take(length)?, rows, width, index)?;
                value = value.wrapping_add(i128::from(half) << shift);
            }
            Ok(value)
        }
        _ => Ok(i128::from(int::get(tag, input, rows, index)?)),
    }
}

/// Appends `values` (not empty) in the encoding chosen; returns its tag.
pub(crate) fn encode(values: &[i128], out: &mut Vec<u8>) -> u8 {
    let min = values.iter().copied().min().unwrap_or(0);
    let max = values.iter().copied().max().unwrap_or(0);
    if min == max {
        put_zigzag128(out, min);
        return tag::CONSTANT;
    }
    let narrow: Option<Vec<i64>> = values.iter().map(|v| i64::try_from(*v).ok()).collect();
    if let Some(narrow) = narrow {
        return int::encode(&narrow, out);
    }
    encode_wide(values, min, max, out);
    tag::WIDE
}

// Halves of 128 bits, and a width of at most 128.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn encode_wide(values: &[i128], min: i128, max: i128, out: &mut Vec<u8>) {
    let width = (128 - max.wrapping_sub(min).cast_unsigned().leading_zeros()) as u8;
    put_zigzag128(out, min);
    out.push(width);
    for (shift, width) in [(0, width.min(64)), (64, width.saturating_sub(64))] {
        let halves: Vec<u64> = values.iter().map(|v| (v.wrapping_sub(min).cast_unsigned() >> shift) as u64).collect();
        bitpack::pack(&halves, width, out);
    }
}
