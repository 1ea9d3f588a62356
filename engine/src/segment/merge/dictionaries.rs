//! The dictionaries of many sources into one.

use super::input::Input;
use super::order::Heap;
use crate::dictionary::{DictionaryIter, Interner};
use crate::segment::column::Push;
use crate::segment::{BuildOptions, BytesBlock, ColumnKind, ColumnReader, Dictionary};
use crate::types::{Column, Value};
use crate::{Cancel, Error, Reservation, Result};

/// Values given between two looks at whether the work is to end.
const LOOK: usize = 1 << 12;

/// What the merged segment's dictionary will hold, and how sources' codes become its codes.
pub(super) struct MergedDictionary<'a> {
    pub sources: Vec<SourceDictionary<'a>>,
    pub count: u32,
    /// Of all distinct values.
    pub bytes: u64,
    cancel: Cancel,
    _reservation: Reservation,
}

pub(super) struct SourceDictionary<'a> {
    pub values: SourceValues<'a>,
    /// Code in the source -> merged code; `u32::MAX`: no row that is taken holds it.
    pub map: Vec<u32>,
    /// One bit a code; `None`: rows that are taken hold all of them.
    used: Option<Vec<u64>>,
}

pub(super) enum SourceValues<'a> {
    /// The source is older than the column.
    Missing,
    Stored {
        reader: ColumnReader<'a>,
        dictionary: Dictionary<'a>,
    },
    /// The source has plain bytes: a code a row, past the values for NULL.
    Built {
        values: Interner,
        order: Vec<u32>,
        codes: Vec<u32>,
    },
}

/// Takes a value, the number of its source, and its code there.
type Give<'a> = &'a mut dyn FnMut(&[u8], usize, usize) -> Result<()>;

/// The values of one source that are used, in order.
enum Values<'a> {
    Stored(DictionaryIter<'a>),
    Built { values: &'a Interner, order: &'a [u32] },
}

struct Walk<'a> {
    values: Values<'a>,
    used: Option<&'a [u64]>,
    /// Codes that were passed.
    passed: usize,
}

impl Walk<'_> {
    fn advance(&mut self) -> Result<bool> {
        loop {
            let more = match &mut self.values {
                Values::Stored(iter) => iter.advance()?,
                Values::Built { order, .. } => self.passed < order.len(),
            };
            if !more {
                return Ok(false);
            }
            self.passed += 1;
            if self.used.is_none_or(|used| used[self.code() / 64] >> (self.code() % 64) & 1 == 1) {
                return Ok(true);
            }
        }
    }

    fn code(&self) -> usize {
        self.passed - 1
    }

    fn value(&self) -> &[u8] {
        match &self.values {
            Values::Stored(iter) => iter.value(),
            Values::Built { values, order } => values.get(order[self.code()]),
        }
    }
}

impl<'a> MergedDictionary<'a> {
    pub fn new(column: &Column, inputs: &[Input<'a>], options: &BuildOptions) -> Result<Self> {
        let mut reservation = options.budget.reserve(0)?;
        let mut sources = Vec::new();
        for input in inputs {
            options.cancel.check()?;
            sources.push(SourceDictionary::new(column, input, &mut reservation, &options.cancel)?);
        }
        let cancel = options.cancel.clone();
        let mut merged = MergedDictionary { sources, count: 0, bytes: 0, cancel, _reservation: reservation };
        let mut maps: Vec<Vec<u32>> = merged.sources.iter_mut().map(|s| std::mem::take(&mut s.map)).collect();
        let (mut count, mut bytes) = (0u32, 0);
        let mut last = None;
        merged.walk(&mut |value, source, code| {
            // A value comes once for each source that has it, the sources in their order.
            if last.as_deref() != Some(value) {
                let slot: &mut Vec<u8> = last.get_or_insert_default();
                slot.clear();
                slot.extend_from_slice(value);
                bytes += value.len() as u64;
                count = count.checked_add(1).ok_or_else(|| Error::invalid("too many distinct values"))?;
            }
            if let Some(slot) = maps[source].get_mut(code) {
                *slot = count - 1;
            }
            Ok(())
        })?;
        for (source, map) in merged.sources.iter_mut().zip(maps) {
            source.map = map;
        }
        (merged.count, merged.bytes) = (count, bytes);
        Ok(merged)
    }

    /// Gives the merged values in order.
    pub fn visit(&self, push: Push) -> Result<()> {
        let mut next = 0;
        self.walk(&mut |value, source, code| {
            if self.sources[source].map[code] == next {
                next += 1;
                return push(value);
            }
            Ok(())
        })
    }

    /// Gives every used value of every source, in order, with the source and its code there.
    fn walk(&self, give: Give) -> Result<()> {
        let mut walks: Vec<Walk> = self.sources.iter().map(SourceDictionary::walk).collect();
        let mut live = Vec::new();
        for (source, walk) in walks.iter_mut().enumerate() {
            if walk.advance()? {
                live.push(source as u32);
            }
        }
        let less = |walks: &Vec<Walk>, a: u32, b: u32| {
            walks[a as usize].value().cmp(walks[b as usize].value()).then(a.cmp(&b)).is_lt()
        };
        let mut heap = Heap::new(live, |a, b| less(&walks, a, b));
        let mut given = 0;
        while let Some(source) = heap.top() {
            if given % LOOK == 0 {
                self.cancel.check()?;
            }
            given += 1;
            let walk = &mut walks[source as usize];
            give(walk.value(), source as usize, walk.code())?;
            let more = walk.advance()?;
            heap.fix_top(more, |a, b| less(&walks, a, b));
        }
        Ok(())
    }
}

impl<'a> SourceDictionary<'a> {
    fn new(column: &Column, input: &Input<'a>, reservation: &mut Reservation, cancel: &Cancel) -> Result<Self> {
        let values = match input.segment.column(column.id) {
            None => missing(column, input, reservation)?,
            Some(reader) if reader.ty().physical() != column.ty.physical() => {
                return Err(Error::Invalid(format!("column {} has changed its type", column.id.0)));
            }
            Some(reader) if reader.kind() == ColumnKind::Dictionary => {
                SourceValues::Stored { reader, dictionary: reader.dictionary()? }
            }
            Some(reader) => built(reader, input, reservation, cancel)?,
        };
        let count = match &values {
            SourceValues::Missing => 0,
            SourceValues::Stored { dictionary, .. } => dictionary.len() as usize,
            SourceValues::Built { values, .. } => values.len(),
        };
        reservation.grow(count * 4 + count / 8)?;
        let used = used_codes(&values, input, count)?;
        Ok(SourceDictionary { values, map: vec![u32::MAX; count], used })
    }

    fn walk(&self) -> Walk<'_> {
        let values = match &self.values {
            SourceValues::Missing => Values::Built { values: Interner::none(), order: &[] },
            SourceValues::Stored { dictionary, .. } => Values::Stored(dictionary.iter()),
            SourceValues::Built { values, order, .. } => Values::Built { values, order },
        };
        Walk { values, used: self.used.as_deref(), passed: 0 }
    }
}

/// Of a source that is older than the column: the one value that its rows hold, or none.
fn missing<'a>(column: &Column, input: &Input, reservation: &mut Reservation) -> Result<SourceValues<'a>> {
    let Some(fill) = input.fill(column.id) else { return Ok(SourceValues::Missing) };
    let Value::Bytes(bytes) = fill else {
        return Err(Error::Invalid(format!("the value that column {} is filled with has another type", column.id.0)));
    };
    let mut values = Interner::default();
    values.intern(bytes);
    let rows = input.segment.rows() as usize;
    reservation.grow(rows * 4 + values.memory())?;
    Ok(SourceValues::Built { values, order: vec![0], codes: vec![0; rows] })
}

/// Which codes the rows that are taken hold; `None`: all.
fn used_codes(values: &SourceValues, input: &Input, count: usize) -> Result<Option<Vec<u64>>> {
    let taken = input.rows.len();
    if taken == input.segment.rows() as usize {
        return Ok(None);
    }
    let mut used = vec![0u64; count.div_ceil(64)];
    // Past the values: NULL.
    let mut mark = |code: u32| {
        if (code as usize) < count {
            used[code as usize / 64] |= 1 << (code % 64);
        }
    };
    match values {
        SourceValues::Missing => {}
        SourceValues::Built { codes, .. } => (0..taken).for_each(|i| mark(codes[input.rows.get(i) as usize])),
        SourceValues::Stored { reader, .. } => {
            let mut rows: Vec<u32> = (0..taken).map(|i| input.rows.get(i)).collect();
            if !input.rows.ascend() {
                rows.sort_unstable();
            }
            let mut codes = Vec::new();
            let mut block = usize::MAX;
            for row in rows {
                let row = row as usize;
                if row / crate::segment::BLOCK_ROWS != block {
                    block = row / crate::segment::BLOCK_ROWS;
                    reader.decode_codes(block, &mut codes)?;
                }
                mark(codes[row % crate::segment::BLOCK_ROWS]);
            }
        }
    }
    Ok(Some(used))
}

/// A dictionary of a column of plain bytes.
fn built<'a>(
    reader: ColumnReader<'a>,
    input: &Input<'a>,
    reservation: &mut Reservation,
    cancel: &Cancel,
) -> Result<SourceValues<'a>> {
    let mut values = Interner::default();
    let mut codes = Vec::new();
    let mut block = BytesBlock::default();
    let mut held = 0;
    for number in 0..input.segment.blocks() {
        cancel.check()?;
        reader.decode_bytes(number, &mut block)?;
        let valid = reader.validity(number)?;
        for i in 0..block.len() {
            let is_valid = valid.as_ref().is_none_or(|words| words[i / 64] >> (i % 64) & 1 == 1);
            codes.push(if is_valid { values.intern(block.get(i)) } else { u32::MAX });
        }
        let memory = values.memory() + codes.capacity() * 4 + values.len() * 24;
        reservation.grow(memory.saturating_sub(held))?;
        held = held.max(memory);
    }
    let order = values.sorted(cancel)?;
    let mut ranks = vec![0; order.len()];
    for (rank, id) in order.iter().enumerate() {
        ranks[*id as usize] = rank as u32;
    }
    for code in &mut codes {
        *code = ranks.get(*code as usize).copied().unwrap_or(u32::MAX);
    }
    Ok(SourceValues::Built { values, order, codes })
}
