//! The publish: one transaction that makes rows visible and moves offsets.

use std::collections::HashMap;
use std::time::Instant;

use basalt_background::ingest::{Outcome, Prepared, Publisher, Status};
use pgrx::pg_sys;

use super::process::{self, Failure};
use crate::catalog::ingestion::{self, Ingestion, Progress};
use crate::catalog::publish::{self, Built, SegmentSource};
use crate::catalog::segment::SegmentKind;
use crate::catalog::{datasource, tables};
use crate::error::Result;
use crate::pg::lock::{self, Mode};

/// Publishes the batches of one ingestion.
pub struct CatalogPublisher {
    pub ingestion: Ingestion,
    /// `schema_generation` that the batches were decoded for.
    pub schema_generation: i32,
    /// What the threads know of each partition's end.
    pub status: Status,
    /// When each partition was published last, and its smoothed rate in offsets a second.
    rates: HashMap<i32, (Instant, f64)>,
}

/// Seconds over which rates are smoothed.
const SMOOTHING: f64 = 5.0;

impl CatalogPublisher {
    pub fn new(ingestion: Ingestion, schema_generation: i32) -> Self {
        CatalogPublisher { ingestion, schema_generation, status: Status::default(), rates: HashMap::new() }
    }

    fn rate(&mut self, partition: i32, offsets: i64) -> f64 {
        let now = Instant::now();
        let (last, rate) = self.rates.get(&partition).copied().unwrap_or((now, 0.0));
        let seconds = now.duration_since(last).as_secs_f64();
        let rate = if seconds > 0.0 {
            let weight = 1.0 - (-seconds / SMOOTHING).exp();
            rate + weight * (offsets as f64 / seconds - rate)
        } else {
            rate
        };
        self.rates.insert(partition, (now, rate));
        rate
    }

    /// Everything but the commit. `Ok(Err(outcome))`: nothing may be committed.
    fn write(&mut self, batch: &Prepared) -> Result<std::result::Result<(), Outcome>> {
        let id = self.ingestion.id;
        // The main thread waits for nobody: it serves other ingestions, too.
        if !ingestion::try_lock(&id, Mode::Append) {
            return Ok(Err(Outcome::Busy));
        }
        match ingestion::by_id(&id) {
            Some(now) if now.state == "running" && now.generation == self.ingestion.generation => {}
            _ => return Ok(Err(Outcome::Fenced)),
        }
        let relation = self.ingestion.relation;
        // SAFETY: plain call; DDL on the table waits for this transaction, or is seen by it.
        if !unsafe { pg_sys::ConditionalLockRelationOid(relation, pg_sys::RowExclusiveLock as i32) } {
            return Ok(Err(Outcome::Busy));
        }
        if !datasource::is_datasource(relation) {
            return Ok(Err(Outcome::Fenced));
        }
        let table = datasource::open(relation)?;
        if table.id != self.ingestion.datasource || table.schema_generation != self.schema_generation {
            return Ok(Err(Outcome::Fenced));
        }
        if !lock::try_acquire(tables::datasource_class(), &table.id, Mode::Append) {
            return Ok(Err(Outcome::Busy));
        }
        let sources: Vec<SegmentSource> = batch
            .delta
            .iter()
            .map(|(partition, range)| SegmentSource {
                ingestion: self.ingestion.source,
                topic: self.ingestion.topic.clone(),
                partition,
                first_offset: range.first,
                next_offset: range.next,
            })
            .collect();
        for segment in &batch.segments {
            let built = Built::from_bytes(&segment.bytes, segment.statistics.clone())?;
            publish::append(&table, &built, SegmentKind::Fresh, &sources)?;
        }
        for letter in &batch.dead {
            ingestion::add_dead_letter(&self.ingestion, letter);
        }
        let mut messages = batch.messages as i64;
        for (partition, range) in batch.delta.iter() {
            let end = self.status.ends.iter().find(|(p, ..)| *p == partition).and_then(|(_, _, end)| *end);
            let rate = self.rate(partition, range.next - range.first);
            let progress = Progress { end, newest: batch.newest, messages: std::mem::take(&mut messages), rate };
            let new = batch.new_partitions.contains(&partition);
            if !ingestion::advance(&id, partition, range, new, progress) {
                return Ok(Err(Outcome::Conflict));
            }
        }
        if let (None, Some(topic)) = (self.ingestion.topic_id, batch.topic_id) {
            ingestion::set_topic(&id, &topic);
        }
        Ok(Ok(()))
    }
}

impl Publisher for CatalogPublisher {
    type Error = Failure;

    fn publish(&mut self, batch: &Prepared) -> std::result::Result<Outcome, Failure> {
        let mut refused = None;
        let published = process::transaction(|| match self.write(batch)? {
            Ok(()) => Ok(()),
            Err(outcome) => {
                refused = Some(outcome);
                Err(basalt_engine::Error::Canceled.into())
            }
        });
        match (published, refused) {
            (_, Some(outcome)) => Ok(outcome),
            (Ok(()), None) => {
                self.ingestion.topic_id = self.ingestion.topic_id.or(batch.topic_id);
                Ok(Outcome::Committed)
            }
            (Err(failure), None) => Err(failure),
        }
    }
}
