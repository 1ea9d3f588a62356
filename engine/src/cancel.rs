//! Cooperative cancellation, shared by every thread of one query.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

type Source = dyn Fn() -> bool + Send + Sync;

#[derive(Default)]
struct Inner {
    set: AtomicBool,
    source: Option<Box<Source>>,
}

/// A flag that any holder may set; work on any thread looks at it at least every few milliseconds.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

impl Cancel {
    pub fn new() -> Self {
        Self::default()
    }

    /// One that is also set while `source` says so, which is asked from every thread and has to be cheap: so a request to stop reaches work
    /// that does not come back to the caller for long.
    pub fn watching(source: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Cancel(Arc::new(Inner { set: AtomicBool::new(false), source: Some(Box::new(source)) }))
    }

    pub fn cancel(&self) {
        self.0.set.store(true, Ordering::Relaxed);
    }

    pub fn is_canceled(&self) -> bool {
        self.0.set.load(Ordering::Relaxed) || self.0.source.as_ref().is_some_and(|source| source())
    }

    /// `Err(Error::Canceled)` once the flag is set.
    pub fn check(&self) -> Result<()> {
        if self.is_canceled() { Err(Error::Canceled) } else { Ok(()) }
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_canceled()).finish()
    }
}
