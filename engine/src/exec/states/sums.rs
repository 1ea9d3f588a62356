//! Exact sums of integers and of decimals that mostly fit 64 bits.

use super::{add_wide, extend};
use crate::exec::PASSING;
use crate::exec::bits::Selection;
use crate::exec::columns::{BlockScratch, Kind, SegmentView};
use crate::exec::groups::Target;
use crate::exec::kernels;
use crate::exec::rowset::{RowSet, for_rows};
use crate::segment::BlockHeader;
use crate::types::{LogicalType, Value};
use crate::{Reservation, Result};

/// Exact sums of I64 values: in 64 bits while they are known to fit, then in 128.
#[derive(Default)]
pub(in crate::exec) struct IntSums {
    small: Vec<i64>,
    large: Vec<i128>,
    /// No small sum is larger than this in magnitude.
    bound: u64,
    nan: Vec<bool>,
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
    let limits = match of.kind {
        Kind::IntCodes => of.int_values.get(*min as usize).copied().zip(of.int_values.get(*max as usize).copied()),
        _ => Some((*min, *max)),
    };
    let limits = limits.filter(|(_, max)| !(of.is_numeric() && *max == LogicalType::NUMERIC_NAN_I64));
    Ok(limits.map(|(min, max)| min.unsigned_abs().max(max.unsigned_abs())))
}

impl IntSums {
    pub fn ensure(&mut self, groups: usize, memory: &mut Reservation) -> Result<()> {
        extend(&mut self.small, groups, 0, memory)?;
        if !self.large.is_empty() {
            extend(&mut self.large, groups, 0, memory)?;
        }
        if self.nan.is_empty() { Ok(()) } else { extend(&mut self.nan, groups, false, memory) }
    }

    fn ensure_wide(&mut self, memory: &mut Reservation) -> Result<()> {
        extend(&mut self.large, self.small.len(), 0, memory)
    }

    /// What no sum of rows of the block exceeds in magnitude; `None`: it may be anything.
    fn most(column: usize, view: &SegmentView<'_>, scratch: &mut BlockScratch) -> Result<Option<u64>> {
        let rows = scratch.rows() as u64;
        let total = magnitude(column, view, scratch)?.and_then(|m| m.checked_mul(rows));
        Ok(total.filter(|total| *total <= i64::MAX as u64))
    }

    /// Whether that can be added to every small sum.
    fn fits(&self, most: Option<u64>) -> bool {
        most.and_then(|most| self.bound.checked_add(most)).is_some_and(|bound| bound <= i64::MAX as u64)
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
        if !self.fits(most) {
            self.ensure_wide(memory)?;
        }
        if most.is_none() && (computed || view.columns[column].is_numeric()) {
            extend(&mut self.nan, self.small.len(), false, memory)?;
        }
        Ok(())
    }

    /// Adds a whole block's sum.
    pub fn add_block(&mut self, group: usize, sum: i128, memory: &mut Reservation) -> Result<()> {
        let most = u64::try_from(sum.unsigned_abs()).ok();
        if let (Some(most), true) = (most, self.fits(most)) {
            self.small[group] += sum as i64;
            self.bound += most;
            return Ok(());
        }
        self.widen(memory)?;
        self.large[group] = add_wide(self.large[group], sum)?;
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
            extend(&mut self.nan, self.small.len(), false, memory)?;
        }
        if from.large.is_empty() && from.nan.is_empty() && self.fits(Some(from.bound)) {
            for (g, small) in from.small.iter().enumerate() {
                pass(g)?;
                let slot = &mut self.small[to(g as u32) as usize];
                *slot = slot.wrapping_add(*small);
            }
            self.bound += from.bound;
            return Ok(());
        }
        self.widen(memory)?;
        for g in 0..from.small.len() {
            pass(g)?;
            let (sum, nan) = from.get(g);
            let at = to(g as u32) as usize;
            self.large[at] = add_wide(self.large[at], sum)?;
            if nan {
                self.nan[at] = true;
            }
        }
        Ok(())
    }

    /// Moves the small sums to the large ones, so that anything fits.
    fn widen(&mut self, memory: &mut Reservation) -> Result<()> {
        self.ensure_wide(memory)?;
        if self.bound > 0 {
            for (large, small) in self.large.chunks_mut(PASSING).zip(self.small.chunks_mut(PASSING)) {
                memory.check()?;
                large.iter_mut().zip(small).for_each(|(large, small)| *large += i128::from(std::mem::take(small)));
            }
            self.bound = 0;
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
        let groups = self.small.len();
        let total = Self::most(column, view, scratch)?;
        if of.kind == Kind::I128 && !scratch.is_narrow(column) {
            return self.update_wide(scratch.wide(view, column)?, set, target, memory);
        }
        let values = scratch.ints(view, column)?;
        let Some(total) = total else {
            self.widen(memory)?;
            let numeric = of.is_numeric() && !of.is_computed();
            if numeric {
                extend(&mut self.nan, groups, false, memory)?;
            }
            let (large, nan) = (&mut self.large, &mut self.nan);
            let mut add = |g: usize, v: i64| {
                if numeric && v == LogicalType::NUMERIC_NAN_I64 {
                    nan[g] = true;
                } else {
                    large[g] += i128::from(v);
                }
            };
            match target {
                Target::One(g) => for_rows!(set, i, { add(g as usize, values[i]) }),
                Target::Each(g) => for_rows!(set, i, { add(g[i] as usize, values[i]) }),
            }
            return Ok(());
        };
        match target {
            Target::One(group) => {
                let sum = match &set.selection {
                    Selection::All => kernels::sum_all(values),
                    Selection::Some(bits) => kernels::sum_selected(values, bits.words()),
                    Selection::None => 0,
                };
                if !self.fits(Some(total)) {
                    self.widen(memory)?;
                }
                self.bound += total;
                let slot = &mut self.small[group as usize];
                *slot = slot.wrapping_add(sum);
            }
            Target::Each(groups_of) => {
                if !self.fits(Some(total)) {
                    self.widen(memory)?;
                }
                self.bound += total;
                let rows = set.rows;
                kernels::add_by_group(&mut self.small, &groups_of[..rows], &values[..rows], set.list());
            }
        }
        Ok(())
    }

    /// Adds decimals that do not fit 64 bits.
    fn update_wide(
        &mut self,
        values: &[i128],
        set: &mut RowSet,
        target: Target<'_>,
        memory: &mut Reservation,
    ) -> Result<()> {
        self.widen(memory)?;
        extend(&mut self.nan, self.small.len(), false, memory)?;
        let (large, nan) = (&mut self.large, &mut self.nan);
        let mut add = |g: usize, v: i128| -> Result<()> {
            if v == LogicalType::NUMERIC_NAN_I128 {
                nan[g] = true;
            } else {
                large[g] = add_wide(large[g], v)?;
            }
            Ok(())
        };
        match target {
            Target::One(g) => for_rows!(set, i, { add(g as usize, values[i])? }),
            Target::Each(g) => for_rows!(set, i, { add(g[i] as usize, values[i])? }),
        }
        Ok(())
    }

    /// The sum of a group, and whether a NaN is in it.
    pub fn get(&self, group: usize) -> (i128, bool) {
        let large = self.large.get(group).copied().unwrap_or(0);
        (large + i128::from(self.small[group]), self.nan.get(group).copied().unwrap_or(false))
    }
}
