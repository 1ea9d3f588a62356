//! Reading integers: constant, run-length, packed (frame of reference), delta, each also with exceptions, and tables.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::bitpack::{self, Sink, packed_len, unpack_with};
use super::cursor::{Cursor, put_varint, put_zigzag};
use super::{tag, unknown};
use crate::simd::widest;
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
pub(super) struct Frame {
    pub base: i64,
    pub scale: u64,
    pub width: u8,
}

impl Frame {
    fn read(input: &mut Cursor) -> Result<Self> {
        let (base, scale, width) = (input.zigzag()?, input.varint()?, input.u8()?);
        if scale == 0 || width > 64 {
            return Err(Error::corrupt("a frame of reference"));
        }
        Ok(Frame { base, scale, width })
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        put_zigzag(out, self.base);
        put_varint(out, self.scale);
        out.push(self.width);
    }

    /// Makes packed numbers of values, which are a multiple of `scale` above `base` (scale 1: any).
    pub fn packer(&self) -> impl Fn(i64) -> u64 + Copy {
        let (base, multiples) = (self.base, Multiples::of(self.scale));
        #[inline(always)]
        move |value| multiples.quotient(value.wrapping_sub(base).cast_unsigned())
    }

    fn value(&self, packed: u64) -> i64 {
        i64::long(self.base, self.scale.cast_signed(), packed)
    }
}

/// Tells and divides multiples of a number without dividing: an odd number has an inverse modulo 2^64, and times that its multiples are
/// the numbers up to 2^64 / it (H. S. Warren, *Hacker's Delight*, 2nd edition, sections 10-16 and 10-17).
#[derive(Clone, Copy, Debug)]
pub(super) struct Multiples {
    inverse: u64,
    shift: u32,
    most: u64,
}

impl Multiples {
    /// `number` is not 0.
    pub fn of(number: u64) -> Self {
        let shift = number.trailing_zeros() & 63;
        let odd = number >> shift;
        // Right in 5 bits, then in twice as many at each step.
        let mut inverse = odd.wrapping_mul(3) ^ 2;
        for _ in 0..4 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        }
        Multiples { inverse, shift, most: u64::MAX / number.max(1) }
    }

    #[inline(always)]
    pub fn contain(&self, value: u64) -> bool {
        value.wrapping_mul(self.inverse).rotate_right(self.shift) <= self.most
    }

    /// Of a multiple.
    #[inline(always)]
    pub fn quotient(&self, value: u64) -> u64 {
        value.wrapping_mul(self.inverse) >> self.shift
    }
}

/// Least and greatest value; 0 if there is none.
pub(crate) fn bounds(values: &[i64]) -> (i64, i64) {
    let first = values.first().copied().unwrap_or(0);
    widest(
        #[inline(always)]
        || values.iter().fold((first, first), |(min, max), v| (min.min(*v), max.max(*v))),
    )
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
        tag::PATCHED => unpack_patched(input, out)?,
        tag::TABLE => unpack_table(input, out)?,
        tag::DELTA | tag::PATCHED_DELTA => {
            let first = T::of(input.zigzag()?);
            let Some((head, rest)) = out.split_first_mut() else { return Err(Error::corrupt("an empty block")) };
            match tag {
                tag::DELTA => unpack_frame(Frame::read(input)?, input, rest)?,
                _ => unpack_patched(input, rest)?,
            }
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

/// Positions and values of exceptions.
fn exceptions<'a>(input: &mut Cursor<'a>, rows: usize) -> Result<(&'a [[u8; 2]], Vec<i64>)> {
    let count = input.length()?;
    if count > rows {
        return Err(Error::corrupt("exceptions"));
    }
    let (positions, _) = input.take(count * 2)?.as_chunks::<2>();
    let mut values = vec![0i64; count];
    unpack_frame(Frame::read(input)?, input, &mut values)?;
    Ok((positions, values))
}

fn unpack_patched<T: Int>(input: &mut Cursor, out: &mut [T]) -> Result<()> {
    let (positions, values) = exceptions(input, out.len())?;
    unpack_frame(Frame::read(input)?, input, out)?;
    for (position, value) in positions.iter().zip(&values) {
        let slot = out.get_mut(usize::from(u16::from_le_bytes(*position)));
        *slot.ok_or_else(|| Error::corrupt("exceptions"))? = T::of(*value);
    }
    Ok(())
}

/// Distinct values, and the width of their numbers.
fn table<T: Int>(input: &mut Cursor, rows: usize) -> Result<(Vec<T>, u8)> {
    let count = input.length()?;
    if count == 0 || count > rows || count > 1 << 16 {
        return Err(Error::corrupt("a table of values"));
    }
    let mut values = vec![T::default(); count];
    unpack_frame(Frame::read(input)?, input, &mut values)?;
    Ok((values, bitpack::width(count as u64 - 1)))
}

fn unpack_table<T: Int>(input: &mut Cursor, out: &mut [T]) -> Result<()> {
    let (mut values, width) = table::<T>(input, out.len())?;
    let count = values.len();
    // As many as the width can name, so that looking one up needs no branch.
    values.resize(1 << width, T::default());
    let length = packed_len(out.len(), width).ok_or_else(|| Error::corrupt("packed values"))?;
    let mut sink = TableSink { values: &values, greatest: 0, out: out.iter_mut() };
    unpack_with(input.take(length)?, sink.out.len(), width, &mut sink)?;
    if (sink.greatest as usize) < count { Ok(()) } else { Err(Error::corrupt("a table of values")) }
}

/// Writes the values of numbers to the front of what is left of a slice.
struct TableSink<'a, T> {
    values: &'a [T],
    greatest: u32,
    out: std::slice::IterMut<'a, T>,
}

impl<T: Int> Sink for TableSink<'_, T> {
    #[inline(always)]
    fn narrow(&mut self, numbers: &[u32]) {
        let out = take(&mut self.out, numbers.len());
        self.greatest = numbers.iter().fold(self.greatest, |greatest, number| greatest.max(*number));
        for (o, number) in out.iter_mut().zip(numbers) {
            *o = self.values.get(*number as usize).copied().unwrap_or_default();
        }
    }

    // Widths above 16 are refused.
    fn long(&mut self, _numbers: &[u64]) {}
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
        tag::PATCHED => {
            let (positions, values) = exceptions(input, rows)?;
            let found = positions.iter().position(|p| usize::from(u16::from_le_bytes(*p)) == index);
            if let Some(value) = found.and_then(|at| values.get(at)) {
                return Ok(*value);
            }
            get(tag::PACKED, input, rows, index)
        }
        tag::TABLE => {
            let (values, width) = table::<i64>(input, rows)?;
            let length = packed_len(rows, width).ok_or_else(|| Error::corrupt("packed values"))?;
            let number = bitpack::unpack_one(input.take(length)?, rows, width, index)?;
            let value = usize::try_from(number).ok().and_then(|number| values.get(number));
            value.copied().ok_or_else(|| Error::corrupt("a table of values"))
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

/// An encoding of integers, its tag first.
pub(crate) fn decode_tagged<T: Int>(input: &mut Cursor, rows: usize, out: &mut Vec<T>) -> Result<()> {
    let tag = input.u8()?;
    decode(tag, input, rows, out)
}

#[cfg(test)]
pub(crate) use super::choose::encode_all;
pub(crate) use super::choose::{encode, encode_tagged};
