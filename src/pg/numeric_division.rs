//! Division and roots of numerics as PostgreSQL's aggregates take them, display scale included.

use std::ffi::CString;

use pgrx::pg_sys::{self, Datum, Oid};

use crate::error::Result;

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

/// The square root of a numeric that is not NaN, with as many decimals as that shows: what stddev makes of a variance.
pub fn square_root(variance: Datum) -> Datum {
    let call = |function: u32, arguments: &[Datum]| {
        // SAFETY: built-in functions that return no NULL for these arguments.
        unsafe {
            match arguments {
                [one] => pg_sys::OidFunctionCall1Coll(Oid::from(function), Oid::INVALID, *one),
                [one, two, ..] => pg_sys::OidFunctionCall2Coll(Oid::from(function), Oid::INVALID, *one, *two),
                [] => Datum::from(0usize),
            }
        }
    };
    let scale = call(pg_sys::F_SCALE, &[variance]).value() as i32;
    // PostgreSQL's function chooses decimals by itself, at least as many as its argument has. A root of a number with n decimals that is not
    // half-way between two of n decimals differs from that within twice as many, and those of its integral part.
    let wide = call(pg_sys::F_ROUND_NUMERIC_INT4, &[variance, Datum::from(scale * 2 + 40)]);
    let root = call(pg_sys::F_SQRT_NUMERIC, &[wide]);
    call(pg_sys::F_ROUND_NUMERIC_INT4, &[root, Datum::from(scale)])
}

/// A numeric from its text.
pub fn parse(text: &str) -> Result<Datum> {
    let text = CString::new(text).map_err(|_| basalt_engine::Error::invalid("a number with a zero byte"))?;
    // SAFETY: the input function copies what it needs of the string.
    unsafe {
        Ok(pg_sys::OidInputFunctionCall(Oid::from(pg_sys::F_NUMERIC_IN), text.as_ptr().cast_mut(), Oid::INVALID, -1))
    }
}
