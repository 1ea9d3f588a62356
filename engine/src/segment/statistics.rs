//! What the catalog keeps of a segment, enough to prune it without opening it.

use crate::types::{ColumnId, Value};
use crate::{Error, Result};

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnStatistics {
    pub id: ColumnId,
    pub nulls: u64,
    /// Smallest and largest non-NULL value in physical order (bytes: byte order, F64: PostgreSQL's order,
    /// NaN greatest); `Null` when there is none or when a byte string would be too long to keep.
    pub min: Value,
    pub max: Value,
    /// Exact for dictionary columns, else an estimate; 0: unknown.
    pub distinct: u64,
}

/// Statistics of one segment, from its footer. `encode` gives the bytes kept in `basalt.segment`.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentStatistics {
    pub rows: u64,
    /// Smallest and largest time in microseconds, both inclusive; `None` without a time column.
    pub time: Option<(i64, i64)>,
    pub columns: Vec<ColumnStatistics>,
}

impl SegmentStatistics {
    pub fn encode(&self) -> Vec<u8> {
        todo!()
    }

    /// Errors: `Error::Corrupt`, `Error::Unsupported`.
    pub fn decode(_bytes: &[u8]) -> Result<Self> {
        Err(Error::corrupt("statistics"))
    }
}
