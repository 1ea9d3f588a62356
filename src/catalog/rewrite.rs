//! One commit of changed segments: some hidden, whole or in part, and new ones in their place, under a new version.
//!
//! The caller holds the datasource's maintenance lock from before it read the segments that it hides, so that neither a
//! replace nor a merge changes them meanwhile; appends go on and stay visible.

use basalt_engine::TimeRanges;
use pgrx::{PgSqlErrorCode, pg_sys};

use super::datasource::Datasource;
use super::derived::Recipe;
use super::publish::{self, Built, SegmentSource};
use super::segment::{SegmentEntry, SegmentKind};
use super::{retire, tables};
use crate::error::{Error, Result};
use crate::pg::lock::{self, Mode};
use crate::pg::multirange;
use crate::pg::spi::{self, Statement};

/// Why segments change; the name is that of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Other rows take the place of the hidden ones, which stay restorable for the retention period.
    Replace,
    /// The same rows in other segments: the hidden ones go.
    Compact,
    Handoff,
    /// The same rows in a segment that is rebuilt from the hidden ones when needed: they stay.
    Derive,
}

/// A segment that was seen, and what stays visible of it; `None`: nothing.
pub struct Hidden {
    pub entry: SegmentEntry,
    pub rest: Option<TimeRanges>,
}

/// A segment to be added.
pub struct New {
    pub built: Built,
    pub kind: SegmentKind,
    pub sources: Vec<SegmentSource>,
    /// Segments whose provenance it takes over.
    pub inherits: Vec<[u8; 16]>,
    /// Of a derived one: how it is merged, and sources with their visibility in the order of the merge.
    pub parts: Option<(Recipe, Vec<Part>)>,
}

/// A source of a derived segment, and its visibility.
pub type Part = ([u8; 16], TimeRanges);

static NEXT_VERSION: Statement = Statement {
    sql: "UPDATE basalt.datasource SET current_version = current_version + 1 WHERE id = $1 RETURNING current_version",
    types: &[pg_sys::UUIDOID],
};
static RETIRE: Statement = Statement {
    sql: "UPDATE basalt.segment SET used = false, retired_at = pg_catalog.clock_timestamp(), retired_version = $3 \
          WHERE id = $1 AND used AND visibility = $2",
    types: &[pg_sys::UUIDOID, pg_sys::TSTZMULTIRANGEOID, pg_sys::INT8OID],
};
static CLIP: Statement = Statement {
    sql: "UPDATE basalt.segment SET visibility = $3, version = $4 WHERE id = $1 AND used AND visibility = $2",
    types: &[pg_sys::UUIDOID, pg_sys::TSTZMULTIRANGEOID, pg_sys::TSTZMULTIRANGEOID, pg_sys::INT8OID],
};
static REMEMBER_CLIP: Statement = Statement {
    sql: "INSERT INTO basalt.segment_clip (segment, version, visibility) VALUES ($1, $2, $3)",
    types: &[pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::TSTZMULTIRANGEOID],
};
static CARRY: Statement = Statement {
    sql: "UPDATE basalt.segment SET version = $2 WHERE datasource = $1 AND used AND version < $2 AND id <> ALL ($3)",
    types: &[pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::UUIDARRAYOID],
};
static CREATED: Statement = Statement {
    sql: "UPDATE basalt.segment SET created_version = $2 WHERE id = $1",
    types: &[pg_sys::UUIDOID, pg_sys::INT8OID],
};
// Ranges that touch become one.
static INHERIT: Statement = Statement {
    sql: "INSERT INTO basalt.segment_source (segment, ingestion, topic, partition, first_offset, next_offset) \
          SELECT $1::uuid, ingestion, topic, partition, pg_catalog.lower(r), pg_catalog.upper(r) FROM ( \
              SELECT ingestion, topic, partition, \
                     pg_catalog.unnest(pg_catalog.range_agg(pg_catalog.int8range(first_offset, next_offset))) AS r \
              FROM basalt.segment_source WHERE segment = ANY ($2) GROUP BY ingestion, topic, partition) AS ranges",
    types: &[pg_sys::UUIDOID, pg_sys::UUIDARRAYOID],
};
static INSERT_PART: Statement = Statement {
    sql: "INSERT INTO basalt.segment_part (derived, ordinal, source, visibility) VALUES ($1, $2, $3, $4)",
    types: &[pg_sys::UUIDOID, pg_sys::INT4OID, pg_sys::UUIDOID, pg_sys::TSTZMULTIRANGEOID],
};
static REMEMBER: Statement = Statement {
    sql: "INSERT INTO basalt.datasource_version (datasource, version, reason, created, retired, clipped) \
          VALUES ($1, $2, $3, $4, $5, $6)",
    types: &[pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::TEXTOID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID],
};
static JOB: Statement = Statement {
    sql: "INSERT INTO basalt.job (id, datasource, kind, state, started_at, finished_at, version, segments_in, \
          segments_out, rows) VALUES ($1, $2, $3, 'done', pg_catalog.statement_timestamp(), \
          pg_catalog.clock_timestamp(), $4, $5, $6, $7)",
    types: &[
        pg_sys::UUIDOID,
        pg_sys::UUIDOID,
        pg_sys::TEXTOID,
        pg_sys::INT8OID,
        pg_sys::INT8OID,
        pg_sys::INT8OID,
        pg_sys::INT8OID,
    ],
};

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Reason::Replace => "replace",
            Reason::Compact => "compact",
            Reason::Handoff => "handoff",
            Reason::Derive => "derive",
        }
    }
}

/// Waits until no replace or merge of the datasource is under way, and holds others off to the end of the transaction.
/// Read the segments to be hidden afterwards.
pub fn begin(datasource: &[u8; 16]) {
    lock::acquire(tables::datasource_class(), datasource, Mode::Maintenance);
}

/// As [`begin`], but false instead of waiting.
pub fn try_begin(datasource: &[u8; 16]) -> bool {
    lock::try_acquire(tables::datasource_class(), datasource, Mode::Maintenance)
}

/// Hides and adds; returns the new version. Waits for transactions that have appended. Errors: `SerializationFailure` if
/// a segment is no longer what the caller saw (under repeatable read, where locks come later than the snapshot).
pub fn commit(datasource: &Datasource, hidden: &[Hidden], new: &[New], reason: Reason) -> Result<i64> {
    lock::acquire(tables::datasource_class(), &datasource.id, Mode::Commit);
    publish::current_version(datasource)?;
    let version = next_version(&datasource.id)?;
    let clipped = hide(hidden, version, reason)?;
    for segment in new {
        add(datasource, segment, version, reason)?;
    }
    if matches!(reason, Reason::Compact | Reason::Handoff) {
        let whole: Vec<[u8; 16]> = hidden.iter().filter(|h| h.rest.is_none()).map(|h| h.entry.id).collect();
        retire::delete(&whole);
    }
    if reason == Reason::Replace {
        let retired = (hidden.len() as i64) - clipped;
        REMEMBER.execute(&[
            spi::uuid(&datasource.id),
            int8(version),
            spi::text(reason.name()),
            int8(new.len() as i64),
            int8(retired),
            int8(clipped),
        ]);
    }
    if reason != Reason::Derive {
        let rows: u64 = new.iter().map(|n| n.built.statistics.rows).sum();
        note_job(&datasource.id, reason.name(), version, hidden.len(), new.len(), rows);
    }
    Ok(version)
}

/// Gives what others have appended since the rewrite's snapshot (all but `seen`) the new version.
pub fn carry_over(datasource: &[u8; 16], version: i64, seen: &[[u8; 16]]) {
    CARRY.execute(&[spi::uuid(datasource), int8(version), spi::uuid_array(seen)]);
}

pub fn note_job(datasource: &[u8; 16], kind: &str, version: i64, segments_in: usize, segments_out: usize, rows: u64) {
    JOB.execute(&[
        spi::uuid(&crate::pg::random_uuid()),
        spi::uuid(datasource),
        spi::text(kind),
        int8(version),
        int8(segments_in as i64),
        int8(segments_out as i64),
        int8(rows as i64),
    ]);
}

pub fn next_version(datasource: &[u8; 16]) -> Result<i64> {
    NEXT_VERSION
        .run(&[spi::uuid(datasource)], |rows| rows.i64(0, 0))
        .ok_or_else(|| basalt_engine::Error::invalid("the datasource has no row in the catalog").into())
}

/// How many segments stay in part.
fn hide(hidden: &[Hidden], version: i64, reason: Reason) -> Result<i64> {
    let mut clipped = 0;
    for Hidden { entry, rest } in hidden {
        let seen = Some(multirange::from_ranges(&entry.visibility));
        let changed = match rest {
            None => RETIRE.execute(&[spi::uuid(&entry.id), seen, int8(version)]),
            Some(rest) => {
                clipped += 1;
                if reason == Reason::Replace {
                    REMEMBER_CLIP.execute(&[spi::uuid(&entry.id), int8(version), seen]);
                }
                let rest = Some(multirange::from_ranges(rest));
                CLIP.execute(&[spi::uuid(&entry.id), seen, rest, int8(version)])
            }
        };
        if changed != 1 {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
                "could not serialize access due to a concurrent change of the datasource's segments",
            )
            .hint("The transaction can be retried."));
        }
    }
    Ok(clipped)
}

fn add(datasource: &Datasource, new: &New, version: i64, reason: Reason) -> Result<()> {
    let recipe = new.parts.as_ref().map(|(recipe, _)| recipe);
    publish::insert(datasource, &new.built, version, new.kind, &new.sources, recipe)?;
    if reason == Reason::Replace {
        CREATED.execute(&[spi::uuid(&new.built.id), int8(version)]);
    }
    if !new.inherits.is_empty() {
        INHERIT.execute(&[spi::uuid(&new.built.id), spi::uuid_array(&new.inherits)]);
    }
    for (ordinal, (source, visibility)) in new.parts.iter().flat_map(|(_, parts)| parts).enumerate() {
        INSERT_PART.execute(&[
            spi::uuid(&new.built.id),
            Some(pg_sys::Datum::from(ordinal as i32)),
            spi::uuid(source),
            Some(multirange::from_ranges(visibility)),
        ]);
    }
    Ok(())
}

pub fn int8(value: i64) -> spi::Argument {
    Some(pg_sys::Datum::from(value))
}
