//! Where messages come from. One implementation reads Kafka; another, in memory, drives the tests of
//! the state machine.

use std::time::Duration;

use crate::Result;

/// One message, borrowed from the client's buffers.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970; `None` where the broker keeps none.
    pub timestamp: Option<i64>,
    pub key: Option<&'a [u8]>,
    /// `None`: a tombstone.
    pub payload: Option<&'a [u8]>,
}

/// What a poll hands over, in order of offsets within a partition.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    Message(Message<'a>),
    /// Nothing more for now: all before `offset` was handed over, or will never be (aborted
    /// transactions, markers, compacted messages).
    End {
        partition: i32,
        offset: i64,
    },
}

/// A topic as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// `None`: the broker is too old to have topic ids.
    pub id: Option<[u8; 16]>,
    /// Partitions are `0..partitions`.
    pub partitions: i32,
}

/// Asks the cluster about the topic, from any thread, while a [`Source`] reads on another.
pub trait Describe: Send {
    /// Errors: `UnknownTopic`, `Transient` (also when `timeout` passes).
    fn describe(&mut self, timeout: Duration) -> Result<TopicDescription>;
}

/// Reads one topic's partitions from given offsets. Never remembers an offset of its own.
pub trait Source: Send {
    /// Reads `partition` from `offset` on, whatever was read of it before.
    fn assign(&mut self, partition: i32, offset: i64) -> Result<()>;

    /// Waits up to `wait` for messages and hands them to `sink` until none is left or it returns false.
    /// Errors: `Transient` may be ignored; `OffsetOutOfRange` ends the partition's reading until it is
    /// assigned again.
    fn poll(&mut self, wait: Duration, sink: &mut dyn FnMut(Event<'_>) -> bool) -> Result<()>;

    /// First offset held and the one after the last, asked from the broker.
    fn bounds(&mut self, partition: i32, timeout: Duration) -> Result<(i64, i64)>;

    /// The offset after the partition's last message as far as the client knows, without asking.
    fn known_end(&self, partition: i32) -> Option<i64>;

    fn describer(&self) -> Box<dyn Describe>;
}
