//! Background workers: a launcher, and in each database that has the extension one worker for ingestions and one for
//! maintenance.

mod convert;
mod ingestion;
mod launcher;
mod maintenance;
mod process;
mod publish;
mod task;

use crate::pg::{is_preloading, slots, workers};

/// Called from `_PG_init`: registers the launcher when preloaded.
pub fn register() {
    if is_preloading() {
        workers::reserve();
        slots::reserve();
        launcher::register();
    }
}
