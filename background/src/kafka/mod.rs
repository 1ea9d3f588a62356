//! The Kafka source: librdkafka's simple consumer, which has no group and no offsets of its own.

mod native;
mod options;
mod source;

pub use options::{FILE_OPTIONS, Options, SERVER_OPTIONS, USER_OPTIONS, check_option};
pub use source::{KafkaAdmin, KafkaSource, format_id};
