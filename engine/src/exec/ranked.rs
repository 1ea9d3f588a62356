//! Groups in the order of their states: those of one partial, and those of all that were merged.

use super::columns::{Kind, SegmentView, float_key, without_sign_of_zero};
use super::digits::Source;
use super::global::{Global, Partial};
use super::global_state::GlobalState;
use super::moments::{self, Sums, out_of_range};
use super::primitives::{Measure, Output, Program};
use super::states::State;
use super::top::{Order, Ranked};
use crate::Result;
use crate::plan::{AggregateFunction, By, Top};
use crate::prefix::prefix;
use crate::types::{LogicalType, Physical, Value};

/// Rank of a value of a physical order.
fn of_value(value: &Value) -> Option<i128> {
    Some(match value {
        Value::Null => return None,
        Value::I64(v) => i128::from(*v),
        Value::I128(v) => *v,
        Value::F64(v) => i128::from(float_key(*v)),
        // The first 15 bytes, so that the sign stays free.
        Value::Bytes(bytes) => prefix::<15>(bytes).iter().fold(0, |rank, byte| rank << 8 | i128::from(*byte)),
    })
}

fn order_of(physical: Physical) -> Order {
    if physical == Physical::Bytes { Order::Prefix } else { Order::Exact }
}

/// What a sum ranks as.
fn of_sum(sum: i128, nan: bool, count: Option<i64>) -> Result<i128> {
    Ok(match count {
        Some(_) if nan => i128::from(float_key(f64::NAN)),
        Some(count) => i128::from(float_key(sum as f64 / count as f64)),
        None if nan => LogicalType::NUMERIC_NAN_I128,
        None if sum == LogicalType::NUMERIC_NAN_I128 => return Err(out_of_range()),
        None => sum,
    })
}

/// What a variance or a regression ranks as; outer `None`: it is neither.
fn of_moments(sums: &dyn Sums, output: &Output, count: i64, group: u32) -> Result<Option<Option<i128>>> {
    Ok(moments::value(sums, output, count, group)?.map(|value| match value {
        Value::Null => None,
        value => moments::near(output.function, &value, count).map(|v| i128::from(float_key(v))),
    }))
}

/// How an aggregate ranks; extremes of byte strings do not.
fn aggregate_order(output: &Output, program: &Program, physical: impl Fn(usize) -> Physical) -> Option<Order> {
    match output.function {
        AggregateFunction::CountPairs(..) => return Some(Order::Exact),
        AggregateFunction::Regression { .. } => return Some(Order::Exact),
        AggregateFunction::Variance { .. } => return Some(Order::Near),
        _ => {}
    }
    let primitive = &program.primitives[output.value];
    let bytes = primitive.column.is_some_and(|c| physical(c) == Physical::Bytes);
    match (output.function, primitive.measure) {
        (AggregateFunction::Avg(_), Measure::Sum) => Some(Order::Near),
        (_, Measure::Count | Measure::Distinct | Measure::Sum) => Some(Order::Exact),
        (_, Measure::Min | Measure::Max) if !bytes => Some(Order::Exact),
        (_, Measure::BitAnd | Measure::BitOr | Measure::BitXor) => Some(Order::Exact),
        _ => None,
    }
}

/// By primitive, each group's number of distinct values where a term of `top` asks for it. `counts` has it of one that holds some.
fn counted(program: &Program, top: &Top, counts: impl Fn(usize) -> Result<Option<Vec<i64>>>) -> Result<Vec<Vec<i64>>> {
    let mut distinct = vec![Vec::new(); program.primitives.len()];
    for term in &top.terms {
        let By::Aggregate(nth) = term.by else { continue };
        let Some(output) = program.outputs.get(nth) else { continue };
        if let Some(found) = counts(output.value)? {
            distinct[output.value] = found;
        }
    }
    Ok(distinct)
}

/// One partial that holds all groups there are.
pub(super) struct RankedPartial<'a> {
    global: &'a Global,
    view: &'a SegmentView<'a>,
    partial: &'a Partial,
    /// Counts of distinct values by primitive, where a term asks for them.
    distinct: Vec<Vec<i64>>,
}

impl<'a> RankedPartial<'a> {
    pub fn new(global: &'a Global, view: &'a SegmentView<'a>, partial: &'a Partial, top: &Top) -> Result<Self> {
        let distinct = counted(&global.program, top, |primitive| match &partial.states.states[primitive] {
            State::Distinct(set) => set.counts(partial.states.counts(0).len(), global.budget()).map(Some),
            _ => Ok(None),
        })?;
        Ok(RankedPartial { global, view, partial, distinct })
    }
}

impl Ranked for RankedPartial<'_> {
    fn order(&self, by: By) -> Option<Order> {
        match by {
            By::Key(nth) => {
                let digits = self.partial.plan.keys.digits.get(nth)?;
                let column = &self.view.columns[digits.column];
                match digits.source {
                    Source::Buckets(_) => None,
                    // Codes and common numbers stand in the order of their values.
                    Source::Codes | Source::Unified(_) => Some(Order::Exact),
                    _ => Some(order_of(column.ty.physical())),
                }
            }
            By::Aggregate(nth) => {
                let output = self.global.program.outputs.get(nth)?;
                let order = aggregate_order(output, &self.global.program, |c| self.global.columns[c].ty.physical())?;
                let known = match (&self.partial.states.states[output.value], output.function) {
                    (State::Distinct(_), AggregateFunction::CountDistinct(_)) => true,
                    (State::Distinct(_) | State::ExtremeBytes { .. }, _) => false,
                    _ => true,
                };
                known.then_some(order)
            }
        }
    }

    fn counts(&self, by: By) -> Option<&[i64]> {
        let By::Aggregate(nth) = by else { return None };
        let output = self.global.program.outputs.get(nth)?;
        match output.function {
            AggregateFunction::CountStar | AggregateFunction::Count(_) | AggregateFunction::CountPairs(..) => {
                Some(self.partial.states.counts(output.count))
            }
            AggregateFunction::CountDistinct(_) => Some(&self.distinct[output.value]),
            _ => None,
        }
    }

    fn rank(&self, by: By, group: u32) -> Result<Option<i128>> {
        let Partial { plan, groups, states } = self.partial;
        match by {
            By::Key(nth) => {
                let mut all = Vec::new();
                groups.digits_of(&plan.keys, group, &mut all);
                let (digits, digit) = (&plan.keys.digits[nth], all[nth]);
                if digit == digits.null() {
                    return Ok(None);
                }
                if matches!(digits.source, Source::Unified(_)) {
                    return Ok(Some(i128::from(digit)));
                }
                let codes = matches!(digits.source, Source::Codes);
                if codes && self.view.columns[digits.column].kind == Kind::Codes {
                    return Ok(Some(i128::from(digit)));
                }
                Ok(of_value(&digits.value(digit, self.view, groups.interner(nth))?))
            }
            By::Aggregate(nth) => {
                let output = self.global.program.outputs[nth];
                let g = group as usize;
                let count = states.counts(output.count)[g];
                match output.function {
                    AggregateFunction::CountStar | AggregateFunction::Count(_) | AggregateFunction::CountPairs(..) => {
                        return Ok(Some(i128::from(count)));
                    }
                    AggregateFunction::CountDistinct(_) => {
                        return Ok(Some(i128::from(self.distinct[output.value][g])));
                    }
                    _ if count == 0 => return Ok(None),
                    _ => {}
                }
                if let Some(rank) = of_moments(states, &output, count, group)? {
                    return Ok(rank);
                }
                let count = matches!(output.function, AggregateFunction::Avg(_)).then_some(count);
                Ok(match &states.states[output.value] {
                    State::SumInt(sums) => {
                        let (sum, nan) = sums.get(g);
                        Some(of_sum(sum, nan, count)?)
                    }
                    State::SumWide { sums, nan } => Some(of_sum(sums[g], nan[g], count)?),
                    State::SumFloat(sums) => {
                        Some(i128::from(float_key(sums.get(group).finish()? / count.unwrap_or(1) as f64)))
                    }
                    State::Extreme { values, .. } if self.global.is_float(output.value) => {
                        Some(i128::from(without_sign_of_zero(values[g])))
                    }
                    State::Extreme { values, .. } | State::Bits { values, .. } => Some(i128::from(values[g])),
                    State::ExtremeWide { values, .. } => Some(values[g]),
                    _ => None,
                })
            }
        }
    }
}

/// All groups, merged.
pub(super) struct RankedGlobal<'a> {
    global: &'a Global,
    distinct: Vec<Vec<i64>>,
    /// One a key: whether it is the number of a bucket, which has no order.
    buckets: &'a [bool],
}

impl<'a> RankedGlobal<'a> {
    pub fn new(global: &'a Global, top: &Top, buckets: &'a [bool]) -> Result<Self> {
        let distinct = counted(&global.program, top, |primitive| {
            let counts = global.program.primitives[primitive].measure == Measure::Distinct;
            counts.then(|| global.distinct_counts(primitive)).transpose()
        })?;
        Ok(RankedGlobal { global, distinct, buckets })
    }
}

impl Ranked for RankedGlobal<'_> {
    fn order(&self, by: By) -> Option<Order> {
        let physical = |column: usize| self.global.columns[column].ty.physical();
        match by {
            By::Key(nth) if self.buckets.get(nth) == Some(&false) => {
                Some(order_of(self.global.key_values[nth].physical()))
            }
            By::Key(_) => None,
            By::Aggregate(nth) => {
                aggregate_order(self.global.program.outputs.get(nth)?, &self.global.program, physical)
            }
        }
    }

    fn counts(&self, by: By) -> Option<&[i64]> {
        let By::Aggregate(nth) = by else { return None };
        let output = self.global.program.outputs.get(nth)?;
        match (output.function, &self.global.states[output.count]) {
            (
                AggregateFunction::CountStar | AggregateFunction::Count(_) | AggregateFunction::CountPairs(..),
                counts,
            ) => {
                if let GlobalState::Count(counts) = counts {
                    Some(counts)
                } else {
                    None
                }
            }
            _ => None,
        }
    }

    fn rank(&self, by: By, group: u32) -> Result<Option<i128>> {
        let g = group as usize;
        match by {
            By::Key(nth) => {
                let mut key = Vec::new();
                self.global.key(group, &mut key);
                Ok(of_value(&key[nth]))
            }
            By::Aggregate(nth) => {
                let output = self.global.program.outputs[nth];
                let GlobalState::Count(counts) = &self.global.states[output.count] else { return Ok(None) };
                let count = counts[g];
                match output.function {
                    AggregateFunction::CountStar | AggregateFunction::Count(_) | AggregateFunction::CountPairs(..) => {
                        return Ok(Some(i128::from(count)));
                    }
                    AggregateFunction::CountDistinct(_) => {
                        let count = self.distinct[output.value].get(g).copied();
                        return Ok(Some(i128::from(count.unwrap_or(0))));
                    }
                    _ if count == 0 => return Ok(None),
                    _ => {}
                }
                if let Some(rank) = of_moments(&self.global.states, &output, count, group)? {
                    return Ok(rank);
                }
                let count = matches!(output.function, AggregateFunction::Avg(_)).then_some(count);
                Ok(match &self.global.states[output.value] {
                    GlobalState::Sum { sums, nan } => Some(of_sum(sums[g], nan[g], count)?),
                    GlobalState::SumFloat(sums) => {
                        Some(i128::from(float_key(sums.get(group).finish()? / count.unwrap_or(1) as f64)))
                    }
                    GlobalState::Int { values, .. } if self.global.is_float(output.value) => {
                        Some(i128::from(without_sign_of_zero(values[g])))
                    }
                    GlobalState::Int { values, .. } | GlobalState::Bits { values, .. } => Some(i128::from(values[g])),
                    GlobalState::Wide { values, .. } => Some(values[g]),
                    _ => None,
                })
            }
        }
    }
}
