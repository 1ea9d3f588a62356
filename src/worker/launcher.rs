//! The launcher: sees that every database that wants workers has them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::bgworkers::DynamicBackgroundWorker;
use pgrx::{pg_guard, pg_sys};

use super::process;
use crate::pg::workers::{self, Kind};

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(60);
/// How often dropped databases are looked for, and a worker that could not be started is tried again.
const ROUND: Duration = Duration::from_secs(5);

pub fn register() {
    process::builder("basalt launcher")
        .set_function("basalt_launcher")
        .set_restart_time(Some(Duration::from_secs(5)))
        .load();
}

/// A worker as the launcher remembers it.
struct Started {
    at: Instant,
    backoff: Duration,
    /// Kept so that its end is noticed; the process ends on its own terms.
    _handle: Option<DynamicBackgroundWorker>,
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn basalt_launcher(_argument: pg_sys::Datum) {
    process::take_signals();
    // SAFETY: no database: shared catalogs only.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
        workers::set_launcher(pg_sys::MyProcPid);
    }
    // After a start every database may have ingestions: its maintenance worker looks.
    let mut unseen = databases();
    let mut started: HashMap<(usize, u32, u8), Started> = HashMap::new();
    let mut looked = Instant::now();
    while !process::must_end() {
        if looked.elapsed() >= ROUND {
            looked = Instant::now();
            free_slots();
        }
        while let Some(database) = unseen.last().copied() {
            let Some(slot) = workers::slot(database) else { break };
            workers::want(slot, Kind::Maintenance, true);
            unseen.pop();
        }
        let mut next = ROUND;
        for (slot, database) in workers::slots() {
            for kind in Kind::ALL {
                if !workers::is_wanted(slot, kind) || workers::is_running(slot, kind) {
                    continue;
                }
                let key = (slot, u32::from(database), kind as u8);
                let wait = due_in(started.get(&key));
                if wait.is_zero() {
                    let backoff = next_backoff(started.get(&key));
                    let handle = start(slot, database, kind);
                    started.insert(key, Started { at: Instant::now(), backoff, _handle: handle });
                    next = next.min(backoff);
                } else {
                    next = next.min(wait);
                }
            }
        }
        process::wait(next, None);
    }
}

fn due_in(started: Option<&Started>) -> Duration {
    started.map_or(Duration::ZERO, |s| s.backoff.saturating_sub(s.at.elapsed()))
}

/// Doubles for a worker that keeps ending, and begins anew for one that ran long.
fn next_backoff(started: Option<&Started>) -> Duration {
    match started {
        Some(s) if s.at.elapsed() < LAST_BACKOFF => (s.backoff * 2).min(LAST_BACKOFF),
        _ => FIRST_BACKOFF,
    }
}

/// `None`: there is no free process slot now.
fn start(slot: usize, database: pg_sys::Oid, kind: Kind) -> Option<DynamicBackgroundWorker> {
    let function = match kind {
        Kind::Ingestion => "basalt_ingestion_worker",
        Kind::Maintenance => "basalt_maintenance_worker",
    };
    process::builder(&format!("basalt {} worker", kind.name()))
        .set_function(function)
        .set_restart_time(None)
        .set_argument(Some(pg_sys::Datum::from(slot)))
        .set_extra(&u32::from(database).to_string())
        // SAFETY: a plain global.
        .set_notify_pid(unsafe { pg_sys::MyProcPid })
        .load_dynamic()
        .ok()
}

/// Databases that accept connections.
fn databases() -> Vec<pg_sys::Oid> {
    let read = process::transaction(|| {
        let mut found = Vec::new();
        // SAFETY: a heap scan, because without a database no index can be opened; its tuples are rows of pg_database.
        unsafe {
            let table = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
            let scan = pg_sys::table_beginscan_catalog(table, 0, std::ptr::null_mut());
            loop {
                let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
                if tuple.is_null() {
                    break;
                }
                let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
                if (*form).datallowconn {
                    found.push((*form).oid);
                }
            }
            if let Some(end) = (*(*table).rd_tableam).scan_end {
                end(scan);
            }
            pg_sys::table_close(table, pg_sys::AccessShareLock as i32);
        }
        Ok(found)
    });
    match read {
        Ok(found) => found,
        Err(failure) => {
            process::warn(&failure, "basalt launcher could not list databases");
            Vec::new()
        }
    }
}

/// Takes the slots of databases back that are gone, or whose workers found nothing to do.
fn free_slots() {
    let existing = databases();
    if existing.is_empty() {
        return;
    }
    for (slot, database) in workers::slots().collect::<Vec<_>>() {
        let running = Kind::ALL.iter().any(|kind| workers::is_running(slot, *kind));
        let wanted = Kind::ALL.iter().any(|kind| workers::is_wanted(slot, *kind));
        if !running && (!wanted || !existing.contains(&database)) {
            workers::release(slot);
        }
    }
}
