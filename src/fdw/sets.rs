//! GROUPING SETS: sets that are part of another one are computed from its groups; only the others read segments. Groups of a set come
//! part by part where memory does not hold them all.

use std::cell::RefCell;
use std::rc::Rc;

use basalt_engine::exec::{
    AggregateExecution, AggregateResult, DerivedKeys, Joint, JointPart, Other, ResultColumn, Values,
};
use basalt_engine::plan::Top;

use super::temporary::Files;
use crate::error::{Error, Result};
use crate::translate::host::PgHost;

/// Which sets read segments.
pub struct Layout {
    /// Sets that are part of no other, as positions in the query's keys.
    pub roots: Vec<Vec<usize>>,
    /// By root: the sets computed from it, it among them, finer ones first.
    members: Vec<Vec<Vec<usize>>>,
}

/// Finished groups of all sets, one set after the other.
pub struct Sets {
    stages: Vec<Stage>,
    at: usize,
    /// How many keys the query has.
    keys: usize,
    derived: Option<DerivedKeys>,
    files: Files,
}

struct Stage {
    set: Vec<usize>,
    joint: Rc<RefCell<Joint>>,
    /// The only part, if the set has no more.
    whole: Option<Rc<Part>>,
}

/// Groups of one set. Keys that are not in the set are NULL.
pub struct Part {
    pub result: AggregateResult,
    /// Positions in the query's keys, ascending.
    pub set: Vec<usize>,
    /// What the set's further executions found for these groups, and where more of it comes from.
    pub others: Vec<RefCell<Other>>,
    pub joint: Rc<RefCell<Joint>>,
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

    /// Finishes `executions`: of each root those that are grouped by its keys, first by them alone. `keys`: how many keys the query has; `top`: the
    /// groups that are wanted, of a query without sets; `derived`: keys that its execution left out.
    pub fn finish(
        &self,
        executions: Vec<Vec<AggregateExecution>>,
        keys: usize,
        top: Option<Top>,
        derived: Option<DerivedKeys>,
        mut files: Files,
        host: &mut PgHost,
    ) -> Result<Sets> {
        let mut stages = Vec::new();
        for (root, executions) in executions.into_iter().enumerate() {
            let mut known: Vec<(&[usize], Vec<AggregateExecution>)> = vec![(&self.roots[root], executions)];
            for set in &self.members[root][1..] {
                // The last that holds it is the coarsest.
                let (from, finer) =
                    known.iter_mut().rev().find(|(known, _)| within(set, known)).ok_or_else(malformed)?;
                let kept: Vec<usize> = set.iter().filter_map(|key| from.iter().position(|k| k == key)).collect();
                let mut made = Vec::with_capacity(finer.len());
                for execution in finer {
                    let own = from.len()..execution.keys();
                    let keep: Vec<usize> = kept.iter().copied().chain(own).collect();
                    let coarser = execution.coarser(&keep, Some((files.add(), set.len())), host);
                    let coarser = coarser.and_then(|mut coarser| coarser.rest(host).map(|()| coarser));
                    files.conclude();
                    made.push(host.conclude(coarser)?);
                }
                known.push((set, made));
            }
            for (set, executions) in known {
                let joint = Joint::new(executions, top.clone(), host);
                files.conclude();
                let joint = Rc::new(RefCell::new(host.conclude(joint)?));
                stages.push(Stage { set: set.to_vec(), joint, whole: None });
            }
        }
        Ok(Sets { stages, at: 0, keys, derived, files })
    }
}

impl Sets {
    /// The next groups; `None` after the last.
    pub fn next(&mut self, host: &mut PgHost) -> Result<Option<Rc<Part>>> {
        while let Some(stage) = self.stages.get_mut(self.at) {
            if let Some(whole) = &stage.whole {
                self.at += 1;
                return Ok(Some(whole.clone()));
            }
            let part = stage.joint.borrow_mut().next(host);
            self.files.conclude();
            let Some(JointPart { groups, others }) = host.conclude(part)? else {
                self.at += 1;
                continue;
            };
            let groups = match &self.derived {
                Some(derived) => derived.expand(groups),
                None => groups,
            };
            let part = Rc::new(Part {
                result: spread(groups, &stage.set, self.keys),
                set: stage.set.clone(),
                others: others.into_iter().map(RefCell::new).collect(),
                joint: stage.joint.clone(),
            });
            if !stage.joint.borrow().is_spilled() {
                stage.whole = Some(part.clone());
                self.at += 1;
            }
            return Ok(Some(part));
        }
        Ok(None)
    }

    /// Lets all groups come again.
    pub fn rewind(&mut self) {
        self.at = 0;
        self.stages.iter_mut().for_each(|stage| stage.joint.borrow_mut().rewind());
    }

    pub fn end(self) {
        self.files.close();
    }
}

/// A set's groups with a column for each of the query's keys.
fn spread(mut result: AggregateResult, set: &[usize], keys: usize) -> AggregateResult {
    let groups = result.groups;
    let mut columns: Vec<Option<ResultColumn>> = (0..keys).map(|_| None).collect();
    for (column, key) in std::mem::take(&mut result.keys).into_iter().zip(set) {
        if let Some(slot) = columns.get_mut(*key) {
            *slot = Some(column);
        }
    }
    let empty = || ResultColumn { values: Values::nulls(groups), counts: Vec::new() };
    result.keys = columns.into_iter().map(|column| column.unwrap_or_else(empty)).collect();
    result
}

fn malformed() -> Error {
    basalt_engine::Error::invalid("grouping sets without a finest").into()
}
