//! Bit packing: groups of 1,024 values in interleaved lanes, then a tail as a stream of bits.
//!
//! In a group every lane shifts by the same amount at the same time, so that the loops over lanes are
//! plain vector code at any width (the idea of FastLanes, Afroozeh and Boncz, VLDB 2023).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::simd::widest;
use crate::{Error, Result};

pub(crate) const GROUP: usize = 1024;

/// Bits that `value` needs.
pub(crate) fn width(value: u64) -> u8 {
    // At most 64.
    #[allow(clippy::cast_possible_truncation)]
    let bits = (64 - value.leading_zeros()) as u8;
    bits
}

/// Bytes of `count` packed values, `None` on overflow or a width above 64.
pub(crate) fn packed_len(count: usize, width: u8) -> Option<usize> {
    if width > 64 {
        return None;
    }
    let groups = count / GROUP;
    let tail = count % GROUP;
    groups.checked_mul(128 * usize::from(width))?.checked_add((tail * usize::from(width)).div_ceil(8))
}

/// Words of one lane type.
trait Lane: Copy + Default {
    const BITS: usize;
    fn get(self, shift: usize) -> Self;
    fn put(self, shift: usize) -> Self;
    fn or(self, other: Self) -> Self;
    fn and(self, other: Self) -> Self;
    fn mask(width: usize) -> Self;
}

macro_rules! lane {
    ($t:ty) => {
        impl Lane for $t {
            const BITS: usize = <$t>::BITS as usize;
            #[inline(always)]
            fn get(self, shift: usize) -> Self {
                self >> shift
            }
            #[inline(always)]
            fn put(self, shift: usize) -> Self {
                self << shift
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                self | other
            }
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                self & other
            }
            #[inline(always)]
            fn mask(width: usize) -> Self {
                if width == <Self as Lane>::BITS { <$t>::MAX } else { ((1 as $t) << width) - 1 }
            }
        }
    };
}
lane!(u32);
lane!(u64);

/// Unpacks one group of `width` rows of words. `LANES * T::BITS == 1024`, `width <= T::BITS`.
#[inline(always)]
fn unpack_group<T: Lane, const LANES: usize>(rows: &[[T; LANES]], width: usize, out: &mut [T; GROUP]) {
    let mask = T::mask(width);
    let (out, _) = out.as_chunks_mut::<LANES>();
    for (position, out) in out.iter_mut().enumerate() {
        let bit = position * width;
        let (word, shift) = (bit / T::BITS, bit % T::BITS);
        let Some(low) = rows.get(word) else { return };
        if shift + width <= T::BITS {
            for (o, l) in out.iter_mut().zip(low) {
                *o = l.get(shift).and(mask);
            }
        } else {
            let Some(high) = rows.get(word + 1) else { return };
            for ((o, l), h) in out.iter_mut().zip(low).zip(high) {
                *o = l.get(shift).or(h.put(T::BITS - shift)).and(mask);
            }
        }
    }
}

#[inline(always)]
fn pack_group<T: Lane, const LANES: usize>(values: &[T; GROUP], width: usize, rows: &mut [[T; LANES]]) {
    let (values, _) = values.as_chunks::<LANES>();
    for (position, values) in values.iter().enumerate() {
        let bit = position * width;
        let (word, shift) = (bit / T::BITS, bit % T::BITS);
        if let Some(low) = rows.get_mut(word) {
            for (r, v) in low.iter_mut().zip(values) {
                *r = r.or(v.put(shift));
            }
        }
        if shift + width > T::BITS
            && let Some(high) = rows.get_mut(word + 1)
        {
            for (r, v) in high.iter_mut().zip(values) {
                *r = r.or(v.get(T::BITS - shift));
            }
        }
    }
}

const LANES32: usize = 32;
const LANES64: usize = 16;

/// Reads `width` rows of 32 words.
#[inline(always)]
fn load32(bytes: &[u8], rows: &mut [[u32; LANES32]; 32]) {
    let (chunks, _) = bytes.as_chunks::<{ LANES32 * 4 }>();
    for (row, chunk) in rows.iter_mut().zip(chunks) {
        let (words, _) = chunk.as_chunks::<4>();
        for (r, w) in row.iter_mut().zip(words) {
            *r = u32::from_le_bytes(*w);
        }
    }
}

#[inline(always)]
fn load64(bytes: &[u8], rows: &mut [[u64; LANES64]; 64]) {
    let (chunks, _) = bytes.as_chunks::<{ LANES64 * 8 }>();
    for (row, chunk) in rows.iter_mut().zip(chunks) {
        let (words, _) = chunk.as_chunks::<8>();
        for (r, w) in row.iter_mut().zip(words) {
            *r = u64::from_le_bytes(*w);
        }
    }
}

/// Takes unpacked values in order, in slices of at most [`GROUP`].
pub(crate) trait Sink {
    /// Values of at most 32 bits.
    fn narrow(&mut self, values: &[u32]);
    /// Values of more.
    fn long(&mut self, values: &[u64]);
}

/// Unpacks `count` values into `sink`. `bytes` must be `packed_len` long.
pub(crate) fn unpack_with(bytes: &[u8], count: usize, width: u8, sink: &mut impl Sink) -> Result<()> {
    widest(
        #[inline(always)]
        || unpack(bytes, count, width, sink),
    )
}

#[inline(always)]
fn unpack(bytes: &[u8], count: usize, width: u8, sink: &mut impl Sink) -> Result<()> {
    if packed_len(count, width) != Some(bytes.len()) {
        return Err(Error::corrupt("packed values"));
    }
    let w = usize::from(width);
    let (groups, tail) = bytes.split_at_checked(count / GROUP * 128 * w).unwrap_or_default();
    let rest = count % GROUP;
    if w == 0 {
        let zeros = [0u32; GROUP];
        for _ in 0..count / GROUP {
            sink.narrow(&zeros);
        }
        sink.narrow(zeros.get(..rest).unwrap_or_default());
    } else if w <= 32 {
        let mut rows = [[0u32; LANES32]; 32];
        let mut values = [0u32; GROUP];
        for group in groups.chunks_exact(128 * w) {
            load32(group, &mut rows);
            unpack_group(&rows, w, &mut values);
            sink.narrow(&values);
        }
        if rest > 0 {
            let mut padded = [0u8; GROUP * 4 + 8];
            let slot = padded.get_mut(..tail.len()).ok_or_else(|| Error::corrupt("packed values"))?;
            slot.copy_from_slice(tail);
            let mask = (1u64 << w) - 1;
            for (i, v) in values.iter_mut().take(rest).enumerate() {
                let bit = i * w;
                let window = padded.get(bit / 8..).and_then(|b| b.first_chunk::<8>()).copied().unwrap_or_default();
                // Masked to at most 32 bits.
                #[allow(clippy::cast_possible_truncation)]
                let value = ((u64::from_le_bytes(window) >> (bit % 8)) & mask) as u32;
                *v = value;
            }
            sink.narrow(values.get(..rest).unwrap_or_default());
        }
    } else {
        let mut rows = [[0u64; LANES64]; 64];
        let mut values = [0u64; GROUP];
        for group in groups.chunks_exact(128 * w) {
            load64(group, &mut rows);
            unpack_group(&rows, w, &mut values);
            sink.long(&values);
        }
        if rest > 0 {
            let mut padded = [0u8; GROUP * 8 + 16];
            let slot = padded.get_mut(..tail.len()).ok_or_else(|| Error::corrupt("packed values"))?;
            slot.copy_from_slice(tail);
            for (i, v) in values.iter_mut().take(rest).enumerate() {
                *v = bits_at(&padded, i * w, w);
            }
            sink.long(values.get(..rest).unwrap_or_default());
        }
    }
    Ok(())
}

/// `width` (1..=64) bits from bit `bit` of `bytes`; bits past the end are 0.
fn bits_at(bytes: &[u8], bit: usize, width: usize) -> u64 {
    let from = bytes.get(bit / 8..).unwrap_or_default();
    let mut window = [0u8; 16];
    for (w, b) in window.iter_mut().zip(from) {
        *w = *b;
    }
    // Masked to at most 64 bits.
    #[allow(clippy::cast_possible_truncation)]
    let value = (u128::from_le_bytes(window) >> (bit % 8)) as u64;
    value & u64::mask(width)
}

/// Value `index` of `count` packed ones, without unpacking others. `bytes` as for [`unpack_with`].
pub(crate) fn unpack_one(bytes: &[u8], count: usize, width: u8, index: usize) -> Result<u64> {
    if packed_len(count, width) != Some(bytes.len()) || index >= count {
        return Err(Error::corrupt("packed values"));
    }
    let w = usize::from(width);
    if w == 0 {
        return Ok(0);
    }
    let (group, i) = (index / GROUP, index % GROUP);
    let start = group * 128 * w;
    if index >= count / GROUP * GROUP {
        return Ok(bits_at(bytes.get(start..).unwrap_or_default(), i * w, w));
    }
    let (t, lanes) = if w <= 32 { (32, LANES32) } else { (64, LANES64) };
    let (lane, bit) = (i % lanes, w * (i / lanes));
    let word = |row: usize| -> u64 {
        let at = start + (row * lanes + lane) * t / 8;
        let from = bytes.get(at..).unwrap_or_default();
        if t == 32 {
            from.first_chunk::<4>().map_or(0, |b| u64::from(u32::from_le_bytes(*b)))
        } else {
            from.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b))
        }
    };
    let shift = bit % t;
    let mut value = word(bit / t) >> shift;
    if shift + w > t {
        value |= word(bit / t + 1) << (t - shift);
    }
    Ok(value & u64::mask(w))
}

/// Appends `bits(width, values.len())`. Every value must fit `width`.
pub(crate) fn pack(values: &[u64], width: u8, out: &mut Vec<u8>) {
    let w = usize::from(width);
    if w == 0 {
        return;
    }
    let (groups, tail) = values.as_chunks::<GROUP>();
    let start = out.len();
    out.resize(start + groups.len() * 128 * w, 0);
    let packed = out.get_mut(start..).unwrap_or_default().chunks_exact_mut(128 * w);
    widest(
        #[inline(always)]
        || pack_groups(groups, w, packed),
    );
    let end = out.len() + (tail.len() * w).div_ceil(8);
    let mut pending = 0u128;
    let mut bits = 0;
    for v in tail {
        pending |= u128::from(*v) << bits;
        bits += w;
        while bits >= 8 {
            out.push(pending.to_le_bytes().first().copied().unwrap_or(0));
            pending >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(pending.to_le_bytes().first().copied().unwrap_or(0));
    }
    debug_assert_eq!(out.len(), end);
}

#[inline(always)]
fn pack_groups(groups: &[[u64; GROUP]], w: usize, packed: std::slice::ChunksExactMut<u8>) {
    for (group, out) in groups.iter().zip(packed) {
        if w <= 32 {
            // The caller's contract: values fit the width, here at most 32.
            #[allow(clippy::cast_possible_truncation)]
            let narrow: [u32; GROUP] = std::array::from_fn(|i| group.get(i).map_or(0, |v| *v as u32));
            let mut rows = [[0u32; LANES32]; 32];
            pack_group(&narrow, w, &mut rows);
            for (to, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(rows.as_flattened()) {
                *to = word.to_le_bytes();
            }
        } else {
            let mut rows = [[0u64; LANES64]; 64];
            pack_group(group, w, &mut rows);
            for (to, word) in out.as_chunks_mut::<8>().0.iter_mut().zip(rows.as_flattened()) {
                *to = word.to_le_bytes();
            }
        }
    }
}
