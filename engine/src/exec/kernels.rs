//! Inner loops over whole blocks. Each has a scalar form, which is the definition, and where it pays a
//! vector form chosen at run time.

/// Fills `out` with one bit a value. `out` holds `ceil(values / 64)` words.
#[inline(always)]
fn fill<T: Copy>(values: &[T], out: &mut [u64], f: impl Fn(T) -> bool) {
    let (chunks, rest) = values.as_chunks::<64>();
    for (chunk, word) in chunks.iter().zip(out.iter_mut()) {
        let mut w = 0u64;
        for (i, v) in chunk.iter().enumerate() {
            w |= u64::from(f(*v)) << i;
        }
        *word = w;
    }
    if !rest.is_empty()
        && let Some(word) = out.get_mut(chunks.len())
    {
        *word = rest.iter().enumerate().fold(0, |w, (i, v)| w | u64::from(f(*v)) << i);
    }
}

/// `low <= v <= high`, for `low <= high`.
pub(super) fn range_i64(values: &[i64], low: i64, high: i64, out: &mut [u64]) {
    #[cfg(target_arch = "x86_64")]
    if simd::available() {
        // SAFETY: the features were detected.
        return unsafe { simd::range_i64(values, low, high, out) };
    }
    range_i64_scalar(values, low, high, out);
}

fn range_i64_scalar(values: &[i64], low: i64, high: i64, out: &mut [u64]) {
    let span = high.wrapping_sub(low) as u64;
    fill(values, out, |v| v.wrapping_sub(low) as u64 <= span);
}

/// `low <= v <= high`, for `low <= high`.
pub(super) fn range_u32(values: &[u32], low: u32, high: u32, out: &mut [u64]) {
    #[cfg(target_arch = "x86_64")]
    if simd::available() {
        // SAFETY: the features were detected.
        return unsafe { simd::range_u32(values, low, high, out) };
    }
    range_u32_scalar(values, low, high, out);
}

fn range_u32_scalar(values: &[u32], low: u32, high: u32, out: &mut [u64]) {
    let span = high.wrapping_sub(low);
    fill(values, out, |v| v.wrapping_sub(low) <= span);
}

/// `low <= v <= high`.
pub(super) fn range_i128(values: &[i128], low: i128, high: i128, out: &mut [u64]) {
    fill(values, out, |v| v >= low && v <= high);
}

/// Whether bit `v` of `set` is on; values past the set are not in it.
pub(super) fn member_u32(values: &[u32], set: &[u64], out: &mut [u64]) {
    #[cfg(target_arch = "x86_64")]
    if simd::available() && !set.is_empty() && set.len() < (1 << 25) {
        // SAFETY: the features were detected.
        return unsafe { simd::member_u32(values, set, out) };
    }
    member_u32_scalar(values, set, out);
}

fn member_u32_scalar(values: &[u32], set: &[u64], out: &mut [u64]) {
    fill(values, out, |v| set.get(v as usize / 64).is_some_and(|w| w >> (v % 64) & 1 == 1));
}

/// Whether `v` is in one of the ascending, disjoint, inclusive `ranges`.
pub(super) fn ranges_i64(values: &[i64], ranges: &[(i64, i64)], out: &mut [u64]) {
    fill(values, out, |v| {
        let after = ranges.partition_point(|r| r.0 <= v);
        after > 0 && v <= ranges[after - 1].1
    });
}

/// Whether `v` is in one of the ascending, disjoint, inclusive `ranges`.
pub(super) fn ranges_i128(values: &[i128], ranges: &[(i128, i128)], out: &mut [u64]) {
    fill(values, out, |v| {
        let after = ranges.partition_point(|r| r.0 <= v);
        after > 0 && v <= ranges[after - 1].1
    });
}

/// Positions of the set bits. At most 65,536 bits.
pub(super) fn indices(words: &[u64], out: &mut Vec<u16>) {
    out.clear();
    #[cfg(target_arch = "x86_64")]
    if simd::compress_available() && words.len() <= 1024 {
        // SAFETY: the features were detected.
        return unsafe { simd::indices(words, out) };
    }
    indices_scalar(words, out);
}

fn indices_scalar(words: &[u64], out: &mut Vec<u16>) {
    for (i, &word) in words.iter().enumerate() {
        let mut w = word;
        while w != 0 {
            out.push((i * 64) as u16 | w.trailing_zeros() as u16);
            w &= w - 1;
        }
    }
}

/// Sum of the values whose bit is set, wrapping: the caller knows that it fits.
pub(super) fn sum_selected(values: &[i64], words: &[u64]) -> i64 {
    #[cfg(target_arch = "x86_64")]
    if simd::available() {
        // SAFETY: the features were detected.
        return unsafe { simd::sum_selected(values, words) };
    }
    sum_selected_scalar(values, words)
}

fn sum_selected_scalar(values: &[i64], words: &[u64]) -> i64 {
    let mut sum = 0i64;
    for (chunk, &word) in values.chunks(64).zip(words) {
        if word == 0 {
            continue;
        }
        for (i, v) in chunk.iter().enumerate() {
            sum = sum.wrapping_add(v & (((word >> i & 1) as i64).wrapping_neg()));
        }
    }
    sum
}

/// Wrapping sum of all values.
pub(super) fn sum_all(values: &[i64]) -> i64 {
    let mut lanes = [0i64; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*v);
        }
    }
    lanes.iter().chain(rest).fold(0i64, |a, b| a.wrapping_add(*b))
}

/// Rows looked at together where neighbours tend to be of one group.
pub(super) const TOGETHER: usize = 16;

/// Whether all are equal.
#[inline(always)]
pub(super) fn is_uniform(groups: &[u32; TOGETHER]) -> bool {
    groups.iter().fold(0, |differ, g| differ | (g ^ groups[0])) == 0
}

/// Asks the caches for an element; nothing happens if there is none.
#[inline(always)]
pub(super) fn prefetch<T>(values: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(value) = values.get(at) {
        // SAFETY: prefetching has no effect on the program's state; the address is an element's.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>((&raw const *value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, at);
}

/// Smallest and largest of the values whose bit is set; `None` if there are none.
pub(super) fn min_max_selected(values: &[i64], words: &[u64]) -> Option<(i64, i64)> {
    let (mut min, mut max, mut any) = (i64::MAX, i64::MIN, 0);
    for (chunk, &word) in values.chunks(64).zip(words) {
        any |= word;
        if word == u64::MAX {
            for v in chunk {
                min = min.min(*v);
                max = max.max(*v);
            }
            continue;
        }
        let mut w = word;
        while w != 0 {
            let v = chunk[w.trailing_zeros() as usize];
            min = min.min(v);
            max = max.max(v);
            w &= w - 1;
        }
    }
    (any != 0).then_some((min, max))
}

#[cfg(target_arch = "x86_64")]
mod simd {
    use std::arch::x86_64::*;

    pub fn available() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
    }

    pub fn compress_available() -> bool {
        available() && is_x86_feature_detected!("avx512vbmi2")
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
            super::range_i64_scalar(rest, low, high, tail);
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
            super::range_u32_scalar(rest, low, high, tail);
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
            super::member_u32_scalar(rest, set, tail);
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
        sum.wrapping_add(super::sum_selected_scalar(rest, tail))
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expected<T: Copy>(values: &[T], f: impl Fn(T) -> bool) -> Vec<u64> {
        let mut words = vec![0; values.len().div_ceil(64)];
        for (i, v) in values.iter().enumerate() {
            words[i / 64] |= u64::from(f(*v)) << (i % 64);
        }
        words
    }

    proptest! {
        #[test]
        fn ranges_agree_with_the_naive_loop(
            values in prop::collection::vec(prop_oneof![any::<i64>(), -5..5i64, Just(i64::MIN), Just(i64::MAX)], 0..300),
            a in prop_oneof![any::<i64>(), -5..5i64, Just(i64::MIN)],
            b in prop_oneof![any::<i64>(), -5..5i64, Just(i64::MAX)],
        ) {
            let (low, high) = (a.min(b), a.max(b));
            let want = expected(&values, |v| v >= low && v <= high);
            let mut out = vec![0; want.len()];
            range_i64(&values, low, high, &mut out);
            prop_assert_eq!(&out, &want);
            range_i64_scalar(&values, low, high, &mut out);
            prop_assert_eq!(&out, &want);
            ranges_i64(&values, &[(low, high)], &mut out);
            prop_assert_eq!(&out, &want);
            let wide: Vec<i128> = values.iter().map(|v| i128::from(*v)).collect();
            range_i128(&wide, low.into(), high.into(), &mut out);
            prop_assert_eq!(&out, &want);
            prop_assert_eq!(sum_all(&values), values.iter().fold(0i64, |x, y| x.wrapping_add(*y)));
            let selected: Vec<i64> = values.iter().copied().filter(|&v| v >= low && v <= high).collect();
            let sum = selected.iter().fold(0i64, |x, y| x.wrapping_add(*y));
            prop_assert_eq!(sum_selected(&values, &want), sum);
            prop_assert_eq!(sum_selected_scalar(&values, &want), sum);
            let both = selected.iter().min().copied().zip(selected.iter().max().copied());
            prop_assert_eq!(min_max_selected(&values, &want), both);
        }

        #[test]
        fn codes_agree_with_the_naive_loop(
            values in prop::collection::vec(prop_oneof![0..200u32, any::<u32>()], 0..300),
            set in prop::collection::vec(any::<u64>(), 0..4),
            a in 0..200u32, b in prop_oneof![0..200u32, Just(u32::MAX)],
        ) {
            let want = expected(&values, |v| set.get(v as usize / 64).is_some_and(|w| w >> (v % 64) & 1 == 1));
            let mut out = vec![0; want.len()];
            member_u32(&values, &set, &mut out);
            prop_assert_eq!(&out, &want);
            member_u32_scalar(&values, &set, &mut out);
            prop_assert_eq!(&out, &want);
            let (low, high) = (a.min(b), a.max(b));
            let want = expected(&values, |v| v >= low && v <= high);
            range_u32(&values, low, high, &mut out);
            prop_assert_eq!(&out, &want);
            range_u32_scalar(&values, low, high, &mut out);
            prop_assert_eq!(&out, &want);
        }

        #[test]
        fn indices_are_the_set_bits(words in prop::collection::vec(prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)], 0..40)) {
            let want: Vec<u16> =
                (0..words.len() * 64).filter(|i| words[i / 64] >> (i % 64) & 1 == 1).map(|i| i as u16).collect();
            let mut out = Vec::new();
            indices(&words, &mut out);
            prop_assert_eq!(&out, &want);
            out.clear();
            indices_scalar(&words, &mut out);
            prop_assert_eq!(&out, &want);
        }
    }
}
