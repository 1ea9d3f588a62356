//! One error type for the extension, and the one place where it becomes PostgreSQL's: SQLSTATE, message, detail, hint.

use std::borrow::Cow;
use std::sync::OnceLock;

use basalt_engine as engine;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug)]
pub enum Error {
    Engine(engine::Error),
    Sql(Box<SqlError>),
}

/// Called before a corruption is reported.
static ON_CORRUPTION: OnceLock<fn()> = OnceLock::new();

/// Says what to do, once a process, before a corruption is reported: whatever was damaged is to be dropped.
pub fn on_corruption(act: fn()) {
    let _ = ON_CORRUPTION.set(act);
}

/// An error that already knows its SQLSTATE.
#[derive(Debug)]
pub struct SqlError {
    pub code: PgSqlErrorCode,
    pub message: Cow<'static, str>,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Self {
        Error::Engine(error)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Error::Engine(engine::Error::Io(error))
    }
}

impl Error {
    pub fn new(code: PgSqlErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Error::Sql(Box::new(SqlError { code, message: message.into(), detail: None, hint: None }))
    }

    /// An input/output error, with the file and what was tried in the message.
    pub fn io(error: &std::io::Error, what: impl std::fmt::Display) -> Self {
        let (code, hint) = io_code(error);
        let made = Error::new(code, format!("could not {what}: {error}"));
        match hint {
            Some(hint) => made.hint(hint),
            None => made,
        }
    }

    pub fn detail(self, detail: impl Into<String>) -> Self {
        let mut sql = self.into_sql();
        sql.detail = Some(detail.into());
        Error::Sql(Box::new(sql))
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        let mut sql = self.into_sql();
        sql.hint = Some(hint.into());
        Error::Sql(Box::new(sql))
    }

    /// Reports the error to PostgreSQL; destructors of the caller's frames run on the way.
    pub fn raise(self) -> ! {
        // PostgreSQL says what it was: a cancel, a timeout, a termination.
        if matches!(self, Error::Engine(engine::Error::Canceled)) {
            pgrx::check_for_interrupts!();
        }
        if matches!(self, Error::Engine(engine::Error::Corrupt { .. }))
            && let Some(act) = ON_CORRUPTION.get()
        {
            act();
        }
        let SqlError { code, message, detail, hint } = self.into_sql();
        let mut report = ErrorReport::new(code, message, "basalt");
        if let Some(detail) = detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = hint {
            report = report.set_hint(hint);
        }
        report.report(PgLogLevel::ERROR);
        unreachable!("reporting an ERROR does not return");
    }

    pub fn into_sql(self) -> SqlError {
        match self {
            Error::Sql(sql) => *sql,
            Error::Engine(error) => of_engine(error),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Engine(error) => error.fmt(f),
            Error::Sql(sql) => f.write_str(&sql.message),
        }
    }
}

/// `?` for functions that PostgreSQL calls: an error is raised.
pub trait OrRaise<T> {
    fn or_raise(self) -> T;
}

impl<T, E: Into<Error>> OrRaise<T> for std::result::Result<T, E> {
    fn or_raise(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => error.into().raise(),
        }
    }
}

fn of_engine(error: engine::Error) -> SqlError {
    use PgSqlErrorCode::*;
    let message = error.to_string();
    let (code, hint): (_, Option<&str>) = match &error {
        engine::Error::Corrupt { .. } => (
            ERRCODE_DATA_CORRUPTED,
            Some(
                "Files in the segment cache are recreated from the catalog when they are removed; see basalt.cache_directory.",
            ),
        ),
        engine::Error::Unsupported { .. } => (
            ERRCODE_FEATURE_NOT_SUPPORTED,
            Some("The segment was written by a newer version of Basalt: install that version's library."),
        ),
        engine::Error::Budget { .. } => {
            (ERRCODE_OUT_OF_MEMORY, Some("Raise basalt.query_memory_limit, or let the query read or group less."))
        }
        engine::Error::Canceled => (ERRCODE_QUERY_CANCELED, None),
        engine::Error::Arithmetic(failure) => arithmetic(*failure),
        engine::Error::OutOfRange { .. } => (ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, None),
        engine::Error::Invalid(_) | engine::Error::Panic(_) => (ERRCODE_INTERNAL_ERROR, None),
        engine::Error::Io(io) => io_code(io),
    };
    SqlError { code, message: message.into(), detail: None, hint: hint.map(str::to_owned) }
}

fn arithmetic(failure: engine::plan::Failure) -> (PgSqlErrorCode, Option<&'static str>) {
    use PgSqlErrorCode::*;
    use engine::plan::Failure;
    match failure {
        Failure::DivisionByZero => (ERRCODE_DIVISION_BY_ZERO, None),
        Failure::InfiniteDate => (ERRCODE_DATETIME_FIELD_OVERFLOW, None),
        Failure::NanTo(_) => (ERRCODE_FEATURE_NOT_SUPPORTED, None),
        Failure::TooManyDigits => (
            ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            Some(
                "Larger values came into the table after this query was planned: run DISCARD PLANS and execute it again.",
            ),
        ),
        Failure::OutOfRange(_) | Failure::Overflow | Failure::Underflow | Failure::FieldOverflow => {
            (ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, None)
        }
    }
}

fn io_code(error: &std::io::Error) -> (PgSqlErrorCode, Option<&'static str>) {
    use PgSqlErrorCode::*;
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (ERRCODE_DISK_FULL, Some("Free disk space, or move basalt.cache_directory to a larger disk."))
        }
        ErrorKind::NotFound => (ERRCODE_UNDEFINED_FILE, None),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            (ERRCODE_INSUFFICIENT_PRIVILEGE, Some("The server's operating system user must be able to write there."))
        }
        ErrorKind::OutOfMemory => (ERRCODE_OUT_OF_MEMORY, None),
        _ => (ERRCODE_IO_ERROR, None),
    }
}
