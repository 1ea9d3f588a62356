//! The planner's statistics of a datasource's columns, from its segments: no ANALYZE is needed.
//!
//! PostgreSQL asks a hook for a column's `pg_statistic` row before it looks for one. The row made here holds the share of NULLs, the
//! number of distinct values and, where stored order is SQL order, a histogram from the segments' smallest and largest values.

use std::cell::Cell;
use std::cmp::Ordering::{Equal, Greater, Less};
use std::collections::HashSet;

use basalt_engine::segment::SegmentStatistics;
use basalt_engine::types::{ColumnId, LogicalType, Value};
use pgrx::pg_sys::{self, Datum};
use pgrx::prelude::*;

use super::plan::{self, RelationState};
use crate::catalog::list::SegmentList;
use crate::pg::list;
use crate::pg::memory::InContext;
use crate::pg::values::Codec;

/// `pg_statistic`'s columns (`pg_statistic.h`): six, then five slots' kinds, operators, collations, numbers and values.
const COLUMNS: usize = 31;
const SLOTS: usize = 5;
const FIRST_KIND: usize = 6;
const FIRST_OPERATOR: usize = FIRST_KIND + SLOTS;
const FIRST_COLLATION: usize = FIRST_OPERATOR + SLOTS;
const FIRST_NUMBERS: usize = FIRST_COLLATION + SLOTS;
const FIRST_VALUES: usize = FIRST_NUMBERS + SLOTS;
const KIND_HISTOGRAM: i16 = 2;

thread_local! {
    static PREVIOUS: Cell<pg_sys::get_relation_stats_hook_type> = const { Cell::new(None) };
}

/// Installs the hook; once a process.
pub fn register() {
    // SAFETY: hooks are set while the library is loaded, by the only thread there is.
    unsafe {
        PREVIOUS.set(pg_sys::get_relation_stats_hook);
        pg_sys::get_relation_stats_hook = Some(relation_statistics);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_statistics(
    root: *mut pg_sys::PlannerInfo,
    entry: *mut pg_sys::RangeTblEntry,
    attribute: pg_sys::AttrNumber,
    variable: *mut pg_sys::VariableStatData,
) -> bool {
    // SAFETY: the planner's own structures; the tuple lives in the planner's memory.
    unsafe {
        if let Some(state) = state_of(root, entry)
            && let Some(tuple) = state.column_statistics(attribute)
        {
            (*variable).statsTuple = tuple;
            (*variable).freefunc = Some(keep);
            let user =
                if (*entry).checkAsUser == pg_sys::InvalidOid { pg_sys::GetUserId() } else { (*entry).checkAsUser };
            (*variable).acl_ok =
                pg_sys::pg_class_aclcheck((*entry).relid, user, pg_sys::ACL_SELECT) == pg_sys::AclResult::ACLCHECK_OK;
            return true;
        }
        match PREVIOUS.get() {
            Some(previous) => pg_sys::ffi::pg_guard_ffi_boundary(|| previous(root, entry, attribute, variable)),
            None => false,
        }
    }
}

/// Statistics are kept for the next question about the same column.
#[pg_guard]
unsafe extern "C-unwind" fn keep(_tuple: pg_sys::HeapTuple) {}

/// # Safety
/// The planner's own structures, alive during the call.
unsafe fn state_of<'a>(root: *mut pg_sys::PlannerInfo, entry: *mut pg_sys::RangeTblEntry) -> Option<&'a RelationState> {
    // SAFETY: the planner's arrays have `simple_rel_array_size` elements, some null.
    unsafe {
        if (*entry).relkind as u8 != pg_sys::RELKIND_FOREIGN_TABLE || (*root).simple_rel_array.is_null() {
            return None;
        }
        for i in 1..(*root).simple_rel_array_size as usize {
            let relation = *(*root).simple_rel_array.add(i);
            if *(*root).simple_rte_array.add(i) == entry && !relation.is_null() {
                return plan::is_ours(relation).then(|| RelationState::of(relation)).flatten();
            }
        }
        None
    }
}

impl RelationState {
    /// A `pg_statistic` row, made once; `None` for system columns and empty tables.
    fn column_statistics(&self, attribute: i16) -> Option<pg_sys::HeapTuple> {
        let at = usize::try_from(attribute).ok().filter(|a| *a > 0)? - 1;
        let position = (*self.datasource.attributes.get(at)?)?;
        if self.rows() == 0 {
            return None;
        }
        if let Some(known) = self.statistics.borrow().get(&attribute) {
            return Some(*known);
        }
        let column = &self.datasource.schema.columns[position];
        let summary = self
            .segments
            .estimate(column.id, |segments| Summary::of(segments.iter().map(|s| &*s.statistics), column.id, column.ty));
        let (declared, typmod) = self.datasource.types[position];
        // SAFETY: the state's memory context is the planner's and lives as long as the state.
        let tuple = unsafe {
            let _guard = InContext::new(self.context);
            statistic_tuple(&summary, self.datasource.relation, attribute, column.ty, declared, typmod)
        };
        self.statistics.borrow_mut().insert(attribute, tuple);
        Some(tuple)
    }
}

/// The least number of rows that a scan is taken to return, for the planner: what a range selects of the largest segment when nothing is known
/// of where in the segment's range its values lie (one far value can stretch it). Equality and the like are estimated by distinct values.
///
/// # Safety
/// `root` and `relation` are the planner's.
pub unsafe fn floor(root: *mut pg_sys::PlannerInfo, relation: *mut pg_sys::RelOptInfo, segments: &SegmentList) -> f64 {
    /// PostgreSQL's DEFAULT_RANGE_INEQ_SEL.
    const RANGE: f64 = 0.005;
    // SAFETY: the caller's contract.
    unsafe {
        let (mut others, mut ranges): (*mut pg_sys::List, bool) = (std::ptr::null_mut(), false);
        for rinfo in list::pointers::<pg_sys::RestrictInfo>((*relation).baserestrictinfo) {
            if is_range((*rinfo).clause.cast()) {
                ranges = true;
            } else {
                others = pg_sys::lappend(others, rinfo.cast());
            }
        }
        if !ranges {
            return 0.0;
        }
        let inner = pg_sys::JoinType::JOIN_INNER;
        let share = pg_sys::clauselist_selectivity(root, others, 0, inner, std::ptr::null_mut());
        let largest = segments.largest() as f64;
        (largest * share * RANGE).floor()
    }
}

/// Whether a clause is `<`, `<=`, `>` or `>=`.
///
/// # Safety
/// `clause` is null or a node of the planner's.
unsafe fn is_range(clause: *mut pg_sys::Node) -> bool {
    // SAFETY: a node of the planner's; the tag says which.
    unsafe {
        if clause.is_null() || (*clause).type_ != pg_sys::NodeTag::T_OpExpr {
            return false;
        }
        let estimator = pg_sys::get_oprrest((*clause.cast::<pg_sys::OpExpr>()).opno).to_u32();
        matches!(
            estimator,
            pg_sys::F_SCALARLTSEL | pg_sys::F_SCALARLESEL | pg_sys::F_SCALARGTSEL | pg_sys::F_SCALARGESEL
        )
    }
}

/// What all segments together say about a column.
struct Summary {
    rows: u64,
    nulls: u64,
    distinct: f64,
    /// Bounds of buckets of about equally many values, where every segment that has values knows its smallest and largest.
    bounds: Vec<Value>,
}

impl Summary {
    fn of<'a>(segments: impl Iterator<Item = &'a SegmentStatistics>, id: ColumnId, ty: LogicalType) -> Summary {
        let mut summary = Summary { rows: 0, nulls: 0, distinct: 0.0, bounds: Vec::new() };
        let mut limits: Option<(Value, Value)> = None;
        let mut spans: Vec<Span<'_>> = Vec::new();
        let (mut largest, mut sum, mut lengths, mut unknown) = (0.0f64, 0.0f64, 0.0f64, false);
        let mut ends: HashSet<&[u8]> = HashSet::new();
        let mut counts: Vec<f64> = Vec::new();
        for segment in segments {
            summary.rows += segment.rows;
            let Some(column) = segment.columns.iter().find(|c| c.id == id) else {
                summary.nulls += segment.rows;
                continue;
            };
            summary.nulls += column.nulls;
            let values = segment.rows.saturating_sub(column.nulls);
            if values == 0 {
                continue;
            }
            let distinct = if column.distinct == 0 { values as f64 } else { column.distinct.min(values) as f64 };
            largest = largest.max(distinct);
            sum += distinct;
            counts.push(distinct);
            if column.min.is_null() || column.max.is_null() {
                unknown = true;
                continue;
            }
            for end in [&column.min, &column.max] {
                if let Value::Bytes(bytes) = end {
                    ends.insert(bytes);
                }
            }
            lengths += length(&column.min, &column.max).unwrap_or(0.0);
            let even = has_between(&column.min, &column.max, ty);
            spans.push(Span { min: &column.min, max: &column.max, values: values as f64, even });
            limits = Some(match limits.take() {
                None => (column.min.clone(), column.max.clone()),
                Some((low, high)) => (
                    if less(&column.min, &low) { column.min.clone() } else { low },
                    if less(&high, &column.max) { column.max.clone() } else { high },
                ),
            });
        }
        // Segments that share a range share values; those side by side don't.
        let whole = limits.as_ref().and_then(|(low, high)| length(low, high));
        let apart = match whole {
            Some(whole) if lengths > 0.0 => (whole / lengths).clamp(0.0, 1.0),
            _ if largest > 0.0 && summary.rows as f64 / sum < 2.0 => 1.0,
            _ => 0.0,
        };
        // Different smallest and largest strings are different values at least.
        summary.distinct = (largest + (sum - largest) * apart).max(ends.len() as f64);
        if let Some(whole) = whole {
            // As if every segment had drawn its values at random from the whole range.
            let missed: f64 = counts.iter().map(|c| 1.0 - (c / whole).min(1.0)).product();
            summary.distinct = summary.distinct.max(whole * (1.0 - missed)).min(whole);
        }
        if let (Some((low, high)), false) = (limits, unknown) {
            summary.bounds = histogram(&spans, low, high);
        }
        summary
    }
}

/// A segment's share in a column's values.
struct Span<'a> {
    min: &'a Value,
    max: &'a Value,
    values: f64,
    /// Whether there are values in between; else half are taken to be at either limit.
    even: bool,
}

/// Not between byte strings, nor up to an infinite time, where no time is one that functions take.
fn has_between(min: &Value, max: &Value, ty: LogicalType) -> bool {
    match (min, max) {
        (Value::Bytes(_), _) => false,
        (Value::I64(min), Value::I64(max)) if ty.is_time() => {
            let (first, last) = ty.infinities();
            *min > first && *max < last
        }
        _ => true,
    }
}

/// Buckets of a histogram, as many as ANALYZE makes by default.
const BUCKETS: usize = 100;
/// Segments that are looked at; of more, every n-th.
const SPANS: usize = 1_000;

/// Bounds of buckets that hold about equally many values, if each segment's are spread evenly between its limits. The first and
/// the last bound are `low` and `high`. One far value spoils only its own segment's share.
fn histogram(spans: &[Span<'_>], low: Value, high: Value) -> Vec<Value> {
    let spans: Vec<&Span<'_>> = spans.iter().step_by(spans.len().div_ceil(SPANS)).collect();
    let total: f64 = spans.iter().map(|s| s.values).sum();
    let mut points: Vec<(Value, f64)> = Vec::new();
    for span in spans {
        let parts = if span.even { (span.values / total * BUCKETS as f64).ceil().max(1.0) as usize } else { 1 };
        let weight = span.values / (parts + 1) as f64;
        points.extend((0..=parts).map(|i| (between(span.min, span.max, i as f64 / parts as f64), weight)));
    }
    points.sort_by(|(a, _), (b, _)| {
        if less(a, b) {
            Less
        } else if less(b, a) {
            Greater
        } else {
            Equal
        }
    });
    let step = total / BUCKETS as f64;
    let (mut bounds, mut passed) = (vec![low], 0.0);
    for (value, weight) in points {
        passed += weight;
        while passed >= step * bounds.len() as f64 && bounds.len() < BUCKETS {
            bounds.push(value.clone());
        }
    }
    bounds.push(high);
    bounds
}

/// The value at a share of the way from one to another; of byte strings one of the two.
fn between(low: &Value, high: &Value, share: f64) -> Value {
    match (low, high) {
        _ if share <= 0.0 => low.clone(),
        _ if share >= 1.0 => high.clone(),
        (Value::I64(a), Value::I64(b)) => {
            Value::I64(a.saturating_add(((*b as f64 - *a as f64) * share) as i64).clamp(*a, *b))
        }
        (Value::I128(a), Value::I128(b)) => {
            Value::I128(a.saturating_add(((*b as f64 - *a as f64) * share) as i128).clamp(*a, *b))
        }
        (Value::F64(a), Value::F64(b)) if a.is_finite() && b.is_finite() => {
            Value::F64(a + (b / 2.0 - a / 2.0) * share * 2.0)
        }
        _ if share < 0.5 => low.clone(),
        _ => high.clone(),
    }
}

/// How many integers there are between two, both inclusive.
fn length(low: &Value, high: &Value) -> Option<f64> {
    match (low, high) {
        (Value::I64(low), Value::I64(high)) => Some(*high as f64 - *low as f64 + 1.0),
        _ => None,
    }
}

fn less(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::I64(a), Value::I64(b)) => a < b,
        (Value::I128(a), Value::I128(b)) => a < b,
        (Value::F64(a), Value::F64(b)) => a < b || (b.is_nan() && !a.is_nan()),
        (Value::Bytes(a), Value::Bytes(b)) => a < b,
        _ => false,
    }
}

/// # Safety
/// The column is one of the relation's, of type `declared`.
unsafe fn statistic_tuple(
    summary: &Summary,
    relation: pg_sys::Oid,
    attribute: i16,
    ty: LogicalType,
    declared: pg_sys::Oid,
    typmod: i32,
) -> pg_sys::HeapTuple {
    let rows = summary.rows.max(1) as f64;
    let distinct = summary.distinct.max(1.0);
    // More than a tenth of the rows: the number grows with them, which PostgreSQL writes as a negative share.
    let distinct = if distinct > rows / 10.0 { -(distinct / rows).min(1.0) } else { distinct };
    let mut values = [Datum::from(0usize); COLUMNS];
    let mut nulls = [false; COLUMNS];
    values[0] = Datum::from(relation);
    values[1] = Datum::from(attribute);
    values[3] = Datum::from(((summary.nulls as f64 / rows) as f32).to_bits());
    // SAFETY: plain lookups; the arrays are as long as the catalog is wide; the relation is closed again.
    unsafe {
        values[4] = Datum::from(pg_sys::get_typavgwidth(declared, typmod));
        values[5] = Datum::from((distinct as f32).to_bits());
        for slot in 0..SLOTS {
            nulls[FIRST_NUMBERS + slot] = true;
            nulls[FIRST_VALUES + slot] = true;
        }
        if let [low, .., high] = summary.bounds.as_slice()
            && less(low, high)
            && ordered_as_stored(ty)
        {
            let entry = pg_sys::lookup_type_cache(declared, pg_sys::TYPECACHE_LT_OPR as i32);
            let mut codec = Codec::with_type(ty, declared, typmod);
            let bounds: Option<Vec<Datum>> = summary
                .bounds
                .iter()
                .map(|b| codec.to_datum(b).ok().filter(|(_, null)| !null).map(|(d, _)| d))
                .collect();
            if let Some(mut bounds) = bounds
                && (*entry).lt_opr != pg_sys::InvalidOid
            {
                let (mut length, mut by_value, mut align) = (0, false, 0);
                pg_sys::get_typlenbyvalalign(declared, &mut length, &mut by_value, &mut align);
                let count = bounds.len() as i32;
                let array =
                    pg_sys::construct_array(bounds.as_mut_ptr(), count, declared, i32::from(length), by_value, align);
                values[FIRST_KIND] = Datum::from(KIND_HISTOGRAM);
                values[FIRST_OPERATOR] = Datum::from((*entry).lt_opr);
                values[FIRST_VALUES] = Datum::from(array);
                nulls[FIRST_VALUES] = false;
            }
        }
        let lock = pg_sys::AccessShareLock as i32;
        let catalog = pg_sys::table_open(pg_sys::StatisticRelationId, lock);
        let tuple = pg_sys::heap_form_tuple((*catalog).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::table_close(catalog, lock);
        tuple
    }
}

/// Whether the order of stored values is that of the type's `<`, without a collation.
fn ordered_as_stored(ty: LogicalType) -> bool {
    use LogicalType::*;
    matches!(ty, Int2 | Int4 | Int8 | Float4 | Float8 | Numeric { .. } | Date | Timestamp | TimestampTz | Uuid | Bytea)
}
