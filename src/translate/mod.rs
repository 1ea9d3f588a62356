//! PostgreSQL's expressions into the engine's plans.

pub mod advice;
pub mod aggregate;
mod attribute;
pub mod bind;
pub mod builder;
pub mod computed;
pub mod dimension;
pub mod filter;
pub mod finish;
pub mod host;
pub mod infallible;
pub mod mapped;
pub mod pieces;
pub mod shippable;
pub mod template;
pub mod time;
mod typed;
