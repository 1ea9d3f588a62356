//! Time intervals and sets of them. Times are microseconds since 2000-01-01 00:00 UTC, PostgreSQL's
//! own count; `i64::MIN` and `i64::MAX` are its -infinity and infinity.

use serde::{Deserialize, Serialize};

/// Half-open `[start, end)`. Empty if `start >= end`, except that `end == i64::MAX` means
/// unbounded: such an interval also holds infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimeInterval {
    pub start: i64,
    pub end: i64,
}

impl TimeInterval {
    pub const ALL: TimeInterval = TimeInterval { start: i64::MIN, end: i64::MAX };

    pub fn new(start: i64, end: i64) -> Self {
        TimeInterval { start, end }
    }

    pub fn is_empty(&self) -> bool {
        self.start >= self.end && !(self.start == i64::MAX && self.end == i64::MAX)
    }

    pub fn contains(&self, time: i64) -> bool {
        time >= self.start && (time < self.end || self.end == i64::MAX)
    }

    pub fn overlaps(&self, other: &TimeInterval) -> bool {
        !self.intersection(other).is_empty()
    }

    pub fn intersection(&self, other: &TimeInterval) -> TimeInterval {
        TimeInterval { start: self.start.max(other.start), end: self.end.min(other.end) }
    }
}

/// A set of times: disjoint, non-adjacent, non-empty intervals in ascending order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeRanges(Vec<TimeInterval>);

impl TimeRanges {
    pub fn empty() -> Self {
        TimeRanges(Vec::new())
    }

    pub fn all() -> Self {
        TimeRanges(vec![TimeInterval::ALL])
    }

    /// Sorts, drops empty ones, joins those that touch.
    pub fn new(mut intervals: Vec<TimeInterval>) -> Self {
        intervals.retain(|i| !i.is_empty());
        intervals.sort_unstable();
        let mut joined: Vec<TimeInterval> = Vec::with_capacity(intervals.len());
        for next in intervals {
            match joined.last_mut() {
                Some(last) if next.start <= last.end => last.end = last.end.max(next.end),
                _ => joined.push(next),
            }
        }
        TimeRanges(joined)
    }

    pub fn intervals(&self) -> &[TimeInterval] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, time: i64) -> bool {
        let after = self.0.partition_point(|i| i.start <= time);
        after > 0 && self.0[after - 1].contains(time)
    }

    /// Whether every time from `min` to `max`, both inclusive, is in the set.
    pub fn covers(&self, min: i64, max: i64) -> bool {
        let after = self.0.partition_point(|i| i.start <= min);
        after > 0 && self.0[after - 1].contains(min) && self.0[after - 1].contains(max)
    }

    pub fn overlaps(&self, other: &TimeInterval) -> bool {
        self.0.iter().any(|i| i.overlaps(other))
    }

    pub fn intersection(&self, other: &TimeInterval) -> TimeRanges {
        TimeRanges::new(self.0.iter().map(|i| i.intersection(other)).collect())
    }

    /// The set without `cut`.
    pub fn subtract(&self, cut: &TimeInterval) -> TimeRanges {
        let mut rest = Vec::new();
        for i in &self.0 {
            rest.push(TimeInterval::new(i.start, i.end.min(cut.start)));
            if cut.end != i64::MAX {
                rest.push(TimeInterval::new(i.start.max(cut.end), i.end));
            }
        }
        TimeRanges::new(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(i64, i64)]) -> TimeRanges {
        TimeRanges::new(pairs.iter().map(|&(s, e)| TimeInterval::new(s, e)).collect())
    }

    #[test]
    fn sets_are_normalized() {
        assert_eq!(set(&[(5, 9), (1, 3), (3, 5), (7, 7)]), set(&[(1, 9)]));
    }

    #[test]
    fn subtract_clips_in_the_middle_and_at_the_ends() {
        let all = set(&[(0, 10), (20, 30)]);
        assert_eq!(all.subtract(&TimeInterval::new(5, 25)), set(&[(0, 5), (25, 30)]));
        assert_eq!(all.subtract(&TimeInterval::ALL), TimeRanges::empty());
        let to_end = TimeInterval::new(8, i64::MAX);
        assert_eq!(TimeRanges::all().subtract(&to_end), set(&[(i64::MIN, 8)]));
    }

    #[test]
    fn membership_follows_the_interval_ends() {
        let ranges = set(&[(0, 10), (20, 30)]);
        assert!(ranges.contains(0) && !ranges.contains(10) && ranges.contains(29));
        assert!(ranges.covers(0, 9) && !ranges.covers(0, 10) && !ranges.covers(5, 25));
        assert!(TimeRanges::all().contains(i64::MAX) && TimeRanges::all().contains(i64::MIN));
    }
}
