//! Oids of the catalog's tables and indexes, looked up by name (PostgreSQL caches the lookups).

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::{owner, relation};

/// A table or index of the catalog.
pub fn relation(name: &CStr) -> pg_sys::Oid {
    relation::named(name, owner::extension_schema()).unwrap_or_else(|| owner::missing().raise())
}

/// The class of datasources in locks.
pub fn datasource_class() -> pg_sys::Oid {
    relation(c"datasource")
}
