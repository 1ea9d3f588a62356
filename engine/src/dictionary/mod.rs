//! Sorted dictionaries of byte strings: `docs/segment-format.md`, section 7.

mod intern;
mod read;
mod symbols;
mod write;

#[cfg(test)]
mod tests;

pub use read::Dictionary;

pub(crate) use intern::Interner;
pub(crate) use read::{DictionaryIter, DictionaryMeta};
pub(crate) use write::{DictionaryWriter, shared};

/// Values of a full chunk: the unit that has a checksum.
pub(crate) const CHUNK_VALUES: usize = 1024;
/// Values of a full group: the unit that is searched without decoding others.
pub(crate) const GROUP_VALUES: usize = 16;

/// A value's token: how many bytes it shares with the one before in five bits, how many follow in three. The greatest
/// number of each says that a varint with what is above it follows.
const LONG_SHARED: usize = 31;
const LONG_REST: usize = 7;
