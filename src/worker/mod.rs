//! Background workers: a launcher, and in each database that has the extension one worker for ingestions and one for
//! maintenance.

mod convert;
mod ingestion;
mod launcher;
mod maintenance;
mod process;
mod publish;
mod task;

use pgrx::pg_sys;

use crate::pg::workers;

/// Called from `_PG_init`: registers the launcher when preloaded.
pub fn register() {
    // SAFETY: a plain global; set only while the postmaster loads libraries.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        workers::reserve();
        launcher::register();
    }
}
