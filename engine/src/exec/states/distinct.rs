//! Sets of distinct values by group.

use crate::exec::PASSING;
use crate::exec::columns::{BlockScratch, Kind, SegmentView};
use crate::exec::digits::{Digits, INTERNED, Source};
use crate::exec::groups::Target;
use crate::exec::hash::KeyMap;
use crate::exec::rowset::RowSet;
use crate::exec::values::ValueMap;
use crate::plan::Host;
use crate::{Budget, Result};

pub(in crate::exec) struct DistinctSet {
    /// Bits, `cardinality` a group, while that is little.
    bits: Vec<u64>,
    cardinality: usize,
    /// (group << 32 | digit) otherwise; of a digit of more than 32 bits it alone: there is one group.
    pairs: Option<KeyMap>,
    lone: bool,
    pub interner: Option<ValueMap>,
    /// Pairs of a block.
    batch: Vec<u64>,
}

/// Integers up to which those that occur are taken for most of all that there may be.
const NUMBERED: u64 = 1 << 21;
/// Bits of a distinct set beyond which it is a hash table.
const DISTINCT_BITS: u64 = 1 << 27;

impl DistinctSet {
    /// `slots`: the number of groups if it is known beforehand.
    pub fn new(digits: &Digits, view: &SegmentView<'_>, slots: Option<usize>, budget: &Budget) -> Result<Self> {
        let interner = digits.interner(view, budget)?;
        let dense = slots.and_then(|slots| (slots as u64).checked_mul(digits.cardinality));
        let dense = dense.filter(|bits| *bits <= DISTINCT_BITS && digits.cardinality < INTERNED);
        let cardinality = digits.cardinality as usize;
        let lone = digits.cardinality > INTERNED;
        let (bits, batch) = (Vec::new(), Vec::new());
        let mut set = DistinctSet { bits, cardinality, pairs: None, lone, interner, batch };
        match dense {
            Some(bits) => set.bits = vec![0; (bits / 64) as usize + 1],
            None => {
                let dictionary = matches!(digits.source, Source::Codes | Source::Unified(_));
                let numbered = set.interner.is_some() || dictionary || digits.cardinality <= NUMBERED;
                set.pairs = Some(KeyMap::new(numbered && !lone, budget)?);
            }
        }
        Ok(set)
    }

    /// Adds the rows of `set`.
    pub fn update(
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

    /// Adds all values of the column's dictionary, for there is one group, if this is the `first` call for the segment. `false`: the column has none.
    pub fn add_dictionary(&mut self, digits: &Digits, view: &SegmentView<'_>, first: bool) -> Result<bool> {
        let column = &view.columns[digits.column];
        if column.kind != Kind::Codes || column.stored().is_none() {
            return Ok(false);
        }
        if !first {
            return Ok(true);
        }
        let codes = 0..column.dictionary_len()?;
        match (&digits.source, &column.unified) {
            (Source::Codes, _) => self.add_all(codes)?,
            // Behind the last one stands NULL's.
            (Source::Unified(_), Some((_, map))) => self.add_all(map.numbers[..codes.len()].iter().copied())?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Adds these digits to the one group.
    fn add_all(&mut self, digits: impl Iterator<Item = u32> + Clone) -> Result<()> {
        match &mut self.pairs {
            Some(pairs) => pairs.numbers(digits.map(u64::from), |_| {}),
            None => {
                digits.for_each(|digit| self.bits[digit as usize / 64] |= 1 << (digit % 64));
                Ok(())
            }
        }
    }

    /// Adds another thread's set, whose group `g` is `to(g)` here.
    pub fn merge(&mut self, from: &DistinctSet, to: impl Fn(u32) -> u32, host: &mut dyn Host) -> Result<()> {
        let digits = match (&mut self.interner, &from.interner) {
            (Some(map), Some(other)) => Some(map.merge(other, host)?),
            _ => None,
        };
        let Some(pairs) = &mut self.pairs else {
            // Dense groups have the same numbers.
            self.bits.iter_mut().zip(&from.bits).for_each(|(a, b)| *a |= b);
            return Ok(());
        };
        if self.lone {
            let from = from.pairs.as_ref().map_or(&[][..], KeyMap::keys);
            return from.chunks(PASSING).try_for_each(|keys| {
                host.poll()?;
                pairs.numbers(keys.iter().copied(), |_| {})
            });
        }
        let moved = |group: u32, digit: u64| {
            let digit = digits.as_ref().map_or(digit, |numbers| u64::from(numbers[digit as usize]));
            u64::from(to(group)) << 32 | digit
        };
        let from = from.pairs.as_ref().map_or(&[][..], KeyMap::keys);
        from.chunks(PASSING).try_for_each(|keys| {
            host.poll()?;
            pairs.numbers(keys.iter().map(|key| moved((key >> 32) as u32, key & 0xffff_ffff)), |_| {})
        })
    }

    /// Bytes held from the beginning.
    pub fn held(&self) -> usize {
        self.bits.len() * 8
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

    /// How many members each group has. Errors: `Canceled`.
    pub fn counts(&self, groups: usize, budget: &Budget) -> Result<Vec<i64>> {
        let (mut counts, mut passed) = (vec![0i64; groups], 0usize);
        self.each(|group, _| {
            passed += 1;
            if passed.is_multiple_of(PASSING) {
                budget.check()?;
            }
            counts[group as usize] += 1;
            Ok(())
        })?;
        Ok(counts)
    }
}
