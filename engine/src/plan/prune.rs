//! What statistics and a filter say about each other, without touching data.

use std::cmp::Ordering;

use super::{Bound, ColumnRef, Filter, Predicate, Test};
use crate::segment::SegmentStatistics;
use crate::types::Value;

/// Whether a segment may hold a row that `filter` selects; `false` is certain. `columns`: the plan's.
pub fn may_select(filter: &Filter, columns: &[ColumnRef], statistics: &SegmentStatistics) -> bool {
    match filter {
        Filter::Const(all) => *all && statistics.rows > 0,
        Filter::And(parts) => statistics.rows > 0 && parts.iter().all(|p| may_select(p, columns, statistics)),
        Filter::Or(parts) => parts.iter().any(|p| may_select(p, columns, statistics)),
        Filter::Test(predicate) => statistics.rows > 0 && test(predicate, columns, statistics),
    }
}

fn test(predicate: &Predicate, columns: &[ColumnRef], statistics: &SegmentStatistics) -> bool {
    let Some(column) = columns.get(predicate.column).filter(|c| c.computed.is_none()) else { return true };
    let Some(known) = statistics.columns.iter().find(|c| c.id == column.id) else {
        // The segment is older than the column: every row holds one value.
        let null = column.missing.is_null();
        return match &predicate.test {
            Test::IsNull => null,
            Test::HostOfNull(_) => true,
            _ if null => false,
            Test::IsNotNull => true,
            other => may_hold(other, &column.missing, &column.missing),
        };
    };
    match &predicate.test {
        Test::IsNull => known.nulls > 0,
        Test::HostOfNull(_) => true,
        _ if known.nulls >= statistics.rows => false,
        Test::IsNotNull => true,
        other => may_hold(other, &known.min, &known.max),
    }
}

/// Whether values from `min` to `max` (`Null`: unknown) may pass a test that NULL does not pass.
fn may_hold(test: &Test, min: &Value, max: &Value) -> bool {
    let below_max = |v: &Value| compare(v, max).is_none_or(Ordering::is_le);
    let above_min = |v: &Value| compare(v, min).is_none_or(Ordering::is_ge);
    match test {
        Test::Range { low, high } => {
            let low = match low {
                Bound::Unbounded => true,
                Bound::Included(v) => below_max(v),
                Bound::Excluded(v) => compare(v, max).is_none_or(Ordering::is_lt),
            };
            let high = match high {
                Bound::Unbounded => true,
                Bound::Included(v) => above_min(v),
                Bound::Excluded(v) => compare(v, min).is_none_or(Ordering::is_gt),
            };
            low && high
        }
        Test::In(values) => values.iter().any(|v| below_max(v) && above_min(v)),
        Test::NotIn(values) => {
            let constant = compare(min, max) == Some(Ordering::Equal);
            !(constant && values.iter().any(|v| compare(v, min) == Some(Ordering::Equal)))
        }
        Test::Within(ranges) => {
            let (Value::I64(min), Value::I64(max)) = (min, max) else { return true };
            // The first that does not end before the least value.
            let reached = ranges.partition_point(|range| range.1 < *min);
            ranges.get(reached).is_some_and(|range| range.0 <= *max)
        }
        Test::IsNull | Test::IsNotNull | Test::Like { .. } | Test::Host(_) | Test::HostOfNull(_) => true,
    }
}

/// Physical order; `None` where a side is unknown or of another kind. F64 as in PostgreSQL: NaN greatest, -0 = 0.
fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::I64(a), Value::I64(b)) => Some(a.cmp(b)),
        (Value::I128(a), Value::I128(b)) => Some(a.cmp(b)),
        (Value::F64(a), Value::F64(b)) => Some(a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Smallest and largest value, both inclusive, of I64 column `column` in rows that `filter` selects;
/// `i64::MIN` and `i64::MAX` where it sets no limit, `None` when it selects nothing.
pub fn bounds(filter: &Filter, column: usize) -> Option<(i64, i64)> {
    const ALL: Option<(i64, i64)> = Some((i64::MIN, i64::MAX));
    match filter {
        Filter::Const(true) => ALL,
        Filter::Const(false) => None,
        Filter::And(parts) => parts.iter().try_fold((i64::MIN, i64::MAX), |(low, high), part| {
            let (l, h) = bounds(part, column)?;
            let (low, high) = (low.max(l), high.min(h));
            (low <= high).then_some((low, high))
        }),
        Filter::Or(parts) => {
            parts.iter().filter_map(|part| bounds(part, column)).reduce(|(low, high), (l, h)| (low.min(l), high.max(h)))
        }
        Filter::Test(p) if p.column != column => ALL,
        Filter::Test(p) => match &p.test {
            Test::Range { low, high } => {
                let low = match low {
                    Bound::Included(Value::I64(v)) => *v,
                    Bound::Excluded(Value::I64(v)) => v.checked_add(1)?,
                    _ => i64::MIN,
                };
                let high = match high {
                    Bound::Included(Value::I64(v)) => *v,
                    Bound::Excluded(Value::I64(v)) => v.checked_sub(1)?,
                    _ => i64::MAX,
                };
                (low <= high).then_some((low, high))
            }
            Test::In(values) => {
                let numbers = || values.iter().filter_map(|v| if let Value::I64(v) = v { Some(*v) } else { None });
                Some((numbers().min()?, numbers().max()?))
            }
            Test::Within(ranges) => Some((ranges.first()?.0, ranges.last()?.1)),
            _ => ALL,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::ColumnStatistics;
    use crate::types::{ColumnId, LogicalType};

    fn columns() -> Vec<ColumnRef> {
        let column = |id, missing| ColumnRef::stored(ColumnId(id), LogicalType::Int8, missing);
        vec![column(1, Value::Null), column(2, Value::I64(7)), column(3, Value::Null)]
    }

    fn statistics(rows: u64, nulls: u64, min: i64, max: i64) -> SegmentStatistics {
        let column =
            ColumnStatistics { id: ColumnId(1), nulls, min: Value::I64(min), max: Value::I64(max), distinct: 0 };
        SegmentStatistics { rows, time: None, columns: vec![column] }
    }

    fn is(column: usize, test: Test) -> Filter {
        Filter::Test(Predicate { column, test })
    }

    fn between(low: i64, high: i64) -> Test {
        Test::Range { low: Bound::Included(Value::I64(low)), high: Bound::Excluded(Value::I64(high)) }
    }

    #[test]
    fn ranges_and_lists_against_min_and_max() {
        let s = statistics(10, 0, 5, 9);
        let may = |test| may_select(&is(0, test), &columns(), &s);
        assert!(may(between(9, 10)) && may(between(0, 6)));
        assert!(!may(between(10, 20)) && !may(between(0, 5)));
        assert!(may(Test::In(vec![Value::I64(1), Value::I64(5)])) && !may(Test::In(vec![Value::I64(4)])));
        assert!(
            may(Test::Within(vec![(1, 3), (5, 5)]))
                && !may(Test::Within(vec![(1, 4), (21, 30)]))
                && !may(Test::Within(vec![]))
        );
        assert!(may(Test::NotIn(vec![Value::I64(5)])) && !may(Test::IsNull) && may(Test::IsNotNull));
        let constant = statistics(3, 0, 5, 5);
        assert!(!may_select(&is(0, Test::NotIn(vec![Value::I64(5)])), &columns(), &constant));
    }

    #[test]
    fn nulls_and_columns_that_a_segment_lacks() {
        let all_null = statistics(10, 10, 0, 0);
        assert!(may_select(&is(0, Test::IsNull), &columns(), &all_null));
        assert!(!may_select(&is(0, between(i64::MIN, i64::MAX)), &columns(), &all_null));
        assert!(may_select(&is(1, between(7, 8)), &columns(), &all_null));
        assert!(!may_select(&is(1, between(8, 9)), &columns(), &all_null));
        assert!(!may_select(&is(2, Test::IsNotNull), &columns(), &all_null));
        assert!(may_select(&is(2, Test::IsNull), &columns(), &all_null));
        let host = crate::plan::HostPredicate(0);
        for column in [0, 2] {
            assert!(may_select(&is(column, Test::HostOfNull(host)), &columns(), &all_null));
            assert!(!may_select(&is(column, Test::Host(host)), &columns(), &all_null));
        }
    }

    #[test]
    fn bounds_of_trees() {
        let tree = Filter::And(vec![
            Filter::Or(vec![is(0, between(5, 10)), is(0, Test::In(vec![Value::I64(20)]))]),
            is(0, Test::Range { low: Bound::Excluded(Value::I64(6)), high: Bound::Unbounded }),
            is(1, between(0, 1)),
        ]);
        assert_eq!(bounds(&tree, 0), Some((7, 20)));
        assert_eq!(bounds(&is(0, between(5, 5)), 0), None);
        assert_eq!(bounds(&is(1, between(5, 6)), 0), Some((i64::MIN, i64::MAX)));
    }
}
