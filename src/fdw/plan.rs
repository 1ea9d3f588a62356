//! Planning a scan of a datasource: sizes, paths, plans.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::rc::Rc;
use std::sync::Arc;

use pgrx::prelude::*;
use pgrx::{PgMemoryContexts, pg_sys};

use super::star::{Keys, Tree};
use super::{estimate, order, upper};
use crate::catalog::datasource::{self, Datasource};
use crate::catalog::list::{self as segments, SegmentList};
use crate::error::{Error, OrRaise};
use crate::pg::list;
use crate::pg::node::{self, Node};
use crate::pg::snapshot::ActiveSnapshot;
use crate::pg::subplan;
use crate::translate::filter::Builder;
use crate::translate::template::{self, ColumnTemplate, DimensionTemplate, FilterTemplate, PlanTemplate, Shape};

/// What planning knows of a datasource: `fdw_private` of its `RelOptInfo`.
pub struct RelationState {
    pub datasource: Arc<Datasource>,
    pub segments: Rc<SegmentList>,
    /// Why PostgreSQL has to evaluate clauses of `baserestrictinfo`.
    pub local: Vec<String>,
    /// Why aggregates above were not pushed down.
    pub reasons: RefCell<Vec<String>>,
    /// `pg_statistic` rows that were made for the planner, by attribute number.
    pub statistics: RefCell<HashMap<i16, pg_sys::HeapTuple>>,
    /// Memory that lives as long as this: the genetic planner asks for statistics in memory that it frees.
    pub context: pg_sys::MemoryContext,
}

impl RelationState {
    /// # Safety
    /// `relation` is null or one of the planner's; its `fdw_private`, if set, is this module's or belongs to another wrapper.
    pub unsafe fn of<'a>(relation: *mut pg_sys::RelOptInfo) -> Option<&'a RelationState> {
        // SAFETY: the caller's contract; the state lives as long as the planner's memory.
        unsafe {
            let base = matches!(
                (*relation).reloptkind,
                pg_sys::RelOptKind::RELOPT_BASEREL | pg_sys::RelOptKind::RELOPT_OTHER_MEMBER_REL
            );
            if !base { None } else { (*relation).fdw_private.cast::<RelationState>().as_ref() }
        }
    }

    pub fn rows(&self) -> u64 {
        self.segments.rows()
    }
}

/// Whether a relation is planned by this wrapper.
///
/// # Safety
/// `relation` is one of the planner's.
pub unsafe fn is_ours(relation: *mut pg_sys::RelOptInfo) -> bool {
    // SAFETY: the caller's contract.
    let routine = unsafe { (*relation).fdwroutine.as_ref() };
    let ours: pg_sys::GetForeignRelSize_function = Some(get_foreign_rel_size);
    routine.is_some_and(|r| r.GetForeignRelSize.map(|f| f as usize) == ours.map(|f| f as usize))
}

#[pg_guard]
pub unsafe extern "C-unwind" fn get_foreign_rel_size(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    table: pg_sys::Oid,
) {
    let datasource = datasource::open(table).or_raise();
    // SAFETY: PostgreSQL reads the flag set by this backend.
    let snapshot = (!unsafe { pg_sys::ActiveSnapshotSet() }).then(ActiveSnapshot::transaction);
    let segments = segments::visible(&datasource.id);
    drop(snapshot);
    // SAFETY: the planner's own structures, alive during the callback; the state is dropped with the planner's memory.
    unsafe {
        let mut local = Vec::new();
        let mut builder = Builder::new((*relation).relid, &datasource, &segments);
        for rinfo in list::pointers::<pg_sys::RestrictInfo>((*relation).baserestrictinfo) {
            if let Err(reason) = translate(&mut builder, rinfo) {
                local.push(reason);
            }
        }
        (*relation).tuples = segments.rows() as f64;
        let state = RelationState {
            datasource,
            segments: segments.clone(),
            local,
            reasons: RefCell::new(Vec::new()),
            statistics: RefCell::default(),
            context: pg_sys::CurrentMemoryContext,
        };
        (*relation).fdw_private = PgMemoryContexts::CurrentMemoryContext.leak_and_drop_on_delete(state).cast();
        pg_sys::set_baserel_size_estimates(root, relation);
        (*relation).rows = (*relation).rows.max(estimate::floor(root, relation, &segments));
    }
}

/// Translates a clause of the relation, if it may be evaluated before the others.
///
/// # Safety
/// `rinfo` and `relation` are the planner's.
pub unsafe fn push<'p>(
    builder: &mut Builder<'p, '_>,
    rinfo: *mut pg_sys::RestrictInfo,
    relation: *mut pg_sys::RelOptInfo,
) -> Result<FilterTemplate, String> {
    // SAFETY: the caller's contract.
    unsafe {
        if !pg_sys::restriction_is_securely_promotable(rinfo, relation) {
            return Err("a filter must wait for those of a security barrier".into());
        }
        translate(builder, rinfo)
    }
}

/// Translates a clause, for a plan that has all of the relation's in [`upper::in_order`].
///
/// # Safety
/// `rinfo` is the planner's.
pub unsafe fn translate<'p>(
    builder: &mut Builder<'p, '_>,
    rinfo: *mut pg_sys::RestrictInfo,
) -> Result<FilterTemplate, String> {
    // SAFETY: the caller's contract.
    unsafe {
        let Some(clause) = Node::from_ptr((*rinfo).clause) else { return Err("a filter is missing".into()) };
        builder.filter(clause).map_err(|reason| format!("a filter is evaluated by PostgreSQL: {reason}"))
    }
}

/// Cost of opening a segment and looking at its columns' headers.
const SEGMENT_COST: f64 = 0.5;
/// Share of `cpu_operator_cost` that a value costs the engine.
const ENGINE_SHARE: f64 = 0.02;

/// Cost of setting up the exchange of rows with PostgreSQL: an aggregation inside the engine is cheaper for any number of them.
const EXCHANGE_COST: f64 = 1.0;

/// Cost of selecting rows, or of aggregating them as well, inside the engine.
pub fn engine_cost(segments: usize, rows: f64) -> f64 {
    // SAFETY: a plain setting.
    let operator = unsafe { pg_sys::cpu_operator_cost };
    segments as f64 * SEGMENT_COST + rows * operator * ENGINE_SHARE
}

#[pg_guard]
pub unsafe extern "C-unwind" fn get_foreign_paths(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    _table: pg_sys::Oid,
) {
    // SAFETY: the planner's own structures; `get_foreign_rel_size` has set the state.
    unsafe {
        let Some(state) = RelationState::of(relation) else { return };
        let scanned = state.rows() as f64;
        let startup = engine_cost(state.segments.len(), 0.0) + EXCHANGE_COST;
        let run = engine_cost(0, scanned) + (*relation).rows * pg_sys::cpu_tuple_cost;
        let path = pg_sys::create_foreignscan_path(
            root,
            relation,
            std::ptr::null_mut(),
            (*relation).rows,
            startup,
            startup + run,
            std::ptr::null_mut(),
            (*relation).lateral_relids,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        );
        pg_sys::add_path(relation, path.cast());
        filtered_path(root, relation, state, startup);
    }
}

/// Of fewer rows than this it pays to leave some out early.
const MIN_ROWS: f64 = 1_000.0;
/// More keys are not read only to filter by them.
const MAX_KEYS: f64 = 100_000.0;
/// The share of rows that keys must leave out.
const MIN_LEFT_OUT: f64 = 0.3;

/// Adds a path whose rows are filtered by the keys of relations that they are joined to.
///
/// # Safety
/// The planner's own structures are given, while it plans.
unsafe fn filtered_path(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    state: &RelationState,
    startup: f64,
) {
    // SAFETY: the planner's own structures.
    unsafe {
        let query = &*(*root).parse;
        if (*relation).reloptkind != pg_sys::RelOptKind::RELOPT_BASEREL
            || (*relation).rows < MIN_ROWS
            || !(*relation).lateral_relids.is_null()
            || query.commandType != pg_sys::CmdType::CMD_SELECT
            || !query.rowMarks.is_null()
        {
            return;
        }
        let Ok(tree) = Tree::new(root, (*relation).relid) else { return };
        if tree.keeps_rows() {
            return;
        }
        let mut builder = Builder::new((*relation).relid, &state.datasource, &state.segments);
        let (mut chosen, mut rows, mut reading) = (Vec::new(), (*relation).rows, 0.0);
        for keys in tree.keys(root) {
            let (other, none, flags) = (&*keys.relation, std::ptr::null_mut(), std::ptr::null_mut());
            let distinct =
                pg_sys::estimate_num_groups(root, node::make_list([keys.outer]), (*relation).rows, none, flags);
            let share = other.rows / distinct.max(1.0);
            if other.rows > MAX_KEYS || share > 1.0 - MIN_LEFT_OUT || keys.join(&mut builder).is_err() {
                continue;
            }
            rows *= share;
            reading += f64::from(other.pages) * pg_sys::seq_page_cost
                + other.tuples.max(other.rows) * (pg_sys::cpu_tuple_cost + other.baserestrictcost.per_tuple);
            chosen.push(keys);
        }
        if chosen.is_empty() {
            return;
        }
        let (startup, rows) = (startup + reading, rows.max(1.0));
        let run = engine_cost(0, state.rows() as f64) + rows * pg_sys::cpu_tuple_cost;
        let private = PgMemoryContexts::CurrentMemoryContext.leak_and_drop_on_delete(chosen);
        let path = pg_sys::create_foreignscan_path(
            root,
            relation,
            std::ptr::null_mut(),
            rows,
            startup,
            startup + run,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            pg_sys::lappend(std::ptr::null_mut(), private.cast()),
        );
        pg_sys::add_path(relation, path.cast());
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn get_foreign_plan(
    root: *mut pg_sys::PlannerInfo,
    relation: *mut pg_sys::RelOptInfo,
    _table: pg_sys::Oid,
    path: *mut pg_sys::ForeignPath,
    target: *mut pg_sys::List,
    clauses: *mut pg_sys::List,
    outer: *mut pg_sys::Plan,
) -> *mut pg_sys::ForeignScan {
    // SAFETY: the planner's own structures.
    unsafe {
        let upper = [pg_sys::RelOptKind::RELOPT_UPPER_REL, pg_sys::RelOptKind::RELOPT_OTHER_UPPER_REL];
        if upper.contains(&(*relation).reloptkind) {
            return upper::plan(root, path, target);
        }
        let Some(state) = RelationState::of(relation) else {
            Error::from(basalt_engine::Error::invalid("the relation was not planned by basalt")).raise();
        };
        let mut builder = Builder::new((*relation).relid, &state.datasource, &state.segments);
        builder.numbers = false;
        let (mut pushed, mut recheck, mut local, mut reasons) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for rinfo in list::pointers::<pg_sys::RestrictInfo>(clauses) {
            // Those without columns are PostgreSQL's, in a Result node above.
            let (false, Some(clause)) = ((*rinfo).pseudoconstant, Node::from_ptr((*rinfo).clause)) else { continue };
            match push(&mut builder, rinfo, relation) {
                Ok(filter) => {
                    pushed.push(filter);
                    recheck.push(clause);
                }
                Err(reason) => {
                    local.push(clause);
                    if !reasons.contains(&reason) {
                        reasons.push(reason);
                    }
                }
            }
        }
        let mut output = Vec::new();
        for attribute in attributes_used(relation, &local, state.datasource.attributes.len()) {
            // Dropped columns stay NULL.
            if let Ok((position, _)) = builder.column(attribute) {
                output.push(position);
            }
        }
        // By the keys of relations that its rows are joined to.
        let mut paths = Vec::new();
        if let Some(chosen) = list::pointers::<Vec<Keys<'_>>>((*path).fdw_private).first() {
            for keys in &**chosen {
                if let Some(path) = subplan::path(root, keys.relation, &[keys.key])
                    && (*path).param_info.is_null()
                    && keys.join(&mut builder).is_ok()
                {
                    paths.push(path);
                }
            }
        }
        let top = if local.is_empty() { order::rows(root, relation, &mut builder) } else { None };
        for reason in state.reasons.borrow().iter() {
            if !reasons.contains(reason) {
                reasons.push(reason.clone());
            }
        }
        let (columns, dimensions) = match column_templates(&mut builder, root) {
            Ok(made) => made,
            Err(reason) => Error::from(basalt_engine::Error::invalid(reason)).raise(),
        };
        let template = PlanTemplate {
            version: template::VERSION,
            columns,
            classes: builder.class_templates(),
            dimensions,
            filter: FilterTemplate::And(pushed),
            kept: None,
            shape: Shape::Rows { output, top },
            reasons,
        };
        let (plans, expressions) = init_plans(root, paths, node::make_list(builder.expressions.iter().copied()));
        let text: *mut pg_sys::List = encode(&template);
        let private = match list::pointers(text).first() {
            Some(text) if !plans.is_empty() => private(*text, &plans),
            _ => text,
        };
        pg_sys::make_foreignscan(
            target,
            node::make_list(local),
            (*relation).relid,
            expressions,
            private,
            std::ptr::null_mut(),
            node::make_list(recheck),
            outer,
        )
    }
}

/// The columns that a plan reads and computes, and its dimensions.
///
/// # Safety
/// `root` is the planner's, and has the builder's table.
pub unsafe fn column_templates(
    builder: &mut Builder<'_, '_>,
    root: *mut pg_sys::PlannerInfo,
) -> Result<(Vec<ColumnTemplate>, Vec<DimensionTemplate>), String> {
    // SAFETY: the caller's contract; range table entries have names.
    unsafe {
        if builder.dimensions.is_empty() {
            let entry = *(*root).simple_rte_array.add(builder.relation as usize);
            let name = crate::pg::lookup::text((*(*entry).eref).aliasname).unwrap_or_default();
            let (relation, table) = (builder.relation, builder.datasource.relation);
            return Ok((builder.templates(&|n: Node<'_>| n.sql(relation, table, &name)), Vec::new()));
        }
        let context = node::query_context((*(*root).parse).rtable, (*root).all_baserels);
        let text = |n: Node<'_>| n.sql_in(context);
        let dimensions = builder.dimension_templates(&text)?;
        Ok((builder.templates(&text), dimensions))
    }
}

/// Makes InitPlans of the paths of dimensions. Returns the numbers of their plans, and `expressions` with what stands for them behind.
///
/// # Safety
/// `paths` are `root`'s, of which a plan is being made.
pub unsafe fn init_plans(
    root: *mut pg_sys::PlannerInfo,
    paths: Vec<*mut pg_sys::Path>,
    mut expressions: *mut pg_sys::List,
) -> (Vec<i32>, *mut pg_sys::List) {
    let mut plans = Vec::with_capacity(paths.len());
    for path in paths {
        // SAFETY: the caller's contract.
        unsafe {
            let (number, parameter) = subplan::init_plan(root, path);
            plans.push(number);
            expressions = pg_sys::lappend(expressions, parameter.as_ptr().cast());
        }
    }
    (plans, expressions)
}

/// `fdw_private` of a plan with dimensions: the template's text, the numbers of the dimensions' plans.
///
/// # Safety
/// `text` is what `encode` made.
pub unsafe fn private(text: *mut pg_sys::String, plans: &[i32]) -> *mut pg_sys::List {
    // SAFETY: appending to lists that only this function holds.
    unsafe {
        let mut numbers: *mut pg_sys::List = std::ptr::null_mut();
        for plan in plans {
            numbers = pg_sys::lappend_int(numbers, *plan);
        }
        let list = pg_sys::lappend(std::ptr::null_mut(), text.cast());
        pg_sys::lappend(list, numbers.cast())
    }
}

/// The numbers of the dimensions' plans.
pub fn plans(private: *mut pg_sys::List) -> Vec<i32> {
    // SAFETY: a plan's `fdw_private` is what `encode` or `private` made.
    unsafe {
        let parts = list::pointers::<pg_sys::List>(private);
        parts.get(1).map(|numbers| list::integers(*numbers)).unwrap_or_default()
    }
}

/// Attributes that the relation's targets and the local clauses need; a whole-row reference needs all.
///
/// # Safety
/// The planner's own structures, alive during the call.
unsafe fn attributes_used(relation: *mut pg_sys::RelOptInfo, local: &[Node<'_>], attributes: usize) -> Vec<i16> {
    // SAFETY: the planner's own structures; bitmapset members are offset by the lowest system attribute number.
    unsafe {
        let mut used: *mut pg_sys::Bitmapset = std::ptr::null_mut();
        pg_sys::pull_varattnos((*(*relation).reltarget).exprs.cast(), (*relation).relid, &mut used);
        for clause in local {
            pg_sys::pull_varattnos(clause.as_ptr(), (*relation).relid, &mut used);
        }
        let member =
            |attribute: i32| pg_sys::bms_is_member(attribute - pg_sys::FirstLowInvalidHeapAttributeNumber, used);
        let all = member(0);
        (1..=attributes as i32).filter(|a| all || member(*a)).map(|a| a as i16).collect()
    }
}

/// `fdw_private` of a plan or path: the template as text.
pub fn encode(template: &PlanTemplate) -> *mut pg_sys::List {
    let text = serde_json::to_string(template).ok().and_then(|t| CString::new(t).ok()).unwrap_or_default();
    // SAFETY: pstrdup copies the text into the planner's memory.
    unsafe {
        let text = pg_sys::makeString(pg_sys::pstrdup(text.as_ptr()));
        pg_sys::lappend(std::ptr::null_mut(), text.cast())
    }
}

/// The template of a plan. Errors: it was made by another version of the library.
pub fn decode(private: *mut pg_sys::List) -> crate::error::Result<PlanTemplate> {
    let other_version = || {
        Error::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, "the plan was made by another version of basalt")
            .hint("Run DISCARD PLANS, or reconnect.")
    };
    // SAFETY: a plan's `fdw_private` is what `encode` made.
    let text = unsafe {
        let first = list::pointers::<pg_sys::String>(private).into_iter().next().ok_or_else(other_version)?;
        crate::pg::lookup::text((*first).sval).ok_or_else(other_version)?
    };
    let template: PlanTemplate = serde_json::from_str(&text).map_err(|_| other_version())?;
    if template.version == template::VERSION { Ok(template) } else { Err(other_version()) }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn is_foreign_scan_parallel_safe(
    _root: *mut pg_sys::PlannerInfo,
    _relation: *mut pg_sys::RelOptInfo,
    _entry: *mut pg_sys::RangeTblEntry,
) -> bool {
    false
}
