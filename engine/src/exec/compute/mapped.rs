//! Columns that the host computes: its function is called once for each distinct value that selected rows hold.

use hashbrown::HashMap;

use super::super::columns::{BlockScratch, Kind, SegmentView};
use super::super::filter::{Resolver, occurring};
use super::super::like::value;
use super::lookup::fetch;
use crate::exec::bits::Selection;
use crate::plan::{AttributeValues, HostFunction, Limits};
use crate::segment::BytesBlock;
use crate::types::{Physical, Value};
use crate::{Error, Result};

/// The values of one segment and what the host made of them.
pub(in crate::exec) struct MapTable {
    /// The column that is mapped.
    source: usize,
    index: Index,
    /// By slot, NULL's as the last.
    results: AttributeValues,
}

/// Where a value's result stands.
enum Index {
    /// A value's code is its slot.
    Codes,
    /// `value - min`, while that leaves few slots unused.
    Dense {
        min: i64,
    },
    /// Integers, and floats by their bits.
    Hash(HashMap<i64, u32>),
    Wide(HashMap<i128, u32>),
    Bytes(HashMap<Box<[u8]>, u32>),
}

/// Values shown to the host at once.
const BATCH: usize = 1024;
/// Slots of a dense index: at most so many, and so many a value.
const DENSE_SLOTS: u64 = 1 << 22;
const DENSE_SHARE: u64 = 16;

impl MapTable {
    /// Asks the host about the values of column `source` in the rows of `candidates`. Errors: what the host says; `Budget`.
    pub fn new(
        source: usize,
        function: HostFunction,
        result: Physical,
        of_null: bool,
        candidates: &[Selection],
        r: &mut Resolver<'_, '_>,
    ) -> Result<MapTable> {
        let kind = r.view.columns[source].kind;
        let null_occurs = of_null && null_occurs(source, candidates, r)?;
        let held = r.memory.bytes();
        let (index, mut found) = match kind {
            Kind::Codes => {
                let seen = occurring(source, candidates, r)?;
                let mut asked = Asked::new(function);
                r.memory.grow(seen.rows() * size_of::<Value>())?;
                let mut found = vec![Value::Null; seen.rows()];
                let mut codes = Vec::new();
                seen.for_each(|code| codes.push(code as u32));
                let mut buffer = Vec::new();
                for code in codes {
                    buffer.clear();
                    r.view.columns[source].dictionary_get(code, &mut buffer)?;
                    asked.add(code, &buffer, &mut found, r)?;
                }
                asked.flush(&mut found, r)?;
                (Index::Codes, found)
            }
            _ => distinct(source, function, kind, candidates, r)?,
        };
        found.push(if null_occurs { r.map_null(function)? } else { Value::Null });
        let results = AttributeValues::new(result, &found, r.memory.budget())?;
        // Of what was held meanwhile the index stays.
        r.memory.resize(held + found.len() * 24)?;
        Ok(MapTable { source, index, results })
    }

    /// Smallest and largest number that there is, and whether NaN may be among them.
    pub fn limits(&self) -> (Limits, bool) {
        self.results.limits()
    }

    /// The distinct results, where they are byte strings.
    pub fn dictionary(&self) -> Option<&BytesBlock> {
        self.results.dictionary()
    }

    /// Looks up the results of the scratch's block.
    pub fn apply(
        &self,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        column: usize,
        rows: &Selection,
    ) -> Result<()> {
        scratch.compute(view, self.source, rows)?;
        let (mut slots, codes) = scratch.take_slots(column);
        self.find(view, scratch, &mut slots)?;
        let last = self.results.len() as u32 - 1;
        fetch(&self.results, slots.iter().map(|slot| (*slot).min(last)), codes, view, scratch, column, rows)?;
        scratch.keep_slots(column, slots);
        Ok(())
    }

    /// The slot of each row; values that were not asked about have any.
    fn find(&self, view: &SegmentView<'_>, scratch: &mut BlockScratch, slots: &mut Vec<u32>) -> Result<()> {
        let (source, last) = (self.source, self.results.len() as u32 - 1);
        slots.clear();
        match &self.index {
            Index::Codes => slots.extend_from_slice(scratch.codes(view, source)?),
            Index::Dense { min } => slots.extend(
                scratch.ints(view, source)?.iter().map(|v| u32::try_from(v.wrapping_sub(*min) as u64).unwrap_or(last)),
            ),
            Index::Hash(map) if view.columns[source].kind == Kind::F64 => {
                let find = |v: &f64| map.get(&(v.to_bits() as i64)).copied().unwrap_or(last);
                slots.extend(scratch.floats(view, source)?.iter().map(find));
            }
            Index::Hash(map) => {
                slots.extend(scratch.ints(view, source)?.iter().map(|v| map.get(v).copied().unwrap_or(last)));
            }
            Index::Wide(map) => {
                slots.extend(scratch.wide(view, source)?.iter().map(|v| map.get(v).copied().unwrap_or(last)));
            }
            Index::Bytes(map) => {
                let values = scratch.bytes(view, source)?;
                slots.extend((0..values.ends.len()).map(|i| map.get(value(values, i)).copied().unwrap_or(last)));
            }
        }
        // Values are arbitrary where the column is NULL.
        if !matches!(self.index, Index::Codes) {
            let rows = scratch.rows();
            let null = Selection::All.and_not(scratch.validity(view, source)?, rows);
            null.for_each(rows, |i| slots[i] = last);
        }
        Ok(())
    }
}

/// Asks about the distinct values of a column without a dictionary of byte strings.
fn distinct(
    source: usize,
    function: HostFunction,
    kind: Kind,
    candidates: &[Selection],
    r: &mut Resolver<'_, '_>,
) -> Result<(Index, Vec<Value>)> {
    let mut ints: HashMap<i64, u32> = HashMap::new();
    let mut wides: HashMap<i128, u32> = HashMap::new();
    let mut strings: HashMap<Box<[u8]>, u32> = HashMap::new();
    let mut found: Vec<Value> = Vec::new();
    let mut asked = Asked::new(function);
    for (block, candidate) in candidates.iter().enumerate() {
        if candidate.is_none() {
            continue;
        }
        r.scratch.begin(r.view, block);
        r.scratch.compute(r.view, source, candidate)?;
        let rows = r.scratch.rows();
        let reach = candidate.clone().and(r.scratch.validity(r.view, source)?);
        if reach.is_none() {
            continue;
        }
        let mut fresh: Vec<(u32, Box<[u8]>)> = Vec::new();
        let before = found.len();
        let mut next = before as u32;
        match kind {
            Kind::I64 | Kind::IntCodes => {
                let values = r.scratch.ints(r.view, source)?;
                let mut last = None;
                reach.for_each(rows, |i| {
                    if last != Some(values[i]) {
                        last = last_value(values[i], &mut ints, &mut next, &mut fresh);
                    }
                });
            }
            Kind::F64 => {
                let values = r.scratch.floats(r.view, source)?;
                reach.for_each(rows, |i| {
                    last_value(values[i].to_bits() as i64, &mut ints, &mut next, &mut fresh);
                });
            }
            Kind::I128 => {
                let values = r.scratch.wide(r.view, source)?;
                reach.for_each(rows, |i| {
                    wides.entry(values[i]).or_insert_with(|| {
                        fresh.push((next, values[i].to_le_bytes().into()));
                        next += 1;
                        next - 1
                    });
                });
            }
            Kind::Bytes => {
                let values = r.scratch.bytes(r.view, source)?;
                reach.for_each(rows, |i| {
                    let v = value(values, i);
                    if !strings.contains_key(v) {
                        strings.insert(v.into(), next);
                        fresh.push((next, v.into()));
                        next += 1;
                    }
                });
            }
            Kind::Codes => return Err(Error::invalid("codes are mapped by themselves")),
        }
        let bytes: usize = fresh.iter().map(|(_, v)| v.len()).sum();
        r.memory.grow(bytes + fresh.len() * 64)?;
        found.resize(next as usize, Value::Null);
        for (slot, bytes) in fresh {
            asked.add(slot, &bytes, &mut found, r)?;
        }
        r.poll()?;
    }
    asked.flush(&mut found, r)?;
    let index = match kind {
        Kind::I64 | Kind::IntCodes => match (ints.keys().min().copied(), ints.keys().max().copied()) {
            (Some(min), Some(max)) if is_dense(min, max, found.len()) => {
                let span = max.wrapping_sub(min) as usize + 1;
                let mut dense = vec![Value::Null; span];
                for (value, slot) in &ints {
                    dense[value.wrapping_sub(min) as usize] =
                        std::mem::replace(&mut found[*slot as usize], Value::Null);
                }
                return Ok((Index::Dense { min }, dense));
            }
            _ => Index::Hash(ints),
        },
        Kind::F64 => Index::Hash(ints),
        Kind::I128 => Index::Wide(wides),
        _ => Index::Bytes(strings),
    };
    Ok((index, found))
}

fn is_dense(min: i64, max: i64, values: usize) -> bool {
    let span = max.wrapping_sub(min) as u64;
    span < DENSE_SLOTS && span / DENSE_SHARE <= values as u64
}

fn last_value(
    value: i64,
    known: &mut HashMap<i64, u32>,
    next: &mut u32,
    fresh: &mut Vec<(u32, Box<[u8]>)>,
) -> Option<i64> {
    known.entry(value).or_insert_with(|| {
        fresh.push((*next, value.to_le_bytes().into()));
        *next += 1;
        *next - 1
    });
    Some(value)
}

/// Whether a row of `candidates` is NULL.
fn null_occurs(source: usize, candidates: &[Selection], r: &mut Resolver<'_, '_>) -> Result<bool> {
    for (block, candidate) in candidates.iter().enumerate() {
        if candidate.is_none() {
            continue;
        }
        r.scratch.begin(r.view, block);
        r.scratch.compute(r.view, source, candidate)?;
        if !r.scratch.is_null_free(r.view, source, candidate)? {
            let rows = r.scratch.rows();
            let null = candidate.clone().and_not(r.scratch.validity(r.view, source)?, rows);
            if !null.is_none() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Values to be shown to the host, each with its slot.
struct Asked {
    function: HostFunction,
    values: BytesBlock,
    slots: Vec<u32>,
}

impl Asked {
    fn new(function: HostFunction) -> Self {
        Asked { function, values: BytesBlock::default(), slots: Vec::new() }
    }

    /// Finds out what the host makes of `value`, at the latest with [`Asked::flush`].
    fn add(&mut self, slot: u32, value: &[u8], found: &mut [Value], r: &mut Resolver<'_, '_>) -> Result<()> {
        if let Some(known) = r.memo.mapped(self.function, value) {
            found[slot as usize] = known;
            return Ok(());
        }
        self.values.data.extend_from_slice(value);
        self.values.ends.push(self.values.data.len() as u32);
        self.slots.push(slot);
        if self.slots.len() >= BATCH || self.values.data.len() > 1 << 20 { self.flush(found, r) } else { Ok(()) }
    }

    fn flush(&mut self, found: &mut [Value], r: &mut Resolver<'_, '_>) -> Result<()> {
        if self.slots.is_empty() {
            return Ok(());
        }
        let results = r.host.map(self.function, &self.values)?;
        if results.len() != self.slots.len() {
            return Err(Error::invalid("the host answered another number of values than it was asked"));
        }
        for (i, (slot, result)) in self.slots.iter().zip(results).enumerate() {
            r.memo.put_mapped(self.function, value(&self.values, i), &result);
            if let Value::Bytes(bytes) = &result {
                r.memory.grow(bytes.len())?;
            }
            found[*slot as usize] = result;
        }
        self.slots.clear();
        self.values.data.clear();
        self.values.ends.clear();
        r.poll()
    }
}
