//! Division of numerics as PostgreSQL does it, display scale included.

use pgrx::pg_sys::{self, Datum};

/// `dividend / divisor`, both numerics and not NULL; in the current memory context.
pub fn divide(dividend: Datum, divisor: Datum) -> Datum {
    // SAFETY: both are detoasted numerics; without an error flag PostgreSQL raises its own errors.
    unsafe {
        Datum::from(pg_sys::numeric_div_opt_error(
            dividend.cast_mut_ptr(),
            divisor.cast_mut_ptr(),
            std::ptr::null_mut(),
        ))
    }
}
