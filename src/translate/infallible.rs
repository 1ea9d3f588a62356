//! Which expressions raise an error for no value of their columns, so that they may be evaluated where PostgreSQL would not.

use pgrx::pg_sys::{self, Oid};

use crate::pg::lookup;
use crate::pg::node::{Node, View, Walk};

/// Whether an expression raises an error for no values of its columns (but for results beyond a gigabyte).
pub fn never_fails(node: Node<'_>) -> bool {
    never_fails_beyond(node, &mut |_| false)
}

/// The same, if those parts never fail of which `known_to` says so.
pub fn never_fails_beyond<'p>(node: Node<'p>, known_to: &mut dyn FnMut(Node<'p>) -> bool) -> bool {
    use pg_sys::NodeTag::*;
    let operator = |operator: Oid, collation: Oid, args: &[Node<'_>]| {
        compares(operator, collation, args) || known(lookup::operator_function(operator), collation, args)
    };
    let may_fail = |n: Node<'_>| match n.view() {
        View::Op(op) | View::Distinct(op) | View::NullIf(op) => !operator(op.operator, op.collation, &op.args),
        View::ArrayOp { op, .. } => !operator(op.operator, op.collation, &op.args),
        View::Func(f) => !known(f.function, f.collation, &f.args),
        View::MinMax { args, .. } => {
            !sound(n.collation(), &args) || args.iter().any(|a| !lookup::has_text_form(a.ty()))
        }
        View::IoCast(arg) => !(is_text(n.ty()) && lookup::has_text_form(arg.ty())),
        View::Var(_) | View::Const { .. } | View::Param | View::Relabel(_) | View::Bool(..) => false,
        View::NullTest { .. } | View::BooleanTest { .. } | View::Case { .. } | View::Coalesce(_) => false,
        View::Placeholder => false,
        View::Other => !matches!(n.tag(), T_List | T_CaseWhen | T_ArrayExpr | T_CollateExpr),
        View::Aggregate(_) | View::Grouping(_) | View::RowCompare(_) => true,
    };
    !node.walk(&mut |n| match () {
        () if known_to(n) => Walk::Skip,
        () if may_fail(n) => Walk::Stop,
        () => Walk::Descend,
    })
}

fn is_text(ty: Oid) -> bool {
    matches!(ty, pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID | pg_sys::NAMEOID)
}

/// Whether a collation that strings are compared by is known: else comparing them is an error.
fn sound(collation: Oid, args: &[Node<'_>]) -> bool {
    collation != pg_sys::InvalidOid || !args.iter().any(|a| a.collation() != pg_sys::InvalidOid || is_text(a.ty()))
}

/// Whether an operator orders or equates values of built-in types.
fn compares(operator: Oid, collation: Oid, args: &[Node<'_>]) -> bool {
    let plain = |a: &Node<'_>| lookup::has_text_form(a.ty());
    lookup::is_built_in(lookup::operator_function(operator))
        && lookup::is_comparison(operator)
        && sound(collation, args)
        && args.iter().all(plain)
}

fn known(function: Oid, collation: Oid, args: &[Node<'_>]) -> bool {
    // Those that search refuse collations that are not deterministic.
    let searches = || lookup::is_deterministic(collation);
    let constant = |nth: usize| match args.get(nth).map(|n| n.view()) {
        Some(View::Const { null: false, value }) => Some(value),
        _ => None,
    };
    match function.to_u32() {
        pg_sys::F_LOWER_TEXT | pg_sys::F_UPPER_TEXT | pg_sys::F_INITCAP => sound(collation, args),
        pg_sys::F_LENGTH_TEXT
        | pg_sys::F_CHAR_LENGTH_TEXT
        | pg_sys::F_CHARACTER_LENGTH_TEXT
        | pg_sys::F_CHAR_LENGTH_BPCHAR
        | pg_sys::F_OCTET_LENGTH_TEXT
        | pg_sys::F_BIT_LENGTH_TEXT
        | pg_sys::F_ASCII
        | pg_sys::F_LEFT
        | pg_sys::F_RIGHT
        | pg_sys::F_TEXTCAT
        | pg_sys::F_BTRIM_TEXT
        | pg_sys::F_BTRIM_TEXT_TEXT
        | pg_sys::F_LTRIM_TEXT
        | pg_sys::F_LTRIM_TEXT_TEXT
        | pg_sys::F_RTRIM_TEXT
        | pg_sys::F_RTRIM_TEXT_TEXT
        | pg_sys::F_REVERSE
        | pg_sys::F_TRANSLATE
        | pg_sys::F_MD5_TEXT
        | pg_sys::F_QUOTE_LITERAL_TEXT
        | pg_sys::F_SUBSTR_TEXT_INT4
        | pg_sys::F_SUBSTRING_TEXT_INT4
        | pg_sys::F_TEXT_BOOL
        | pg_sys::F_TEXT_BPCHAR
        | pg_sys::F_TEXT_NAME
        | pg_sys::F_INT8_INT4
        | pg_sys::F_NUMERIC_INT2
        | pg_sys::F_NUMERIC_INT4
        | pg_sys::F_NUMERIC_INT8
        | pg_sys::F_FLOAT8_INT2
        | pg_sys::F_FLOAT8_INT4
        | pg_sys::F_FLOAT8_INT8
        | pg_sys::F_FLOAT8_FLOAT4
        | pg_sys::F_CARDINALITY
        | pg_sys::F_ARRAY_LENGTH
        | pg_sys::F_NETWORK_SUB
        | pg_sys::F_NETWORK_SUBEQ
        | pg_sys::F_JSONB_OBJECT_FIELD
        | pg_sys::F_JSONB_OBJECT_FIELD_TEXT
        | pg_sys::F_JSONB_ARRAY_ELEMENT_TEXT
        | pg_sys::F_JSONB_CONTAINS => true,
        pg_sys::F_CONCAT | pg_sys::F_CONCAT_WS => args.iter().all(|a| lookup::has_text_form(a.ty())),
        pg_sys::F_ARRAYCONTAINS | pg_sys::F_ARRAYCONTAINED | pg_sys::F_ARRAYOVERLAP => {
            sound(collation, args) && args.iter().all(|a| lookup::has_text_form(a.ty()))
        }
        pg_sys::F_REPLACE | pg_sys::F_STRPOS | pg_sys::F_POSITION_TEXT_TEXT | pg_sys::F_STARTS_WITH => searches(),
        pg_sys::F_TEXTLIKE | pg_sys::F_TEXTNLIKE | pg_sys::F_TEXTICLIKE | pg_sys::F_TEXTICNLIKE => {
            // A pattern must not end within an escape.
            let whole = |pattern: &[u8]| pattern.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 0;
            searches() && constant(1).is_some_and(|p| crate::pg::values::with_varlena(p, whole))
        }
        pg_sys::F_SUBSTR_TEXT_INT4_INT4 | pg_sys::F_SUBSTRING_TEXT_INT4_INT4 => {
            constant(2).is_some_and(|length| length.value() as i32 >= 0)
        }
        _ => lookup::is_leakproof(function) && sound(collation, args),
    }
}
