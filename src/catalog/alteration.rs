//! Which changes of a table that holds rows are safe.

use basalt_engine::types::{ColumnId, LogicalType};
use pgrx::{PgSqlErrorCode, pg_sys};

use super::datasource::TableColumn;
use super::identity::{Recorded, RecordedColumn, Row};
use super::segment;
use crate::error::{Error, Result};
use crate::pg::ddl::Command;
use crate::pg::expression::{ColumnDefault, column_default};

/// What rows that are there already hold in a column that is being added: its default's value now, if any.
pub fn missing_of_new(relation: pg_sys::Oid, column: &TableColumn) -> Result<Option<String>> {
    // First of all: a generation expression reads a row, which column_default has none of.
    if column.generated {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("cannot add generated column \"{}\" to a datasource that holds rows", column.name),
        )
        .hint("Add a plain column, or make a new table and copy the rows."));
    }
    match column_default(relation, column.attribute) {
        ColumnDefault::Value(text) => Ok(Some(text)),
        ColumnDefault::Volatile => Err(Error::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("cannot add column \"{}\" with a volatile default to a datasource that holds rows", column.name),
        )
        .hint("Add the column first; then ALTER COLUMN ... SET DEFAULT applies to new rows.")),
        ColumnDefault::Null if column.not_null => Err(contains_nulls(&column.name)),
        ColumnDefault::Null => Ok(None),
    }
}

fn contains_nulls(name: &str) -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION, format!("column \"{name}\" contains null values"))
}

/// Refuses what would change the meaning of rows that are stored.
pub fn check(relation: pg_sys::Oid, before: &Row, after: &Recorded, command: &Command, has_data: bool) -> Result<()> {
    if !has_data {
        return Ok(());
    }
    if before.recorded.time != after.time {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "cannot change the time column of a datasource that holds rows",
        )
        .detail("Segments are ordered and hidden by their rows' time.")
        .hint("Make a new table and copy the rows."));
    }
    for (id, now) in &after.columns {
        let Some(then) = before.recorded.columns.get(id) else { continue };
        if command.retypes.contains(&now.name) && !is_safe(then, now) {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("cannot change the type of column \"{}\" of a datasource that holds rows", now.name),
            )
            .detail(
                "Only text and character varying can become each other, and only if no length limit becomes stricter.",
            )
            .hint("Add a column of the new type, or make a new table and copy the rows."));
        }
        if now.not_null && !then.not_null && has_nulls(relation, &before.id, ColumnId(*id))? {
            return Err(contains_nulls(&now.name));
        }
    }
    Ok(())
}

/// Whether every stored value is a value of the new type as it stands.
fn is_safe(then: &RecordedColumn, now: &RecordedColumn) -> bool {
    if then.stored != now.stored {
        return false;
    }
    if then.type_name == now.type_name && then.typmod == now.typmod {
        return true;
    }
    now.stored == LogicalType::Text && (now.typmod == -1 || then.typmod != -1 && now.typmod >= then.typmod)
}

/// Whether a stored row may hold NULL in the column.
fn has_nulls(relation: pg_sys::Oid, datasource: &[u8; 16], column: ColumnId) -> Result<bool> {
    super::pending::flush(datasource)?;
    let opened = super::datasource::open(relation)?;
    let position = opened.schema.position(column);
    let missing_is_null = position.is_none_or(|p| opened.missing[p].is_null());
    let snapshot = crate::pg::snapshot::ActiveSnapshot::latest();
    let found = segment::visible(datasource, None).iter().any(|entry| {
        match entry.statistics.columns.iter().find(|c| c.id == column) {
            Some(statistics) => statistics.nulls > 0,
            None => missing_is_null && entry.rows > 0,
        }
    });
    drop(snapshot);
    Ok(found)
}
