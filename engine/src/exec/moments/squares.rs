//! Exact sums of squares of integers and decimals.

use super::wide::Wide;
use crate::exec::PASSING;
use crate::exec::columns::{BlockScratch, Kind, SegmentView};
use crate::exec::groups::Target;
use crate::exec::rowset::{RowSet, for_rows};
use crate::exec::states::{extend, magnitude};
use crate::types::LogicalType;
use crate::{Error, Reservation, Result};

/// In 64 bits while they are known to fit, then in 256. A NaN is left out: the sum that stands beside tells of it.
#[derive(Default)]
pub(in crate::exec) struct SquareSums {
    small: Vec<u64>,
    large: Vec<Wide>,
    /// No small sum is larger than this.
    bound: u64,
}

impl SquareSums {
    pub fn ensure(&mut self, groups: usize, memory: &mut Reservation) -> Result<()> {
        extend(&mut self.small, groups, 0, memory)?;
        if self.large.is_empty() { Ok(()) } else { extend(&mut self.large, groups, Wide::ZERO, memory) }
    }

    /// Makes room for large sums, so that adding rows needs no memory.
    pub fn ensure_wide(&mut self, memory: &mut Reservation) -> Result<()> {
        extend(&mut self.large, self.small.len(), Wide::ZERO, memory)
    }

    fn widen(&mut self, memory: &mut Reservation) -> Result<()> {
        self.ensure_wide(memory)?;
        if self.bound > 0 {
            for (large, small) in self.large.chunks_mut(PASSING).zip(self.small.chunks_mut(PASSING)) {
                memory.check()?;
                large.iter_mut().zip(small).for_each(|(large, small)| large.add(Wide::from(std::mem::take(small))));
            }
            self.bound = 0;
        }
        Ok(())
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
            self.widen(memory)?;
            let large = self.large.as_mut_slice();
            let mut add = |g: usize, v: i128| -> Result<()> {
                if v != LogicalType::NUMERIC_NAN_I128 {
                    large[g] = large[g].checked_add(Wide::square(v)).ok_or_else(out_of_range)?;
                }
                Ok(())
            };
            match target {
                Target::One(g) => for_rows!(set, i, { add(g as usize, values[i])? }),
                Target::Each(groups) => for_rows!(set, i, { add(groups[i] as usize, values[i])? }),
            }
            return Ok(());
        }
        let square = magnitude(column, view, scratch)?.and_then(|m| m.checked_mul(m));
        let total = square.and_then(|square| square.checked_mul(set.rows as u64));
        let numeric = of.is_numeric() && !of.is_computed();
        let values = scratch.ints(view, column)?;
        let Some(total) = total else {
            self.widen(memory)?;
            let large = self.large.as_mut_slice();
            let mut add = |g: usize, v: i64| {
                if !(numeric && v == LogicalType::NUMERIC_NAN_I64) {
                    // Fewer than 2^64 rows of 126 bits each.
                    large[g].add(Wide::from(i128::from(v) * i128::from(v)));
                }
            };
            match target {
                Target::One(g) => for_rows!(set, i, { add(g as usize, values[i]) }),
                Target::Each(groups) => for_rows!(set, i, { add(groups[i] as usize, values[i]) }),
            }
            return Ok(());
        };
        match self.bound.checked_add(total) {
            Some(bound) => self.bound = bound,
            None => {
                self.widen(memory)?;
                self.bound = total;
            }
        }
        let square = |v: i64| v.wrapping_mul(v) as u64;
        match target {
            Target::One(g) => {
                let mut sum = 0u64;
                for_rows!(set, i, { sum = sum.wrapping_add(square(values[i])) });
                self.small[g as usize] += sum;
            }
            Target::Each(groups) => {
                let small = self.small.as_mut_slice();
                for_rows!(set, i, {
                    let slot = &mut small[groups[i] as usize];
                    *slot = slot.wrapping_add(square(values[i]));
                });
            }
        }
        Ok(())
    }

    pub fn get(&self, group: usize) -> Wide {
        let mut sum = self.large.get(group).copied().unwrap_or(Wide::ZERO);
        sum.add(Wide::from(self.small[group]));
        sum
    }

    /// Adds the sums of another thread, whose group `g` is `to(g)` here.
    pub fn merge(
        &mut self,
        from: &SquareSums,
        to: impl Fn(u32) -> u32,
        memory: &mut Reservation,
        pass: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        self.widen(memory)?;
        for g in 0..from.small.len() {
            pass(g)?;
            let slot = &mut self.large[to(g as u32) as usize];
            *slot = slot.checked_add(from.get(g)).ok_or_else(out_of_range)?;
        }
        Ok(())
    }
}

pub(in crate::exec) fn out_of_range() -> Error {
    Error::OutOfRange { what: "numeric".into() }
}
