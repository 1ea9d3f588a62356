//! One ingestion: messages in, batches out, each published once.
//!
//! A [`Fetcher`] reads and decodes, a [`Builder`] makes segments and confirms that the topic is still the
//! same; a [`Runner`] gives each a thread. The host publishes on its main thread through [`Publisher`].

mod assemble;
mod batch;
mod build;
mod fetch;
mod runner;

pub use assemble::Limits;
pub use batch::{BuiltSegment, DeadLetter, Decoded, Prepared};
pub use build::Builder;
pub use fetch::Fetcher;
pub use runner::{Output, Runner, Spec, Status};

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Rows, dead letters and offsets are durable together.
    Committed,
    /// The catalog's offsets are not those the batch begins at: somebody else moved them. Nothing was
    /// written; go on from the catalog's offsets.
    Conflict,
    /// The ingestion was changed, paused or dropped, or its table's columns were: nothing was written;
    /// read the specification again.
    Fenced,
    /// Somebody holds a lock: nothing was written; publish the same batch again later.
    Busy,
}

/// The catalog, as an ingestion sees it.
pub trait Publisher {
    type Error;

    /// Publishes everything in `batch` or nothing, if the catalog's next offsets are the first ones of `batch.delta`.
    fn publish(&mut self, batch: &Prepared) -> Result<Outcome, Self::Error>;
}
