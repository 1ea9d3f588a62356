//! Cooperative cancellation, shared by every thread of one query.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// A flag that any holder may set; work checks it at least every 10 ms.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_canceled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// `Err(Error::Canceled)` once the flag is set.
    pub fn check(&self) -> Result<()> {
        if self.is_canceled() { Err(Error::Canceled) } else { Ok(()) }
    }
}
