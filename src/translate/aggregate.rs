//! Aggregates and grouping columns into templates.

use basalt_engine::types::LogicalType;
use pgrx::pg_sys;

use super::filter::Builder;
use super::shippable::{self, Reason};
use super::template::{AggregateTemplate, FilterTemplate, Finish, Function, KeyTemplate};
use super::time;
use crate::pg::lookup;
use crate::pg::node::{AggregateView, Node, View};

/// Translates an aggregate call. `orders`: the collations that the plan's extrema compare by.
pub fn aggregate<'p>(
    builder: &mut Builder<'p, '_>,
    call: &AggregateView<'p>,
    orders: &mut Vec<u32>,
) -> Result<AggregateTemplate, Reason> {
    translate(builder, call, orders)
        .map_err(|reason| format!("aggregate {}: {reason}", lookup::function_name(call.function)))
}

fn translate<'p>(
    builder: &mut Builder<'p, '_>,
    call: &AggregateView<'p>,
    orders: &mut Vec<u32>,
) -> Result<AggregateTemplate, Reason> {
    if !call.simple {
        return Err("it is not a plain aggregate of one step".into());
    }
    if call.ordered && !call.distinct {
        return Err("it has an ORDER BY".into());
    }
    let filter = match call.filter {
        Some(filter) => builder.filter(filter).map_err(|reason| format!("its FILTER is not pushed down: {reason}"))?,
        None => FilterTemplate::everything(),
    };
    let (function, result) = function(builder, call, orders)?;
    Ok(AggregateTemplate { function, filter, result })
}

fn function<'p>(
    builder: &mut Builder<'p, '_>,
    call: &AggregateView<'p>,
    orders: &mut Vec<u32>,
) -> Result<(Function, Finish), Reason> {
    let id = call.function.to_u32();
    let argument = match (id, call.args.as_slice()) {
        (pg_sys::F_COUNT_, []) => return Ok((Function::CountStar, Finish::Int8)),
        (_, [argument]) => *argument,
        _ => return Err("the engine does not compute it".into()),
    };
    // What an aggregate of its own name is must be known before its argument is complained about.
    let known = matches!(id, pg_sys::F_COUNT_ANY | pg_sys::F_BOOL_AND | pg_sys::F_EVERY | pg_sys::F_BOOL_OR)
        || is_sum(id)
        || is_average(id)
        || is_minimum(id)
        || is_maximum(id);
    if !known {
        return Err("the engine does not compute it".into());
    }
    if id == pg_sys::F_COUNT_ANY
        && !call.distinct
        && let View::Const { null: false, .. } = argument.view()
    {
        return Ok((Function::CountStar, Finish::Int8));
    }
    let column = plain_column(argument).ok_or("its argument is not a plain column")?;
    let declared = builder.declared(column);
    let (column, ty) = builder.column(column)?;
    if id == pg_sys::F_COUNT_ANY {
        if !call.distinct {
            return Ok((Function::Count(column), Finish::Int8));
        }
        shippable::equality(ty, declared, argument.collation())?;
        return Ok((Function::CountDistinct(column), Finish::Int8));
    }
    if is_minimum(id) || is_maximum(id) {
        let order = shippable::extremum_order(ty, declared, call.collation)?.map(|collation| {
            let collation = collation.to_u32();
            orders.iter().position(|o| *o == collation).unwrap_or_else(|| {
                orders.push(collation);
                orders.len() - 1
            })
        });
        let function = if is_minimum(id) { Function::Min(column, order) } else { Function::Max(column, order) };
        return Ok((function, Finish::Column(column)));
    }
    match id {
        pg_sys::F_BOOL_AND | pg_sys::F_EVERY if ty == LogicalType::Bool => {
            return Ok((Function::BoolAnd(column), Finish::Bool));
        }
        pg_sys::F_BOOL_OR if ty == LogicalType::Bool => return Ok((Function::BoolOr(column), Finish::Bool)),
        _ => {}
    }
    if call.distinct {
        return Err("DISTINCT is only computed for count, min, max and booleans".into());
    }
    let float = matches!(ty, LogicalType::Float4 | LogicalType::Float8);
    match id {
        pg_sys::F_SUM_FLOAT4 if float => Ok((Function::Sum(column), Finish::Float4)),
        pg_sys::F_SUM_FLOAT8 if float => Ok((Function::Sum(column), Finish::Float8)),
        pg_sys::F_AVG_FLOAT4 | pg_sys::F_AVG_FLOAT8 if float => Ok((Function::Avg(column), Finish::FloatAverage)),
        pg_sys::F_SUM_INT2 | pg_sys::F_SUM_INT4 => {
            shippable::sum_scale(ty)?;
            Ok((Function::Sum(column), Finish::Int8))
        }
        pg_sys::F_SUM_INT8 | pg_sys::F_SUM_NUMERIC => {
            Ok((Function::Sum(column), Finish::Numeric { scale: shippable::sum_scale(ty)? }))
        }
        pg_sys::F_AVG_INT2 | pg_sys::F_AVG_INT4 | pg_sys::F_AVG_INT8 | pg_sys::F_AVG_NUMERIC => {
            Ok((Function::Avg(column), Finish::NumericAverage { scale: shippable::sum_scale(ty)? }))
        }
        _ => Err(format!("the engine does not compute it over type {}", lookup::type_name(declared))),
    }
}

fn is_sum(id: u32) -> bool {
    (pg_sys::F_SUM_INT8..=pg_sys::F_SUM_NUMERIC).contains(&id)
}

fn is_average(id: u32) -> bool {
    (pg_sys::F_AVG_INT8..=pg_sys::F_AVG_INTERVAL).contains(&id)
}

fn is_maximum(id: u32) -> bool {
    (pg_sys::F_MAX_INT8..=pg_sys::F_MAX_NUMERIC).contains(&id)
        || matches!(id, pg_sys::F_MAX_BPCHAR | pg_sys::F_MAX_ANYARRAY | pg_sys::F_MAX_ANYENUM | pg_sys::F_MAX_INET)
}

fn is_minimum(id: u32) -> bool {
    (pg_sys::F_MIN_INT8..=pg_sys::F_MIN_NUMERIC).contains(&id)
        || matches!(id, pg_sys::F_MIN_BPCHAR | pg_sys::F_MIN_ANYARRAY | pg_sys::F_MIN_ANYENUM | pg_sys::F_MIN_INET)
}

/// The attribute that an argument is, through casts that change nothing.
fn plain_column(node: Node<'_>) -> Option<i16> {
    match node.view() {
        View::Var(v) if v.levels_up == 0 && v.attribute > 0 => Some(v.attribute),
        View::Relabel(arg) => plain_column(arg),
        _ => None,
    }
}

/// Translates a grouping column. `Ok(None)`: it has no column, so it is one value for the whole query.
pub fn key<'p>(builder: &mut Builder<'p, '_>, expression: Node<'p>) -> Result<Option<KeyTemplate>, Reason> {
    let Some(attribute) = builder.single_column(expression)? else {
        shippable::evaluable(expression)?;
        return Ok(None);
    };
    let View::Var(_) = expression.view() else { return time::key(builder, expression).map(Some) };
    let declared = builder.declared(attribute);
    let (column, ty) = builder.column(attribute)?;
    shippable::equality(ty, declared, expression.collation())?;
    Ok(Some(KeyTemplate::Column(column)))
}
