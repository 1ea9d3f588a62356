//! Aggregation over more groups than memory holds: groups go to a temporary file, divided by a hash of their keys, and are merged part by
//! part (a hybrid of hash and disk: G. Graefe, "Query Evaluation Techniques for Large Databases", 1993, section 4).
//!
//! The file is a sequence of runs. A run belongs to one part: `u64` place of the part's run before it (`u64::MAX`: none), `u32` length of the
//! records, the records. A record: `u32` length of what follows, `u64` hash of the keys, the keys as values, the states (export.rs).

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::AggregateResult;
use super::columns::SegmentView;
use super::export::{self, Input};
use super::global::{Global, Partial};
use crate::plan::{Host, Top};
use crate::{Budget, Error, Reservation, Result};

/// Where groups go that memory does not hold. Used on the thread that called the engine.
pub trait Spill {
    /// Writes at the end, which is at `at`.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()>;
    /// Fills `out` with the bytes from `at` on, which were written.
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()>;
}

/// Parts a level of the hash: each takes eight bits.
const PARTS: usize = 256;
/// Records of a part that are held until they are written.
const RUN: usize = 2048;
const NONE: u64 = u64::MAX;
/// Bytes set aside at least: for the runs that are held, and for a share of the groups on their way.
const ASIDE: usize = 2 << 20;
/// Groups on their way to the file at a time.
const STEP: usize = 2048;
/// Levels of division: afterwards all groups of a part have one hash, as far as 32 bits go.
const LEVELS: u32 = 4;

/// A part of the groups: its last run, and by how many levels it is divided off.
#[derive(Clone, Copy)]
pub(super) struct Part {
    last: u64,
    level: u32,
}

/// Divides records and writes them.
struct Divider {
    level: u32,
    held: Vec<Vec<u8>>,
    last: Vec<u64>,
    _memory: Reservation,
}

impl Divider {
    fn new(level: u32, budget: &Budget) -> Result<Self> {
        let memory = budget.reserve(PARTS * (RUN + 64))?;
        let held = (0..PARTS).map(|_| Vec::with_capacity(RUN)).collect();
        Ok(Divider { level, held, last: vec![NONE; PARTS], _memory: memory })
    }

    fn add(&mut self, hash: u64, record: &[u8], file: &mut File) -> Result<()> {
        let part = (hash >> (56 - 8 * self.level)) as usize % PARTS;
        if self.held[part].len() + record.len() > RUN {
            self.flush(part, file)?;
        }
        if record.len() > RUN {
            self.last[part] = file.run(self.last[part], record)?;
        } else {
            self.held[part].extend_from_slice(record);
        }
        Ok(())
    }

    fn flush(&mut self, part: usize, file: &mut File) -> Result<()> {
        if !self.held[part].is_empty() {
            self.last[part] = file.run(self.last[part], &self.held[part])?;
            self.held[part].clear();
        }
        Ok(())
    }

    fn finish(mut self, file: &mut File) -> Result<Vec<Part>> {
        for part in 0..PARTS {
            self.flush(part, file)?;
        }
        let level = self.level + 1;
        Ok(self.last.iter().filter(|last| **last != NONE).map(|last| Part { last: *last, level }).collect())
    }
}

struct File {
    spill: Box<dyn Spill>,
    end: u64,
}

impl File {
    /// Writes a run; returns its place.
    fn run(&mut self, before: u64, records: &[u8]) -> Result<u64> {
        let place = self.end;
        let mut head = [0; 12];
        head[..8].copy_from_slice(&before.to_le_bytes());
        head[8..].copy_from_slice(&(records.len() as u32).to_le_bytes());
        self.spill.write(place, &head)?;
        self.spill.write(place + 12, records)?;
        self.end += 12 + records.len() as u64;
        Ok(place)
    }

    /// Reads a run into `records`; returns the place of the one before.
    fn read(&mut self, place: u64, records: &mut Vec<u8>, memory: &mut Reservation) -> Result<u64> {
        let mut head = [0; 12];
        self.spill.read(place, &mut head)?;
        let mut input = Input(&head);
        let (before, length) = (input.u64()?, input.u32()? as usize);
        if length > memory.bytes() {
            memory.resize(length)?;
        }
        records.resize(length, 0);
        self.spill.read(place + 12, records)?;
        Ok(before)
    }
}

/// The temporary file of an aggregation, with memory set aside for filling it.
pub(super) struct Spilled {
    file: File,
    pub budget: Budget,
    _memory: Reservation,
    divider: Option<Divider>,
    hasher: DefaultHashBuilder,
    record: Vec<u8>,
}

impl Spilled {
    /// `None`: memory is too short even for this.
    pub fn new(spill: Box<dyn Spill>, budget: &Budget) -> Option<Self> {
        let aside = (budget.limit() / 4).clamp(ASIDE, 16 * ASIDE);
        let memory = budget.reserve(aside).ok()?;
        let (file, budget) = (File { spill, end: 0 }, Budget::new(aside));
        let hasher = DefaultHashBuilder::default();
        Some(Spilled { file, budget, _memory: memory, divider: None, hasher, record: Vec::new() })
    }

    /// Whether there is something in the file.
    pub fn has_groups(&self) -> bool {
        self.divider.is_some()
    }

    /// Adds a group, of which `keys` and `states` append the encoded form.
    pub fn add(
        &mut self,
        keys: impl FnOnce(&mut Vec<u8>) -> Result<()>,
        states: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let divider = match &mut self.divider {
            Some(divider) => divider,
            none => none.insert(Divider::new(0, &self.budget)?),
        };
        self.record.clear();
        self.record.resize(12, 0);
        keys(&mut self.record)?;
        let hash = self.hasher.hash_one(&self.record[12..]);
        states(&mut self.record)?;
        let length = u32::try_from(self.record.len() - 4).map_err(|_| Error::OutOfRange { what: "a group".into() })?;
        self.record[..4].copy_from_slice(&length.to_le_bytes());
        self.record[4..12].copy_from_slice(&hash.to_le_bytes());
        divider.add(hash, &self.record, &mut self.file)
    }

    /// Writes what is held; the parts of all groups.
    pub fn parts(&mut self) -> Result<Vec<Part>> {
        match self.divider.take() {
            Some(divider) => divider.finish(&mut self.file),
            None => Ok(Vec::new()),
        }
    }

    /// Merges a part into `global`, which is empty. Errors: `Budget` if it is too large; then it can be divided.
    pub fn merge(&mut self, part: Part, global: &mut Global, host: &mut dyn Host) -> Result<()> {
        let budget = global.budget().clone();
        self.each(part, &budget, host, |_, _, record, host| global.import_group(record, host))
    }

    /// A part that is too large as several; `None`: it can't be divided any more.
    pub fn divide(&mut self, part: Part, budget: &Budget, host: &mut dyn Host) -> Result<Option<Vec<Part>>> {
        if part.level >= LEVELS {
            return Ok(None);
        }
        let mut divider = Divider::new(part.level, budget)?;
        let mut whole = Vec::new();
        self.each(part, budget, host, |file, hash, record, _| {
            whole.clear();
            whole.extend((record.len() as u32 + 8).to_le_bytes());
            whole.extend(hash.to_le_bytes());
            whole.extend_from_slice(record);
            divider.add(hash, &whole, file)
        })?;
        divider.finish(&mut self.file).map(Some)
    }

    /// Calls `f(file, hash, keys and states)` for each record of a part.
    fn each(
        &mut self,
        part: Part,
        budget: &Budget,
        host: &mut dyn Host,
        mut f: impl FnMut(&mut File, u64, &[u8], &mut dyn Host) -> Result<()>,
    ) -> Result<()> {
        let mut memory = budget.reserve(RUN)?;
        let mut records = Vec::new();
        let mut place = part.last;
        while place != NONE {
            host.poll()?;
            place = self.file.read(place, &mut records, &mut memory)?;
            let mut input = Input(&records);
            while !input.is_empty() {
                let length = input.u32()? as usize;
                let mut record = Input(input.take(length)?);
                let hash = record.u64()?;
                f(&mut self.file, hash, record.0, host)?;
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
    let live = partial.live();
    let step = STEP.max(live.len() / 16 * usize::from(partial.states.has_sets()));
    for groups in live.chunks(step) {
        way.absorb(view, &partial, groups.to_vec(), true, host)?;
        way.write(spilled, host)?;
        way.clear()?;
    }
    Ok(())
}

impl Global {
    /// Writes a partial's groups to the temporary file, and before it what was merged so far. `false`: there is no file.
    pub fn spill(&mut self, view: &SegmentView<'_>, partial: Partial, host: &mut dyn Host) -> Result<bool> {
        let Some(mut spilled) = self.spilled.take() else { return Ok(false) };
        let result = self.settle_into(&mut spilled, Some((view, partial)), host);
        self.spilled = Some(spilled);
        result.map(|()| true)
    }

    /// Writes what was merged or kept so far. `false`: there is nothing, or no file.
    pub fn spill_held(&mut self, host: &mut dyn Host) -> Result<bool> {
        if self.is_empty() && self.lone.is_none() {
            return Ok(false);
        }
        let Some(mut spilled) = self.spilled.take() else { return Ok(false) };
        let result = self.settle_into(&mut spilled, None, host);
        self.spilled = Some(spilled);
        result.map(|()| true)
    }

    /// If groups were spilled, the others follow them.
    pub fn spill_rest(&mut self, host: &mut dyn Host) -> Result<bool> {
        let Some(mut spilled) = self.spilled.take_if(|s| s.has_groups()) else { return Ok(false) };
        let result = self.settle_into(&mut spilled, None, host);
        self.spilled = Some(spilled);
        result.map(|()| true)
    }

    fn settle_into(
        &mut self,
        spilled: &mut Spilled,
        partial: Option<(&SegmentView<'_>, Partial)>,
        host: &mut dyn Host,
    ) -> Result<()> {
        if !self.is_empty() {
            self.write(spilled, host)?;
            self.clear()?;
        }
        // Groups pass through the form in which they are merged, a few at a time.
        let mut way = self.like(&spilled.budget)?;
        if let Some((segment, computed, lone)) = self.lone.take() {
            let view = SegmentView::with(&segment, &self.columns, &computed)?;
            pass(&mut way, &view, lone, spilled, host)?;
        }
        match partial {
            Some((view, partial)) => pass(&mut way, view, partial, spilled, host),
            None => Ok(()),
        }
    }

    /// Writes all groups.
    fn write(&self, spilled: &mut Spilled, host: &mut dyn Host) -> Result<()> {
        let members = self.members();
        let mut key = Vec::new();
        for (nth, group) in self.live()?.into_iter().enumerate() {
            if nth % STEP == 0 {
                host.poll()?;
            }
            self.key(group, &mut key);
            spilled.add(
                |out| {
                    key.iter().for_each(|value| value.encode(out));
                    Ok(())
                },
                |out| {
                    let mut states = self.states.iter().zip(&members);
                    states.try_for_each(|(state, of)| export::export_state(state, group as usize, of, out))
                },
            )?;
        }
        Ok(())
    }

    /// Adds one group's keys and states.
    fn import_group(&mut self, record: &[u8], host: &mut dyn Host) -> Result<()> {
        let mut input = Input(record);
        self.import_one(&mut input, None, self.key_values.len(), host)?;
        if input.is_empty() { Ok(()) } else { Err(export::corrupt()) }
    }
}

/// The groups of a finished aggregation, in parts.
pub struct Parts {
    /// The only one, if memory holds all groups.
    result: Option<AggregateResult>,
    file: Option<PartsOfFile>,
}

struct PartsOfFile {
    global: Global,
    all: Vec<Part>,
    /// Those that are still to come.
    left: Vec<Part>,
    top: Option<Top>,
    buckets: Vec<bool>,
    started: bool,
}

impl Parts {
    pub(super) fn of_result(result: AggregateResult) -> Self {
        Parts { result: Some(result), file: None }
    }

    pub(super) fn of_file(mut global: Global, top: Option<Top>, buckets: Vec<bool>) -> Result<Self> {
        let all = match &mut global.spilled {
            Some(spilled) => spilled.parts()?,
            None => Vec::new(),
        };
        let left = all.clone();
        Ok(Parts { result: None, file: Some(PartsOfFile { global, all, left, top, buckets, started: false }) })
    }

    /// Whether the groups are in a file, so that [`Parts::rewind`] brings them all once more.
    pub fn is_spilled(&self) -> bool {
        self.file.is_some()
    }

    /// Lets the parts in the file come again.
    pub fn rewind(&mut self) {
        if let Some(file) = &mut self.file {
            file.left.clone_from(&file.all);
            file.started = false;
        }
    }

    /// The next part; `None` after the last. Errors: `Budget` if memory does not hold even a part that can't be divided; `Corrupt`.
    pub fn next(&mut self, host: &mut dyn Host) -> Result<Option<AggregateResult>> {
        match &mut self.file {
            Some(file) => file.next(host),
            None => Ok(self.result.take()),
        }
    }
}

impl PartsOfFile {
    fn next(&mut self, host: &mut dyn Host) -> Result<Option<AggregateResult>> {
        let budget = self.global.budget().clone();
        while let Some(part) = self.left.pop() {
            self.global.clear()?;
            let Some(mut spilled) = self.global.spilled.take() else { return Ok(None) };
            let merged = spilled.merge(part, &mut self.global, host);
            let result = merged.and_then(|()| self.global.result(self.top.as_ref(), &self.buckets, host));
            let divided = match &result {
                Err(Error::Budget { .. }) => {
                    self.global.clear()?;
                    spilled.divide(part, &budget, host)?
                }
                _ => None,
            };
            self.global.spilled = Some(spilled);
            match divided {
                Some(parts) => {
                    // From now on these are the parts.
                    self.all.retain(|known| known.last != part.last);
                    self.all.extend(&parts);
                    self.left.extend(parts);
                }
                None => {
                    self.started = true;
                    return result.map(Some);
                }
            }
        }
        if self.started {
            return Ok(None);
        }
        self.started = true;
        self.global.clear()?;
        self.global.result(self.top.as_ref(), &self.buckets, host).map(Some)
    }
}
