//! Parts of a file: bytes with a checksum, written front to back and checked when first read.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// Writes parts; knows the position and the checksum of the range since [`PartWriter::begin`].
pub(crate) struct PartWriter<'a> {
    out: &'a mut dyn Write,
    position: u64,
    start: u64,
    crc: u32,
}

impl<'a> PartWriter<'a> {
    pub fn new(out: &'a mut dyn Write) -> Self {
        PartWriter { out, position: 0, start: 0, crc: 0 }
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    /// Starts a range here.
    pub fn begin(&mut self) {
        self.start = self.position;
        self.crc = 0;
    }

    /// Offset, length and checksum of the range.
    pub fn range(&self) -> (u64, u64, u32) {
        (self.start, self.position - self.start, self.crc)
    }

    /// Writes a part and returns its checksum.
    pub fn part(&mut self, bytes: &[u8]) -> Result<u32> {
        self.out.write_all(bytes)?;
        self.position += bytes.len() as u64;
        let crc = crc32c::crc32c(bytes);
        self.crc =
            if self.position == self.start + bytes.len() as u64 { crc } else { crc32c::crc32c_append(self.crc, bytes) };
        Ok(crc)
    }
}

/// Where a part is in its column's range.
#[derive(Debug)]
pub(crate) struct Part {
    offset: u64,
    length: u64,
    crc: u32,
    checked: AtomicBool,
}

impl Part {
    pub fn len(&self) -> u64 {
        self.length
    }

    /// A part of `length` bytes at `*at`, which moves to its end.
    pub fn new(at: &mut u64, length: u64, crc: u32) -> Result<Self> {
        let offset = *at;
        *at = offset.checked_add(length).ok_or_else(|| Error::corrupt("the lengths of a column's parts"))?;
        Ok(Part { offset, length, crc, checked: AtomicBool::new(false) })
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    /// The part's bytes in `range`, checked the first time, unless `unchecked`.
    pub fn bytes<'a>(&self, range: &'a [u8], unchecked: bool, what: &str) -> Result<&'a [u8]> {
        let bytes =
            slice(range, self.offset, self.length).ok_or_else(|| Error::corrupt(format!("{what}: its place")))?;
        if !self.checked.load(Ordering::Relaxed) {
            check(bytes, self.crc, unchecked, what)?;
            self.checked.store(true, Ordering::Relaxed);
        }
        Ok(bytes)
    }
}

pub(crate) fn slice(bytes: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    bytes.get(start..end)
}

pub(crate) fn check(bytes: &[u8], crc: u32, unchecked: bool, what: &str) -> Result<()> {
    if unchecked || crc32c::crc32c(bytes) == crc {
        Ok(())
    } else {
        Err(Error::corrupt(format!("{what}: wrong checksum")))
    }
}
