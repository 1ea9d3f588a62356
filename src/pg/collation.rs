//! How collations order strings.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use pgrx::pg_sys::{self, Oid};

/// `pg_locale_struct` of utils/pg_locale.h, as far as it is read.
#[repr(C)]
struct Locale {
    provider: c_char,
    deterministic: bool,
    /// libc's `locale_t`, of that provider.
    locale: *mut c_void,
}

const LIBC: c_char = b'c' as c_char;

unsafe extern "C-unwind" {
    fn lc_collate_is_c(collation: Oid) -> bool;
    /// Null for the database's default, if that is libc's.
    fn pg_newlocale_from_collation(collation: Oid) -> *const Locale;
}

unsafe extern "C" {
    fn strxfrm(to: *mut c_char, from: *const c_char, size: usize) -> usize;
    fn strxfrm_l(to: *mut c_char, from: *const c_char, size: usize, locale: *mut c_void) -> usize;
}

/// Whether strings compare as bytes under the collation.
pub fn is_byte_order(collation: Oid) -> bool {
    if collation == pg_sys::InvalidOid {
        return false;
    }
    // SAFETY: they may raise an error for an unknown collation; pgrx's guard turns that into unwinding.
    let (c, locale) = unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| match lc_collate_is_c(collation) {
            true => (true, ptr::null()),
            false => (false, pg_newlocale_from_collation(collation)),
        })
    };
    c || transforms_nothing(locale)
}

/// Whether libc leaves strings as they are when it transforms them into bytes that compare like them, as it does in C.UTF-8: then it
/// compares them as bytes, too. Where it has weights for characters, it puts several levels of them one behind the other, which are longer than any text.
fn transforms_nothing(locale: *const Locale) -> bool {
    const PROBE: &CStr = c"bA a-B\xc3\xa9e\xcc\x81\xce\xa9\xe4\xb8\xad\xf0\x9f\x98\x80";
    let mut made = [0u8; 256];
    // SAFETY: the string ends in NUL, and no more than the buffer's size is written to it. PostgreSQL keeps a collation's locale for ever;
    // without one its database's is the process's.
    let length = unsafe {
        match locale.as_ref() {
            None => strxfrm(made.as_mut_ptr().cast(), PROBE.as_ptr(), made.len()),
            Some(of) if of.provider == LIBC && of.deterministic => {
                strxfrm_l(made.as_mut_ptr().cast(), PROBE.as_ptr(), made.len(), of.locale)
            }
            Some(_) => return false,
        }
    };
    made.get(..length) == Some(PROBE.to_bytes())
}
