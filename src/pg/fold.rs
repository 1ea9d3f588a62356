//! Aggregates computed by PostgreSQL's own executor from rows that this library makes: an Agg node above a scan of them. What an aggregate
//! means (its order, DISTINCT, direct arguments, transition and final functions) is then PostgreSQL's in every detail.

use std::ptr::addr_of_mut;

use pgrx::pg_sys::{self, AttrNumber, Datum, NodeTag, Oid};
use pgrx::prelude::*;

use super::eval::Evaluator;
use super::memory::InContext;
use super::node::{Node, View};
use crate::error::{OrRaise, Result};

unsafe extern "C-unwind" {
    fn datumCopy(value: Datum, by_value: bool, length: std::ffi::c_int) -> Datum;
}

/// Columns before the feed's own: the number of the group, and whether the row counts.
const LEADING: usize = 2;

/// Rows of a [`Feed`]: by-reference datums live until the next batch is asked for.
pub struct Batch {
    width: usize,
    values: Vec<Datum>,
    nulls: Vec<bool>,
    /// How often each row is shown to the aggregates.
    repeats: Vec<u64>,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.repeats.len()
    }

    /// A row that stands for its group without counting: so every group has one.
    pub fn begin_group(&mut self, group: u32) {
        self.row(group, false, 1);
        self.values.resize(self.values.len() + self.width - LEADING, Datum::from(0usize));
        self.nulls.resize(self.values.len(), true);
    }

    /// Begins a row; its columns are pushed after.
    pub fn begin_row(&mut self, group: u32, repeat: u64) {
        self.row(group, true, repeat);
    }

    fn row(&mut self, group: u32, counts: bool, repeat: u64) {
        self.values.extend([Datum::from(group as i32), Datum::from(counts)]);
        self.nulls.extend([false, false]);
        self.repeats.push(repeat);
    }

    pub fn push(&mut self, value: Datum, null: bool) {
        self.values.push(value);
        self.nulls.push(null);
    }

    fn clear(&mut self) {
        self.values.clear();
        self.nulls.clear();
        self.repeats.clear();
    }
}

/// Where a [`Fold`]'s rows come from, in ascending order of groups, which are numbered 0, 1, 2, ... without a gap.
pub trait Feed {
    /// Adds the next rows, in a memory context of their own; none at the end.
    fn fill(&mut self, batch: &mut Batch) -> Result<()>;
    fn rewind(&mut self);
}

/// One aggregate call to compute.
pub struct Call<'p> {
    /// An Aggref over columns of one relation.
    pub aggregate: Node<'p>,
    /// Whether its FILTER was applied to the feed's rows already.
    pub filtered: bool,
}

/// Declared type of a column of the feed.
#[derive(Clone, Copy)]
pub struct FeedColumn {
    pub ty: Oid,
    pub typmod: i32,
}

/// A running aggregation. Must be [`Fold::end`]ed, unless the query fails.
pub struct Fold {
    evaluator: Evaluator,
    agg: *mut pg_sys::PlanState,
    /// The scan node points to it.
    _source: Box<Source>,
    /// Length and by-value of each call's result.
    results: Vec<(i16, bool)>,
    slot: *mut pg_sys::TupleTableSlot,
}

struct Source {
    feed: Box<dyn Feed>,
    batch: Batch,
    context: pg_sys::MemoryContext,
    row: usize,
    shown: u64,
}

#[repr(C)]
struct FeedScan {
    css: pg_sys::CustomScanState,
    source: *mut Source,
}

static SCAN: Methods<pg_sys::CustomScanMethods> =
    Methods(pg_sys::CustomScanMethods { CustomName: c"basalt values".as_ptr(), CreateCustomScanState: Some(create) });

static EXEC: Methods<pg_sys::CustomExecMethods> = Methods(pg_sys::CustomExecMethods {
    CustomName: c"basalt values".as_ptr(),
    BeginCustomScan: Some(begin),
    ExecCustomScan: Some(exec),
    EndCustomScan: Some(nothing),
    ReScanCustomScan: Some(rescan),
    MarkPosCustomScan: None,
    RestrPosCustomScan: None,
    EstimateDSMCustomScan: None,
    InitializeDSMCustomScan: None,
    ReInitializeDSMCustomScan: None,
    InitializeWorkerCustomScan: None,
    ShutdownCustomScan: None,
    ExplainCustomScan: None,
});

/// Constant tables of functions.
struct Methods<T>(T);

// SAFETY: never written.
unsafe impl<T> Sync for Methods<T> {}

fn make<T>(tag: NodeTag) -> *mut T {
    // SAFETY: palloc0 returns zeroed memory of the size asked for, or raises an error; every node begins with its tag.
    unsafe {
        let node = pg_sys::palloc0(size_of::<T>());
        (*node.cast::<pg_sys::Node>()).type_ = tag;
        node.cast()
    }
}

fn constant_array<T: Copy>(value: T) -> *mut T {
    // SAFETY: as above.
    unsafe {
        let array = pg_sys::palloc0(size_of::<T>()).cast::<T>();
        *array = value;
        array
    }
}

/// A target list.
fn targets(expressions: &[*mut pg_sys::Node]) -> *mut pg_sys::List {
    let mut list = std::ptr::null_mut();
    for (i, expression) in expressions.iter().enumerate() {
        // SAFETY: allocates, or raises an error.
        unsafe {
            let entry = pg_sys::makeTargetEntry(expression.cast(), i as AttrNumber + 1, std::ptr::null_mut(), false);
            list = pg_sys::lappend(list, entry.cast());
        }
    }
    list
}

fn var(relation: i32, position: usize, ty: Oid, typmod: i32, collation: Oid) -> *mut pg_sys::Node {
    // SAFETY: allocates, or raises an error.
    unsafe { pg_sys::makeVar(relation, position as AttrNumber + 1, ty, typmod, collation, 0).cast() }
}

impl Fold {
    /// Prepares `calls` over rows of `columns`. `position`: which of the columns an attribute of the calls' relation is.
    pub fn new(
        evaluator: &Evaluator,
        calls: &[Call<'_>],
        columns: &[FeedColumn],
        position: &dyn Fn(AttrNumber) -> Option<usize>,
        feed: Box<dyn Feed>,
    ) -> Result<Fold> {
        let _guard = evaluator.in_query_context();
        let leading = [(pg_sys::INT4OID, -1), (pg_sys::BOOLOID, -1)];
        let types: Vec<(Oid, i32)> = leading.into_iter().chain(columns.iter().map(|c| (c.ty, c.typmod))).collect();
        let of = |relation: i32| -> Vec<*mut pg_sys::Node> {
            types.iter().enumerate().map(|(i, (ty, typmod))| var(relation, i, *ty, *typmod, Oid::INVALID)).collect()
        };
        let mut wanted = vec![var(pg_sys::OUTER_VAR, 0, pg_sys::INT4OID, -1, Oid::INVALID)];
        let mut results = Vec::new();
        for (number, call) in calls.iter().enumerate() {
            wanted.push(prepare(call, number, position)?);
            let (mut length, mut by_value) = (0, false);
            // SAFETY: raises for unknown types.
            unsafe { pg_sys::get_typlenbyval(call.aggregate.ty(), &mut length, &mut by_value) };
            results.push((length, by_value));
        }
        // SAFETY: nodes are zeroed, tagged and completed here as the planner would; the plan state belongs to the same query, and
        // everything lives in its memory.
        unsafe {
            let scan = make::<pg_sys::CustomScan>(NodeTag::T_CustomScan);
            (*scan).scan.plan.targetlist = targets(&of(pg_sys::INDEX_VAR));
            (*scan).custom_scan_tlist = targets(&of(1));
            (*scan).methods = &raw const SCAN.0;
            let agg = make::<pg_sys::Agg>(NodeTag::T_Agg);
            (*agg).plan.targetlist = targets(&wanted);
            (*agg).plan.lefttree = scan.cast();
            (*agg).aggstrategy = pg_sys::AggStrategy::AGG_SORTED;
            (*agg).aggsplit = pg_sys::AggSplit::AGGSPLIT_SIMPLE;
            (*agg).numCols = 1;
            (*agg).grpColIdx = constant_array(1);
            (*agg).grpOperators = constant_array(Oid::from(pg_sys::Int4EqualOperator));
            (*agg).grpCollations = constant_array(Oid::INVALID);
            (*agg).numGroups = 1;
            let context = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"basalt values".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            let batch = Batch { width: types.len(), values: Vec::new(), nulls: Vec::new(), repeats: Vec::new() };
            let mut source = Box::new(Source { feed, batch, context, row: 0, shown: 0 });
            let agg = pg_sys::ExecInitNode(agg.cast(), evaluator.executor_state(), 0);
            (*(*agg).lefttree.cast::<FeedScan>()).source = addr_of_mut!(*source);
            Ok(Fold { evaluator: *evaluator, agg, _source: source, results, slot: std::ptr::null_mut() })
        }
    }

    /// Goes on to the next group; false at the end.
    pub fn next(&mut self) -> bool {
        // The node keeps what it allocates from one call to the next.
        let _guard = self.evaluator.in_query_context();
        // SAFETY: the node was initialized; the slot it returns is its own.
        unsafe {
            let Some(step) = (*self.agg).ExecProcNode else { return false };
            self.slot = pg_sys::ffi::pg_guard_ffi_boundary(|| step(self.agg));
            !self.slot.is_null() && (*self.slot).tts_flags & pg_sys::TTS_FLAG_EMPTY as u16 == 0
        }
    }

    /// The result of call `nth` for the group that `next` went to, copied into the current memory context.
    pub fn value(&self, nth: usize) -> Option<Datum> {
        let (length, by_value) = *self.results.get(nth)?;
        // SAFETY: a projected slot holds as many values as the node has targets, the first of which is the group's number.
        unsafe {
            let slot = self.slot.as_ref()?;
            if *slot.tts_isnull.add(nth + 1) {
                return None;
            }
            let value = *slot.tts_values.add(nth + 1);
            Some(pg_sys::ffi::pg_guard_ffi_boundary(|| datumCopy(value, by_value, i32::from(length))))
        }
    }

    /// Starts over.
    pub fn rewind(&mut self) {
        let _guard = self.evaluator.in_query_context();
        // SAFETY: the node was initialized.
        unsafe { pg_sys::ExecReScan(self.agg) }
    }

    pub fn end(self) {
        // SAFETY: the node was initialized and is not used after.
        unsafe { pg_sys::ExecEndNode(self.agg) }
    }
}

/// The call over the columns of the feed, as call number `number` of its node.
fn prepare(
    call: &Call<'_>,
    number: usize,
    position: &dyn Fn(AttrNumber) -> Option<usize>,
) -> Result<*mut pg_sys::Node> {
    let mut unknown = false;
    let aggregate = if call.filtered { call.aggregate.without_filter() } else { call.aggregate };
    let rewritten = aggregate.rewrite(&mut |node| match node.view() {
        View::Var(v) => {
            let at = position(v.attribute).unwrap_or_else(|| {
                unknown = true;
                0
            });
            let made = var(pg_sys::OUTER_VAR, at + LEADING, node.ty(), node.typmod(), node.collation());
            // SAFETY: a new node in the query's memory.
            unsafe { Node::from_ptr(made) }
        }
        _ => None,
    });
    if unknown || rewritten.tag() != NodeTag::T_Aggref {
        return Err(basalt_engine::Error::invalid("the plan does not fit its aggregates").into());
    }
    let counts = var(pg_sys::OUTER_VAR, 1, pg_sys::BOOLOID, -1, Oid::INVALID);
    // SAFETY: the rewritten node is this function's own copy.
    unsafe {
        let aggref = rewritten.as_ptr().cast::<pg_sys::Aggref>();
        (*aggref).aggno = number as i32;
        (*aggref).aggtransno = number as i32;
        (*aggref).aggfilter = if (*aggref).aggfilter.is_null() {
            counts.cast()
        } else {
            let both =
                pg_sys::lappend(pg_sys::lappend(std::ptr::null_mut(), counts.cast()), (*aggref).aggfilter.cast());
            pg_sys::makeBoolExpr(pg_sys::BoolExprType::AND_EXPR, both, -1)
        };
    }
    Ok(rewritten.as_ptr())
}

impl Source {
    /// Puts the next row into the slot's arrays; false at the end.
    fn next(&mut self, slot: &mut pg_sys::TupleTableSlot) -> Result<bool> {
        while self.row < self.batch.len() && self.shown >= self.batch.repeats[self.row] {
            (self.row, self.shown) = (self.row + 1, 0);
        }
        if self.row >= self.batch.len() {
            self.clear();
            // SAFETY: the context lives as long as the query.
            let _guard = unsafe { InContext::new(self.context) };
            self.feed.fill(&mut self.batch)?;
            if self.batch.len() == 0 {
                return Ok(false);
            }
        }
        let (width, start) = (self.batch.width, self.row * self.batch.width);
        let (values, nulls) = (&self.batch.values[start..start + width], &self.batch.nulls[start..start + width]);
        // SAFETY: the slot is as wide as the scan's targets, which are the batch's columns.
        unsafe {
            slot.tts_values.copy_from_nonoverlapping(values.as_ptr(), width);
            slot.tts_isnull.copy_from_nonoverlapping(nulls.as_ptr(), width);
        }
        self.shown += 1;
        Ok(true)
    }

    fn clear(&mut self) {
        self.batch.clear();
        (self.row, self.shown) = (0, 0);
        // SAFETY: nothing points into the context: the slot was cleared.
        unsafe { pg_sys::MemoryContextReset(self.context) }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn create(_scan: *mut pg_sys::CustomScan) -> *mut pg_sys::Node {
    let state = make::<FeedScan>(NodeTag::T_CustomScanState);
    // SAFETY: a new node, which begins with a CustomScanState.
    unsafe { (*state).css.methods = &raw const EXEC.0 };
    state.cast()
}

#[pg_guard]
unsafe extern "C-unwind" fn begin(_node: *mut pg_sys::CustomScanState, _state: *mut pg_sys::EState, _flags: i32) {}

#[pg_guard]
unsafe extern "C-unwind" fn nothing(_node: *mut pg_sys::CustomScanState) {}

#[pg_guard]
unsafe extern "C-unwind" fn exec(node: *mut pg_sys::CustomScanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the node is one of `create`'s, whose source lives as long as the Fold that runs it.
    unsafe {
        let slot = (*node).ss.ss_ScanTupleSlot;
        if let Some(clear) = (*slot).tts_ops.as_ref().and_then(|ops| ops.clear) {
            clear(slot);
        }
        if let Some(source) = (*node.cast::<FeedScan>()).source.as_mut()
            && source.next(&mut *slot).or_raise()
        {
            pg_sys::ExecStoreVirtualTuple(slot);
        }
        slot
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn rescan(node: *mut pg_sys::CustomScanState) {
    // SAFETY: as in `exec`.
    unsafe {
        if let Some(source) = (*node.cast::<FeedScan>()).source.as_mut() {
            source.feed.rewind();
            source.clear();
        }
    }
}
