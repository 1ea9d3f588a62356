//! The first pass over a block: which rows need which step, where it is NULL, how large its values can be.

use super::steps::{Run, Space};
use super::{Op, Program, Step};
use crate::exec::bits::Selection;
use crate::exec::columns::{BlockScratch, Kind, SegmentView};
use crate::exec::filter;
use crate::plan::{Function, Lane, Limits, Number, Operator, either, within};
use crate::types::{LogicalType, Value};
use crate::{Error, Result};

/// What the first pass finds of a step.
pub(super) struct StepState {
    /// Rows that need it.
    pub active: Selection,
    /// Of those, the rows where it is not NULL.
    pub valid: Selection,
    /// Of what it yields, NaN aside.
    pub limits: Limits,
    /// Limits of results before it is known whether the type has them.
    pub exact: Limits,
    pub nan: bool,
    /// Whether its values are held in 64 bits.
    pub narrow: bool,
    /// Of a CASE: rows of each condition.
    pub taken: Vec<Selection>,
}

impl StepState {
    fn idle() -> Self {
        StepState {
            active: Selection::None,
            valid: Selection::None,
            limits: Some((0, 0)),
            exact: Some((0, 0)),
            nan: false,
            narrow: true,
            taken: Vec::new(),
        }
    }
}

/// Whether 64 bits hold a decimal's values.
fn is_narrow(limits: Limits, nan: bool) -> bool {
    // The largest stands for NaN.
    !nan && limits.is_some_and(|(low, high)| low >= i128::from(i64::MIN) && high < i128::from(i64::MAX))
}

/// Computes column `column` in the scratch's block for the rows of `rows`. Errors: `Arithmetic` if one of them has no value.
pub(in crate::exec) fn compute(
    program: &Program,
    view: &SegmentView<'_>,
    scratch: &mut BlockScratch,
    column: usize,
    rows: &Selection,
) -> Result<()> {
    let mut states: Vec<StepState> = program.steps.iter().map(|_| StepState::idle()).collect();
    program.visit(program.root(), rows.clone(), view, scratch, &mut states)?;
    let mut space: Space = scratch.take_space(column);
    let result = Run { program, view, scratch, states: &states, rows }.compute(&mut space, column);
    scratch.put_space(column, space);
    result?;
    let StepState { valid, limits, nan, narrow, .. } =
        states.pop().ok_or_else(|| Error::invalid("an empty expression"))?;
    scratch.computed(view, column, rows.clone(), valid, narrow, if nan { None } else { limits });
    Ok(())
}

/// Limits of a computed column's values in the scratch's block from headers alone, and whether NaN may be among them.
pub(in crate::exec) fn limits(
    program: &Program,
    view: &SegmentView<'_>,
    scratch: &mut BlockScratch,
) -> Result<(Limits, bool)> {
    let mut known: Vec<(Limits, bool)> = Vec::with_capacity(program.steps.len());
    for step in &program.steps {
        let found = match step.op {
            Op::Column(c) => column_limits(step.lane, c, view, scratch)?,
            _ => {
                let args: Vec<(Limits, bool)> = step.args.iter().map(|a| known[*a]).collect();
                let (exact, nan) = step.exact(&args);
                (step.clip(exact), nan)
            }
        };
        known.push(found);
    }
    known.pop().ok_or_else(|| Error::invalid("an empty expression"))
}

/// Whether headers show that a sum or product of integers has a value in every row of the scratch's block.
pub(in crate::exec) fn never_fails(
    program: &Program,
    view: &SegmentView<'_>,
    scratch: &mut BlockScratch,
) -> Result<bool> {
    let mut known: Vec<(Limits, bool)> = Vec::with_capacity(program.steps.len());
    for step in &program.steps {
        let found = match &step.op {
            Op::Column(c) if view.bound(*c)?.is_none() => column_limits(step.lane, *c, view, scratch)?,
            Op::Int(v) => (Some((i128::from(*v), i128::from(*v))), false),
            Op::Binary(Operator::Add | Operator::Subtract | Operator::Multiply, number) if step.lane == Lane::Int => {
                let args: Vec<(Limits, bool)> = step.args.iter().map(|a| known[*a]).collect();
                let (exact, nan) = step.exact(&args);
                if exact.is_none() || within(*number, exact) != exact {
                    return Ok(false);
                }
                (exact, nan)
            }
            _ => return Ok(false),
        };
        known.push(found);
    }
    Ok(true)
}

fn column_limits(
    lane: Lane,
    column: usize,
    view: &SegmentView<'_>,
    scratch: &mut BlockScratch,
) -> Result<(Limits, bool)> {
    let of = &view.columns[column];
    if let Some(bound) = view.bound(column)? {
        return bound.limits(view, scratch);
    }
    if lane == Lane::Float {
        return Ok((None, false));
    }
    let rows = scratch.rows();
    let header = scratch.header(view, column)?;
    if header.nulls as usize == rows {
        return Ok((Some((0, 0)), false));
    }
    let found = match (&header.min, &header.max) {
        (Value::I64(min), Value::I64(max)) => Some((i128::from(*min), i128::from(*max))),
        (Value::I128(min), Value::I128(max)) => Some((*min, *max)),
        _ => None,
    };
    if lane == Lane::Int {
        return Ok((found.or(Number::Int8.limits()), false));
    }
    if !of.is_numeric() {
        return Ok((found.or(Number::Int8.limits()), false));
    }
    Ok(match found {
        Some((_, high)) if of.kind == Kind::I128 && high == LogicalType::NUMERIC_NAN_I128 => (None, true),
        Some((_, high)) if of.kind != Kind::I128 && high == i128::from(LogicalType::NUMERIC_NAN_I64) => {
            (Number::Int8.limits(), true)
        }
        Some(found) => (Some(found), false),
        None if of.kind == Kind::I128 => (None, true),
        None => (Number::Int8.limits(), true),
    })
}

impl Step {
    /// Limits of exact results, and whether NaN may be among them, given those of the arguments.
    fn exact(&self, args: &[(Limits, bool)]) -> (Limits, bool) {
        let nan = args.iter().any(|a| a.1);
        let limits = match &self.op {
            Op::Column(_) => None,
            Op::Int(v) => Some((i128::from(*v), i128::from(*v))),
            Op::Decimal(v) if *v == LogicalType::NUMERIC_NAN_I128 => return (Some((0, 0)), true),
            Op::Decimal(v) => Some((*v, *v)),
            Op::Null => Some((0, 0)),
            Op::Float(_) => None,
            Op::Binary(operator, number) if number.lane() != Lane::Float => operator.limits(args[0].0, args[1].0),
            Op::Binary(..) => None,
            Op::Unary(function) => function.limits(args[0].0),
            Op::Compare(_) | Op::Truth(..) => return (Some((0, 1)), false),
            Op::Case(_) | Op::Coalesce | Op::Extreme { .. } => args.iter().map(|a| a.0).reduce(either).unwrap_or(None),
        };
        (limits, nan && self.lane == Lane::Decimal)
    }

    /// What is left of exact results' limits by what is an error.
    fn clip(&self, exact: Limits) -> Limits {
        match self.op {
            Op::Binary(_, number) => within(number, exact),
            Op::Unary(
                Function::Negate(number)
                | Function::Absolute(number)
                | Function::ToInt(number)
                | Function::DecimalToInt(number),
            ) => within(number, exact),
            _ => exact,
        }
    }
}

impl Program {
    fn visit(
        &self,
        nth: usize,
        active: Selection,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        states: &mut [StepState],
    ) -> Result<()> {
        if active.is_none() {
            return Ok(());
        }
        let step = &self.steps[nth];
        let rows = scratch.rows();
        let condition = |number: usize, within: &Selection, scratch: &mut BlockScratch| {
            filter::evaluate(&self.conditions[number], view, scratch, within)
        };
        let mut taken = Vec::new();
        let valid = match &step.op {
            Op::Column(column) => {
                let column = *column;
                let valid = leaf(step.lane, column, &active, view, scratch)?;
                let (limits, nan) = match view.bound(column)? {
                    Some(_) => scratch.limits(column),
                    None => column_limits(step.lane, column, view, scratch)?,
                };
                (states[nth].limits, states[nth].exact, states[nth].nan) = (limits, limits, nan);
                valid
            }
            Op::Int(_) | Op::Decimal(_) | Op::Float(_) => Selection::All,
            Op::Null => Selection::None,
            Op::Binary(..) | Op::Unary(_) | Op::Compare(_) => {
                let mut valid = active.clone();
                for &arg in &step.args {
                    self.visit(arg, active.clone(), view, scratch, states)?;
                    valid = valid.and(&states[arg].valid);
                }
                valid
            }
            Op::Truth(yes, no) => {
                let yes = condition(*yes, &active, scratch)?;
                let no = condition(*no, &active.clone().and_not(&yes, rows), scratch)?;
                taken.push(yes.clone());
                yes.or(no)
            }
            Op::Case(conditions) => {
                let (mut rest, mut valid) = (active.clone(), Selection::None);
                for (number, &arg) in conditions.iter().zip(&step.args) {
                    let selected = condition(*number, &rest, scratch)?;
                    rest = rest.and_not(&selected, rows);
                    self.visit(arg, selected.clone(), view, scratch, states)?;
                    valid = valid.or(states[arg].valid.clone().and(&selected));
                    taken.push(selected);
                }
                if let Some(&otherwise) = step.args.last() {
                    self.visit(otherwise, rest.clone(), view, scratch, states)?;
                    valid = valid.or(states[otherwise].valid.clone().and(&rest));
                }
                valid
            }
            Op::Coalesce => {
                let (mut rest, mut valid) = (active.clone(), Selection::None);
                for &arg in &step.args {
                    self.visit(arg, rest.clone(), view, scratch, states)?;
                    let found = states[arg].valid.clone().and(&rest);
                    rest = rest.and_not(&found, rows);
                    valid = valid.or(found.clone());
                    taken.push(found);
                }
                valid
            }
            Op::Extreme { .. } => {
                let mut valid = Selection::None;
                for &arg in &step.args {
                    self.visit(arg, active.clone(), view, scratch, states)?;
                    valid = valid.or(states[arg].valid.clone());
                }
                valid.and(&active)
            }
        };
        if !matches!(step.op, Op::Column(_)) {
            // Arguments that no row needs do not widen the result.
            let args: Vec<(Limits, bool)> = match step.op {
                Op::Case(_) | Op::Coalesce | Op::Extreme { .. } => {
                    let used = step.args.iter().filter(|a| !states[**a].valid.is_none());
                    used.map(|a| (states[*a].limits, states[*a].nan)).collect()
                }
                _ => step.args.iter().map(|a| (states[*a].limits, states[*a].nan)).collect(),
            };
            let (exact, nan) = if valid.is_none() { (Some((0, 0)), false) } else { step.exact(&args) };
            let state = &mut states[nth];
            (state.exact, state.limits, state.nan) = (exact, step.clip(exact), nan);
        }
        let narrow = match step.op {
            _ if step.lane != Lane::Decimal => true,
            // As it was computed, which may be wider than its values ask for.
            Op::Column(c) if view.columns[c].is_computed() && view.columns[c].kind == Kind::I128 => {
                scratch.is_narrow(c)
            }
            _ => is_narrow(states[nth].limits, states[nth].nan) && step.args.iter().all(|a| states[*a].narrow),
        };
        let state = &mut states[nth];
        (state.active, state.valid, state.taken, state.narrow) = (active, valid, taken, narrow);
        Ok(())
    }
}

/// Decodes a column; returns where it is not NULL.
fn leaf(
    lane: Lane,
    column: usize,
    active: &Selection,
    view: &SegmentView<'_>,
    scratch: &mut BlockScratch,
) -> Result<Selection> {
    scratch.compute(view, column, active)?;
    let valid = scratch.validity(view, column)?.clone().and(active);
    if valid.is_none() || view.bound(column)?.is_some() {
        return Ok(valid);
    }
    match (lane, view.columns[column].kind) {
        (Lane::Float, _) => scratch.floats(view, column).map(drop)?,
        (_, Kind::I128) => scratch.wide(view, column).map(drop)?,
        _ => scratch.ints(view, column).map(drop)?,
    }
    Ok(valid)
}
