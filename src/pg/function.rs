//! SQL-callable functions.

use std::ffi::CStr;

use pgrx::{PgSqlErrorCode, pg_sys};

use crate::error::{Error, Result};

/// The calling convention of every function that is not declared through pgrx.
pub static VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };

/// Declares an SQL-callable C function: `function!(info_name, name, |arguments| body)`, where the body is given [`Arguments`] and returns
/// `Result<Datum>`.
macro_rules! function {
    ($info:ident, $name:ident, $body:expr) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pgrx::pg_sys::Pg_finfo_record {
            &$crate::pg::function::VERSION_1
        }

        #[unsafe(no_mangle)]
        #[pgrx::pg_guard]
        pub unsafe extern "C-unwind" fn $name(call: pgrx::pg_sys::FunctionCallInfo) -> pgrx::pg_sys::Datum {
            let body: fn(&$crate::pg::function::Arguments) -> $crate::error::Result<pgrx::pg_sys::Datum> = $body;
            // SAFETY: PostgreSQL makes the call, and as the function is declared in sql/.
            let arguments = unsafe { $crate::pg::function::Arguments::new(call) };
            $crate::error::OrRaise::or_raise(body(&arguments))
        }
    };
}
pub(crate) use function;

/// What functions that return void return.
pub fn void() -> pg_sys::Datum {
    pg_sys::Datum::from(0usize)
}

/// Arguments of a call, by position from 0, of the types that sql/ declares.
pub struct Arguments(pg_sys::FunctionCallInfo);

impl Arguments {
    /// # Safety
    /// `call` is PostgreSQL's, and outlives the result.
    pub unsafe fn new(call: pg_sys::FunctionCallInfo) -> Self {
        Arguments(call)
    }

    pub fn call(&self) -> pg_sys::FunctionCallInfo {
        self.0
    }

    /// `None` if it is NULL or not there.
    pub fn get(&self, at: usize) -> Option<pg_sys::Datum> {
        // SAFETY: `args` has `nargs` elements.
        unsafe {
            let count = (*self.0).nargs as usize;
            let given = (*self.0).args.as_slice(count).get(at)?;
            (!given.isnull).then_some(given.value)
        }
    }

    /// The type that the caller gave for an argument of a polymorphic type.
    pub fn type_of(&self, at: usize) -> pg_sys::Oid {
        // SAFETY: the call's function information is PostgreSQL's.
        unsafe { pg_sys::get_fn_expr_argtype((*self.0).flinfo, at as i32) }
    }

    pub fn oid(&self, at: usize) -> Option<pg_sys::Oid> {
        self.get(at).map(|d| pg_sys::Oid::from(d.value() as u32))
    }

    pub fn text(&self, at: usize) -> Option<String> {
        self.get(at).map(|d| super::values::with_varlena(d, |b| String::from_utf8_lossy(b).into_owned()))
    }

    /// An argument of type `name`.
    pub fn name(&self, at: usize) -> Option<String> {
        // SAFETY: a `name` points to NAMEDATALEN bytes with a terminating NUL.
        self.get(at).map(|d| unsafe { CStr::from_ptr(d.cast_mut_ptr()) }.to_string_lossy().into_owned())
    }

    pub fn i64(&self, at: usize) -> Option<i64> {
        self.get(at).map(|d| d.value() as i64)
    }

    /// A relation that must not be NULL.
    pub fn relation(&self, at: usize) -> Result<pg_sys::Oid> {
        self.oid(at)
            .ok_or_else(|| Error::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, "the table must not be NULL"))
    }
}
