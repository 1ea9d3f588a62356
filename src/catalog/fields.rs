//! How messages become rows of a datasource: one field a column.

use basalt_background::json::{Field, Parse};
use basalt_engine::types::{LogicalType, Value};
use pgrx::{PgSqlErrorCode, pg_sys};

use super::datasource::{self, TableColumn};
use crate::error::{Error, Result};
use crate::pg::expression::{self, ConstantDefault};
use crate::pg::settings::FixedSettings;
use crate::pg::values::Codec;
use crate::pg::{relation, types};

/// Fields in the order of the schema's columns. Errors: `FeatureNotSupported` for what only PostgreSQL can enforce
/// row by row: CHECK constraints, generated columns, defaults that are not constant, domains with constraints.
pub fn of_table(relation: pg_sys::Oid) -> Result<Vec<Field>> {
    let (columns, _) = datasource::table_columns(relation)?;
    if relation::describe(relation).has_check {
        return Err(unsupported(relation, "The table has CHECK constraints.", "Drop them, or check in a view."));
    }
    let fixed = FixedSettings::new();
    let fields = columns.iter().map(|column| field(relation, column)).collect();
    drop(fixed);
    fields
}

fn unsupported(relation: pg_sys::Oid, detail: &str, hint: &str) -> Error {
    Error::new(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("cannot ingest messages into \"{}\"", datasource::name(relation)),
    )
    .detail(detail)
    .hint(hint)
}

fn field(relation: pg_sys::Oid, column: &TableColumn) -> Result<Field> {
    let name = &column.name;
    if types::has_domain_constraints(column.type_oid) {
        let detail = format!("The type of column \"{name}\" is a domain with constraints.");
        return Err(unsupported(relation, &detail, "Use the domain's base type."));
    }
    if column.generated {
        let detail = format!("Column \"{name}\" is generated.");
        return Err(unsupported(relation, &detail, "Compute it in a view."));
    }
    let default = match expression::constant_default(relation, column.attribute) {
        ConstantDefault::None => Value::Null,
        ConstantDefault::Value(datum, is_null) => {
            Codec::new(column.type_oid, column.typmod).to_value(datum, is_null)?
        }
        ConstantDefault::Variable => {
            let detail = format!("The default of column \"{name}\" is not a constant.");
            return Err(unsupported(relation, &detail, "Drop the default, or make it a constant."));
        }
    };
    let (base, typmod) = crate::pg::types::base_type(column.type_oid, column.typmod);
    let parse = match column.ty {
        LogicalType::Text if typmod > pg_sys::VARHDRSZ as i32 => {
            Parse::Text { max_characters: Some((typmod - pg_sys::VARHDRSZ as i32) as u32) }
        }
        LogicalType::BpChar if typmod > pg_sys::VARHDRSZ as i32 => {
            Parse::BpChar { characters: (typmod - pg_sys::VARHDRSZ as i32) as u32 }
        }
        // numeric(p, s) beyond what fits: PostgreSQL rounds and checks.
        LogicalType::NumericText if typmod >= 0 => Parse::Host { array: false },
        LogicalType::Opaque => Parse::Host { array: types::is_array(base) },
        ty => Parse::of(ty),
    };
    let type_name = types::name(column.type_oid, column.typmod);
    Ok(Field { name: name.clone(), type_name, parse, not_null: column.not_null, default })
}
