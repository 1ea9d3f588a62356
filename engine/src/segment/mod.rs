//! Segment files: `docs/segment-format.md` is their specification.

mod build;
mod column;
mod distinct;
mod file;
mod footer;
mod gather;
mod held;
mod index;
mod lookup;
mod map;
mod merge;
mod meta;
mod reader;
mod sizes;
mod sort;
mod spill;
mod statistics;
mod verify;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use crate::dictionary::Dictionary;
pub use build::{BuildOptions, SegmentBuilder};
pub use gather::Gathered;
pub use map::SegmentBytes;
pub use merge::{MergeOutput, MergeSource, merge, merge_filling};
pub use reader::{BlockHeader, BytesBlock, ColumnKind, ColumnReader, Segment, Validity};
pub use sizes::ColumnSizes;
pub use statistics::{ColumnStatistics, SegmentStatistics};

pub(crate) use file::{Part, PartWriter};
use merge::merge_runs;

/// Rows of a full block.
pub const BLOCK_ROWS: usize = 65_536;
