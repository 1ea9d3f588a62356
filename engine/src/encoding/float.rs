//! Floats: constant, single, decimal, plain, LZ4.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cell::Cell;

use super::cursor::{Cursor, put_varint};
use super::{LZ4_MAX_RATIO, int, lz4_pays, tag, unknown};
use crate::simd::{is_fused, widest};
use crate::{Error, Result};

const POWERS: [f64; 19] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];

thread_local! {
    /// A decimal block's integers: at most those of one block.
    static INTEGERS: Cell<Vec<i64>> = const { Cell::new(Vec::new()) };
}

/// Reads encoding `tag`'s values off `input` into `out`, which is made `rows` long.
pub(crate) fn decode(tag: u8, input: &mut Cursor, rows: usize, out: &mut Vec<f64>) -> Result<()> {
    out.resize(rows, 0.0);
    match tag {
        tag::CONSTANT => out.fill(input.f64()?),
        tag::PLAIN => plain(input.take(rows * 8)?, out),
        tag::SINGLE => {
            let (chunks, _) = input.take(rows * 4)?.as_chunks::<4>();
            for (o, bytes) in out.iter_mut().zip(chunks) {
                *o = f64::from(f32::from_le_bytes(*bytes));
            }
        }
        tag::LZ4 => {
            let compressed = input.take(input.remaining())?;
            plain(&decompress(compressed, rows * 8)?, out);
        }
        tag::DECIMAL => {
            let power = POWERS.get(usize::from(input.u8()?)).ok_or_else(|| Error::corrupt("a decimal's exponent"))?;
            let count = input.length()?;
            if count > rows {
                return Err(Error::corrupt("decimal exceptions"));
            }
            let (positions, _) = input.take(count * 2)?.as_chunks::<2>();
            let (values, _) = input.take(count * 8)?.as_chunks::<8>();
            // Kept from block to block: memory that is touched first costs more than all the rest.
            let mut integers = INTEGERS.take();
            int::decode_tagged(input, rows, &mut integers)?;
            divide(&integers, *power, out);
            INTEGERS.set(integers);
            for (position, value) in positions.iter().zip(values) {
                let slot = out.get_mut(usize::from(u16::from_le_bytes(*position)));
                *slot.ok_or_else(|| Error::corrupt("decimal exceptions"))? = f64::from_le_bytes(*value);
            }
        }
        other => return Err(unknown(other)),
    }
    Ok(())
}

/// Quotients of integers and a power of ten, rounded to nearest.
fn divide(integers: &[i64], power: f64, out: &mut [f64]) {
    if !is_fused() {
        let pairs = out.iter_mut().zip(integers);
        return widest(
            #[inline(always)]
            || pairs.for_each(|(o, v)| *o = *v as f64 / power),
        );
    }
    // Two corrections of what multiplication gives are faster than division. After the first the quotient is one of the two floats next to
    // the true one, after the second the nearest (P. Markstein, "Computation of Elementary Functions on the IBM RISC System/6000 Processor",
    // 1990): the inverse is rounded to nearest, and nothing is near the ends of the floats' range.
    let inverse = 1.0 / power;
    let pairs = out.iter_mut().zip(integers);
    widest(
        #[inline(always)]
        || {
            for (o, v) in pairs {
                let v = *v as f64;
                let near = v * inverse;
                let nearer = (-near).mul_add(power, v).mul_add(inverse, near);
                *o = (-nearer).mul_add(power, v).mul_add(inverse, nearer);
            }
        },
    );
}

/// Value `index` of `rows`.
pub(crate) fn get(tag: u8, input: &mut Cursor, rows: usize, index: usize) -> Result<f64> {
    if index >= rows {
        return Err(Error::invalid("row outside of its block"));
    }
    match tag {
        tag::CONSTANT => input.f64(),
        tag::PLAIN => {
            input.take(index * 8)?;
            input.f64()
        }
        tag::SINGLE => {
            input.take(index * 4)?;
            Ok(f64::from(f32::from_le_bytes(input.array()?)))
        }
        _ => {
            let mut all = Vec::new();
            decode(tag, input, rows, &mut all)?;
            all.get(index).copied().ok_or_else(|| Error::corrupt("a block"))
        }
    }
}

fn plain(bytes: &[u8], out: &mut [f64]) {
    let (chunks, _) = bytes.as_chunks::<8>();
    for (o, bytes) in out.iter_mut().zip(chunks) {
        *o = f64::from_le_bytes(*bytes);
    }
}

/// Decompresses an LZ4 block of exactly `length` bytes.
pub(super) fn decompress(compressed: &[u8], length: usize) -> Result<Vec<u8>> {
    if length / LZ4_MAX_RATIO > compressed.len() {
        return Err(Error::corrupt("an LZ4 block"));
    }
    let mut raw = vec![0; length];
    match lz4_flex::block::decompress_into(compressed, &mut raw) {
        Ok(n) if n == length => Ok(raw),
        _ => Err(Error::corrupt("an LZ4 block")),
    }
}

/// Appends `values` (not empty) in the encoding chosen; returns its tag.
pub(crate) fn encode(values: &[f64], out: &mut Vec<u8>) -> u8 {
    let first = values.first().copied().unwrap_or(0.0);
    if values.iter().all(|v| v.to_bits() == first.to_bits()) {
        out.extend(first.to_le_bytes());
        return tag::CONSTANT;
    }
    let start = out.len();
    let mut best = tag::PLAIN;
    let mut length = values.len() * 8;
    if values.iter().all(|v| f64::from(single(*v)).to_bits() == v.to_bits()) {
        best = tag::SINGLE;
        length = values.len() * 4;
    }
    if encode_decimal(values, out).is_some() && out.len() - start < length {
        return tag::DECIMAL;
    }
    out.truncate(start);
    if best == tag::SINGLE {
        out.extend(values.iter().flat_map(|v| single(*v).to_le_bytes()));
        return tag::SINGLE;
    }
    out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    let compressed = lz4_flex::block::compress(out.get(start..).unwrap_or_default());
    if lz4_pays(length, compressed.len()) {
        out.truncate(start);
        out.extend(compressed);
        best = tag::LZ4;
    }
    best
}

// The caller compares the value that comes back.
#[allow(clippy::cast_possible_truncation)]
fn single(value: f64) -> f32 {
    value as f32
}

/// `value * 10^exponent` as an integer, if dividing gives back every bit.
fn decimal(value: f64, power: f64) -> Option<i64> {
    let scaled = (value * power).round();
    if scaled.is_nan() || scaled.abs() >= 9.0e15 {
        return None;
    }
    // Below 2^53.
    #[allow(clippy::cast_possible_truncation)]
    let integer = scaled as i64;
    (integer as f64 / power).to_bits().eq(&value.to_bits()).then_some(integer)
}

/// Appends `values` as decimals if all but a few are: ALP's idea (Afroozeh, Kuffo and Boncz, SIGMOD
/// 2024), with the exact division in place of a rounded product.
pub(super) fn encode_decimal(values: &[f64], out: &mut Vec<u8>) -> Option<()> {
    // The least exponent that suits every value of a sample.
    let step = values.len().div_ceil(64);
    let sample: Vec<f64> = values.iter().step_by(step).copied().collect();
    let fits = |power: f64| sample.iter().filter(|v| decimal(**v, power).is_some()).count();
    let wanted = sample.len() - sample.len() / 16;
    let (exponent, power) = (0u8..).zip(POWERS).find(|(_, power)| fits(*power) >= wanted)?;
    let allowed = values.len() / 16;
    let mut integers = Vec::with_capacity(values.len());
    let mut exceptions = Vec::new();
    let mut last = 0;
    for (row, value) in values.iter().enumerate() {
        match decimal(*value, power) {
            Some(integer) => last = integer,
            None if exceptions.len() == allowed => return None,
            None => exceptions.push((u16::try_from(row).ok()?, *value)),
        }
        integers.push(last);
    }
    out.push(exponent);
    put_varint(out, exceptions.len() as u64);
    out.extend(exceptions.iter().flat_map(|(row, _)| row.to_le_bytes()));
    out.extend(exceptions.iter().flat_map(|(_, value)| value.to_le_bytes()));
    int::encode_tagged(&integers, out);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quotients_are_those_of_division(
            integers in prop::collection::vec(prop_oneof![any::<i64>(), -9_000_000_000_000_000i64..9_000_000_000_000_000, -99_999..99_999i64], 0..3000),
            power in prop::sample::select(POWERS.to_vec()),
        ) {
            let mut quotients = vec![0.0; integers.len()];
            divide(&integers, power, &mut quotients);
            for (integer, quotient) in integers.iter().zip(quotients) {
                prop_assert_eq!(quotient.to_bits(), (*integer as f64 / power).to_bits());
            }
        }
    }
}
