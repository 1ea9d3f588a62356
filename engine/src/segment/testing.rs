//! What the tests of segments share: rows as values, in and out.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::rows::RowBuffer;
use crate::types::{Column, ColumnId, LogicalType, Physical, Schema, Value};
use crate::{Budget, Cancel};

pub fn options() -> BuildOptions {
    BuildOptions { budget: Budget::unlimited(), cancel: Cancel::new(), spill_directory: None }
}

pub fn schema(types: &[LogicalType], time: Option<usize>, cluster_by: &[usize]) -> Arc<Schema> {
    let column =
        |(i, ty): (usize, &LogicalType)| Column { id: ColumnId(i as u32 * 3 + 1), ty: *ty, indexed: i % 3 != 2 };
    Arc::new(Schema { columns: types.iter().enumerate().map(column).collect(), time, cluster_by: cluster_by.to_vec() })
}

pub fn buffer(schema: &Arc<Schema>, rows: &[Vec<Value>]) -> RowBuffer {
    let mut buffer = RowBuffer::new(schema.clone());
    for row in rows {
        for (column, value) in row.iter().enumerate() {
            match value {
                Value::Null => buffer.push_null(column),
                Value::I64(v) => buffer.push_i64(column, *v).unwrap(),
                Value::I128(v) => buffer.push_i128(column, *v).unwrap(),
                Value::F64(v) => buffer.push_f64(column, *v).unwrap(),
                Value::Bytes(v) => buffer.push_bytes(column, v).unwrap(),
            }
        }
        buffer.finish_row().unwrap();
    }
    buffer
}

pub fn build(schema: &Arc<Schema>, rows: &[Vec<Value>]) -> (Vec<u8>, SegmentStatistics) {
    build_with(schema, rows, options(), rows.len().max(1))
}

pub fn build_with(
    schema: &Arc<Schema>,
    rows: &[Vec<Value>],
    options: BuildOptions,
    at_a_time: usize,
) -> (Vec<u8>, SegmentStatistics) {
    let mut builder = SegmentBuilder::new(schema.clone(), options);
    for rows in rows.chunks(at_a_time) {
        builder.append(buffer(schema, rows)).unwrap();
    }
    let mut out = Vec::new();
    let statistics = builder.finish(&mut out).unwrap();
    (out, statistics)
}

pub fn open(bytes: &[u8]) -> Arc<Segment> {
    Arc::new(Segment::open(SegmentBytes::Memory(bytes.into())).unwrap())
}

/// The order in which segments keep minima and maxima and sort rows, NULL last.
pub fn compare(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a, b) {
        (Value::Null, _) | (_, Value::Null) => a.is_null().cmp(&b.is_null()),
        (Value::I64(a), Value::I64(b)) => a.cmp(b),
        (Value::I128(a), Value::I128(b)) => a.cmp(b),
        (Value::F64(a), Value::F64(b)) => a.total_cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        _ => panic!("values of different types"),
    }
}

/// Equal in every bit: NaN is NaN, and -0.0 is not 0.0.
pub fn same(a: &Value, b: &Value) -> bool {
    a.is_null() == b.is_null() && compare(a, b).is_eq()
}

pub fn sorted(schema: &Schema, rows: &[Vec<Value>]) -> Vec<Vec<Value>> {
    let keys: Vec<usize> = schema.cluster_by.iter().chain(&schema.time).copied().collect();
    let mut rows = rows.to_vec();
    rows.sort_by(|a, b| {
        keys.iter().map(|k| compare(&a[*k], &b[*k])).find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    });
    rows
}

/// All values of a column, by its blocks' decoders.
pub fn column_values(reader: ColumnReader, blocks: usize) -> Vec<Value> {
    let mut all = Vec::new();
    for block in 0..blocks {
        let header = reader.block(block).unwrap();
        let mut values: Vec<Value> = match reader.kind() {
            ColumnKind::I64 => {
                // A dirty buffer of another length.
                let mut out = vec![7; 99];
                reader.decode_i64(block, &mut out).unwrap();
                out.into_iter().map(Value::I64).collect()
            }
            ColumnKind::I128 => {
                let mut out = vec![7; 70_000];
                reader.decode_i128(block, &mut out).unwrap();
                out.into_iter().map(Value::I128).collect()
            }
            ColumnKind::F64 => {
                let mut out = vec![7.0; 99];
                reader.decode_f64(block, &mut out).unwrap();
                out.into_iter().map(Value::F64).collect()
            }
            ColumnKind::Bytes => {
                let mut out = BytesBlock { ends: vec![3], data: vec![1, 2, 3] };
                reader.decode_bytes(block, &mut out).unwrap();
                (0..out.len()).map(|i| Value::Bytes(out.get(i).to_vec())).collect()
            }
            ColumnKind::Dictionary => {
                let mut out = vec![7; 70_000];
                reader.decode_codes(block, &mut out).unwrap();
                let dictionary = reader.dictionary().unwrap();
                let values = dictionary.all().unwrap();
                let value = |code: u32| match code == dictionary.len() {
                    true => Value::Null,
                    false => Value::Bytes(values.get(code as usize).to_vec()),
                };
                out.into_iter().map(value).collect()
            }
        };
        assert_eq!(values.len(), header.rows as usize);
        if let Some(valid) = reader.validity(block).unwrap() {
            for (i, value) in values.iter_mut().enumerate() {
                if valid[i / 64] >> (i % 64) & 1 == 0 {
                    *value = Value::Null;
                }
            }
        }
        check_header(&reader, block, &header, &values);
        all.extend(values);
    }
    all
}

fn check_header(reader: &ColumnReader, block: usize, header: &BlockHeader, values: &[Value]) {
    let known: Vec<&Value> = values.iter().filter(|v| !v.is_null()).collect();
    assert_eq!(header.nulls as usize, values.len() - known.len());
    let min = known.iter().copied().min_by(|a, b| compare(a, b));
    let max = known.iter().copied().max_by(|a, b| compare(a, b));
    if reader.kind() == ColumnKind::Dictionary {
        let code = |value: Option<&Value>| match value {
            Some(Value::Bytes(v)) => Value::I64(i64::from(reader.dictionary().unwrap().search(v).unwrap().unwrap())),
            _ => Value::Null,
        };
        assert_eq!((&header.min, &header.max), (&code(min), &code(max)));
    } else if !header.min.is_null() {
        assert!(same(&header.min, min.unwrap()) && same(&header.max, max.unwrap()));
    } else {
        let too_long = |v: &&&Value| matches!(v, Value::Bytes(b) if b.len() > 64);
        assert!(known.is_empty() || [min, max].iter().flatten().any(|v| too_long(&v)));
    }
    if reader.is_constant(block).unwrap() {
        assert!(known.iter().all(|v| same(v, known[0])));
    }
    let numeric = matches!(reader.ty(), LogicalType::Numeric { .. });
    let sum = known.iter().try_fold(0i128, |sum, v| match v {
        Value::I64(i64::MAX) | Value::I128(i128::MAX) if numeric => None,
        Value::I64(v) => Some(sum + i128::from(*v)),
        Value::I128(v) => sum.checked_add(*v),
        _ => None,
    });
    assert_eq!(header.sum, sum.filter(|_| !known.is_empty() && !reader.ty().is_time()));
}

/// Checks everything that a segment says against its rows, in the segment's order.
pub fn check(bytes: &[u8], schema: &Schema, rows: &[Vec<Value>]) {
    let segment = open(bytes);
    segment.verify().unwrap();
    assert_eq!(segment.rows() as usize, rows.len());
    assert_eq!(segment.blocks(), rows.len().div_ceil(BLOCK_ROWS));
    assert_eq!(segment.columns(), schema.columns);
    let statistics = segment.statistics();
    // As bytes: NaN is not equal to itself.
    assert_eq!(SegmentStatistics::decode(&statistics.encode()).unwrap().encode(), statistics.encode());
    assert_eq!(statistics.rows as usize, rows.len());
    for (position, column) in schema.columns.iter().enumerate() {
        let reader = segment.column(column.id).unwrap();
        let values = column_values(reader, segment.blocks());
        assert_eq!(values.len(), rows.len());
        for (row, (value, expected)) in values.iter().zip(rows).enumerate() {
            assert!(
                same(value, &expected[position]),
                "column {position} row {row}: {value:?}, not {:?}",
                expected[position]
            );
        }
        for row in (0..rows.len()).step_by(rows.len() / 20 + 1) {
            assert!(same(&reader.value(row as u32).unwrap(), &values[row]), "column {position} row {row}");
        }
        let known = || values.iter().filter(|v| !v.is_null());
        let kept = &statistics.columns[position];
        assert_eq!(kept.id, column.id);
        assert_eq!(kept.nulls as usize, rows.len() - known().count());
        if !kept.min.is_null() {
            assert!(same(&kept.min, known().min_by(|a, b| compare(a, b)).unwrap()));
            assert!(same(&kept.max, known().max_by(|a, b| compare(a, b)).unwrap()));
        }
        if schema.time == Some(position) {
            let micros = |v: &Value| match v {
                Value::I64(v) => column.ty.to_micros(*v),
                _ => unreachable!(),
            };
            let times = || known().map(micros);
            assert_eq!(statistics.time, times().min().zip(times().max()));
        }
        if reader.kind() == ColumnKind::Dictionary {
            check_dictionary(reader, &values, column.indexed);
        }
    }
}

fn check_dictionary(reader: ColumnReader, rows: &[Value], indexed: bool) {
    let dictionary = reader.dictionary().unwrap();
    let values = dictionary.all().unwrap();
    assert_eq!(values.len() as u32, dictionary.len());
    let mut expected: Vec<&Vec<u8>> =
        rows.iter().filter_map(|v| if let Value::Bytes(b) = v { Some(b) } else { None }).collect();
    expected.sort_unstable();
    expected.dedup();
    assert!(expected.iter().enumerate().all(|(i, v)| values.get(i) == *v) && expected.len() == values.len());
    let step = values.len() / 50 + 1;
    for code in (0..values.len()).step_by(step) {
        let mut one = Vec::new();
        dictionary.get(code as u32, &mut one).unwrap();
        assert_eq!(one, values.get(code));
        assert_eq!(dictionary.search(&one).unwrap(), Ok(code as u32));
        one.push(0);
        let after = values.get(code + 1) == one && code + 1 < values.len();
        assert_eq!(dictionary.search(&one).unwrap(), if after { Ok(code as u32 + 1) } else { Err(code as u32 + 1) });
    }
    let mut past = Vec::new();
    assert!(dictionary.get(dictionary.len(), &mut past).is_err());
    // Codes: a few single ones, NULL, and a set.
    let null = dictionary.len();
    let code = |v: &Value| match v {
        Value::Bytes(b) => expected.binary_search(&b).unwrap() as u32,
        _ => null,
    };
    let codes_of_rows: Vec<u32> = rows.iter().map(code).collect();
    let mut sets: Vec<Vec<u32>> = (0..=null).step_by(step).map(|c| vec![c]).collect();
    sets.push(vec![null]);
    sets.push((0..=null).step_by(3).collect());
    sets.push(Vec::new());
    let blocks = rows.len().div_ceil(BLOCK_ROWS);
    for codes in sets {
        let ranges: Vec<(u32, u32)> = codes.iter().map(|code| (*code, *code)).collect();
        let found = reader.blocks_of_codes(&ranges).unwrap();
        let mut wanted = vec![false; blocks];
        let chosen = codes_of_rows.iter().enumerate().filter(|(_, code)| codes.binary_search(code).is_ok());
        chosen.for_each(|(row, _)| wanted[row / BLOCK_ROWS] = true);
        let count = wanted.iter().filter(|w| **w).count();
        match found {
            Some(found) => assert_eq!(found, wanted, "{codes:?}"),
            // A value of few blocks has a list.
            None if codes.len() == 1 && codes[0] != null => {
                assert!(!indexed || blocks < 2 || count > (blocks / 8).max(1), "{codes:?}")
            }
            None => {}
        }
    }
}

pub const TYPES: [LogicalType; 21] = [
    LogicalType::Bool,
    LogicalType::Int2,
    LogicalType::Int4,
    LogicalType::Int8,
    LogicalType::Float4,
    LogicalType::Float8,
    LogicalType::Numeric { precision: 18, scale: 2 },
    LogicalType::Numeric { precision: 38, scale: 10 },
    LogicalType::Date,
    LogicalType::Timestamp,
    LogicalType::TimestampTz,
    LogicalType::Text,
    LogicalType::BpChar,
    LogicalType::Uuid,
    LogicalType::Inet,
    LogicalType::Bytea,
    LogicalType::Jsonb,
    LogicalType::TextArray,
    LogicalType::NumericText,
    LogicalType::Opaque,
    LogicalType::Text,
];

/// How a column's values are spread: it decides which encodings appear.
#[derive(Clone, Debug)]
pub enum Spread {
    Constant,
    Few,
    Runs,
    Ascending,
    Wild,
}

pub fn spread() -> impl Strategy<Value = Spread> {
    select(vec![Spread::Constant, Spread::Few, Spread::Runs, Spread::Ascending, Spread::Wild])
}

/// Value `i` of a column, from random bits.
pub fn value_of(ty: LogicalType, spread: &Spread, i: usize, bits: u64) -> Value {
    let number: i64 = match spread {
        Spread::Constant => 4_711,
        Spread::Few => (bits % 5) as i64 * 1000 - 2000,
        Spread::Runs => (i / 37) as i64 % 11,
        Spread::Ascending => i as i64 * 60_000_000 + (bits % 3) as i64,
        Spread::Wild => match bits % 16 {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => 0,
            3 => -1,
            _ => (bits as i64).wrapping_mul(0x9e37_79b9_7f4a_7c15u64 as i64),
        },
    };
    match ty.physical() {
        Physical::I64 if ty == LogicalType::Bool => Value::I64(number & 1),
        Physical::I64 => Value::I64(number),
        Physical::I128 => Value::I128(match (spread, bits % 16) {
            (Spread::Wild, 0) => i128::MIN,
            (Spread::Wild, 1) => i128::MAX,
            (Spread::Wild, _) => i128::from(number) << (bits % 64),
            _ => i128::from(number),
        }),
        Physical::F64 => Value::F64(match (spread, bits % 16) {
            (Spread::Wild, 0) => f64::NAN,
            (Spread::Wild, 1) => -0.0,
            (Spread::Wild, 2) => 0.0,
            (Spread::Wild, 3) => f64::INFINITY,
            (Spread::Wild, 4) => f64::NEG_INFINITY,
            (Spread::Wild, 5) => f64::MIN_POSITIVE / 8.0,
            (Spread::Wild, _) => f64::from_bits(bits & 0xbfff_ffff_ffff_ffff),
            (Spread::Ascending, _) => f64::from(number as i32 as f32),
            _ => number as f64 / 100.0,
        }),
        Physical::Bytes => Value::Bytes(match (spread, bits % 16) {
            (Spread::Wild, 0) => Vec::new(),
            (Spread::Wild, 1) => vec![0; (bits >> 8) as usize % 200],
            (Spread::Wild, 2) => "ß∂ long ".repeat((bits >> 8) as usize % 60).into_bytes(),
            (Spread::Few, 0) => Vec::new(),
            _ => format!("value {number}").into_bytes(),
        }),
    }
}

/// Rows from a seed: cheap enough for blocks of 65,536.
pub fn rows_of(types: &[LogicalType], spreads: &[Spread], nulls: &[u64], rows: usize, seed: u64) -> Vec<Vec<Value>> {
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let mut row = |i: usize| {
        let columns = types.iter().zip(spreads).zip(nulls);
        columns
            .map(|((ty, spread), nulls)| {
                let bits = random();
                // Of 0, 1, 50, 100 percent.
                if (bits >> 32) % 100 < *nulls { Value::Null } else { value_of(*ty, spread, i, bits >> 3) }
            })
            .collect()
    };
    (0..rows).map(&mut row).collect()
}
