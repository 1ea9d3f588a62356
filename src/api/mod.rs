//! SQL-callable functions.

mod admin;
mod events;
mod ingestion;

use pgrx::pg_sys;

/// The calling convention of every function that is not declared through pgrx.
pub static VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };

/// Declares an SQL-callable C function: `function!(info_name, name, |call| body)`.
macro_rules! function {
    ($info:ident, $name:ident, $body:expr) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pgrx::pg_sys::Pg_finfo_record {
            &$crate::api::VERSION_1
        }

        #[unsafe(no_mangle)]
        #[pgrx::pg_guard]
        pub unsafe extern "C-unwind" fn $name(call: pgrx::pg_sys::FunctionCallInfo) -> pgrx::pg_sys::Datum {
            let body: unsafe fn(pgrx::pg_sys::FunctionCallInfo) -> $crate::error::Result<pgrx::pg_sys::Datum> = $body;
            // SAFETY: PostgreSQL calls the function as it is declared in sql/.
            unsafe { $crate::error::OrRaise::or_raise(body(call)) }
        }
    };
}
pub(crate) use function;

/// What functions that return void return.
pub fn void() -> pg_sys::Datum {
    pg_sys::Datum::from(0usize)
}

/// Arguments of a call.
pub struct Arguments(pg_sys::FunctionCallInfo);

impl Arguments {
    /// # Safety
    /// `call` is a valid call.
    pub unsafe fn new(call: pg_sys::FunctionCallInfo) -> Self {
        Arguments(call)
    }

    /// Argument `at` (from 0); `None` if it is NULL or not there.
    pub fn get(&self, at: usize) -> Option<pg_sys::Datum> {
        // SAFETY: `args` has `nargs` elements.
        unsafe {
            let count = (*self.0).nargs as usize;
            let given = (*self.0).args.as_slice(count).get(at)?;
            (!given.isnull).then_some(given.value)
        }
    }

    pub fn oid(&self, at: usize) -> Option<pg_sys::Oid> {
        self.get(at).map(|d| pg_sys::Oid::from(d.value() as u32))
    }

    pub fn text(&self, at: usize) -> Option<String> {
        self.get(at).map(|d| crate::pg::values::with_varlena(d, |b| String::from_utf8_lossy(b).into_owned()))
    }

    pub fn i64(&self, at: usize) -> Option<i64> {
        self.get(at).map(|d| d.value() as i64)
    }

    /// A relation argument that must not be NULL.
    pub fn relation(&self, at: usize) -> crate::error::Result<pg_sys::Oid> {
        self.oid(at).ok_or_else(|| {
            crate::error::Error::new(pgrx::PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, "the table must not be NULL")
        })
    }
}

/// Errors: `InsufficientPrivilege` unless the current user owns the relation (or a role that does, or is a superuser).
pub fn require_ownership(relation: pg_sys::Oid) -> crate::error::Result<()> {
    // SAFETY: plain calls.
    if unsafe { pg_sys::pg_class_ownercheck(relation, pg_sys::GetUserId()) } {
        return Ok(());
    }
    Err(crate::error::Error::new(
        pgrx::PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("must be owner of foreign table {}", crate::catalog::datasource::name(relation)),
    ))
}

/// Raises in a read-only transaction, hence on a standby.
pub fn require_writes(command: &'static std::ffi::CStr) {
    // SAFETY: a static C string.
    unsafe { pg_sys::PreventCommandIfReadOnly(command.as_ptr()) }
}
