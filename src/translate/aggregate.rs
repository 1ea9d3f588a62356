//! Aggregates and grouping columns into templates.

use basalt_engine::types::{LogicalType, Physical};
use pgrx::pg_sys::{self, Oid};

use super::filter::Builder;
use super::host;
use super::shippable::{self, Reason};
use super::template::{AggregateFunction, AggregateTemplate, FilterTemplate, Finish, KeyTemplate, OrderId, Statistic};
use super::time;
use crate::pg::node::{AggregateView, Node, View};
use crate::pg::{lookup, types};

/// Translates an aggregate call. `orders`: the collations that the plan's extrema compare by.
/// With it comes the aggregate that says how many decimals its results show, if rows differ in that.
pub fn aggregate<'p>(
    builder: &mut Builder<'p, '_>,
    call: &AggregateView<'p>,
    orders: &mut Vec<u32>,
) -> Result<(AggregateTemplate, Option<AggregateTemplate>), Reason> {
    translate(builder, call, orders)
        .map_err(|reason| format!("aggregate {}: {reason}", lookup::function_name(call.function)))
}

fn translate<'p>(
    builder: &mut Builder<'p, '_>,
    call: &AggregateView<'p>,
    orders: &mut Vec<u32>,
) -> Result<(AggregateTemplate, Option<AggregateTemplate>), Reason> {
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
    // A function of PostgreSQL must not fail in rows that FILTER leaves out.
    let (function, result, decimals) = match call.filter {
        Some(_) => builder.conditionally(|builder| function(builder, call, orders))?,
        None => function(builder, call, orders)?,
    };
    let decimals = decimals.map(|column| AggregateTemplate {
        function: AggregateFunction::Max(column, None),
        filter: filter.clone(),
        result: Finish::Column(column),
        decimals: None,
    });
    Ok((AggregateTemplate { function, filter, result, decimals: None }, decimals))
}

/// What an aggregate is of.
struct Input {
    column: usize,
    ty: LogicalType,
    declared: Oid,
    /// The column that holds how many decimals its values show, if they differ.
    decimals: Option<usize>,
}

fn input<'p>(builder: &mut Builder<'p, '_>, argument: Node<'p>) -> Result<Input, Reason> {
    if let Some(attribute) = plain_column(argument) {
        let declared = builder.declared(attribute);
        let (column, ty) = builder.column(attribute)?;
        return Ok(Input { column, ty, declared, decimals: None });
    }
    let computed = builder.computed(argument)?;
    Ok(Input { column: computed.position, ty: computed.ty, declared: argument.ty(), decimals: computed.decimals })
}

fn function<'p>(
    builder: &mut Builder<'p, '_>,
    call: &AggregateView<'p>,
    orders: &mut Vec<u32>,
) -> Result<(AggregateFunction, Finish, Option<usize>), Reason> {
    let id = call.function.to_u32();
    let argument = match (id, call.args.as_slice()) {
        (pg_sys::F_COUNT_, []) => return Ok((AggregateFunction::CountStar, Finish::Int8, None)),
        (_, [y, x]) if let Some(statistic) = statistic(id) => {
            let (function, finish) = pair(builder, call, statistic, *y, *x)?;
            return Ok((function, finish, None));
        }
        (_, [argument]) => *argument,
        _ => return Err("the engine does not compute it".into()),
    };
    // What an aggregate of its own name is must be known before its argument is complained about.
    let known = matches!(id, pg_sys::F_COUNT_ANY | pg_sys::F_BOOL_AND | pg_sys::F_EVERY | pg_sys::F_BOOL_OR)
        || is_sum(id)
        || is_average(id)
        || is_minimum(id)
        || is_maximum(id)
        || variance(id).is_some()
        || bits(id).is_some();
    if !known {
        return Err("the engine does not compute it".into());
    }
    if id == pg_sys::F_COUNT_ANY
        && !call.distinct
        && let View::Const { null: false, .. } = argument.view()
    {
        return Ok((AggregateFunction::CountStar, Finish::Int8, None));
    }
    if id == pg_sys::F_COUNT_ANY {
        return Ok((count(builder, argument, call.distinct)?, Finish::Int8, None));
    }
    let extremum = is_minimum(id) || is_maximum(id);
    let Input { column, ty, declared, decimals } = input(builder, argument).or_else(|reason| {
        let mapped = if extremum { builder.mapped_value(argument).ok() } else { None };
        let (column, ty) = mapped.ok_or(reason)?;
        Ok::<_, Reason>(Input { column, ty, declared: argument.ty(), decimals: None })
    })?;
    if is_minimum(id) || is_maximum(id) {
        if decimals.is_some() {
            return Err("its argument's values have different numbers of decimals".into());
        }
        let order = shippable::extremum_order(ty, declared, call.collation)?.map(|collation| {
            let collation = collation.to_u32();
            let known = orders.iter().position(|o| *o == collation).unwrap_or_else(|| {
                orders.push(collation);
                orders.len() - 1
            });
            OrderId(known as u32)
        });
        let function =
            if is_minimum(id) { AggregateFunction::Min(column, order) } else { AggregateFunction::Max(column, order) };
        return Ok((function, Finish::Column(column), None));
    }
    match id {
        pg_sys::F_BOOL_AND | pg_sys::F_EVERY if ty == LogicalType::Bool => {
            return Ok((AggregateFunction::BoolAnd(column), Finish::Bool, None));
        }
        pg_sys::F_BOOL_OR if ty == LogicalType::Bool => {
            return Ok((AggregateFunction::BoolOr(column), Finish::Bool, None));
        }
        _ => {}
    }
    let bits = bits(id).filter(|of| !call.distinct || of(0) != AggregateFunction::BitXor(0));
    if let Some(of) = bits
        && matches!(ty, LogicalType::Int2 | LogicalType::Int4 | LogicalType::Int8)
    {
        return Ok((of(column), Finish::Column(column), None));
    }
    if call.distinct {
        return Err("DISTINCT is only computed for count, min, max and booleans".into());
    }
    let float = matches!(ty, LogicalType::Float4 | LogicalType::Float8);
    if let Some((sample, root)) = variance(id) {
        let function = AggregateFunction::Variance { column, sample, root };
        return match float {
            true => Ok((function, Finish::Float, None)),
            false => {
                let finish = Finish::NumericVariance { scale: shippable::sum_scale(ty)?, sample, root };
                Ok((function, finish, decimals))
            }
        };
    }
    match id {
        pg_sys::F_SUM_FLOAT4 if float => Ok((AggregateFunction::Sum(column), Finish::Float4, None)),
        pg_sys::F_SUM_FLOAT8 if float => Ok((AggregateFunction::Sum(column), Finish::Float8, None)),
        pg_sys::F_AVG_FLOAT4 | pg_sys::F_AVG_FLOAT8 if float => {
            Ok((AggregateFunction::Avg(column), Finish::FloatAverage, None))
        }
        pg_sys::F_SUM_INT2 | pg_sys::F_SUM_INT4 => {
            shippable::sum_scale(ty)?;
            Ok((AggregateFunction::Sum(column), Finish::Int8, None))
        }
        pg_sys::F_SUM_INT8 | pg_sys::F_SUM_NUMERIC => {
            Ok((AggregateFunction::Sum(column), Finish::Numeric { scale: shippable::sum_scale(ty)? }, decimals))
        }
        pg_sys::F_AVG_INT2 | pg_sys::F_AVG_INT4 | pg_sys::F_AVG_INT8 | pg_sys::F_AVG_NUMERIC => {
            Ok((AggregateFunction::Avg(column), Finish::NumericAverage { scale: shippable::sum_scale(ty)? }, decimals))
        }
        _ => Err(format!("the engine does not compute it over type {}", lookup::type_name(declared))),
    }
}

/// An aggregate of two columns; `None`: it counts the pairs.
fn pair<'p>(
    builder: &mut Builder<'p, '_>,
    call: &AggregateView<'p>,
    statistic: Option<Statistic>,
    y: Node<'p>,
    x: Node<'p>,
) -> Result<(AggregateFunction, Finish), Reason> {
    if call.distinct {
        return Err("DISTINCT of pairs is not computed by the engine".into());
    }
    let (y, x) = (input(builder, y)?, input(builder, x)?);
    let Some(statistic) = statistic else {
        return Ok((AggregateFunction::CountPairs(y.column, x.column), Finish::Int8));
    };
    for of in [&y, &x] {
        if !matches!(of.ty, LogicalType::Float4 | LogicalType::Float8) {
            return Err(format!("the engine does not compute it over type {}", lookup::type_name(of.declared)));
        }
    }
    Ok((AggregateFunction::Regression { y: y.column, x: x.column, statistic }, Finish::Float))
}

/// The statistic of two columns that an aggregate is; inner `None`: the number of pairs.
fn statistic(id: u32) -> Option<Option<Statistic>> {
    use Statistic::*;
    Some(Some(match id {
        pg_sys::F_REGR_COUNT => return Some(None),
        pg_sys::F_REGR_AVGX => AverageX,
        pg_sys::F_REGR_AVGY => AverageY,
        pg_sys::F_REGR_SXX => SumXx,
        pg_sys::F_REGR_SYY => SumYy,
        pg_sys::F_REGR_SXY => SumXy,
        pg_sys::F_REGR_R2 => RSquared,
        pg_sys::F_REGR_SLOPE => Slope,
        pg_sys::F_REGR_INTERCEPT => Intercept,
        pg_sys::F_COVAR_POP => CovariancePopulation,
        pg_sys::F_COVAR_SAMP => CovarianceSample,
        pg_sys::F_CORR => Correlation,
        _ => return None,
    }))
}

/// Whether a variance is that of a sample, and whether its square root is taken.
fn variance(id: u32) -> Option<(bool, bool)> {
    match id {
        pg_sys::F_VAR_POP_INT8..=pg_sys::F_VAR_POP_NUMERIC => Some((false, false)),
        pg_sys::F_STDDEV_POP_INT8..=pg_sys::F_STDDEV_POP_NUMERIC => Some((false, true)),
        pg_sys::F_VAR_SAMP_INT8..=pg_sys::F_VAR_SAMP_NUMERIC | pg_sys::F_VARIANCE_INT8..=pg_sys::F_VARIANCE_NUMERIC => {
            Some((true, false))
        }
        pg_sys::F_STDDEV_SAMP_INT8..=pg_sys::F_STDDEV_SAMP_NUMERIC
        | pg_sys::F_STDDEV_INT8..=pg_sys::F_STDDEV_NUMERIC => Some((true, true)),
        _ => None,
    }
}

fn bits(id: u32) -> Option<fn(usize) -> AggregateFunction> {
    match id {
        pg_sys::F_BIT_AND_INT2 | pg_sys::F_BIT_AND_INT4 | pg_sys::F_BIT_AND_INT8 => Some(AggregateFunction::BitAnd),
        pg_sys::F_BIT_OR_INT2 | pg_sys::F_BIT_OR_INT4 | pg_sys::F_BIT_OR_INT8 => Some(AggregateFunction::BitOr),
        pg_sys::F_BIT_XOR_INT2 | pg_sys::F_BIT_XOR_INT4 | pg_sys::F_BIT_XOR_INT8 => Some(AggregateFunction::BitXor),
        _ => None,
    }
}

fn count<'p>(builder: &mut Builder<'p, '_>, argument: Node<'p>, distinct: bool) -> Result<AggregateFunction, Reason> {
    let mark = builder.mark();
    let known = input(builder, argument).and_then(|of| {
        if distinct {
            shippable::equality(of.ty, of.declared, argument.collation())?;
        }
        Ok(of.column)
    });
    let column = match known {
        Ok(column) => column,
        Err(reason) => {
            builder.reset(mark);
            builder.class(argument).map_err(|_| reason)?.0
        }
    };
    Ok(if distinct { AggregateFunction::CountDistinct(column) } else { AggregateFunction::Count(column) })
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
    if !builder.has_column(expression)? {
        shippable::evaluable(expression)?;
        return Ok(None);
    }
    let Ok(Some(attribute)) = builder.single_column(expression) else {
        return computed_key(builder, expression).map(Some);
    };
    let (column, ty) = builder.column(attribute)?;
    if ty.is_time() && builder.stored(column).is_some() && !matches!(expression.view(), View::Var(_)) {
        let mark = builder.mark();
        let by_time = time::key(builder, expression);
        return match by_time {
            Ok(key) => Ok(Some(key)),
            Err(reason) => {
                builder.reset(mark);
                computed_key(builder, expression).map(Some).map_err(|_| reason)
            }
        };
    }
    if let View::Var(_) = expression.view() {
        let declared = builder.declared(attribute);
        let (column, ty) = builder.column(attribute)?;
        return match shippable::equality(ty, declared, expression.collation()) {
            Ok(()) => Ok(Some(KeyTemplate::Column(column))),
            Err(reason) => class_key(builder, expression).map(Some).map_err(|more| format!("{reason}; {more}")),
        };
    }
    computed_key(builder, expression).map(Some)
}

fn class_key<'p>(builder: &mut Builder<'p, '_>, expression: Node<'p>) -> Result<KeyTemplate, Reason> {
    let (column, class) = builder.class(expression)?;
    Ok(KeyTemplate::Class { column, class })
}

fn computed_key<'p>(builder: &mut Builder<'p, '_>, expression: Node<'p>) -> Result<KeyTemplate, Reason> {
    let ty = types::logical_type(expression.ty(), expression.typmod());
    let mark = builder.mark();
    // What PostgreSQL is not asked about may have any number of values.
    if ty == LogicalType::Text
        && host::known(expression).is_some()
        && shippable::equality(ty, expression.ty(), expression.collation()).is_ok()
        && let Ok((column, _)) = builder.mapped_value(expression)
    {
        return Ok(KeyTemplate::Column(column));
    }
    match builder.computed(expression) {
        Ok(computed) if computed.decimals.is_none() => Ok(KeyTemplate::Column(computed.position)),
        Ok(_) => {
            builder.reset(mark);
            class_key(builder, expression)
        }
        Err(reason) => class_key(builder, expression).map_err(|other| {
            // Numbers the engine computes by itself, or says why not.
            let number = matches!(ty, LogicalType::NumericText | LogicalType::Numeric { .. })
                || ty.physical() != Physical::Bytes;
            if number && builder.single_column(expression).is_err() { reason } else { other }
        }),
    }
}
