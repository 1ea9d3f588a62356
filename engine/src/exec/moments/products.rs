//! Sums of products of floats that do not depend on the order of the values: exact, as those of floats.rs are, in windows of 256 bits.

use std::collections::BTreeMap;

use super::wide::Wide;
use crate::exec::floats::split;
use crate::exec::kernels::{self, Ladder, MOST, Poured};
use crate::exec::rowset::{Grouped, RowSet, each_selected, for_rows};
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
    /// Both columns' values in order of their groups.
    ordered: [Vec<f64>; 2],
}

/// Two columns of a block.
#[derive(Clone, Copy)]
pub(in crate::exec) struct Pairs<'a> {
    pub left: &'a [f64],
    pub right: &'a [f64],
    /// No magnitudes are larger; `None`: not known, or something is not finite.
    pub limits: Option<(f64, f64)>,
}

/// Rows of a group in a block from which on it pays to bring these together.
const TOGETHER: usize = 8;

impl ProductSums {
    pub fn new(window: i32, budget: &Budget) -> Result<Self> {
        let memory = budget.reserve(0)?;
        Ok(ProductSums { window, main: Vec::new(), other: BTreeMap::new(), memory, ordered: Default::default() })
    }

    pub fn ensure(&mut self, groups: usize) -> Result<()> {
        let groups = groups.max(self.main.len());
        extend(&mut self.main, groups, Wide::ZERO, &mut self.memory)
    }

    #[inline(always)]
    pub fn add(&mut self, group: u32, left: f64, right: f64) -> Result<()> {
        let ((a, i), (b, j)) = (split(left), split(right));
        let product = i128::from(a) * i128::from(b);
        if self.add_near(group, i + j, product) || product == 0 || !left.is_finite() || !right.is_finite() {
            return Ok(());
        }
        self.add_far(group, i + j, product)
    }

    /// Adds `product * 2^exponent` if it is within the main window.
    #[inline(always)]
    fn add_near(&mut self, group: u32, exponent: i32, product: i128) -> bool {
        let shift = exponent.wrapping_sub(self.window) as u32;
        if shift < WIDTH as u32 {
            self.main[group as usize].add(Wide::shifted(product, shift));
        }
        shift < WIDTH as u32
    }

    /// Adds what a ladder took; false: it has left something, and nothing was added.
    fn add_poured<const N: usize>(&mut self, group: u32, poured: &Poured<N>) -> Result<bool> {
        if poured.rests {
            return Ok(false);
        }
        for sum in poured.sums.iter().filter(|sum| **sum != 0.0) {
            let (part, exponent) = split(*sum);
            // As low as the last place of a product would be.
            let over = (exponent - (self.window + WIDTH - 1)).clamp(0, 60);
            let (part, exponent) = (i128::from(part) << over, exponent - over);
            if !self.add_near(group, exponent, part) {
                self.add_far(group, exponent, part)?;
            }
        }
        Ok(true)
    }

    /// Adds the products of the rows of `set` to one group.
    pub fn add_rows(&mut self, group: u32, pairs: Pairs<'_>, set: &RowSet) -> Result<()> {
        let Some(words) = set.words() else { return Ok(()) };
        let (left, right) = (&pairs.left[..set.rows], &pairs.right[..set.rows]);
        let largest = |values| f64::from_bits(kernels::largest_magnitude(values, words));
        let tops = kernels::is_fused().then(|| pairs.limits.unwrap_or_else(|| (largest(left), largest(right))));
        let Some(tops) = tops.and_then(|(a, b)| kernels::top(a).zip(kernels::top(b))) else {
            return each_selected(set.rows, words, |i| self.add(group, left[i], right[i]));
        };
        for (nth, (left, right)) in left.chunks(MOST).zip(right.chunks(MOST)).enumerate() {
            let words = words.and_then(|words| words.get(nth * MOST / 64..));
            if !self.add_few(group, left, right, words, Some(tops))? {
                each_selected(left.len(), words, |i| self.add(group, left[i], right[i]))?;
            }
        }
        Ok(())
    }

    /// Adds at most [`MOST`] rows; false: their products differ too much in size, and nothing was added.
    fn add_few(
        &mut self,
        group: u32,
        left: &[f64],
        right: &[f64],
        words: Option<&[u64]>,
        tops: Option<(i32, i32)>,
    ) -> Result<bool> {
        let Some((a, b)) = tops else { return Ok(false) };
        let (Some(three), Some(four)) = (Ladder::of_products(a, b), Ladder::of_products(a, b)) else {
            return Ok(false);
        };
        Ok(self.add_poured(group, &kernels::product_sums::<3>(left, right, words, three))?
            || self.add_poured(group, &kernels::product_sums::<4>(left, right, words, four))?)
    }

    /// Adds the products of the rows of `set` to the groups that they are of.
    pub fn add_each(&mut self, groups: &[u32], pairs: Pairs<'_>, set: &mut RowSet) -> Result<()> {
        let Pairs { left, right, limits } = pairs;
        let slots = self.main.len();
        if !kernels::is_fused() || slots * TOGETHER > set.count() {
            for_rows!(set, i, { self.add(groups[i], left[i], right[i])? });
            return Ok(());
        }
        let grouped = set.grouped(groups, slots);
        let mut ordered = std::mem::take(&mut self.ordered);
        let square = std::ptr::eq(left, right);
        for (ordered, values) in ordered.iter_mut().zip([left, right]).take(if square { 1 } else { 2 }) {
            ordered.clear();
            ordered.extend(grouped.rows.iter().map(|row| values[usize::from(*row)]));
        }
        let [left, right] = &ordered;
        let result = self.add_ordered(grouped, left, if square { left } else { right }, limits);
        self.ordered = ordered;
        result
    }

    fn add_ordered(
        &mut self,
        grouped: &Grouped,
        left: &[f64],
        right: &[f64],
        limits: Option<(f64, f64)>,
    ) -> Result<()> {
        let largest = |values: &[f64]| f64::from_bits(kernels::largest_magnitude(values, None));
        let (a, b) = limits.unwrap_or_else(|| (largest(left), largest(right)));
        let tops = kernels::top(a).zip(kernels::top(b));
        let mut start = 0;
        let runs = grouped.ends.iter().flat_map(|(group, end)| {
            let run = std::mem::replace(&mut start, *end)..*end;
            let last = run.end;
            run.step_by(MOST).map(move |at| (*group, at..last.min(at + MOST)))
        });
        let runs: Vec<(u32, std::ops::Range<usize>)> = runs.collect();
        let mut poured = Vec::new();
        if let Some(ladder) = tops.and_then(|(a, b)| Ladder::<3>::of_products(a, b)) {
            let ranges = runs.iter().map(|(_, run)| run.clone());
            kernels::product_sums_of_runs(left, right, ranges, ladder, |of| poured.push(of));
        }
        for (nth, (group, run)) in runs.into_iter().enumerate() {
            let (left, right) = (&left[run.clone()], &right[run]);
            let done = match poured.get(nth) {
                Some(poured) => self.add_poured(group, poured)?,
                None => false,
            };
            if !done && !self.add_few(group, left, right, None, tops)? {
                left.iter().zip(right).try_for_each(|(left, right)| self.add(group, *left, *right))?;
            }
        }
        Ok(())
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
