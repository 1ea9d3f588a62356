//! Unit tests of the extension's files that use nothing of PostgreSQL: a test binary of the extension itself could not be
//! linked without a server.

#[path = "../../src/pg/lru.rs"]
#[allow(dead_code)]
mod lru;

#[path = "../../src/pg/numeric.rs"]
#[allow(dead_code)]
mod numeric;
