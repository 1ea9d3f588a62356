//! Checking a whole file, as after a download.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::file::check;
use super::{BytesBlock, ColumnKind, ColumnReader, Segment};
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
        let (mut nulls, mut last) = (0u64, i64::MIN);
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
            nulls += u64::from(self.block(block)?.nulls);
        }
        if self.kind() == ColumnKind::Dictionary {
            self.verify_dictionary(nulls)?;
        }
        Ok(())
    }

    fn verify_dictionary(&self, nulls: u64) -> Result<()> {
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
        let mut rows = 0;
        for code in 0..=dictionary.len() {
            let Some(found) = self.rows_of_codes(&[code])? else { return Ok(()) };
            rows += found.len();
            if code == dictionary.len() && found.len() != nulls {
                return Err(Error::corrupt("an index"));
            }
        }
        if rows == u64::from(self.rows()) { Ok(()) } else { Err(Error::corrupt("an index")) }
    }
}
