//! Kernels for processors with AVX2. The dispatching functions define what they compute.

use std::arch::x86_64::*;

use super::scalar;

#[target_feature(enable = "avx2")]
pub fn range_i64(values: &[i64], low: i64, high: i64, out: &mut [u64]) {
    // Unsigned comparison by signed: both sides move by 2^63.
    let base = _mm256_set1_epi64x(low ^ i64::MIN);
    let span = _mm256_set1_epi64x(high.wrapping_sub(low) ^ i64::MIN);
    let (chunks, rest) = values.as_chunks::<64>();
    for (chunk, word) in chunks.iter().zip(out.iter_mut()) {
        let mut beyond = 0u64;
        for lane in 0..16 {
            // SAFETY: four values from `lane * 4` are inside the chunk of 64.
            let v = unsafe { _mm256_loadu_si256(chunk.as_ptr().add(lane * 4).cast()) };
            let mask = _mm256_cmpgt_epi64(_mm256_sub_epi64(v, base), span);
            beyond |= (_mm256_movemask_pd(_mm256_castsi256_pd(mask)) as u64) << (lane * 4);
        }
        *word = !beyond;
    }
    if let Some(tail) = out.get_mut(chunks.len()..) {
        scalar::range_i64(rest, low, high, tail);
    }
}

#[target_feature(enable = "avx2")]
pub fn range_u32(values: &[u32], low: u32, high: u32, out: &mut [u64]) {
    let base = _mm256_set1_epi32(low as i32);
    let span = _mm256_set1_epi32(high.wrapping_sub(low) as i32);
    let (chunks, rest) = values.as_chunks::<64>();
    for (chunk, word) in chunks.iter().zip(out.iter_mut()) {
        let mut w = 0u64;
        for lane in 0..8 {
            // SAFETY: eight values from `lane * 8` are inside the chunk of 64.
            let v = unsafe { _mm256_loadu_si256(chunk.as_ptr().add(lane * 8).cast()) };
            let moved = _mm256_sub_epi32(v, base);
            let mask = _mm256_cmpeq_epi32(_mm256_min_epu32(moved, span), moved);
            w |= u64::from(_mm256_movemask_ps(_mm256_castsi256_ps(mask)) as u32) << (lane * 8);
        }
        *word = w;
    }
    if let Some(tail) = out.get_mut(chunks.len()..) {
        scalar::range_u32(rest, low, high, tail);
    }
}

/// `set` is not empty and shorter than 2^25 words.
#[target_feature(enable = "avx2")]
pub fn member_u32(values: &[u32], set: &[u64], out: &mut [u64]) {
    // Little-endian: bit v of the u64 set is bit v % 32 of its half-word v / 32.
    let last = _mm256_set1_epi32((set.len() * 2) as i32 - 1);
    let one = _mm256_set1_epi32(1);
    let low5 = _mm256_set1_epi32(31);
    let (chunks, rest) = values.as_chunks::<64>();
    for (chunk, word) in chunks.iter().zip(out.iter_mut()) {
        let mut w = 0u64;
        for lane in 0..8 {
            // SAFETY: eight values from `lane * 8` are inside the chunk of 64.
            let v = unsafe { _mm256_loadu_si256(chunk.as_ptr().add(lane * 8).cast()) };
            let half = _mm256_srli_epi32::<5>(v);
            let index = _mm256_min_epu32(half, last);
            let inside = _mm256_cmpeq_epi32(index, half);
            // SAFETY: every index is at most the last half-word of `set`.
            let found = unsafe { _mm256_i32gather_epi32::<4>(set.as_ptr().cast(), index) };
            let bit = _mm256_sllv_epi32(one, _mm256_and_si256(v, low5));
            let on = _mm256_cmpeq_epi32(_mm256_and_si256(found, bit), bit);
            let mask = _mm256_and_si256(on, inside);
            w |= u64::from(_mm256_movemask_ps(_mm256_castsi256_ps(mask)) as u32) << (lane * 8);
        }
        *word = w;
    }
    if let Some(tail) = out.get_mut(chunks.len()..) {
        scalar::member_u32(rest, set, tail);
    }
}

#[target_feature(enable = "avx2")]
pub fn sum_selected(values: &[i64], words: &[u64]) -> i64 {
    let mut sums = [_mm256_setzero_si256(); 4];
    let places = _mm256_setr_epi64x(63, 62, 61, 60);
    let (chunks, rest) = values.as_chunks::<64>();
    for (chunk, &word) in chunks.iter().zip(words) {
        if word == 0 {
            continue;
        }
        for lane in 0..16 {
            // SAFETY: four values from `lane * 4` are inside the chunk of 64.
            let v = unsafe { _mm256_loadu_si256(chunk.as_ptr().add(lane * 4).cast()) };
            // Each value's bit becomes the sign of its lane; a double's blend looks at signs alone.
            let bits = _mm256_set1_epi64x((word >> (lane * 4)) as i64);
            let signs = _mm256_castsi256_pd(_mm256_sllv_epi64(bits, places));
            let kept = _mm256_blendv_pd(_mm256_setzero_pd(), _mm256_castsi256_pd(v), signs);
            let sum = &mut sums[lane % 4];
            *sum = _mm256_add_epi64(*sum, _mm256_castpd_si256(kept));
        }
    }
    let sum = _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
    let mut lanes = [0i64; 4];
    // SAFETY: the array holds four values.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
    let sum = lanes.iter().fold(0i64, |a, b| a.wrapping_add(*b));
    let tail = words.get(chunks.len()..).unwrap_or(&[]);
    sum.wrapping_add(scalar::sum_selected(rest, tail))
}
