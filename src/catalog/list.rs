//! The segments that a snapshot sees, read once for planning and executing queries, with what both ask of all of them at once.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::{Deref, Range};
use std::rc::Rc;

use basalt_engine::TimeInterval;
use basalt_engine::types::ColumnId;

use super::segment::{self, SegmentEntry};
use crate::pg::lru::Lru;
use crate::pg::snapshot::Contents;

/// Used segments of a datasource in order of their first times; those without times come first.
pub struct SegmentList {
    entries: Vec<SegmentEntry>,
    /// Of all, and of the largest.
    rows: u64,
    largest: u64,
    /// How many have no times; of the others the first and last time, and the latest up to each of them.
    timeless: usize,
    times: Vec<(i64, i64)>,
    latest: Vec<i64>,
    /// What was found out about a column of all segments.
    facts: RefCell<HashMap<(ColumnId, TypeId), Rc<dyn Any>>>,
}

impl Deref for SegmentList {
    type Target = [SegmentEntry];

    fn deref(&self) -> &[SegmentEntry] {
        &self.entries
    }
}

impl SegmentList {
    /// `entries` are in the order of [`segment::visible`].
    fn new(entries: Vec<SegmentEntry>) -> SegmentList {
        let timeless = entries.partition_point(|e| e.statistics.time.is_none());
        let times: Vec<(i64, i64)> = entries[timeless..].iter().filter_map(|e| e.statistics.time).collect();
        let running = |latest: &mut i64, (_, last): &(i64, i64)| {
            *latest = (*latest).max(*last);
            Some(*latest)
        };
        let latest = times.iter().scan(i64::MIN, running).collect();
        let rows = entries.iter().map(|e| e.rows).sum();
        let largest = entries.iter().map(|e| e.rows).max().unwrap_or(0);
        SegmentList { entries, rows, largest, timeless, times, latest, facts: RefCell::default() }
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
}

/// Lists that one session keeps.
const KEPT: usize = 16;

/// A list, with what the snapshot saw that read it.
type Known = (Contents, Rc<SegmentList>);

thread_local! {
    /// By datasource.
    static LISTS: RefCell<Lru<[u8; 16], Known>> = RefCell::new(Lru::new());
}

/// What the active snapshot sees of a datasource; read again only when some transaction has ended.
pub fn visible(datasource: &[u8; 16]) -> Rc<SegmentList> {
    let read = || Rc::new(SegmentList::new(segment::visible(datasource, None)));
    let Some(contents) = Contents::active() else { return read() };
    let known =
        LISTS.with_borrow_mut(|lists| lists.get(datasource).filter(|(of, _)| *of == contents).map(|(_, l)| l.clone()));
    known.unwrap_or_else(|| {
        let list = read();
        LISTS.with_borrow_mut(|lists| lists.insert(*datasource, (contents, list.clone()), KEPT));
        list
    })
}
