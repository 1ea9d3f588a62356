//! Locks on a datasource: heavyweight locks to the end of the transaction, so that they show in `pg_locks`, take part
//! in deadlock detection and survive PREPARE TRANSACTION.

use pgrx::pg_sys;

/// What a transaction is about to do to a datasource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Adding segments: many at once.
    Append,
    /// Giving out a version and hiding segments: waits for appends in flight, and holds off new ones until commit.
    Commit,
    /// Replacing or merging: one at a time, for as long as it takes; appends go on.
    Maintenance,
}

impl Mode {
    /// Sub-object number and PostgreSQL's lock mode.
    fn tag(self) -> (u16, i32) {
        match self {
            Mode::Append => (0, pg_sys::RowExclusiveLock as i32),
            Mode::Commit => (0, pg_sys::ShareRowExclusiveLock as i32),
            Mode::Maintenance => (1, pg_sys::ExclusiveLock as i32),
        }
    }
}

/// Waits for the lock. `class` is the oid of `basalt.datasource`.
pub fn acquire(class: pg_sys::Oid, datasource: &[u8; 16], mode: Mode) {
    let (sub, level) = mode.tag();
    // SAFETY: plain call; waiting is interruptible.
    unsafe { pg_sys::LockDatabaseObject(class, object(datasource), sub, level) }
}

/// Takes the lock if that needs no waiting.
pub fn try_acquire(class: pg_sys::Oid, datasource: &[u8; 16], mode: Mode) -> bool {
    let (sub, level) = mode.tag();
    // SAFETY: plain call.
    unsafe { pg_sys::ConditionalLockDatabaseObject(class, object(datasource), sub, level) }
}

/// 32 of the uuid's random bits: two datasources that share them only wait for each other.
fn object(datasource: &[u8; 16]) -> pg_sys::Oid {
    let bits = u32::from_le_bytes([datasource[0], datasource[1], datasource[2], datasource[3]]);
    pg_sys::Oid::from(bits)
}
