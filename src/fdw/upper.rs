//! Aggregation above a scan, done by the engine.

use basalt_engine::plan::Filter;
use pgrx::prelude::*;
use pgrx::{PgSqlErrorCode, pg_sys};

use super::grouping::Grouping;
use super::order;
use super::plan::{self, RelationState};
use super::prune;
use crate::error::Error;
use crate::guc;
use crate::pg::list;
use crate::pg::node::{self, Node, View};
use crate::translate::filter::{self, Builder};
use crate::translate::shippable::Reason;
use crate::translate::template::{AggregateTemplate, FilterTemplate, Finish, Function, KeyTemplate, Target};
use crate::translate::time;

#[pg_guard]
pub unsafe extern "C-unwind" fn get_foreign_upper_paths(
    root: *mut pg_sys::PlannerInfo,
    stage: pg_sys::UpperRelationKind::Type,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    extra: *mut std::ffi::c_void,
) {
    // SAFETY: the planner's own structures; of a grouping `extra` is a GroupPathExtraData.
    unsafe {
        if !(*output).fdw_private.is_null() || pg_sys::is_dummy_rel(input) {
            // Nothing is scanned where a contradiction was found.
            return;
        }
        let query = (*root).parse;
        let state = RelationState::of(input);
        let (what, result) = match stage {
            pg_sys::UpperRelationKind::UPPERREL_GROUP_AGG => {
                let extra = extra.cast::<pg_sys::GroupPathExtraData>();
                let step = Step {
                    stage,
                    target: (*output).reltarget,
                    clauses: (*query).groupClause,
                    sets: (*query).groupingSets,
                    having: node::list((*extra).havingQual.cast()),
                };
                let result = match state {
                    Some(state) => translate(root, input, output, &step, state),
                    None => Err("it is over a join".to_owned()),
                };
                ("aggregation", result)
            }
            // Of what is aggregated, joined or numbered before, PostgreSQL makes distinct rows.
            pg_sys::UpperRelationKind::UPPERREL_DISTINCT => match state {
                Some(state) if !(*query).hasDistinctOn && !(*query).hasTargetSRFs => {
                    let target = (&(*root).upper_targets)[stage as usize];
                    let step = Step {
                        stage,
                        target,
                        clauses: (*query).distinctClause,
                        sets: std::ptr::null_mut(),
                        having: Vec::new(),
                    };
                    ("DISTINCT", translate(root, input, output, &step, state))
                }
                _ => return,
            },
            _ => return,
        };
        match result {
            Ok(()) => {}
            Err(reason) if guc::REQUIRE_PUSHDOWN.get() => {
                Error::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, format!("the {what} is not pushed down"))
                    .detail(format!("Reason: {reason}."))
                    .hint("Setting basalt.require_pushdown to off lets PostgreSQL do it, row by row.")
                    .raise();
            }
            Err(reason) => {
                if let Some(state) = state {
                    state.reasons.borrow_mut().push(format!("the {what} is done by PostgreSQL: {reason}"));
                }
            }
        }
    }
}

/// What a planner's step makes of a scan: groups of rows, of which GROUP BY or DISTINCT says how they are told apart.
struct Step<'p> {
    stage: pg_sys::UpperRelationKind::Type,
    target: *mut pg_sys::PathTarget,
    /// SortGroupClauses of the keys.
    clauses: *mut pg_sys::List,
    /// Integer lists of keys' references.
    sets: *mut pg_sys::List,
    having: Vec<Node<'p>>,
}

unsafe fn translate(
    root: *mut pg_sys::PlannerInfo,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    step: &Step<'_>,
    state: &RelationState,
) -> Result<(), Reason> {
    // SAFETY: the planner's own structures.
    unsafe {
        if let Some(reason) = state.local.first() {
            return Err(reason.clone());
        }
        if !(*input).lateral_relids.is_null() {
            return Err("it refers to another table".into());
        }
        let mut grouping = Grouping::new((*input).relid, &state.datasource, &state.segments);
        let mut filters = Vec::new();
        for rinfo in by_cost(root, list::pointers((*input).baserestrictinfo)) {
            filters.push(plan::push(&mut grouping.builder, rinfo, input)?);
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
        check_folds(root, input, &grouping)?;
        let buckets = count_buckets(root, input, &grouping.keys, &grouping.builder, state);
        let drop_empty = grouping.keys.is_empty() && !step.clauses.is_null() && step.sets.is_null();
        if drop_empty {
            grouping.aggregates.push(AggregateTemplate {
                function: Function::CountStar,
                filter: FilterTemplate::everything(),
                result: Finish::Int8,
                decimals: None,
            });
        }
        add_path(root, input, output, state, grouping, filters, step, drop_empty, buckets);
        Ok(())
    }
}

/// Cheap clauses first, as PostgreSQL orders those of a scan: an expensive one may raise errors of rows that another leaves out.
unsafe fn by_cost(
    root: *mut pg_sys::PlannerInfo,
    clauses: Vec<*mut pg_sys::RestrictInfo>,
) -> Vec<*mut pg_sys::RestrictInfo> {
    let mut costed: Vec<(f64, *mut pg_sys::RestrictInfo)> = clauses
        .into_iter()
        .map(|clause| {
            let mut cost = pg_sys::QualCost { startup: 0.0, per_tuple: 0.0 };
            // SAFETY: the planner's own structures.
            unsafe { pg_sys::cost_qual_eval_node(&mut cost, clause.cast(), root) }
            (cost.per_tuple, clause)
        })
        .collect();
    costed.sort_by(|a, b| a.0.total_cmp(&b.0));
    costed.into_iter().map(|(_, clause)| clause).collect()
}

/// How many buckets functions of time make of the times that are there, at most, as far as is known.
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
        let statistics = state.segments.iter().map(|s| &*s.statistics);
        let attribute = state.datasource.attributes.iter().position(|a| *a == Some(position)).unwrap_or(0) as i16 + 1;
        // SAFETY: the planner's own structures.
        let limits = unsafe {
            list::pointers::<pg_sys::RestrictInfo>((*input).baserestrictinfo)
                .into_iter()
                .filter_map(|r| Node::from_ptr((*r).clause))
                .map(|clause| filter::estimate(builder, clause, attribute, column.ty, &constant))
                .collect()
        };
        let Some((least, greatest)) = basalt_engine::plan::bounds(&Filter::And(limits), 0) else { continue };
        let mut count = 0i64;
        for (low, high) in prune::column_ranges(statistics, column.id, &builder.datasource.missing[position]) {
            let (low, high) = (low.max(least), high.min(greatest));
            if low > high {
                continue;
            }
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

/// What counting combinations takes however few there are.
const COLLECTING: f64 = 4e6;
/// Bytes that a collected combination of values takes, apart from the values, and those that each value takes.
const COMBINATION: f64 = 160.0;
const COLLECTED: f64 = 96.0;

/// Values that are collected for PostgreSQL must fit the query's memory.
unsafe fn check_folds(
    root: *mut pg_sys::PlannerInfo,
    input: *mut pg_sys::RelOptInfo,
    grouping: &Grouping<'_, '_>,
) -> Result<(), Reason> {
    let mut bytes = 0.0;
    for fold in &grouping.folds {
        let keys = grouping.outputs.iter().filter(|o| matches!(o.target, Target::Key(_))).map(|o| o.expression);
        let parts: Vec<Node<'_>> = keys.chain(fold.columns.iter().copied()).collect();
        if parts.is_empty() {
            continue;
        }
        let (none, flags) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: a syscache lookup.
        let width = |part: &Node<'_>| unsafe { pg_sys::get_typavgwidth(part.ty(), part.typmod()) };
        let width: f64 = parts.iter().map(|part| COLLECTED + f64::from(width(part))).sum();
        // SAFETY: the planner's own structures.
        let combinations =
            unsafe { pg_sys::estimate_num_groups(root, node::make_list(parts), (*input).rows, none, flags) };
        bytes += COLLECTING + combinations * (COMBINATION + width);
    }
    if bytes > guc::query_memory_limit() as f64 {
        return Err(format!(
            "collecting the values that PostgreSQL's aggregates need would take about {} MB, more than \
             basalt.query_memory_limit; restrict the rows or raise it",
            (bytes / 1e6).round()
        ));
    }
    Ok(())
}

/// What aggregating in the engine may cost of the rows' own scan.
const ROW_SHARE: f64 = 0.9;

#[allow(clippy::too_many_arguments)]
unsafe fn add_path(
    root: *mut pg_sys::PlannerInfo,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    state: &RelationState,
    mut grouping: Grouping<'_, '_>,
    filters: Vec<FilterTemplate>,
    step: &Step<'_>,
    drop_empty: bool,
    buckets: f64,
) {
    // SAFETY: the planner's own structures.
    unsafe {
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
        let engine = plan::engine_cost(state.segments.len(), state.rows() as f64);
        let outputs: Vec<_> = grouping.outputs.iter().map(|o| (o.expression, o.target)).collect();
        let Grouping { keys, aggregates, builder, .. } = &mut grouping;
        let (top, most) = order::top(root, step.stage, &outputs, keys, aggregates, builder).unzip();
        let groups = groups.min(most.flatten().unwrap_or(groups)).max(1.0);
        let total = engine + groups * pg_sys::cpu_tuple_cost * 0.5;
        // Whatever the estimates, handing out the rows to aggregate them elsewhere is never cheaper; the planner takes costs within a
        // hundredth for equal.
        let share = ((*(*input).cheapest_total_path).total_cost * ROW_SHARE / total).min(1.0);
        let (startup, total) = (engine * share, total * share);
        let columns = plan::column_templates(&grouping.builder, root, (*input).relid);
        let template = grouping.template(columns, filters, drop_empty, top);
        let mut scan_targets: *mut pg_sys::List = std::ptr::null_mut();
        for (i, output) in grouping.outputs.iter().enumerate() {
            let entry =
                pg_sys::makeTargetEntry(output.expression.as_ptr().cast(), i as i16 + 1, std::ptr::null_mut(), false);
            (*entry).ressortgroupref = output.sort_group;
            scan_targets = pg_sys::lappend(scan_targets, entry.cast());
        }
        let mut private = plan::encode(&template);
        private = pg_sys::lappend(private, node::make_list(grouping.builder.expressions).cast());
        private = pg_sys::lappend(private, scan_targets.cast());
        private = pg_sys::lappend(private, node::make_list(step.having.iter().copied()).cast());
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
        pg_sys::add_path(output, path.cast());
    }
}

/// The plan of a path that `add_path` made.
///
/// # Safety
/// `path` is such a path, chosen by the planner.
pub unsafe fn plan(path: *mut pg_sys::ForeignPath, target: *mut pg_sys::List) -> *mut pg_sys::ForeignScan {
    // SAFETY: `add_path` put four elements into the path's private list.
    unsafe {
        let parts: Vec<*mut pg_sys::List> = list::pointers((*path).fdw_private);
        let [text, expressions, scan_targets, having] = parts.as_slice() else {
            Error::from(basalt_engine::Error::invalid("the path was not made by basalt")).raise();
        };
        pg_sys::make_foreignscan(
            target,
            *having,
            0,
            *expressions,
            pg_sys::lappend(std::ptr::null_mut(), text.cast()),
            *scan_targets,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    }
}
