//! What the engine asks back of its host, always on the thread that called the engine.

use std::any::Any;
use std::cmp::Ordering;
use std::sync::Arc;

use super::HostFunction;
use crate::segment::BytesBlock;
use crate::types::Value;
use crate::{Error, Result};

/// Number of a predicate that only the host can evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostPredicate(pub u32);

/// Number of an order of byte strings that only the host knows (a collation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OrderId(pub u32);

/// Held while threads are spawned; what it restores, it restores when dropped.
pub type Wake = Box<dyn Any>;

/// Threads that executions share, perhaps with those of other processes. Asked from any thread, between blocks; nothing here waits.
pub trait ThreadPool: Send + Sync {
    /// Takes a thread besides the execution's first. `false`: none is free.
    fn take(&self) -> bool;
    /// Gives one that was taken back.
    fn give(&self);
    /// Whether a thread that was taken should be given back, as others need it.
    fn is_short(&self) -> bool;
    /// Whether all threads of the execution have to stand still, as the calling one does in [`Host::poll`].
    fn is_paused(&self) -> bool;
}

pub trait Host {
    /// For each value whether the predicate is true of it (false or NULL: not). Only values that occur in
    /// rows which the other conjuncts select are asked about, so that no foreign row can raise an error. Numbers are shown
    /// as the little-endian bytes of their physical value: 8 for I64 and F64, 16 for I128.
    fn test(&mut self, predicate: HostPredicate, values: &BytesBlock) -> Result<Vec<bool>>;

    /// The function's results for these values, shown as to [`Host::test`]: `Null`, or values of the column that they make up.
    fn map(&mut self, function: HostFunction, values: &BytesBlock) -> Result<Vec<Value>> {
        let _ = values;
        Err(Error::invalid(format!("the host has no function {}", function.0)))
    }

    /// The function's result for NULL.
    fn map_null(&mut self, function: HostFunction) -> Result<Value> {
        Err(Error::invalid(format!("the host has no function {}", function.0)))
    }

    /// Total order of two byte strings; ties of a collation are broken by bytes.
    fn compare(&mut self, order: OrderId, left: &[u8], right: &[u8]) -> Ordering;

    /// Called at least every 10 ms by the calling thread, which may have to wait in it; `Err` cancels the query.
    fn poll(&mut self) -> Result<()>;

    /// Called right before threads are spawned (to block signals); the guard is dropped right after.
    fn before_spawn(&mut self) -> Wake;

    /// Where threads besides the first come from; `None`: there are always as many as the options say.
    fn pool(&self) -> Option<Arc<dyn ThreadPool>> {
        None
    }
}
