//! The catalog: the only code that reads or writes `basalt.*` tables.

pub mod alteration;
pub mod cache;
pub mod datasource;
pub mod derived;
pub mod fields;
pub mod identity;
pub mod ingestion;
pub mod ingestion_options;
pub mod options;
pub mod pending;
pub mod publish;
pub mod retire;
pub mod segment;
pub mod tables;

/// Called once a process, from `_PG_init`.
pub fn register_callbacks() {
    datasource::register_callbacks();
    pending::register_callbacks();
}
