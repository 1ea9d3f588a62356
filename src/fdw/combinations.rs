//! Combinations of values with their counts, as the engine found them for the groups of a part.

use std::collections::HashMap;
use std::rc::Rc;

use basalt_engine::exec::{AggregateResult, Other, ResultColumn};
use basalt_engine::types::Value;
use basalt_engine::{Budget, Reservation};

use super::sets::Part;
use crate::error::{Error, Result};
use crate::pg::eval::Evaluator;
use crate::pg::fold::{Batch, Feed};
use crate::pg::interrupts;
use crate::pg::settings::FixedSettings;
use crate::pg::values::Codec;
use crate::translate::host::PgHost;

/// Rows converted at a time.
const BATCH: usize = 1024;
/// Rows looked up between two looks at interrupts.
const STEP: usize = 1 << 14;
/// The group of combinations whose group is not in the part.
const NOWHERE: u32 = u32::MAX;

/// The combinations of one further execution, group after group.
pub struct Combinations {
    codecs: Vec<Codec>,
    once: bool,
    budget: Budget,
    host: PgHost,
    /// The part, and which of its further executions.
    of: Option<(Rc<Part>, usize)>,
    /// Of combinations that are in memory: in order of their groups.
    order: Option<Order>,
    /// Of others: those of the piece that is read, and their groups.
    piece: Option<(AggregateResult, Vec<u32>)>,
    group: usize,
    /// Position of the next in the order or piece; `begun`: the group's own row was given.
    at: usize,
    begun: bool,
}

/// Rows, group by group; those of group `g` end at `ends[g]`.
struct Order {
    rows: Vec<u32>,
    ends: Vec<usize>,
    _memory: Reservation,
}

impl Combinations {
    /// `codecs`: of the values behind the keys; `once`: combinations are shown once, however often they occur.
    pub fn new(codecs: Vec<Codec>, once: bool, budget: &Budget, evaluator: Evaluator) -> Combinations {
        let host = PgHost::new(evaluator, Vec::new(), false);
        let (order, piece) = (None, None);
        Combinations {
            codecs,
            once,
            budget: budget.clone(),
            host,
            of: None,
            order,
            piece,
            group: 0,
            at: 0,
            begun: false,
        }
    }

    /// Lets go of the part.
    pub fn release(&mut self) {
        (self.of, self.order, self.piece) = (None, None, None);
    }

    /// Turns to a part.
    pub fn begin(&mut self, part: Rc<Part>, other: usize) -> Result<()> {
        self.release();
        let order = match &*part.others.get(other).ok_or_else(malformed)?.borrow() {
            Other::Whole(found) => Some(Order::new(&part, found, &self.budget)?),
            Other::Streamed(_) => None,
        };
        (self.order, self.of) = (order, Some((part, other)));
        self.start();
        Ok(())
    }

    /// What `f` makes of the combinations of a group of the part; `None`: memory does not hold them.
    pub fn of_group<R>(
        &self,
        group: usize,
        f: impl FnOnce(&AggregateResult, &[u32]) -> Result<R>,
    ) -> Option<Result<R>> {
        let (Some((part, other)), Some(order)) = (&self.of, &self.order) else { return None };
        let Some(found) = part.others.get(*other) else { return Some(Err(malformed())) };
        let Other::Whole(found) = &*found.borrow() else { return None };
        let start = group.checked_sub(1).and_then(|before| order.ends.get(before)).copied().unwrap_or(0);
        let rows = order.ends.get(group).and_then(|end| order.rows.get(start..*end));
        Some(rows.ok_or_else(malformed).and_then(|rows| f(found, rows)))
    }

    fn start(&mut self) {
        (self.piece, self.group, self.at, self.begun) = (None, 0, 0, false);
        if let Some((part, other)) = &self.of
            && let Some(Other::Streamed(stream)) = part.others.get(*other).map(|of| of.borrow_mut()).as_deref_mut()
        {
            stream.rewind();
        }
    }

    /// Adds rows of the group until the batch is full; true once there is no more.
    fn add_group(&mut self, part: &Part, other: usize, batch: &mut Batch) -> Result<bool> {
        let set = part.set.len();
        match &mut *part.others.get(other).ok_or_else(malformed)?.borrow_mut() {
            Other::Whole(found) => {
                let order = self.order.as_ref().ok_or_else(malformed)?;
                let end = order.ends.get(self.group).copied().ok_or_else(malformed)?;
                while self.at < end && batch.len() < BATCH {
                    let row = order.rows[self.at] as usize;
                    self.at += 1;
                    show(&mut self.codecs, self.once, found, set, row, self.group, batch)?;
                }
                Ok(self.at >= end)
            }
            // Read once for each group; there are several only if their hashes are equal.
            Other::Streamed(stream) => loop {
                if self.piece.is_none() {
                    let piece = part.joint.borrow_mut().next_of(stream, &mut self.host);
                    let Some(piece) = self.host.conclude(piece)? else {
                        stream.rewind();
                        return Ok(true);
                    };
                    let groups = groups_of(part, &piece, &self.budget)?;
                    (self.piece, self.at) = (Some((piece, groups)), 0);
                }
                let Some((found, groups)) = &self.piece else { return Err(malformed()) };
                while self.at < groups.len() && batch.len() < BATCH {
                    if groups[self.at] as usize == self.group {
                        show(&mut self.codecs, self.once, found, set, self.at, self.group, batch)?;
                    }
                    self.at += 1;
                }
                if self.at < groups.len() {
                    return Ok(false);
                }
                self.piece = None;
            },
        }
    }
}

fn show(
    codecs: &mut [Codec],
    once: bool,
    found: &AggregateResult,
    keys: usize,
    row: usize,
    group: usize,
    batch: &mut Batch,
) -> Result<()> {
    let count = count_of(found, row)?;
    // Without keys and columns there is a combination although no row was selected.
    if count == 0 {
        return Ok(());
    }
    batch.begin_row(group as u32, if once { 1 } else { count });
    for (codec, column) in codecs.iter_mut().zip(&found.keys[keys..]) {
        let (datum, null) = codec.to_datum(&key_of(column, row))?;
        batch.push(datum, null);
    }
    Ok(())
}

pub fn count_of(found: &AggregateResult, row: usize) -> Result<u64> {
    match found.aggregates.first().and_then(|c| c.values.get(row)) {
        Some(Value::I64(count)) => Ok(count as u64),
        _ => Err(malformed()),
    }
}

impl Order {
    fn new(part: &Part, found: &AggregateResult, budget: &Budget) -> Result<Order> {
        let groups = part.result.groups;
        let mut memory = budget.reserve(found.groups * 8 + groups * 8)?;
        let of = groups_of(part, found, budget)?;
        // Sorted by counting.
        let mut ends = vec![0usize; groups];
        let known = |group: &u32| *group != NOWHERE;
        for of in of.chunks(STEP) {
            interrupts::check();
            of.iter().filter(|g| known(g)).for_each(|group| ends[*group as usize] += 1);
        }
        let mut start = 0;
        for end in &mut ends {
            (start, *end) = (start + *end, start);
        }
        let mut rows = vec![0u32; start];
        for (row, group) in of.iter().enumerate().filter(|(_, g)| known(g)) {
            if row.is_multiple_of(STEP) {
                interrupts::check();
            }
            let end = &mut ends[*group as usize];
            rows[*end] = row as u32;
            *end += 1;
        }
        drop(of);
        memory.resize(rows.len() * 4 + ends.len() * 8)?;
        Ok(Order { rows, ends, _memory: memory })
    }
}

fn key_of(column: &ResultColumn, row: usize) -> Value {
    column.values.get(row).unwrap_or(Value::Null)
}

/// The group in the part of each combination.
fn groups_of(part: &Part, found: &AggregateResult, budget: &Budget) -> Result<Vec<u32>> {
    if part.set.is_empty() {
        return Ok(vec![0; found.groups]);
    }
    let mut held = budget.reserve(0)?;
    let mut known: HashMap<Vec<u8>, u32> = HashMap::new();
    let mut key = Vec::new();
    for group in 0..part.result.groups {
        if group.is_multiple_of(STEP) {
            interrupts::check();
        }
        key.clear();
        part.set.iter().for_each(|k| key_of(&part.result.keys[*k], group).encode(&mut key));
        held.grow(key.len() + 64)?;
        known.insert(key.clone(), group as u32);
    }
    let mut groups = Vec::with_capacity(found.groups);
    for row in 0..found.groups {
        key.clear();
        found.keys[..part.set.len()].iter().for_each(|column| key_of(column, row).encode(&mut key));
        groups.push(known.get(&key).copied().unwrap_or(NOWHERE));
        if row.is_multiple_of(STEP) {
            interrupts::check();
        }
    }
    Ok(groups)
}

/// How many distinct values the combinations of one column have in each of the part's groups.
pub fn count_values(part: &Part, other: usize, budget: &Budget, host: &mut PgHost) -> Result<Vec<i64>> {
    let mut counts = vec![0i64; part.result.groups];
    let mut add = |found: &AggregateResult| -> Result<()> {
        let groups = groups_of(part, found, budget)?;
        let values = &found.keys.last().ok_or_else(malformed)?.values;
        for (row, (group, value)) in groups.iter().zip(values.iter()).enumerate() {
            if row.is_multiple_of(STEP) {
                interrupts::check();
            }
            if let Some(count) = counts.get_mut(*group as usize)
                && !value.is_null()
                && count_of(found, row)? > 0
            {
                *count += 1;
            }
        }
        Ok(())
    };
    match &mut *part.others.get(other).ok_or_else(malformed)?.borrow_mut() {
        Other::Whole(found) => add(found)?,
        Other::Streamed(stream) => {
            stream.rewind();
            loop {
                let piece = part.joint.borrow_mut().next_of(stream, host);
                match host.conclude(piece)? {
                    Some(piece) => add(&piece)?,
                    None => break,
                }
            }
        }
    }
    Ok(counts)
}

impl Feed for Combinations {
    fn fill(&mut self, batch: &mut Batch) -> Result<()> {
        let _fixed = self.codecs.iter().any(Codec::needs_fixed_settings).then(FixedSettings::new);
        let Some((part, other)) = self.of.clone() else { return Ok(()) };
        while batch.len() < BATCH && self.group < part.result.groups {
            if !self.begun {
                batch.begin_group(self.group as u32);
                self.begun = true;
                continue;
            }
            if self.add_group(&part, other, batch)? {
                (self.group, self.begun) = (self.group + 1, false);
            }
        }
        Ok(())
    }

    fn rewind(&mut self) {
        self.start();
    }
}

fn malformed() -> Error {
    basalt_engine::Error::invalid("the values do not fit the groups").into()
}
