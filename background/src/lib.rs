//! Ingestion and maintenance without PostgreSQL: what reads Kafka, decodes, decides what to merge and
//! hand off. The catalog is reached through [`ingest::Publisher`], which the host implements.

pub mod checkpoint;
pub mod error;
pub mod handoff;
pub mod ingest;
pub mod json;
pub mod kafka;
pub mod merge_policy;
pub mod source;

pub use error::{Error, Result};
