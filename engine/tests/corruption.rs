//! Damaged files: an error or no effect, never a panic, never memory that the file's size does not justify.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use basalt_engine::segment::{ColumnKind, Segment, SegmentBytes, SegmentStatistics};
use basalt_engine::types::Value;
use support::{Sample, blocks, column, everything, values};

/// Counts what this thread has allocated, and the most that it had at once.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends has no counters any more.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that `work` held at once, in bytes.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before).max(0) as usize)
}

/// A block of one value takes no space for its rows, LZ4 expands 255 times, and test values take 32 bytes each.
fn justified(length: usize) -> usize {
    (20 << 20) + length * 300
}

/// Asks everything of an open segment; the columns that can be read, with their values.
fn use_all(segment: &Segment) -> Vec<Option<Vec<Value>>> {
    let _ = segment.verify();
    (0..segment.columns().len())
        .map(|position| {
            let reader = column(segment, position);
            for block in 0..segment.blocks().min(3) {
                let _ = (reader.block(block), reader.is_constant(block), reader.validity(block));
            }
            for row in [0, 1, segment.rows() / 2, segment.rows().saturating_sub(1)] {
                let _ = reader.value(row);
            }
            if reader.kind() == ColumnKind::Dictionary
                && let Ok(dictionary) = reader.dictionary()
            {
                for value in [&b""[..], b"basalt", b"10.0.1.7", b"\xff\xff"] {
                    let _ = dictionary.search(value);
                }
                let last = dictionary.len();
                for code in [0, last / 2, last.saturating_sub(1), last] {
                    let _ = dictionary.get(code, &mut Vec::new());
                    let _ = reader.blocks_of_codes(&[(code, last)]);
                }
            }
            values(reader, segment.blocks()).ok()
        })
        .collect()
}

fn same(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| support::line(a) == support::line(b))
}

fn memory(bytes: &[u8]) -> SegmentBytes {
    SegmentBytes::Memory(Arc::from(bytes))
}

/// Few rows, so that every byte can be flipped.
fn small() -> [Sample; 3] {
    [everything(40), everything(3), blocks(70)]
}

#[test]
fn every_flipped_byte_is_noticed_or_harmless() {
    for sample in small() {
        let mut bytes = sample.build();
        let whole = use_all(&Segment::open(memory(&bytes)).unwrap());
        for position in 0..bytes.len() {
            for flip in [0x01, 0x10, 0x80, 0xff] {
                bytes[position] ^= flip;
                let (opened, peak) = peak_of(|| match Segment::open(memory(&bytes)) {
                    Err(_) => None,
                    Ok(segment) => Some((segment.verify().is_ok(), use_all(&segment))),
                });
                assert!(peak <= justified(bytes.len()), "byte {position}: {peak} bytes allocated");
                if let Some((verified, columns)) = opened {
                    assert!(!verified, "byte {position} ^ {flip}: not noticed");
                    for (found, expected) in columns.iter().zip(&whole) {
                        let unaffected = found.as_ref().is_none_or(|found| same(found, expected.as_ref().unwrap()));
                        assert!(unaffected, "byte {position} ^ {flip}: other values");
                    }
                }
                bytes[position] ^= flip;
            }
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    for sample in small() {
        let bytes = sample.build();
        for length in 0..bytes.len() {
            assert!(Segment::open(memory(&bytes[..length])).is_err(), "{length} bytes");
            assert!(Segment::open_unchecked(memory(&bytes[..length])).is_err(), "{length} bytes");
            assert!(Segment::open(memory(&bytes[length..])).is_err() || length == 0, "without {length} bytes");
        }
    }
}

/// Whoever can write a file can write its checksums too.
#[test]
fn behind_the_checksums_nothing_is_trusted() {
    for sample in small() {
        let mut bytes = sample.build();
        for position in 0..bytes.len() {
            for flip in (0..8).map(|bit| 1 << bit).chain([0xff, 0x7f]) {
                bytes[position] ^= flip;
                let (_, peak) = peak_of(|| Segment::open_unchecked(memory(&bytes)).map(|segment| use_all(&segment)));
                assert!(peak <= justified(bytes.len()), "byte {position} ^ {flip}: {peak} bytes allocated");
                bytes[position] ^= flip;
            }
        }
    }
}

/// With indexes and full groups; bytes scattered over a larger file.
#[test]
fn larger_files_are_not_trusted_either() {
    let mut state = 7u64;
    for sample in [everything(1100), blocks(66_000)] {
        let mut bytes = sample.build();
        for _ in 0..150 {
            state = support::mix(state);
            // Half of the damage goes to the metadata and the footer, at the end.
            let span = if state & 1 == 0 { bytes.len() } else { bytes.len().min(3000) };
            let position = bytes.len() - 1 - (state >> 8) as usize % span;
            let flip = (state >> 1) as u8 | 1;
            bytes[position] ^= flip;
            let (_, peak) = peak_of(|| Segment::open_unchecked(memory(&bytes)).map(|segment| use_all(&segment)));
            assert!(peak <= justified(bytes.len()), "byte {position} ^ {flip}: {peak} bytes allocated");
            bytes[position] ^= flip;
        }
    }
}

#[test]
fn damaged_statistics_are_noticed() {
    let segment = Segment::open(memory(&everything(40).build())).unwrap();
    let mut bytes = segment.statistics().encode();
    for position in 0..bytes.len() {
        for flip in (0..8).map(|bit| 1 << bit) {
            bytes[position] ^= flip;
            assert!(SegmentStatistics::decode(&bytes).is_err());
            let (_, peak) = peak_of(|| SegmentStatistics::decode_unchecked(&bytes).is_ok());
            assert!(peak <= justified(bytes.len()));
            bytes[position] ^= flip;
        }
        assert!(SegmentStatistics::decode(&bytes[..position]).is_err());
    }
}
