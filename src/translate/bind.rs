//! Templates into the engine's filters, once parameters have their values.

use basalt_engine::plan::{self, Computed, Filter, Point, Predicate, Test};
use basalt_engine::types::{LogicalType, MICROS_PER_DAY, Physical, Value};
use pgrx::pg_sys::{self, Datum, Oid};

use super::host::{Made, PgHost};
use super::pieces::{self, Stored};
use super::template::{
    Comparison, ComputedTemplate, ConstantTemplate, Domain, FilterTemplate, Leaf, LeafTest, MappedTemplate, Pieces,
};
use crate::error::{Error, Result};
use crate::pg::eval::Expressions;
use crate::pg::numeric::Scaled;
use crate::pg::types::base_type;
use crate::pg::{array, lookup, time, values};

/// One column of the plan, as the filter's binding sees it.
#[derive(Clone, Copy)]
pub struct BoundColumn {
    pub ty: LogicalType,
    pub declared: Oid,
    pub typmod: i32,
}

/// What templates are bound in.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    pub columns: &'a [BoundColumn],
    pub expressions: &'a Expressions,
    /// What a stored I64 column may hold.
    pub stored: &'a dyn Fn(usize) -> Stored,
}

/// Least and greatest number of an I64 column that is asked for; `None`: none is.
type Limits<'a> = &'a dyn Fn(usize) -> Option<(i64, i64)>;

/// Binds `template`. Predicates that PostgreSQL evaluates are registered with `host`.
pub fn bind(template: &FilterTemplate, scope: Scope<'_>, host: &mut PgHost) -> Result<Filter> {
    bind_within(template, scope, &|_| Some((i64::MIN, i64::MAX)), host)
}

/// The same where rows outside of `limits` are left out anyway.
pub fn bind_within(
    template: &FilterTemplate,
    scope: Scope<'_>,
    limits: Limits<'_>,
    host: &mut PgHost,
) -> Result<Filter> {
    let Scope { columns, expressions, .. } = scope;
    Ok(match template {
        FilterTemplate::And(list) => {
            // Times that the others leave out need not be cut.
            let mut parts = Vec::with_capacity(list.len());
            for part in list {
                parts.push(if part.has_pieces() { None } else { Some(bind_within(part, scope, limits, host)?) });
            }
            for (nth, part) in list.iter().enumerate().filter(|(_, p)| p.has_pieces()) {
                let narrower = |column| {
                    parts.iter().flatten().try_fold(limits(column)?, |(low, high), part| {
                        let (least, greatest) = plan::bounds(part, column)?;
                        Some((low.max(least), high.min(greatest)))
                    })
                };
                let bound = bind_within(part, scope, &narrower, host)?;
                parts[nth] = Some(bound);
            }
            simplify(parts.into_iter().flatten().collect(), true)
        }
        FilterTemplate::Or(list) => {
            let parts = list.iter().map(|p| bind_within(p, scope, limits, host)).collect::<Result<Vec<_>>>()?;
            simplify(parts, false)
        }
        FilterTemplate::Pieces { leaf, pieces } => {
            let column = columns.get(leaf.column).ok_or_else(malformed)?;
            match passing(leaf, pieces, scope, limits)? {
                Some(times) if times.is_empty() => Filter::Const(false),
                Some(times) => Filter::Test(Predicate { column: leaf.column, test: Test::Within(times) }),
                None => bind_leaf(leaf, *column, expressions, host)?,
            }
        }
        FilterTemplate::Constant { expression, negated } => {
            let compiled = expressions.whole(*expression).ok_or_else(malformed)?;
            let value = expressions.evaluator().evaluate(compiled, None);
            Filter::Const(value.is_some_and(|v| (v.value() as u8 != 0) != *negated))
        }
        FilterTemplate::Leaf(leaf) => {
            let column = columns.get(leaf.column).ok_or_else(malformed)?;
            bind_leaf(leaf, *column, expressions, host)?
        }
    })
}

/// The times at which a test is true; `None`: finding out is as much as to look at the values.
fn passing(leaf: &Leaf, pieces: &[Pieces], scope: Scope<'_>, limits: Limits<'_>) -> Result<Option<Vec<(i64, i64)>>> {
    let column = scope.columns.get(leaf.column).ok_or_else(malformed)?;
    let Some(limits) = limits(leaf.column) else { return Ok(Some(Vec::new())) };
    let Stored { mut ranges, rows } = (scope.stored)(leaf.column);
    pieces::clamp(&mut ranges, Some(limits));
    if pieces::reach_infinity(&ranges, column.ty) {
        return Ok(None);
    }
    let most = usize::try_from(rows).unwrap_or(usize::MAX);
    let test = (leaf.expression, leaf.negated);
    pieces::passing(scope.expressions, test, pieces, *column, &ranges, most)
}

/// Binds a computed column; `scope` has those before it.
pub fn computed(template: &ComputedTemplate, scope: Scope<'_>, host: &mut PgHost) -> Result<Computed> {
    let expressions = scope.expressions;
    let classes = std::cell::RefCell::new(host);
    let mut constant = |constant: &ConstantTemplate| -> Result<Value> {
        let expression = match *constant {
            ConstantTemplate::Integer(value) => return Ok(Value::I64(value)),
            ConstantTemplate::Ordinal { expression }
            | ConstantTemplate::Float { expression }
            | ConstantTemplate::Decimal { expression, .. }
            | ConstantTemplate::Class { expression, .. } => expression,
        };
        let compiled = expressions.whole(expression).ok_or_else(malformed)?;
        let Some(datum) = expressions.evaluator().evaluate(compiled, None) else { return Ok(Value::Null) };
        let ty = base_type(compiled.ty, -1).0;
        Ok(match *constant {
            ConstantTemplate::Class { class, .. } => classes.borrow_mut().class_of(class, datum)?,
            ConstantTemplate::Float { .. } => Value::F64(float(datum, ty)?),
            ConstantTemplate::Decimal { scale, .. } => match values::numeric_scaled(datum, scale) {
                Scaled::Exact(value) => Value::I128(value),
                _ => return Err(malformed()),
            },
            _ => Value::I64(match ty {
                pg_sys::DATEOID => i64::from(datum.value() as i32),
                pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => datum.value() as i64,
                _ => integer(datum, ty)?,
            }),
        })
    };
    let mut condition = |filter: &FilterTemplate| bind(filter, scope, *classes.borrow_mut());
    Ok(Computed::Native(template.expr.bind(&mut constant, &mut condition)?))
}

/// Binds a mapped column.
pub fn mapped(template: &MappedTemplate, scope: Scope<'_>, host: &mut PgHost) -> Result<Computed> {
    let Scope { columns, expressions, .. } = scope;
    let compiled = expressions.whole(template.expression).ok_or_else(malformed)?;
    let node = expressions.node(template.expression).ok_or_else(malformed)?;
    let inputs = template.columns.iter().map(|c| columns.get(*c).copied().ok_or_else(malformed));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let declared = Oid::from(template.declared);
    let result = match template.class {
        Some(class) => Made::Class(class),
        None => Made::Value(BoundColumn { ty: template.ty, declared, typmod: template.typmod }),
    };
    Ok(Computed::Mapped(plan::Mapped {
        columns: template.columns.clone(),
        function: host.add_function(compiled, node, &inputs, result),
        of_null: template.of_null,
        infallible: template.infallible,
    }))
}

/// Drops constants from a conjunction (`and`) or disjunction.
fn simplify(parts: Vec<Filter>, and: bool) -> Filter {
    if parts.contains(&Filter::Const(!and)) {
        return Filter::Const(!and);
    }
    let mut kept: Vec<Filter> = parts.into_iter().filter(|p| *p != Filter::Const(and)).collect();
    match (kept.len(), and) {
        (0, _) => Filter::Const(and),
        (1, _) => kept.remove(0),
        (_, true) => Filter::And(kept),
        (_, false) => Filter::Or(kept),
    }
}

fn malformed() -> Error {
    basalt_engine::Error::invalid("the plan does not fit its expressions").into()
}

fn bind_leaf(leaf: &Leaf, column: BoundColumn, expressions: &Expressions, host: &mut PgHost) -> Result<Filter> {
    let test = |test| Filter::Test(Predicate { column: leaf.column, test });
    let evaluate = |operand| -> Result<Option<(Datum, Oid)>> {
        let compiled = expressions.operand(leaf.expression, operand).ok_or_else(malformed)?;
        Ok(expressions.evaluator().evaluate(compiled, None).map(|value| (value, compiled.ty)))
    };
    Ok(match leaf.test {
        LeafTest::IsNull => test(if leaf.negated { Test::IsNotNull } else { Test::IsNull }),
        LeafTest::Bool { value, or_null } => {
            let is = test(Test::In(vec![Value::I64(i64::from(value))]));
            if or_null { Filter::Or(vec![is, test(Test::IsNull)]) } else { is }
        }
        LeafTest::Compare { op, operand, domain } => {
            let op = if leaf.negated { op.negate() } else { op };
            match evaluate(operand)? {
                None => Filter::Const(false),
                Some((datum, ty)) => {
                    let point = point(column.ty, domain, datum, ty)?;
                    compare(leaf, column, op, point, expressions, host)?
                }
            }
        }
        LeafTest::Distinct { operand, domain } => match (evaluate(operand)?, leaf.negated) {
            (None, false) => test(Test::IsNotNull),
            (None, true) => test(Test::IsNull),
            (Some((datum, ty)), true) => {
                plan::select(leaf.column, Comparison::Eq, point(column.ty, domain, datum, ty)?)
            }
            (Some((datum, ty)), false) => {
                let point = point(column.ty, domain, datum, ty)?;
                Filter::Or(vec![plan::select(leaf.column, Comparison::Ne, point), test(Test::IsNull)])
            }
        },
        LeafTest::Array { op, any, domain } => {
            // NOT (x = ANY (a)) is x <> ALL (a), and the like.
            let (op, any) = if leaf.negated { (op.negate(), !any) } else { (op, any) };
            let Some((array, array_type)) = evaluate(1)? else { return Ok(Filter::Const(false)) };
            let element_type = lookup::element_type(array_type).ok_or_else(malformed)?;
            let elements = array::elements(array, element_type);
            // Nothing to compare with: true of NULL, too.
            if elements.is_empty() {
                return Ok(Filter::Const(!any));
            }
            if !any && elements.contains(&None) {
                return Ok(Filter::Const(false));
            }
            let points = elements
                .into_iter()
                .flatten()
                .map(|datum| point(column.ty, domain, datum, element_type))
                .collect::<Result<Vec<_>>>()?;
            match (op, any) {
                (Comparison::Eq, true) => match exact(points) {
                    values if values.is_empty() => Filter::Const(false),
                    values => test(Test::In(values)),
                },
                (Comparison::Ne, false) => match exact(points) {
                    values if values.is_empty() => test(Test::IsNotNull),
                    values => test(Test::NotIn(values)),
                },
                _ => {
                    let parts = points
                        .into_iter()
                        .map(|point| compare(leaf, column, op, point, expressions, host))
                        .collect::<Result<Vec<_>>>()?;
                    simplify(parts, !any)
                }
            }
        }
        LeafTest::Host { null_too } => host_test(leaf, column, null_too, expressions, host)?,
    })
}

/// The values that points stand for; those between values equal none.
fn exact(points: Vec<Point>) -> Vec<Value> {
    points.into_iter().filter_map(|p| if let Point::Exactly(v) = p { Some(v) } else { None }).collect()
}

fn compare(
    leaf: &Leaf,
    column: BoundColumn,
    op: Comparison,
    point: Point,
    expressions: &Expressions,
    host: &mut PgHost,
) -> Result<Filter> {
    if let (Comparison::Like | Comparison::NotLike, Point::Exactly(Value::Bytes(pattern))) = (op, &point) {
        // A pattern that ends in its escape character is an error once a value is compared with it: PostgreSQL's to raise.
        if pattern.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1 {
            return host_test(leaf, column, false, expressions, host);
        }
    }
    Ok(plan::select(leaf.column, op, point))
}

fn host_test(
    leaf: &Leaf,
    column: BoundColumn,
    of_null: bool,
    expressions: &Expressions,
    host: &mut PgHost,
) -> Result<Filter> {
    let compiled = expressions.whole(leaf.expression).ok_or_else(malformed)?;
    let predicate = host.add_predicate(compiled, leaf.negated, column);
    let test = if of_null { Test::HostOfNull(predicate) } else { Test::Host(predicate) };
    Ok(Filter::Test(Predicate { column: leaf.column, test }))
}

/// Where an operand stands among the values of a column.
pub fn point(column: LogicalType, domain: Domain, datum: Datum, ty: Oid) -> Result<Point> {
    let exactly = |v: i64| Ok(Point::Exactly(Value::I64(v)));
    match domain {
        Domain::Integer => exactly(integer(datum, ty)?),
        Domain::Decimal { scale, nan } => Ok(decimal(values::numeric_scaled(datum, scale), column, nan)),
        Domain::Float => Ok(Point::Exactly(Value::F64(float(datum, ty)?))),
        Domain::IntegerAsFloat => Ok(plan::float_among_integers(float(datum, ty)?)),
        Domain::Bytes => Ok(Point::Exactly(Value::Bytes(bytes(datum, ty)))),
        Domain::Time => time_point(column, datum, ty),
    }
}

fn time_point(column: LogicalType, datum: Datum, ty: Oid) -> Result<Point> {
    const NO_BEGIN: i64 = i64::MIN;
    const NO_END: i64 = i64::MAX;
    let exactly = |v: i64| Ok(Point::Exactly(Value::I64(v)));
    // Beyond every finite time, and yet not infinite.
    let late = || Ok(Point::After(Value::I64(NO_END - 1)));
    let early = || Ok(Point::After(Value::I64(NO_BEGIN)));
    let raw = datum.value() as i64;
    let day = i64::from(datum.value() as i32);
    match (column, ty) {
        (LogicalType::Date, pg_sys::DATEOID) => exactly(day),
        (LogicalType::Date, _) => match raw {
            NO_BEGIN => exactly(i64::from(i32::MIN)),
            NO_END => exactly(i64::from(i32::MAX)),
            _ => Ok(plan::whole_units(raw, MICROS_PER_DAY)),
        },
        (LogicalType::Timestamp, pg_sys::DATEOID) => match LogicalType::Date.to_micros(day) {
            NO_END if day != i64::from(i32::MAX) => late(),
            micros => exactly(micros),
        },
        (LogicalType::TimestampTz, pg_sys::DATEOID | pg_sys::TIMESTAMPOID) => {
            let (micros, overflow) = if ty == pg_sys::DATEOID {
                time::date_to_timestamptz(day as i32)
            } else {
                time::timestamp_to_timestamptz(raw)
            };
            match overflow {
                0 => exactly(micros),
                1.. => late(),
                _ => early(),
            }
        }
        _ => exactly(raw),
    }
}

fn decimal(place: Scaled, column: LogicalType, nan: bool) -> Point {
    let wide = column.physical() == Physical::I128;
    let (lowest, highest) = if wide { (i128::MIN, i128::MAX) } else { (i128::from(i64::MIN), i128::from(i64::MAX)) };
    let value = |n: i128| if wide { Value::I128(n) } else { Value::I64(n as i64) };
    // NaN's number is no number, and the largest of all.
    let greatest = if nan { highest - 1 } else { highest };
    let above = || if nan { Point::After(value(greatest)) } else { Point::AboveAll };
    match place {
        Scaled::NaN if nan => Point::Exactly(value(highest)),
        Scaled::NaN => Point::AboveAll,
        Scaled::Infinity { negative: true } | Scaled::TooLarge { negative: true } => Point::BelowAll,
        Scaled::Infinity { negative: false } | Scaled::TooLarge { negative: false } => above(),
        Scaled::Exact(n) | Scaled::Above { floor: n } if n > greatest => above(),
        Scaled::Exact(n) | Scaled::Above { floor: n } if n < lowest => Point::BelowAll,
        Scaled::Exact(n) => Point::Exactly(value(n)),
        Scaled::Above { floor } => Point::After(value(floor)),
    }
}

pub fn integer(datum: Datum, ty: Oid) -> Result<i64> {
    let raw = datum.value();
    Ok(match ty {
        pg_sys::BOOLOID => i64::from(raw as u8 != 0),
        pg_sys::INT2OID => i64::from(raw as i16),
        pg_sys::INT4OID => i64::from(raw as i32),
        pg_sys::INT8OID => raw as i64,
        _ => return Err(malformed()),
    })
}

fn float(datum: Datum, ty: Oid) -> Result<f64> {
    let raw = datum.value();
    let value = match ty {
        pg_sys::FLOAT4OID => f64::from(f32::from_bits(raw as u32)),
        pg_sys::FLOAT8OID => f64::from_bits(raw as u64),
        _ => return Err(malformed()),
    };
    Ok(if value.is_nan() { f64::NAN } else { value })
}

fn bytes(datum: Datum, ty: Oid) -> Vec<u8> {
    if ty == pg_sys::UUIDOID { values::uuid_bytes(datum).to_vec() } else { values::with_varlena(datum, <[u8]>::to_vec) }
}
