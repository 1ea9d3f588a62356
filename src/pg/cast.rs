//! Conversions that PostgreSQL does for us.

use pgrx::{PgSqlErrorCode, pg_sys};

use super::values;
use crate::error::{Error, Result};

/// Casts a value as an assignment does: the same type, by a cast function, or from text by the input function. Raises
/// PostgreSQL's own errors for values that cannot be cast. Errors: there is no such cast.
pub fn cast(value: pg_sys::Datum, from: pg_sys::Oid, to: pg_sys::Oid) -> Result<pg_sys::Datum> {
    if from == to {
        return Ok(value);
    }
    if from == pg_sys::TEXTOID || from == pg_sys::VARCHAROID {
        let text = values::with_varlena(value, |bytes| String::from_utf8_lossy(bytes).into_owned());
        return values::input(to, -1, &text);
    }
    let mut function = pg_sys::InvalidOid;
    // SAFETY: plain lookups; the cast function takes the value's type (these casts of date and time types have one
    // argument, or a type modifier that is left out only where the function has one argument).
    unsafe {
        let path = pg_sys::find_coercion_pathway(to, from, pg_sys::CoercionContext::COERCION_EXPLICIT, &mut function);
        match path {
            pg_sys::CoercionPathType::COERCION_PATH_RELABELTYPE => return Ok(value),
            pg_sys::CoercionPathType::COERCION_PATH_FUNC if pg_sys::get_func_nargs(function) == 1 => {
                return Ok(pg_sys::OidFunctionCall1Coll(function, pg_sys::InvalidOid, value));
            }
            _ => {}
        }
    }
    Err(Error::new(
        PgSqlErrorCode::ERRCODE_CANNOT_COERCE,
        format!("cannot cast type {} to {}", super::ddl::type_name(from), super::ddl::type_name(to)),
    ))
}

/// A `bigint[]`.
pub fn int8_array(values: &[i64]) -> pg_sys::Datum {
    let mut elements: Vec<pg_sys::Datum> = values.iter().map(|v| pg_sys::Datum::from(*v)).collect();
    // SAFETY: elements are passed by value; the array copies them.
    unsafe {
        pg_sys::Datum::from(pg_sys::construct_array(
            elements.as_mut_ptr(),
            elements.len() as i32,
            pg_sys::INT8OID,
            8,
            true,
            pg_sys::TYPALIGN_DOUBLE as std::ffi::c_char,
        ))
    }
}
