//! Offsets: how far each partition has been published, and which ranges a batch or a segment holds.
//! Every range is half-open, `[first, next)`. Gaps inside one are normal (compaction, transaction
//! markers); an overlap never is.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// Offsets `[first, next)` of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffsetRange {
    pub first: i64,
    pub next: i64,
}

impl OffsetRange {
    pub fn new(first: i64, next: i64) -> Self {
        OffsetRange { first, next }
    }

    pub fn is_empty(&self) -> bool {
        self.first >= self.next
    }

    pub fn overlaps(&self, other: &OffsetRange) -> bool {
        self.first.max(other.first) < self.next.min(other.next)
    }
}

/// By how much one publish advances each partition it touches. `first` is the `next_offset` that the
/// catalog must still hold (`None` in `known`: the partition is new).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    ranges: BTreeMap<i32, OffsetRange>,
}

impl Delta {
    /// Extends the partition's range to `[.., next)`; the first call for a partition begins it at `first`.
    /// Errors: `Overlap` when `first` is not where the range ends.
    pub fn extend(&mut self, partition: i32, first: i64, next: i64) -> Result<()> {
        let range = self.ranges.entry(partition).or_insert(OffsetRange::new(first, first));
        if range.next != first || next < first {
            return Err(Error::Overlap { partition, first, next });
        }
        range.next = next;
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.values().all(OffsetRange::is_empty)
    }

    /// Partition and range, ascending, empty ranges left out.
    pub fn iter(&self) -> impl Iterator<Item = (i32, OffsetRange)> + '_ {
        self.ranges.iter().filter(|(_, r)| !r.is_empty()).map(|(p, r)| (*p, *r))
    }
}

/// The next offset of each partition: the first that is not published yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    next: BTreeMap<i32, i64>,
}

impl Checkpoint {
    pub fn new(next: impl IntoIterator<Item = (i32, i64)>) -> Self {
        Checkpoint { next: next.into_iter().collect() }
    }

    pub fn next_offset(&self, partition: i32) -> Option<i64> {
        self.next.get(&partition).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (i32, i64)> + '_ {
        self.next.iter().map(|(p, o)| (*p, *o))
    }

    pub fn set(&mut self, partition: i32, next: i64) {
        self.next.insert(partition, next);
    }

    /// Moves forward by `delta`, wholly or not at all. Errors: `Overlap` when a range does not begin
    /// where its partition ends.
    pub fn apply(&mut self, delta: &Delta) -> Result<()> {
        for (partition, range) in delta.iter() {
            if self.next_offset(partition).is_some_and(|next| next != range.first) {
                return Err(Error::Overlap { partition, first: range.first, next: range.next });
            }
        }
        for (partition, range) in delta.iter() {
            self.next.insert(partition, range.next);
        }
        Ok(())
    }
}

/// The offset ranges whose rows one segment holds, by partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance<Id> {
    pub segment: Id,
    pub ranges: Vec<(i32, OffsetRange)>,
}

/// What a rewind does: the segments it retires and where each partition goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewind<Id> {
    pub retire: Vec<Id>,
    /// Never above the wish; below it where a segment to retire begins earlier.
    pub next: Checkpoint,
}

/// Plans going back to `wish`. A segment with a row at or after a partition's new next offset is retired
/// whole, and whatever it holds is read again: the next offsets move back to its first ones, which may
/// retire further segments (those that share a range because their rows were split by time, too), until
/// nothing changes. So the kept segments hold exactly the offsets before `next`, and none twice.
pub fn plan_rewind<Id: Clone>(segments: &[Provenance<Id>], wish: &Checkpoint) -> Rewind<Id> {
    let mut next = wish.clone();
    let mut retired = vec![false; segments.len()];
    loop {
        let mut changed = false;
        for (segment, gone) in segments.iter().zip(&mut retired) {
            let reaches = |(p, r): &(i32, OffsetRange)| next.next_offset(*p).is_some_and(|n| r.next > n);
            if *gone || !segment.ranges.iter().any(reaches) {
                continue;
            }
            *gone = true;
            changed = true;
            for (partition, range) in &segment.ranges {
                let now = next.next_offset(*partition);
                next.set(*partition, now.map_or(range.first, |n| n.min(range.first)));
            }
        }
        if !changed {
            break;
        }
    }
    let retire = segments.iter().zip(&retired).filter(|(_, gone)| **gone).map(|(s, _)| s.segment.clone()).collect();
    Rewind { retire, next }
}

/// The smallest next offsets, none below `wish`, that split no segment: for going back to the oldest
/// message that is still there, where a segment that began before it cannot be read again whole.
pub fn keep_straddling<Id>(segments: &[Provenance<Id>], wish: &Checkpoint) -> Checkpoint {
    let mut next = wish.clone();
    loop {
        let mut changed = false;
        for segment in segments {
            let lost = |(p, r): &(i32, OffsetRange)| next.next_offset(*p).is_some_and(|n| r.first < n);
            if !segment.ranges.iter().any(lost) {
                continue;
            }
            for (partition, range) in &segment.ranges {
                if next.next_offset(*partition).is_some_and(|n| n < range.next) {
                    next.set(*partition, range.next);
                    changed = true;
                }
            }
        }
        if !changed {
            return next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(segment: u32, ranges: &[(i32, i64, i64)]) -> Provenance<u32> {
        let ranges = ranges.iter().map(|&(p, f, n)| (p, OffsetRange::new(f, n))).collect();
        Provenance { segment, ranges }
    }

    #[test]
    fn a_delta_continues_where_it_ended() {
        let mut delta = Delta::default();
        delta.extend(0, 10, 12).unwrap();
        delta.extend(0, 12, 20).unwrap();
        assert!(matches!(delta.extend(0, 19, 25), Err(Error::Overlap { partition: 0, first: 19, next: 25 })));
        assert!(delta.extend(0, 21, 25).is_err());
        let mut checkpoint = Checkpoint::new([(0, 10), (1, 5)]);
        checkpoint.apply(&delta).unwrap();
        assert_eq!(checkpoint, Checkpoint::new([(0, 20), (1, 5)]));
        assert!(checkpoint.apply(&delta).is_err(), "the same delta twice is an overlap");
        assert_eq!(checkpoint, Checkpoint::new([(0, 20), (1, 5)]));
    }

    #[test]
    fn a_rewind_retires_whole_segments_and_all_that_shares_their_offsets() {
        let segments = [
            held(1, &[(0, 0, 100)]),
            held(2, &[(0, 100, 200), (1, 0, 50)]),
            held(3, &[(1, 50, 80)]),
            held(4, &[(0, 100, 200), (1, 0, 50)]), // the other half of 2, split by time
        ];
        let rewind = plan_rewind(&segments, &Checkpoint::new([(0, 150)]));
        assert_eq!(rewind.retire, [2, 3, 4]);
        assert_eq!(rewind.next, Checkpoint::new([(0, 100), (1, 0)]));
        let nothing = plan_rewind(&segments, &Checkpoint::new([(0, 200)]));
        assert!(nothing.retire.is_empty());
    }

    #[test]
    fn what_cannot_be_read_again_whole_is_kept() {
        let segments = [held(1, &[(0, 0, 100), (1, 0, 10)]), held(2, &[(0, 100, 200), (1, 10, 30)])];
        let next = keep_straddling(&segments, &Checkpoint::new([(0, 60), (1, 0)]));
        assert_eq!(next, Checkpoint::new([(0, 100), (1, 10)]));
        assert_eq!(plan_rewind(&segments, &next).retire, [2]);
    }
}
