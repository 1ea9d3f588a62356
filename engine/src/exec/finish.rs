//! From states to the values of a result.

use super::columns::float_of_key;
use super::global::Global;
use super::global_state::GlobalState;
use super::moments::{self, out_of_range};
use super::ranked::RankedGlobal;
use super::result::Values;
use super::top;
use super::{AggregateResult, ResultColumn};
use super::{PASSING, numbers_where};
use crate::plan::{AggregateFunction, Host, Top};
use crate::types::{LogicalType, Physical, Value};
use crate::{Error, Result};

/// Makes a sum of `count` values that of values larger by `by`.
fn shift(value: &mut Value, by: i64, count: i64) -> Result<()> {
    if let Value::I128(sum) = value {
        *sum = sum.checked_add(i128::from(by) * i128::from(count)).ok_or_else(out_of_range)?;
    }
    Ok(())
}

/// Bytes of a value in a result, beside a byte string's own.
const WIDTH: usize = 17;

impl Global {
    /// Groups that have rows.
    pub fn live(&self) -> Result<Vec<u32>> {
        let GlobalState::Count(rows) = &self.states[0] else { return Err(Error::invalid("no count of rows")) };
        let grouped = !self.key_values.is_empty();
        let has_rows = |g: usize| !grouped || rows.get(g).is_some_and(|c| *c > 0);
        numbers_where(self.groups(), self.budget(), has_rows)
    }

    /// The groups that are not surely behind the first.
    pub fn first(&self, top: &Top, buckets: &[bool], host: &mut dyn Host) -> Result<Vec<u32>> {
        let _held = self.budget().reserve(self.groups() * size_of::<u32>())?;
        let live = self.live()?;
        for state in &self.states {
            if let GlobalState::SumFloat(sums) = state {
                sums.check(&live)?;
            }
        }
        let GlobalState::Count(rows) = &self.states[0] else { return Err(Error::invalid("no count of rows")) };
        let counts = |p: usize| if let GlobalState::Count(counts) = &self.states[p] { counts } else { rows };
        top::check_moments(&self.program, &self.states, |p| counts(p).as_slice(), &live, host)?;
        top::first(live, top, &RankedGlobal::new(self, top, buckets)?, self.budget(), host)
    }

    /// The groups that have rows, of these the first; without keys the one group, whether it has or not. `buckets`: which keys are.
    pub fn result(&mut self, top: Option<&Top>, buckets: &[bool], host: &mut dyn Host) -> Result<AggregateResult> {
        let live = match (self.chosen.take(), top) {
            (Some((chosen, _)), _) => chosen,
            (None, Some(top)) => self.first(top, buckets, host)?,
            (None, None) => self.live()?,
        };
        let wanted = live.len() * (self.key_values.len() + self.program.outputs.len()) * WIDTH;
        let mut memory = self.budget().reserve(wanted)?;
        let mut keys = vec![Values::default(); self.key_values.len()];
        let mut key = Vec::new();
        for groups in live.chunks(1024) {
            host.poll()?;
            for &group in groups {
                self.key(group, &mut key);
                keys.iter_mut().zip(key.drain(..)).for_each(|(column, value)| column.push(value, live.len()));
            }
            memory.resize(wanted + keys.iter().map(Values::beside).sum::<usize>())?;
        }
        let keys: Vec<ResultColumn> =
            keys.into_iter().map(|values| ResultColumn { values, counts: Vec::new() }).collect();
        let mut aggregates = Vec::with_capacity(self.program.outputs.len());
        for output in &self.program.outputs {
            let GlobalState::Count(counts) = &self.states[output.count] else {
                return Err(Error::invalid("no count of values"));
            };
            let distinct = match output.function {
                AggregateFunction::CountDistinct(_) => self.distinct_counts(output.value)?,
                _ => Vec::new(),
            };
            let (mut values, all, held) = (Values::default(), live.len(), memory.bytes());
            for live in live.chunks(PASSING) {
                host.poll()?;
                match output.function {
                    AggregateFunction::CountStar | AggregateFunction::Count(_) | AggregateFunction::CountPairs(..) => {
                        live.iter().for_each(|g| values.push(Value::I64(counts[*g as usize]), all));
                    }
                    AggregateFunction::CountDistinct(_) => {
                        let count = |g: &u32| distinct.get(*g as usize).copied().unwrap_or(0);
                        live.iter().for_each(|g| values.push(Value::I64(count(g)), all));
                    }
                    AggregateFunction::Variance { .. } | AggregateFunction::Regression { .. } => {
                        for g in live {
                            let value = moments::value(&self.states, output, counts[*g as usize], *g)?;
                            values.push(value.unwrap_or(Value::Null), all);
                        }
                    }
                    _ => {
                        let mut some = self.values(output.value, live, counts)?;
                        if output.shift != 0 {
                            for (value, group) in some.iter_mut().zip(live) {
                                shift(value, output.shift, counts[*group as usize])?;
                            }
                        }
                        some.into_iter().for_each(|value| values.push(value, all));
                    }
                }
                memory.resize(held + values.beside())?;
            }
            let counts = match output.function {
                AggregateFunction::Avg(_) | AggregateFunction::Variance { .. } => {
                    live.iter().map(|g| counts[*g as usize]).collect()
                }
                _ => Vec::new(),
            };
            aggregates.push(ResultColumn { values, counts });
        }
        Ok(AggregateResult { groups: live.len(), keys, aggregates, memory: vec![memory] })
    }

    /// About as many bytes as finishing takes beside the groups.
    pub fn wanted(&self) -> usize {
        let (keys, outputs) = (self.key_values.len(), self.program.outputs.len());
        let merged = if self.lone.is_some() { (keys + self.states.len()) * 16 } else { 0 };
        let groups = match (&self.chosen, &self.lone) {
            (Some((chosen, _)), _) => chosen.len(),
            (None, Some((_, _, lone))) => lone.live_count(),
            (None, None) => self.groups(),
        };
        groups * (merged + keys * (WIDTH + 16) + outputs * WIDTH)
    }

    /// By group; groups past the end have none.
    pub fn distinct_counts(&self, state: usize) -> Result<Vec<i64>> {
        Ok(match &self.states[state] {
            GlobalState::DistinctCounts(counts) => counts.clone(),
            GlobalState::Distinct { pairs, .. } => {
                let mut counts = vec![0; self.groups()];
                for pairs in pairs.keys().chunks(PASSING) {
                    self.budget().check()?;
                    pairs.iter().for_each(|pair| counts[(pair >> 32) as usize] += 1);
                }
                counts
            }
            _ => return Err(Error::invalid("no distinct values")),
        })
    }

    fn values(&self, state: usize, live: &[u32], counts: &[i64]) -> Result<Vec<Value>> {
        let column = self.program.primitives[state].column.map(|c| self.columns[c].ty.physical());
        let value = |group: usize| -> Result<Value> {
            if counts[group] == 0 {
                return Ok(Value::Null);
            }
            Ok(match &self.states[state] {
                GlobalState::Sum { nan, .. } if nan[group] => Value::I128(LogicalType::NUMERIC_NAN_I128),
                // The sentinel itself is no sum.
                GlobalState::Sum { sums, .. } if sums[group] == LogicalType::NUMERIC_NAN_I128 => {
                    return Err(out_of_range());
                }
                GlobalState::Sum { sums, .. } => Value::I128(sums[group]),
                GlobalState::SumFloat(sums) => Value::F64(sums.get(group as u32).finish()?),
                GlobalState::Int { values, .. } if column == Some(Physical::F64) => {
                    Value::F64(float_of_key(values[group]))
                }
                GlobalState::Int { values, .. } => Value::I64(values[group]),
                GlobalState::Wide { values, .. } => Value::I128(values[group]),
                GlobalState::Bits { values, .. } => Value::I64(values[group]),
                GlobalState::Bytes { values, .. } => {
                    values[group].as_ref().map_or(Value::Null, |v| Value::Bytes(v.to_vec()))
                }
                _ => return Err(Error::invalid("a state without a value")),
            })
        };
        live.iter().map(|g| value(*g as usize)).collect()
    }
}
