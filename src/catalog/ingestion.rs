//! Ingestions in the catalog: specification, offsets, dead letters.

use std::collections::BTreeMap;

use basalt_background::checkpoint::{Checkpoint, OffsetRange, Provenance};
use basalt_background::ingest::DeadLetter;
use pgrx::pg_sys;

use super::{rewrite, tables};
use crate::error::Result;
use crate::pg::lock::{self, Mode};
use crate::pg::spi::{self, Argument, Rows, Statement};
use crate::pg::values::varlena_datum;

const UUID: pg_sys::Oid = pg_sys::UUIDOID;
const TEXT: pg_sys::Oid = pg_sys::TEXTOID;
const INT4: pg_sys::Oid = pg_sys::INT4OID;
const INT8: pg_sys::Oid = pg_sys::INT8OID;
const BYTEA: pg_sys::Oid = pg_sys::BYTEAOID;
const FLOAT8: pg_sys::Oid = pg_sys::FLOAT8OID;
const UUIDS: pg_sys::Oid = pg_sys::UUIDARRAYOID;

/// An ingestion's row.
#[derive(Clone, Debug)]
pub struct Ingestion {
    pub id: [u8; 16],
    pub name: String,
    pub datasource: [u8; 16],
    pub relation: pg_sys::Oid,
    pub owner: pg_sys::Oid,
    pub server: String,
    pub topic: String,
    pub format: String,
    /// JSON text.
    pub options: String,
    pub state: String,
    /// Counts changes by users.
    pub generation: i64,
    pub topic_id: Option<[u8; 16]>,
    /// Stands for this ingestion of this very topic in provenance and dead letters.
    pub source: [u8; 16],
    pub error: Option<String>,
}

macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT id, name, datasource, relation, owner, server, topic, format, options::text, state, generation, \
             topic_id, source, error FROM basalt.ingestion ",
            $condition
        )
    };
}

static RUNNING: Statement = Statement { sql: select!("WHERE state = 'running' ORDER BY name"), types: &[] };
static BY_NAME: Statement = Statement { sql: select!("WHERE name = $1"), types: &[TEXT] };
static BY_ID: Statement = Statement { sql: select!("WHERE id = $1"), types: &[UUID] };
static COUNT: Statement = Statement { sql: "SELECT pg_catalog.count(*) FROM basalt.ingestion", types: &[] };
static INSERT: Statement = Statement {
    sql: "INSERT INTO basalt.ingestion (id, name, datasource, relation, owner, server, topic, format, options, state, source) \
          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb, 'running', $10) ON CONFLICT (name) DO NOTHING",
    types: &[UUID, TEXT, UUID, pg_sys::REGCLASSOID, pg_sys::REGROLEOID, TEXT, TEXT, TEXT, TEXT, UUID],
};
static SET_STATE: Statement = Statement {
    sql: "UPDATE basalt.ingestion SET state = $2, generation = generation + 1, error = NULL, error_hint = NULL, error_at = NULL \
          WHERE id = $1",
    types: &[UUID, TEXT],
};
static FAIL: Statement = Statement {
    sql: "UPDATE basalt.ingestion SET state = 'failed', error = $3, error_hint = $4, error_at = pg_catalog.clock_timestamp() \
          WHERE id = $1 AND generation = $2 AND state = 'running'",
    types: &[UUID, INT8, TEXT, TEXT],
};
static TROUBLE: Statement = Statement {
    sql: "UPDATE basalt.ingestion SET error = $3, error_hint = NULL, error_at = pg_catalog.clock_timestamp() \
          WHERE id = $1 AND generation = $2 AND error IS DISTINCT FROM $3",
    types: &[UUID, INT8, TEXT],
};
static SET_TOPIC: Statement = Statement {
    sql: "UPDATE basalt.ingestion SET topic_id = $2 WHERE id = $1 AND topic_id IS NULL",
    types: &[UUID, UUID],
};
static NEW_SOURCE: Statement = Statement {
    sql: "UPDATE basalt.ingestion SET topic_id = NULL, source = $2, generation = generation + 1 WHERE id = $1",
    types: &[UUID, UUID],
};
static OFFSETS: Statement = Statement {
    sql: "SELECT partition, next_offset FROM basalt.ingestion_offset WHERE ingestion = $1 ORDER BY partition",
    types: &[UUID],
};
static ADVANCE: Statement = Statement {
    sql: "UPDATE basalt.ingestion_offset SET next_offset = $4, end_offset = GREATEST($4, $5), \
          newest = COALESCE(pg_catalog.to_timestamp($6 / 1000.0), newest), messages = messages + $7, rate = $8, \
          published_at = pg_catalog.clock_timestamp() WHERE ingestion = $1 AND partition = $2 AND next_offset = $3",
    types: &[UUID, INT4, INT8, INT8, INT8, INT8, INT8, FLOAT8],
};
static BEGIN: Statement = Statement {
    sql: "INSERT INTO basalt.ingestion_offset (ingestion, partition, next_offset, end_offset, newest, messages, rate, published_at) \
          VALUES ($1, $2, $3, GREATEST($3, $4), pg_catalog.to_timestamp($5 / 1000.0), $6, $7, pg_catalog.clock_timestamp()) \
          ON CONFLICT (ingestion, partition) DO NOTHING",
    types: &[UUID, INT4, INT8, INT8, INT8, INT8, FLOAT8],
};
static SET_OFFSET: Statement = Statement {
    sql: "INSERT INTO basalt.ingestion_offset (ingestion, partition, next_offset, end_offset) VALUES ($1, $2, $3, $4) \
          ON CONFLICT (ingestion, partition) DO UPDATE SET next_offset = excluded.next_offset, end_offset = excluded.end_offset",
    types: &[UUID, INT4, INT8, INT8],
};
static SKIP: Statement = Statement {
    sql: "UPDATE basalt.ingestion_offset SET next_offset = $3 WHERE ingestion = $1 AND partition = $2 AND next_offset < $3",
    types: &[UUID, INT4, INT8],
};
static FORGET_OFFSETS: Statement =
    Statement { sql: "DELETE FROM basalt.ingestion_offset WHERE ingestion = $1", types: &[UUID] };
static DEAD: Statement = Statement {
    sql: "INSERT INTO basalt.dead_letter (ingestion, source, topic, partition, message_offset, message_time, key, message, error) \
          VALUES ($1, $2, $3, $4, $5, pg_catalog.to_timestamp($6 / 1000.0), $7, $8, $9)",
    types: &[UUID, UUID, TEXT, INT4, INT8, INT8, BYTEA, BYTEA, TEXT],
};
static FORGET_DEAD: Statement =
    Statement { sql: "DELETE FROM basalt.dead_letter WHERE ingestion = $1", types: &[UUID] };
static REVIVE: Statement = Statement {
    sql: "DELETE FROM basalt.dead_letter WHERE ingestion = $1 AND source = $2 AND partition = $3 AND message_offset >= $4",
    types: &[UUID, UUID, INT4, INT8],
};
static DROP: Statement = Statement { sql: "DELETE FROM basalt.ingestion WHERE id = $1", types: &[UUID] };
static OF_DATASOURCE: Statement =
    Statement { sql: "SELECT id FROM basalt.ingestion WHERE datasource = $1", types: &[UUID] };
static PROVENANCE: Statement = Statement {
    sql: "SELECT o.segment, o.partition, o.first_offset, o.next_offset FROM basalt.segment_source o \
          JOIN basalt.segment s ON s.id = o.segment WHERE o.ingestion = $1 AND s.used ORDER BY o.segment",
    types: &[UUID],
};
static RETIRE: Statement = Statement {
    sql: "UPDATE basalt.segment SET used = false, retired_at = pg_catalog.clock_timestamp(), retired_version = $2 \
          WHERE id = ANY ($1) AND used",
    types: &[UUIDS, INT8],
};
// What a replace has hidden before, a restore must not bring back once its messages are read again.
static DETACH: Statement = Statement {
    sql: "UPDATE basalt.segment s SET retired_version = $2 WHERE s.datasource = $1 AND NOT s.used \
          AND s.retired_version IS NOT NULL AND EXISTS (SELECT FROM basalt.segment_source o \
              WHERE o.segment = s.id AND o.ingestion = $3 AND o.partition = $4 AND o.next_offset > $5)",
    types: &[UUID, INT8, UUID, INT4, INT8],
};

fn read(rows: &Rows, row: usize) -> Option<Ingestion> {
    Some(Ingestion {
        id: rows.uuid(row, 0)?,
        name: rows.text(row, 1)?,
        datasource: rows.uuid(row, 2)?,
        relation: rows.oid(row, 3)?,
        owner: rows.oid(row, 4)?,
        server: rows.text(row, 5)?,
        topic: rows.text(row, 6)?,
        format: rows.text(row, 7)?,
        options: rows.text(row, 8)?,
        state: rows.text(row, 9)?,
        generation: rows.i64(row, 10)?,
        topic_id: rows.uuid(row, 11),
        source: rows.uuid(row, 12)?,
        error: rows.text(row, 13),
    })
}

/// Those that should be running.
pub fn running() -> Vec<Ingestion> {
    RUNNING.run(&[], |rows| (0..rows.len()).filter_map(|row| read(rows, row)).collect())
}

pub fn by_name(name: &str) -> Option<Ingestion> {
    BY_NAME.run(&[spi::text(name)], |rows| read(rows, 0))
}

pub fn by_id(id: &[u8; 16]) -> Option<Ingestion> {
    BY_ID.run(&[spi::uuid(id)], |rows| read(rows, 0))
}

pub fn exist() -> bool {
    COUNT.run(&[], |rows| rows.i64(0, 0)).unwrap_or(0) > 0
}

/// Until the end of the transaction: publishes share it, whoever changes the ingestion excludes them.
pub fn lock(id: &[u8; 16], mode: Mode) {
    lock::acquire(tables::relation(c"ingestion"), id, mode);
}

/// As [`lock`], but false instead of waiting.
pub fn try_lock(id: &[u8; 16], mode: Mode) -> bool {
    lock::try_acquire(tables::relation(c"ingestion"), id, mode)
}

/// False if the name is taken.
pub fn insert(ingestion: &Ingestion) -> bool {
    let inserted = INSERT.execute(&[
        spi::uuid(&ingestion.id),
        spi::text(&ingestion.name),
        spi::uuid(&ingestion.datasource),
        oid(ingestion.relation),
        oid(ingestion.owner),
        spi::text(&ingestion.server),
        spi::text(&ingestion.topic),
        spi::text(&ingestion.format),
        spi::text(&ingestion.options),
        spi::uuid(&ingestion.source),
    ]);
    inserted == 1
}

/// By a user: clears the error and counts as a change.
pub fn set_state(id: &[u8; 16], state: &str) {
    SET_STATE.execute(&[spi::uuid(id), spi::text(state)]);
}

/// By the worker: the ingestion stands until a user does something. Nothing happens if one did already.
pub fn fail(ingestion: &Ingestion, error: &str, hint: Option<&str>) {
    FAIL.execute(&[spi::uuid(&ingestion.id), int8(ingestion.generation), spi::text(error), hint.and_then(spi::text)]);
}

/// An error that may go away by itself; `None`: it has.
pub fn set_trouble(ingestion: &Ingestion, error: Option<&str>) {
    TROUBLE.execute(&[spi::uuid(&ingestion.id), int8(ingestion.generation), error.and_then(spi::text)]);
}

pub fn set_topic(id: &[u8; 16], topic: &[u8; 16]) {
    SET_TOPIC.execute(&[spi::uuid(id), spi::uuid(topic)]);
}

/// Goes over to another topic of the same name: nothing is published of it yet.
pub fn begin_new_source(id: &[u8; 16], source: &[u8; 16]) {
    NEW_SOURCE.execute(&[spi::uuid(id), spi::uuid(source)]);
    FORGET_OFFSETS.execute(&[spi::uuid(id)]);
}

pub fn checkpoint(id: &[u8; 16]) -> Checkpoint {
    OFFSETS.run(&[spi::uuid(id)], |rows| {
        Checkpoint::new((0..rows.len()).filter_map(|row| Some((rows.i32(row, 0)?, rows.i64(row, 1)?))))
    })
}

/// What a publish tells of one partition besides its offsets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub end: Option<i64>,
    /// Milliseconds since 1970.
    pub newest: Option<i64>,
    pub messages: i64,
    /// Offsets a second.
    pub rate: f64,
}

/// Moves a partition's next offset from `range.first` to `range.next`; false if it was another (or, for a new partition, if the catalog has one).
pub fn advance(id: &[u8; 16], partition: i32, range: OffsetRange, new: bool, progress: Progress) -> bool {
    let Progress { end, newest, messages, rate } = progress;
    let (end, newest) = (end.and_then(int8), newest.and_then(int8));
    let rate = Some(pg_sys::Datum::from(rate.to_bits() as usize));
    let moved = if new {
        BEGIN.execute(&[spi::uuid(id), int4(partition), int8(range.next), end, newest, int8(messages), rate])
    } else {
        let (first, next) = (int8(range.first), int8(range.next));
        ADVANCE.execute(&[spi::uuid(id), int4(partition), first, next, end, newest, int8(messages), rate])
    };
    moved == 1
}

/// By a user: wherever the partition was.
pub fn set_offset(id: &[u8; 16], partition: i32, next: i64, end: Option<i64>) {
    SET_OFFSET.execute(&[spi::uuid(id), int4(partition), int8(next), end.and_then(int8)]);
}

/// Moves forward over what is lost.
pub fn skip_to(id: &[u8; 16], partition: i32, next: i64) {
    SKIP.execute(&[spi::uuid(id), int4(partition), int8(next)]);
}

pub fn add_dead_letter(ingestion: &Ingestion, letter: &DeadLetter) {
    let bytes = |value: &Option<Vec<u8>>| value.as_deref().map(varlena_datum);
    DEAD.execute(&[
        spi::uuid(&ingestion.id),
        spi::uuid(&ingestion.source),
        spi::text(&ingestion.topic),
        int4(letter.partition),
        int8(letter.offset),
        letter.timestamp.and_then(int8),
        bytes(&letter.key),
        bytes(&letter.payload),
        spi::text(&letter.error),
    ]);
}

/// Dead letters at or after `next` will be read again.
pub fn remove_dead_letters(ingestion: &Ingestion, partition: i32, next: i64) {
    REVIVE.execute(&[spi::uuid(&ingestion.id), spi::uuid(&ingestion.source), int4(partition), int8(next)]);
}

/// Rows that were published stay.
pub fn drop(id: &[u8; 16]) {
    FORGET_OFFSETS.execute(&[spi::uuid(id)]);
    FORGET_DEAD.execute(&[spi::uuid(id)]);
    DROP.execute(&[spi::uuid(id)]);
}

/// Ends every ingestion into a datasource whose table is gone.
pub fn drop_of_datasource(datasource: &[u8; 16]) {
    let ids: Vec<[u8; 16]> = OF_DATASOURCE
        .run(&[spi::uuid(datasource)], |rows| (0..rows.len()).filter_map(|row| rows.uuid(row, 0)).collect());
    for id in &ids {
        drop(id);
    }
}

/// Offsets held by each used segment with rows of `source`.
pub fn provenance(source: &[u8; 16]) -> Vec<Provenance<[u8; 16]>> {
    let rows: Vec<([u8; 16], i32, OffsetRange)> = PROVENANCE.run(&[spi::uuid(source)], |rows| {
        let read = |row| {
            let range = OffsetRange::new(rows.i64(row, 2)?, rows.i64(row, 3)?);
            Some((rows.uuid(row, 0)?, rows.i32(row, 1)?, range))
        };
        (0..rows.len()).filter_map(read).collect()
    });
    let mut by_segment: BTreeMap<[u8; 16], Vec<(i32, OffsetRange)>> = BTreeMap::new();
    for (segment, partition, range) in rows {
        by_segment.entry(segment).or_default().push((partition, range));
    }
    by_segment.into_iter().map(|(segment, ranges)| Provenance { segment, ranges }).collect()
}

/// Hides segments whose messages will be read again from `next` on; how many. The caller holds the datasource's commit lock.
pub fn retire(ingestion: &Ingestion, segments: &[[u8; 16]], next: &Checkpoint) -> Result<u64> {
    let version = rewrite::next_version(&ingestion.datasource)?;
    for (partition, offset) in next.iter() {
        let (datasource, source) = (spi::uuid(&ingestion.datasource), spi::uuid(&ingestion.source));
        DETACH.execute(&[datasource, int8(version), source, int4(partition), int8(offset)]);
    }
    Ok(RETIRE.execute(&[Some(crate::pg::values::uuid_array(segments)), int8(version)]))
}

fn oid(value: pg_sys::Oid) -> Argument {
    Some(pg_sys::Datum::from(value))
}

fn int4(value: i32) -> Argument {
    Some(pg_sys::Datum::from(value))
}

fn int8(value: i64) -> Argument {
    Some(pg_sys::Datum::from(value))
}
