//! Tests as sets of ranges: one form for =, <, BETWEEN, IN, NOT IN over anything that is ordered like an integer.

use crate::exec::columns::{float_key, physical_value};
use crate::plan::{Bound, Test};
use crate::types::{Physical, Value};
use crate::{Error, Result};

/// An integer type that ranges are made of.
pub(super) trait Ordinal: Copy + Ord {
    const MIN: Self;
    const MAX: Self;
    fn next(self) -> Option<Self>;
    fn previous(self) -> Option<Self>;
}

macro_rules! ordinal {
    ($t:ty) => {
        impl Ordinal for $t {
            const MIN: Self = <$t>::MIN;
            const MAX: Self = <$t>::MAX;
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    };
}
ordinal!(i64);
ordinal!(i128);
ordinal!(u32);

/// Ascending, disjoint, non-adjacent, inclusive ranges.
pub(super) type Ranges<T> = Vec<(T, T)>;

/// Sorts and joins.
pub(super) fn normalize<T: Ordinal>(mut ranges: Ranges<T>) -> Ranges<T> {
    ranges.retain(|r| r.0 <= r.1);
    ranges.sort_unstable();
    let mut joined: Ranges<T> = Vec::with_capacity(ranges.len());
    for next in ranges {
        match joined.last_mut() {
            Some(last) if last.1.next().is_none_or(|n| next.0 <= n) => last.1 = last.1.max(next.1),
            _ => joined.push(next),
        }
    }
    joined
}

/// All that is in `low..=high` but not in the normalized `ranges`.
pub(super) fn complement<T: Ordinal>(ranges: &[(T, T)], low: T, high: T) -> Ranges<T> {
    let mut rest = Vec::with_capacity(ranges.len() + 1);
    let mut start = Some(low);
    for r in ranges {
        if let (Some(from), Some(to)) = (start, r.0.previous())
            && from <= to
        {
            rest.push((from, to.min(high)));
        }
        start = start.and_then(|from| r.1.next().map(|n| n.max(from)));
    }
    if let Some(from) = start
        && from <= high
    {
        rest.push((from, high));
    }
    rest.retain(|r| r.0 <= r.1);
    rest
}

/// The ranges of `Range`, `In` and `NotIn`, given the order of a value. `None`: another kind of test.
pub(super) fn ranges_of<T: Ordinal>(test: &Test, order: impl Fn(&Value) -> Result<T>) -> Result<Option<Ranges<T>>> {
    let points = |values: &[Value]| -> Result<Ranges<T>> {
        values.iter().map(|v| order(v).map(|o| (o, o))).collect::<Result<_>>().map(normalize)
    };
    Ok(Some(match test {
        Test::Range { low, high } => {
            let low = match low {
                Bound::Unbounded => Some(T::MIN),
                Bound::Included(v) => Some(order(v)?),
                Bound::Excluded(v) => order(v)?.next(),
            };
            let high = match high {
                Bound::Unbounded => Some(T::MAX),
                Bound::Included(v) => Some(order(v)?),
                Bound::Excluded(v) => order(v)?.previous(),
            };
            normalize(low.zip(high).into_iter().collect())
        }
        Test::In(values) => points(values)?,
        Test::NotIn(values) => complement(&points(values)?, T::MIN, T::MAX),
        Test::Within(ranges) => {
            let number = |v: i64| order(&Value::I64(v));
            let ranges = ranges.iter().map(|(low, high)| Ok((number(*low)?, number(*high)?)));
            normalize(ranges.collect::<Result<_>>()?)
        }
        _ => return Ok(None),
    }))
}

pub(super) fn order_i64(value: &Value) -> Result<i64> {
    match value {
        Value::I64(v) => Ok(*v),
        _ => Err(Error::invalid("an operand is of another type than its column")),
    }
}

pub(super) fn order_i128(value: &Value) -> Result<i128> {
    match &*physical_value(value, Physical::I128)? {
        Value::I128(v) => Ok(*v),
        _ => Err(Error::invalid("an operand is of another type than its column")),
    }
}

pub(super) fn order_f64(value: &Value) -> Result<i64> {
    match value {
        Value::F64(v) => Ok(float_key(*v)),
        _ => Err(Error::invalid("an operand is of another type than its column")),
    }
}

/// How a normalized set of ranges meets the inclusive span `min..=max`.
pub(super) enum Overlap {
    Disjoint,
    Covers,
    Partial,
}

pub(super) fn overlap<T: Ordinal>(ranges: &[(T, T)], min: T, max: T) -> Overlap {
    let first = ranges.partition_point(|r| r.1 < min);
    match ranges.get(first) {
        None => Overlap::Disjoint,
        Some(r) if r.0 > max => Overlap::Disjoint,
        Some(r) if r.0 <= min && r.1 >= max => Overlap::Covers,
        Some(_) => Overlap::Partial,
    }
}

/// How many ordinals `ranges` hold, as a share of `total`.
pub(super) fn code_share(ranges: &[(u32, u32)], total: u32) -> f32 {
    let held: u64 = ranges.iter().map(|r| u64::from(r.1 - r.0) + 1).sum();
    (held as f32 / total.max(1) as f32).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn has(ranges: &[(i64, i64)], v: i64) -> bool {
        ranges.iter().any(|r| r.0 <= v && v <= r.1)
    }

    fn edge() -> impl Strategy<Value = i64> {
        prop_oneof![-6..6i64, Just(i64::MIN), Just(i64::MIN + 1), Just(i64::MAX), Just(i64::MAX - 1)]
    }

    fn bound() -> impl Strategy<Value = Bound> {
        prop_oneof![
            Just(Bound::Unbounded),
            edge().prop_map(|v| Bound::Included(Value::I64(v))),
            edge().prop_map(|v| Bound::Excluded(Value::I64(v)))
        ]
    }

    proptest! {
        #[test]
        fn ranges_say_what_the_test_says(
            low in bound(), high in bound(), list in prop::collection::vec(edge(), 0..5),
            probes in prop::collection::vec(edge(), 20), span in (edge(), edge()),
        ) {
            let above = |v: i64| match &low {
                Bound::Included(Value::I64(b)) => v >= *b,
                Bound::Excluded(Value::I64(b)) => v > *b,
                _ => true,
            };
            let below = |v: i64| match &high {
                Bound::Included(Value::I64(b)) => v <= *b,
                Bound::Excluded(Value::I64(b)) => v < *b,
                _ => true,
            };
            let values: Vec<Value> = list.iter().map(|v| Value::I64(*v)).collect();
            let range = ranges_of(&Test::Range { low: low.clone(), high: high.clone() }, order_i64).unwrap().unwrap();
            let inside = ranges_of(&Test::In(values.clone()), order_i64).unwrap().unwrap();
            let outside = ranges_of(&Test::NotIn(values), order_i64).unwrap().unwrap();
            let (min, max) = (span.0.min(span.1), span.0.max(span.1));
            for v in probes {
                prop_assert_eq!(has(&range, v), above(v) && below(v));
                prop_assert_eq!(has(&inside, v), list.contains(&v));
                prop_assert_eq!(has(&outside, v), !list.contains(&v));
                if v >= min && v <= max {
                    match overlap(&outside, min, max) {
                        Overlap::Disjoint => prop_assert!(list.contains(&v)),
                        Overlap::Covers => prop_assert!(!list.contains(&v)),
                        Overlap::Partial => {}
                    }
                }
            }
        }
    }
}
