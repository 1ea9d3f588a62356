//! Builds one segment, and tells how long that takes on a processor and where its bytes are:
//! `cargo bench --bench load -- [--rows N] [--csv PATH [--types TYPE,...]] [--append N] [--repeat N] [--plain] [--file PATH]`.
//! Types: int, money, date, timestamp, text; without them those of lineitem. `--append`: rows that are handed over at once.
//! `--plain`: without indexes.

#[path = "lineitem/mod.rs"]
mod lineitem;

use basalt_engine::pages::LargePages;
use basalt_engine::rows::RowBuffer;
use basalt_engine::segment::{BuildOptions, Segment, SegmentBuilder, SegmentBytes};
use basalt_engine::types::LogicalType;
use basalt_engine::{Budget, Cancel, Result};

#[global_allocator]
static ALLOCATOR: LargePages = LargePages;

/// Seconds that this thread had on a processor.
fn seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

fn kind(name: &str) -> LogicalType {
    match name {
        "int" => LogicalType::Int8,
        "money" => LogicalType::Numeric { precision: 15, scale: 2 },
        "date" => LogicalType::Date,
        "timestamp" => LogicalType::Timestamp,
        _ => LogicalType::Text,
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned();
    let number = |name: &str, default: usize| option(name).and_then(|n| n.parse().ok()).unwrap_or(default);
    let (rows, append) = (number("--rows", 1_000_000), number("--append", 1_000_000));
    let types = option("--types").map_or(lineitem::types().to_vec(), |t| t.split(',').map(kind).collect());
    let schema = lineitem::schema(&types, !arguments.iter().any(|a| a == "--plain"));
    let mut all = RowBuffer::new(schema.clone());
    match option("--csv") {
        Some(csv) => {
            let start = seconds();
            let mut read = 0;
            lineitem::load(&csv, &schema, rows, &mut |buffer| {
                read += buffer.rows();
                Ok(())
            })?;
            println!("reading {:.3} us/row", (seconds() - start) * 1e6 / read as f64);
            lineitem::load(&csv, &schema, rows, &mut |buffer| all.append(&buffer))?
        }
        None => lineitem::generate(&schema, rows, &mut |buffer| all.append(&buffer))?,
    }
    let mut parts = Vec::new();
    for start in (0..all.rows()).step_by(append) {
        let mut part = RowBuffer::new(schema.clone());
        part.append_range(&all, start..all.rows().min(start + append))?;
        parts.push(part);
    }
    drop(all);
    let mut bytes = Vec::new();
    let mut least = (f64::MAX, f64::MAX);
    for _ in 0..number("--repeat", 3) {
        let copies = parts.clone();
        let options = BuildOptions { budget: Budget::unlimited(), cancel: Cancel::new(), spill_directory: None };
        let start = seconds();
        let mut builder = SegmentBuilder::new(schema.clone(), options);
        copies.into_iter().try_for_each(|part| builder.append(part))?;
        let appended = seconds();
        bytes.clear();
        builder.finish(&mut bytes)?;
        let took = (appended - start, seconds() - appended);
        if took.0 + took.1 < least.0 + least.1 {
            least = took;
        }
    }
    if let Some(path) = option("--file") {
        std::fs::write(path, &bytes)?;
    }
    let length = bytes.len();
    let segment = Segment::open(SegmentBytes::Memory(bytes.into()))?;
    let rows = f64::from(segment.rows());
    println!(
        "{:<16} {:>10} {:>10} {:>10} {:>10} {:>10}  bytes/row",
        "column", "dictionary", "blocks", "index", "metadata", "all"
    );
    for (position, column) in segment.columns().iter().enumerate() {
        let Some(reader) = segment.column(column.id) else { continue };
        let s = reader.sizes()?;
        let all = s.dictionary + s.blocks + s.index + s.metadata;
        let name =
            if types.len() == 16 { lineitem::NAMES[position].to_string() } else { format!("column {}", column.id.0) };
        println!(
            "{name:<16} {:>10} {:>10} {:>10} {:>10} {all:>10}  {:.3}",
            s.dictionary,
            s.blocks,
            s.index,
            s.metadata,
            all as f64 / rows
        );
    }
    println!("{length} bytes, {:.3} a row", length as f64 / rows);
    println!(
        "append {:.0} ns a row, finish {:.0} ns a row: {:.0} rows a second",
        least.0 * 1e9 / rows,
        least.1 * 1e9 / rows,
        rows / (least.0 + least.1)
    );
    Ok(())
}
