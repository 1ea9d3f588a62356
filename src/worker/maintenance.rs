//! The maintenance worker of a database.

use std::time::Duration;

use pgrx::{pg_guard, pg_sys};

use super::process;
use crate::catalog::ingestion;
use crate::pg::workers::{self, Kind};

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn basalt_maintenance_worker(slot: pg_sys::Datum) {
    let Some(slot) = process::begin(slot, Kind::Maintenance) else { return };
    work(slot);
    process::finish(slot, Kind::Maintenance);
}

fn work(slot: usize) {
    if !process::has_extension() {
        workers::want(slot, Kind::Maintenance, false);
        return;
    }
    match process::transaction(|| Ok(ingestion::exist())) {
        Ok(true) => workers::call(&[Kind::Ingestion]),
        Ok(false) => {}
        Err(failure) => process::warn(&failure, "basalt maintenance worker"),
    }
    while !process::must_end() {
        if process::is_database_wanted() {
            return;
        }
        process::wait(Duration::from_secs(1), None);
    }
}
