//! A column's metadata: dictionary directory, block headers, index directory.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::column::{HAS_BOUNDS, HAS_SUM};
use super::file::Part;
use super::footer::BLOCK_ROWS_LOG2;
use super::footer::ColumnEntry;
use super::{BlockHeader, ColumnKind, index};
use crate::dictionary::{CHUNK_VALUES, DictionaryMeta};
use crate::encoding::bitpack::packed_len;
use crate::encoding::bytes::SHORT;
use crate::encoding::cursor::Cursor;
use crate::types::Value;
use crate::{Error, Result};

#[derive(Debug)]
pub(crate) struct ColumnMeta {
    pub dictionary: Option<DictionaryMeta>,
    pub blocks: Vec<BlockMeta>,
    pub index: IndexMeta,
}

#[derive(Debug)]
pub(crate) struct BlockMeta {
    pub encoding: u8,
    pub validity: u8,
    pub header: BlockHeader,
    pub body: Part,
    /// Set once the block's codes were seen to be in the dictionary.
    pub codes_checked: std::sync::atomic::AtomicBool,
}

#[derive(Debug)]
pub(crate) enum IndexMeta {
    None,
    Some {
        /// One a chunk of the dictionary: how many entries, and where; none if no code of the chunk has a list.
        lists: Vec<Option<(usize, Part)>>,
        /// By code, ascending: how many rows, and where.
        bitmaps: Vec<(u32, u32, Part)>,
    },
}

impl ColumnMeta {
    /// Reads the metadata of a column of `rows` rows and checks that its parts fill the column's range.
    pub fn read(bytes: &[u8], entry: &ColumnEntry, rows: u32) -> Result<Self> {
        let mut input = Cursor::new(bytes);
        let mut at = 0u64;
        let dictionary = match entry.kind {
            ColumnKind::Dictionary => Some(DictionaryMeta::read(&mut input, &mut at)?),
            _ => None,
        };
        let mut blocks = Vec::new();
        let mut left = rows;
        while left > 0 {
            let block_rows = left.min(1 << BLOCK_ROWS_LOG2);
            blocks.push(block(&mut input, entry.kind, block_rows, &mut at)?);
            left -= block_rows;
        }
        let index = match &dictionary {
            Some(dictionary) => read_index(&mut input, dictionary.count, rows, &mut at)?,
            None => IndexMeta::None,
        };
        input.end("a column's metadata")?;
        if at != entry.length - entry.meta_length {
            return Err(Error::corrupt("the lengths of a column's parts"));
        }
        Ok(ColumnMeta { dictionary, blocks, index })
    }
}

fn block(input: &mut Cursor, kind: ColumnKind, rows: u32, at: &mut u64) -> Result<BlockMeta> {
    let corrupt = || Error::corrupt("a block's header");
    let (encoding, validity, flags) = (input.u8()?, input.u8()?, input.u8()?);
    if flags & !(HAS_BOUNDS | HAS_SUM) != 0 {
        return Err(corrupt());
    }
    let nulls = input.varint32()?;
    let length = u64::from(input.varint32()?);
    let body = Part::new(at, length, input.u32()?)?;
    if nulls > rows || (kind == ColumnKind::Dictionary && validity != 0) {
        return Err(corrupt());
    }
    let mut bound = || -> Result<Value> {
        Ok(match kind {
            ColumnKind::I64 => Value::I64(input.zigzag()?),
            ColumnKind::I128 => Value::I128(input.zigzag128()?),
            ColumnKind::F64 => Value::F64(input.f64()?),
            ColumnKind::Dictionary => Value::I64(i64::from(input.varint32()?)),
            ColumnKind::Bytes => {
                let length = input.length()?;
                if length > SHORT {
                    return Err(corrupt());
                }
                Value::Bytes(input.take(length)?.to_vec())
            }
        })
    };
    let (min, max) = if flags & HAS_BOUNDS != 0 { (bound()?, bound()?) } else { (Value::Null, Value::Null) };
    let sum = match kind {
        _ if flags & HAS_SUM == 0 => None,
        ColumnKind::I64 | ColumnKind::I128 => Some(input.zigzag128()?),
        _ => return Err(corrupt()),
    };
    let header = BlockHeader { rows, nulls, min, max, sum };
    Ok(BlockMeta { encoding, validity, header, body, codes_checked: false.into() })
}

fn read_index(input: &mut Cursor, values: u32, rows: u32, at: &mut u64) -> Result<IndexMeta> {
    Ok(match input.u8()? {
        index::NONE => IndexMeta::None,
        layout @ (index::BLOCKS | index::BITMAPS) => {
            let blocks = (rows as usize).div_ceil(1 << BLOCK_ROWS_LOG2);
            let (mut chunks, mut bitmaps) = (Vec::new(), Vec::new());
            for first in (0..values as usize).step_by(CHUNK_VALUES) {
                let entries = input.length()?;
                let count = (values as usize - first).min(CHUNK_VALUES);
                if entries == 0 {
                    chunks.push(None);
                    continue;
                }
                let length = packed_len(entries, index::entry_width(blocks));
                let length = length.filter(|_| entries >= count).ok_or_else(|| Error::corrupt("an index"))?;
                chunks.push(Some((entries, Part::new(at, length as u64, input.u32()?)?)));
            }
            if layout == index::BITMAPS {
                let corrupt = || Error::corrupt("an index");
                let mut next = 0u32;
                for _ in 0..input.length()? {
                    let code = next.checked_add(input.varint32()?).filter(|code| *code < values).ok_or_else(corrupt)?;
                    let (count, length) = (input.varint32()?, u64::from(input.varint32()?));
                    if count > rows {
                        return Err(corrupt());
                    }
                    bitmaps.push((code, count, Part::new(at, length, input.u32()?)?));
                    next = code + 1;
                }
            }
            IndexMeta::Some { lists: chunks, bitmaps }
        }
        other => return Err(Error::Unsupported { what: format!("index layout {other}") }),
    })
}
