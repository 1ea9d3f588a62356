//! Accumulators of one segment and thread: columns of states, indexed by group number.

mod distinct;
mod merge;
mod sums;
mod widths;

pub(super) use distinct::DistinctSet;
pub(super) use sums::{IntSums, magnitude};
pub(super) use widths::Widths;

use super::bits::Selection;
use super::columns::{BlockScratch, Kind, SegmentView, float_key};
use super::digits::Digits;
use super::floats::{FloatSum, FloatSums};
use super::groups::{Target, each_row};
use super::kernels;
use super::like::value;
use super::moments::{Pairs, ProductSums, SquareSums, Sums, Wide};
use super::primitives::{Measure, Primitive};
use super::rowset::{RowSet, for_rows};
use crate::types::Value;
use crate::{Budget, Error, Reservation, Result};

/// Bytes from which on a vector grows by half.
const BY_HALF: usize = 1 << 20;

/// Makes room for `len` elements, at least doubling what is small. Errors: `Budget`.
#[inline]
pub(super) fn reserve<T>(vec: &mut Vec<T>, len: usize, memory: &mut Reservation) -> Result<()> {
    if len > vec.capacity() {
        let more = if vec.capacity() * size_of::<T>() < BY_HALF { vec.capacity().max(16) } else { vec.capacity() / 2 };
        let capacity = len.max(vec.capacity() + more);
        memory.grow((capacity - vec.capacity()) * size_of::<T>())?;
        vec.reserve_exact(capacity - vec.len());
    }
    Ok(())
}

/// What the threads of a segment share about one primitive.
pub(super) struct StatePlan {
    pub primitive: Primitive,
    /// The segment's blocks hold no NULL of the column: this count equals the count of rows at that index.
    pub alias: Option<usize>,
    /// For distinct values and host-ordered extremes.
    pub digits: Option<Digits>,
    /// For sums of floats and of their products.
    pub window: i32,
    /// Extremes of a dictionary's codes.
    pub by_code: bool,
}

impl StatePlan {
    /// About as many bytes as the state of a group takes at most, where groups are few enough to be numbered densely.
    pub fn width(&self, view: &SegmentView<'_>) -> usize {
        let Some(column) = self.primitive.column.filter(|_| self.alias.is_none()) else {
            return if self.alias.is_some() { 0 } else { size_of::<i64>() };
        };
        let of = &view.columns[column];
        match (self.primitive.measure, of.kind) {
            // Headers tell that stored integers hardly ever need wide sums.
            (Measure::Sum, Kind::I64) if !of.is_computed() => size_of::<i64>(),
            (Measure::Sum, Kind::F64) => size_of::<i128>() + 1,
            (Measure::Sum, _) => size_of::<(i64, i128)>() + 1,
            (Measure::Min | Measure::Max, Kind::I128 | Kind::Bytes) => size_of::<i128>(),
            (Measure::Squares | Measure::Products, _) => size_of::<Wide>() + size_of::<u64>(),
            _ => size_of::<i64>(),
        }
    }
}

pub(super) enum State {
    Alias(usize),
    Count(Vec<i64>),
    SumInt(IntSums),
    SumWide {
        sums: Vec<i128>,
        nan: Vec<bool>,
    },
    SumFloat(FloatSums),
    /// I64 values, `exact_key`s of F64 or codes.
    Extreme {
        values: Vec<i64>,
        max: bool,
    },
    ExtremeWide {
        values: Vec<i128>,
        max: bool,
    },
    ExtremeBytes {
        values: Vec<Option<Box<[u8]>>>,
        max: bool,
    },
    Squares(SquareSums),
    Products(ProductSums),
    Bits {
        values: Vec<i64>,
        op: BitOp,
    },
    Distinct(DistinctSet),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BitOp {
    And,
    Or,
    Xor,
}

impl BitOp {
    /// What leaves every value as it is.
    pub fn neutral(self) -> i64 {
        if self == BitOp::And { -1 } else { 0 }
    }

    #[inline(always)]
    pub fn of(self, a: i64, b: i64) -> i64 {
        match self {
            BitOp::And => a & b,
            BitOp::Or => a | b,
            BitOp::Xor => a ^ b,
        }
    }

    pub fn of_measure(measure: Measure) -> Option<BitOp> {
        match measure {
            Measure::BitAnd => Some(BitOp::And),
            Measure::BitOr => Some(BitOp::Or),
            Measure::BitXor => Some(BitOp::Xor),
            _ => None,
        }
    }
}

/// States of all primitives for one thread and segment.
pub(super) struct States {
    pub states: Vec<State>,
    groups: usize,
    memory: Reservation,
    spare: RowSet,
}

impl States {
    /// `slots`: the number of groups if it is known beforehand.
    pub fn new(plans: &[StatePlan], view: &SegmentView<'_>, slots: Option<usize>, budget: &Budget) -> Result<Self> {
        let states = plans.iter().map(|p| State::new(p, view, slots, budget)).collect::<Result<Vec<_>>>()?;
        let held = |state: &State| if let State::Distinct(set) = state { set.held() } else { 0 };
        let memory = budget.reserve(states.iter().map(held).sum())?;
        let mut states = States { states, groups: 0, memory, spare: RowSet::new() };
        if let Some(slots) = slots {
            states.ensure(slots)?;
        }
        Ok(states)
    }

    /// Whether there are sets of values, which stand in no order of their groups.
    pub fn has_sets(&self) -> bool {
        self.states.iter().any(|state| matches!(state, State::Distinct(_)))
    }

    /// Whether adding rows may need memory for more than new groups; adding the same rows twice changes nothing then.
    pub fn grows(&self, nth: usize) -> bool {
        matches!(self.states[nth], State::Distinct(_) | State::ExtremeBytes { .. })
    }

    /// Makes room for sums that need more than 64 bits, so that adding rows of the scratch's block needs no memory.
    pub fn ensure_update(
        &mut self,
        plans: &[StatePlan],
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
    ) -> Result<()> {
        for (state, plan) in self.states.iter_mut().zip(plans) {
            match (state, plan.primitive.column) {
                (State::SumInt(sums), Some(column)) => sums.ensure_update(column, view, scratch, &mut self.memory)?,
                (State::Squares(sums), _) => sums.ensure_wide(&mut self.memory)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes room for `groups` groups.
    pub fn ensure(&mut self, groups: usize) -> Result<()> {
        if groups <= self.groups {
            return Ok(());
        }
        self.groups = groups;
        let memory = &mut self.memory;
        for state in &mut self.states {
            match state {
                State::Alias(_) | State::Distinct(_) => {}
                State::Count(counts) => extend(counts, groups, 0, memory)?,
                State::SumInt(sums) => sums.ensure(groups, memory)?,
                State::SumWide { sums, nan } => {
                    extend(sums, groups, 0, memory)?;
                    extend(nan, groups, false, memory)?;
                }
                State::SumFloat(sums) => sums.ensure(groups)?,
                State::Extreme { values, max } => {
                    extend(values, groups, if *max { i64::MIN } else { i64::MAX }, memory)?;
                }
                State::ExtremeWide { values, max } => {
                    extend(values, groups, if *max { i128::MIN } else { i128::MAX }, memory)?;
                }
                State::ExtremeBytes { values, .. } => extend(values, groups, None, memory)?,
                State::Squares(sums) => sums.ensure(groups, memory)?,
                State::Products(sums) => sums.ensure(groups)?,
                State::Bits { values, op } => extend(values, groups, op.neutral(), memory)?,
            }
        }
        Ok(())
    }

    /// Takes a dictionary's values for those of all blocks together, with the first one. `false`: they have to be looked at block by block.
    pub fn add_dictionary(
        &mut self,
        nth: usize,
        plan: &StatePlan,
        view: &SegmentView<'_>,
        block: usize,
    ) -> Result<bool> {
        match (&mut self.states[nth], &plan.digits) {
            (State::Distinct(set), Some(digits)) => set.add_dictionary(digits, view, block == 0),
            _ => Ok(false),
        }
    }

    /// The counts of a count primitive.
    pub fn counts(&self, primitive: usize) -> &[i64] {
        match &self.states[primitive] {
            State::Count(counts) => counts,
            State::Alias(of) => match &self.states[*of] {
                State::Count(counts) => counts,
                _ => &[],
            },
            _ => &[],
        }
    }

    /// Adds the rows of `set`, all of the scratch's block.
    pub fn update(
        &mut self,
        nth: usize,
        plan: &StatePlan,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        set: &mut RowSet,
        target: Target<'_>,
    ) -> Result<()> {
        if set.selection.is_none() || matches!(self.states[nth], State::Alias(_)) {
            return Ok(());
        }
        if let (Target::One(group), Selection::All) = (target, &set.selection)
            && self.update_whole(nth, plan, view, scratch, group)?
        {
            return Ok(());
        }
        let Some(column) = plan.primitive.column else {
            if let State::Count(counts) = &mut self.states[nth] {
                count(counts, set, target);
            }
            return Ok(());
        };
        let columns = [Some(column), plan.primitive.other];
        for column in columns.into_iter().flatten() {
            scratch.compute(view, column, &set.selection)?;
        }
        let mut valid = None;
        for column in columns.into_iter().flatten() {
            if !scratch.is_null_free(view, column, &set.selection)? {
                let rows = valid.unwrap_or_else(|| set.selection.clone());
                valid = Some(rows.and(scratch.validity(view, column)?));
            }
        }
        let Some(valid) = valid else {
            return self.states[nth].update(plan, column, view, scratch, set, target, &mut self.memory);
        };
        let mut spare = std::mem::replace(&mut self.spare, RowSet::new());
        spare.set(valid, set.rows);
        let result = if spare.selection.is_none() {
            Ok(())
        } else {
            self.states[nth].update(plan, column, view, scratch, &mut spare, target, &mut self.memory)
        };
        self.spare = spare;
        result
    }

    /// Answers a whole block of one group from its header, if that is possible.
    fn update_whole(
        &mut self,
        nth: usize,
        plan: &StatePlan,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        group: u32,
    ) -> Result<bool> {
        let rows = scratch.rows();
        let g = group as usize;
        let Some(column) = plan.primitive.column else {
            if let State::Count(counts) = &mut self.states[nth] {
                counts[g] += rows as i64;
            }
            return Ok(true);
        };
        if view.columns[column].is_computed() {
            return Ok(false);
        }
        if let Some(other) = plan.primitive.other {
            if view.columns[other].is_computed() {
                return Ok(false);
            }
            match scratch.header(view, other)?.nulls as usize {
                0 => {}
                nulls => return Ok(nulls == rows),
            }
        }
        let header = scratch.header(view, column)?;
        let nulls = header.nulls as usize;
        if nulls == rows {
            return Ok(true);
        }
        let memory = &mut self.memory;
        Ok(match (&mut self.states[nth], &header.min, &header.max) {
            (State::Count(counts), ..) => {
                counts[g] += (rows - nulls) as i64;
                true
            }
            (State::SumInt(sums), ..) => match header.sum {
                Some(sum) => {
                    sums.add_block(g, sum, memory)?;
                    true
                }
                None => false,
            },
            (State::SumWide { sums, .. }, ..) => match header.sum {
                Some(sum) => {
                    sums[g] = add_wide(sums[g], sum)?;
                    true
                }
                None => false,
            },
            (State::Extreme { values, max }, Value::I64(low), Value::I64(high)) => {
                values[g] = if *max { values[g].max(*high) } else { values[g].min(*low) };
                true
            }
            // Of zeros a header knows one, whose sign need not be the others'.
            (State::Extreme { max, .. }, Value::F64(low), Value::F64(high))
                if *if *max { high } else { low } == 0.0 =>
            {
                false
            }
            (State::Extreme { values, max }, Value::F64(low), Value::F64(high)) => {
                values[g] = if *max { values[g].max(float_key(*high)) } else { values[g].min(float_key(*low)) };
                true
            }
            (State::ExtremeWide { values, max }, Value::I128(low), Value::I128(high)) => {
                values[g] = if *max { values[g].max(*high) } else { values[g].min(*low) };
                true
            }
            (State::ExtremeBytes { values, max }, Value::Bytes(low), Value::Bytes(high)) => {
                improve(&mut values[g], if *max { high } else { low }, *max, memory)?;
                true
            }
            _ => false,
        })
    }
}

impl Sums for States {
    fn float(&self, primitive: usize, group: u32) -> Option<FloatSum> {
        if let State::SumFloat(sums) = &self.states[primitive] { Some(sums.get(group)) } else { None }
    }

    fn products(&self, primitive: usize, group: u32) -> Option<Vec<(i32, Wide)>> {
        if let State::Products(sums) = &self.states[primitive] { Some(sums.get(group)) } else { None }
    }

    fn integer(&self, primitive: usize, group: u32) -> Option<(i128, bool)> {
        match &self.states[primitive] {
            State::SumInt(sums) => Some(sums.get(group as usize)),
            State::SumWide { sums, nan } => Some((sums[group as usize], nan[group as usize])),
            _ => None,
        }
    }

    fn squares(&self, primitive: usize, group: u32) -> Option<Wide> {
        if let State::Squares(sums) = &self.states[primitive] { Some(sums.get(group as usize)) } else { None }
    }

    fn is_moderate(&self, primitive: usize) -> bool {
        match &self.states[primitive] {
            State::SumFloat(sums) => sums.is_moderate(),
            State::Products(sums) => sums.is_moderate(),
            _ => true,
        }
    }
}

/// Bytes of new memory that are written between two looks at whether the query is to end: the system clears them first.
const STRETCH: usize = 4 << 20;

/// Grows `vec` to `len` elements, if it is shorter. Errors: `Budget`.
pub(crate) fn extend<T: Clone>(vec: &mut Vec<T>, len: usize, value: T, memory: &mut Reservation) -> Result<()> {
    if vec.capacity() == 0 {
        // Zeros come from the system when first touched: most groups of a sparse numbering never are.
        memory.grow(len * size_of::<T>())?;
        *vec = vec![value; len];
        return Ok(());
    }
    reserve(vec, len, memory)?;
    while vec.len() < len {
        memory.check()?;
        let step = (vec.len() + STRETCH / size_of::<T>()).min(len);
        vec.resize(step, value.clone());
    }
    Ok(())
}

fn add_wide(a: i128, b: i128) -> Result<i128> {
    a.checked_add(b).ok_or_else(|| Error::OutOfRange { what: "numeric".into() })
}

fn count(counts: &mut [i64], set: &mut RowSet, target: Target<'_>) {
    match target {
        Target::One(group) => counts[group as usize] += set.count() as i64,
        Target::Each(groups) => kernels::count_by_group(counts, &groups[..set.rows], set.list()),
    }
}

/// Replaces `best` if `value` is better. Errors: `Budget`.
pub(super) fn improve(best: &mut Option<Box<[u8]>>, value: &[u8], max: bool, memory: &mut Reservation) -> Result<()> {
    let better = match best {
        None => true,
        Some(old) if max => value > old,
        Some(old) => value < old,
    };
    if better {
        let held = best.as_ref().map_or(0, |b| b.len() + 16);
        if value.len() + 16 > held {
            memory.grow(value.len() + 16 - held)?;
        }
        *best = Some(value.into());
    }
    Ok(())
}

impl State {
    fn new(plan: &StatePlan, view: &SegmentView<'_>, slots: Option<usize>, budget: &Budget) -> Result<State> {
        if let Some(of) = plan.alias {
            return Ok(State::Alias(of));
        }
        let kind = plan.primitive.column.map(|c| match &view.columns[c] {
            // Most blocks' decimals are computed in 64 bits.
            of if of.is_computed() && of.kind == Kind::I128 && plan.primitive.measure == Measure::Sum => Kind::I64,
            of => of.kind,
        });
        Ok(match (plan.primitive.measure, kind) {
            (Measure::Count, _) => State::Count(Vec::new()),
            (Measure::Sum, Some(Kind::I64)) => State::SumInt(IntSums::default()),
            (Measure::Sum, Some(Kind::I128)) => State::SumWide { sums: Vec::new(), nan: Vec::new() },
            (Measure::Sum, Some(Kind::F64)) => State::SumFloat(FloatSums::new(plan.window, budget)?),
            (Measure::Min | Measure::Max, Some(kind)) => {
                let max = plan.primitive.measure == Measure::Max;
                match kind {
                    Kind::I128 => State::ExtremeWide { values: Vec::new(), max },
                    Kind::Bytes => State::ExtremeBytes { values: Vec::new(), max },
                    _ => State::Extreme { values: Vec::new(), max },
                }
            }
            (Measure::Squares | Measure::Products, Some(Kind::F64)) => {
                State::Products(ProductSums::new(plan.window, budget)?)
            }
            (Measure::Squares, Some(Kind::I64 | Kind::I128)) => State::Squares(SquareSums::default()),
            (measure, Some(Kind::I64)) if let Some(op) = BitOp::of_measure(measure) => {
                State::Bits { values: Vec::new(), op }
            }
            (Measure::Distinct | Measure::HostMin(_) | Measure::HostMax(_), Some(_)) => match &plan.digits {
                Some(digits) => State::Distinct(DistinctSet::new(digits, view, slots, budget)?),
                None => return Err(Error::invalid("a distinct set without digits")),
            },
            _ => return Err(Error::invalid("an aggregate that does not fit its column")),
        })
    }

    /// Adds the rows of `set`, none of them NULL.
    #[allow(clippy::too_many_arguments)]
    fn update(
        &mut self,
        plan: &StatePlan,
        column: usize,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        set: &mut RowSet,
        target: Target<'_>,
        memory: &mut Reservation,
    ) -> Result<()> {
        match self {
            State::Alias(_) => {}
            State::Count(counts) => count(counts, set, target),
            State::SumInt(sums) => sums.update(column, view, scratch, set, target, memory)?,
            State::SumWide { sums, nan } => {
                let numeric = view.columns[column].is_numeric();
                let values = scratch.wide(view, column)?;
                each_row(set, target, |g, i| match numeric {
                    true => sums::add_decimal(&mut sums[g], &mut nan[g], values[i]),
                    false => add_wide(sums[g], values[i]).map(|sum| sums[g] = sum),
                })?;
            }
            State::SumFloat(sums) => {
                let limit = match view.columns[column].is_computed() {
                    true => None,
                    false => sums::largest(scratch.header(view, column)?),
                };
                let values = scratch.floats(view, column)?;
                match target {
                    Target::One(g) => sums.add_rows(g, values, set, limit)?,
                    Target::Each(groups) => for_rows!(set, i, { sums.add(groups[i], values[i])? }),
                }
            }
            State::Extreme { values: best, max } => {
                if view.columns[column].kind == Kind::Codes {
                    let codes = scratch.codes(view, column)?;
                    return extremes(best, *max, |i| i64::from(codes[i]), set, target);
                }
                let values = match view.columns[column].kind {
                    Kind::F64 => scratch.exact_keys(view, column)?,
                    _ => scratch.ints(view, column)?,
                };
                if let (Target::One(g), Selection::Some(bits)) = (target, &set.selection) {
                    if let Some((low, high)) = kernels::min_max_selected(values, bits.words()) {
                        let best = &mut best[g as usize];
                        *best = if *max { high.max(*best) } else { low.min(*best) };
                    }
                    return Ok(());
                }
                extremes(best, *max, |i| values[i], set, target)?;
            }
            State::ExtremeWide { values: best, max } => {
                let values = scratch.wide(view, column)?;
                extremes(best, *max, |i| values[i], set, target)?;
            }
            State::ExtremeBytes { values: best, max } => {
                let values = scratch.bytes(view, column)?;
                each_row(set, target, |g, i| improve(&mut best[g], value(values, i), *max, memory))?;
            }
            State::Squares(sums) => sums.update(column, view, scratch, set, target, memory)?,
            State::Products(sums) => {
                let other = match plan.primitive.measure {
                    Measure::Products => plan.primitive.other.unwrap_or(column),
                    _ => column,
                };
                scratch.floats(view, column)?;
                scratch.floats(view, other)?;
                let mut limit = |column: usize| match view.columns[column].is_computed() {
                    true => Ok(None),
                    false => scratch.header(view, column).map(sums::largest),
                };
                let limits = limit(column)?.zip(limit(other)?);
                let pairs =
                    Pairs { left: scratch.decoded_floats(column), right: scratch.decoded_floats(other), limits };
                match target {
                    Target::One(g) => sums.add_rows(g, pairs, set)?,
                    Target::Each(groups) => sums.add_each(groups, pairs, set)?,
                }
            }
            State::Bits { values: bits, op } => {
                let (values, op) = (scratch.ints(view, column)?, *op);
                match target {
                    Target::One(g) => {
                        let mut all = bits[g as usize];
                        for_rows!(set, i, { all = op.of(all, values[i]) });
                        bits[g as usize] = all;
                    }
                    Target::Each(groups) => for_rows!(set, i, {
                        let slot = &mut bits[groups[i] as usize];
                        *slot = op.of(*slot, values[i]);
                    }),
                }
            }
            State::Distinct(distinct) => match &plan.digits {
                Some(digits) => distinct.update(digits, view, scratch, set, target)?,
                None => return Err(Error::invalid("a distinct set without digits")),
            },
        }
        Ok(())
    }
}

fn extremes<T: Copy + Ord>(
    best: &mut [T],
    max: bool,
    value: impl Fn(usize) -> T,
    set: &mut RowSet,
    target: Target<'_>,
) -> Result<()> {
    match (target, max) {
        (Target::One(g), true) => {
            let mut m = best[g as usize];
            for_rows!(set, i, { m = m.max(value(i)) });
            best[g as usize] = m;
        }
        (Target::One(g), false) => {
            let mut m = best[g as usize];
            for_rows!(set, i, { m = m.min(value(i)) });
            best[g as usize] = m;
        }
        (Target::Each(groups), true) => for_rows!(set, i, {
            let slot = &mut best[groups[i] as usize];
            *slot = (*slot).max(value(i));
        }),
        (Target::Each(groups), false) => for_rows!(set, i, {
            let slot = &mut best[groups[i] as usize];
            *slot = (*slot).min(value(i));
        }),
    }
    Ok(())
}
