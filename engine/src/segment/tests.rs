//! Whole segments against their rows.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::testing::*;
use super::*;
use crate::types::{LogicalType, Schema, Value};

fn percent_null() -> impl Strategy<Value = u64> {
    select(vec![0, 0, 1, 50, 100])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_rows_come_back(
        rows in select(vec![0usize, 1, 2, 15, 17, 63, 64, 65, 1000, 1023, 1024, 1025, 3000]),
        spreads in vec(spread(), TYPES.len()),
        nulls in vec(percent_null(), TYPES.len()),
        time in prop_oneof![Just(None), select(vec![Some(8usize), Some(9), Some(10)])],
        cluster_by in vec(0..TYPES.len(), 0..3),
        seed: u64,
    ) {
        let schema = schema(&TYPES, time, &cluster_by);
        let rows = rows_of(&TYPES, &spreads, &nulls, rows, seed);
        let (bytes, statistics) = build(&schema, &rows);
        prop_assert_eq!(statistics.encode(), open(&bytes).statistics().encode());
        check(&bytes, &schema, &sorted(&schema, &rows));
        // However the rows were handed over.
        prop_assert_eq!(bytes, build_with(&schema, &rows, options(), 7).0);
    }
}

#[test]
fn blocks_end_where_they_should() {
    let types =
        [LogicalType::TimestampTz, LogicalType::Text, LogicalType::Int4, LogicalType::Float8, LogicalType::Text];
    let schema = schema(&types, Some(0), &[]);
    let spreads = [Spread::Ascending, Spread::Few, Spread::Wild, Spread::Wild, Spread::Wild];
    for rows in [BLOCK_ROWS, BLOCK_ROWS + 1] {
        let rows = rows_of(&types, &spreads, &[0, 1, 50, 1, 1], rows, 5);
        check(&build(&schema, &rows).0, &schema, &sorted(&schema, &rows));
    }
}

#[test]
fn a_segment_without_columns_or_rows_is_legal() {
    let empty = schema(&[], None, &[]);
    check(&build(&empty, &[]).0, &empty, &[]);
    let schema = schema(&TYPES, Some(9), &[0]);
    check(&build(&schema, &[]).0, &schema, &[]);
}

#[test]
fn a_wrong_decoder_is_an_error() {
    let schema = schema(&[LogicalType::Int4, LogicalType::Text], None, &[]);
    let bytes = build(&schema, &[vec![Value::I64(1), Value::Bytes(b"a".to_vec())]]).0;
    let segment = open(&bytes);
    let [int, text] = [0, 1].map(|i| segment.column(schema.columns[i].id).unwrap());
    assert!(matches!(int.decode_f64(0, &mut Vec::new()), Err(crate::Error::Invalid(_))));
    assert!(matches!(int.dictionary(), Err(crate::Error::Invalid(_))));
    assert!(matches!(text.decode_bytes(0, &mut BytesBlock::default()), Err(crate::Error::Invalid(_))));
    assert!(matches!(text.decode_codes(1, &mut Vec::new()), Err(crate::Error::Invalid(_))));
    assert!(text.blocks_of_codes(&[(0, 0)]).unwrap().is_none());
}

#[test]
fn inconsistent_schemas_are_refused() {
    for schema in [schema(&[LogicalType::Int4], Some(0), &[]), schema(&[LogicalType::Int4], None, &[1])] {
        let mut out = Vec::new();
        assert!(SegmentBuilder::new(schema, options()).finish(&mut out).is_err());
    }
}

fn spilling(limit: usize) -> BuildOptions {
    let spill_directory = Some(std::env::temp_dir());
    BuildOptions { budget: crate::Budget::new(limit), spill_directory, ..options() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn spilled_rows_give_the_same_bytes(
        rows in 1usize..4000,
        at_a_time in 50usize..1000,
        spreads in vec(spread(), TYPES.len()),
        nulls in vec(percent_null(), TYPES.len()),
        time in prop_oneof![Just(None), select(vec![Some(8usize), Some(9), Some(10)])],
        cluster_by in vec(0..TYPES.len(), 0..3),
        seed: u64,
    ) {
        let schema = schema(&TYPES, time, &cluster_by);
        let rows = rows_of(&TYPES, &spreads, &nulls, rows, seed);
        let limit = 4 << 20;
        let mut builder = SegmentBuilder::new(schema.clone(), spilling(limit));
        for rows in rows.chunks(at_a_time) {
            builder.append(buffer(&schema, rows)).unwrap();
        }
        prop_assert_eq!(builder.rows() as usize, rows.len());
        let mut spilled = Vec::new();
        builder.finish(&mut spilled).unwrap();
        prop_assert!(spilled == build(&schema, &rows).0);
    }
}

#[test]
fn without_a_directory_the_budget_is_the_end() {
    let schema = schema(&[LogicalType::Text], None, &[]);
    let rows = rows_of(&[LogicalType::Text], &[Spread::Wild], &[0], 5000, 3);
    let short = BuildOptions { budget: crate::Budget::new(100_000), ..options() };
    let mut builder = SegmentBuilder::new(schema.clone(), short);
    assert!(matches!(builder.append(buffer(&schema, &rows)), Err(crate::Error::Budget { .. })));
}

/// What a merge must give: the sources' visible rows, one after the other, as a builder sorts them.
fn merge_model(schema: &Schema, sources: &[(Vec<Vec<Value>>, MergeSource)]) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for (source, MergeSource { visibility, deleted, .. }) in sources {
        for (row, values) in source.iter().enumerate() {
            let visible = schema.time.is_none_or(|t| match values[t] {
                Value::I64(time) => visibility.contains(schema.columns[t].ty.to_micros(time)),
                _ => true,
            });
            if visible && !deleted.as_ref().is_some_and(|d| d.contains(row as u32)) {
                rows.push(values.clone());
            }
        }
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_merge_is_a_build_of_what_is_visible(
        sources in vec((0usize..700, vec(spread(), TYPES.len()), any::<u64>(), 0u32..4, any::<bool>()), 0..6),
        nulls in vec(percent_null(), TYPES.len()),
        time in prop_oneof![Just(None), select(vec![Some(8usize), Some(9), Some(10)])],
        cluster_by in vec(0..TYPES.len(), 0..3),
        other_order: bool,
    ) {
        let schema = schema(&TYPES, time, &cluster_by);
        let mut built = Vec::new();
        for (rows, spreads, seed, deleted, clipped) in sources {
            let rows = rows_of(&TYPES, &spreads, &nulls, rows, seed);
            // Sources need not be sorted as the merge is.
            let source_schema = if other_order { testing::schema(&TYPES, Some(9), &[]) } else { schema.clone() };
            let segment = open(&build(&source_schema, &rows).0);
            let rows = sorted(&source_schema, &rows);
            let deleted = (deleted > 0).then(|| (0..rows.len() as u32).step_by(deleted as usize + 1).collect());
            let visibility = match clipped {
                true => crate::TimeRanges::new(vec![
                    crate::TimeInterval::new(i64::MIN, -5000),
                    crate::TimeInterval::new(4000, 6_000_000_001),
                ]),
                false => crate::TimeRanges::all(),
            };
            built.push((rows, MergeSource { segment, visibility, deleted }));
        }
        let rows = merge_model(&schema, &built);
        let sources: Vec<MergeSource> = built.into_iter().map(|(_, source)| source).collect();
        let mut bytes = Vec::new();
        let output = merge(schema.clone(), &sources, options(), &mut bytes).unwrap();
        let expected = build(&schema, &rows).0;
        check(&bytes, &schema, &sorted(&schema, &rows));
        prop_assert!(bytes == expected);
        prop_assert_eq!(output.statistics.encode(), open(&bytes).statistics().encode());
        check_row_map(&schema, &sources, &output.row_map, &open(&bytes));
    }
}

fn check_row_map(schema: &Schema, sources: &[MergeSource], row_map: &[Vec<u32>], merged: &Segment) {
    assert_eq!(row_map.len(), sources.len());
    let mut seen = vec![false; merged.rows() as usize];
    for (source, map) in sources.iter().zip(row_map) {
        assert_eq!(map.len(), source.segment.rows() as usize);
        for (old, new) in (0..).zip(map).filter(|(_, new)| **new != u32::MAX) {
            assert!(!std::mem::replace(&mut seen[*new as usize], true));
            if old % 37 == 0 {
                for column in &schema.columns {
                    let [a, b] = [(&*source.segment, old), (merged, *new)]
                        .map(|(segment, row)| segment.column(column.id).unwrap().value(row).unwrap());
                    assert!(same(&a, &b));
                }
            }
        }
    }
    assert!(seen.into_iter().all(|s| s));
}

#[test]
fn columns_come_and_go_between_merges() {
    let types = [LogicalType::Timestamp, LogicalType::Text, LogicalType::Int4, LogicalType::Float8];
    let new = schema(&types, Some(0), &[1]);
    let old = std::sync::Arc::new(Schema {
        columns: vec![
            new.columns[2].clone(),
            crate::types::Column { id: crate::types::ColumnId(99), ..new.columns[1].clone() },
            new.columns[0].clone(),
        ],
        time: Some(2),
        cluster_by: vec![],
    });
    let source = |schema: &std::sync::Arc<Schema>, rows: &[Vec<Value>]| MergeSource {
        segment: open(&build(schema, rows).0),
        visibility: crate::TimeRanges::all(),
        deleted: None,
    };
    let text = |s: &str| Value::Bytes(s.into());
    let sources = [
        source(
            &old,
            &[vec![Value::I64(7), text("gone"), Value::I64(50)], vec![Value::Null, text("gone"), Value::I64(40)]],
        ),
        source(
            &new,
            &[
                vec![Value::I64(45), text("b"), Value::I64(1), Value::F64(1.5)],
                vec![Value::I64(60), text("a"), Value::Null, Value::Null],
            ],
        ),
    ];
    let mut bytes = Vec::new();
    let output = merge(new.clone(), &sources, options(), &mut bytes).unwrap();
    let expected = [
        vec![Value::I64(60), text("a"), Value::Null, Value::Null],
        vec![Value::I64(45), text("b"), Value::I64(1), Value::F64(1.5)],
        vec![Value::I64(40), Value::Null, Value::Null, Value::Null],
        vec![Value::I64(50), Value::Null, Value::I64(7), Value::Null],
    ];
    check(&bytes, &new, &expected);
    assert_eq!(output.row_map, [[2, 3], [0, 1]]);

    // Rows older than a column may hold a value there instead of NULL.
    let missing = [Value::I64(9), text("b"), Value::Null, Value::F64(0.5)];
    bytes.clear();
    let output = merge_filling(new.clone(), &sources, &missing, options(), &mut bytes).unwrap();
    let expected = [
        vec![Value::I64(60), text("a"), Value::Null, Value::Null],
        vec![Value::I64(40), text("b"), Value::Null, Value::F64(0.5)],
        vec![Value::I64(45), text("b"), Value::I64(1), Value::F64(1.5)],
        vec![Value::I64(50), text("b"), Value::I64(7), Value::F64(0.5)],
    ];
    check(&bytes, &new, &expected);
    assert_eq!(output.row_map, [[1, 3], [0, 2]]);
    let bad = [Value::Null, Value::I64(1), Value::Null, Value::Null];
    assert!(merge_filling(new, &sources, &bad, options(), &mut Vec::new()).is_err());
}

#[test]
fn codes_are_found_by_block_or_by_row() {
    let schema = testing::schema(&[LogicalType::Text], None, &[]);
    let text = |s: &str| vec![Value::Bytes(s.as_bytes().to_vec())];
    let value = |i: u32| match i {
        _ if i.is_multiple_of(1000) => text("rare"),
        70_000..70_010 => text("near"),
        _ => text(["left", "right"][i as usize % 2]),
    };
    let rows: Vec<Vec<Value>> = (0..3 * BLOCK_ROWS as u32).map(value).collect();
    let segment = testing::open(&testing::build(&schema, &rows).0);
    segment.verify().unwrap();
    let reader = segment.column(schema.columns[0].id).unwrap();
    let code = |s: &str| reader.dictionary().unwrap().search(s.as_bytes()).unwrap().unwrap();
    let of = |s: &str| [(code(s), code(s))];
    assert_eq!(reader.blocks_of_codes(&of("near")).unwrap(), Some(vec![false, true, false]));
    assert_eq!(reader.rows_of_codes(&of("near")).unwrap(), None);
    let found = reader.rows_of_codes(&of("rare")).unwrap().unwrap();
    assert!(found.iter().eq((0..rows.len() as u32).step_by(1000)));
    assert_eq!(reader.rows_of_codes(&of("left")).unwrap(), None);
    assert_eq!(reader.blocks_of_codes(&of("left")).unwrap(), None);
    assert_eq!(reader.rows_of_codes(&[(0, 3)]).unwrap(), None, "not all of the codes have a bitmap");
}
