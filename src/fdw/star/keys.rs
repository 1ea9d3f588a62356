//! Relations that a scan's rows are joined to: their keys tell which rows are worth handing out.

use pgrx::pg_sys;

use super::{Tree, has_placeholder, hides_rows, is_recursive, relation_name, relations_of};
use crate::pg::node::{Node, View};
use crate::translate::builder::Builder;
use crate::translate::dimension::{KeyClause, NewJoin};
use crate::translate::infallible::never_fails;
use crate::translate::shippable::Reason;
use crate::translate::template::Join;

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
        let clause = KeyClause {
            clause: self.clause,
            operator: self.operator,
            collation: self.collation,
            outer: self.outer,
            inner: self.key,
        };
        builder.join(NewJoin {
            relation: None,
            name: self.name.clone(),
            join: Join::Filter,
            below: false,
            keys: vec![clause],
            conditions: Vec::new(),
            rows: 0.0,
        })
    }
}

impl<'p> Tree<'p> {
    /// Relations whose keys select among the datasource's rows. Their paths need not be known yet.
    ///
    /// # Safety
    /// `root` is the planner's.
    pub unsafe fn keys(&self, root: *mut pg_sys::PlannerInfo) -> Vec<Keys<'p>> {
        let fact = self.fact;
        let mut found: Vec<Keys<'p>> = Vec::new();
        // SAFETY: the caller's contract.
        if unsafe { is_recursive(root) } {
            return found;
        }
        let semi = self.part.outer.iter().filter(|o| o.join == Join::Semi);
        let clauses = self.part.clauses.iter().map(|c| (*c, &self.part.inner));
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
                // What may fail must not see rows that a barrier hides.
                let hidden = !never_fails(outer) && hides_rows(root, fact);
                if hidden || has_placeholder(outer) || has_placeholder(key) {
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
