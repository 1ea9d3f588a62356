//! Evaluation of stored expressions.

use pgrx::pg_sys;

use super::settings::FixedSettings;
use super::values;

/// A column's default, as far as rows that were there before the column are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnDefault {
    /// No default, or one that is NULL.
    Null,
    /// Another value for each row.
    Volatile,
    /// One value for all rows, in text form under fixed settings.
    Value(String),
}

/// Evaluates the default of a column once. `attribute` counts from 1.
pub fn column_default(relation: pg_sys::Oid, attribute: i16) -> ColumnDefault {
    // SAFETY: the relation is open meanwhile; the expression is evaluated in an executor state of its own, with an
    // active snapshot (DDL has one).
    unsafe {
        let open = pg_sys::relation_open(relation, pg_sys::AccessShareLock as i32);
        let node = pg_sys::build_column_default(open, i32::from(attribute));
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
        if node.is_null() {
            return ColumnDefault::Null;
        }
        if pg_sys::contain_volatile_functions(node) {
            return ColumnDefault::Volatile;
        }
        let estate = pg_sys::CreateExecutorState();
        let state = pg_sys::ExecPrepareExpr(node.cast(), estate);
        let context = pg_sys::MakePerTupleExprContext(estate);
        let mut is_null = false;
        let Some(evaluate) = (*state).evalfunc else { return ColumnDefault::Null };
        let in_context = super::memory::InContext::new((*context).ecxt_per_tuple_memory);
        let datum = pg_sys::ffi::pg_guard_ffi_boundary(|| evaluate(state, context, &mut is_null));
        drop(in_context);
        let result = if is_null {
            ColumnDefault::Null
        } else {
            let _fixed = FixedSettings::new();
            ColumnDefault::Value(values::output(pg_sys::exprType(node), datum))
        };
        pg_sys::FreeExecutorState(estate);
        result
    }
}

/// A column's default, as far as it is known without evaluating it for a row.
pub enum ConstantDefault {
    None,
    /// A datum of the column's type in the current memory context, and whether it is NULL instead.
    Value(pg_sys::Datum, bool),
    Variable,
}

/// The default of a column, folded. `attribute` counts from 1.
pub fn constant_default(relation: pg_sys::Oid, attribute: i16) -> ConstantDefault {
    // SAFETY: the relation is open meanwhile; the expression is a palloc'ed copy.
    unsafe {
        let open = pg_sys::relation_open(relation, pg_sys::AccessShareLock as i32);
        let expression = pg_sys::build_column_default(open, i32::from(attribute));
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
        if expression.is_null() {
            return ConstantDefault::None;
        }
        let folded = pg_sys::eval_const_expressions(std::ptr::null_mut(), expression);
        if (*folded).type_ != pg_sys::NodeTag::T_Const {
            return ConstantDefault::Variable;
        }
        let constant = folded.cast::<pg_sys::Const>();
        ConstantDefault::Value((*constant).constvalue, (*constant).constisnull)
    }
}
