//! Making dimensions of the relations around a datasource.

use pgrx::pg_sys;

use super::unique::{fit, is_unique};
use super::{Kept, Outer, Part, Tree, has_placeholder, hides_rows, list_of, relation_name, relations_of};
use crate::pg::lookup;
use crate::pg::node::{Node, View};
use crate::translate::builder::Builder;
use crate::translate::dimension::{KeyClause, NewJoin};
use crate::translate::infallible::never_fails;
use crate::translate::shippable::Reason;
use crate::translate::template::{FilterTemplate, Join, KeptTemplate};

/// A relation that was found to be a dimension.
pub struct Found {
    pub relation: *mut pg_sys::RelOptInfo,
}

/// What a tree became.
pub struct Linked {
    /// What filters beyond the restrictions of single relations.
    pub filters: Vec<FilterTemplate>,
    /// An outer join that keeps the other side's rows, and what filters below it, without the restrictions of the datasource itself.
    pub kept: Option<(KeptTemplate, Vec<FilterTemplate>)>,
    /// The dimensions' relations in the builder's order.
    pub found: Vec<Found>,
}

impl<'p> Tree<'p> {
    /// Makes all other relations dimensions of `builder`'s. Errors: why that is impossible.
    ///
    /// # Safety
    /// `root` is the planner's; the builder's relation is the tree's datasource.
    pub unsafe fn link(&self, root: *mut pg_sys::PlannerInfo, builder: &mut Builder<'p, '_>) -> Result<Linked, Reason> {
        // SAFETY: the caller's contract.
        unsafe {
            let secure = hides_rows(root, self.fact);
            let mut linker = Linker {
                root,
                builder,
                linked: vec![self.fact],
                found: Vec::new(),
                secure,
                below: self.kept.is_some(),
                reason: None,
            };
            let rest = linker.part(&self.part)?;
            let mut filters = linker.filters(&rest, &self.part.inner)?;
            let mut kept = None;
            if let Some(Kept { join, clauses, above }) = &self.kept {
                linker.below = false;
                let (template, conditions) = linker.keep(*join, clauses, above, &self.part.inner)?;
                let side = linker.linked.last().copied();
                let rest = linker.part(above)?;
                // A full join may make the kept side NULL, too.
                let scanned: Vec<u32> =
                    above.inner.iter().copied().filter(|r| *join != Join::Full || Some(*r) != side).collect();
                let above = linker.filters(&rest, &scanned)?;
                filters.extend(linker.filters(&conditions, &[])?);
                kept = Some((template, std::mem::replace(&mut filters, above)));
            }
            Ok(Linked { filters, kept, found: linker.found })
        }
    }
}

struct Linker<'b, 'p, 'd> {
    root: *mut pg_sys::PlannerInfo,
    builder: &'b mut Builder<'p, 'd>,
    /// Range table indexes of the datasource and of dimensions whose columns may be used.
    linked: Vec<u32>,
    found: Vec<Found>,
    /// Whether the datasource has rows that are hidden: its columns' expressions that may fail must not see them.
    secure: bool,
    /// Below an outer join that keeps the other side's rows.
    below: bool,
    /// Why the last relation was not linked.
    reason: Option<Reason>,
}

/// An equality of something known with something of the relation to be joined.
#[derive(Clone, Copy)]
struct Sides<'p> {
    clause: Node<'p>,
    operator: pg_sys::Oid,
    collation: pg_sys::Oid,
    outer: Node<'p>,
    key: Node<'p>,
}

impl<'p> Linker<'_, 'p, '_> {
    /// Links all relations of a part but those that are; returns clauses that are no joins.
    ///
    /// # Safety
    /// The planner's own structures are given, while it plans.
    unsafe fn part(&mut self, part: &Part<'p>) -> Result<Vec<Node<'p>>, Reason> {
        let mut clauses = part.clauses.clone();
        let mut inner: Vec<u32> = part.inner.iter().copied().filter(|r| !self.linked.contains(r)).collect();
        let mut outer: Vec<&Outer<'p>> = part.outer.iter().collect();
        loop {
            let before = inner.len() + outer.len();
            // SAFETY: the caller's contract.
            unsafe {
                inner.retain(|relation| !self.link_inner(*relation, &mut clauses));
                outer.retain(|outer| !self.link_outer(outer));
            }
            if inner.len() + outer.len() == 0 {
                return Ok(clauses);
            }
            if inner.len() + outer.len() == before {
                let reason = self.reason.take();
                return Err(reason.unwrap_or_else(|| "it is over a join without a key".to_owned()));
            }
        }
    }

    /// Clauses as filters, without those that PostgreSQL has evaluated where one of `scanned` is scanned.
    ///
    /// # Safety
    /// The planner's own structures are given, while it plans.
    unsafe fn filters(&mut self, clauses: &[Node<'p>], scanned: &[u32]) -> Result<Vec<FilterTemplate>, Reason> {
        let mut filters = Vec::new();
        for clause in clauses {
            // SAFETY: the caller's contract.
            let relations = unsafe { relations_of(self.root, *clause) };
            if let [one] = relations.as_slice()
                && scanned.contains(one)
            {
                continue;
            }
            let local = self.builder.localize(*clause)?;
            let filter = self.builder.filter(local).map_err(|reason| format!("a filter over a join: {reason}"))?;
            filters.push(filter);
        }
        Ok(filters)
    }

    /// # Safety
    /// The planner's own structures are given, while it plans.
    unsafe fn link_inner(&mut self, relation: u32, clauses: &mut Vec<Node<'p>>) -> bool {
        // SAFETY: the planner's own structures.
        unsafe {
            let of = *(*self.root).simple_rel_array.add(relation as usize);
            if let Err(reason) = fit(self.root, of) {
                self.reason = Some(reason);
                return false;
            }
            let all: Vec<Sides<'p>> = clauses.iter().filter_map(|clause| self.sides(*clause, &[relation])).collect();
            let Some(keys) = self.unique(of, &all) else {
                self.no_key(relation, all.is_empty());
                return false;
            };
            let joined: Vec<Node<'p>> = keys.iter().map(|k| k.clause).collect();
            let joined_to = self.join(Some(relation), of, Join::Inner, keys, Vec::new());
            if !self.note(of, joined_to) {
                return false;
            }
            clauses.retain(|clause| !joined.iter().any(|j| j.as_ptr() == clause.as_ptr()));
            self.linked.push(relation);
            true
        }
    }

    /// # Safety
    /// The planner's own structures are given, while it plans.
    unsafe fn link_outer(&mut self, outer: &Outer<'p>) -> bool {
        // SAFETY: the planner's own structures.
        unsafe {
            let of = match outer.relations.as_slice() {
                [one] => *(*self.root).simple_rel_array.add(*one as usize),
                several if outer.join != Join::Left => {
                    let mut relids = std::ptr::null_mut();
                    for relation in several {
                        relids = pg_sys::bms_add_member(relids, *relation as i32);
                    }
                    pg_sys::find_join_rel(self.root, relids)
                }
                _ => {
                    self.reason = Some("an outer join's inner side is a join itself".into());
                    return false;
                }
            };
            if let Err(reason) = fit(self.root, of) {
                self.reason = Some(reason);
                return false;
            }
            let (keys, conditions) = self.divide(&outer.clauses, &outer.relations, &outer.relations);
            if keys.is_empty() {
                self.reason.get_or_insert_with(|| {
                    "an outer join, a semi-join or an anti-join is not by equality with a key".into()
                });
                return false;
            }
            let one_row = outer.join == Join::Left || !conditions.is_empty();
            if one_row && !is_unique(self.root, of, &operators(&keys)) {
                self.no_key(outer.relations[0], false);
                return false;
            }
            let relation = outer.relations.first().copied().filter(|_| outer.relations.len() == 1);
            let joined = self.join(relation, of, outer.join, keys, conditions);
            if !self.note(of, joined) {
                return false;
            }
            // Nothing else sees the columns of a semi-join's inner side.
            self.linked.extend(relation);
            true
        }
    }

    /// Joins the relation of which all rows show. Returns the template without its filter, and clauses that are part of it.
    ///
    /// # Safety
    /// The planner's own structures are given, while it plans.
    unsafe fn keep(
        &mut self,
        join: Join,
        clauses: &[Node<'p>],
        above: &Part<'p>,
        below: &[u32],
    ) -> Result<(KeptTemplate, Vec<Node<'p>>), Reason> {
        for relation in &above.inner {
            // SAFETY: the planner's own structures.
            unsafe {
                let of = *(*self.root).simple_rel_array.add(*relation as usize);
                if let Err(reason) = fit(self.root, of) {
                    self.reason = Some(reason);
                    continue;
                }
                let (all, mut rest) = self.divide(clauses, &[*relation], &[]);
                let Some(keys) = self.unique(of, &all) else {
                    self.no_key(*relation, all.is_empty());
                    continue;
                };
                let mut conditions = Vec::new();
                let unused = all.iter().filter(|side| !keys.iter().any(|k| k.clause.as_ptr() == side.clause.as_ptr()));
                rest.extend(unused.map(|side| side.clause));
                if join == Join::Full {
                    // Rows that do not fulfil them are not joined, but show.
                    conditions = std::mem::take(&mut rest);
                } else {
                    // PostgreSQL has these evaluated where the datasource, or what it is joined to, is scanned.
                    rest.retain(|clause| match relations_of(self.root, *clause).as_slice() {
                        [one] => !below.contains(one),
                        _ => true,
                    });
                }
                let joined = self.join(Some(*relation), of, join, keys, conditions);
                if !self.note(of, joined) {
                    continue;
                }
                let (matched, unmatched) = self.builder.keep_rows()?;
                self.linked.push(*relation);
                let dimension = self.found.len() - 1;
                let below = FilterTemplate::everything();
                return Ok((KeptTemplate { dimension, matched, unmatched, below }, rest));
            }
        }
        Err(self.reason.take().unwrap_or_else(|| "an outer join is not by equality with a key".into()))
    }

    fn no_key(&mut self, relation: u32, without: bool) {
        if !without {
            // SAFETY: the planner's own structures.
            let name = unsafe { relation_name(self.root, relation) };
            self.reason = Some(format!(
                "{name} is joined by columns of which no unique index or grouping shows that they are a key"
            ));
        }
    }

    /// As few equalities as show that a relation has at most one row for them; `None`: all do not.
    ///
    /// # Safety
    /// The planner's own structures are given, while it plans.
    unsafe fn unique(&self, of: *mut pg_sys::RelOptInfo, all: &[Sides<'p>]) -> Option<Vec<Sides<'p>>> {
        // SAFETY: the caller's contract.
        let enough = |keys: &[Sides<'p>]| unsafe { is_unique(self.root, of, &operators(keys)) };
        if all.is_empty() {
            return None;
        }
        if let Some(one) = all.iter().find(|one| enough(std::slice::from_ref(*one))) {
            return Some(vec![*one]);
        }
        if !enough(all) {
            return None;
        }
        let mut keys = all.to_vec();
        for clause in all {
            let less: Vec<Sides<'p>> =
                keys.iter().copied().filter(|k| k.clause.as_ptr() != clause.clause.as_ptr()).collect();
            if enough(&less) {
                keys = less;
            }
        }
        Some(keys)
    }

    /// The equalities among an outer join's clauses that can find rows of `relations`, and all others but those of `scanned` alone, which
    /// PostgreSQL has evaluated where these are scanned.
    ///
    /// # Safety
    /// The planner's own structures are given, while it plans.
    unsafe fn divide(
        &self,
        clauses: &[Node<'p>],
        relations: &[u32],
        scanned: &[u32],
    ) -> (Vec<Sides<'p>>, Vec<Node<'p>>) {
        let (mut keys, mut conditions) = (Vec::new(), Vec::new());
        for clause in clauses {
            // SAFETY: the caller's contract.
            let (of, sides) = unsafe { (relations_of(self.root, *clause), self.sides(*clause, relations)) };
            match sides {
                Some(sides) => keys.push(sides),
                None if !of.is_empty() && of.iter().all(|r| scanned.contains(r)) => {}
                None => conditions.push(*clause),
            }
        }
        (keys, conditions)
    }

    /// The two sides of an equality, one of `relations`, the other of what is linked.
    ///
    /// # Safety
    /// The planner's own structures are given, while it plans.
    unsafe fn sides(&self, clause: Node<'p>, relations: &[u32]) -> Option<Sides<'p>> {
        let View::Op(op) = clause.view() else { return None };
        let [left, right] = op.args.as_slice() else { return None };
        // SAFETY: the planner's own structures.
        let of = |n: Node<'p>| unsafe { relations_of(self.root, n) };
        let (of_left, of_right) = (of(*left), of(*right));
        let inside = |of: &[u32]| !of.is_empty() && of.iter().all(|r| relations.contains(r));
        let known = |of: &[u32]| !of.is_empty() && of.iter().all(|r| self.linked.contains(r));
        let (outer, key) = if inside(&of_right) && known(&of_left) {
            (*left, *right)
        } else if inside(&of_left) && known(&of_right) {
            (*right, *left)
        } else {
            return None;
        };
        // An inequality finds no rows.
        if !lookup::is_equality(op.operator, left.ty()) || has_placeholder(key) || has_placeholder(outer) {
            return None;
        }
        Some(Sides { clause, operator: op.operator, collation: op.collation, outer, key })
    }

    /// Whether a relation was joined; if not, why is kept.
    fn note(&mut self, of: *mut pg_sys::RelOptInfo, joined: Result<(), Reason>) -> bool {
        match joined {
            Ok(()) => self.found.push(Found { relation: of }),
            Err(reason) => {
                self.reason = Some(reason);
                return false;
            }
        }
        true
    }

    /// # Safety
    /// The planner's own structures are given, while it plans.
    unsafe fn join(
        &mut self,
        relation: Option<u32>,
        of: *mut pg_sys::RelOptInfo,
        join: Join,
        keys: Vec<Sides<'p>>,
        conditions: Vec<Node<'p>>,
    ) -> Result<(), Reason> {
        // SAFETY: the planner's own structures.
        let (name, rows) = unsafe {
            let relids = list_of((*of).relids);
            let names: Vec<String> = relids.iter().map(|r| relation_name(self.root, *r)).collect();
            (names.join(", "), (*of).rows)
        };
        if conditions.iter().any(|c| c.is_volatile() || c.has_subplan() || has_placeholder(*c)) {
            return Err(
                "a join's condition is volatile, a subquery, or an expression that an outer join may make NULL".into(),
            );
        }
        let mut made = Vec::new();
        for Sides { clause, operator, collation, outer, key } in keys {
            if outer.is_volatile() || key.is_volatile() || key.has_subplan() {
                return Err("a join's key is volatile or a subquery".into());
            }
            if self.secure && !never_fails(outer) {
                return Err("a join's key may fail in rows that row security or a security barrier hides".into());
            }
            if self.below && outer.is_nonstrict() {
                return Err("a join's key may be found in rows that an outer join makes NULL".into());
            }
            made.push(KeyClause { clause, operator, collation, outer: self.builder.localize(outer)?, inner: key });
        }
        if self.secure && !conditions.iter().all(|c| never_fails(*c)) {
            return Err("a join's condition may fail in rows that row security or a security barrier hides".into());
        }
        self.builder.join(NewJoin { relation, name, join, below: self.below, keys: made, conditions, rows })
    }
}

fn operators<'p>(keys: &[Sides<'p>]) -> Vec<(Node<'p>, pg_sys::Oid)> {
    keys.iter().map(|k| (k.key, k.operator)).collect()
}
