//! One numbering of a dictionary column's values through several segments, so that their rows are grouped alike. Dictionaries are sorted:
//! they are merged by order, and no value is hashed.

use std::cmp::Ordering;

use super::columns::SegmentColumn;
use super::values::BytesMap;
use crate::plan::Host;
use crate::segment::BytesBlock;
use crate::{Budget, Reservation, Result};

/// The values of several dictionaries, in byte order.
pub(super) struct Unified {
    values: BytesMap,
}

/// A segment's codes as numbers of a [`Unified`]; behind the last one stands NULL's, the number of values.
pub(super) struct CodeMap {
    pub numbers: Vec<u32>,
    _memory: Reservation,
}

impl Unified {
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn get(&self, number: u32) -> &[u8] {
        self.values.get(number)
    }
}

/// Values decoded at a time.
const RUN: u32 = 1024;
/// Values merged between two polls.
const STEP: usize = 8192;

/// Where the merge stands in one dictionary.
struct Reader<'c, 'a> {
    column: &'c SegmentColumn<'a>,
    len: u32,
    run: BytesBlock,
    /// Code of the run's first value, and the place of the next in it.
    start: u32,
    at: usize,
    /// The first eight bytes of the next value, as a number of their order.
    head: u64,
}

impl Reader<'_, '_> {
    /// Goes to the next value. `false`: there is none.
    fn advance(&mut self, first: bool) -> Result<bool> {
        if !first {
            self.at += 1;
        }
        if self.at >= self.run.len() {
            self.start += self.run.len() as u32;
            if self.start >= self.len {
                return Ok(false);
            }
            self.run = self.column.dictionary_range(self.start..(self.start + RUN).min(self.len))?;
            self.at = 0;
        }
        let value = self.run.get(self.at);
        let mut head = [0; 8];
        let bytes = value.len().min(8);
        head[..bytes].copy_from_slice(&value[..bytes]);
        self.head = u64::from_be_bytes(head);
        Ok(true)
    }

    fn value(&self) -> &[u8] {
        self.run.get(self.at)
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.head.cmp(&other.head).then_with(|| self.value().cmp(other.value()))
    }
}

/// Merges the dictionaries of one column, whose kind is `Codes` in all. Errors: `Budget`, `Corrupt`.
pub(super) fn unify(
    columns: &[&SegmentColumn<'_>],
    budget: &Budget,
    host: &mut dyn Host,
) -> Result<(Unified, Vec<CodeMap>)> {
    let mut maps = Vec::with_capacity(columns.len());
    let mut readers = Vec::with_capacity(columns.len());
    let mut heap = Vec::with_capacity(columns.len());
    for column in columns {
        let len = column.dictionary_len()?;
        let memory = budget.reserve((len as usize + 1) * 4)?;
        maps.push(CodeMap { numbers: Vec::with_capacity(len as usize + 1), _memory: memory });
        let mut reader = Reader { column, len, run: BytesBlock::default(), start: 0, at: 0, head: 0 };
        if reader.advance(true)? {
            heap.push(readers.len());
        }
        readers.push(reader);
    }
    for at in (0..heap.len() / 2).rev() {
        sink(&mut heap, at, &readers);
    }
    let mut values = BytesMap::new(budget)?;
    let mut number = 0;
    let mut step = 0usize;
    while let Some(&least) = heap.first() {
        step += 1;
        if step.is_multiple_of(STEP) {
            host.poll()?;
        }
        let value = readers[least].value();
        if values.len() == 0 || values.get(number) != value {
            number = values.push_unhashed(value)?;
        }
        maps[least].numbers.push(number);
        if !readers[least].advance(false)? {
            heap.swap_remove(0);
        }
        sink(&mut heap, 0, &readers);
    }
    let null = values.len() as u32;
    maps.iter_mut().for_each(|map| map.numbers.push(null));
    Ok((Unified { values }, maps))
}

/// Restores the heap's order below `at`: the least value is on top.
fn sink(heap: &mut [usize], mut at: usize, readers: &[Reader<'_, '_>]) {
    loop {
        let mut least = at;
        for child in [2 * at + 1, 2 * at + 2] {
            if child < heap.len() && readers[heap[child]].compare(&readers[heap[least]]).is_lt() {
                least = child;
            }
        }
        if least == at {
            return;
        }
        heap.swap(at, least);
        at = least;
    }
}
