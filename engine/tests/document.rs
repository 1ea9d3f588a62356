//! The worked example of `docs/segment-format.md` is what the builder writes.

mod support;

use std::sync::Arc;

use basalt_engine::rows::RowBuffer;
use basalt_engine::segment::SegmentBuilder;
use basalt_engine::types::{Column, ColumnId, LogicalType, Schema};

fn example() -> Vec<u8> {
    let column = |id, ty, indexed| Column { id: ColumnId(id), ty, indexed };
    let columns = vec![column(1, LogicalType::Timestamp, true), column(2, LogicalType::Text, true)];
    let mut buffer = RowBuffer::new(Arc::new(Schema { columns, time: Some(0), cluster_by: Vec::new() }));
    for (time, word) in [(2_000_000, Some("basin")), (0, Some("basalt")), (3_000_000, None), (9_000_000, Some("basin"))]
    {
        buffer.push_i64(0, time).unwrap();
        match word {
            Some(word) => buffer.push_bytes(1, word.as_bytes()).unwrap(),
            None => buffer.push_null(1),
        }
        buffer.finish_row().unwrap();
    }
    let mut builder = SegmentBuilder::new(buffer.schema().clone(), support::options());
    builder.append(buffer).unwrap();
    let mut out = Vec::new();
    builder.finish(&mut out).unwrap();
    out
}

#[test]
fn the_worked_example_is_true() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/segment-format.md");
    let document = std::fs::read_to_string(document).unwrap();
    let (_, example_text) = document.split_once("## 10. A worked example").expect("the example");
    let mut documented = Vec::new();
    // Rows of the table: offset, bytes, meaning.
    for line in example_text.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        assert_eq!(cells[1].parse(), Ok(documented.len()), "{line}");
        let hex = cells[2].trim_matches('`').split_whitespace();
        documented.extend(hex.map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    let written = example();
    assert!(documented == written, "written: {written:02x?}");
}
