//! Segments whose bytes are not stored, but merged from their sources again.

use std::sync::Arc;

use basalt_engine::segment::{MergeSource, merge_filling};
use basalt_engine::types::{Column, Physical, Schema, Value};
use pgrx::pg_sys;
use serde::{Deserialize, Serialize};

use super::cache::{self, NewFile};
use super::datasource::Datasource;
use super::publish::build_options;
use super::segment::{self, SegmentEntry};
use crate::error::{Error, Result};
use crate::pg::spi::{self, Statement};
use crate::pg::{multirange, thread};

/// What a derived segment is merged to: with equal sources, it gives equal bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    schema: Schema,
    /// For each column, the bytes (numbers: little-endian) of what rows of sources that lack it hold; `None`: NULL.
    missing: Vec<Option<Vec<u8>>>,
}

impl Recipe {
    pub fn of(datasource: &Datasource) -> Self {
        let bytes = |value: &Value| match value {
            Value::Null => None,
            Value::I64(v) => Some(v.to_le_bytes().to_vec()),
            Value::I128(v) => Some(v.to_le_bytes().to_vec()),
            Value::F64(v) => Some(v.to_bits().to_le_bytes().to_vec()),
            Value::Bytes(v) => Some(v.clone()),
        };
        Recipe { schema: (*datasource.schema).clone(), missing: datasource.missing.iter().map(bytes).collect() }
    }

    /// `None`: bytes that are no value of their column.
    fn missing(&self) -> Option<Vec<Value>> {
        let value = |column: &Column, bytes: &Option<Vec<u8>>| -> Option<Value> {
            let Some(bytes) = bytes else { return Some(Value::Null) };
            Some(match column.ty.physical() {
                Physical::I64 => Value::I64(i64::from_le_bytes(bytes.as_slice().try_into().ok()?)),
                Physical::I128 => Value::I128(i128::from_le_bytes(bytes.as_slice().try_into().ok()?)),
                Physical::F64 => Value::F64(f64::from_bits(u64::from_le_bytes(bytes.as_slice().try_into().ok()?))),
                Physical::Bytes => Value::Bytes(bytes.clone()),
            })
        };
        self.schema.columns.iter().zip(&self.missing).map(|(column, bytes)| value(column, bytes)).collect()
    }
}

static RECIPE: Statement =
    Statement { sql: "SELECT recipe FROM basalt.segment WHERE id = $1", types: &[pg_sys::UUIDOID] };

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
    let recipe = RECIPE.read(&[spi::uuid(&id)], |rows| rows.bytes(0, 0)).ok_or_else(|| lost("no recipe"))?;
    let recipe: Recipe = serde_json::from_slice(&recipe).map_err(|_| lost("unreadable recipe"))?;
    let missing = recipe.missing().ok_or_else(|| lost("unreadable recipe"))?;
    let parts = PARTS.read(&[spi::uuid(&id)], |rows| {
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
    thread::run(&cancel, || merge_filling(Arc::new(recipe.schema), &sources, &missing, options, out).map(drop))
}
