//! Attributes that are looked up by key: a join with a relation of which each key has at most one row, or, of keys alone, a semi-join.
//! A lookup column holds the number of the row that its key finds, an attribute column what that row holds.

use std::sync::Arc;

use hashbrown::HashMap;

use super::Limits;
use crate::segment::BytesBlock;
use crate::types::{LogicalType, Physical, Value};
use crate::{Budget, Error, Reservation, Result};

/// A column of row numbers, NULL where the key is NULL or not found.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookup {
    /// The column of keys.
    pub column: usize,
    pub index: Arc<KeyIndex>,
}

/// A column of what the rows of a lookup column hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// The lookup column.
    pub column: usize,
    pub values: Arc<AttributeValues>,
}

/// Slots of a dense index: at most so many, and so many a key.
const DENSE_SLOTS: u64 = 1 << 24;
const DENSE_SHARE: u64 = 32;
/// In a dense index: no such key.
pub(crate) const NO_ROW: u32 = u32::MAX;

/// Rows by key. Keys are values as the column of keys stores them.
#[derive(Debug)]
pub struct KeyIndex {
    rows: Rows,
    /// Smallest and largest key of integers.
    range: Option<(i64, i64)>,
    keys: usize,
    _memory: Reservation,
}

#[derive(Debug)]
pub(crate) enum Rows {
    /// Row of key `min + i`, or [`NO_ROW`].
    Dense {
        min: i64,
        rows: Vec<u32>,
    },
    /// Integers, and the order keys of floats.
    Hash(HashMap<i64, u32>),
    Wide(HashMap<i128, u32>),
    Bytes(HashMap<Box<[u8]>, u32>),
}

impl PartialEq for KeyIndex {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl KeyIndex {
    /// `keys[row]`: `Null` is found by no key. Of equal keys one row is found. Errors: `Budget`; `Invalid` for a key of another type than `physical`.
    pub fn new(physical: Physical, keys: &[Value], budget: &Budget) -> Result<KeyIndex> {
        let misfit = || Error::invalid("a key is of another type than its column");
        let mut memory = budget.reserve(keys.len() * 48)?;
        let mut range: Option<(i64, i64)> = None;
        let numbered = || keys.iter().enumerate().filter(|(_, key)| !key.is_null()).map(|(row, key)| (key, row as u32));
        let rows = match physical {
            Physical::I64 | Physical::F64 => {
                let mut found = HashMap::with_capacity(keys.len());
                for (key, row) in numbered() {
                    let key = match key {
                        Value::I64(v) if physical == Physical::I64 => {
                            let (low, high) = range.unwrap_or((*v, *v));
                            range = Some((low.min(*v), high.max(*v)));
                            *v
                        }
                        Value::F64(v) if physical == Physical::F64 => crate::exec::float_key(*v),
                        _ => return Err(misfit()),
                    };
                    found.entry(key).or_insert(row);
                }
                match range {
                    Some((min, max)) if is_dense(min, max, found.len()) => {
                        let span = max.wrapping_sub(min) as usize + 1;
                        memory.grow(span * 4)?;
                        let mut rows = vec![NO_ROW; span];
                        for (key, row) in &found {
                            rows[key.wrapping_sub(min) as usize] = *row;
                        }
                        Rows::Dense { min, rows }
                    }
                    _ => Rows::Hash(found),
                }
            }
            Physical::I128 => {
                let mut found = HashMap::with_capacity(keys.len());
                for (key, row) in numbered() {
                    let Value::I128(key) = key else { return Err(misfit()) };
                    found.entry(*key).or_insert(row);
                }
                Rows::Wide(found)
            }
            Physical::Bytes => {
                let mut found: HashMap<Box<[u8]>, u32> = HashMap::with_capacity(keys.len());
                for (key, row) in numbered() {
                    let Value::Bytes(key) = key else { return Err(misfit()) };
                    memory.grow(key.len() + 16)?;
                    found.entry(key.as_slice().into()).or_insert(row);
                }
                Rows::Bytes(found)
            }
        };
        let keys = match &rows {
            Rows::Dense { rows, .. } => {
                memory.resize(rows.len() * 4)?;
                rows.iter().filter(|row| **row != NO_ROW).count()
            }
            Rows::Hash(map) => map.len(),
            Rows::Wide(map) => map.len(),
            Rows::Bytes(map) => map.len(),
        };
        Ok(KeyIndex { rows, range, keys, _memory: memory })
    }

    /// Smallest and largest key of integers; `None`: there is none, or keys are of another type.
    pub fn range(&self) -> Option<(i64, i64)> {
        self.range
    }

    /// How many different keys there are.
    pub fn len(&self) -> usize {
        self.keys
    }

    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }
}

fn is_dense(min: i64, max: i64, keys: usize) -> bool {
    let span = max.wrapping_sub(min) as u64;
    span < DENSE_SLOTS && span / DENSE_SHARE <= keys as u64
}

/// One attribute of all rows.
#[derive(Debug)]
pub struct AttributeValues {
    pub(crate) held: Held,
    /// A bit a row; `None`: no value is NULL.
    pub(crate) valid: Option<Vec<bool>>,
    /// Of integers and decimals, if none is NaN.
    pub(crate) limits: Limits,
    _memory: Reservation,
}

#[derive(Debug)]
pub(crate) enum Held {
    /// Also decimals that 64 bits hold.
    Ints(Vec<i64>),
    Wide(Vec<i128>),
    Floats(Vec<f64>),
    /// Codes of the distinct values, which ascend; NULL's is their number.
    Codes(Vec<u32>, BytesBlock),
}

impl PartialEq for AttributeValues {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl AttributeValues {
    /// `values[row]`, all of type `physical` or `Null`. Errors: `Budget`, `Invalid`.
    pub fn new(physical: Physical, values: &[Value], budget: &Budget) -> Result<AttributeValues> {
        let misfit = || Error::invalid("values are of another type than their column");
        let mut memory = budget.reserve(values.len() * 17)?;
        let nulls = values.iter().any(Value::is_null);
        let valid = nulls.then(|| values.iter().map(|v| !v.is_null()).collect());
        let mut limits: Limits = None;
        let held = match physical {
            Physical::I64 => {
                let ints: Vec<i64> = values
                    .iter()
                    .map(|v| match v {
                        Value::I64(v) => Ok(*v),
                        Value::Null => Ok(0),
                        _ => Err(misfit()),
                    })
                    .collect::<Result<_>>()?;
                limits = spanned(ints.iter().map(|v| i128::from(*v)));
                Held::Ints(ints)
            }
            Physical::I128 => {
                let wide: Vec<i128> = values
                    .iter()
                    .map(|v| match v {
                        Value::I128(v) => Ok(*v),
                        Value::Null => Ok(0),
                        _ => Err(misfit()),
                    })
                    .collect::<Result<_>>()?;
                let span = spanned(wide.iter().copied());
                match span {
                    Some((low, high)) if low >= i128::from(i64::MIN) && high < i128::from(i64::MAX) => {
                        limits = span;
                        Held::Ints(wide.iter().map(|v| *v as i64).collect())
                    }
                    Some((_, high)) if high != LogicalType::NUMERIC_NAN_I128 => {
                        limits = span;
                        Held::Wide(wide)
                    }
                    _ => Held::Wide(wide),
                }
            }
            Physical::F64 => Held::Floats(
                values
                    .iter()
                    .map(|v| match v {
                        Value::F64(v) => Ok(*v),
                        Value::Null => Ok(0.0),
                        _ => Err(misfit()),
                    })
                    .collect::<Result<_>>()?,
            ),
            Physical::Bytes => {
                let mut distinct: Vec<&[u8]> = Vec::with_capacity(values.len());
                for v in values {
                    match v {
                        Value::Bytes(v) => distinct.push(v),
                        Value::Null => {}
                        _ => return Err(misfit()),
                    }
                }
                distinct.sort_unstable();
                distinct.dedup();
                let code = |v: &Value| match v {
                    Value::Bytes(v) => distinct.binary_search(&v.as_slice()).unwrap_or(0) as u32,
                    _ => distinct.len() as u32,
                };
                let codes = values.iter().map(code).collect();
                let bytes: usize = distinct.iter().map(|v| v.len()).sum();
                memory.grow(bytes + distinct.len() * 4)?;
                let mut dictionary = BytesBlock::default();
                for v in &distinct {
                    dictionary.data.extend_from_slice(v);
                    let end = u32::try_from(dictionary.data.len())
                        .map_err(|_| Error::invalid("the strings of an attribute have more than 4 GB"))?;
                    dictionary.ends.push(end);
                }
                Held::Codes(codes, dictionary)
            }
        };
        Ok(AttributeValues { held, valid, limits, _memory: memory })
    }

    /// Smallest and largest number that there is, and whether NaN may be among them.
    pub(crate) fn limits(&self) -> (Limits, bool) {
        (self.limits, self.limits.is_none() && matches!(self.held, Held::Wide(_)))
    }

    /// The distinct values, ascending, where they are byte strings.
    pub(crate) fn dictionary(&self) -> Option<&BytesBlock> {
        match &self.held {
            Held::Codes(_, dictionary) => Some(dictionary),
            _ => None,
        }
    }

    pub fn len(&self) -> usize {
        match &self.held {
            Held::Ints(v) => v.len(),
            Held::Wide(v) => v.len(),
            Held::Floats(v) => v.len(),
            Held::Codes(v, _) => v.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Smallest and largest; of no value zeros.
fn spanned(values: impl Iterator<Item = i128>) -> Limits {
    values
        .fold(None, |span: Limits, v| Some(span.map_or((v, v), |(low, high)| (low.min(v), high.max(v)))))
        .or(Some((0, 0)))
}
