//! Which small segments to merge before hand-off: size-tiered, so that each row is rewritten once a tier.

use std::collections::BTreeMap;

/// A visible segment that may be merged. Segments of different groups never meet in one.
#[derive(Clone, Debug)]
pub struct Candidate<Id, Group> {
    pub id: Id,
    pub group: Group,
    pub rows: u64,
    /// Publishing order: the oldest are merged first.
    pub order: i64,
}

#[derive(Clone, Copy, Debug)]
pub struct MergePolicy {
    /// Segments of up to so many rows are tier 0; each further tier is `fan_in` times larger.
    pub base_rows: u64,
    /// Segments of one tier that make a merge.
    pub fan_in: usize,
    /// Segments one merge takes at most.
    pub max_fan_in: usize,
    /// No merge makes a larger segment.
    pub max_rows: u64,
}

impl Default for MergePolicy {
    fn default() -> Self {
        MergePolicy { base_rows: 20_000, fan_in: 8, max_fan_in: 64, max_rows: 5_000_000 }
    }
}

impl MergePolicy {
    pub fn tier(&self, rows: u64) -> u32 {
        let mut tier = 0;
        let mut limit = self.base_rows.max(1);
        while rows > limit {
            limit = limit.saturating_mul(self.fan_in.max(2) as u64);
            tier += 1;
        }
        tier
    }

    /// At most one merge a group, of one tier, the lowest first; each is in publishing order.
    pub fn choose<Id: Clone, Group: Ord + Clone>(&self, candidates: &[Candidate<Id, Group>]) -> Vec<Vec<Id>> {
        let mut groups: BTreeMap<(Group, u32), Vec<&Candidate<Id, Group>>> = BTreeMap::new();
        for candidate in candidates {
            groups.entry((candidate.group.clone(), self.tier(candidate.rows))).or_default().push(candidate);
        }
        let mut merges: BTreeMap<Group, Vec<Id>> = BTreeMap::new();
        for ((group, _), mut members) in groups {
            members.sort_by_key(|c| c.order);
            let mut rows = 0;
            let taken: Vec<Id> = members
                .iter()
                .take(self.max_fan_in)
                .take_while(|c| {
                    rows += c.rows;
                    rows <= self.max_rows
                })
                .map(|c| c.id.clone())
                .collect();
            if taken.len() >= self.fan_in {
                merges.entry(group).or_insert(taken);
            }
        }
        merges.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> MergePolicy {
        MergePolicy { base_rows: 100, fan_in: 4, max_fan_in: 6, max_rows: 10_000 }
    }

    fn candidates(rows: &[u64]) -> Vec<Candidate<usize, u8>> {
        rows.iter().enumerate().map(|(id, r)| Candidate { id, group: 0, rows: *r, order: id as i64 }).collect()
    }

    #[test]
    fn equal_neighbours_merge_once_there_are_enough() {
        assert!(policy().choose(&candidates(&[10, 10, 10])).is_empty());
        assert_eq!(policy().choose(&candidates(&[10, 10, 10, 10])), [vec![0, 1, 2, 3]]);
        assert_eq!(policy().choose(&candidates(&[10; 9])), [vec![0, 1, 2, 3, 4, 5]]);
    }

    #[test]
    fn tiers_do_not_mix_and_have_an_end() {
        assert_eq!(policy().choose(&candidates(&[400, 10, 10, 400, 10, 10])), [vec![1, 2, 4, 5]]);
        assert!(policy().choose(&candidates(&[10, 10, 400, 400, 10])).is_empty());
        assert_eq!(policy().choose(&candidates(&[400, 400, 10, 400, 400])), [vec![0, 1, 3, 4]]);
        assert!(policy().choose(&candidates(&[20_000; 8])).is_empty(), "already as large as they may be");
    }

    #[test]
    fn groups_do_not_mix() {
        let mut all = candidates(&[10; 8]);
        for c in &mut all {
            c.group = (c.id % 2) as u8;
        }
        assert_eq!(policy().choose(&all), [vec![0, 2, 4, 6], vec![1, 3, 5, 7]]);
    }

    /// A steady stream settles at a bounded number of segments, and each row is rewritten seldom.
    #[test]
    fn a_stream_keeps_few_segments() {
        let policy = policy();
        let mut segments: Vec<Candidate<usize, u8>> = Vec::new();
        let (mut rewritten, mut most) = (0u64, 0);
        for id in 0..2000 {
            segments.push(Candidate { id, group: 0, rows: 50, order: id as i64 });
            while let Some(merge) = policy.choose(&segments).pop() {
                let first = segments.iter().position(|s| s.id == merge[0]).unwrap();
                let taken: Vec<_> = segments.splice(first..first + merge.len(), []).collect();
                assert_eq!(taken.iter().map(|s| s.id).collect::<Vec<_>>(), merge);
                let rows = taken.iter().map(|s| s.rows).sum();
                assert!(rows <= policy.max_rows);
                rewritten += rows;
                segments.insert(first, Candidate { rows, ..taken[0].clone() });
            }
            most = most.max(segments.len());
        }
        assert_eq!(segments.iter().map(|s| s.rows).sum::<u64>(), 100_000);
        assert!(most <= 45, "{most} segments");
        assert!(rewritten <= 6 * 100_000, "{rewritten} rows rewritten");
    }
}
