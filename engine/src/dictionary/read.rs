//! Reading a dictionary: by code, by value, in order.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cmp::Ordering;
use std::ops::Range;

use super::{CHUNK_VALUES, GROUP_VALUES};
use crate::encoding::cursor::Cursor;
use crate::segment::{BytesBlock, Part};
use crate::{Error, Result};

/// The directory of a dictionary.
#[derive(Debug)]
pub(crate) struct DictionaryMeta {
    pub count: u32,
    pub chunks: Vec<Part>,
}

impl DictionaryMeta {
    /// Reads the dictionary's part of a column's metadata; parts are laid out from `at` on.
    pub fn read(input: &mut Cursor, at: &mut u64) -> Result<Self> {
        match input.u8()? {
            1 => {}
            other => return Err(Error::Unsupported { what: format!("dictionary layout {other}") }),
        }
        let count = input.varint32()?;
        let mut chunks = Vec::new();
        for _ in 0..(count as usize).div_ceil(CHUNK_VALUES) {
            let length = input.varint()?;
            chunks.push(Part::new(at, length, input.u32()?)?);
        }
        Ok(DictionaryMeta { count, chunks })
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
    values: usize,
}

/// The values of one group, one after the other.
pub(crate) struct Values<'a> {
    input: Cursor<'a>,
    left: usize,
    first: bool,
}

impl<'a> Values<'a> {
    /// Puts the next value in `value`, which must hold the one before. `false`: there is none.
    pub fn next(&mut self, value: &mut Vec<u8>) -> Result<bool> {
        if self.left == 0 {
            self.input.end("a dictionary")?;
            return Ok(false);
        }
        self.left -= 1;
        let shared = if self.first { 0 } else { self.input.length()? };
        self.first = false;
        if shared > value.len() {
            return Err(corrupt());
        }
        let length = self.input.length()?;
        value.truncate(shared);
        value.extend_from_slice(self.input.take(length)?);
        Ok(true)
    }
}

impl Values<'_> {
    /// Appends the group's values `skip..end` to `out`.
    fn append(mut self, skip: usize, end: usize, out: &mut BytesBlock) -> Result<()> {
        // Values before `skip` are only what later ones share a beginning with.
        let keep = out.data.len();
        let (mut start, mut length) = (keep, 0);
        for nth in 0..end.min(self.left) {
            let shared = if nth == 0 { 0 } else { self.input.length()? };
            if shared > length {
                return Err(corrupt());
            }
            let own = self.input.length()?;
            let bytes = self.input.take(own)?;
            let before = start;
            start = out.data.len();
            out.data.extend_from_within(before..before + shared);
            out.data.extend_from_slice(bytes);
            length = shared + own;
            if nth <= skip && start > keep {
                // The value before was skipped.
                out.data.copy_within(start.., keep);
                out.data.truncate(keep + length);
                start = keep;
            }
            if nth >= skip {
                out.ends.push(u32::try_from(out.data.len()).map_err(|_| too_big())?);
            }
        }
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
        Ok(Values { input: Cursor::new(bytes), left, first: true })
    }

    /// The first value of a group, in place.
    fn head(&self, group: usize) -> Result<&'a [u8]> {
        let mut input = self.group(group)?.input;
        let length = input.length()?;
        input.take(length)
    }
}

impl<'a> Dictionary<'a> {
    pub fn len(&self) -> u32 {
        self.meta.count
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether values are I64 (else bytes). Version 1.0 of the format has dictionaries of bytes only.
    pub fn is_i64(&self) -> bool {
        false
    }

    /// Errors: `Invalid` unless [`Dictionary::is_i64`].
    pub fn i64_values(&self) -> Result<Vec<i64>> {
        Err(Error::invalid("a dictionary of byte strings"))
    }

    pub(crate) fn chunk(&self, index: usize) -> Result<Chunk<'a>> {
        let part = self.meta.chunks.get(index).ok_or_else(corrupt)?;
        let bytes = part.bytes(self.range, self.unchecked, "a dictionary")?;
        let values = (self.len() as usize - index * CHUNK_VALUES).min(CHUNK_VALUES);
        Ok(Chunk { bytes, values })
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
        out.data.clear();
        out.ends.clear();
        if codes.end > self.len() {
            return Err(Error::invalid("code outside of its dictionary"));
        }
        let (mut code, end) = (codes.start as usize, codes.end as usize);
        out.ends.reserve(end.saturating_sub(code));
        while code < end {
            let chunk_index = code / CHUNK_VALUES;
            let chunk = self.chunk(chunk_index)?;
            let chunk_end = end.min((chunk_index + 1) * CHUNK_VALUES);
            while code < chunk_end {
                let group = code % CHUNK_VALUES / GROUP_VALUES;
                let first = chunk_index * CHUNK_VALUES + group * GROUP_VALUES;
                let last = chunk_end.min(first + GROUP_VALUES);
                chunk.group(group)?.append(code - first, last - first, out)?;
                code = last;
            }
        }
        Ok(())
    }

    /// All values in order. Errors: `Unsupported` if they exceed 4 GiB.
    pub fn all(&self) -> Result<BytesBlock> {
        let mut out = BytesBlock::default();
        let mut value = Vec::new();
        for index in 0..self.meta.chunks.len() {
            let chunk = self.chunk(index)?;
            for group in 0..chunk.groups() {
                let mut values = chunk.group(group)?;
                while values.next(&mut value)? {
                    out.data.extend_from_slice(&value);
                    out.ends.push(u32::try_from(out.data.len()).map_err(|_| too_big())?);
                }
            }
        }
        Ok(out)
    }

    /// `Ok(code)` or `Err(code of the first greater value)`, as `slice::binary_search`.
    pub fn search(&self, wanted: &[u8]) -> Result<std::result::Result<u32, u32>> {
        let Some(chunk_index) = last_at_most(self.meta.chunks.len(), wanted, |i| self.chunk(i)?.head(0))? else {
            return Ok(Err(0));
        };
        let chunk = self.chunk(chunk_index)?;
        let group = last_at_most(chunk.groups(), wanted, |i| chunk.head(i))?.unwrap_or_default();
        let mut values = chunk.group(group)?;
        let mut code = u32::try_from(chunk_index * CHUNK_VALUES + group * GROUP_VALUES).map_err(|_| corrupt())?;
        let mut value = Vec::new();
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

/// The last of `count` ascending heads that is not greater than `wanted`.
fn last_at_most<'a>(count: usize, wanted: &[u8], head: impl Fn(usize) -> Result<&'a [u8]>) -> Result<Option<usize>> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if head(middle)? <= wanted { low = middle + 1 } else { high = middle }
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
