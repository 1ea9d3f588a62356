//! Accumulators of one segment and thread: columns of states, indexed by group number.

use super::bits::Selection;
use super::columns::{BlockScratch, Kind, SegmentView, float_key};
use super::digits::{Digits, INTERNED};
use super::floats::FloatSums;
use super::groups::Target;
use super::hash::U64Map;
use super::kernels;
use super::like::value;
use super::primitives::{Measure, Primitive};
use super::rowset::{RowSet, for_rows};
use super::values::ValueMap;
use crate::segment::BlockHeader;
use crate::types::{LogicalType, Value};
use crate::{Budget, Error, Reservation, Result};

/// Makes room for `len` elements, at least doubling. Errors: `Budget`.
pub(super) fn reserve<T>(vec: &mut Vec<T>, len: usize, memory: &mut Reservation) -> Result<()> {
    if len > vec.capacity() {
        let capacity = len.max(vec.capacity() * 2);
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
    /// For float sums.
    pub window: i32,
    /// Extremes of a dictionary's codes.
    pub by_code: bool,
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
    /// I64 values, F64 keys or codes.
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
    Distinct(DistinctSet),
}

/// Exact sums of I64 values: in 64 bits while they are known to fit, then in 128.
pub(super) struct IntSums {
    small: Vec<i64>,
    large: Vec<i128>,
    /// No small sum is larger than this in magnitude.
    bound: u64,
    nan: Vec<bool>,
}

pub(super) struct DistinctSet {
    /// Bits, `cardinality` a group, while that is little.
    bits: Vec<u64>,
    cardinality: usize,
    /// (group << 32 | digit) otherwise; of a digit of more than 32 bits it alone: there is one group.
    pairs: Option<U64Map>,
    lone: bool,
    pub interner: Option<ValueMap>,
    /// Pairs of a block.
    batch: Vec<u64>,
}

/// Bits of a distinct set beyond which it is a hash table.
const DISTINCT_BITS: u64 = 1 << 27;

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
        let held = |state: &State| if let State::Distinct(set) = state { set.bits.len() * 8 } else { 0 };
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

    /// Makes room for sums of 128 bits, so that adding rows needs no memory.
    pub fn ensure_wide(&mut self) -> Result<()> {
        let groups = self.groups;
        for state in &mut self.states {
            if let State::SumInt(sums) = state {
                extend(&mut sums.large, groups, 0, &mut self.memory)?;
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
                State::SumInt(sums) => {
                    extend(&mut sums.small, groups, 0, memory)?;
                    if !sums.large.is_empty() {
                        extend(&mut sums.large, groups, 0, memory)?;
                    }
                    if !sums.nan.is_empty() {
                        extend(&mut sums.nan, groups, false, memory)?;
                    }
                }
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
            }
        }
        Ok(())
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
        scratch.compute(view, column, &set.selection)?;
        if scratch.is_null_free(view, column, &set.selection)? {
            return self.states[nth].update(plan, column, view, scratch, set, target, &mut self.memory);
        }
        let valid = scratch.validity(view, column)?;
        let mut spare = std::mem::replace(&mut self.spare, RowSet::new());
        spare.set(set.selection.clone().and(valid), set.rows);
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
                    sums.widen(self.groups, memory)?;
                    sums.large[g] = add_wide(sums.large[g], sum)?;
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
                let of = &view.columns[column];
                let value = if *max { *high } else { *low };
                // The header of an integer dictionary holds codes.
                let value = match of.kind {
                    Kind::IntCodes => of.int_values.get(value as usize).copied(),
                    _ => Some(value),
                };
                let value = value.ok_or_else(|| Error::corrupt("code past the end of a dictionary"))?;
                values[g] = if *max { values[g].max(value) } else { values[g].min(value) };
                true
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

/// Grows `vec` to `len` elements. Errors: `Budget`.
pub(super) fn extend<T: Clone>(vec: &mut Vec<T>, len: usize, value: T, memory: &mut Reservation) -> Result<()> {
    if vec.capacity() == 0 {
        // Zeros come from the system when first touched: most groups of a sparse numbering never are.
        memory.grow(len * size_of::<T>())?;
        *vec = vec![value; len];
        return Ok(());
    }
    reserve(vec, len, memory)?;
    vec.resize(len, value);
    Ok(())
}

fn add_wide(a: i128, b: i128) -> Result<i128> {
    a.checked_add(b).ok_or_else(|| Error::OutOfRange { what: "numeric".into() })
}

fn count(counts: &mut [i64], set: &mut RowSet, target: Target<'_>) {
    match target {
        Target::One(group) => counts[group as usize] += set.count() as i64,
        Target::Each(groups) if set.list().is_none() => {
            let (chunks, rest) = groups[..set.rows].as_chunks();
            for chunk in chunks {
                if kernels::is_uniform(chunk) {
                    counts[chunk[0] as usize] += kernels::TOGETHER as i64;
                } else {
                    chunk.iter().for_each(|g| counts[*g as usize] += 1);
                }
            }
            rest.iter().for_each(|g| counts[*g as usize] += 1);
        }
        Target::Each(groups) => for_rows!(set, i, { counts[groups[i] as usize] += 1 }),
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
            (Measure::Sum, Some(Kind::I64 | Kind::IntCodes)) => {
                State::SumInt(IntSums { small: Vec::new(), large: Vec::new(), bound: 0, nan: Vec::new() })
            }
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
                let mut add = |g: usize, v: i128| -> Result<()> {
                    if numeric && v == LogicalType::NUMERIC_NAN_I128 {
                        nan[g] = true;
                    } else {
                        sums[g] = add_wide(sums[g], v)?;
                    }
                    Ok(())
                };
                match target {
                    Target::One(g) => for_rows!(set, i, { add(g as usize, values[i])? }),
                    Target::Each(groups) => for_rows!(set, i, { add(groups[i] as usize, values[i])? }),
                }
            }
            State::SumFloat(sums) => {
                let values = scratch.floats(view, column)?;
                match target {
                    Target::One(g) => for_rows!(set, i, { sums.add(g, values[i])? }),
                    Target::Each(groups) => for_rows!(set, i, { sums.add(groups[i], values[i])? }),
                }
            }
            State::Extreme { values: best, max } => {
                if view.columns[column].kind == Kind::Codes {
                    let codes = scratch.codes(view, column)?;
                    return extremes(best, *max, |i| i64::from(codes[i]), set, target);
                }
                let values = match view.columns[column].kind {
                    Kind::F64 => scratch.float_keys(view, column)?,
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
                match target {
                    Target::One(g) => {
                        for_rows!(set, i, { improve(&mut best[g as usize], value(values, i), *max, memory)? })
                    }
                    Target::Each(groups) => {
                        for_rows!(set, i, { improve(&mut best[groups[i] as usize], value(values, i), *max, memory)? })
                    }
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

/// The largest magnitude of a block's values, by its header; `None`: unknown, or a NaN is among them.
fn magnitude(header: &BlockHeader, of: &super::columns::SegmentColumn<'_>) -> Option<u64> {
    let (Value::I64(min), Value::I64(max)) = (&header.min, &header.max) else { return None };
    let (min, max) = match of.kind {
        Kind::IntCodes => (*of.int_values.get(*min as usize)?, *of.int_values.get(*max as usize)?),
        _ => (*min, *max),
    };
    let nan = of.is_numeric() && max == LogicalType::NUMERIC_NAN_I64;
    (!nan).then_some(min.unsigned_abs().max(max.unsigned_abs()))
}

impl IntSums {
    /// Moves the small sums to the large ones, so that anything fits.
    fn widen(&mut self, groups: usize, memory: &mut Reservation) -> Result<()> {
        extend(&mut self.large, groups, 0, memory)?;
        if self.bound > 0 {
            for (large, small) in self.large.iter_mut().zip(&mut self.small) {
                *large += i128::from(std::mem::take(small));
            }
            self.bound = 0;
        }
        Ok(())
    }

    fn update(
        &mut self,
        column: usize,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        set: &mut RowSet,
        target: Target<'_>,
        memory: &mut Reservation,
    ) -> Result<()> {
        let rows = set.rows as u64;
        let of = &view.columns[column];
        let groups = self.small.len();
        let magnitude = if of.is_computed() {
            let (limits, _) = scratch.limits(column);
            limits.and_then(|(low, high)| u64::try_from(low.unsigned_abs().max(high.unsigned_abs())).ok())
        } else {
            magnitude(scratch.header(view, column)?, of)
        };
        let total = magnitude.and_then(|m| m.checked_mul(rows)).filter(|total| *total <= i64::MAX as u64);
        if of.kind == Kind::I128 && !scratch.is_narrow(column) {
            return self.update_wide(scratch.wide(view, column)?, set, target, memory);
        }
        let values = scratch.ints(view, column)?;
        let Some(total) = total else {
            self.widen(groups, memory)?;
            let numeric = of.is_numeric() && !of.is_computed();
            if numeric {
                extend(&mut self.nan, groups, false, memory)?;
            }
            let (large, nan) = (&mut self.large, &mut self.nan);
            let mut add = |g: usize, v: i64| {
                if numeric && v == LogicalType::NUMERIC_NAN_I64 {
                    nan[g] = true;
                } else {
                    large[g] += i128::from(v);
                }
            };
            match target {
                Target::One(g) => for_rows!(set, i, { add(g as usize, values[i]) }),
                Target::Each(g) => for_rows!(set, i, { add(g[i] as usize, values[i]) }),
            }
            return Ok(());
        };
        match target {
            Target::One(group) => {
                let sum = match &set.selection {
                    Selection::All => kernels::sum_all(values),
                    Selection::Some(bits) => kernels::sum_selected(values, bits.words()),
                    Selection::None => 0,
                };
                self.widen(groups, memory)?;
                self.large[group as usize] += i128::from(sum);
            }
            Target::Each(groups_of) => {
                if self.bound.checked_add(total).is_none_or(|b| b > i64::MAX as u64) {
                    self.widen(groups, memory)?;
                }
                self.bound += total;
                let small = self.small.as_mut_slice();
                if set.list().is_none() {
                    let (groups, rest) = groups_of[..set.rows].as_chunks::<{ kernels::TOGETHER }>();
                    let (chunks, last) = values[..set.rows].as_chunks::<{ kernels::TOGETHER }>();
                    for (groups, values) in groups.iter().zip(chunks) {
                        if kernels::is_uniform(groups) {
                            let slot = &mut small[groups[0] as usize];
                            *slot = values.iter().fold(*slot, |sum, v| sum.wrapping_add(*v));
                        } else {
                            for (g, v) in groups.iter().zip(values) {
                                let slot = &mut small[*g as usize];
                                *slot = slot.wrapping_add(*v);
                            }
                        }
                    }
                    for (g, v) in rest.iter().zip(last) {
                        let slot = &mut small[*g as usize];
                        *slot = slot.wrapping_add(*v);
                    }
                    return Ok(());
                }
                for_rows!(set, i, {
                    let slot = &mut small[groups_of[i] as usize];
                    *slot = slot.wrapping_add(values[i]);
                });
            }
        }
        Ok(())
    }

    /// Adds decimals that do not fit 64 bits.
    fn update_wide(
        &mut self,
        values: &[i128],
        set: &mut RowSet,
        target: Target<'_>,
        memory: &mut Reservation,
    ) -> Result<()> {
        let groups = self.small.len();
        self.widen(groups, memory)?;
        extend(&mut self.nan, groups, false, memory)?;
        let (large, nan) = (&mut self.large, &mut self.nan);
        let mut add = |g: usize, v: i128| -> Result<()> {
            if v == LogicalType::NUMERIC_NAN_I128 {
                nan[g] = true;
            } else {
                large[g] = add_wide(large[g], v)?;
            }
            Ok(())
        };
        match target {
            Target::One(g) => for_rows!(set, i, { add(g as usize, values[i])? }),
            Target::Each(g) => for_rows!(set, i, { add(g[i] as usize, values[i])? }),
        }
        Ok(())
    }

    /// The sum of a group, and whether a NaN is in it.
    pub fn get(&self, group: usize) -> (i128, bool) {
        let large = self.large.get(group).copied().unwrap_or(0);
        (large + i128::from(self.small[group]), self.nan.get(group).copied().unwrap_or(false))
    }
}

impl DistinctSet {
    fn new(digits: &Digits, view: &SegmentView<'_>, slots: Option<usize>, budget: &Budget) -> Result<Self> {
        let interner = digits.interner(view, budget)?;
        let dense = slots.and_then(|slots| (slots as u64).checked_mul(digits.cardinality));
        let dense = dense.filter(|bits| *bits <= DISTINCT_BITS && digits.cardinality < INTERNED);
        let cardinality = digits.cardinality as usize;
        let lone = digits.cardinality > INTERNED;
        let (bits, batch) = (Vec::new(), Vec::new());
        let mut set = DistinctSet { bits, cardinality, pairs: None, lone, interner, batch };
        match dense {
            Some(bits) => set.bits = vec![0; (bits / 64) as usize + 1],
            None => set.pairs = Some(U64Map::new(budget)?),
        }
        Ok(set)
    }

    fn update(
        &mut self,
        digits: &Digits,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        set: &mut RowSet,
        target: Target<'_>,
    ) -> Result<()> {
        let DistinctSet { bits, cardinality, pairs, interner, lone, batch } = self;
        let Some(pairs) = pairs else {
            let group = |i: usize| match target {
                Target::One(g) => g as usize,
                Target::Each(groups) => groups[i] as usize,
            };
            return digits.each(view, scratch, interner.as_mut(), set, |i, digit| {
                let at = group(i) * *cardinality + digit as usize;
                bits[at / 64] |= 1 << (at % 64);
            });
        };
        batch.clear();
        match target {
            Target::One(_) if *lone => digits.each(view, scratch, interner.as_mut(), set, |_, digit| batch.push(digit)),
            Target::One(g) => digits.each(view, scratch, interner.as_mut(), set, |_, digit| {
                batch.push(u64::from(g) << 32 | digit);
            }),
            Target::Each(groups) => digits.each(view, scratch, interner.as_mut(), set, |i, digit| {
                batch.push(u64::from(groups[i]) << 32 | digit);
            }),
        }?;
        pairs.numbers(batch.iter().copied(), |_| {})
    }

    /// Adds another thread's set, whose group `g` is `to[g]` here.
    fn merge(&mut self, from: &DistinctSet, to: &[u32]) -> Result<()> {
        let digits = match (&mut self.interner, &from.interner) {
            (Some(map), Some(other)) => Some(map.merge(other)?),
            _ => None,
        };
        let Some(pairs) = &mut self.pairs else {
            // Dense groups have the same numbers.
            self.bits.iter_mut().zip(&from.bits).for_each(|(a, b)| *a |= b);
            return Ok(());
        };
        if self.lone {
            let from = from.pairs.as_ref().map_or(&[][..], U64Map::keys);
            return pairs.numbers(from.iter().copied(), |_| {});
        }
        let moved = |group: u32, digit: u64| {
            let digit = digits.as_ref().map_or(digit, |numbers| u64::from(numbers[digit as usize]));
            u64::from(to[group as usize]) << 32 | digit
        };
        let from = from.pairs.as_ref().map_or(&[][..], U64Map::keys);
        pairs.numbers(from.iter().map(|key| moved((key >> 32) as u32, key & 0xffff_ffff)), |_| {})
    }

    /// Calls `f(group, digit)` for every member.
    pub fn each(&self, mut f: impl FnMut(u32, u64) -> Result<()>) -> Result<()> {
        match &self.pairs {
            Some(pairs) if self.lone => pairs.keys().iter().try_for_each(|digit| f(0, *digit)),
            Some(pairs) => pairs.keys().iter().try_for_each(|key| f((key >> 32) as u32, key & 0xffff_ffff)),
            None => {
                for (i, &word) in self.bits.iter().enumerate() {
                    let mut w = word;
                    while w != 0 {
                        let at = i * 64 + w.trailing_zeros() as usize;
                        f((at / self.cardinality) as u32, (at % self.cardinality) as u64)?;
                        w &= w - 1;
                    }
                }
                Ok(())
            }
        }
    }
}

impl States {
    /// Whether states of two threads can be added group by group.
    pub fn combinable(&self, other: &States) -> bool {
        self.groups == other.groups
            && self.states.iter().all(|state| match state {
                State::Distinct(set) => set.pairs.is_none() && set.interner.is_none(),
                State::ExtremeBytes { .. } => false,
                _ => true,
            })
    }

    /// Adds the states of another thread, whose group `g` is `to[g]` here; room for these groups was made.
    pub fn merge(&mut self, other: &States, to: &[u32]) -> Result<()> {
        let (groups, memory) = (self.groups, &mut self.memory);
        for (state, from) in self.states.iter_mut().zip(&other.states) {
            match (state, from) {
                (State::Alias(_), State::Alias(_)) => {}
                (State::Count(all), State::Count(from)) => {
                    to.iter().zip(from).for_each(|(t, n)| all[*t as usize] += n);
                }
                (State::SumInt(sums), State::SumInt(from)) => {
                    sums.widen(groups, memory)?;
                    if !from.nan.is_empty() {
                        extend(&mut sums.nan, groups, false, memory)?;
                    }
                    for (g, t) in to.iter().enumerate() {
                        let (sum, nan) = from.get(g);
                        let slot = &mut sums.large[*t as usize];
                        *slot = add_wide(*slot, sum)?;
                        if nan {
                            sums.nan[*t as usize] = true;
                        }
                    }
                }
                (State::SumWide { sums, nan }, State::SumWide { sums: from, nan: from_nan }) => {
                    for ((t, sum), is_nan) in to.iter().zip(from).zip(from_nan) {
                        let slot = &mut sums[*t as usize];
                        *slot = add_wide(*slot, *sum)?;
                        nan[*t as usize] |= is_nan;
                    }
                }
                (State::SumFloat(sums), State::SumFloat(from)) => {
                    for (g, t) in to.iter().enumerate() {
                        sums.merge(*t, &from.get(g as u32))?;
                    }
                }
                (State::Extreme { values, max }, State::Extreme { values: from, .. }) => {
                    for (t, v) in to.iter().zip(from) {
                        let slot = &mut values[*t as usize];
                        *slot = if *max { *v.max(slot) } else { *v.min(slot) };
                    }
                }
                (State::ExtremeWide { values, max }, State::ExtremeWide { values: from, .. }) => {
                    for (t, v) in to.iter().zip(from) {
                        let slot = &mut values[*t as usize];
                        *slot = if *max { *v.max(slot) } else { *v.min(slot) };
                    }
                }
                (State::ExtremeBytes { values, max }, State::ExtremeBytes { values: from, .. }) => {
                    for (t, v) in to.iter().zip(from) {
                        if let Some(v) = v {
                            improve(&mut values[*t as usize], v, *max, memory)?;
                        }
                    }
                }
                (State::Distinct(set), State::Distinct(from)) => set.merge(from, to)?,
                _ => return Err(Error::invalid("states of two kinds for one aggregate")),
            }
        }
        Ok(())
    }

    /// Adds the states of another thread, which are [`States::combinable`].
    pub fn combine(&mut self, other: &mut States) -> Result<()> {
        let (groups, memory) = (self.groups, &mut self.memory);
        for (state, from) in self.states.iter_mut().zip(&mut other.states) {
            match (state, from) {
                (State::Alias(_), State::Alias(_)) => {}
                (State::Count(a), State::Count(b)) => a.iter_mut().zip(b).for_each(|(a, b)| *a += *b),
                (State::SumInt(a), State::SumInt(b)) => {
                    a.widen(groups, memory)?;
                    for (g, slot) in a.large.iter_mut().enumerate() {
                        *slot = add_wide(*slot, b.get(g).0)?;
                    }
                    if !b.nan.is_empty() {
                        extend(&mut a.nan, groups, false, memory)?;
                        a.nan.iter_mut().zip(&b.nan).for_each(|(a, b)| *a |= b);
                    }
                }
                (State::SumWide { sums, nan }, State::SumWide { sums: from, nan: from_nan }) => {
                    for (slot, sum) in sums.iter_mut().zip(from) {
                        *slot = add_wide(*slot, *sum)?;
                    }
                    nan.iter_mut().zip(from_nan).for_each(|(a, b)| *a |= *b);
                }
                (State::SumFloat(a), State::SumFloat(b)) => {
                    for g in 0..groups as u32 {
                        a.merge(g, &b.get(g))?;
                    }
                }
                (State::Extreme { values, max }, State::Extreme { values: from, .. }) => {
                    values.iter_mut().zip(from).for_each(|(a, b)| *a = if *max { *b.max(a) } else { *b.min(a) });
                }
                (State::ExtremeWide { values, max }, State::ExtremeWide { values: from, .. }) => {
                    values.iter_mut().zip(from).for_each(|(a, b)| *a = if *max { *b.max(a) } else { *b.min(a) });
                }
                (State::Distinct(a), State::Distinct(b)) => a.bits.iter_mut().zip(&b.bits).for_each(|(a, b)| *a |= b),
                _ => return Err(Error::invalid("states of two kinds for one aggregate")),
            }
        }
        Ok(())
    }
}
