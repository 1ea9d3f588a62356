//! The public face of grouped aggregation.

use super::{ExecOptions, ExecStatistics, SegmentScan};
use crate::Result;
use crate::plan::{AggregateQuery, Host};
use crate::types::Value;

/// An aggregation in progress. `scan` may be called many times, with as many segments at a time as
/// the host wants open; the result does not depend on how they are divided, but floats' last digits depend on order.
pub struct AggregateExecution {}

impl AggregateExecution {
    pub fn new(_query: AggregateQuery, _options: ExecOptions) -> Result<Self> {
        todo!()
    }

    /// Aggregates the rows of `segments`. Threads live only during the call.
    pub fn scan(&mut self, _segments: &[SegmentScan], _host: &mut dyn Host) -> Result<()> {
        todo!()
    }

    pub fn finish(self, _host: &mut dyn Host) -> Result<AggregateResult> {
        todo!()
    }

    pub fn statistics(&self) -> ExecStatistics {
        todo!()
    }
}

/// Groups in no particular order, as columns of equal length.
#[derive(Debug)]
pub struct AggregateResult {
    pub groups: usize,
    /// One a key. Bucket keys: `Value::I64` value numbers.
    pub keys: Vec<ResultColumn>,
    /// One an aggregate. Counts are `I64`, sums `I128` or `F64`, booleans `I64`.
    pub aggregates: Vec<ResultColumn>,
}

#[derive(Debug)]
pub struct ResultColumn {
    pub values: Vec<Value>,
    /// Of `Avg`: how many values were summed; else empty.
    pub counts: Vec<i64>,
}
