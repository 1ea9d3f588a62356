//! Exact numbers of any size, for what is made of a group's sums once.

use std::cmp::Ordering;

use super::wide::Wide;

/// `±words * 2^exponent`, the lowest word first; no word at either end is zero.
#[derive(Clone, Debug)]
pub(in crate::exec) struct Big {
    negative: bool,
    words: Vec<u64>,
    exponent: i32,
}

impl Big {
    /// The sum of `part * 2^exponent` over all parts.
    pub fn sum(parts: &[(i32, Wide)]) -> Big {
        let exponents = || parts.iter().map(|p| p.0);
        let (Some(low), Some(high)) = (exponents().min(), exponents().max()) else {
            return Big { negative: false, words: Vec::new(), exponent: 0 };
        };
        let mut words = vec![0u64; (high - low) as usize / 64 + 6];
        for &(exponent, part) in parts {
            let at = (exponent - low) as usize;
            let (first, bit) = (at / 64, at % 64);
            let part = part.words();
            let sign = if part[3] >> 63 == 1 { u64::MAX } else { 0 };
            let word = |i: usize| part.get(i).copied().unwrap_or(sign);
            let mut carry = false;
            for (i, slot) in words[first..].iter_mut().enumerate() {
                let below = if i == 0 || bit == 0 { 0 } else { word(i - 1) >> (64 - bit) };
                let (sum, one) = slot.overflowing_add(word(i) << bit | below);
                let (sum, two) = sum.overflowing_add(u64::from(carry));
                *slot = sum;
                carry = one || two;
            }
        }
        let negative = words.last().is_some_and(|w| w >> 63 == 1);
        if negative {
            let mut carry = true;
            for slot in &mut words {
                let (sum, over) = (!*slot).overflowing_add(u64::from(carry));
                *slot = sum;
                carry = over;
            }
        }
        Big { negative, words, exponent: low }.trimmed()
    }

    fn trimmed(mut self) -> Big {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
        let zeros = self.words.iter().take_while(|w| **w == 0).count();
        self.words.drain(..zeros);
        self.exponent += zeros as i32 * 64;
        if self.words.is_empty() {
            (self.negative, self.exponent) = (false, 0);
        }
        self
    }

    pub fn is_zero(&self) -> bool {
        self.words.is_empty()
    }

    pub fn times(&self, other: &Big) -> Big {
        let mut words = vec![0u64; self.words.len() + other.words.len()];
        for (i, a) in self.words.iter().enumerate() {
            let mut carry = 0u128;
            for (slot, b) in words[i..].iter_mut().zip(other.words.iter().chain([&0])) {
                carry += u128::from(*a) * u128::from(*b) + u128::from(*slot);
                *slot = carry as u64;
                carry >>= 64;
            }
        }
        Big { negative: self.negative != other.negative, words, exponent: self.exponent + other.exponent }.trimmed()
    }

    pub fn minus(&self, other: &Big) -> Big {
        if self.is_zero() || other.is_zero() {
            let one = if self.is_zero() { other } else { self };
            return Big { negative: one.negative != self.is_zero(), ..one.clone() }.trimmed();
        }
        let exponent = self.exponent.min(other.exponent);
        let (mut one, mut two) = (self.words_from(exponent), other.words_from(exponent));
        let mut negative = self.negative;
        if self.negative != other.negative {
            one.resize(one.len().max(two.len()) + 1, 0);
            let mut carry = false;
            for (slot, b) in one.iter_mut().zip(two.iter().copied().chain(std::iter::repeat(0))) {
                let (sum, first) = slot.overflowing_add(b);
                let (sum, second) = sum.overflowing_add(u64::from(carry));
                *slot = sum;
                carry = first || second;
            }
        } else {
            let len = one.len().max(two.len());
            one.resize(len, 0);
            two.resize(len, 0);
            if one.iter().rev().cmp(two.iter().rev()) == Ordering::Less {
                std::mem::swap(&mut one, &mut two);
                negative = !negative;
            }
            let mut borrow = false;
            for (slot, b) in one.iter_mut().zip(&two) {
                let (rest, first) = slot.overflowing_sub(*b);
                let (rest, second) = rest.overflowing_sub(u64::from(borrow));
                *slot = rest;
                borrow = first || second;
            }
        }
        Big { negative, words: one, exponent }.trimmed()
    }

    /// The words of the magnitude in units of `2^exponent`, which is at most the number's own exponent.
    fn words_from(&self, exponent: i32) -> Vec<u64> {
        let by = (self.exponent - exponent) as usize;
        let mut words = vec![0u64; by / 64];
        let bit = by % 64;
        let mut below = 0;
        for word in &self.words {
            words.push(word << bit | below);
            below = if bit == 0 { 0 } else { word >> (64 - bit) };
        }
        words.push(below);
        words
    }

    /// The nearest `m * 2^e` of 53 bits, ties to even, with 1 <= |m| <= 2; of zero `(0, 0)`.
    pub fn rounded(&self) -> (f64, i32) {
        let Some((top, rest)) = self.words.split_last() else { return (0.0, 0) };
        let zeros = top.leading_zeros();
        let next = rest.last().copied().unwrap_or(0);
        let bits = if zeros == 0 { *top } else { top << zeros | next >> (64 - zeros) };
        let lost = if zeros == 0 { next } else { next << zeros };
        let below = lost != 0 || rest.iter().rev().skip(1).any(|w| *w != 0);
        let (mut mantissa, tail) = (bits >> 11, bits & 0x7ff);
        if tail > 0x400 || (tail == 0x400 && (below || mantissa & 1 == 1)) {
            mantissa += 1;
        }
        let value = mantissa as f64 / (1u64 << 52) as f64;
        let exponent = self.exponent + self.words.len() as i32 * 64 - zeros as i32 - 1;
        (if self.negative { -value } else { value }, exponent)
    }

    /// The integer that this is, if 128 bits hold it.
    pub fn to_i128(&self) -> Option<i128> {
        if self.exponent < 0 {
            return None;
        }
        let words = if self.exponent > 128 { return None } else { self.words_from(0) };
        if words.iter().skip(2).any(|w| *w != 0) {
            return None;
        }
        let word = |i: usize| u128::from(words.get(i).copied().unwrap_or(0));
        let magnitude = i128::try_from(word(0) | word(1) << 64).ok()?;
        Some(if self.negative { -magnitude } else { magnitude })
    }

    /// The digits of an integer.
    pub fn to_decimal(&self) -> String {
        const BASE: u128 = 10u128.pow(19);
        let mut words = self.words_from(0.min(self.exponent));
        let mut parts = Vec::new();
        while words.iter().any(|w| *w != 0) {
            let mut rest = 0u128;
            for word in words.iter_mut().rev() {
                rest = rest << 64 | u128::from(*word);
                *word = (rest / BASE) as u64;
                rest %= BASE;
            }
            parts.push(rest as u64);
        }
        let Some(first) = parts.pop() else { return "0".into() };
        let sign = if self.negative { "-" } else { "" };
        parts.iter().rev().fold(format!("{sign}{first}"), |text, part| format!("{text}{part:019}"))
    }
}

impl From<i128> for Big {
    fn from(value: i128) -> Big {
        Big::sum(&[(0, Wide::from(value))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn big(value: i128) -> Big {
        Big::from(value)
    }

    proptest! {
        #[test]
        fn arithmetic_is_that_of_integers(a in any::<i64>(), b in any::<i64>(), shift in 0..60u32) {
            let (a, b) = (i128::from(a) << shift, i128::from(b));
            prop_assert_eq!(big(a).to_i128(), Some(a));
            prop_assert_eq!(big(a).minus(&big(b)).to_i128(), Some(a - b));
            prop_assert!(big(a).minus(&big(a)).is_zero());
            if let Some(product) = a.checked_mul(b) {
                prop_assert_eq!(big(a).times(&big(b)).to_i128(), Some(product));
                prop_assert_eq!(big(a).times(&big(b)).to_decimal(), product.to_string());
            }
            let (m, e) = big(a).rounded();
            prop_assert_eq!(m * 2f64.powi(e), a as f64);
        }

        #[test]
        fn squares_are_exact(a in any::<i128>()) {
            let a = a.max(i128::MIN + 1);
            let square = Big::sum(&[(0, Wide::square(a))]);
            prop_assert!(square.minus(&big(a).times(&big(a))).is_zero());
            let mut twice = Wide::square(a >> 1);
            twice.add(Wide::square(a >> 1));
            let half = big(a >> 1).times(&big(a >> 1));
            prop_assert!(Big::sum(&[(0, twice)]).minus(&half.times(&big(2))).is_zero());
        }

        #[test]
        fn parts_may_be_cut_anywhere(value in any::<i128>(), shift in 0..100u32, bits in 1..110u32, exponent in -300..300i32) {
            let whole = Wide::shifted(value, shift);
            let (low, high) = whole.split(bits, 7);
            let cut = [(exponent - 7, low), (exponent + bits as i32, high)];
            prop_assert!(Big::sum(&cut).minus(&Big::sum(&[(exponent, whole)])).is_zero());
        }
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        let value = |text: &str| text.parse::<f64>().unwrap();
        for exact in [(1i128 << 53) + 1, (1 << 53) + 3, (1 << 54) - 1, (1 << 60) + 129, -(1 << 70) - 1, i128::MAX] {
            let (m, e) = big(exact).rounded();
            assert_eq!(m * 2f64.powi(e), value(&exact.to_string()), "{exact}");
        }
    }
}
