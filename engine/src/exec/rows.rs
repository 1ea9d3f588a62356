//! The public face of row scans: selected rows of a few columns, a block at a time.

use std::sync::Arc;

use super::{ExecOptions, ExecStatistics, SegmentScan};
use crate::Result;
use crate::plan::{Host, RowQuery};
use crate::segment::BytesBlock;
use crate::types::Value;

/// Scans one segment after another on the calling thread.
pub struct RowExecution {}

impl RowExecution {
    pub fn new(_query: RowQuery, _options: ExecOptions) -> Result<Self> {
        todo!()
    }

    /// Starts on the next segment; the one before must be exhausted.
    pub fn start(&mut self, _segment: SegmentScan, _host: &mut dyn Host) -> Result<()> {
        todo!()
    }

    /// The next non-empty batch of the segment started last; `None`: it is exhausted.
    pub fn next(&mut self, _host: &mut dyn Host) -> Result<Option<RowBatch>> {
        todo!()
    }

    pub fn statistics(&self) -> ExecStatistics {
        todo!()
    }
}

/// Selected rows of one block.
pub struct RowBatch {
    pub rows: usize,
    /// Row numbers in the segment.
    pub row_numbers: Vec<u32>,
    /// One for each of the query's `output`.
    pub columns: Vec<BatchColumn>,
}

/// Dense values of the selected rows; where `nulls` is not empty, `nulls[i]` says that row `i` is NULL.
pub enum BatchColumn {
    Constant(Value),
    I64 {
        values: Vec<i64>,
        nulls: Vec<bool>,
    },
    I128 {
        values: Vec<i128>,
        nulls: Vec<bool>,
    },
    F64 {
        values: Vec<f64>,
        nulls: Vec<bool>,
    },
    /// `codes[i]` indexes `dictionary` (all values, shared by the segment's batches); its length means NULL.
    Dictionary {
        codes: Vec<u32>,
        dictionary: Arc<BytesBlock>,
    },
    Bytes {
        values: BytesBlock,
        nulls: Vec<bool>,
    },
}
