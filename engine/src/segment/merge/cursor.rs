//! Walking a source's column in the order in which a merge takes its rows.

use super::dictionaries::{SourceDictionary, SourceValues};
use super::input::{Input, Rows};
use crate::segment::column::{Block, BlockData, too_long};
use crate::segment::{BLOCK_ROWS, BytesBlock, ColumnKind, ColumnReader, Dictionary, Validity};
use crate::types::{Column, Value};
use crate::{Error, Result};

/// Decoded rows `start..`: a block, or all of the column where rows are taken out of order.
struct Window {
    start: usize,
    end: usize,
    whole: bool,
}

impl Window {
    fn new(rows: &Rows) -> Self {
        Window { start: 0, end: 0, whole: !rows.ascend() }
    }

    /// Calls `load` for every block that must be decoded to hold `row`; the first of them replaces the window.
    fn reach(&mut self, row: usize, rows: usize, mut load: impl FnMut(usize, bool) -> Result<()>) -> Result<usize> {
        if row < self.start || row >= self.end {
            let block = row / BLOCK_ROWS;
            if self.whole {
                for block in 0..rows.div_ceil(BLOCK_ROWS) {
                    load(block, block == 0)?;
                }
                (self.start, self.end) = (0, rows);
            } else {
                load(block, true)?;
                self.start = block * BLOCK_ROWS;
                self.end = (self.start + BLOCK_ROWS).min(rows);
            }
        }
        Ok(row - self.start)
    }
}

/// Codes of the merged dictionary.
pub(super) struct CodeCursor<'a> {
    input: &'a Input<'a>,
    source: &'a SourceDictionary<'a>,
    null: u32,
    next: usize,
    window: Window,
    codes: Vec<u32>,
    block: Vec<u32>,
}

impl<'a> CodeCursor<'a> {
    /// `null`: what stands for NULL.
    pub fn new(input: &'a Input<'a>, source: &'a SourceDictionary<'a>, null: u32) -> Self {
        let window = Window::new(&input.rows);
        CodeCursor { input, source, null, next: 0, window, codes: Vec::new(), block: Vec::new() }
    }

    /// Must not be called more often than the input has rows.
    pub fn next(&mut self) -> Result<u32> {
        let row = self.input.rows.get(self.next) as usize;
        self.next += 1;
        let code = match &self.source.values {
            SourceValues::Missing => return Ok(self.null),
            SourceValues::Built { codes, .. } => codes[row],
            SourceValues::Stored { reader, .. } => {
                let CodeCursor { codes, block, .. } = self;
                let at = self.window.reach(row, self.input.segment.rows() as usize, |number, first| {
                    if first {
                        return reader.decode_codes(number, codes);
                    }
                    reader.decode_codes(number, block)?;
                    codes.extend_from_slice(block);
                    Ok(())
                })?;
                codes[at]
            }
        };
        // Past the map: NULL.
        Ok(self.source.map.get(code as usize).copied().unwrap_or(self.null))
    }
}

/// Values of any kind but codes; dictionary columns as their bytes.
pub(super) struct ValueCursor<'a> {
    input: &'a Input<'a>,
    column: Option<Stored<'a>>,
    /// The source lacks the column: `data` holds the one value of all its rows.
    filled: bool,
    next: usize,
    window: Window,
    data: BlockData,
    valid: Validity,
    value: Vec<u8>,
}

struct Stored<'a> {
    reader: ColumnReader<'a>,
    dictionary: Option<StoredDictionary<'a>>,
    codes: Vec<u32>,
}

/// A small dictionary is decoded whole, others value by value.
enum StoredDictionary<'a> {
    Whole(BytesBlock),
    Single(Dictionary<'a>),
}

const SMALL_DICTIONARY: u32 = 4096;

impl<'a> ValueCursor<'a> {
    /// Errors: `Invalid` if the source's column cannot become `column`.
    pub fn new(column: &Column, kind: ColumnKind, input: &'a Input<'a>) -> Result<Self> {
        let stored = match input.segment.column(column.id) {
            None => None,
            Some(reader) => {
                if reader.ty().physical() != column.ty.physical() {
                    return Err(Error::Invalid(format!("column {} has changed its type", column.id.0)));
                }
                let dictionary = match reader.kind() {
                    ColumnKind::Dictionary if reader.dictionary()?.len() <= SMALL_DICTIONARY => {
                        Some(StoredDictionary::Whole(reader.dictionary()?.all()?))
                    }
                    ColumnKind::Dictionary => Some(StoredDictionary::Single(reader.dictionary()?)),
                    _ => None,
                };
                Some(Stored { reader, dictionary, codes: Vec::new() })
            }
        };
        let (window, mut data) = (Window::new(&input.rows), Block::new(kind).data);
        let fill = if stored.is_none() { input.fill(column.id) } else { None };
        if let Some(value) = fill {
            put(value, &mut data)?;
        }
        let filled = fill.is_some();
        Ok(ValueCursor { input, column: stored, filled, next: 0, window, data, valid: None, value: Vec::new() })
    }

    /// Moves to the next row and decodes what holds it: its place in the window; `None`: it is NULL.
    fn advance(&mut self) -> Result<Option<usize>> {
        let row = self.input.rows.get(self.next) as usize;
        self.next += 1;
        let Some(stored) = &mut self.column else { return Ok(self.filled.then_some(0)) };
        let ValueCursor { data, valid, .. } = self;
        let rows = self.input.segment.rows() as usize;
        let at = self.window.reach(row, rows, |block, first| load(stored, block, first, data, valid))?;
        let is_valid = valid.as_ref().is_none_or(|words| words[at / 64] >> (at % 64) & 1 == 1);
        Ok(is_valid.then_some(at))
    }

    /// Puts the next value at the end of `block`, as its row `row`.
    pub fn push(&mut self, row: usize, block: &mut Block) -> Result<()> {
        let at = self.advance()?;
        if at.is_none() {
            block.nulls.push(row as u16);
        }
        match (&self.data, &mut block.data) {
            (BlockData::I64(from), BlockData::I64(to)) => to.push(at.map_or(0, |at| from[at])),
            (BlockData::I128(from), BlockData::I128(to)) => to.push(at.map_or(0, |at| from[at])),
            (BlockData::F64(from), BlockData::F64(to)) => to.push(at.map_or(0.0, |at| from[at])),
            (BlockData::Bytes(from), BlockData::Bytes(to)) => {
                match (at, self.column.as_ref()) {
                    (Some(at), None) => to.data.extend_from_slice(from.get(at)),
                    (Some(at), Some(Stored { dictionary: None, .. })) => to.data.extend_from_slice(from.get(at)),
                    (Some(at), Some(Stored { dictionary: Some(dictionary), codes, .. })) => match dictionary {
                        StoredDictionary::Whole(values) => to.data.extend_from_slice(values.get(codes[at] as usize)),
                        StoredDictionary::Single(dictionary) => {
                            self.value.clear();
                            dictionary.get(codes[at], &mut self.value)?;
                            to.data.extend_from_slice(&self.value);
                        }
                    },
                    _ => {}
                }
                to.ends.push(u32::try_from(to.data.len()).map_err(|_| too_long())?);
            }
            _ => return Err(Error::invalid("a block of another kind")),
        }
        Ok(())
    }

    /// The next value of a numeric column as an integer that orders as it does; `None`: NULL.
    pub fn next_key(&mut self) -> Result<Option<u128>> {
        let Some(at) = self.advance()? else { return Ok(None) };
        Ok(match &self.data {
            BlockData::I64(v) => Some(ordinal(i128::from(v[at]))),
            BlockData::I128(v) => Some(ordinal(v[at])),
            BlockData::F64(v) => {
                let bits = v[at].to_bits().cast_signed();
                Some(ordinal(i128::from(bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed())))
            }
            BlockData::Bytes(_) => return Err(Error::invalid("bytes compared without a dictionary")),
        })
    }
}

/// Makes `data` hold this value alone.
fn put(value: &Value, data: &mut BlockData) -> Result<()> {
    match (value, data) {
        (Value::I64(v), BlockData::I64(to)) => *to = vec![*v],
        (Value::I128(v), BlockData::I128(to)) => *to = vec![*v],
        (Value::F64(v), BlockData::F64(to)) => *to = vec![*v],
        (Value::Bytes(v), BlockData::Bytes(to)) => {
            to.data.clone_from(v);
            to.ends = vec![u32::try_from(v.len()).map_err(|_| too_long())?];
        }
        _ => return Err(Error::invalid("a column is filled with a value of another type")),
    }
    Ok(())
}

fn ordinal(value: i128) -> u128 {
    value.cast_unsigned() ^ (1 << 127)
}

/// Decodes a block into the window, or behind what it holds.
fn load(stored: &mut Stored, block: usize, first: bool, data: &mut BlockData, valid: &mut Validity) -> Result<()> {
    let reader = stored.reader;
    let known = match reader.kind() {
        ColumnKind::Dictionary => dictionary_validity(&reader, block, first, &mut stored.codes)?,
        _ => reader.validity(block)?,
    };
    let rows = reader.block(block)?.rows as usize;
    // All blocks before the last are full: their words follow one another.
    let before = block * BLOCK_ROWS / 64;
    *valid = match (valid.take().filter(|_| !first), known) {
        (None, known) if first || known.is_none() => known,
        (earlier, known) => {
            let mut words = earlier.unwrap_or_else(|| vec![u64::MAX; before]);
            words.extend(known.unwrap_or_else(|| vec![u64::MAX; rows.div_ceil(64)]));
            Some(words)
        }
    };
    match data {
        BlockData::I64(to) => append(to, first, |out| reader.decode_i64(block, out)),
        BlockData::I128(to) => append(to, first, |out| reader.decode_i128(block, out)),
        BlockData::F64(to) => append(to, first, |out| reader.decode_f64(block, out)),
        BlockData::Bytes(_) if reader.kind() == ColumnKind::Dictionary => Ok(()),
        BlockData::Bytes(to) if first => reader.decode_bytes(block, to),
        BlockData::Bytes(to) => {
            let mut more = BytesBlock::default();
            reader.decode_bytes(block, &mut more)?;
            let base = u32::try_from(to.data.len()).map_err(|_| too_long())?;
            base.checked_add(more.data.len().try_into().map_err(|_| too_long())?).ok_or_else(too_long)?;
            to.ends.extend(more.ends.iter().map(|end| end + base));
            to.data.extend(more.data);
            Ok(())
        }
    }
}

fn append<T: Clone>(to: &mut Vec<T>, first: bool, decode: impl FnOnce(&mut Vec<T>) -> Result<()>) -> Result<()> {
    if first {
        return decode(to);
    }
    let mut more = Vec::new();
    decode(&mut more)?;
    to.extend(more);
    Ok(())
}

fn dictionary_validity(reader: &ColumnReader, block: usize, first: bool, codes: &mut Vec<u32>) -> Result<Validity> {
    let before = if first { 0 } else { codes.len() };
    append(codes, first, |out| reader.decode_codes(block, out))?;
    if reader.block(block)?.nulls == 0 {
        return Ok(None);
    }
    let null = reader.values_in_dictionary()?;
    let words = codes[before..]
        .chunks(64)
        .map(|chunk| chunk.iter().enumerate().fold(0u64, |word, (i, code)| word | (u64::from(*code != null) << i)));
    Ok(Some(words.collect()))
}
