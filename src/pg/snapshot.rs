//! Snapshots as guards.

use pgrx::pg_sys;

/// Pushes the newest transaction snapshot as the active one until dropped; for callbacks that have none. Under
/// repeatable read it is the transaction's, with the current command counted in.
pub struct ActiveSnapshot(());

impl ActiveSnapshot {
    pub fn transaction() -> Self {
        // SAFETY: inside a transaction; popped by Drop, or by (sub)transaction abort.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) }
        ActiveSnapshot(())
    }

    /// A snapshot that sees everything committed by now, whatever the isolation level.
    pub fn latest() -> Self {
        // SAFETY: as above.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) }
        ActiveSnapshot(())
    }
}

impl Drop for ActiveSnapshot {
    fn drop(&mut self) {
        // While an error unwinds, abort processing pops it.
        if !std::thread::panicking() {
            // SAFETY: pops what the constructor pushed.
            unsafe { pg_sys::PopActiveSnapshot() }
        }
    }
}

/// The active snapshot's command id: what earlier commands of this transaction did is visible, this and later ones' not.
pub fn active_command() -> Option<u32> {
    // SAFETY: the active snapshot, if set, is valid.
    unsafe { if pg_sys::ActiveSnapshotSet() { Some((*pg_sys::GetActiveSnapshot()).curcid) } else { None } }
}

/// A snapshot held for longer than one statement.
pub struct Registered(pg_sys::Snapshot);

impl Registered {
    /// The transaction's snapshot: newest under read committed.
    pub fn transaction() -> Self {
        // SAFETY: inside a transaction; unregistered by Drop, or by the resource owner on abort.
        unsafe { Registered(pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot())) }
    }

    pub fn as_ptr(&self) -> pg_sys::Snapshot {
        self.0
    }

    /// Runs `work` with it as the active snapshot.
    pub fn active<T>(&self, work: impl FnOnce() -> T) -> T {
        // SAFETY: the snapshot is registered; popped below, or by abort processing.
        unsafe { pg_sys::PushActiveSnapshot(self.0) }
        let active = ActiveSnapshot(());
        let result = work();
        drop(active);
        result
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: registered by the constructor.
            unsafe { pg_sys::UnregisterSnapshot(self.0) }
        }
    }
}

/// What a snapshot sees, apart from changes of its own transaction: equal contents see equal rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    limits: (u32, u32),
    running: Vec<u32>,
    running_below: Vec<u32>,
    flags: (bool, bool),
}

impl Contents {
    /// Of the active snapshot; `None` if this transaction has changed something, or there is no ordinary active snapshot.
    pub fn active() -> Option<Contents> {
        // SAFETY: the active snapshot is valid, its arrays are as long as it says.
        unsafe {
            if !pg_sys::ActiveSnapshotSet() || u32::from(pg_sys::GetTopTransactionIdIfAny()) != 0 {
                return None;
            }
            let snapshot = &*pg_sys::GetActiveSnapshot();
            if snapshot.snapshot_type != pg_sys::SnapshotType::SNAPSHOT_MVCC {
                return None;
            }
            let ids = |from: *mut pg_sys::TransactionId, count: usize| -> Vec<u32> {
                (0..count).map(|i| u32::from(*from.add(i))).collect()
            };
            Some(Contents {
                limits: (u32::from(snapshot.xmin), u32::from(snapshot.xmax)),
                running: ids(snapshot.xip, snapshot.xcnt as usize),
                running_below: ids(snapshot.subxip, usize::try_from(snapshot.subxcnt).unwrap_or(0)),
                flags: (snapshot.suboverflowed, snapshot.takenDuringRecovery),
            })
        }
    }
}
