//! Sums of products of floats that do not depend on the order of the values: exact, as those of floats.rs are, in windows of 256 bits.

use std::collections::BTreeMap;

use super::wide::Wide;
use crate::exec::floats::split;
use crate::exec::states::extend;
use crate::{Budget, Reservation, Result};

/// Exponents (of a product's lowest bit) in one window: 255 bits - 106 bits of a product - 40 bits for 2^40 rows, and that many again
/// less one, as a shift begins at zero.
const WIDTH: i32 = 110;

/// The window for products of magnitudes up to `left` and `right`: the exponent of its lowest bit.
pub(in crate::exec) fn window_for(left: f64, right: f64) -> i32 {
    let exponent = |largest: f64| if largest.is_finite() && largest != 0.0 { split(largest).1 } else { -26 };
    exponent(left) + exponent(right) - WIDTH + 1
}

/// Sums of all groups of one accumulator. What is not finite is left out: the sums that stand beside tell of it.
pub(in crate::exec) struct ProductSums {
    window: i32,
    main: Vec<Wide>,
    /// (group, window number) -> sum; window `n` begins at exponent `n * WIDTH`.
    other: BTreeMap<(u32, i32), Wide>,
    memory: Reservation,
}

impl ProductSums {
    pub fn new(window: i32, budget: &Budget) -> Result<Self> {
        Ok(ProductSums { window, main: Vec::new(), other: BTreeMap::new(), memory: budget.reserve(0)? })
    }

    pub fn ensure(&mut self, groups: usize) -> Result<()> {
        let groups = groups.max(self.main.len());
        extend(&mut self.main, groups, Wide::ZERO, &mut self.memory)
    }

    #[inline(always)]
    pub fn add(&mut self, group: u32, left: f64, right: f64) -> Result<()> {
        let ((a, i), (b, j)) = (split(left), split(right));
        let product = i128::from(a) * i128::from(b);
        let shift = (i + j).wrapping_sub(self.window) as u32;
        if shift < WIDTH as u32 {
            self.main[group as usize].add(Wide::shifted(product, shift));
            return Ok(());
        }
        if product == 0 || !left.is_finite() || !right.is_finite() {
            return Ok(());
        }
        self.add_far(group, i + j, product)
    }

    #[cold]
    fn add_far(&mut self, group: u32, exponent: i32, product: i128) -> Result<()> {
        self.add_part(group, exponent.div_euclid(WIDTH), Wide::shifted(product, exponent.rem_euclid(WIDTH) as u32))
    }

    fn add_part(&mut self, group: u32, window: i32, part: Wide) -> Result<()> {
        if let Some(sum) = self.other.get_mut(&(group, window)) {
            sum.add(part);
            return Ok(());
        }
        self.memory.grow(96)?;
        self.other.insert((group, window), part);
        Ok(())
    }

    /// Whether all sums, and what is made of them, are far from the largest float.
    pub fn is_moderate(&self) -> bool {
        // 255 bits from the window's lowest exponent up, and 40 for the number of rows.
        self.other.is_empty() && self.window + 255 + 40 < 1023
    }

    /// One group's sum as parts `part * 2^exponent`.
    pub fn get(&self, group: u32) -> Vec<(i32, Wide)> {
        let main = self.main[group as usize];
        let main = (main != Wide::ZERO).then_some((self.window, main));
        let others = self.other.range((group, i32::MIN)..=(group, i32::MAX));
        main.into_iter().chain(others.map(|((_, window), sum)| (window * WIDTH, *sum))).collect()
    }

    /// Adds one group's sum, as of another accumulator, to `group`.
    pub fn merge(&mut self, group: u32, parts: &[(i32, Wide)]) -> Result<()> {
        for &(exponent, part) in parts {
            if exponent == self.window {
                self.main[group as usize].add(part);
                continue;
            }
            // A main window of another origin: split at the boundary of the windows that it straddles.
            let (window, offset) = (exponent.div_euclid(WIDTH), exponent.rem_euclid(WIDTH));
            if offset == 0 {
                self.add_part(group, window, part)?;
            } else {
                let (low, above) = part.split((WIDTH - offset) as u32, offset as u32);
                self.add_part(group, window, low)?;
                self.add_part(group, window + 1, above)?;
            }
        }
        Ok(())
    }
}

/// Whether exponents are such as [`ProductSums::get`] gives.
pub(in crate::exec) fn is_valid(parts: &[(i32, Wide)]) -> bool {
    parts.iter().all(|p| (-2400..=2100).contains(&p.0))
}
