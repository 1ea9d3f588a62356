//! From row buffers to a segment file.

use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::SegmentStatistics;
use super::column::{Block, BlockData, BlockSource, Push, Values, too_long, write_codes, write_values};
use super::file::PartWriter;
use super::footer::{Footer, header};
use super::gather::{Gathered, check_rows};
use super::held::{Held, HeldColumn, HeldRows};
use super::sort::{self, Order};
use super::{ColumnKind, ColumnStatistics, Segment, merge_runs, spill};
use crate::rows::RowBuffer;
use crate::types::{Column, LogicalType, Schema, Value};
use crate::{Budget, Cancel, Error, Reservation, Result};

/// Rows between two looks at whether the work is to end.
const LOOK: usize = 1 << 16;

/// How a segment is built. Equal rows in equal order with equal options (but for `budget`,
/// `spill_directory` and `threads`) give equal bytes.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    pub budget: Budget,
    pub cancel: Cancel,
    /// Where sorted runs go when the budget is short; `None`: fail with `Error::Budget` instead.
    pub spill_directory: Option<PathBuf>,
}

/// Rows that a segment holds at most: `u32::MAX` marks a missing row, and counts of rows are `u32`.
pub(crate) const MAX_ROWS: usize = u32::MAX as usize - 1;

/// Sorts rows by `schema.cluster_by` and time (stable), chooses encodings, writes the file.
///
/// Rows are held until more come when a quarter of the budget is used; then they become a sorted run in
/// `spill_directory`, and the runs are merged in the end.
pub struct SegmentBuilder {
    options: BuildOptions,
    held: HeldRows,
    reservation: Option<Reservation>,
    runs: Vec<Segment>,
    spilled: usize,
}

impl SegmentBuilder {
    pub fn new(schema: Arc<Schema>, options: BuildOptions) -> Self {
        SegmentBuilder { options, held: HeldRows::new(schema), reservation: None, runs: Vec::new(), spilled: 0 }
    }

    /// One that has these rows. Errors: `Budget`, `Io` (spilling), `Invalid` for more rows than a segment may hold.
    pub fn of(rows: Gathered, options: BuildOptions) -> Result<Self> {
        let mut builder = SegmentBuilder::new(rows.schema().clone(), options);
        builder.held = rows.into_held()?;
        builder.fit()?;
        Ok(builder)
    }

    /// Takes the rows over. Errors: `Budget`, `Io` (spilling), `Canceled`.
    pub fn append(&mut self, rows: RowBuffer) -> Result<()> {
        self.options.cancel.check()?;
        check_schema(&self.held.schema)?;
        check_rows(self.spilled + self.held.rows() + rows.rows())?;
        // What comes in one piece is not split into runs: it is in memory, and merging costs more than building.
        let much = self.held.memory() > self.options.budget.limit() / 4 && self.options.spill_directory.is_some();
        if much || self.reserve(rows.memory()).is_err() {
            self.spill()?;
            self.reserve(rows.memory())?;
        }
        self.held.take(rows)?;
        self.fit()
    }

    /// Reserves what is held, or writes it as a run.
    fn fit(&mut self) -> Result<()> {
        match self.reserve(0) {
            Err(_) if self.options.spill_directory.is_some() => self.spill(),
            fits => fits,
        }
    }

    /// Makes the reservation what is held and `more`.
    fn reserve(&mut self, more: usize) -> Result<()> {
        let memory = self.held.memory() + more;
        match &mut self.reservation {
            Some(reservation) => reservation.resize(memory),
            None => {
                self.reservation = Some(self.options.budget.reserve(memory)?);
                Ok(())
            }
        }
    }

    /// Writes what is held as a run. Errors: `Budget` without a directory for it.
    fn spill(&mut self) -> Result<()> {
        let budget = &self.options.budget;
        let directory = self
            .options
            .spill_directory
            .as_ref()
            .ok_or(Error::Budget { requested: self.held.memory(), limit: budget.limit() })?;
        if self.held.rows() == 0 {
            return Ok(());
        }
        let run = spill::run(directory, |out| self.write_held(true, out).map(|_| ()))?;
        self.runs.push(run);
        self.spilled += self.held.rows();
        self.held = HeldRows::new(self.held.schema.clone());
        self.reservation = None;
        Ok(())
    }

    pub fn rows(&self) -> u64 {
        (self.spilled + self.held.rows()) as u64
    }

    /// Writes the whole segment front to back. A segment without rows is legal.
    pub fn finish(mut self, out: &mut dyn Write) -> Result<SegmentStatistics> {
        check_schema(&self.held.schema)?;
        if self.runs.is_empty() {
            return self.write_held(false, out);
        }
        self.spill()?;
        merge_runs(&self.held.schema, &self.runs, &self.options, out)
    }

    /// Memory that writing takes beside what is held: order, codes and index of all rows, order and
    /// ranks of the distinct values.
    fn working_memory(&self) -> usize {
        let distinct = self.held.columns.iter().map(HeldColumn::distinct);
        self.held.rows() * 24 + distinct.clone().sum::<usize>() * 8 + distinct.max().unwrap_or(0) * 24
    }

    /// Writes what is held. A run keeps every byte string in a dictionary, so that the merge can tell
    /// how many distinct ones there are, and has no index.
    fn write_held(&self, run: bool, out: &mut dyn Write) -> Result<SegmentStatistics> {
        let cancel = &self.options.cancel;
        let _working = self.options.budget.reserve(self.working_memory())?;
        let (schema, columns, row_count) = (&self.held.schema, &self.held.columns, self.held.rows());
        let sorted = columns.iter().map(|column| column.sorted_values(cancel)).collect::<Result<Vec<_>>>()?;
        let order = sort::order(schema, columns, &sorted, row_count, cancel)?;
        let mut writer = SegmentWriter::new(schema, row_count, out)?;
        for ((column, held), sorted) in schema.columns.iter().zip(columns).zip(&sorted) {
            let column = Column { indexed: column.indexed && !run, ..column.clone() };
            if let (Held::Bytes { values, ids }, Some(sorted)) = (&held.data, sorted)
                && (run || dictionary_pays(&column, row_count, values.len() as u64, values.data_len()))
            {
                let nulls = sorted.ranks.len() as u32;
                let code = |id: u32| sorted.ranks.get(id as usize).copied().unwrap_or(nulls);
                let mut codes: Vec<u32> = Vec::with_capacity(row_count);
                for start in (0..row_count).step_by(LOOK) {
                    cancel.check()?;
                    let range = start..row_count.min(start + LOOK);
                    match &order {
                        Order::Arrival => codes.extend(ids[range].iter().map(|id| code(*id))),
                        Order::Permuted(rows) => codes.extend(rows[range].iter().map(|row| code(ids[*row as usize]))),
                    }
                }
                let mut next = |push: Push| values.get_all(&sorted.order).try_for_each(push);
                writer.codes(&column, nulls, &mut next, &codes, cancel)?;
            } else {
                let mut source = HeldSource { held, order: &order, nulls: held.null_words(row_count), next: 0 };
                writer.values(&column, plain_kind(column.ty), &mut source, cancel)?;
            }
        }
        writer.finish()
    }
}

/// Errors: `Invalid` for positions outside of the columns, a time column of another type, or two columns of one id.
pub(crate) fn check_schema(schema: &Schema) -> Result<()> {
    let mut ids: Vec<_> = schema.columns.iter().map(|c| c.id).collect();
    ids.sort_unstable();
    let time_fits = schema.time.is_none_or(|t| schema.columns.get(t).is_some_and(|c| c.ty.is_time()));
    let cluster_fits = schema.cluster_by.iter().all(|p| *p < schema.columns.len());
    if time_fits && cluster_fits && ids.windows(2).all(|pair| pair[0] != pair[1]) {
        Ok(())
    } else {
        Err(Error::invalid("an inconsistent schema"))
    }
}

/// The kind of a column that has no dictionary.
pub(crate) fn plain_kind(ty: LogicalType) -> ColumnKind {
    match ty.physical() {
        crate::types::Physical::I64 => ColumnKind::I64,
        crate::types::Physical::I128 => ColumnKind::I128,
        crate::types::Physical::F64 => ColumnKind::F64,
        crate::types::Physical::Bytes => ColumnKind::Bytes,
    }
}

/// Whether a column of byte strings gets a dictionary, from its rows, the count of its distinct values and
/// their bytes. An indexed column does, but for near-unique long values; another if values repeat.
pub(crate) fn dictionary_pays(column: &Column, rows: usize, values: u64, bytes: u64) -> bool {
    let rows = rows as u64;
    let long = bytes / values.max(1) > 256;
    let near_unique = values * 2 > rows && values > 1;
    if bytes > 1 << 31 || values >= u64::from(u32::MAX) - 1 {
        false
    } else if column.indexed {
        !(long && near_unique)
    } else {
        values * 4 <= rows || values <= 1
    }
}

/// Held rows as a source of blocks.
struct HeldSource<'a> {
    held: &'a HeldColumn,
    order: &'a Order,
    nulls: Option<Vec<u64>>,
    next: usize,
}

impl BlockSource for HeldSource<'_> {
    fn fill(&mut self, rows: usize, block: &mut Block) -> Result<()> {
        let range = self.next..self.next + rows;
        self.next += rows;
        if let Some(words) = &self.nulls {
            let is_null = |row: usize| words[row / 64] >> (row % 64) & 1 == 1;
            let row = |at: usize| match self.order {
                Order::Arrival => at,
                Order::Permuted(order) => order[at] as usize,
            };
            let nulls = range.clone().filter(|at| is_null(row(*at)));
            block.nulls.extend(nulls.map(|at| (at - range.start) as u16));
        }
        match (&self.held.data, &mut block.data) {
            (Held::I64(v), BlockData::I64(out)) => self.gather(v, range, out),
            (Held::I128(v), BlockData::I128(out)) => self.gather(v, range, out),
            (Held::F64(v), BlockData::F64(out)) => self.gather(v, range, out),
            (Held::Bytes { values, ids }, BlockData::Bytes(out)) => {
                let mut block = Vec::with_capacity(rows);
                self.gather(ids, range, &mut block);
                for id in block {
                    if id != u32::MAX {
                        out.data.extend_from_slice(values.get(id));
                    }
                    out.ends.push(u32::try_from(out.data.len()).map_err(|_| too_long())?);
                }
            }
            _ => return Err(Error::invalid("a block of another kind")),
        }
        Ok(())
    }
}

impl HeldSource<'_> {
    /// Appends what rows `range` of the segment have to `out`.
    fn gather<T: Copy>(&self, values: &[T], range: Range<usize>, out: &mut Vec<T>) {
        match self.order {
            Order::Arrival => out.extend_from_slice(&values[range]),
            Order::Permuted(order) => out.extend(order[range].iter().map(|row| values[*row as usize])),
        }
    }
}

/// Writes the columns of a segment one after the other, then its footer.
pub(crate) struct SegmentWriter<'a> {
    schema: &'a Schema,
    rows: usize,
    out: PartWriter<'a>,
    columns: Vec<super::footer::ColumnEntry>,
    statistics: Vec<ColumnStatistics>,
}

impl<'a> SegmentWriter<'a> {
    pub fn new(schema: &'a Schema, rows: usize, out: &'a mut dyn Write) -> Result<Self> {
        let mut out = PartWriter::new(out);
        out.part(&header())?;
        Ok(SegmentWriter { schema, rows, out, columns: Vec::new(), statistics: Vec::new() })
    }

    pub fn values(
        &mut self,
        column: &Column,
        kind: ColumnKind,
        source: &mut dyn BlockSource,
        cancel: &Cancel,
    ) -> Result<()> {
        let (entry, statistics) = write_values(column, kind, self.rows, source, cancel, &mut self.out)?;
        self.columns.push(entry);
        self.statistics.push(statistics);
        Ok(())
    }

    pub fn codes(&mut self, column: &Column, values: u32, next: Values, codes: &[u32], cancel: &Cancel) -> Result<()> {
        let (entry, statistics) = write_codes(column, values, next, codes, cancel, &mut self.out)?;
        self.columns.push(entry);
        self.statistics.push(statistics);
        Ok(())
    }

    pub fn finish(mut self) -> Result<SegmentStatistics> {
        let time = self.schema.time.and_then(|t| match (&self.statistics[t].min, &self.statistics[t].max) {
            (Value::I64(min), Value::I64(max)) => {
                let ty = self.schema.columns[t].ty;
                Some((ty.to_micros(*min), ty.to_micros(*max)))
            }
            _ => None,
        });
        let statistics = SegmentStatistics { rows: self.rows as u64, time, columns: self.statistics };
        let footer = Footer {
            rows: self.rows as u32,
            columns: self.columns,
            cluster_by: self.schema.cluster_by.clone(),
            time: self.schema.time,
            statistics,
        };
        let end = footer.encode(self.out.position())?;
        self.out.part(&end)?;
        Ok(footer.statistics)
    }
}
