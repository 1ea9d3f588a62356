//! Groups of all segments: keys as numbers of distinct values, states by group. Lives on the calling thread.

use std::sync::Arc;

use super::columns::{Computed, SegmentView};
use super::digits::{Digits, Source};
use super::global_state::{GlobalState, improve_by};
use super::groups::{Groups, KeyPlan};
use super::hash::U64Map;
use super::moments::out_of_range;
use super::primitives::{Measure, Primitive, Program};
use super::ranked::RankedPartial;
use super::spill::Spilled;
use super::states::{State, StatePlan, States, improve};
use super::top;
use super::translation::{Translation, ValueReader};
use super::values::ValueMap;
use super::{PASSING, numbers_where};
use crate::plan::{AggregateQuery, ColumnRef, Host, Key, Top};
use crate::segment::Segment;
use crate::types::{Physical, Value};
use crate::{Budget, Error, Reservation, Result};

/// How the rows of one segment are grouped and aggregated; shared by its threads.
pub(super) struct SegmentPlan {
    pub keys: KeyPlan,
    pub states: Vec<StatePlan>,
    /// Columns that must be computable, with the numbers of FILTERs whose rows count.
    pub checks: Vec<(usize, usize)>,
}

impl SegmentPlan {
    /// Whether numbers of groups and states mean the same in every segment (whose columns are of the same kinds).
    pub fn is_universal(&self) -> bool {
        let digits = |d: &Digits| !matches!(d.source, Source::Codes);
        self.keys.digits.iter().all(digits)
            && self.states.iter().all(|s| !s.by_code && s.digits.as_ref().is_none_or(digits))
    }
}

/// What one thread made of one segment, or of several that are grouped alike.
pub(super) struct Partial {
    pub plan: Arc<SegmentPlan>,
    pub groups: Groups,
    pub states: States,
}

pub(super) struct Global {
    pub program: Arc<Program>,
    pub columns: Vec<ColumnRef>,
    pub key_values: Vec<ValueMap>,
    /// One a key but the first: (number so far << 32 | number of the key's value) -> number of the combination.
    pub folds: Vec<U64Map>,
    pub states: Vec<GlobalState>,
    pub memory: Reservation,
    budget: Budget,
    /// The only partial so far: if no other comes, its groups need no hash table.
    pub lone: Option<(Arc<Segment>, Computed, Partial)>,
    /// The first groups, once they were found: of the only partial if there is one, else of all.
    pub chosen: Option<(Vec<u32>, Reservation)>,
    keys: Vec<Physical>,
    /// Windows of float sums.
    windows: Vec<i32>,
    /// For groups that memory does not hold.
    pub spilled: Option<Spilled>,
}

/// Groups handled between two polls.
const STEP: usize = 8192;

impl Global {
    pub fn new(query: &AggregateQuery, program: Arc<Program>, windows: &[i32], budget: &Budget) -> Result<Self> {
        let physical = |key: &Key| match key {
            Key::Column(c) | Key::Exact(c) => query.columns[*c].ty.physical(),
            Key::Buckets { .. } => Physical::I64,
        };
        let keys = query.keys.iter().map(physical).collect();
        Self::of(keys, query.columns.clone(), program, windows, budget)
    }

    fn of(
        keys: Vec<Physical>,
        columns: Vec<ColumnRef>,
        program: Arc<Program>,
        windows: &[i32],
        budget: &Budget,
    ) -> Result<Self> {
        let key_values = keys.iter().map(|k| ValueMap::new(*k, budget)).collect::<Result<Vec<_>>>()?;
        let folds = keys.iter().skip(1).map(|_| U64Map::new(budget)).collect::<Result<Vec<_>>>()?;
        let states = program
            .primitives
            .iter()
            .zip(windows)
            .map(|(p, window)| GlobalState::new(p, &columns, *window, budget))
            .collect::<Result<Vec<_>>>()?;
        let mut global = Global {
            program,
            columns,
            key_values,
            folds,
            states,
            memory: budget.reserve(0)?,
            budget: budget.clone(),
            lone: None,
            chosen: None,
            keys,
            windows: windows.to_vec(),
            spilled: None,
        };
        let groups = global.groups();
        global.ensure(groups)?;
        Ok(global)
    }

    /// Another of the same query, without groups.
    pub fn like(&self, budget: &Budget) -> Result<Global> {
        Self::of(self.keys.clone(), self.columns.clone(), self.program.clone(), &self.windows, budget)
    }

    /// Forgets all groups.
    pub fn clear(&mut self) -> Result<()> {
        let (spilled, lone) = (self.spilled.take(), self.lone.take());
        // What is there goes first: there may be no room for both.
        self.key_values.clear();
        self.folds.clear();
        let states = std::mem::take(&mut self.states);
        drop(states);
        self.memory.resize(0)?;
        let fresh = Self::of(
            self.keys.clone(),
            std::mem::take(&mut self.columns),
            self.program.clone(),
            &std::mem::take(&mut self.windows),
            &self.budget.clone(),
        )?;
        *self = Global { spilled, lone, ..fresh };
        Ok(())
    }

    /// Sets memory aside for the file, before rows are added. Where that is too short, there is none, as long as nothing was spilled.
    pub fn wake(&mut self) -> Result<()> {
        match self.spilled.as_mut().map(Spilled::wake) {
            Some(Err(_)) if !self.has_spilled() => self.spilled = None,
            Some(result) => result?,
            None => {}
        }
        Ok(())
    }

    /// Groups in use; some may have no rows.
    pub fn groups(&self) -> usize {
        match (self.folds.last(), self.key_values.first()) {
            (Some(fold), _) => fold.len(),
            (None, Some(values)) => values.len(),
            (None, None) => 1,
        }
    }

    /// Whether a primitive is of floats.
    pub fn is_float(&self, primitive: usize) -> bool {
        self.program.primitives[primitive].column.is_some_and(|c| self.columns[c].ty.physical() == Physical::F64)
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    pub fn ensure(&mut self, groups: usize) -> Result<()> {
        for state in &mut self.states {
            state.ensure(groups, &mut self.memory)?;
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        matches!(&self.states[0], GlobalState::Count(counts) if counts.iter().all(|c| *c == 0))
    }

    pub fn has_groups(&self) -> bool {
        self.lone.is_some() || !self.is_empty()
    }

    /// Takes a partial over. `view` is of its segment.
    pub fn add(
        &mut self,
        segment: &Arc<Segment>,
        view: &SegmentView<'_>,
        partial: Partial,
        host: &mut dyn Host,
    ) -> Result<()> {
        if self.spilled.is_some()
            && (self.has_spilled() || (self.has_groups() && self.budget.used() > self.budget.limit() / 2))
        {
            return self.spill(view, partial, host).map(drop);
        }
        match self.lone.take() {
            None if self.is_empty() => {
                self.lone = Some((segment.clone(), view.computed(), partial));
                return Ok(());
            }
            None => {}
            Some((lone_segment, computed, mut lone)) => {
                if Arc::ptr_eq(&lone.plan, &partial.plan) {
                    lone.combine(&partial, host)?;
                    self.lone = Some((lone_segment, computed, lone));
                    return Ok(());
                }
                let lone_view = SegmentView::with(&lone_segment, &self.columns, &computed)?;
                let live = lone.live(&self.budget)?;
                self.absorb(&lone_view, &lone, live, true, host)?;
            }
        }
        let live = partial.live(&self.budget)?;
        self.absorb(view, &partial, live, true, host)
    }

    /// Merges what is still apart. Without `more` to come, groups need not be findable. Errors: `Budget`; with a file nothing is lost then.
    pub fn settle(&mut self, more: bool, top: Option<&Top>, host: &mut dyn Host) -> Result<()> {
        if let Some((segment, computed, lone)) = self.lone.take() {
            let view = SegmentView::with(&segment, &self.columns, &computed)?;
            let live = match (self.chosen.take(), top) {
                (Some((chosen, _)), _) => chosen,
                (None, Some(top)) => self.first_of(&lone, &view, top, host)?,
                (None, None) => lone.live(&self.budget)?,
            };
            let absorbed = self.absorb(&view, &lone, live, more, host);
            if let (Err(Error::Budget { .. }), Some(_)) = (&absorbed, &self.spilled) {
                self.clear()?;
                self.lone = Some((segment, computed, lone));
            }
            absorbed?;
        }
        Ok(())
    }

    /// The groups of the only partial that are not surely behind the first.
    fn first_of(&self, lone: &Partial, view: &SegmentView<'_>, top: &Top, host: &mut dyn Host) -> Result<Vec<u32>> {
        let _held = self.budget.reserve(lone.states.counts(0).len() * size_of::<u32>())?;
        let live = lone.live(&self.budget)?;
        for state in &lone.states.states {
            if let State::SumFloat(sums) = state {
                sums.check(&live)?;
            }
        }
        top::check_moments(&self.program, &lone.states, |p| lone.states.counts(p), &live, host)?;
        top::first(live, top, &RankedPartial::new(self, view, lone, top)?, &self.budget, host)
    }

    /// Finds the first groups, so that one knows for how many there must be room. Errors: `Budget`; those of values that are out of range.
    pub fn choose(&mut self, top: &Top, buckets: &[bool], host: &mut dyn Host) -> Result<()> {
        let chosen = match &self.lone {
            Some((segment, computed, lone)) => {
                let view = SegmentView::with(segment, &self.columns, computed)?;
                self.first_of(lone, &view, top, host)?
            }
            None => self.first(top, buckets, host)?,
        };
        let memory = self.budget.reserve(chosen.len() * size_of::<u32>())?;
        self.chosen = Some((chosen, memory));
        Ok(())
    }

    /// Merges the groups `live` of a partial.
    pub fn absorb(
        &mut self,
        view: &SegmentView<'_>,
        partial: &Partial,
        live: Vec<u32>,
        hashed: bool,
        host: &mut dyn Host,
    ) -> Result<()> {
        let Partial { plan, groups, states } = partial;
        let held = self.budget.reserve(live.len() * 8)?;
        let to = self.number(view, plan, groups, &live, hashed, host)?;
        self.ensure(self.groups())?;
        for (nth, state) in states.states.iter().enumerate() {
            host.poll()?;
            if !matches!(state, State::Distinct(_)) {
                for (live, to) in live.chunks(PASSING).zip(to.chunks(PASSING)) {
                    host.poll()?;
                    self.absorb_states(nth, view, states, live, to)?;
                }
                continue;
            }
            let digits = plan.states[nth].digits.as_ref();
            let memory = &mut self.memory;
            match (&mut self.states[nth], state) {
                (GlobalState::Bytes { values, max, order: Some(order) }, State::Distinct(set)) => {
                    let digits = digits.ok_or_else(mismatch)?;
                    let place = places(&live, &to, states.counts(0).len());
                    let mut reader = ValueReader::new(view, digits, set.interner.as_ref());
                    let mut step = 0;
                    set.each(|group, digit| {
                        step += 1;
                        if step % 256 == 0 {
                            host.poll()?;
                        }
                        let Some(slot) = values.get_mut(place[group as usize] as usize) else { return Ok(()) };
                        let Value::Bytes(candidate) = reader.value(digit)? else { return Ok(()) };
                        improve_by(slot, &candidate, *order, *max, memory, host)
                    })?;
                }
                (state @ GlobalState::Distinct { .. }, State::Distinct(set)) if !hashed => {
                    let local = set.counts(states.counts(0).len(), &self.budget)?;
                    let mut all = vec![0; to.iter().map(|t| *t as usize + 1).max().unwrap_or(1)];
                    live.iter().zip(&to).for_each(|(g, t)| all[*t as usize] = local[*g as usize]);
                    *state = GlobalState::DistinctCounts(all);
                }
                (GlobalState::Distinct { values, pairs }, State::Distinct(set)) => {
                    let digits = digits.ok_or_else(mismatch)?;
                    let place = places(&live, &to, states.counts(0).len());
                    let mut reader = ValueReader::new(view, digits, set.interner.as_ref());
                    let mut known = Translation::new(digits, &self.budget)?;
                    let mut step = 0;
                    set.each(|group, digit| {
                        step += 1;
                        if step % STEP == 0 {
                            host.poll()?;
                        }
                        let group = place[group as usize];
                        if group == u32::MAX {
                            return Ok(());
                        }
                        let id = known.get(digit, || values.of_value(&reader.value(digit)?))?;
                        pairs.number(u64::from(group) << 32 | u64::from(id)).map(drop)
                    })?;
                }
                _ => return Err(mismatch()),
            }
        }
        drop(held);
        Ok(())
    }

    /// Takes the states of the groups `live` of a partial without sets of values, which are `to` here and have no keys.
    pub fn take_states(
        &mut self,
        view: &SegmentView<'_>,
        partial: &Partial,
        live: &[u32],
        to: &[u32],
        host: &mut dyn Host,
    ) -> Result<()> {
        self.ensure(live.len())?;
        for nth in 0..self.states.len() {
            host.poll()?;
            self.absorb_states(nth, view, &partial.states, live, to)?;
        }
        Ok(())
    }

    /// Merges state `nth` of the groups `live`, which are `to` here; not a set of values.
    fn absorb_states(
        &mut self,
        nth: usize,
        view: &SegmentView<'_>,
        states: &States,
        live: &[u32],
        to: &[u32],
    ) -> Result<()> {
        let primitive = self.program.primitives[nth];
        let column = primitive.column.map(|c| &view.columns[c]);
        // Groups without a value of the column hold no state.
        let counted =
            self.program.primitives.iter().position(|p| *p == Primitive { measure: Measure::Count, ..primitive });
        let counts = states.counts(counted.unwrap_or(0));
        let memory = &mut self.memory;
        match (&mut self.states[nth], &states.states[nth]) {
            (GlobalState::Count(all), State::Count(_) | State::Alias(_)) => {
                let counts = states.counts(nth);
                live.iter().zip(to).for_each(|(g, t)| all[*t as usize] += counts[*g as usize]);
            }
            (GlobalState::Sum { sums, nan }, State::SumInt(from)) => {
                for (g, t) in live.iter().zip(to) {
                    let (sum, is_nan) = from.get(*g as usize);
                    let slot = &mut sums[*t as usize];
                    *slot = slot.checked_add(sum).ok_or_else(out_of_range)?;
                    nan[*t as usize] |= is_nan;
                }
            }
            (GlobalState::Sum { sums, nan }, State::SumWide { sums: from, nan: from_nan }) => {
                for (g, t) in live.iter().zip(to) {
                    let slot = &mut sums[*t as usize];
                    *slot = slot.checked_add(from[*g as usize]).ok_or_else(out_of_range)?;
                    nan[*t as usize] |= from_nan[*g as usize];
                }
            }
            (GlobalState::SumFloat(all), State::SumFloat(from)) => {
                for (g, t) in live.iter().zip(to) {
                    all.merge(*t, &from.get(*g))?;
                }
            }
            (GlobalState::Int { values, max }, State::Extreme { values: from, .. }) => {
                for (g, t) in live.iter().zip(to) {
                    let (slot, v) = (&mut values[*t as usize], from[*g as usize]);
                    *slot = if *max { v.max(*slot) } else { v.min(*slot) };
                }
            }
            (GlobalState::Wide { values, max }, State::ExtremeWide { values: from, .. }) => {
                for (g, t) in live.iter().zip(to) {
                    let (slot, v) = (&mut values[*t as usize], from[*g as usize]);
                    *slot = if *max { v.max(*slot) } else { v.min(*slot) };
                }
            }
            (GlobalState::Bytes { values, max, .. }, State::ExtremeBytes { values: from, .. }) => {
                for (g, t) in live.iter().zip(to) {
                    if let Some(v) = &from[*g as usize] {
                        improve(&mut values[*t as usize], v, *max, memory)?;
                    }
                }
            }
            (GlobalState::Bytes { values, max, .. }, State::Extreme { values: codes, .. }) => {
                let column = column.ok_or_else(mismatch)?;
                let mut buffer = Vec::new();
                for (g, t) in live.iter().zip(to) {
                    if counts[*g as usize] > 0 {
                        buffer.clear();
                        column.dictionary_get(codes[*g as usize] as u32, &mut buffer)?;
                        improve(&mut values[*t as usize], &buffer, *max, memory)?;
                    }
                }
            }
            (GlobalState::Squares(sums), State::Squares(from)) => {
                for (g, t) in live.iter().zip(to) {
                    let slot = &mut sums[*t as usize];
                    *slot = slot.checked_add(from.get(*g as usize)).ok_or_else(out_of_range)?;
                }
            }
            (GlobalState::Products(all), State::Products(from)) => {
                for (g, t) in live.iter().zip(to) {
                    all.merge(*t, &from.get(*g))?;
                }
            }
            (GlobalState::Bits { values, op }, State::Bits { values: from, .. }) => {
                for (g, t) in live.iter().zip(to) {
                    let slot = &mut values[*t as usize];
                    *slot = op.of(*slot, from[*g as usize]);
                }
            }
            _ => return Err(mismatch()),
        }
        Ok(())
    }

    /// The global group of each of a partial's `live` groups.
    fn number(
        &mut self,
        view: &SegmentView<'_>,
        plan: &SegmentPlan,
        groups: &Groups,
        live: &[u32],
        hashed: bool,
        host: &mut dyn Host,
    ) -> Result<Vec<u32>> {
        let keys = plan.keys.digits.len();
        if keys == 0 {
            return Ok(vec![0; live.len()]);
        }
        let mut to = Vec::with_capacity(live.len());
        let mut readers = readers(view, plan, groups);
        let mut known =
            plan.keys.digits.iter().map(|d| Translation::new(d, &self.budget)).collect::<Result<Vec<_>>>()?;
        let mut digits = Vec::new();
        for chunk in live.chunks(STEP) {
            host.poll()?;
            for &group in chunk {
                groups.digits_of(&plan.keys, group, &mut digits);
                let mut number = 0;
                for (key, &digit) in digits.iter().enumerate() {
                    let (values, reader) = (&mut self.key_values[key], &mut readers[key]);
                    let fresh = || {
                        let value = reader.value(digit)?;
                        if hashed { values.of_value(&value) } else { values.push_unhashed(&value) }
                    };
                    // Digits of a lone key never come twice.
                    let id = if keys == 1 {
                        let mut fresh = fresh;
                        fresh()?
                    } else {
                        known[key].get(digit, fresh)?
                    };
                    number = match key {
                        0 => id,
                        _ => {
                            let pair = u64::from(number) << 32 | u64::from(id);
                            let fold = &mut self.folds[key - 1];
                            // Only whole combinations are known to be distinct.
                            if hashed || key + 1 < keys { fold.number(pair)? } else { fold.push_unhashed(pair)? }
                        }
                    };
                }
                to.push(number);
            }
        }
        Ok(to)
    }

    /// The values of a group's keys.
    pub fn key(&self, group: u32, out: &mut Vec<Value>) {
        out.clear();
        let mut number = group;
        for (nth, fold) in self.folds.iter().enumerate().rev() {
            let pair = fold.key(number);
            out.push(self.key_values[nth + 1].value(pair as u32));
            number = (pair >> 32) as u32;
        }
        if let Some(values) = self.key_values.first() {
            out.push(values.value(number));
        }
        out.reverse();
    }
}

pub(super) fn mismatch() -> Error {
    Error::invalid("states of two kinds for one aggregate")
}

/// Of the values of each key.
fn readers<'a>(view: &'a SegmentView<'a>, plan: &'a SegmentPlan, groups: &'a Groups) -> Vec<ValueReader<'a>> {
    plan.keys.digits.iter().enumerate().map(|(i, d)| ValueReader::new(view, d, groups.interner(i))).collect()
}

/// `live[i] -> to[i]` as a table; `u32::MAX` for other groups.
fn places(live: &[u32], to: &[u32], groups: usize) -> Vec<u32> {
    let mut places = vec![u32::MAX; groups];
    live.iter().zip(to).for_each(|(g, t)| places[*g as usize] = *t);
    places
}

impl Partial {
    /// Groups that have rows; without keys the one group, whether it has or not.
    pub fn live(&self, budget: &Budget) -> Result<Vec<u32>> {
        let counts = self.states.counts(0);
        numbers_where(counts.len(), budget, |g| self.is_live(counts[g]))
    }

    pub fn readers<'a>(&'a self, view: &'a SegmentView<'a>) -> Vec<ValueReader<'a>> {
        readers(view, &self.plan, &self.groups)
    }

    /// How many groups have rows.
    pub fn live_count(&self) -> usize {
        self.states.counts(0).iter().filter(|count| self.is_live(**count)).count()
    }

    fn is_live(&self, rows: i64) -> bool {
        rows > 0 || self.plan.keys.digits.is_empty()
    }

    pub fn has_rows(&self) -> bool {
        self.states.counts(0).iter().any(|count| *count > 0)
    }

    /// Adds another thread's partial of the same plan, group by group.
    fn combine(&mut self, other: &Partial, host: &mut dyn Host) -> Result<()> {
        if self.plan.keys.slots.is_some() {
            return self.states.merge(&other.states, |group| group, host);
        }
        let to = self.groups.merge(&self.plan.keys, &other.groups, host)?;
        self.states.ensure(self.groups.len(&self.plan.keys))?;
        self.states.merge(&other.states, |group| to[group as usize], host)
    }
}
