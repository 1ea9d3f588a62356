//! The same queries, one row at a time, by the definitions.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use basalt_engine::exec::AggregateResult;
use basalt_engine::plan::{AggregateFunction, AggregateQuery, Bound, Filter, Key, Statistic, Test};
use basalt_engine::types::{LogicalType, Value};

use crate::host;

/// PostgreSQL's order of two values of one type, not NULL.
pub fn compare(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::I64(a), Value::I64(b)) => a.cmp(b),
        (Value::I128(a), Value::I128(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::F64(a), Value::F64(b)) => match (a.is_nan(), b.is_nan()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => a.partial_cmp(b).unwrap(),
        },
        _ => panic!("{left:?} and {right:?}"),
    }
}

fn like(pattern: &[char], value: &[char]) -> bool {
    match pattern.split_first() {
        None => value.is_empty(),
        Some(('%', rest)) => (0..=value.len()).any(|n| like(rest, &value[n..])),
        Some(('_', rest)) => !value.is_empty() && like(rest, &value[1..]),
        Some(('\\', rest)) => !value.is_empty() && value[0] == rest[0] && like(&rest[1..], &value[1..]),
        Some((c, rest)) => value.first() == Some(c) && like(rest, &value[1..]),
    }
}

fn chars(bytes: &[u8]) -> Vec<char> {
    std::str::from_utf8(bytes).unwrap().chars().collect()
}

pub fn selects(filter: &Filter, row: &[Value]) -> bool {
    match filter {
        Filter::Const(all) => *all,
        Filter::And(nodes) => nodes.iter().all(|n| selects(n, row)),
        Filter::Or(nodes) => nodes.iter().any(|n| selects(n, row)),
        Filter::Test(p) => {
            let value = &row[p.column];
            match &p.test {
                Test::IsNull => value.is_null(),
                Test::IsNotNull => !value.is_null(),
                Test::HostOfNull(number) if value.is_null() => host::predicate_of_null(number.0),
                _ if value.is_null() => false,
                Test::Range { low, high } => {
                    let above = match low {
                        Bound::Unbounded => true,
                        Bound::Included(b) => compare(value, b).is_ge(),
                        Bound::Excluded(b) => compare(value, b).is_gt(),
                    };
                    let below = match high {
                        Bound::Unbounded => true,
                        Bound::Included(b) => compare(value, b).is_le(),
                        Bound::Excluded(b) => compare(value, b).is_lt(),
                    };
                    above && below
                }
                Test::In(list) => list.iter().any(|v| compare(value, v).is_eq()),
                Test::Within(ranges) => {
                    ranges.iter().any(|r| matches!(value, Value::I64(v) if (r.0..=r.1).contains(v)))
                }
                Test::NotIn(list) => !list.iter().any(|v| compare(value, v).is_eq()),
                Test::Like { pattern, negated } => {
                    let Value::Bytes(v) = value else { panic!() };
                    like(&chars(pattern), &chars(v)) != *negated
                }
                Test::Host(number) | Test::HostOfNull(number) => {
                    let bytes = match value {
                        Value::Bytes(v) => v.clone(),
                        Value::I64(v) => v.to_le_bytes().to_vec(),
                        Value::I128(v) => v.to_le_bytes().to_vec(),
                        Value::F64(v) => v.to_le_bytes().to_vec(),
                        Value::Null => panic!(),
                    };
                    host::predicate(number.0, &bytes)
                }
            }
        }
    }
}

/// Text that is equal for values that group together.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::F64(v) if v.is_nan() => "NaN".into(),
        Value::F64(v) => format!("{:?}", v + 0.0),
        other => format!("{other:?}"),
    }
}

fn key(key: &Key, row: &[Value]) -> String {
    match key {
        Key::Column(c) => canonical(&row[*c]),
        Key::Exact(_) => panic!("not generated"),
        Key::Buckets { column, buckets } => match &row[*column] {
            Value::Null => canonical(&buckets.null.map_or(Value::Null, |n| Value::I64(i64::from(n)))),
            Value::I64(time) => {
                let piece = buckets.starts.iter().rposition(|s| s <= time).unwrap();
                canonical(&Value::I64(i64::from(buckets.values[piece])))
            }
            other => panic!("{other:?}"),
        },
    }
}

/// Sum of values none of which is NULL.
fn sum(values: &[&Value], ty: LogicalType) -> Value {
    match values[0] {
        Value::F64(_) => {
            Value::F64(values.iter().map(|v| if let Value::F64(f) = v { *f } else { panic!() }).sum::<f64>())
        }
        _ => {
            let numeric = matches!(ty, LogicalType::Numeric { .. });
            let mut total = 0i128;
            for v in values {
                match v {
                    Value::I64(LogicalType::NUMERIC_NAN_I64) if numeric => {
                        return Value::I128(LogicalType::NUMERIC_NAN_I128);
                    }
                    Value::I128(LogicalType::NUMERIC_NAN_I128) if numeric => {
                        return Value::I128(LogicalType::NUMERIC_NAN_I128);
                    }
                    Value::I64(v) => total += i128::from(*v),
                    Value::I128(v) => total += v,
                    other => panic!("{other:?}"),
                }
            }
            Value::I128(total)
        }
    }
}

fn bits(values: &[&Value], op: impl Fn(i64, i64) -> i64) -> String {
    let integers = values.iter().map(|v| if let Value::I64(v) = v { *v } else { panic!() });
    canonical(&integers.reduce(op).map_or(Value::Null, Value::I64))
}

/// `n * sum(xy) - sum(x) * sum(y)` of floats that are multiples of an eighth; NaN if any is not finite.
fn deviations(pairs: &[(f64, f64)]) -> f64 {
    if pairs.iter().any(|(x, y)| !x.is_finite() || !y.is_finite()) {
        return f64::NAN;
    }
    let whole = |v: f64| {
        assert_eq!(v * 8.0, (v * 8.0).round());
        (v * 8.0) as i128
    };
    let (mut x, mut y, mut xy) = (0, 0, 0);
    for (a, b) in pairs {
        (x, y, xy) = (x + whole(*a), y + whole(*b), xy + whole(*a) * whole(*b));
    }
    (pairs.len() as i128 * xy - x * y) as f64 / 64.0 / pairs.len() as f64
}

/// By the definitions; of integers the numerator, as half the sum of the squares of all differences.
fn variance(values: &[&Value], ty: LogicalType, sample: bool, root: bool) -> Value {
    const BASE: u128 = 10u128.pow(18);
    let n = values.len();
    if n <= usize::from(sample) {
        return Value::Null;
    }
    if let Value::F64(_) = values[0] {
        let pairs: Vec<_> = values.iter().map(|v| if let Value::F64(f) = v { (*f, *f) } else { panic!() }).collect();
        let variance = deviations(&pairs) / (n - usize::from(sample)) as f64;
        return Value::F64(if root { variance.sqrt() } else { variance });
    }
    if let Value::I128(LogicalType::NUMERIC_NAN_I128) = sum(values, ty) {
        return Value::I128(LogicalType::NUMERIC_NAN_I128);
    }
    let integer = |v: &Value| match v {
        Value::I64(v) => i128::from(*v),
        Value::I128(v) => *v,
        other => panic!("{other:?}"),
    };
    let mut parts = [0u128; 3];
    for (i, a) in values.iter().enumerate() {
        for b in &values[..i] {
            let difference = integer(a).abs_diff(integer(b));
            let (high, low) = (difference / BASE, difference % BASE);
            let (one, two) = (parts[0] + low * low, parts[1] + 2 * high * low);
            let two = two + one / BASE;
            parts = [one % BASE, two % BASE, parts[2] + high * high + two / BASE];
        }
    }
    let digits = format!("{}{:018}{:018}", parts[2], parts[1], parts[0]);
    match digits.parse::<i128>() {
        Ok(v) if v != LogicalType::NUMERIC_NAN_I128 => Value::I128(v),
        _ => Value::Bytes(digits.trim_start_matches('0').into()),
    }
}

fn regression(pairs: &[(f64, f64)], statistic: Statistic) -> Option<f64> {
    use Statistic::*;
    let n = pairs.len() as f64;
    if pairs.is_empty() || (pairs.len() < 2 && statistic == CovarianceSample) {
        return None;
    }
    let (sx, sy) = (pairs.iter().map(|p| p.0).sum::<f64>(), pairs.iter().map(|p| p.1).sum::<f64>());
    let squares: Vec<(f64, f64)> = pairs.iter().map(|p| (p.0, p.0)).collect();
    let others: Vec<(f64, f64)> = pairs.iter().map(|p| (p.1, p.1)).collect();
    let (sxx, syy, sxy) = (deviations(&squares), deviations(&others), deviations(pairs));
    match statistic {
        AverageX => Some(sx / n),
        AverageY => Some(sy / n),
        SumXx => Some(sxx),
        SumYy => Some(syy),
        SumXy => Some(sxy),
        CovariancePopulation => Some(sxy / n),
        CovarianceSample => Some(sxy / (n - 1.0)),
        Correlation => (sxx != 0.0 && syy != 0.0).then(|| sxy / (sxx * syy).sqrt()),
        RSquared if sxx == 0.0 => None,
        RSquared if syy == 0.0 => Some(1.0),
        RSquared => Some(sxy * sxy / (sxx * syy)),
        Slope => (sxx != 0.0).then(|| sxy / sxx),
        Intercept => (sxx != 0.0).then(|| (sy - sx * sxy / sxx) / n),
    }
}

/// The aggregates of a group: one text each.
fn aggregate(query: &AggregateQuery, rows: &[&Vec<Value>]) -> Vec<String> {
    query
        .aggregates
        .iter()
        .map(|call| {
            let rows: Vec<&&Vec<Value>> = rows.iter().filter(|r| selects(&call.filter, r)).collect();
            let values = |c: usize| rows.iter().map(|r| &r[c]).filter(|v| !v.is_null()).collect::<Vec<&Value>>();
            let extreme = |c: usize, max: bool, order: Option<basalt_engine::plan::OrderId>| {
                let by = |a: &&&Value, b: &&&Value| match (order, a, b) {
                    (Some(o), Value::Bytes(a), Value::Bytes(b)) => host::order(o.0, a, b),
                    _ => compare(a, b),
                };
                let values = values(c);
                let found = if max { values.iter().max_by(by) } else { values.iter().min_by(by) };
                found.map_or("Null".to_string(), |v| canonical(v))
            };
            use AggregateFunction::*;
            match call.function {
                CountStar => format!("{:?}", Value::I64(rows.len() as i64)),
                Count(c) => format!("{:?}", Value::I64(values(c).len() as i64)),
                CountDistinct(c) => {
                    let distinct: BTreeSet<String> = values(c).into_iter().map(canonical).collect();
                    format!("{:?}", Value::I64(distinct.len() as i64))
                }
                Sum(c) | Avg(c) => {
                    let values = values(c);
                    let total = if values.is_empty() { Value::Null } else { sum(&values, query.columns[c].ty) };
                    match call.function {
                        Avg(_) => format!("{} / {}", canonical(&total), values.len()),
                        _ => canonical(&total),
                    }
                }
                Min(c, order) => extreme(c, false, order),
                Max(c, order) => extreme(c, true, order),
                BitAnd(c) => bits(&values(c), |a, b| a & b),
                BitOr(c) => bits(&values(c), |a, b| a | b),
                BitXor(c) => bits(&values(c), |a, b| a ^ b),
                Variance { column, sample, root } => {
                    let values = values(column);
                    format!(
                        "{} / {}",
                        canonical(&variance(&values, query.columns[column].ty, sample, root)),
                        values.len()
                    )
                }
                Regression { y, x, statistic } => {
                    let float = |v: &Value| if let Value::F64(f) = v { Some(*f) } else { None };
                    let pairs: Vec<(f64, f64)> = rows.iter().filter_map(|r| float(&r[x]).zip(float(&r[y]))).collect();
                    canonical(&regression(&pairs, statistic).map_or(Value::Null, Value::F64))
                }
                CountPairs(y, x) => {
                    let pairs = rows.iter().filter(|r| !r[x].is_null() && !r[y].is_null()).count();
                    format!("{:?}", Value::I64(pairs as i64))
                }
                BoolAnd(c) => extreme(c, false, None),
                BoolOr(c) => extreme(c, true, None),
            }
        })
        .collect()
}

pub type Answer = BTreeMap<Vec<String>, Vec<String>>;

pub fn answer(query: &AggregateQuery, rows: &[Vec<Value>]) -> Answer {
    let mut groups: BTreeMap<Vec<String>, Vec<&Vec<Value>>> = BTreeMap::new();
    if query.keys.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    for row in rows.iter().filter(|r| selects(&query.filter, r)) {
        groups.entry(query.keys.iter().map(|k| key(k, row)).collect()).or_default().push(row);
    }
    groups.into_iter().map(|(k, rows)| (k, aggregate(query, &rows))).collect()
}

/// The engine's result in the oracle's form.
pub fn texts(result: &AggregateResult) -> Answer {
    let mut answer = Answer::new();
    for group in 0..result.groups {
        let keys = result.keys.iter().map(|c| canonical(&c.values.get(group).unwrap())).collect();
        let aggregates = result
            .aggregates
            .iter()
            .map(|c| match c.counts.as_slice() {
                [] => canonical(&c.values.get(group).unwrap()),
                counts => format!("{} / {}", canonical(&c.values.get(group).unwrap()), counts[group]),
            })
            .collect();
        assert!(answer.insert(keys, aggregates).is_none(), "a group came twice");
    }
    answer
}
