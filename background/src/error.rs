//! What stops or delays an ingestion.

/// Result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Goes away by itself (a broker that restarts, a leader election): try again.
    #[error("{0}")]
    Transient(String),
    /// The topic does not exist, or may not be seen.
    #[error("topic \"{topic}\" is not available: {reason}")]
    UnknownTopic { topic: String, reason: String },
    /// The next offset is outside what the partition holds now: `low..high`, `high` exclusive.
    #[error("offset {offset} of partition {partition} is out of range: the partition holds offsets {low} to {high}")]
    OffsetOutOfRange { partition: i32, offset: i64, low: i64, high: i64 },
    /// Another topic carries the name now.
    #[error("topic \"{topic}\" was deleted and recreated: its id was {expected} and is {found}")]
    TopicRecreated { topic: String, expected: String, found: String },
    /// A partition's offsets do not continue where the checkpoint ends.
    #[error("offsets {first} to {next} of partition {partition} overlap what is already there")]
    Overlap { partition: i32, first: i64, next: i64 },
    /// An option that the client library refuses.
    #[error("{0}")]
    Configuration(String),
    #[error(transparent)]
    Engine(#[from] basalt_engine::Error),
    /// A panic caught at the root of a thread.
    #[error("internal error in an ingestion thread: {0}")]
    Panic(String),
}

impl Error {
    /// Whether the ingestion must not go on without its owner's decision.
    pub fn stops(&self) -> bool {
        !matches!(self, Error::Transient(_) | Error::UnknownTopic { .. } | Error::Engine(_))
    }

    /// What the owner can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::OffsetOutOfRange { offset, high, .. } if offset <= high => Some(
                "The messages were deleted before they were read. Use basalt.reset_ingestion(name, to => 'earliest') to go on \
                 with what is left, or option on_offset_out_of_range to do so always."
                    .into(),
            ),
            Error::OffsetOutOfRange { .. } => Some(
                "The partition ends before the next offset: it lost messages or is another one. Use basalt.reset_ingestion() \
                 to say where to go on."
                    .into(),
            ),
            Error::TopicRecreated { .. } => Some(
                "Rows from the old topic are kept. Use basalt.reset_ingestion(name, to => 'earliest') to read the new topic \
                 from its beginning, or option on_topic_recreated to do so always."
                    .into(),
            ),
            Error::UnknownTopic { .. } => Some("Create the topic, or check the name and the permissions.".into()),
            _ => None,
        }
    }
}
