//! Exact sums of squares of integers and decimals.

use super::wide::Wide;
use crate::exec::columns::{BlockScratch, Kind, SegmentView};
use crate::exec::groups::{Target, each_row};
use crate::exec::rowset::{RowSet, for_rows};
use crate::exec::states::{Widths, magnitude};
use crate::types::LogicalType;
use crate::{Error, Reservation, Result};

/// A NaN is left out: the sum that stands beside tells of it.
#[derive(Default)]
pub(in crate::exec) struct SquareSums(Widths<u64, Wide>);

impl SquareSums {
    pub fn ensure(&mut self, groups: usize, memory: &mut Reservation) -> Result<()> {
        self.0.ensure(groups, memory)
    }

    /// Makes room for large sums, so that adding rows needs no memory.
    pub fn ensure_wide(&mut self, memory: &mut Reservation) -> Result<()> {
        self.0.ensure_wide(memory)
    }

    /// Adds the rows of `set`, none of them NULL. Errors: `Budget`; `OutOfRange` beyond 256 bits.
    pub fn update(
        &mut self,
        column: usize,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        set: &mut RowSet,
        target: Target<'_>,
        memory: &mut Reservation,
    ) -> Result<()> {
        let of = &view.columns[column];
        if of.kind == Kind::I128 && !scratch.is_narrow(column) {
            let values = scratch.wide(view, column)?;
            let large = self.0.widen(memory)?;
            return each_row(set, target, |g, i| {
                if values[i] != LogicalType::NUMERIC_NAN_I128 {
                    large[g] = large[g].checked_add(Wide::square(values[i])).ok_or_else(out_of_range)?;
                }
                Ok(())
            });
        }
        let square = magnitude(column, view, scratch)?.and_then(|m| m.checked_mul(m));
        let total = square.and_then(|square| square.checked_mul(set.rows as u64));
        let numeric = of.is_numeric() && !of.is_computed();
        let values = scratch.ints(view, column)?;
        let Some(total) = total else {
            let large = self.0.widen(memory)?;
            return each_row(set, target, |g, i| {
                let v = values[i];
                if !(numeric && v == LogicalType::NUMERIC_NAN_I64) {
                    // Fewer than 2^64 rows of 126 bits each.
                    large[g].add(Wide::from(i128::from(v) * i128::from(v)));
                }
                Ok(())
            });
        };
        let small = self.0.admit(total, memory)?;
        let square = |v: i64| v.wrapping_mul(v) as u64;
        if let Target::One(g) = target {
            let mut sum = 0u64;
            for_rows!(set, i, { sum = sum.wrapping_add(square(values[i])) });
            small[g as usize] += sum;
            return Ok(());
        }
        each_row(set, target, |g, i| {
            small[g] = small[g].wrapping_add(square(values[i]));
            Ok(())
        })
    }

    pub fn get(&self, group: usize) -> Wide {
        self.0.get(group)
    }

    /// Adds the sums of another thread, whose group `g` is `to(g)` here.
    pub fn merge(
        &mut self,
        from: &SquareSums,
        to: impl Fn(u32) -> u32,
        memory: &mut Reservation,
        pass: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let large = self.0.widen(memory)?;
        for g in 0..from.0.small.len() {
            pass(g)?;
            let slot = &mut large[to(g as u32) as usize];
            *slot = slot.checked_add(from.get(g)).ok_or_else(out_of_range)?;
        }
        Ok(())
    }
}

pub(in crate::exec) fn out_of_range() -> Error {
    Error::OutOfRange { what: "numeric".into() }
}
