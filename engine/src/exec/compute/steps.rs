//! The second pass: values, a run of rows at a time.

use std::ops::Range;

use super::evaluate::StepState;
use super::kernels::{Operand, blend, map, map_checked, zip, zip_checked};
use super::{Op, Program};
use crate::exec::bits::Selection;
use crate::exec::columns::{BlockScratch, Kind, SegmentView, float_key};
use crate::plan::{Comparison, Failure, Function, Lane, Limits, Number, Operator, Rounding, power_of_ten};
use crate::types::LogicalType;
use crate::{Error, Result};

/// Rows computed at once: a multiple of 64 whose values stay in the nearest cache.
const RUN: usize = 2048;
const NAN: i128 = LogicalType::NUMERIC_NAN_I128;

/// Buffers of a computed column, kept from block to block.
#[derive(Default)]
pub(in crate::exec) struct Space {
    pub ints: Vec<i64>,
    pub wide: Vec<i128>,
    pub floats: Vec<f64>,
    steps: Vec<Buffer>,
    widened: [Vec<i128>; 2],
}

/// Values of a run of rows, from `start` on.
#[derive(Default)]
struct Buffer {
    start: usize,
    ints: Vec<i64>,
    wide: Vec<i128>,
    floats: Vec<f64>,
}

pub(super) struct Run<'r, 'v> {
    pub program: &'r Program,
    pub view: &'r SegmentView<'v>,
    pub scratch: &'r BlockScratch,
    pub states: &'r [StepState],
    pub rows: &'r Selection,
}

impl Run<'_, '_> {
    /// Fills the space's columns with the last step's values, arbitrary where it is NULL or not needed.
    pub fn compute(&self, space: &mut Space, column: usize) -> Result<()> {
        let rows = self.scratch.rows();
        let root = self.program.root();
        let state = &self.states[root];
        space.steps.resize_with(root + 1, Buffer::default);
        // The last step's buffer is the column itself.
        let whole = &mut space.steps[root];
        whole.ints = std::mem::take(&mut space.ints);
        whole.wide = std::mem::take(&mut space.wide);
        whole.floats = std::mem::take(&mut space.floats);
        let result = (0..rows).step_by(RUN).try_for_each(|start| {
            let run = start..rows.min(start + RUN);
            let needed = match self.rows {
                Selection::None => false,
                Selection::All => true,
                Selection::Some(bits) => bits.words()[start / 64..run.end.div_ceil(64)].iter().any(|w| *w != 0),
            };
            if !needed {
                return Ok(());
            }
            space.steps[root].start = start;
            // Arguments may fail even where another one is NULL.
            for nth in 0..=root {
                if !self.states[nth].valid.is_none() {
                    self.step(nth, &run, space)?;
                }
            }
            if state.valid.is_none() { Ok(()) } else { self.complete(&run, space) }
        });
        let whole = &mut space.steps[root];
        let (ints, wide, floats) = (&mut whole.ints, &mut whole.wide, &mut whole.floats);
        match self.view.columns[column].kind {
            Kind::F64 => floats.resize(rows, 0.0),
            _ if state.narrow => ints.resize(rows, 0),
            _ => wide.resize(rows, 0),
        }
        space.ints = std::mem::take(ints);
        space.wide = std::mem::take(wide);
        space.floats = std::mem::take(floats);
        result
    }

    /// Puts a run of values of a last step that is no computation, but a constant or a column, in its buffer.
    fn complete(&self, run: &Range<usize>, space: &mut Space) -> Result<()> {
        let root = self.program.root();
        let step = &self.program.steps[root];
        if !matches!(step.op, Op::Int(_) | Op::Decimal(_) | Op::Float(_) | Op::Null | Op::Column(_)) {
            return Ok(());
        }
        let (steps, rest) = space.steps.split_at_mut(root);
        let Some(out) = rest.first_mut() else { return Err(Error::invalid("steps without buffers")) };
        match step.lane {
            Lane::Float => map(self.floats(steps, root, run), sized(&mut out.floats, out.start, run.len()), |v| v),
            _ if self.states[root].narrow => {
                if let Op::Column(c) = step.op
                    && self.is_stored_wide(c)
                {
                    // `column` has made it narrow.
                    return Ok(());
                }
                map(self.ints(steps, root, run), sized(&mut out.ints, out.start, run.len()), |v| v);
            }
            _ => {
                if let Op::Column(c) = step.op
                    && self.view.columns[c].kind != Kind::I128
                {
                    return Ok(());
                }
                map(self.wide(steps, root, run)?, sized(&mut out.wide, out.start, run.len()), |v| v);
            }
        }
        Ok(())
    }

    fn ints<'s>(&'s self, steps: &'s [Buffer], nth: usize, run: &Range<usize>) -> Operand<'s, i64> {
        if self.states[nth].valid.is_none() {
            return Operand::One(0);
        }
        match self.program.steps[nth].op {
            Op::Int(v) => Operand::One(v),
            Op::Decimal(v) => Operand::One(v as i64),
            Op::Null => Operand::One(0),
            Op::Column(c) if !self.is_stored_wide(c) => Operand::Each(&self.scratch.decoded_ints(c)[run.clone()]),
            _ => Operand::Each(&steps[nth].ints[..run.len()]),
        }
    }

    /// Of a step that is not narrow.
    fn wide<'s>(&'s self, steps: &'s [Buffer], nth: usize, run: &Range<usize>) -> Result<Operand<'s, i128>> {
        Ok(match self.program.steps[nth].op {
            _ if self.states[nth].valid.is_none() => Operand::One(0),
            Op::Decimal(v) => Operand::One(v),
            Op::Column(c) if self.view.columns[c].kind == Kind::I128 => {
                Operand::Each(&self.scratch.decoded_wide(c)[run.clone()])
            }
            _ => Operand::Each(&steps[nth].wide[..run.len()]),
        })
    }

    fn floats<'s>(&'s self, steps: &'s [Buffer], nth: usize, run: &Range<usize>) -> Operand<'s, f64> {
        if self.states[nth].valid.is_none() {
            return Operand::One(0.0);
        }
        match self.program.steps[nth].op {
            Op::Float(v) => Operand::One(v),
            Op::Null => Operand::One(0.0),
            Op::Column(c) => Operand::Each(&self.scratch.decoded_floats(c)[run.clone()]),
            _ => Operand::Each(&steps[nth].floats[..run.len()]),
        }
    }

    /// A decimal in 128 bits, however it is held.
    fn widened<'s>(
        &'s self,
        steps: &'s [Buffer],
        nth: usize,
        run: &Range<usize>,
        buffer: &'s mut Vec<i128>,
    ) -> Result<Operand<'s, i128>> {
        if !self.states[nth].narrow {
            return self.wide(steps, nth, run);
        }
        Ok(match self.ints(steps, nth, run) {
            Operand::One(v) => Operand::One(i128::from(v)),
            Operand::Each(values) => {
                buffer.clear();
                buffer.extend(values.iter().map(|v| i128::from(*v)));
                Operand::Each(buffer)
            }
        })
    }

    /// A column of the segment that is held in 128 bits although this block's values may be narrow.
    fn is_stored_wide(&self, column: usize) -> bool {
        let of = &self.view.columns[column];
        of.kind == Kind::I128 && !of.is_computed()
    }

    /// Calls `f` with each row of the run (from 0) where the step has a value.
    fn each_valid(&self, nth: usize, run: &Range<usize>, mut f: impl FnMut(usize) -> Option<Failure>) -> Result<()> {
        let valid = &self.states[nth].valid;
        for i in 0..run.len() {
            if valid.contains(run.start + i)
                && self.rows.contains(run.start + i)
                && let Some(failure) = f(i)
            {
                return Err(Error::Arithmetic(failure));
            }
        }
        Ok(())
    }

    fn step(&self, nth: usize, run: &Range<usize>, space: &mut Space) -> Result<()> {
        let step = &self.program.steps[nth];
        let (steps, rest) = space.steps.split_at_mut(nth);
        let Some(out) = rest.first_mut() else { return Err(Error::invalid("steps without buffers")) };
        let state = &self.states[nth];
        match (&step.op, step.lane) {
            (Op::Int(_) | Op::Decimal(_) | Op::Float(_) | Op::Null, _) => Ok(()),
            (Op::Column(c), _) => self.column(*c, nth, run, out),
            (Op::Binary(operator, number), Lane::Int) => self.int_binary(nth, *operator, *number, run, steps, out),
            (Op::Binary(operator, number), Lane::Float) => self.float_binary(nth, *operator, *number, run, steps, out),
            (Op::Binary(operator, _), Lane::Decimal) => {
                self.decimal_binary(nth, *operator, run, steps, out, &mut space.widened)
            }
            (Op::Unary(function), _) => self.unary(nth, *function, run, steps, out, &mut space.widened),
            (Op::Compare(comparison), _) => self.compare(nth, *comparison, run, steps, out, &mut space.widened),
            (Op::Truth(..), _) => {
                let ints = sized(&mut out.ints, out.start, run.len());
                ints.fill(0);
                match state.taken.first() {
                    Some(Selection::All) => ints.fill(1),
                    Some(Selection::Some(bits)) => blend(Operand::One(1), &bits.words()[run.start / 64..], ints),
                    _ => {}
                }
                Ok(())
            }
            (Op::Case(_) | Op::Coalesce, lane) => {
                macro_rules! choose {
                    ($out:expr, $zero:expr, $a:ident => $get:expr) => {{
                        let out = $out;
                        out.fill($zero);
                        let last = step.args.get(state.taken.len()).copied();
                        if let Some($a) = last.filter(|a| !self.states[*a].valid.is_none()) {
                            map($get, out, |v| v);
                        }
                        for (taken, &$a) in state.taken.iter().zip(&step.args) {
                            match taken {
                                Selection::None => {}
                                Selection::All => map($get, out, |v| v),
                                Selection::Some(bits) => blend($get, &bits.words()[run.start / 64..], out),
                            }
                        }
                    }};
                }
                let widened = &mut space.widened[0];
                match lane {
                    Lane::Float => {
                        choose!(sized(&mut out.floats, out.start, run.len()), 0.0, a => self.floats(steps, a, run))
                    }
                    _ if state.narrow => {
                        choose!(sized(&mut out.ints, out.start, run.len()), 0, a => self.ints(steps, a, run))
                    }
                    _ => {
                        choose!(sized(&mut out.wide, out.start, run.len()), 0, a => self.widened(steps, a, run, widened)?)
                    }
                }
                Ok(())
            }
            (Op::Extreme { greatest }, lane) => {
                macro_rules! extreme {
                    ($out:expr, $zero:expr, $a:ident => $get:expr, $key:expr) => {{
                        let out = $out;
                        out.fill($zero);
                        let mut seen = [false; RUN];
                        for &$a in &step.args {
                            let valid = &self.states[$a].valid;
                            if valid.is_none() {
                                continue;
                            }
                            let values = $get;
                            for (i, slot) in out.iter_mut().enumerate() {
                                if valid.contains(run.start + i) {
                                    let (value, key) = (values.get(i), $key);
                                    let better =
                                        if *greatest { key(value) > key(*slot) } else { key(value) < key(*slot) };
                                    if better || !seen[i] {
                                        *slot = value;
                                        seen[i] = true;
                                    }
                                }
                            }
                        }
                    }};
                }
                let widened = &mut space.widened[0];
                match lane {
                    Lane::Float => extreme!(
                        sized(&mut out.floats, out.start, run.len()),
                        0.0,
                        a => self.floats(steps, a, run),
                        float_key
                    ),
                    _ if state.narrow => extreme!(
                        sized(&mut out.ints, out.start, run.len()),
                        0,
                        a => self.ints(steps, a, run),
                        |v: i64| v
                    ),
                    _ => extreme!(
                        sized(&mut out.wide, out.start, run.len()),
                        0,
                        a => self.widened(steps, a, run, widened)?,
                        |v: i128| v
                    ),
                }
                Ok(())
            }
        }
    }

    /// Columns are used in place where they are held as the step needs them.
    fn column(&self, column: usize, nth: usize, run: &Range<usize>, out: &mut Buffer) -> Result<()> {
        let state = &self.states[nth];
        if self.program.steps[nth].lane != Lane::Decimal || state.valid.is_none() {
            return Ok(());
        }
        match (self.view.columns[column].kind, state.narrow) {
            (Kind::I128, true) if self.is_stored_wide(column) => {
                let ints = sized(&mut out.ints, out.start, run.len());
                map(Operand::Each(&self.scratch.decoded_wide(column)[run.clone()]), ints, |v| v as i64);
            }
            (Kind::I64 | Kind::IntCodes, false) => {
                let wide = sized(&mut out.wide, out.start, run.len());
                let numeric = self.view.columns[column].is_numeric();
                map(Operand::Each(&self.scratch.decoded_ints(column)[run.clone()]), wide, |v| {
                    if numeric && v == LogicalType::NUMERIC_NAN_I64 { NAN } else { i128::from(v) }
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn int_binary(
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

    fn decimal_binary(
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

    fn float_binary(
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

    fn unary(
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

    fn compare(
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

fn sized<T: Copy + Default>(buffer: &mut Vec<T>, start: usize, rows: usize) -> &mut [T] {
    if buffer.len() < start + rows {
        buffer.resize(start + RUN.max(rows), T::default());
    }
    &mut buffer[start..start + rows]
}

fn inside(limits: Limits, of: Limits) -> bool {
    match (limits, of) {
        (Some(a), Some(b)) => a.0 >= b.0 && a.1 <= b.1,
        (_, None) => true,
        (None, Some(_)) => false,
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

/// `value * 10^-scale`, rounded once.
fn decimal_to_float(value: i128, scale: u8, single: bool) -> f64 {
    if value == NAN {
        return f64::NAN;
    }
    let text = format!("{value}e-{scale}");
    if single { text.parse::<f32>().map_or(f64::NAN, f64::from) } else { text.parse().unwrap_or(f64::NAN) }
}
