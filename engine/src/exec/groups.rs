//! Group numbers of rows: the keys' digits packed into one integer, which indexes accumulators or a hash table.

use super::PASSING;
use super::bits::Selection;
use super::columns::{BlockScratch, SegmentView};
use super::digits::Digits;
use super::hash::KeyMap;
use super::rowset::{RowSet, for_rows};
use super::values::ValueMap;
use crate::plan::Host;
use crate::segment::BLOCK_ROWS;
use crate::{Budget, Reservation, Result};

/// How one segment's rows are numbered; shared by its threads.
pub(super) struct KeyPlan {
    pub digits: Vec<Digits>,
    /// Groups of consecutive digits that fit one 64-bit integer; every stage but the first begins with the number
    /// that the stage before gave to its integer.
    stages: Vec<Stage>,
    /// Product of the cardinalities, when accumulators are indexed by the packed digits themselves.
    pub slots: Option<usize>,
}

struct Stage {
    digits: std::ops::Range<usize>,
    /// Factor of each digit in the packed integer.
    factors: Vec<u64>,
}

/// Cardinality of a number that a stage before has given.
const STAGED: u128 = 1 << 32;

impl KeyPlan {
    /// `rows`: at most so many are going to be selected; `most`: no more groups than this are numbered densely.
    pub fn new(digits: Vec<Digits>, rows: usize, most: usize) -> Self {
        let mut stages = vec![Stage { digits: 0..0, factors: Vec::new() }];
        let mut packed: u128 = 1;
        let mut product: u128 = 1;
        for (i, digit) in digits.iter().enumerate() {
            let cardinality = u128::from(digit.cardinality);
            product = product.saturating_mul(cardinality);
            if packed * cardinality > 1 << 64 {
                stages.push(Stage { digits: i..i, factors: Vec::new() });
                packed = STAGED;
            }
            if let Some(stage) = stages.last_mut() {
                stage.factors.push(packed as u64);
                stage.digits.end = i + 1;
            }
            packed *= cardinality;
        }
        // Accumulators of mostly unused slots cost more than a hash table.
        let limit = (rows as u128 * 2).clamp(1 << 12, 1 << 25).min(most.max(1) as u128);
        let slots = (product <= limit).then_some(product as usize);
        KeyPlan { digits, stages, slots }
    }
}

/// The group of each row of a block.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// All rows are of one group.
    One(u32),
    /// By row of the block; rows that are not selected hold anything.
    Each(&'a [u32]),
}

/// Calls `f` with the group and the number of each row of `set`.
#[inline(always)]
pub(super) fn each_row(
    set: &mut RowSet,
    target: Target<'_>,
    mut f: impl FnMut(usize, usize) -> Result<()>,
) -> Result<()> {
    match target {
        Target::One(group) => for_rows!(set, i, { f(group as usize, i)? }),
        Target::Each(groups) => for_rows!(set, i, { f(groups[i] as usize, i)? }),
    }
    Ok(())
}

/// Which group a block's rows are of; see [`Groups::target`].
pub(super) enum Assigned {
    One(u32),
    Each,
}

/// One thread's numbering of the groups of one segment.
pub(super) struct Groups {
    interners: Vec<Option<ValueMap>>,
    /// One a stage, but none if slots are dense.
    maps: Vec<KeyMap>,
    numbers: Vec<u32>,
    packed: Vec<u64>,
    memory: Reservation,
}

impl Groups {
    pub fn new(plan: &KeyPlan, view: &SegmentView<'_>, budget: &Budget) -> Result<Self> {
        let memory = budget.reserve(if plan.digits.is_empty() { 0 } else { BLOCK_ROWS * 12 })?;
        let interners = plan.digits.iter().map(|d| d.interner(view, budget)).collect::<Result<_>>()?;
        let maps = match plan.slots {
            Some(_) => Vec::new(),
            // A stage's keys begin with the number that the stage before gave.
            None => (0..plan.stages.len()).map(|nth| KeyMap::new(nth > 0, budget)).collect::<Result<_>>()?,
        };
        Ok(Groups { interners, maps, numbers: Vec::new(), packed: Vec::new(), memory })
    }

    /// How many accumulators are needed.
    pub fn len(&self, plan: &KeyPlan) -> usize {
        plan.slots.unwrap_or_else(|| self.maps.last().map_or(1, KeyMap::len))
    }

    /// Numbers the rows of `set`.
    pub fn assign(
        &mut self,
        plan: &KeyPlan,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        set: &mut RowSet,
    ) -> Result<Assigned> {
        let mut constants = Vec::with_capacity(plan.digits.len());
        for (digits, interner) in plan.digits.iter().zip(&mut self.interners) {
            constants.push(digits.constant(view, scratch, interner.as_mut())?);
        }
        if let Some(all) = constants.iter().copied().collect::<Option<Vec<u64>>>() {
            let mut number = 0u32;
            for (i, stage) in plan.stages.iter().enumerate() {
                let packed = stage.packed(number, &all);
                number = match plan.slots {
                    Some(_) => packed as u32,
                    None => self.maps[i].number(packed)?,
                };
            }
            return Ok(Assigned::One(number));
        }
        if plan.slots.is_some() {
            self.assign_dense(plan, view, scratch, set, &constants)?;
        } else {
            self.assign_hashed(plan, view, scratch, set, &constants)?;
        }
        Ok(Assigned::Each)
    }

    pub fn target(&self, assigned: &Assigned) -> Target<'_> {
        match assigned {
            Assigned::One(group) => Target::One(*group),
            Assigned::Each => Target::Each(&self.numbers),
        }
    }

    fn assign_dense(
        &mut self,
        plan: &KeyPlan,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        set: &mut RowSet,
        constants: &[Option<u64>],
    ) -> Result<()> {
        // Computing digits of rows that nobody asked for is cheaper than picking rows, unless they are few. Only
        // digits without a numbering: that would number values which are not selected; nor computed ones, which may fail there.
        let interned = self.interners.iter().any(Option::is_some);
        let computed = plan.digits.iter().any(|d| view.columns[d.column].is_computed());
        let mut all = RowSet::new();
        let few = interned || computed || set.count() < set.rows / 4;
        all.set(Selection::All, set.rows);
        let rows = if few { set } else { &mut all };
        let stage = &plan.stages[0];
        let mut base = 0u32;
        let mut varying = Vec::new();
        for (i, factor) in stage.digits.clone().zip(&stage.factors) {
            match constants[i] {
                Some(digit) => base += (digit * factor) as u32,
                None => varying.push((i, *factor as u32)),
            }
        }
        let numbers = &mut self.numbers;
        numbers.resize(rows.rows, 0);
        for (nth, (i, factor)) in varying.into_iter().enumerate() {
            let (digits, interner) = (&plan.digits[i], self.interners[i].as_mut());
            let out = numbers.as_mut_slice();
            if nth == 0 {
                digits.each(view, scratch, interner, rows, |row, digit| out[row] = base + digit as u32 * factor)?;
            } else {
                digits.each(view, scratch, interner, rows, |row, digit| out[row] += digit as u32 * factor)?;
            }
        }
        Ok(())
    }

    fn assign_hashed(
        &mut self,
        plan: &KeyPlan,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        set: &mut RowSet,
        constants: &[Option<u64>],
    ) -> Result<()> {
        self.numbers.resize(set.rows, 0);
        self.packed.resize(set.rows, 0);
        let (numbers, packed) = (self.numbers.as_mut_slice(), self.packed.as_mut_slice());
        for (nth, stage) in plan.stages.iter().enumerate() {
            let mut base = 0u64;
            let mut varying = Vec::new();
            for (i, factor) in stage.digits.clone().zip(&stage.factors) {
                match constants[i] {
                    Some(digit) => base = base.wrapping_add(digit.wrapping_mul(*factor)),
                    None => varying.push((i, *factor)),
                }
            }
            let mut started = false;
            if nth > 0 {
                for_rows!(set, i, { packed[i] = base + u64::from(numbers[i]) });
                started = true;
            }
            for (i, factor) in varying {
                let (digits, interner) = (&plan.digits[i], self.interners[i].as_mut());
                if started {
                    digits.each(view, scratch, interner, set, |row, digit| packed[row] += digit * factor)?;
                } else {
                    digits.each(view, scratch, interner, set, |row, digit| packed[row] = base + digit * factor)?;
                }
                started = true;
            }
            if !started {
                for_rows!(set, i, { packed[i] = base });
            }
            let map = &mut self.maps[nth];
            match set.list() {
                None => {
                    let mut out = numbers.iter_mut();
                    map.numbers(packed.iter().copied(), |number| {
                        if let Some(slot) = out.next() {
                            *slot = number;
                        }
                    })?;
                }
                Some(rows) => {
                    let mut out = rows.iter();
                    map.numbers(rows.iter().map(|row| packed[usize::from(*row)]), |number| {
                        if let Some(row) = out.next() {
                            numbers[usize::from(*row)] = number;
                        }
                    })?;
                }
            }
        }
        Ok(())
    }

    /// The digits of a group, in the keys' order.
    pub fn digits_of(&self, plan: &KeyPlan, group: u32, out: &mut Vec<u64>) {
        out.clear();
        out.resize(plan.digits.len(), 0);
        let mut number = group;
        for (nth, stage) in plan.stages.iter().enumerate().rev() {
            let mut rest = match plan.slots {
                Some(_) => u64::from(number),
                None => self.maps[nth].key(number),
            };
            if nth > 0 {
                number = (rest % STAGED as u64) as u32;
                rest /= STAGED as u64;
            }
            for i in stage.digits.clone() {
                // A lone digit of full width leaves no more.
                let cardinality = plan.digits[i].cardinality;
                out[i] = rest % cardinality;
                rest /= cardinality;
            }
        }
    }

    /// Takes over another thread's groups of the same plan: what they are here.
    pub fn merge(&mut self, plan: &KeyPlan, other: &Groups, host: &mut dyn Host) -> Result<Vec<u32>> {
        let Some(last) = other.maps.last() else { return Ok((0..other.len(plan) as u32).collect()) };
        let interned = |i: usize| other.interners[i].as_ref().map_or(0, ValueMap::len);
        let held = (last.len() + (0..other.interners.len()).map(interned).sum::<usize>()) * size_of::<u32>() * 2;
        self.memory.grow(held)?;
        let mut values = Vec::with_capacity(self.interners.len());
        for pair in self.interners.iter_mut().zip(&other.interners) {
            values.push(match pair {
                (Some(map), Some(from)) => Some(map.merge(from, host)?),
                _ => None,
            });
        }
        let mut to: Vec<u32> = Vec::new();
        for (nth, (stage, from)) in plan.stages.iter().zip(&other.maps).enumerate() {
            let before = std::mem::take(&mut to);
            let moved = |key: u64| {
                let (mut key, mut rest) = (key, key);
                if nth > 0 {
                    let number = rest % STAGED as u64;
                    rest /= STAGED as u64;
                    key = key - number + u64::from(before[number as usize]);
                }
                for (i, factor) in stage.digits.clone().zip(&stage.factors) {
                    let cardinality = plan.digits[i].cardinality;
                    if let Some(numbers) = &values[i] {
                        let digit = rest % cardinality;
                        let change = u64::from(numbers[digit as usize]).wrapping_sub(digit);
                        key = key.wrapping_add(change.wrapping_mul(*factor));
                    }
                    rest /= cardinality;
                }
                key
            };
            to.reserve_exact(from.len());
            for keys in from.keys().chunks(PASSING) {
                host.poll()?;
                self.maps[nth].numbers(keys.iter().map(|key| moved(*key)), |number| to.push(number))?;
            }
        }
        self.memory.resize(self.memory.bytes() - held)?;
        Ok(to)
    }

    pub fn interner(&self, key: usize) -> Option<&ValueMap> {
        self.interners[key].as_ref()
    }
}

impl Stage {
    /// Packs one group's digits; `number` is what the stage before gave.
    fn packed(&self, number: u32, digits: &[u64]) -> u64 {
        let start = u64::from(number);
        self.digits.clone().zip(&self.factors).fold(start, |sum, (i, f)| sum.wrapping_add(digits[i].wrapping_mul(*f)))
    }
}
