//! Inner loops over whole blocks. Each has a scalar form, which is the definition, and where it pays vector forms chosen at run time.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod floats;
mod scalar;
#[cfg(test)]
mod tests;

pub(super) use floats::{Ladder, MOST, Poured, top};

pub(super) use crate::simd::{is_fused, prefetch};

#[cfg(target_arch = "x86_64")]
use crate::simd;
use crate::simd::widest;

/// Calls the best form of a kernel that the processor has.
macro_rules! dispatch {
    ($kernel:ident($($argument:expr),*), else $otherwise:expr) => {{
        #[cfg(target_arch = "x86_64")]
        {
            if simd::is_avx512() {
                // SAFETY: the features were detected.
                return unsafe { avx512::$kernel($($argument),*) };
            }
            if simd::is_avx2() {
                // SAFETY: the features were detected.
                return unsafe { avx2::$kernel($($argument),*) };
            }
        }
        $otherwise
    }};
}

/// `low <= v <= high`, for `low <= high`.
pub(super) fn range_i64(values: &[i64], low: i64, high: i64, out: &mut [u64]) {
    dispatch!(range_i64(values, low, high, out), else scalar::range_i64(values, low, high, out))
}

/// `low <= v <= high`, for `low <= high`.
pub(super) fn range_u32(values: &[u32], low: u32, high: u32, out: &mut [u64]) {
    dispatch!(range_u32(values, low, high, out), else scalar::range_u32(values, low, high, out))
}

/// `low <= v <= high`.
pub(super) fn range_i128(values: &[i128], low: i128, high: i128, out: &mut [u64]) {
    scalar::fill(values, out, |v| v >= low && v <= high);
}

/// Whether bit `v` of `set` is on; values past the set are not in it.
pub(super) fn member_u32(values: &[u32], set: &[u64], out: &mut [u64]) {
    if set.is_empty() || set.len() >= 1 << 25 {
        return scalar::member_u32(values, set, out);
    }
    dispatch!(member_u32(values, set, out), else scalar::member_u32(values, set, out))
}

/// Whether `v` is in one of the ascending, disjoint, inclusive `ranges`.
pub(super) fn ranges_i64(values: &[i64], ranges: &[(i64, i64)], out: &mut [u64]) {
    scalar::fill(values, out, |v| {
        let after = ranges.partition_point(|r| r.0 <= v);
        after > 0 && v <= ranges[after - 1].1
    });
}

/// Whether `v` is in one of the ascending, disjoint, inclusive `ranges`.
pub(super) fn ranges_i128(values: &[i128], ranges: &[(i128, i128)], out: &mut [u64]) {
    scalar::fill(values, out, |v| {
        let after = ranges.partition_point(|r| r.0 <= v);
        after > 0 && v <= ranges[after - 1].1
    });
}

/// Positions of the set bits. At most 65,536 bits.
pub(super) fn indices(words: &[u64], out: &mut Vec<u16>) {
    out.clear();
    #[cfg(target_arch = "x86_64")]
    if avx512::compress_available() && words.len() <= 1024 {
        // SAFETY: the features were detected.
        return unsafe { avx512::indices(words, out) };
    }
    scalar::indices(words, out);
}

/// Sum of the values whose bit is set, wrapping: the caller knows that it fits.
pub(super) fn sum_selected(values: &[i64], words: &[u64]) -> i64 {
    dispatch!(sum_selected(values, words), else scalar::sum_selected(values, words))
}

/// The sum of at most [`MOST`] values, the selected ones of which are within the ladder. `words`: which are selected; `None`: all.
pub(super) fn float_sums<const N: usize>(values: &[f64], words: Option<&[u64]>, ladder: Ladder<N>) -> Poured<N> {
    widest(
        #[inline(always)]
        || floats::sums(values, words, ladder),
    )
}

/// As [`float_sums`], of products; only if [`is_fused`].
pub(super) fn product_sums<const N: usize>(
    left: &[f64],
    right: &[f64],
    words: Option<&[u64]>,
    ladder: Ladder<N>,
) -> Poured<N> {
    widest(
        #[inline(always)]
        || floats::products(left, right, words, ladder),
    )
}

/// [`product_sums`] of runs of rows: pairs of the first and one past the last.
pub(super) fn product_sums_of_runs<const N: usize>(
    left: &[f64],
    right: &[f64],
    runs: impl Iterator<Item = std::ops::Range<usize>>,
    ladder: Ladder<N>,
    mut give: impl FnMut(Poured<N>),
) {
    widest(
        #[inline(always)]
        || {
            for run in runs {
                give(floats::products(&left[run.clone()], &right[run], None, ladder));
            }
        },
    );
}

/// The largest magnitude of the selected values, as the bits of a float.
pub(super) fn largest_magnitude(values: &[f64], words: Option<&[u64]>) -> u64 {
    widest(
        #[inline(always)]
        || floats::magnitude(values, words),
    )
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
const TOGETHER: usize = 16;

/// Whether all are equal.
#[inline(always)]
fn is_uniform(groups: &[u32; TOGETHER]) -> bool {
    groups.iter().fold(0, |differ, g| differ | (g ^ groups[0])) == 0
}

/// Groups up to which sums of neighbouring rows are kept apart, so that none waits for the one before it.
const FEW: usize = 64;
/// Groups up to which rows are counted by comparing.
const MOST_COMPARED: usize = 16;
/// Sums kept apart.
const APART: usize = 4;

/// [`add_by_group`] of groups and values, of few groups.
fn add_few(sums: &mut [i64], rows: impl Iterator<Item = (u32, i64)>) {
    let mut apart = [[0i64; FEW]; APART];
    for (i, (group, value)) in rows.enumerate() {
        let slot = &mut apart[i % APART][group as usize % FEW];
        *slot = slot.wrapping_add(value);
    }
    gather(sums, &apart);
}

/// Adds what was kept apart.
fn gather(sums: &mut [i64], apart: &[[i64; FEW]; APART]) {
    for (group, sum) in sums.iter_mut().enumerate().take(FEW) {
        *sum = apart.iter().fold(*sum, |sum, of| sum.wrapping_add(of[group]));
    }
}

/// Adds values to the sums of their groups, wrapping. `groups` and `values` are by row, every group is below `sums.len()`. `list`: the
/// rows that count; `None`: all.
pub(super) fn add_by_group(sums: &mut [i64], groups: &[u32], values: &[i64], list: Option<&[u16]>) {
    let few = sums.len() <= FEW;
    match list {
        Some(list) if few => {
            add_few(sums, list.iter().map(|row| (groups[usize::from(*row)], values[usize::from(*row)])));
        }
        Some(list) => {
            for row in list {
                let slot = &mut sums[groups[usize::from(*row)] as usize];
                *slot = slot.wrapping_add(values[usize::from(*row)]);
            }
        }
        None => {
            let (of, rest) = groups.as_chunks::<TOGETHER>();
            let (chunks, last) = values.as_chunks::<TOGETHER>();
            let mut apart = [[0i64; FEW]; APART];
            for (groups, values) in of.iter().zip(chunks) {
                if is_uniform(groups) {
                    let slot = &mut sums[groups[0] as usize];
                    *slot = values.iter().fold(*slot, |sum, v| sum.wrapping_add(*v));
                } else if few {
                    for (i, (group, v)) in groups.iter().zip(values).enumerate() {
                        let slot = &mut apart[i % APART][*group as usize % FEW];
                        *slot = slot.wrapping_add(*v);
                    }
                } else {
                    for (group, v) in groups.iter().zip(values) {
                        let slot = &mut sums[*group as usize];
                        *slot = slot.wrapping_add(*v);
                    }
                }
            }
            for (group, v) in rest.iter().zip(last) {
                let slot = &mut sums[*group as usize];
                *slot = slot.wrapping_add(*v);
            }
            gather(sums, &apart);
        }
    }
}

/// Counts rows by group: as [`add_by_group`] of ones.
pub(super) fn count_by_group(counts: &mut [i64], groups: &[u32], list: Option<&[u16]>) {
    let few = counts.len() <= FEW;
    match list {
        None if counts.len() <= MOST_COMPARED => {
            // Comparing all with each group is faster than adding one by one.
            for (group, count) in counts.iter_mut().enumerate() {
                let same = |g: &u32| u32::from(*g == group as u32);
                *count += i64::from(widest(
                    #[inline(always)]
                    || groups.iter().map(same).sum::<u32>(),
                ));
            }
        }
        Some(list) if few => add_few(counts, list.iter().map(|row| (groups[usize::from(*row)], 1))),
        Some(list) => list.iter().for_each(|row| counts[groups[usize::from(*row)] as usize] += 1),
        None => {
            let (chunks, rest) = groups.as_chunks::<TOGETHER>();
            let mut apart = [[0i64; FEW]; APART];
            for groups in chunks {
                if is_uniform(groups) {
                    counts[groups[0] as usize] += TOGETHER as i64;
                } else if few {
                    groups.iter().enumerate().for_each(|(i, g)| apart[i % APART][*g as usize % FEW] += 1);
                } else {
                    groups.iter().for_each(|g| counts[*g as usize] += 1);
                }
            }
            rest.iter().for_each(|g| counts[*g as usize] += 1);
            gather(counts, &apart);
        }
    }
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
