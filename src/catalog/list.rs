//! The segments that a snapshot sees, read once for planning and executing queries, with what both ask of all of them at once.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::{Deref, Range};
use std::rc::Rc;

use basalt_engine::TimeInterval;
use basalt_engine::types::ColumnId;

use super::segment::{self, SegmentEntry};
use crate::error::OrRaise;
use crate::pg::interrupts;
use crate::pg::lru::Lru;
use crate::pg::scan::RowVersion;
use crate::pg::snapshot::Contents;

/// Used segments of a datasource in order of their first times; those without times come first.
pub struct SegmentList {
    entries: Vec<SegmentEntry>,
    /// In the catalog's order: the rows' versions, and where in `entries` each is. Of this file of the catalog's.
    file: u32,
    versions: Vec<(RowVersion, u32)>,
    /// Of all, and of the largest.
    rows: u64,
    largest: u64,
    /// How many have no times; of the others the first and last time, and the latest up to each of them.
    timeless: usize,
    times: Vec<(i64, i64)>,
    latest: Vec<i64>,
    facts: RefCell<Facts>,
    estimates: Rc<RefCell<Estimates>>,
}

/// Rows of the catalog between two looks at interrupts.
const LOOK: usize = 512;

/// What was found out about a column of all segments.
type Facts = HashMap<(ColumnId, TypeId), Rc<dyn Any>>;

/// The same, shared by lists that come one after the other, with the number of rows that there were.
type Estimates = HashMap<(ColumnId, TypeId), (u64, Rc<dyn Any>)>;

impl Deref for SegmentList {
    type Target = [SegmentEntry];

    fn deref(&self) -> &[SegmentEntry] {
        &self.entries
    }
}

impl SegmentList {
    /// Reads what the active snapshot sees. What `before` has of it is taken from there; all of it, if nothing has changed.
    fn read(datasource: &[u8; 16], before: Option<&Rc<SegmentList>>) -> Rc<SegmentList> {
        let mut scan = segment::scan(datasource);
        let file = scan.file();
        let before = before.filter(|before| before.file == file);
        let known = before.map_or(&[][..], |before| &before.versions);
        let mut by_version: Option<HashMap<RowVersion, u32>> = None;
        let (mut entries, mut versions) = (Vec::new(), Vec::with_capacity(known.len()));
        let (mut next, mut same) = (0, true);
        while scan.advance() {
            let version = scan.version();
            let place = match known.get(next) {
                Some((expected, place)) if *expected == version => Some(*place),
                _ => by_version.get_or_insert_with(|| known.iter().copied().collect()).get(&version).copied(),
            };
            next += 1;
            if next % LOOK == 0 {
                interrupts::check();
            }
            if let (Some(place), true, None) = (place, same, &by_version) {
                versions.push((version, place));
                continue;
            }
            let taken = |place: u32| before.and_then(|before| before.entries.get(place as usize)).cloned();
            if std::mem::take(&mut same) {
                // Up to here nothing was different.
                entries.extend(versions.iter().filter_map(|(_, place)| taken(*place)));
            }
            entries.push(place.and_then(taken).unwrap_or_else(|| segment::read(&scan).or_raise()));
            versions.push((version, 0));
        }
        scan.end();
        let flushed = segment::flushed(datasource, if same { before.map_or(&[], |b| &b.entries) } else { &entries });
        if same {
            match before {
                Some(before) if flushed.is_empty() && next == known.len() => return before.clone(),
                Some(before) => {
                    entries
                        .extend(versions.iter().filter_map(|(_, place)| before.entries.get(*place as usize)).cloned());
                }
                None => {}
            }
        }
        entries.extend(flushed);
        let mut ordered: Vec<(usize, SegmentEntry)> = entries.into_iter().enumerate().collect();
        ordered.sort_by_cached_key(|(_, entry)| segment::order(entry));
        for (place, (nth, _)) in ordered.iter().enumerate() {
            if let Some(version) = versions.get_mut(*nth) {
                version.1 = place as u32;
            }
        }
        let estimates = before.map(|before| before.estimates.clone()).unwrap_or_default();
        Rc::new(SegmentList::new(ordered.into_iter().map(|(_, entry)| entry).collect(), file, versions, estimates))
    }

    fn new(
        entries: Vec<SegmentEntry>,
        file: u32,
        versions: Vec<(RowVersion, u32)>,
        estimates: Rc<RefCell<Estimates>>,
    ) -> SegmentList {
        let timeless = entries.partition_point(|e| e.statistics.time.is_none());
        let times: Vec<(i64, i64)> = entries[timeless..].iter().filter_map(|e| e.statistics.time).collect();
        let running = |latest: &mut i64, (_, last): &(i64, i64)| {
            *latest = (*latest).max(*last);
            Some(*latest)
        };
        let latest = times.iter().scan(i64::MIN, running).collect();
        let rows = entries.iter().map(|e| e.rows).sum();
        let largest = entries.iter().map(|e| e.rows).max().unwrap_or(0);
        let facts = RefCell::default();
        SegmentList { entries, file, versions, rows, largest, timeless, times, latest, facts, estimates }
    }

    /// Rows of all segments, visible or not.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows of the largest segment.
    pub fn largest(&self) -> u64 {
        self.largest
    }

    /// The segments without times.
    pub fn timeless(&self) -> Range<usize> {
        0..self.timeless
    }

    /// Those of the others that may have rows in `within`; the rest has none.
    pub fn around(&self, within: &TimeInterval) -> impl Iterator<Item = usize> {
        let first = self.latest.partition_point(|latest| *latest < within.start);
        let behind = self.times.partition_point(|(start, _)| *start <= within.end);
        let (start, timeless) = (within.start, self.timeless);
        let times = self.times.get(first..behind).unwrap_or_default().iter().enumerate();
        times.filter(move |(_, (_, last))| *last >= start).map(move |(at, _)| timeless + first + at)
    }

    /// What `find` finds out about a column, kept as long as the list.
    pub fn facts<T: 'static>(&self, column: ColumnId, find: impl FnOnce(&[SegmentEntry]) -> T) -> Rc<T> {
        let key = (column, TypeId::of::<T>());
        let known = self.facts.borrow().get(&key).cloned().and_then(|facts| facts.downcast::<T>().ok());
        known.unwrap_or_else(|| {
            let found = Rc::new(find(&self.entries));
            self.facts.borrow_mut().insert(key, found.clone());
            found
        })
    }

    /// As [`SegmentList::facts`], for estimates: what was found before a few rows came or went is good enough.
    pub fn estimate<T: 'static>(&self, column: ColumnId, find: impl FnOnce(&[SegmentEntry]) -> T) -> Rc<T> {
        /// The share of the rows that may be different.
        const FEW: u64 = 50;
        let key = (column, TypeId::of::<T>());
        let known =
            self.estimates.borrow().get(&key).filter(|(rows, _)| rows.abs_diff(self.rows) <= rows / FEW).cloned();
        known.and_then(|(_, facts)| facts.downcast::<T>().ok()).unwrap_or_else(|| {
            let found = Rc::new(find(&self.entries));
            self.estimates.borrow_mut().insert(key, (self.rows, found.clone()));
            found
        })
    }
}

/// Lists that one session keeps.
const KEPT: usize = 16;

/// A list, with what the snapshot saw that read it.
type Known = (Contents, Rc<SegmentList>);

thread_local! {
    /// By datasource.
    static LISTS: RefCell<Lru<[u8; 16], Known>> = RefCell::new(Lru::new());
}

/// What the active snapshot sees of a datasource; looked up again only when some transaction has ended.
pub fn visible(datasource: &[u8; 16]) -> Rc<SegmentList> {
    let before = LISTS.with_borrow_mut(|lists| lists.get(datasource).cloned());
    let contents = Contents::active();
    if let (Some((of, list)), Some(contents)) = (&before, &contents)
        && of == contents
    {
        return list.clone();
    }
    let list = SegmentList::read(datasource, before.as_ref().map(|(_, list)| list));
    if let Some(contents) = contents {
        LISTS.with_borrow_mut(|lists| lists.insert(*datasource, (contents, list.clone()), KEPT));
    }
    list
}
