//! What the launcher, the workers and the sessions tell each other, in shared memory.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use pgrx::{PgAtomic, pg_guard, pg_shmem_init, pg_sys};

/// Databases with workers at most; a worker takes a process slot (`max_worker_processes`) anyway.
pub const DATABASES: usize = 64;

/// The workers that a database may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ingestion,
    Maintenance,
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::Ingestion, Kind::Maintenance];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Ingestion => "ingestion",
            Kind::Maintenance => "maintenance",
        }
    }
}

/// By database slot: its oid (0: free), and for each kind whether a worker is wanted and its process id. The launcher's
/// process id.
type Board = ([AtomicU32; DATABASES], [[AtomicBool; 2]; DATABASES], [[AtomicI32; 2]; DATABASES], AtomicI32);

// SAFETY: the name is the extension's own.
static BOARD: PgAtomic<Board> = unsafe { PgAtomic::new(c"basalt workers") };

/// Set in the postmaster, hence in every process it forks.
static PRELOADED: AtomicBool = AtomicBool::new(false);

/// From `_PG_init` while shared_preload_libraries are loaded.
// The macro looks for features of other server versions.
#[allow(unexpected_cfgs)]
pub fn reserve() {
    PRELOADED.store(true, Ordering::Relaxed);
    pg_shmem_init!(
        BOARD = (
            std::array::from_fn(|_| AtomicU32::new(0)),
            std::array::from_fn(|_| Default::default()),
            std::array::from_fn(|_| Default::default()),
            AtomicI32::new(0),
        )
    );
}

/// Whether the library is in shared_preload_libraries: there are no workers otherwise.
pub fn is_preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

pub fn slots() -> impl Iterator<Item = (usize, pg_sys::Oid)> {
    let databases = BOARD.get().0.iter().enumerate();
    databases.map(|(i, d)| (i, pg_sys::Oid::from(d.load(Ordering::Acquire)))).filter(|(_, d)| *d != pg_sys::InvalidOid)
}

/// The database's slot, taken if it has none. `None`: all are taken.
pub fn slot(database: pg_sys::Oid) -> Option<usize> {
    if let Some((slot, _)) = slots().find(|(_, d)| *d == database) {
        return Some(slot);
    }
    let oid = u32::from(database);
    BOARD.get().0.iter().position(|d| {
        let taken = d.compare_exchange(0, oid, Ordering::AcqRel, Ordering::Acquire);
        taken.is_ok() || taken == Err(oid)
    })
}

/// Gives the slot of a database without workers back.
pub fn release(slot: usize) {
    for kind in Kind::ALL {
        want(slot, kind, false);
    }
    BOARD.get().0[slot].store(0, Ordering::Release);
}

pub fn want(slot: usize, kind: Kind, wanted: bool) {
    BOARD.get().1[slot][kind as usize].store(wanted, Ordering::Release);
}

pub fn is_wanted(slot: usize, kind: Kind) -> bool {
    BOARD.get().1[slot][kind as usize].load(Ordering::Acquire)
}

/// A worker says that it runs (or, with 0, that it does not).
pub fn set_pid(slot: usize, kind: Kind, pid: i32) {
    BOARD.get().2[slot][kind as usize].store(pid, Ordering::Release);
}

pub fn set_launcher(pid: i32) {
    BOARD.get().3.store(pid, Ordering::Release);
}

/// Whether the worker's process exists.
pub fn is_running(slot: usize, kind: Kind) -> bool {
    process(BOARD.get().2[slot][kind as usize].load(Ordering::Acquire)).is_some()
}

fn process(pid: i32) -> Option<*mut pg_sys::PGPROC> {
    if pid == 0 {
        return None;
    }
    // SAFETY: returns null for a process that is gone.
    let process = unsafe { pg_sys::BackendPidGetProc(pid) };
    (!process.is_null()).then_some(process)
}

fn wake(pid: i32) {
    if let Some(process) = process(pid) {
        // SAFETY: PGPROC entries and their latches are shared memory that stays; a latch set too often only wakes its
        // owner.
        unsafe { pg_sys::SetLatch(&mut (*process).procLatch) }
    }
}

pub fn wake_launcher() {
    wake(BOARD.get().3.load(Ordering::Acquire));
}

/// Has workers of these kinds started, or looked up if they run, in this session's database. Does not fail: it is called
/// when a transaction has committed.
pub fn call(kinds: &[Kind]) {
    if !is_preloaded() {
        return;
    }
    // SAFETY: a plain global of the backend.
    let database = unsafe { pg_sys::MyDatabaseId };
    // The launcher may take an idle slot back at this very moment: then another is taken.
    for _ in 0..3 {
        let Some(slot) = slot(database) else { return };
        for kind in kinds {
            want(slot, *kind, true);
            wake(BOARD.get().2[slot][*kind as usize].load(Ordering::Acquire));
        }
        if slots().any(|(taken, owner)| taken == slot && owner == database) {
            break;
        }
    }
    wake_launcher();
}

/// Has the database's workers look at the catalog once this transaction has committed.
pub fn call_at_commit(kinds: &'static [Kind]) {
    pgrx::register_xact_callback(pgrx::PgXactCallbackEvent::Commit, move || call(kinds));
}
