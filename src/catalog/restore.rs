//! Taking replaces back while the rows they hid are kept.

use pgrx::{PgSqlErrorCode, pg_sys};

use super::rewrite::{self, int8};
use super::{datasource, lock_commit};
use crate::error::{Error, Result};
use crate::pg::relation::{self, Level};
use crate::pg::spi::{self, Statement};

const BY_VERSION: &[pg_sys::Oid] = &[pg_sys::UUIDOID, pg_sys::INT8OID];

/// Replaces after a version, newest first, with what they did and how much of that is still there.
static LATER: Statement = Statement {
    sql: "SELECT v.version, v.created, v.retired, v.clipped, \
              (SELECT count(*) FROM basalt.segment s WHERE s.datasource = $1 AND s.created_version = v.version AND \
                  (s.used OR s.retired_version > v.version)), \
              (SELECT count(*) FROM basalt.segment s WHERE s.datasource = $1 AND s.retired_version = v.version), \
              (SELECT count(*) FROM basalt.segment_clip c JOIN basalt.segment s ON s.id = c.segment \
                  WHERE s.datasource = $1 AND c.version = v.version) \
          FROM basalt.datasource_version v WHERE v.datasource = $1 AND v.version > $2 ORDER BY v.version DESC",
    types: BY_VERSION,
};
static UNCLIP: Statement = Statement {
    sql: "UPDATE basalt.segment s SET visibility = c.visibility FROM basalt.segment_clip c \
          WHERE c.segment = s.id AND s.datasource = $1 AND c.version = $2",
    types: BY_VERSION,
};
static REMOVE_CLIP: Statement = Statement {
    sql: "DELETE FROM basalt.segment_clip c USING basalt.segment s \
          WHERE c.segment = s.id AND s.datasource = $1 AND c.version = $2",
    types: BY_VERSION,
};
static UNRETIRE: Statement = Statement {
    sql: "UPDATE basalt.segment SET used = true, retired_at = NULL, retired_version = NULL \
          WHERE datasource = $1 AND retired_version = $2",
    types: BY_VERSION,
};
static CREATED: Statement = Statement {
    sql: "SELECT id FROM basalt.segment WHERE datasource = $1 AND created_version = $2",
    types: BY_VERSION,
};
static FORGET: Statement = Statement {
    sql: "DELETE FROM basalt.datasource_version WHERE datasource = $1 AND version = $2",
    types: BY_VERSION,
};

/// Undoes every replace after `version`, newest first; rows appended since stay. Returns the new version. Errors: the
/// hidden segments are past their retention, or a compaction has merged rows that would have to go.
pub fn restore(relation: pg_sys::Oid, version: i64) -> Result<i64> {
    relation::lock(relation, Level::Write);
    let opened = datasource::open(relation)?;
    super::pending::flush(&opened.id)?;
    rewrite::begin(&opened.id);
    lock_commit(&opened.id);
    let arguments = [spi::uuid(&opened.id), int8(version)];
    let later = LATER.run(&arguments, |rows| {
        (0..rows.len())
            .map(|row| {
                let number = |column| rows.i64(row, column).unwrap_or(0);
                (number(0), (number(1), number(2), number(3)), (number(4), number(5), number(6)))
            })
            .collect::<Vec<_>>()
    });
    if later.is_empty() {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("nothing was replaced after version {version}"),
        )
        .hint("basalt.segments shows the versions that segments belong to."));
    }
    if let Some((version, ..)) = later.iter().find(|(_, then, now)| then != now) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("the replace of version {version} cannot be undone any more"),
        )
        .detail(
            "Segments that it hid are past basalt.segment_retention, or a compaction has merged rows that it wrote.",
        ));
    }
    let replaces = later.len();
    for (undone, ..) in later {
        let arguments = [spi::uuid(&opened.id), int8(undone)];
        let created: Vec<[u8; 16]> =
            CREATED.run(&arguments, |rows| (0..rows.len()).filter_map(|row| rows.uuid(row, 0)).collect());
        super::retire::delete(&created);
        UNCLIP.execute(&arguments);
        REMOVE_CLIP.execute(&arguments);
        UNRETIRE.execute(&arguments);
        FORGET.execute(&arguments);
    }
    let version = rewrite::next_version(&opened.id)?;
    rewrite::note_job(&opened.id, "restore", version, replaces, 0, 0);
    Ok(version)
}
