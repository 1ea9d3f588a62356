//! Merging of small segments before hand-off, and the hand-off of closed intervals: one step a transaction.

use std::collections::HashMap;
use std::sync::Arc;

use basalt_background::handoff::{Candidate as Closed, HandoffPolicy};
use basalt_background::merge_policy::{Candidate, MergePolicy};
use basalt_engine::{TimeInterval, TimeRanges};
use pgrx::pg_sys;

use super::compact::{derive, merge_segments};
use super::datasource::{self, Datasource};
use super::origin::{self, Facts, Origin};
use super::pending;
use super::rewrite::{self, Hidden, New, Reason};
use super::segment::{self, SegmentEntry, SegmentKind};
use crate::error::Result;
use crate::pg::relation::{self, Level};
use crate::pg::session;
use crate::pg::snapshot::Registered;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is due.
    Nothing,
    /// Another session replaces or merges: later.
    Busy,
    Merged {
        segments: usize,
        rows: u64,
    },
    HandedOff {
        segments: usize,
        rows: u64,
    },
}

/// Segments of a datasource that may be merged, with what is known of them.
struct Mergeable {
    entries: Vec<SegmentEntry>,
    facts: HashMap<[u8; 16], Facts>,
}

/// Hands off what is due or, if nothing is, merges what has become many. In this transaction, under the maintenance lock if it is
/// free (`wait`: waits for it).
pub fn step(relation: pg_sys::Oid, policy: &HandoffPolicy, merges: Option<&MergePolicy>, wait: bool) -> Result<Step> {
    relation::lock(relation, Level::Write);
    if !datasource::is_datasource(relation) {
        return Ok(Step::Nothing);
    }
    let opened = datasource::open(relation)?;
    pending::flush(&opened.id)?;
    if wait {
        rewrite::begin(&opened.id);
    } else if !rewrite::try_begin(&opened.id) {
        return Ok(Step::Busy);
    }
    // The snapshot is to see what was flushed.
    session::next_command();
    let snapshot = Registered::transaction();
    let made = snapshot.active(|| -> Result<Step> {
        let found = mergeable(&opened);
        match hand_off(&opened, &found, policy)? {
            Step::Nothing => match merges {
                Some(merges) => merge(&opened, found, merges),
                None => Ok(Step::Nothing),
            },
            done => Ok(done),
        }
    });
    drop(snapshot);
    made
}

fn mergeable(datasource: &Datasource) -> Mergeable {
    let facts = origin::facts(&datasource.id);
    let mut entries = segment::visible(&datasource.id, None);
    entries.retain(|e| e.kind != SegmentKind::Final && facts.contains_key(&e.id));
    entries.sort_by_key(|e| (facts[&e.id].created, e.id));
    Mergeable { entries, facts }
}

impl Mergeable {
    fn by_origin(&self) -> Vec<(Origin, Vec<&SegmentEntry>)> {
        let mut groups: HashMap<&Origin, Vec<&SegmentEntry>> = HashMap::new();
        for entry in &self.entries {
            groups.entry(&self.facts[&entry.id].origin).or_default().push(entry);
        }
        let mut groups: Vec<_> = groups.into_iter().map(|(origin, entries)| (origin.clone(), entries)).collect();
        groups.sort_by(|a, b| a.0.cmp(&b.0));
        groups
    }
}

/// One final segment of the first origin that has something to hand off.
fn hand_off(datasource: &Arc<Datasource>, found: &Mergeable, policy: &HandoffPolicy) -> Result<Step> {
    let now = session::clock();
    let granularity = datasource.options.segment_granularity;
    let policy = HandoffPolicy { target_rows: datasource.options.max_segment_rows, ..*policy };
    for (_, entries) in found.by_origin() {
        let candidates: Vec<Closed<usize>> = entries
            .iter()
            .enumerate()
            .map(|(id, entry)| Closed {
                id,
                rows: entry.rows,
                time: entry.statistics.time,
                visibility: entry.visibility.clone(),
                created: found.facts[&entry.id].created,
            })
            .collect();
        let Some(due) = policy.choose(&candidates, now, |time| granularity.interval(time)) else { continue };
        let Some(piece) = due.finals().next() else { continue };
        let sources: Vec<SegmentEntry> = piece.sources.iter().map(|i| entries[*i].clone()).collect();
        let new = merge_segments(datasource, &sources, piece.window, SegmentKind::Final)?;
        let rows = new.built.statistics.rows;
        let segments = sources.len();
        let hidden = sources.into_iter().map(|entry| without(entry, &piece.window)).collect::<Vec<_>>();
        let new: Vec<New> = if rows > 0 { vec![new] } else { Vec::new() };
        rewrite::commit(datasource, &hidden, &new, Reason::Handoff)?;
        return Ok(Step::HandedOff { segments, rows });
    }
    Ok(Step::Nothing)
}

/// A source once the rows of `window` have left it.
fn without(entry: SegmentEntry, window: &TimeInterval) -> Hidden {
    let rest = entry.visibility.subtract(window);
    let left = entry.statistics.time.is_some_and(|(min, max)| {
        // The last instant has no successor.
        let own = TimeInterval::new(min, max.saturating_add(1));
        !rest.intersection(&own).is_empty()
    });
    Hidden { entry, rest: left.then_some(rest) }
}

fn merge(datasource: &Arc<Datasource>, found: Mergeable, policy: &MergePolicy) -> Result<Step> {
    let candidates: Vec<Candidate<usize, (Origin, bool)>> = found
        .entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| is_whole(entry))
        .map(|(id, entry)| {
            let facts = &found.facts[&entry.id];
            let group = (facts.origin.clone(), entry.statistics.time.is_none());
            Candidate { id, group, rows: entry.rows, order: facts.created }
        })
        .collect();
    let policy = MergePolicy { max_rows: datasource.options.max_segment_rows, ..*policy };
    let Some(chosen) = policy.choose(&candidates).into_iter().next() else { return Ok(Step::Nothing) };
    let sources: Vec<SegmentEntry> = chosen.iter().map(|i| found.entries[*i].clone()).collect();
    let (segments, rows) = (sources.len(), sources.iter().map(|e| e.rows).sum());
    let made = derive(datasource, sources)?;
    origin::inherit_age(&made);
    Ok(Step::Merged { segments, rows })
}

/// Whether all its rows are visible and none is deleted.
fn is_whole(entry: &SegmentEntry) -> bool {
    let seen = |ranges: &TimeRanges, (min, max)| ranges.covers(min, max);
    entry.deleted.is_none() && entry.statistics.time.is_none_or(|span| seen(&entry.visibility, span))
}
