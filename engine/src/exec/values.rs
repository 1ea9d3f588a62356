//! Distinct values of a column, numbered in order of arrival.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::PASSING;
use super::columns::{exact_key, float_of_key};
use super::hash::U64Map;
use super::states::reserve;
use crate::plan::Host;
use crate::types::{Physical, Value};
use crate::{Budget, Error, Reservation, Result};

/// Numbers values 1, 2, 3, ...; NULL is 0.
pub(super) struct ValueMap {
    physical: Physical,
    map: Map,
}

enum Map {
    /// I64 values, or F64 as `exact_key`s: whoever takes 0 and -0 for one value asks for one of them only.
    Int(U64Map),
    Bytes(BytesMap),
    Wide(BytesMap),
}

impl ValueMap {
    pub fn new(physical: Physical, budget: &Budget) -> Result<Self> {
        let map = match physical {
            Physical::I64 | Physical::F64 => Map::Int(U64Map::new(budget)?),
            Physical::Bytes => Map::Bytes(BytesMap::new(budget)?),
            Physical::I128 => Map::Wide(BytesMap::new(budget)?),
        };
        Ok(ValueMap { physical, map })
    }

    pub fn physical(&self) -> Physical {
        self.physical
    }

    /// Numbers in use, NULL's included.
    pub fn len(&self) -> usize {
        1 + match &self.map {
            Map::Int(map) => map.len(),
            Map::Bytes(map) | Map::Wide(map) => map.len(),
        }
    }

    /// The number of an I64 value, or of an F64's key.
    #[inline(always)]
    pub fn of_int(&mut self, value: i64) -> Result<u32> {
        match &mut self.map {
            Map::Int(map) => Ok(map.number(value as u64)? + 1),
            _ => Err(mismatch()),
        }
    }

    /// [`ValueMap::of_int`] of many values.
    pub fn of_ints(&mut self, values: impl Iterator<Item = i64> + Clone, mut take: impl FnMut(u32)) -> Result<()> {
        match &mut self.map {
            Map::Int(map) => map.numbers(values.map(|v| v as u64), |number| take(number + 1)),
            _ => Err(mismatch()),
        }
    }

    /// Takes over the values of another map: what its numbers are here.
    pub fn merge(&mut self, other: &ValueMap, host: &mut dyn Host) -> Result<Vec<u32>> {
        let mut to = vec![0];
        to.reserve_exact(other.len());
        match (&mut self.map, &other.map) {
            (Map::Int(map), Map::Int(from)) => {
                for keys in from.keys().chunks(PASSING) {
                    host.poll()?;
                    map.numbers(keys.iter().copied(), |n| to.push(n + 1))?;
                }
            }
            (Map::Bytes(map), Map::Bytes(from)) | (Map::Wide(map), Map::Wide(from)) => {
                for number in 0..from.len() as u32 {
                    if (number as usize).is_multiple_of(PASSING) {
                        host.poll()?;
                    }
                    to.push(map.number(from.get(number))? + 1);
                }
            }
            _ => return Err(mismatch()),
        }
        Ok(to)
    }

    pub fn of_wide(&mut self, value: i128) -> Result<u32> {
        match &mut self.map {
            Map::Wide(map) => Ok(map.number(&value.to_le_bytes())? + 1),
            _ => Err(mismatch()),
        }
    }

    pub fn of_bytes(&mut self, value: &[u8]) -> Result<u32> {
        match &mut self.map {
            Map::Bytes(map) => Ok(map.number(value)? + 1),
            _ => Err(mismatch()),
        }
    }

    pub fn of_value(&mut self, value: &Value) -> Result<u32> {
        match value {
            Value::Null => Ok(0),
            Value::I64(v) if self.physical == Physical::I64 => self.of_int(*v),
            Value::F64(v) if self.physical == Physical::F64 => self.of_int(exact_key(*v)),
            Value::I128(v) => self.of_wide(*v),
            Value::Bytes(v) => self.of_bytes(v),
            _ => Err(mismatch()),
        }
    }

    /// Appends a value that is known to be new, and will not be looked up.
    pub fn push_unhashed(&mut self, value: &Value) -> Result<u32> {
        let number = match (&mut self.map, value) {
            (_, Value::Null) => return Ok(0),
            (Map::Int(map), Value::I64(v)) => map.push_unhashed(*v as u64)?,
            (Map::Int(map), Value::F64(v)) => map.push_unhashed(exact_key(*v) as u64)?,
            (Map::Wide(map), Value::I128(v)) => map.push_unhashed(&v.to_le_bytes())?,
            (Map::Bytes(map), Value::Bytes(v)) => map.push_unhashed(v)?,
            _ => return Err(mismatch()),
        };
        Ok(number + 1)
    }

    pub fn value(&self, number: u32) -> Value {
        let Some(at) = number.checked_sub(1) else { return Value::Null };
        match &self.map {
            Map::Int(map) => {
                let key = map.key(at) as i64;
                if self.physical == Physical::F64 { Value::F64(float_of_key(key)) } else { Value::I64(key) }
            }
            Map::Bytes(map) => Value::Bytes(map.get(at).to_vec()),
            Map::Wide(map) => {
                let mut wide = [0; 16];
                wide.copy_from_slice(map.get(at));
                Value::I128(i128::from_le_bytes(wide))
            }
        }
    }
}

fn mismatch() -> Error {
    Error::invalid("values of two types in one column")
}

/// Numbers distinct byte strings 0, 1, 2, ...
pub(crate) struct BytesMap {
    /// (hash, number + 1); 0: free. Power of two, at most half full.
    slots: Vec<(u32, u32)>,
    ends: Vec<usize>,
    data: Vec<u8>,
    hasher: DefaultHashBuilder,
    memory: Reservation,
}

impl BytesMap {
    pub fn new(budget: &Budget) -> Result<Self> {
        Ok(BytesMap {
            slots: vec![(0, 0); 64],
            ends: Vec::new(),
            data: Vec::new(),
            hasher: DefaultHashBuilder::default(),
            memory: budget.reserve(64 * 8)?,
        })
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, number: u32) -> &[u8] {
        let i = number as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.data[start..self.ends[i]]
    }

    /// Bytes of all strings together.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Its number, or its hash and the free slot where it belongs.
    fn search(&self, value: &[u8]) -> std::result::Result<u32, (u32, usize)> {
        let hash = self.hasher.hash_one(value) as u32;
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot.1 == 0 {
                return Err((hash, at));
            }
            if slot.0 == hash && self.get(slot.1 - 1) == value {
                return Ok(slot.1 - 1);
            }
            at = (at + 1) & mask;
        }
    }

    /// The number of a string that is there.
    pub fn find(&self, value: &[u8]) -> Option<u32> {
        self.search(value).ok()
    }

    /// The number of a string, a new one if it is new. Errors: `Budget`, and nothing changed; `Canceled`.
    pub fn number(&mut self, value: &[u8]) -> Result<u32> {
        let (hash, mut at) = match self.search(value) {
            Ok(number) => return Ok(number),
            Err(free) => free,
        };
        // Nothing changes on an error: the table is never more than half full.
        if (self.ends.len() + 1) * 2 > self.slots.len() {
            self.grow()?;
            let mask = self.slots.len() - 1;
            at = hash as usize & mask;
            while self.slots[at].1 != 0 {
                at = (at + 1) & mask;
            }
        }
        let number = self.push_unhashed(value)?;
        self.slots[at] = (hash, number + 1);
        Ok(number)
    }

    /// Appends a string that is known to be new, and will not be found. Errors: `Budget`; then nothing changed.
    pub fn push_unhashed(&mut self, value: &[u8]) -> Result<u32> {
        let (strings, bytes) = (self.ends.len() + 1, self.data.len() + value.len());
        reserve(&mut self.ends, strings, &mut self.memory)?;
        reserve(&mut self.data, bytes, &mut self.memory)?;
        let number = u32::try_from(self.ends.len()).ok().filter(|n| *n < u32::MAX - 2);
        let number = number.ok_or_else(|| Error::OutOfRange { what: "number of groups".into() })?;
        self.data.extend_from_slice(value);
        self.ends.push(self.data.len());
        Ok(number)
    }

    fn grow(&mut self) -> Result<()> {
        let size = self.slots.len() * 4;
        self.memory.grow(size * 8)?;
        let mut slots = vec![(0, 0); size];
        for chunk in self.slots.chunks(PASSING) {
            self.memory.check()?;
            for slot in chunk {
                if slot.1 != 0 {
                    let mut at = slot.0 as usize & (size - 1);
                    while slots[at].1 != 0 {
                        at = (at + 1) & (size - 1);
                    }
                    slots[at] = *slot;
                }
            }
        }
        let old = std::mem::replace(&mut self.slots, slots);
        let keep = self.memory.bytes() - old.len() * 8;
        drop(old);
        self.memory.resize(keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_once_and_come_back() {
        let budget = Budget::new(64 << 20);
        let mut bytes = ValueMap::new(Physical::Bytes, &budget).unwrap();
        let mut floats = ValueMap::new(Physical::F64, &budget).unwrap();
        let mut wide = ValueMap::new(Physical::I128, &budget).unwrap();
        for round in 0..2 {
            for i in 0..20_000u32 {
                let text = Value::Bytes(format!("v{i}").into_bytes());
                let number = Value::I128(i128::from(i) << 70);
                let float = Value::F64(f64::from(i) * -0.5);
                assert_eq!(bytes.of_value(&text).unwrap(), i + 1, "round {round}");
                assert_eq!(wide.of_value(&number).unwrap(), i + 1);
                assert_eq!(floats.of_value(&float).unwrap(), i + 1);
                assert_eq!((bytes.value(i + 1), wide.value(i + 1), floats.value(i + 1)), (text, number, float));
            }
        }
        assert_eq!(bytes.of_value(&Value::Null).unwrap(), 0);
        assert_eq!(bytes.of_bytes(b"").unwrap(), 20_001);
        assert_eq!(bytes.value(20_001), Value::Bytes(Vec::new()));
        assert_eq!(floats.value(1).to_owned(), Value::F64(-0.0));
        assert_eq!(floats.of_value(&Value::F64(0.0)).unwrap(), 20_001, "-0 and 0 are two values");
        assert!(budget.used() > 20_000 * (8 + 5));
    }
}
