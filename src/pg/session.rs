//! Plain questions to this backend, and small commands.

use std::ffi::CStr;
use std::path::Path;

use pgrx::pg_sys;

/// The innermost subtransaction; the transaction itself is number 1.
pub fn subtransaction() -> pg_sys::SubTransactionId {
    // Asked for each inserted row. pgrx's function is guarded against errors; this one reads a field.
    unsafe extern "C-unwind" {
        fn GetCurrentSubTransactionId() -> pg_sys::SubTransactionId;
    }
    // SAFETY: plain call, which raises nothing.
    unsafe { GetCurrentSubTransactionId() }
}

/// The running command's id.
pub fn command() -> pg_sys::CommandId {
    // SAFETY: plain call; the id is not marked as used.
    unsafe { pg_sys::GetCurrentCommandId(false) }
}

/// Begins a new command: later snapshots of this transaction see what was done so far.
pub fn next_command() {
    // SAFETY: plain call inside a transaction.
    unsafe { pg_sys::CommandCounterIncrement() }
}

/// The time now, in microseconds since 2000-01-01 UTC.
pub fn clock() -> i64 {
    // SAFETY: plain call.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

pub fn is_in_recovery() -> bool {
    // SAFETY: plain call.
    unsafe { pg_sys::RecoveryInProgress() }
}

pub fn database() -> pg_sys::Oid {
    // SAFETY: a plain global of the backend.
    unsafe { pg_sys::MyDatabaseId }
}

pub fn user() -> pg_sys::Oid {
    // SAFETY: a plain getter.
    unsafe { pg_sys::GetUserId() }
}

pub fn data_directory() -> &'static Path {
    // SAFETY: DataDir is set once, before any backend starts.
    let bytes = unsafe { CStr::from_ptr(pg_sys::DataDir) }.to_bytes();
    Path::new(std::str::from_utf8(bytes).unwrap_or("."))
}

/// Whether a process of this server has this id.
pub fn has_process(pid: i32) -> bool {
    // SAFETY: looks through shared memory under its lock.
    unsafe { !pg_sys::BackendPidGetProc(pid).is_null() }
}

/// Raises in a read-only transaction, hence on a standby. `command` is named in the message.
pub fn require_writes(command: &'static CStr) {
    // SAFETY: a static C string.
    unsafe { pg_sys::PreventCommandIfReadOnly(command.as_ptr()) }
}

/// Until dropped, a transaction that was made read-only may write.
pub struct WritesAllowed(bool);

impl WritesAllowed {
    pub fn new() -> Self {
        // SAFETY: a plain global of the backend, restored by Drop.
        unsafe {
            let before = pg_sys::XactReadOnly;
            pg_sys::XactReadOnly = false;
            WritesAllowed(before)
        }
    }
}

impl Drop for WritesAllowed {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { pg_sys::XactReadOnly = self.0 }
    }
}
