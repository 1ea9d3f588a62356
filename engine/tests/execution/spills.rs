//! More groups than memory holds: they go to a file, and the answer is the same.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use basalt_engine::exec::{AggregateExecution, ExecOptions, Joint, Other, SegmentScan, Spill, SpillHash};
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

fn add(answer: &mut oracle::Answer, part: oracle::Answer) {
    for (key, values) in part {
        assert!(answer.insert(key, values).is_none(), "a group came in two parts");
    }
}

/// The answer, that of the combinations of its keys with `columns`, and that of the first `coarse` keys, all finished together from one budget, and
/// how many bytes were spilled.
fn run_jointly(
    query: &AggregateQuery,
    columns: &[usize],
    coarse: usize,
    scans: &[SegmentScan],
    threads: usize,
    limit: usize,
) -> Result<([oracle::Answer; 4], usize)> {
    let budget = Budget::new(limit);
    let options = ExecOptions { threads, budget: budget.clone(), cancel: Cancel::new() };
    let (mut host, hash, leading) = (TestHost::default(), SpillHash::default(), query.keys.len());
    let files = [Memory::default(), Memory::default(), Memory::default(), Memory::default()];
    let mut work = || {
        let mut executions = Vec::new();
        for (query, file) in [query.clone(), combinations(query, columns)].into_iter().zip(&files) {
            let execution = AggregateExecution::new(query, options.clone())?;
            let mut execution = execution.with_spill(Box::new(file.clone()), leading, &hash);
            execution.scan(scans, &mut host)?;
            execution.rest(&mut host)?;
            executions.push(execution);
        }
        let mut answers = [(); 4].map(|()| oracle::Answer::new());
        let mut coarser = Vec::new();
        for (nth, execution) in executions.iter_mut().enumerate() {
            let mut keep: Vec<usize> = (0..coarse).collect();
            keep.extend(leading..leading + columns.len() * nth);
            let spill: Option<(Box<dyn Spill>, usize)> = Some((Box::new(files[2 + nth].clone()), coarse));
            let mut made = execution.coarser(&keep, spill, &mut host)?;
            made.rest(&mut host)?;
            coarser.push(made);
        }
        for (nth, executions) in [executions, coarser].into_iter().enumerate() {
            let mut joint = Joint::new(executions, None, &mut host)?;
            while let Some(mut part) = joint.next(&mut host)? {
                let groups = oracle::texts(&part.groups);
                let mut others = oracle::Answer::new();
                match part.others.pop().unwrap() {
                    Other::Whole(result) => others = oracle::texts(&result),
                    Other::Streamed(mut stream) => {
                        for _ in 0..2 {
                            others.clear();
                            while let Some(piece) = joint.next_of(&mut stream, &mut host)? {
                                add(&mut others, oracle::texts(&piece));
                            }
                            stream.rewind();
                        }
                    }
                }
                let keys = [leading, coarse][nth];
                assert!(
                    others.keys().all(|key| groups.contains_key(&key[..keys])),
                    "combinations come with their group"
                );
                add(&mut answers[nth * 2], groups);
                add(&mut answers[nth * 2 + 1], others);
            }
        }
        Ok(answers)
    };
    let answers = work();
    assert_eq!(budget.used(), 0, "memory is given back");
    let spilled = files.iter().map(|file| file.0.borrow().len()).sum();
    answers.map(|answers| (answers, spilled))
}

/// Counts the rows of each combination of the query's keys and some columns.
fn combinations(query: &AggregateQuery, columns: &[usize]) -> AggregateQuery {
    let mut query = query.clone();
    query.keys.extend(columns.iter().map(|c| Key::Column(*c)));
    query.aggregates = vec![AggregateCall { function: AggregateFunction::CountStar, filter: Filter::Const(true) }];
    query
}

fn wanted(query: &AggregateQuery, columns: &[usize], coarse: usize, rows: &[Vec<Value>]) -> [oracle::Answer; 4] {
    let mut coarser = query.clone();
    coarser.keys.truncate(coarse);
    [query, &combinations(query, columns), &coarser, &combinations(&coarser, columns)].map(|q| oracle::answer(q, rows))
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
        let execution = AggregateExecution::new(query.clone(), options)?;
        let mut execution = execution.with_spill(Box::new(file.clone()), query.keys.len(), &SpillHash::default());
        for part in scans.chunks(at_once) {
            execution.scan(part, &mut host)?;
        }
        let mut joint = Joint::new(vec![execution], top, &mut host)?;
        let mut answers = Vec::new();
        for _ in 0..if joint.is_spilled() { 2 } else { 1 } {
            let mut answer = oracle::Answer::new();
            while let Some(part) = joint.next(&mut host)? {
                add(&mut answer, oracle::texts(&part.groups));
            }
            answers.push(answer);
            joint.rewind();
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
    for keys in [vec![1], vec![4, 1], vec![2, 1], vec![3, 1, 2]] {
        let aggregates = |functions: &[AggregateFunction]| {
            functions.iter().map(|f| AggregateCall { function: *f, filter: Filter::Const(true) }).collect()
        };
        let (filter, keys) = (Filter::Const(true), keys.into_iter().map(Key::Column).collect());
        let mut query =
            AggregateQuery { columns: columns.clone(), filter, keys, aggregates: aggregates(&functions[..5]) };
        let want = oracle::answer(&query, &rows);
        for threads in [1, 2] {
            // Without sets of values.
            let (answer, spilled) = run(&query, &scans, threads, 9, (4 + threads * 3) << 19, None).unwrap();
            assert!(spilled > 1 << 18, "{spilled} bytes were spilled: {:?}", query.keys);
            assert!(answer == want, "{threads} threads: {:?}", query.keys);
        }
        query.aggregates = aggregates(&functions);
        let want = oracle::answer(&query, &rows);
        for (threads, at_once) in [(1, 9), (2, 9), (4, 9), (2, 1)] {
            let got = run(&query, &scans, threads, at_once, (5 + threads * 3) << 19, None);
            let (answer, spilled) = got.unwrap_or_else(|e| panic!("{threads} {at_once} {:?} {e}", query.keys));
            assert!(spilled > 1 << 18, "{spilled} bytes were spilled: {:?}", query.keys);
            assert!(answer == want, "{threads} threads, {at_once} at once: {:?}", query.keys);
        }
        let term = Term { by: By::Aggregate(0), descending: true, nulls_first: false };
        let top = Top { terms: vec![term], limit: 3, complete: false };
        let (some, _) = run(&query, &scans, 1, 9, 9 << 20, Some(top)).unwrap();
        assert!(some.len() >= 3 && some.iter().all(|(key, values)| want.get(key) == Some(values)));
        let (all, spilled) = run(&query, &scans, 2, 9, 1 << 30, None).unwrap();
        assert!(all == want && spilled == 0, "what fits in memory stays there");
    }
}

/// Codes in place of strings fit in memory; the strings may not, nor what a result holds of them.
#[test]
fn long_strings_go_to_the_file_at_the_end() {
    use AggregateFunction::*;
    let types = [LogicalType::TimestampTz, LogicalType::Text, LogicalType::Int8];
    let row = |i: i64| {
        let text = format!("{:x} {}", i * 7919 % 6_007, "long".repeat(150));
        vec![Value::I64(i), Value::Bytes(text.into_bytes()), Value::I64(i % 5)]
    };
    let rows: Vec<Vec<Value>> = (0..9_000).map(row).collect();
    let segment = build(&types, &rows, true);
    let scans = [SegmentScan { segment, visibility: TimeRanges::all(), deleted: None }];
    let columns = types.iter().enumerate();
    let columns = columns.map(|(i, ty)| ColumnRef::stored(ColumnId(i as u32 + 1), *ty, Value::Null)).collect();
    let aggregates = [CountStar, Sum(2), CountDistinct(2), Max(1, None)];
    let aggregates = aggregates.map(|function| AggregateCall { function, filter: Filter::Const(true) }).to_vec();
    let query = AggregateQuery { columns, filter: Filter::Const(true), keys: vec![Key::Column(1)], aggregates };
    let want = oracle::answer(&query, &rows);
    let term = Term { by: By::Aggregate(2), descending: true, nulls_first: false };
    let top = Top { terms: vec![term], limit: 5_000, complete: false };
    let mut kept = Vec::new();
    for limit in (5..33).step_by(3).map(|mb| mb << 20) {
        let (answer, spilled) = run(&query, &scans, 1, 1, limit, None).unwrap_or_else(|e| panic!("{limit}: {e}"));
        assert!(answer == want, "{limit}");
        let (some, _) = run(&query, &scans, 1, 1, limit, Some(top.clone())).unwrap_or_else(|e| panic!("{limit}: {e}"));
        assert!(some.len() >= 5_000 && some.iter().all(|(key, values)| want.get(key) == Some(values)), "{limit}");
        kept.push(spilled == 0);
    }
    assert!(kept.is_sorted() && !kept[0] && kept[kept.len() - 1], "{kept:?}");
}

#[test]
fn combinations_come_with_their_groups() {
    use AggregateFunction::*;
    let (segments, rows) = data(3, 15_000);
    let scans: Vec<SegmentScan> = segments
        .iter()
        .map(|s| SegmentScan { segment: s.clone(), visibility: TimeRanges::all(), deleted: None })
        .collect();
    let columns = TYPES.iter().enumerate();
    let columns: Vec<_> = columns.map(|(i, ty)| ColumnRef::stored(ColumnId(i as u32 + 1), *ty, Value::Null)).collect();
    // Many groups of few combinations; few groups of many, more than memory holds of one; one group.
    for (keys, of, coarse) in
        [(vec![1, 2], vec![4], 1), (vec![2], vec![1, 3], 0), (vec![3, 2], vec![0], 1), (vec![], vec![1], 0)]
    {
        let aggregates = [CountStar, Sum(1), Variance { column: 4, sample: true, root: false }];
        let aggregates = aggregates.map(|function| AggregateCall { function, filter: Filter::Const(true) }).to_vec();
        let keys: Vec<Key> = keys.into_iter().map(Key::Column).collect();
        let query = AggregateQuery { columns: columns.clone(), filter: Filter::Const(true), keys, aggregates };
        let want = wanted(&query, &of, coarse, &rows);
        for threads in [1, 2] {
            let got = run_jointly(&query, &of, coarse, &scans, threads, 9 << 19);
            let (got, spilled) = got.unwrap_or_else(|e| panic!("{threads} {:?} {e}", query.keys));
            assert!(spilled > 1 << 18, "{spilled} bytes were spilled: {:?}", query.keys);
            assert!(got == want, "{threads} threads: {:?}", query.keys);
            let (got, spilled) = run_jointly(&query, &of, coarse, &scans, threads, 1 << 30).unwrap();
            assert!(got == want && spilled == 0, "what fits in memory stays there");
        }
    }
}

proptest! {
    #![proptest_config(crate::properties::cases(150))]

    #[test]
    fn coarser_groups_and_combinations_are_right(seed in any::<u64>(), segments in 1..5usize, rows in 0..200usize, limit in 2_000..9_000usize) {
        let mut r = Random::new(seed);
        let table = Table::new(segments, rows, &mut r);
        for _ in 0..3 {
            let query = query(&table, true, &mut r);
            // Of a function of time with a value for NULL, the numbers stand for themselves.
            let columns: Vec<usize> = (0..r.below(3)).map(|_| r.below(12)).collect();
            let coarse = r.below(query.keys.len() + 1);
            let want = wanted(&query, &columns, coarse, &table.rows);
            for limit in [limit << 10, 1 << 30] {
                match run_jointly(&query, &columns, coarse, &table.scans, 2, limit) {
                    Ok((answers, _)) => prop_assert_eq!(&answers, &want, "{:#?}", query),
                    Err(Error::Budget { .. }) if limit < 1 << 30 => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }

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
