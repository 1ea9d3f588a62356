//! Five million near-unique strings in a quarter of a gigabyte.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use basalt_engine::rows::RowBuffer;
use basalt_engine::segment::{BuildOptions, MergeSource, Segment, SegmentBuilder, SegmentBytes, merge};
use basalt_engine::types::{Column, ColumnId, LogicalType, Schema};
use basalt_engine::{Budget, Cancel, TimeRanges};
use support::mix;

/// Counts all allocations of the process.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The system may move a large block without copying it: the old one is not counted twice.
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        PEAK.fetch_max(LIVE.fetch_add(size, Ordering::Relaxed) + size, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROWS: u64 = 5_000_000;
const LIMIT: usize = 256 << 20;

fn user(row: u64) -> String {
    format!("user-{:016x}-of-the-event-stream", mix(row % (ROWS - ROWS / 50)))
}

fn options(directory: &std::path::Path) -> BuildOptions {
    BuildOptions { budget: Budget::new(LIMIT), cancel: Cancel::new(), spill_directory: Some(directory.to_owned()) }
}

#[test]
fn five_million_strings_under_256_megabytes() {
    let directory = std::env::temp_dir().join(format!("basalt-spill-test-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let column = |id, ty| Column { id: ColumnId(id), ty, indexed: true };
    let columns = vec![column(1, LogicalType::Timestamp), column(2, LogicalType::Text)];
    let schema = Arc::new(Schema { columns, time: Some(0), cluster_by: Vec::new() });
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(directory.join("whole.segment"))
        .unwrap();
    let options = options(&directory);
    let budget = options.budget.clone();
    let mut builder = SegmentBuilder::new(schema.clone(), options.clone());
    for start in (0..ROWS).step_by(50_000) {
        let mut buffer = RowBuffer::new(schema.clone());
        for row in start..start + 50_000 {
            buffer.push_i64(0, (mix(row * 3) % 86_400_000) as i64 * 1000).unwrap();
            buffer.push_bytes(1, user(row).as_bytes()).unwrap();
            buffer.finish_row().unwrap();
        }
        builder.append(buffer).unwrap();
    }
    assert_eq!(builder.rows(), ROWS);
    let mut out = BufWriter::new(&file);
    let statistics = builder.finish(&mut out).unwrap();
    out.flush().unwrap();
    drop(out);
    let peak = PEAK.load(Ordering::Relaxed);
    assert!(peak <= LIMIT, "{peak} bytes allocated");
    assert_eq!(budget.used(), 0);
    assert_eq!(statistics.columns[1].distinct, ROWS - ROWS / 50);
    // Runs have no names.
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);

    let length = file.metadata().unwrap().len();
    let segment = Arc::new(Segment::open(SegmentBytes::map(&file, length).unwrap()).unwrap());
    assert!(SegmentBytes::map(&file, length + 1).is_err());
    assert_eq!(u64::from(segment.rows()), ROWS);
    let (times, users) = (segment.column(ColumnId(1)).unwrap(), segment.column(ColumnId(2)).unwrap());
    let dictionary = users.dictionary().unwrap();
    for row in (0..ROWS).step_by(99_991) {
        let code = dictionary.search(user(row).as_bytes()).unwrap().expect("a value that was put in");
        let found = users.blocks_of_codes(&[(code, code)]).unwrap().unwrap();
        assert!(found.iter().filter(|found| **found).count() <= found.len() / 8);
        let time = (mix(row * 3) % 86_400_000) as i64 * 1000;
        let (mut codes, mut block_times, mut seen) = (Vec::new(), Vec::new(), false);
        for block in (0..segment.blocks()).filter(|block| found[*block]) {
            users.decode_codes(block, &mut codes).unwrap();
            times.decode_i64(block, &mut block_times).unwrap();
            assert!(codes.contains(&code));
            seen |= codes.iter().zip(&block_times).any(|row| row == (&code, &time));
        }
        assert!(seen, "row {row}");
    }
    let mut last = i64::MIN;
    let mut block_times = Vec::new();
    for block in 0..segment.blocks() {
        times.decode_i64(block, &mut block_times).unwrap();
        assert!(block_times.iter().all(|t| std::mem::replace(&mut last, *t) <= *t));
    }

    // Merged with nothing it stays what it is, in the same memory.
    let source = MergeSource { segment: segment.clone(), visibility: TimeRanges::all(), deleted: None };
    let mut merged = Vec::new();
    merge(schema, &[source], options, &mut merged).unwrap();
    let SegmentBytes::Mapped(map) = SegmentBytes::map(&file, length).unwrap() else { panic!("not mapped") };
    assert!(merged == map[..]);
    std::fs::remove_dir_all(&directory).unwrap();
}
