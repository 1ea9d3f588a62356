//! What generated queries do not show: errors, cancellation, budgets, what the host is asked, headers.

use std::sync::Arc;

use basalt_engine::exec::{AggregateExecution, ExecOptions, ExecStatistics, RowExecution, SegmentScan};
use basalt_engine::plan::{
    AggregateCall, AggregateFunction, AggregateQuery, Bound, Buckets, ColumnRef, Filter, HostPredicate, Key, Predicate,
    RowQuery, Test,
};
use basalt_engine::rows::RowBuffer;
use basalt_engine::segment::{BytesBlock, Segment};
use basalt_engine::types::{Column, ColumnId, LogicalType, Schema, Value};
use basalt_engine::{Budget, Cancel, Error, TimeInterval, TimeRanges};

use crate::generate::{Random, build, options, segment_of};
use crate::host::TestHost;
use crate::oracle;

const TYPES: [LogicalType; 5] =
    [LogicalType::TimestampTz, LogicalType::Int8, LogicalType::Text, LogicalType::Text, LogicalType::Float8];

/// `rows` rows: time = row number, a number, a city of few, a text of many, a float.
fn data(rows: usize) -> Vec<Vec<Value>> {
    let mut r = Random::new(7);
    (0..rows)
        .map(|i| {
            vec![
                Value::I64(i as i64),
                Value::I64(r.below(1000) as i64),
                if r.one_in(50) { Value::Null } else { Value::Bytes(format!("city{}", r.below(20)).into_bytes()) },
                Value::Bytes(format!("event {:x}", r.next()).into_bytes()),
                Value::F64(r.below(1000) as f64 / 8.0),
            ]
        })
        .collect()
}

fn columns() -> Vec<ColumnRef> {
    let columns = TYPES.iter().enumerate();
    columns.map(|(i, ty)| ColumnRef::stored(ColumnId(i as u32 + 1), *ty, Value::Null)).collect()
}

fn query(filter: Filter, keys: Vec<Key>, functions: &[AggregateFunction]) -> AggregateQuery {
    let aggregates = functions.iter().map(|f| AggregateCall { function: *f, filter: Filter::Const(true) }).collect();
    AggregateQuery { columns: columns(), filter, keys, aggregates }
}

fn whole(segment: &Arc<Segment>) -> SegmentScan {
    SegmentScan { segment: segment.clone(), visibility: TimeRanges::all(), deleted: None }
}

fn test(column: usize, test: Test) -> Filter {
    Filter::Test(Predicate { column, test })
}

fn between(column: usize, low: i64, high: i64) -> Filter {
    let (low, high) = (Bound::Included(Value::I64(low)), Bound::Excluded(Value::I64(high)));
    test(column, Test::Range { low, high })
}

fn city(name: &str) -> Filter {
    test(2, Test::In(vec![Value::Bytes(name.as_bytes().to_vec())]))
}

use AggregateFunction::{CountDistinct, CountStar, Max, Min, Sum};

fn answer(query: &AggregateQuery, scans: &[SegmentScan], threads: usize) -> (oracle::Answer, ExecStatistics) {
    let mut host = TestHost::default();
    let mut execution = AggregateExecution::new(query.clone(), options(threads)).unwrap();
    execution.scan(scans, &mut host).unwrap();
    let statistics = execution.statistics().clone();
    (oracle::texts(&execution.finish(&mut host).unwrap()), statistics)
}

#[test]
fn many_blocks_agree_with_the_oracle() {
    let rows = data(70_000);
    let segment = build(&TYPES, &rows, true);
    let pieces =
        Buckets { starts: vec![i64::MIN, 50_000, 65_536, 65_600, 69_000], values: vec![0, 1, 2, 1, 3], null: None };
    let time = || Key::Buckets { column: 0, buckets: Arc::new(pieces.clone()) };
    let functions = [CountStar, Sum(1), Min(1, None), Max(3, None), Sum(4), CountDistinct(2)];
    let like = |pattern: &str| test(3, Test::Like { pattern: pattern.as_bytes().to_vec(), negated: false });
    let filters = [
        Filter::Const(true),
        between(0, 10, 68_000),
        between(1, 100, 700),
        Filter::And(vec![between(1, 100, 700), city("city7")]),
        Filter::Or(vec![city("city7"), like("event a%b%"), test(2, Test::IsNull)]),
        like("%ff%"),
        test(3, Test::Like { pattern: b"%e_ent 1%".to_vec(), negated: true }),
        test(3, Test::In((0..300).map(|i| rows[i * 211][3].clone()).collect())),
        test(2, Test::Host(HostPredicate(1))),
        Filter::And(vec![between(0, 60_000, 66_000), test(3, Test::Host(HostPredicate(0)))]),
    ];
    let keys = [vec![], vec![time()], vec![Key::Column(2)], vec![Key::Column(1), Key::Column(2), time()]];
    for (nth, filter) in filters.into_iter().enumerate() {
        let query = query(filter.clone(), keys[nth % keys.len()].clone(), &functions);
        let want = oracle::answer(&query, &rows);
        for threads in [1, 2, 8] {
            assert_eq!(answer(&query, &[whole(&segment)], threads).0, want, "{threads} threads: {query:?}");
        }
    }
    // High cardinality keys, of text and of pairs.
    for keys in [vec![Key::Column(3)], vec![Key::Column(3), Key::Column(1)], vec![Key::Column(0)]] {
        let query = query(between(1, 0, 300), keys, &[CountStar, Sum(1), CountDistinct(2)]);
        let want = oracle::answer(&query, &rows);
        for threads in [1, 3] {
            assert_eq!(answer(&query, &[whole(&segment)], threads).0, want);
        }
        assert_eq!(answer(&query, &[whole(&build(&TYPES, &rows, false))], 1).0, want);
    }
}

#[test]
fn headers_answer_whole_blocks() {
    let rows = data(65_536 * 3);
    let segment = build(&TYPES, &rows, true);
    let by_block = Buckets { starts: vec![i64::MIN, 65_536, 131_072], values: vec![0, 1, 2], null: None };
    let keys = vec![Key::Buckets { column: 0, buckets: Arc::new(by_block) }];
    let functions = [CountStar, Sum(1), Min(1, None), Max(1, None), Max(2, None)];
    let all = query(Filter::Const(true), keys.clone(), &functions);
    let (got, statistics) = answer(&all, &[whole(&segment)], 1);
    assert_eq!(got, oracle::answer(&all, &rows));
    assert_eq!((statistics.blocks_total, statistics.blocks_from_headers, statistics.rows_scanned), (3, 3, 0));
    // An interval that takes one block whole, cuts one and leaves one.
    let cut = query(between(0, 65_536, 140_000), vec![], &functions);
    let (got, statistics) = answer(&cut, &[whole(&segment)], 1);
    assert_eq!(got, oracle::answer(&cut, &rows));
    assert_eq!((statistics.blocks_skipped, statistics.blocks_from_headers, statistics.rows_scanned), (1, 1, 65_536));
    assert_eq!(statistics.rows_selected, 140_000 - 65_536);
    // One deleted row, and one hidden by visibility: their blocks are no longer answered from headers.
    let mut scan = whole(&segment);
    scan.deleted = Some([70_000].into_iter().collect());
    scan.visibility = TimeRanges::all().subtract(&TimeInterval::new(3, 4));
    let left: Vec<_> =
        rows.iter().enumerate().filter(|(i, _)| ![3, 70_000].contains(i)).map(|(_, r)| r.clone()).collect();
    let (got, statistics) = answer(&all, &[scan], 1);
    assert_eq!(got, oracle::answer(&all, &left));
    assert_eq!(statistics.blocks_from_headers, 1);
}

#[test]
fn rows_without_a_time_are_always_visible() {
    let mut rows = data(100);
    rows.iter_mut().step_by(7).for_each(|row| row[0] = Value::Null);
    let segment = build(&TYPES, &rows, true);
    let pieces = Buckets { starts: vec![i64::MIN, 20], values: vec![4, 9], null: None };
    let keys = vec![Key::Buckets { column: 0, buckets: Arc::new(pieces) }];
    let query = query(between(1, 0, 900), keys, &[CountStar, Sum(1)]);
    for visibility in [TimeRanges::empty(), TimeRanges::all(), TimeRanges::new(vec![TimeInterval::new(10, 40)])] {
        let shown = |row: &Vec<Value>| if let Value::I64(time) = row[0] { visibility.contains(time) } else { true };
        let left: Vec<_> = rows.iter().filter(|row| shown(row)).cloned().collect();
        let scan = SegmentScan { segment: segment.clone(), visibility: visibility.clone(), deleted: None };
        assert_eq!(answer(&query, &[scan], 1).0, oracle::answer(&query, &left));
    }
}

#[test]
fn the_host_sees_only_values_that_reach_it() {
    let rows = data(3000);
    for indexed in [true, false] {
        let segment = build(&TYPES, &rows, indexed);
        for column in [2, 3] {
            let host_test = || test(column, Test::Host(HostPredicate(0)));
            let filter = Filter::And(vec![host_test(), between(1, 100, 300), between(0, 500, 900)]);
            let reach = Filter::And(vec![between(1, 100, 300), between(0, 500, 900)]);
            let clause = Filter::Or(vec![between(1, 200, 210), host_test()]);
            let beyond = Filter::And(vec![reach.clone(), Filter::Or(vec![between(1, 0, 200), between(1, 210, 1000)])]);
            let call = AggregateCall { function: CountStar, filter: clause };
            let in_clause = AggregateQuery { aggregates: vec![call], ..query(reach.clone(), vec![], &[]) };
            for (query, reached) in [(query(filter, vec![], &[CountStar]), &reach), (in_clause, &beyond)] {
                let mut host = TestHost::default();
                let mut execution = AggregateExecution::new(query.clone(), options(2)).unwrap();
                execution.scan(&[whole(&segment)], &mut host).unwrap();
                let asked = host.asked.len();
                execution.scan(&[whole(&segment)], &mut host).unwrap();
                assert_eq!(host.asked.len(), asked, "answers are remembered");
                execution.finish(&mut host).unwrap();
                let may: Vec<&Value> =
                    rows.iter().filter(|r| oracle::selects(reached, r)).map(|r| &r[column]).collect();
                assert!(asked > 0);
                for value in &host.asked {
                    assert!(may.contains(&&Value::Bytes(value.clone())), "asked about a row that is not selected");
                }
                let mut distinct = host.asked.clone();
                distinct.sort();
                distinct.dedup();
                assert_eq!(distinct.len(), asked, "no value is asked about twice");
            }
        }
    }
}

#[test]
fn large_dictionaries_are_merged_by_several_threads() {
    let mut all = Vec::new();
    let mut segments = Vec::new();
    for nth in 0..6 {
        let mut rows = data(50_000);
        for (i, row) in rows.iter_mut().enumerate() {
            row[2] = match i {
                0 => Value::Null,
                1 => Value::Bytes(Vec::new()),
                // Shared prefixes, and values that several segments have.
                _ => Value::Bytes(
                    format!("{}page {}", ["", "a long beginning of "][i % 2], i * (nth % 4 + 2)).into_bytes(),
                ),
            };
        }
        segments.push(build(&TYPES, &rows, nth % 2 == 0));
        all.extend(rows);
    }
    let scans: Vec<SegmentScan> = segments.iter().map(whole).collect();
    for query in [
        query(Filter::Const(true), vec![Key::Column(2)], &[CountStar, Sum(1)]),
        query(Filter::Const(true), vec![Key::Column(3)], &[CountDistinct(2)]),
        query(Filter::Const(true), vec![], &[CountDistinct(2)]),
    ] {
        let want = oracle::answer(&query, &all);
        for threads in [1, 2, 4] {
            assert_eq!(answer(&query, &scans, threads).0, want, "{threads} threads");
        }
    }
    for fail_at in [1, 4, 9] {
        let mut host = TestHost { fail_at: Some(fail_at), ..TestHost::default() };
        let options = options(4);
        let budget = options.budget.clone();
        let query = query(Filter::Const(true), vec![Key::Column(2)], &[CountStar]);
        let mut execution = AggregateExecution::new(query, options).unwrap();
        assert!(matches!(execution.scan(&scans, &mut host), Err(Error::Canceled)));
        drop(execution);
        assert_eq!(budget.used(), 0);
    }
}

/// The second column alone; others have no values.
fn numbers(rows: u64, value: impl Fn(u64) -> u64) -> Arc<Segment> {
    let columns = vec![Column { id: ColumnId(2), ty: TYPES[1], indexed: false }];
    let mut buffer = RowBuffer::new(Arc::new(Schema { columns, time: None, cluster_by: Vec::new() }));
    for row in 0..rows {
        buffer.push_i64(0, value(row) as i64).unwrap();
        buffer.finish_row().unwrap();
    }
    segment_of(buffer)
}

#[test]
fn one_thread_groups_rows_that_are_groups_of_their_own() {
    const ROWS: u64 = 5_000_000;
    let mixed = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for (keys, threads) in [(ROWS, 1), (300_000, 2)] {
        let segment = numbers(ROWS, |row| mixed(row % keys));
        let query = query(Filter::Const(true), vec![Key::Column(1)], &[CountStar]);
        let mut execution = AggregateExecution::new(query, options(2)).unwrap();
        let mut host = TestHost::default();
        execution.scan(&[whole(&segment)], &mut host).unwrap();
        assert_eq!(execution.statistics().threads, threads);
        assert_eq!(execution.statistics().rows_selected, ROWS);
        let result = execution.finish(&mut host).unwrap();
        assert_eq!(result.groups as u64, keys);
        let counts = &result.aggregates[0].values;
        let most = ROWS.div_ceil(keys) as i64;
        for group in [0, result.groups / 2, result.groups - 1] {
            assert!(matches!(counts.get(group), Some(Value::I64(n)) if n == most || n == most - 1));
        }
    }
}

#[test]
fn an_error_of_the_host_ends_the_query() {
    let rows = data(1000);
    let segment = build(&TYPES, &rows, true);
    let query = query(test(2, Test::Host(HostPredicate(0))), vec![], &[CountStar]);
    let mut host = TestHost { poison: Some(b"city3".to_vec()), ..TestHost::default() };
    let mut execution = AggregateExecution::new(query, options(2)).unwrap();
    assert!(matches!(execution.scan(&[whole(&segment)], &mut host), Err(Error::Invalid(_))));
}

#[test]
fn cancellation_comes_from_the_flag_and_from_the_host() {
    let rows = data(80_000);
    let segment = build(&TYPES, &rows, true);
    let scans: Vec<SegmentScan> = (0..20).map(|_| whole(&segment)).collect();
    let query = query(between(1, 5, 900), vec![Key::Column(3)], &[CountStar, CountDistinct(2)]);
    for threads in [1, 4] {
        for fail_at in [1, 3, 10, 40, 100] {
            let mut host = TestHost { fail_at: Some(fail_at), ..TestHost::default() };
            let options = options(threads);
            let budget = options.budget.clone();
            let mut execution = AggregateExecution::new(query.clone(), options).unwrap();
            assert!(matches!(execution.scan(&scans, &mut host), Err(Error::Canceled)));
            drop(execution);
            assert_eq!(budget.used(), 0);
        }
        let options = options(threads);
        let cancel = options.cancel.clone();
        let mut execution = AggregateExecution::new(query.clone(), options).unwrap();
        let flag = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            cancel.cancel();
        });
        let outcome = execution.scan(&scans, &mut TestHost::default());
        flag.join().unwrap();
        assert!(matches!(outcome, Err(Error::Canceled)), "{outcome:?}");
    }
}

#[test]
fn a_short_budget_is_an_error_and_never_a_wrong_answer() {
    let rows = data(30_000);
    let segment = build(&TYPES, &rows, true);
    let functions = [CountStar, Sum(1), CountDistinct(3), Max(3, None), Sum(4)];
    let query = query(Filter::Const(true), vec![Key::Column(3), Key::Column(2)], &functions);
    let want = oracle::answer(&query, &rows);
    for threads in [1, 3] {
        let (mut failed, mut succeeded) = (0, 0);
        for shift in 10..30 {
            let budget = Budget::new(1 << shift);
            let options = ExecOptions { threads, budget: budget.clone(), cancel: Cancel::new() };
            let mut host = TestHost::default();
            let run = || {
                let mut execution = AggregateExecution::new(query.clone(), options)?;
                execution.scan(&[whole(&segment)], &mut host)?;
                execution.finish(&mut host)
            };
            match run() {
                Ok(result) => {
                    assert_eq!(oracle::texts(&result), want);
                    succeeded += 1;
                }
                Err(Error::Budget { .. }) => failed += 1,
                Err(other) => panic!("{other}"),
            }
            assert_eq!(budget.used(), 0);
        }
        assert!(failed > 4 && succeeded > 2, "{failed} failed, {succeeded} succeeded");
    }
}

#[test]
fn plans_that_do_not_fit_are_refused() {
    let bad = |query: AggregateQuery| AggregateExecution::new(query, options(1)).err();
    let cases = vec![
        query(between(9, 0, 1), vec![], &[CountStar]),
        query(between(2, 0, 1), vec![], &[CountStar]),
        query(test(1, Test::Like { pattern: b"a".to_vec(), negated: false }), vec![], &[CountStar]),
        query(test(2, Test::Like { pattern: b"a\\".to_vec(), negated: false }), vec![], &[CountStar]),
        query(Filter::Const(true), vec![Key::Column(5)], &[CountStar]),
        query(Filter::Const(true), vec![], &[Sum(2)]),
        query(Filter::Const(true), vec![], &[Sum(17)]),
        query(Filter::Const(true), vec![], &[AggregateFunction::BoolAnd(1)]),
        query(
            Filter::Const(true),
            vec![Key::Buckets { column: 0, buckets: Arc::new(Buckets { starts: vec![], values: vec![], null: None }) }],
            &[],
        ),
    ];
    for case in cases {
        assert!(matches!(bad(case.clone()), Some(Error::Invalid(_))), "{case:?}");
    }
    let rows = RowQuery { columns: columns(), filter: Filter::Const(true), output: vec![5] };
    assert!(matches!(RowExecution::new(rows, options(1)), Err(Error::Invalid(_))));
    // A column of another type than the segment's.
    let mut other = query(Filter::Const(true), vec![], &[Sum(1)]);
    other.columns[1].ty = LogicalType::Int4;
    let segment = build(&TYPES, &data(10), true);
    let mut execution = AggregateExecution::new(other, options(1)).unwrap();
    assert!(matches!(execution.scan(&[whole(&segment)], &mut TestHost::default()), Err(Error::Invalid(_))));
}

#[test]
fn no_segment_is_one_empty_group_without_keys_and_none_with() {
    let functions = [CountStar, Sum(1), Sum(4), AggregateFunction::Avg(1), Min(3, None), CountDistinct(3)];
    for scans in [vec![], vec![whole(&build(&TYPES, &[], true))]] {
        for keys in [vec![], vec![Key::Column(2)]] {
            let query = query(Filter::Const(true), keys, &functions);
            assert_eq!(answer(&query, &scans, 2).0, oracle::answer(&query, &[]));
        }
    }
}

#[test]
fn sums_beyond_numeric_are_an_error() {
    let types = [LogicalType::TimestampTz, LogicalType::Numeric { precision: 38, scale: 0 }];
    let rows: Vec<Vec<Value>> = (0..3).map(|i| vec![Value::I64(i), Value::I128(10i128.pow(38) - 1)]).collect();
    let columns: Vec<ColumnRef> =
        (0..2).map(|i| ColumnRef::stored(ColumnId(i as u32 + 1), types[i], Value::Null)).collect();
    let call = AggregateCall { function: Sum(1), filter: Filter::Const(true) };
    let query = AggregateQuery { columns, filter: Filter::Const(true), keys: vec![], aggregates: vec![call] };
    let mut execution = AggregateExecution::new(query, options(1)).unwrap();
    let outcome = execution.scan(&[whole(&build(&types, &rows, true))], &mut TestHost::default());
    assert!(matches!(outcome, Err(Error::OutOfRange { .. })), "{outcome:?}");
}

#[test]
fn ranges_of_a_dictionary_equal_its_values() {
    let rows = data(5000);
    let segment = build(&TYPES, &rows, true);
    let dictionary = segment.column(ColumnId(4)).unwrap().dictionary().unwrap();
    let mut r = Random::new(3);
    let mut out = BytesBlock::default();
    for _ in 0..300 {
        let start = r.below(5001) as u32;
        let end = (start + [0, 1, 7, 16, 40, 3000][r.below(6)]).min(5000);
        dictionary.range(start..end, &mut out).unwrap();
        assert_eq!(out.len() as u32, end - start);
        for code in start..end {
            let mut value = Vec::new();
            dictionary.get(code, &mut value).unwrap();
            assert_eq!(out.get((code - start) as usize), value);
        }
    }
    assert!(dictionary.range(4999..5001, &mut out).is_err());
}

#[test]
fn zeros_keep_their_sign_where_it_shows() {
    use AggregateFunction::*;
    let mut rows = data(70_000);
    for (i, row) in rows.iter_mut().enumerate() {
        let zero = if i % 4 == 0 || i < 66_000 { -0.0 } else { 0.0 };
        row[4] = Value::F64(if i % 1000 == 7 { -3.0 } else { zero });
    }
    let segments: Vec<_> = rows.chunks(35_000).map(|part| build(&TYPES, part, true)).collect();
    let bits = |value: &Value| if let Value::F64(v) = value { v.to_bits() } else { panic!("{value:?}") };
    for threads in [1, 2] {
        let run = |query: AggregateQuery| {
            let mut host = TestHost::default();
            let mut execution = AggregateExecution::new(query, options(threads)).unwrap();
            for segment in &segments {
                execution.scan(&[whole(segment)], &mut host).unwrap();
            }
            execution.finish(&mut host).unwrap()
        };
        let exact = run(query(Filter::Const(true), vec![Key::Exact(4)], &[CountStar]));
        let keys = exact.keys[0].values.iter().map(|v| bits(&v));
        let mut found: Vec<(u64, Value)> = keys.zip(exact.aggregates[0].values.iter()).collect();
        found.sort_by_key(|f| f.0);
        let count = |zero: f64| rows.iter().filter(|r| bits(&r[4]) == zero.to_bits()).count() as i64;
        let want = [0.0f64, -0.0, -3.0].map(|v| (v.to_bits(), Value::I64(count(v))));
        assert_eq!(found, want);
        assert_eq!(run(query(Filter::Const(true), vec![Key::Column(4)], &[CountStar])).groups, 2);
        let negative = run(query(between(0, 0, 66_000), Vec::new(), &[Max(4, None), CountDistinct(4)]));
        assert_eq!(bits(&negative.aggregates[0].values.get(0).unwrap()), (-0.0f64).to_bits());
        assert_eq!(negative.aggregates[1].values.get(0).unwrap(), Value::I64(2));
        let both = run(query(Filter::Const(true), Vec::new(), &[Max(4, None), CountDistinct(4)]));
        assert_eq!(bits(&both.aggregates[0].values.get(0).unwrap()), 0);
        assert_eq!(both.aggregates[1].values.get(0).unwrap(), Value::I64(2));
    }
}
