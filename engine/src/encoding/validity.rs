//! Which rows of a block are NULL.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::cursor::Cursor;
use crate::{Error, Result};

pub(crate) const NONE: u8 = 0;
pub(crate) const ALL: u8 = 1;
pub(crate) const BITMAP: u8 = 2;
pub(crate) const POSITIONS: u8 = 3;

/// Bytes that validity `tag` takes at the front of a body.
pub(crate) fn length(tag: u8, rows: usize, nulls: usize) -> Result<usize> {
    match tag {
        NONE if nulls == 0 => Ok(0),
        ALL if nulls == rows => Ok(0),
        BITMAP => Ok(rows.div_ceil(64) * 8),
        POSITIONS => Ok(nulls * 2),
        NONE | ALL => Err(Error::corrupt("NULLs of a block")),
        other => Err(Error::Unsupported { what: format!("validity {other}") }),
    }
}

/// Words of the bits of rows that are not NULL; `None`: no NULL.
pub(crate) fn decode(tag: u8, bytes: &[u8], rows: usize, nulls: usize) -> Result<Option<Vec<u64>>> {
    let corrupt = || Error::corrupt("NULLs of a block");
    let words = rows.div_ceil(64);
    let valid = match tag {
        NONE => return Ok(None),
        ALL => return Ok(Some(vec![0; words])),
        BITMAP => {
            let (chunks, _) = bytes.as_chunks::<8>();
            chunks.iter().map(|w| u64::from_le_bytes(*w)).collect::<Vec<_>>()
        }
        _ => {
            let mut valid = full(rows);
            let mut cursor = Cursor::new(bytes);
            for _ in 0..nulls {
                let row = usize::from(cursor.u16()?);
                let word = valid.get_mut(row / 64).ok_or_else(corrupt)?;
                *word &= !(1 << (row % 64));
            }
            valid
        }
    };
    let set: usize = valid.iter().map(|w| w.count_ones() as usize).sum();
    let past_end = valid.last().is_some_and(|w| !rows.is_multiple_of(64) && w >> (rows % 64) != 0);
    if valid.len() != words || set + nulls != rows || past_end {
        return Err(corrupt());
    }
    Ok(Some(valid))
}

/// All of `rows` valid.
pub(crate) fn full(rows: usize) -> Vec<u64> {
    let mut valid = vec![u64::MAX; rows.div_ceil(64)];
    if !rows.is_multiple_of(64)
        && let Some(last) = valid.last_mut()
    {
        *last >>= 64 - rows % 64;
    }
    valid
}

/// Appends the validity of a block whose NULLs are at `nulls`, ascending; returns its tag.
pub(crate) fn encode(nulls: &[u16], rows: usize, out: &mut Vec<u8>) -> u8 {
    if nulls.is_empty() {
        NONE
    } else if nulls.len() == rows {
        ALL
    } else if nulls.len() * 2 < rows.div_ceil(64) * 8 {
        out.extend(nulls.iter().flat_map(|p| p.to_le_bytes()));
        POSITIONS
    } else {
        let mut valid = full(rows);
        for null in nulls {
            if let Some(word) = valid.get_mut(usize::from(*null) / 64) {
                *word &= !(1 << (null % 64));
            }
        }
        out.extend(valid.iter().flat_map(|w| w.to_le_bytes()));
        BITMAP
    }
}
