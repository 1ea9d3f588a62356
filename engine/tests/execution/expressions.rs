//! Computed columns: the engine and a row-at-a-time oracle agree, errors of selected rows included.

use std::sync::Arc;

use basalt_engine::exec::{AggregateExecution, DerivedKeys};
use basalt_engine::plan::{
    AggregateCall, AggregateFunction, AggregateQuery, Attribute, Attributes, Bound, ColumnRef, Combination, Comparison,
    Computed, Expr, Filter, Function, HostFunction, HostPredicate, Key, KeyIndex, Lane, Lookup, Mapped, Number,
    Operator, Predicate, Rounding, Test,
};
use basalt_engine::types::{LogicalType, Physical, Value};
use basalt_engine::{Budget, Error};
use proptest::prelude::*;

use crate::generate::{Random, Table, columns, filter, options, types};
use crate::host::{self, TestHost};
use crate::oracle;
use crate::properties::held;

const NAN: i128 = LogicalType::NUMERIC_NAN_I128;
const NUMERIC: LogicalType = LogicalType::Numeric { precision: 38, scale: 4 };

/// A value in its lane; `Err`: it has none.
type Outcome = Result<Value, ()>;

fn column_of(lane: Lane, r: &mut Random) -> usize {
    match lane {
        Lane::Int => [1, 1, 1, 2, 8, 12, 13][r.below(7)],
        Lane::Decimal => [4, 4, 4, 5, 1][r.below(5)],
        Lane::Float => 3,
    }
}

fn constant(lane: Lane, r: &mut Random) -> Expr {
    match lane {
        _ if r.one_in(8) => Expr::Null,
        Lane::Int => Expr::Constant(Value::I64(r.below(7) as i64 - 2)),
        Lane::Decimal => Expr::Constant(Value::I128(r.below(900) as i128 - 300)),
        Lane::Float => Expr::Constant(Value::F64(r.below(9) as f64 * 0.5 - 1.0)),
    }
}

fn condition(table: &Table, r: &mut Random) -> Filter {
    if r.one_in(5) {
        // Asked of the host: only in rows that reach the condition.
        let column = [6, 7, 10][r.below(3)];
        return Filter::Test(Predicate { column, test: Test::Host(HostPredicate(r.below(3) as u32)) });
    }
    filter(1, table, r)
}

fn expr(lane: Lane, depth: usize, table: &Table, r: &mut Random) -> Expr {
    if depth == 0 || r.one_in(6) {
        return if r.one_in(3) { constant(lane, r) } else { Expr::Column(column_of(lane, r)) };
    }
    let sub = |lane: Lane, r: &mut Random| Box::new(expr(lane, depth - 1, table, r));
    let list = |r: &mut Random| (0..1 + r.below(3)).map(|_| expr(lane, depth - 1, table, r)).collect::<Vec<_>>();
    match r.below(8) {
        0..=2 => {
            use Operator::*;
            let (number, operators) = match lane {
                Lane::Int => (
                    [Number::Int2, Number::Int4, Number::Int8][r.below(3)],
                    vec![Add, Subtract, Multiply, Divide, Remainder],
                ),
                Lane::Decimal => (Number::Decimal, vec![Add, Subtract, Multiply]),
                Lane::Float => (Number::Float8, vec![Add, Subtract, Multiply]),
            };
            let operator = operators[r.below(operators.len())];
            // Remainders are of their operands' type, so that no narrower one is tested.
            let number = if operator == Remainder { Number::Int8 } else { number };
            Expr::Binary { operator, number, left: sub(lane, r), right: sub(lane, r) }
        }
        3 => {
            let number = match lane {
                Lane::Int => Number::Int8,
                Lane::Decimal => Number::Decimal,
                Lane::Float => Number::Float8,
            };
            let functions = match lane {
                Lane::Int => vec![Function::Negate(number), Function::Absolute(number), Function::ToInt(Number::Int2)],
                Lane::Decimal => vec![
                    Function::Negate(number),
                    Function::Absolute(number),
                    Function::Scale(2),
                    Function::Round(1, Rounding::Nearest),
                    Function::Round(2, Rounding::Down),
                    Function::Precision(9),
                ],
                Lane::Float => vec![Function::Negate(number), Function::RoundFloat(Rounding::Nearest)],
            };
            Expr::Unary { function: functions[r.below(functions.len())], argument: sub(lane, r) }
        }
        4 if lane == Lane::Int => {
            use Comparison::*;
            let lane = [Lane::Int, Lane::Decimal, Lane::Float][r.below(3)];
            let comparison = [Lt, Le, Eq, Ge, Gt, Ne][r.below(6)];
            Expr::Compare { comparison, lane, left: sub(lane, r), right: sub(lane, r) }
        }
        4 => Expr::Extreme { lane, greatest: r.one_in(2), arguments: list(r) },
        5 => Expr::Coalesce { lane, arguments: list(r) },
        6 if lane == Lane::Int => Expr::Truth { yes: condition(table, r), no: condition(table, r) },
        _ => {
            let whens = (0..1 + r.below(3)).map(|_| (condition(table, r), expr(lane, depth - 1, table, r))).collect();
            Expr::Case { lane, whens, otherwise: sub(lane, r) }
        }
    }
}

fn wide(value: &Value) -> Option<i128> {
    match value {
        Value::I64(v) => Some(i128::from(*v)),
        Value::I128(v) => Some(*v),
        _ => None,
    }
}

/// A column's value in a lane.
fn lifted(value: &Value, ty: LogicalType, lane: Lane) -> Value {
    match (lane, value, ty) {
        (Lane::Decimal, Value::I64(LogicalType::NUMERIC_NAN_I64), LogicalType::Numeric { .. }) => Value::I128(NAN),
        (Lane::Decimal, Value::I64(v), _) => Value::I128(i128::from(*v)),
        (_, other, _) => other.clone(),
    }
}

fn checked(number: Number, value: Option<i128>) -> Outcome {
    match (number.limits(), value) {
        (Some((low, high)), Some(v)) if v >= low && v <= high => Ok(Value::I64(v as i64)),
        (None, Some(v)) if v != NAN => Ok(Value::I128(v)),
        _ => Err(()),
    }
}

fn evaluate(expr: &Expr, lane: Lane, row: &[Value], types: &[LogicalType]) -> Outcome {
    let null_if = |values: &[&Value]| values.iter().any(|v| v.is_null());
    match expr {
        Expr::Null => Ok(Value::Null),
        Expr::Column(c) => Ok(lifted(&row[*c], types[*c], lane)),
        Expr::Constant(value) => Ok(lifted(value, LogicalType::Int8, lane)),
        Expr::Binary { operator, number, left, right } => {
            let (a, b) = (evaluate(left, number.lane(), row, types)?, evaluate(right, number.lane(), row, types)?);
            if null_if(&[&a, &b]) {
                return Ok(Value::Null);
            }
            if let (Value::F64(a), Value::F64(b)) = (&a, &b) {
                let value = match operator {
                    Operator::Add => a + b,
                    Operator::Subtract => a - b,
                    _ => a * b,
                };
                let overflow = value.is_infinite() && !a.is_infinite() && !b.is_infinite();
                return if overflow { Err(()) } else { Ok(Value::F64(value)) };
            }
            let (a, b) = (wide(&a).unwrap(), wide(&b).unwrap());
            if *number == Number::Decimal && (a == NAN || b == NAN) {
                return Ok(Value::I128(NAN));
            }
            checked(
                *number,
                match operator {
                    Operator::Add => a.checked_add(b),
                    Operator::Subtract => a.checked_sub(b),
                    Operator::Multiply => a.checked_mul(b),
                    Operator::Divide => a.checked_div(b),
                    Operator::Remainder => a.checked_rem(b),
                },
            )
        }
        Expr::Unary { function, argument } => {
            let value = evaluate(argument, lane, row, types)?;
            let v = match &value {
                Value::Null => return Ok(Value::Null),
                Value::F64(v) => {
                    return Ok(Value::F64(if matches!(function, Function::Negate(_)) {
                        -v
                    } else {
                        v.round_ties_even()
                    }));
                }
                other => wide(other).unwrap(),
            };
            match function {
                Function::ToInt(number) => checked(*number, Some(v)),
                Function::Negate(number) if number.lane() == Lane::Int => checked(*number, Some(-v)),
                Function::Absolute(number) if number.lane() == Lane::Int => checked(*number, Some(v.abs())),
                _ if v == NAN => Ok(Value::I128(NAN)),
                Function::Negate(_) => Ok(Value::I128(-v)),
                Function::Absolute(_) => Ok(Value::I128(v.abs())),
                Function::Scale(2) => checked(Number::Decimal, v.checked_mul(100)),
                Function::Round(1, _) => Ok(Value::I128((v.abs() / 10 + i128::from(v.abs() % 10 >= 5)) * v.signum())),
                Function::Round(..) => Ok(Value::I128(v.div_euclid(100))),
                Function::Precision(9) if v.abs() >= 1_000_000_000 => Err(()),
                Function::Precision(9) => Ok(Value::I128(v)),
                other => panic!("{other:?}"),
            }
        }
        Expr::Compare { comparison, lane, left, right } => {
            let (a, b) = (evaluate(left, *lane, row, types)?, evaluate(right, *lane, row, types)?);
            if null_if(&[&a, &b]) {
                return Ok(Value::Null);
            }
            let order = oracle::compare(&a, &b);
            Ok(Value::I64(i64::from(match comparison {
                Comparison::Lt => order.is_lt(),
                Comparison::Le => order.is_le(),
                Comparison::Eq => order.is_eq(),
                Comparison::Ge => order.is_ge(),
                Comparison::Gt => order.is_gt(),
                _ => order.is_ne(),
            })))
        }
        Expr::Truth { yes, no } => Ok(match (oracle::selects(yes, row), oracle::selects(no, row)) {
            (true, _) => Value::I64(1),
            (_, true) => Value::I64(0),
            _ => Value::Null,
        }),
        Expr::Case { whens, otherwise, .. } => {
            let taken = whens.iter().find(|(when, _)| oracle::selects(when, row));
            evaluate(taken.map_or(otherwise, |(_, result)| result), lane, row, types)
        }
        Expr::Coalesce { arguments, .. } => {
            for argument in arguments {
                let value = evaluate(argument, lane, row, types)?;
                if !value.is_null() {
                    return Ok(value);
                }
            }
            Ok(Value::Null)
        }
        Expr::Extreme { greatest, arguments, .. } => {
            let mut best = Value::Null;
            for argument in arguments {
                let value = evaluate(argument, lane, row, types)?;
                let better = |o: std::cmp::Ordering| if *greatest { o.is_gt() } else { o.is_lt() };
                if !value.is_null() && (best.is_null() || better(oracle::compare(&value, &best))) {
                    best = value;
                }
            }
            Ok(best)
        }
    }
}

/// A lookup of some of a column's values, and of others.
fn lookup(table: &Table, r: &mut Random) -> (ColumnRef, Vec<Outcome>) {
    let types = types(table.date);
    let column = r.below(types.len());
    let physical = types[column].physical();
    let mut keys: Vec<Value> = Vec::new();
    let known = |keys: &[Value], v: &Value| {
        keys.iter().position(|k| !k.is_null() && !v.is_null() && oracle::compare(k, v).is_eq())
    };
    for row in table.rows.iter().filter(|_| r.one_in(3)) {
        if known(&keys, &row[column]).is_none() {
            keys.push(row[column].clone());
        }
    }
    let other = match physical {
        // Far away: too wide for an index without gaps.
        Physical::I64 => Value::I64([i64::MAX - 5, -900_000_000_000][r.below(2)]),
        Physical::I128 => Value::I128(77),
        Physical::F64 => Value::F64(f64::NAN),
        Physical::Bytes => Value::Bytes(b"nothing like it".to_vec()),
    };
    if r.one_in(2) && known(&keys, &other).is_none() {
        keys.push(other);
    }
    let find = |row: &Vec<Value>| Ok(known(&keys, &row[column]).map_or(Value::Null, |at| Value::I64(at as i64)));
    let outcomes = table.rows.iter().map(find).collect();
    let index = KeyIndex::new(physical, &keys, &Budget::unlimited()).unwrap();
    let lookup = Lookup { column, index: Arc::new(index) };
    (ColumnRef::computed(Computed::Lookup(lookup), LogicalType::Int8), outcomes)
}

/// What the rows of lookup column `column` hold.
fn attribute(column: usize, found: &[Outcome], r: &mut Random) -> (ColumnRef, Vec<Outcome>) {
    let ty = [LogicalType::Int8, NUMERIC, LogicalType::Float8, LogicalType::Text][r.below(4)];
    let most = found.iter().map(|f| if let Ok(Value::I64(at)) = f { *at as usize + 1 } else { 0 }).max().unwrap_or(0);
    let wide = r.one_in(2);
    let mut held = Vec::new();
    for _ in 0..most {
        let n = r.below(6) as i64 - 2;
        held.push(match ty {
            _ if r.one_in(6) => Value::Null,
            LogicalType::Int8 => Value::I64(n),
            LogicalType::Float8 => Value::F64([f64::NAN, -0.0, 0.5, 4096.25, -3.0][r.below(5)]),
            LogicalType::Text => Value::Bytes(format!("value {n}").into_bytes()),
            _ if wide && r.one_in(4) => Value::I128([NAN, 1i128 << 90][r.below(2)]),
            _ => Value::I128(i128::from(n)),
        });
    }
    let of = |f: &Outcome| Ok(if let Ok(Value::I64(at)) = f { held[*at as usize].clone() } else { Value::Null });
    let outcomes = found.iter().map(of).collect();
    let mut values = Attributes::new(ty.physical(), &Budget::unlimited()).unwrap();
    held.iter().for_each(|value| values.push(value).unwrap());
    let values = Arc::new(values.finish().unwrap());
    (ColumnRef::computed(Computed::Attribute(Attribute { column, values }), ty), outcomes)
}

/// A stored integer and a constant.
fn shifted(r: &mut Random) -> Expr {
    let number = [Number::Int2, Number::Int4, Number::Int8][r.below(3)];
    let column = Box::new(Expr::Column(if r.one_in(4) { column_of(Lane::Int, r) } else { 1 }));
    let by = [0, 1, -3, 32_000, 2_147_483_000, i64::MAX - 40][r.below(6)];
    let by = Box::new(Expr::Constant(Value::I64(by)));
    let (operator, left, right) = match r.below(4) {
        0 => (Operator::Subtract, column, by),
        1 => (Operator::Add, by, column),
        _ => (Operator::Add, column, by),
    };
    Expr::Binary { operator, number, left, right }
}

/// A computed column and what the oracle makes of each row.
fn computed(table: &Table, before: &[(ColumnRef, Vec<Outcome>)], r: &mut Random) -> (ColumnRef, Vec<Outcome>) {
    let types = types(table.date);
    if r.one_in(4) {
        let looked_up = |(c, _): &(ColumnRef, _)| matches!(c.computed.as_deref(), Some(Computed::Lookup(_)));
        return match before.iter().position(looked_up) {
            Some(nth) => attribute(types.len() + nth, &before[nth].1, r),
            None => lookup(table, r),
        };
    }
    if r.one_in(3) {
        const SOURCES: [usize; 9] = [1, 2, 3, 4, 5, 6, 7, 10, 14];
        let column = SOURCES[r.below(9)];
        let number = r.below(5) as u32;
        let ty = [LogicalType::Int8, LogicalType::Int8, LogicalType::Float8, LogicalType::Text, LogicalType::Text];
        let of_null = r.one_in(2);
        let shown = |value: &Value| match value {
            Value::Null => None,
            Value::Bytes(v) => Some(v.clone()),
            Value::I64(v) => Some(v.to_le_bytes().to_vec()),
            Value::I128(v) => Some(v.to_le_bytes().to_vec()),
            Value::F64(v) => Some(v.to_le_bytes().to_vec()),
        };
        let mut sources = vec![column];
        if r.one_in(2) {
            sources.extend((0..1 + r.below(3)).map(|_| SOURCES[r.below(9)]));
        }
        let columns = sources.clone();
        let outcome = |row: &Vec<Value>| {
            if let [column] = columns.as_slice() {
                return match shown(&row[*column]) {
                    None if !of_null => Ok(Value::Null),
                    value => Ok(host::function(number, value.as_deref())),
                };
            }
            let mut bytes = Vec::new();
            columns.iter().for_each(|c| Combination::push(&mut bytes, shown(&row[*c]).as_deref()).unwrap());
            Ok(host::function(number, Some(&bytes)))
        };
        let mapped = Mapped { columns: sources, function: HostFunction(number), of_null, infallible: r.one_in(2) };
        let outcomes = table.rows.iter().map(outcome).collect();
        return (ColumnRef::computed(Computed::Mapped(mapped), ty[number as usize]), outcomes);
    }
    let (lane, ty) =
        [(Lane::Int, LogicalType::Int8), (Lane::Decimal, NUMERIC), (Lane::Float, LogicalType::Float8)][r.below(3)];
    let mut made = if lane == Lane::Int && r.one_in(3) { shifted(r) } else { expr(lane, 3, table, r) };
    let mut outcomes: Vec<Outcome> = table.rows.iter().map(|row| evaluate(&made, lane, row, &types)).collect();
    if let Some(nth) = before.iter().position(|(c, _)| c.ty == ty).filter(|_| r.one_in(2)) {
        // Of a column that is computed itself: the oracle adds what it made of both.
        let number = [Number::Int8, Number::Decimal, Number::Float8][lane as usize];
        let column = Box::new(Expr::Column(types.len() + nth));
        made = Expr::Binary { operator: Operator::Add, number, left: column, right: Box::new(made) };
        let pair = |(a, b): (&Outcome, Outcome)| {
            let row = [a.clone()?, b?];
            let (left, right) = (Box::new(Expr::Column(0)), Box::new(Expr::Column(1)));
            let sum = Expr::Binary { operator: Operator::Add, number, left, right };
            evaluate(&sum, lane, &row, &[ty, ty])
        };
        outcomes = before[nth].1.iter().zip(outcomes).map(pair).collect();
    }
    let expr = made;
    (ColumnRef::computed(Computed::Native(expr), ty), outcomes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn computed_columns_agree_with_the_oracle(seed in any::<u64>(), segments in 1..5usize, rows in 0..150usize) {
        let mut r = Random::new(seed);
        let table = Table::new(segments, rows, &mut r);
        for _ in 0..8 {
            let mut plan = columns(table.date);
            let stored = plan.len();
            let mut outcomes = Vec::new();
            let mut made = Vec::new();
            for _ in 0..1 + r.below(4) {
                let column = computed(&table, &made, &mut r);
                made.push(column);
            }
            for (column, outcome) in made {
                plan.push(column);
                outcomes.push(outcome);
            }
            let pick = |r: &mut Random| stored + r.below(outcomes.len());
            let base = filter(1, &table, &mut r);
            let mut keys: Vec<Key> = (0..r.below(3)).map(|_| Key::Column(if r.one_in(3) { r.below(stored) } else { pick(&mut r) })).collect();
            if !keys.is_empty() && r.one_in(2) {
                keys.insert(r.below(2), Key::Column(1));
            }
            let aggregates: Vec<AggregateCall> = (0..1 + r.below(3)).map(|_| {
                let c = pick(&mut r);
                let text = plan[c].ty.physical() == Physical::Bytes;
                let function = match r.below(6) {
                    0 => AggregateFunction::Count(c),
                    1 => AggregateFunction::CountDistinct(c),
                    2 => AggregateFunction::Min(c, None),
                    3 => AggregateFunction::Max(c, None),
                    _ if text => AggregateFunction::Count(c),
                    4 => AggregateFunction::Avg(c),
                    _ => AggregateFunction::Sum(c),
                };
                let clause = if r.one_in(3) { filter(1, &table, &mut r) } else { Filter::Const(true) };
                AggregateCall { function, filter: clause }
            }).collect();
            let tested = r.one_in(3).then(|| pick(&mut r)).filter(|c| plan[*c].ty.physical() != Physical::Bytes);
            let filter = match tested {
                Some(column) => {
                    let zero = match plan[column].ty.physical() {
                        Physical::F64 => Value::F64(0.0),
                        Physical::I128 => Value::I128(0),
                        _ => Value::I64(0),
                    };
                    let test = match r.below(3) {
                        0 => Test::IsNotNull,
                        1 => Test::Range { low: Bound::Included(zero), high: Bound::Unbounded },
                        _ => Test::NotIn(vec![zero]),
                    };
                    Filter::And(vec![base.clone(), Filter::Test(Predicate { column, test })])
                }
                None => base.clone(),
            };
            // What fails in rows that need it fails the query; elsewhere it is as good as NULL.
            let extended: Vec<Vec<Value>> = table.rows.iter().enumerate().map(|(i, row)| {
                row.iter().cloned().chain(outcomes.iter().map(|o| o[i].clone().unwrap_or(Value::Null))).collect()
            }).collect();
            let failed = |c: usize, i: usize| c >= stored && outcomes[c - stored][i].is_err();
            let mut fails = false;
            for (i, row) in extended.iter().enumerate().filter(|(_, row)| oracle::selects(&base, row)) {
                fails |= tested.is_some_and(|c| failed(c, i));
                if !oracle::selects(&filter, row) {
                    continue;
                }
                fails |= keys.iter().any(|k| matches!(k, Key::Column(c) if failed(*c, i)));
                for call in aggregates.iter().filter(|a| oracle::selects(&a.filter, row)) {
                    use AggregateFunction::*;
                    let (Count(c) | CountDistinct(c) | Min(c, _) | Max(c, _) | Avg(c) | Sum(c)) = call.function else { panic!() };
                    fails |= failed(c, i);
                }
            }
            let query = AggregateQuery { columns: plan, filter, keys, aggregates };
            for (threads, at_once, derives) in [(1, 100, false), (1, 100, true), (4, 2, true)] {
                let mut host = TestHost::default();
                let options = options(threads);
                let budget = options.budget.clone();
                let outcome = (|| {
                    let mut query = query.clone();
                    let derived = derives.then(|| DerivedKeys::new(&mut query));
                    let mut execution = AggregateExecution::new(query, options)?;
                    if let Some(derived) = &derived {
                        execution = execution.with_checks(derived.columns());
                    }
                    for part in table.scans.chunks(at_once) {
                        execution.scan(part, &mut host)?;
                    }
                    let result = execution.finish(&mut host)?;
                    Ok(match derived {
                        Some(derived) => derived.expand(result),
                        None => result,
                    })
                })();
                let held = outcome.as_ref().map_or(0, held);
                prop_assert_eq!(budget.used(), held);
                match outcome {
                    Ok(result) => {
                        prop_assert!(!fails, "should fail: {:#?}", query);
                        prop_assert_eq!(oracle::texts(&result), oracle::answer(&query, &extended), "{:#?}", query);
                    }
                    Err(Error::Arithmetic(e)) => prop_assert!(fails, "should not fail with {}: {:#?}", e, query),
                    // Sums of large decimals.
                    Err(Error::OutOfRange { .. }) => {}
                    Err(other) => return Err(TestCaseError::fail(format!("{other}: {query:#?}"))),
                }
            }
        }
    }
}
