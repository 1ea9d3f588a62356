//! The conformance suite's filter kernels: over blocks of every encoding, a filter selects what a naive loop over the values selects.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::tag;
use super::tests::{Codes, Floats, Integers, Strings, Subject, Wide};
use crate::exec::{AggregateExecution, ExecOptions, RowExecution, SegmentScan};
use crate::interval::TimeRanges;
use crate::plan::{
    AggregateCall, AggregateFunction, AggregateQuery, Bound, ColumnRef, Filter, NoHost, Predicate, RowQuery, Test,
};
use crate::segment::{Segment, testing};
use crate::types::{LogicalType, Value};
use crate::{Budget, Cancel};

/// How values of a subject are a column's.
trait Stored: Subject {
    const TYPE: LogicalType;
    /// Encodings that a builder chooses for the subject's sequences.
    const CHOSEN: &'static [u8];
    fn value(value: &Self::Value) -> Value;
}

impl Stored for Integers {
    const TYPE: LogicalType = LogicalType::Int8;
    const CHOSEN: &'static [u8] =
        &[tag::CONSTANT, tag::RUN_LENGTH, tag::PACKED, tag::DELTA, tag::PATCHED, tag::PATCHED_DELTA, tag::TABLE];
    fn value(value: &i64) -> Value {
        Value::I64(*value)
    }
}

impl Stored for Wide {
    const TYPE: LogicalType = LogicalType::Numeric { precision: 38, scale: 0 };
    const CHOSEN: &'static [u8] = &[tag::CONSTANT, tag::WIDE];
    fn value(value: &i128) -> Value {
        // The largest is NaN's.
        Value::I128((*value).min(i128::MAX - 1))
    }
}

impl Stored for Floats {
    const TYPE: LogicalType = LogicalType::Float8;
    const CHOSEN: &'static [u8] = &[tag::CONSTANT, tag::PLAIN, tag::LZ4, tag::SINGLE, tag::DECIMAL];
    fn value(value: &f64) -> Value {
        Value::F64(if value.is_nan() { f64::NAN } else { *value })
    }
}

impl Stored for Strings {
    const TYPE: LogicalType = LogicalType::Bytea;
    const CHOSEN: &'static [u8] = &[];
    fn value(value: &Vec<u8>) -> Value {
        Value::Bytes(value.clone())
    }
}

/// Codes of few values: a dictionary column.
impl Stored for Codes {
    const TYPE: LogicalType = LogicalType::Text;
    const CHOSEN: &'static [u8] = &[tag::CONSTANT, tag::RUN_LENGTH, tag::PACKED];
    fn value(value: &u32) -> Value {
        Value::Bytes(format!("v{:03}", value % 300).into_bytes())
    }
}

/// SQL's order of two values that are not NULL: NaN is greatest, zeros are equal.
fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::F64(a), Value::F64(b)) => a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())),
        _ => testing::compare(a, b),
    }
}

fn holds(test: &Test, value: &Value) -> bool {
    let equal = |list: &[Value]| list.iter().any(|v| order(value, v).is_eq());
    match test {
        Test::IsNull => value.is_null(),
        _ if value.is_null() => false,
        Test::IsNotNull => true,
        Test::Range { low, high } => {
            (match low {
                Bound::Unbounded => true,
                Bound::Included(b) => order(value, b).is_ge(),
                Bound::Excluded(b) => order(value, b).is_gt(),
            }) && match high {
                Bound::Unbounded => true,
                Bound::Included(b) => order(value, b).is_le(),
                Bound::Excluded(b) => order(value, b).is_lt(),
            }
        }
        Test::In(list) => equal(list),
        Test::NotIn(list) => !equal(list),
        Test::Within(ranges) => matches!(value, Value::I64(v) if ranges.iter().any(|r| (r.0..=r.1).contains(v))),
        Test::Like { .. } | Test::Host(_) | Test::HostOfNull(_) => unreachable!("not asked here"),
    }
}

fn tests(a: &Value, b: &Value) -> Vec<Test> {
    let (low, high) = if order(a, b).is_le() { (a, b) } else { (b, a) };
    vec![
        Test::IsNull,
        Test::IsNotNull,
        Test::Range { low: Bound::Included(low.clone()), high: Bound::Included(high.clone()) },
        Test::Range { low: Bound::Excluded(low.clone()), high: Bound::Excluded(high.clone()) },
        Test::Range { low: Bound::Unbounded, high: Bound::Excluded(a.clone()) },
        Test::Range { low: Bound::Included(a.clone()), high: Bound::Unbounded },
        Test::In(vec![a.clone()]),
        Test::In(vec![a.clone(), b.clone()]),
        Test::NotIn(vec![a.clone(), b.clone()]),
        Test::In(Vec::new()),
    ]
}

fn selected(segment: &Arc<Segment>, column: &ColumnRef, filter: &Filter) -> (Vec<Value>, Value) {
    let options = || ExecOptions { threads: 1, budget: Budget::unlimited(), cancel: Cancel::new() };
    let scan = || SegmentScan { segment: segment.clone(), visibility: TimeRanges::all(), deleted: None };
    let query = RowQuery { columns: vec![column.clone()], filter: filter.clone(), output: vec![0] };
    let mut rows = RowExecution::new(query, options()).unwrap();
    rows.start(scan(), &mut NoHost).unwrap();
    let mut values = Vec::new();
    while let Some(batch) = rows.next(&mut NoHost).unwrap() {
        values.extend((0..batch.rows).map(|i| batch.columns[0].value(i)));
    }
    let query = AggregateQuery {
        columns: vec![column.clone()],
        filter: filter.clone(),
        keys: Vec::new(),
        aggregates: vec![AggregateCall { function: AggregateFunction::CountStar, filter: Filter::Const(true) }],
    };
    let mut count = AggregateExecution::new(query, options()).unwrap();
    count.scan(&[scan()], &mut NoHost).unwrap();
    (values, count.finish(&mut NoHost).unwrap().aggregates[0].values.get(0).unwrap())
}

/// Returns the encodings of the column's blocks.
fn check<S: Stored>(values: &[S::Value], nulls: u64, picks: [usize; 2]) -> BTreeSet<u8> {
    let is_null = |i: usize| nulls != 0 && (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15 | nulls) >> 61 == 0;
    let values: Vec<Value> =
        values.iter().enumerate().map(|(i, v)| if is_null(i) { Value::Null } else { S::value(v) }).collect();
    let schema = testing::schema(&[S::TYPE], None, &[]);
    let rows: Vec<Vec<Value>> = values.iter().map(|v| vec![v.clone()]).collect();
    let segment = testing::open(&testing::build(&schema, &rows).0);
    let column = ColumnRef { id: schema.columns[0].id, ty: S::TYPE, missing: Value::Null, computed: None };
    let known: Vec<&Value> = values.iter().filter(|v| !v.is_null()).collect();
    if !known.is_empty() {
        let [a, b] = picks.map(|pick| known[pick % known.len()]);
        for test in tests(a, b) {
            let filter = Filter::Test(Predicate { column: 0, test: test.clone() });
            let wanted: Vec<&Value> = values.iter().filter(|v| holds(&test, v)).collect();
            let (found, count) = selected(&segment, &column, &filter);
            assert!(
                found.len() == wanted.len() && found.iter().zip(&wanted).all(|(f, w)| testing::same(f, w)),
                "{test:?} selects {} rows in place of {}",
                found.len(),
                wanted.len()
            );
            assert_eq!(count, Value::I64(wanted.len() as i64), "{test:?}");
        }
    }
    let reader = segment.column(column.id).unwrap();
    reader.meta().unwrap().blocks.iter().map(|b| b.encoding).collect()
}

fn every_encoding<S: Stored>() {
    let mut runner = TestRunner::deterministic();
    let strategy = (S::values(), prop_oneof![Just(0u64), any::<u64>()], any::<[usize; 2]>());
    let mut met = BTreeSet::new();
    for _ in 0..150 {
        let (values, nulls, picks) = strategy.new_tree(&mut runner).unwrap().current();
        met.extend(check::<S>(&values, nulls, picks));
    }
    for tag in S::CHOSEN {
        assert!(met.contains(tag), "no block of encoding {tag} was made: {met:?}");
    }
}

#[test]
fn filters_of_integers() {
    every_encoding::<Integers>();
}

#[test]
fn filters_of_wide_integers() {
    every_encoding::<Wide>();
}

#[test]
fn filters_of_floats() {
    every_encoding::<Floats>();
}

#[test]
fn filters_of_strings() {
    every_encoding::<Strings>();
}

#[test]
fn filters_of_dictionary_codes() {
    every_encoding::<Codes>();
}
