//! The extension: translates PostgreSQL's plans into the engine's and the engine's results into tuples.

pgrx::pg_module_magic!();
