//! Queries over a datasource that is joined with dimensions, each looked up by a key: found in the query's join tree, which says
//! what was written; what the planner made of it, restrictions of single relations and their paths, is taken from its relations.

use pgrx::pg_sys;

use super::plan::{self, RelationState};
use crate::pg::node::{Node, View};
use crate::pg::{list, lookup, node};
use crate::translate::builder::Builder;
use crate::translate::dimension::JoinClause;
use crate::translate::shippable::Reason;
use crate::translate::template::{FilterTemplate, Join};

/// A query's FROM and WHERE.
pub struct Tree<'p> {
    /// Relations whose rows all others are joined to, or that are joined without outer joins.
    pub inner: Vec<u32>,
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

/// A relation that was found to be a dimension.
pub struct Found {
    pub relation: *mut pg_sys::RelOptInfo,
}

impl<'p> Tree<'p> {
    /// # Safety
    /// `root` is the planner's, and has planned the joins.
    pub unsafe fn new(root: *mut pg_sys::PlannerInfo) -> Result<Tree<'p>, Reason> {
        let mut tree = Tree { inner: Vec::new(), clauses: Vec::new(), outer: Vec::new() };
        // SAFETY: the caller's contract.
        unsafe {
            tree.add(root, (*(*root).parse).jointree.cast())?;
        }
        Ok(tree)
    }

    /// # Safety
    /// The planner's own structures are given, while it plans.
    unsafe fn add(&mut self, root: *mut pg_sys::PlannerInfo, item: *mut pg_sys::Node) -> Result<(), Reason> {
        use pg_sys::JoinType::*;
        use pg_sys::NodeTag::*;
        // SAFETY: nodes of a join tree are of these three kinds; qualifications are lists by now.
        unsafe {
            if item.is_null() {
                return Ok(());
            }
            match (*item).type_ {
                T_RangeTblRef => self.inner.extend(relation_of(root, item)),
                T_FromExpr => {
                    let from = item.cast::<pg_sys::FromExpr>();
                    for child in list::pointers::<pg_sys::Node>((*from).fromlist) {
                        self.add(root, child)?;
                    }
                    self.clauses.extend(node::list::<'p>((*from).quals.cast()));
                }
                T_JoinExpr => {
                    let join = item.cast::<pg_sys::JoinExpr>();
                    self.add(root, (*join).larg)?;
                    let kind = match (*join).jointype {
                        JOIN_INNER => {
                            self.add(root, (*join).rarg)?;
                            self.clauses.extend(node::list::<'p>((*join).quals.cast()));
                            return Ok(());
                        }
                        JOIN_LEFT => Join::Left,
                        JOIN_SEMI => Join::Semi,
                        JOIN_ANTI => Join::Anti,
                        _ => return Err("it is over a full join".into()),
                    };
                    let mut relations = Vec::new();
                    leaves(root, (*join).rarg, &mut relations)?;
                    // Joins that cannot matter were removed.
                    if kind == Join::Left && relations.iter().all(|r| is_dead(root, *r)) {
                        return Ok(());
                    }
                    self.outer.push(Outer { join: kind, relations, clauses: node::list((*join).quals.cast()) });
                }
                _ => return Err("its FROM is not understood".into()),
            }
        }
        Ok(())
    }

    /// Makes all other relations dimensions of `builder`'s; returns what filters beyond the restrictions of single relations, and the
    /// dimensions' relations in the builder's order. Errors: why that is impossible.
    ///
    /// # Safety
    /// `root` is the planner's; the builder's relation is one of `self.inner`.
    pub unsafe fn link(
        &self,
        root: *mut pg_sys::PlannerInfo,
        builder: &mut Builder<'p, '_>,
    ) -> Result<(Vec<FilterTemplate>, Vec<Found>), Reason> {
        // SAFETY: the caller's contract.
        unsafe {
            if (*root).qual_security_level > 0 {
                return Err("it is over a join with row security or a security barrier".into());
            }
            let mut linker = Linker {
                root,
                builder,
                linked: vec![],
                found: Vec::new(),
                used: vec![false; self.clauses.len()],
                reason: None,
            };
            linker.linked.push(linker.builder.relation);
            let mut inner: Vec<u32> = self.inner.iter().copied().filter(|r| *r != linker.builder.relation).collect();
            let mut outer: Vec<&Outer<'p>> = self.outer.iter().collect();
            loop {
                let before = inner.len() + outer.len();
                inner.retain(|relation| !linker.link_inner(*relation, &self.clauses));
                outer.retain(|outer| !linker.link_outer(outer));
                if inner.len() + outer.len() == 0 {
                    break;
                }
                if inner.len() + outer.len() == before {
                    let reason = linker.reason.take();
                    return Err(reason.unwrap_or_else(|| "it is over a join without a key".to_owned()));
                }
            }
            let Linker { builder, found, used, .. } = linker;
            let mut filters = Vec::new();
            for (clause, _) in self.clauses.iter().zip(&used).filter(|(_, used)| !**used) {
                let relations = relations_of(root, *clause);
                // PostgreSQL has these evaluated where the relation is scanned.
                if let [one] = relations.as_slice()
                    && self.inner.contains(one)
                {
                    continue;
                }
                let local = builder.localize(*clause)?;
                let filter = builder.filter(local).map_err(|reason| format!("a filter over a join: {reason}"))?;
                filters.push(filter);
            }
            Ok((filters, found))
        }
    }
}

struct Linker<'b, 'p, 'd> {
    root: *mut pg_sys::PlannerInfo,
    builder: &'b mut Builder<'p, 'd>,
    /// Range table indexes of the datasource and of dimensions whose columns may be used.
    linked: Vec<u32>,
    found: Vec<Found>,
    /// Clauses that are joins.
    used: Vec<bool>,
    /// Why the last relation was not linked.
    reason: Option<Reason>,
}

/// The operands of a comparison, those with the dimension's columns as the second.
struct Sides<'p> {
    operator: pg_sys::Oid,
    collation: pg_sys::Oid,
    outer: Node<'p>,
    key: Node<'p>,
}

impl<'p> Linker<'_, 'p, '_> {
    /// # Safety
    /// The planner's own structures are given, while it plans.
    unsafe fn link_inner(&mut self, relation: u32, clauses: &[Node<'p>]) -> bool {
        // SAFETY: the planner's own structures.
        unsafe {
            let of = *(*self.root).simple_rel_array.add(relation as usize);
            if let Err(reason) = fit(self.root, of) {
                self.reason = Some(reason);
                return false;
            }
            for (nth, clause) in clauses.iter().enumerate().filter(|(nth, _)| !self.used[*nth]).collect::<Vec<_>>() {
                let Some(sides) = self.sides(*clause, &[relation]) else { continue };
                if !is_unique(self.root, of, sides.key, sides.operator) {
                    let name = relation_name(self.root, relation);
                    self.reason = Some(format!(
                        "{name} is joined by a column of which no unique index or grouping shows that it is a key"
                    ));
                    continue;
                }
                if self.join(Some(relation), of, Join::Inner, *clause, sides) {
                    self.used[nth] = true;
                    self.linked.push(relation);
                    return true;
                }
            }
            false
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
            let mut joining = outer.clauses.iter().filter(|clause| {
                let relations = relations_of(self.root, **clause);
                relations.is_empty() || !relations.iter().all(|r| outer.relations.contains(r))
            });
            let (Some(clause), None) = (joining.next(), joining.next()) else {
                self.reason = Some("an outer join, a semi-join or an anti-join is not by one key alone".into());
                return false;
            };
            let Some(sides) = self.sides(*clause, &outer.relations) else {
                self.reason.get_or_insert_with(|| {
                    "an outer join, a semi-join or an anti-join is not by equality with a key".into()
                });
                return false;
            };
            if outer.join == Join::Left && !is_unique(self.root, of, sides.key, sides.operator) {
                let name = relation_name(self.root, outer.relations[0]);
                self.reason = Some(format!(
                    "{name} is joined by a column of which no unique index or grouping shows that it is a key"
                ));
                return false;
            }
            let relation = outer.relations.first().copied().filter(|_| outer.relations.len() == 1);
            if !self.join(relation, of, outer.join, *clause, sides) {
                return false;
            }
            self.linked.extend(relation);
            true
        }
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
        if has_placeholder(key) || has_placeholder(outer) {
            return None;
        }
        Some(Sides { operator: op.operator, collation: op.collation, outer, key })
    }

    /// # Safety
    /// The planner's own structures are given, while it plans.
    unsafe fn join(
        &mut self,
        relation: Option<u32>,
        of: *mut pg_sys::RelOptInfo,
        join: Join,
        condition: Node<'p>,
        sides: Sides<'p>,
    ) -> bool {
        let Sides { operator, collation, outer, key } = sides;
        if outer.is_volatile() || key.is_volatile() || key.has_subplan() {
            self.reason = Some("a join's key is volatile or a subquery".into());
            return false;
        }
        // SAFETY: the planner's own structures.
        let (name, rows) = unsafe {
            let relids = list_of((*of).relids);
            let names: Vec<String> = relids.iter().map(|r| relation_name(self.root, *r)).collect();
            (names.join(", "), (*of).rows)
        };
        let made = self.builder.localize(outer).and_then(|outer| {
            self.builder.join(relation, name, join, JoinClause { condition, operator, collation, outer, key }, rows)
        });
        match made {
            Ok(()) => {
                self.found.push(Found { relation: of });
                true
            }
            Err(reason) => {
                self.reason = Some(reason);
                false
            }
        }
    }
}

/// Whether an expression has a part that an outer join between it and its table may make NULL.
fn has_placeholder(node: Node<'_>) -> bool {
    node.any(&mut |n| n.tag() == pg_sys::NodeTag::T_PlaceHolderVar)
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

/// Whether a relation's rows can be read before the datasource's.
///
/// # Safety
/// The planner's own structures are given, while it plans.
unsafe fn fit(root: *mut pg_sys::PlannerInfo, of: *mut pg_sys::RelOptInfo) -> Result<(), Reason> {
    // SAFETY: the planner's own structures.
    unsafe {
        if of.is_null() || (*of).cheapest_total_path.is_null() {
            return Err("the planner has no path for a joined relation by itself".into());
        }
        if is_recursive(root) {
            return Err("it is in a recursive query, whose rows differ from step to step".into());
        }
        let name = list_of((*of).relids).first().map(|r| relation_name(root, *r)).unwrap_or_default();
        if !(*of).lateral_relids.is_null() || !(*(*of).cheapest_total_path).param_info.is_null() {
            return Err(format!("{name} depends on other relations' rows"));
        }
        if pg_sys::contain_volatile_functions((*of).baserestrictinfo.cast())
            || pg_sys::contain_volatile_functions((*(*of).reltarget).exprs.cast())
        {
            return Err(format!("{name} is filtered by a volatile function"));
        }
        Ok(())
    }
}

/// Whether at most one row of a relation has a key.
///
/// # Safety
/// The planner's own structures are given, while it plans.
unsafe fn is_unique(
    root: *mut pg_sys::PlannerInfo,
    of: *mut pg_sys::RelOptInfo,
    key: Node<'_>,
    operator: pg_sys::Oid,
) -> bool {
    // SAFETY: the planner's own structures.
    unsafe {
        let operators = pg_sys::lappend_oid(std::ptr::null_mut(), operator);
        match (*of).rtekind {
            pg_sys::RTEKind::RTE_RELATION => {
                let keys = node::make_list([key]);
                pg_sys::relation_has_unique_index_for(root, of, std::ptr::null_mut(), keys, operators)
            }
            pg_sys::RTEKind::RTE_SUBQUERY => {
                let mut plain = key;
                while let View::Relabel(inner) = plain.view() {
                    plain = inner;
                }
                let View::Var(v) = plain.view() else { return false };
                let entry = *(*root).simple_rte_array.add((*of).relid as usize);
                let columns = pg_sys::lappend_int(std::ptr::null_mut(), i32::from(v.attribute));
                let query = (*entry).subquery;
                v.relation == (*of).relid
                    && pg_sys::query_supports_distinctness(query)
                    && pg_sys::query_is_distinct_for(query, columns, operators)
            }
            _ => false,
        }
    }
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

/// A relation of whose keys a datasource's rows must have one to be joined.
pub struct Keys<'p> {
    pub relation: *mut pg_sys::RelOptInfo,
    name: String,
    clause: Node<'p>,
    operator: pg_sys::Oid,
    collation: pg_sys::Oid,
    pub outer: Node<'p>,
    pub key: Node<'p>,
}

impl<'p> Keys<'p> {
    /// Adds it to a plan's dimensions.
    pub fn join(&self, builder: &mut Builder<'p, '_>) -> Result<(), Reason> {
        let Keys { name, clause, operator, collation, outer, key, .. } = self;
        let clause =
            JoinClause { condition: *clause, operator: *operator, collation: *collation, outer: *outer, key: *key };
        builder.join(None, name.clone(), Join::Filter, clause, 0.0)
    }
}

impl<'p> Tree<'p> {
    /// Relations whose keys select among the rows of `fact`, one of `self.inner`. Their paths need not be known yet.
    ///
    /// # Safety
    /// `root` is the planner's.
    pub unsafe fn keys(&self, root: *mut pg_sys::PlannerInfo, fact: u32) -> Vec<Keys<'p>> {
        let mut found: Vec<Keys<'p>> = Vec::new();
        // SAFETY: the caller's contract.
        if unsafe { is_recursive(root) } {
            return found;
        }
        let semi = self.outer.iter().filter(|o| o.join == Join::Semi);
        let clauses = self.clauses.iter().map(|c| (*c, &self.inner));
        for (clause, relations) in clauses.chain(semi.flat_map(|o| o.clauses.iter().map(|c| (*c, &o.relations)))) {
            let View::Op(op) = clause.view() else { continue };
            let [left, right] = op.args.as_slice() else { continue };
            // SAFETY: the planner's own structures.
            unsafe {
                let (of_left, of_right) = (relations_of(root, *left), relations_of(root, *right));
                let (outer, key, relation) = match (of_left.as_slice(), of_right.as_slice()) {
                    ([a], [b]) if *a == fact && *b != fact => (*left, *right, *b),
                    ([a], [b]) if *b == fact && *a != fact => (*right, *left, *a),
                    _ => continue,
                };
                let of = *(*root).simple_rel_array.add(relation as usize);
                let known = found.iter().any(|k| k.relation == of);
                if known || of.is_null() || !relations.contains(&relation) || !(*of).lateral_relids.is_null() {
                    continue;
                }
                let volatile = pg_sys::contain_volatile_functions((*of).baserestrictinfo.cast());
                if has_placeholder(outer) || has_placeholder(key) {
                    continue;
                }
                if volatile || outer.is_volatile() || key.is_volatile() || key.has_subplan() || outer.has_subplan() {
                    continue;
                }
                found.push(Keys {
                    relation: of,
                    name: relation_name(root, relation),
                    clause,
                    operator: op.operator,
                    collation: op.collation,
                    outer,
                    key,
                });
            }
        }
        found
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
