//! JSON messages, straight from bytes into columns.

mod array;
mod decoder;
mod scan;
mod time;
mod value;

pub use array::to_array_literal;
pub use decoder::{Decoder, Field, HostCell, Parse};
pub use scan::{Kind, Syntax, Token, object, unescape};
