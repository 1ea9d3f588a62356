//! [`Source`] over one topic of a Kafka cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Options;
use super::native::{Batch, Client};
use crate::source::{Describe, Event, Source, TopicDescription};
use crate::{Error, Result};

/// How long a question to the broker may take inside [`Source::poll`].
const QUESTION: Duration = Duration::from_secs(5);

/// A topic id as people see it: a UUID.
pub fn format_id(id: &[u8; 16]) -> String {
    let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Reads one topic. Dropping it ends the client's threads.
pub struct KafkaSource {
    // Before the client: messages must go first.
    batch: Batch,
    client: Arc<Client>,
    assigned: BTreeMap<i32, i64>,
}

impl KafkaSource {
    /// Connects in the background. Errors: `Configuration`.
    pub fn new(options: &Options, topic: &str) -> Result<Self> {
        let client = Arc::new(Client::new(&options.configuration(), topic)?);
        Ok(KafkaSource { batch: Batch::new(), client, assigned: BTreeMap::new() })
    }

    fn diagnose(&self, partition: i32, offset: i64, code: rdkafka::bindings::rd_kafka_resp_err_t) -> Error {
        use rdkafka::bindings::rd_kafka_resp_err_t::*;
        match code {
            RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET | RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE => {
                match self.client.query_bounds(partition, QUESTION) {
                    Ok((low, high)) => Error::OffsetOutOfRange { partition, offset, low, high },
                    Err(error) => error,
                }
            }
            _ => self.client.unavailable(code),
        }
    }
}

impl Source for KafkaSource {
    fn assign(&mut self, partition: i32, offset: i64) -> Result<()> {
        if self.assigned.insert(partition, offset).is_some() {
            self.client.stop(partition);
        } else {
            self.client.refresh_metadata(Duration::from_secs(1));
        }
        self.client.start(partition, offset)
    }

    fn poll(&mut self, wait: Duration, sink: &mut dyn FnMut(Event<'_>) -> bool) -> Result<()> {
        let mut errors = Vec::new();
        let mut wait = wait;
        loop {
            let (count, more) = self.client.poll(wait, &mut self.batch, sink, &mut |partition, offset, code| {
                errors.push((partition, offset, code));
            });
            if !more || count == 0 || !errors.is_empty() {
                break;
            }
            // What came in meanwhile goes along without waiting.
            wait = Duration::ZERO;
        }
        let mut outcome = Ok(());
        for (partition, offset, code) in errors {
            let at = if offset >= 0 { offset } else { self.assigned.get(&partition).copied().unwrap_or(0) };
            let error = self.diagnose(partition, at, code);
            if outcome.is_ok() || error.stops() {
                outcome = Err(error);
            }
        }
        match (outcome, self.client.take_error()) {
            (Ok(()), Some(reason)) => Err(Error::Transient(reason)),
            (outcome, _) => outcome,
        }
    }

    fn bounds(&mut self, partition: i32, timeout: Duration) -> Result<(i64, i64)> {
        self.client.query_bounds(partition, timeout)
    }

    fn known_end(&self, partition: i32) -> Option<i64> {
        self.client.known_end(partition)
    }

    fn describer(&self) -> Box<dyn Describe> {
        Box::new(KafkaDescriber(self.client.clone()))
    }
}

struct KafkaDescriber(Arc<Client>);

impl Describe for KafkaDescriber {
    fn describe(&mut self, timeout: Duration) -> Result<TopicDescription> {
        self.0.describe(timeout)
    }
}

/// Questions about a topic without reading it.
pub struct KafkaAdmin(Client);

impl KafkaAdmin {
    /// Errors: `Configuration`.
    pub fn new(options: &Options, topic: &str) -> Result<Self> {
        Ok(KafkaAdmin(Client::new(&options.configuration(), topic)?))
    }

    /// Errors: `UnknownTopic`, `Transient`; an authentication error is among the latter.
    pub fn describe(&self, timeout: Duration) -> Result<TopicDescription> {
        self.0.describe(timeout).map_err(|error| match (error, self.0.take_error()) {
            (Error::Transient(reason), Some(why)) => Error::Transient(format!("{reason}: {why}")),
            (error, _) => error,
        })
    }

    /// First offset and the one after the last of each partition.
    pub fn bounds(&self, partitions: i32, timeout: Duration) -> Result<Vec<(i64, i64)>> {
        (0..partitions).map(|p| self.0.query_bounds(p, timeout)).collect()
    }

    /// The first offset at or after a time (milliseconds since 1970) of each partition, its end where there is none.
    pub fn offsets_at(&self, partitions: i32, timestamp: i64, timeout: Duration) -> Result<Vec<i64>> {
        let found = self.0.offsets_at(partitions, timestamp, timeout)?;
        let at = |(p, offset): (usize, Option<i64>)| match offset {
            Some(offset) => Ok(offset),
            None => self.0.query_bounds(p as i32, timeout).map(|(_, high)| high),
        };
        found.into_iter().enumerate().map(at).collect()
    }
}
