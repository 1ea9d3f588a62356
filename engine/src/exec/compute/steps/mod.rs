//! The second pass: values, a run of rows at a time.

mod binary;
mod unary;

use std::ops::Range;

use super::evaluate::StepState;
use super::kernels::{Operand, blend, map};
use super::{Op, Program};
use crate::exec::bits::Selection;
use crate::exec::columns::{BlockScratch, Kind, SegmentView, float_key};
use crate::plan::{Failure, Lane, Limits};
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
            (Kind::I64, false) => {
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
