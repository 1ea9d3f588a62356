//! Threads that come and go while a query runs: the answer is the same, and each is given back once. How often the host is polled.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use basalt_engine::exec::{AggregateExecution, ExecOptions, SegmentScan};
use basalt_engine::plan::{
    AggregateCall, AggregateFunction, AggregateQuery, ColumnRef, Computed, Filter, HostFunction, Key, Mapped,
    ThreadPool,
};
use basalt_engine::types::{ColumnId, LogicalType, Value};
use basalt_engine::{Budget, Cancel, Error, Result, TimeRanges};
use proptest::prelude::*;

use crate::generate::{Random, Table, build, options, query};
use crate::host::TestHost;
use crate::oracle;

/// Decides by chance, a few times out of sixteen each.
struct Chance {
    state: AtomicU64,
    takes: u64,
    shortages: u64,
    pauses: u64,
    taken: AtomicI64,
    given: AtomicI64,
}

impl Chance {
    fn new(seed: u64, takes: u64, shortages: u64, pauses: u64) -> Arc<Chance> {
        let state = AtomicU64::new(seed);
        Arc::new(Chance { state, takes, shortages, pauses, taken: AtomicI64::new(0), given: AtomicI64::new(0) })
    }

    fn happens(&self, often: u64) -> bool {
        // splitmix64 (G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", 2014)
        let mut z = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 16 < often
    }
}

impl ThreadPool for Chance {
    fn take(&self) -> bool {
        let taken = self.happens(self.takes);
        self.taken.fetch_add(i64::from(taken), Ordering::Relaxed);
        taken
    }

    fn give(&self) {
        self.given.fetch_add(1, Ordering::Relaxed);
    }

    fn is_short(&self) -> bool {
        self.happens(self.shortages)
    }

    fn is_paused(&self) -> bool {
        self.happens(self.pauses)
    }
}

fn run(query: &AggregateQuery, table: &Table, pool: &Arc<Chance>, fail_at: Option<usize>) -> Result<oracle::Answer> {
    let mut host = TestHost { pool: Some(pool.clone()), fail_at, ..TestHost::default() };
    let mut execution = AggregateExecution::new(query.clone(), options(4))?;
    execution.scan(&table.scans, &mut host)?;
    Ok(oracle::texts(&execution.finish(&mut host)?))
}

proptest! {
    #![proptest_config(crate::properties::cases(100))]

    #[test]
    fn threads_that_come_and_go_change_no_answer(seed in any::<u64>(), segments in 1..60usize, rows in 0..30usize) {
        let mut r = Random::new(seed);
        let table = Table::new(segments, rows, &mut r);
        for (takes, shortages, pauses) in [(0, 0, 0), (4, 0, 0), (4, 8, 2), (16, 12, 0)] {
            let query = query(&table, true, &mut r);
            let pool = Chance::new(seed, takes, shortages, pauses);
            prop_assert_eq!(run(&query, &table, &pool, None).unwrap(), oracle::answer(&query, &table.rows));
            let (taken, given) = (pool.taken.load(Ordering::Relaxed), pool.given.load(Ordering::Relaxed));
            prop_assert_eq!(taken, given, "{} took, {} short, {} paused", takes, shortages, pauses);
            match run(&query, &table, &pool, Some(r.below(200))) {
                Ok(answer) => prop_assert_eq!(answer, oracle::answer(&query, &table.rows)),
                Err(error) => prop_assert!(matches!(error, Error::Canceled), "{}", error),
            }
            let (taken, given) = (pool.taken.load(Ordering::Relaxed), pool.given.load(Ordering::Relaxed));
            prop_assert_eq!(taken, given, "after an interruption");
        }
    }
}

/// Options whose work is to end at the `end`-th look, on whichever thread it is, and how many looks there were.
fn watched(threads: usize, end: usize) -> (ExecOptions, Arc<AtomicUsize>) {
    let looks = Arc::new(AtomicUsize::new(0));
    let seen = looks.clone();
    let cancel = Cancel::watching(move || seen.fetch_add(1, Ordering::Relaxed) + 1 >= end);
    let budget = Budget::with_cancel(1 << 30, cancel.clone());
    (ExecOptions { threads, budget, cancel }, looks)
}

proptest! {
    #![proptest_config(crate::properties::cases(60))]

    #[test]
    fn work_ends_at_any_look(seed in any::<u64>(), segments in 1..8usize, rows in 0..120usize) {
        let mut r = Random::new(seed);
        let table = Table::new(segments, rows, &mut r);
        for threads in [1, 3] {
            let query = query(&table, true, &mut r);
            let mut most = usize::MAX;
            // First to the end, then to somewhere.
            for _ in 0..6 {
                let (options, looks) = watched(threads, most);
                let budget = options.budget.clone();
                let run = || {
                    let mut host = TestHost::default();
                    let mut execution = AggregateExecution::new(query.clone(), options)?;
                    execution.scan(&table.scans, &mut host)?;
                    Ok(oracle::texts(&execution.finish(&mut host)?))
                };
                match run() {
                    Ok(answer) => prop_assert_eq!(answer, oracle::answer(&query, &table.rows)),
                    Err(error) => prop_assert!(matches!(error, Error::Canceled), "{}", error),
                }
                prop_assert_eq!(budget.used(), 0, "memory is given back");
                most = 1 + r.below(looks.load(Ordering::Relaxed).max(1));
            }
        }
    }
}

#[test]
fn threads_that_merge_dictionaries_leave_when_others_wait() {
    let types = [LogicalType::TimestampTz, LogicalType::Text];
    let texts = 50_000;
    let scans: Vec<SegmentScan> = (0..4)
        .map(|nth| {
            let row = |i: usize| vec![Value::I64(i as i64), Value::Bytes(format!("{}", i * (nth + 1)).into_bytes())];
            let rows: Vec<Vec<Value>> = (0..texts).map(row).collect();
            SegmentScan { segment: build(&types, &rows, true), visibility: TimeRanges::all(), deleted: None }
        })
        .collect();
    let distinct: std::collections::HashSet<usize> =
        (0..4).flat_map(|nth| (0..texts).map(move |i| i * (nth + 1))).collect();
    let columns = types.iter().enumerate();
    let columns: Vec<ColumnRef> =
        columns.map(|(i, ty)| ColumnRef::stored(ColumnId(i as u32 + 1), *ty, Value::Null)).collect();
    let call = AggregateCall { function: AggregateFunction::CountStar, filter: Filter::Const(true) };
    for (seed, takes, shortages, pauses) in [(1, 16, 0, 0), (2, 16, 16, 0), (3, 16, 8, 4), (4, 8, 2, 8), (5, 0, 0, 0)] {
        let (keys, aggregates) = (vec![Key::Column(1)], vec![call.clone()]);
        let query = AggregateQuery { columns: columns.clone(), filter: Filter::Const(true), keys, aggregates };
        let pool = Chance::new(seed, takes, shortages, pauses);
        let mut host = TestHost { pool: Some(pool.clone()), ..TestHost::default() };
        let mut execution = AggregateExecution::new(query, options(4)).unwrap();
        execution.scan(&scans, &mut host).unwrap();
        assert_eq!(execution.finish(&mut host).unwrap().groups, distinct.len());
        let (taken, given) = (pool.taken.load(Ordering::Relaxed), pool.given.load(Ordering::Relaxed));
        assert_eq!(taken, given);
        assert_eq!(taken > 0, takes > 0);
    }
}

/// However far the work is from the host: tables that grow, values that are numbered and sorted, sets that are merged.
#[test]
fn looks_are_as_many_as_values() {
    let looks = |rows: usize, threads: usize| {
        let types = [LogicalType::TimestampTz, LogicalType::Int8, LogicalType::Text];
        let row = |i: usize| {
            let mixed = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            vec![Value::I64(i as i64), Value::I64(mixed as i64), Value::Bytes(format!("{mixed:x}").into_bytes())]
        };
        let rows: Vec<Vec<Value>> = (0..rows).map(row).collect();
        let segment = build(&types, &rows, true);
        let scans = [SegmentScan { segment, visibility: TimeRanges::all(), deleted: None }];
        let columns = types.iter().enumerate();
        let mut columns: Vec<ColumnRef> =
            columns.map(|(i, ty)| ColumnRef::stored(ColumnId(i as u32 + 1), *ty, Value::Null)).collect();
        let mapped = Mapped { function: HostFunction(4), columns: vec![2], infallible: true, of_null: false };
        columns.push(ColumnRef::computed(Computed::Mapped(mapped), LogicalType::Text));
        let call = |function| AggregateCall { function, filter: Filter::Const(true) };
        let count = |keys: &[usize], function| {
            let keys = keys.iter().map(|c| Key::Column(*c)).collect();
            let (options, looks) = watched(threads, usize::MAX);
            let filter = Filter::Const(true);
            let query = AggregateQuery { columns: columns.clone(), filter, keys, aggregates: vec![call(function)] };
            let mut host = TestHost::default();
            let mut execution = AggregateExecution::new(query, options).unwrap();
            execution.scan(&scans, &mut host).unwrap();
            execution.finish(&mut host).unwrap();
            looks.load(Ordering::Relaxed) + host.polls
        };
        [
            count(&[1], AggregateFunction::Sum(1)),
            count(&[2], AggregateFunction::CountStar),
            count(&[], AggregateFunction::CountDistinct(1)),
            count(&[1], AggregateFunction::CountDistinct(2)),
            count(&[3], AggregateFunction::CountStar),
        ]
    };
    for threads in [1, 2] {
        let (few, many) = (looks(1000, threads), looks(261_000, threads));
        for (nth, (few, many)) in few.iter().zip(&many).enumerate() {
            assert!(many - few >= 260_000 / 8192, "{nth} at {threads} threads: {few} and {many}");
        }
    }
}

#[test]
fn the_host_is_polled_as_often_as_groups_pass() {
    let polls = |rows: usize| {
        let types = [LogicalType::TimestampTz, LogicalType::Int8];
        let row = |i: usize| vec![Value::I64(i as i64), Value::I64((i as i64 + 1) * 0x1234_5678)];
        let parts: Vec<Vec<Vec<Value>>> =
            [0, rows].iter().map(|start| (*start..start + rows).map(row).collect()).collect();
        let segments: Vec<_> = parts.iter().map(|part| build(&types, part, true)).collect();
        let columns = types.iter().enumerate();
        let columns = columns.map(|(i, ty)| ColumnRef::stored(ColumnId(i as u32 + 1), *ty, Value::Null)).collect();
        let call = |function| AggregateCall { function, filter: Filter::Const(true) };
        let aggregates = vec![call(AggregateFunction::Sum(1)), call(AggregateFunction::Max(0, None))];
        let query = AggregateQuery { columns, filter: Filter::Const(true), keys: vec![Key::Column(1)], aggregates };
        let scans: Vec<SegmentScan> = segments
            .iter()
            .map(|s| SegmentScan { segment: s.clone(), visibility: TimeRanges::all(), deleted: None })
            .collect();
        let (mut host, mut polls) = (TestHost::default(), Vec::new());
        let mut execution = AggregateExecution::new(query, options(1)).unwrap();
        for scan in scans.chunks(1) {
            let before = host.polls;
            execution.scan(scan, &mut host).unwrap();
            polls.push(host.polls - before);
        }
        let before = host.polls;
        assert_eq!(execution.finish(&mut host).unwrap().groups, 2 * rows);
        polls.push(host.polls - before);
        polls
    };
    // Of merging the second segment's groups, and of making all groups values, as many more polls as there are more groups.
    let (few, many) = (polls(1000), polls(301_000));
    assert!(many[1] - few[1] >= 300_000 / 8192, "{few:?} {many:?}");
    assert!(many[2] - few[2] >= 2 * 300_000 / 8192 + 2 * 2 * 300_000 / 65_536, "{few:?} {many:?}");
}
