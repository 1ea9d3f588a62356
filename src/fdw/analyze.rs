//! ANALYZE: evenly spaced rows as the sample. Planning does without it (see `estimate`); extended statistics and most common
//! values are what it adds.

use std::cmp::Ordering;

use basalt_engine::exec::{ExecOptions, RowExecution, SegmentScan};
use basalt_engine::plan::{ColumnRef, Filter, Host, HostPredicate, OrderId, RowQuery, Wake};
use basalt_engine::segment::BytesBlock;
use basalt_engine::{Budget, Error};
use pgrx::pg_sys::{self, Datum};
use pgrx::prelude::*;

use super::chunk::Column;
use super::rows::Output;
use crate::catalog::datasource::{self, Datasource};
use crate::catalog::{cache, list as segments, pending};
use crate::error::{OrRaise, Result};
use crate::guc;
use crate::pg::interrupts::{self, SignalsBlocked};
use crate::pg::settings::FixedSettings;

#[pg_guard]
pub unsafe extern "C-unwind" fn analyze_foreign_table(
    relation: pg_sys::Relation,
    function: *mut pg_sys::AcquireSampleRowsFunc,
    pages: *mut pg_sys::BlockNumber,
) -> bool {
    // SAFETY: PostgreSQL's out parameters and an open relation.
    unsafe {
        let datasource = datasource::open((*relation).rd_id).or_raise();
        let bytes: u64 = segments::visible(&datasource.id).iter().map(|s| s.bytes).sum();
        *pages = u32::try_from(bytes.div_ceil(u64::from(pg_sys::BLCKSZ))).unwrap_or(u32::MAX);
        *function = Some(acquire_sample_rows);
        true
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn acquire_sample_rows(
    relation: pg_sys::Relation,
    _level: std::ffi::c_int,
    rows: *mut pg_sys::HeapTuple,
    wanted: std::ffi::c_int,
    total: *mut f64,
    dead: *mut f64,
) -> std::ffi::c_int {
    // SAFETY: PostgreSQL's out parameters; `rows` has room for `wanted` tuples.
    unsafe {
        let datasource = datasource::open((*relation).rd_id).or_raise();
        let descriptor = (*relation).rd_att;
        let mut count = 0;
        let seen = sample(&datasource, usize::try_from(wanted).unwrap_or(0), &mut |values, nulls| {
            *rows.add(count) = pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            count += 1;
        })
        .or_raise();
        (*total, *dead) = (seen as f64, 0.0);
        count as std::ffi::c_int
    }
}

/// Hands at most `wanted` rows to `take`, as values and NULLs by attribute; returns how many rows there are.
fn sample(datasource: &Datasource, wanted: usize, take: &mut dyn FnMut(&mut [Datum], &mut [bool])) -> Result<u64> {
    pending::flush(&datasource.id)?;
    let segments = segments::visible(&datasource.id);
    let known = segments.rows();
    let step = known.div_ceil(wanted.max(1) as u64).max(1);
    let columns: Vec<ColumnRef> = datasource
        .schema
        .columns
        .iter()
        .zip(&datasource.missing)
        .map(|(c, missing)| ColumnRef::stored(c.id, c.ty, missing.clone()))
        .collect();
    let mut outputs: Vec<Output> =
        columns.iter().zip(&datasource.types).map(|(c, (ty, typmod))| Output::new(c.ty, *ty, *typmod)).collect();
    let query = RowQuery { output: (0..columns.len()).collect(), columns, filter: Filter::Const(true) };
    let cancel = interrupts::cancel();
    let budget = Budget::with_cancel(guc::query_memory_limit(), cancel.clone());
    let options = ExecOptions { threads: 1, budget, cancel };
    let mut execution = RowExecution::new(query, options)?;
    let width = datasource.attributes.len();
    let (mut seen, mut taken) = (0u64, 0usize);
    for entry in segments.iter() {
        let scan = SegmentScan {
            segment: cache::open(entry)?,
            visibility: entry.visibility.clone(),
            deleted: entry.deleted.clone(),
        };
        concluded(execution.start(scan, &mut Quiet))?;
        while let Some(batch) = concluded(execution.next(&mut Quiet))? {
            interrupts::check();
            let first = seen.next_multiple_of(step) - seen;
            for row in (first as usize..batch.rows).step_by(step as usize).take(wanted - taken) {
                let (mut values, mut nulls) = (vec![Datum::from(0usize); width], vec![true; width]);
                for (attribute, position) in datasource.attributes.iter().enumerate() {
                    let Some(position) = *position else { continue };
                    let _fixed = outputs[position].needs_fixed_settings().then(FixedSettings::new);
                    let mut column = Column::new(attribute);
                    outputs[position].convert(&batch.columns[position], row..row + 1, &mut column)?;
                    (values[attribute], nulls[attribute]) = (column.values[0], column.nulls[0]);
                }
                take(&mut values, &mut nulls);
                taken += 1;
            }
            seen += batch.rows as u64;
        }
    }
    Ok(seen)
}

fn concluded<T>(result: basalt_engine::Result<T>) -> Result<T> {
    if matches!(result, Err(Error::Canceled)) {
        interrupts::check();
    }
    Ok(result?)
}

/// A scan without filters asks nothing.
struct Quiet;

impl Host for Quiet {
    fn test(&mut self, _predicate: HostPredicate, _values: &BytesBlock) -> basalt_engine::Result<Vec<bool>> {
        Err(Error::invalid("no predicate was given"))
    }

    fn compare(&mut self, _order: OrderId, left: &[u8], right: &[u8]) -> Ordering {
        left.cmp(right)
    }

    fn poll(&mut self) -> basalt_engine::Result<()> {
        interrupts::poll()
    }

    fn before_spawn(&mut self) -> Wake {
        Box::new(SignalsBlocked::new())
    }
}
