//! Encodings of a block's values: `docs/segment-format.md`, section 6.
//!
//! Each encoding has its writer and its reader in one file. Readers trust no byte: no panic, no
//! allocation beyond a block's rows or what the input's length justifies.

pub(crate) mod bitpack;
pub(crate) mod bytes;
mod choose;
pub(crate) mod cursor;
pub(crate) mod float;
pub(crate) mod int;
pub(crate) mod validity;
pub(crate) mod wide;

#[cfg(test)]
mod kernels;
#[cfg(test)]
mod tests;

/// The encoding registry. Numbers are never reused.
pub(crate) mod tag {
    pub const ALL_NULL: u8 = 0;
    pub const CONSTANT: u8 = 1;
    pub const RUN_LENGTH: u8 = 2;
    pub const PACKED: u8 = 3;
    pub const DELTA: u8 = 4;
    pub const WIDE: u8 = 5;
    pub const PLAIN: u8 = 6;
    pub const LZ4: u8 = 7;
    pub const SINGLE: u8 = 8;
    pub const DECIMAL: u8 = 9;
    pub const PATCHED: u8 = 10;
    pub const PATCHED_DELTA: u8 = 11;
    pub const TABLE: u8 = 12;
}

pub(crate) fn unknown(tag: u8) -> crate::Error {
    crate::Error::Unsupported { what: format!("encoding {tag}") }
}

/// Least compressed size that is worth its decompression, of a raw size.
pub(crate) fn lz4_pays(raw: usize, compressed: usize) -> bool {
    compressed < raw - raw / 8
}

/// Greatest expansion of an LZ4 block: a length byte of 255 stands for 255 bytes.
pub(crate) const LZ4_MAX_RATIO: usize = 255;
