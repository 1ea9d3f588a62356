//! Identities: which datasource a foreign table is, and which column a column is, whatever their names and numbers.
//!
//! Both are options of the foreign table, so that they survive dump and restore, and an event trigger assigns them. A
//! restored dump makes a table whose `datasource_id` is given and adds each column's `column_id` in statements of their
//! own; the catalog's rows follow later. So where a table comes with an id, nothing is assigned and no row is written.

use std::cell::Cell;
use std::collections::BTreeMap;

use basalt_engine::types::LogicalType;
use pgrx::{PgSqlErrorCode, pg_sys};
use serde::{Deserialize, Serialize};

use super::datasource::{self, TableColumn};
use super::options::{TableOptions, names};
use super::{alteration, pending};
use crate::error::{Error, Result};
use crate::pg::ddl::{self, Command};
use crate::pg::spi::{self, Statement};
use crate::pg::{parse_uuid, random_uuid, relation, uuid_text};

/// What the catalog remembers of a table's columns, to tell what an ALTER changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    #[serde(default)]
    pub columns: BTreeMap<u32, RecordedColumn>,
    #[serde(default)]
    pub time: Option<u32>,
    #[serde(default)]
    pub cluster_by: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedColumn {
    pub name: String,
    pub type_name: String,
    pub typmod: i32,
    pub stored: LogicalType,
    pub not_null: bool,
}

/// The row of `basalt.datasource`.
pub struct Row {
    pub id: [u8; 16],
    pub next_column_id: u32,
    pub recorded: Recorded,
}

thread_local! {
    /// Our own ALTER commands fire the trigger as well.
    static ALTERING: Cell<bool> = const { Cell::new(false) };
}

struct Altering;

impl Altering {
    fn new() -> Self {
        ALTERING.set(true);
        Altering
    }
}

impl Drop for Altering {
    fn drop(&mut self) {
        ALTERING.set(false);
    }
}

static CHANGED: Statement = Statement {
    sql: "WITH RECURSIVE family AS ( \
              SELECT objid AS relation FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_class'::regclass \
              UNION SELECT i.inhrelid FROM pg_inherits i JOIN family f ON i.inhparent = f.relation) \
          SELECT f.relation FROM family f JOIN pg_foreign_table t ON t.ftrelid = f.relation \
          JOIN pg_foreign_server s ON s.oid = t.ftserver JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw \
          WHERE w.fdwname = 'basalt'",
    types: &[],
};
/// Columns of datasources whose values contain values of the altered type.
static USERS: Statement = Statement {
    sql: "WITH RECURSIVE family(type) AS ( \
              SELECT coalesce(c.reltype, o.objid) FROM pg_event_trigger_ddl_commands() o \
              LEFT JOIN pg_class c ON o.classid = 'pg_class'::regclass AND c.oid = o.objid \
              UNION SELECT d.oid FROM family f, LATERAL ( \
                  SELECT t.oid FROM pg_type t WHERE f.type IN (t.typelem, t.typbasetype) \
                  UNION ALL SELECT unnest(ARRAY[r.rngtypid, r.rngmultitypid]) FROM pg_range r WHERE r.rngsubtype = f.type \
                  UNION ALL SELECT c.reltype FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
                      WHERE a.atttypid = f.type AND c.relkind = 'c') d) \
          SELECT d.id, d.relation::regclass::text, a.attname::text, format_type(a.atttypid, a.atttypmod) \
          FROM family f JOIN pg_attribute a ON a.atttypid = f.type AND NOT a.attisdropped \
          JOIN basalt.datasource d ON d.relation = a.attrelid",
    types: &[],
};
static ROW: Statement = Statement {
    sql: "SELECT id, next_column_id, columns::text FROM basalt.datasource WHERE relation = $1",
    types: &[pg_sys::REGCLASSOID],
};
static OTHERS: Statement = Statement {
    sql: "SELECT 1 FROM pg_foreign_table WHERE ftrelid <> $1 AND 'datasource_id=' || $2 = ANY (ftoptions)",
    types: &[pg_sys::OIDOID, pg_sys::TEXTOID],
};
static INSERT: Statement = Statement {
    sql: "INSERT INTO basalt.datasource (id, relation, next_column_id, columns) VALUES ($1, $2, $3, $4::jsonb)",
    types: &[pg_sys::UUIDOID, pg_sys::REGCLASSOID, pg_sys::INT4OID, pg_sys::TEXTOID],
};
static ENSURE: Statement = Statement {
    sql: "INSERT INTO basalt.datasource (id, relation, next_column_id, columns) VALUES ($1, $2, $3, $4::jsonb) \
          ON CONFLICT (id) DO NOTHING",
    types: &[pg_sys::UUIDOID, pg_sys::REGCLASSOID, pg_sys::INT4OID, pg_sys::TEXTOID],
};
static UPDATE: Statement = Statement {
    sql: "UPDATE basalt.datasource SET next_column_id = $2, columns = $3::jsonb, \
          schema_generation = schema_generation + 1 WHERE id = $1",
    types: &[pg_sys::UUIDOID, pg_sys::INT4OID, pg_sys::TEXTOID],
};
static HAS_SEGMENTS: Statement =
    Statement { sql: "SELECT 1 FROM basalt.segment WHERE datasource = $1 LIMIT 1", types: &[pg_sys::UUIDOID] };

/// The end of a command that made or altered tables.
pub fn after_command(command: &Command) -> Result<()> {
    if ALTERING.get() {
        return Ok(());
    }
    if command.reshapes_type {
        return refuse_reshaping();
    }
    let relations = CHANGED.run(&[], |rows| (0..rows.len()).filter_map(|row| rows.oid(row, 0)).collect::<Vec<_>>());
    for relation in relations {
        refuse_reserved(command)?;
        reconcile(relation, command)?;
    }
    Ok(())
}

/// `basalt.assign_ids`: what the event trigger could not do, done by hand.
pub fn assign(relation: pg_sys::Oid) -> Result<()> {
    let command = Command { adds_column: true, ..Command::default() };
    reconcile(relation, &command)
}

/// Types without a form of their own are stored by their text, which PostgreSQL must be able to read again.
fn refuse_reshaping() -> Result<()> {
    let users = USERS.run(&[], |rows| {
        let of_row = |row| Some((rows.uuid(row, 0)?, rows.text(row, 1)?, rows.text(row, 2)?, rows.text(row, 3)?));
        (0..rows.len()).filter_map(of_row).collect::<Vec<_>>()
    });
    match users.into_iter().find(|(id, ..)| has_data(id)) {
        None => Ok(()),
        Some((_, table, column, ty)) => Err(Error::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("values of the type are stored in column \"{column}\" of datasource \"{table}\""),
        )
        .detail(format!(
            "Stored values of type {ty} hold its labels or attributes as they were when the rows were written."
        ))
        .hint("Make a new type and a new column of it, or write the rows again with basalt.replace.")),
    }
}

/// Ids are not the user's to change; a dump adds them where there are none.
fn refuse_reserved(command: &Command) -> Result<()> {
    let reserved = |name: &str| matches!(name, "datasource_id" | "column_id" | "missing");
    let changed = command.options.iter().find(|(_, name, adds)| reserved(name) && !adds).map(|(_, name, _)| name);
    let added = command.new_column_options.iter().find(|name| reserved(name));
    match changed.or(added) {
        None => Ok(()),
        Some(name) => Err(Error::new(
            PgSqlErrorCode::ERRCODE_FDW_INVALID_OPTION_NAME,
            format!("option \"{name}\" is assigned by Basalt and cannot be given or changed"),
        )),
    }
}

fn row(relation: pg_sys::Oid) -> Result<Option<Row>> {
    let found = ROW.run_latest(&[Some(pg_sys::Datum::from(relation))], |rows| {
        let recorded = rows.text(0, 2)?;
        Some((rows.uuid(0, 0)?, rows.i32(0, 1)? as u32, recorded))
    });
    let Some((id, next_column_id, recorded)) = found else { return Ok(None) };
    let recorded = serde_json::from_str(&recorded)
        .map_err(|e| basalt_engine::Error::corrupt(format!("basalt.datasource.columns: {e}")))?;
    Ok(Some(Row { id, next_column_id, recorded }))
}

/// Whether the datasource has rows: in the catalog, or inserted by this transaction.
pub fn has_data(id: &[u8; 16]) -> bool {
    pending::has_rows(id) || HAS_SEGMENTS.run_latest(&[spi::uuid(id)], |rows| rows.len() > 0)
}

fn owned_by_another(relation: pg_sys::Oid, id: &[u8; 16]) -> bool {
    OTHERS.run_latest(&[Some(pg_sys::Datum::from(relation)), spi::text(&uuid_text(id))], |rows| rows.len() > 0)
}

/// Brings options and the catalog's row in line with the table as it is after the command.
fn reconcile(relation: pg_sys::Oid, command: &Command) -> Result<()> {
    let table_options = relation::table_options(relation);
    let options = TableOptions::parse(&table_options)?;
    let (mut columns, _) = datasource::table_columns(relation)?;
    no_duplicates(&columns)?;
    let known = row(relation)?;
    let mut alter = Vec::new();

    let (row, is_new) = match (options.datasource_id, known) {
        (Some(id), Some(row)) if row.id == id => (row, false),
        (_, Some(_)) => {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_FDW_INVALID_OPTION_NAME,
                "option \"datasource_id\" cannot be changed",
            ));
        }
        (Some(id), None) if owned_by_another(relation, &id) => {
            let fresh = random_uuid();
            alter.push(format!("OPTIONS (SET datasource_id '{}')", uuid_text(&fresh)));
            (Row { id: fresh, next_column_id: 1, recorded: Recorded::default() }, true)
        }
        // A restored dump: its other statements, and the catalog's rows, are still to come.
        (Some(_), None) if !command.adds_column => return check_declaration(&options, &columns),
        (Some(id), None) => (Row { id, next_column_id: 1, recorded: Recorded::default() }, true),
        (None, None) => {
            let fresh = random_uuid();
            alter.push(format!("OPTIONS (ADD datasource_id '{}')", uuid_text(&fresh)));
            (Row { id: fresh, next_column_id: 1, recorded: Recorded::default() }, true)
        }
    };

    // Columns of a table that came with an id get theirs from the dump.
    let assigns = options.datasource_id.is_none() || command.adds_column;
    let highest = columns.iter().filter_map(|c| c.options.column_id).max().unwrap_or(0);
    let mut next = row.next_column_id.max(highest + 1);
    let has_data = !is_new && has_data(&row.id);
    if assigns {
        for column in columns.iter_mut().filter(|c| c.options.column_id.is_none()) {
            let mut given = vec![format!("ADD column_id '{next}'")];
            column.options.column_id = Some(next);
            next += 1;
            if has_data && let Some(missing) = alteration::missing_of_new(relation, column)? {
                given.push(format!("ADD missing {}", ddl::literal(&missing)));
            }
            alter.push(format!("ALTER COLUMN {} OPTIONS ({})", ddl::quoted(&column.name), given.join(", ")));
        }
    }
    let renamed = follow_renames(&options, &columns, &row.recorded);
    alter.extend(renamed.iter().map(|(option, value)| format!("OPTIONS (SET {option} {})", ddl::literal(value))));
    apply(relation, &alter);

    let options = TableOptions::parse(&relation::table_options(relation))?;
    let recorded = record(&options, &columns)?;
    alteration::check(relation, &row, &recorded, command, has_data)?;
    if is_new {
        INSERT.execute(&[
            spi::uuid(&row.id),
            Some(pg_sys::Datum::from(relation)),
            Some(pg_sys::Datum::from(next as i32)),
            spi::text(&json(&recorded)?),
        ]);
    } else {
        UPDATE.execute_latest(&[
            spi::uuid(&row.id),
            Some(pg_sys::Datum::from(next as i32)),
            spi::text(&json(&recorded)?),
        ]);
    }
    Ok(())
}

/// Makes the row of a table that was restored with its ids but without the catalog's data, as `pg_dump --schema-only` and
/// `-t` do.
pub fn ensure_row(relation: pg_sys::Oid, id: &[u8; 16]) -> Result<()> {
    let options = TableOptions::parse(&relation::table_options(relation))?;
    let (columns, _) = datasource::table_columns(relation)?;
    let recorded = record(&options, &columns)?;
    let next = columns.iter().filter_map(|c| c.options.column_id).max().unwrap_or(0) + 1;
    ENSURE.execute(&[
        spi::uuid(id),
        Some(pg_sys::Datum::from(relation)),
        Some(pg_sys::Datum::from(next as i32)),
        spi::text(&json(&recorded)?),
    ]);
    Ok(())
}

fn json(recorded: &Recorded) -> Result<String> {
    serde_json::to_string(recorded).map_err(|e| basalt_engine::Error::invalid(e.to_string()).into())
}

fn no_duplicates(columns: &[TableColumn]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for column in columns {
        if column.options.column_id.is_some_and(|id| !seen.insert(id)) {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("column \"{}\" has the column_id of another column", column.name),
            ));
        }
    }
    Ok(())
}

/// Errors of options that name columns.
fn check_declaration(options: &TableOptions, columns: &[TableColumn]) -> Result<()> {
    datasource::time_position(options, columns)?;
    datasource::cluster_positions(options, columns)?;
    Ok(())
}

fn record(options: &TableOptions, columns: &[TableColumn]) -> Result<Recorded> {
    let id_of = |position: usize| columns[position].options.column_id;
    let time = datasource::time_position(options, columns)?.and_then(id_of);
    let cluster_by = datasource::cluster_positions(options, columns)?.into_iter().filter_map(id_of).collect();
    let columns = columns
        .iter()
        .filter_map(|c| {
            let recorded = RecordedColumn {
                name: c.name.clone(),
                type_name: ddl::type_name(c.type_oid),
                typmod: c.typmod,
                stored: c.ty,
                not_null: c.not_null,
            };
            Some((c.options.column_id?, recorded))
        })
        .collect();
    Ok(Recorded { columns, time, cluster_by })
}

/// Options that name a column by a name it no longer has, with the name it has now.
fn follow_renames(options: &TableOptions, columns: &[TableColumn], before: &Recorded) -> Vec<(&'static str, String)> {
    let now = |name: &str| -> Option<String> {
        if columns.iter().any(|c| c.name == name) {
            return None;
        }
        let (id, _) = before.columns.iter().find(|(_, c)| c.name == name)?;
        columns.iter().find(|c| c.options.column_id == Some(*id)).map(|c| c.name.clone())
    };
    let mut changed = Vec::new();
    if let Some(name) = options.time_column.as_deref().and_then(now) {
        changed.push(("time_column", name));
    }
    if options.cluster_by.iter().any(|name| now(name).is_some()) {
        let all: Vec<String> = options.cluster_by.iter().map(|n| now(n).unwrap_or_else(|| n.clone())).collect();
        changed.push(("cluster_by", all.join(",")));
    }
    debug_assert!(changed.iter().all(|(_, value)| !names(value).is_empty()));
    changed
}

fn apply(relation: pg_sys::Oid, parts: &[String]) {
    if parts.is_empty() {
        return;
    }
    let _altering = Altering::new();
    spi::execute_text(&format!("ALTER FOREIGN TABLE {} {}", ddl::qualified_name(relation), parts.join(", ")), true);
}

static DROPPED: Statement = Statement {
    sql: "SELECT d.id FROM pg_event_trigger_dropped_objects() o JOIN basalt.datasource d ON d.relation = o.objid \
          WHERE o.classid = 'pg_class'::regclass AND o.objsubid = 0",
    types: &[],
};
static DELETE: [Statement; 4] = [
    Statement { sql: "DELETE FROM basalt.rule WHERE datasource = $1", types: &[pg_sys::UUIDOID] },
    Statement { sql: "DELETE FROM basalt.load_history WHERE datasource = $1", types: &[pg_sys::UUIDOID] },
    Statement { sql: "DELETE FROM basalt.job WHERE datasource = $1", types: &[pg_sys::UUIDOID] },
    Statement { sql: "DELETE FROM basalt.datasource WHERE id = $1", types: &[pg_sys::UUIDOID] },
];

/// The end of a command that dropped objects: nothing of dropped datasources is left.
pub fn after_drop() {
    let ids = DROPPED.run_latest(&[], |rows| (0..rows.len()).filter_map(|row| rows.uuid(row, 0)).collect::<Vec<_>>());
    for id in ids {
        remove(&id);
    }
}

/// Removes all that the catalog holds of a datasource.
pub fn remove(id: &[u8; 16]) {
    super::retire::delete_all(id);
    for statement in &DELETE {
        statement.execute_latest(&[spi::uuid(id)]);
    }
}

/// Whether an option's value is a uuid in the one form that compares equal as text.
pub fn is_canonical(value: &str) -> bool {
    parse_uuid(value).is_some_and(|id| uuid_text(&id) == value)
}
