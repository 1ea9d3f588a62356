//! Which segments a snapshot sees.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use basalt_engine::segment::SegmentStatistics;
use basalt_engine::{TimeInterval, TimeRanges};
use roaring::RoaringBitmap;

use super::{pending, tables};
use crate::error::{OrRaise, Result};
use crate::pg::multirange;
use crate::pg::scan::{IndexScan, Under};
use crate::pg::spi::Rows;
use crate::pg::values::with_varlena;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// Published as rows arrived; its bytes are in the catalog.
    Fresh,
    /// Merged from fresh segments; rebuilt from them when the cache lacks it.
    Derived,
    /// Compacted or replaced: the last form of its rows.
    Final,
}

impl SegmentKind {
    pub fn name(self) -> &'static str {
        match self {
            SegmentKind::Fresh => "fresh",
            SegmentKind::Derived => "derived",
            SegmentKind::Final => "final",
        }
    }

    pub fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"fresh" => Some(SegmentKind::Fresh),
            b"derived" => Some(SegmentKind::Derived),
            b"final" => Some(SegmentKind::Final),
            _ => None,
        }
    }
}

/// One used segment of a datasource.
#[derive(Clone, Debug)]
pub struct SegmentEntry {
    pub id: [u8; 16],
    /// Segments that a newer version hides are not used any more: nothing compares versions when it reads.
    #[allow(dead_code)]
    pub version: i64,
    pub rows: u64,
    pub bytes: u64,
    /// CRC32C of the whole file.
    pub checksum: u32,
    pub kind: SegmentKind,
    /// Rows whose time is outside are invisible; `TimeRanges::all()` when no row has a time.
    pub visibility: TimeRanges,
    pub statistics: Arc<SegmentStatistics>,
    pub deleted: Option<RoaringBitmap>,
}

/// Columns of `basalt.segment` by attribute number.
mod column {
    pub const ID: i16 = 1;
    pub const VERSION: i16 = 3;
    pub const VISIBILITY: i16 = 4;
    pub const KIND: i16 = 5;
    pub const ROWS: i16 = 6;
    pub const BYTES: i16 = 7;
    pub const CHECKSUM: i16 = 8;
    pub const USED: i16 = 10;
    pub const STATISTICS: i16 = 12;
}

/// Attribute number of `used`.
pub const USED_COLUMN: i16 = column::USED;

/// Segments whose decoded statistics one session keeps.
const CACHED_STATISTICS: usize = 65_536;

/// Ids are random: some of their bits are hash enough.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }
}

type Statistics = HashMap<[u8; 16], Arc<SegmentStatistics>, BuildHasherDefault<IdHasher>>;

thread_local! {
    /// A segment is immutable, hence so are its statistics. Emptied when it is full.
    static STATISTICS: RefCell<Statistics> = RefCell::new(Statistics::default());
}

/// Used segments of a datasource under the active snapshot, those that cannot hold a visible row in `within` left out.
/// Rows of this transaction that were flushed for the current statement are among them ([`pending::flush`]).
pub fn visible(datasource: &[u8; 16], within: Option<&TimeInterval>) -> Vec<SegmentEntry> {
    let mut entries = Vec::new();
    let mut scan = scan(datasource);
    while scan.advance() {
        entries.push(read(&scan).or_raise());
    }
    scan.end();
    entries.append(&mut flushed(datasource, &entries));
    entries.retain(|entry| within.is_none_or(|within| may_hold(entry, within)));
    entries.sort_by_cached_key(order);
    entries
}

/// The order of rows without ORDER BY, and of float sums, should not depend on the catalog's physical order.
pub fn order(entry: &SegmentEntry) -> impl Ord + use<> {
    (entry.statistics.time, entry.id)
}

/// The catalog's rows of the used segments that the active snapshot sees.
pub fn scan(datasource: &[u8; 16]) -> IndexScan<'_> {
    let (table, index) = (tables::relation(c"segment"), tables::relation(c"segment_datasource"));
    IndexScan::by_uuid(table, index, datasource, Under::Active)
}

/// Segments that were flushed for the current statement and are not among `entries`, which the snapshot sees.
pub fn flushed(datasource: &[u8; 16], entries: &[SegmentEntry]) -> Vec<SegmentEntry> {
    // The command id kept there is not exact: the snapshot may see the row by itself.
    let mut flushed = pending::flushed_for(datasource);
    flushed.retain(|flushed| !entries.iter().any(|e| e.id == flushed.id));
    flushed
}

/// Whether a row with a time in `within` may be visible.
fn may_hold(entry: &SegmentEntry, within: &TimeInterval) -> bool {
    let Some((min, max)) = entry.statistics.time else { return false };
    min.max(within.start) <= max
        && within.contains(min.max(within.start))
        && !entry.visibility.intersection(within).is_empty()
}

/// The segment of the scan's current row.
pub fn read(scan: &IndexScan) -> Result<SegmentEntry> {
    let corrupt = || basalt_engine::Error::corrupt("NULL in basalt.segment");
    let get = |attribute| scan.get(attribute).ok_or_else(corrupt);
    debug_assert_eq!(scan.get(column::USED).map(|d| d.value() as u8), Some(1));
    let id = scan.uuid(column::ID).ok_or_else(|| basalt_engine::Error::corrupt("a segment without an id"))?;
    let statistics = match STATISTICS.with_borrow(|cache| cache.get(&id).cloned()) {
        Some(known) => known,
        None => {
            let decoded = with_varlena(get(column::STATISTICS)?, SegmentStatistics::decode)?;
            let decoded = Arc::new(decoded);
            STATISTICS.with_borrow_mut(|cache| {
                if cache.len() >= CACHED_STATISTICS {
                    cache.clear();
                }
                cache.insert(id, decoded.clone());
            });
            decoded
        }
    };
    let kind = with_varlena(get(column::KIND)?, SegmentKind::parse)
        .ok_or_else(|| basalt_engine::Error::corrupt("kind in basalt.segment"))?;
    Ok(SegmentEntry {
        id,
        version: get(column::VERSION)?.value() as i64,
        rows: get(column::ROWS)?.value() as u64,
        bytes: get(column::BYTES)?.value() as u64,
        checksum: get(column::CHECKSUM)?.value() as u32,
        kind,
        visibility: if statistics.time.is_none() {
            TimeRanges::all()
        } else {
            multirange::to_ranges(get(column::VISIBILITY)?)
        },
        statistics,
        deleted: None,
    })
}

/// An entry out of columns `version, kind, rows, bytes, checksum, statistics` of a statement's row, beginning at `first`.
/// `None` if one is NULL or unreadable. Its visibility is that of an unclipped segment.
pub fn entry_of_row(rows: &Rows, row: usize, first: usize, id: [u8; 16]) -> Option<SegmentEntry> {
    let statistics = Arc::new(SegmentStatistics::decode(&rows.bytes(row, first + 5)?).ok()?);
    Some(SegmentEntry {
        id,
        version: rows.i64(row, first)?,
        kind: SegmentKind::parse(&rows.bytes(row, first + 1)?)?,
        rows: rows.i64(row, first + 2)? as u64,
        bytes: rows.i64(row, first + 3)? as u64,
        checksum: rows.i64(row, first + 4)? as u32,
        visibility: super::publish::full_visibility(&statistics),
        statistics,
        deleted: None,
    })
}
