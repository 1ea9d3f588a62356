//! The end of segments.

use pgrx::pg_sys;

use super::pending;
use crate::pg::spi::{self, Statement};

const BY_DATASOURCE: &[pg_sys::Oid] = &[pg_sys::UUIDOID];
const BY_SEGMENTS: &[pg_sys::Oid] = &[pg_sys::UUIDARRAYOID];

static DELETE_ALL: [Statement; 7] = [
    Statement {
        sql: "DELETE FROM basalt.segment_data d USING basalt.segment s WHERE s.datasource = $1 AND d.segment = s.id",
        types: BY_DATASOURCE,
    },
    Statement {
        sql: "DELETE FROM basalt.segment_part p USING basalt.segment s WHERE s.datasource = $1 AND p.derived = s.id",
        types: BY_DATASOURCE,
    },
    Statement {
        sql: "DELETE FROM basalt.segment_source o USING basalt.segment s WHERE s.datasource = $1 AND o.segment = s.id",
        types: BY_DATASOURCE,
    },
    Statement {
        sql: "DELETE FROM basalt.segment_clip c USING basalt.segment s WHERE s.datasource = $1 AND c.segment = s.id",
        types: BY_DATASOURCE,
    },
    Statement { sql: "DELETE FROM basalt.segment_deletion WHERE datasource = $1", types: BY_DATASOURCE },
    Statement { sql: "DELETE FROM basalt.datasource_version WHERE datasource = $1", types: BY_DATASOURCE },
    Statement { sql: "DELETE FROM basalt.segment WHERE datasource = $1", types: BY_DATASOURCE },
];

static DELETE: [Statement; 5] = [
    Statement { sql: "DELETE FROM basalt.segment_data WHERE segment = ANY ($1)", types: BY_SEGMENTS },
    Statement { sql: "DELETE FROM basalt.segment_source WHERE segment = ANY ($1)", types: BY_SEGMENTS },
    Statement { sql: "DELETE FROM basalt.segment_deletion WHERE segment = ANY ($1)", types: BY_SEGMENTS },
    Statement { sql: "DELETE FROM basalt.segment_clip WHERE segment = ANY ($1)", types: BY_SEGMENTS },
    Statement { sql: "DELETE FROM basalt.segment WHERE id = ANY ($1)", types: BY_SEGMENTS },
];

/// Takes the parts of derived segments away; returns the sources that no other segment is made of now.
static RELEASE: Statement = Statement {
    sql: "WITH gone AS (DELETE FROM basalt.segment_part WHERE derived = ANY ($1) RETURNING source) \
          SELECT DISTINCT g.source FROM gone g JOIN basalt.segment s ON s.id = g.source \
          WHERE NOT s.used AND NOT EXISTS ( \
              SELECT FROM basalt.segment_part p WHERE p.source = g.source AND p.derived <> ALL ($1))",
    types: BY_SEGMENTS,
};

/// Removes every segment of a datasource, used or not, in this transaction. The caller holds a lock on the table that
/// excludes writers; a snapshot older than some segment doesn't keep it. Cache files are the sweeper's.
pub fn delete_all(datasource: &[u8; 16]) {
    pending::forget(datasource);
    for statement in &DELETE_ALL {
        statement.execute_latest(&[spi::uuid(datasource)]);
    }
}

/// Removes segments, and the sources that only they were derived from.
pub fn delete(segments: &[[u8; 16]]) {
    let mut segments = segments.to_vec();
    while !segments.is_empty() {
        let released = RELEASE.run(&[spi::uuid_array(&segments)], |rows| {
            (0..rows.len()).filter_map(|row| rows.uuid(row, 0)).collect::<Vec<_>>()
        });
        for statement in &DELETE {
            statement.execute(&[spi::uuid_array(&segments)]);
        }
        for id in &segments {
            super::cache::forget(id);
        }
        segments = released;
    }
}
