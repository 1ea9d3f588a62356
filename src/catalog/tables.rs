//! Oids of the catalog's tables and indexes, looked up by name (PostgreSQL caches the lookups).

use std::ffi::CStr;

use pgrx::{PgSqlErrorCode, pg_sys};

use crate::error::Error;

/// Schema `basalt`.
pub fn schema() -> pg_sys::Oid {
    // SAFETY: a C string; InvalidOid if there is none.
    let oid = unsafe { pg_sys::get_namespace_oid(c"basalt".as_ptr(), true) };
    if oid == pg_sys::InvalidOid {
        missing().raise();
    }
    oid
}

/// A table or index of the catalog.
pub fn relation(name: &CStr) -> pg_sys::Oid {
    // SAFETY: a C string; InvalidOid if there is none.
    let oid = unsafe { pg_sys::get_relname_relid(name.as_ptr(), schema()) };
    if oid == pg_sys::InvalidOid {
        missing().raise();
    }
    oid
}

/// The class of datasources in locks.
pub fn datasource_class() -> pg_sys::Oid {
    relation(c"datasource")
}

pub fn missing() -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, "extension \"basalt\" is not installed in this database")
        .hint("Run: CREATE EXTENSION basalt;")
}
