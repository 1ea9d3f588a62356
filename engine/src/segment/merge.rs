//! Many segments into one, deterministically.

use std::io::Write;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::{BuildOptions, Segment, SegmentStatistics};
use crate::types::Schema;
use crate::{Result, TimeRanges};

/// One input of a merge: its rows in `visibility` and not in `deleted` are taken.
pub struct MergeSource {
    pub segment: Arc<Segment>,
    pub visibility: TimeRanges,
    pub deleted: Option<RoaringBitmap>,
}

pub struct MergeOutput {
    pub statistics: SegmentStatistics,
    /// For each source, old row number -> new row number; `u32::MAX` for rows left out.
    pub row_map: Vec<Vec<u32>>,
}

/// Merges `sources` in their order (equal sort keys keep it) into a segment of `schema`; a column
/// that a source lacks is NULL there. Equal sources give equal bytes.
pub fn merge(
    _schema: Arc<Schema>,
    _sources: &[MergeSource],
    _options: BuildOptions,
    _out: &mut dyn Write,
) -> Result<MergeOutput> {
    todo!()
}
