//! Rows that this transaction has inserted and that are not in the catalog yet.
//!
//! They gather in chunks: one a table and subtransaction. A chunk becomes a segment before commit, before a scan of its
//! table, and when memory is full. A segment that is written while a subtransaction runs, of rows that an outer level
//! inserted, vanishes from the catalog if the subtransaction aborts, but its rows must not: the chunk keeps the built
//! file and remembers in which subtransaction it was published; on abort it is pending again.
//!
//! Commands: a statement sees what earlier commands inserted and never its own rows. A segment published for a statement
//! is newer, by the catalog's command ids, than the statement's snapshot; [`flushed_for`] gives it to the statement
//! all the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use basalt_engine::rows::RowBuffer;
use basalt_engine::segment::{Gathered, SegmentBytes};
use pgrx::pg_sys;

use super::collect;
use super::datasource::Datasource;
use super::publish::{self, Built};
use super::segment::{SegmentEntry, SegmentKind};
use crate::error::{OrRaise, Result};
use crate::guc;
use crate::pg::snapshot::{self, ActiveSnapshot};
use crate::pg::{callbacks, session};

type SubXact = pg_sys::SubTransactionId;
type Command = pg_sys::CommandId;

/// Rows of one table and one level of the transaction.
struct Chunk {
    datasource: Arc<Datasource>,
    /// The subtransaction whose rows these are.
    owner: SubXact,
    /// The subtransaction that dropped or truncated the table since.
    dropped: Option<SubXact>,
    /// Rows without a time are kept apart: they have no place in a segment's visibility.
    timeless: bool,
    content: Content,
}

// A transaction has a few of them.
#[allow(clippy::large_enum_variant)]
enum Content {
    Rows(Rows),
    Built(Segment),
}

struct Rows {
    gathered: Gathered,
    /// Command that inserted rows up to (exclusive) a row number.
    runs: Vec<(Command, usize)>,
}

struct Segment {
    entry: SegmentEntry,
    /// Kept while the segment may have to be published again.
    built: Option<Built>,
    /// Last command that inserted one of the rows.
    last: Command,
    published: Option<Published>,
}

struct Published {
    subxact: SubXact,
    /// At this command or a little before: later commands' snapshots see the catalog's rows.
    command: Command,
}

#[derive(Default)]
struct State {
    tables: BTreeMap<[u8; 16], Vec<Chunk>>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::default());
}

pub fn register_callbacks() {
    callbacks::at_transactions(at_transaction, at_subtransaction);
}

/// Lets `push` append rows `0..count` to the transaction's rows of the datasource, a range at a time. `command` is the inserting
/// command's id; `timeless` says that a row's time is NULL. After an error rows of the range may be there: the level of the transaction
/// that they belong to ends.
pub fn insert(
    datasource: &Arc<Datasource>,
    command: Command,
    count: usize,
    timeless: &dyn Fn(usize) -> bool,
    push: &mut dyn FnMut(Range<usize>, &mut RowBuffer) -> Result<()>,
) -> Result<()> {
    if let Some(taken) = collect::insert(datasource, count, timeless, push) {
        return taken;
    }
    let alike = |range: Range<usize>| {
        let (without_time, end) = (timeless(range.start), range.end);
        (without_time, (range.start + 1..end).find(|row| timeless(*row) != without_time).unwrap_or(end))
    };
    fill(datasource, command, count, &alike, &mut |range, gathered| gathered.push(|rows| push(range, rows)))
}

/// Appends rows that have a time, if the datasource has a time column, to the transaction's rows. Not while a replace collects them.
pub fn append(datasource: &Arc<Datasource>, command: Command, rows: &RowBuffer) -> Result<()> {
    let alike = |range: Range<usize>| (false, range.end);
    fill(datasource, command, rows.rows(), &alike, &mut |range, gathered| Ok(gathered.append(rows, range)?))
}

/// Lets `add` bring rows `0..count` to the transaction's rows, as many at a time as are alike and fit a segment. `alike`: whether the first
/// of a range of rows has no time, and up to where others are as it is.
fn fill(
    datasource: &Arc<Datasource>,
    command: Command,
    count: usize,
    alike: &dyn Fn(Range<usize>) -> (bool, usize),
    add: &mut dyn FnMut(Range<usize>, &mut Gathered) -> Result<()>,
) -> Result<()> {
    let owner = session::subtransaction();
    let mut next = 0;
    while next < count {
        let full = STATE.with_borrow_mut(|state| {
            let (without_time, end) = alike(next..count);
            let Content::Rows(rows) = &mut state.chunk(datasource, owner, without_time).content else {
                return Ok(false);
            };
            let before = rows.gathered.rows();
            let end = end.min(next.saturating_add(room(datasource, before)));
            add(next..end, &mut rows.gathered)?;
            next = end;
            rows.note(command);
            Ok::<_, crate::error::Error>(is_full(&[&rows.gathered], before, datasource))
        })?;
        if full {
            flush_all(&datasource.id, Command::MAX)?;
        }
    }
    Ok(())
}

/// Whether rows of the datasource go to a replace instead.
pub fn is_replaced(datasource: &Datasource) -> bool {
    collect::collects(&datasource.id)
}

/// Rows that a segment takes beside `held` ones; at least 1.
fn room(datasource: &Datasource, held: usize) -> usize {
    let room = datasource.options.max_segment_rows.saturating_sub(held as u64).max(1);
    usize::try_from(room).unwrap_or(usize::MAX)
}

/// Whether rows are to become a segment, now that they are more than `before`.
pub fn is_full(gathered: &[&Gathered], before: usize, datasource: &Datasource) -> bool {
    /// Counting memory costs a look at every column: not for each row.
    const STEP: usize = 32;
    let rows: usize = gathered.iter().map(|g| g.rows()).sum();
    let memory = || gathered.iter().map(|g| g.memory()).sum::<usize>();
    before / STEP != rows / STEP && memory() >= guc::insert_memory_limit()
        || rows as u64 >= datasource.options.max_segment_rows
}

/// Publishes what earlier commands of this transaction inserted into the datasource. Called when a scan of it begins.
pub fn flush(datasource: &[u8; 16]) -> Result<()> {
    let before = snapshot::active_command().unwrap_or(Command::MAX);
    flush_all(datasource, before)
}

/// Segments that [`flush`] published and that the active snapshot should see but, by command id, does not.
pub fn flushed_for(datasource: &[u8; 16]) -> Vec<SegmentEntry> {
    let Some(current) = snapshot::active_command() else { return Vec::new() };
    STATE.with_borrow(|state| {
        let chunks = state.tables.get(datasource).map_or(&[][..], Vec::as_slice);
        chunks
            .iter()
            .filter(|c| c.dropped.is_none())
            .filter_map(|c| match &c.content {
                Content::Built(s) if s.last < current => {
                    s.published.as_ref().filter(|p| p.command >= current).map(|_| s.entry.clone())
                }
                _ => None,
            })
            .collect()
    })
}

/// The bytes of a segment that this transaction built and still holds.
pub fn bytes_of(segment: &[u8; 16]) -> Option<SegmentBytes> {
    STATE.with_borrow(|state| {
        state.tables.values().flatten().find_map(|c| match &c.content {
            Content::Built(Segment { entry, built: Some(built), .. }) if entry.id == *segment => {
                Some(built.file.bytes.clone())
            }
            _ => None,
        })
    })
}

/// The table was dropped or truncated by the current subtransaction: its rows so far are gone if that commits.
pub fn forget(datasource: &[u8; 16]) {
    let subxact = session::subtransaction();
    STATE.with_borrow_mut(|state| {
        for chunk in state.tables.get_mut(datasource).into_iter().flatten() {
            chunk.dropped.get_or_insert(subxact);
        }
        state.settle();
    });
}

/// Whether this transaction holds rows of the datasource that are not in the catalog.
pub fn has_rows(datasource: &[u8; 16]) -> bool {
    STATE.with_borrow(|state| {
        state.tables.get(datasource).into_iter().flatten().any(|c| c.dropped.is_none() && c.is_pending())
    })
}

impl Chunk {
    fn takes(&self, datasource: &Arc<Datasource>, owner: SubXact, timeless: bool) -> bool {
        self.owner == owner
            && self.dropped.is_none()
            && self.timeless == timeless
            && (Arc::ptr_eq(&self.datasource, datasource) || self.datasource.schema == datasource.schema)
            && matches!(&self.content, Content::Rows(rows) if rows.gathered.rows() < RowBuffer::MAX_ROWS)
    }

    fn is_pending(&self) -> bool {
        match &self.content {
            Content::Rows(rows) => !rows.gathered.is_empty(),
            Content::Built(segment) => segment.published.is_none(),
        }
    }
}

impl Rows {
    /// The rows behind those noted so far are the command's.
    fn note(&mut self, command: Command) {
        let end = self.gathered.rows();
        match self.runs.last_mut() {
            Some((last, to)) if *last == command => *to = end,
            _ => self.runs.push((command, end)),
        }
    }

    /// How many leading rows were inserted before `command`.
    fn before(&self, command: Command) -> usize {
        self.runs.iter().take_while(|(c, _)| *c < command).last().map_or(0, |(_, end)| *end)
    }

    /// Takes the first `count` rows out.
    fn split(&mut self, count: usize) -> Result<Rows> {
        let cut = self.runs.partition_point(|(_, end)| *end <= count);
        let rest_runs = self.runs.split_off(cut).into_iter().map(|(c, end)| (c, end - count)).collect();
        Ok(Rows { gathered: self.gathered.split(count)?, runs: std::mem::replace(&mut self.runs, rest_runs) })
    }
}

impl State {
    /// The chunk that takes rows of this level, a new one if there is none.
    fn chunk(&mut self, datasource: &Arc<Datasource>, owner: SubXact, timeless: bool) -> &mut Chunk {
        let chunks = self.tables.entry(datasource.id).or_default();
        let found = chunks.iter().rposition(|c| c.takes(datasource, owner, timeless));
        let at = found.unwrap_or_else(|| {
            chunks.push(Chunk {
                datasource: datasource.clone(),
                owner,
                dropped: None,
                timeless,
                content: Content::Rows(Rows { gathered: Gathered::new(datasource.schema.clone()), runs: Vec::new() }),
            });
            chunks.len() - 1
        });
        &mut chunks[at]
    }

    /// Drops chunks whose end is decided, and joins those that became of one level.
    fn settle(&mut self) {
        for chunks in self.tables.values_mut() {
            chunks.retain(|c| c.dropped != Some(c.owner));
            for chunk in chunks.iter_mut() {
                if let Content::Built(segment) = &mut chunk.content
                    && segment.published.as_ref().is_some_and(|p| p.subxact == chunk.owner)
                {
                    segment.built = None;
                }
            }
            join(chunks);
        }
        self.tables.retain(|_, chunks| !chunks.is_empty());
    }
}

/// Appends rows of later chunks to earlier ones of the same level, table and schema.
fn join(chunks: &mut Vec<Chunk>) {
    let mut joined: Vec<Chunk> = Vec::with_capacity(chunks.len());
    for mut chunk in chunks.drain(..) {
        if let Content::Rows(rows) = &mut chunk.content
            && let Some(to) = joined
                .iter_mut()
                .rev()
                .find(|c| c.dropped == chunk.dropped && c.takes(&chunk.datasource, chunk.owner, chunk.timeless))
            && let Content::Rows(earlier) = &mut to.content
        {
            let base = earlier.gathered.rows();
            if base + rows.gathered.rows() < RowBuffer::MAX_ROWS {
                let empty = Gathered::new(chunk.datasource.schema.clone());
                let later = std::mem::replace(&mut rows.gathered, empty);
                // Same schema, and not too many: this can't fail.
                earlier.gathered.append_all(later).or_raise();
                earlier.runs.extend(rows.runs.iter().map(|(c, end)| (*c, end + base)));
                continue;
            }
        }
        joined.push(chunk);
    }
    *chunks = joined;
}

/// Publishes every row of the datasource that was inserted before `before`.
fn flush_all(datasource: &[u8; 16], before: Command) -> Result<()> {
    let current = session::subtransaction();
    while let Some((at, chunk)) = STATE.with_borrow_mut(|state| take_pending(state, datasource, before))? {
        let done = publish_chunk(chunk, current)?;
        STATE.with_borrow_mut(|state| {
            let chunks = state.tables.entry(*datasource).or_default();
            chunks.insert(at.min(chunks.len()), done);
        });
    }
    Ok(())
}

/// Takes the first chunk out that has rows to publish, and where it was.
fn take_pending(state: &mut State, datasource: &[u8; 16], before: Command) -> Result<Option<(usize, Chunk)>> {
    let Some(chunks) = state.tables.get_mut(datasource) else { return Ok(None) };
    for at in 0..chunks.len() {
        let chunk = &mut chunks[at];
        if chunk.dropped.is_some() || !chunk.is_pending() {
            continue;
        }
        match &mut chunk.content {
            Content::Built(segment) if segment.last < before => return Ok(Some((at, chunks.remove(at)))),
            Content::Built(_) => {}
            Content::Rows(rows) => {
                let count = rows.before(before);
                if count == rows.gathered.rows() {
                    return Ok(Some((at, chunks.remove(at))));
                }
                if count > 0 {
                    let content = Content::Rows(rows.split(count)?);
                    let first = Chunk {
                        datasource: chunk.datasource.clone(),
                        owner: chunk.owner,
                        dropped: None,
                        timeless: chunk.timeless,
                        content,
                    };
                    return Ok(Some((at, first)));
                }
            }
        }
    }
    Ok(None)
}

fn publish_chunk(chunk: Chunk, current: SubXact) -> Result<Chunk> {
    let Chunk { datasource, owner, dropped, timeless, content } = chunk;
    let (built, last) = match content {
        Content::Rows(rows) => {
            let last = rows.runs.iter().map(|(c, _)| *c).max().unwrap_or(0);
            (publish::build(rows.gathered)?, last)
        }
        Content::Built(Segment { built: Some(built), last, .. }) => (built, last),
        Content::Built(Segment { built: None, .. }) => {
            return Err(basalt_engine::Error::invalid("a published segment is pending").into());
        }
    };
    // The transaction may have been made read-only since it inserted the rows.
    let writes = session::WritesAllowed::new();
    let version = publish::append(&datasource, &built, SegmentKind::Fresh, &[])?;
    drop(writes);
    let command = session::command();
    let entry = built.entry(version, SegmentKind::Fresh);
    // The level whose rows these are has published them itself: they share its fate.
    let built = (owner != current).then_some(built);
    let published = Some(Published { subxact: current, command });
    Ok(Chunk {
        datasource,
        owner,
        dropped,
        timeless,
        content: Content::Built(Segment { entry, built, last, published }),
    })
}

fn at_transaction(event: pg_sys::XactEvent::Type) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT | pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE => {
            let tables: Vec<[u8; 16]> = STATE.with_borrow(|state| state.tables.keys().copied().collect());
            if tables.is_empty() {
                return;
            }
            let active = ActiveSnapshot::transaction();
            for datasource in tables {
                flush_all(&datasource, Command::MAX).or_raise();
            }
            drop(active);
        }
        pg_sys::XactEvent::XACT_EVENT_COMMIT
        | pg_sys::XactEvent::XACT_EVENT_ABORT
        | pg_sys::XactEvent::XACT_EVENT_PREPARE => STATE.with_borrow_mut(|state| state.tables.clear()),
        _ => {}
    }
}

fn at_subtransaction(event: pg_sys::SubXactEvent::Type, this: SubXact, parent: SubXact) {
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => STATE.with_borrow_mut(|state| {
            let up = |level: &mut SubXact| {
                if *level == this {
                    *level = parent;
                }
            };
            for chunk in state.tables.values_mut().flatten() {
                up(&mut chunk.owner);
                if let Some(dropped) = &mut chunk.dropped {
                    up(dropped);
                }
                if let Content::Built(Segment { published: Some(published), .. }) = &mut chunk.content {
                    up(&mut published.subxact);
                }
            }
            state.settle();
        }),
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => STATE.with_borrow_mut(|state| {
            for chunks in state.tables.values_mut() {
                chunks.retain(|c| c.owner != this);
                for chunk in chunks.iter_mut() {
                    if chunk.dropped == Some(this) {
                        chunk.dropped = None;
                    }
                    if let Content::Built(segment) = &mut chunk.content
                        && segment.published.as_ref().is_some_and(|p| p.subxact == this)
                    {
                        segment.published = None;
                    }
                }
            }
            state.settle();
        }),
        _ => {}
    }
}
