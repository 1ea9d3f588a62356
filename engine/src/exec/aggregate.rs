//! The public face of grouped aggregation.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::bits::Selection;
use super::columns::{BlockScratch, Kind, SegmentView};
use super::digits::Digits;
use super::filter::{self, HostMemo, Node};
use super::floats::window_for;
use super::global::{Global, Partial, SegmentPlan};
use super::groups::{Assigned, Groups, KeyPlan};
use super::joint::{Joint, JointPart};
use super::moments;
use super::prepare::{Extent, SelectedRows, column_uses, uses};
use super::primitives::{Measure, Primitive, Program};
use super::result::Values;
use super::rowset::RowSet;
use super::spill::{Spill, SpillHash, Spilled};
use super::states::{StatePlan, States};
use super::unify::unify;
use super::{ExecOptions, ExecStatistics, SegmentScan, panic_message, parallel};
use crate::plan::{AggregateQuery, Filter, Host, Key, Top};
use crate::segment::{BLOCK_ROWS, Segment};
use crate::types::{Physical, Value};
use crate::{Budget, Error, Reservation, Result};

/// An aggregation in progress. `scan` may be called many times, with as many segments at a time as
/// the host wants open; the result does not depend on how they are divided nor on the number of threads: float
/// sums are exact, rounded once.
pub struct AggregateExecution {
    query: AggregateQuery,
    options: ExecOptions,
    program: Arc<Program>,
    /// Made with the first segments, whose statistics say in which window float sums are kept.
    global: Option<Global>,
    windows: Vec<i32>,
    memo: HostMemo,
    statistics: ExecStatistics,
    /// A file for what memory does not hold, and by how many leading keys that is divided.
    spill: Option<(Box<dyn Spill>, usize)>,
    hash: SpillHash,
    /// Columns that must have a value in every selected row although nothing reads them.
    checks: Vec<usize>,
    /// Columns that only aggregates with a FILTER need.
    optional: Vec<usize>,
}

/// A segment before it is known how its rows are grouped.
struct Draft<'a> {
    segment: &'a Arc<Segment>,
    rows: SelectedRows<'a>,
    filters: Vec<Node>,
    extents: BTreeMap<usize, Extent>,
    memory: Reservation,
}

/// One segment's share of a scan.
pub(super) struct Task<'a> {
    pub segment: &'a Arc<Segment>,
    pub rows: SelectedRows<'a>,
    /// FILTER clauses; the first is none.
    filters: Vec<Node>,
    plan: Arc<SegmentPlan>,
    /// All rows are of one group, so that of a dictionary all values are.
    whole: bool,
    _memory: Reservation,
}

impl Task<'_> {
    /// Whether a partial of this segment can go on with `other`.
    pub fn grouped_like(&self, other: &Task<'_>) -> bool {
        Arc::ptr_eq(&self.plan, &other.plan)
    }
}

impl AggregateExecution {
    /// Errors: `Invalid` if the plan does not fit its columns.
    pub fn new(query: AggregateQuery, options: ExecOptions) -> Result<Self> {
        // Without keys a whole block's sum stands in its header; with keys few queries have two such sums.
        let shifts = query.keys.is_empty();
        Self::of(query, options, shifts)
    }

    fn of(query: AggregateQuery, options: ExecOptions, shifts: bool) -> Result<Self> {
        let program = Arc::new(Program::new(&query, shifts)?);
        let memo = HostMemo::new(&options.budget);
        Ok(AggregateExecution {
            query,
            options,
            program,
            global: None,
            windows: Vec::new(),
            memo,
            statistics: ExecStatistics::default(),
            spill: None,
            checks: Vec::new(),
            optional: Vec::new(),
            hash: SpillHash::default(),
        })
    }

    /// Lets the query fail where one of these columns can't be computed for a selected row.
    pub fn with_checks(mut self, columns: &[usize]) -> Self {
        self.checks.extend_from_slice(columns);
        self
    }

    /// Aggregates the rows of `segments`. Threads live only during the call.
    pub fn scan(&mut self, segments: &[SegmentScan], host: &mut dyn Host) -> Result<()> {
        if self.global.is_none() {
            self.begin(segments)?;
        }
        if let Some(global) = &mut self.global {
            global.wake()?;
        }
        let mut scratch = BlockScratch::new(self.query.columns.len());
        let mut drafts = Vec::with_capacity(segments.len());
        for scan in segments {
            host.poll()?;
            self.options.cancel.check()?;
            let draft = self.prepare(scan, &mut scratch, host)?;
            if !draft.rows.blocks.is_empty() {
                drafts.push(draft);
            }
        }
        self.statistics.bytes_touched += scratch.take_bytes();
        drop(scratch);
        self.unify(&mut drafts, host)?;
        let tasks = self.plan(drafts)?;
        let Some(global) = &mut self.global else { return Err(Error::invalid("aggregation was not begun")) };
        parallel::run(&tasks, &self.options, global, host, &mut self.statistics)
    }

    /// Aggregates the rows of `segments` that `filter` selects, not the query's filter.
    pub fn scan_selecting(&mut self, segments: &[SegmentScan], filter: Filter, host: &mut dyn Host) -> Result<()> {
        let own = std::mem::replace(&mut self.query.filter, filter);
        let scanned = self.scan(segments, host);
        self.query.filter = own;
        scanned
    }

    fn begin(&mut self, segments: &[SegmentScan]) -> Result<()> {
        self.optional = self.optional_columns();
        let known = !self.windows.is_empty();
        self.windows.resize(self.program.primitives.len(), window_for(0.0));
        for (window, primitive) in self.windows.iter_mut().zip(&self.program.primitives) {
            let Some(column) = primitive.column else { continue };
            if known || self.query.columns[column].ty.physical() != Physical::F64 {
                continue;
            }
            let largest = |column: usize| {
                let mut largest = 0.0f64;
                for scan in segments {
                    let statistics = scan.segment.statistics();
                    let of = statistics.columns.iter().find(|c| c.id == self.query.columns[column].id);
                    for bound in of.iter().flat_map(|s| [&s.min, &s.max]) {
                        if let Value::F64(v) = bound
                            && v.is_finite()
                        {
                            largest = largest.max(v.abs());
                        }
                    }
                }
                largest
            };
            *window = match primitive.measure {
                Measure::Sum => window_for(largest(column)),
                Measure::Squares => moments::window_for(largest(column), largest(column)),
                Measure::Products => moments::window_for(largest(column), largest(primitive.other.unwrap_or(column))),
                _ => continue,
            };
        }
        let mut global = Global::new(&self.query, self.program.clone(), &self.windows, &self.options.budget)?;
        if let Some((spill, leading)) = self.spill.take() {
            global.spilled =
                Some(Spilled::new(spill, self.query.keys.len(), leading, self.hash.clone(), &self.options.budget)?);
        }
        self.global = Some(global);
        Ok(())
    }

    fn optional_columns(&self) -> Vec<usize> {
        let AggregateQuery { columns, filter, keys, .. } = &self.query;
        let program = &self.program;
        if program.filters.len() < 2 {
            return Vec::new();
        }
        let primitives = program.primitives.iter().filter(|p| p.filter == 0);
        let read: Vec<usize> = keys
            .iter()
            .map(Key::column)
            .chain(primitives.flat_map(|p| p.column.into_iter().chain(p.other)))
            .chain(program.checks.iter().filter(|check| check.1 == 0).map(|check| check.0))
            .chain(self.checks.iter().copied())
            .collect();
        let tested: Vec<&Filter> = program.filters.iter().chain([filter]).collect();
        let is_read =
            |c: usize| read.iter().any(|of| column_uses(*of, columns, c)) || tested.iter().any(|f| uses(f, columns, c));
        (0..columns.len()).filter(|c| columns[*c].computed.is_some() && !is_read(*c)).collect()
    }

    fn prepare<'a>(
        &mut self,
        scan: &'a SegmentScan,
        scratch: &mut BlockScratch,
        host: &mut dyn Host,
    ) -> Result<Draft<'a>> {
        let budget = &self.options.budget;
        let (columns, memo, statistics) = (&self.query.columns, &mut self.memo, &mut self.statistics);
        let rows = SelectedRows::new(
            scan,
            columns,
            &self.query.filter,
            &self.optional,
            budget,
            scratch,
            memo,
            host,
            statistics,
        )?;
        let mut memory = budget.reserve(0)?;
        let mut filters = vec![Node::Const(true)];
        for clause in &self.program.filters[1..] {
            let node = if rows.blocks.is_empty() {
                Node::Const(false)
            } else {
                rows.bind(clause, scratch, memo, host, &mut memory)?
            };
            memory.grow(node.bytes())?;
            filters.push(node);
        }
        let mut extents = BTreeMap::new();
        let keys = self.query.keys.iter().map(Key::column);
        for column in keys.chain(self.program.primitives.iter().flat_map(|p| p.column.into_iter().chain(p.other))) {
            if let Entry::Vacant(slot) = extents.entry(column) {
                slot.insert(Extent::new(&rows, scratch, column)?);
            }
        }
        Ok(Draft { segment: &scan.segment, rows, filters, extents, memory })
    }

    /// Gives the dictionaries of grouped columns one numbering, where that costs less than merging each segment's groups.
    fn unify(&self, drafts: &mut [Draft<'_>], host: &mut dyn Host) -> Result<()> {
        let [first, rest @ ..] = &*drafts else { return Ok(()) };
        let codes = |column: &usize| {
            let column = &first.rows.view.columns[*column];
            column.kind == Kind::Codes && !column.is_computed()
        };
        // Extremes of codes are kept by segment.
        let extremes =
            |p: &Primitive| matches!(p.measure, Measure::Min | Measure::Max) && p.column.is_some_and(|c| codes(&c));
        if rest.is_empty()
            || !rest.iter().all(|d| d.rows.view.kinds_equal(&first.rows.view))
            || self.program.primitives.iter().any(extremes)
        {
            return Ok(());
        }
        let keys = self.query.keys.iter().filter(|k| !matches!(k, Key::Buckets { .. })).map(Key::column);
        let sets = self.program.primitives.iter().filter_map(|p| match p.measure {
            Measure::Distinct | Measure::HostMin(_) | Measure::HostMax(_) => p.column,
            _ => None,
        });
        let columns: BTreeSet<usize> = keys.chain(sets).filter(codes).collect();
        let (mut values, mut rows) = (0, 0.0);
        for draft in &*drafts {
            rows += draft.rows.limit() as f32 * draft.rows.filter.selectivity();
            for column in &columns {
                values += draft.rows.view.columns[*column].dictionary_len()? as usize;
            }
        }
        // Of rows that a filter may leave out, few need their values; and groups need memory, too.
        if values as f32 > rows || values.saturating_mul(UNIFIED) > self.options.budget.limit() / 2 {
            return Ok(());
        }
        for column in columns {
            let of: Vec<_> = drafts.iter().map(|d| &d.rows.view.columns[column]).collect();
            let (unified, maps) = match unify(&of, &self.options, host) {
                Ok(unified) => unified,
                // Without room for it, segments are merged one by one.
                Err(Error::Budget { .. }) => return Ok(()),
                Err(error) => return Err(error),
            };
            let unified = Arc::new(unified);
            for (draft, map) in drafts.iter_mut().zip(maps) {
                draft.rows.view.columns[column].unified = Some((unified.clone(), map));
            }
        }
        Ok(())
    }

    /// Decides how segments are grouped: all alike, if no number of a group or state depends on a segment's dictionary.
    fn plan<'a>(&self, drafts: Vec<Draft<'a>>) -> Result<Vec<Task<'a>>> {
        let mut shared = None;
        if let Some((first, rest)) = drafts.split_first() {
            let mut extents = first.extents.clone();
            for draft in rest {
                for (column, extent) in &mut extents {
                    *extent = draft.extents.get(column).map_or(*extent, |other| extent.union(other));
                }
            }
            let rows = drafts.iter().map(|d| d.rows.limit()).sum();
            let plan = self.plan_segment(&first.rows.view, &extents, rows)?;
            if plan.is_universal() && drafts.iter().all(|d| d.rows.view.kinds_equal(&first.rows.view)) {
                shared = Some(Arc::new(plan));
            }
        }
        let mut tasks = Vec::with_capacity(drafts.len());
        for Draft { segment, rows, filters, extents, memory } in drafts {
            let plan = match &shared {
                Some(plan) => plan.clone(),
                None => Arc::new(self.plan_segment(&rows.view, &extents, rows.limit())?),
            };
            let whole = matches!(rows.filter, Node::Const(true)) && rows.blocks.len() == rows.view.blocks;
            let whole = whole && self.query.keys.is_empty();
            tasks.push(Task { segment, rows, filters, plan, whole, _memory: memory });
        }
        Ok(tasks)
    }

    fn plan_segment(
        &self,
        view: &SegmentView<'_>,
        extents: &BTreeMap<usize, Extent>,
        rows: usize,
    ) -> Result<SegmentPlan> {
        let limits = |column: usize| extents.get(&column).and_then(Extent::ints);
        let null_free = |column: usize| extents.get(&column).is_some_and(|e| !e.nulls);
        let mut digits = Vec::with_capacity(self.query.keys.len());
        for (nth, key) in self.query.keys.iter().enumerate() {
            digits.push(match key {
                // Only the first may have 64 bits: others stand beside the number of what is before them.
                Key::Column(c) => Digits::of_column(view, *c, limits(*c), nth == 0, false)?,
                Key::Exact(c) => Digits::of_column(view, *c, limits(*c), nth == 0, true)?,
                Key::Buckets { column, buckets } => Digits::of_buckets(*column, buckets, limits(*column))?,
            });
        }
        let mut states: Vec<StatePlan> = Vec::with_capacity(self.program.primitives.len());
        for (nth, primitive) in self.program.primitives.iter().enumerate() {
            let mut alias = None;
            let complete = |p: &Primitive| p.column.into_iter().chain(p.other).all(null_free);
            if primitive.measure == Measure::Count && complete(primitive) {
                alias = (0..nth).find(|i| {
                    let other: &StatePlan = &states[*i];
                    other.alias.is_none()
                        && other.primitive.measure == Measure::Count
                        && other.primitive.filter == primitive.filter
                        && complete(&other.primitive)
                });
            }
            let digits = match (primitive.measure, primitive.column) {
                (Measure::Distinct | Measure::HostMin(_) | Measure::HostMax(_), Some(c)) => {
                    Some(Digits::of_column(view, c, limits(c), self.query.keys.is_empty(), false)?)
                }
                _ => None,
            };
            // Codes are compared in place of their values.
            let by_code = matches!(primitive.measure, Measure::Min | Measure::Max)
                && primitive.column.is_some_and(|c| view.columns[c].kind == Kind::Codes);
            states.push(StatePlan { primitive: *primitive, alias, digits, window: self.windows[nth], by_code });
        }
        // Dense accumulators of all threads take a quarter of the memory at most; hash tables grow with what is there.
        let width = states.iter().map(|state| state.width(view)).sum::<usize>().max(1);
        let keys = KeyPlan::new(digits, rows, self.options.budget.limit() / 4 / self.options.threads.max(1) / width);
        let own = self.checks.iter().map(|c| (*c, 0));
        let checks = self.program.checks.iter().copied().chain(own).collect();
        Ok(SegmentPlan { keys, states, checks })
    }

    /// An execution of the same query, not begun, grouped by the keys at these positions alone.
    pub(super) fn with_keys(&self, keep: &[usize]) -> Result<Self> {
        let mut query = self.query.clone();
        let key = |at: &usize| self.query.keys.get(*at).cloned().ok_or_else(|| Error::invalid("no such key"));
        query.keys = keep.iter().map(key).collect::<Result<_>>()?;
        // Its states are those of this one.
        let mut made = AggregateExecution::of(query, self.options.clone(), self.program.shifts)?;
        made.windows.clone_from(&self.windows);
        made.hash = self.hash.clone();
        Ok(made)
    }

    /// Lets groups that memory does not hold go to `spill`, divided by their first `leading` keys. Without keys there is one group, and nothing to
    /// divide. Executions that are finished together have one `hash`.
    pub fn with_spill(mut self, spill: Box<dyn Spill>, leading: usize, hash: &SpillHash) -> Self {
        self.spill = Some((spill, leading)).filter(|_| !self.query.keys.is_empty());
        self.hash = hash.clone();
        self
    }

    pub(super) fn hash(&self) -> SpillHash {
        self.hash.clone()
    }

    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.query.keys.len()
    }

    /// Whether groups went to a file.
    pub fn has_spilled(&self) -> bool {
        self.global.as_ref().is_some_and(Global::has_spilled)
    }

    /// Gives memory back for another execution's sake, after a scan: as far as groups went to a file, or all memory is half full.
    pub fn rest(&mut self, host: &mut dyn Host) -> Result<()> {
        let half = self.options.budget.limit() / 2;
        let full = self.options.budget.used() > half;
        self.global_mut()?.rest(full, host)
    }

    pub fn finish(self, host: &mut dyn Host) -> Result<AggregateResult> {
        self.finish_top(None, host)
    }

    /// The groups that are not surely behind the first `top.limit`; `None`: all.
    pub fn finish_top(self, top: Option<&Top>, host: &mut dyn Host) -> Result<AggregateResult> {
        let mut joint = Joint::new(vec![self], top.cloned(), host)?;
        let JointPart { groups: mut all, .. } =
            joint.next(host)?.ok_or_else(|| Error::invalid("a result without a part"))?;
        while let Some(part) = joint.next(host)? {
            all.append(part.groups);
        }
        Ok(all)
    }

    /// The groups, and which keys are buckets.
    pub(super) fn into_global(mut self) -> Result<(Global, Vec<bool>)> {
        let buckets = self.query.keys.iter().map(|k| matches!(k, Key::Buckets { .. })).collect();
        self.global_mut()?;
        let global = self.global.take().ok_or_else(|| Error::invalid("aggregation was not begun"))?;
        Ok((global, buckets))
    }

    pub(super) fn global_mut(&mut self) -> Result<&mut Global> {
        if self.global.is_none() {
            self.begin(&[])?;
        }
        self.global.as_mut().ok_or_else(|| Error::invalid("aggregation was not begun"))
    }

    pub fn statistics(&self) -> &ExecStatistics {
        &self.statistics
    }
}

/// Groups in no particular order, as columns of equal length.
#[derive(Debug)]
pub struct AggregateResult {
    pub groups: usize,
    /// One a key. Bucket keys: `Value::I64` value numbers.
    pub keys: Vec<ResultColumn>,
    /// One an aggregate. Counts are `I64`, sums `I128` or `F64`, booleans `I64`.
    pub aggregates: Vec<ResultColumn>,
    /// Holds the memory of the values.
    pub memory: Vec<Reservation>,
}

impl AggregateResult {
    /// Adds the groups of another part.
    pub fn append(&mut self, part: AggregateResult) {
        self.groups += part.groups;
        self.memory.extend(part.memory);
        let columns = self.keys.iter_mut().chain(&mut self.aggregates);
        for (column, mut more) in columns.zip(part.keys.into_iter().chain(part.aggregates)) {
            column.values.append(more.values);
            column.counts.append(&mut more.counts);
        }
    }

    /// Of one group, whose memory is not worth counting.
    pub(super) fn copy(&self) -> AggregateResult {
        let copy = |columns: &[ResultColumn]| {
            columns.iter().map(|c| ResultColumn { values: c.values.clone(), counts: c.counts.clone() }).collect()
        };
        let (keys, aggregates) = (copy(&self.keys), copy(&self.aggregates));
        AggregateResult { groups: self.groups, keys, aggregates, memory: Vec::new() }
    }
}

#[derive(Debug, Default)]
pub struct ResultColumn {
    pub values: Values,
    /// Of `Avg`: how many values were summed; else empty.
    pub counts: Vec<i64>,
}

/// Bytes that a dictionary's value takes in the numbering of all, about.
const UNIFIED: usize = 36;

/// What one thread works with.
pub(super) struct Worker {
    scratch: BlockScratch,
    /// One a FILTER.
    sets: Vec<RowSet>,
    partial: Option<Partial>,
    budget: Budget,
    /// Whether there is a file for what memory does not hold.
    spills: bool,
    /// Rows looked at together.
    slice: usize,
    pub statistics: ExecStatistics,
}

/// Makes room where memory is short.
pub(super) trait Room {
    /// Lets a partial go.
    fn spill(&mut self, partial: Partial) -> Result<()>;
    /// Whether another thread needs memory.
    fn is_asked(&self) -> bool;
    /// For a thread that holds nothing: waits until others let something go. `false`: there is nothing left to let go.
    fn ask(&mut self) -> Result<bool>;
}

/// Rows looked at together where memory is short: a multiple of 64.
const SLICE: usize = 1024;
/// How often one asks for memory until that is an error: what others let go, another thread may take first.
const ATTEMPTS: usize = 100;

impl Worker {
    pub fn new(budget: &Budget, spills: bool) -> Result<Self> {
        Ok(Worker {
            scratch: BlockScratch::new(0),
            sets: Vec::new(),
            partial: None,
            budget: budget.clone(),
            spills,
            slice: BLOCK_ROWS,
            statistics: ExecStatistics::default(),
        })
    }

    /// What was made since the last call.
    pub fn take(&mut self) -> Option<Partial> {
        self.partial.take()
    }

    /// The share of the rows so far that are groups of their own; `None`: groups are numbered without a table, or were let go.
    pub fn uniqueness(&self) -> Option<f64> {
        let Partial { plan, groups, .. } = self.partial.as_ref().filter(|p| p.plan.keys.slots.is_none())?;
        Some(groups.len(&plan.keys) as f64 / self.statistics.rows_selected.max(1) as f64)
    }

    /// [`Worker::block`]; a panic becomes `Error::Panic`.
    pub fn caught(&mut self, task: &Task<'_>, block: u32, room: &mut dyn Room) -> Result<()> {
        catch_unwind(AssertUnwindSafe(|| self.block(task, block as usize, room)))
            .unwrap_or_else(|panic| Err(Error::Panic(panic_message(&*panic))))
    }

    /// Lets what was made go if another thread needs memory.
    pub fn make_room(&mut self, room: &mut dyn Room) -> Result<()> {
        match self.partial.take_if(|p| room.is_asked() && p.has_rows()) {
            Some(partial) => room.spill(partial),
            None => Ok(()),
        }
    }

    fn block(&mut self, task: &Task<'_>, block: usize, room: &mut dyn Room) -> Result<()> {
        let SelectedRows { view, filter, .. } = &task.rows;
        self.scratch.begin(view, block);
        let rows = self.scratch.rows();
        let selection = filter::evaluate(filter, view, &mut self.scratch, &Selection::All)?;
        self.statistics.rows_selected += selection.count(rows) as u64;
        let (mut at, mut asked) = (0, 0);
        while at < rows && !selection.is_none() {
            self.make_room(room)?;
            let end = rows.min(at + self.slice);
            let part = if at == 0 && end == rows { selection.clone() } else { selection.within(at..end, rows) };
            if part.is_none() || self.step(task, part, rows)? {
                (at, asked) = (end, 0);
                continue;
            }
            // Memory is short: what was made goes, then fewer rows are looked at together.
            match self.take() {
                Some(partial) if partial.has_rows() => room.spill(partial)?,
                _ if self.slice > SLICE => self.slice = SLICE,
                _ if asked < ATTEMPTS && room.ask()? => asked += 1,
                _ => return Err(Error::Budget { requested: SLICE, limit: self.budget.limit() }),
            }
        }
        if self.scratch.touched() {
            self.statistics.rows_scanned += rows as u64;
        } else {
            self.statistics.blocks_from_headers += 1;
        }
        self.statistics.bytes_touched += self.scratch.take_bytes();
        Ok(())
    }

    /// Adds the rows of `selection`. `Ok(false)`: there was no memory for them, and none was counted.
    fn step(&mut self, task: &Task<'_>, selection: Selection, rows: usize) -> Result<bool> {
        let Task { rows: SelectedRows { view, .. }, filters, plan, .. } = task;
        let Worker { scratch, sets, partial, budget, spills, .. } = self;
        sets.resize_with(filters.len(), RowSet::new);
        sets[0].set(selection, rows);
        for (nth, clause) in filters.iter().enumerate().skip(1) {
            budget.check()?;
            let selected = filter::evaluate(clause, view, scratch, &sets[0].selection)?;
            sets[nth].set(selected, rows);
        }
        for (column, filter) in &plan.checks {
            scratch.check(view, *column, &sets[*filter].selection)?;
        }
        let mut prepare = || -> Result<Assigned> {
            let partial = match &mut *partial {
                Some(partial) => partial,
                none => {
                    let groups = Groups::new(&plan.keys, view, budget)?;
                    let states = States::new(&plan.states, view, plan.keys.slots, budget)?;
                    none.insert(Partial { plan: plan.clone(), groups, states })
                }
            };
            let Partial { groups, states, .. } = partial;
            let assigned = groups.assign(&plan.keys, view, scratch, &mut sets[0])?;
            states.ensure(groups.len(&plan.keys))?;
            if *spills {
                states.ensure_update(&plan.states, view, scratch)?;
            }
            for (nth, state) in plan.states.iter().enumerate() {
                if states.grows(nth) {
                    budget.check()?;
                    let all = task.whole && state.primitive.filter == 0;
                    if all && states.add_dictionary(nth, state, view, scratch.block())? {
                        continue;
                    }
                    let set = &mut sets[state.primitive.filter];
                    states.update(nth, state, view, scratch, set, groups.target(&assigned))?;
                }
            }
            Ok(assigned)
        };
        let assigned = match prepare() {
            Err(Error::Budget { .. }) if *spills => return Ok(false),
            other => other?,
        };
        let Some(Partial { groups, states, .. }) = partial else { return Ok(false) };
        let target = groups.target(&assigned);
        for (nth, state) in plan.states.iter().enumerate() {
            if !states.grows(nth) {
                budget.check()?;
                let set = &mut sets[state.primitive.filter];
                states.update(nth, state, view, scratch, set, target)?;
            }
        }
        Ok(true)
    }
}

/// Does what merges, and tells how long it took.
pub(super) fn host_timed(host: &mut dyn Host, work: impl FnOnce(&mut dyn Host) -> Result<()>) -> Result<Duration> {
    let begin = host.clock();
    work(host)?;
    Ok(begin.and_then(|begin| host.clock()?.checked_sub(begin)).unwrap_or_default())
}
