//! Executions over the same leading keys, finished together: of each group what all of them found, part by part where memory does not hold all.

use super::aggregate::{AggregateExecution, AggregateResult};
use super::global::Global;
use super::spill::{LEADING_LEVELS, LEVELS, NONE, Spill};
use crate::plan::{Host, Top};
use crate::{Error, Result};

/// What the executions found for some of the groups.
pub struct JointPart {
    /// Of the first execution, which is grouped by the leading keys alone.
    pub groups: AggregateResult,
    /// One a further execution.
    pub others: Vec<Other>,
}

/// What a further execution found for a part's groups.
pub enum Other {
    Whole(AggregateResult),
    /// More than memory holds: [`Joint::next_of`] gives it piece by piece.
    Streamed(Stream),
}

/// A run, and the level that what it ends is divided by next.
type Chain = (u64, u32);

/// Groups of one execution that come in pieces, any number of times.
pub struct Stream {
    member: usize,
    all: Vec<Chain>,
    left: Vec<Chain>,
}

impl Stream {
    fn new(member: usize, all: Vec<Chain>) -> Self {
        Stream { member, left: all.clone(), all }
    }

    /// Lets all pieces come again.
    pub fn rewind(&mut self) {
        self.left.clone_from(&self.all);
    }
}

/// Some of the groups: the last run of each execution.
#[derive(Clone)]
struct Part {
    number: usize,
    last: Vec<u64>,
    level: u32,
}

/// Finished executions.
pub struct Joint {
    /// The only part, if memory holds all groups.
    whole: Option<JointPart>,
    members: Vec<Member>,
    all: Vec<Part>,
    left: Vec<Part>,
    /// Parts made so far.
    made: usize,
    top: Option<Top>,
    /// Of a first execution without keys its one group, and what the others found.
    single: Option<(AggregateResult, Vec<Further>)>,
    started: bool,
}

enum Further {
    /// One group as well.
    One(AggregateResult),
    Spilled(Vec<Chain>),
}

struct Member {
    global: Global,
    buckets: Vec<bool>,
}

impl Member {
    /// What was found, all groups in memory. Errors: `Budget`; with a file no group is lost then.
    fn whole(&mut self, top: Option<&Top>, host: &mut dyn Host) -> Result<AggregateResult> {
        self.global.settle(false, top, host)?;
        self.global.result(top, &self.buckets, host)
    }

    fn result(&mut self, top: Option<&Top>, host: &mut dyn Host) -> Result<AggregateResult> {
        let result = self.global.result(top, &self.buckets, host);
        self.global.clear()?;
        result
    }

    fn load(&mut self, last: u64, top: Option<&Top>, host: &mut dyn Host) -> Result<AggregateResult> {
        let loaded = self.global.load(last, host);
        if loaded.is_err() {
            self.global.clear()?;
        }
        loaded?;
        self.result(top, host)
    }
}

impl Joint {
    /// `top`: groups of the first execution that are surely behind the first `top.limit` may be left out. Errors: `Budget`, and what the
    /// host says.
    pub fn new(executions: Vec<AggregateExecution>, top: Option<Top>, host: &mut dyn Host) -> Result<Joint> {
        let mut members = Vec::with_capacity(executions.len());
        for execution in executions {
            let (global, buckets) = execution.into_global()?;
            members.push(Member { global, buckets });
        }
        let (all, left, single) = (Vec::new(), Vec::new(), None);
        let mut joint = Joint { whole: None, members, all, left, made: 0, top, single, started: false };
        let mut spilled = joint.members.iter().any(|m| m.global.has_spilled());
        if let (Some(top), [first, ..], false) = (&joint.top, joint.members.as_mut_slice(), spilled) {
            match first.global.choose(top, &first.buckets, host) {
                Err(Error::Budget { .. }) if first.global.spilled.is_some() => spilled = true,
                chosen => chosen?,
            }
        }
        spilled |= joint.is_crowded() && joint.members.iter().any(|m| m.global.spilled.is_some());
        let mut results = Vec::with_capacity(joint.members.len());
        if let ([only], false) = (joint.members.as_mut_slice(), spilled) {
            // How long its strings are is not known before.
            match only.whole(joint.top.as_ref(), host) {
                Err(Error::Budget { .. }) if only.global.spilled.is_some() => spilled = true,
                whole => results.push(whole?),
            }
        }
        if spilled {
            joint.spill(host)?;
        } else {
            for (nth, member) in joint.members.iter_mut().enumerate().skip(results.len()) {
                results.push(member.whole(joint.top.as_ref().filter(|_| nth == 0), host)?);
                member.global.clear()?;
            }
            joint.members.clear();
            let groups = results.remove(0);
            joint.whole = Some(JointPart { groups, others: results.into_iter().map(Other::Whole).collect() });
        }
        Ok(joint)
    }

    /// Whether results will hardly fit beside the groups that they are made of, and what the host makes of combinations beside them.
    fn is_crowded(&self) -> bool {
        let beside = if self.members.len() > 1 { 2 } else { 1 };
        let wanted = self.members.iter().map(|m| m.global.wanted()).sum::<usize>().saturating_mul(beside);
        let budget = self.members[0].global.budget();
        budget.used().saturating_add(wanted) > budget.limit()
    }

    /// Lets all groups go to the files.
    fn spill(&mut self, host: &mut dyn Host) -> Result<()> {
        let mut found = Vec::with_capacity(self.members.len());
        for member in &mut self.members {
            member.global.chosen = None;
            member.global.rest(true, host)?;
            if let Some(spilled) = &member.global.spilled {
                let level = spilled.first_level() + 1;
                found.push(Further::Spilled(spilled.parts().into_iter().map(|last| (last, level)).collect()));
                continue;
            }
            // Without keys there is nothing to divide.
            member.global.settle(false, None, host)?;
            let result = member.result(None, host)?;
            if !result.keys.is_empty() {
                // There was no memory for filling a file.
                return Err(Error::Budget { requested: 0, limit: member.global.budget().limit() });
            }
            found.push(Further::One(result));
        }
        let mut found = found.into_iter();
        let chains = |of| if let Further::Spilled(chains) = of { chains } else { Vec::new() };
        match found.next() {
            Some(Further::One(group)) => self.single = Some((group, found.collect())),
            Some(Further::Spilled(first)) => {
                let lasts: Vec<Vec<Chain>> = std::iter::once(first).chain(found.map(chains)).collect();
                let last = |of: &Vec<Chain>, part: usize| of.get(part).map_or(NONE, |chain| chain.0);
                let level = lasts[0].first().map_or(0, |chain| chain.1);
                let parts = (0..lasts[0].len()).map(|part| lasts.iter().map(|of| last(of, part)).collect());
                self.add_parts(parts.collect(), level);
            }
            None => {}
        }
        Ok(())
    }

    fn add_parts(&mut self, parts: Vec<Vec<u64>>, level: u32) {
        for last in parts {
            if last.iter().any(|run| *run != NONE) {
                let part = Part { number: self.made, last, level };
                self.made += 1;
                self.all.push(part.clone());
                self.left.push(part);
            }
        }
    }

    /// Whether the groups are in files, so that [`Joint::rewind`] brings them all once more.
    pub fn is_spilled(&self) -> bool {
        !self.members.is_empty()
    }

    /// Lets the parts in the files come again.
    pub fn rewind(&mut self) {
        self.left.clone_from(&self.all);
        self.started = false;
    }

    /// The next part; `None` after the last. There is one at least. Errors: `Budget` if memory does not hold even the first execution's groups of
    /// one hash; `Corrupt`; what the host says.
    pub fn next(&mut self, host: &mut dyn Host) -> Result<Option<JointPart>> {
        let started = std::mem::replace(&mut self.started, true);
        if !self.is_spilled() {
            return Ok(self.whole.take());
        }
        if let Some((groups, others)) = &self.single {
            let other = |(nth, of): (usize, &Further)| match of {
                Further::One(result) => Other::Whole(result.copy()),
                Further::Spilled(chains) => Other::Streamed(Stream::new(nth + 1, chains.clone())),
            };
            let others = others.iter().enumerate().map(other);
            return Ok((!started).then(|| JointPart { groups: groups.copy(), others: others.collect() }));
        }
        while let Some(part) = self.left.pop() {
            match self.load(&part, host) {
                Err(Error::Budget { .. }) => {}
                done => return done.map(Some),
            }
            if part.level < LEADING_LEVELS {
                let mut divided = Vec::new();
                for (member, last) in self.members.iter_mut().zip(&part.last) {
                    let runs = member.global.divide(*last, part.level, host)?;
                    divided.resize_with(runs.len(), Vec::new);
                    divided.iter_mut().zip(runs).for_each(|(of, run): (&mut Vec<u64>, u64)| of.push(run));
                }
                // From now on these are the parts.
                self.all.retain(|known| known.number != part.number);
                self.add_parts(divided, part.level + 1);
                continue;
            }
            let groups = self.members[0].load(part.last[0], self.top.as_ref(), host)?;
            let stream = |nth: usize| Other::Streamed(Stream::new(nth, vec![(part.last[nth], part.level)]));
            return Ok(Some(JointPart { groups, others: (1..part.last.len()).map(stream).collect() }));
        }
        if started {
            return Ok(None);
        }
        // No group at all.
        self.load(&Part { number: 0, last: vec![NONE; self.members.len()], level: 0 }, host).map(Some)
    }

    fn load(&mut self, part: &Part, host: &mut dyn Host) -> Result<JointPart> {
        let groups = self.members[0].load(part.last[0], self.top.as_ref(), host)?;
        let others = self.members[1..].iter_mut().zip(&part.last[1..]);
        let others =
            others.map(|(member, last)| member.load(*last, None, host).map(Other::Whole)).collect::<Result<_>>()?;
        Ok(JointPart { groups, others })
    }

    /// The next groups of a stream; `None` after the last. Errors: as of [`Joint::next`].
    pub fn next_of(&mut self, stream: &mut Stream, host: &mut dyn Host) -> Result<Option<AggregateResult>> {
        let member = self.members.get_mut(stream.member).ok_or_else(|| Error::invalid("a stream of another plan"))?;
        while let Some((last, level)) = stream.left.pop() {
            if last == NONE {
                continue;
            }
            match member.load(last, None, host) {
                Err(Error::Budget { .. }) if level < LEVELS => {
                    let runs = member.global.divide(last, level, host)?;
                    let chains = || runs.iter().map(|run| (*run, level + 1));
                    stream.left.extend(chains());
                    stream.all.retain(|chain| chain.0 != last);
                    stream.all.extend(chains());
                }
                done => return done.map(Some),
            }
        }
        Ok(None)
    }
}

impl AggregateExecution {
    /// The same rows grouped by fewer keys, those at the positions `keep`: a coarser grouping. `spill`: a file for what memory does not hold, and
    /// by how many leading keys it is divided. Errors: `Budget`, and what the host says.
    pub fn coarser(
        &mut self,
        keep: &[usize],
        spill: Option<(Box<dyn Spill>, usize)>,
        host: &mut dyn Host,
    ) -> Result<AggregateExecution> {
        let mut coarser = self.with_keys(keep)?;
        if let Some((spill, leading)) = spill {
            coarser = coarser.with_spill(spill, leading, &self.hash());
        }
        let (finer, to) = (self.global_mut()?, coarser.global_mut()?);
        let crowded = finer.has_spilled() || finer.budget().used() > finer.budget().limit() / 2;
        if !crowded || to.spilled.is_none() {
            match finer.each_loaded(host, |finer, host| finer.pour(to, None, keep, host)) {
                Err(Error::Budget { .. }) if to.spilled.is_some() => to.clear()?,
                done => return done.map(|()| coarser),
            }
        }
        to.spill_coarser(finer, keep, host)?;
        Ok(coarser)
    }
}
