//! Exact sums of integers and of decimals that mostly fit 64 bits.

use super::widths::Widths;
use super::{add_wide, extend};
use crate::exec::bits::Selection;
use crate::exec::columns::{BlockScratch, Kind, SegmentView};
use crate::exec::groups::{Target, each_row};
use crate::exec::kernels;
use crate::exec::rowset::RowSet;
use crate::segment::BlockHeader;
use crate::types::{LogicalType, Value};
use crate::{Reservation, Result};

/// Exact sums of I64 values, or of decimals.
#[derive(Default)]
pub(in crate::exec) struct IntSums {
    sums: Widths<i64, i128>,
    nan: Vec<bool>,
}

/// Adds a decimal; of what is NaN, that it is.
#[inline(always)]
pub(super) fn add_decimal(sum: &mut i128, nan: &mut bool, value: i128) -> Result<()> {
    if value == LogicalType::NUMERIC_NAN_I128 {
        *nan = true;
    } else {
        *sum = add_wide(*sum, value)?;
    }
    Ok(())
}

/// The largest magnitude of a block's floats, by its header.
pub(super) fn largest(header: &BlockHeader) -> Option<f64> {
    match (&header.min, &header.max) {
        (Value::F64(min), Value::F64(max)) if min.is_finite() && max.is_finite() => Some(min.abs().max(max.abs())),
        _ => None,
    }
}

/// The largest magnitude of a block's values, by what headers tell of it; `None`: unknown, or a NaN may be among them.
pub(in crate::exec) fn magnitude(
    column: usize,
    view: &SegmentView<'_>,
    scratch: &mut BlockScratch,
) -> Result<Option<u64>> {
    let of = &view.columns[column];
    if of.is_computed() {
        let (limits, _) = scratch.limits(column);
        return Ok(limits.and_then(|(low, high)| u64::try_from(low.unsigned_abs().max(high.unsigned_abs())).ok()));
    }
    let header = scratch.header(view, column)?;
    let (Value::I64(min), Value::I64(max)) = (&header.min, &header.max) else { return Ok(None) };
    let known = !(of.is_numeric() && *max == LogicalType::NUMERIC_NAN_I64);
    Ok(known.then(|| min.unsigned_abs().max(max.unsigned_abs())))
}

impl IntSums {
    pub fn ensure(&mut self, groups: usize, memory: &mut Reservation) -> Result<()> {
        self.sums.ensure(groups, memory)?;
        if self.nan.is_empty() { Ok(()) } else { extend(&mut self.nan, groups, false, memory) }
    }

    /// What no sum of rows of the block exceeds in magnitude; `None`: it may be anything.
    fn most(column: usize, view: &SegmentView<'_>, scratch: &mut BlockScratch) -> Result<Option<u64>> {
        let rows = scratch.rows() as u64;
        let total = magnitude(column, view, scratch)?.and_then(|m| m.checked_mul(rows));
        Ok(total.filter(|total| *total <= i64::MAX as u64))
    }

    /// Makes room for large sums and NaNs if rows of the block may need them, so that adding them needs no memory.
    pub fn ensure_update(
        &mut self,
        column: usize,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        memory: &mut Reservation,
    ) -> Result<()> {
        let computed = view.columns[column].is_computed();
        let most = if computed { None } else { Self::most(column, view, scratch)? };
        if !self.sums.fits(most) {
            self.sums.ensure_wide(memory)?;
        }
        if most.is_none() && (computed || view.columns[column].is_numeric()) {
            extend(&mut self.nan, self.sums.small.len(), false, memory)?;
        }
        Ok(())
    }

    /// Adds a whole block's sum.
    pub fn add_block(&mut self, group: usize, sum: i128, memory: &mut Reservation) -> Result<()> {
        let most = u64::try_from(sum.unsigned_abs()).ok();
        if let (Some(most), true) = (most, self.sums.fits(most)) {
            self.sums.admit(most, memory)?[group] += sum as i64;
            return Ok(());
        }
        let slot = &mut self.sums.widen(memory)?[group];
        *slot = add_wide(*slot, sum)?;
        Ok(())
    }

    /// Adds the sums of another thread, whose group `g` is `to(g)` here.
    pub fn merge(
        &mut self,
        from: &IntSums,
        to: impl Fn(u32) -> u32,
        memory: &mut Reservation,
        pass: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        if !from.nan.is_empty() {
            extend(&mut self.nan, self.sums.small.len(), false, memory)?;
        }
        let from_small = &from.sums.small;
        if from.sums.large.is_empty() && from.nan.is_empty() && self.sums.fits(Some(from.sums.bound())) {
            let small = self.sums.admit(from.sums.bound(), memory)?;
            for (g, sum) in from_small.iter().enumerate() {
                pass(g)?;
                let slot = &mut small[to(g as u32) as usize];
                *slot = slot.wrapping_add(*sum);
            }
            return Ok(());
        }
        let large = self.sums.widen(memory)?;
        for g in 0..from_small.len() {
            pass(g)?;
            let (sum, nan) = from.get(g);
            let at = to(g as u32) as usize;
            large[at] = add_wide(large[at], sum)?;
            if nan {
                self.nan[at] = true;
            }
        }
        Ok(())
    }

    /// Adds the rows of `set`, none of them NULL.
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
        let groups = self.sums.small.len();
        let total = Self::most(column, view, scratch)?;
        if of.kind == Kind::I128 && !scratch.is_narrow(column) {
            let values = scratch.wide(view, column)?;
            extend(&mut self.nan, groups, false, memory)?;
            let (large, nan) = (self.sums.widen(memory)?, &mut self.nan);
            return each_row(set, target, |g, i| add_decimal(&mut large[g], &mut nan[g], values[i]));
        }
        let values = scratch.ints(view, column)?;
        let Some(total) = total else {
            let numeric = of.is_numeric() && !of.is_computed();
            if numeric {
                extend(&mut self.nan, groups, false, memory)?;
            }
            let (large, nan) = (self.sums.widen(memory)?, &mut self.nan);
            return each_row(set, target, |g, i| {
                if numeric && values[i] == LogicalType::NUMERIC_NAN_I64 {
                    nan[g] = true;
                } else {
                    large[g] += i128::from(values[i]);
                }
                Ok(())
            });
        };
        match target {
            Target::One(group) => {
                let sum = match &set.selection {
                    Selection::All => kernels::sum_all(values),
                    Selection::Some(bits) => kernels::sum_selected(values, bits.words()),
                    Selection::None => 0,
                };
                let slot = &mut self.sums.admit(total, memory)?[group as usize];
                *slot = slot.wrapping_add(sum);
            }
            Target::Each(groups) => {
                let (small, rows) = (self.sums.admit(total, memory)?, set.rows);
                kernels::add_by_group(small, &groups[..rows], &values[..rows], set.list());
            }
        }
        Ok(())
    }

    /// The sum of a group, and whether a NaN is in it.
    pub fn get(&self, group: usize) -> (i128, bool) {
        (self.sums.get(group), self.nan.get(group).copied().unwrap_or(false))
    }
}
