//! From codes to rows, through a column's index.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use roaring::{MultiOps, RoaringBitmap};

use super::ColumnReader;
use super::file::Part;
use super::index::CHUNK_ENTRIES;
use super::meta::{IndexMeta, PackedArray};
use crate::encoding::bitpack::{self, Sink};
use crate::{Error, Result};

impl ColumnReader<'_> {
    /// Rows (of the whole segment) whose code is in `codes` (ascending; `dictionary.len()` is NULL). `None`: the column has
    /// neither bitmaps nor postings.
    pub fn rows_of_codes(&self, codes: &[u32]) -> Result<Option<RoaringBitmap>> {
        match &self.meta()?.index {
            IndexMeta::None => Ok(None),
            IndexMeta::Bitmaps(bitmaps) => {
                let mut found = Vec::new();
                for code in codes {
                    let (count, part) = bitmaps.get(*code as usize).ok_or_else(no_code)?;
                    if let Some(part) = part {
                        found.push(self.bitmap(*count, part)?);
                    }
                }
                Ok(Some(found.union()))
            }
            IndexMeta::Postings { starts, rows } => {
                let mut found = Vec::new();
                for code in codes {
                    let (start, end) = self.posting(starts, *code)?;
                    self.unpack(rows, start, end, &mut found)?;
                }
                if found.iter().any(|row| *row >= self.rows()) {
                    return Err(Error::corrupt("an index"));
                }
                found.sort_unstable();
                found.dedup();
                let bitmap = RoaringBitmap::from_sorted_iter(found).map_err(|_| Error::corrupt("an index"))?;
                Ok(Some(bitmap))
            }
        }
    }

    /// How many rows hold `code`, where an index tells without decoding.
    pub fn rows_of_code_count(&self, code: u32) -> Result<Option<u64>> {
        match &self.meta()?.index {
            IndexMeta::None => Ok(None),
            IndexMeta::Bitmaps(bitmaps) => {
                let (count, _) = bitmaps.get(code as usize).ok_or_else(no_code)?;
                Ok(Some(u64::from(*count)))
            }
            IndexMeta::Postings { starts, .. } => {
                let (start, end) = self.posting(starts, code)?;
                Ok(Some((end - start) as u64))
            }
        }
    }

    fn bitmap(&self, count: u32, part: &Part) -> Result<RoaringBitmap> {
        let mut bytes = part.bytes(self.range(), self.unchecked(), "a bitmap")?;
        let bitmap = RoaringBitmap::deserialize_from(&mut bytes).map_err(|_| Error::corrupt("a bitmap"))?;
        let inside = bitmap.max().is_none_or(|row| row < self.rows());
        if !bytes.is_empty() || !inside || bitmap.len() != u64::from(count) {
            return Err(Error::corrupt("a bitmap"));
        }
        Ok(bitmap)
    }

    /// Where the rows of `code` are in the postings.
    fn posting(&self, starts: &PackedArray, code: u32) -> Result<(usize, usize)> {
        let code = code as usize;
        if code + 2 > starts.length {
            return Err(no_code());
        }
        let (start, end) = (self.entry_at(starts, code)?, self.entry_at(starts, code + 1)?);
        if start > end || end > self.rows() as usize {
            return Err(Error::corrupt("an index"));
        }
        Ok((start, end))
    }

    fn chunk(&self, array: &PackedArray, chunk: usize) -> Result<(&[u8], usize)> {
        let part = array.chunks.get(chunk).ok_or_else(|| Error::corrupt("an index"))?;
        let bytes = part.bytes(self.range(), self.unchecked(), "an index")?;
        Ok((bytes, (array.length - chunk * CHUNK_ENTRIES).min(CHUNK_ENTRIES)))
    }

    fn entry_at(&self, array: &PackedArray, index: usize) -> Result<usize> {
        let (bytes, entries) = self.chunk(array, index / CHUNK_ENTRIES)?;
        let value = bitpack::unpack_one(bytes, entries, array.width, index % CHUNK_ENTRIES)?;
        usize::try_from(value).map_err(|_| Error::corrupt("an index"))
    }

    /// Appends entries `start..end`.
    fn unpack(&self, array: &PackedArray, start: usize, end: usize, out: &mut Vec<u32>) -> Result<()> {
        if end - start < 256 {
            for index in start..end {
                out.push(u32::try_from(self.entry_at(array, index)?).map_err(|_| Error::corrupt("an index"))?);
            }
            return Ok(());
        }
        for chunk in start / CHUNK_ENTRIES..end.div_ceil(CHUNK_ENTRIES) {
            let (bytes, entries) = self.chunk(array, chunk)?;
            let mut all = Collect(Vec::with_capacity(entries));
            bitpack::unpack_with(bytes, entries, array.width, &mut all)?;
            let base = chunk * CHUNK_ENTRIES;
            let range = start.saturating_sub(base)..(end - base).min(entries);
            out.extend_from_slice(all.0.get(range).ok_or_else(|| Error::corrupt("an index"))?);
        }
        Ok(())
    }
}

struct Collect(Vec<u32>);

impl Sink for Collect {
    fn narrow(&mut self, values: &[u32]) {
        self.0.extend_from_slice(values);
    }

    // Widths above 32 are refused when the directory is read.
    fn long(&mut self, _values: &[u64]) {}
}

fn no_code() -> Error {
    Error::invalid("code outside of its dictionary")
}
