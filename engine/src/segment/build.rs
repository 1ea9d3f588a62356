//! From row buffers to a segment file.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use super::SegmentStatistics;
use crate::rows::RowBuffer;
use crate::types::Schema;
use crate::{Budget, Cancel, Result};

/// How a segment is built. Equal rows in equal order with equal options (but for `budget`,
/// `spill_directory` and `threads`) give equal bytes.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    pub budget: Budget,
    pub cancel: Cancel,
    /// Where sorted runs go when the budget is short; `None`: fail with `Error::Budget` instead.
    pub spill_directory: Option<PathBuf>,
}

/// Sorts rows by `schema.cluster_by` and time (stable), chooses encodings, writes the file.
pub struct SegmentBuilder {}

impl SegmentBuilder {
    pub fn new(_schema: Arc<Schema>, _options: BuildOptions) -> Self {
        todo!()
    }

    /// Takes the rows over. Errors: `Budget`, `Io` (spilling), `Canceled`.
    pub fn append(&mut self, _rows: RowBuffer) -> Result<()> {
        todo!()
    }

    pub fn rows(&self) -> u64 {
        todo!()
    }

    /// Writes the whole segment front to back. A segment without rows is legal.
    pub fn finish(self, _out: &mut dyn Write) -> Result<SegmentStatistics> {
        todo!()
    }
}
