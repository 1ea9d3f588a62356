//! Values and global numbers of a segment's digits.

use super::columns::{Kind, SegmentView};
use super::digits::{Digits, Source};
use super::hash::U64Map;
use super::values::ValueMap;
use crate::segment::BytesBlock;
use crate::types::Value;
use crate::{Budget, Reservation, Result};

/// Global numbers by digit, as far as they are known.
pub(super) enum Translation {
    Table(Vec<u32>, #[allow(dead_code)] Reservation),
    Map(U64Map, Vec<u32>),
}

impl Translation {
    pub fn new(digits: &Digits, budget: &Budget) -> Result<Self> {
        if digits.cardinality <= 1 << 16 {
            let size = digits.cardinality as usize;
            return Ok(Translation::Table(vec![u32::MAX; size], budget.reserve(size * 4)?));
        }
        Ok(Translation::Map(U64Map::new(budget)?, Vec::new()))
    }

    pub fn get(&mut self, digit: u64, mut fresh: impl FnMut() -> Result<u32>) -> Result<u32> {
        match self {
            Translation::Table(table, _) => {
                let slot = &mut table[digit as usize];
                if *slot == u32::MAX {
                    *slot = fresh()?;
                }
                Ok(*slot)
            }
            Translation::Map(map, numbers) => {
                let at = map.number(digit)? as usize;
                if at == numbers.len() {
                    numbers.push(fresh()?);
                }
                Ok(numbers[at])
            }
        }
    }
}

/// Reads the values of digits; codes that come in ascending order are read from the dictionary in runs.
pub(super) struct ValueReader<'a> {
    view: &'a SegmentView<'a>,
    digits: &'a Digits,
    interner: Option<&'a ValueMap>,
    run: BytesBlock,
    start: u64,
    last: u64,
}

const RUN: u64 = 1024;

impl<'a> ValueReader<'a> {
    pub fn new(view: &'a SegmentView<'a>, digits: &'a Digits, interner: Option<&'a ValueMap>) -> Self {
        ValueReader { view, digits, interner, run: BytesBlock::default(), start: 0, last: u64::MAX }
    }

    pub fn value(&mut self, digit: u64) -> Result<Value> {
        let column = &self.view.columns[self.digits.column];
        let codes = matches!(self.digits.source, Source::Codes) && column.kind == Kind::Codes;
        if codes && digit != self.digits.null() {
            let inside = |r: &Self| digit.checked_sub(r.start).filter(|i| *i < r.run.ends.len() as u64);
            if inside(self).is_none() && digit.wrapping_sub(self.last) <= 16 {
                let end = (digit + RUN).min(self.digits.null());
                self.run = column.dictionary_range(digit as u32..end as u32)?;
                self.start = digit;
            }
            self.last = digit;
            if let Some(at) = inside(self) {
                return Ok(Value::Bytes(super::like::value(&self.run, at as usize).to_vec()));
            }
        }
        self.digits.value(digit, self.view, self.interner)
    }
}
