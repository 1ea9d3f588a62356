//! Views with a security barrier over one datasource.
//!
//! PostgreSQL plans such a view by itself and hands its rows to the query above, so that no aggregation could be pushed down. Here, before
//! planning, the view's condition becomes a security condition of the table instead, as row security makes them (and as PostgreSQL does
//! for such views in UPDATE and DELETE): the view is then planned together with the query, and conditions of the query that are not
//! leakproof come after it.

use std::cell::Cell;
use std::ffi::{c_char, c_int};

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::catalog::datasource;
use crate::pg::list;
use crate::pg::node::{Node, Walk};

thread_local! {
    static PREVIOUS: Cell<pg_sys::planner_hook_type> = const { Cell::new(None) };
}

/// Installs the hook; once a process.
pub fn register() {
    // SAFETY: hooks are set while the library is loaded, by the only thread there is.
    unsafe {
        PREVIOUS.set(pg_sys::planner_hook);
        pg_sys::planner_hook = Some(plan_query);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn plan_query(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the planner's own arguments; it may change the query, which is its caller's copy.
    unsafe {
        open_barriers(query);
        match PREVIOUS.get() {
            Some(previous) => pg_sys::ffi::pg_guard_ffi_boundary(|| previous(query, text, options, parameters)),
            None => pg_sys::standard_planner(query, text, options, parameters),
        }
    }
}

/// # Safety
/// `query` is a well-formed query that may be changed.
unsafe fn open_barriers(query: *mut pg_sys::Query) {
    // SAFETY: the caller's contract; entries that are subqueries have one.
    unsafe {
        for entry in list::pointers::<pg_sys::RangeTblEntry>((*query).rtable) {
            if (*entry).rtekind != pg_sys::RTEKind::RTE_SUBQUERY || (*entry).subquery.is_null() {
                continue;
            }
            open_barriers((*entry).subquery);
            let locks = !(*query).rowMarks.is_null();
            if (*entry).security_barrier && !locks && secure_table((*entry).subquery) {
                (*entry).security_barrier = false;
            }
        }
        for expression in list::pointers::<pg_sys::CommonTableExpr>((*query).cteList) {
            let inner = (*expression).ctequery;
            if !inner.is_null() && (*inner).type_ == pg_sys::NodeTag::T_Query {
                open_barriers(inner.cast());
            }
        }
        if (*query).hasSubLinks {
            let parts: [*mut pg_sys::Node; 3] =
                [(*query).targetList.cast(), (*query).jointree.cast(), (*query).havingQual];
            for part in parts.into_iter().filter_map(|p| Node::from_ptr(p)) {
                part.walk(&mut |node| {
                    if node.tag() != pg_sys::NodeTag::T_Query {
                        return Walk::Descend;
                    }
                    open_barriers(node.as_ptr().cast());
                    Walk::Skip
                });
            }
        }
    }
}

/// Makes the condition of a view that only selects rows of one datasource a security condition of that table. `false`: it is another view,
/// and nothing was changed.
///
/// # Safety
/// As of [`open_barriers`].
unsafe fn secure_table(view: *mut pg_sys::Query) -> bool {
    // SAFETY: the caller's contract; range table entries are counted from 1.
    unsafe {
        let v = &*view;
        let plain = v.commandType == pg_sys::CmdType::CMD_SELECT
            && v.setOperations.is_null()
            && v.groupClause.is_null()
            && v.groupingSets.is_null()
            && v.havingQual.is_null()
            && v.distinctClause.is_null()
            && v.sortClause.is_null()
            && v.limitCount.is_null()
            && v.limitOffset.is_null()
            && v.cteList.is_null()
            && v.rowMarks.is_null()
            && !(v.hasAggs || v.hasWindowFuncs || v.hasTargetSRFs || v.hasSubLinks)
            && !v.jointree.is_null();
        if !plain {
            return false;
        }
        let from = list::pointers::<pg_sys::Node>((*v.jointree).fromlist);
        let [only] = from.as_slice() else { return false };
        if (**only).type_ != pg_sys::NodeTag::T_RangeTblRef {
            return false;
        }
        let index = (*only.cast::<pg_sys::RangeTblRef>()).rtindex as usize;
        let entries = list::pointers::<pg_sys::RangeTblEntry>(v.rtable);
        let Some(table) = index.checked_sub(1).and_then(|at| entries.get(at)).copied() else { return false };
        if (*table).rtekind != pg_sys::RTEKind::RTE_RELATION || !datasource::is_datasource((*table).relid) {
            return false;
        }
        let condition = std::mem::replace(&mut (*v.jointree).quals, std::ptr::null_mut());
        if !condition.is_null() {
            (*table).securityQuals = pg_sys::lcons(condition.cast(), (*table).securityQuals);
        }
        true
    }
}
