//! Reading a dictionary: by code, by value, in order.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::OnceLock;

use super::symbols::{LONGEST, SymbolTable};
use super::{CHUNK_VALUES, GROUP_VALUES, LONG_REST, LONG_SHARED};
use crate::encoding::cursor::Cursor;
use crate::segment::{BytesBlock, Part};
use crate::{Error, Result};

/// The directory of a dictionary.
#[derive(Debug)]
pub(crate) struct DictionaryMeta {
    pub count: u32,
    pub sections: Vec<Section>,
    /// Each with the number of its section.
    pub chunks: Vec<(Part, u32)>,
}

/// Chunks that share a table of symbols.
#[derive(Debug)]
pub(crate) struct Section {
    pub part: Part,
    table: OnceLock<Option<Box<SymbolTable>>>,
}

impl DictionaryMeta {
    /// Reads the dictionary's part of a column's metadata; parts are laid out from `at` on.
    pub fn read(input: &mut Cursor, at: &mut u64) -> Result<Self> {
        match input.u8()? {
            1 => {}
            other => return Err(Error::Unsupported { what: format!("dictionary layout {other}") }),
        }
        let count = input.varint32()?;
        let (mut sections, mut chunks) = (Vec::new(), Vec::new());
        let mut left = (count as usize).div_ceil(CHUNK_VALUES);
        while left > 0 {
            let number = u32::try_from(sections.len()).map_err(|_| corrupt())?;
            let within = input.length()?;
            if within == 0 || within > left {
                return Err(corrupt());
            }
            left -= within;
            let length = input.varint()?;
            sections.push(Section { part: Part::new(at, length, input.u32()?)?, table: OnceLock::new() });
            for _ in 0..within {
                let length = input.varint()?;
                chunks.push((Part::new(at, length, input.u32()?)?, number));
            }
        }
        Ok(DictionaryMeta { count, sections, chunks })
    }

    pub fn bytes(&self) -> u64 {
        let tables = self.sections.iter().map(|s| s.part.length()).sum::<u64>();
        tables + self.chunks.iter().map(|(part, _)| part.length()).sum::<u64>()
    }
}

/// A sorted dictionary: code = ordinal of the value in byte order (I64: numeric order).
#[derive(Clone, Copy)]
pub struct Dictionary<'a> {
    pub(crate) range: &'a [u8],
    pub(crate) meta: &'a DictionaryMeta,
    pub(crate) unchecked: bool,
}

/// One chunk, whose checksum is right.
#[derive(Clone, Copy)]
pub(crate) struct Chunk<'a> {
    bytes: &'a [u8],
    symbols: Option<&'a SymbolTable>,
    values: usize,
}

/// The values of one group, one after the other.
pub(crate) struct Values<'a> {
    input: Cursor<'a>,
    symbols: Option<&'a SymbolTable>,
    left: usize,
    first: bool,
}

impl<'a> Values<'a> {
    /// How many bytes the next value shares with the one before, and the rest of it as it is stored.
    #[inline]
    fn token(&mut self) -> Result<(usize, &'a [u8])> {
        let token = usize::from(self.input.u8()?);
        let (mut shared, mut rest) = (token >> 3, token & LONG_REST);
        if shared == LONG_SHARED {
            shared = self.input.length()?.checked_add(LONG_SHARED).ok_or_else(corrupt)?;
        }
        if rest == LONG_REST {
            rest = self.input.length()?.checked_add(LONG_REST).ok_or_else(corrupt)?;
        }
        if std::mem::take(&mut self.first) && shared > 0 {
            return Err(corrupt());
        }
        Ok((shared, self.input.take(rest)?))
    }

    #[inline]
    fn put(&self, rest: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match self.symbols {
            Some(symbols) => symbols.decode(rest, out),
            None => {
                out.extend_from_slice(rest);
                Ok(())
            }
        }
    }

    /// Puts the next value in `value`, which must hold the one before. `false`: there is none.
    pub fn next(&mut self, value: &mut Vec<u8>) -> Result<bool> {
        if self.left == 0 {
            self.input.end("a dictionary")?;
            return Ok(false);
        }
        self.left -= 1;
        let (shared, rest) = self.token()?;
        if shared > value.len() {
            return Err(corrupt());
        }
        value.truncate(shared);
        self.put(rest, value)?;
        Ok(true)
    }

    /// Appends the group's values `skip..end` to `out`.
    fn append(mut self, skip: usize, end: usize, out: &mut Appender) -> Result<()> {
        // Values before `skip` are only what later ones share a beginning with.
        let keep = out.at;
        let (mut start, mut length) = (keep, 0);
        for nth in 0..end.min(self.left) {
            let (shared, rest) = self.token()?;
            if shared > length {
                return Err(corrupt());
            }
            let before = start;
            start = out.at;
            out.value(before, shared, rest, self.symbols)?;
            length = out.at - start;
            if nth <= skip && start > keep {
                // The value before was skipped.
                out.data.copy_within(start..out.at, keep);
                out.at = keep + length;
                start = keep;
            }
            if nth >= skip {
                out.ends.push(u32::try_from(out.at).map_err(|_| too_big())?);
            }
        }
        Ok(())
    }
}

/// Values on their way into a block. What lies behind `at` is space: whole words are written, and the next value begins
/// where the one before ends.
struct Appender<'a> {
    data: &'a mut Vec<u8>,
    ends: &'a mut Vec<u32>,
    at: usize,
}

/// Bytes that are copied at once.
const STRIDE: usize = 32;

impl Appender<'_> {
    /// Appends the first `shared` bytes of what begins at `before`, and `rest`.
    #[inline]
    fn value(&mut self, before: usize, shared: usize, rest: &[u8], symbols: Option<&SymbolTable>) -> Result<()> {
        let need = self.at + shared + rest.len() * LONGEST + STRIDE;
        if self.data.len() < need {
            // Growing by half keeps the space small beside what a large block holds.
            self.data.resize(need.max(self.data.len() / 2 * 3), 0);
        }
        if shared <= STRIDE {
            let head = self.data.get(before..).and_then(|d| d.first_chunk::<STRIDE>()).copied();
            let slot = self.data.get_mut(self.at..).and_then(|d| d.first_chunk_mut::<STRIDE>());
            if let (Some(head), Some(slot)) = (head, slot) {
                *slot = head;
            }
        } else {
            self.data.copy_within(before..before + shared, self.at);
        }
        self.at += shared;
        let space = self.data.get_mut(self.at..).unwrap_or_default();
        self.at += match symbols {
            Some(symbols) => symbols.decode_into(rest, space)?,
            None => {
                space.get_mut(..rest.len()).ok_or_else(corrupt)?.copy_from_slice(rest);
                rest.len()
            }
        };
        Ok(())
    }
}

impl<'a> Chunk<'a> {
    fn groups(&self) -> usize {
        self.values.div_ceil(GROUP_VALUES)
    }

    fn offset(&self, group: usize) -> Result<usize> {
        if group == self.groups() {
            return Ok(self.bytes.len());
        }
        let bytes = self.bytes.get(group * 4..).and_then(|b| b.first_chunk::<4>()).ok_or_else(corrupt)?;
        Ok(u32::from_le_bytes(*bytes) as usize)
    }

    pub fn group(&self, group: usize) -> Result<Values<'a>> {
        let (start, end) = (self.offset(group)?, self.offset(group + 1)?);
        if start < self.groups() * 4 || (group == 0 && start != self.groups() * 4) {
            return Err(corrupt());
        }
        let bytes = self.bytes.get(start..end).ok_or_else(corrupt)?;
        let left = (self.values - group * GROUP_VALUES).min(GROUP_VALUES);
        Ok(Values { input: Cursor::new(bytes), symbols: self.symbols, left, first: true })
    }

    /// Whether the first value of a group is not greater than `wanted`.
    fn begins_at_most(&self, group: usize, wanted: &[u8], scratch: &mut Vec<u8>) -> Result<bool> {
        scratch.clear();
        let mut values = self.group(group)?;
        Ok(values.next(scratch)? && scratch.as_slice() <= wanted)
    }
}

impl<'a> Dictionary<'a> {
    pub fn len(&self) -> u32 {
        self.meta.count
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn chunk(&self, index: usize) -> Result<Chunk<'a>> {
        let (part, section) = self.meta.chunks.get(index).ok_or_else(corrupt)?;
        let bytes = part.bytes(self.range, self.unchecked, "a dictionary")?;
        let values = (self.len() as usize - index * CHUNK_VALUES).min(CHUNK_VALUES);
        let section = self.meta.sections.get(*section as usize).ok_or_else(corrupt)?;
        let symbols = match section.table.get() {
            Some(symbols) => symbols,
            None => {
                let bytes = section.part.bytes(self.range, self.unchecked, "a table of symbols")?;
                let read = SymbolTable::read(bytes)?.map(Box::new);
                section.table.get_or_init(|| read)
            }
        };
        Ok(Chunk { bytes, symbols: symbols.as_deref(), values })
    }

    /// Appends the bytes of `code` to `out`. Errors: `Invalid` past the end.
    pub fn get(&self, code: u32, out: &mut Vec<u8>) -> Result<()> {
        if code >= self.len() {
            return Err(Error::invalid("code outside of its dictionary"));
        }
        let code = code as usize;
        let chunk = self.chunk(code / CHUNK_VALUES)?;
        let mut values = chunk.group(code % CHUNK_VALUES / GROUP_VALUES)?;
        let mut value = Vec::new();
        for _ in 0..=code % GROUP_VALUES {
            values.next(&mut value)?;
        }
        out.extend_from_slice(&value);
        Ok(())
    }

    /// Puts the values of `codes` into `out`, which is emptied first. Errors: `Invalid` past the end; `Unsupported` if they
    /// exceed 4 GiB.
    pub fn range(&self, codes: Range<u32>, out: &mut BytesBlock) -> Result<()> {
        out.ends.clear();
        if codes.end > self.len() {
            return Err(Error::invalid("code outside of its dictionary"));
        }
        let (mut code, end) = (codes.start as usize, codes.end as usize);
        out.ends.reserve(end.saturating_sub(code));
        let BytesBlock { ends, data } = out;
        let mut appender = Appender { data, ends, at: 0 };
        while code < end {
            let chunk_index = code / CHUNK_VALUES;
            let chunk = self.chunk(chunk_index)?;
            let chunk_end = end.min((chunk_index + 1) * CHUNK_VALUES);
            while code < chunk_end {
                let group = code % CHUNK_VALUES / GROUP_VALUES;
                let first = chunk_index * CHUNK_VALUES + group * GROUP_VALUES;
                let last = chunk_end.min(first + GROUP_VALUES);
                chunk.group(group)?.append(code - first, last - first, &mut appender)?;
                code = last;
            }
        }
        let length = appender.at;
        out.data.truncate(length);
        Ok(())
    }

    /// All values in order. Errors: `Unsupported` if they exceed 4 GiB.
    pub fn all(&self) -> Result<BytesBlock> {
        let mut out = BytesBlock::default();
        self.range(0..self.len(), &mut out)?;
        Ok(out)
    }

    /// `Ok(code)` or `Err(code of the first greater value)`, as `slice::binary_search`.
    pub fn search(&self, wanted: &[u8]) -> Result<std::result::Result<u32, u32>> {
        let mut value = Vec::new();
        let chunks = self.meta.chunks.len();
        let found = last_where(chunks, |i| self.chunk(i)?.begins_at_most(0, wanted, &mut value))?;
        let Some(chunk_index) = found else { return Ok(Err(0)) };
        let chunk = self.chunk(chunk_index)?;
        let group = last_where(chunk.groups(), |i| chunk.begins_at_most(i, wanted, &mut value))?.unwrap_or_default();
        let mut values = chunk.group(group)?;
        let mut code = u32::try_from(chunk_index * CHUNK_VALUES + group * GROUP_VALUES).map_err(|_| corrupt())?;
        value.clear();
        while values.next(&mut value)? {
            match value.as_slice().cmp(wanted) {
                Ordering::Less => code += 1,
                Ordering::Equal => return Ok(Ok(code)),
                Ordering::Greater => break,
            }
        }
        Ok(Err(code))
    }

    /// All values in order, decoded as they are asked for.
    pub(crate) fn iter(&self) -> DictionaryIter<'a> {
        DictionaryIter { dictionary: *self, chunk: 0, group: 0, values: None, current: None, value: Vec::new() }
    }
}

/// The last of `count` positions where `holds`, which is so up to it and not after.
fn last_where(count: usize, mut holds: impl FnMut(usize) -> Result<bool>) -> Result<Option<usize>> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle)? { low = middle + 1 } else { high = middle }
    }
    Ok(low.checked_sub(1))
}

/// Values in order, without holding more than one.
pub(crate) struct DictionaryIter<'a> {
    dictionary: Dictionary<'a>,
    chunk: usize,
    group: usize,
    current: Option<Chunk<'a>>,
    values: Option<Values<'a>>,
    value: Vec<u8>,
}

impl DictionaryIter<'_> {
    /// `false`: the values are exhausted.
    pub fn advance(&mut self) -> Result<bool> {
        loop {
            if let Some(values) = &mut self.values {
                if values.next(&mut self.value)? {
                    return Ok(true);
                }
                self.values = None;
            }
            match self.current {
                Some(chunk) if self.group < chunk.groups() => {
                    self.values = Some(chunk.group(self.group)?);
                    self.group += 1;
                }
                _ if self.chunk < self.dictionary.meta.chunks.len() => {
                    self.current = Some(self.dictionary.chunk(self.chunk)?);
                    self.chunk += 1;
                    self.group = 0;
                }
                _ => return Ok(false),
            }
        }
    }

    /// The value that [`DictionaryIter::advance`] came to.
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

fn corrupt() -> Error {
    Error::corrupt("a dictionary")
}

fn too_big() -> Error {
    Error::Unsupported { what: "a dictionary of more than 4 GiB".into() }
}
