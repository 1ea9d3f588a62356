//! Float sums that do not depend on the order of the values: exact, rounded once at the end.
//!
//! A group's sum is a fixed-point number of 127 bits in a window of exponents that one column shares; what falls outside of the
//! window (rare: it spans 34 powers of two) goes to further windows, kept apart. This is a sparse form of the
//! superaccumulator of U. Kulisch ("Computer Arithmetic and Validity", 2008).

use std::collections::BTreeMap;

use super::PASSING;
use super::kernels::{self, Ladder, MOST};
use super::moments::{Big, Wide};
use super::rowset::{RowSet, each_selected};
use crate::{Budget, Error, Reservation, Result};

/// Exponents (of a value's lowest bit) in one window: 127 - 53 bits of a value - 40 bits for 2^40 rows.
const WIDTH: i32 = 34;

const POSITIVE_INFINITY: u8 = 1;
const NEGATIVE_INFINITY: u8 = 2;
const NOT_A_NUMBER: u8 = 4;
/// Some value was not -0.
const NOT_NEGATIVE_ZERO: u8 = 8;

/// Splits a finite value into mantissa and the exponent of its lowest bit.
#[inline(always)]
pub(super) fn split(value: f64) -> (i64, i32) {
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32;
    let fraction = (bits & ((1 << 52) - 1)) as i64;
    let (mantissa, exponent) = if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) };
    (if bits >> 63 == 1 { -mantissa } else { mantissa }, exponent)
}

/// The window for values of a magnitude up to `largest`: the exponent of its lowest bit. Zeros are never in a window.
pub(super) fn window_for(largest: f64) -> i32 {
    if largest.is_finite() && largest != 0.0 { (split(largest).1 - WIDTH + 1).max(-1073) } else { -52 - WIDTH / 2 }
}

/// Sums of all groups of one accumulator.
pub(super) struct FloatSums {
    window: i32,
    main: Vec<i128>,
    flags: Vec<u8>,
    /// (group, window number) -> sum; window `n` begins at exponent `n * WIDTH`.
    other: BTreeMap<(u32, i32), i128>,
    memory: Reservation,
}

/// One group's sum, apart from its accumulator: sums of windows by their lowest exponent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FloatSum {
    pub flags: u8,
    pub parts: Vec<(i32, i128)>,
}

impl FloatSums {
    pub fn new(window: i32, budget: &Budget) -> Result<Self> {
        let memory = budget.reserve(0)?;
        Ok(FloatSums { window, main: Vec::new(), flags: Vec::new(), other: BTreeMap::new(), memory })
    }

    pub fn ensure(&mut self, groups: usize) -> Result<()> {
        let groups = groups.max(self.main.len());
        super::states::extend(&mut self.main, groups, 0, &mut self.memory)?;
        super::states::extend(&mut self.flags, groups, 0, &mut self.memory)
    }

    #[inline(always)]
    pub fn add(&mut self, group: u32, value: f64) -> Result<()> {
        let (mantissa, exponent) = split(value);
        let shift = exponent.wrapping_sub(self.window) as u32;
        if shift < WIDTH as u32 {
            self.main[group as usize] += i128::from(mantissa) << shift;
            self.flags[group as usize] |= NOT_NEGATIVE_ZERO;
            return Ok(());
        }
        self.add_slow(group, value)
    }

    /// Adds the rows of `set` to one group. `limit`: no magnitude is larger, if that is known (and NaN is not among them).
    pub fn add_rows(&mut self, group: u32, values: &[f64], set: &RowSet, limit: Option<f64>) -> Result<()> {
        let Some(words) = set.words() else { return Ok(()) };
        let values = &values[..set.rows];
        let largest = || f64::from_bits(kernels::largest_magnitude(values, words));
        let Some(top) = limit.and_then(kernels::top).or_else(|| kernels::top(largest())) else {
            // Zeros, NaN, infinity or nearly that.
            return each_selected(values.len(), words, |i| self.add(group, values[i]));
        };
        for (nth, values) in values.chunks(MOST).enumerate() {
            self.add_few(group, values, words.and_then(|words| words.get(nth * MOST / 64..)), top)?;
        }
        Ok(())
    }

    /// Adds at most [`MOST`] rows of magnitudes below 2^top.
    fn add_few(&mut self, group: u32, values: &[f64], words: Option<&[u64]>, top: i32) -> Result<()> {
        let two = kernels::float_sums::<2>(values, words, Ladder::of_values(top));
        let mut sums = [two.sums[0], two.sums[1], 0.0];
        if two.rests {
            let three = kernels::float_sums::<3>(values, words, Ladder::of_values(top));
            if three.rests {
                return each_selected(values.len(), words, |i| self.add(group, values[i]));
            }
            sums = three.sums;
        }
        if sums == [0.0; 3] {
            // Of zeros the signs count, unless that is decided.
            let decided = self.flags[group as usize] & NOT_NEGATIVE_ZERO != 0;
            let zeros = kernels::largest_magnitude(values, words) == 0;
            if decided && zeros {
                return Ok(());
            }
            return each_selected(values.len(), words, |i| self.add(group, values[i]));
        }
        sums.into_iter().filter(|sum| *sum != 0.0).try_for_each(|sum| self.add(group, sum))
    }

    #[cold]
    fn add_slow(&mut self, group: u32, value: f64) -> Result<()> {
        let flags = &mut self.flags[group as usize];
        if value == 0.0 {
            if value.is_sign_positive() {
                *flags |= NOT_NEGATIVE_ZERO;
            }
            return Ok(());
        }
        *flags |= NOT_NEGATIVE_ZERO;
        if value.is_nan() {
            *flags |= NOT_A_NUMBER;
        } else if value.is_infinite() {
            *flags |= if value > 0.0 { POSITIVE_INFINITY } else { NEGATIVE_INFINITY };
        } else {
            let (mantissa, exponent) = split(value);
            let window = exponent.div_euclid(WIDTH);
            self.add_part(group, window, i128::from(mantissa) << exponent.rem_euclid(WIDTH))?;
        }
        Ok(())
    }

    fn add_part(&mut self, group: u32, window: i32, part: i128) -> Result<()> {
        if let Some(sum) = self.other.get_mut(&(group, window)) {
            *sum = sum.wrapping_add(part);
            return Ok(());
        }
        self.memory.grow(64)?;
        self.other.insert((group, window), part);
        Ok(())
    }

    /// Whether no sum can be too large for a float.
    pub fn is_moderate(&self) -> bool {
        // 127 bits from the window's lowest exponent up.
        self.other.is_empty() && self.window + 127 < 1023
    }

    /// Errors: `OutOfRange` if the sum of one of the groups is finite, but too large for a float.
    pub fn check(&self, groups: &[u32]) -> Result<()> {
        if self.is_moderate() {
            return Ok(());
        }
        groups.chunks(PASSING).try_for_each(|some| {
            self.memory.check()?;
            some.iter().try_for_each(|g| self.get(*g).finish().map(drop))
        })
    }

    pub fn get(&self, group: u32) -> FloatSum {
        let mut parts = Vec::new();
        let main = self.main[group as usize];
        if main != 0 {
            parts.push((self.window, main));
        }
        parts.extend(self.other.range((group, i32::MIN)..=(group, i32::MAX)).map(|((_, w), sum)| (w * WIDTH, *sum)));
        FloatSum { flags: self.flags[group as usize], parts }
    }

    /// Adds one group's sum, as of another accumulator, to `group`.
    pub fn merge(&mut self, group: u32, sum: &FloatSum) -> Result<()> {
        self.flags[group as usize] |= sum.flags;
        for &(exponent, part) in &sum.parts {
            if exponent == self.window {
                let main = &mut self.main[group as usize];
                *main = main.wrapping_add(part);
            } else if exponent.rem_euclid(WIDTH) == 0 {
                self.add_part(group, exponent / WIDTH, part)?;
            } else {
                // A main window of another origin: split at the boundary of the windows that it straddles.
                let (window, offset) = (exponent.div_euclid(WIDTH), exponent.rem_euclid(WIDTH));
                let low_bits = (WIDTH - offset) as u32;
                let low = part & ((1 << low_bits) - 1);
                self.add_part(group, window, low << offset)?;
                self.add_part(group, window + 1, part >> low_bits)?;
            }
        }
        Ok(())
    }
}

impl FloatSum {
    /// Whether exponents are such as [`FloatSums::get`] gives; arithmetic on others would leave the floats' range.
    pub fn is_valid(&self) -> bool {
        self.flags < 16 && self.parts.iter().all(|p| (-1088..=1000).contains(&p.0))
    }

    /// Whether all values were finite.
    pub fn is_finite(&self) -> bool {
        self.flags & (POSITIVE_INFINITY | NEGATIVE_INFINITY | NOT_A_NUMBER) == 0
    }

    /// The exact sum of what was finite.
    pub fn exact(&self) -> Big {
        let parts: Vec<(i32, Wide)> = self.parts.iter().map(|(e, part)| (*e, Wide::from(*part))).collect();
        Big::sum(&parts)
    }

    /// The sum, rounded to nearest, ties to even. Errors: `OutOfRange` if it is finite but too large for a float.
    pub fn finish(&self) -> Result<f64> {
        let infinite = self.flags & (POSITIVE_INFINITY | NEGATIVE_INFINITY);
        if self.flags & NOT_A_NUMBER != 0 || infinite == POSITIVE_INFINITY | NEGATIVE_INFINITY {
            return Ok(f64::NAN);
        }
        match infinite {
            POSITIVE_INFINITY => return Ok(f64::INFINITY),
            NEGATIVE_INFINITY => return Ok(f64::NEG_INFINITY),
            _ => {}
        }
        if self.parts.is_empty() {
            return Ok(if self.flags & NOT_NEGATIVE_ZERO == 0 { -0.0 } else { 0.0 });
        }
        // Two's complement over all exponents of a float, from 2^-1088 up, with room for carries.
        let mut words = [0u64; 38];
        for &(exponent, part) in &self.parts {
            let at = (exponent + 1088) as usize;
            let (word, bit) = (at / 64, at % 64);
            let low = (part as u128) << bit;
            let high = if bit == 0 { part >> 127 } else { part >> (128 - bit) } as i64;
            let mut carry = 0u64;
            for (i, slot) in words.iter_mut().enumerate().skip(word) {
                let add = match i - word {
                    0 => low as u64,
                    1 => (low >> 64) as u64,
                    2 => high as u64,
                    _ => (high >> 63) as u64,
                };
                let (sum, c1) = slot.overflowing_add(add);
                let (sum, c2) = sum.overflowing_add(carry);
                *slot = sum;
                carry = u64::from(c1 || c2);
            }
        }
        let negative = words[37] >> 63 == 1;
        if negative {
            let mut carry = true;
            for slot in &mut words {
                let (sum, c) = (!*slot).overflowing_add(u64::from(carry));
                *slot = sum;
                carry = c;
            }
        }
        let value = round(&words)?;
        Ok(if negative { -value } else { value })
    }
}

/// The float nearest to a fixed-point number whose lowest bit is 2^-1088.
fn round(words: &[u64; 38]) -> Result<f64> {
    let Some(top) = words.iter().rposition(|w| *w != 0) else { return Ok(0.0) };
    let bit = |i: i32| i >= 0 && words[i as usize / 64] >> (i % 64) & 1 == 1;
    let highest = top as i32 * 64 + 63 - words[top].leading_zeros() as i32;
    // The lowest bit kept: 53 bits, but none below 2^-1074.
    let lowest = (highest - 52).max(1088 - 1074);
    let mut mantissa = (lowest..=highest).rev().fold(0u64, |m, i| m << 1 | u64::from(bit(i)));
    let half = bit(lowest - 1);
    let below = (0..lowest - 1).any(bit);
    if half && (below || mantissa & 1 == 1) {
        mantissa += 1;
    }
    let exponent = lowest - 1088;
    // Exact: the mantissa has 53 bits, and scaling in two steps never rounds (a subnormal result has lost its bits already).
    let value = mantissa as f64 * exp2(exponent / 2) * exp2(exponent - exponent / 2);
    if value.is_infinite() { Err(Error::OutOfRange { what: "double precision".into() }) } else { Ok(value) }
}

/// 2^e for a normal exponent.
pub(super) fn exp2(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::bits::{Bits, Selection};
    use proptest::prelude::*;

    fn sum(values: &[f64], window: i32) -> Result<f64> {
        let mut sums = FloatSums::new(window, &Budget::unlimited()).unwrap();
        sums.ensure(1).unwrap();
        values.iter().for_each(|v| sums.add(0, *v).unwrap());
        sums.get(0).finish()
    }

    #[test]
    fn sums_are_exact_and_rounded_once() {
        for window in [window_for(1e20), window_for(1.0), window_for(1e-300), window_for(f64::NAN)] {
            assert_eq!(sum(&[1e300, 1.0, -1e300], window).unwrap(), 1.0);
            assert_eq!(sum(&[0.1; 10], window).unwrap(), 1.0);
            assert_eq!(sum(&[1.0, 2f64.powi(-53)], window).unwrap(), 1.0);
            assert_eq!(sum(&[1.0, 2f64.powi(-53), 5e-324], window).unwrap(), 1.0 + f64::EPSILON);
            assert_eq!(sum(&[-1.0, -(2f64.powi(-53)), -5e-324], window).unwrap(), -1.0 - f64::EPSILON);
            assert_eq!(sum(&[5e-324, 5e-324], window).unwrap(), 1e-323);
            assert_eq!(sum(&[-f64::MIN_POSITIVE, f64::MIN_POSITIVE], window).unwrap().to_bits(), 0);
            assert_eq!(sum(&[f64::INFINITY, -1e300], window).unwrap(), f64::INFINITY);
            assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY], window).unwrap().is_nan());
            assert!(sum(&[f64::NAN, 1.0], window).unwrap().is_nan());
            assert!(matches!(sum(&[f64::MAX, f64::MAX], window), Err(Error::OutOfRange { .. })));
            assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX], window).unwrap(), f64::MAX);
            assert_eq!(sum(&[-0.0], window).unwrap().to_bits(), (-0.0f64).to_bits());
            assert_eq!(sum(&[-0.0, 0.0], window).unwrap().to_bits(), 0);
        }
    }

    fn float() -> impl Strategy<Value = f64> {
        prop_oneof![
            -1e6..1e6f64,
            prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO,
            -1.0..1.0f64
        ]
        .prop_map(|v| if v.abs() > 1e300 { v / 1e10 } else { v })
    }

    #[test]
    fn blocks_are_summed_as_their_rows_are() {
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let rows = 65_536;
        let prices: Vec<f64> = (0..rows).map(|_| (random() * 1e7).round() / 100.0 - 5e4).collect();
        let spread: Vec<f64> = (0..rows).map(|_| 10f64.powf(random() * 40.0 - 20.0) * (random() - 0.5)).collect();
        let halves: Vec<f64> = (0..rows).map(|i| if i % 2 == 0 { f64::MAX / 2.0 } else { -f64::MAX / 2.0 }).collect();
        let equal = vec![(1u64 << 53) as f64 - 1.0; rows];
        let mut odd = prices.clone();
        odd[77] = f64::NEG_INFINITY;
        for values in [prices, spread, halves, equal, odd, vec![-0.0; rows], vec![1e-310; rows]] {
            for (step, rows) in [(1, rows), (2, rows), (3, 1000), (1, 1001), (rows + 1, rows)] {
                let mut set = RowSet::new();
                let words = (0..rows.div_ceil(64))
                    .map(|w| (0..64).filter(|b| (w * 64 + b) % step == 0).fold(0u64, |word, b| word | 1 << b));
                set.set(Selection::of(Bits::from_words(words.collect(), rows)), rows);
                let mut sums = [(); 2].map(|()| FloatSums::new(window_for(1e5), &Budget::unlimited()).unwrap());
                sums.iter_mut().for_each(|s| s.ensure(1).unwrap());
                let most = values.iter().fold(0.0f64, |most, v| most.max(v.abs()));
                sums[0].add_rows(0, &values, &set, (step % 2 == 0).then_some(most)).unwrap();
                for i in (0..rows).step_by(step) {
                    sums[1].add(0, values[i]).unwrap();
                }
                let [a, b] = sums.map(|s| s.get(0).finish().map(f64::to_bits).map_err(|e| e.to_string()));
                assert_eq!(a, b, "every {step} of {rows}");
            }
        }
    }

    proptest! {
        #[test]
        fn order_and_division_do_not_matter(mut values in prop::collection::vec(float(), 1..60), cut in 0..60usize) {
            let window = window_for(1e6);
            let whole = sum(&values, window).unwrap();
            let integral: Vec<f64> = values.iter().map(|v| (v % 1e6).round()).collect();
            let naive: i64 = integral.iter().map(|v| *v as i64).sum();
            prop_assert_eq!(sum(&integral, window).unwrap() as i64, naive);
            // Parts summed with other windows and merged.
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut merged = FloatSums::new(window_for(3.0), &Budget::unlimited()).unwrap();
            merged.ensure(1).unwrap();
            for (part, w) in [(left, window), (right, window_for(1e-3))] {
                let mut sums = FloatSums::new(w, &Budget::unlimited()).unwrap();
                sums.ensure(1).unwrap();
                part.iter().for_each(|v| sums.add(0, *v).unwrap());
                merged.merge(0, &sums.get(0)).unwrap();
            }
            prop_assert_eq!(merged.get(0).finish().unwrap().to_bits(), whole.to_bits());
            values.reverse();
            prop_assert_eq!(sum(&values, window).unwrap().to_bits(), whole.to_bits());
        }
    }
}
