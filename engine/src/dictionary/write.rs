//! Writing a dictionary, value by value in ascending order.

use super::{CHUNK_VALUES, GROUP_VALUES};
use crate::encoding::cursor::put_varint;
use crate::segment::PartWriter;
use crate::{Error, Result};

/// Writes chunks as they fill and keeps their directory.
#[derive(Default)]
pub(crate) struct DictionaryWriter {
    count: u32,
    in_chunk: usize,
    groups: Vec<u32>,
    body: Vec<u8>,
    last: Vec<u8>,
    chunk: Vec<u8>,
    directory: Vec<u8>,
}

impl DictionaryWriter {
    /// `value` must be greater than the one before.
    pub fn push(&mut self, value: &[u8], out: &mut PartWriter) -> Result<()> {
        if self.in_chunk.is_multiple_of(GROUP_VALUES) {
            let at = u32::try_from(self.body.len()).map_err(|_| too_long())?;
            self.groups.push(at);
            put_varint(&mut self.body, value.len() as u64);
            self.body.extend_from_slice(value);
        } else {
            let shared = self.last.iter().zip(value).take_while(|(a, b)| a == b).count();
            put_varint(&mut self.body, shared as u64);
            put_varint(&mut self.body, (value.len() - shared) as u64);
            self.body.extend_from_slice(&value[shared..]);
        }
        self.last.clear();
        self.last.extend_from_slice(value);
        self.in_chunk += 1;
        self.count += 1;
        if self.in_chunk == CHUNK_VALUES { self.flush(out) } else { Ok(()) }
    }

    fn flush(&mut self, out: &mut PartWriter) -> Result<()> {
        if self.in_chunk == 0 {
            return Ok(());
        }
        let header = (self.groups.len() * 4) as u32;
        self.chunk.clear();
        for at in &self.groups {
            let at = at.checked_add(header).ok_or_else(too_long)?;
            self.chunk.extend(at.to_le_bytes());
        }
        self.chunk.extend_from_slice(&self.body);
        let crc = out.part(&self.chunk)?;
        put_varint(&mut self.directory, self.chunk.len() as u64);
        self.directory.extend(crc.to_le_bytes());
        self.in_chunk = 0;
        self.groups.clear();
        self.body.clear();
        Ok(())
    }

    /// Writes the last chunk, and appends the dictionary's part of the column's metadata to `meta`.
    pub fn finish(mut self, out: &mut PartWriter, meta: &mut Vec<u8>) -> Result<u32> {
        self.flush(out)?;
        meta.push(1);
        put_varint(meta, u64::from(self.count));
        meta.extend_from_slice(&self.directory);
        Ok(self.count)
    }
}

fn too_long() -> Error {
    Error::invalid("1,024 values of a dictionary exceed 4 GiB")
}
