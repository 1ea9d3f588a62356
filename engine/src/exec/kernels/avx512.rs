//! Kernels for processors with AVX-512. The dispatching functions define what they compute.

use std::arch::x86_64::*;

use super::scalar;
use crate::simd::is_avx512;

pub fn compress_available() -> bool {
    is_avx512() && is_x86_feature_detected!("avx512vbmi2")
}

#[target_feature(enable = "avx512f,avx512bw")]
pub fn range_i64(values: &[i64], low: i64, high: i64, out: &mut [u64]) {
    let base = _mm512_set1_epi64(low);
    let span = _mm512_set1_epi64(high.wrapping_sub(low));
    let (chunks, rest) = values.as_chunks::<64>();
    for (chunk, word) in chunks.iter().zip(out.iter_mut()) {
        let mut w = 0u64;
        for lane in 0..8 {
            // SAFETY: eight values from `lane * 8` are inside the chunk of 64.
            let v = unsafe { _mm512_loadu_si512(chunk.as_ptr().add(lane * 8).cast()) };
            let mask = _mm512_cmple_epu64_mask(_mm512_sub_epi64(v, base), span);
            w |= u64::from(mask) << (lane * 8);
        }
        *word = w;
    }
    if let Some(tail) = out.get_mut(chunks.len()..) {
        scalar::range_i64(rest, low, high, tail);
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
pub fn range_u32(values: &[u32], low: u32, high: u32, out: &mut [u64]) {
    let base = _mm512_set1_epi32(low as i32);
    let span = _mm512_set1_epi32(high.wrapping_sub(low) as i32);
    let (chunks, rest) = values.as_chunks::<64>();
    for (chunk, word) in chunks.iter().zip(out.iter_mut()) {
        let mut w = 0u64;
        for lane in 0..4 {
            // SAFETY: sixteen values from `lane * 16` are inside the chunk of 64.
            let v = unsafe { _mm512_loadu_si512(chunk.as_ptr().add(lane * 16).cast()) };
            let mask = _mm512_cmple_epu32_mask(_mm512_sub_epi32(v, base), span);
            w |= u64::from(mask) << (lane * 16);
        }
        *word = w;
    }
    if let Some(tail) = out.get_mut(chunks.len()..) {
        scalar::range_u32(rest, low, high, tail);
    }
}

/// `set` is not empty and shorter than 2^25 words.
#[target_feature(enable = "avx512f,avx512bw")]
pub fn member_u32(values: &[u32], set: &[u64], out: &mut [u64]) {
    // Little-endian: bit v of the u64 set is bit v % 32 of its half-word v / 32.
    let halves = (set.len() * 2) as u32;
    let limit = _mm512_set1_epi32(halves.wrapping_mul(32) as i32);
    let last = _mm512_set1_epi32(halves as i32 - 1);
    let one = _mm512_set1_epi32(1);
    let low5 = _mm512_set1_epi32(31);
    let (chunks, rest) = values.as_chunks::<64>();
    for (chunk, word) in chunks.iter().zip(out.iter_mut()) {
        let mut w = 0u64;
        for lane in 0..4 {
            // SAFETY: sixteen values from `lane * 16` are inside the chunk of 64.
            let v = unsafe { _mm512_loadu_si512(chunk.as_ptr().add(lane * 16).cast()) };
            let inside = _mm512_cmplt_epu32_mask(v, limit);
            let index = _mm512_min_epu32(_mm512_srli_epi32::<5>(v), last);
            // SAFETY: every index is at most the last half-word of `set`.
            let found = unsafe { _mm512_i32gather_epi32::<4>(index, set.as_ptr().cast()) };
            let bit = _mm512_sllv_epi32(one, _mm512_and_si512(v, low5));
            w |= u64::from(_mm512_mask_test_epi32_mask(inside, found, bit)) << (lane * 16);
        }
        *word = w;
    }
    if let Some(tail) = out.get_mut(chunks.len()..) {
        scalar::member_u32(rest, set, tail);
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
pub fn sum_selected(values: &[i64], words: &[u64]) -> i64 {
    let mut sums = [_mm512_setzero_si512(); 2];
    let (chunks, rest) = values.as_chunks::<64>();
    for (chunk, &word) in chunks.iter().zip(words) {
        if word == 0 {
            continue;
        }
        for lane in 0..8 {
            // SAFETY: eight values from `lane * 8` are inside the chunk of 64.
            let v = unsafe { _mm512_loadu_si512(chunk.as_ptr().add(lane * 8).cast()) };
            let mask = (word >> (lane * 8)) as u8;
            let sum = &mut sums[lane % 2];
            *sum = _mm512_mask_add_epi64(*sum, mask, *sum, v);
        }
    }
    let sum = _mm512_reduce_add_epi64(_mm512_add_epi64(sums[0], sums[1]));
    let tail = words.get(chunks.len()..).unwrap_or(&[]);
    sum.wrapping_add(scalar::sum_selected(rest, tail))
}

/// At most 1,024 words.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
pub fn indices(words: &[u64], out: &mut Vec<u16>) {
    let total: usize = words.iter().map(|w| w.count_ones() as usize).sum();
    // Whole vectors are stored, so that up to 32 values of slack are written past the last one.
    out.reserve(total + 32);
    let mut lanes = [0u16; 32];
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane = i as u16;
    }
    // SAFETY: the array holds 32 u16 values.
    let first = unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) };
    let mut n = 0usize;
    for (i, &word) in words.iter().enumerate() {
        if word == 0 {
            continue;
        }
        for half in 0..2 {
            let mask = (word >> (half * 32)) as u32;
            let base = _mm512_set1_epi16((i * 64 + half * 32) as u16 as i16);
            let packed = _mm512_maskz_compress_epi16(mask, _mm512_add_epi16(first, base));
            // SAFETY: n <= total, and total + 32 values are reserved.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().add(n).cast(), packed) };
            n += mask.count_ones() as usize;
        }
    }
    // SAFETY: the first `total` values have been written.
    unsafe { out.set_len(total) };
}
