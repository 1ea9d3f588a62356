//! The JSON decoder against serde_json, and its rules one by one.

use std::sync::Arc;

use basalt_background::json::{Decoder, Field, HostCell, Parse, object};
use basalt_engine::rows::{ColumnData, RowBuffer};
use basalt_engine::types::{Column, ColumnId, LogicalType, Schema, Value};
use proptest::prelude::*;

struct Table {
    decoder: Decoder,
    rows: RowBuffer,
    host: Vec<HostCell>,
}

impl Table {
    fn new(columns: &[(&str, LogicalType, Parse, bool, Value)]) -> Self {
        let schema = Schema {
            columns: columns
                .iter()
                .enumerate()
                .map(|(i, (_, ty, ..))| Column { id: ColumnId(i as u32), ty: *ty, indexed: true })
                .collect(),
            time: None,
            cluster_by: Vec::new(),
        };
        let fields = columns.iter().map(|(name, ty, parse, not_null, default)| Field {
            name: (*name).into(),
            type_name: format!("{ty:?}"),
            parse: *parse,
            not_null: *not_null,
            default: default.clone(),
        });
        Table { decoder: Decoder::new(fields.collect()), rows: RowBuffer::new(Arc::new(schema)), host: Vec::new() }
    }

    fn simple(columns: &[(&str, LogicalType)]) -> Self {
        let columns: Vec<_> = columns.iter().map(|(n, t)| (*n, *t, Parse::of(*t), false, Value::Null)).collect();
        Self::new(&columns)
    }

    fn decode(&mut self, message: &str) -> Result<(), String> {
        self.decoder.decode(message.as_bytes(), &mut self.rows, &mut self.host)
    }

    fn value(&self, column: usize, row: usize) -> Value {
        let c = &self.rows.columns()[column];
        if c.nulls.contains(&(row as u32)) {
            return Value::Null;
        }
        match &c.data {
            ColumnData::I64(v) => Value::I64(v[row]),
            ColumnData::I128(v) => Value::I128(v[row]),
            ColumnData::F64(v) => Value::F64(v[row]),
            ColumnData::Bytes { .. } => Value::Bytes(c.bytes(row).to_vec()),
        }
    }

    fn last(&self, column: usize) -> Value {
        self.value(column, self.rows.rows() - 1)
    }
}

fn text(s: &str) -> Value {
    Value::Bytes(s.as_bytes().to_vec())
}

#[test]
fn a_flight() {
    use LogicalType::*;
    let mut table = Table::simple(&[
        ("date", Timestamp),
        ("delay", Int4),
        ("distance", Int4),
        ("origin", Text),
        ("destination", Text),
    ]);
    for message in [
        r#"{"date":"2001-01-01T00:01:00","delay":-5,"distance":480,"origin":"SAN","destination":"SMF"}"#,
        r#" { "destination" : "SMF", "origin":"S\u0041N", "extra": {"a":[1,{}]}, "distance":480.0, "delay":"-5", "date":978307260000 } "#,
    ] {
        table.decode(message).unwrap();
        assert_eq!(table.last(0), Value::I64((366 * 86_400 + 60) * 1_000_000));
        assert_eq!(table.last(1), Value::I64(-5));
        assert_eq!(table.last(2), Value::I64(480));
        assert_eq!(table.last(3), text("SAN"));
        assert_eq!(table.last(4), text("SMF"));
    }
    table.decode(r#"{"date":null}"#).unwrap();
    assert_eq!(table.last(0), Value::Null);
    assert!(table.host.is_empty());
}

#[test]
fn bad_messages_leave_no_trace() {
    use LogicalType::*;
    let columns = [
        ("n", Int4, Parse::of(Int4), true, Value::Null),
        ("s", Text, Parse::Text { max_characters: Some(3) }, false, text("def")),
        ("j", Jsonb, Parse::of(Jsonb), false, Value::Null),
    ];
    let mut table = Table::new(&columns);
    table.decode(r#"{"n":1}"#).unwrap();
    assert_eq!(table.last(1), text("def"));
    for (message, reason) in [
        ("", "expected a JSON object"),
        ("[1]", "expected a JSON object"),
        (r#"{"n":1"#, "expected , or }"),
        (r#"{"n":1} x"#, "trailing"),
        (r#"{"n":01}"#, "expected , or }"),
        (r#"{"n":1,}"#, "expected a string"),
        ("{\"s\":\"a\nb\",\"n\":1}", "control character"),
        (r#"{"n":"x"}"#, "\"x\" is not a value"),
        (r#"{"n":1.5}"#, "not an integer"),
        (r#"{"n":2147483648}"#, "out of range"),
        (r#"{"n":true}"#, "not a value"),
        (r#"{"s":"a"}"#, "may not be null and is missing"),
        (r#"{"n":null}"#, "may not be null and is null"),
        (r#"{"n":1,"s":"abcd"}"#, "too long"),
        (r#"{"n":1,"s":"\u0000"}"#, "u0000"),
        (r#"{"n":1,"s":"\ud800"}"#, "surrogate"),
        (r#"{"n":1,"j":{"a":1},"s":"abcd"}"#, "too long"),
    ] {
        let error = table.decode(message).unwrap_err();
        assert!(error.contains(reason), "{message}: {error}");
        assert_eq!(table.rows.rows(), 1);
        assert!(table.host.is_empty());
    }
    assert!(table.decoder.decode(b"{\"n\":1,\"s\":\"\xff\"}", &mut table.rows, &mut table.host).is_err());
    table.decode(r#"{"n":1,"s":"äöü  ","j":[1, 2]}"#).unwrap();
    assert_eq!(table.last(1), text("äöü"));
    assert_eq!(table.last(2), text("[1, 2]"));
    assert_eq!(table.host, [HostCell { row: 1, column: 2 }]);
    table.decode(r#"{"n":1,"s":null,"n":2}"#).unwrap();
    assert_eq!((table.last(0), table.last(1)), (Value::I64(2), Value::Null), "the last of equal keys wins");
}

#[test]
fn types_of_all_kinds() {
    use LogicalType::*;
    let mut table = Table::new(&[
        ("num", Numeric { precision: 10, scale: 2 }, Parse::Numeric { precision: 10, scale: 2 }, false, Value::Null),
        ("wide", Numeric { precision: 30, scale: 0 }, Parse::Numeric { precision: 30, scale: 0 }, false, Value::Null),
        ("any", NumericText, Parse::NumericText, false, Value::Null),
        ("ch", BpChar, Parse::BpChar { characters: 4 }, false, Value::Null),
        ("d", Date, Parse::Date, false, Value::Null),
        ("tz", TimestampTz, Parse::TimestampTz, false, Value::Null),
        ("tags", TextArray, Parse::of(TextArray), false, Value::Null),
        ("b", Bool, Parse::Bool, false, Value::Null),
        ("f", Float4, Parse::Float4, false, Value::Null),
    ]);
    table
        .decode(
            r#"{"num":12.345,"wide":123456789012345678901234567890,"any":1.10,"ch":"ab","d":"2000-01-02","tz":"2000-01-01T01:00:00+01:00","tags":["a","b c"],"b":true,"f":0.1}"#,
        )
        .unwrap();
    assert_eq!(table.last(0), Value::I64(1235));
    assert_eq!(table.last(1), Value::I128(123_456_789_012_345_678_901_234_567_890));
    assert_eq!(table.last(2), text("1.10"));
    assert_eq!(table.last(3), text("ab  "));
    assert_eq!(table.last(4), Value::I64(1));
    assert_eq!(table.last(5), Value::I64(0));
    assert_eq!(table.last(6), text(r#"{"a","b c"}"#));
    assert_eq!(table.last(7), Value::I64(1));
    assert_eq!(table.last(8), Value::F64(f64::from(0.1f32)));
    assert_eq!(table.host, [HostCell { row: 0, column: 6 }]);
    table.decode(r#"{"num":"NaN","any":1e3,"d":"infinity","tz":"-infinity","b":"off"}"#).unwrap();
    assert_eq!(table.last(0), Value::I64(NUMERIC_NAN));
    assert_eq!(table.last(4), Value::I64(i64::from(i32::MAX)));
    assert_eq!(table.last(5), Value::I64(i64::MIN));
    assert_eq!(table.last(7), Value::I64(0));
    assert_eq!(table.host[1], HostCell { row: 1, column: 2 });
}

const NUMERIC_NAN: i64 = LogicalType::NUMERIC_NAN_I64;

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        "[a-z\"\\\\\u{0}-\u{1f}]{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::hash_map("[a-c]{1,2}", inner, 0..4)
                .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
        ]
    })
}

fn members() -> impl Strategy<Value = serde_json::Map<String, serde_json::Value>> {
    prop::collection::hash_map("[a-d]|\"|é|a\\\\", json(), 0..6).prop_map(|m| m.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Every member's text arrives in its column as serde_json understands it.
    #[test]
    fn agrees_with_serde_json(messages in prop::collection::vec((members(), any::<bool>()), 1..5)) {
        let names = ["a", "b", "\"", "é", "a\\"];
        let columns: Vec<_> = names.iter().map(|n| (*n, LogicalType::Text)).collect();
        let mut table = Table::simple(&columns);
        for (map, pretty) in messages {
            let value = serde_json::Value::Object(map.clone());
            let message = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let has_nul = names.iter().any(|n| map.get(*n).and_then(|v| v.as_str()).is_some_and(|s| s.contains('\0')));
            // As serde_json reads it: its floats need not survive a round trip.
            let map = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&message).unwrap();
            let before = table.rows.rows();
            let decoded = table.decode(&message);
            prop_assert_eq!(decoded.is_err(), has_nul, "{}: {:?}", message, decoded);
            if has_nul {
                prop_assert_eq!(table.rows.rows(), before);
                continue;
            }
            for (column, name) in names.iter().enumerate() {
                match (map.get(*name), table.last(column)) {
                    (None | Some(serde_json::Value::Null), found) => prop_assert_eq!(found, Value::Null),
                    (Some(serde_json::Value::String(s)), found) => prop_assert_eq!(found, text(s)),
                    (Some(other), Value::Bytes(found)) => {
                        prop_assert_eq!(&serde_json::from_slice::<serde_json::Value>(&found).unwrap(), other)
                    }
                    (Some(other), found) => prop_assert!(false, "{} became {:?}", other, found),
                }
            }
        }
    }

    /// Valid and damaged messages are accepted exactly when serde_json accepts them as an object.
    #[test]
    fn accepts_what_serde_json_accepts(
        map in members(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 0..4),
    ) {
        let mut bytes = serde_json::to_vec(&map).unwrap();
        for (at, byte, how) in cuts {
            let at = at.index(bytes.len().max(1));
            match how {
                _ if bytes.is_empty() => {}
                0 => bytes[at] = byte,
                1 => bytes.truncate(at),
                2 => bytes.insert(at, b"{}[],:\"\\0-.e \n"[byte as usize % 14]),
                _ => { bytes.remove(at); }
            }
        }
        if let Ok(message) = std::str::from_utf8(&bytes) {
            let valid = serde_json::from_str::<serde::de::IgnoredAny>(message).is_ok();
            let is_object = message.trim_ascii_start().starts_with('{');
            prop_assert_eq!(object(&bytes, |_, _| ()).is_ok(), valid && is_object, "{}", message);
        }
    }

    #[test]
    fn integers_are_exact(n in any::<i64>(), m in any::<i32>()) {
        let mut table = Table::simple(&[("n", LogicalType::Int8), ("m", LogicalType::Int4)]);
        table.decode(&format!(r#"{{"n":{n},"m":"{m}"}}"#)).unwrap();
        prop_assert_eq!(table.last(0), Value::I64(n));
        prop_assert_eq!(table.last(1), Value::I64(i64::from(m)));
    }

    #[test]
    fn floats_are_those_of_rust(f in any::<f64>().prop_filter("finite", |f| f.is_finite())) {
        let mut table = Table::simple(&[("f", LogicalType::Float8)]);
        table.decode(&format!(r#"{{"f":{f:e}}}"#)).unwrap();
        prop_assert_eq!(table.last(0), Value::F64(f));
    }
}
