//! Acting as the extension's owner with a fixed `search_path`: catalog tables are not the users' to read or write.

use pgrx::{PgSqlErrorCode, pg_sys};

use super::relation;
use crate::error::Error;

/// Until dropped, the current user is the owner of the extension and `search_path` is `pg_catalog, pg_temp`.
/// Callers check the real user's privileges before.
pub struct AsOwner {
    user: pg_sys::Oid,
    context: i32,
    nest: i32,
}

impl AsOwner {
    pub fn new() -> Self {
        let owner = extension_owner();
        let mut user = pg_sys::InvalidOid;
        let mut context = 0;
        // SAFETY: out parameters are valid; the GUC nest level is closed by Drop, or by transaction abort.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            let nest = pg_sys::NewGUCNestLevel();
            super::settings::set(c"search_path", c"pg_catalog, pg_temp");
            pg_sys::SetUserIdAndSecContext(
                owner,
                context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32 | pg_sys::SECURITY_NOFORCE_RLS as i32,
            );
            AsOwner { user, context, nest }
        }
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        // SAFETY: restores what `new` found; on the error path PostgreSQL's abort does the same again, harmlessly.
        unsafe {
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
            pg_sys::AtEOXact_GUC(false, self.nest);
        }
    }
}

/// The role that owns schema `basalt`, hence the extension's objects.
fn extension_owner() -> pg_sys::Oid {
    let schema = extension_schema();
    // SAFETY: syscache lookup; the tuple is released before return.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::NAMESPACEOID as i32, schema.into());
        if tuple.is_null() {
            missing().raise();
        }
        let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_namespace>();
        let owner = (*form).nspowner;
        pg_sys::ReleaseSysCache(tuple);
        owner
    }
}

/// Schema `basalt`.
pub fn extension_schema() -> pg_sys::Oid {
    relation::schema_named(c"basalt").unwrap_or_else(|| missing().raise())
}

pub fn missing() -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, "extension \"basalt\" is not installed in this database")
        .hint("Run: CREATE EXTENSION basalt;")
}
