//! Sorting that looks at whether the work is to end: by merging runs (J. von Neumann's merge sort, bottom up), or in place, after halves
//! have been divided until they are small (C. A. R. Hoare's "Find" and Quicksort, 1961).

use std::cmp::Ordering;

use crate::Result;

/// Values of a run, and values merged, between two looks.
const RUN: usize = 1 << 14;

/// Sorts `values`, which take twice the memory meanwhile; in which order equal ones come is not said. `look` is called every few thousand of
/// them. Errors: what it says.
pub fn sort_by<T: Copy>(
    values: &mut Vec<T>,
    compare: impl Fn(&T, &T) -> Ordering,
    look: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    for run in values.chunks_mut(RUN) {
        look()?;
        run.sort_unstable_by(&compare);
    }
    let mut width = RUN;
    let mut merged = Vec::new();
    while width < values.len() {
        merged.clear();
        merged.reserve_exact(values.len());
        for pair in values.chunks(2 * width) {
            let (mut left, mut right) = pair.split_at(width.min(pair.len()));
            let ordered = match (left.last(), right.first()) {
                (Some(last), Some(first)) => compare(last, first).is_le(),
                _ => true,
            };
            if ordered {
                look()?;
                merged.extend_from_slice(pair);
                continue;
            }
            while !left.is_empty() && !right.is_empty() {
                look()?;
                for _ in 0..RUN {
                    let (Some(a), Some(b)) = (left.first(), right.first()) else { break };
                    if compare(b, a).is_lt() {
                        merged.push(*b);
                        right = &right[1..];
                    } else {
                        merged.push(*a);
                        left = &left[1..];
                    }
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        std::mem::swap(values, &mut merged);
        width *= 2;
    }
    Ok(())
}

/// Values that are sorted in one piece: some milliseconds.
const PIECE: usize = 1 << 17;

/// [`sort_by`] without other memory; `look` is called every few milliseconds.
pub fn sort_in_place_by<T>(
    values: &mut [T],
    compare: &impl Fn(&T, &T) -> Ordering,
    look: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    look()?;
    if values.len() <= PIECE {
        values.sort_unstable_by(compare);
        return Ok(());
    }
    let (low, _, high) = values.select_nth_unstable_by(values.len() / 2, compare);
    sort_in_place_by(low, compare, look)?;
    sort_in_place_by(high, compare, look)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn sorts_as_slices_do_and_looks_often() {
        for len in [0, 1, RUN - 1, RUN, RUN + 1, 2 * RUN, 5 * RUN + 77, 200_000] {
            for spread in [7u64, 1 << 40] {
                let mixed = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) % spread;
                let mut values: Vec<u64> = (0..len).map(mixed).collect();
                let mut wanted = values.clone();
                wanted.sort_unstable();
                let mut looks = 0;
                sort_by(&mut values, u64::cmp, &mut || {
                    looks += 1;
                    Ok(())
                })
                .unwrap();
                assert_eq!(values, wanted);
                assert!(looks >= len / RUN, "{looks} for {len}");
                let (mut values, mut looks) = ((0..len).map(mixed).collect::<Vec<u64>>(), 0);
                sort_in_place_by(&mut values, &u64::cmp, &mut || {
                    looks += 1;
                    Ok(())
                })
                .unwrap();
                assert_eq!(values, wanted);
                assert!(looks > len / PIECE, "{looks} for {len}");
            }
        }
        // What is in order already is only copied.
        let (mut values, mut looks) = ((0..100_000u64).collect::<Vec<_>>(), 0);
        sort_by(&mut values, u64::cmp, &mut || {
            looks += 1;
            Ok(())
        })
        .unwrap();
        assert!(values.is_sorted() && looks < 20, "{looks}");
    }

    #[test]
    fn a_look_ends_it() {
        let mut left = 20;
        let mut values: Vec<u32> = (0..300_000).rev().collect();
        let ended = sort_by(&mut values, u32::cmp, &mut || {
            left -= 1;
            if left == 0 { Err(Error::Canceled) } else { Ok(()) }
        });
        assert!(matches!(ended, Err(Error::Canceled)));
        assert_eq!(left, 0);
        left = 3;
        let ended = sort_in_place_by(&mut values, &u32::cmp, &mut || {
            left -= 1;
            if left == 0 { Err(Error::Canceled) } else { Ok(()) }
        });
        assert!(matches!(ended, Err(Error::Canceled)));
        assert_eq!(left, 0);
    }
}
