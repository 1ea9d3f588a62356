//! Executing a scan, of rows or of groups.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use basalt_engine::Budget;
use basalt_engine::exec::{ExecOptions, ExecStatistics};
use basalt_engine::plan::{ColumnRef, Computed, Expr, Filter, Host};
use basalt_engine::types::{ColumnId, LogicalType};
use pgrx::prelude::*;
use pgrx::{PgMemoryContexts, pg_sys};

use super::chunk::Chunk;
use super::dimensions::Dimensions;
use super::groups::Groups;
use super::kept::{self, Unmatched};
use super::plan;
use super::prune::{self, Pruned};
use super::rows::Rows;
use crate::catalog::datasource::{self, Datasource};
use crate::catalog::list::{self as segments, SegmentList};
use crate::catalog::pending;
use crate::catalog::segment::SegmentEntry;
use crate::error::{Error, OrRaise, Result};
use crate::guc;
use crate::pg::eval::{Evaluator, Expressions};
use crate::pg::interrupts;
use crate::pg::list;
use crate::pg::node::{self, Node, View};
use crate::pg::slots::Running;
use crate::translate::bind::{self, BoundColumn, Scope};
use crate::translate::host::PgHost;
use crate::translate::pieces::Stored;
use crate::translate::template::{ColumnTemplate, PlanTemplate, Shape};

/// Execution state: `fdw_state`.
pub struct Scan {
    pub inputs: Inputs,
    host: PgHost,
    source: Option<Source>,
    /// Whether the scan is, or was, to be repeated: its rows may be wanted once more.
    repeated: bool,
    /// Whether what was read is to come again, if nothing that it was joined to has changed: known once the next row is asked for.
    rewound: bool,
    chunk: Chunk,
    pub pruned: Pruned,
    /// Of sources that were closed.
    done: ExecStatistics,
    pub times: Times,
}

/// What parts of a scan took, if it is timed.
#[derive(Clone, Copy, Default)]
pub struct Times {
    /// Reading, filtering, aggregating.
    pub engine: Duration,
    /// Merging what threads and segments made.
    pub merge: Duration,
    /// Making tuples.
    pub output: Duration,
}

/// What stays the same through rescans.
pub struct Inputs {
    pub template: PlanTemplate,
    pub datasource: Arc<Datasource>,
    pub expressions: Expressions,
    pub columns: Vec<ColumnRef>,
    pub bound: Vec<BoundColumn>,
    /// What the plan's tuple consists of, of a pushed aggregation.
    pub targets: Vec<Node<'static>>,
    /// The segments of the execution's snapshot, once they were read.
    segments: Option<Rc<SegmentList>>,
    pub dimensions: Dimensions,
}

impl Inputs {
    /// What templates are bound in, given what columns hold.
    pub fn scope<'a>(&'a self, stored: &'a dyn Fn(usize) -> Stored) -> Scope<'a> {
        Scope { columns: &self.bound, expressions: &self.expressions, stored }
    }

    /// What a stored I64 column may hold in segments.
    pub fn stored(&self, segments: &[SegmentEntry], column: usize) -> Stored {
        let ranges = self.columns.get(column).map_or_else(Vec::new, |c| prune::column_ranges(segments, c));
        Stored { ranges, rows: segments.iter().map(|s| s.rows).sum() }
    }
}

/// What produces tuples.
enum Source {
    Rows(Box<Rows>),
    Groups(Box<Groups>),
}

/// What a scan begins with, after its parameters are known.
pub struct Start {
    pub filter: Filter,
    /// What is above an outer join that keeps the other side's rows, and selects among these; `filter` is then what is below it.
    pub above: Option<Filter>,
    pub segments: Vec<SegmentEntry>,
    /// Those rows of the other side that nothing matches.
    pub unmatched: Option<Unmatched>,
    pub options: ExecOptions,
}

impl Scan {
    /// # Safety
    /// `node` is being initialized, and outlives the result.
    unsafe fn begin(node: *mut pg_sys::ForeignScanState) -> Result<Scan> {
        // SAFETY: PostgreSQL's executor structures.
        unsafe {
            let plan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
            let template = plan::decode((*plan).fdw_private)?;
            let datasource = datasource::open(relation_of(node).1)?;
            let evaluator = Evaluator::new(node.cast());
            let expressions = Expressions::new(evaluator, (*plan).fdw_exprs);
            let (columns, bound) = columns(&template, &datasource)?;
            let targets = list::pointers::<pg_sys::TargetEntry>((*plan).fdw_scan_tlist);
            let targets = targets.into_iter().filter_map(|t| Node::from_ptr((*t).expr)).collect();
            let orders = match &template.shape {
                Shape::Groups(groups) => groups.orders.iter().map(|o| pg_sys::Oid::from(*o)).collect(),
                Shape::Rows { .. } => Vec::new(),
            };
            let slot = (*node).ss.ss_ScanTupleSlot;
            let chunk = Chunk::new(slot);
            let timed = (*(*node).ss.ps.state).es_instrument & pg_sys::InstrumentOption::INSTRUMENT_TIMER as i32 != 0;
            Ok(Scan {
                inputs: Inputs {
                    dimensions: Dimensions::new((*node).ss.ps.state, plan::plans((*plan).fdw_private)),
                    template,
                    datasource,
                    expressions,
                    columns,
                    bound,
                    targets,
                    segments: None,
                },
                host: PgHost::new(evaluator, orders, timed),
                source: None,
                repeated: false,
                rewound: false,
                chunk,
                pruned: Pruned::default(),
                done: ExecStatistics::default(),
                times: Times::default(),
            })
        }
    }

    /// What an execution would prune, while the plan is only explained; `None` where that depends on what is not known yet.
    ///
    /// # Safety
    /// `node` is a ForeignScanState of this wrapper that was initialized for EXPLAIN.
    pub unsafe fn foresee(node: *mut pg_sys::ForeignScanState) -> Result<Option<Pruned>> {
        // SAFETY: PostgreSQL's executor structures; the plan's expressions are nodes.
        unsafe {
            let plan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
            let expressions = (*plan).fdw_exprs;
            let open = node::list(expressions).iter().any(|e| e.any(&mut |n| matches!(n.view(), View::Param)));
            if open || pg_sys::contain_mutable_functions(expressions.cast()) {
                return Ok(None);
            }
            let mut scan = Scan::begin(node)?;
            scan.start()?;
            Ok(Some(scan.pruned))
        }
    }

    /// Binds parameters and chooses segments.
    fn start(&mut self) -> Result<Start> {
        let inputs = &mut self.inputs;
        let joined = inputs.dimensions.load(&inputs.template, guc::query_memory_limit())?;
        let segments = Rc::clone(inputs.segments.get_or_insert_with(|| segments::visible(&inputs.datasource.id)));
        self.host.clear(&inputs.template.classes)?;
        for (position, column) in inputs.template.columns.iter().enumerate() {
            let stored = |column| inputs.stored(&segments, column);
            let scope = Scope { columns: &inputs.bound[..position], ..inputs.scope(&stored) };
            let (computed, ty) = match column {
                ColumnTemplate::Stored(_) => continue,
                ColumnTemplate::Unmatched => continue,
                ColumnTemplate::Computed(template) => (bind::computed(template, scope, &mut self.host)?, template.ty),
                ColumnTemplate::Mapped(template) => (bind::mapped(template, scope, &mut self.host)?, template.ty),
                ColumnTemplate::Lookup(lookup) => (inputs.dimensions.lookup(lookup)?, LogicalType::Int8),
                ColumnTemplate::Pair(pair) => (inputs.dimensions.pair(pair)?, LogicalType::Int8),
                ColumnTemplate::Attribute(attribute) => (inputs.dimensions.attribute(attribute)?, attribute.ty),
            };
            inputs.columns[position] = ColumnRef::computed(computed, ty);
        }
        let stored = |column| inputs.stored(&segments, column);
        let template = &inputs.template;
        let mut bind = |filter| bind::bind(filter, inputs.scope(&stored), &mut self.host);
        let mut filter = conjunction(joined.above, bind(&template.filter)?);
        let mut above = None;
        if let Some(kept) = &template.kept {
            above = Some(std::mem::replace(&mut filter, conjunction(joined.below, bind(&kept.below)?)));
        }
        let time = inputs.datasource.schema.time.and_then(|position| {
            let id = inputs.datasource.schema.columns[position].id;
            inputs.columns.iter().position(|c| c.id == id && c.computed.is_none())
        });
        let (kept, pruned) = prune::prune(&segments, &filter, &inputs.columns, time);
        self.pruned = pruned;
        let threads = usize::try_from(guc::MAX_THREADS.get()).unwrap_or(1);
        let cancel = interrupts::cancel();
        let memory = guc::query_memory_limit().saturating_sub(inputs.dimensions.bytes());
        let options = ExecOptions { threads, budget: Budget::with_cancel(memory, cancel.clone()), cancel };
        Ok(Start { filter, above, segments: kept, unmatched: None, options })
    }

    /// Makes the slot hold the next tuple; false at the end.
    fn next(&mut self) -> Result<bool> {
        loop {
            if self.chunk.emit() {
                return Ok(true);
            }
            let _running = Running::begin();
            if std::mem::take(&mut self.rewound) && self.inputs.dimensions.have_changed() {
                self.close();
            }
            let turn = self.host.poll();
            self.host.conclude(turn)?;
            if self.source.is_none() {
                let start = self.start()?;
                let Scan { host, inputs, chunk, times, repeated, .. } = self;
                let inputs = &*inputs;
                let source = match &inputs.template.shape {
                    Shape::Rows { output, top } => {
                        let keep = *repeated;
                        Source::Rows(Box::new(Rows::new(start, keep, output, top.as_ref(), inputs, chunk)?))
                    }
                    Shape::Groups(groups) => {
                        let start = kept::complete(start, inputs, host)?;
                        let mut all = Duration::ZERO;
                        let computed =
                            host.timed(&mut all, |host| Groups::compute(start, groups, inputs, chunk, host))?;
                        let merging = computed.statistics.merging;
                        times.engine += all.saturating_sub(merging);
                        times.merge += merging;
                        Source::Groups(Box::new(computed))
                    }
                };
                self.source = Some(source);
            }
            let Scan { host, source, chunk, times, .. } = self;
            let more = match source {
                Some(Source::Rows(rows)) => {
                    host.timed(&mut times.engine, |host| rows.prepare(host))?;
                    host.timed(&mut times.output, |_| rows.fill(chunk))?
                }
                Some(Source::Groups(groups)) => {
                    host.timed(&mut times.merge, |host| groups.prepare(host))?;
                    host.timed(&mut times.output, |_| groups.fill(chunk))?
                }
                None => false,
            };
            if !more {
                return Ok(false);
            }
        }
    }

    fn rescan(&mut self, changed: bool) {
        self.chunk.clear();
        let same = !changed
            && match &mut self.source {
                Some(Source::Groups(groups)) => {
                    groups.rewind();
                    true
                }
                Some(Source::Rows(rows)) => rows.rewind(),
                None => false,
            };
        self.rewound = same;
        if !same {
            self.repeated = !changed;
            self.close();
        }
    }

    /// Ends what produced tuples.
    fn close(&mut self) {
        self.done = self.statistics();
        if let Some(Source::Groups(groups)) = self.source.take() {
            groups.end();
        }
    }

    /// Of all that was executed.
    pub fn statistics(&self) -> ExecStatistics {
        let mut all = self.done.clone();
        match &self.source {
            Some(Source::Rows(rows)) => all.add(rows.statistics()),
            Some(Source::Groups(groups)) => all.add(&groups.statistics),
            None => {}
        }
        all
    }
}

/// The table that the plan reads, and its range table index. (Of a pushed aggregation the scan node has no relation.)
///
/// # Safety
/// `node` is initialized as far as PostgreSQL does it before `BeginForeignScan`.
pub unsafe fn relation_of(node: *mut pg_sys::ForeignScanState) -> (u32, pg_sys::Oid) {
    // SAFETY: the plan names its table in `fs_relids`; range table entries are counted from 1.
    unsafe {
        let plan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
        let index = pg_sys::bms_next_member((*plan).fs_relids, -1);
        let entries = (*(*node).ss.ps.state).es_range_table;
        let entry = (*(*entries).elements.add(index as usize - 1)).ptr_value.cast::<pg_sys::RangeTblEntry>();
        (index as u32, (*entry).relid)
    }
}

/// What the joins select and what else does.
fn conjunction(mut joined: Vec<Filter>, filter: Filter) -> Filter {
    if joined.is_empty() {
        return filter;
    }
    joined.push(filter);
    Filter::And(joined)
}

fn columns(template: &PlanTemplate, datasource: &Datasource) -> Result<(Vec<ColumnRef>, Vec<BoundColumn>)> {
    let mut columns = Vec::with_capacity(template.columns.len());
    let mut bound = Vec::with_capacity(template.columns.len());
    for column in &template.columns {
        let (ty, declared, typmod) = match column {
            ColumnTemplate::Stored(_) => (LogicalType::Bool, 0, -1),
            ColumnTemplate::Computed(c) => (c.ty, c.declared, c.typmod),
            ColumnTemplate::Mapped(c) => (c.ty, c.declared, c.typmod),
            ColumnTemplate::Lookup(_) | ColumnTemplate::Pair(_) | ColumnTemplate::Unmatched => {
                (LogicalType::Int8, pg_sys::INT8OID.to_u32(), -1)
            }
            ColumnTemplate::Attribute(c) => (c.ty, c.declared, c.typmod),
        };
        let ColumnTemplate::Stored(id) = column else {
            // Bound anew whenever the scan starts.
            columns.push(match column {
                ColumnTemplate::Unmatched => kept::unmatched(),
                _ => ColumnRef::computed(Computed::Native(Expr::Null), ty),
            });
            bound.push(BoundColumn { ty, declared: pg_sys::Oid::from(declared), typmod });
            continue;
        };
        let position = datasource.schema.position(ColumnId(*id)).ok_or_else(|| {
            Error::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "a column of the table was dropped after the query was planned",
            )
        })?;
        let column = &datasource.schema.columns[position];
        columns.push(ColumnRef::stored(column.id, column.ty, datasource.missing[position].clone()));
        let (declared, typmod) = datasource.types[position];
        bound.push(BoundColumn { ty: column.ty, declared, typmod });
    }
    Ok((columns, bound))
}

/// The state of a scan; null while a query is only explained.
///
/// # Safety
/// `node` is a ForeignScanState of this wrapper.
pub unsafe fn state<'a>(node: *mut pg_sys::ForeignScanState) -> Option<&'a mut Scan> {
    // SAFETY: `begin_foreign_scan` set it, and nothing else uses it meanwhile.
    unsafe { (*node).fdw_state.cast::<Scan>().as_mut() }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn begin_foreign_scan(node: *mut pg_sys::ForeignScanState, flags: i32) {
    if flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 != 0 {
        return;
    }
    // SAFETY: PostgreSQL's executor structures; the state is dropped with the query's memory, also after an error.
    unsafe {
        pending::flush(&datasource::open(relation_of(node).1).or_raise().id).or_raise();
        let mut scan = Scan::begin(node).or_raise();
        scan.repeated = flags & pg_sys::EXEC_FLAG_REWIND as i32 != 0;
        let context = (*(*node).ss.ps.state).es_query_cxt;
        (*node).fdw_state = PgMemoryContexts::For(context).leak_and_drop_on_delete(scan).cast();
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn iterate_foreign_scan(
    node: *mut pg_sys::ForeignScanState,
) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: PostgreSQL's executor structures.
    unsafe {
        let slot = (*node).ss.ss_ScanTupleSlot;
        if let Some(clear) = (*slot).tts_ops.as_ref().and_then(|ops| ops.clear) {
            clear(slot);
        }
        if let Some(scan) = state(node)
            && scan.next().or_raise()
        {
            pg_sys::ExecStoreVirtualTuple(slot);
        }
        slot
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn rescan_foreign_scan(node: *mut pg_sys::ForeignScanState) {
    // SAFETY: PostgreSQL's executor structures.
    unsafe {
        let changed = !(*node).ss.ps.chgParam.is_null();
        if let Some(scan) = state(node) {
            scan.rescan(changed);
        }
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn end_foreign_scan(node: *mut pg_sys::ForeignScanState) {
    // SAFETY: PostgreSQL's executor structures.
    unsafe {
        if let Some(scan) = state(node) {
            // Maps and memory go now; the rest with the query's context.
            scan.close();
            scan.chunk.clear();
        }
    }
}
