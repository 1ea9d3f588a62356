//! States as bytes: what a shard sends, a spill file holds, a rollup or a cache of results stores. One encoding for all.
//!
//! Little-endian. `u8` version 1; `u8` keys, `u8` primitives, `u32` groups; then each group: its keys as values, then its states in the
//! order of the program's primitives:
//! count `i64`; sum `u8` NaN flag and `i128`; float sum `u8` flags, `u8` parts, each `i32` exponent and `i128`; extreme a value
//! (i64 of a float: the key that orders it; byte strings: NULL if none yet); bits `i64`; sum of squares 32 bytes; sum of products `u8` parts, each
//! `i32` exponent and 32 bytes; distinct values `u32` count and the values, no order among them, or `u32::MAX` and their number as `i64`
//! where only that is kept of a whole group's.
//! A value is `u8` tag (0 NULL, 1 i64, 2 i128, 3 f64, 4 bytes) and its bytes, byte strings behind a `u32` length.

use super::PASSING;
use super::aggregate::AggregateExecution;
use super::floats::FloatSum;
use super::global::Global;
use super::global_state::{GlobalState, improve_by};
use super::moments::{self, Wide, out_of_range};
use super::states::{extend, improve};
use crate::plan::Host;
use crate::types::Value;
use crate::{Budget, Error, Reservation, Result};

const VERSION: u8 = 1;
/// In place of a number of values: they were counted.
const COUNTED: u32 = u32::MAX;

impl AggregateExecution {
    /// The states of all groups so far. Errors: `Budget`, and what the host says.
    pub fn export(&mut self, host: &mut dyn Host) -> Result<Vec<u8>> {
        self.global_mut()?.export(host)
    }

    /// Adds states that an execution of the same query exported, as if its segments had been scanned here. Errors: `Corrupt` if
    /// the bytes are not such states (some groups may have been added then); `Unsupported`, `Budget`.
    pub fn import(&mut self, bytes: &[u8], host: &mut dyn Host) -> Result<()> {
        self.global_mut()?.import(bytes, host)
    }
}

/// Reads fields off the front; whatever is short or unknown is `Corrupt`.
pub(super) struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len).ok_or_else(corrupt)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| corrupt())
    }

    fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|a| a[0])
    }

    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn i128(&mut self) -> Result<i128> {
        self.array().map(i128::from_le_bytes)
    }

    fn wide(&mut self) -> Result<Wide> {
        Ok(Wide::from_le_bytes(self.array()?, self.array()?))
    }

    fn value(&mut self) -> Result<Value> {
        Ok(match self.u8()? {
            0 => Value::Null,
            1 => Value::I64(self.i64()?),
            2 => Value::I128(self.i128()?),
            3 => Value::F64(f64::from_bits(self.array().map(u64::from_le_bytes)?)),
            4 => {
                let len = self.u32()? as usize;
                Value::Bytes(self.take(len)?.to_vec())
            }
            _ => return Err(corrupt()),
        })
    }
}

pub(super) fn corrupt() -> Error {
    Error::corrupt("states of an aggregation")
}

impl Global {
    fn export(&mut self, host: &mut dyn Host) -> Result<Vec<u8>> {
        self.settle(true, None, host)?;
        let live = self.live()?;
        let distinct = self.members()?;
        let mut out = vec![VERSION, self.key_values.len() as u8, self.states.len() as u8];
        out.extend((live.len() as u32).to_le_bytes());
        let mut held = self.budget().reserve(0)?;
        let mut key = Vec::new();
        for (nth, &group) in live.iter().enumerate() {
            if nth % 4096 == 0 {
                host.poll()?;
                held.resize(out.capacity())?;
            }
            self.key(group, &mut key);
            key.iter().for_each(|value| value.encode(&mut out));
            for (nth, state) in self.states.iter().enumerate() {
                export_state(state, group as usize, &distinct[nth], &mut out)?;
            }
        }
        Ok(out)
    }

    /// Of each state the numbers of each group's distinct values.
    pub fn members(&self) -> Result<Vec<Members>> {
        let of = |state: &GlobalState| match state {
            GlobalState::Distinct { pairs, .. } => Members::new(pairs.keys(), self.groups(), self.budget()),
            _ => Ok(Members::default()),
        };
        self.states.iter().map(of).collect()
    }

    fn import(&mut self, bytes: &[u8], host: &mut dyn Host) -> Result<()> {
        self.settle(true, None, host)?;
        let mut input = Input(bytes);
        if input.u8()? != VERSION {
            return Err(Error::Unsupported { what: "version of an aggregation's states".into() });
        }
        let shape = (input.u8()? as usize, input.u8()? as usize);
        if shape != (self.key_values.len(), self.states.len()) {
            return Err(corrupt());
        }
        for nth in 0..input.u32()? {
            if nth % 4096 == 0 {
                host.poll()?;
            }
            self.import_one(&mut input, None, shape.0, host)?;
        }
        if input.0.is_empty() { Ok(()) } else { Err(corrupt()) }
    }

    /// Adds the next group of `input`, which has `keys` keys; those at the positions `keep` are this aggregation's, `None`: all are.
    pub fn import_one(
        &mut self,
        input: &mut Input<'_>,
        keep: Option<&[usize]>,
        keys: usize,
        host: &mut dyn Host,
    ) -> Result<()> {
        let mut key = Vec::with_capacity(keys);
        for _ in 0..keys {
            key.push(input.value()?);
        }
        if let Some(keep) = keep {
            key = keep.iter().map(|at| key.get(*at).cloned().ok_or_else(corrupt)).collect::<Result<_>>()?;
        }
        let group = self.group_of(&key)?;
        self.ensure(self.groups())?;
        for state in 0..self.states.len() {
            self.import_state(state, group, input, host)?;
        }
        Ok(())
    }

    fn import_state(&mut self, nth: usize, group: u32, input: &mut Input<'_>, host: &mut dyn Host) -> Result<()> {
        let g = group as usize;
        let memory = &mut self.memory;
        match &mut self.states[nth] {
            GlobalState::Count(counts) => {
                let count = Some(input.i64()?).filter(|c| *c >= 0).ok_or_else(corrupt)?;
                counts[g] = counts[g].checked_add(count).ok_or_else(corrupt)?;
            }
            GlobalState::Sum { sums, nan } => {
                nan[g] |= input.u8()? != 0;
                sums[g] = sums[g].checked_add(input.i128()?).ok_or_else(out_of_range)?;
            }
            GlobalState::SumFloat(sums) => {
                let (flags, count) = (input.u8()?, input.u8()?);
                let mut parts = Vec::new();
                for _ in 0..count {
                    let (exponent, part) = (input.array().map(i32::from_le_bytes)?, input.i128()?);
                    parts.push((exponent, part));
                }
                let sum = FloatSum { flags, parts };
                if !sum.is_valid() {
                    return Err(corrupt());
                }
                sums.merge(group, &sum)?;
            }
            GlobalState::Int { values, max } => {
                let Value::I64(v) = input.value()? else { return Err(corrupt()) };
                values[g] = if *max { values[g].max(v) } else { values[g].min(v) };
            }
            GlobalState::Wide { values, max } => {
                let Value::I128(v) = input.value()? else { return Err(corrupt()) };
                values[g] = if *max { values[g].max(v) } else { values[g].min(v) };
            }
            GlobalState::Bytes { values, max, order } => match (input.value()?, order) {
                (Value::Null, _) => {}
                (Value::Bytes(v), None) => improve(&mut values[g], &v, *max, memory)?,
                (Value::Bytes(v), Some(order)) => improve_by(&mut values[g], &v, *order, *max, memory, host)?,
                _ => return Err(corrupt()),
            },
            GlobalState::Bits { values, op } => values[g] = op.of(values[g], input.i64()?),
            GlobalState::Squares(sums) => sums[g] = sums[g].checked_add(input.wide()?).ok_or_else(out_of_range)?,
            GlobalState::Products(sums) => {
                let mut parts = Vec::new();
                for _ in 0..input.u8()? {
                    parts.push((input.array().map(i32::from_le_bytes)?, input.wide()?));
                }
                if !moments::is_valid(&parts) {
                    return Err(corrupt());
                }
                sums.merge(group, &parts)?;
            }
            state @ (GlobalState::Distinct { .. } | GlobalState::DistinctCounts(_)) => {
                import_set(state, group, input, memory)?;
            }
        }
        Ok(())
    }

    /// The group with these keys, a new one if there is none.
    fn group_of(&mut self, key: &[Value]) -> Result<u32> {
        let mut number = 0;
        for (nth, value) in key.iter().enumerate() {
            let id = self.key_values[nth].of_value(value).map_err(other_type)?;
            number = match nth {
                0 => id,
                _ => self.folds[nth - 1].number(u64::from(number) << 32 | u64::from(id))?,
            };
        }
        Ok(number)
    }
}

/// Adds a group's distinct values; or their number, if there were none of any group so far but numbers.
fn import_set(state: &mut GlobalState, group: u32, input: &mut Input<'_>, memory: &mut Reservation) -> Result<()> {
    let members = input.u32()?;
    match state {
        GlobalState::Distinct { values, pairs } if members != COUNTED => {
            for _ in 0..members {
                let id = values.of_value(&input.value()?).map_err(other_type)?;
                pairs.number(u64::from(group) << 32 | u64::from(id))?;
            }
            return Ok(());
        }
        GlobalState::Distinct { pairs, .. } if pairs.len() == 0 => *state = GlobalState::DistinctCounts(Vec::new()),
        _ => {}
    }
    let GlobalState::DistinctCounts(counts) = state else { return Err(corrupt()) };
    extend(counts, group as usize + 1, 0, memory)?;
    let count = &mut counts[group as usize];
    if members != COUNTED || *count != 0 {
        return Err(corrupt());
    }
    *count = input.i64()?;
    Ok(())
}

/// The numbers of each group's distinct values.
#[derive(Default)]
pub(super) struct Members {
    numbers: Vec<u32>,
    /// Where each group's end.
    ends: Vec<usize>,
}

impl Members {
    /// `pairs`: group << 32 | number of a value.
    fn new(pairs: &[u64], groups: usize, budget: &Budget) -> Result<Members> {
        let mut ends = vec![0usize; groups];
        for pairs in pairs.chunks(PASSING) {
            budget.check()?;
            pairs.iter().for_each(|pair| ends[(pair >> 32) as usize] += 1);
        }
        let mut start = 0;
        for end in &mut ends {
            (start, *end) = (start + *end, start);
        }
        let mut numbers = vec![0; pairs.len()];
        for pairs in pairs.chunks(PASSING) {
            budget.check()?;
            for pair in pairs {
                let end = &mut ends[(pair >> 32) as usize];
                numbers[*end] = *pair as u32;
                *end += 1;
            }
        }
        Ok(Members { numbers, ends })
    }

    fn of(&self, group: usize) -> &[u32] {
        let start = group.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        match (start, self.ends.get(group)) {
            (Some(start), Some(end)) => &self.numbers[start..*end],
            _ => &[],
        }
    }
}

/// Appends one group's state; `distinct`: of a set of values.
pub(super) fn export_state(state: &GlobalState, g: usize, distinct: &Members, out: &mut Vec<u8>) -> Result<()> {
    match state {
        GlobalState::Count(counts) => out.extend(counts[g].to_le_bytes()),
        GlobalState::Sum { sums, nan } => {
            out.push(u8::from(nan[g]));
            out.extend(sums[g].to_le_bytes());
        }
        GlobalState::SumFloat(sums) => {
            let FloatSum { flags, parts } = sums.get(g as u32);
            out.extend([flags, parts.len() as u8]);
            for (exponent, part) in parts {
                out.extend(exponent.to_le_bytes());
                out.extend(part.to_le_bytes());
            }
        }
        // F64: the key that orders floats.
        GlobalState::Int { values, .. } => Value::I64(values[g]).encode(out),
        GlobalState::Wide { values, .. } => Value::I128(values[g]).encode(out),
        GlobalState::Bytes { values, .. } => {
            values[g].as_ref().map_or(Value::Null, |v| Value::Bytes(v.to_vec())).encode(out);
        }
        GlobalState::Bits { values, .. } => out.extend(values[g].to_le_bytes()),
        GlobalState::Squares(sums) => out.extend(sums[g].to_le_bytes()),
        GlobalState::Products(sums) => {
            let parts = sums.get(g as u32);
            out.push(parts.len() as u8);
            for (exponent, part) in parts {
                out.extend(exponent.to_le_bytes());
                out.extend(part.to_le_bytes());
            }
        }
        GlobalState::Distinct { values, .. } => {
            let members = distinct.of(g);
            out.extend((members.len() as u32).to_le_bytes());
            members.iter().for_each(|id| values.value(*id).encode(out));
        }
        GlobalState::DistinctCounts(counts) => {
            out.extend(COUNTED.to_le_bytes());
            out.extend(counts.get(g).copied().unwrap_or(0).to_le_bytes());
        }
    }
    Ok(())
}

/// A value of another type in imported bytes is no bug of the caller.
fn other_type(error: Error) -> Error {
    if matches!(error, Error::Invalid(_)) { corrupt() } else { error }
}
