//! Sums of two widths.

use super::extend;
use crate::exec::PASSING;
use crate::exec::moments::Wide;
use crate::{Reservation, Result};

/// In 64 bits while they are known to fit, then in `L`. By group.
#[derive(Default)]
pub(in crate::exec) struct Widths<S, L> {
    pub small: Vec<S>,
    /// What was moved here, and is not in `small`; empty as long as that is nothing.
    pub large: Vec<L>,
    /// No small sum is larger than this in magnitude.
    bound: u64,
}

/// A sum of 64 bits.
pub(in crate::exec) trait Narrow<L>: Copy + Default {
    /// The largest magnitude of one.
    const MOST: u64;
    fn add_to(self, large: &mut L);
}

impl Narrow<i128> for i64 {
    const MOST: u64 = i64::MAX as u64;

    fn add_to(self, large: &mut i128) {
        *large += i128::from(self);
    }
}

impl Narrow<Wide> for u64 {
    const MOST: u64 = u64::MAX;

    fn add_to(self, large: &mut Wide) {
        large.add(Wide::from(self));
    }
}

impl<S: Narrow<L>, L: Copy + Default> Widths<S, L> {
    pub fn ensure(&mut self, groups: usize, memory: &mut Reservation) -> Result<()> {
        extend(&mut self.small, groups, S::default(), memory)?;
        if self.large.is_empty() { Ok(()) } else { extend(&mut self.large, groups, L::default(), memory) }
    }

    /// Makes room for large sums, so that adding rows needs no memory.
    pub fn ensure_wide(&mut self, memory: &mut Reservation) -> Result<()> {
        extend(&mut self.large, self.small.len(), L::default(), memory)
    }

    /// Moves the small sums to the large ones, which are given: anything may be added to these.
    pub fn widen(&mut self, memory: &mut Reservation) -> Result<&mut [L]> {
        self.ensure_wide(memory)?;
        if self.bound > 0 {
            for (large, small) in self.large.chunks_mut(PASSING).zip(self.small.chunks_mut(PASSING)) {
                memory.check()?;
                large.iter_mut().zip(small).for_each(|(large, small)| std::mem::take(small).add_to(large));
            }
            self.bound = 0;
        }
        Ok(&mut self.large)
    }

    /// What no small sum exceeds in magnitude.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// Whether a magnitude of up to `total` can be added to every small sum; `None`: of any.
    pub fn fits(&self, total: Option<u64>) -> bool {
        total.and_then(|total| self.bound.checked_add(total)).is_some_and(|bound| bound <= S::MOST)
    }

    /// The small sums, to each of which a magnitude of up to `total` (at most `S::MOST`) may be added.
    pub fn admit(&mut self, total: u64, memory: &mut Reservation) -> Result<&mut [S]> {
        if !self.fits(Some(total)) {
            self.widen(memory)?;
        }
        self.bound += total;
        Ok(&mut self.small)
    }

    pub fn get(&self, group: usize) -> L {
        let mut sum = self.large.get(group).copied().unwrap_or_default();
        self.small[group].add_to(&mut sum);
        sum
    }
}
