//! Gathers decoded messages into the next batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use basalt_engine::types::Schema;

use super::batch::{DeadLetter, Decoded};
use crate::checkpoint::Checkpoint;
use crate::json::{Decoder, Field, Parse};
use crate::source::{Event, Message};
use crate::{Error, Result};

/// When a batch is full: fetching stops until it can be handed on, so memory stays bounded at any backlog.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub rows: usize,
    /// Of the messages' keys and payloads.
    pub bytes: usize,
    /// Messages that are no rows: each costs the publish a row of its own.
    pub dead: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { rows: 500_000, bytes: 32 << 20, dead: 5_000 }
    }
}

pub(super) struct Assembler {
    schema: Arc<Schema>,
    decoder: Decoder,
    keeps_origins: bool,
    limits: Limits,
    /// The next offset of each partition that is read.
    positions: BTreeMap<i32, i64>,
    /// Partitions whose row in the catalog is yet to be made.
    unknown: BTreeSet<i32>,
    open: Decoded,
    bytes: usize,
    /// A broken promise of the source, reported once the poll is over.
    broken: Option<Error>,
}

impl Assembler {
    pub fn new(schema: Arc<Schema>, fields: Vec<Field>, limits: Limits, checkpoint: &Checkpoint) -> Self {
        let host = |f: &Field| matches!(f.parse, Parse::Host { .. } | Parse::NumericText);
        Assembler {
            keeps_origins: fields.iter().any(host),
            decoder: Decoder::new(fields),
            open: Decoded::new(schema.clone()),
            schema,
            limits,
            positions: checkpoint.iter().collect(),
            unknown: BTreeSet::new(),
            bytes: 0,
            broken: None,
        }
    }

    pub fn position(&self, partition: i32) -> Option<i64> {
        self.positions.get(&partition).copied()
    }

    pub fn positions(&self) -> &BTreeMap<i32, i64> {
        &self.positions
    }

    /// Begins a partition that the catalog does not know.
    pub fn add_partition(&mut self, partition: i32, offset: i64) {
        self.positions.insert(partition, offset);
        self.unknown.insert(partition);
    }

    pub fn is_full(&self) -> bool {
        let Limits { rows, bytes, dead } = self.limits;
        self.open.rows.rows() >= rows || self.bytes >= bytes || self.open.dead.len() >= dead
    }

    /// Whether there is anything to publish but moved offsets.
    pub fn has_messages(&self) -> bool {
        self.open.messages > 0
    }

    pub fn has_progress(&self) -> bool {
        !self.open.delta.is_empty()
    }

    /// Takes an event in; false: the batch is full.
    pub fn event(&mut self, event: Event<'_>) -> bool {
        let taken = match event {
            Event::Message(message) => self.message(&message),
            Event::End { partition, offset } => self.advance(partition, offset).map(|_| ()),
        };
        if let Err(error) = taken {
            self.broken.get_or_insert(error);
        }
        !self.is_full()
    }

    /// Errors: an offset that cannot be, seen since the last call.
    pub fn check(&mut self) -> Result<()> {
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Moves a partition to `next`; false: it was there already (a message handed over twice).
    fn advance(&mut self, partition: i32, next: i64) -> Result<bool> {
        let Some(position) = self.positions.get_mut(&partition) else {
            return Ok(false);
        };
        if next <= *position {
            return Ok(false);
        }
        self.open.delta.extend(partition, *position, next)?;
        *position = next;
        Ok(true)
    }

    fn message(&mut self, message: &Message<'_>) -> Result<()> {
        if !self.advance(message.partition, message.offset + 1)? {
            return Ok(());
        }
        let open = &mut self.open;
        open.messages += 1;
        open.newest = open.newest.max(message.timestamp);
        self.bytes += message.payload.map_or(0, <[u8]>::len) + message.key.map_or(0, <[u8]>::len) + 16;
        let Some(payload) = message.payload else {
            open.dead.push(DeadLetter::new(message, "message without a value (a tombstone)"));
            return Ok(());
        };
        match self.decoder.decode(payload, &mut open.rows, &mut open.host) {
            Ok(()) if self.keeps_origins => open.keep_origin(message, payload),
            Ok(()) => {}
            Err(reason) => open.dead.push(DeadLetter::new(message, reason)),
        }
        Ok(())
    }

    /// Closes the batch and opens the next. `None`: nothing happened since the last.
    pub fn seal(&mut self) -> Option<Decoded> {
        if !self.has_progress() {
            return None;
        }
        let mut sealed = std::mem::replace(&mut self.open, Decoded::new(self.schema.clone()));
        self.bytes = 0;
        sealed.new_partitions = sealed.delta.iter().map(|(p, _)| p).filter(|p| self.unknown.remove(p)).collect();
        Some(sealed)
    }
}
