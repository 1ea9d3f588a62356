//! Aggregation above a scan, done by the engine.

use std::cell::Cell;

use basalt_engine::plan::{ColumnRef, Filter};
use pgrx::prelude::*;
use pgrx::{PgSqlErrorCode, pg_sys};

use super::grouping::Grouping;
use super::order;
use super::plan::{self, RelationState};
use super::prune;
use super::star::{self, Found, Tree};
use crate::error::Error;
use crate::guc;
use crate::pg::list;
use crate::pg::node::{self, Node, View};
use crate::pg::subplan;
use crate::translate::advice::advice;
use crate::translate::filter::{self, Builder};
use crate::translate::pieces;
use crate::translate::shippable::Reason;
use crate::translate::template::{
    AggregateFunction, AggregateTemplate, FilterTemplate, Finish, KeptTemplate, KeyTemplate, Target,
};
use crate::translate::time;

thread_local! {
    static PREVIOUS: Cell<pg_sys::create_upper_paths_hook_type> = const { Cell::new(None) };
}

/// Installs the hook of the planner by which joins with dimensions are aggregated; once a process.
pub fn register() {
    // SAFETY: hooks are set while the library is loaded, by the only thread there is.
    unsafe {
        PREVIOUS.set(pg_sys::create_upper_paths_hook);
        pg_sys::create_upper_paths_hook = Some(create_upper_paths);
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn get_foreign_upper_paths(
    root: *mut pg_sys::PlannerInfo,
    stage: pg_sys::UpperRelationKind::Type,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    extra: *mut std::ffi::c_void,
) {
    // SAFETY: the planner's own structures. Joins are looked at in the hook.
    unsafe {
        let Some(state) = RelationState::of(input) else { return };
        let Some(step) = Step::new(root, stage, input, output, extra) else { return };
        let result = translate(root, input, input, output, &step, state, None);
        conclude(&step, result, state);
    }
}

/// PostgreSQL asks a wrapper about joins only if all their relations are its own: of others, this hook is told.
#[pg_guard]
unsafe extern "C-unwind" fn create_upper_paths(
    root: *mut pg_sys::PlannerInfo,
    stage: pg_sys::UpperRelationKind::Type,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    extra: *mut std::ffi::c_void,
) {
    // SAFETY: the planner's own structures.
    unsafe {
        if let Some(previous) = PREVIOUS.get() {
            pg_sys::ffi::pg_guard_ffi_boundary(|| previous(root, stage, input, output, extra));
        }
        // Set operations have no one input.
        if input.is_null() || (*input).reloptkind != pg_sys::RelOptKind::RELOPT_JOINREL {
            return;
        }
        let relations = star::list_of((*input).relids);
        let datasources = star::datasources(root, &relations);
        let Some((_, largest)) = datasources.first() else { return };
        let Some(step) = Step::new(root, stage, input, output, extra) else { return };
        let mut result = Err("it is over a join in which no datasource is joined to dimensions".to_owned());
        for (fact, state) in &datasources {
            result = Tree::new(root, (**fact).relid)
                .and_then(|tree| translate(root, *fact, input, output, &step, state, Some(&tree)));
            if result.is_ok() {
                break;
            }
        }
        match result {
            // Of joined rows PostgreSQL makes distinct ones.
            Err(reason) if stage == pg_sys::UpperRelationKind::UPPERREL_DISTINCT => {
                largest.reasons.borrow_mut().push(format!("the DISTINCT is done by PostgreSQL: {reason}"));
            }
            result => conclude(&step, result, largest),
        }
    }
}

/// Keeps for EXPLAIN why a step is not pushed down, or raises that as an error.
fn conclude(step: &Step<'_>, result: Result<(), Reason>, state: &RelationState) {
    let what = step.what;
    match result {
        Ok(()) => {}
        Err(reason) if guc::REQUIRE_PUSHDOWN.get() => {
            Error::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, format!("the {what} is not pushed down"))
                .detail(format!("Reason: {reason}."))
                .hint(hint(&reason))
                .raise();
        }
        Err(reason) => state.reasons.borrow_mut().push(format!("the {what} is done by PostgreSQL: {reason}")),
    }
}

fn hint(reason: &str) -> String {
    let off = "Setting basalt.require_pushdown to off lets PostgreSQL do it, row by row.";
    match advice([reason]).first() {
        Some(advice) => format!("To push it down, {advice}. {off}"),
        None => off.into(),
    }
}

/// What a planner's step makes of a scan: groups of rows, of which GROUP BY or DISTINCT says how they are told apart.
struct Step<'p> {
    what: &'static str,
    stage: pg_sys::UpperRelationKind::Type,
    target: *mut pg_sys::PathTarget,
    /// SortGroupClauses of the keys.
    clauses: *mut pg_sys::List,
    /// Integer lists of keys' references.
    sets: *mut pg_sys::List,
    having: Vec<Node<'p>>,
}

impl Step<'_> {
    /// `None`: nothing is grouped in it, or nothing is scanned.
    ///
    /// # Safety
    /// The planner's own structures are given, while it plans.
    unsafe fn new(
        root: *mut pg_sys::PlannerInfo,
        stage: pg_sys::UpperRelationKind::Type,
        input: *mut pg_sys::RelOptInfo,
        output: *mut pg_sys::RelOptInfo,
        extra: *mut std::ffi::c_void,
    ) -> Option<Self> {
        // SAFETY: the planner's own structures; of a grouping `extra` is a GroupPathExtraData.
        unsafe {
            // Nothing is scanned where a contradiction was found.
            if !(*output).fdw_private.is_null() || pg_sys::is_dummy_rel(input) {
                return None;
            }
            let query = &*(*root).parse;
            match stage {
                pg_sys::UpperRelationKind::UPPERREL_GROUP_AGG => Some(Step {
                    what: "aggregation",
                    stage,
                    target: (*output).reltarget,
                    clauses: query.groupClause,
                    sets: query.groupingSets,
                    having: node::list((*extra.cast::<pg_sys::GroupPathExtraData>()).havingQual.cast()),
                }),
                // Of what is aggregated or numbered before, PostgreSQL makes distinct rows.
                pg_sys::UpperRelationKind::UPPERREL_DISTINCT if !query.hasDistinctOn && !query.hasTargetSRFs => {
                    Some(Step {
                        what: "DISTINCT",
                        stage,
                        target: (&(*root).upper_targets)[stage as usize],
                        clauses: query.distinctClause,
                        sets: std::ptr::null_mut(),
                        having: Vec::new(),
                    })
                }
                _ => None,
            }
        }
    }
}

/// Adds a path to `output`. `fact`: the datasource; `input`: itself, or what it is joined to by `tree`.
///
/// # Safety
/// The planner's own structures are given, while it plans.
unsafe fn translate(
    root: *mut pg_sys::PlannerInfo,
    fact: *mut pg_sys::RelOptInfo,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    step: &Step<'_>,
    state: &RelationState,
    tree: Option<&Tree<'_>>,
) -> Result<(), Reason> {
    // SAFETY: the planner's own structures.
    unsafe {
        if let Some(reason) = state.local.first() {
            return Err(reason.clone());
        }
        if !(*fact).lateral_relids.is_null() {
            return Err("it refers to another table".into());
        }
        let mut grouping = Grouping::new((*fact).relid, &state.datasource, &state.segments);
        let mut filters = Vec::new();
        for rinfo in in_order(root, list::pointers((*fact).baserestrictinfo)) {
            filters.push(plan::translate(&mut grouping.builder, rinfo)?);
        }
        let (mut found, mut kept) = (Vec::new(), None);
        if let Some(tree) = tree {
            let linked = tree.link(root, &mut grouping.builder)?;
            found = linked.found;
            match linked.kept {
                None => filters.extend(linked.filters),
                Some((template, below)) => {
                    // Its own restrictions are below the join that keeps the other side's rows.
                    filters.extend(below);
                    let below = FilterTemplate::And(std::mem::replace(&mut filters, linked.filters));
                    kept = Some(KeptTemplate { below, ..template });
                }
            }
        }
        let targets = step.target;
        let expressions = node::list((*targets).exprs);
        let sort_group =
            |i: usize| if (*targets).sortgrouprefs.is_null() { 0 } else { *(*targets).sortgrouprefs.add(i) };
        let is_key = |i: usize| {
            let reference = sort_group(i);
            reference != 0 && !pg_sys::get_sortgroupref_clause_noerr(reference, step.clauses).is_null()
        };
        let mut grouped = Vec::new();
        for (i, expression) in expressions.iter().enumerate() {
            if is_key(i) {
                grouping.key(*expression, sort_group(i))?;
                grouped.push(sort_group(i));
            }
        }
        for clause in list::pointers::<pg_sys::SortGroupClause>(step.clauses) {
            if !grouped.contains(&(*clause).tleSortGroupRef) {
                return Err("a grouping column is not among the aggregation's targets".into());
            }
        }
        if !step.sets.is_null() {
            let sets = list::pointers::<pg_sys::List>(step.sets);
            let references = |set: &*mut pg_sys::List| list::integers(*set).into_iter().map(|r| r as u32).collect();
            grouping.set_sets(sets.iter().map(references).collect())?;
        }
        for (i, expression) in expressions.iter().enumerate() {
            if !is_key(i) {
                grouping.cover(*expression)?;
            }
        }
        for condition in &step.having {
            grouping.cover(*condition)?;
        }
        let buckets = count_buckets(root, fact, &grouping.keys, &grouping.builder, state);
        let drop_empty = grouping.keys.is_empty() && !step.clauses.is_null() && step.sets.is_null();
        if drop_empty {
            grouping.aggregates.push(AggregateTemplate {
                function: AggregateFunction::CountStar,
                filter: FilterTemplate::everything(),
                result: Finish::Int8,
                decimals: None,
            });
        }
        let pushed = Pushed { fact, input, state, grouping, filters, kept, found, drop_empty, buckets };
        add_path(root, output, step, pushed)
    }
}

/// Clauses as PostgreSQL orders those of a scan: first those of security barriers, but for leakproof ones that cost little, then cheap ones.
/// An expensive one may raise errors of rows that another leaves out, and one that is not leakproof must not see rows that a barrier hides.
///
/// # Safety
/// The planner's own structures, alive during the call.
unsafe fn in_order(
    root: *mut pg_sys::PlannerInfo,
    clauses: Vec<*mut pg_sys::RestrictInfo>,
) -> Vec<*mut pg_sys::RestrictInfo> {
    let mut ranked: Vec<(u32, f64, *mut pg_sys::RestrictInfo)> = clauses
        .into_iter()
        .map(|clause| {
            let mut cost = pg_sys::QualCost { startup: 0.0, per_tuple: 0.0 };
            // SAFETY: the planner's own structures.
            unsafe {
                pg_sys::cost_qual_eval_node(&mut cost, clause.cast(), root);
                let free = (*clause).leakproof && cost.per_tuple <= 10.0 * pg_sys::cpu_operator_cost;
                (if free { 0 } else { (*clause).security_level }, cost.per_tuple, clause)
            }
        })
        .collect();
    ranked.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    ranked.into_iter().map(|(_, _, clause)| clause).collect()
}

/// How many buckets functions of time make of the times that are there, at most, as far as is known.
///
/// # Safety
/// The planner's own structures, alive during the call.
unsafe fn count_buckets<'p>(
    root: *mut pg_sys::PlannerInfo,
    input: *mut pg_sys::RelOptInfo,
    keys: &[KeyTemplate],
    builder: &Builder<'p, '_>,
    state: &RelationState,
) -> f64 {
    let mut buckets = 1.0;
    let constant = |node: Node<'p>| {
        // SAFETY: the planner's own structures; the result is a node.
        let estimated = unsafe { Node::from_ptr(pg_sys::estimate_expression_value(root, node.as_ptr())) };
        match estimated.map(Node::view) {
            Some(View::Const { null: false, value }) => Some(value),
            _ => None,
        }
    };
    for key in keys {
        let KeyTemplate::Buckets { column, pieces, .. } = key else { continue };
        let Some(position) = builder.stored(*column) else { continue };
        let column = &builder.datasource.schema.columns[position];
        let stored = ColumnRef::stored(column.id, column.ty, builder.datasource.missing[position].clone());
        let attribute = state.datasource.attributes.iter().position(|a| *a == Some(position)).unwrap_or(0) as i16 + 1;
        // SAFETY: the planner's own structures.
        let limits = unsafe {
            list::pointers::<pg_sys::RestrictInfo>((*input).baserestrictinfo)
                .into_iter()
                .filter_map(|r| Node::from_ptr((*r).clause))
                .map(|clause| filter::estimate(builder, clause, attribute, column.ty, &constant))
                .collect()
        };
        let Some(limits) = basalt_engine::plan::bounds(&Filter::And(limits), 0) else { continue };
        let mut count = 0i64;
        let mut ranges = prune::column_ranges(&state.segments, &stored);
        pieces::clamp(&mut ranges, Some(limits));
        for (low, high) in ranges {
            let (low, high) = (column.ty.to_micros(low), column.ty.to_micros(high));
            if low == i64::MIN || high == i64::MAX {
                count = i64::MAX;
            }
            count = count.saturating_add(time::estimate(pieces, low, high));
        }
        buckets *= count.max(1) as f64;
    }
    buckets
}

/// What aggregating in the engine may cost of the rows' own scan.
const ROW_SHARE: f64 = 0.9;

/// Bytes that a key or an attribute of a dimension takes while it is read, apart from its value.
const ATTRIBUTE: f64 = 80.0;
/// The share of a query's memory that dimensions may have.
const DIMENSIONS_SHARE: f64 = 0.5;

/// What a step became.
struct Pushed<'p, 's> {
    fact: *mut pg_sys::RelOptInfo,
    input: *mut pg_sys::RelOptInfo,
    state: &'s RelationState,
    grouping: Grouping<'p, 's>,
    filters: Vec<FilterTemplate>,
    kept: Option<KeptTemplate>,
    found: Vec<Found>,
    drop_empty: bool,
    buckets: f64,
}

/// # Safety
/// The planner's own structures, alive during the call.
unsafe fn add_path(
    root: *mut pg_sys::PlannerInfo,
    output: *mut pg_sys::RelOptInfo,
    step: &Step<'_>,
    pushed: Pushed<'_, '_>,
) -> Result<(), Reason> {
    let Pushed { fact, input, state, mut grouping, filters, kept, found, drop_empty, buckets } = pushed;
    // SAFETY: the planner's own structures.
    unsafe {
        // The rows of dimensions: key and attributes.
        let (mut paths, mut looking_up): (*mut pg_sys::List, f64) = (std::ptr::null_mut(), 0.0);
        let mut bytes = 0.0;
        for (dimension, found) in grouping.builder.dimensions.iter().zip(&found) {
            let targets: Vec<Node<'_>> =
                dimension.keys.iter().map(|k| k.inner).chain(dimension.attributes.iter().copied()).collect();
            let path = subplan::path(root, found.relation, &targets).ok_or(subplan::NOT_PLANNED)?;
            let width = |n: &Node<'_>| f64::from(pg_sys::get_typavgwidth(n.ty(), n.typmod()));
            bytes += (*path).rows * targets.iter().map(|n| ATTRIBUTE + width(n)).sum::<f64>();
            looking_up += (*path).total_cost + (*path).rows * pg_sys::cpu_tuple_cost;
            paths = pg_sys::lappend(paths, path.cast());
        }
        let most = guc::query_memory_limit() as f64 * DIMENSIONS_SHARE;
        if bytes > most {
            return Err(format!(
                "the rows of the joined tables would take about {} MB, more than half of basalt.query_memory_limit",
                (bytes / 1e6).round()
            ));
        }
        let estimate = |wanted: &dyn Fn(usize) -> bool| {
            let keys = grouping.outputs.iter().filter(|o| matches!(o.target, Target::Key(key) if wanted(key)));
            let keys: Vec<Node<'_>> = keys.map(|o| o.expression).collect();
            if keys.is_empty() {
                return 1.0;
            }
            let (rows, none, flags) = ((*input).rows, std::ptr::null_mut(), std::ptr::null_mut());
            pg_sys::estimate_num_groups(root, node::make_list(keys), rows, none, flags)
        };
        let in_set = |set: &[usize]| {
            // No more groups than there are buckets for each combination of the other keys.
            let others = estimate(&|key| set.contains(&key) && matches!(grouping.keys[key], KeyTemplate::Column(_)));
            estimate(&|key| set.contains(&key)).min(others * buckets)
        };
        let groups: f64 = grouping.sets().iter().map(|set| in_set(set)).sum();
        let engine = looking_up + plan::engine_cost(state.segments.len(), state.rows() as f64);
        let outputs: Vec<_> = grouping.outputs.iter().map(|o| (o.expression, o.target)).collect();
        let Grouping { keys, aggregates, builder, .. } = &mut grouping;
        let (top, most) = order::top(root, step.stage, &outputs, keys, aggregates, builder).unzip();
        let groups = groups.min(most.flatten().unwrap_or(groups)).max(1.0);
        let total = engine + groups * pg_sys::cpu_tuple_cost * 0.5;
        // Whatever the estimates, handing out the rows to aggregate them elsewhere is never cheaper; the planner takes costs within a
        // hundredth for equal.
        let share = ((*(*input).cheapest_total_path).total_cost * ROW_SHARE / total).min(1.0);
        let (startup, total) = (engine * share, total * share);
        let (columns, dimensions) = plan::column_templates(&mut grouping.builder, root)?;
        let template = grouping.template(columns, dimensions, filters, kept, drop_empty, top);
        let mut scan_targets: *mut pg_sys::List = std::ptr::null_mut();
        for (i, output) in grouping.outputs.iter().enumerate() {
            let entry =
                pg_sys::makeTargetEntry(output.expression.as_ptr().cast(), i as i16 + 1, std::ptr::null_mut(), false);
            (*entry).ressortgroupref = output.sort_group;
            scan_targets = pg_sys::lappend(scan_targets, entry.cast());
        }
        // Behind the tuple's columns stand calls that are evaluated from values, and are no columns.
        for (_, call) in &grouping.localized {
            let number = (*scan_targets).length as i16 + 1;
            let entry = pg_sys::makeTargetEntry(call.as_ptr().cast(), number, std::ptr::null_mut(), false);
            scan_targets = pg_sys::lappend(scan_targets, entry.cast());
        }
        let mut private = plan::encode(&template);
        private = pg_sys::lappend(private, node::make_list(grouping.builder.expressions).cast());
        private = pg_sys::lappend(private, scan_targets.cast());
        private = pg_sys::lappend(private, node::make_list(step.having.iter().copied()).cast());
        private = pg_sys::lappend(private, paths.cast());
        // Of a join with other tables PostgreSQL knows no wrapper.
        (*output).serverid = (*fact).serverid;
        (*output).fdwroutine = (*fact).fdwroutine;
        let path = pg_sys::create_foreign_upper_path(
            root,
            output,
            step.target,
            groups,
            startup,
            total,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            private,
        );
        // The plan is told of the datasource alone: dimensions are scanned by their own plans, and EXPLAIN names them after the query.
        let parent = pg_sys::palloc(size_of::<pg_sys::RelOptInfo>()).cast::<pg_sys::RelOptInfo>();
        parent.copy_from_nonoverlapping(output, 1);
        (*parent).reloptkind = pg_sys::RelOptKind::RELOPT_OTHER_UPPER_REL;
        (*parent).relids = (*fact).relids;
        (*path).path.parent = parent;
        pg_sys::add_path(output, path.cast());
        Ok(())
    }
}

/// The plan of a path that `add_path` made.
///
/// # Safety
/// `path` is such a path, chosen by the planner.
pub unsafe fn plan(
    root: *mut pg_sys::PlannerInfo,
    path: *mut pg_sys::ForeignPath,
    target: *mut pg_sys::List,
) -> *mut pg_sys::ForeignScan {
    // SAFETY: `add_path` put five elements into the path's private list.
    unsafe {
        let parts: Vec<*mut pg_sys::List> = list::pointers((*path).fdw_private);
        let [text, expressions, scan_targets, having, paths] = parts.as_slice() else {
            Error::from(basalt_engine::Error::invalid("the path was not made by basalt")).raise();
        };
        let (plans, expressions) = plan::init_plans(root, list::pointers(*paths), *expressions);
        pg_sys::make_foreignscan(
            target,
            *having,
            0,
            expressions,
            plan::private((*text).cast(), &plans),
            *scan_targets,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    }
}
