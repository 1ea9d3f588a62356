//! Foreign servers and user mappings.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;

use super::list;

/// A foreign server.
pub struct Server {
    pub oid: pg_sys::Oid,
    pub wrapper: String,
    pub options: Vec<(String, String)>,
}

/// `None`: there is no server of that name.
pub fn server(name: &str) -> Option<Server> {
    let name = CString::new(name).ok()?;
    // SAFETY: with missing_ok null means that there is none; else palloc'ed structs with C strings and lists of DefElems.
    unsafe {
        let server = pg_sys::GetForeignServerByName(name.as_ptr(), true);
        if server.is_null() {
            return None;
        }
        let wrapper = pg_sys::GetForeignDataWrapper((*server).fdwid);
        Some(Server {
            oid: (*server).serverid,
            wrapper: CStr::from_ptr((*wrapper).fdwname).to_string_lossy().into_owned(),
            options: list::options((*server).options),
        })
    }
}

/// Options of the role's user mapping, else of the one for PUBLIC; none without either.
pub fn user_options(server: pg_sys::Oid, role: pg_sys::Oid) -> Vec<(String, String)> {
    let exists = |role: pg_sys::Oid| {
        // SAFETY: a syscache lookup by (role, server); the tuple is released.
        unsafe {
            let cache = pg_sys::SysCacheIdentifier::USERMAPPINGUSERSERVER as i32;
            let tuple = pg_sys::SearchSysCache2(cache, role.into(), server.into());
            if tuple.is_null() {
                return false;
            }
            pg_sys::ReleaseSysCache(tuple);
            true
        }
    };
    if !exists(role) && !exists(pg_sys::InvalidOid) {
        return Vec::new();
    }
    // SAFETY: one of the two that it looks for exists.
    unsafe { list::options((*pg_sys::GetUserMapping(role, server)).options) }
}

/// Whether the role has USAGE on the server.
pub fn may_use(server: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: a plain permission check.
    unsafe { pg_sys::pg_foreign_server_aclcheck(server, role, pg_sys::ACL_USAGE) == pg_sys::AclResult::ACLCHECK_OK }
}
