//! Writing a dictionary, value by value in ascending order.

use super::symbols::{LONGEST, Learner, NO_SYMBOLS};
use super::{CHUNK_VALUES, GROUP_VALUES, LONG_REST, LONG_SHARED};
use crate::encoding::cursor::put_varint;
use crate::segment::PartWriter;
use crate::{Error, Result};

/// A section ends with the chunk that fills it: its values are held until its table of symbols is learned.
const SECTION_BYTES: usize = 1 << 20;
const SECTION_CHUNKS: usize = 64;

/// Writes sections as they fill and keeps their directory.
#[derive(Default)]
pub(crate) struct DictionaryWriter {
    count: u32,
    last: Vec<u8>,
    /// Of the section: how many bytes each value shares with the one before, and where its rest ends in `data`.
    values: Vec<(u32, u32)>,
    data: Vec<u8>,
    directory: Vec<u8>,
    learner: Learner,
}

impl DictionaryWriter {
    /// `value` must be greater than the one before.
    pub fn push(&mut self, value: &[u8], out: &mut PartWriter) -> Result<()> {
        let shared = if self.values.len().is_multiple_of(GROUP_VALUES) { 0 } else { shared(&self.last, value) };
        self.data.extend_from_slice(&value[shared..]);
        let end = u32::try_from(self.data.len()).map_err(|_| too_long())?;
        self.values.push((u32::try_from(shared).map_err(|_| too_long())?, end));
        self.last.truncate(shared);
        self.last.extend_from_slice(&value[shared..]);
        self.count += 1;
        let whole = self.values.len().is_multiple_of(CHUNK_VALUES);
        let full = self.data.len() >= SECTION_BYTES || self.values.len() == SECTION_CHUNKS * CHUNK_VALUES;
        if whole && full { self.flush(out) } else { Ok(()) }
    }

    /// The value that was pushed last; empty before the first.
    pub fn last(&self) -> &[u8] {
        &self.last
    }

    fn flush(&mut self, out: &mut PartWriter) -> Result<()> {
        if self.values.is_empty() {
            return Ok(());
        }
        let bytes = self.data.len();
        // The encoder reads whole words.
        self.data.extend([0; LONGEST]);
        let mut start = 0;
        let rests = self.values.iter().map(|(_, end)| std::mem::replace(&mut start, *end as usize)..*end as usize);
        let encoder = self.learner.learn(&self.data, rests, bytes);
        let mut table = Vec::new();
        match &encoder {
            Some(encoder) => encoder.write(&mut table),
            None => table.extend(NO_SYMBOLS),
        }
        let crc = out.part(&table)?;
        put_varint(&mut self.directory, self.values.len().div_ceil(CHUNK_VALUES) as u64);
        put_varint(&mut self.directory, table.len() as u64);
        self.directory.extend(crc.to_le_bytes());
        let (mut chunk, mut codes) = (Vec::new(), Vec::new());
        let mut start = 0;
        for values in self.values.chunks(CHUNK_VALUES) {
            chunk.clear();
            chunk.resize(values.len().div_ceil(GROUP_VALUES) * 4, 0);
            for (number, group) in values.chunks(GROUP_VALUES).enumerate() {
                let at = u32::try_from(chunk.len()).map_err(|_| too_long())?;
                chunk[number * 4..][..4].copy_from_slice(&at.to_le_bytes());
                for (shared, end) in group {
                    let range = start..*end as usize;
                    start = range.end;
                    let rest = match &encoder {
                        Some(encoder) => {
                            codes.resize(codes.len().max(range.len() * 2), 0);
                            let count = encoder.encode(&self.data, range, &mut codes);
                            &codes[..count]
                        }
                        None => &self.data[range],
                    };
                    put_value(&mut chunk, *shared as usize, rest);
                }
            }
            let crc = out.part(&chunk)?;
            put_varint(&mut self.directory, chunk.len() as u64);
            self.directory.extend(crc.to_le_bytes());
        }
        self.values.clear();
        self.data.clear();
        Ok(())
    }

    /// Writes the last section, and appends the dictionary's part of the column's metadata to `meta`.
    pub fn finish(mut self, out: &mut PartWriter, meta: &mut Vec<u8>) -> Result<u32> {
        self.flush(out)?;
        meta.push(1);
        put_varint(meta, u64::from(self.count));
        meta.extend_from_slice(&self.directory);
        Ok(self.count)
    }
}

/// How many bytes both begin with.
pub(crate) fn shared(a: &[u8], b: &[u8]) -> usize {
    let mut at = 0;
    while let (Some(x), Some(y)) =
        (a.get(at..).and_then(|a| a.first_chunk::<8>()), b.get(at..).and_then(|b| b.first_chunk::<8>()))
    {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return at + differ.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + a[at..].iter().zip(&b[at..]).take_while(|(a, b)| a == b).count()
}

fn put_value(out: &mut Vec<u8>, shared: usize, rest: &[u8]) {
    let (short_shared, short_rest) = (shared.min(LONG_SHARED), rest.len().min(LONG_REST));
    out.push((short_shared << 3 | short_rest) as u8);
    if short_shared == LONG_SHARED {
        put_varint(out, (shared - LONG_SHARED) as u64);
    }
    if short_rest == LONG_REST {
        put_varint(out, (rest.len() - LONG_REST) as u64);
    }
    out.extend_from_slice(rest);
}

fn too_long() -> Error {
    Error::invalid("1,024 values of a dictionary exceed 4 GiB")
}
