//! ORDER BY and LIMIT over a pushed aggregation or a scan of rows: the engine gives the first groups or rows only. PostgreSQL sorts and counts them once more, so
//! that the engine may give too many: those that tie in the terms that it knows.

use basalt_engine::plan::{By, RowTop, Term, Top};
use basalt_engine::types::LogicalType;
use pgrx::pg_sys;

use super::scan::Inputs;
use super::selection;
use crate::error::{Error, Result};
use crate::pg::list;
use crate::pg::lookup;
use crate::pg::node::{Node, View, Walk};
use crate::translate::filter::Builder;
use crate::translate::shippable;
use crate::translate::template::{
    AggregateTemplate, Finish, GroupsTemplate, KeyTemplate, RowTopTemplate, Target, TermTemplate, TopTemplate,
};

/// What of the query's ORDER BY and LIMIT a plan of groups may use, and the most groups that then come, as far as it is known.
/// `outputs`: the columns of the pushed scan's tuple.
///
/// # Safety
/// `root` is the planner's.
pub unsafe fn top<'p>(
    root: *mut pg_sys::PlannerInfo,
    stage: pg_sys::UpperRelationKind::Type,
    outputs: &[(Node<'p>, Target)],
    keys: &[KeyTemplate],
    aggregates: &[AggregateTemplate],
    builder: &mut Builder<'p, '_>,
) -> Option<(TopTemplate, Option<f64>)> {
    // SAFETY: the planner's own structures.
    unsafe {
        let query = &*(*root).parse;
        // Whatever stands between the groups and the LIMIT needs them all.
        let between = query.hasWindowFuncs
            || query.hasTargetSRFs
            || !query.havingQual.is_null()
            || !query.groupingSets.is_null()
            || !query.setOperations.is_null()
            || (stage == pg_sys::UpperRelationKind::UPPERREL_GROUP_AGG && !query.distinctClause.is_null());
        let limit = Node::from_ptr(query.limitCount)?;
        let offset = Node::from_ptr(query.limitOffset);
        // What PostgreSQL computes for a group that the LIMIT leaves out might fail.
        let between = between
            || outputs.iter().any(|(node, target)| match (target, node.view()) {
                (Target::Folded(..), View::Aggregate(call)) => !selection::never_fails(&call),
                _ => false,
            });
        if between || keys.is_empty() {
            return None;
        }
        let evaluable = |node: Node<'p>| shippable::evaluable(node).is_ok() && !contains_column(node);
        if !evaluable(limit) || offset.is_some_and(|o| !evaluable(o)) {
            return None;
        }
        // Without the LIMIT PostgreSQL would compute the targets of all groups, and might fail.
        let targets = list::pointers::<pg_sys::TargetEntry>((*root).processed_tlist);
        if !targets
            .iter()
            .filter_map(|t| Node::from_ptr((**t).expr))
            .all(|t| cannot_fail(t, &|n| outputs.iter().any(|(output, _)| output.equals(n))))
        {
            return None;
        }
        let mut terms = Vec::new();
        for clause in list::pointers::<pg_sys::SortGroupClause>(query.sortClause) {
            let entry = pg_sys::get_sortgroupclause_tle(clause, (*root).processed_tlist);
            let Some(expression) = Node::from_ptr((*entry).expr) else { break };
            let Some((_, target)) = outputs.iter().find(|(output, _)| output.equals(expression)) else { break };
            let Some(ty) = ordered_type(*target, keys, aggregates, builder) else { break };
            let direction = shippable::sort_direction(ty, (*clause).sortop, expression.collation());
            let Some(descending) = direction else { break };
            terms.push(TermTemplate { target: *target, descending, nulls_first: (*clause).nulls_first });
        }
        // Without ORDER BY any groups will do.
        if terms.is_empty() && !query.sortClause.is_null() {
            return None;
        }
        let ties = query.limitOption == pg_sys::LimitOption::LIMIT_OPTION_WITH_TIES;
        let complete = !ties && terms.len() == list::pointers::<pg_sys::SortGroupClause>(query.sortClause).len();
        let number = |node: Option<Node<'p>>| match node {
            None => Some(0.0),
            Some(node) => match Node::from_ptr(pg_sys::estimate_expression_value(root, node.as_ptr()))?.view() {
                View::Const { null: false, value } => Some((value.value() as i64).max(0) as f64),
                _ => None,
            },
        };
        let most = number(Some(limit)).zip(number(offset)).map(|(limit, offset)| limit + offset);
        let template = TopTemplate {
            terms,
            complete,
            limit: builder.expression(limit),
            offset: offset.map(|offset| builder.expression(offset)),
        };
        Some((template, most))
    }
}

/// What of the query's ORDER BY and LIMIT a plan of rows may use: the table is all that the query reads, and every filter is pushed.
///
/// # Safety
/// `root` and `relation` are the planner's.
pub unsafe fn rows<'p>(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    builder: &mut Builder<'p, '_>,
) -> Option<RowTopTemplate> {
    // SAFETY: the planner's own structures.
    unsafe {
        let query = &*(*root).parse;
        let alone = (*relation).reloptkind == pg_sys::RelOptKind::RELOPT_BASEREL
            && pg_sys::bms_membership((*root).all_baserels) == pg_sys::BMS_Membership::BMS_SINGLETON
            && (*relation).lateral_relids.is_null();
        let plain = query.commandType == pg_sys::CmdType::CMD_SELECT
            && !query.hasAggs
            && !query.hasWindowFuncs
            && !query.hasTargetSRFs
            && query.groupClause.is_null()
            && query.groupingSets.is_null()
            && query.havingQual.is_null()
            && query.distinctClause.is_null()
            && query.setOperations.is_null()
            && query.rowMarks.is_null();
        if !alone || !plain || query.sortClause.is_null() {
            return None;
        }
        let limit = Node::from_ptr(query.limitCount)?;
        let offset = Node::from_ptr(query.limitOffset);
        let evaluable = |node: Node<'p>| shippable::evaluable(node).is_ok() && !contains_column(node);
        if !evaluable(limit) || offset.is_some_and(|o| !evaluable(o)) {
            return None;
        }
        // Without the LIMIT PostgreSQL would compute the targets of all rows, and might fail.
        let targets = list::pointers::<pg_sys::TargetEntry>((*root).processed_tlist);
        let column = |node: Node<'_>| matches!(node.view(), View::Var(_));
        if !targets.iter().filter_map(|t| Node::from_ptr((**t).expr)).all(|t| cannot_fail(t, &column)) {
            return None;
        }
        let clause = list::pointers::<pg_sys::SortGroupClause>(query.sortClause).into_iter().next()?;
        let entry = pg_sys::get_sortgroupclause_tle(clause, (*root).processed_tlist);
        let expression = Node::from_ptr((*entry).expr)?;
        let View::Var(var) = uncast(expression).view() else { return None };
        if var.relation != (*relation).relid || var.levels_up != 0 || var.attribute <= 0 {
            return None;
        }
        let (column, ty) = builder.column(var.attribute).ok()?;
        let descending = shippable::sort_direction(ty, (*clause).sortop, expression.collation())?;
        Some(RowTopTemplate {
            column,
            descending,
            nulls_first: (*clause).nulls_first,
            limit: builder.expression(limit),
            offset: offset.map(|offset| builder.expression(offset)),
        })
    }
}

/// Without changes of type or collation, which leave values as they are.
fn uncast(node: Node<'_>) -> Node<'_> {
    match node.view() {
        View::Relabel(arg) => uncast(arg),
        _ => node,
    }
}

fn contains_column(node: Node<'_>) -> bool {
    node.any(&mut |n| matches!(n.view(), View::Var(_) | View::Aggregate(_)))
}

/// The type whose order an output has; `None`: an order that the engine does not know.
fn ordered_type(
    target: Target,
    keys: &[KeyTemplate],
    aggregates: &[AggregateTemplate],
    builder: &Builder<'_, '_>,
) -> Option<LogicalType> {
    let column = |c: usize| builder.ty(c);
    match target {
        Target::Key(key) => match keys.get(key)? {
            KeyTemplate::Column(c) => column(*c),
            _ => None,
        },
        Target::Aggregate(nth) => match aggregates.get(nth)?.result {
            Finish::Int8 => Some(LogicalType::Int8),
            Finish::Bool => Some(LogicalType::Bool),
            Finish::Float8 | Finish::FloatAverage | Finish::Float => Some(LogicalType::Float8),
            Finish::Numeric { .. } | Finish::NumericAverage { .. } | Finish::NumericVariance { .. } => {
                Some(LogicalType::Numeric { precision: 38, scale: 0 })
            }
            Finish::Column(c) => column(c),
            _ => None,
        },
        Target::Grouping(_) | Target::Folded(..) => None,
    }
}

/// Whether computing a target raises no error, whatever the values. `is_given`: what is there already.
fn cannot_fail(target: Node<'_>, is_given: &dyn Fn(Node<'_>) -> bool) -> bool {
    use pg_sys::NodeTag::*;
    !target.walk(&mut |n| {
        if is_given(n) || !contains_column(n) {
            return Walk::Skip;
        }
        let safe = match n.view() {
            View::Const { .. } | View::Param | View::Placeholder | View::Relabel(_) => true,
            View::Bool(..) | View::NullTest { .. } | View::BooleanTest { .. } => true,
            View::Op(op) | View::Distinct(op) => never_fails(lookup::operator_function(op.operator)),
            View::Func(f) => never_fails(f.function),
            View::Case { .. } | View::Coalesce(_) => true,
            View::Other => matches!(n.tag(), T_List | T_CaseWhen | T_CollateExpr),
            View::MinMax { .. } | View::NullIf(_) | View::RowCompare(_) | View::IoCast(_) => false,
            View::ArrayOp { .. } | View::Aggregate(_) | View::Grouping(_) | View::Var(_) => false,
        };
        if safe { Walk::Descend } else { Walk::Stop }
    })
}

/// Of functions of sums, counts and averages, which have at most some 60 digits.
fn never_fails(function: pg_sys::Oid) -> bool {
    use pg_sys::*;
    lookup::is_leakproof(function)
        || matches!(
            function.to_u32(),
            F_ROUND_NUMERIC
                | F_ROUND_NUMERIC_INT4
                | F_ROUND_FLOAT8
                | F_TRUNC_NUMERIC
                | F_TRUNC_NUMERIC_INT4
                | F_TRUNC_FLOAT8
                | F_FLOOR_NUMERIC
                | F_FLOOR_FLOAT8
                | F_CEIL_NUMERIC
                | F_CEIL_FLOAT8
                | F_ABS_NUMERIC
                | F_ABS_FLOAT8
                | F_NUMERIC_INT2
                | F_NUMERIC_INT4
                | F_NUMERIC_INT8
                | F_NUMERIC_ADD
                | F_NUMERIC_SUB
                | F_NUMERIC_MUL
                | F_FLOAT8_INT2
                | F_FLOAT8_INT4
                | F_FLOAT8_INT8
                | F_INT8_INT4
        )
}

/// The bound LIMIT; `None`: all groups are wanted.
pub fn bind(template: &GroupsTemplate, inputs: &Inputs) -> Result<Option<Top>> {
    let Some(top) = &template.top else { return Ok(None) };
    let Some(limit) = wanted(top.limit, top.offset, inputs)? else { return Ok(None) };
    let terms = top.terms.iter().map(|term| {
        let by = match term.target {
            Target::Key(key) => By::Key(key),
            Target::Aggregate(nth) => By::Aggregate(nth),
            Target::Grouping(_) | Target::Folded(..) => return Err(malformed()),
        };
        Ok(Term { by, descending: term.descending, nulls_first: term.nulls_first })
    });
    Ok(Some(Top { terms: terms.collect::<Result<_>>()?, limit, complete: top.complete }))
}

/// [`bind`] of rows.
pub fn bind_rows(top: &RowTopTemplate, inputs: &Inputs) -> Result<Option<RowTop>> {
    let RowTopTemplate { column, descending, nulls_first, .. } = *top;
    let limit = wanted(top.limit, top.offset, inputs)?;
    Ok(limit.map(|limit| RowTop { column, descending, nulls_first, limit }))
}

/// The number of rows that LIMIT and OFFSET ask for.
fn wanted(limit: usize, offset: Option<usize>, inputs: &Inputs) -> Result<Option<usize>> {
    let number = |expression: usize| {
        let compiled = inputs.expressions.whole(expression).ok_or_else(malformed)?;
        Ok::<_, Error>(inputs.expressions.evaluator().evaluate(compiled, None).map(|value| value.value() as i64))
    };
    let offset = offset.map(&number).transpose()?.flatten().unwrap_or(0);
    // Of negative numbers PostgreSQL complains.
    let wanted = number(limit)?.and_then(|limit| usize::try_from(limit.checked_add(offset)?).ok());
    Ok(wanted.filter(|_| offset >= 0))
}

fn malformed() -> Error {
    basalt_engine::Error::invalid("the plan does not fit its expressions").into()
}
