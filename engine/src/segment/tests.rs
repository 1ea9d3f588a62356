//! Whole segments against their rows.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::testing::*;
use super::*;
use crate::types::{LogicalType, Value};

fn percent_null() -> impl Strategy<Value = u64> {
    select(vec![0, 0, 1, 50, 100])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

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
    for rows in [BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS - 5] {
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
    assert!(text.rows_of_codes(&[0]).unwrap().is_none());
}

#[test]
fn inconsistent_schemas_are_refused() {
    for schema in [schema(&[LogicalType::Int4], Some(0), &[]), schema(&[LogicalType::Int4], None, &[1])] {
        let mut out = Vec::new();
        assert!(SegmentBuilder::new(schema, options()).finish(&mut out).is_err());
    }
}
