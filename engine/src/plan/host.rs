//! What the engine asks back of its host, always on the thread that called the engine.

use std::any::Any;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{HostFunction, Replacement};
use crate::segment::BytesBlock;
use crate::types::Value;
use crate::utf8::characters;
use crate::{Error, Result};

/// Number of a predicate that only the host can evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostPredicate(pub u32);

/// Functions of texts in UTF-8 that need no host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextFunction {
    /// How many characters there are.
    Characters,
    Bytes,
    Replace(Arc<Replacement>),
}

impl TextFunction {
    pub fn of(&self, text: &[u8]) -> Value {
        if let Some(length) = self.length(text) {
            return Value::I64(length);
        }
        let mut made = Vec::new();
        self.replace(text, &mut Vec::new(), &mut made);
        Value::Bytes(made)
    }

    /// `None`: its results are texts.
    #[inline]
    pub fn length(&self, text: &[u8]) -> Option<i64> {
        match self {
            TextFunction::Characters => Some(crate::simd::widest(
                #[inline(always)]
                || characters(text) as i64,
            )),
            TextFunction::Bytes => Some(text.len() as i64),
            TextFunction::Replace(_) => None,
        }
    }

    /// Appends what the text becomes to `out`, if results are texts. `buffer` is overwritten.
    pub fn replace(&self, text: &[u8], buffer: &mut Vec<u64>, out: &mut Vec<u8>) {
        if let TextFunction::Replace(replacement) = self {
            replacement.apply(text, buffer, out);
        }
    }
}

/// Number of an order of byte strings that only the host knows (a collation).
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// Values of several columns as one byte string: each has its length (32 bits, little-endian; all ones for NULL) before it.
#[derive(Clone, Copy)]
pub struct Combination<'a>(&'a [u8]);

impl<'a> Combination<'a> {
    const NULL: u32 = u32::MAX;

    pub fn new(bytes: &'a [u8]) -> Self {
        Combination(bytes)
    }

    /// Appends the next value of the combination that `out` ends with. Errors: `OutOfRange` beyond 4 GiB.
    pub fn push(out: &mut Vec<u8>, value: Option<&[u8]>) -> Result<()> {
        let length = match value {
            None => Self::NULL,
            Some(v) => u32::try_from(v.len())
                .ok()
                .filter(|l| *l != Self::NULL)
                .ok_or_else(|| Error::OutOfRange { what: "length of a value".into() })?,
        };
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(value.unwrap_or_default());
        Ok(())
    }
}

impl<'a> Iterator for Combination<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        if length == Self::NULL {
            self.0 = rest;
            return Some(None);
        }
        let (value, rest) = rest.split_at_checked(length as usize)?;
        self.0 = rest;
        Some(Some(value))
    }
}

pub trait Host {
    /// For each value whether the predicate is true of it (false or NULL: not). Only values that occur in
    /// rows which the other conjuncts select are asked about, so that no foreign row can raise an error. Numbers are shown
    /// as the little-endian bytes of their physical value: 8 for I64 and F64, 16 for I128.
    fn test(&mut self, predicate: HostPredicate, values: &BytesBlock) -> Result<Vec<bool>>;

    /// The same of NULL, asked for `Test::HostOfNull` if it occurs in such rows.
    fn test_null(&mut self, predicate: HostPredicate) -> Result<bool> {
        Err(Error::invalid(format!("the host has no predicate {} of NULL", predicate.0)))
    }

    /// The function's results for these values, shown as to [`Host::test`] (of several columns: as [`Combination`]s): `Null`, or values of
    /// the column that they make up.
    fn map(&mut self, function: HostFunction, values: &BytesBlock) -> Result<Vec<Value>> {
        let _ = values;
        Err(Error::invalid(format!("the host has no function {}", function.0)))
    }

    /// What the function is, if the engine knows it: then it is not asked for results. Its values are texts.
    fn known(&self, function: HostFunction) -> Option<TextFunction> {
        let _ = function;
        None
    }

    /// The function's result for NULL.
    fn map_null(&mut self, function: HostFunction) -> Result<Value> {
        Err(Error::invalid(format!("the host has no function {}", function.0)))
    }

    /// Total order of two byte strings; ties of a collation are broken by bytes.
    fn compare(&mut self, order: OrderId, left: &[u8], right: &[u8]) -> Ordering;

    /// Called at least every 10 ms by the calling thread, which may have to wait in it; `Err` cancels the query.
    fn poll(&mut self) -> Result<()>;

    /// Time on a clock that only goes forward; `None`: nothing is timed.
    fn clock(&mut self) -> Option<Duration> {
        None
    }

    /// Called right before threads are spawned (to block signals); the guard is dropped right after.
    fn before_spawn(&mut self) -> Wake;

    /// Where threads besides the first come from; `None`: there are always as many as the options say.
    fn pool(&self) -> Option<Arc<dyn ThreadPool>> {
        None
    }
}

/// Of tests in which nobody may be asked.
#[cfg(test)]
pub(crate) struct NoHost;

#[cfg(test)]
impl Host for NoHost {
    fn test(&mut self, predicate: HostPredicate, _: &BytesBlock) -> Result<Vec<bool>> {
        Err(Error::invalid(format!("there is no host to ask for predicate {}", predicate.0)))
    }
    fn compare(&mut self, _: OrderId, left: &[u8], right: &[u8]) -> Ordering {
        left.cmp(right)
    }
    fn poll(&mut self) -> Result<()> {
        Ok(())
    }
    fn before_spawn(&mut self) -> Wake {
        Box::new(())
    }
}

#[cfg(test)]
mod tests {
    use super::Combination;

    #[test]
    fn combinations_give_back_what_was_pushed() {
        let values: [Option<&[u8]>; 4] = [Some(b"a"), None, Some(b""), Some(b"long enough")];
        let mut bytes = Vec::new();
        values.iter().for_each(|v| Combination::push(&mut bytes, *v).unwrap());
        assert_eq!(Combination::new(&bytes).collect::<Vec<_>>(), values);
        // What is cut off is not invented.
        assert_eq!(Combination::new(&bytes[..bytes.len() - 1]).count(), 3);
    }
}
