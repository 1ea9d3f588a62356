//! The end of segments.

use pgrx::pg_sys;

use super::pending;
use crate::pg::spi::{self, Statement};

const BY_DATASOURCE: &[pg_sys::Oid] = &[pg_sys::UUIDOID];

static DELETE: [Statement; 5] = [
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
    Statement { sql: "DELETE FROM basalt.segment_deletion WHERE datasource = $1", types: BY_DATASOURCE },
    Statement { sql: "DELETE FROM basalt.segment WHERE datasource = $1", types: BY_DATASOURCE },
];

/// Removes every segment of a datasource, used or not, in this transaction. The caller holds a lock on the table that
/// excludes writers. Cache files are the sweeper's.
pub fn delete_all(datasource: &[u8; 16]) {
    pending::forget(datasource);
    for statement in &DELETE {
        statement.execute(&[spi::uuid(datasource)]);
    }
}
