//! Rows of a replace: what INSERT would have made pending rows of goes to new segments of the replace instead.

use std::cell::RefCell;
use std::sync::Arc;

use basalt_engine::TimeInterval;
use basalt_engine::rows::{ColumnData, RowBuffer};
use pgrx::PgSqlErrorCode;

use super::datasource::Datasource;
use super::publish::{self, Built};
use crate::error::{Error, Result};
use crate::guc;

struct Collector {
    datasource: Arc<Datasource>,
    within: TimeInterval,
    buffer: RowBuffer,
    /// Rows without a time: their segments are hidden by other rules.
    timeless: RowBuffer,
    built: Vec<Built>,
}

thread_local! {
    static COLLECTOR: RefCell<Option<Collector>> = const { RefCell::new(None) };
}

/// While it lives, rows inserted into the datasource are collected.
pub struct Collecting(());

impl Collecting {
    /// Rows must have a time in `within`. Errors: a replace is under way in this session (its query calls another).
    pub fn new(datasource: &Arc<Datasource>, within: TimeInterval) -> Result<Self> {
        COLLECTOR.with_borrow_mut(|collector| {
            if collector.is_some() {
                return Err(Error::new(
                    PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
                    "cannot replace rows while the query of another replace runs",
                ));
            }
            *collector = Some(Collector {
                datasource: datasource.clone(),
                within,
                buffer: RowBuffer::new(datasource.schema.clone()),
                timeless: RowBuffer::new(datasource.schema.clone()),
                built: Vec::new(),
            });
            Ok(Collecting(()))
        })
    }

    /// The segments of all rows collected.
    pub fn finish(self) -> Result<Vec<Built>> {
        let Some(mut collector) = COLLECTOR.take() else { return Ok(Vec::new()) };
        collector.build()?;
        Ok(collector.built)
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        COLLECTOR.take();
    }
}

/// Whether rows of the datasource are collected.
pub fn collects(datasource: &[u8; 16]) -> bool {
    COLLECTOR.with_borrow(|collector| collector.as_ref().is_some_and(|c| c.datasource.id == *datasource))
}

/// Takes rows if they are the replace's; `None`: they are not. Arguments as for pending rows.
pub fn insert(
    datasource: &Arc<Datasource>,
    count: usize,
    timeless: &dyn Fn(usize) -> bool,
    push: &mut dyn FnMut(usize, &mut RowBuffer) -> Result<()>,
) -> Option<Result<()>> {
    COLLECTOR.with_borrow_mut(|collector| {
        let collector = collector.as_mut().filter(|c| c.datasource.id == datasource.id)?;
        Some((0..count).try_for_each(|row| collector.insert(timeless(row), &mut |rows| push(row, rows))))
    })
}

impl Collector {
    fn insert(&mut self, timeless: bool, push: &mut dyn FnMut(&mut RowBuffer) -> Result<()>) -> Result<()> {
        let buffer = if timeless { &mut self.timeless } else { &mut self.buffer };
        if let Err(error) = push(buffer).and_then(|()| Ok(buffer.finish_row()?)) {
            buffer.abandon_row();
            return Err(error);
        }
        self.check_time(timeless)?;
        let rows = self.buffer.rows() + self.timeless.rows();
        let full =
            rows.is_multiple_of(32) && self.buffer.memory() + self.timeless.memory() >= guc::insert_memory_limit();
        if full || rows as u64 >= self.datasource.options.max_segment_rows {
            self.build()?;
        }
        Ok(())
    }

    /// The row pushed last lies in the range that is replaced.
    fn check_time(&self, timeless: bool) -> Result<()> {
        let Some(position) = self.datasource.schema.time else { return Ok(()) };
        let outside = |what: String| {
            Err(Error::new(PgSqlErrorCode::ERRCODE_CHECK_VIOLATION, "row is outside the range that is replaced")
                .detail(what)
                .hint(
                    "The query must select rows of the range only, from its start (inclusive) to its end (exclusive).",
                ))
        };
        if timeless {
            if self.within == TimeInterval::ALL {
                return Ok(());
            }
            return outside("Its time is NULL.".to_owned());
        }
        let ColumnData::I64(times) = &self.buffer.columns()[position].data else { return Ok(()) };
        let stored = times.last().copied().unwrap_or(0);
        let time = self.datasource.schema.columns[position].ty.to_micros(stored);
        if self.within.contains(time) {
            return Ok(());
        }
        let (type_oid, typmod) = self.datasource.types[position];
        let datum = crate::pg::values::Codec::new(type_oid, typmod).datum_of_i64(stored);
        outside(format!("Its time is {}.", crate::pg::values::output(type_oid, datum)))
    }

    fn build(&mut self) -> Result<()> {
        let schema = &self.datasource.schema;
        for buffer in [&mut self.buffer, &mut self.timeless] {
            if !buffer.is_empty() {
                let rows = std::mem::replace(buffer, RowBuffer::new(schema.clone()));
                self.built.push(publish::build(schema.clone(), rows)?);
            }
        }
        Ok(())
    }
}
