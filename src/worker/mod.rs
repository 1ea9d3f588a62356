//! Background workers.

/// Called from `_PG_init`: defines the workers' settings and registers the launcher when preloaded.
pub fn register() {}
