//! The catalog: the only code that reads or writes `basalt.*` tables.

pub mod alteration;
pub mod cache;
mod collect;
pub mod compact;
pub mod datasource;
pub mod derived;
mod eviction;
pub mod fields;
pub mod handoff;
pub mod identity;
pub mod ingestion;
pub mod ingestion_options;
pub mod list;
pub mod options;
pub mod origin;
pub mod pending;
pub mod publish;
pub mod replace;
pub mod restore;
pub mod retire;
pub mod rewrite;
pub mod segment;
pub mod sweep;
pub mod tables;

/// Called once a process, from `_PG_init`.
pub fn register_callbacks() {
    datasource::register_callbacks();
    pending::register_callbacks();
    crate::error::on_corruption(cache::drop_damaged);
}

/// Holds off appends and other commits to the datasource until the transaction ends.
fn lock_commit(datasource: &[u8; 16]) {
    crate::pg::lock::acquire(tables::datasource_class(), datasource, crate::pg::lock::Mode::Commit);
}
