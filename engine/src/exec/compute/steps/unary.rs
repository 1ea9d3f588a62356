//! Functions of one value.

use std::ops::Range;

use super::{Buffer, NAN, Run, inside, sized};
use crate::Result;
use crate::decimal::power_of_ten;
use crate::exec::compute::kernels::{map, map_checked};
use crate::plan::{Failure, Function, Lane, Number, Rounding};

impl Run<'_, '_> {
    pub(super) fn unary(
        &self,
        nth: usize,
        function: Function,
        run: &Range<usize>,
        steps: &[Buffer],
        out: &mut Buffer,
        widened: &mut [Vec<i128>; 2],
    ) -> Result<()> {
        let (arg, state) = (self.program.steps[nth].args[0], &self.states[nth]);
        let (lane, of) = (self.program.steps[arg].lane, &self.states[arg]);
        match function {
            Function::Negate(number) | Function::Absolute(number) if number.lane() == Lane::Float => {
                let a = self.floats(steps, arg, run);
                let out = sized(&mut out.floats, out.start, run.len());
                let negate = matches!(function, Function::Negate(_));
                map(a, out, |v| if negate { -v } else { v.abs() });
                Ok(())
            }
            Function::Negate(number) | Function::Absolute(number) if state.narrow => {
                let a = self.ints(steps, arg, run);
                let ints = sized(&mut out.ints, out.start, run.len());
                let negate = matches!(function, Function::Negate(_));
                map(a, ints, |v: i64| if negate { v.wrapping_neg() } else { v.wrapping_abs() });
                if number.lane() == Lane::Int && !inside(state.exact, number.limits()) {
                    let least = number.limits().map_or(i64::MIN, |l| l.0 as i64);
                    self.each_valid(nth, run, |i| (a.get(i) == least).then(|| number.overflow()))?;
                }
                Ok(())
            }
            Function::Negate(_) | Function::Absolute(_) => {
                let a = self.widened(steps, arg, run, &mut widened[0])?;
                let negate = matches!(function, Function::Negate(_));
                map(a, sized(&mut out.wide, out.start, run.len()), |v: i128| match v {
                    NAN => NAN,
                    v if negate => v.wrapping_neg(),
                    v => v.wrapping_abs(),
                });
                Ok(())
            }
            Function::ToFloat { scale, single } => {
                let exact = of.narrow && scale == 0 && !single;
                if exact || (lane == Lane::Int && scale == 0) {
                    let a = self.ints(steps, arg, run);
                    let floats = sized(&mut out.floats, out.start, run.len());
                    if single { map(a, floats, |v| f64::from(v as f32)) } else { map(a, floats, |v| v as f64) }
                } else if !single && scale <= 22 && inside(of.limits, Some((-(1 << 53), 1 << 53))) && of.narrow {
                    // Both are exact, and so the quotient is rounded once.
                    let (a, unit) = (self.ints(steps, arg, run), 10f64.powi(i32::from(scale)));
                    map(a, sized(&mut out.floats, out.start, run.len()), |v| v as f64 / unit);
                } else {
                    let a = self.widened(steps, arg, run, &mut widened[0])?;
                    map(a, sized(&mut out.floats, out.start, run.len()), |v| decimal_to_float(v, scale, single));
                }
                Ok(())
            }
            Function::ToSingle => {
                let a = self.floats(steps, arg, run);
                let check = |v: f64| {
                    let single = v as f32;
                    (f64::from(single), (single.is_infinite() && !v.is_infinite()) || (single == 0.0 && v != 0.0))
                };
                if map_checked(a, sized(&mut out.floats, out.start, run.len()), check) {
                    self.each_valid(nth, run, |i| {
                        let failure = if a.get(i).abs() > 1.0 { Failure::Overflow } else { Failure::Underflow };
                        check(a.get(i)).1.then_some(failure)
                    })?;
                }
                Ok(())
            }
            Function::RoundFloat(rounding) => {
                let a = self.floats(steps, arg, run);
                let out = sized(&mut out.floats, out.start, run.len());
                match rounding {
                    Rounding::Nearest => map(a, out, f64::round_ties_even),
                    Rounding::Down => map(a, out, f64::floor),
                    Rounding::Up => map(a, out, f64::ceil),
                    Rounding::TowardsZero => map(a, out, f64::trunc),
                }
                Ok(())
            }
            Function::ToInt(number) if lane == Lane::Float => {
                let a = self.floats(steps, arg, run);
                let (low, high) = number.limits().map_or((0.0, 0.0), |(low, high)| (low as f64, high as f64 + 1.0));
                let check = |v: f64| {
                    let v = v.round_ties_even();
                    // The first float beyond the largest bigint is 2^63 itself.
                    let beyond = if number == Number::Int8 { v >= 9_223_372_036_854_775_808.0 } else { v >= high };
                    (v as i64, v.is_nan() || v < low || beyond)
                };
                if map_checked(a, sized(&mut out.ints, out.start, run.len()), check) {
                    self.each_valid(nth, run, |i| check(a.get(i)).1.then(|| number.overflow()))?;
                }
                Ok(())
            }
            Function::ToInt(number) => {
                let a = self.ints(steps, arg, run);
                map(a, sized(&mut out.ints, out.start, run.len()), |v| v);
                self.in_limits(nth, number, run, |i| i128::from(a.get(i)))
            }
            Function::FiniteDate => {
                let a = self.ints(steps, arg, run);
                map(a, sized(&mut out.ints, out.start, run.len()), |v| v);
                let (low, high) = (i64::from(i32::MIN), i64::from(i32::MAX));
                if !inside(state.limits, Some((i128::from(low) + 1, i128::from(high) - 1))) {
                    let infinite = |v: i64| v <= low || v >= high;
                    self.each_valid(nth, run, |i| infinite(a.get(i)).then_some(Failure::InfiniteDate))?;
                }
                Ok(())
            }
            Function::DecimalToInt(number) => {
                let a = self.widened(steps, arg, run, &mut widened[0])?;
                map(a, sized(&mut out.ints, out.start, run.len()), |v| v as i64);
                if of.nan {
                    let name = match number {
                        Number::Int2 => "smallint",
                        Number::Int4 => "integer",
                        _ => "bigint",
                    };
                    self.each_valid(nth, run, |i| (a.get(i) == NAN).then_some(Failure::NanTo(name)))?;
                }
                self.in_limits(nth, number, run, |i| a.get(i))
            }
            Function::Scale(digits) => {
                let unit = power_of_ten(digits);
                if state.narrow {
                    let a = self.ints(steps, arg, run);
                    map(a, sized(&mut out.ints, out.start, run.len()), |v: i64| v.wrapping_mul(unit as i64));
                    return Ok(());
                }
                let a = self.widened(steps, arg, run, &mut widened[0])?;
                let scale = |v: i128| if v == NAN { (NAN, false) } else { v.overflowing_mul(unit) };
                if map_checked(a, sized(&mut out.wide, out.start, run.len()), scale) {
                    self.each_valid(nth, run, |i| scale(a.get(i)).1.then_some(Failure::TooManyDigits))?;
                }
                Ok(())
            }
            Function::Round(digits, rounding) => {
                let unit = power_of_ten(digits);
                if state.narrow {
                    let a = self.ints(steps, arg, run);
                    map(a, sized(&mut out.ints, out.start, run.len()), |v| rounding.divide(i128::from(v), unit) as i64);
                } else {
                    let a = self.widened(steps, arg, run, &mut widened[0])?;
                    let round = |v: i128| if v == NAN { NAN } else { rounding.divide(v, unit) };
                    map(a, sized(&mut out.wide, out.start, run.len()), round);
                }
                Ok(())
            }
            Function::Precision(digits) => {
                let most = power_of_ten(digits);
                let fits = !of.nan && inside(of.limits, Some((1 - most, most - 1)));
                if state.narrow {
                    let a = self.ints(steps, arg, run);
                    map(a, sized(&mut out.ints, out.start, run.len()), |v| v);
                    return if fits {
                        Ok(())
                    } else {
                        let beyond = |i| i128::from(a.get(i)).abs() >= most;
                        self.each_valid(nth, run, |i| beyond(i).then_some(Failure::FieldOverflow))
                    };
                }
                let a = self.widened(steps, arg, run, &mut widened[0])?;
                map(a, sized(&mut out.wide, out.start, run.len()), |v| v);
                let beyond = |v: i128| v != NAN && v.unsigned_abs() >= most as u128;
                self.each_valid(nth, run, |i| beyond(a.get(i)).then_some(Failure::FieldOverflow))
            }
        }
    }

    fn in_limits(&self, nth: usize, number: Number, run: &Range<usize>, value: impl Fn(usize) -> i128) -> Result<()> {
        let limits = number.limits();
        if inside(self.states[nth].exact, limits) {
            return Ok(());
        }
        let (low, high) = limits.unwrap_or((i128::MIN, i128::MAX));
        self.each_valid(nth, run, |i| (value(i) < low || value(i) > high).then(|| number.overflow()))
    }
}

/// `value * 10^-scale`, rounded once.
fn decimal_to_float(value: i128, scale: u8, single: bool) -> f64 {
    if value == NAN {
        return f64::NAN;
    }
    let text = format!("{value}e-{scale}");
    if single { text.parse::<f32>().map_or(f64::NAN, f64::from) } else { text.parse().unwrap_or(f64::NAN) }
}
