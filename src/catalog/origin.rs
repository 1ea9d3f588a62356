//! Where a datasource's segments come from, and since when their rows are there: what decides which of them may be merged.

use std::collections::HashMap;

use pgrx::pg_sys;

use crate::pg::spi::{self, Statement};

/// Segments of different origins are never merged: a rewind retires segments whole and could not bring the others' rows
/// back.
pub type Origin = Vec<[u8; 16]>;

#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Sources (see `basalt.ingestion`) of its rows, ascending; none for rows that were inserted.
    pub origin: Origin,
    /// When its oldest rows were published, in microseconds since 2000-01-01 UTC.
    pub created: i64,
}

static FACTS: Statement = Statement {
    sql: "SELECT s.id, s.created_at, o.ingestion FROM basalt.segment s \
          LEFT JOIN (SELECT DISTINCT segment, ingestion FROM basalt.segment_source) o ON o.segment = s.id \
          WHERE s.datasource = $1 AND s.used ORDER BY s.id, o.ingestion",
    types: &[pg_sys::UUIDOID],
};

static COUNTS: Statement = Statement {
    sql: "SELECT d.id, d.relation, (SELECT pg_catalog.count(*) FROM basalt.segment s WHERE s.datasource = d.id AND s.used \
           AND s.kind <> 'final') \
          FROM basalt.datasource d ORDER BY d.id",
    types: &[],
};

static AGE: Statement = Statement {
    sql: "UPDATE basalt.segment SET created_at = (SELECT pg_catalog.min(s.created_at) FROM basalt.segment_part p \
          JOIN basalt.segment s ON s.id = p.source WHERE p.derived = $1) WHERE id = $1",
    types: &[pg_sys::UUIDOID],
};

/// Of every used segment of a datasource.
pub fn facts(datasource: &[u8; 16]) -> HashMap<[u8; 16], Facts> {
    FACTS.run(&[spi::uuid(datasource)], |rows| {
        let mut facts: HashMap<[u8; 16], Facts> = HashMap::new();
        for row in 0..rows.len() {
            if let Some(id) = rows.uuid(row, 0) {
                let found = facts.entry(id).or_default();
                found.created = rows.i64(row, 1).unwrap_or(0);
                found.origin.extend(rows.uuid(row, 2));
            }
        }
        facts
    })
}

/// Every datasource: its id, its table, and how many used segments it has that are not final.
pub fn datasources() -> Vec<([u8; 16], pg_sys::Oid, i64)> {
    COUNTS.run(&[], |rows| {
        (0..rows.len()).filter_map(|row| Some((rows.uuid(row, 0)?, rows.oid(row, 1)?, rows.i64(row, 2)?))).collect()
    })
}

/// A derived segment's rows are as old as those of its oldest source.
pub fn inherit_age(derived: &[u8; 16]) {
    AGE.execute(&[spi::uuid(derived)]);
}
