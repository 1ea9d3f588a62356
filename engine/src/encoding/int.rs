//! Integers: constant, run-length, packed (frame of reference), delta.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::bitpack::{self, Sink, packed_len, unpack_with};
use super::cursor::{Cursor, put_varint, put_zigzag};
use super::{tag, unknown};
use crate::{Error, Result};

/// What integer blocks decode to: `i64`, or the low 32 bits of it.
pub(crate) trait Int: Copy + Default + 'static {
    fn of(value: i64) -> Self;
    /// `base + scale * packed`, wrapping.
    fn narrow(base: Self, scale: Self, packed: u32) -> Self;
    fn long(base: Self, scale: Self, packed: u64) -> Self;
    fn add(self, other: Self) -> Self;
}

impl Int for i64 {
    #[inline(always)]
    fn of(value: i64) -> Self {
        value
    }
    #[inline(always)]
    fn narrow(base: Self, scale: Self, packed: u32) -> Self {
        base.wrapping_add(scale.wrapping_mul(i64::from(packed)))
    }
    #[inline(always)]
    fn long(base: Self, scale: Self, packed: u64) -> Self {
        base.wrapping_add(scale.wrapping_mul(packed.cast_signed()))
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
}

// Codes: the format computes modulo 2^64, and the reader checks codes against the dictionary's size.
#[allow(clippy::cast_possible_truncation)]
impl Int for u32 {
    #[inline(always)]
    fn of(value: i64) -> Self {
        value as u32
    }
    #[inline(always)]
    fn narrow(base: Self, scale: Self, packed: u32) -> Self {
        base.wrapping_add(scale.wrapping_mul(packed))
    }
    #[inline(always)]
    fn long(base: Self, scale: Self, packed: u64) -> Self {
        base.wrapping_add(scale.wrapping_mul(packed as u32))
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
}

/// `base + scale * packed`.
#[derive(Clone, Copy, Debug)]
struct Frame {
    base: i64,
    scale: u64,
    width: u8,
}

impl Frame {
    fn read(input: &mut Cursor) -> Result<Self> {
        let (base, scale, width) = (input.zigzag()?, input.varint()?, input.u8()?);
        if scale == 0 || width > 64 {
            return Err(Error::corrupt("a frame of reference"));
        }
        Ok(Frame { base, scale, width })
    }

    fn write(&self, out: &mut Vec<u8>) {
        put_zigzag(out, self.base);
        put_varint(out, self.scale);
        out.push(self.width);
    }

    fn packed(&self, value: i64) -> u64 {
        let above = value.wrapping_sub(self.base).cast_unsigned();
        if self.scale == 1 { above } else { above / self.scale }
    }

    fn value(&self, packed: u64) -> i64 {
        i64::long(self.base, self.scale.cast_signed(), packed)
    }
}

/// Writes `base + scale * packed` to the front of what is left of a slice.
struct FrameSink<'a, T> {
    base: T,
    scale: T,
    unscaled: bool,
    out: std::slice::IterMut<'a, T>,
}

impl<T: Int> Sink for FrameSink<'_, T> {
    #[inline(always)]
    fn narrow(&mut self, values: &[u32]) {
        let (base, scale) = (self.base, self.scale);
        let out = take(&mut self.out, values.len());
        if self.unscaled {
            for (o, v) in out.iter_mut().zip(values) {
                *o = T::narrow(base, T::of(1), *v);
            }
        } else {
            for (o, v) in out.iter_mut().zip(values) {
                *o = T::narrow(base, scale, *v);
            }
        }
    }

    #[inline(always)]
    fn long(&mut self, values: &[u64]) {
        let (base, scale) = (self.base, self.scale);
        for (o, v) in take(&mut self.out, values.len()).iter_mut().zip(values) {
            *o = T::long(base, scale, *v);
        }
    }
}

/// The next `count` (or all that are left) elements of an iterator, as a slice.
pub(super) fn take<'a, T>(rest: &mut std::slice::IterMut<'a, T>, count: usize) -> &'a mut [T] {
    let whole = std::mem::take(rest).into_slice();
    let (head, tail) = whole.split_at_mut(count.min(whole.len()));
    *rest = tail.iter_mut();
    head
}

fn unpack_frame<T: Int>(frame: Frame, input: &mut Cursor, out: &mut [T]) -> Result<()> {
    let count = out.len();
    let length = packed_len(count, frame.width).ok_or_else(|| Error::corrupt("packed values"))?;
    let mut sink = FrameSink {
        base: T::of(frame.base),
        scale: T::of(frame.scale.cast_signed()),
        unscaled: frame.scale == 1,
        out: out.iter_mut(),
    };
    unpack_with(input.take(length)?, count, frame.width, &mut sink)
}

/// Reads encoding `tag`'s values off `input` into `out`, which is made `rows` long.
pub(crate) fn decode<T: Int>(tag: u8, input: &mut Cursor, rows: usize, out: &mut Vec<T>) -> Result<()> {
    // Without clearing: a reused buffer of the same length costs nothing.
    out.resize(rows, T::default());
    match tag {
        tag::CONSTANT => out.fill(T::of(input.zigzag()?)),
        tag::PACKED => unpack_frame(Frame::read(input)?, input, out)?,
        tag::DELTA => {
            let first = T::of(input.zigzag()?);
            let Some((head, rest)) = out.split_first_mut() else { return Err(Error::corrupt("an empty block")) };
            unpack_frame(Frame::read(input)?, input, rest)?;
            *head = first;
            let mut last = first;
            for value in rest {
                last = last.add(*value);
                *value = last;
            }
        }
        tag::RUN_LENGTH => {
            let (lengths, values) = runs(input, rows)?;
            let mut rest = out.iter_mut();
            for (length, value) in lengths.iter().zip(&values) {
                take(&mut rest, *length as usize).fill(T::of(*value));
            }
        }
        other => return Err(unknown(other)),
    }
    Ok(())
}

/// Lengths (which sum up to `rows`) and values of the runs.
fn runs(input: &mut Cursor, rows: usize) -> Result<(Vec<u32>, Vec<i64>)> {
    let count = input.length()?;
    if count == 0 || count > rows {
        return Err(Error::corrupt("runs"));
    }
    let width = input.u8()?;
    if width > 32 {
        return Err(Error::corrupt("runs"));
    }
    let mut lengths = vec![0u32; count];
    unpack_frame(Frame { base: 1, scale: 1, width }, input, &mut lengths)?;
    let mut values = vec![0i64; count];
    unpack_frame(Frame::read(input)?, input, &mut values)?;
    let sum: u64 = lengths.iter().map(|l| u64::from(*l)).sum();
    if sum != rows as u64 || lengths.contains(&0) {
        return Err(Error::corrupt("runs"));
    }
    Ok((lengths, values))
}

/// Value `index` of `rows`; what an encoding lets it skip, it does not decode.
pub(crate) fn get(tag: u8, input: &mut Cursor, rows: usize, index: usize) -> Result<i64> {
    if index >= rows {
        return Err(Error::invalid("row outside of its block"));
    }
    match tag {
        tag::CONSTANT => input.zigzag(),
        tag::PACKED => {
            let frame = Frame::read(input)?;
            let length = packed_len(rows, frame.width).ok_or_else(|| Error::corrupt("packed values"))?;
            Ok(frame.value(bitpack::unpack_one(input.take(length)?, rows, frame.width, index)?))
        }
        tag::RUN_LENGTH => {
            let (lengths, values) = runs(input, rows)?;
            let mut end = 0;
            for (length, value) in lengths.iter().zip(&values) {
                end += *length as usize;
                if index < end {
                    return Ok(*value);
                }
            }
            Err(Error::corrupt("runs"))
        }
        _ => {
            let mut all = Vec::new();
            decode::<i64>(tag, input, rows, &mut all)?;
            all.get(index).copied().ok_or_else(|| Error::corrupt("a block"))
        }
    }
}

/// Encoding 1 to 4, its tag first.
pub(crate) fn decode_tagged<T: Int>(input: &mut Cursor, rows: usize, out: &mut Vec<T>) -> Result<()> {
    let tag = input.u8()?;
    decode(tag, input, rows, out)
}

/// What the choice of an encoding depends on, from one pass over the values.
struct Shape {
    min: i64,
    max: i64,
    runs: usize,
    min_delta: i64,
    max_delta: i64,
    /// Greatest common divisor of the differences.
    divisor: u64,
}

impl Shape {
    fn of(values: &[i64]) -> Shape {
        let first = values.first().copied().unwrap_or(0);
        let mut shape = Shape { min: first, max: first, runs: 1, min_delta: i64::MAX, max_delta: i64::MIN, divisor: 0 };
        for pair in values.windows(2) {
            let [last, value] = *pair else { continue };
            let delta = value.wrapping_sub(last);
            shape.min = shape.min.min(value);
            shape.max = shape.max.max(value);
            shape.runs += usize::from(delta != 0);
            shape.min_delta = shape.min_delta.min(delta);
            shape.max_delta = shape.max_delta.max(delta);
        }
        let range = shape.max.wrapping_sub(shape.min).cast_unsigned();
        // Up to a byte, a divisor saves too little to be looked for.
        if range < 256 {
            shape.divisor = 1;
        }
        for pair in values.windows(2) {
            let [last, value] = *pair else { continue };
            if shape.divisor == 1 {
                break;
            }
            shape.divisor = gcd(shape.divisor, value.abs_diff(last));
        }
        shape.divisor = shape.divisor.max(1);
        shape
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    if a != 0 && b.is_multiple_of(a) {
        return a;
    }
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Appends `values` in the encoding that is smallest, where decoding costs count as size; returns its
/// tag. `values` must not be empty.
pub(crate) fn encode(values: &[i64], out: &mut Vec<u8>) -> u8 {
    let shape = Shape::of(values);
    let rows = values.len();
    if shape.min == shape.max {
        put_zigzag(out, shape.min);
        return tag::CONSTANT;
    }
    let range = shape.max.wrapping_sub(shape.min).cast_unsigned();
    let frame = Frame { base: shape.min, scale: shape.divisor, width: bitpack::width(range / shape.divisor) };
    let packed_bits = rows * usize::from(frame.width);
    // Differences that overflow are no use.
    let delta_range = shape.max_delta.wrapping_sub(shape.min_delta).cast_unsigned() / shape.divisor;
    let delta = Frame { base: shape.min_delta, scale: shape.divisor, width: bitpack::width(delta_range) };
    let delta_bits = if range > i64::MAX.cast_unsigned() { usize::MAX } else { rows * usize::from(delta.width) };
    let run_bits = shape.runs * (usize::from(frame.width) + 16);
    // Prefix sums are a serial chain, short runs branch: both must save a quarter to be worth it.
    let limit = packed_bits / 4 * 3;
    if shape.runs * 4 <= rows && run_bits < limit.min(delta_bits) {
        encode_runs(values, frame, out);
        tag::RUN_LENGTH
    } else if delta_bits < limit {
        encode_delta(values, delta, out);
        tag::DELTA
    } else {
        frame.write(out);
        pack_frame(values, frame, out);
        tag::PACKED
    }
}

/// Appends `ints(values.len())`: the tag, then the values.
pub(crate) fn encode_tagged(values: &[i64], out: &mut Vec<u8>) {
    let at = out.len();
    out.push(0);
    let tag = encode(values, out);
    if let Some(slot) = out.get_mut(at) {
        *slot = tag;
    }
}

fn pack_frame(values: &[i64], frame: Frame, out: &mut Vec<u8>) {
    let mut packed = Vec::with_capacity(bitpack::GROUP);
    for group in values.chunks(bitpack::GROUP) {
        packed.clear();
        packed.extend(group.iter().map(|v| frame.packed(*v)));
        bitpack::pack(&packed, frame.width, out);
    }
}

fn encode_delta(values: &[i64], frame: Frame, out: &mut Vec<u8>) {
    put_zigzag(out, values.first().copied().unwrap_or(0));
    frame.write(out);
    let deltas: Vec<i64> = values.iter().zip(values.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a)).collect();
    pack_frame(&deltas, frame, out);
}

fn encode_runs(values: &[i64], frame: Frame, out: &mut Vec<u8>) {
    let mut lengths = Vec::new();
    let mut heads = Vec::new();
    for run in values.chunk_by(|a, b| a == b) {
        lengths.push(run.len() as u64 - 1);
        heads.extend(run.first());
    }
    let width = bitpack::width(lengths.iter().copied().max().unwrap_or(0));
    put_varint(out, lengths.len() as u64);
    out.push(width);
    bitpack::pack(&lengths, width, out);
    frame.write(out);
    pack_frame(&heads, frame, out);
}

/// Every encoding of `values` that can hold them, for tests: tag and bytes.
#[cfg(test)]
pub(crate) fn encode_all(values: &[i64]) -> Vec<(u8, Vec<u8>)> {
    let shape = Shape::of(values);
    let range = shape.max.wrapping_sub(shape.min).cast_unsigned();
    let frame = Frame { base: shape.min, scale: shape.divisor, width: bitpack::width(range / shape.divisor) };
    let unscaled = Frame { scale: 1, width: bitpack::width(range), ..frame };
    let mut all = Vec::new();
    for frame in [frame, unscaled] {
        let mut out = Vec::new();
        frame.write(&mut out);
        pack_frame(values, frame, &mut out);
        all.push((tag::PACKED, out));
        let mut out = Vec::new();
        encode_runs(values, frame, &mut out);
        all.push((tag::RUN_LENGTH, out));
    }
    let width = if values.len() < 2 { 0 } else { 64 };
    let mut out = Vec::new();
    encode_delta(values, Frame { base: shape.min_delta, scale: 1, width }, &mut out);
    all.push((tag::DELTA, out));
    let mut out = Vec::new();
    all.push((encode(values, &mut out), out));
    all
}
