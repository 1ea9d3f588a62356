//! Interrupts, and the signal mask around the creation of threads.

use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use basalt_engine as engine;
use basalt_engine::Cancel;
use pgrx::pg_sys;

/// Whether PostgreSQL wants this backend to stop what it does: a cancel, a termination or a timeout is pending. May be asked on any thread.
pub fn stop_requested() -> bool {
    let is_set = |flag: *mut pg_sys::sig_atomic_t| {
        // SAFETY: a flag of the server, which lives as long as the process; signal handlers set it, in one store.
        unsafe { AtomicI32::from_ptr(flag).load(Relaxed) != 0 }
    };
    is_set(&raw mut pg_sys::InterruptPending)
        && (is_set(&raw mut pg_sys::QueryCancelPending) || is_set(&raw mut pg_sys::ProcDiePending))
}

/// What ends the engine's work, on whichever thread it is, once a stop is requested.
pub fn cancel() -> Cancel {
    Cancel::watching(stop_requested)
}

/// Whether PostgreSQL has something else to do that does not stop the query, such as a barrier.
pub fn other_pending() -> bool {
    // SAFETY: as above.
    unsafe { pg_sys::InterruptPending != 0 }
}

/// For the engine's loops: `Err(Canceled)` when a cancel or a termination is pending. The caller then lets PostgreSQL
/// raise its own error with [`check`], once no thread is left.
pub fn poll() -> engine::Result<()> {
    if stop_requested() { Err(engine::Error::Canceled) } else { Ok(()) }
}

/// Waits for a signal or the end of the time, which shows as wait event `Extension`. True: the postmaster is gone.
pub fn wait(milliseconds: i64) -> bool {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_POSTMASTER_DEATH;
    // SAFETY: the process's own latch. Who else waits for it looks at what it waits for after each wake-up.
    unsafe {
        let happened =
            pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, milliseconds, pg_sys::PG_WAIT_EXTENSION) as u32;
        if happened & pg_sys::WL_LATCH_SET != 0 {
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        happened & pg_sys::WL_POSTMASTER_DEATH != 0
    }
}

/// `CHECK_FOR_INTERRUPTS()`: raises the pending cancel or termination. No engine thread may run.
pub fn check() {
    pgrx::check_for_interrupts!();
}

/// While it lives, every signal is blocked in this thread; threads spawned meanwhile inherit that, so that PostgreSQL's
/// handlers only ever run on the main thread.
pub struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    pub fn new() -> Self {
        // SAFETY: both sets are valid for writes; sigfillset and pthread_sigmask do not fail with these arguments.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            SignalsBlocked(before)
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: restores the mask that was saved by `new`.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut());
        }
    }
}
