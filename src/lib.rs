//! The extension: translates PostgreSQL's plans into the engine's and the engine's results into tuples.

pgrx::pg_module_magic!();

mod api;
mod catalog;
mod error;
mod fdw;
mod guc;
mod pg;
mod translate;
mod worker;

use basalt_engine::pages::LargePages;
use pgrx::pg_guard;

#[global_allocator]
static ALLOCATOR: LargePages = LargePages;

#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    pg::leave_backtraces_out();
    guc::define(pg::is_preloading());
    catalog::register_callbacks();
    fdw::register();
    worker::register();
}

pgrx::extension_sql_file!("../sql/bootstrap.sql", name = "bootstrap", bootstrap);
pgrx::extension_sql_file!("../sql/catalog.sql", name = "catalog");
pgrx::extension_sql_file!("../sql/fdw.sql", name = "fdw", requires = ["catalog"]);
pgrx::extension_sql_file!("../sql/functions.sql", name = "functions", requires = ["fdw"]);
pgrx::extension_sql_file!("../sql/ingestion.sql", name = "ingestion", requires = ["functions"]);
pgrx::extension_sql_file!("../sql/views.sql", name = "views", requires = ["catalog"]);
pgrx::extension_sql_file!("../sql/privileges.sql", name = "privileges", finalize);
