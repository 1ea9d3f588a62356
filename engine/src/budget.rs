//! Memory accounting: whatever grows with data asks first, because a failed Rust allocation aborts
//! the process and, in a backend, restarts the whole server. What asks for memory also works on it for long, so a budget knows
//! whether its query is to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Cancel, Error, Result};

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
    cancel: Cancel,
}

/// A byte limit shared by every thread of one query or one builder.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self::with_cancel(limit, Cancel::new())
    }

    /// A budget of `limit` bytes whose work ends with `cancel`.
    pub fn with_cancel(limit: usize, cancel: Cancel) -> Self {
        Budget(Arc::new(Inner { limit, used: AtomicUsize::new(0), cancel }))
    }

    /// Another budget for the same query.
    pub fn apart(&self, limit: usize) -> Self {
        Self::with_cancel(limit, self.0.cancel.clone())
    }

    pub fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    pub fn limit(&self) -> usize {
        self.0.limit
    }

    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// `Err(Error::Canceled)` if the query is to end. Loops over data call it every some ten thousand steps.
    pub fn check(&self) -> Result<()> {
        self.0.cancel.check()
    }

    /// Reserves `bytes`; the guard gives them back when dropped. Errors: `Error::Budget`.
    pub fn reserve(&self, bytes: usize) -> Result<Reservation> {
        let mut reservation = Reservation { budget: self.clone(), bytes: 0 };
        reservation.grow(bytes)?;
        Ok(reservation)
    }
}

/// Bytes held from a [`Budget`]; dropped, they are free again.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    bytes: usize,
}

impl Reservation {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// As [`Budget::check`].
    pub fn check(&self) -> Result<()> {
        self.budget.check()
    }

    /// Reserves `bytes` more. Errors: `Error::Budget`, and nothing changed.
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        let inner = &self.budget.0;
        inner
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|total| *total <= inner.limit)
            })
            .map_err(|_| Error::Budget { requested: bytes, limit: inner.limit })?;
        self.bytes += bytes;
        Ok(())
    }

    /// Makes the reservation exactly `bytes`, growing or shrinking it.
    pub fn resize(&mut self, bytes: usize) -> Result<()> {
        if bytes > self.bytes {
            self.grow(bytes - self.bytes)
        } else {
            self.budget.0.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            self.bytes = bytes;
            Ok(())
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_add_up_and_come_back() {
        let budget = Budget::new(100);
        let mut first = budget.reserve(60).unwrap();
        assert!(matches!(budget.reserve(41), Err(Error::Budget { requested: 41, limit: 100 })));
        first.resize(10).unwrap();
        let second = budget.reserve(90).unwrap();
        assert_eq!(budget.used(), 100);
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }
}
