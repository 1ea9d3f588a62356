//! Attributes that are looked up by key: a join with a relation of which each key has at most one row, or, of keys alone, a semi-join.
//! A lookup column holds the number of the row that its key finds, an attribute column what that row holds.

use std::sync::Arc;

use hashbrown::HashMap;

use super::Limits;
use super::attributes::spanned;
use crate::segment::BytesBlock;
use crate::types::{Physical, Value};
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
    /// The column of row numbers: of a lookup, or computed from one.
    pub column: usize,
    pub values: Arc<AttributeValues>,
}

/// Slots of a dense index: at most so many, and so many a key.
const DENSE_SLOTS: u64 = 1 << 24;
const DENSE_SHARE: u64 = 32;
/// So few are dense however few keys there are.
const FEW_SLOTS: u64 = 1 << 20;
/// Bits of a sparse index.
const SPARSE_BITS: u64 = 1 << 27;
/// Keys between two looks at whether the query is to end.
const STEP: usize = 1 << 15;
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
    /// Integers that are far from each other: bit `key - min` says whether it is worth looking.
    Sparse {
        min: i64,
        bits: Vec<u64>,
        rows: HashMap<i64, u32>,
    },
    Wide(HashMap<i128, u32>),
    Bytes(HashMap<Box<[u8]>, u32>),
}

impl Rows {
    /// `limits`: of the numbers.
    fn of_numbers(numbers: &[(i64, u32)], limits: Option<(i64, i64)>, memory: &mut Reservation) -> Result<Rows> {
        if let Some((min, max)) = limits
            && is_dense(min, max, numbers.len())
        {
            let span = max.wrapping_sub(min) as usize + 1;
            memory.grow(span * 4)?;
            let mut rows = vec![NO_ROW; span];
            // The first of equal keys stays.
            for numbers in numbers.rchunks(STEP) {
                memory.check()?;
                for (key, row) in numbers.iter().rev() {
                    rows[key.wrapping_sub(min) as usize] = *row;
                }
            }
            return Ok(Rows::Dense { min, rows });
        }
        let mut rows = HashMap::with_capacity(numbers.len());
        for numbers in numbers.chunks(STEP) {
            memory.check()?;
            for (key, row) in numbers {
                rows.entry(*key).or_insert(*row);
            }
        }
        match limits {
            Some((min, max)) if (max.wrapping_sub(min) as u64) < SPARSE_BITS => {
                let words = max.wrapping_sub(min) as usize / 64 + 1;
                memory.grow(words * 8)?;
                let mut bits = vec![0u64; words];
                for (key, _) in numbers {
                    let at = key.wrapping_sub(min) as usize;
                    bits[at / 64] |= 1 << (at % 64);
                }
                Ok(Rows::Sparse { min, bits, rows })
            }
            _ => Ok(Rows::Hash(rows)),
        }
    }

    /// The row of an integer, or of a float's order key; [`NO_ROW`]: none.
    #[inline(always)]
    pub fn of_number(&self, key: i64) -> u32 {
        match self {
            Rows::Dense { min, rows } => rows.get(key.wrapping_sub(*min) as usize).copied().unwrap_or(NO_ROW),
            Rows::Sparse { min, bits, rows } => {
                let at = key.wrapping_sub(*min) as usize;
                let known = bits.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1);
                if known { rows.get(&key).copied().unwrap_or(NO_ROW) } else { NO_ROW }
            }
            Rows::Hash(rows) => rows.get(&key).copied().unwrap_or(NO_ROW),
            Rows::Wide(_) | Rows::Bytes(_) => NO_ROW,
        }
    }
}

impl Rows {
    /// The row of a value; [`NO_ROW`]: none.
    fn of_value(&self, value: &Value) -> u32 {
        match (value, self) {
            (Value::I64(key), rows) => rows.of_number(*key),
            (Value::F64(key), rows) => rows.of_number(crate::exec::float_key(*key)),
            (Value::I128(key), Rows::Wide(rows)) => rows.get(key).copied().unwrap_or(NO_ROW),
            (Value::Bytes(key), Rows::Bytes(rows)) => rows.get(key.as_slice()).copied().unwrap_or(NO_ROW),
            _ => NO_ROW,
        }
    }

    /// Puts another number in each row's place.
    fn renumber(&mut self, number: impl Fn(u32) -> u32) {
        match self {
            Rows::Dense { rows, .. } => rows.iter_mut().for_each(|row| *row = number(*row)),
            Rows::Hash(rows) | Rows::Sparse { rows, .. } => rows.values_mut().for_each(|row| *row = number(*row)),
            Rows::Wide(rows) => rows.values_mut().for_each(|row| *row = number(*row)),
            Rows::Bytes(rows) => rows.values_mut().for_each(|row| *row = number(*row)),
        }
    }
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
                let numbers = numbered().map(|(key, row)| match key {
                    Value::I64(v) if physical == Physical::I64 => Ok((*v, row)),
                    Value::F64(v) if physical == Physical::F64 => Ok((crate::exec::float_key(*v), row)),
                    _ => Err(misfit()),
                });
                let numbers: Vec<(i64, u32)> = numbers.collect::<Result<_>>()?;
                let limits = numbers.iter().fold(None, |limits: Option<(i64, i64)>, (key, _)| {
                    Some(limits.map_or((*key, *key), |(low, high)| (low.min(*key), high.max(*key))))
                });
                range = limits.filter(|_| physical == Physical::I64);
                Rows::of_numbers(&numbers, limits, &mut memory)?
            }
            Physical::I128 => {
                let mut found = HashMap::with_capacity(keys.len());
                for (key, row) in numbered() {
                    if (row as usize).is_multiple_of(STEP) {
                        memory.check()?;
                    }
                    let Value::I128(key) = key else { return Err(misfit()) };
                    found.entry(*key).or_insert(row);
                }
                Rows::Wide(found)
            }
            Physical::Bytes => {
                let mut found: HashMap<Box<[u8]>, u32> = HashMap::with_capacity(keys.len());
                for (key, row) in numbered() {
                    if (row as usize).is_multiple_of(STEP) {
                        memory.check()?;
                    }
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
            Rows::Hash(map) | Rows::Sparse { rows: map, .. } => map.len(),
            Rows::Wide(map) => map.len(),
            Rows::Bytes(map) => map.len(),
        };
        Ok(KeyIndex { rows, range, keys, _memory: memory })
    }

    /// An index that finds numbers of distinct values, from 0 on, in place of rows; and each row's value's number, `None` of `Null`.
    /// Errors: as [`KeyIndex::new`].
    pub fn numbered(physical: Physical, values: &[Value], budget: &Budget) -> Result<(KeyIndex, Vec<Option<u32>>)> {
        let mut index = KeyIndex::new(physical, values, budget)?;
        let _working = budget.reserve(values.len() * 4)?;
        let mut numbers = vec![NO_ROW; values.len()];
        let mut count = 0;
        let mut found = Vec::with_capacity(values.len());
        for value in values {
            let first = index.rows.of_value(value);
            found.push(numbers.get_mut(first as usize).map(|number| {
                if *number == NO_ROW {
                    *number = count;
                    count += 1;
                }
                *number
            }));
        }
        index.rows.renumber(|row| numbers.get(row as usize).copied().unwrap_or(NO_ROW));
        Ok((index, found))
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

    /// The rows that an attribute of another relation finds as keys: an attribute of that relation, too. Errors: `Budget`.
    pub fn rows_of(&self, keys: &AttributeValues, budget: &Budget) -> Result<AttributeValues> {
        let found: Vec<u32> = match (&keys.held, &self.rows) {
            (Held::Ints(held), Rows::Wide(rows)) => {
                held.iter().map(|key| rows.get(&i128::from(*key)).copied().unwrap_or(NO_ROW)).collect()
            }
            (Held::Ints(held), rows) => held.iter().map(|key| rows.of_number(*key)).collect(),
            (Held::Wide(held), Rows::Wide(rows)) => {
                held.iter().map(|key| rows.get(key).copied().unwrap_or(NO_ROW)).collect()
            }
            (Held::Floats(held), rows) => held.iter().map(|key| rows.of_number(crate::exec::float_key(*key))).collect(),
            (Held::Codes(codes, dictionary), Rows::Bytes(rows)) => {
                let by_code: Vec<u32> = (0..dictionary.len())
                    .map(|code| rows.get(dictionary.get(code)).copied().unwrap_or(NO_ROW))
                    .collect();
                codes.iter().map(|code| by_code.get(*code as usize).copied().unwrap_or(NO_ROW)).collect()
            }
            _ => return Err(Error::invalid("keys are of another type than their column")),
        };
        let known = |at: usize| keys.valid.as_ref().is_none_or(|valid| valid[at]);
        let memory = budget.reserve(found.len() * 9)?;
        let valid: Vec<bool> = found.iter().enumerate().map(|(at, row)| *row != NO_ROW && known(at)).collect();
        let held = Held::Ints(found.iter().map(|row| i64::from(*row)).collect());
        let limits = Some((0, i128::from(NO_ROW)));
        Ok(AttributeValues { held, valid: partly(valid), limits, _memory: memory })
    }
}

fn is_dense(min: i64, max: i64, keys: usize) -> bool {
    let span = max.wrapping_sub(min) as u64;
    span < FEW_SLOTS || (span < DENSE_SLOTS && span / DENSE_SHARE <= keys as u64)
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
    pub(super) fn of(held: Held, valid: Option<Vec<bool>>, limits: Limits, memory: Reservation) -> AttributeValues {
        AttributeValues { held, valid, limits, _memory: memory }
    }

    /// `valid`: where a value is not NULL; `None`: nowhere one is. `memory` was taken for both.
    pub(crate) fn of_ints(values: Vec<i64>, valid: Option<Vec<bool>>, memory: Reservation) -> AttributeValues {
        let limits = spanned(values.iter().map(|v| i128::from(*v)));
        AttributeValues { held: Held::Ints(values), valid, limits, _memory: memory }
    }

    /// What the rows hold that another relation's rows refer to: `rows` is what [`KeyIndex::rows_of`] found. Errors: `Budget`.
    pub fn through(&self, rows: &AttributeValues, budget: &Budget) -> Result<AttributeValues> {
        let Held::Ints(found) = &rows.held else { return Err(Error::invalid("rows are numbers")) };
        let at = |row: &i64| *row as usize;
        let mut memory = budget.reserve(found.len() * 17)?;
        let held = match &self.held {
            Held::Ints(held) => Held::Ints(found.iter().map(|r| held.get(at(r)).copied().unwrap_or(0)).collect()),
            Held::Wide(held) => Held::Wide(found.iter().map(|r| held.get(at(r)).copied().unwrap_or(0)).collect()),
            Held::Floats(held) => Held::Floats(found.iter().map(|r| held.get(at(r)).copied().unwrap_or(0.0)).collect()),
            Held::Codes(codes, dictionary) => {
                memory.grow(dictionary.data.len() + dictionary.ends.len() * 4)?;
                let null = dictionary.len() as u32;
                let valid = rows.valid.as_deref();
                let code = |(nth, r): (usize, &i64)| match valid {
                    Some(valid) if !valid[nth] => null,
                    _ => codes.get(at(r)).copied().unwrap_or(null),
                };
                Held::Codes(found.iter().enumerate().map(code).collect(), dictionary.clone())
            }
        };
        let valid = found.iter().enumerate().map(|(nth, r)| {
            rows.valid.as_ref().is_none_or(|valid| valid[nth])
                && self.valid.as_ref().is_none_or(|valid| valid.get(at(r)).copied().unwrap_or(false))
        });
        // Rows that find nothing hold zeros.
        let limits = self.limits.map(|(low, high)| (low.min(0), high.max(0)));
        Ok(AttributeValues { held, valid: partly(valid.collect()), limits, _memory: memory })
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

/// `None` if all is valid.
fn partly(valid: Vec<bool>) -> Option<Vec<bool>> {
    valid.contains(&false).then_some(valid)
}
