//! Grouping sets: each is computed from one that groups finer, as far as there is one; only the finest read segments.

use basalt_engine::exec::{AggregateExecution, AggregateResult, ResultColumn};
use basalt_engine::plan::Top;
use basalt_engine::types::Value;

use crate::error::{Error, Result};
use crate::translate::host::PgHost;

/// Which sets are computed from which.
pub struct Layout {
    /// Sets that are part of no other, as positions in the query's keys.
    pub roots: Vec<Vec<usize>>,
    /// Those computed from each root, it among them, finer ones first.
    members: Vec<Vec<Vec<usize>>>,
}

/// A range of groups that are of one set.
pub struct Span {
    /// Positions in the query's keys, ascending.
    pub set: Vec<usize>,
    pub root: usize,
    pub groups: std::ops::Range<usize>,
}

/// The groups of all sets, one after the other. Keys that are not in a group's set are NULL.
pub struct Combined {
    pub result: AggregateResult,
    pub spans: Vec<Span>,
}

fn within(inner: &[usize], outer: &[usize]) -> bool {
    inner.iter().all(|key| outer.contains(key))
}

impl Layout {
    pub fn new(sets: &[Vec<usize>]) -> Layout {
        let mut ordered: Vec<Vec<usize>> = sets.to_vec();
        ordered.sort_by_key(|set| std::cmp::Reverse(set.len()));
        let mut layout = Layout { roots: Vec::new(), members: Vec::new() };
        for set in ordered {
            match layout.roots.iter().position(|root| within(&set, root)) {
                Some(root) => layout.members[root].push(set),
                None => {
                    layout.roots.push(set.clone());
                    layout.members.push(vec![set]);
                }
            }
        }
        layout
    }

    /// Whether there is one set only.
    pub fn is_single(&self) -> bool {
        matches!(self.members.as_slice(), [members] if members.len() == 1)
    }

    /// Groups of the only set. `keys`: how many keys the query has.
    pub fn single(&self, result: AggregateResult, keys: usize) -> Result<Combined> {
        let set = self.roots.first().ok_or_else(malformed)?;
        let mut combined = Combined {
            result: AggregateResult { groups: 0, keys: Vec::new(), aggregates: Vec::new() },
            spans: vec![Span { set: set.clone(), root: 0, groups: 0..result.groups }],
        };
        append(&mut combined.result, result, set, keys);
        Ok(combined)
    }

    /// Finishes `executions`, one a root. `keys`: how many keys the query has; `top`: the groups that are wanted, of a query without sets.
    pub fn finish(
        &self,
        executions: Vec<AggregateExecution>,
        keys: usize,
        top: Option<&Top>,
        host: &mut PgHost,
    ) -> Result<Combined> {
        let mut combined = Combined {
            result: AggregateResult { groups: 0, keys: Vec::new(), aggregates: Vec::new() },
            spans: Vec::new(),
        };
        for (root, execution) in executions.into_iter().enumerate() {
            let mut known: Vec<(&[usize], AggregateExecution)> = vec![(&self.roots[root], execution)];
            for set in &self.members[root][1..] {
                // The last that holds it is the coarsest.
                let (from, finer) =
                    known.iter_mut().rev().find(|(known, _)| within(set, known)).ok_or_else(malformed)?;
                let keep: Vec<usize> = set.iter().filter_map(|key| from.iter().position(|k| k == key)).collect();
                let coarser = finer.coarser(&keep, host);
                known.push((set, host.conclude(coarser)?));
            }
            for (set, execution) in known {
                let result = execution.finish_top(top, host);
                let result = host.conclude(result)?;
                let start = combined.result.groups;
                append(&mut combined.result, result, set, keys);
                let groups = start..combined.result.groups;
                combined.spans.push(Span { set: set.to_vec(), root, groups });
            }
        }
        Ok(combined)
    }
}

fn append(all: &mut AggregateResult, mut result: AggregateResult, set: &[usize], keys: usize) {
    let empty = || ResultColumn { values: Vec::new(), counts: Vec::new() };
    all.keys.resize_with(keys, empty);
    all.aggregates.resize_with(result.aggregates.len(), empty);
    all.groups += result.groups;
    for (key, column) in all.keys.iter_mut().enumerate() {
        match set.iter().position(|k| *k == key).and_then(|at| result.keys.get_mut(at)) {
            Some(from) if column.values.is_empty() => column.values = std::mem::take(&mut from.values),
            Some(from) => column.values.append(&mut from.values),
            None => column.values.resize(all.groups, Value::Null),
        }
    }
    for (column, mut from) in all.aggregates.iter_mut().zip(result.aggregates) {
        column.values.append(&mut from.values);
        column.counts.append(&mut from.counts);
    }
}

fn malformed() -> Error {
    basalt_engine::Error::invalid("grouping sets without a finest").into()
}
