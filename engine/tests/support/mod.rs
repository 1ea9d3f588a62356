//! Segments with a bit of everything, and all that one holds as text.
#![allow(dead_code, clippy::manual_is_multiple_of)]

use std::sync::Arc;

use basalt_engine::rows::RowBuffer;
use basalt_engine::segment::{BuildOptions, BytesBlock, ColumnKind, ColumnReader, Segment, SegmentBuilder};
use basalt_engine::types::{Column, ColumnId, LogicalType, Schema, Value};
use basalt_engine::{Budget, Cancel, Result};

pub fn options() -> BuildOptions {
    BuildOptions { budget: Budget::unlimited(), cancel: Cancel::new(), spill_directory: None }
}

pub type Generate = Box<dyn Fn(u64) -> Value>;

pub struct Sample {
    pub columns: Vec<(LogicalType, bool, Generate)>,
    pub time: Option<usize>,
    pub cluster_by: Vec<usize>,
    pub rows: u64,
}

impl Sample {
    pub fn build(&self) -> Vec<u8> {
        let columns = self.columns.iter().enumerate();
        let columns =
            columns.map(|(i, (ty, indexed, _))| Column { id: ColumnId(i as u32 + 1), ty: *ty, indexed: *indexed });
        let schema = Schema { columns: columns.collect(), time: self.time, cluster_by: self.cluster_by.clone() };
        let mut buffer = RowBuffer::new(Arc::new(schema));
        for row in 0..self.rows {
            for (column, (_, _, generate)) in self.columns.iter().enumerate() {
                match generate(row) {
                    Value::Null => buffer.push_null(column),
                    Value::I64(v) => buffer.push_i64(column, v).unwrap(),
                    Value::I128(v) => buffer.push_i128(column, v).unwrap(),
                    Value::F64(v) => buffer.push_f64(column, v).unwrap(),
                    Value::Bytes(v) => buffer.push_bytes(column, &v).unwrap(),
                }
            }
            buffer.finish_row().unwrap();
        }
        let mut builder = SegmentBuilder::new(buffer.schema().clone(), options());
        builder.append(buffer).unwrap();
        let mut out = Vec::new();
        builder.finish(&mut out).unwrap();
        out
    }

    fn with(mut self, ty: LogicalType, indexed: bool, generate: impl Fn(u64) -> Value + 'static) -> Self {
        self.columns.push((ty, indexed, Box::new(generate)));
        self
    }
}

/// The finalizer of SplitMix64: scattered bits of a row number.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn text(value: impl Into<String>) -> Value {
    Value::Bytes(value.into().into_bytes())
}

fn null_if(null: bool, value: Value) -> Value {
    if null { Value::Null } else { value }
}

/// All types; every encoding; NULLs few, many, only.
pub fn everything(rows: u64) -> Sample {
    use LogicalType::*;
    Sample { columns: Vec::new(), time: Some(9), cluster_by: vec![0], rows }
        .with(Bool, true, |i| null_if(mix(i) % 9 == 0, Value::I64((mix(i) % 2) as i64)))
        .with(Int2, true, |i| Value::I64(mix(i * 3) as i64 % 100 - 50))
        .with(Int4, true, |i| null_if(mix(i) % 200 == 0, Value::I64(mix(i * 5) as i64 % 1_000_000)))
        .with(Int8, true, |i| Value::I64([i64::MIN, i64::MAX, 0, -1, mix(i) as i64][mix(i * 7) as usize % 5]))
        .with(Float4, true, |i| Value::F64(f64::from(1.0 / (1 + mix(i) % 1000) as f32)))
        .with(Float8, true, |i| {
            let odd = [f64::NAN, -0.0, f64::INFINITY, f64::NEG_INFINITY, 1e300];
            Value::F64(if i % 97 == 5 { odd[(i / 97 % 5) as usize] } else { (mix(i) % 100_000) as f64 / 100.0 })
        })
        .with(Numeric { precision: 10, scale: 2 }, true, |i| {
            Value::I64(if i % 300 == 7 { i64::MAX } else { mix(i) as i64 % 1_000_000 })
        })
        .with(Numeric { precision: 38, scale: 10 }, true, |i| Value::I128((mix(i) as i64 as i128) << (mix(i * 2) % 50)))
        .with(Date, true, |i| null_if(i % 2 == 0, Value::I64(mix(i / 50) as i64 % 9000)))
        .with(TimestampTz, true, |i| Value::I64(i as i64 * 60_000_000 + (mix(i) % 3) as i64 * 1_000_000))
        .with(Timestamp, true, |i| Value::I64(i as i64 * 1_234_567_891))
        .with(Text, true, |i| {
            null_if(mix(i) % 11 == 0, text(["", "amber", "basalt", "chalk ß∂"][mix(i * 11) as usize % 4]))
        })
        .with(BpChar, true, |_| text("fixed   "))
        .with(Uuid, true, |i| Value::Bytes([mix(i).to_be_bytes(), mix(!i).to_be_bytes()].concat()))
        .with(Inet, false, |i| text(format!("10.0.{}.{}", mix(i) % 4, mix(i) % 200)))
        .with(Bytea, false, |i| Value::Bytes(mix(i).to_le_bytes()[..mix(i) as usize % 9].to_vec()))
        .with(Jsonb, false, |i| {
            null_if(
                mix(i) % 13 == 0,
                text(format!("{{\"number\": {i}, \"kind\": \"event\", \"tags\": [\"a\", \"b\"]}}")),
            )
        })
        .with(TextArray, true, |i| null_if(mix(i) % 7 == 0, text(format!("{{a,NULL,\"b {}\"}}", mix(i) % 40))))
        .with(NumericText, true, |i| text(format!("{}.{:02}0", mix(i) % 30, mix(i) % 7)))
        .with(Opaque, false, |_| Value::Null)
        .with(Int4, false, |_| Value::Null)
        .with(Numeric { precision: 30, scale: 0 }, false, |_| Value::I128(i128::MAX - 7))
        .with(Float8, false, |i| Value::F64(f64::from_bits(mix(i / 60) & 0xbfff_ffff_ffff_ffff)))
        .with(Float8, false, |i| Value::F64(f64::from_bits(mix(i) & 0xbfff_ffff_ffff_ffff)))
        .with(Text, true, |i| {
            let word =
                |n| ["columnar", "joint", "cooling", "lava", "prism", "entablature", "slope", "flöw"][n as usize % 8];
            let (a, b, c) = (word(mix(i)), word(mix(i) >> 8), word(mix(i) >> 16));
            text(format!("{a} {b} with {c} {b}{}", if i % 90 == 0 { "\0\u{1}" } else { "" }))
        })
}

/// More than one block, and values that only one of them holds.
pub fn blocks(rows: u64) -> Sample {
    use LogicalType::*;
    Sample { columns: Vec::new(), time: Some(0), cluster_by: Vec::new(), rows }
        .with(Timestamp, true, |i| Value::I64(i as i64 / 7 * 60_000_000))
        .with(Text, true, |i| null_if(i % 5000 > 4800, text(if i % 20_000 < 11_000 { "run" } else { "other" })))
        .with(Text, true, |i| {
            let side = ["left", "right"][mix(i) as usize % 2];
            null_if(
                mix(i) % 40 == 0,
                if mix(i) / 64 % 300 < 4 { text(format!("rare {}", mix(i) / 64 % 300)) } else { text(side) },
            )
        })
        .with(Text, true, |i| null_if(i % 9000 < 20, text(format!("name {:03}", i / 200))))
        .with(Int4, true, |i| null_if(i > 66_000 && i % 3 == 0, Value::I64(i as i64 / 1000)))
}

/// All values of a column. Errors: whatever its decoders say.
pub fn values(reader: ColumnReader, blocks: usize) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for block in 0..blocks {
        let mut values: Vec<Value> = match reader.kind() {
            ColumnKind::I64 => {
                let mut out = Vec::new();
                reader.decode_i64(block, &mut out)?;
                out.into_iter().map(Value::I64).collect()
            }
            ColumnKind::I128 => {
                let mut out = Vec::new();
                reader.decode_i128(block, &mut out)?;
                out.into_iter().map(Value::I128).collect()
            }
            ColumnKind::F64 => {
                let mut out = Vec::new();
                reader.decode_f64(block, &mut out)?;
                out.into_iter().map(Value::F64).collect()
            }
            ColumnKind::Bytes => {
                let mut out = BytesBlock::default();
                reader.decode_bytes(block, &mut out)?;
                (0..out.len()).map(|i| Value::Bytes(out.get(i).to_vec())).collect()
            }
            ColumnKind::Dictionary => {
                let mut out = Vec::new();
                reader.decode_codes(block, &mut out)?;
                let values = reader.dictionary()?.all()?;
                let value = |code: u32| match code as usize == values.len() {
                    true => Value::Null,
                    false => Value::Bytes(values.get(code as usize).to_vec()),
                };
                out.into_iter().map(value).collect()
            }
        };
        if let Some(valid) = reader.validity(block)? {
            for (i, value) in values.iter_mut().enumerate() {
                if valid[i / 64] >> (i % 64) & 1 == 0 {
                    *value = Value::Null;
                }
            }
        }
        all.extend(values);
    }
    Ok(all)
}

/// One line for a value: NULL, a decimal integer, the bits of a float or bytes in hexadecimal.
pub fn line(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::I64(v) => v.to_string(),
        Value::I128(v) => v.to_string(),
        Value::F64(v) => format!("{:016x}", v.to_bits()),
        Value::Bytes(v) => v.iter().map(|b| format!("{b:02x}")).collect(),
    }
}

pub fn column(segment: &Segment, position: usize) -> ColumnReader<'_> {
    segment.column(segment.columns()[position].id).unwrap()
}
