//! Rows of a replace: what INSERT would have made pending rows of goes to new segments of the replace instead.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use basalt_engine::TimeInterval;
use basalt_engine::rows::{ColumnData, RowBuffer};
use basalt_engine::segment::Gathered;
use pgrx::PgSqlErrorCode;

use super::datasource::Datasource;
use super::pending;
use super::publish::{self, Built};
use crate::error::{Error, Result};

struct Collector {
    datasource: Arc<Datasource>,
    within: TimeInterval,
    rows: Gathered,
    /// Rows without a time: their segments are hidden by other rules.
    timeless: Gathered,
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
                rows: Gathered::new(datasource.schema.clone()),
                timeless: Gathered::new(datasource.schema.clone()),
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
    push: &mut dyn FnMut(Range<usize>, &mut RowBuffer) -> Result<()>,
) -> Option<Result<()>> {
    COLLECTOR.with_borrow_mut(|collector| {
        let collector = collector.as_mut().filter(|c| c.datasource.id == datasource.id)?;
        Some((0..count).try_for_each(|row| collector.insert(timeless(row), &mut |rows| push(row..row + 1, rows))))
    })
}

impl Collector {
    fn insert(&mut self, timeless: bool, push: &mut dyn FnMut(&mut RowBuffer) -> Result<()>) -> Result<()> {
        let before = self.rows.rows() + self.timeless.rows();
        let (datasource, within) = (&self.datasource, &self.within);
        let gathered = if timeless { &mut self.timeless } else { &mut self.rows };
        gathered.push(|rows| {
            push(rows)?;
            check_time(datasource, within, timeless, rows)
        })?;
        if pending::is_full(&[&self.rows, &self.timeless], before, &self.datasource) {
            self.build()?;
        }
        Ok(())
    }

    fn build(&mut self) -> Result<()> {
        for gathered in [&mut self.rows, &mut self.timeless] {
            if !gathered.is_empty() {
                let rows = std::mem::replace(gathered, Gathered::new(self.datasource.schema.clone()));
                self.built.push(publish::build(rows)?);
            }
        }
        Ok(())
    }
}

/// The row pushed last lies in the range that is replaced.
fn check_time(datasource: &Datasource, within: &TimeInterval, timeless: bool, rows: &RowBuffer) -> Result<()> {
    let Some(position) = datasource.schema.time else { return Ok(()) };
    let outside = |what: String| {
        Err(Error::new(PgSqlErrorCode::ERRCODE_CHECK_VIOLATION, "row is outside the range that is replaced")
            .detail(what)
            .hint("The query must select rows of the range only, from its start (inclusive) to its end (exclusive)."))
    };
    if timeless {
        if *within == TimeInterval::ALL {
            return Ok(());
        }
        return outside("Its time is NULL.".to_owned());
    }
    let ColumnData::I64(times) = &rows.columns()[position].data else { return Ok(()) };
    let stored = times.last().copied().unwrap_or(0);
    let time = datasource.schema.columns[position].ty.to_micros(stored);
    if within.contains(time) {
        return Ok(());
    }
    let (type_oid, typmod) = datasource.types[position];
    let datum = crate::pg::values::Codec::new(type_oid, typmod).datum_of_i64(stored);
    outside(format!("Its time is {}.", crate::pg::values::output(type_oid, datum)))
}
