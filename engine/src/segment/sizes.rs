//! Where the bytes of a column are.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::ColumnReader;
use crate::Result;

/// Bytes of a column's parts in the file; they add up to its range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnSizes {
    pub dictionary: u64,
    pub blocks: u64,
    pub index: u64,
    pub metadata: u64,
}

impl ColumnReader<'_> {
    /// Errors: `Corrupt`, `Unsupported`.
    pub fn sizes(&self) -> Result<ColumnSizes> {
        let (meta, entry) = (self.meta()?, self.entry());
        let dictionary = meta.dictionary.as_ref().map_or(0, |d| d.bytes());
        let blocks = meta.blocks.iter().map(|b| b.body.length()).sum();
        let metadata = entry.meta_length;
        Ok(ColumnSizes { dictionary, blocks, index: entry.length - metadata - dictionary - blocks, metadata })
    }
}
