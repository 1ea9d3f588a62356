//! Columns that the host computes: its function is called once for each distinct value that selected rows hold.

use hashbrown::HashMap;

use super::super::columns::{BlockScratch, Kind, SegmentView};
use super::super::filter::{Resolver, occurring};
use super::super::like::value;
use crate::exec::bits::{Bits, Selection};
use crate::plan::{HostFunction, Limits};
use crate::segment::BytesBlock;
use crate::types::{Physical, Value};
use crate::{Error, Result};

/// The values of one segment and what the host made of them.
pub(in crate::exec) struct MapTable {
    /// The column that is mapped.
    source: usize,
    index: Index,
    results: Results,
    /// Slots whose result is not NULL; `None`: all.
    valid: Option<Bits>,
    /// Slots that are in use, NULL's among them as the last.
    slots: usize,
    limits: Limits,
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

enum Results {
    Ints(Vec<i64>),
    Wide(Vec<i128>),
    Floats(Vec<f64>),
    /// Codes of the distinct results, ascending.
    Codes(Vec<u32>, BytesBlock),
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
        let (index, mut found, slots) = match kind {
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
                let slots = found.len();
                (Index::Codes, found, slots)
            }
            _ => distinct(source, function, kind, candidates, r)?,
        };
        found.push(if null_occurs { r.map_null(function)? } else { Value::Null });
        let mut valid = Bits::zeros(found.len());
        found.iter().enumerate().filter(|(_, v)| !v.is_null()).for_each(|(i, _)| valid.set(i));
        let all = valid.count() == found.len();
        let ints = found.iter().filter_map(|v| if let Value::I64(v) = v { Some(i128::from(*v)) } else { None });
        let least = ints.clone().min().unwrap_or(0);
        let limits = (result == Physical::I64).then(|| (least, ints.max().unwrap_or(0)));
        let results = results(&found, result)?;
        drop(found);
        // Of what was held meanwhile the results stay.
        let strings =
            if let Results::Codes(_, values) = &results { values.data.len() + values.ends.len() * 4 } else { 0 };
        r.memory.resize(held + slots * 24 + strings)?;
        Ok(MapTable { source, index, results, valid: (!all).then_some(valid), slots: slots + 1, limits })
    }

    /// Smallest and largest integer that there is.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The distinct results, where they are byte strings.
    pub fn dictionary(&self) -> Option<&BytesBlock> {
        match &self.results {
            Results::Codes(_, dictionary) => Some(dictionary),
            _ => None,
        }
    }

    /// Looks up the results of the scratch's block.
    pub fn apply(
        &self,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        column: usize,
        rows: &Selection,
    ) -> Result<()> {
        let mut slots = scratch.take_slots(column);
        self.find(view, scratch, &mut slots)?;
        let last = self.slots as u32 - 1;
        let slot_of = |slot: u32| slot.min(last) as usize;
        let valid = match &self.valid {
            None => Selection::All,
            Some(valid) => {
                let mut bits = Bits::zeros(slots.len());
                for (run, word) in slots.chunks(64).zip(bits.words_mut()) {
                    *word = run.iter().enumerate().fold(0, |w, (i, s)| w | u64::from(valid.get(slot_of(*s))) << i);
                }
                Selection::of(bits)
            }
        };
        let mut space = scratch.take_space(column);
        let mut codes = Vec::new();
        match &self.results {
            Results::Ints(values) => {
                space.ints.clear();
                space.ints.extend(slots.iter().map(|s| values[slot_of(*s)]));
            }
            Results::Wide(values) => {
                space.wide.clear();
                space.wide.extend(slots.iter().map(|s| values[slot_of(*s)]));
            }
            Results::Floats(values) => {
                space.floats.clear();
                space.floats.extend(slots.iter().map(|s| values[slot_of(*s)]));
            }
            Results::Codes(values, _) => codes.extend(slots.iter().map(|s| values[slot_of(*s)])),
        }
        scratch.put_space(column, space);
        scratch.put_slots(column, slots, codes);
        let narrow = matches!(self.results, Results::Ints(_));
        scratch.computed(view, column, rows.clone(), valid, narrow, self.limits());
        Ok(())
    }

    /// The slot of each row; values that were not asked about have any.
    fn find(&self, view: &SegmentView<'_>, scratch: &mut BlockScratch, slots: &mut Vec<u32>) -> Result<()> {
        let (source, last) = (self.source, self.slots as u32 - 1);
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
) -> Result<(Index, Vec<Value>, usize)> {
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
    let slots = found.len();
    let index = match kind {
        Kind::I64 | Kind::IntCodes => match (ints.keys().min().copied(), ints.keys().max().copied()) {
            (Some(min), Some(max)) if is_dense(min, max, slots) => {
                let span = max.wrapping_sub(min) as usize + 1;
                let mut dense = vec![Value::Null; span];
                for (value, slot) in &ints {
                    dense[value.wrapping_sub(min) as usize] =
                        std::mem::replace(&mut found[*slot as usize], Value::Null);
                }
                return Ok((Index::Dense { min }, dense, span));
            }
            _ => Index::Hash(ints),
        },
        Kind::F64 => Index::Hash(ints),
        Kind::I128 => Index::Wide(wides),
        _ => Index::Bytes(strings),
    };
    Ok((index, found, slots))
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
        if r.scratch.header(r.view, source)?.nulls > 0 {
            let rows = r.scratch.rows();
            let null = candidate.clone().and_not(r.scratch.validity(r.view, source)?, rows);
            if !null.is_none() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn results(found: &[Value], physical: Physical) -> Result<Results> {
    let misfit = || Error::invalid("the host's results are of another type than they should be");
    Ok(match physical {
        Physical::I64 => Results::Ints(
            found
                .iter()
                .map(|v| match v {
                    Value::I64(v) => Ok(*v),
                    Value::Null => Ok(0),
                    _ => Err(misfit()),
                })
                .collect::<Result<_>>()?,
        ),
        Physical::I128 => Results::Wide(
            found
                .iter()
                .map(|v| match v {
                    Value::I128(v) => Ok(*v),
                    Value::Null => Ok(0),
                    _ => Err(misfit()),
                })
                .collect::<Result<_>>()?,
        ),
        Physical::F64 => Results::Floats(
            found
                .iter()
                .map(|v| match v {
                    Value::F64(v) => Ok(*v),
                    Value::Null => Ok(0.0),
                    _ => Err(misfit()),
                })
                .collect::<Result<_>>()?,
        ),
        Physical::Bytes => {
            let mut distinct: Vec<&[u8]> = Vec::new();
            for v in found {
                match v {
                    Value::Bytes(v) => distinct.push(v),
                    Value::Null => {}
                    _ => return Err(misfit()),
                }
            }
            distinct.sort_unstable();
            distinct.dedup();
            let code = |v: &Value| match v {
                Value::Bytes(v) => distinct.binary_search(&v.as_slice()).unwrap_or(0) as u32,
                _ => distinct.len() as u32,
            };
            let codes = found.iter().map(code).collect();
            let mut dictionary = BytesBlock::default();
            for v in &distinct {
                dictionary.data.extend_from_slice(v);
                dictionary.ends.push(dictionary.data.len() as u32);
            }
            Results::Codes(codes, dictionary)
        }
    })
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
