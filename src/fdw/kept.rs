//! Outer joins with the datasource on the side that may be NULL. Rows of the other side that no row of the datasource matches are found by a
//! scan of the numbers of those that are matched; the rest become a segment of their own, whose columns are NULL but for these numbers.

use std::sync::Arc;

use basalt_engine::TimeRanges;
use basalt_engine::exec::SegmentScan;
use basalt_engine::plan::{ColumnRef, Filter, Key, Predicate, Test};
use basalt_engine::rows::RowBuffer;
use basalt_engine::segment::{BuildOptions, Segment, SegmentBuilder, SegmentBytes};
use basalt_engine::types::{Column, ColumnId, LogicalType, Schema, Value};

use super::keys;
use super::scan::{Inputs, Start};
use crate::error::{Error, Result};
use crate::translate::host::PgHost;

/// The column of unmatched rows' numbers; no datasource has one of this id.
const NUMBERS: ColumnId = ColumnId(u32::MAX - 1);
/// Rows between two looks at interrupts.
const STEP: usize = 1 << 16;

/// The column of the numbers of rows that nothing matches: NULL in the datasource's own.
pub fn unmatched() -> ColumnRef {
    ColumnRef::stored(NUMBERS, LogicalType::Int8, Value::Null)
}

/// Rows that nothing matches.
pub struct Unmatched {
    /// Its columns are the plan's, all but their numbers NULL.
    segment: Arc<Segment>,
    /// What selects among them.
    pub filter: Filter,
}

impl Unmatched {
    /// They as a query sees them.
    pub fn scan(&self) -> SegmentScan {
        SegmentScan { segment: self.segment.clone(), visibility: TimeRanges::all(), deleted: None }
    }
}

/// Adds the rows that nothing matches to what is scanned, if the plan asks for them.
pub fn complete(mut start: Start, inputs: &Inputs, host: &mut PgHost) -> Result<Start> {
    let (Some(kept), Some(above)) = (&inputs.template.kept, start.above.take()) else { return Ok(start) };
    let known = Filter::Test(Predicate { column: kept.matched, test: Test::IsNotNull });
    let found = keys::run(&start, inputs, known, vec![Key::Column(kept.matched)], Vec::new(), host)?;
    let rows = usize::try_from(inputs.dimensions.rows_of(kept.dimension)).unwrap_or(usize::MAX);
    let _memory = start.options.budget.reserve(rows)?;
    let mut is_matched = vec![false; rows];
    for row in found.keys.first().ok_or_else(malformed)?.values.iter() {
        if let Value::I64(row) = row
            && let Some(seen) = usize::try_from(row).ok().and_then(|row| is_matched.get_mut(row))
        {
            *seen = true;
        }
    }
    let segment = segment(inputs, &is_matched, &start)?;
    start.filter = Filter::And(vec![start.filter, above.clone()]);
    start.unmatched = segment.map(|segment| Unmatched { segment, filter: above });
    Ok(start)
}

/// A segment of the rows that are not matched; `None`: all are.
fn segment(inputs: &Inputs, is_matched: &[bool], start: &Start) -> Result<Option<Arc<Segment>>> {
    if is_matched.iter().all(|matched| *matched) {
        return Ok(None);
    }
    let mut columns: Vec<Column> = Vec::new();
    for column in inputs.columns.iter().filter(|c| c.computed.is_none()) {
        if !columns.iter().any(|c| c.id == column.id) {
            columns.push(Column { id: column.id, ty: column.ty, indexed: false });
        }
    }
    let numbers = columns.iter().position(|c| c.id == NUMBERS).ok_or_else(malformed)?;
    let width = columns.len();
    let schema = Arc::new(Schema { columns, time: None, cluster_by: Vec::new() });
    let mut rows = RowBuffer::new(schema.clone());
    let mut held = start.options.budget.reserve(0)?;
    for (row, matched) in is_matched.iter().enumerate() {
        if row % STEP == 0 {
            crate::pg::interrupts::check();
            held.resize(rows.memory())?;
        }
        if *matched {
            continue;
        }
        for column in (0..width).filter(|c| *c != numbers) {
            rows.push_null(column);
        }
        rows.push_i64(numbers, row as i64)?;
        rows.finish_row()?;
    }
    held.resize(0)?;
    let options = BuildOptions {
        budget: start.options.budget.clone(),
        cancel: start.options.cancel.clone(),
        spill_directory: None,
    };
    let mut builder = SegmentBuilder::new(schema, options);
    builder.append(rows)?;
    let mut bytes = Vec::new();
    builder.finish(&mut bytes)?;
    Ok(Some(Arc::new(Segment::open(SegmentBytes::Memory(bytes.into()))?)))
}

fn malformed() -> Error {
    basalt_engine::Error::invalid("the plan does not fit its outer join").into()
}
