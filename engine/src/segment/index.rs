//! In which blocks a code occurs, where those are few: `docs/segment-format.md`, section 8.

use super::BLOCK_ROWS;
use super::file::PartWriter;
use crate::dictionary::CHUNK_VALUES;
use crate::encoding::bitpack;
use crate::encoding::cursor::put_varint;
use crate::types::Column;
use crate::{Cancel, Result};

pub(crate) const NONE: u8 = 0;
pub(crate) const BLOCKS: u8 = 1;

/// Codes whose lists are made at a time, so that what is looked up at random stays in a processor's cache.
const RANGE: u32 = 1 << 17;

/// Bits of an entry of a segment of so many blocks: a block's number, or the count of blocks, and a flag.
pub(crate) fn entry_width(blocks: usize) -> u8 {
    bitpack::width(blocks as u64) + 1
}

/// Writes the lists of a column of `values` distinct values if there are any, and their directory to `meta`.
pub(crate) fn write(
    column: &Column,
    values: u32,
    codes: &[u32],
    cancel: &Cancel,
    out: &mut PartWriter,
    meta: &mut Vec<u8>,
) -> Result<()> {
    let blocks = codes.len().div_ceil(BLOCK_ROWS);
    let mut directory = Vec::new();
    let mut any = false;
    if column.indexed && blocks > 1 {
        let mut bytes = Vec::new();
        let mut start = 0;
        while start < values {
            cancel.check()?;
            let count = RANGE.min(values - start);
            let lists = Lists::of(codes, start, count, blocks);
            for first in (0..count as usize).step_by(CHUNK_VALUES) {
                let entries = lists.entries(first..(first + CHUNK_VALUES).min(count as usize));
                put_varint(&mut directory, entries.len() as u64);
                if !entries.is_empty() {
                    any = true;
                    bytes.clear();
                    bitpack::pack(&entries, entry_width(blocks), &mut bytes);
                    directory.extend(out.part(&bytes)?.to_le_bytes());
                }
            }
            start += count;
        }
    }
    if any {
        meta.push(BLOCKS);
        meta.extend_from_slice(&directory);
    } else {
        meta.push(NONE);
    }
    Ok(())
}

/// The lists of a range of codes.
struct Lists {
    blocks: usize,
    /// Where each code's list ends in `numbers`; empty: it occurs in too many blocks.
    ends: Vec<u32>,
    numbers: Vec<u16>,
}

impl Lists {
    fn of(codes: &[u32], start: u32, count: u32, blocks: usize) -> Lists {
        // A list pays if it excludes most blocks.
        let limit = (blocks / 8).max(1) as u32;
        let mut last = vec![u32::MAX; count as usize];
        let mut ends = vec![0u32; count as usize];
        let occurrences = |give: &mut dyn FnMut(usize, u32)| {
            for (block, codes) in codes.chunks(BLOCK_ROWS).enumerate() {
                for code in codes {
                    let at = code.wrapping_sub(start);
                    if at < count {
                        give(at as usize, block as u32);
                    }
                }
            }
        };
        occurrences(&mut |at, block| {
            ends[at] += u32::from(last[at] != block);
            last[at] = block;
        });
        let mut sum = 0;
        for end in &mut ends {
            let length = if *end <= limit { *end } else { 0 };
            // Where the list begins, until it is filled.
            *end = if length == 0 { u32::MAX } else { sum };
            sum += length;
        }
        let mut numbers = vec![0u16; sum as usize];
        last.fill(u32::MAX);
        occurrences(&mut |at, block| {
            if last[at] != block && ends[at] != u32::MAX {
                last[at] = block;
                // Rows are fewer than 2^32, blocks at most 2^16.
                numbers[ends[at] as usize] = block as u16;
                ends[at] += 1;
            }
        });
        let mut before = 0;
        for end in &mut ends {
            if *end == u32::MAX {
                *end = before;
            }
            before = *end;
        }
        Lists { blocks, ends, numbers }
    }

    /// Of a chunk; empty if none of its codes has a list.
    fn entries(&self, codes: std::ops::Range<usize>) -> Vec<u64> {
        let start = |code: usize| if code == 0 { 0 } else { self.ends[code - 1] as usize };
        let mut entries = Vec::new();
        if start(codes.start) == start(codes.end) {
            return entries;
        }
        for code in codes {
            match &self.numbers[start(code)..self.ends[code] as usize] {
                [] => entries.push((self.blocks as u64) << 1 | 1),
                list => {
                    entries.extend(list.iter().map(|block| u64::from(*block) << 1));
                    *entries.last_mut().unwrap_or(&mut 0) |= 1;
                }
            }
        }
        entries
    }
}
