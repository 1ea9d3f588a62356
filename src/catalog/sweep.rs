//! The sweeper: what nothing needs any more.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use pgrx::pg_sys;

use super::{cache, identity, retire, tables};
use crate::error::Result;
use crate::guc;
use crate::pg::scan::{IndexScan, Under};
use crate::pg::spi::Statement;
use crate::pg::{interrupts, parse_uuid, session};

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub segments: u64,
    pub datasources: u64,
    pub files: u64,
}

static EXPIRED: Statement = Statement {
    // What a derived segment is rebuilt from goes with it.
    sql: "SELECT id FROM basalt.segment s WHERE NOT used AND retired_at IS NOT NULL AND retired_version IS NOT NULL \
          AND retired_at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1) \
          AND NOT EXISTS (SELECT FROM basalt.segment_part p WHERE p.source = s.id) FOR UPDATE SKIP LOCKED",
    types: &[pg_sys::FLOAT8OID],
};
/// Tables that were dropped while event triggers did not run.
static LOST: Statement = Statement {
    sql: "SELECT d.id FROM basalt.datasource d LEFT JOIN pg_class c ON c.oid = d.relation WHERE c.oid IS NULL \
          FOR UPDATE OF d SKIP LOCKED",
    types: &[],
};

/// Removes retired segments past their retention, the data of tables that are gone, and cache files without a segment.
pub fn sweep() -> Result<Swept> {
    let mut swept = Swept::default();
    if !session::is_in_recovery() {
        let retention = f64::from(guc::SEGMENT_RETENTION.get());
        let expired = EXPIRED.run(&[Some(pg_sys::Datum::from(retention.to_bits()))], uuids);
        retire::delete(&expired);
        swept.segments = expired.len() as u64;
        let lost = LOST.run(&[], uuids);
        for id in &lost {
            identity::remove(id);
        }
        swept.datasources = lost.len() as u64;
    }
    swept.files = sweep_files();
    Ok(swept)
}

fn uuids(rows: &crate::pg::spi::Rows) -> Vec<[u8; 16]> {
    (0..rows.len()).filter_map(|row| rows.uuid(row, 0)).collect()
}

/// Files of this database that no used segment needs, and directories of databases that are gone. Any of them would be
/// made again if it were needed after all.
fn sweep_files() -> u64 {
    let mut removed = 0;
    let own = cache::database_directory();
    let current = cache::directory().ok();
    for boot in cache::directories(&own) {
        for file in cache::files(&boot) {
            interrupts::check();
            if is_orphan(&file) && fs::remove_file(&file).is_ok() {
                removed += 1;
            }
        }
        if current.as_deref() != Some(&boot) {
            // Only an empty directory goes.
            let _ = fs::remove_dir(&boot);
        }
    }
    let databases = databases();
    for directory in cache::directories(&cache::root()) {
        let number = directory.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u32>().ok());
        if number.is_some_and(|number| !databases.contains(&number)) {
            removed += cache::directories(&directory).iter().map(|boot| cache::files(boot).len() as u64).sum::<u64>();
            let _ = fs::remove_dir_all(&directory);
        }
    }
    removed
}

fn is_orphan(file: &Path) -> bool {
    let Some(name) = file.file_name().and_then(|n| n.to_str()) else { return false };
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    match extension {
        cache::SEGMENT => stem.get(..36).and_then(parse_uuid).is_some_and(|id| !is_needed(&id)),
        // Named after the process that writes it.
        _ => {
            stem.split('-').next().and_then(|pid| pid.parse::<i32>().ok()).is_some_and(|pid| !session::has_process(pid))
        }
    }
}

/// Whether a segment is used, or may be once a transaction in progress (or prepared) has ended. Its row is inserted
/// before its file gets its name, so a file without a row is an orphan.
fn is_needed(id: &[u8; 16]) -> bool {
    let (table, index) = (tables::relation(c"segment"), tables::relation(c"segment_pkey"));
    let mut scan = IndexScan::by_uuid(table, index, id, Under::Dirty);
    let mut needed = false;
    // An update in progress shows the old row and the new one.
    while scan.advance() {
        needed |= scan.get(super::segment::USED_COLUMN).is_some_and(|d| d.value() as u8 != 0);
    }
    scan.end();
    needed
}

static DATABASES: Statement = Statement { sql: "SELECT oid FROM pg_database", types: &[] };

fn databases() -> HashSet<u32> {
    DATABASES.run(&[], |rows| (0..rows.len()).filter_map(|row| rows.oid(row, 0)).map(u32::from).collect())
}
