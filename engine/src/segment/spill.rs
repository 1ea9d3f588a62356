//! Sorted runs in nameless temporary files.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Segment, SegmentBytes};
use crate::{Error, Result};

/// Writes a segment into a file of `directory` whose name is gone before its first byte: whatever
/// happens to the process, nothing is left over. The file lives as long as the segment.
pub(crate) fn run(directory: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<Segment> {
    let file = nameless(directory)?;
    let mut out = BufWriter::with_capacity(1 << 18, file);
    write(&mut out)?;
    let file = out.into_inner().map_err(|e| Error::Io(e.into_error()))?;
    let length = file.metadata()?.len();
    Segment::open(SegmentBytes::map(&file, length)?)
}

fn nameless(directory: &Path) -> Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!("run-{}-{number}.spill", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}
