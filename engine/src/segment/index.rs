//! Rows by code: a bitmap a value, or postings: `docs/segment-format.md`, section 8.

use roaring::RoaringBitmap;

use super::file::PartWriter;
use crate::encoding::bitpack;
use crate::encoding::cursor::put_varint;
use crate::types::Column;
use crate::{Cancel, Result};

pub(crate) const NONE: u8 = 0;
pub(crate) const BITMAPS: u8 = 1;
pub(crate) const POSTINGS: u8 = 2;

/// Entries of a full chunk of a packed array: the unit that has a checksum.
pub(crate) const CHUNK_ENTRIES: usize = 65_536;

/// With fewer rows, decoding the codes costs no more than reading an index.
const MIN_ROWS: usize = 1024;

/// Writes what index pays for a column of `values` distinct values, and its directory to `meta`.
pub(crate) fn write(
    column: &Column,
    values: u32,
    codes: &[u32],
    cancel: &Cancel,
    out: &mut PartWriter,
    meta: &mut Vec<u8>,
) -> Result<()> {
    if !column.indexed || codes.len() < MIN_ROWS {
        meta.push(NONE);
        return Ok(());
    }
    let (starts, rows) = rows_by_code(values, codes);
    cancel.check()?;
    if bitmaps_pay(values, codes) {
        meta.push(BITMAPS);
        let mut bytes = Vec::new();
        for bounds in starts.windows(2) {
            let rows = &rows[bounds[0] as usize..bounds[1] as usize];
            put_varint(meta, rows.len() as u64);
            if rows.is_empty() {
                continue;
            }
            let mut bitmap: RoaringBitmap = RoaringBitmap::from_sorted_iter(rows.iter().copied())
                .map_err(|_| crate::Error::invalid("rows of a code are not ascending"))?;
            bitmap.optimize();
            bytes.clear();
            bitmap.serialize_into(&mut bytes)?;
            let crc = out.part(&bytes)?;
            put_varint(meta, bytes.len() as u64);
            meta.extend(crc.to_le_bytes());
        }
    } else {
        meta.push(POSTINGS);
        for array in [starts, rows] {
            let width = bitpack::width(u64::from(array.iter().copied().max().unwrap_or(0)));
            meta.push(width);
            let mut entries = Vec::with_capacity(CHUNK_ENTRIES);
            let mut bytes = Vec::new();
            for chunk in array.chunks(CHUNK_ENTRIES) {
                entries.clear();
                entries.extend(chunk.iter().map(|v| u64::from(*v)));
                bytes.clear();
                bitpack::pack(&entries, width, &mut bytes);
                meta.extend(out.part(&bytes)?.to_le_bytes());
            }
        }
    }
    Ok(())
}

/// Rows ordered by code, and where each code (then NULL) begins among them, and their end.
fn rows_by_code(values: u32, codes: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0u32; values as usize + 2];
    for code in codes {
        starts[*code as usize + 1] += 1;
    }
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    let mut rows = vec![0u32; codes.len()];
    for (row, code) in codes.iter().enumerate() {
        let slot = &mut starts[*code as usize];
        rows[*slot as usize] = row as u32;
        *slot += 1;
    }
    // Every start moved to the next code's.
    starts.pop();
    starts.insert(0, 0);
    (starts, rows)
}

/// Bitmaps are quicker to combine than postings; they pay up to twice the size. A bitmap takes at most two
/// bytes a row, or 8 KiB, in each range of 65,536 rows where its code occurs, and 8 bytes a range.
fn bitmaps_pay(values: u32, codes: &[u32]) -> bool {
    // A range a value is too much already.
    if values as usize > codes.len() / 2 {
        return false;
    }
    let mut last = vec![u32::MAX; values as usize + 1];
    let mut ranges = 0usize;
    for (range, chunk) in codes.chunks(65_536).enumerate() {
        for code in chunk {
            let last = &mut last[*code as usize];
            ranges += usize::from(*last != range as u32);
            *last = range as u32;
        }
    }
    let bitmaps = (codes.len() * 2).min(ranges * 8192) + ranges * 8 + last.len() * 16;
    let width = usize::from(bitpack::width(codes.len() as u64));
    let postings = (codes.len() + last.len()) * width / 8;
    bitmaps <= 2 * postings
}
