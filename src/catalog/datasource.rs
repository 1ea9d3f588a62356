//! A datasource as its foreign table declares it: identity, schema, options.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use basalt_engine::types::{Column, ColumnId, LogicalType, Schema, Value};
use pgrx::{PgSqlErrorCode, pg_sys};

use super::options::{ColumnOptions, TableOptions};
use super::tables;
use crate::error::{Error, Result};
use crate::pg;
use crate::pg::scan::{IndexScan, Under};
use crate::pg::{callbacks, relation};

/// A datasource, as of the last change of its table.
#[derive(Debug)]
pub struct Datasource {
    pub id: [u8; 16],
    pub relation: pg_sys::Oid,
    /// Columns in the order of their attribute numbers.
    pub schema: Arc<Schema>,
    /// Attribute number - 1 -> position in `schema.columns`; `None`: dropped.
    pub attributes: Vec<Option<usize>>,
    /// For each column of the schema, what rows of older segments hold.
    pub missing: Vec<Value>,
    /// For each column of the schema, its type and type modifier.
    pub types: Vec<(pg_sys::Oid, i32)>,
    /// Counts changes of the table's columns and options; 0 until the catalog knows the datasource.
    pub schema_generation: i32,
    pub options: TableOptions,
}

thread_local! {
    static OPEN: RefCell<HashMap<pg_sys::Oid, Arc<Datasource>>> = RefCell::new(HashMap::new());
}

pub fn register_callbacks() {
    callbacks::at_relation_change(forget);
}

fn forget(relation: pg_sys::Oid) {
    OPEN.with(|open| {
        // Invalidations may arrive while an entry is being made; it is inserted afterwards under the table's lock.
        if let Ok(mut open) = open.try_borrow_mut() {
            if relation == pg_sys::InvalidOid {
                open.clear();
            } else {
                open.remove(&relation);
            }
        }
    });
}

/// Opens the datasource of a foreign table, locking the table (`AccessShareLock`, to the end of the transaction).
/// Errors: `WrongObjectType` if it is not a datasource; `ObjectNotInPrerequisiteState` if ids were never assigned.
pub fn open(relation: pg_sys::Oid) -> Result<Arc<Datasource>> {
    relation::lock(relation, relation::Level::Read);
    if let Some(known) = OPEN.with_borrow(|open| open.get(&relation).cloned()) {
        return Ok(known);
    }
    let made = Arc::new(read(relation)?);
    OPEN.with_borrow_mut(|open| open.insert(relation, made.clone()));
    Ok(made)
}

/// Whether the relation is a foreign table of wrapper `basalt`.
pub fn is_datasource(relation: pg_sys::Oid) -> bool {
    relation::is_foreign_table_of(relation, c"basalt")
}

/// Name of a relation for messages.
pub fn name(relation: pg_sys::Oid) -> String {
    relation::name(relation).unwrap_or_else(|| u32::from(relation).to_string())
}

/// One live column of a foreign table.
pub struct TableColumn {
    pub attribute: i16,
    pub name: String,
    pub type_oid: pg_sys::Oid,
    pub typmod: i32,
    pub ty: LogicalType,
    pub not_null: bool,
    pub generated: bool,
    pub options: ColumnOptions,
}

/// Live columns in the order of their attribute numbers, and how many attributes there are with the dropped ones.
pub fn table_columns(relation: pg_sys::Oid) -> Result<(Vec<TableColumn>, usize)> {
    let described = relation::describe(relation);
    let column = |attribute: relation::Attribute| {
        Ok(TableColumn {
            options: ColumnOptions::parse(&relation::column_options(relation, attribute.number))?,
            attribute: attribute.number,
            name: attribute.name,
            type_oid: attribute.type_oid,
            typmod: attribute.typmod,
            ty: pg::types::logical_type(attribute.type_oid, attribute.typmod),
            not_null: attribute.not_null,
            generated: attribute.generated,
        })
    };
    let columns = described.attributes.into_iter().map(column).collect::<Result<Vec<_>>>()?;
    Ok((columns, described.numbers))
}

/// Position of the time column: the one named, else the first of a date or timestamp type.
pub fn time_position(options: &TableOptions, columns: &[TableColumn]) -> Result<Option<usize>> {
    let Some(name) = &options.time_column else {
        return Ok(columns.iter().position(|c| c.ty.is_time()));
    };
    let Some(position) = columns.iter().position(|c| &c.name == name) else {
        return Err(no_column("time_column", name, columns));
    };
    if !columns[position].ty.is_time() {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("time column \"{name}\" must be of type date, timestamp or timestamp with time zone"),
        ));
    }
    Ok(Some(position))
}

/// Positions of the columns named by option `cluster_by`.
pub fn cluster_positions(options: &TableOptions, columns: &[TableColumn]) -> Result<Vec<usize>> {
    let mut positions = Vec::new();
    for name in &options.cluster_by {
        match columns.iter().position(|c| &c.name == name) {
            Some(position) if !positions.contains(&position) => positions.push(position),
            Some(_) => {}
            None => return Err(no_column("cluster_by", name, columns)),
        }
    }
    Ok(positions)
}

fn no_column(option: &str, name: &str, columns: &[TableColumn]) -> Error {
    let known: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    Error::new(
        PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
        format!("column \"{name}\" named in option \"{option}\" does not exist"),
    )
    .hint(format!("Columns: {}.", known.join(", ")))
}

fn read(relation: pg_sys::Oid) -> Result<Datasource> {
    // Dropped while its lock was awaited.
    if !relation::exists(relation) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            format!("relation with OID {} does not exist", u32::from(relation)),
        ));
    }
    if !is_datasource(relation) {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("\"{}\" is not a datasource", name(relation)),
        )
        .hint("Datasources are made with CREATE FOREIGN TABLE ... SERVER basalt."));
    }
    let options = TableOptions::parse(&relation::table_options(relation))?;
    let (columns, natts) = table_columns(relation)?;
    let Some(id) = options.datasource_id else {
        return Err(without_ids(relation, "The table has no option \"datasource_id\"."));
    };
    let mut schema = Schema { columns: Vec::new(), time: None, cluster_by: Vec::new() };
    let mut attributes = vec![None; natts];
    let mut missing = Vec::new();
    let mut types = Vec::new();
    for column in &columns {
        let Some(column_id) = column.options.column_id else {
            return Err(without_ids(relation, &format!("Column \"{}\" has no option \"column_id\".", column.name)));
        };
        attributes[column.attribute as usize - 1] = Some(schema.columns.len());
        schema.columns.push(Column { id: ColumnId(column_id), ty: column.ty, indexed: column.options.indexed });
        missing.push(missing_value(column)?);
        types.push((column.type_oid, column.typmod));
    }
    schema.time = time_position(&options, &columns)?;
    schema.cluster_by = cluster_positions(&options, &columns)?;
    let schema_generation = generation(&id);
    Ok(Datasource { id, relation, schema: Arc::new(schema), attributes, missing, types, schema_generation, options })
}

fn without_ids(relation: pg_sys::Oid, detail: &str) -> Error {
    Error::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("datasource \"{}\" has no ids yet", name(relation)),
    )
    .detail(format!(
        "{detail} Ids are assigned by an event trigger, which does not run while session_replication_role is replica."
    ))
    .hint("Run basalt.assign_ids on the table.")
}

/// Option `missing` of a column in physical form.
fn missing_value(column: &TableColumn) -> Result<Value> {
    let Some(text) = &column.options.missing else { return Ok(Value::Null) };
    let fixed = pg::settings::FixedSettings::new();
    let datum = pg::values::input(column.type_oid, column.typmod, text)?;
    let value = pg::values::Codec::new(column.type_oid, column.typmod).to_value(datum, false);
    drop(fixed);
    value
}

/// `schema_generation` of the catalog's row, whatever snapshot the query has; 0 if there is no row.
fn generation(id: &[u8; 16]) -> i32 {
    let (table, index) = (tables::relation(c"datasource"), tables::relation(c"datasource_pkey"));
    let mut scan = IndexScan::by_uuid(table, index, id, Under::Latest);
    let generation = if scan.advance() { scan.get(3).map_or(0, |d| d.value() as i32) } else { 0 };
    scan.end();
    generation
}
