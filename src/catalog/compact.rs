//! Compaction: many segments of an interval into few.

use std::collections::BTreeMap;
use std::sync::Arc;

use basalt_engine::segment::{MergeSource, Segment, merge_filling};
use basalt_engine::{TimeInterval, TimeRanges};
use pgrx::pg_sys;

use super::cache::{self, NewFile};
use super::datasource::{self, Datasource};
use super::derived::Recipe;
use super::origin;
use super::pending;
use super::publish::{Built, build_options};
use super::rewrite::{self, Hidden, New, Reason};
use super::segment::{self, SegmentEntry, SegmentKind};
use crate::error::Result;
use crate::pg::relation::{self, Level};
use crate::pg::snapshot::Registered;
use crate::pg::{interrupts, random_uuid, session, thread};

/// Adjacent intervals share a segment while they have fewer rows than this together: one block.
const FEW_ROWS: u64 = 65_536;

/// What one new segment is made of: the rows of all sources in a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    within: TimeInterval,
    rows: u64,
}

/// Merges all segments of a datasource by interval, to segments of at most `max_segment_rows` rows; how many were made.
/// What is compact already stays.
pub fn compact(relation: pg_sys::Oid) -> Result<u64> {
    relation::lock(relation, Level::Write);
    let opened = datasource::open(relation)?;
    pending::flush(&opened.id)?;
    rewrite::begin(&opened.id);
    // The snapshot is to see what was flushed.
    session::next_command();
    let snapshot = Registered::transaction();
    let made = snapshot.active(|| merge_all(&opened))?;
    drop(snapshot);
    let Some((hidden, new)) = made else { return Ok(0) };
    rewrite::commit(&opened, &hidden, &new, Reason::Compact)?;
    Ok(new.len() as u64)
}

fn merge_all(datasource: &Arc<Datasource>) -> Result<Option<(Vec<Hidden>, Vec<New>)>> {
    let facts = origin::facts(&datasource.id);
    let mut groups: BTreeMap<origin::Origin, Vec<SegmentEntry>> = BTreeMap::new();
    for entry in segment::visible(&datasource.id, None) {
        let origin = facts.get(&entry.id).map(|f| f.origin.clone()).unwrap_or_default();
        groups.entry(origin).or_default().push(entry);
    }
    let mut hidden = Vec::new();
    let mut new = Vec::new();
    for entries in groups.into_values() {
        merge_group(datasource, entries, &mut hidden, &mut new)?;
    }
    Ok((!hidden.is_empty()).then_some((hidden, new)))
}

/// Merges segments of one origin.
fn merge_group(
    datasource: &Arc<Datasource>,
    entries: Vec<SegmentEntry>,
    hidden: &mut Vec<Hidden>,
    new: &mut Vec<New>,
) -> Result<()> {
    let (timed, timeless): (Vec<_>, Vec<_>) = entries.into_iter().partition(|e| e.statistics.time.is_some());
    for group in by_rows(timeless, datasource.options.max_segment_rows) {
        if group.len() > 1 {
            new.push(merge_segments(datasource, &group, TimeInterval::ALL, SegmentKind::Final)?);
            hidden.extend(group.into_iter().map(|entry| Hidden { entry, rest: None }));
        }
    }
    for cluster in clusters(timed) {
        let pieces = pieces(datasource, &cluster)?;
        if is_compact(&cluster, &pieces) {
            continue;
        }
        for piece in pieces {
            interrupts::check();
            let sources: Vec<SegmentEntry> = cluster.iter().filter(|e| has_rows(e, &piece.within)).cloned().collect();
            new.push(merge_segments(datasource, &sources, piece.within, SegmentKind::Final)?);
        }
        hidden.extend(cluster.into_iter().map(|entry| Hidden { entry, rest: None }));
    }
    Ok(())
}

/// Merges segments into a derived one, whose bytes are not stored but rebuilt from them when a cache lacks it; in this
/// transaction. The caller has called [`rewrite::begin`] before it read `sources`. Returns the new segment's id.
pub fn derive(datasource: &Arc<Datasource>, sources: Vec<SegmentEntry>) -> Result<[u8; 16]> {
    let parts = sources.iter().map(|e| (e.id, e.visibility.clone())).collect();
    let mut new = merge_segments(datasource, &sources, TimeInterval::ALL, SegmentKind::Derived)?;
    new.parts = Some((Recipe::of(datasource), parts));
    let id = new.built.id;
    let hidden: Vec<Hidden> = sources.into_iter().map(|entry| Hidden { entry, rest: None }).collect();
    rewrite::commit(datasource, &hidden, &[new], Reason::Derive)?;
    Ok(id)
}

/// Merges what is visible of `sources` in `within` into one segment, not published yet. It takes over their provenance.
pub fn merge_segments(
    datasource: &Arc<Datasource>,
    sources: &[SegmentEntry],
    within: TimeInterval,
    kind: SegmentKind,
) -> Result<New> {
    let mut inputs = Vec::with_capacity(sources.len());
    for entry in sources {
        let visibility = match entry.statistics.time {
            Some(_) => entry.visibility.intersection(&within),
            None => TimeRanges::all(),
        };
        inputs.push(MergeSource { segment: cache::open(entry)?, visibility, deleted: entry.deleted.clone() });
    }
    let options = build_options()?;
    let cancel = options.cancel.clone();
    let mut file = NewFile::create(&cache::directory()?)?;
    let out = &mut file;
    let output =
        thread::run(&cancel, || merge_filling(datasource.schema.clone(), &inputs, &datasource.missing, options, out))?;
    let built = Built { id: random_uuid(), file: file.finish()?, statistics: output.statistics };
    let inherits = sources.iter().map(|e| e.id).collect();
    Ok(New { built, kind, sources: Vec::new(), inherits, parts: None })
}

/// Divides segments, in order, into groups of at most `limit` rows (or of one segment).
fn by_rows(entries: Vec<SegmentEntry>, limit: u64) -> Vec<Vec<SegmentEntry>> {
    let mut groups: Vec<(u64, Vec<SegmentEntry>)> = Vec::new();
    for entry in entries {
        match groups.last_mut() {
            Some((rows, group)) if *rows + entry.rows <= limit => {
                *rows += entry.rows;
                group.push(entry);
            }
            _ => groups.push((entry.rows, vec![entry])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// Earliest and latest time that is visible of a segment; `None`: nothing is.
fn visible_span(entry: &SegmentEntry) -> Option<(i64, i64)> {
    let (min, max) = entry.statistics.time?;
    let first = entry.visibility.intervals().first()?;
    let last = entry.visibility.intervals().last()?;
    let end = if last.end == i64::MAX { i64::MAX } else { last.end - 1 };
    Some((min.max(first.start), max.min(end)))
}

fn has_rows(entry: &SegmentEntry, within: &TimeInterval) -> bool {
    visible_span(entry).is_some_and(|(min, max)| {
        let start = min.max(within.start);
        start <= max && within.contains(start)
    })
}

/// Divides segments into groups whose spans of time do not overlap, so that what is compact already can stay. Touching
/// groups of little are joined later, as pieces.
fn clusters(mut entries: Vec<SegmentEntry>) -> Vec<Vec<SegmentEntry>> {
    entries.sort_by_key(|e| (visible_span(e), e.id));
    let mut clusters: Vec<(i64, u64, Vec<SegmentEntry>)> = Vec::new();
    for entry in entries {
        let (min, max) = visible_span(&entry).unwrap_or((i64::MIN, i64::MIN));
        match clusters.last_mut() {
            Some((end, rows, cluster)) if min <= *end || *rows + entry.rows <= FEW_ROWS => {
                *end = (*end).max(max);
                *rows += entry.rows;
                cluster.push(entry);
            }
            _ => clusters.push((max, entry.rows, vec![entry])),
        }
    }
    clusters.into_iter().map(|(_, _, cluster)| cluster).collect()
}

/// A single final segment that is all visible and lies in the one piece it would become.
fn is_compact(cluster: &[SegmentEntry], pieces: &[Piece]) -> bool {
    match (cluster, pieces) {
        ([only], [piece]) => only.kind == SegmentKind::Final && only.deleted.is_none() && piece.rows == only.rows,
        _ => false,
    }
}

/// Stretches of time that become segments: whole intervals of the table's granularity, several small ones together, one
/// with too many rows divided between two times.
fn pieces(datasource: &Datasource, cluster: &[SegmentEntry]) -> Result<Vec<Piece>> {
    let limit = datasource.options.max_segment_rows;
    let granularity = datasource.options.segment_granularity;
    let mut pieces: Vec<Piece> = Vec::new();
    let times = times(datasource, cluster)?;
    let mut interval = TimeInterval::new(0, 0);
    // Whether the last piece ends inside an interval: then another interval may not join it.
    let mut closed = true;
    for (time, count) in times {
        if !interval.contains(time) || interval.is_empty() {
            interval = granularity.interval(time);
            let small = pieces.last().is_some_and(|p| !closed && p.rows < FEW_ROWS);
            if small && let Some(last) = pieces.last_mut() {
                last.within.end = interval.end;
            } else {
                pieces.push(Piece { within: interval, rows: 0 });
                closed = false;
            }
        }
        if let Some(last) = pieces.last_mut() {
            if last.rows > 0 && last.rows + count > limit {
                last.within.end = time;
                closed = true;
                pieces.push(Piece { within: TimeInterval::new(time, interval.end), rows: count });
            } else {
                last.rows += count;
            }
        }
    }
    Ok(pieces)
}

/// How many visible rows there are of each time, or of each interval where that is fine enough.
fn times(datasource: &Datasource, cluster: &[SegmentEntry]) -> Result<BTreeMap<i64, u64>> {
    let granularity = datasource.options.segment_granularity;
    let total: u64 = cluster.iter().map(|e| e.rows).sum();
    // Cut points inside an interval matter only when there may be too many rows for one segment.
    let exact = total > datasource.options.max_segment_rows;
    let mut counts = BTreeMap::new();
    for entry in cluster {
        interrupts::check();
        let Some((min, max)) = visible_span(entry) else { continue };
        if !exact
            && entry.deleted.is_none()
            && granularity.interval(min).contains(max)
            && entry.visibility.covers(min, max)
            && entry.statistics.time == Some((min, max))
        {
            *counts.entry(granularity.interval(min).start.max(min)).or_insert(0) += entry.rows;
            continue;
        }
        let segment = cache::open(entry)?;
        count_times(datasource, entry, &segment, |time| {
            let key = if exact { time } else { granularity.interval(time).start };
            *counts.entry(key.max(min)).or_insert(0) += 1;
        })?;
    }
    Ok(counts)
}

fn count_times(
    datasource: &Datasource,
    entry: &SegmentEntry,
    segment: &Segment,
    mut count: impl FnMut(i64),
) -> Result<()> {
    let Some(position) = datasource.schema.time else { return Ok(()) };
    let column = &datasource.schema.columns[position];
    let Some(reader) = segment.column(column.id) else { return Ok(()) };
    let mut values = Vec::new();
    let mut row = 0u32;
    for block in 0..segment.blocks() {
        interrupts::check();
        reader.decode_i64(block, &mut values)?;
        for value in &values {
            let time = column.ty.to_micros(*value);
            let deleted = entry.deleted.as_ref().is_some_and(|d| d.contains(row));
            if !deleted && entry.visibility.contains(time) {
                count(time);
            }
            row += 1;
        }
    }
    Ok(())
}
