//! Operators of two values, and comparisons.

use std::ops::Range;

use super::{Buffer, NAN, Run, inside, sized};
use crate::exec::columns::float_key;
use crate::exec::compute::kernels::{Operand, map, zip, zip_checked};
use crate::plan::{Comparison, Failure, Lane, Number, Operator};
use crate::{Error, Result};

impl Run<'_, '_> {
    pub(super) fn int_binary(
        &self,
        nth: usize,
        operator: Operator,
        number: Number,
        run: &Range<usize>,
        steps: &[Buffer],
        out: &mut Buffer,
    ) -> Result<()> {
        let args = &self.program.steps[nth].args;
        let (a, b) = (self.ints(steps, args[0], run), self.ints(steps, args[1], run));
        let out = sized(&mut out.ints, out.start, run.len());
        let divides = matches!(operator, Operator::Divide | Operator::Remainder);
        let by_zero = divides && self.states[args[1]].limits.is_none_or(|(low, high)| low <= 0 && high >= 0);
        let fits = operator == Operator::Remainder || inside(self.states[nth].exact, number.limits());
        match operator {
            Operator::Add => zip(a, b, out, i64::wrapping_add),
            Operator::Subtract => zip(a, b, out, i64::wrapping_sub),
            Operator::Multiply => zip(a, b, out, i64::wrapping_mul),
            Operator::Divide => divide(a, b, out, i64::wrapping_div, |a, b| a / b),
            Operator::Remainder => divide(a, b, out, i64::wrapping_rem, |a, b| a % b),
        }
        if fits && !by_zero {
            return Ok(());
        }
        let exact = |i: usize| -> Option<Failure> {
            let (a, b) = (i128::from(a.get(i)), i128::from(b.get(i)));
            let value = match operator {
                Operator::Add => a + b,
                Operator::Subtract => a - b,
                Operator::Multiply => a * b,
                _ if b == 0 => return Some(Failure::DivisionByZero),
                Operator::Divide => a / b,
                Operator::Remainder => 0,
            };
            let (low, high) = number.limits()?;
            (value < low || value > high).then(|| number.overflow())
        };
        // Of narrower types the result shows what is wrong.
        if let (false, Some((low, high))) = (divides, number.limits().filter(|_| number != Number::Int8)) {
            let (low, high) = (low as i64, high as i64);
            if !out.iter().fold(false, |bad, v| bad | (*v < low) | (*v > high)) {
                return Ok(());
            }
        }
        self.each_valid(nth, run, exact)
    }

    pub(super) fn decimal_binary(
        &self,
        nth: usize,
        operator: Operator,
        run: &Range<usize>,
        steps: &[Buffer],
        out: &mut Buffer,
        widened: &mut [Vec<i128>; 2],
    ) -> Result<()> {
        let (args, state) = (&self.program.steps[nth].args, &self.states[nth]);
        if state.narrow {
            let (a, b) = (self.ints(steps, args[0], run), self.ints(steps, args[1], run));
            let out = sized(&mut out.ints, out.start, run.len());
            match operator {
                Operator::Add => zip(a, b, out, i64::wrapping_add),
                Operator::Subtract => zip(a, b, out, i64::wrapping_sub),
                _ => zip(a, b, out, i64::wrapping_mul),
            }
            return Ok(());
        }
        let out = sized(&mut out.wide, out.start, run.len());
        if self.states[args[0]].narrow && self.states[args[1]].narrow {
            let (a, b) = (self.ints(steps, args[0], run), self.ints(steps, args[1], run));
            match operator {
                Operator::Add => zip(a, b, out, |a, b| i128::from(a) + i128::from(b)),
                Operator::Subtract => zip(a, b, out, |a, b| i128::from(a) - i128::from(b)),
                _ => zip(a, b, out, |a, b| i128::from(a) * i128::from(b)),
            }
            return Ok(());
        }
        let [first, second] = widened;
        let (a, b) = (self.widened(steps, args[0], run, first)?, self.widened(steps, args[1], run, second)?);
        let exact = |a: i128, b: i128| match operator {
            Operator::Add => a.overflowing_add(b),
            Operator::Subtract => a.overflowing_sub(b),
            _ => a.overflowing_mul(b),
        };
        let checked = |a: i128, b: i128| {
            if a == NAN || b == NAN {
                return (NAN, false);
            }
            let (value, bad) = exact(a, b);
            (value, bad || value == NAN)
        };
        if zip_checked(a, b, out, checked) {
            self.each_valid(nth, run, |i| checked(a.get(i), b.get(i)).1.then_some(Failure::TooManyDigits))?;
        }
        Ok(())
    }

    pub(super) fn float_binary(
        &self,
        nth: usize,
        operator: Operator,
        number: Number,
        run: &Range<usize>,
        steps: &[Buffer],
        out: &mut Buffer,
    ) -> Result<()> {
        let args = &self.program.steps[nth].args;
        let (a, b) = (self.floats(steps, args[0], run), self.floats(steps, args[1], run));
        let out = sized(&mut out.floats, out.start, run.len());
        macro_rules! arithmetic {
            ($op:tt) => {
                if number == Number::Float4 {
                    zip(a, b, out, |a, b| f64::from(a as f32 $op b as f32))
                } else {
                    zip(a, b, out, |a, b| a $op b)
                }
            };
        }
        match operator {
            Operator::Add => arithmetic!(+),
            Operator::Subtract => arithmetic!(-),
            Operator::Multiply => arithmetic!(*),
            _ => arithmetic!(/),
        }
        let scales = matches!(operator, Operator::Multiply | Operator::Divide);
        let suspicious = out.iter().fold(false, |bad, v| bad | !v.is_finite() | (scales & (*v == 0.0)));
        if !suspicious {
            return Ok(());
        }
        // As float.h of PostgreSQL says.
        let results: &[f64] = out;
        self.each_valid(nth, run, |i| {
            let (a, b, value) = (a.get(i), b.get(i), results[i]);
            match operator {
                Operator::Divide if b == 0.0 && !a.is_nan() => Some(Failure::DivisionByZero),
                Operator::Divide if value.is_infinite() && !a.is_infinite() => Some(Failure::Overflow),
                Operator::Divide if value == 0.0 && a != 0.0 && !b.is_infinite() => Some(Failure::Underflow),
                Operator::Divide => None,
                _ if value.is_infinite() && !a.is_infinite() && !b.is_infinite() => Some(Failure::Overflow),
                Operator::Multiply if value == 0.0 && a != 0.0 && b != 0.0 => Some(Failure::Underflow),
                _ => None,
            }
        })
    }

    pub(super) fn compare(
        &self,
        nth: usize,
        comparison: Comparison,
        run: &Range<usize>,
        steps: &[Buffer],
        out: &mut Buffer,
        widened: &mut [Vec<i128>; 2],
    ) -> Result<()> {
        let args = &self.program.steps[nth].args;
        let out = sized(&mut out.ints, out.start, run.len());
        macro_rules! each {
            ($a:expr, $b:expr, $key:expr) => {
                // One loop an operator, so that each is vectorized.
                match comparison {
                    Comparison::Lt => zip($a, $b, out, |a, b| i64::from($key(a) < $key(b))),
                    Comparison::Le => zip($a, $b, out, |a, b| i64::from($key(a) <= $key(b))),
                    Comparison::Eq => zip($a, $b, out, |a, b| i64::from($key(a) == $key(b))),
                    Comparison::Ge => zip($a, $b, out, |a, b| i64::from($key(a) >= $key(b))),
                    Comparison::Gt => zip($a, $b, out, |a, b| i64::from($key(a) > $key(b))),
                    Comparison::Ne => zip($a, $b, out, |a, b| i64::from($key(a) != $key(b))),
                    Comparison::Like | Comparison::NotLike => {
                        return Err(Error::invalid("LIKE is not a comparison of numbers"))
                    }
                }
            };
        }
        let float = args.iter().any(|a| self.program.steps[*a].lane == Lane::Float);
        if float {
            each!(self.floats(steps, args[0], run), self.floats(steps, args[1], run), float_key);
        } else if args.iter().all(|a| self.states[*a].narrow) {
            each!(self.ints(steps, args[0], run), self.ints(steps, args[1], run), |v: i64| v);
        } else {
            let [first, second] = widened;
            let (a, b) = (self.widened(steps, args[0], run, first)?, self.widened(steps, args[1], run, second)?);
            each!(a, b, |v: i128| v);
        }
        Ok(())
    }
}

/// Division, in 32 bits where both sides fit: that is several times as fast.
fn divide(
    a: Operand<'_, i64>,
    b: Operand<'_, i64>,
    out: &mut [i64],
    wide: impl Fn(i64, i64) -> i64,
    narrow: impl Fn(u32, u32) -> u32,
) {
    if let (Operand::One(divisor @ 1..=0xffff_ffff), Operand::Each(values)) = (b, a) {
        let bits = values.iter().fold(0u64, |bits, v| bits | *v as u64);
        if bits >> 32 == 0 {
            let divisor = divisor as u32;
            return map(a, out, |v| i64::from(narrow(v as u32, divisor)));
        }
    }
    zip(a, b, out, |a, b| if b == 0 { 0 } else { wide(a, b) });
}
