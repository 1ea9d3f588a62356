//! New segments: from rows to a file, and from the file to the catalog.

use std::sync::Arc;

use basalt_engine::segment::{BuildOptions, Gathered, SegmentBuilder, SegmentStatistics};
use basalt_engine::{Budget, TimeInterval, TimeRanges};
use pgrx::pg_sys;

use super::cache::{self, NewFile, WrittenFile};
use super::datasource::Datasource;
use super::derived::Recipe;
use super::segment::{SegmentEntry, SegmentKind};
use super::{identity, tables};
use crate::error::Result;
use crate::guc;
use crate::pg::lock::{self, Mode};
use crate::pg::spi::{self, Statement};
use crate::pg::values::{free_varlena, varlena_datum};
use crate::pg::{interrupts, multirange, random_uuid, thread};

/// Bytes of one row of `basalt.segment_data`.
pub const CHUNK: usize = 1 << 20;

/// A segment that is complete but not in the catalog.
pub struct Built {
    pub id: [u8; 16],
    pub file: WrittenFile,
    pub statistics: SegmentStatistics,
}

/// Offsets of a partition whose rows a segment holds: `[first_offset, next_offset)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSource {
    pub ingestion: [u8; 16],
    pub topic: String,
    pub partition: i32,
    pub first_offset: i64,
    pub next_offset: i64,
}

impl Built {
    /// A built segment's bytes as they are.
    pub fn from_bytes(bytes: &[u8], statistics: SegmentStatistics) -> Result<Self> {
        use std::io::Write;
        let mut file = NewFile::create(&cache::directory()?)?;
        file.write_all(bytes)?;
        Ok(Built { id: random_uuid(), file: file.finish()?, statistics })
    }

    /// The entry it has once it is in the catalog.
    pub fn entry(&self, version: i64, kind: SegmentKind) -> SegmentEntry {
        SegmentEntry {
            id: self.id,
            version,
            rows: self.statistics.rows,
            bytes: self.file.length,
            checksum: self.file.checksum,
            kind,
            visibility: full_visibility(&self.statistics),
            statistics: Arc::new(self.statistics.clone()),
            deleted: None,
        }
    }
}

/// Budget and spill directory of builds and merges in this backend.
pub fn build_options() -> Result<BuildOptions> {
    Ok(BuildOptions {
        budget: Budget::new(guc::insert_memory_limit().saturating_mul(2).max(256 << 20)),
        cancel: interrupts::cancel(),
        spill_directory: Some(cache::directory()?),
    })
}

/// Rows beyond which a build is worth a thread, which can be canceled.
const THREAD_ROWS: usize = 20_000;

/// Builds a segment of rows.
pub fn build(rows: Gathered) -> Result<Built> {
    let options = build_options()?;
    let cancel = options.cancel.clone();
    let mut file = NewFile::create(&cache::directory()?)?;
    let many = rows.rows() > THREAD_ROWS;
    let out = &mut file;
    let work = move || SegmentBuilder::of(rows, options)?.finish(out);
    let statistics = if many { thread::run(&cancel, work)? } else { work()? };
    Ok(Built { id: random_uuid(), file: file.finish()?, statistics })
}

/// Visibility of a segment that nothing has clipped: from its first to its last time.
pub fn full_visibility(statistics: &SegmentStatistics) -> TimeRanges {
    match statistics.time {
        None => TimeRanges::all(),
        Some((min, max)) => TimeRanges::new(vec![TimeInterval::new(min, max.saturating_add(1))]),
    }
}

static VERSION: Statement =
    Statement { sql: "SELECT current_version FROM basalt.datasource WHERE id = $1", types: &[pg_sys::UUIDOID] };
static INSERT: Statement = Statement {
    sql: "INSERT INTO basalt.segment (id, datasource, version, visibility, kind, rows, bytes, checksum, statistics, \
          schema_generation, recipe) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    types: &[
        pg_sys::UUIDOID,
        pg_sys::UUIDOID,
        pg_sys::INT8OID,
        pg_sys::TSTZMULTIRANGEOID,
        pg_sys::TEXTOID,
        pg_sys::INT8OID,
        pg_sys::INT8OID,
        pg_sys::INT8OID,
        pg_sys::BYTEAOID,
        pg_sys::INT4OID,
        pg_sys::TEXTOID,
    ],
};
static INSERT_CHUNK: Statement = Statement {
    sql: "INSERT INTO basalt.segment_data (segment, chunk, bytes) VALUES ($1, $2, $3)",
    types: &[pg_sys::UUIDOID, pg_sys::INT4OID, pg_sys::BYTEAOID],
};
static INSERT_SOURCE: Statement = Statement {
    sql: "INSERT INTO basalt.segment_source (segment, ingestion, topic, partition, first_offset, next_offset) \
          VALUES ($1, $2, $3, $4, $5, $6)",
    types: &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::INT4OID, pg_sys::INT8OID, pg_sys::INT8OID],
};

/// Adds a segment in this transaction, visible to others when it commits: takes the datasource's append lock, inserts
/// the segment's row, bytes and sources, and gives its cache file the final name. Returns the segment's version.
pub fn append(datasource: &Datasource, built: &Built, kind: SegmentKind, sources: &[SegmentSource]) -> Result<i64> {
    lock::acquire(tables::datasource_class(), &datasource.id, Mode::Append);
    let version = current_version(datasource)?;
    insert(datasource, built, version, kind, sources, None)?;
    Ok(version)
}

/// The datasource's version; its row is made if it is missing (a table restored without the catalog's data).
pub fn current_version(datasource: &Datasource) -> Result<i64> {
    let read = || VERSION.run(&[spi::uuid(&datasource.id)], |rows| rows.i64(0, 0));
    if let Some(version) = read() {
        return Ok(version);
    }
    identity::ensure_row(datasource.relation, &datasource.id)?;
    Ok(read().unwrap_or(0))
}

/// Inserts a segment's row, bytes and sources under a lock that the caller holds. `recipe`: its bytes are derived
/// and not stored.
pub fn insert(
    datasource: &Datasource,
    built: &Built,
    version: i64,
    kind: SegmentKind,
    sources: &[SegmentSource],
    recipe: Option<&Recipe>,
) -> Result<()> {
    let recipe = recipe
        .map(serde_json::to_string)
        .transpose()
        .map_err(|e| basalt_engine::Error::invalid(format!("recipe: {e}")))?;
    INSERT.execute(&[
        spi::uuid(&built.id),
        spi::uuid(&datasource.id),
        Some(pg_sys::Datum::from(version)),
        Some(multirange::from_ranges(&full_visibility(&built.statistics))),
        spi::text(kind.name()),
        Some(pg_sys::Datum::from(built.statistics.rows as i64)),
        Some(pg_sys::Datum::from(built.file.length as i64)),
        Some(pg_sys::Datum::from(i64::from(built.file.checksum))),
        Some(varlena_datum(&built.statistics.encode())),
        Some(pg_sys::Datum::from(datasource.schema_generation)),
        recipe.as_deref().and_then(spi::text),
    ]);
    if kind != SegmentKind::Derived {
        for (number, chunk) in built.file.bytes.as_slice().chunks(CHUNK).enumerate() {
            let bytes = varlena_datum(chunk);
            INSERT_CHUNK.execute(&[spi::uuid(&built.id), Some(pg_sys::Datum::from(number as i32)), Some(bytes)]);
            free_varlena(bytes);
        }
    }
    for source in sources {
        INSERT_SOURCE.execute(&[
            spi::uuid(&built.id),
            spi::uuid(&source.ingestion),
            spi::text(&source.topic),
            Some(pg_sys::Datum::from(source.partition)),
            Some(pg_sys::Datum::from(source.first_offset)),
            Some(pg_sys::Datum::from(source.next_offset)),
        ]);
    }
    built.file.persist(&built.id)
}
