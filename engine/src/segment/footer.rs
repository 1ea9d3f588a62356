//! Header, footer, trailer: `docs/segment-format.md`, sections 2 to 4.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::file::{check, slice};
use super::{ColumnKind, SegmentStatistics};
use crate::encoding::cursor::{Cursor, put_varint};
use crate::types::{Column, ColumnId, LogicalType, Physical};
use crate::{Error, Result};

pub(crate) const HEADER_LENGTH: usize = 24;
const TRAILER_LENGTH: usize = 32;
const MAGIC: [u8; 8] = *b"\x89BSLT\r\n\x1a";
const END_MAGIC: [u8; 4] = *b"BSLT";
const MAJOR: u16 = 1;
const MINOR: u16 = 0;
/// Required feature bits that this build understands.
const FEATURES: u64 = 0;
pub(crate) const BLOCK_ROWS_LOG2: u8 = 16;
const REQUIRED_SECTION: u8 = 1;
const INDEXED: u8 = 1;

/// One column as the footer has it.
#[derive(Clone, Debug)]
pub(crate) struct ColumnEntry {
    pub column: Column,
    pub kind: ColumnKind,
    pub offset: u64,
    pub length: u64,
    pub crc: u32,
    pub meta_length: u64,
    pub meta_crc: u32,
}

#[derive(Debug)]
pub(crate) struct Footer {
    pub rows: u32,
    pub columns: Vec<ColumnEntry>,
    /// Positions of the columns that order rows before time does.
    pub cluster_by: Vec<usize>,
    pub time: Option<usize>,
    pub statistics: SegmentStatistics,
}

pub(crate) fn header() -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(MAJOR.to_le_bytes());
    out.extend(MINOR.to_le_bytes());
    out.extend(FEATURES.to_le_bytes());
    out.extend(crc32c::crc32c(&out).to_le_bytes());
    out
}

fn check_header(bytes: &[u8], unchecked: bool) -> Result<()> {
    let mut input = Cursor::new(bytes);
    if input.array()? != MAGIC {
        return Err(Error::corrupt("not a segment file"));
    }
    let (major, _minor, features, crc) = (input.u16()?, input.u16()?, input.u64()?, input.u32()?);
    let sealed = bytes.get(..HEADER_LENGTH - 4).unwrap_or_default();
    check(sealed, crc, unchecked, "the header")?;
    if major != MAJOR {
        return Err(Error::Unsupported { what: format!("major version {major}") });
    }
    if features & !FEATURES != 0 {
        return Err(Error::Unsupported { what: format!("feature bits {features:#x}") });
    }
    Ok(())
}

impl Footer {
    /// The bytes that end a file: footer and trailer. The footer begins at `offset`.
    pub fn encode(&self, offset: u64) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        put_varint(&mut out, u64::from(self.rows));
        out.push(BLOCK_ROWS_LOG2);
        put_varint(&mut out, self.columns.len() as u64);
        for entry in &self.columns {
            put_varint(&mut out, u64::from(entry.column.id.0));
            out.extend(type_bytes(entry.column.ty));
            out.push(if entry.column.indexed { INDEXED } else { 0 });
            out.push(kind_number(entry.kind));
            put_varint(&mut out, entry.offset);
            put_varint(&mut out, entry.length);
            out.extend(entry.crc.to_le_bytes());
            put_varint(&mut out, entry.meta_length);
            out.extend(entry.meta_crc.to_le_bytes());
        }
        put_varint(&mut out, self.cluster_by.len() as u64);
        for position in &self.cluster_by {
            put_varint(&mut out, *position as u64);
        }
        put_varint(&mut out, self.time.map_or(0, |t| t as u64 + 1));
        let statistics = self.statistics.encode();
        put_varint(&mut out, statistics.len() as u64);
        out.extend(statistics);
        put_varint(&mut out, 0);
        let length = u32::try_from(out.len()).map_err(|_| Error::invalid("a footer of more than 4 GiB"))?;
        let mut trailer = offset.to_le_bytes().to_vec();
        trailer.extend(length.to_le_bytes());
        trailer.extend(crc32c::crc32c(&out).to_le_bytes());
        trailer.extend((offset + out.len() as u64 + TRAILER_LENGTH as u64).to_le_bytes());
        trailer.extend(crc32c::crc32c(&trailer).to_le_bytes());
        trailer.extend(END_MAGIC);
        out.extend(trailer);
        Ok(out)
    }

    /// Checks header and trailer and reads the footer of a whole file.
    pub fn read(file: &[u8], unchecked: bool) -> Result<Footer> {
        check_header(file, unchecked)?;
        let (rest, trailer) = file.split_last_chunk::<TRAILER_LENGTH>().ok_or_else(|| Error::corrupt("no trailer"))?;
        let mut input = Cursor::new(trailer);
        let (offset, length, crc) = (input.u64()?, input.u32()?, input.u32()?);
        let (file_length, trailer_crc) = (input.u64()?, input.u32()?);
        if input.array()? != END_MAGIC {
            return Err(Error::corrupt("no trailer"));
        }
        check(trailer.get(..24).unwrap_or_default(), trailer_crc, unchecked, "the trailer")?;
        let end = offset.checked_add(u64::from(length));
        if file_length != file.len() as u64 || end != Some(rest.len() as u64) || offset < HEADER_LENGTH as u64 {
            return Err(Error::corrupt("the place of the footer"));
        }
        let bytes = slice(file, offset, u64::from(length)).ok_or_else(|| Error::corrupt("the place of the footer"))?;
        check(bytes, crc, unchecked, "the footer")?;
        Self::decode(bytes, offset, unchecked)
    }

    fn decode(bytes: &[u8], columns_end: u64, unchecked: bool) -> Result<Footer> {
        let corrupt = |what: &str| Error::corrupt(format!("the footer: {what}"));
        let mut input = Cursor::new(bytes);
        let rows = input.varint32()?;
        if rows == u32::MAX {
            return Err(corrupt("rows"));
        }
        let block_rows = input.u8()?;
        if block_rows != BLOCK_ROWS_LOG2 {
            return Err(Error::Unsupported { what: format!("blocks of 2^{block_rows} rows") });
        }
        let count = input.length()?;
        let mut columns: Vec<ColumnEntry> = Vec::new();
        for _ in 0..count {
            let entry = column_entry(&mut input)?;
            let end = entry.offset.checked_add(entry.length);
            if entry.offset < HEADER_LENGTH as u64
                || end.is_none_or(|end| end > columns_end)
                || entry.meta_length > entry.length
            {
                return Err(corrupt("the place of a column"));
            }
            columns.push(entry);
        }
        let mut ids: Vec<_> = columns.iter().map(|c| c.column.id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(corrupt("two columns of one id"));
        }
        let mut cluster_by = Vec::new();
        for _ in 0..input.length()? {
            let position = input.length()?;
            if position >= count {
                return Err(corrupt("order"));
            }
            cluster_by.push(position);
        }
        let time = input.length()?.checked_sub(1);
        if time.is_some_and(|t| columns.get(t).is_none_or(|c| !c.column.ty.is_time())) {
            return Err(corrupt("the time column"));
        }
        let length = input.length()?;
        let statistics = SegmentStatistics::decode_with(input.take(length)?, unchecked)?;
        let same_columns = statistics.columns.iter().map(|c| c.id).eq(columns.iter().map(|c| c.column.id));
        if statistics.rows != u64::from(rows) || !same_columns {
            return Err(corrupt("statistics"));
        }
        for _ in 0..input.length()? {
            let kind = input.varint()?;
            let flags = input.u8()?;
            let (_column, offset, length, _crc) = (input.varint()?, input.varint()?, input.varint()?, input.u32()?);
            if flags & REQUIRED_SECTION != 0 {
                return Err(Error::Unsupported { what: format!("section {kind}") });
            }
            if offset.checked_add(length).is_none_or(|end| end > columns_end) {
                return Err(corrupt("the place of a section"));
            }
        }
        input.end("the footer")?;
        Ok(Footer { rows, columns, cluster_by, time, statistics })
    }
}

fn column_entry(input: &mut Cursor) -> Result<ColumnEntry> {
    let id = ColumnId(input.varint32()?);
    let ty = type_from(input.array()?)?;
    let flags = input.u8()?;
    if flags & !INDEXED != 0 {
        return Err(Error::Unsupported { what: format!("column flags {flags:#x}") });
    }
    let kind = kind_from(input.u8()?)?;
    let fits = match ty.physical() {
        Physical::I64 => kind == ColumnKind::I64,
        Physical::I128 => kind == ColumnKind::I128,
        Physical::F64 => kind == ColumnKind::F64,
        Physical::Bytes => matches!(kind, ColumnKind::Dictionary | ColumnKind::Bytes),
    };
    if !fits {
        return Err(Error::corrupt("the footer: a column's kind"));
    }
    Ok(ColumnEntry {
        column: Column { id, ty, indexed: flags & INDEXED != 0 },
        kind,
        offset: input.varint()?,
        length: input.varint()?,
        crc: input.u32()?,
        meta_length: input.varint()?,
        meta_crc: input.u32()?,
    })
}

fn kind_number(kind: ColumnKind) -> u8 {
    match kind {
        ColumnKind::I64 => 1,
        ColumnKind::I128 => 2,
        ColumnKind::F64 => 3,
        ColumnKind::Dictionary => 4,
        ColumnKind::Bytes => 5,
    }
}

fn kind_from(number: u8) -> Result<ColumnKind> {
    Ok(match number {
        1 => ColumnKind::I64,
        2 => ColumnKind::I128,
        3 => ColumnKind::F64,
        4 => ColumnKind::Dictionary,
        5 => ColumnKind::Bytes,
        other => return Err(Error::Unsupported { what: format!("column kind {other}") }),
    })
}

fn type_bytes(ty: LogicalType) -> [u8; 3] {
    use LogicalType::*;
    let number = match ty {
        Bool => 1,
        Int2 => 2,
        Int4 => 3,
        Int8 => 4,
        Float4 => 5,
        Float8 => 6,
        Numeric { precision, scale } => return [7, precision, scale],
        Date => 8,
        Timestamp => 9,
        TimestampTz => 10,
        Text => 11,
        BpChar => 12,
        Uuid => 13,
        Inet => 14,
        Bytea => 15,
        Jsonb => 16,
        TextArray => 17,
        NumericText => 18,
        Opaque => 19,
    };
    [number, 0, 0]
}

fn type_from(bytes: [u8; 3]) -> Result<LogicalType> {
    use LogicalType::*;
    let [number, precision, scale] = bytes;
    let ty = match number {
        1 => Bool,
        2 => Int2,
        3 => Int4,
        4 => Int8,
        5 => Float4,
        6 => Float8,
        7 => Numeric { precision, scale },
        8 => Date,
        9 => Timestamp,
        10 => TimestampTz,
        11 => Text,
        12 => BpChar,
        13 => Uuid,
        14 => Inet,
        15 => Bytea,
        16 => Jsonb,
        17 => TextArray,
        18 => NumericText,
        19 => Opaque,
        other => return Err(Error::Unsupported { what: format!("type {other}") }),
    };
    let valid = match ty {
        Numeric { precision, scale } => (1..=38).contains(&precision) && scale <= precision,
        _ => precision == 0 && scale == 0,
    };
    if valid { Ok(ty) } else { Err(Error::corrupt("the footer: a type")) }
}
