//! The first groups of an order: none of them is missing, and not many more come than were asked for.

use std::cmp::Ordering;

use basalt_engine::exec::{AggregateExecution, AggregateResult, RowExecution, SegmentScan};
use basalt_engine::plan::{AggregateFunction, AggregateQuery, By, Key, RowQuery, RowTop, Term, Top};
use basalt_engine::types::{Physical, Value};
use proptest::prelude::*;

use crate::generate::{Random, Table, columns, filter, options, query};
use crate::host::TestHost;
use crate::oracle;
use crate::properties::{batch_rows, held, run};

/// What a group is ordered by; `None`: the engine does not know an order.
fn value(result: &AggregateResult, query: &AggregateQuery, by: By, group: usize) -> Option<Value> {
    match by {
        By::Key(nth) => match query.keys[nth] {
            Key::Buckets { .. } => None,
            Key::Column(_) | Key::Exact(_) => Some(result.keys[nth].values.get(group).unwrap()),
        },
        By::Aggregate(nth) => {
            let value = result.aggregates[nth].values.get(group).unwrap();
            match query.aggregates[nth].function {
                AggregateFunction::Min(c, _) | AggregateFunction::Max(c, _)
                    if query.columns[c].ty.physical() == Physical::Bytes =>
                {
                    None
                }
                AggregateFunction::Avg(_) if !value.is_null() => {
                    let count = result.aggregates[nth].counts[group] as f64;
                    Some(Value::F64(match value {
                        Value::I128(i128::MAX) => f64::NAN,
                        Value::I128(sum) => sum as f64 / count,
                        Value::F64(sum) => sum / count,
                        other => panic!("{other:?}"),
                    }))
                }
                AggregateFunction::Variance { sample, root, .. } if !matches!(value, Value::Null | Value::F64(_)) => {
                    let n = result.aggregates[nth].counts[group] as f64;
                    let numerator = match value {
                        Value::I128(i128::MAX) => f64::NAN,
                        Value::I128(v) => v as f64,
                        Value::Bytes(digits) => String::from_utf8(digits).unwrap().parse().unwrap(),
                        other => panic!("{other:?}"),
                    };
                    let variance = numerator / (n * (n - f64::from(sample)));
                    Some(Value::F64(if root { variance.sqrt() } else { variance }))
                }
                _ => Some(value),
            }
        }
    }
}

fn compare(result: &AggregateResult, query: &AggregateQuery, top: &Top, a: usize, b: usize) -> Ordering {
    for term in &top.terms {
        let Some(pair) = value(result, query, term.by, a).zip(value(result, query, term.by, b)) else { break };
        let order = match (pair.0.is_null(), pair.1.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) | (false, true) => {
                if pair.0.is_null() == term.nulls_first {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            _ if term.descending => oracle::compare(&pair.1, &pair.0),
            _ => oracle::compare(&pair.0, &pair.1),
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

proptest! {
    #![proptest_config(crate::properties::cases(300))]

    #[test]
    fn the_first_groups_are_there(seed in any::<u64>(), segments in 1..5usize, rows in 0..200usize) {
        let mut r = Random::new(seed);
        let table = Table::new(segments, rows, &mut r);
        for _ in 0..4 {
            let query = query(&table, true, &mut r);
            let all = run(&query, &table.scans, 1, 100);
            let complete = r.one_in(2);
            let terms = (0..usize::from(!complete) + r.below(3)).map(|_| {
                let key = !query.keys.is_empty() && r.one_in(2);
                let by = if key { By::Key(r.below(query.keys.len())) } else { By::Aggregate(r.below(query.aggregates.len())) };
                Term { by, descending: r.one_in(2), nulls_first: r.one_in(2) }
            });
            let top = Top { terms: terms.collect(), limit: r.below(8), complete };
            // In the engine's order of groups, which differs from scan to scan.
            let full = oracle::texts(&all);
            for (threads, at_once) in [(1, 100), (2, 100), (1, 1)] {
                let mut host = TestHost::default();
                let options = options(threads);
                let budget = options.budget.clone();
                let mut execution = AggregateExecution::new(query.clone(), options).unwrap();
                for part in table.scans.chunks(at_once) {
                    execution.scan(part, &mut host).unwrap();
                }
                let some = execution.finish_top(Some(&top), &mut host).unwrap();
                prop_assert_eq!(budget.used(), held(&some));
                let chosen = oracle::texts(&some);
                for (key, values) in &chosen {
                    prop_assert_eq!(full.get(key), Some(values), "{:?} {:#?}", top, query);
                }
                let key = |group: usize| -> Vec<String> {
                    all.keys.iter().map(|c| oracle::canonical(&c.values.get(group).unwrap())).collect()
                };
                let exact = all.groups == 0 || top.terms.iter().all(|t| match value(&all, &query, t.by, 0) {
                    None | Some(Value::Bytes(_)) => false,
                    _ => match t.by {
                        By::Aggregate(nth) => !matches!(
                            query.aggregates[nth].function,
                            AggregateFunction::Avg(_) | AggregateFunction::Variance { .. }
                        ),
                        By::Key(nth) => match query.keys[nth] {
                            Key::Column(c) | Key::Exact(c) => query.columns[c].ty.physical() != Physical::Bytes,
                            Key::Buckets { .. } => false,
                        },
                    },
                });
                prop_assert!(chosen.len() >= top.limit.min(all.groups));
                prop_assert!(!exact || !top.complete || chosen.len() == top.limit.min(all.groups), "{:?} {:#?}", top, query);
                for group in 0..all.groups {
                    let before = (0..all.groups).filter(|g| compare(&all, &query, &top, *g, group).is_lt()).count();
                    let came = chosen.contains_key(&key(group));
                    let ties = (0..all.groups).filter(|g| compare(&all, &query, &top, *g, group).is_eq()).count();
                    // Of those that tie with the last one, any may be left out.
                    let may_miss = top.complete && before + ties > top.limit;
                    prop_assert!(came || before >= top.limit || may_miss, "group {group} is missing: {:?} {:#?}", top, query);
                    prop_assert!(!exact || !came || before < top.limit, "group {group} is behind: {:?} {:#?}", top, query);
                }
            }
        }
    }

    #[test]
    fn the_first_rows_are_there(seed in any::<u64>(), segments in 1..5usize, rows in 0..200usize) {
        let mut r = Random::new(seed);
        let table = Table::new(segments, rows, &mut r);
        let columns = columns(table.date);
        for _ in 0..6 {
            let filter = filter(1, &table, &mut r);
            let column = r.below(columns.len());
            let top = RowTop { column, descending: r.one_in(2), nulls_first: r.one_in(2), limit: r.below(8) };
            let output = (0..columns.len()).collect();
            let query = RowQuery { columns: columns.clone(), filter: filter.clone(), output };
            let mut host = TestHost::default();
            let mut execution = RowExecution::new(query, options(1)).unwrap().with_top(top).unwrap();
            let mut scans: Vec<&SegmentScan> = table.scans.iter().collect();
            scans.sort_by_key(|scan| execution.rank(&scan.segment.statistics()));
            let mut got: Vec<Vec<Value>> = Vec::new();
            for scan in scans {
                if !execution.rank(&scan.segment.statistics()).is_none_or(|rank| execution.admits(rank)) {
                    continue;
                }
                let (segment, visibility) = (scan.segment.clone(), scan.visibility.clone());
                execution.start(SegmentScan { segment, visibility, deleted: scan.deleted.clone() }, &mut host).unwrap();
                while let Some(batch) = execution.next(&mut host).unwrap() {
                    got.extend(batch_rows(&batch));
                }
            }
            let order = |a: &&Vec<Value>, b: &&Vec<Value>| match (a[column].is_null(), b[column].is_null()) {
                (true, true) => Ordering::Equal,
                (true, false) | (false, true) if a[column].is_null() == top.nulls_first => Ordering::Less,
                (true, false) | (false, true) => Ordering::Greater,
                _ if top.descending => oracle::compare(&b[column], &a[column]),
                _ => oracle::compare(&a[column], &b[column]),
            };
            let all: Vec<&Vec<Value>> = table.rows.iter().filter(|row| oracle::selects(&filter, row)).collect();
            let mut left: Vec<String> = got.iter().map(|row| format!("{row:?}")).collect();
            let known: Vec<String> = all.iter().map(|row| format!("{row:?}")).collect();
            prop_assert!(left.iter().all(|row| known.contains(row)));
            for row in &all {
                let came = left.iter().position(|l| *l == format!("{row:?}")).map(|at| left.swap_remove(at)).is_some();
                let before = all.iter().filter(|other| order(other, row).is_lt()).count();
                prop_assert!(came || before >= top.limit, "{:?} {:#?}", top, filter);
            }
            prop_assert!(left.is_empty(), "rows came twice");
            prop_assert!(top.limit > 0 || got.is_empty());
        }
    }
}
