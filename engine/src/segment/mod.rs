//! Segment files: `docs/segment-format.md` is their specification.

mod build;
mod merge;
mod reader;
mod statistics;

pub use build::{BuildOptions, SegmentBuilder};
pub use merge::{MergeOutput, MergeSource, merge};
pub use reader::{BlockHeader, BytesBlock, ColumnKind, ColumnReader, Dictionary, Segment, SegmentBytes, Validity};
pub use statistics::{ColumnStatistics, SegmentStatistics};

/// Rows of a full block.
pub const BLOCK_ROWS: usize = 65_536;
