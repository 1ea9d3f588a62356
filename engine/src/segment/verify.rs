//! Checking a whole file, as after a download.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashMap;

use roaring::RoaringBitmap;

use super::file::check;
use super::meta::IndexMeta;
use super::{BytesBlock, ColumnKind, ColumnReader, Segment};
use crate::dictionary::CHUNK_VALUES;
use crate::{Error, Result};

impl Segment {
    /// Checks every checksum and every bound in the file, as after a download.
    pub fn verify(&self) -> Result<()> {
        for column in self.columns() {
            if let Some(reader) = self.column(column.id) {
                check(reader.range(), reader.entry().crc, reader.unchecked(), "a column")?;
                let sorted = self.sorted_by_time().and_then(|t| self.columns().get(t)) == Some(column);
                reader.verify(self.blocks(), sorted)?;
            }
        }
        Ok(())
    }
}

impl ColumnReader<'_> {
    fn verify(&self, blocks: usize, sorted: bool) -> Result<()> {
        let (mut codes, mut i64s, mut i128s, mut f64s) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut strings = BytesBlock::default();
        let mut last = i64::MIN;
        for block in 0..blocks {
            match self.kind() {
                ColumnKind::I64 => self.decode_i64(block, &mut i64s)?,
                ColumnKind::I128 => self.decode_i128(block, &mut i128s)?,
                ColumnKind::F64 => self.decode_f64(block, &mut f64s)?,
                ColumnKind::Dictionary => self.decode_codes(block, &mut codes)?,
                ColumnKind::Bytes => self.decode_bytes(block, &mut strings)?,
            }
            self.validity(block)?;
            if sorted && self.kind() == ColumnKind::I64 && self.block(block)?.nulls < self.block(block)?.rows {
                // NULLs are last, and repeat the value before them.
                if i64s.first().is_some_and(|first| *first < last) || !i64s.is_sorted() {
                    return Err(Error::corrupt("times that are not sorted"));
                }
                last = i64s.last().copied().unwrap_or(last);
            }
        }
        if self.kind() == ColumnKind::Dictionary {
            self.verify_dictionary()?;
            self.verify_index(blocks)?;
            self.verify_bitmaps(blocks)?;
        }
        Ok(())
    }

    fn verify_dictionary(&self) -> Result<()> {
        let dictionary = self.dictionary()?;
        let mut values = dictionary.iter();
        let mut last: Option<Vec<u8>> = None;
        let mut count = 0;
        while values.advance()? {
            if last.as_deref().is_some_and(|last| last >= values.value()) {
                return Err(Error::corrupt("a dictionary that is not sorted"));
            }
            let slot = last.get_or_insert_default();
            slot.clear();
            slot.extend_from_slice(values.value());
            count += 1;
        }
        if count != dictionary.len() {
            return Err(Error::corrupt("a dictionary of another length"));
        }
        Ok(())
    }

    /// The rows of every bitmap hold its code, and no others do.
    fn verify_bitmaps(&self, blocks: usize) -> Result<()> {
        let IndexMeta::Some { bitmaps, .. } = &self.meta()?.index else { return Ok(()) };
        if bitmaps.is_empty() {
            return Ok(());
        }
        let mut counts: HashMap<u32, (RoaringBitmap, u64)> = HashMap::new();
        for (code, count, part) in bitmaps {
            counts.insert(*code, (self.bitmap(*count, part)?, 0));
        }
        let mut codes = Vec::new();
        let mut row = 0u32;
        for block in 0..blocks {
            self.decode_codes(block, &mut codes)?;
            for code in &codes {
                if let Some((bitmap, seen)) = counts.get_mut(code) {
                    if !bitmap.contains(row) {
                        return Err(Error::corrupt("an index"));
                    }
                    *seen += 1;
                }
                row += 1;
            }
        }
        let complete = counts.values().all(|(bitmap, seen)| bitmap.len() == *seen);
        if complete { Ok(()) } else { Err(Error::corrupt("an index")) }
    }

    /// Every code is in the blocks of its list and in no others.
    fn verify_index(&self, blocks: usize) -> Result<()> {
        let corrupt = || Error::corrupt("an index");
        let (mut ends, mut entries) = (Vec::new(), Vec::new());
        let values = self.values_in_dictionary()? as usize;
        for chunk in 0..values.div_ceil(CHUNK_VALUES) {
            match self.index_entries(chunk)? {
                Some(more) => {
                    for entry in more {
                        let block = entry >> 1;
                        let ascending = ends.last() == Some(&entries.len()) || entries.last() < Some(&block);
                        if block as usize > blocks || !(ascending || entries.is_empty()) {
                            return Err(corrupt());
                        }
                        if block as usize != blocks {
                            entries.push(block);
                        } else if ends.last().copied().unwrap_or(0) != entries.len() || entry & 1 == 0 {
                            return Err(corrupt());
                        }
                        if entry & 1 == 1 {
                            ends.push(entries.len());
                        }
                    }
                }
                None => ends.resize(values.min((chunk + 1) * CHUNK_VALUES), entries.len()),
            }
        }
        // What of each list was seen.
        let mut next: Vec<usize> = std::iter::once(0).chain(ends.iter().copied()).take(values).collect();
        let starts = next.clone();
        let mut codes = Vec::new();
        for block in 0..if entries.is_empty() { 0 } else { blocks } {
            self.decode_codes(block, &mut codes)?;
            for code in &codes {
                let code = *code as usize;
                let (Some(start), Some(next), Some(end)) = (starts.get(code), next.get_mut(code), ends.get(code))
                else {
                    continue;
                };
                if start == end || (*next > *start && entries.get(*next - 1).is_some_and(|b| *b as usize == block)) {
                    continue;
                }
                if *next == *end || entries.get(*next).is_none_or(|b| *b as usize != block) {
                    return Err(corrupt());
                }
                *next += 1;
            }
        }
        if entries.is_empty() || next == ends { Ok(()) } else { Err(corrupt()) }
    }
}
