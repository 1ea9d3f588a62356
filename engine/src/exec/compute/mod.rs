//! Computed columns of one segment: an expression as a list of steps, evaluated a block at a time.
//!
//! A block is evaluated in two passes. The first goes down the tree with the rows in which each step is needed: it evaluates the conditions,
//! finds where results are NULL, and from the block headers' limits how large they can be. The second computes values, a few
//! thousand rows at a time so that intermediate results stay in the processor's cache; decimals are 64 bits wide wherever the first
//! pass found that this suffices, and only steps that could fail are checked. A failure counts only in rows that need the step.

mod evaluate;
mod kernels;
mod lookup;
mod mapped;
mod numbering;
mod steps;
mod texts;

pub(super) use evaluate::{compute, limits, never_fails};
pub(super) use lookup::{AttributeTable, LookupTable};
pub(super) use mapped::MapTable;
pub use numbering::MAX_SOURCES;
pub(super) use steps::Space;

use super::Pulse;
use super::bits::Selection;
use super::columns::SegmentView;
use super::filter::{self, Node, Resolver};
use crate::plan::{ColumnRef, Comparison, Computed, Expr, Filter, Function, Lane, Number, Operator};
use crate::types::{LogicalType, Physical, Value};
use crate::{Error, Reservation, Result};

/// A native column bound to a segment.
pub(super) struct Program {
    /// Each after its arguments; the last one is the result.
    steps: Vec<Step>,
    conditions: Vec<Node>,
}

struct Step {
    op: Op,
    lane: Lane,
    args: Vec<usize>,
}

enum Op {
    Column(usize),
    Int(i64),
    Decimal(i128),
    Float(f64),
    Null,
    Binary(Operator, Number),
    Unary(Function),
    Compare(Comparison),
    /// Two conditions.
    Truth(usize, usize),
    /// One condition for each argument but the last.
    Case(Vec<usize>),
    Coalesce,
    Extreme {
        greatest: bool,
    },
}

impl Program {
    /// Binds conditions to the segment, host predicates among them unresolved. Errors: as [`filter::bind`].
    pub fn new(
        expr: &Expr,
        view: &SegmentView<'_>,
        memory: &mut Reservation,
        pulse: &mut dyn Pulse,
    ) -> Result<Program> {
        let mut program = Program { steps: Vec::new(), conditions: Vec::new() };
        let lane = lane_of(expr, &|c| view.columns.get(c).map(|c| c.ty)).unwrap_or(Lane::Int);
        program.add(expr, lane, view, memory, pulse)?;
        memory.grow(
            program.steps.len() * size_of::<Step>() + program.conditions.iter().map(Node::bytes).sum::<usize>(),
        )?;
        Ok(program)
    }

    /// Lets the host decide what only it can, in the rows of `candidates` that reach it. `optional`: not all of them need the column, so
    /// that what fails in one is no error yet.
    pub fn resolve(&mut self, candidates: &[Selection], optional: bool, r: &mut Resolver<'_, '_>) -> Result<()> {
        if !self.has_host() {
            return Ok(());
        }
        r.lenient = optional;
        self.resolve_step(self.root(), candidates, r)
    }

    fn resolve_step(&mut self, nth: usize, candidates: &[Selection], r: &mut Resolver<'_, '_>) -> Result<()> {
        let (chosen, args) = match &self.steps[nth].op {
            Op::Truth(yes, no) => (vec![*yes, *no], Vec::new()),
            Op::Case(numbers) => (numbers.clone(), self.steps[nth].args.clone()),
            _ => {
                let args = self.steps[nth].args.clone();
                return args.into_iter().try_for_each(|arg| self.resolve_step(arg, candidates, r));
            }
        };
        let mut rest = candidates.to_vec();
        for (i, &number) in chosen.iter().enumerate() {
            let node = std::mem::replace(&mut self.conditions[number], Node::Const(false));
            self.conditions[number] = filter::resolve(node, &rest, r)?;
            let selected = filter::divide(&self.conditions[number], &mut rest, r)?;
            if let Some(&arg) = args.get(i) {
                self.resolve_step(arg, &selected, r)?;
            }
        }
        args.get(chosen.len()).map_or(Ok(()), |&otherwise| self.resolve_step(otherwise, &rest, r))
    }

    pub fn has_host(&self) -> bool {
        self.conditions.iter().any(filter::has_host)
    }

    fn add(
        &mut self,
        expr: &Expr,
        wanted: Lane,
        view: &SegmentView<'_>,
        memory: &mut Reservation,
        pulse: &mut dyn Pulse,
    ) -> Result<usize> {
        let mut condition = |program: &mut Program, filter: &Filter, pulse: &mut dyn Pulse| -> Result<usize> {
            let node = filter::bind(filter, view, memory, pulse)?;
            program.conditions.push(node);
            Ok(program.conditions.len() - 1)
        };
        let (op, lane, args) = match expr {
            Expr::Column(c) => (Op::Column(*c), wanted, Vec::new()),
            Expr::Null => (Op::Null, wanted, Vec::new()),
            Expr::Constant(value) => {
                let op = match (wanted, value) {
                    (Lane::Int, Value::I64(v)) => Op::Int(*v),
                    (Lane::Decimal, Value::I64(v)) => Op::Decimal(i128::from(*v)),
                    (Lane::Decimal, Value::I128(v)) => Op::Decimal(*v),
                    (Lane::Float, Value::F64(v)) => Op::Float(*v),
                    (_, Value::Null) => Op::Null,
                    _ => return Err(misfit()),
                };
                (op, wanted, Vec::new())
            }
            Expr::Binary { operator, number, left, right } => {
                let lane = number.lane();
                let args =
                    vec![self.add(left, lane, view, memory, pulse)?, self.add(right, lane, view, memory, pulse)?];
                (Op::Binary(*operator, *number), lane, args)
            }
            Expr::Unary { function, argument } => {
                let args = vec![self.add(argument, argument_lane(*function, argument, view), view, memory, pulse)?];
                (Op::Unary(*function), function.lane(), args)
            }
            Expr::Compare { comparison, lane, left, right } => {
                let args =
                    vec![self.add(left, *lane, view, memory, pulse)?, self.add(right, *lane, view, memory, pulse)?];
                (Op::Compare(*comparison), Lane::Int, args)
            }
            Expr::Truth { yes, no } => {
                let (yes, no) = (condition(self, yes, pulse)?, condition(self, no, pulse)?);
                (Op::Truth(yes, no), Lane::Int, Vec::new())
            }
            Expr::Case { lane, whens, otherwise } => {
                // Outer conditions before inner ones: that is the order in which the host is asked.
                let mut numbers = Vec::with_capacity(whens.len());
                for (when, _) in whens {
                    numbers.push(condition(self, when, pulse)?);
                }
                let mut args = Vec::with_capacity(whens.len() + 1);
                for result in whens.iter().map(|(_, result)| result).chain([&**otherwise]) {
                    args.push(self.add(result, *lane, view, memory, pulse)?);
                }
                (Op::Case(numbers), *lane, args)
            }
            Expr::Coalesce { lane, arguments } | Expr::Extreme { lane, arguments, .. } => {
                let mut args = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    args.push(self.add(argument, *lane, view, memory, pulse)?);
                }
                let op = match expr {
                    Expr::Extreme { greatest, .. } => Op::Extreme { greatest: *greatest },
                    _ => Op::Coalesce,
                };
                (op, *lane, args)
            }
        };
        self.steps.push(Step { op, lane, args });
        Ok(self.steps.len() - 1)
    }

    fn root(&self) -> usize {
        self.steps.len() - 1
    }
}

fn misfit() -> Error {
    Error::invalid("an expression does not fit its types")
}

fn argument_lane(function: Function, argument: &Expr, view: &SegmentView<'_>) -> Lane {
    let own = || lane_of(argument, &|c| view.columns.get(c).map(|c| c.ty)).unwrap_or(Lane::Int);
    match function {
        Function::Negate(number) | Function::Absolute(number) => number.lane(),
        Function::ToFloat { .. } | Function::ToInt(_) => own(),
        Function::FiniteDate => Lane::Int,
        Function::ToSingle | Function::RoundFloat(_) => Lane::Float,
        Function::DecimalToInt(_) | Function::Scale(_) | Function::Round(..) | Function::Precision(_) => Lane::Decimal,
    }
}

/// The lane of values of a type; `None`: byte strings.
pub(super) fn lane_of_type(ty: LogicalType) -> Option<Lane> {
    match (ty, ty.physical()) {
        (LogicalType::Numeric { .. }, _) => Some(Lane::Decimal),
        (_, Physical::I64) => Some(Lane::Int),
        (_, Physical::F64) => Some(Lane::Float),
        _ => None,
    }
}

/// The lane of an expression; `None`: NULL or a constant, that fit any.
fn lane_of(expr: &Expr, ty: &dyn Fn(usize) -> Option<LogicalType>) -> Option<Lane> {
    match expr {
        Expr::Column(c) => ty(*c).and_then(lane_of_type),
        Expr::Constant(Value::F64(_)) => Some(Lane::Float),
        Expr::Constant(Value::I128(_)) => Some(Lane::Decimal),
        Expr::Constant(_) | Expr::Null => None,
        Expr::Binary { number, .. } => Some(number.lane()),
        Expr::Unary { function, .. } => Some(function.lane()),
        Expr::Compare { .. } | Expr::Truth { .. } => Some(Lane::Int),
        Expr::Case { lane, .. } | Expr::Coalesce { lane, .. } | Expr::Extreme { lane, .. } => Some(*lane),
    }
}

/// Rejects plans whose computed columns name what is not before them, or mix types. Errors: `Invalid`.
pub(super) fn check(columns: &[ColumnRef]) -> Result<()> {
    for (position, column) in columns.iter().enumerate() {
        let Some(computed) = &column.computed else { continue };
        let before = &columns[..position];
        match &**computed {
            Computed::Mapped(mapped) => {
                let fits = |c: &ColumnRef| {
                    c.computed.as_deref().is_none_or(|computed| matches!(computed, Computed::Attribute(_)))
                };
                if !mapped.columns.iter().all(|c| before.get(*c).is_some_and(fits)) || mapped.columns.is_empty() {
                    return Err(Error::invalid("a mapped column needs stored ones or attributes before it"));
                }
                if mapped.columns.len() > MAX_SOURCES {
                    return Err(Error::invalid("a function of too many columns"));
                }
            }
            Computed::Lookup(lookup) => {
                if lookup.column >= position || column.ty.physical() != Physical::I64 {
                    return Err(Error::invalid("a lookup column needs its keys before it"));
                }
            }
            Computed::Attribute(attribute) => {
                let rows = |c: &ColumnRef| match c.computed.as_deref() {
                    Some(Computed::Lookup(_)) => true,
                    Some(Computed::Native(_)) => c.ty.physical() == Physical::I64,
                    _ => false,
                };
                if !before.get(attribute.column).is_some_and(rows) {
                    return Err(Error::invalid("an attribute needs the numbers of its rows before it"));
                }
            }
            Computed::Native(expr) => {
                let lane = lane_of_type(column.ty).ok_or_else(misfit)?;
                if column.ty.physical() == Physical::I64 && lane == Lane::Decimal {
                    return Err(Error::invalid("a computed decimal is declared with less than 19 digits"));
                }
                check_lane(expr, lane, before)?;
                let mut failed = None;
                expr.visit(&mut |_| {}, &mut |f| {
                    if let Err(e) = filter::check(f, before) {
                        failed.get_or_insert(e);
                    }
                });
                failed.map_or(Ok(()), Err)?;
            }
        }
    }
    Ok(())
}

fn check_lane(expr: &Expr, wanted: Lane, columns: &[ColumnRef]) -> Result<()> {
    let own = lane_of(expr, &|c| columns.get(c).map(|c| c.ty));
    // An integer is a decimal without digits behind the point.
    let fits = |lane: Lane| lane == wanted || (lane == Lane::Int && wanted == Lane::Decimal);
    let constant = matches!((expr, wanted), (Expr::Constant(Value::I64(_)), Lane::Int | Lane::Decimal))
        || matches!(expr, Expr::Null | Expr::Constant(Value::Null));
    if !own.map_or(constant, fits) {
        return Err(misfit());
    }
    match expr {
        Expr::Column(_) | Expr::Constant(_) | Expr::Null | Expr::Truth { .. } => Ok(()),
        Expr::Binary { operator, number, left, right } => {
            let known = match number.lane() {
                Lane::Int => true,
                Lane::Decimal => !matches!(operator, Operator::Divide | Operator::Remainder),
                Lane::Float => *operator != Operator::Remainder,
            };
            if !known {
                return Err(misfit());
            }
            check_lane(left, number.lane(), columns)?;
            check_lane(right, number.lane(), columns)
        }
        Expr::Compare { lane, left, right, .. } => {
            check_lane(left, *lane, columns)?;
            check_lane(right, *lane, columns)
        }
        Expr::Unary { function, argument } => {
            let of = lane_of(argument, &|c| columns.get(c).map(|c| c.ty)).unwrap_or(Lane::Int);
            let lane = match function {
                Function::Negate(number) | Function::Absolute(number) => number.lane(),
                Function::ToFloat { .. } if of != Lane::Float => of,
                Function::ToInt(_) if of != Lane::Decimal => of,
                Function::FiniteDate => Lane::Int,
                Function::ToSingle | Function::RoundFloat(_) => Lane::Float,
                Function::DecimalToInt(_) | Function::Scale(_) | Function::Round(..) | Function::Precision(_) => {
                    Lane::Decimal
                }
                Function::ToFloat { .. } | Function::ToInt(_) => return Err(misfit()),
            };
            check_lane(argument, lane, columns)
        }
        Expr::Case { lane, whens, otherwise } => {
            whens.iter().try_for_each(|(_, result)| check_lane(result, *lane, columns))?;
            check_lane(otherwise, *lane, columns)
        }
        Expr::Coalesce { lane, arguments } | Expr::Extreme { lane, arguments, .. } => {
            if arguments.is_empty() {
                return Err(misfit());
            }
            arguments.iter().try_for_each(|a| check_lane(a, *lane, columns))
        }
    }
}
