//! What all workers share: signals, waiting, transactions that catch their errors.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use crate::pg::workers;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgLogLevel, PgSqlErrorCode, PgTryBuilder, ereport, pg_sys};

// As plain C functions: pgrx's wrappers cannot be signal handlers.
unsafe extern "C-unwind" {
    fn die(signal: i32);
    fn SignalHandlerForConfigReload(signal: i32);
    fn SignalHandlerForShutdownRequest(signal: i32);
}

/// An error that ended a transaction.
#[derive(Clone, Debug)]
pub struct Failure {
    pub code: PgSqlErrorCode,
    pub message: String,
    pub hint: Option<String>,
}

/// A worker's registration, but for its function and name.
pub fn builder(name: &str) -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new(name)
        .set_library("basalt")
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .enable_spi_access()
}

/// First thing in a worker: PostgreSQL's own handlers, so that waiting for a lock ends at SIGTERM.
pub fn take_signals() {
    // SAFETY: the worker's main function, before any other thread exists.
    unsafe {
        pg_sys::pqsignal(pg_sys::SIGTERM as i32, Some(die));
        pg_sys::pqsignal(pg_sys::SIGHUP as i32, Some(SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// For a worker with threads, which waits for no lock: SIGTERM ends it between two steps, never inside one, where the
/// threads could not be ended first.
pub fn end_between_steps() {
    // SAFETY: the worker's main function, before any other thread exists.
    unsafe { pg_sys::pqsignal(pg_sys::SIGTERM as i32, Some(SignalHandlerForShutdownRequest)) };
}

/// Whether the worker was asked to end.
pub fn must_end() -> bool {
    // SAFETY: flags that signal handlers set.
    unsafe {
        (&raw const pg_sys::ProcDiePending).read_volatile() != 0
            || (&raw const pg_sys::ShutdownRequestPending).read_volatile() != 0
    }
}

/// Waits for the latch, for `readable` (a descriptor) or for the timeout, and handles what PostgreSQL wants of an idle process
/// (barriers, changed settings). Ends the process if the postmaster is gone. Whether the latch was set.
pub fn wait(timeout: Duration, readable: Option<i32>) -> bool {
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    if readable.is_some() {
        events |= pg_sys::WL_SOCKET_READABLE;
    }
    // SAFETY: the process's own latch; the descriptor is open as long as its owner, the caller.
    unsafe {
        let happened = pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events as i32,
            readable.unwrap_or(pg_sys::PGINVALID_SOCKET),
            timeout.as_millis() as i64,
            pg_sys::PG_WAIT_EXTENSION,
        );
        let latched = happened & pg_sys::WL_LATCH_SET as i32 != 0;
        if latched {
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        if must_end() {
            return latched;
        }
        pgrx::check_for_interrupts!();
        if (&raw const pg_sys::ConfigReloadPending).read_volatile() != 0 {
            (&raw mut pg_sys::ConfigReloadPending).write_volatile(0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
        latched
    }
}

/// Runs `work` as one transaction with a snapshot; commits if it returns `Ok`. An error, PostgreSQL's or its own, rolls
/// back and is returned.
pub fn transaction<T>(work: impl FnOnce() -> crate::error::Result<T>) -> Result<T, Failure> {
    catch(move || {
        // SAFETY: outside a transaction; the error path below ends one that is left open.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        match work() {
            Ok(value) => {
                // SAFETY: pops the snapshot pushed above; commits.
                unsafe {
                    pg_sys::PopActiveSnapshot();
                    pg_sys::CommitTransactionCommand();
                }
                Ok(value)
            }
            Err(error) => {
                // SAFETY: rolls back.
                unsafe { pg_sys::AbortCurrentTransaction() }
                let sql = error.into_sql();
                Err(Failure { code: sql.code, message: sql.message.into_owned(), hint: sql.hint })
            }
        }
    })
}

/// `work` within this transaction, as a subtransaction that an error rolls back alone.
pub fn subtransaction<T>(work: impl FnOnce() -> T) -> Result<T, Failure> {
    // SAFETY: inside a transaction; context and owner are restored on both paths, as PL/pgSQL does.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::CurrentMemoryContext = context;
        let caught = PgTryBuilder::new(AssertUnwindSafe(move || {
            let value = work();
            pg_sys::ReleaseCurrentSubTransaction();
            Ok(value)
        }))
        .catch_others(|error| Err(failure(error)))
        .execute();
        if caught.is_err() {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::CurrentMemoryContext = context;
        pg_sys::CurrentResourceOwner = owner;
        caught
    }
}

fn catch<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    PgTryBuilder::new(AssertUnwindSafe(work))
        .catch_others(|error| {
            let failed = failure(error);
            // SAFETY: ends whatever transaction the error left.
            unsafe { pg_sys::AbortCurrentTransaction() }
            Err(failed)
        })
        .execute()
}

fn failure(error: CaughtError) -> Failure {
    match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => Failure {
            code: report.sql_error_code(),
            message: report.message().to_owned(),
            hint: report.hint().map(str::to_owned),
        },
        CaughtError::RustPanic { ereport, .. } => {
            Failure { code: PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message: ereport.message().to_owned(), hint: None }
        }
    }
}

/// One line in the server's log.
pub fn log(message: impl Into<String>) {
    ereport!(PgLogLevel::LOG, PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message.into());
}

pub fn warn(failure: &Failure, doing: &str) {
    ereport!(PgLogLevel::LOG, failure.code, format!("{doing}: {}", failure.message));
}

/// Whether somebody waits for the database to be without sessions (CREATE DATABASE ... TEMPLATE, ALTER DATABASE RENAME, DROP
/// DATABASE): they hold locks that conflict with a session's start.
pub fn is_database_wanted() -> bool {
    // SAFETY: plain calls; the lock is given back at once.
    unsafe {
        let class = pg_sys::DatabaseRelationId;
        let mode = pg_sys::RowExclusiveLock as i32;
        let mut tag = std::mem::zeroed::<pg_sys::LOCKTAG>();
        tag.locktag_field1 = 0;
        tag.locktag_field2 = u32::from(class);
        tag.locktag_field3 = u32::from(pg_sys::MyDatabaseId);
        tag.locktag_type = pg_sys::LockTagType::LOCKTAG_OBJECT as u8;
        tag.locktag_lockmethodid = pg_sys::DEFAULT_LOCKMETHOD as u8;
        let got = pg_sys::LockAcquire(&tag, mode, true, true);
        if got == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
            return true;
        }
        pg_sys::LockRelease(&tag, mode, true);
        false
    }
}

/// The one worker of a kind in the database, for as long as the session lives. False: there is one already.
pub fn become_the_only(kind: workers::Kind) -> bool {
    // SAFETY: a plain call. The class of advisory locks that users cannot name: their fourth field is 1 or 2.
    unsafe {
        let mut tag = std::mem::zeroed::<pg_sys::LOCKTAG>();
        tag.locktag_field1 = u32::from(pg_sys::MyDatabaseId);
        tag.locktag_field2 = 0xBA5A17;
        tag.locktag_field3 = kind as u32;
        tag.locktag_field4 = 3;
        tag.locktag_type = pg_sys::LockTagType::LOCKTAG_ADVISORY as u8;
        tag.locktag_lockmethodid = pg_sys::USER_LOCKMETHOD as u8;
        pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, true, true)
            != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}

/// Whether the extension is there, with the tables that workers need.
pub fn has_extension() -> bool {
    let found = transaction(|| {
        // SAFETY: catalog lookups by name.
        let there = unsafe {
            let schema = pg_sys::get_namespace_oid(c"basalt".as_ptr(), true);
            pg_sys::get_extension_oid(c"basalt".as_ptr(), true) != pg_sys::InvalidOid
                && schema != pg_sys::InvalidOid
                && pg_sys::get_relname_relid(c"ingestion".as_ptr(), schema) != pg_sys::InvalidOid
        };
        Ok(there)
    });
    found.unwrap_or(false)
}

/// Connects a database worker and makes it the only one of its kind. `None`: it should end.
pub fn begin(argument: pg_sys::Datum, kind: workers::Kind) -> Option<usize> {
    let slot = argument.value();
    take_signals();
    let database = pgrx::bgworkers::BackgroundWorker::get_extra().parse::<u32>().unwrap_or(0);
    // SAFETY: first connection of the process; as the bootstrap superuser.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(pg_sys::Oid::from(database), pg_sys::InvalidOid, 0);
    }
    let only = transaction(|| Ok(become_the_only(kind))).unwrap_or(false);
    if !only {
        return None;
    }
    // SAFETY: a plain global.
    workers::set_pid(slot, kind, unsafe { pg_sys::MyProcPid });
    Some(slot)
}

/// Before a database worker ends by itself.
pub fn finish(slot: usize, kind: workers::Kind) {
    workers::set_pid(slot, kind, 0);
    workers::wake_launcher();
}
