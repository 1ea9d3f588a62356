//! Vectorized execution of plans over segments.

mod aggregate;
mod bits;
mod columns;
mod compute;
mod digits;
mod export;
mod filter;
mod finish;
mod first;
mod floats;
mod global;
mod global_state;
mod groups;
mod hash;
mod joint;
mod kernels;
mod like;
mod merge;
mod moments;
mod parallel;
mod prepare;
mod primitives;
mod ranked;
mod result;
mod rows;
mod rowset;
mod shifted;
mod spill;
mod states;
mod statistics;
mod top;
mod translation;
mod unify;
mod values;

pub use aggregate::{AggregateExecution, AggregateResult, ResultColumn};
pub use columns::float_key;
pub use compute::MAX_SOURCES;
pub use first::RowRank;
pub use hash::U64Map;
pub use joint::{Joint, JointPart, Other, Stream};
pub use result::Values;
pub use rows::{BatchColumn, RowBatch, RowExecution};
pub use shifted::DerivedKeys;
pub use spill::{Spill, SpillHash};
pub(crate) use states::extend;
pub use statistics::{ExecStatistics, FilterUse, Way};
pub(crate) use values::BytesMap;

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::plan::Host;
use crate::segment::Segment;
use crate::{Budget, Cancel, Result, TimeRanges};

/// One segment as a query sees it.
pub struct SegmentScan {
    pub segment: Arc<Segment>,
    /// Rows whose time is outside are invisible. `TimeRanges::all()` for tables without a time column.
    pub visibility: TimeRanges,
    pub deleted: Option<RoaringBitmap>,
}

/// Limits of one execution.
#[derive(Clone, Debug)]
pub struct ExecOptions {
    /// 1: everything runs on the calling thread.
    pub threads: usize,
    pub budget: Budget,
    pub cancel: Cancel,
}

/// Called every few milliseconds of work on the calling thread; an error ends the work.
trait Pulse {
    fn beat(&mut self) -> Result<()>;
}

struct HostPulse<'a>(&'a mut dyn Host);

impl Pulse for HostPulse<'_> {
    fn beat(&mut self) -> Result<()> {
        self.0.poll()
    }
}

/// Groups, values and the like that pass between two looks at whether the query is to end, where each takes some nanoseconds.
const PASSING: usize = 1 << 16;

/// Those of the numbers below `count` that are wanted, ascending.
fn numbers_where(count: usize, budget: &Budget, wanted: impl Fn(usize) -> bool) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for start in (0..count).step_by(PASSING) {
        budget.check()?;
        found.extend((start..count.min(start + PASSING)).filter(|n| wanted(*n)).map(|n| n as u32));
    }
    Ok(found)
}

/// What a caught panic says.
fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_string(),
        (_, Some(text)) => text.clone(),
        _ => "unknown".into(),
    }
}
