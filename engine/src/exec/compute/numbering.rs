//! Numbers for the values of stored columns in one segment, and for combinations of them.

use super::super::columns::{BlockScratch, Kind, SegmentView};
use super::super::filter::{Resolver, occurring};
use super::super::like::value;
use crate::exec::bits::Selection;
use crate::exec::hash::U64Map;
use crate::exec::values::BytesMap;
use crate::plan::Combination;
use crate::segment::BytesBlock;
use crate::{Budget, Error, Result};

/// Columns that a host's function may be of.
pub const MAX_SOURCES: usize = 4;

/// Numbers of one column's values.
pub(super) struct Numbering {
    source: usize,
    index: Index,
    /// Also NULL's number, and that of values which were not numbered.
    len: u32,
}

enum Index {
    /// A value's code is its number.
    Codes,
    /// That of `value - min`, while few values are between.
    Dense { min: i64, numbers: Vec<u32> },
    /// Integers, and floats by their bits.
    Hash(U64Map),
    /// Bytes of wide integers, too.
    Bytes(BytesMap),
}

/// Entries of a dense index: at most so many, and so many a value.
const DENSE_ENTRIES: u64 = 1 << 22;
const DENSE_SHARE: u64 = 16;
/// Values decoded together, and how many codes tell whether that pays.
const RUN: u32 = 1024;
const NEAR: usize = 64;
/// Values told of between two looks at the host.
const STEP: usize = 4096;

/// Told every number and its value, once.
pub(super) type Seen<'a> = &'a mut dyn FnMut(u32, &[u8], &mut Resolver<'_, '_>) -> Result<()>;

impl Numbering {
    /// Codes of a dictionary of `len` values are their own numbers.
    pub fn of_codes(source: usize, len: u32) -> Numbering {
        Numbering { source, index: Index::Codes, len }
    }

    /// Numbers the values that rows of `candidates` hold.
    pub fn new(source: usize, candidates: &[Selection], seen: Seen<'_>, r: &mut Resolver<'_, '_>) -> Result<Numbering> {
        let kind = r.view.columns[source].kind;
        if kind == Kind::Codes {
            let occur = occurring(source, candidates, r)?;
            let mut codes = Vec::new();
            occur.for_each(|code| codes.push(code as u32));
            let (mut buffer, mut run, mut first) = (Vec::new(), BytesBlock::default(), 0);
            for (nth, &code) in codes.iter().enumerate() {
                if nth % STEP == 0 {
                    r.poll()?;
                }
                let inside = |run: &BytesBlock, first: u32| ((code - first) as usize) < run.ends.len();
                // Where codes stand close together, decoding those between them costs less than finding each.
                if !inside(&run, first) && codes.get(nth + NEAR).is_some_and(|c| ((c - code) as usize) < NEAR * 4) {
                    first = code;
                    run = r.view.columns[source].dictionary_range(code..(code + RUN).min(occur.rows() as u32))?;
                }
                if inside(&run, first) {
                    seen(code, value(&run, (code - first) as usize), r)?;
                    continue;
                }
                buffer.clear();
                r.view.columns[source].dictionary_get(code, &mut buffer)?;
                seen(code, &buffer, r)?;
            }
            return Ok(Numbering { source, index: Index::Codes, len: occur.rows() as u32 });
        }
        let mut numbers = Numbering { source, index: Index::of(kind, &r.memory.budget().clone())?, len: 0 };
        for (block, candidate) in candidates.iter().enumerate() {
            if candidate.is_none() {
                continue;
            }
            r.scratch.begin(r.view, block);
            r.scratch.compute(r.view, source, candidate)?;
            let reach = candidate.clone().and(r.scratch.validity(r.view, source)?);
            let (first, mut fresh) = (numbers.len, BytesBlock::default());
            numbers.add(r.view, r.scratch, &reach, &mut |_, value| {
                fresh.data.extend_from_slice(value);
                fresh.ends.push(fresh.data.len() as u32);
            })?;
            for nth in 0..fresh.len() {
                seen(first + nth as u32, fresh.get(nth), r)?;
            }
            r.poll()?;
        }
        numbers.settle();
        Ok(numbers)
    }

    /// Numbers the values of rows of the scratch's block, none of them NULL. Of codes all are numbered from the start.
    fn add(
        &mut self,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        rows: &Selection,
        fresh: &mut dyn FnMut(u32, &[u8]),
    ) -> Result<()> {
        if rows.is_none() {
            return Ok(());
        }
        let (count, len, source) = (scratch.rows(), &mut self.len, self.source);
        let mut note = |number: u32, value: &[u8]| {
            if number == *len {
                fresh(number, value);
                *len += 1;
            }
        };
        match &mut self.index {
            Index::Codes | Index::Dense { .. } => Ok(()),
            Index::Hash(map) if view.columns[source].kind == Kind::F64 => {
                let values = scratch.floats(view, source)?;
                try_each(rows, count, |i| {
                    let bits = values[i].to_bits();
                    note(map.number(bits)?, &bits.to_le_bytes());
                    Ok(())
                })
            }
            Index::Hash(map) => {
                let values = scratch.ints(view, source)?;
                let mut last = None;
                try_each(rows, count, |i| {
                    if last != Some(values[i]) {
                        last = Some(values[i]);
                        note(map.number(values[i] as u64)?, &values[i].to_le_bytes());
                    }
                    Ok(())
                })
            }
            Index::Bytes(map) if view.columns[source].kind == Kind::I128 => {
                let values = scratch.wide(view, source)?;
                try_each(rows, count, |i| {
                    let bytes = values[i].to_le_bytes();
                    note(map.number(&bytes)?, &bytes);
                    Ok(())
                })
            }
            Index::Bytes(map) => {
                let values = scratch.bytes(view, source)?;
                try_each(rows, count, |i| {
                    let v = value(values, i);
                    note(map.number(v)?, v);
                    Ok(())
                })
            }
        }
    }

    /// To be called when all values have their numbers: makes looking them up cheap.
    fn settle(&mut self) {
        let Index::Hash(map) = &self.index else { return };
        let keys = || map.keys().iter().map(|key| *key as i64);
        let (Some(min), Some(max)) = (keys().min(), keys().max()) else { return };
        let span = max.wrapping_sub(min) as u64;
        if span >= DENSE_ENTRIES || span / DENSE_SHARE > map.len() as u64 {
            return;
        }
        let mut numbers = vec![self.len; span as usize + 1];
        for (number, value) in keys().enumerate() {
            numbers[value.wrapping_sub(min) as usize] = number as u32;
        }
        self.index = Index::Dense { min, numbers };
    }

    /// NULL's number: the one after all values.
    pub fn null(&self) -> u32 {
        self.len
    }

    /// Bytes held, but for what maps account for themselves.
    pub fn bytes(&self) -> usize {
        match &self.index {
            Index::Codes | Index::Hash(_) | Index::Bytes(_) => 0,
            Index::Dense { numbers, .. } => numbers.len() * 4,
        }
    }

    /// The number of each row of the scratch's block. Values that were not numbered, and rows that are not in `rows`, have any.
    pub fn find(
        &self,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        rows: &Selection,
        numbers: &mut Vec<u32>,
    ) -> Result<()> {
        let (source, last) = (self.source, self.len);
        scratch.compute(view, source, rows)?;
        numbers.clear();
        match &self.index {
            Index::Codes => {
                numbers.extend_from_slice(scratch.codes(view, source)?);
                // NULL's code is the dictionary's length already.
                if !view.columns[source].is_computed() {
                    return Ok(());
                }
            }
            Index::Dense { min, numbers: of } => {
                let find = |v: &i64| of.get(v.wrapping_sub(*min) as u64 as usize).copied().unwrap_or(last);
                match view.columns[source].kind {
                    Kind::F64 => {
                        numbers.extend(scratch.floats(view, source)?.iter().map(|v| find(&(v.to_bits() as i64))))
                    }
                    _ => numbers.extend(scratch.ints(view, source)?.iter().map(find)),
                }
            }
            Index::Hash(map) if view.columns[source].kind == Kind::F64 => {
                let find = |v: &f64| map.find(v.to_bits()).unwrap_or(last);
                numbers.extend(scratch.floats(view, source)?.iter().map(find));
            }
            Index::Hash(map) => {
                numbers.extend(scratch.ints(view, source)?.iter().map(|v| map.find(*v as u64).unwrap_or(last)));
            }
            Index::Bytes(map) if view.columns[source].kind == Kind::I128 => {
                let find = |v: &i128| map.find(&v.to_le_bytes()).unwrap_or(last);
                numbers.extend(scratch.wide(view, source)?.iter().map(find));
            }
            Index::Bytes(map) => {
                let values = scratch.bytes(view, source)?;
                numbers.extend((0..values.ends.len()).map(|i| map.find(value(values, i)).unwrap_or(last)));
            }
        }
        // Values are arbitrary where the column is NULL.
        let count = scratch.rows();
        let null = Selection::All.and_not(scratch.validity(view, source)?, count);
        null.for_each(count, |i| numbers[i] = last);
        Ok(())
    }
}

impl Index {
    fn of(kind: Kind, budget: &Budget) -> Result<Index> {
        Ok(match kind {
            Kind::Codes => Index::Codes,
            Kind::I64 | Kind::F64 => Index::Hash(U64Map::new(budget)?),
            Kind::I128 | Kind::Bytes => Index::Bytes(BytesMap::new(budget)?),
        })
    }
}

/// Calls `f` with the selected rows until it fails.
fn try_each(rows: &Selection, count: usize, mut f: impl FnMut(usize) -> Result<()>) -> Result<()> {
    let mut result = Ok(());
    rows.for_each(count, |i| {
        if result.is_ok() {
            result = f(i);
        }
    });
    result
}

/// Numbers of combinations of several columns' values, NULL among them.
pub(super) struct Combined {
    columns: Vec<Numbering>,
    /// By the columns' numbers, 32 bits each.
    known: BytesMap,
    /// The same by the columns' numbers as digits, while that leaves few entries unused.
    dense: Vec<u32>,
    count: u32,
}

impl Combined {
    /// Numbers the combinations that rows of `candidates` hold; `seen` is told them as [`Combination`]s.
    pub fn new(
        sources: &[usize],
        candidates: &[Selection],
        seen: Seen<'_>,
        r: &mut Resolver<'_, '_>,
    ) -> Result<Combined> {
        if sources.len() > MAX_SOURCES {
            return Err(Error::invalid("a function of too many columns"));
        }
        let budget = r.memory.budget().clone();
        let mut columns = Vec::with_capacity(sources.len());
        for &source in sources {
            let of = &r.view.columns[source];
            let len = if of.kind == Kind::Codes { of.dictionary_len()? } else { 0 };
            columns.push(Numbering { source, index: Index::of(of.kind, &budget)?, len });
        }
        let mut combined = Combined { columns, known: BytesMap::new(&budget)?, dense: Vec::new(), count: 0 };
        // NULL's number grows with the values that are found: meanwhile it is beyond all of them.
        let mut known = BytesMap::new(&budget)?;
        for (block, candidate) in candidates.iter().enumerate() {
            if !candidate.is_none() {
                combined.add_block(block, candidate, &mut known, &mut *seen, r)?;
            }
        }
        combined.columns.iter_mut().for_each(Numbering::settle);
        combined.settle(known, r)?;
        Ok(combined)
    }

    fn add_block(
        &mut self,
        block: usize,
        candidate: &Selection,
        known: &mut BytesMap,
        seen: Seen<'_>,
        r: &mut Resolver<'_, '_>,
    ) -> Result<()> {
        r.scratch.begin(r.view, block);
        let rows = r.scratch.rows();
        let mut keys = vec![0u128; rows];
        let mut numbers = Vec::new();
        for column in &mut self.columns {
            r.scratch.compute(r.view, column.source, candidate)?;
            let valid = r.scratch.validity(r.view, column.source)?.clone();
            column.add(r.view, r.scratch, &candidate.clone().and(&valid), &mut |_, _| {})?;
            column.find(r.view, r.scratch, candidate, &mut numbers)?;
            for (i, (key, number)) in keys.iter_mut().zip(&numbers).enumerate() {
                *key = *key << 32 | u128::from(if valid.contains(i) { *number } else { u32::MAX });
            }
        }
        let mut first = Vec::new();
        let mut last = None;
        try_each(candidate, rows, |i| {
            if last != Some(keys[i]) {
                last = Some(keys[i]);
                let next = known.len() as u32;
                if known.number(&keys[i].to_le_bytes())? == next {
                    first.push((next, i));
                }
            }
            Ok(())
        })?;
        let mut shown = Vec::with_capacity(first.len());
        for (number, row) in first {
            let mut bytes = Vec::new();
            for column in &self.columns {
                let held = value_of(r.view, r.scratch, column.source, row)?;
                Combination::push(&mut bytes, held.as_deref())?;
            }
            shown.push((number, bytes));
        }
        for (number, bytes) in shown {
            seen(number, &bytes, r)?;
        }
        r.poll()
    }

    /// Puts NULLs' final numbers in, and makes a table of few possible combinations.
    fn settle(&mut self, known: BytesMap, r: &mut Resolver<'_, '_>) -> Result<()> {
        let width = |c: &Numbering| u64::from(c.len) + 1;
        let entries = self.columns.iter().try_fold(1u64, |all, c| all.checked_mul(width(c)));
        self.count = known.len() as u32;
        let last = self.columns.len() - 1;
        let digit = |key: u128, nth: usize| {
            let number = (key >> (32 * (last - nth))) as u32;
            number.min(self.columns[nth].len)
        };
        let key = |number: u32| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(known.get(number));
            u128::from_le_bytes(bytes)
        };
        match entries.filter(|e| *e <= DENSE_ENTRIES && e / DENSE_SHARE <= known.len() as u64) {
            Some(entries) => {
                r.memory.grow(entries as usize * 4)?;
                let mut dense = vec![known.len() as u32; entries as usize];
                for number in 0..known.len() as u32 {
                    let digits = self.columns.iter().enumerate();
                    let at = digits.fold(0, |at, (nth, c)| at * width(c) + u64::from(digit(key(number), nth)));
                    dense[at as usize] = number;
                }
                self.dense = dense;
            }
            None => {
                for number in 0..known.len() as u32 {
                    if (number as usize).is_multiple_of(STEP) {
                        r.poll()?;
                    }
                    let of = |k: u128, nth: usize| k << 32 | u128::from(digit(key(number), nth));
                    // In the same order they have the same numbers.
                    self.known.number(&(0..=last).fold(0, of).to_le_bytes())?;
                }
            }
        }
        Ok(())
    }

    /// How many combinations there are: the number of those that were not numbered.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Bytes held, but for what maps account for themselves.
    pub fn bytes(&self) -> usize {
        self.dense.len() * 4 + self.columns.iter().map(Numbering::bytes).sum::<usize>()
    }

    /// As [`Numbering::find`].
    pub fn find(
        &self,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        rows: &Selection,
        slots: &mut Vec<u32>,
    ) -> Result<()> {
        let mut numbers = Vec::new();
        if !self.dense.is_empty() {
            slots.clear();
            slots.resize(scratch.rows(), 0);
            for column in &self.columns {
                column.find(view, scratch, rows, &mut numbers)?;
                let width = column.len + 1;
                slots.iter_mut().zip(&numbers).for_each(|(at, number)| *at = *at * width + number);
            }
            slots.iter_mut().for_each(|at| *at = self.dense.get(*at as usize).copied().unwrap_or(self.count));
            return Ok(());
        }
        let mut keys = vec![0u128; scratch.rows()];
        for column in &self.columns {
            column.find(view, scratch, rows, &mut numbers)?;
            keys.iter_mut().zip(&numbers).for_each(|(key, number)| *key = *key << 32 | u128::from(*number));
        }
        slots.clear();
        slots.extend(keys.iter().map(|key| self.known.find(&key.to_le_bytes()).unwrap_or(self.count)));
        Ok(())
    }
}

/// A stored column's value in a row of the scratch's block, as it is shown to the host; `None`: NULL.
fn value_of(view: &SegmentView<'_>, scratch: &mut BlockScratch, column: usize, row: usize) -> Result<Option<Vec<u8>>> {
    if !scratch.validity(view, column)?.contains(row) {
        return Ok(None);
    }
    Ok(Some(match view.columns[column].kind {
        Kind::I64 => scratch.ints(view, column)?[row].to_le_bytes().to_vec(),
        Kind::I128 => scratch.wide(view, column)?[row].to_le_bytes().to_vec(),
        Kind::F64 => scratch.floats(view, column)?[row].to_le_bytes().to_vec(),
        Kind::Bytes => value(scratch.bytes(view, column)?, row).to_vec(),
        Kind::Codes => {
            let code = scratch.codes(view, column)?[row];
            let mut bytes = Vec::new();
            view.columns[column].dictionary_get(code, &mut bytes)?;
            bytes
        }
    }))
}
