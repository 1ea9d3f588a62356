//! What a relation must be to be looked up: read before the datasource is, with at most one row for its keys.

use std::collections::HashSet;

use pgrx::pg_sys;

use super::{is_recursive, list_of, relation_name};
use crate::pg::classes::Classes;
use crate::pg::list;
use crate::pg::node::{self, Node, View};
use crate::translate::shippable::Reason;

/// Whether a relation's rows can be read before the datasource's.
///
/// # Safety
/// The planner's own structures are given, while it plans.
pub(super) unsafe fn fit(root: *mut pg_sys::PlannerInfo, of: *mut pg_sys::RelOptInfo) -> Result<(), Reason> {
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

/// Whether at most one row of a relation has these keys, by these operators.
///
/// # Safety
/// The planner's own structures are given, while it plans.
pub(super) unsafe fn is_unique(
    root: *mut pg_sys::PlannerInfo,
    of: *mut pg_sys::RelOptInfo,
    keys: &[(Node<'_>, pg_sys::Oid)],
) -> bool {
    // SAFETY: the planner's own structures; a base relation has a range table entry.
    unsafe {
        let mut operators = std::ptr::null_mut();
        for (_, operator) in keys {
            operators = pg_sys::lappend_oid(operators, *operator);
        }
        if (*of).rtekind == pg_sys::RTEKind::RTE_RELATION {
            let keys = node::make_list(keys.iter().map(|(key, _)| *key));
            return pg_sys::relation_has_unique_index_for(root, of, std::ptr::null_mut(), keys, operators);
        }
        if (*of).reloptkind != pg_sys::RelOptKind::RELOPT_BASEREL {
            return false;
        }
        // Of what is no table the keys must be columns.
        let mut columns: *mut pg_sys::List = std::ptr::null_mut();
        let mut attributes = Vec::new();
        for (key, _) in keys {
            let mut plain = *key;
            while let View::Relabel(inner) = plain.view() {
                plain = inner;
            }
            let View::Var(v) = plain.view() else { return false };
            if v.relation != (*of).relid {
                return false;
            }
            attributes.push(v.attribute);
            columns = pg_sys::lappend_int(columns, i32::from(v.attribute));
        }
        let entry = *(*root).simple_rte_array.add((*of).relid as usize);
        let is_distinct = |query: *mut pg_sys::Query| {
            pg_sys::query_supports_distinctness(query) && pg_sys::query_is_distinct_for(query, columns, operators)
        };
        match (*of).rtekind {
            pg_sys::RTEKind::RTE_SUBQUERY => is_distinct((*entry).subquery),
            pg_sys::RTEKind::RTE_CTE => query_of(root, entry).is_some_and(is_distinct),
            pg_sys::RTEKind::RTE_FUNCTION => attributes.contains(&1) && is_series(entry),
            pg_sys::RTEKind::RTE_VALUES => is_distinct_list(entry, &attributes),
            _ => false,
        }
    }
}

/// The query of a WITH query's scan.
///
/// # Safety
/// The planner's own structures are given, while it plans.
unsafe fn query_of(root: *mut pg_sys::PlannerInfo, entry: *mut pg_sys::RangeTblEntry) -> Option<*mut pg_sys::Query> {
    // SAFETY: WITH queries are found by name, as the planner finds them, in the query as many levels up.
    unsafe {
        let mut of = root;
        for _ in 0..(*entry).ctelevelsup {
            of = (*of).parent_root;
            if of.is_null() {
                return None;
            }
        }
        let name = std::ffi::CStr::from_ptr((*entry).ctename);
        let all = list::pointers::<pg_sys::CommonTableExpr>((*(*of).parse).cteList);
        let found = all.into_iter().find(|cte| std::ffi::CStr::from_ptr((**cte).ctename) == name)?;
        let query = (*found).ctequery;
        let plain = !(*found).cterecursive && !(*entry).self_reference && (*query).type_ == pg_sys::NodeTag::T_Query;
        // What changes data returns what it will.
        let query = query.cast::<pg_sys::Query>();
        (plain && (*query).commandType == pg_sys::CmdType::CMD_SELECT).then_some(query)
    }
}

/// `generate_series`, by their OIDs in `pg_proc.dat`: of int4 and int8 with and without a step, of numeric, of timestamps. Each number is made
/// of the one before, so that a series which met one twice would never end.
const SERIES: [u32; 8] = [1066, 1067, 1068, 1069, 3259, 3260, 938, 939];

/// Whether a function's rows are a series of different values.
///
/// # Safety
/// `entry` is a function's.
unsafe fn is_series(entry: *mut pg_sys::RangeTblEntry) -> bool {
    // SAFETY: the caller's contract.
    unsafe {
        let functions = list::pointers::<pg_sys::RangeTblFunction>((*entry).functions);
        let [only] = functions.as_slice() else { return false };
        match Node::from_ptr((**only).funcexpr).map(Node::view) {
            Some(View::Func(call)) => SERIES.contains(&call.function.to_u32()),
            _ => false,
        }
    }
}

/// More rows of VALUES are not compared with each other.
const MAX_VALUES: usize = 200;

/// Whether these columns of VALUES are constants that differ from row to row, or NULL.
///
/// # Safety
/// `entry` is that of VALUES.
unsafe fn is_distinct_list(entry: *mut pg_sys::RangeTblEntry, attributes: &[i16]) -> bool {
    // SAFETY: rows are lists of expressions.
    unsafe {
        let rows = list::pointers::<pg_sys::List>((*entry).values_lists);
        if rows.len() > MAX_VALUES {
            return false;
        }
        let mut seen = HashSet::new();
        let mut classes: Vec<Option<Classes>> = attributes.iter().map(|_| None).collect();
        'rows: for row in rows {
            let expressions = node::list(row);
            let mut key = Vec::new();
            for (attribute, classes) in attributes.iter().zip(&mut classes) {
                let Some(expression) = usize::try_from(*attribute - 1).ok().and_then(|a| expressions.get(a)) else {
                    return false;
                };
                match expression.view() {
                    View::Const { null: false, value } => {
                        if classes.is_none() {
                            *classes = Classes::new(expression.ty(), expression.collation()).ok();
                        }
                        let Some(Ok(number)) = classes.as_mut().map(|of| of.number(Some(value))) else { return false };
                        key.push(number);
                    }
                    View::Const { null: true, .. } => continue 'rows,
                    _ => return false,
                }
            }
            if !seen.insert(key) {
                return false;
            }
        }
        true
    }
}
