//! The one place where files are mapped.

use std::fs::File;
use std::sync::Arc;

use crate::{Error, Result};

/// Where a segment's bytes are.
#[derive(Clone)]
pub enum SegmentBytes {
    Memory(Arc<[u8]>),
    Mapped(Arc<memmap2::Mmap>),
}

impl SegmentBytes {
    /// Maps a file that nobody will ever truncate or rewrite. Errors: `Io`; `Corrupt` if its length
    /// is not `length`.
    pub fn map(file: &File, length: u64) -> Result<Self> {
        let actual = file.metadata()?.len();
        if actual != length {
            return Err(Error::corrupt(format!("a file of {actual} bytes where {length} were expected")));
        }
        if length == 0 {
            return Ok(SegmentBytes::Memory(Arc::from([])));
        }
        let length = usize::try_from(length).map_err(|_| Error::invalid("a file larger than the address space"))?;
        // SAFETY: the caller guarantees that the file keeps its length and bytes for as long as it is
        // mapped (segment files are created under another name, renamed, and from then on only ever
        // unlinked); the mapping is read-only and not longer than the file.
        let map = unsafe { memmap2::MmapOptions::new().len(length).map(file)? };
        Ok(SegmentBytes::Mapped(Arc::new(map)))
    }

    pub fn as_slice(&self) -> &[u8] {
        match self {
            SegmentBytes::Memory(b) => b,
            SegmentBytes::Mapped(m) => m,
        }
    }
}
