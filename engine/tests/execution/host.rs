//! A host whose predicates and orders are simple functions of bytes, and which remembers what it was asked.

use std::cmp::Ordering;
use std::sync::Arc;

use basalt_engine::plan::{Host, HostFunction, HostPredicate, OrderId, ThreadPool, Wake};
use basalt_engine::segment::BytesBlock;
use basalt_engine::types::Value;
use basalt_engine::{Error, Result};

#[derive(Default)]
pub struct TestHost {
    /// Values shown to `test`, in order.
    pub asked: Vec<Vec<u8>>,
    pub polls: usize,
    /// `poll` fails from this call on.
    pub fail_at: Option<usize>,
    /// `test` fails on this value.
    pub poison: Option<Vec<u8>>,
    pub pool: Option<Arc<dyn ThreadPool>>,
}

/// What predicate `number` says of a value.
pub fn predicate(number: u32, value: &[u8]) -> bool {
    value.iter().map(|b| u32::from(*b)).sum::<u32>() % (number + 2) == 0
}

/// What it says of NULL.
pub fn predicate_of_null(number: u32) -> bool {
    number.is_multiple_of(2)
}

/// Functions 0 and 1 give integers, NULL among them, 2 a float, 3 and 4 byte strings, NULL among them.
pub fn function(number: u32, value: Option<&[u8]>) -> Value {
    let sum = value.map_or(5, |v| v.iter().map(|b| i64::from(*b)).sum::<i64>());
    match number {
        0 => Value::I64(sum % 11 - 3),
        1 if sum % 3 == 0 => Value::Null,
        1 => Value::I64(sum),
        2 => Value::F64((sum % 64) as f64 * 0.25),
        3 => Value::Bytes(format!("{}", sum % 7).into_bytes()),
        _ if sum % 4 == 0 => Value::Null,
        _ => Value::Bytes(value.unwrap_or(b"none").iter().rev().take(3).copied().collect()),
    }
}

/// Order 0: by length, then bytes descending. Order 1: without regard to case, then bytes.
pub fn order(number: u32, left: &[u8], right: &[u8]) -> Ordering {
    match number {
        0 => left.len().cmp(&right.len()).then_with(|| right.cmp(left)),
        _ => left.to_ascii_lowercase().cmp(&right.to_ascii_lowercase()).then_with(|| left.cmp(right)),
    }
}

impl Host for TestHost {
    fn test(&mut self, number: HostPredicate, values: &BytesBlock) -> Result<Vec<bool>> {
        let mut answers = Vec::new();
        for i in 0..values.len() {
            let value = values.get(i);
            if self.poison.as_deref() == Some(value) {
                return Err(Error::Invalid("a value that must not be seen".into()));
            }
            self.asked.push(value.to_vec());
            answers.push(predicate(number.0, value));
        }
        Ok(answers)
    }

    fn test_null(&mut self, number: HostPredicate) -> Result<bool> {
        Ok(predicate_of_null(number.0))
    }

    fn map(&mut self, number: HostFunction, values: &BytesBlock) -> Result<Vec<Value>> {
        for i in 0..values.len() {
            if self.poison.as_deref() == Some(values.get(i)) {
                return Err(Error::Invalid("a value that must not be seen".into()));
            }
            self.asked.push(values.get(i).to_vec());
        }
        Ok((0..values.len()).map(|i| function(number.0, Some(values.get(i)))).collect())
    }

    fn map_null(&mut self, number: HostFunction) -> Result<Value> {
        Ok(function(number.0, None))
    }

    fn compare(&mut self, number: OrderId, left: &[u8], right: &[u8]) -> Ordering {
        order(number.0, left, right)
    }

    fn poll(&mut self) -> Result<()> {
        self.polls += 1;
        match self.fail_at {
            Some(at) if self.polls >= at => Err(Error::Canceled),
            _ => Ok(()),
        }
    }

    fn before_spawn(&mut self) -> Wake {
        Box::new(())
    }

    fn pool(&self) -> Option<Arc<dyn ThreadPool>> {
        self.pool.clone()
    }
}
