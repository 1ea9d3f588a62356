//! The first groups in an order: which ones they are is seen from the states, so that only they become values.
//!
//! Terms are looked at one after the other, each among the groups that tie in those before it: a selection (C. A. R. Hoare, "Algorithm
//! 65: FIND", 1961) by the N-th group splits them into groups before it, ties and groups behind it. A term that ranks groups only
//! nearly (an average, a prefix of a byte string) is the last one: what might tie with the N-th group stays.

use super::columns::{Kind, SegmentView, float_key, float_of_key, without_sign_of_zero};
use super::digits::Source;
use super::global::{Global, Partial};
use super::global_state::GlobalState;
use super::moments::{self, Sums, out_of_range};
use super::primitives::{Measure, Output, Program};
use super::states::{State, reserve};
use crate::plan::{AggregateFunction, By, Host, Top};
use crate::types::{LogicalType, Physical, Value};
use crate::{Budget, Result};

/// How a rank follows the order of a term's values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Exact,
    /// The rank is the `float_key` of a value that is right to a few units in the last place.
    Near,
    /// Different values may have one rank.
    Prefix,
}

/// Groups whose outputs can be ranked before they are made into values.
pub(super) trait Ranked {
    /// `None`: what the term orders by can't be ranked.
    fn order(&self, by: By) -> Option<Order>;
    /// Ascending with the value; `None` for NULL.
    fn rank(&self, by: By, group: u32) -> Result<Option<i128>>;
    /// Of terms that order by a count: the ranks by group.
    fn counts(&self, by: By) -> Option<&[i64]> {
        let _ = by;
        None
    }
}

/// Groups handled between two polls.
const STEP: usize = 1 << 16;
/// Relative distance beyond which two averages surely differ, and in this order, also when PostgreSQL has rounded them to 16 digits.
const NEAR: f64 = 1e-12;

/// Those of `candidates` that are not surely behind the first `top.limit`.
pub(super) fn first(
    mut candidates: Vec<u32>,
    top: &Top,
    ranked: &dyn Ranked,
    budget: &Budget,
    host: &mut dyn Host,
) -> Result<Vec<u32>> {
    let mut need = top.limit;
    // Whether groups that are left tie in the whole order.
    let mut tie = top.complete;
    let mut chosen = Vec::new();
    let mut held = budget.reserve(0)?;
    for (nth, term) in top.terms.iter().enumerate() {
        let Some(order) = ranked.order(term.by).filter(|_| need < candidates.len()) else {
            tie = false;
            break;
        };
        let (mut ranks, mut nulls): (Vec<(i128, u32)>, Vec<u32>) = (Vec::new(), Vec::new());
        let last = |ranks: &mut [(i128, u32)]| ranks.select_nth_unstable_by_key(need - 1, |r| r.0).1.0;
        // Ranks beyond which those that are surely behind are let go.
        let mut most = need.saturating_mul(2).max(STEP / 4);
        // No later one need be looked at.
        let mut surely = i128::MAX;
        let counts = ranked.counts(term.by).filter(|_| order == Order::Exact);
        for chunk in candidates.chunks(STEP) {
            host.poll()?;
            if ranks.len() > most && need > 0 {
                let edge = last(&mut ranks);
                if tie && order == Order::Exact && nth + 1 == top.terms.len() {
                    ranks.truncate(need);
                    surely = edge - 1;
                } else {
                    let edge = if order == Order::Near { around(edge, term.descending).1 } else { edge };
                    ranks.retain(|r| r.0 <= edge);
                    surely = edge;
                }
                most = most.max(ranks.len() * 2);
            }
            if let Some(counts) = counts {
                let surely = surely.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
                let rank = |group: u32| if term.descending { !counts[group as usize] } else { counts[group as usize] };
                let near = || chunk.iter().filter(|group| rank(**group) <= surely);
                let all = ranks.len() + near().count();
                reserve(&mut ranks, all, &mut held)?;
                ranks.extend(near().map(|group| (i128::from(rank(*group)), *group)));
                continue;
            }
            let (all, none) = (ranks.len() + chunk.len(), nulls.len() + chunk.len());
            reserve(&mut ranks, all, &mut held)?;
            reserve(&mut nulls, none, &mut held)?;
            for &group in chunk {
                match ranked.rank(term.by, group)?.map(|rank| if term.descending { !rank } else { rank }) {
                    Some(rank) if rank > surely => {}
                    Some(rank) => ranks.push((rank, group)),
                    None => nulls.push(group),
                }
            }
        }
        if term.nulls_first {
            if need <= nulls.len() {
                candidates = nulls;
                continue;
            }
            need -= nulls.len();
            chosen.append(&mut nulls);
        } else if ranks.len() <= need {
            need -= ranks.len();
            chosen.extend(ranks.iter().map(|r| r.1));
            candidates = nulls;
            continue;
        }
        if need == 0 {
            candidates.clear();
            break;
        }
        let edge = ranks.select_nth_unstable_by_key(need - 1, |r| r.0).1.0;
        let (low, high) = if order == Order::Near { around(edge, term.descending) } else { (edge, edge) };
        candidates.clear();
        for &(rank, group) in &ranks {
            if rank < low {
                chosen.push(group);
                need -= 1;
            } else if rank <= high {
                candidates.push(group);
            }
        }
        if order != Order::Exact {
            tie = false;
            break;
        }
    }
    if need > 0 {
        if tie {
            candidates.truncate(need);
        }
        chosen.append(&mut candidates);
    }
    Ok(chosen)
}

/// The ranks that may stand for the value of rank `edge`.
fn around(edge: i128, descending: bool) -> (i128, i128) {
    let value = float_of_key(if descending { !edge } else { edge } as i64);
    if !value.is_finite() {
        return (edge, edge);
    }
    let margin = value.abs() * NEAR;
    let (low, high) = (i128::from(float_key(value - margin)), i128::from(float_key(value + margin)));
    if descending { (!high, !low) } else { (low, high) }
}

/// Rank of a value of a physical order.
fn of_value(value: &Value) -> Option<i128> {
    Some(match value {
        Value::Null => return None,
        Value::I64(v) => i128::from(*v),
        Value::I128(v) => *v,
        Value::F64(v) => i128::from(float_key(*v)),
        // The first 15 bytes, so that the sign stays free.
        Value::Bytes(bytes) => (0..15).fold(0, |rank, i| rank << 8 | i128::from(bytes.get(i).copied().unwrap_or(0))),
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

/// Errors: `OutOfRange` if a variance or a regression of one of the groups is. `counts`: of a count primitive.
pub(super) fn check_moments<'c>(
    program: &Program,
    sums: &dyn Sums,
    counts: impl Fn(usize) -> &'c [i64],
    groups: &[u32],
    host: &mut dyn Host,
) -> Result<()> {
    for output in program.outputs.iter().filter(|o| !moments::is_moderate(sums, o)) {
        let counts = counts(output.count);
        for groups in groups.chunks(STEP / 16) {
            host.poll()?;
            groups.iter().try_for_each(|g| moments::value(sums, output, counts[*g as usize], *g).map(drop))?;
        }
    }
    Ok(())
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
        let mut distinct = vec![Vec::new(); partial.states.states.len()];
        for term in &top.terms {
            let By::Aggregate(nth) = term.by else { continue };
            let Some(output) = global.program.outputs.get(nth) else { continue };
            if let State::Distinct(set) = &partial.states.states[output.value] {
                distinct[output.value] = set.counts(partial.states.counts(0).len(), global.budget())?;
            }
        }
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
        let mut distinct = vec![Vec::new(); global.states.len()];
        for term in &top.terms {
            let By::Aggregate(nth) = term.by else { continue };
            let Some(output) = global.program.outputs.get(nth) else { continue };
            if global.program.primitives[output.value].measure == Measure::Distinct {
                distinct[output.value] = global.distinct_counts(output.value)?;
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{NoHost, Term};

    /// Two columns of a group's number; the second has few values, and NULL.
    struct Numbers;

    impl Ranked for Numbers {
        fn order(&self, _: By) -> Option<Order> {
            Some(Order::Exact)
        }
        fn rank(&self, by: By, group: u32) -> Result<Option<i128>> {
            let mixed = i128::from(group.wrapping_mul(2_654_435_761));
            Ok(match by {
                By::Key(_) => Some(mixed),
                By::Aggregate(_) => Some(mixed % 5).filter(|v| *v != 3),
            })
        }
    }

    /// More groups than are held together: those that are surely behind are let go on the way.
    #[test]
    fn the_first_of_many_are_found() {
        let groups: Vec<u32> = (0..200_000).collect();
        for (descending, nulls_first) in [(false, true), (true, false)] {
            let few = Term { by: By::Aggregate(0), descending, nulls_first };
            let all = Term { by: By::Key(0), descending, nulls_first };
            for terms in [vec![few], vec![few, all], vec![all], vec![all, few]] {
                for (limit, complete) in [(0, true), (7, false), (1000, true), (70_000, true), (70_000, false)] {
                    let top = Top { terms: terms.clone(), limit, complete };
                    let budget = Budget::new(64 << 20);
                    let mut found = first(groups.clone(), &top, &Numbers, &budget, &mut NoHost).unwrap();
                    assert_eq!(budget.used(), 0);
                    let place = |group: &u32| -> Vec<(u8, i128)> {
                        let place = |term: &Term| match Numbers.rank(term.by, *group).unwrap() {
                            None => (if nulls_first { 0 } else { 2 }, 0),
                            Some(rank) => (1, if descending { -rank } else { rank }),
                        };
                        terms.iter().map(place).collect()
                    };
                    let mut sorted: Vec<_> = groups.iter().map(place).collect();
                    sorted.sort_unstable();
                    assert!(found.len() >= limit && (!complete || found.len() == limit), "{top:?}: {}", found.len());
                    found.sort_unstable();
                    assert!(found.windows(2).all(|pair| pair[0] != pair[1]));
                    let mut places: Vec<_> = found.iter().map(place).collect();
                    places.sort_unstable();
                    assert_eq!(places[..limit], sorted[..limit], "{top:?}");
                }
            }
        }
    }
}
