//! Which of the visible segments a query has to read.

use basalt_engine::TimeInterval;
use basalt_engine::plan::{self, ColumnRef, Filter};
use basalt_engine::segment::SegmentStatistics;
use basalt_engine::types::{ColumnId, LogicalType, MICROS_PER_DAY, Value};

use crate::catalog::segment::SegmentEntry;

/// How segments were left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pruned {
    pub considered: u64,
    pub by_time: u64,
    pub by_statistics: u64,
}

/// The segments that may hold rows which `filter` selects. `time`: position of the time column in the plan's columns, if it reads it.
pub fn prune<'s>(
    segments: &'s [SegmentEntry],
    filter: &Filter,
    columns: &[ColumnRef],
    time: Option<usize>,
) -> (Vec<&'s SegmentEntry>, Pruned) {
    let mut pruned = Pruned { considered: segments.len() as u64, ..Pruned::default() };
    let Some(within) = time_limits(filter, columns, time) else {
        pruned.by_time = pruned.considered;
        return (Vec::new(), pruned);
    };
    let mut kept = Vec::new();
    for segment in segments {
        if !holds_time(segment, &within) {
            pruned.by_time += 1;
        } else if !plan::may_select(filter, columns, &segment.statistics) {
            pruned.by_statistics += 1;
        } else {
            kept.push(segment);
        }
    }
    (kept, pruned)
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
    rows.overlaps(within) && !segment.visibility.intersection(within).is_empty()
}

/// Smallest and largest stored value of an I64 column in a segment.
pub fn column_range(statistics: &SegmentStatistics, id: ColumnId) -> Option<(i64, i64)> {
    let column = statistics.columns.iter().find(|c| c.id == id)?;
    match (&column.min, &column.max) {
        (Value::I64(low), Value::I64(high)) => Some((*low, *high)),
        _ => None,
    }
}

/// The stored values of I64 column `id` that segments may hold, as ascending, disjoint ranges with both ends inclusive.
pub fn column_ranges<'s>(
    segments: impl Iterator<Item = &'s SegmentStatistics>,
    id: ColumnId,
    missing: &Value,
) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = segments
        .filter_map(|statistics| match (column_range(statistics, id), missing) {
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
