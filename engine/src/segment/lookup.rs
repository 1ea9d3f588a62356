//! From codes to the blocks or rows that hold them, through a column's index.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;

use roaring::{MultiOps, RoaringBitmap};

use super::ColumnReader;
use super::file::Part;
use super::index::entry_width;
use super::meta::IndexMeta;
use crate::dictionary::CHUNK_VALUES;
use crate::encoding::bitpack::{Sink, unpack_with};
use crate::{Error, Result};

impl ColumnReader<'_> {
    /// One flag a block: whether a row of it may hold a code of these ranges (both ends included; `dictionary.len()` is
    /// NULL). `None`: the index does not tell, or excludes less than half of the blocks.
    pub fn blocks_of_codes(&self, ranges: &[(u32, u32)]) -> Result<Option<Vec<bool>>> {
        let IndexMeta::Some { lists: chunks, .. } = &self.meta()?.index else { return Ok(None) };
        let (values, blocks) = (self.values_in_dictionary()?, self.blocks());
        let mut found = vec![false; blocks];
        for (low, high) in ranges {
            if *high >= values {
                for (block, found) in found.iter_mut().enumerate() {
                    *found |= self.block(block)?.nulls > 0;
                }
            }
            let (low, end) = (*low as usize, (high.saturating_add(1).min(values)) as usize);
            for chunk in low / CHUNK_VALUES..end.div_ceil(CHUNK_VALUES).min(chunks.len()) {
                let first = chunk * CHUNK_VALUES;
                let within = low.saturating_sub(first)..end.saturating_sub(first);
                let Some(entries) = self.index_entries(chunk)? else { return Ok(None) };
                if !mark(&entries, within, &mut found)? {
                    return Ok(None);
                }
            }
        }
        let few = found.iter().filter(|f| **f).count() * 2 <= blocks;
        Ok(few.then_some(found))
    }

    /// The rows of the segment that hold a code of these ranges (both ends included), if each of the codes has a bitmap.
    pub fn rows_of_codes(&self, ranges: &[(u32, u32)]) -> Result<Option<RoaringBitmap>> {
        let IndexMeta::Some { bitmaps, .. } = &self.meta()?.index else { return Ok(None) };
        let mut found = Vec::new();
        for (low, high) in ranges {
            let first = bitmaps.partition_point(|(code, ..)| code < low);
            let after = bitmaps.partition_point(|(code, ..)| code <= high);
            if after - first != (high - low) as usize + 1 {
                return Ok(None);
            }
            for (_, count, part) in bitmaps.get(first..after).unwrap_or_default() {
                found.push(self.bitmap(*count, part)?);
            }
        }
        Ok(Some(found.union()))
    }

    pub(crate) fn bitmap(&self, count: u32, part: &Part) -> Result<RoaringBitmap> {
        let mut bytes = part.bytes(self.range(), self.unchecked(), "a bitmap")?;
        let bitmap = RoaringBitmap::deserialize_from(&mut bytes).map_err(|_| Error::corrupt("a bitmap"))?;
        let inside = bitmap.max().is_none_or(|row| row < self.rows());
        if !bytes.is_empty() || !inside || bitmap.len() != u64::from(count) {
            return Err(Error::corrupt("a bitmap"));
        }
        Ok(bitmap)
    }

    fn blocks(&self) -> usize {
        (self.rows() as usize).div_ceil(super::BLOCK_ROWS)
    }

    /// Entries of a chunk; `None`: none of its codes has a list.
    pub(crate) fn index_entries(&self, chunk: usize) -> Result<Option<Vec<u32>>> {
        let IndexMeta::Some { lists: chunks, .. } = &self.meta()?.index else { return Ok(None) };
        let Some(Some((count, part))) = chunks.get(chunk) else { return Ok(None) };
        let bytes = part.bytes(self.range(), self.unchecked(), "an index")?;
        let mut all = Collect(Vec::with_capacity(*count));
        unpack_with(bytes, *count, entry_width(self.blocks()), &mut all)?;
        let values = (self.values_in_dictionary()? as usize).saturating_sub(chunk * CHUNK_VALUES).min(CHUNK_VALUES);
        let lists = all.0.iter().filter(|entry| *entry & 1 == 1).count();
        if lists != values || all.0.last().is_none_or(|entry| entry & 1 == 0) {
            return Err(Error::corrupt("an index"));
        }
        Ok(Some(all.0))
    }
}

/// Marks the blocks of the lists `codes` of a chunk. `false`: one of the codes has no list.
fn mark(entries: &[u32], codes: Range<usize>, found: &mut [bool]) -> Result<bool> {
    let mut code = 0;
    for entry in entries {
        if codes.contains(&code) {
            let (block, blocks) = ((entry >> 1) as usize, found.len());
            match found.get_mut(block) {
                Some(found) => *found = true,
                None if block == blocks => return Ok(false),
                None => return Err(Error::corrupt("an index")),
            }
        }
        code += (entry & 1) as usize;
        if code >= codes.end {
            break;
        }
    }
    Ok(true)
}

struct Collect(Vec<u32>);

impl Sink for Collect {
    fn narrow(&mut self, values: &[u32]) {
        self.0.extend_from_slice(values);
    }

    // An entry has at most 18 bits.
    fn long(&mut self, _values: &[u64]) {}
}
