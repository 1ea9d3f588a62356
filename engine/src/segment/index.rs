//! In which blocks a code occurs, where those are few, and in which rows, where those are few but scattered:
//! `docs/segment-format.md`, section 8.

use roaring::RoaringBitmap;

use super::BLOCK_ROWS;
use super::file::PartWriter;
use crate::dictionary::CHUNK_VALUES;
use crate::encoding::bitpack;
use crate::encoding::cursor::put_varint;
use crate::types::Column;
use crate::{Cancel, Result};

pub(crate) const NONE: u8 = 0;
pub(crate) const BLOCKS: u8 = 1;
pub(crate) const BITMAPS: u8 = 2;

/// A code with at most this share of the rows is rare: its bitmap is worth its room. Of a more frequent one nearly every block has to be
/// decoded for the other columns anyway.
const RARE: usize = 256;
/// A code with fewer rows than this in each of its blocks has no bitmap: its containers would be larger than what they hold.
const DENSE: u32 = 4;

/// Codes whose lists are made at a time, so that what is looked up at random stays in a processor's cache.
const RANGE: u32 = 1 << 17;

/// Bits of an entry of a segment of so many blocks: a block's number, or the count of blocks, and a flag.
pub(crate) fn entry_width(blocks: usize) -> u8 {
    bitpack::width(blocks as u64) + 1
}

/// Writes the lists and bitmaps of a column of `values` distinct values if there are any, and their directories to `meta`.
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
    let mut bitmaps: Vec<(u32, RoaringBitmap)> = Vec::new();
    if column.indexed && blocks > 1 {
        let mut bytes = Vec::new();
        let divided = (values > RANGE).then(|| divide(codes, values));
        let mut start = 0;
        while start < values {
            cancel.check()?;
            let count = RANGE.min(values - start);
            let occurrences = match &divided {
                Some((ends, all)) => {
                    let range = (start / RANGE) as usize;
                    Occurrences::Some(&all[if range == 0 { 0 } else { ends[range - 1] }..ends[range]])
                }
                None => Occurrences::All(codes, count),
            };
            let mut lists = Lists::of(occurrences, start, count, codes.len())?;
            bitmaps.append(&mut lists.bitmaps);
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
    match (any, bitmaps.is_empty()) {
        (false, true) => meta.push(NONE),
        (true, true) => {
            meta.push(BLOCKS);
            meta.extend_from_slice(&directory);
        }
        (_, false) => {
            meta.push(BITMAPS);
            meta.extend_from_slice(&directory);
            put_varint(meta, bitmaps.len() as u64);
            let (mut next, mut bytes) = (0, Vec::new());
            for (code, bitmap) in bitmaps {
                bytes.clear();
                bitmap.serialize_into(&mut bytes)?;
                put_varint(meta, u64::from(code - next));
                put_varint(meta, bitmap.len());
                put_varint(meta, bytes.len() as u64);
                meta.extend(out.part(&bytes)?.to_le_bytes());
                next = code + 1;
            }
        }
    }
    Ok(())
}

/// Codes of one range, counted from its first, and their rows, which ascend.
#[derive(Clone, Copy)]
enum Occurrences<'a> {
    /// Of every row; what is not below the number is NULL.
    All(&'a [u32], u32),
    /// Code in the upper half, row in the lower.
    Some(&'a [u64]),
}

impl Occurrences<'_> {
    /// Gives code, block and row of each.
    #[inline(always)]
    fn each(self, mut give: impl FnMut(usize, u32, u32)) {
        let mut one = |code: u32, row: u32| give(code as usize, row / BLOCK_ROWS as u32, row);
        match self {
            Occurrences::All(codes, count) => {
                codes.iter().zip(0..).filter(|(code, _)| **code < count).for_each(|(code, row)| one(*code, row));
            }
            Occurrences::Some(all) => all.iter().for_each(|both| one((both >> 32) as u32, *both as u32)),
        }
    }
}

/// Rows that are not NULL by the range of their code: where each range ends, and its occurrences. So each range is read alone.
fn divide(codes: &[u32], values: u32) -> (Vec<usize>, Vec<u64>) {
    // Rows that are NULL have the code `values`.
    let mut begins = vec![0usize; (values / RANGE) as usize + 1];
    codes.iter().filter(|code| **code < values).for_each(|code| begins[(code / RANGE) as usize] += 1);
    let mut sum = 0;
    for begin in &mut begins {
        sum += std::mem::replace(begin, sum);
    }
    let mut all = vec![0; sum];
    for (code, row) in codes.iter().zip(0u64..).filter(|(code, _)| **code < values) {
        let at = &mut begins[(code / RANGE) as usize];
        all[*at] = u64::from(code % RANGE) << 32 | row;
        *at += 1;
    }
    (begins, all)
}

/// The lists of a range of codes.
struct Lists {
    blocks: usize,
    /// Where each code's list ends in `numbers`; empty: it occurs in too many blocks.
    ends: Vec<u32>,
    numbers: Vec<u16>,
    /// By code of the whole dictionary.
    bitmaps: Vec<(u32, RoaringBitmap)>,
}

impl Lists {
    fn of(occurrences: Occurrences, start: u32, count: u32, segment_rows: usize) -> Result<Lists> {
        let blocks = segment_rows.div_ceil(BLOCK_ROWS);
        // A list pays if it excludes most blocks.
        let limit = (blocks / 8).max(1) as u32;
        let mut last = vec![u32::MAX; count as usize];
        let mut ends = vec![0u32; count as usize];
        let mut rows = vec![0u32; count as usize];
        occurrences.each(|at, block, _| {
            ends[at] += u32::from(last[at] != block);
            last[at] = block;
            rows[at] += 1;
        });
        let bitmaps = bitmaps(
            start,
            &rows,
            |at| {
                let (blocks, rows) = (ends[at], rows[at]);
                blocks > limit && rows >= blocks * DENSE && rows as usize <= segment_rows / RARE
            },
            occurrences,
        )?;
        let mut sum = 0;
        for end in &mut ends {
            let length = if *end <= limit { *end } else { 0 };
            // Where the list begins, until it is filled.
            *end = if length == 0 { u32::MAX } else { sum };
            sum += length;
        }
        let mut numbers = vec![0u16; sum as usize];
        last.fill(u32::MAX);
        occurrences.each(|at, block, _| {
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
        Ok(Lists { blocks, ends, numbers, bitmaps })
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

/// Bitmaps of the codes, counted from `start`, that are `wanted`; `counts`: how many rows hold each.
fn bitmaps(
    start: u32,
    counts: &[u32],
    wanted: impl Fn(usize) -> bool,
    occurrences: Occurrences,
) -> Result<Vec<(u32, RoaringBitmap)>> {
    const NOT: u32 = u32::MAX;
    let (mut begins, mut chosen, mut sum) = (vec![NOT; counts.len()], Vec::new(), 0);
    for at in (0..counts.len()).filter(|at| wanted(*at)) {
        begins[at] = sum;
        sum += counts[at];
        chosen.push(at);
    }
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = vec![0u32; sum as usize];
    occurrences.each(|at, _, row| {
        if begins[at] != NOT {
            rows[begins[at] as usize] = row;
            begins[at] += 1;
        }
    });
    let mut made = Vec::with_capacity(chosen.len());
    for at in chosen {
        // Where the code's rows begin moved to their end.
        let end = begins[at] as usize;
        let rows = rows[end - counts[at] as usize..end].iter().copied();
        let mut bitmap = RoaringBitmap::from_sorted_iter(rows)
            .map_err(|_| crate::Error::invalid("rows of a code are not ascending"))?;
        bitmap.optimize();
        made.push((start + at as u32, bitmap));
    }
    Ok(made)
}
