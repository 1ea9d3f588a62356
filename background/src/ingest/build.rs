//! From a decoded batch to one that only needs publishing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use basalt_engine::segment::{BuildOptions, SegmentBuilder};
use basalt_engine::types::Schema;
use basalt_engine::{Budget, Cancel};

use super::batch::{BuiltSegment, Decoded, Prepared, split_timeless};
use crate::kafka::format_id;
use crate::source::{Describe, TopicDescription};
use crate::{Error, Result};

/// Builds segments and knows which topic they must be from.
pub struct Builder {
    pub schema: Arc<Schema>,
    pub topic: String,
    /// The id in the catalog; `None`: not known yet, the first answer decides.
    pub topic_id: Option<[u8; 16]>,
    /// Bytes of memory that one build may take.
    pub memory: usize,
    pub spill_directory: Option<PathBuf>,
    pub cancel: Cancel,
}

impl Builder {
    /// Asks the cluster for the topic: what was fetched before the answer is from the topic it names,
    /// because ids never come back. Errors: `TopicRecreated`, `UnknownTopic`, `Transient`.
    pub fn confirm(&mut self, describe: &mut dyn Describe, timeout: Duration) -> Result<TopicDescription> {
        let description = describe.describe(timeout)?;
        match (self.topic_id, description.id) {
            (Some(expected), Some(found)) if expected != found => Err(Error::TopicRecreated {
                topic: self.topic.clone(),
                expected: format_id(&expected),
                found: format_id(&found),
            }),
            (None, found) => {
                self.topic_id = found;
                Ok(description)
            }
            _ => Ok(description),
        }
    }

    /// Errors: the engine's; `Invalid` if host cells are left.
    pub fn build(&self, decoded: Decoded) -> Result<Prepared> {
        if !decoded.host.is_empty() {
            return Err(basalt_engine::Error::invalid("the host has not read all values").into());
        }
        let rows = decoded.rows.rows() as u64;
        let parts = split_timeless(decoded.rows)?;
        let segments = parts.into_iter().map(|part| self.segment(part)).collect::<Result<_>>()?;
        Ok(Prepared {
            delta: decoded.delta,
            new_partitions: decoded.new_partitions,
            topic_id: self.topic_id,
            segments,
            dead: decoded.dead,
            messages: decoded.messages,
            rows,
            newest: decoded.newest,
        })
    }

    fn segment(&self, rows: basalt_engine::rows::RowBuffer) -> Result<BuiltSegment> {
        let options = BuildOptions {
            budget: Budget::new(self.memory),
            cancel: self.cancel.clone(),
            spill_directory: self.spill_directory.clone(),
        };
        let mut builder = SegmentBuilder::new(self.schema.clone(), options);
        builder.append(rows)?;
        let mut bytes = Vec::new();
        let statistics = builder.finish(&mut bytes)?;
        Ok(BuiltSegment { checksum: crc32c::crc32c(&bytes), bytes, statistics })
    }
}
