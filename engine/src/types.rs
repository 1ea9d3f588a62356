//! Column types, schemas and scalar values.

use serde::{Deserialize, Serialize};

use crate::encoding::cursor::{put_varint, put_zigzag, put_zigzag128};

/// Identity of a column for its whole life: never reused within a datasource, independent of name
/// and position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ColumnId(pub u32);

/// What a column means. The discriminants and parameters are part of the segment format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LogicalType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// `numeric(precision, scale)` with 1 <= precision <= 38 and 0 <= scale <= precision: the value
    /// times 10^scale as an integer; NaN is [`LogicalType::NUMERIC_NAN_I64`] or `..._I128`.
    Numeric {
        precision: u8,
        scale: u8,
    },
    /// Days since 2000-01-01; `i32::MIN`/`i32::MAX` are the infinities.
    Date,
    /// Microseconds since 2000-01-01 00:00, without a zone; `i64::MIN`/`i64::MAX` are the infinities.
    Timestamp,
    /// Microseconds since 2000-01-01 00:00 UTC; infinities as for `Timestamp`.
    TimestampTz,
    /// text, varchar: UTF-8 bytes; byte equality is SQL equality under deterministic collations.
    Text,
    /// char(n): stored blank-padded, as PostgreSQL does; trailing blanks do not count in SQL equality.
    BpChar,
    /// 16 bytes; byte order is SQL order.
    Uuid,
    /// PostgreSQL's text form of inet/cidr.
    Inet,
    Bytea,
    /// PostgreSQL's text form of jsonb; byte equality is finer than SQL equality.
    Jsonb,
    /// text[] in its text form (`{a,NULL,"b c"}`); byte equality is SQL equality.
    TextArray,
    /// Numeric without a usable precision: PostgreSQL's text form, display scale kept.
    NumericText,
    /// Any other type, by its text form.
    Opaque,
}

/// How values of a type are held in memory and in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Physical {
    /// Bool (0/1), Int2/4/8, Date, Timestamp(Tz), Numeric with precision <= 18.
    I64,
    /// Numeric with precision 19 to 38.
    I128,
    /// Float4 (widened, exactly) and Float8. NaN is canonical; -0.0 and 0.0 are kept apart.
    F64,
    /// All else.
    Bytes,
}

impl LogicalType {
    /// Sorts above every scaled value, as NaN does in PostgreSQL.
    pub const NUMERIC_NAN_I64: i64 = i64::MAX;
    pub const NUMERIC_NAN_I128: i128 = i128::MAX;

    #[inline]
    pub fn physical(self) -> Physical {
        use LogicalType::*;
        match self {
            Bool | Int2 | Int4 | Int8 | Date | Timestamp | TimestampTz => Physical::I64,
            Numeric { precision, .. } if precision <= 18 => Physical::I64,
            Numeric { .. } => Physical::I128,
            Float4 | Float8 => Physical::F64,
            Text | BpChar | Uuid | Inet | Bytea | Jsonb | TextArray | NumericText | Opaque => Physical::Bytes,
        }
    }

    pub fn is_time(self) -> bool {
        matches!(self, LogicalType::Date | LogicalType::Timestamp | LogicalType::TimestampTz)
    }

    /// The stored values of a time type that are no time but `-infinity` and `infinity`.
    pub fn infinities(self) -> (i64, i64) {
        if self == LogicalType::Date { (i64::from(i32::MIN), i64::from(i32::MAX)) } else { (i64::MIN, i64::MAX) }
    }

    /// A stored value of a time type as microseconds (dates as their midnight, infinities kept).
    pub fn to_micros(self, value: i64) -> i64 {
        match self {
            LogicalType::Date if value <= i64::from(i32::MIN) => i64::MIN,
            LogicalType::Date if value >= i64::from(i32::MAX) => i64::MAX,
            LogicalType::Date => value.saturating_mul(MICROS_PER_DAY),
            _ => value,
        }
    }
}

pub const MICROS_PER_DAY: i64 = 86_400_000_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub id: ColumnId,
    pub ty: LogicalType,
    /// Whether values get a dictionary even if they hardly repeat, and an index from values to blocks.
    pub indexed: bool,
}

/// The columns of a datasource and how its rows are ordered. Shared by buffers, builders, segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    pub columns: Vec<Column>,
    /// Position in `columns` of the time column; `None`: the table is one interval, all of time.
    pub time: Option<usize>,
    /// Positions in `columns` that order rows before time does; usually empty.
    pub cluster_by: Vec<usize>,
}

impl Schema {
    pub fn position(&self, id: ColumnId) -> Option<usize> {
        self.columns.iter().position(|c| c.id == id)
    }
}

/// One scalar in physical form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    Null,
    I64(i64),
    I128(i128),
    F64(f64),
    Bytes(Vec<u8>),
}

impl Value {
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Appends `u8` tag (0 NULL, 1 i64, 2 i128, 3 f64, 4 bytes) and the value: integers as zigzag varints, floats as their bits, byte
    /// strings after their length as a varint. No value's bytes are the beginning of another's, and those of identical values are equal.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
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
                out.extend(v.to_bits().to_le_bytes());
            }
            Value::Bytes(v) => {
                out.push(4);
                put_varint(out, v.len() as u64);
                out.extend_from_slice(v);
            }
        }
    }
}
