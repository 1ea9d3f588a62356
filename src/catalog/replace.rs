//! Replacing the rows of a time range by those of a query, atomically.

use std::sync::Arc;

use basalt_engine::TimeInterval;
use pgrx::{PgSqlErrorCode, pg_sys};

use super::collect::Collecting;
use super::datasource::{self, Datasource};
use super::pending;
use super::rewrite::{self, Hidden, New, Reason};
use super::segment::{self, SegmentEntry, SegmentKind};
use crate::error::{Error, Result};
use crate::pg::relation::{self, Level};
use crate::pg::snapshot::Registered;
use crate::pg::{ddl, session, spi};

/// Rows written. `within` is [`TimeInterval::ALL`] for every row, the ones without a time included. The query runs with
/// the caller's privileges.
pub fn replace(relation: pg_sys::Oid, within: TimeInterval, query: &str) -> Result<u64> {
    relation::lock(relation, Level::Write);
    let opened = datasource::open(relation)?;
    check_range(&opened, &within)?;
    pending::flush(&opened.id)?;
    rewrite::begin(&opened.id);
    // The snapshot is to see what was flushed.
    session::next_command();

    // One snapshot for both: the query reads exactly the segments that are hidden.
    let snapshot = Registered::transaction();
    let seen = snapshot.active(|| segment::visible(&opened.id, None));
    let collecting = Collecting::new(&opened, within)?;
    let insert = format!("INSERT INTO {} {query}", ddl::qualified_name(relation));
    spi::execute_under(&insert, &snapshot)?;
    let built = collecting.finish()?;
    drop(snapshot);

    let seen_ids: Vec<[u8; 16]> = seen.iter().map(|entry| entry.id).collect();
    let hidden: Vec<Hidden> = seen.into_iter().filter_map(|entry| overlapped(entry, &within)).collect();
    let rows = built.iter().map(|b| b.statistics.rows).sum();
    let new: Vec<New> = built
        .into_iter()
        .map(|built| New { built, kind: SegmentKind::Fresh, sources: Vec::new(), inherits: Vec::new(), parts: None })
        .collect();
    let version = rewrite::commit(&opened, &hidden, &new, Reason::Replace)?;
    rewrite::carry_over(&opened.id, version, &seen_ids);
    Ok(rows)
}

fn check_range(datasource: &Arc<Datasource>, within: &TimeInterval) -> Result<()> {
    if *within == TimeInterval::ALL {
        return Ok(());
    }
    if datasource.schema.time.is_none() {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("datasource \"{}\" has no time column", datasource::name(datasource.relation)),
        )
        .hint("Give NULL for start and end to replace all of its rows."));
    }
    if within.is_empty() {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "the end of the range must be after its start",
        ));
    }
    Ok(())
}

/// What is hidden of a segment; `None`: nothing, it lies outside.
fn overlapped(entry: SegmentEntry, within: &TimeInterval) -> Option<Hidden> {
    if *within == TimeInterval::ALL {
        return Some(Hidden { entry, rest: None });
    }
    entry.statistics.time?;
    let rest = entry.visibility.subtract(within);
    if rest == entry.visibility {
        return None;
    }
    let rest = (!rest.is_empty()).then_some(rest);
    Some(Hidden { entry, rest })
}
