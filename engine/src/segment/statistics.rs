//! What the catalog keeps of a segment, enough to prune it without opening it.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::encoding::cursor::{Cursor, put_varint, put_zigzag, put_zigzag128};
use crate::types::{ColumnId, Value};
use crate::{Error, Result};

const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnStatistics {
    pub id: ColumnId,
    pub nulls: u64,
    /// Smallest and largest non-NULL value in physical order (bytes: byte order, F64: PostgreSQL's order,
    /// NaN greatest); `Null` when there is none or when a byte string would be too long to keep.
    pub min: Value,
    pub max: Value,
    /// Exact for dictionary columns, else an estimate; 0: unknown.
    pub distinct: u64,
}

/// Statistics of one segment, from its footer. `encode` gives the bytes kept in `basalt.segment`.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentStatistics {
    pub rows: u64,
    /// Smallest and largest time in microseconds, both inclusive; `None` without a time column.
    pub time: Option<(i64, i64)>,
    pub columns: Vec<ColumnStatistics>,
}

impl SegmentStatistics {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_varint(&mut out, self.rows);
        match self.time {
            None => out.push(0),
            Some((min, max)) => {
                out.push(1);
                put_zigzag(&mut out, min);
                put_zigzag(&mut out, max);
            }
        }
        put_varint(&mut out, self.columns.len() as u64);
        for c in &self.columns {
            put_varint(&mut out, u64::from(c.id.0));
            put_varint(&mut out, c.nulls);
            put_varint(&mut out, c.distinct);
            put_value(&mut out, &c.min);
            put_value(&mut out, &c.max);
        }
        let crc = crc32c::crc32c(&out);
        out.extend(crc.to_le_bytes());
        out
    }

    /// Errors: `Error::Corrupt`, `Error::Unsupported`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Self::decode_with(bytes, false)
    }

    /// Fuzzing sees past the checksum.
    #[doc(hidden)]
    pub fn decode_unchecked(bytes: &[u8]) -> Result<Self> {
        Self::decode_with(bytes, true)
    }

    pub(crate) fn decode_with(bytes: &[u8], unchecked: bool) -> Result<Self> {
        let corrupt = || Error::corrupt("statistics");
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(corrupt)?;
        super::file::check(body, u32::from_le_bytes(*crc), unchecked, "statistics")?;
        let mut input = Cursor::new(body);
        let version = input.u8()?;
        if version != VERSION {
            return Err(Error::Unsupported { what: format!("statistics of version {version}") });
        }
        let rows = input.varint()?;
        let time = match input.u8()? {
            0 => None,
            1 => Some((input.zigzag()?, input.zigzag()?)),
            _ => return Err(corrupt()),
        };
        let count = input.length()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(ColumnStatistics {
                id: ColumnId(input.varint32()?),
                nulls: input.varint()?,
                distinct: input.varint()?,
                min: value(&mut input)?,
                max: value(&mut input)?,
            });
        }
        input.end("statistics")?;
        Ok(SegmentStatistics { rows, time, columns })
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0),
        Value::I64(v) => {
            out.push(1);
            put_zigzag(out, *v);
        }
        Value::I128(v) => {
            out.push(2);
            put_zigzag128(out, *v);
        }
        Value::F64(v) => {
            out.push(3);
            out.extend(v.to_le_bytes());
        }
        Value::Bytes(v) => {
            out.push(4);
            put_varint(out, v.len() as u64);
            out.extend_from_slice(v);
        }
    }
}

fn value(input: &mut Cursor) -> Result<Value> {
    Ok(match input.u8()? {
        0 => Value::Null,
        1 => Value::I64(input.zigzag()?),
        2 => Value::I128(input.zigzag128()?),
        3 => Value::F64(input.f64()?),
        4 => {
            let length = input.length()?;
            Value::Bytes(input.take(length)?.to_vec())
        }
        _ => return Err(Error::corrupt("statistics")),
    })
}
