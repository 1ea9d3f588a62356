//! The maintenance worker of a database: merges, hands off, sweeps.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use basalt_background::handoff::HandoffPolicy;
use basalt_background::merge_policy::MergePolicy;
use pgrx::{pg_guard, pg_sys};

use super::process::{self, Failure};
use crate::catalog::handoff::{self, Step};
use crate::catalog::{ingestion, origin, sweep};
use crate::guc;
use crate::pg::workers::{self, Kind};

const ROUND: Duration = Duration::from_secs(1);
/// A datasource that has not changed is looked at this seldom: an interval may have closed.
const QUIET: Duration = Duration::from_secs(5);
const SWEEP: Duration = Duration::from_secs(60);
/// After an error a datasource rests.
const REST: Duration = Duration::from_secs(30);

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn basalt_maintenance_worker(slot: pg_sys::Datum) {
    let Some(slot) = process::begin(slot, Kind::Maintenance) else { return };
    work(slot);
    process::finish(slot, Kind::Maintenance);
}

/// What the worker remembers of a datasource.
struct Seen {
    segments: i64,
    next: Instant,
}

fn work(slot: usize) {
    match has_ingestions() {
        None => {
            workers::want(slot, Kind::Maintenance, false);
            return;
        }
        Some(true) => workers::call(&[Kind::Ingestion]),
        Some(false) => {}
    }
    let mut seen: HashMap<[u8; 16], Seen> = HashMap::new();
    let mut swept = Instant::now();
    while !process::must_end() {
        if process::is_database_wanted() {
            return;
        }
        if guc::MAINTENANCE.get() {
            match process::transaction(|| Ok(origin::datasources())) {
                Ok(datasources) => {
                    seen.retain(|id, _| datasources.iter().any(|(known, ..)| known == id));
                    for (id, relation, segments) in datasources {
                        look(id, relation, segments, &mut seen);
                    }
                }
                // The extension may just have been dropped.
                Err(_) if has_ingestions().is_none() => {
                    workers::want(slot, Kind::Maintenance, false);
                    return;
                }
                Err(failure) => process::warn(&failure, "basalt maintenance"),
            }
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                if let Err(failure) = process::transaction(sweep::sweep) {
                    process::warn(&failure, "basalt sweep");
                }
            }
        }
        process::wait(ROUND, None);
    }
}

/// `None`: the extension is not there.
fn has_ingestions() -> Option<bool> {
    if !process::has_extension() {
        return None;
    }
    process::transaction(|| Ok(ingestion::exist())).ok()
}

/// Steps, each a transaction, until nothing is due.
fn look(id: [u8; 16], relation: pg_sys::Oid, segments: i64, seen: &mut HashMap<[u8; 16], Seen>) {
    if segments == 0 {
        seen.remove(&id);
        return;
    }
    let now = Instant::now();
    match seen.get(&id) {
        Some(known) if known.segments == segments && known.next > now => return,
        // After an error.
        Some(known) if known.segments < 0 && known.next > now => return,
        _ => {}
    }
    let delay = i64::from(guc::HANDOFF_DELAY.get()).saturating_mul(1_000_000);
    let policy = HandoffPolicy { delay, ..HandoffPolicy::default() };
    let mut count = segments;
    let mut wait = QUIET;
    while !process::must_end() {
        let stepped: Result<Step, Failure> =
            process::transaction(|| handoff::step(relation, &policy, Some(&MergePolicy::default()), false));
        match stepped {
            // What another worker of the table, or a user, does meanwhile is seen by the changed count.
            Ok(Step::Nothing | Step::Busy) => break,
            Ok(Step::Merged { .. } | Step::HandedOff { .. }) => {}
            Err(failure) if failure.code == pgrx::PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE => break,
            Err(failure) => {
                process::warn(&failure, "basalt maintenance of a datasource");
                count = -1;
                wait = REST;
                break;
            }
        }
        if process::is_database_wanted() {
            break;
        }
    }
    seen.insert(id, Seen { segments: count, next: Instant::now() + wait });
}
