//! Adding up what two threads made of the same groups.

use super::{State, States, add_wide, improve};
use crate::exec::PASSING;
use crate::plan::Host;
use crate::{Error, Result};

impl States {
    /// Adds the states of another thread, whose group `g` is `to(g)` here; room for these groups was made.
    pub fn merge(&mut self, other: &States, to: impl Fn(u32) -> u32 + Copy, host: &mut dyn Host) -> Result<()> {
        let memory = &mut self.memory;
        let at = |g: usize| to(g as u32) as usize;
        for (state, from) in self.states.iter_mut().zip(&other.states) {
            host.poll()?;
            let mut pass = |g: usize| if g.is_multiple_of(PASSING) { host.poll() } else { Ok(()) };
            let pass = &mut pass;
            match (state, from) {
                (State::Alias(_), State::Alias(_)) => {}
                (State::Count(all), State::Count(from)) => each(all, from, at, |a, b| a + b, pass)?,
                (State::SumInt(sums), State::SumInt(from)) => sums.merge(from, to, memory, pass)?,
                (State::SumWide { sums, nan }, State::SumWide { sums: from, nan: from_nan }) => {
                    for (g, sum) in from.iter().enumerate() {
                        pass(g)?;
                        sums[at(g)] = add_wide(sums[at(g)], *sum)?;
                    }
                    each(nan, from_nan, at, |a, b| a | b, pass)?;
                }
                (State::SumFloat(sums), State::SumFloat(from)) => {
                    for g in 0..other.groups as u32 {
                        pass(g as usize)?;
                        sums.merge(to(g), &from.get(g))?;
                    }
                }
                (State::Squares(sums), State::Squares(from)) => sums.merge(from, to, memory, pass)?,
                (State::Products(sums), State::Products(from)) => {
                    for g in 0..other.groups as u32 {
                        pass(g as usize)?;
                        sums.merge(to(g), &from.get(g))?;
                    }
                }
                (State::Extreme { values, max: true }, State::Extreme { values: from, .. }) => {
                    each(values, from, at, i64::max, pass)?;
                }
                (State::Extreme { values, .. }, State::Extreme { values: from, .. }) => {
                    each(values, from, at, i64::min, pass)?;
                }
                (State::ExtremeWide { values, max: true }, State::ExtremeWide { values: from, .. }) => {
                    each(values, from, at, i128::max, pass)?;
                }
                (State::ExtremeWide { values, .. }, State::ExtremeWide { values: from, .. }) => {
                    each(values, from, at, i128::min, pass)?;
                }
                (State::ExtremeBytes { values, max }, State::ExtremeBytes { values: from, .. }) => {
                    for (g, v) in from.iter().enumerate() {
                        pass(g)?;
                        if let Some(v) = v {
                            improve(&mut values[at(g)], v, *max, memory)?;
                        }
                    }
                }
                (State::Bits { values, op }, State::Bits { values: from, .. }) => {
                    each(values, from, at, |a, b| op.of(a, b), pass)?;
                }
                (State::Distinct(set), State::Distinct(from)) => set.merge(from, to, host)?,
                _ => return Err(Error::invalid("states of two kinds for one aggregate")),
            }
        }
        Ok(())
    }
}

fn each<T: Copy>(
    all: &mut [T],
    from: &[T],
    at: impl Fn(usize) -> usize,
    both: impl Fn(T, T) -> T,
    pass: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<()> {
    for (nth, values) in from.chunks(PASSING).enumerate() {
        let first = nth * PASSING;
        pass(first)?;
        for (g, value) in values.iter().enumerate() {
            let slot = &mut all[at(first + g)];
            *slot = both(*slot, *value);
        }
    }
    Ok(())
}
