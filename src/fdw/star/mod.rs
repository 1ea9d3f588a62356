//! Queries over a datasource that is joined with dimensions, each looked up by keys: found in the query's join tree, which says
//! what was written; what the planner made of it, restrictions of single relations and their paths, is taken from its relations.

mod keys;
mod link;
mod unique;

use pgrx::pg_sys;

pub use self::keys::Keys;
pub use self::link::Found;
use super::plan::{self, RelationState};
use crate::pg::node::{self, Node};
use crate::pg::{list, lookup};
use crate::translate::shippable::Reason;
use crate::translate::template::Join;

/// A query's FROM and WHERE around a datasource.
pub struct Tree<'p> {
    /// Range table index of the datasource.
    fact: u32,
    /// What it is joined to, up to an outer join that keeps rows which nothing of this is joined to.
    part: Part<'p>,
    kept: Option<Kept<'p>>,
}

/// Relations that are joined to each other.
#[derive(Default)]
struct Part<'p> {
    /// Those whose rows all others are joined to, or that are joined without outer joins.
    inner: Vec<u32>,
    /// What selects among their rows and those joined to them.
    clauses: Vec<Node<'p>>,
    outer: Vec<Outer<'p>>,
}

/// What is joined by an outer join, a semi-join or an anti-join.
struct Outer<'p> {
    join: Join,
    relations: Vec<u32>,
    clauses: Vec<Node<'p>>,
}

/// The outer join above the datasource's part.
struct Kept<'p> {
    /// Right or full, seen from the datasource.
    join: Join,
    clauses: Vec<Node<'p>>,
    /// Its other side, and what is joined to the two.
    above: Part<'p>,
}

/// Part of a tree while it is read.
struct Reader<'p> {
    root: *mut pg_sys::PlannerInfo,
    fact: u32,
    part: Part<'p>,
    below: Option<(Part<'p>, Join, Vec<Node<'p>>)>,
}

impl<'p> Tree<'p> {
    /// # Safety
    /// `root` is the planner's, and has planned scans; `fact` is one of its relations.
    pub unsafe fn new(root: *mut pg_sys::PlannerInfo, fact: u32) -> Result<Tree<'p>, Reason> {
        let mut reader = Reader { root, fact, part: Part::default(), below: None };
        // SAFETY: the caller's contract.
        unsafe {
            reader.add((*(*root).parse).jointree.cast())?;
        }
        let Reader { part, below, .. } = reader;
        let tree = match below {
            None => Tree { fact, part, kept: None },
            Some((below, join, clauses)) => Tree { fact, part: below, kept: Some(Kept { join, clauses, above: part }) },
        };
        if !tree.part.inner.contains(&fact) {
            return Err("the datasource is on the inner side of an outer join, a semi-join or an anti-join".into());
        }
        Ok(tree)
    }

    /// Whether an outer join keeps rows of which the datasource has none.
    pub fn keeps_rows(&self) -> bool {
        self.kept.is_some()
    }
}

impl<'p> Reader<'p> {
    /// # Safety
    /// The planner's own structures are given, while it plans.
    unsafe fn add(&mut self, item: *mut pg_sys::Node) -> Result<(), Reason> {
        use pg_sys::JoinType::*;
        use pg_sys::NodeTag::*;
        // SAFETY: nodes of a join tree are of these three kinds; qualifications are lists by now.
        unsafe {
            if item.is_null() {
                return Ok(());
            }
            match (*item).type_ {
                T_RangeTblRef => self.part.inner.extend(relation_of(self.root, item)),
                T_FromExpr => {
                    let from = item.cast::<pg_sys::FromExpr>();
                    for child in list::pointers::<pg_sys::Node>((*from).fromlist) {
                        self.add(child)?;
                    }
                    self.part.clauses.extend(node::list::<'p>((*from).quals.cast()));
                }
                T_JoinExpr => {
                    let join = item.cast::<pg_sys::JoinExpr>();
                    let (left, right) = ((*join).larg, (*join).rarg);
                    let clauses = node::list::<'p>((*join).quals.cast());
                    let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
                    leaves(self.root, left, &mut of_left)?;
                    leaves(self.root, right, &mut of_right)?;
                    let kind = match (*join).jointype {
                        JOIN_INNER => {
                            self.add(left)?;
                            self.add(right)?;
                            self.part.clauses.extend(clauses);
                            return Ok(());
                        }
                        JOIN_LEFT if of_right.contains(&self.fact) => {
                            return self.keep(right, left, Join::Right, clauses);
                        }
                        JOIN_FULL if of_right.contains(&self.fact) => {
                            return self.keep(right, left, Join::Full, clauses);
                        }
                        JOIN_FULL if of_left.contains(&self.fact) => {
                            return self.keep(left, right, Join::Full, clauses);
                        }
                        JOIN_LEFT => Join::Left,
                        JOIN_SEMI => Join::Semi,
                        JOIN_ANTI => Join::Anti,
                        _ => return Err("it is over a full join of other relations".into()),
                    };
                    self.add(left)?;
                    // Joins that cannot matter were removed.
                    if kind == Join::Left && of_right.iter().all(|r| is_dead(self.root, *r)) {
                        return Ok(());
                    }
                    self.part.outer.push(Outer { join: kind, relations: of_right, clauses });
                }
                _ => return Err("its FROM is not understood".into()),
            }
        }
        Ok(())
    }

    /// Takes what was read so far for what is above an outer join of `below`, which has the datasource, and `above`, of which all rows show.
    ///
    /// # Safety
    /// As [`Reader::add`].
    unsafe fn keep(
        &mut self,
        below: *mut pg_sys::Node,
        above: *mut pg_sys::Node,
        join: Join,
        clauses: Vec<Node<'p>>,
    ) -> Result<(), Reason> {
        let before = std::mem::take(&mut self.part);
        // SAFETY: the caller's contract.
        unsafe {
            self.add(below)?;
            if self.below.is_some() {
                return Err("two outer joins keep rows of which the datasource has none".into());
            }
            let part = std::mem::take(&mut self.part);
            self.below = Some((part, join, clauses));
            if join == Join::Right {
                self.part = before;
                return self.add(above);
            }
            // Conditions within the other side of a full join are not those above it.
            self.add(above)?;
            let side = std::mem::replace(&mut self.part, before);
            let [one] = side.inner.as_slice() else {
                return Err("it is over a full join of more than two relations".into());
            };
            let scanned = |clause: &Node<'p>| relations_of(self.root, *clause) == side.inner;
            if !side.outer.is_empty() || !side.clauses.iter().all(scanned) {
                return Err("it is over a full join of more than two relations".into());
            }
            self.part.inner.push(*one);
            Ok(())
        }
    }
}

/// Whether an expression has a part that an outer join between it and its table may make NULL.
fn has_placeholder(node: Node<'_>) -> bool {
    node.any(&mut |n| n.tag() == pg_sys::NodeTag::T_PlaceHolderVar)
}

/// Whether row security or a security barrier may hide rows of a relation: what may fail must not see them.
///
/// # Safety
/// The planner's own structures are given, while it plans.
unsafe fn hides_rows(root: *mut pg_sys::PlannerInfo, relation: u32) -> bool {
    // SAFETY: the planner's own structures.
    unsafe {
        let of = *(*root).simple_rel_array.add(relation as usize);
        list::pointers::<pg_sys::RestrictInfo>((*of).baserestrictinfo)
            .into_iter()
            .any(|clause| (*clause).security_level < (*root).qual_security_level)
    }
}

/// Whether a query is, or is within, a step of WITH RECURSIVE: what is read once must not come from the rows of the step before.
///
/// # Safety
/// `root` is the planner's.
unsafe fn is_recursive(root: *mut pg_sys::PlannerInfo) -> bool {
    let mut at = root;
    // SAFETY: parents live as long as their children.
    unsafe {
        while !at.is_null() {
            if (*at).wt_param_id >= 0 {
                return true;
            }
            at = (*at).parent_root;
        }
    }
    false
}

/// The relation that a leaf of a join tree is; `None`: it has one row without columns.
///
/// # Safety
/// The planner's own structures are given, while it plans.
unsafe fn relation_of(root: *mut pg_sys::PlannerInfo, item: *mut pg_sys::Node) -> Option<u32> {
    // SAFETY: a RangeTblRef of the planner's.
    unsafe {
        let relation = (*item.cast::<pg_sys::RangeTblRef>()).rtindex;
        let entry = *(*root).simple_rte_array.add(relation as usize);
        ((*entry).rtekind != pg_sys::RTEKind::RTE_RESULT).then_some(relation as u32)
    }
}

/// The relations below an item of a join tree.
///
/// # Safety
/// The planner's own structures are given, while it plans.
unsafe fn leaves(root: *mut pg_sys::PlannerInfo, item: *mut pg_sys::Node, found: &mut Vec<u32>) -> Result<(), Reason> {
    use pg_sys::NodeTag::*;
    // SAFETY: as in `Tree::add`.
    unsafe {
        if item.is_null() {
            return Ok(());
        }
        match (*item).type_ {
            T_RangeTblRef => found.extend(relation_of(root, item)),
            T_FromExpr => {
                for child in list::pointers::<pg_sys::Node>((*item.cast::<pg_sys::FromExpr>()).fromlist) {
                    leaves(root, child, found)?;
                }
            }
            T_JoinExpr => {
                leaves(root, (*item.cast::<pg_sys::JoinExpr>()).larg, found)?;
                leaves(root, (*item.cast::<pg_sys::JoinExpr>()).rarg, found)?;
            }
            _ => return Err("its FROM is not understood".into()),
        }
        Ok(())
    }
}

/// # Safety
/// The planner's own structures are given, while it plans.
unsafe fn is_dead(root: *mut pg_sys::PlannerInfo, relation: u32) -> bool {
    // SAFETY: the planner's own structures.
    unsafe {
        let of = *(*root).simple_rel_array.add(relation as usize);
        of.is_null() || (*of).reloptkind == pg_sys::RelOptKind::RELOPT_DEADREL
    }
}

/// # Safety
/// The planner's own structures are given, while it plans.
unsafe fn relations_of(root: *mut pg_sys::PlannerInfo, node: Node<'_>) -> Vec<u32> {
    // SAFETY: the planner's own structures.
    unsafe { list_of(pg_sys::pull_varnos(root, node.as_ptr())) }
}

/// The members of a set of range table indexes.
///
/// # Safety
/// The planner's own structures are given, while it plans.
pub unsafe fn list_of(set: *const pg_sys::Bitmapset) -> Vec<u32> {
    let (mut members, mut last) = (Vec::new(), -1);
    loop {
        // SAFETY: a set of the planner's, or null.
        last = unsafe { pg_sys::bms_next_member(set, last) };
        if last < 0 {
            return members;
        }
        members.push(last as u32);
    }
}

/// The name by which the query calls a relation.
///
/// # Safety
/// The planner's own structures are given, while it plans.
unsafe fn relation_name(root: *mut pg_sys::PlannerInfo, relation: u32) -> String {
    // SAFETY: range table entries have names.
    unsafe {
        let entry = *(*root).simple_rte_array.add(relation as usize);
        lookup::text((*(*entry).eref).aliasname).unwrap_or_default()
    }
}

/// The datasources among relations that may be the one whose rows are aggregated, the largest first.
///
/// # Safety
/// `root` is the planner's.
pub unsafe fn datasources<'a>(
    root: *mut pg_sys::PlannerInfo,
    relations: &[u32],
) -> Vec<(*mut pg_sys::RelOptInfo, &'a RelationState)> {
    let mut found = Vec::new();
    for relation in relations {
        // SAFETY: the planner's own structures.
        unsafe {
            let of = *(*root).simple_rel_array.add(*relation as usize);
            if of.is_null() || !plan::is_ours(of) {
                continue;
            }
            if let Some(state) = RelationState::of(of) {
                found.push((of, state));
            }
        }
    }
    found.sort_by_key(|(_, state)| std::cmp::Reverse(state.rows()));
    found
}
