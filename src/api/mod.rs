//! SQL-callable functions.

mod admin;
mod events;
mod ingestion;

use pgrx::{PgSqlErrorCode, pg_sys};

use crate::error::{Error, Result};
use crate::pg::{relation, session};

/// Errors: `InsufficientPrivilege` unless the current user owns the relation (or a role that does, or is a superuser).
pub fn require_ownership(table: pg_sys::Oid) -> Result<()> {
    if relation::is_owner(table, session::user()) {
        return Ok(());
    }
    Err(Error::new(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("must be owner of foreign table {}", crate::catalog::datasource::name(table)),
    ))
}
