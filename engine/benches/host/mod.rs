//! A host without a server: its one predicate is true of texts that end in `e`, its one function counts characters.

use std::cmp::Ordering;

use basalt_engine::Result;
use basalt_engine::plan::{Host, HostFunction, HostPredicate, OrderId, TextFunction, Wake};
use basalt_engine::segment::BytesBlock;

pub struct NoServer;

impl Host for NoServer {
    fn test(&mut self, _: HostPredicate, values: &BytesBlock) -> Result<Vec<bool>> {
        Ok((0..values.len()).map(|i| values.get(i).ends_with(b"e")).collect())
    }
    fn known(&self, _: HostFunction) -> Option<TextFunction> {
        Some(TextFunction::Characters)
    }
    fn compare(&mut self, _: OrderId, left: &[u8], right: &[u8]) -> Ordering {
        left.cmp(right)
    }
    fn poll(&mut self) -> Result<()> {
        Ok(())
    }
    fn before_spawn(&mut self) -> Wake {
        Box::new(())
    }
}
