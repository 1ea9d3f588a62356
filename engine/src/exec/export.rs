//! States as bytes: what a shard sends, a spill file holds, a rollup or a cache of results stores. One encoding for all.
//!
//! `u8` version 2; `u8` keys, `u8` primitives, then varints: groups; then each group: its keys as values ([`Value::encode`]), then its states
//! in the order of the program's primitives. int: a zigzag varint, of 64 or 128 bits.
//! count int; sum `u8` NaN flag and int; float sum `u8` flags, `u8` parts, each int exponent and int; extreme of numbers int (of a float: the
//! key that orders it), of byte strings a value (NULL if none yet); bits int; sum of squares 32 bytes, little-endian; sum of products `u8` parts,
//! each int exponent and 32 bytes; distinct values their number plus 1 as a varint and the values, no order among them, or 0 and their number
//! as an int where only that is kept of a whole group's.

use super::PASSING;
use super::aggregate::AggregateExecution;
use super::columns::exact_key;
use super::floats::FloatSum;
use super::global::Global;
use super::global_state::{GlobalState, improve_by};
use super::moments::{self, Wide, out_of_range};
use super::states::{extend, improve};
use super::values::ValueMap;
use crate::encoding::cursor::{Cursor, put_varint, put_zigzag, put_zigzag128};
use crate::plan::Host;
use crate::types::{Physical, Value};
use crate::{Budget, Error, Reservation, Result};

const VERSION: u8 = 2;

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

/// The number in `values` of the value that comes next.
fn number_of(values: &mut ValueMap, input: &mut Cursor<'_>) -> Result<u32> {
    match (input.u8()?, values.physical()) {
        (0, _) => Ok(0),
        (1, Physical::I64) => values.of_int(input.zigzag()?),
        (2, Physical::I128) => values.of_wide(input.zigzag128()?),
        (3, Physical::F64) => values.of_int(exact_key(input.f64()?)),
        (4, Physical::Bytes) => values.of_bytes(bytes(input)?),
        _ => Err(corrupt()),
    }
}

/// A byte string, behind its tag.
fn bytes<'a>(input: &mut Cursor<'a>) -> Result<&'a [u8]> {
    let length = input.length()?;
    input.take(length)
}

/// Passes over a value.
pub(super) fn skip_value(input: &mut Cursor<'_>) -> Result<()> {
    match input.u8()? {
        0 => Ok(()),
        1 | 2 => input.zigzag128().map(drop),
        3 => input.f64().map(drop),
        4 => bytes(input).map(drop),
        _ => Err(corrupt()),
    }
}

fn wide(input: &mut Cursor<'_>) -> Result<Wide> {
    Ok(Wide::from_le_bytes(input.array()?, input.array()?))
}

fn exponent(input: &mut Cursor<'_>) -> Result<i32> {
    i32::try_from(input.zigzag()?).map_err(|_| corrupt())
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
        put_varint(&mut out, live.len() as u64);
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
        let mut input = Cursor::new(bytes);
        if input.u8()? != VERSION {
            return Err(Error::Unsupported { what: "version of an aggregation's states".into() });
        }
        let shape = (input.u8()? as usize, input.u8()? as usize);
        if shape != (self.key_values.len(), self.states.len()) {
            return Err(corrupt());
        }
        for nth in 0..input.varint()? {
            if nth % 4096 == 0 {
                host.poll()?;
            }
            self.import_one(&mut input, None, shape.0, host)?;
        }
        input.end("states of an aggregation")
    }

    /// Adds the next group of `input`, which has `keys` keys; those at the positions `keep` are this aggregation's, `None`: all are.
    pub fn import_one(
        &mut self,
        input: &mut Cursor<'_>,
        keep: Option<&[usize]>,
        keys: usize,
        host: &mut dyn Host,
    ) -> Result<()> {
        let mut group = 0;
        match keep {
            None => {
                for nth in 0..keys {
                    group = self.combined(nth, group, input)?;
                }
            }
            Some(keep) => {
                let mut starts = Vec::with_capacity(keys);
                for _ in 0..keys {
                    starts.push(*input);
                    skip_value(input)?;
                }
                for (nth, at) in keep.iter().enumerate() {
                    group = self.combined(nth, group, &mut starts.get(*at).copied().ok_or_else(corrupt)?)?;
                }
            }
        }
        self.ensure(self.groups())?;
        for state in 0..self.states.len() {
            self.import_state(state, group, input, host)?;
        }
        Ok(())
    }

    fn import_state(&mut self, nth: usize, group: u32, input: &mut Cursor<'_>, host: &mut dyn Host) -> Result<()> {
        let g = group as usize;
        let memory = &mut self.memory;
        match &mut self.states[nth] {
            GlobalState::Count(counts) => {
                let count = Some(input.zigzag()?).filter(|c| *c >= 0).ok_or_else(corrupt)?;
                counts[g] = counts[g].checked_add(count).ok_or_else(corrupt)?;
            }
            GlobalState::Sum { sums, nan } => {
                nan[g] |= input.u8()? != 0;
                sums[g] = sums[g].checked_add(input.zigzag128()?).ok_or_else(out_of_range)?;
            }
            GlobalState::SumFloat(sums) => {
                let (flags, count) = (input.u8()?, input.u8()?);
                let mut parts = Vec::new();
                for _ in 0..count {
                    parts.push((exponent(input)?, input.zigzag128()?));
                }
                let sum = FloatSum { flags, parts };
                if !sum.is_valid() {
                    return Err(corrupt());
                }
                sums.merge(group, &sum)?;
            }
            GlobalState::Int { values, max } => {
                let v = input.zigzag()?;
                values[g] = if *max { values[g].max(v) } else { values[g].min(v) };
            }
            GlobalState::Wide { values, max } => {
                let v = input.zigzag128()?;
                values[g] = if *max { values[g].max(v) } else { values[g].min(v) };
            }
            GlobalState::Bytes { values, max, order } => match (input.u8()?, order) {
                (0, _) => {}
                (4, None) => improve(&mut values[g], bytes(input)?, *max, memory)?,
                (4, Some(order)) => improve_by(&mut values[g], bytes(input)?, *order, *max, memory, host)?,
                _ => return Err(corrupt()),
            },
            GlobalState::Bits { values, op } => values[g] = op.of(values[g], input.zigzag()?),
            GlobalState::Squares(sums) => sums[g] = sums[g].checked_add(wide(input)?).ok_or_else(out_of_range)?,
            GlobalState::Products(sums) => {
                let mut parts = Vec::new();
                for _ in 0..input.u8()? {
                    parts.push((exponent(input)?, wide(input)?));
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

    /// The number of key `nth`, which comes next, together with the keys before it, whose number is `before`.
    fn combined(&mut self, nth: usize, before: u32, input: &mut Cursor<'_>) -> Result<u32> {
        let id = number_of(&mut self.key_values[nth], input)?;
        match nth {
            0 => Ok(id),
            _ => self.folds[nth - 1].number(u64::from(before) << 32 | u64::from(id)),
        }
    }
}

/// Adds a group's distinct values; or their number, if there were none of any group so far but numbers.
fn import_set(state: &mut GlobalState, group: u32, input: &mut Cursor<'_>, memory: &mut Reservation) -> Result<()> {
    // None: they were counted.
    let members = input.varint()?.checked_sub(1);
    match (&mut *state, members) {
        (GlobalState::Distinct { values, pairs }, Some(members)) => {
            for _ in 0..members {
                let id = number_of(values, input)?;
                pairs.number(u64::from(group) << 32 | u64::from(id))?;
            }
            return Ok(());
        }
        (GlobalState::Distinct { pairs, .. }, None) if pairs.len() == 0 => {
            *state = GlobalState::DistinctCounts(Vec::new());
        }
        _ => {}
    }
    let GlobalState::DistinctCounts(counts) = state else { return Err(corrupt()) };
    extend(counts, group as usize + 1, 0, memory)?;
    let count = &mut counts[group as usize];
    if members.is_some() || *count != 0 {
        return Err(corrupt());
    }
    *count = input.zigzag()?;
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
        GlobalState::Count(counts) => put_zigzag(out, counts[g]),
        GlobalState::Sum { sums, nan } => {
            out.push(u8::from(nan[g]));
            put_zigzag128(out, sums[g]);
        }
        GlobalState::SumFloat(sums) => {
            let FloatSum { flags, parts } = sums.get(g as u32);
            out.extend([flags, parts.len() as u8]);
            for (exponent, part) in parts {
                put_zigzag(out, i64::from(exponent));
                put_zigzag128(out, part);
            }
        }
        // F64: the key that orders floats.
        GlobalState::Int { values, .. } => put_zigzag(out, values[g]),
        GlobalState::Wide { values, .. } => put_zigzag128(out, values[g]),
        GlobalState::Bytes { values, .. } => {
            values[g].as_ref().map_or(Value::Null, |v| Value::Bytes(v.to_vec())).encode(out);
        }
        GlobalState::Bits { values, .. } => put_zigzag(out, values[g]),
        GlobalState::Squares(sums) => out.extend(sums[g].to_le_bytes()),
        GlobalState::Products(sums) => {
            let parts = sums.get(g as u32);
            out.push(parts.len() as u8);
            for (exponent, part) in parts {
                put_zigzag(out, i64::from(exponent));
                out.extend(part.to_le_bytes());
            }
        }
        GlobalState::Distinct { values, .. } => {
            let members = distinct.of(g);
            put_varint(out, members.len() as u64 + 1);
            members.iter().for_each(|id| values.value(*id).encode(out));
        }
        GlobalState::DistinctCounts(counts) => {
            put_varint(out, 0);
            put_zigzag(out, counts.get(g).copied().unwrap_or(0));
        }
    }
    Ok(())
}
