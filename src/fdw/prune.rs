//! Which of the visible segments a query has to read.

use std::rc::Rc;

use basalt_engine::plan::{self, Bound, ColumnRef, Filter, Test};
use basalt_engine::segment::SegmentStatistics;
use basalt_engine::types::{ColumnId, LogicalType, MICROS_PER_DAY, Value};
use basalt_engine::{TimeInterval, prefix};

use crate::catalog::list::SegmentList;
use crate::catalog::segment::SegmentEntry;

/// How segments were left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pruned {
    pub considered: u64,
    pub by_time: u64,
    pub by_statistics: u64,
}

/// The segments that may hold rows which `filter` selects. `time`: position of the time column in the plan's columns, if it reads it.
pub fn prune(
    segments: &SegmentList,
    filter: &Filter,
    columns: &[ColumnRef],
    time: Option<usize>,
) -> (Vec<SegmentEntry>, Pruned) {
    let mut pruned = Pruned { considered: segments.len() as u64, ..Pruned::default() };
    let Some(within) = time_limits(filter, columns, time) else {
        pruned.by_time = pruned.considered;
        return (Vec::new(), pruned);
    };
    let windows = windows(filter, columns, segments);
    let mut kept = Vec::new();
    let (mut looked_at, mut by_time) = (0, 0);
    for at in segments.timeless().chain(segments.around(&within)) {
        looked_at += 1;
        if !windows.iter().all(|window| window.may_hold(at)) {
            continue;
        }
        let segment = &segments[at];
        if !holds_time(segment, &within) {
            by_time += 1;
        } else if plan::may_select(filter, columns, &segment.statistics) {
            kept.push(segment.clone());
        }
    }
    pruned.by_time = pruned.considered - looked_at + by_time;
    pruned.by_statistics = looked_at - by_time - kept.len() as u64;
    (kept, pruned)
}

/// Ranks of a column's least and greatest values, segment by segment: numbers in the order of the values, so that most segments are
/// left out without touching their statistics. `None`: the values are not all of one kind.
struct Ranks(Option<Kind>, Vec<(i64, i64)>);

type Kind = std::mem::Discriminant<Value>;

/// A conjunct of the filter: what a segment's ranks must overlap.
struct Window {
    ranks: Rc<Ranks>,
    low: i64,
    high: i64,
}

impl Window {
    fn may_hold(&self, at: usize) -> bool {
        let (low, high) = self.ranks.1[at];
        low <= self.high && high >= self.low
    }
}

/// Ascends with the value: as `plan::may_select` compares them.
fn rank(value: &Value) -> Option<i64> {
    Some(match value {
        Value::Null => return None,
        Value::I64(v) => *v,
        Value::I128(v) => (*v).clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64,
        Value::F64(v) if v.is_nan() => i64::MAX,
        Value::F64(v) => {
            let bits = if *v == 0.0 { 0 } else { v.to_bits() as i64 };
            bits ^ (((bits >> 63) as u64) >> 1) as i64
        }
        Value::Bytes(v) => (u64::from_be_bytes(prefix(v)) ^ 1 << 63) as i64,
    })
}

impl Ranks {
    fn of(segments: &[SegmentEntry], id: ColumnId) -> Ranks {
        let mut kind = None;
        let mut ranks = Vec::with_capacity(segments.len());
        for segment in segments {
            let known = segment.statistics.columns.iter().find(|c| c.id == id);
            let limits = known.and_then(|c| Some((c, rank(&c.min)?, rank(&c.max)?)));
            let Some((column, low, high)) = limits else {
                ranks.push((i64::MIN, i64::MAX));
                continue;
            };
            let this = std::mem::discriminant(&column.min);
            if *kind.get_or_insert(this) != this || std::mem::discriminant(&column.max) != this {
                return Ranks(None, Vec::new());
            }
            ranks.push((low, high));
        }
        Ranks(kind, ranks)
    }
}

fn windows(filter: &Filter, columns: &[ColumnRef], segments: &SegmentList) -> Vec<Window> {
    let parts = match filter {
        Filter::And(parts) => parts.as_slice(),
        other => std::slice::from_ref(other),
    };
    parts.iter().filter_map(|part| window(part, columns, segments)).collect()
}

fn window(part: &Filter, columns: &[ColumnRef], segments: &SegmentList) -> Option<Window> {
    let Filter::Test(predicate) = part else { return None };
    let column = columns.get(predicate.column).filter(|c| c.computed.is_none())?;
    let limits;
    let operands: Vec<&Value> = match &predicate.test {
        Test::In(values) => values.iter().collect(),
        Test::Within(ranges) => {
            let (first, last) = (ranges.first()?, ranges.last()?);
            limits = [Value::I64(first.0), Value::I64(last.1)];
            limits.iter().collect()
        }
        Test::Range { low, high } => [low, high]
            .into_iter()
            .filter_map(|bound| match bound {
                Bound::Unbounded => None,
                Bound::Included(value) | Bound::Excluded(value) => Some(value),
            })
            .collect(),
        _ => return None,
    };
    let ranks = segments.facts(column.id, |segments| Ranks::of(segments, column.id));
    let kind = ranks.0?;
    if operands.is_empty() || operands.iter().any(|v| std::mem::discriminant(*v) != kind) {
        return None;
    }
    let (least, greatest) =
        operands.iter().filter_map(|v| rank(v)).fold((i64::MAX, i64::MIN), |(l, h), r| (l.min(r), h.max(r)));
    let (low, high) = match &predicate.test {
        Test::Range { low: Bound::Unbounded, .. } => (i64::MIN, greatest),
        Test::Range { high: Bound::Unbounded, .. } => (least, i64::MAX),
        // Both bounds, perhaps the wrong way round, which selects nothing: left to the statistics.
        _ => (least, greatest),
    };
    Some(Window { ranks, low, high })
}

/// The times that the filter lets through; `None`: no row at all.
fn time_limits(filter: &Filter, columns: &[ColumnRef], time: Option<usize>) -> Option<TimeInterval> {
    let Some(time) = time else {
        return if *filter == Filter::Const(false) { None } else { Some(TimeInterval::ALL) };
    };
    let (low, high) = plan::bounds(filter, time)?;
    let (start, last) = match columns[time].ty {
        LogicalType::Date => (low.saturating_mul(MICROS_PER_DAY), high.saturating_mul(MICROS_PER_DAY)),
        _ => (low, high),
    };
    // Infinite dates are stored as i32's limits, and visible as infinite times.
    let start = if columns[time].ty == LogicalType::Date && low <= i64::from(i32::MIN) { i64::MIN } else { start };
    let end = if columns[time].ty == LogicalType::Date && high >= i64::from(i32::MAX) {
        i64::MAX
    } else {
        last.saturating_add(1)
    };
    Some(TimeInterval::new(start, end))
}

fn holds_time(segment: &SegmentEntry, within: &TimeInterval) -> bool {
    if *within == TimeInterval::ALL {
        return !segment.visibility.is_empty();
    }
    // Without times in it, NULLs are all there is: left to the column's statistics.
    let Some((min, max)) = segment.statistics.time else { return true };
    let rows = TimeInterval::new(min, max.saturating_add(1));
    rows.overlaps(within) && segment.visibility.overlaps(within)
}

/// Smallest and largest stored value of an I64 column in a segment.
pub fn column_range(statistics: &SegmentStatistics, id: ColumnId) -> Option<(i64, i64)> {
    let column = statistics.columns.iter().find(|c| c.id == id)?;
    match (&column.min, &column.max) {
        (Value::I64(low), Value::I64(high)) => Some((*low, *high)),
        _ => None,
    }
}

/// The stored values of an I64 column that segments may hold, as ascending, disjoint ranges with both ends inclusive.
pub fn column_ranges(segments: &[SegmentEntry], column: &ColumnRef) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = segments
        .iter()
        .filter_map(|segment| match (column_range(&segment.statistics, column.id), &column.missing) {
            (Some(range), _) => Some(range),
            (None, Value::I64(value)) => Some((*value, *value)),
            (None, _) => None,
        })
        .collect();
    ranges.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match joined.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => joined.push((low, high)),
        }
    }
    joined
}
