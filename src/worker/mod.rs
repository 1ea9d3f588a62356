//! Background workers: a launcher, and in each database that has the extension one worker for ingestions and one for
//! maintenance.

pub mod board;
mod convert;
mod ingestion;
mod launcher;
mod maintenance;
mod process;
mod publish;
mod task;

use pgrx::pg_sys;

pub use board::{Kind, is_preloaded};
pub use task::{IngestionOptions, Start, connection};

/// Called from `_PG_init`: registers the launcher when preloaded.
pub fn register() {
    // SAFETY: a plain global; set only while the postmaster loads libraries.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        board::reserve();
        launcher::register();
    }
}

/// Has the database's workers look at the catalog once this transaction has committed.
pub fn call_at_commit(kinds: &'static [Kind]) {
    pgrx::register_xact_callback(pgrx::PgXactCallbackEvent::Commit, move || board::call(kinds));
}
