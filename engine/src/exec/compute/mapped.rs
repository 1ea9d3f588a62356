//! Columns that the host computes: its function is called once for each distinct value, or combination of values, that selected rows hold.

use super::super::columns::{BlockScratch, SegmentView};
use super::super::filter::{Resolver, null_occurs};
use super::super::like::value;
use super::lookup::fetch;
use super::numbering::{Combined, Numbering};
use super::texts;
use crate::exec::bits::Selection;
use crate::plan::{AttributeValues, Attributes, HostFunction, Limits, Mapped, TextFunction};
use crate::segment::BytesBlock;
use crate::types::{Physical, Value};
use crate::{Error, Result};

/// The values, or combinations of values, of one segment and what the host made of them.
pub(in crate::exec) struct MapTable {
    slots: Slots,
    /// By slot, those of rows that were not asked about (or are NULL) as the last.
    results: AttributeValues,
}

/// Where a row's result stands.
pub(super) enum Slots {
    One(Numbering),
    Several(Combined),
}

/// Values shown to the host at once.
const BATCH: usize = 1024;

impl MapTable {
    /// Asks the host about what rows of `candidates` hold. Errors: what the host says; `Budget`.
    pub fn new(
        mapped: &Mapped,
        result: Physical,
        candidates: &[Selection],
        r: &mut Resolver<'_, '_>,
    ) -> Result<MapTable> {
        let known = r.host.known(mapped.function);
        if let (Some(function), [source]) = (&known, mapped.columns.as_slice())
            && let Some((slots, results)) = texts::results(function, *source, result, candidates, r)?
        {
            return Ok(MapTable { slots, results });
        }
        let held = r.memory.bytes();
        let mut found = Attributes::new(result, &r.memory.budget().clone())?;
        let mut asked = Asked::new(mapped.function, result, known);
        let (slots, index) = match mapped.columns.as_slice() {
            [source] => {
                let null_occurs = mapped.of_null && null_occurs(*source, candidates, r)?;
                let ask = &mut |slot, value: &[u8], r: &mut Resolver<'_, '_>| asked.add(slot, value, &mut found, r);
                let numbering = Numbering::new(*source, candidates, ask, r)?;
                asked.flush(&mut found, r)?;
                let null = if null_occurs { r.map_null(mapped.function)? } else { Value::Null };
                found.set(numbering.null() as usize, &null)?;
                let bytes = numbering.bytes();
                (Slots::One(numbering), bytes)
            }
            sources => {
                let ask = &mut |slot, value: &[u8], r: &mut Resolver<'_, '_>| asked.add(slot, value, &mut found, r);
                let combined = Combined::new(sources, candidates, ask, r)?;
                asked.flush(&mut found, r)?;
                found.reach(combined.len() as usize + 1)?;
                let bytes = combined.bytes();
                (Slots::Several(combined), bytes)
            }
        };
        let results = found.finish()?;
        // Of what was held meanwhile the index stays.
        r.memory.resize(held + index)?;
        Ok(MapTable { slots, results })
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
        let (mut slots, codes) = scratch.take_slots(column);
        match &self.slots {
            Slots::One(numbering) => numbering.find(view, scratch, rows, &mut slots)?,
            Slots::Several(combined) => combined.find(view, scratch, rows, &mut slots)?,
        }
        let last = self.results.len() as u32 - 1;
        fetch(&self.results, slots.iter().map(|slot| (*slot).min(last)), codes, view, scratch, column, rows)?;
        scratch.keep_slots(column, slots);
        Ok(())
    }
}

/// Values to be shown to the host, each with its slot.
struct Asked {
    function: HostFunction,
    result: Physical,
    known: Option<TextFunction>,
    values: BytesBlock,
    slots: Vec<u32>,
}

impl Asked {
    fn new(function: HostFunction, result: Physical, known: Option<TextFunction>) -> Self {
        Asked { function, result, known, values: BytesBlock::default(), slots: Vec::new() }
    }

    /// Finds out what the host makes of `value`, at the latest with [`Asked::flush`].
    fn add(&mut self, slot: u32, value: &[u8], found: &mut Attributes, r: &mut Resolver<'_, '_>) -> Result<()> {
        if let Some(known) = &self.known {
            return found.set(slot as usize, &known.of(value));
        }
        if let Some(known) = r.memo.result(self.function, value) {
            return found.set(slot as usize, &known);
        }
        self.values.data.extend_from_slice(value);
        self.values.ends.push(self.values.data.len() as u32);
        self.slots.push(slot);
        if self.slots.len() >= BATCH || self.values.data.len() > 1 << 20 { self.flush(found, r) } else { Ok(()) }
    }

    fn flush(&mut self, found: &mut Attributes, r: &mut Resolver<'_, '_>) -> Result<()> {
        if self.slots.is_empty() {
            return Ok(());
        }
        let results = r.host.map(self.function, &self.values)?;
        if results.len() != self.slots.len() {
            return Err(Error::invalid("the host answered another number of values than it was asked"));
        }
        for (i, (slot, result)) in self.slots.iter().zip(results).enumerate() {
            r.memo.learn_result(self.function, self.result, value(&self.values, i), &result)?;
            found.set(*slot as usize, &result)?;
        }
        self.slots.clear();
        self.values.data.clear();
        self.values.ends.clear();
        r.poll()
    }
}
