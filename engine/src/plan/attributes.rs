//! Attributes in the making: values of one type, or NULL, by place.

use super::Limits;
use super::lookup::{AttributeValues, Held};
use crate::exec::{BytesMap, extend};
use crate::segment::BytesBlock;
use crate::sort::sort_by;
use crate::types::{LogicalType, Physical, Value};
use crate::{Budget, Error, Reservation, Result, prefix};

/// Values of one type. They stand in a few vectors, so that letting them go takes no time.
pub struct Attributes {
    found: Found,
    valid: Vec<bool>,
    nulls: bool,
    memory: Reservation,
}

enum Found {
    Ints(Vec<i64>),
    Wide(Vec<i128>),
    Floats(Vec<f64>),
    /// Numbers of the distinct values as they come.
    Bytes(Vec<u32>, BytesMap),
}

/// Places between two looks at whether the query is to end.
const STEP: usize = 1 << 16;

impl Attributes {
    /// Errors: `Budget`.
    pub fn new(physical: Physical, budget: &Budget) -> Result<Attributes> {
        let found = match physical {
            Physical::I64 => Found::Ints(Vec::new()),
            Physical::I128 => Found::Wide(Vec::new()),
            Physical::F64 => Found::Floats(Vec::new()),
            Physical::Bytes => Found::Bytes(Vec::new(), BytesMap::new(budget)?),
        };
        Ok(Attributes { found, valid: Vec::new(), nulls: false, memory: budget.reserve(0)? })
    }

    pub fn len(&self) -> usize {
        self.valid.len()
    }

    pub fn is_empty(&self) -> bool {
        self.valid.is_empty()
    }

    /// Makes places for `len` values; those that were not there hold NULL. Errors: `Budget`.
    pub fn reach(&mut self, len: usize) -> Result<()> {
        if len <= self.valid.len() {
            return Ok(());
        }
        self.nulls = true;
        let memory = &mut self.memory;
        match &mut self.found {
            Found::Ints(values) => extend(values, len, 0, memory)?,
            Found::Wide(values) => extend(values, len, 0, memory)?,
            Found::Floats(values) => extend(values, len, 0.0, memory)?,
            Found::Bytes(codes, _) => extend(codes, len, u32::MAX, memory)?,
        }
        extend(&mut self.valid, len, false, memory)
    }

    /// Puts a value in its place, which is made if it is missing. Errors: `Budget`; `Invalid` for one of another type.
    pub fn set(&mut self, at: usize, value: &Value) -> Result<()> {
        if at >= self.valid.len() {
            // Those between are NULL.
            let nulls = self.nulls || at > self.valid.len();
            self.reach(at + 1)?;
            self.nulls = nulls;
        }
        match (&mut self.found, value) {
            (_, Value::Null) => {
                self.nulls = true;
                self.valid[at] = false;
                return Ok(());
            }
            (Found::Ints(values), Value::I64(v)) => values[at] = *v,
            (Found::Wide(values), Value::I128(v)) => values[at] = *v,
            (Found::Floats(values), Value::F64(v)) => values[at] = *v,
            (Found::Bytes(codes, distinct), Value::Bytes(v)) => codes[at] = distinct.number(v)?,
            _ => return Err(Error::invalid("values are of another type than their column")),
        }
        self.valid[at] = true;
        Ok(())
    }

    /// Adds a value behind all others. Errors: as of [`Attributes::set`].
    pub fn push(&mut self, value: &Value) -> Result<()> {
        self.set(self.valid.len(), value)
    }

    /// `Null` past the end.
    pub fn get(&self, at: usize) -> Value {
        if self.valid.get(at) != Some(&true) {
            return Value::Null;
        }
        match &self.found {
            Found::Ints(values) => Value::I64(values[at]),
            Found::Wide(values) => Value::I128(values[at]),
            Found::Floats(values) => Value::F64(values[at]),
            Found::Bytes(codes, distinct) => Value::Bytes(distinct.get(codes[at]).to_vec()),
        }
    }

    /// Ends making them. Errors: `Budget`, `Canceled`.
    pub fn finish(self) -> Result<AttributeValues> {
        let Attributes { found, valid, nulls, mut memory } = self;
        let mut limits: Limits = None;
        let held = match found {
            Found::Ints(ints) => {
                limits = spanned(ints.iter().map(|v| i128::from(*v)));
                Held::Ints(ints)
            }
            Found::Wide(wide) => {
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
            Found::Floats(floats) => Held::Floats(floats),
            Found::Bytes(codes, distinct) => {
                let (codes, dictionary) = sorted(codes, distinct, &mut memory)?;
                Held::Codes(codes, dictionary)
            }
        };
        let valid = (nulls && valid.contains(&false)).then_some(valid);
        Ok(AttributeValues::of(held, valid, limits, memory))
    }
}

impl AttributeValues {
    /// Strings by the numbers that a map gave them (NULL: another number). `valid`: where a value is not NULL; `None`: nowhere one is. `memory` was
    /// taken for both and grows by the strings. Errors: `Budget`, `Canceled`.
    pub(crate) fn of_texts(
        numbers: Vec<u32>,
        distinct: BytesMap,
        valid: Option<Vec<bool>>,
        mut memory: Reservation,
    ) -> Result<AttributeValues> {
        let (codes, dictionary) = sorted(numbers, distinct, &mut memory)?;
        Ok(AttributeValues::of(Held::Codes(codes, dictionary), valid, None, memory))
    }
}

/// The distinct values ascending, and codes that are their places among them: NULL's is behind them.
fn sorted(mut codes: Vec<u32>, distinct: BytesMap, memory: &mut Reservation) -> Result<(Vec<u32>, BytesBlock)> {
    let count = distinct.len();
    memory.grow(count * 36)?;
    // By their first eight bytes: most differ in them, and numbers are faster to compare than strings.
    let first = |value: &[u8]| u64::from_be_bytes(prefix(value));
    let mut order: Vec<(u64, u32)> = Vec::with_capacity(count);
    for start in (0..count).step_by(STEP) {
        memory.check()?;
        order.extend((start..count.min(start + STEP)).map(|nth| (first(distinct.get(nth as u32)), nth as u32)));
    }
    let compare = |a: &(u64, u32), b: &(u64, u32)| a.0.cmp(&b.0).then_with(|| distinct.get(a.1).cmp(distinct.get(b.1)));
    sort_by(&mut order, compare, &mut || memory.check())?;
    memory.grow(distinct.bytes() + count * 4)?;
    let mut dictionary = BytesBlock { ends: Vec::with_capacity(count), data: Vec::with_capacity(distinct.bytes()) };
    let mut place = vec![0u32; count];
    for (nth, some) in order.chunks(STEP).enumerate() {
        memory.check()?;
        for (at, (_, number)) in some.iter().enumerate() {
            place[*number as usize] = (nth * STEP + at) as u32;
            dictionary.data.extend_from_slice(distinct.get(*number));
            let end = u32::try_from(dictionary.data.len())
                .map_err(|_| Error::invalid("the strings of an attribute have more than 4 GB"))?;
            dictionary.ends.push(end);
        }
    }
    for some in codes.chunks_mut(STEP) {
        memory.check()?;
        some.iter_mut().for_each(|code| *code = place.get(*code as usize).copied().unwrap_or(count as u32));
    }
    memory.resize(memory.bytes() - count * 36)?;
    Ok((codes, dictionary))
}

/// Smallest and largest; of no value zeros.
pub(super) fn spanned(values: impl Iterator<Item = i128>) -> Limits {
    values
        .fold(None, |span: Limits, v| Some(span.map_or((v, v), |(low, high)| (low.min(v), high.max(v)))))
        .or(Some((0, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_strings_are_numbered_in_order() {
        let budget = Budget::new(1 << 20);
        let mut made = Attributes::new(Physical::Bytes, &budget).unwrap();
        let text = |t: &str| Value::Bytes(t.into());
        // The first eight bytes are alike in some.
        let values = ["longer and b", "longer and a", "x", "", "longer and b"].map(text);
        values.iter().for_each(|v| made.push(v).unwrap());
        made.set(7, &text("a")).unwrap();
        assert_eq!(
            (made.get(1), made.get(5), made.get(7), made.get(8)),
            (text("longer and a"), Value::Null, text("a"), Value::Null)
        );
        assert!(made.set(0, &Value::I64(1)).is_err());
        let made = made.finish().unwrap();
        let dictionary = made.dictionary().unwrap();
        let sorted: Vec<&[u8]> = (0..dictionary.len()).map(|i| dictionary.get(i)).collect();
        assert_eq!(sorted, [&b""[..], b"a", b"longer and a", b"longer and b", b"x"]);
        match &made.held {
            Held::Codes(codes, _) => assert_eq!(codes[..], [3, 2, 4, 0, 3, 5, 5, 1]),
            _ => panic!(),
        }
        assert_eq!(made.valid, Some(vec![true, true, true, true, true, false, false, true]));
        drop(made);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn numbers_know_their_limits_and_memory_is_asked_for() {
        let budget = Budget::new(1 << 20);
        let mut made = Attributes::new(Physical::I64, &budget).unwrap();
        (-5..10).for_each(|v| made.push(&Value::I64(v)).unwrap());
        let made = made.finish().unwrap();
        assert_eq!((made.limits, made.valid.is_none()), (Some((-5, 9)), true));
        let mut made = Attributes::new(Physical::I64, &budget).unwrap();
        assert!(matches!(made.reach(1 << 20), Err(Error::Budget { .. })));
    }
}
