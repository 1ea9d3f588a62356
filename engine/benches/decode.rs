//! How fast blocks decode, and how fast segments are built: `cargo bench -p basalt_engine`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_engine::pages::LargePages;
use basalt_engine::rows::RowBuffer;
use basalt_engine::segment::{
    BuildOptions, BytesBlock, ColumnKind, MergeSource, Segment, SegmentBuilder, SegmentBytes, merge,
};
use basalt_engine::types::{Column, ColumnId, LogicalType, Schema};
use basalt_engine::{Budget, Cancel, TimeRanges};

#[global_allocator]
static ALLOCATOR: LargePages = LargePages;

const ROWS: usize = 1 << 20;

fn random() -> impl FnMut() -> u64 {
    let mut state = 0x1234_5678_9abc_def1u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

fn schema(types: &[LogicalType]) -> Arc<Schema> {
    let columns = types.iter().enumerate().map(|(i, ty)| Column { id: ColumnId(i as u32), ty: *ty, indexed: true });
    Arc::new(Schema { columns: columns.collect(), time: None, cluster_by: Vec::new() })
}

fn options() -> BuildOptions {
    BuildOptions { budget: Budget::unlimited(), cancel: Cancel::new(), spill_directory: None }
}

fn build(buffer: RowBuffer) -> Vec<u8> {
    let mut builder = SegmentBuilder::new(buffer.schema().clone(), options());
    builder.append(buffer).unwrap();
    let mut out = Vec::new();
    builder.finish(&mut out).unwrap();
    out
}

/// Least time of several runs.
fn measure(mut run: impl FnMut()) -> Duration {
    let start = Instant::now();
    let mut least = Duration::MAX;
    while start.elapsed() < Duration::from_millis(200) {
        let start = Instant::now();
        run();
        least = least.min(start.elapsed());
    }
    least
}

fn decode(name: &str, ty: LogicalType, mut push: impl FnMut(&mut RowBuffer, usize)) {
    let mut buffer = RowBuffer::new(schema(&[ty]));
    for row in 0..ROWS {
        push(&mut buffer, row);
        buffer.finish_row().unwrap();
    }
    let bytes = build(buffer);
    let length = bytes.len();
    let segment = Segment::open(SegmentBytes::Memory(bytes.into())).unwrap();
    let column = segment.column(ColumnId(0)).unwrap();
    let (mut i64s, mut i128s, mut f64s, mut codes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut strings = BytesBlock::default();
    let time = measure(|| {
        for block in 0..segment.blocks() {
            match column.kind() {
                ColumnKind::I64 => column.decode_i64(block, &mut i64s).unwrap(),
                ColumnKind::I128 => column.decode_i128(block, &mut i128s).unwrap(),
                ColumnKind::F64 => column.decode_f64(block, &mut f64s).unwrap(),
                ColumnKind::Dictionary => column.decode_codes(block, &mut codes).unwrap(),
                ColumnKind::Bytes => column.decode_bytes(block, &mut strings).unwrap(),
            }
            black_box((&i64s, &i128s, &f64s, &codes, &strings));
        }
    });
    let rate = ROWS as f64 / time.as_secs_f64() / 1e6;
    println!("{name:<28} {:>9} bytes {rate:>8.0} M values/s", length);
}

fn main() {
    let mut next = random();
    for bits in [1, 4, 7, 8, 12, 16, 20, 31, 32, 33, 48, 63] {
        let mask = (1u64 << bits) - 1;
        decode(&format!("int8 packed, {bits} bits"), LogicalType::Int8, |b, _| {
            b.push_i64(0, (next() & mask) as i64).unwrap();
        });
    }
    decode("int8 delta", LogicalType::Int8, {
        let mut value = 0;
        let mut next = random();
        move |b, _| {
            value += (next() % 100) as i64;
            b.push_i64(0, value).unwrap();
        }
    });
    decode("int8 delta with exceptions", LogicalType::Int8, {
        let mut value = 0;
        let mut next = random();
        move |b, _| {
            value +=
                if next().is_multiple_of(2000) { -((next() % 1_000_000_000) as i64) } else { (next() % 4000) as i64 };
            b.push_i64(0, value).unwrap();
        }
    });
    decode("int8 with exceptions", LogicalType::Int8, |b, _| {
        let value = if next().is_multiple_of(60) { next() % 100_000 } else { next() % 200 };
        b.push_i64(0, value as i64).unwrap();
    });
    decode("int8 of 400 distances", LogicalType::Int8, |b, _| {
        b.push_i64(0, (next() % 400 * (next() % 2 + 11) % 399 * 13) as i64).unwrap();
    });
    decode("timestamp, whole minutes", LogicalType::Timestamp, |b, _| {
        b.push_i64(0, (next() % 100_000) as i64 * 60_000_000).unwrap();
    });
    decode("int8 runs of 50", LogicalType::Int8, |b, row| b.push_i64(0, row as i64 / 50 * 7919 % 1000).unwrap());
    decode("int8 constant", LogicalType::Int8, |b, _| b.push_i64(0, 5).unwrap());
    decode("numeric(38), 40 bits", LogicalType::Numeric { precision: 38, scale: 2 }, |b, _| {
        b.push_i128(0, i128::from(next() >> 24)).unwrap();
    });
    decode("numeric(38), 100 bits", LogicalType::Numeric { precision: 38, scale: 2 }, |b, _| {
        b.push_i128(0, i128::from(next()) << 36).unwrap();
    });
    decode("float8 decimal", LogicalType::Float8, |b, _| b.push_f64(0, (next() % 100_000) as f64 / 100.0).unwrap());
    decode("float8 plain", LogicalType::Float8, |b, _| b.push_f64(0, f64::from_bits(next() >> 2)).unwrap());
    decode("float4", LogicalType::Float4, |b, _| {
        b.push_f64(0, f64::from((next() >> 40) as f32 * 1.1)).unwrap();
    });
    for distinct in [2, 300, 50_000] {
        decode(&format!("text, {distinct} values"), LogicalType::Text, |b, _| {
            b.push_bytes(0, format!("value {}", next() % distinct).as_bytes()).unwrap();
        });
    }

    // An event as in a topic of flights: time, two integers, two airports.
    for rows in [100usize, 2000, 20_000, 1_000_000] {
        let buffer = events(rows, 0);
        let mut length = 0;
        let time = measure(|| length = build(buffer.clone()).len());
        let rate = rows as f64 / time.as_secs_f64() / 1e6;
        println!("build {rows:>8} events: {rate:.2} M events/s, {:.1} bytes an event", length as f64 / rows as f64);
    }
    // What follows one another in time, as fresh segments do; and what interleaves.
    for (sources, rows, step) in [(100, 100, 100), (100, 2000, 2000), (10, 100_000, 100_000), (10, 100_000, 0)] {
        let sources: Vec<MergeSource> = (0..sources)
            .map(|i| {
                let bytes = build(events(rows, i * step));
                let segment = Arc::new(Segment::open(SegmentBytes::Memory(bytes.into())).unwrap());
                MergeSource { segment, visibility: TimeRanges::all(), deleted: None }
            })
            .collect();
        let schema = events(0, 0).schema().clone();
        let time = measure(|| {
            black_box(merge(schema.clone(), &sources, options(), &mut Vec::new()).unwrap());
        });
        let rate = (sources.len() * rows) as f64 / time.as_secs_f64() / 1e6;
        println!("merge {} x {rows} events, {step} apart: {rate:.2} M events/s", sources.len());
    }
}

fn events(rows: usize, start: usize) -> RowBuffer {
    let types = [LogicalType::Timestamp, LogicalType::Int4, LogicalType::Int4, LogicalType::Text, LogicalType::Text];
    let mut schema = (*schema(&types)).clone();
    schema.time = Some(0);
    let mut next = random();
    let mut buffer = RowBuffer::new(Arc::new(schema));
    for row in start..start + rows {
        buffer.push_i64(0, row as i64 / 8 * 60_000_000).unwrap();
        buffer.push_i64(1, (next() % 200) as i64 - 20).unwrap();
        buffer.push_i64(2, (next() % 2500) as i64).unwrap();
        buffer.push_bytes(3, format!("A{:02}", next() % 99).as_bytes()).unwrap();
        buffer.push_bytes(4, format!("B{:02}", next() % 99).as_bytes()).unwrap();
        buffer.finish_row().unwrap();
    }
    buffer
}
