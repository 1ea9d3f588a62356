//! Generated tables and queries: the engine and the oracle agree, at any number of threads and division into scans.

use basalt_engine::exec::{AggregateExecution, AggregateResult, RowBatch, RowExecution, SegmentScan};
use basalt_engine::plan::{AggregateQuery, RowQuery};
use basalt_engine::types::Value;
use proptest::prelude::*;

use crate::generate::{Random, Table, columns, filter, options, query};
use crate::host::TestHost;
use crate::oracle;

pub fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, max_shrink_iters: 200, ..ProptestConfig::default() }
}

pub fn run(query: &AggregateQuery, scans: &[SegmentScan], threads: usize, at_once: usize) -> AggregateResult {
    let mut host = TestHost::default();
    let options = options(threads);
    let budget = options.budget.clone();
    let mut execution = AggregateExecution::new(query.clone(), options).unwrap();
    for part in scans.chunks(at_once.max(1)) {
        execution.scan(part, &mut host).unwrap();
    }
    let result = execution.finish(&mut host).unwrap();
    assert_eq!(budget.used(), held(&result), "memory is given back");
    result
}

/// Bytes that a result holds.
pub fn held(result: &AggregateResult) -> usize {
    result.memory.iter().map(|memory| memory.bytes()).sum()
}

/// Rows of a batch as values.
pub fn batch_rows(batch: &RowBatch) -> Vec<Vec<Value>> {
    (0..batch.rows).map(|i| batch.columns.iter().map(|column| column.value(i)).collect()).collect()
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn aggregates_agree_with_the_oracle(seed in any::<u64>(), segments in 1..7usize, rows in 0..200usize) {
        let mut r = Random::new(seed);
        let table = Table::new(segments, rows, &mut r);
        for _ in 0..6 {
            let query = query(&table, true, &mut r);
            let want = oracle::answer(&query, &table.rows);
            for (threads, at_once) in [(1, 100), (2, 100), (8, 2), (1, 1)] {
                let got = oracle::texts(&run(&query, &table.scans, threads, at_once));
                prop_assert_eq!(&got, &want, "{} threads, {} at once: {:#?}", threads, at_once, query);
            }
            // In two executions, of which one hands its states to the other.
            let mut host = TestHost::default();
            let (left, right) = table.scans.split_at(table.scans.len() / 2);
            let mut shards = Vec::new();
            for part in [left, right] {
                let mut execution = AggregateExecution::new(query.clone(), options(2)).unwrap();
                execution.scan(part, &mut host).unwrap();
                shards.push(execution);
            }
            let bytes = shards.pop().unwrap().export(&mut host).unwrap();
            let mut whole = shards.pop().unwrap();
            whole.import(&bytes, &mut host).unwrap();
            prop_assert_eq!(&whole.export(&mut host).unwrap(), &whole.export(&mut host).unwrap());
            prop_assert_eq!(oracle::texts(&whole.finish(&mut host).unwrap()), want, "imported: {:#?}", query);
            // Bytes that are no states are an error or other states, never a panic.
            for _ in 0..20 {
                let mut broken = bytes.clone();
                let at = r.below(broken.len());
                if r.one_in(3) { broken.truncate(at) } else { broken[at] ^= 1 << r.below(8) }
                let mut execution = AggregateExecution::new(query.clone(), options(1)).unwrap();
                if execution.import(&broken, &mut host).is_ok() {
                    execution.finish(&mut host).ok();
                }
            }
        }
    }

    #[test]
    fn threads_and_order_do_not_change_a_bit(seed in any::<u64>(), segments in 1..7usize, rows in 0..200usize) {
        let mut r = Random::new(seed);
        let mut table = Table::new(segments, rows, &mut r);
        for _ in 0..4 {
            let query = query(&table, false, &mut r);
            // Sums of arbitrary floats may be out of range: then always.
            let outcome = |threads, at_once, table: &Table| -> String {
                let mut host = TestHost::default();
                let mut execution = AggregateExecution::new(query.clone(), options(threads)).unwrap();
                for part in table.scans.chunks(at_once) {
                    execution.scan(part, &mut host).unwrap();
                }
                match execution.finish(&mut host) {
                    Ok(result) => format!("{:?}", oracle::texts(&result)),
                    Err(error) => error.to_string(),
                }
            };
            let want = outcome(1, 100, &table);
            prop_assert_eq!(outcome(2, 100, &table), want.clone());
            prop_assert_eq!(outcome(8, 1, &table), want.clone());
            table.scans.reverse();
            prop_assert_eq!(outcome(2, 3, &table), want);
        }
    }

    #[test]
    fn row_scans_agree_with_the_oracle(seed in any::<u64>(), segments in 1..5usize, rows in 0..200usize) {
        let mut r = Random::new(seed);
        let table = Table::new(segments, rows, &mut r);
        for _ in 0..6 {
            let filter = filter(2, &table, &mut r);
            let output: Vec<usize> = (0..columns(table.date).len()).filter(|_| !r.one_in(3)).collect();
            let query = RowQuery { columns: columns(table.date), filter: filter.clone(), output: output.clone() };
            let mut host = TestHost::default();
            let mut execution = RowExecution::new(query, options(1)).unwrap();
            let mut got: Vec<Vec<String>> = Vec::new();
            for scan in &table.scans {
                let (segment, visibility) = (scan.segment.clone(), scan.visibility.clone());
                let scan = SegmentScan { segment, visibility, deleted: scan.deleted.clone() };
                execution.start(scan, &mut host).unwrap();
                while let Some(batch) = execution.next(&mut host).unwrap() {
                    prop_assert!(batch.rows > 0 && batch.row_numbers.is_sorted());
                    got.extend(batch_rows(&batch).iter().map(|row| row.iter().map(oracle::canonical).collect()));
                }
            }
            let selected = table.rows.iter().filter(|row| oracle::selects(&filter, row));
            let want: Vec<Vec<String>> =
                selected.map(|row| output.iter().map(|c| oracle::canonical(&row[*c])).collect()).collect();
            prop_assert_eq!(got, want, "{:#?}", filter);
        }
    }
}
