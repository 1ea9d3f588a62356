//! Safe wrappers over PostgreSQL's C interfaces.

pub mod array;
pub mod callbacks;
pub mod cast;
pub mod classes;
pub mod collation;
pub mod copy;
pub mod ddl;
pub mod disk;
pub mod eval;
pub mod expression;
pub mod fold;
pub mod foreign;
pub mod function;
pub mod interrupts;
pub mod list;
pub mod lock;
pub mod lookup;
pub mod lru;
pub mod memory;
pub mod multirange;
pub mod node;
pub mod numeric;
pub mod numeric_division;
pub mod owner;
pub mod relation;
pub mod row;
pub mod scan;
pub mod session;
pub mod settings;
pub mod slots;
pub mod snapshot;
pub mod spi;
pub mod spill;
pub mod subplan;
pub mod thread;
pub mod time;
pub mod types;
pub mod values;
pub mod workers;

use pgrx::pg_sys;

/// Called first in `_PG_init`. Errors are raised as Rust panics on their way to PostgreSQL; a RUST_BACKTRACE in the
/// server's environment would put a backtrace into each one's DETAIL. RUST_LIB_BACKTRACE still asks for it.
pub fn leave_backtraces_out() {
    if std::env::var_os("RUST_LIB_BACKTRACE").is_none() {
        // SAFETY: the process has a single thread while it loads the library.
        unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") }
    }
}

/// A random (version 4) uuid.
pub fn random_uuid() -> [u8; 16] {
    let mut bytes = [0u8; 16];
    // SAFETY: the buffer is 16 bytes long.
    let ok = unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    if !ok {
        crate::error::Error::new(pgrx::PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "could not generate random values")
            .raise();
    }
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    bytes
}

/// The usual text form of a uuid.
pub fn uuid_text(id: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in id.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Reads 32 hexadecimal digits, with or without hyphens between bytes.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|b| *b != b'-')
        .map(|b| (b as char).to_digit(16))
        .map_while(|d| d.map(|d| d as u8))
        .collect();
    if digits.len() != 32 || text.bytes().filter(|b| *b != b'-').count() != 32 {
        return None;
    }
    let mut id = [0u8; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(id)
}

/// Whether the postmaster loads the library, from shared_preload_libraries.
pub fn is_preloading() -> bool {
    // SAFETY: a plain global of the server.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}
