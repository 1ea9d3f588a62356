//! Segments whose bytes are not stored, but merged from their sources again.

use basalt_engine::segment::{MergeSource, merge};
use basalt_engine::types::Schema;
use pgrx::pg_sys;

use super::cache::{self, NewFile};
use super::publish::build_options;
use super::segment::{self, SegmentEntry};
use crate::error::{Error, Result};
use crate::pg::spi::{self, Statement};
use crate::pg::{multirange, thread};

static SCHEMA: Statement =
    Statement { sql: "SELECT merge_schema FROM basalt.segment WHERE id = $1", types: &[pg_sys::UUIDOID] };

static PARTS: Statement = Statement {
    sql: "SELECT p.source, p.visibility, s.version, s.kind, s.rows, s.bytes, s.checksum, s.statistics \
          FROM basalt.segment_part p LEFT JOIN basalt.segment s ON s.id = p.source WHERE p.derived = $1 ORDER BY p.ordinal",
    types: &[pg_sys::UUIDOID],
};

/// Merges the sources of a derived segment into `out`. Errors: `Corrupt` if a source is gone.
pub fn rebuild(entry: &SegmentEntry, out: &mut NewFile) -> Result<()> {
    let id = entry.id;
    let lost = |what: &str| -> Error {
        basalt_engine::Error::corrupt(format!("{what} of derived segment {}", crate::pg::uuid_text(&id))).into()
    };
    let schema = SCHEMA.run(&[spi::uuid(&id)], |rows| rows.bytes(0, 0)).ok_or_else(|| lost("no schema"))?;
    let schema: Schema = serde_json::from_slice(&schema).map_err(|_| lost("unreadable schema"))?;
    let parts = PARTS.run(&[spi::uuid(&id)], |rows| {
        (0..rows.len())
            .map(|row| {
                let visibility = rows.get(row, 1).map(multirange::to_ranges)?;
                Some((segment::entry_of_row(rows, row, 2, rows.uuid(row, 0)?)?, visibility))
            })
            .collect::<Option<Vec<_>>>()
    });
    let parts = parts.filter(|parts| !parts.is_empty()).ok_or_else(|| lost("a lost source"))?;
    let mut sources = Vec::with_capacity(parts.len());
    for (source, visibility) in parts {
        sources.push(MergeSource { segment: cache::open(&source)?, visibility, deleted: None });
    }
    let options = build_options()?;
    let cancel = options.cancel.clone();
    thread::run(&cancel, || merge(schema.into(), &sources, options, out).map(drop))
}
