//! The engine's one error type. The host maps each variant to its own error codes, once.

/// Result of everything fallible in the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Bytes that are not what the format says; `what` names the part.
    #[error("corrupt segment: {what}")]
    Corrupt { what: String },
    /// A version, feature bit or encoding that this build does not know.
    #[error("unsupported segment: {what}")]
    Unsupported { what: String },
    /// The memory limit would be exceeded.
    #[error("memory limit of {limit} bytes exceeded (requested {requested} more)")]
    Budget { requested: usize, limit: usize },
    /// The caller asked to stop.
    #[error("canceled")]
    Canceled,
    /// An integer or numeric result that its type cannot hold; `what` names the type.
    #[error("{what} out of range")]
    OutOfRange { what: String },
    /// An expression of a selected row has no value.
    #[error("{0}")]
    Arithmetic(crate::plan::Failure),
    /// The caller broke a contract of this crate (a bug of the caller, reported, never a panic).
    #[error("invalid argument: {0}")]
    Invalid(String),
    /// A panic caught at the root of a worker thread.
    #[error("internal error in a scan thread: {0}")]
    Panic(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Error {
    pub fn corrupt(what: impl Into<String>) -> Self {
        Error::Corrupt { what: what.into() }
    }

    pub fn invalid(what: impl Into<String>) -> Self {
        Error::Invalid(what.into())
    }
}
