//! How messages become rows of a datasource: one field a column.

use basalt_background::json::{Field, Parse};
use basalt_engine::types::{LogicalType, Value};
use pgrx::{PgSqlErrorCode, pg_sys};

use super::datasource::{self, TableColumn};
use crate::error::{Error, Result};
use crate::pg::settings::FixedSettings;
use crate::pg::values::Codec;

/// Fields in the order of the schema's columns. Errors: `FeatureNotSupported` for what only PostgreSQL can enforce
/// row by row: CHECK constraints, generated columns, defaults that are not constant, domains with constraints.
pub fn of_table(relation: pg_sys::Oid) -> Result<Vec<Field>> {
    let (columns, _) = datasource::table_columns(relation)?;
    let facts = facts(relation, &columns);
    if facts.has_check {
        return Err(unsupported(relation, "The table has CHECK constraints.", "Drop them, or check in a view."));
    }
    let fixed = FixedSettings::new();
    let fields = columns.iter().zip(&facts.columns).map(|(column, fact)| field(relation, column, fact)).collect();
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

/// What `table_columns` does not tell.
struct Facts {
    has_check: bool,
    columns: Vec<ColumnFacts>,
}

enum ColumnFacts {
    Plain,
    Generated,
    /// Its constant, cast to the column's type, and whether it is NULL.
    Default(pg_sys::Datum, bool),
    VariableDefault,
}

fn facts(relation: pg_sys::Oid, columns: &[TableColumn]) -> Facts {
    // SAFETY: the relation stays open while its descriptor is read; default expressions are palloc'ed copies.
    unsafe {
        let open = pg_sys::relation_open(relation, pg_sys::AccessShareLock as i32);
        let descriptor = (*open).rd_att;
        let constraints = (*descriptor).constr;
        let has_check = !constraints.is_null() && (*constraints).num_check > 0;
        let one = |column: &TableColumn| {
            let attribute = &*(*descriptor).attrs.as_ptr().add(column.attribute as usize - 1);
            if attribute.attgenerated != 0 {
                return ColumnFacts::Generated;
            }
            let expression = pg_sys::build_column_default(open, i32::from(column.attribute));
            if expression.is_null() {
                return ColumnFacts::Plain;
            }
            let folded = pg_sys::eval_const_expressions(std::ptr::null_mut(), expression);
            if (*folded).type_ != pg_sys::NodeTag::T_Const {
                return ColumnFacts::VariableDefault;
            }
            let constant = folded.cast::<pg_sys::Const>();
            ColumnFacts::Default((*constant).constvalue, (*constant).constisnull)
        };
        let columns = columns.iter().map(one).collect();
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
        Facts { has_check, columns }
    }
}

fn field(relation: pg_sys::Oid, column: &TableColumn, facts: &ColumnFacts) -> Result<Field> {
    let name = &column.name;
    // SAFETY: a catalog lookup by type oid.
    if unsafe { pg_sys::DomainHasConstraints(column.type_oid) } {
        let detail = format!("The type of column \"{name}\" is a domain with constraints.");
        return Err(unsupported(relation, &detail, "Use the domain's base type."));
    }
    let default = match facts {
        ColumnFacts::Plain => Value::Null,
        ColumnFacts::Default(datum, is_null) => {
            Codec::new(column.type_oid, column.typmod).to_value(*datum, *is_null)?
        }
        ColumnFacts::Generated => {
            let detail = format!("Column \"{name}\" is generated.");
            return Err(unsupported(relation, &detail, "Compute it in a view."));
        }
        ColumnFacts::VariableDefault => {
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
        // SAFETY: a catalog lookup by type oid.
        LogicalType::Opaque => Parse::Host { array: unsafe { pg_sys::get_element_type(base) } != pg_sys::InvalidOid },
        ty => Parse::of(ty),
    };
    // SAFETY: a palloc'ed C string.
    let type_name = unsafe {
        let text = pg_sys::format_type_with_typemod(column.type_oid, column.typmod);
        std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned()
    };
    Ok(Field { name: name.clone(), type_name, parse, not_null: column.not_null, default })
}
