//! More groups than memory holds: they go to a file, and the answer is the same.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use basalt_engine::exec::{AggregateExecution, ExecOptions, SegmentScan, Spill};
use basalt_engine::plan::{AggregateCall, AggregateFunction, AggregateQuery, By, ColumnRef, Filter, Key, Term, Top};
use basalt_engine::segment::Segment;
use basalt_engine::types::{ColumnId, LogicalType, Value};
use basalt_engine::{Budget, Cancel, Error, Result, TimeRanges};
use proptest::prelude::*;

use crate::generate::{Random, Table, build, query};
use crate::host::TestHost;
use crate::oracle;

#[derive(Clone, Default)]
struct Memory(Rc<RefCell<Vec<u8>>>);

impl Spill for Memory {
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        assert_eq!(at, self.0.borrow().len() as u64);
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        let at = at as usize;
        let file = self.0.borrow();
        out.copy_from_slice(file.get(at..at + out.len()).ok_or(Error::Invalid("past the end".into()))?);
        Ok(())
    }
}

/// The answer and how many bytes were spilled.
fn run(
    query: &AggregateQuery,
    scans: &[SegmentScan],
    threads: usize,
    at_once: usize,
    limit: usize,
    top: Option<Top>,
) -> Result<(oracle::Answer, usize)> {
    let budget = Budget::new(limit);
    let options = ExecOptions { threads, budget: budget.clone(), cancel: Cancel::new() };
    let mut host = TestHost::default();
    let file = Memory::default();
    let work = || {
        let mut execution = AggregateExecution::new(query.clone(), options)?.with_spill(Box::new(file.clone()));
        for part in scans.chunks(at_once) {
            execution.scan(part, &mut host)?;
        }
        let mut parts = execution.finish_parts(top, &mut host)?;
        let mut answers = Vec::new();
        for _ in 0..if parts.is_spilled() { 2 } else { 1 } {
            let mut answer = oracle::Answer::new();
            while let Some(part) = parts.next(&mut host)? {
                for (key, values) in oracle::texts(&part) {
                    assert!(answer.insert(key, values).is_none(), "a group came in two parts");
                }
            }
            answers.push(answer);
            parts.rewind();
        }
        let last = answers.pop().unwrap();
        assert!(answers.iter().all(|a| *a == last), "rewound, the same groups come");
        Ok(last)
    };
    let answer = work();
    assert_eq!(budget.used(), 0, "memory is given back");
    let spilled = file.0.borrow().len();
    answer.map(|answer| (answer, spilled))
}

const TYPES: [LogicalType; 5] =
    [LogicalType::TimestampTz, LogicalType::Int8, LogicalType::Text, LogicalType::Text, LogicalType::Float8];

/// Segments, and their rows: time = row number, a number of many, a city of few, a text of many, a float.
fn data(segments: usize, rows: usize) -> (Vec<Arc<Segment>>, Vec<Vec<Value>>) {
    let mut r = Random::new(11);
    let rows: Vec<Vec<Value>> = (0..rows * segments)
        .map(|i| {
            let number = r.below(rows * segments / 2) as i64;
            vec![
                Value::I64(i as i64),
                if r.one_in(1000) { Value::Null } else { Value::I64(number * 0x1234_5678_9abc) },
                if r.one_in(50) { Value::Null } else { Value::Bytes(format!("city{}", r.below(20)).into_bytes()) },
                Value::Bytes(format!("event {:x}", number % 20_011).into_bytes()),
                Value::F64(r.below(1000) as f64 / 8.0),
            ]
        })
        .collect();
    (rows.chunks(rows.len() / segments).map(|part| build(&TYPES, part, true)).collect(), rows)
}

#[test]
fn many_groups_pass_through_the_file() {
    use AggregateFunction::*;
    let (segments, rows) = data(3, 15_000);
    let scans: Vec<SegmentScan> = segments
        .iter()
        .map(|s| SegmentScan { segment: s.clone(), visibility: TimeRanges::all(), deleted: None })
        .collect();
    let columns = TYPES.iter().enumerate();
    let columns: Vec<_> = columns.map(|(i, ty)| ColumnRef::stored(ColumnId(i as u32 + 1), *ty, Value::Null)).collect();
    let functions = [CountStar, Sum(1), Avg(4), Max(2, None), Min(0, None), CountDistinct(2), CountDistinct(1)];
    for keys in [vec![1], vec![2, 1], vec![3, 1, 2]] {
        let aggregates =
            functions.iter().map(|f| AggregateCall { function: *f, filter: Filter::Const(true) }).collect();
        let keys = keys.into_iter().map(Key::Column).collect();
        let query = AggregateQuery { columns: columns.clone(), filter: Filter::Const(true), keys, aggregates };
        let want = oracle::answer(&query, &rows);
        for (threads, at_once) in [(1, 9), (2, 9), (4, 9), (2, 1)] {
            let got = run(&query, &scans, threads, at_once, (5 + threads * 3) << 19, None);
            let (answer, spilled) = got.unwrap_or_else(|e| panic!("{threads} {at_once} {:?} {e}", query.keys));
            assert!(spilled > 1 << 18, "{spilled} bytes were spilled: {:?}", query.keys);
            assert!(answer == want, "{threads} threads, {at_once} at once: {:?}", query.keys);
        }
        let term = Term { by: By::Aggregate(0), descending: true, nulls_first: false };
        let top = Top { terms: vec![term], limit: 3 };
        let (some, _) = run(&query, &scans, 1, 9, 9 << 20, Some(top)).unwrap();
        assert!(some.len() >= 3 && some.iter().all(|(key, values)| want.get(key) == Some(values)));
        let (all, spilled) = run(&query, &scans, 2, 9, 1 << 30, None).unwrap();
        assert!(all == want && spilled == 0, "what fits in memory stays there");
    }
}

proptest! {
    #![proptest_config(crate::properties::cases(150))]

    #[test]
    fn a_short_budget_changes_no_answer(seed in any::<u64>(), segments in 1..5usize, rows in 0..200usize, limit in 2_000..5_000usize) {
        let mut r = Random::new(seed);
        let table = Table::new(segments, rows, &mut r);
        for _ in 0..4 {
            let query = query(&table, true, &mut r);
            let want = oracle::answer(&query, &table.rows);
            for (threads, at_once) in [(1, 100), (2, 100), (1, 1)] {
                match run(&query, &table.scans, threads, at_once, limit << 10, None) {
                    Ok((answer, _)) => prop_assert_eq!(&answer, &want, "{} threads: {:#?}", threads, query),
                    Err(Error::Budget { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
}
