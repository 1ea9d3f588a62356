//! Aggregation over more groups than memory holds: groups go to a temporary file, divided by a hash of their keys, and are merged part by
//! part (a hybrid of hash and disk: G. Graefe, "Query Evaluation Techniques for Large Databases", 1993, section 4).
//!
//! The file is a sequence of runs. A run belongs to one part: `u64` place of the part's run before it (`u64::MAX`: none), `u32` length of the
//! records, the records. A record: its length as a varint, the keys as values, the states (export.rs).
//!
//! The upper half of the keys' hash is of the leading keys alone, so that what executions over the same leading keys spilled divides alike (joint.rs).

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::columns::{SegmentView, exact_key, float_of_key};
use super::export::{self, Members};
use super::global::{Global, Partial};
use crate::encoding::cursor::{Cursor, put_varint};
use crate::plan::Host;
use crate::types::Value;
use crate::{Budget, Error, Reservation, Result};

/// Where groups go that memory does not hold. Used on the thread that called the engine.
pub trait Spill {
    /// Writes at the end, which is at `at`.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()>;
    /// Fills `out` with the bytes from `at` on, which were written.
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()>;
}

/// The hash that executions share which are finished together.
#[derive(Clone, Default)]
pub struct SpillHash(DefaultHashBuilder);

impl SpillHash {
    /// Of encoded keys, of which the first `leading` bytes are the leading ones.
    fn of(&self, keys: &[u8], leading: usize) -> u64 {
        let hash = self.0.hash_one(&keys[..leading]);
        if leading < keys.len() { hash & 0xffff_ffff_0000_0000 | self.0.hash_one(keys) & 0xffff_ffff } else { hash }
    }
}

/// Parts a level of the hash: each takes eight bits.
const PARTS: usize = 256;
/// Records of a part that are held until they are written.
const RUN: usize = 2048;
/// Bytes of a record's length at most.
const LENGTH: usize = 10;
/// The place of a run that is none.
pub(super) const NONE: u64 = u64::MAX;
/// Bytes set aside at least: for the runs that are held, and for a share of the groups on their way.
const ASIDE: usize = 2 << 20;
/// Groups on their way to the file at a time.
const STEP: usize = 2048;
/// Bytes of memory that go to the file together for each group on its way from a finer grouping.
const POURED: usize = 512;
/// Levels that divide by the leading keys; the others divide what has the same.
pub(super) const LEADING_LEVELS: u32 = 4;
/// Levels of division: afterwards all groups of a part have one hash.
pub(super) const LEVELS: u32 = 8;

/// Divides records and writes them.
struct Divider {
    level: u32,
    held: Vec<Vec<u8>>,
    /// A record's, encoded.
    length: Vec<u8>,
    /// Of each part the last run.
    last: Vec<u64>,
    _memory: Reservation,
}

impl Divider {
    /// `last`: of what was divided before, or nothing.
    fn new(level: u32, mut last: Vec<u64>, budget: &Budget) -> Result<Self> {
        let memory = budget.reserve(PARTS * (RUN + 64))?;
        last.resize(PARTS, NONE);
        Ok(Divider {
            level,
            held: (0..PARTS).map(|_| Vec::with_capacity(RUN)).collect(),
            length: Vec::with_capacity(LENGTH),
            last,
            _memory: memory,
        })
    }

    fn add(&mut self, hash: u64, record: &[u8], file: &mut File) -> Result<()> {
        let part = (hash >> (56 - 8 * self.level)) as usize % PARTS;
        if self.held[part].len() + LENGTH + record.len() > RUN {
            self.flush(part, file)?;
        }
        self.length.clear();
        put_varint(&mut self.length, record.len() as u64);
        if record.len() > RUN - LENGTH {
            self.last[part] = file.run(self.last[part], [&self.length, record])?;
        } else {
            self.held[part].extend_from_slice(&self.length);
            self.held[part].extend_from_slice(record);
        }
        Ok(())
    }

    fn flush(&mut self, part: usize, file: &mut File) -> Result<()> {
        if !self.held[part].is_empty() {
            self.last[part] = file.run(self.last[part], [&self.held[part], &[]])?;
            self.held[part].clear();
        }
        Ok(())
    }

    fn finish(mut self, file: &mut File) -> Result<Vec<u64>> {
        for part in 0..PARTS {
            self.flush(part, file)?;
        }
        Ok(self.last)
    }
}

struct File {
    spill: Box<dyn Spill>,
    end: u64,
}

impl File {
    /// Writes a run, which is in two pieces; returns its place.
    fn run(&mut self, before: u64, records: [&[u8]; 2]) -> Result<u64> {
        let bytes = records[0].len() + records[1].len();
        let place = self.end;
        let mut head = [0; 12];
        let length = u32::try_from(bytes).map_err(|_| Error::OutOfRange { what: "a group".into() })?;
        head[..8].copy_from_slice(&before.to_le_bytes());
        head[8..].copy_from_slice(&length.to_le_bytes());
        self.spill.write(place, &head)?;
        self.end += 12;
        for piece in records.iter().filter(|piece| !piece.is_empty()) {
            self.spill.write(self.end, piece)?;
            self.end += piece.len() as u64;
        }
        Ok(place)
    }

    /// Reads a run into `records`; returns the place of the one before.
    fn read(&mut self, place: u64, records: &mut Vec<u8>, memory: &mut Reservation) -> Result<u64> {
        let mut head = [0; 12];
        self.spill.read(place, &mut head)?;
        let mut input = Cursor::new(&head);
        let (before, length) = (input.u64()?, input.u32()? as usize);
        if length > memory.bytes() {
            memory.resize(length)?;
        }
        records.resize(length, 0);
        self.spill.read(place + 12, records)?;
        Ok(before)
    }
}

/// The temporary file of an aggregation, with memory set aside while it is filled.
pub(super) struct Spilled {
    file: File,
    hash: SpillHash,
    /// Keys, and how many of them the hash's upper half is of.
    keys: usize,
    leading: usize,
    /// Of what is on its way to the file.
    pub budget: Budget,
    memory: Reservation,
    /// Of each part the last run; empty: nothing was spilled.
    last: Vec<u64>,
    divider: Option<Divider>,
    record: Vec<u8>,
}

impl Spilled {
    /// `leading`: how many of the keys the hash's upper half is of.
    pub fn new(spill: Box<dyn Spill>, keys: usize, leading: usize, hash: SpillHash, budget: &Budget) -> Result<Self> {
        let aside = (budget.limit() / 4).clamp(ASIDE, 16 * ASIDE);
        Ok(Spilled {
            file: File { spill, end: 0 },
            hash,
            keys,
            leading: leading.min(keys),
            budget: budget.apart(aside),
            memory: budget.reserve(0)?,
            last: Vec::new(),
            divider: None,
            record: Vec::new(),
        })
    }

    /// Sets memory aside. Errors: `Budget` if that is too short.
    pub fn wake(&mut self) -> Result<()> {
        if self.memory.bytes() == 0 { self.memory.grow(self.budget.limit()) } else { Ok(()) }
    }

    /// Sets memory aside, and of that what is held of each part.
    fn open(&mut self) -> Result<()> {
        self.wake()?;
        if self.divider.is_none() {
            let level = self.first_level();
            self.divider = Some(Divider::new(level, std::mem::take(&mut self.last), &self.budget)?);
        }
        Ok(())
    }

    /// Writes what is held and gives memory back.
    pub fn rest(&mut self) -> Result<()> {
        if let Some(divider) = self.divider.take() {
            self.last = divider.finish(&mut self.file)?;
        }
        self.memory.resize(0)
    }

    /// Whether there is something in the file, or on its way there.
    pub fn has_groups(&self) -> bool {
        self.divider.is_some() || !self.last.is_empty()
    }

    /// Of each part the last run, once it rests.
    pub fn parts(&self) -> Vec<u64> {
        if self.last.is_empty() { vec![NONE; PARTS] } else { self.last.clone() }
    }

    /// The level by which those are divided.
    pub fn first_level(&self) -> u32 {
        if self.leading == 0 { LEADING_LEVELS } else { 0 }
    }

    /// Adds a group, of which `states` appends the encoded form.
    pub fn add(&mut self, key: &[Value], states: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        self.record.clear();
        let mut leading = 0;
        for (nth, value) in key.iter().enumerate() {
            value.encode(&mut self.record);
            if nth + 1 == self.leading {
                leading = self.record.len();
            }
        }
        let hash = self.hash.of(&self.record, leading);
        states(&mut self.record)?;
        self.open()?;
        let Spilled { divider: Some(divider), record, file, .. } = self else {
            return Err(Error::invalid("a file that is not open"));
        };
        divider.add(hash, record, file)
    }

    /// A part as several, divided by `level`: of each the last run.
    fn divide(&mut self, last: u64, level: u32, budget: &Budget, host: &mut dyn Host) -> Result<Vec<u64>> {
        let mut divider = Divider::new(level, Vec::new(), budget)?;
        let (hash, keys, leading) = (self.hash.clone(), self.keys, self.leading);
        self.each(last, budget, host, |file, record, _| {
            let (mut rest, mut end) = (Cursor::new(record), 0);
            for nth in 0..keys {
                export::skip_value(&mut rest)?;
                if nth + 1 == leading {
                    end = record.len() - rest.remaining();
                }
            }
            let keys = &record[..record.len() - rest.remaining()];
            divider.add(hash.of(keys, end), record, file)
        })?;
        divider.finish(&mut self.file)
    }

    /// Calls `f(file, keys and states)` for each record of a part.
    fn each(
        &mut self,
        last: u64,
        budget: &Budget,
        host: &mut dyn Host,
        mut f: impl FnMut(&mut File, &[u8], &mut dyn Host) -> Result<()>,
    ) -> Result<()> {
        let mut memory = budget.reserve(RUN)?;
        let mut records = Vec::new();
        let mut place = last;
        while place != NONE {
            host.poll()?;
            place = self.file.read(place, &mut records, &mut memory)?;
            let mut input = Cursor::new(&records);
            while input.remaining() > 0 {
                let length = input.length()?;
                f(&mut self.file, input.take(length)?, host)?;
            }
        }
        Ok(())
    }
}

/// Writes a partial's groups, which pass through `way`.
fn pass(
    way: &mut Global,
    view: &SegmentView<'_>,
    partial: Partial,
    spilled: &mut Spilled,
    host: &mut dyn Host,
) -> Result<()> {
    let live = partial.live(way.budget())?;
    let sets = partial.states.has_sets();
    let mut step = if sets { STEP.max(live.len() / 16) } else { STEP };
    let keys = &partial.plan.keys;
    let mut readers = partial.readers(view);
    let (mut digits, mut key) = (Vec::new(), Vec::new());
    let to: Vec<u32> = (0..STEP as u32).collect();
    let mut left = live.as_slice();
    while !left.is_empty() {
        let groups = &left[..left.len().min(step)];
        let taken = if sets {
            way.absorb(view, &partial, groups.to_vec(), true, host)
        } else {
            // Its groups differ, so that no key need be looked up.
            way.take_states(view, &partial, groups, &to[..groups.len()], host)
        };
        match taken {
            // Of long strings fewer go together.
            Err(Error::Budget { .. }) if groups.len() > 1 => {
                way.clear()?;
                step = groups.len() / 2;
                continue;
            }
            taken => taken?,
        }
        if sets {
            way.write(spilled, host)?;
        } else {
            for (&group, &taken) in groups.iter().zip(&to) {
                partial.groups.digits_of(keys, group, &mut digits);
                key.clear();
                for (reader, digit) in readers.iter_mut().zip(&digits) {
                    key.push(without_payload(reader.value(*digit)?));
                }
                way.write_group(&key, taken, None, spilled)?;
            }
        }
        way.clear()?;
        left = &left[groups.len()..];
    }
    Ok(())
}

/// Of NaNs one, as where values are numbered.
fn without_payload(value: Value) -> Value {
    if let Value::F64(v) = value { Value::F64(float_of_key(exact_key(v))) } else { value }
}

impl Global {
    /// Writes a partial's groups to the temporary file, and before it what was merged so far. `false`: there is no file.
    pub fn spill(&mut self, view: &SegmentView<'_>, partial: Partial, host: &mut dyn Host) -> Result<bool> {
        self.spill_into(Some((view, partial)), host)
    }

    /// Writes what was merged or kept so far. `false`: there is nothing, or no file.
    pub fn spill_held(&mut self, host: &mut dyn Host) -> Result<bool> {
        if self.is_empty() && self.lone.is_none() { Ok(false) } else { self.spill_into(None, host) }
    }

    /// If groups were spilled, or `all` are to be, the others follow them, and memory is given back.
    pub fn rest(&mut self, all: bool, host: &mut dyn Host) -> Result<()> {
        if all || self.has_spilled() {
            self.spill_held(host)?;
        }
        self.spilled.as_mut().map_or(Ok(()), Spilled::rest)
    }

    pub fn has_spilled(&self) -> bool {
        self.spilled.as_ref().is_some_and(Spilled::has_groups)
    }

    /// Runs `work` with the file apart.
    fn with_file<T>(&mut self, work: impl FnOnce(&mut Self, &mut Spilled) -> Result<T>) -> Result<Option<T>> {
        let Some(mut spilled) = self.spilled.take() else { return Ok(None) };
        let result = work(self, &mut spilled);
        self.spilled = Some(spilled);
        result.map(Some)
    }

    fn spill_into(&mut self, partial: Option<(&SegmentView<'_>, Partial)>, host: &mut dyn Host) -> Result<bool> {
        let done = self.with_file(|global, spilled| {
            if !global.is_empty() {
                global.write(spilled, host)?;
                global.clear()?;
            }
            spilled.open()?;
            // Groups pass through the form in which they are merged, a few at a time.
            let mut way = global.like(&spilled.budget)?;
            if let Some((segment, computed, lone)) = global.lone.take() {
                let view = SegmentView::with(&segment, &global.columns, &computed)?;
                pass(&mut way, &view, lone, spilled, host)?;
            }
            match partial {
                Some((view, partial)) => pass(&mut way, view, partial, spilled, host),
                None => Ok(()),
            }
        })?;
        Ok(done.is_some())
    }

    /// Writes all groups.
    fn write(&self, spilled: &mut Spilled, host: &mut dyn Host) -> Result<()> {
        let members = self.members()?;
        let mut key = Vec::new();
        for (nth, group) in self.live()?.into_iter().enumerate() {
            if nth % STEP == 0 {
                host.poll()?;
            }
            self.key(group, &mut key);
            self.write_group(&key, group, Some(&members), spilled)?;
        }
        Ok(())
    }

    /// Writes one group. `members`: of each state, if there are sets of values.
    fn write_group(&self, key: &[Value], group: u32, members: Option<&[Members]>, spilled: &mut Spilled) -> Result<()> {
        let none = Members::default();
        spilled.add(key, |out| {
            let mut states = self.states.iter().enumerate();
            states.try_for_each(|(nth, state)| {
                let of = members.and_then(|members| members.get(nth)).unwrap_or(&none);
                export::export_state(state, group as usize, of, out)
            })
        })
    }

    /// Forgets all groups and takes those of a part in. Errors: `Budget` if it is too large; then it can be divided.
    pub fn load(&mut self, last: u64, host: &mut dyn Host) -> Result<()> {
        self.clear()?;
        let budget = self.budget().clone();
        self.with_file(|global, spilled| {
            spilled.each(last, &budget, host, |_, record, host| global.import_group(record, host))
        })?;
        Ok(())
    }

    /// A part of the file as several, divided by `level`: of each the last run.
    pub fn divide(&mut self, last: u64, level: u32, host: &mut dyn Host) -> Result<Vec<u64>> {
        self.clear()?;
        let budget = self.budget().clone();
        let parts = self.with_file(|_, spilled| spilled.divide(last, level, &budget, host))?;
        parts.ok_or_else(|| Error::invalid("no file to divide"))
    }

    /// Calls `f` with all groups in memory, or with those of the file part by part. Errors: `Budget`; what the host says.
    pub fn each_loaded(
        &mut self,
        host: &mut dyn Host,
        mut f: impl FnMut(&Global, &mut dyn Host) -> Result<()>,
    ) -> Result<()> {
        if !self.has_spilled() {
            self.settle(true, None, host)?;
            return f(self, host);
        }
        self.rest(true, host)?;
        let (parts, level) = self.spilled.as_ref().map_or((Vec::new(), 0), |s| (s.parts(), s.first_level()));
        let mut left: Vec<(u64, u32)> = parts.into_iter().map(|last| (last, level + 1)).collect();
        while let Some((last, level)) = left.pop() {
            if last == NONE {
                continue;
            }
            match self.load(last, host) {
                Ok(()) => f(self, host)?,
                Err(Error::Budget { .. }) if level < LEVELS => {
                    left.extend(self.divide(last, level, host)?.into_iter().map(|last| (last, level + 1)));
                }
                Err(error) => return Err(error),
            }
        }
        self.clear()
    }

    /// Adds the groups that are in memory to `way`, whose keys are those at `keep`; with a file they go on to that where `way` has little room.
    pub fn pour(
        &self,
        way: &mut Global,
        mut file: Option<&mut Spilled>,
        keep: &[usize],
        host: &mut dyn Host,
    ) -> Result<()> {
        let members = self.members()?;
        let (mut key, mut record) = (Vec::new(), Vec::new());
        for (nth, group) in self.live()?.into_iter().enumerate() {
            if nth % STEP == 0 {
                host.poll()?;
            }
            // Tables grow by multiples.
            let (used, limit) = (way.budget().used(), way.budget().limit());
            if let Some(file) = &mut file
                && (used > limit / 2 || way.groups() > limit / POURED)
            {
                way.write(file, host)?;
                way.clear()?;
            }
            record.clear();
            self.key(group, &mut key);
            key.iter().for_each(|value| value.encode(&mut record));
            for (state, of) in self.states.iter().zip(&members) {
                export::export_state(state, group as usize, of, &mut record)?;
            }
            way.import_one(&mut Cursor::new(&record), Some(keep), key.len(), host)?;
        }
        Ok(())
    }

    /// Adds the groups of `finer`, by the keys at `keep`, to the file.
    pub fn spill_coarser(&mut self, finer: &mut Global, keep: &[usize], host: &mut dyn Host) -> Result<()> {
        let done = self.with_file(|global, spilled| {
            spilled.open()?;
            let mut way = global.like(&spilled.budget)?;
            finer.each_loaded(host, |finer, host| finer.pour(&mut way, Some(spilled), keep, host))?;
            way.write(spilled, host)?;
            spilled.rest()
        })?;
        done.ok_or_else(|| Error::Budget { requested: ASIDE, limit: self.budget().limit() })
    }

    /// Adds one group's keys and states.
    fn import_group(&mut self, record: &[u8], host: &mut dyn Host) -> Result<()> {
        let mut input = Cursor::new(record);
        self.import_one(&mut input, None, self.key_values.len(), host)?;
        input.end("groups of an aggregation")
    }
}
