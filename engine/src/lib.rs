//! Columnar segments and their vectorized execution.
//!
//! Pure Rust: no PostgreSQL, no clock, no network. Storage, memory, cancellation and the evaluation
//! of the host's own functions are handed in (`RangeRead`, `Budget`, `Cancel`, `plan::Host`).

pub mod budget;
pub mod calendar;
pub mod cancel;
pub mod decimal;
pub mod delimited;
mod dictionary;
mod encoding;
pub mod error;
pub mod exec;
pub mod granularity;
pub mod interval;
pub mod pages;
pub mod plan;
mod prefix;
pub mod rows;
pub mod segment;
mod simd;
mod sort;
pub mod types;
mod utf8;

pub use budget::{Budget, Reservation};
pub use cancel::Cancel;
pub use error::{Error, Result};
pub use interval::{TimeInterval, TimeRanges};
pub use prefix::prefix;
pub use simd::{Vectors, limit_vectors};
pub use sort::sort_by;
