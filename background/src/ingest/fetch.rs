//! Reading and decoding: the part of an ingestion that runs ahead of publishing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_engine::types::Schema;

use super::assemble::{Assembler, Limits};
use super::batch::Decoded;
use crate::checkpoint::Checkpoint;
use crate::json::Field;
use crate::source::Source;
use crate::{Error, Result};

/// Offsets that moved without a message (markers, aborted transactions) are published this seldom.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
const QUESTION: Duration = Duration::from_secs(5);

/// Reads all partitions of a topic from a checkpoint on.
pub struct Fetcher {
    source: Box<dyn Source>,
    assembler: Assembler,
    /// Partitions `0..assigned` are read.
    assigned: i32,
    publish_interval: Duration,
    sealed_at: Option<Instant>,
}

impl Fetcher {
    pub fn new(
        source: Box<dyn Source>,
        schema: Arc<Schema>,
        fields: Vec<Field>,
        limits: Limits,
        publish_interval: Duration,
        checkpoint: &Checkpoint,
    ) -> Self {
        let assembler = Assembler::new(schema, fields, limits, checkpoint);
        Fetcher { source, assembler, assigned: 0, publish_interval, sealed_at: None }
    }

    pub fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }

    /// Starts to read partitions up to `count`: at the checkpoint, else at the first offset that the partition
    /// holds. Errors: `Transient`; what was begun stays begun.
    pub fn assign(&mut self, count: i32) -> Result<()> {
        while self.assigned < count {
            let partition = self.assigned;
            let offset = match self.assembler.position(partition) {
                Some(offset) => offset,
                None => {
                    let (low, _) = self.source.bounds(partition, QUESTION)?;
                    self.assembler.add_partition(partition, low);
                    low
                }
            };
            self.source.assign(partition, offset)?;
            self.assigned += 1;
        }
        Ok(())
    }

    /// Takes in what arrives within `wait`. Errors: the source's; `Overlap` if it breaks the order of offsets.
    pub fn poll(&mut self, wait: Duration) -> Result<()> {
        let Fetcher { source, assembler, .. } = self;
        let polled = source.poll(wait, &mut |event| assembler.event(event));
        assembler.check()?;
        match polled {
            // The message that the position names may have gone while it waited in the client: what was
            // handed over since is what counts.
            Err(Error::OffsetOutOfRange { partition, low, high, .. }) => {
                let offset = assembler.position(partition).unwrap_or(low);
                Err(Error::OffsetOutOfRange { partition, offset, low, high })
            }
            other => other,
        }
    }

    pub fn is_full(&self) -> bool {
        self.assembler.is_full()
    }

    pub fn has_messages(&self) -> bool {
        self.assembler.has_messages()
    }

    /// Whether the next batch should be handed on at `now`.
    pub fn is_due(&self, now: Instant) -> bool {
        let since = self.sealed_at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        self.assembler.is_full()
            || (self.assembler.has_messages() && since >= self.publish_interval)
            || (self.assembler.has_progress() && since >= PROGRESS_INTERVAL.max(self.publish_interval))
    }

    /// How long to wait for messages at most before asking [`Fetcher::is_due`] again.
    pub fn patience(&self, now: Instant) -> Duration {
        if !self.assembler.has_messages() {
            return Duration::from_millis(20);
        }
        let since = self.sealed_at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        self.publish_interval.saturating_sub(since).clamp(Duration::from_millis(1), Duration::from_millis(10))
    }

    /// Closes the batch. `None`: there is nothing in it.
    pub fn seal(&mut self, now: Instant) -> Option<Decoded> {
        self.sealed_at = Some(now);
        self.assembler.seal()
    }

    /// Each partition's position and the offset after its last message, as far as known.
    pub fn ends(&self) -> Vec<(i32, i64, Option<i64>)> {
        let positions = self.assembler.positions().iter();
        positions.map(|(p, position)| (*p, *position, self.source.known_end(*p))).collect()
    }
}
