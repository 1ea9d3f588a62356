//! The public face of row scans: selected rows of a few columns, a block at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::bits::Selection;
use super::columns::{BlockScratch, Computed, Kind, SegmentView};
use super::compute;
use super::filter::{self, HostMemo};
use super::first::{First, RowRank};
use super::like::value;
use super::prepare::SelectedRows;
use super::rowset::{RowSet, for_rows};
use super::{ExecOptions, ExecStatistics, SegmentScan, panic_message};
use crate::plan::{Host, RowQuery, RowTop};
use crate::segment::{BytesBlock, SegmentStatistics};
use crate::types::Value;
use crate::{Error, Reservation, Result};

/// Scans one segment after another on the calling thread.
pub struct RowExecution {
    query: RowQuery,
    options: ExecOptions,
    memo: HostMemo,
    statistics: ExecStatistics,
    first: Option<First>,
    // Declared before the segment that it borrows, and so dropped before.
    current: Option<Current>,
}

struct Current {
    scan: SegmentScan,
    filter: filter::Node,
    blocks: std::vec::IntoIter<u32>,
    dictionaries: Vec<Option<Arc<BytesBlock>>>,
    columns: Vec<crate::plan::ColumnRef>,
    computed: Computed,
    memory: Reservation,
    scratch: BlockScratch,
    set: RowSet,
}

/// A whole dictionary is handed out with codes if it is not longer than this many rows of a batch.
const DICTIONARY_SHARE: usize = 4;
/// Values of a batch between two looks at whether the query is to end.
const LOOK: usize = 1024;

impl RowExecution {
    /// Errors: `Invalid` if the plan does not fit its columns.
    pub fn new(query: RowQuery, options: ExecOptions) -> Result<Self> {
        compute::check(&query.columns)?;
        filter::check(&query.filter, &query.columns)?;
        let stored = |c: usize| query.columns.get(c).is_some_and(|c| c.computed.is_none());
        if query.output.iter().any(|c| !stored(*c)) {
            return Err(Error::invalid("an output names no column of the plan"));
        }
        let memo = HostMemo::new(&options.budget);
        Ok(RowExecution { query, options, memo, statistics: ExecStatistics::default(), first: None, current: None })
    }

    /// Only rows that may be among the first by a column. Errors: `Invalid` if there is no such column; `Budget`.
    pub fn with_top(mut self, top: RowTop) -> Result<Self> {
        let column = self.query.columns.get(top.column).filter(|c| c.computed.is_none());
        let column = column.ok_or_else(|| Error::invalid("an order by no column of the plan"))?;
        self.first = First::new(top, column.id, &self.options.budget)?;
        Ok(self)
    }

    /// Where the first row of a segment may stand. Segments are best started in this order.
    pub fn rank(&self, statistics: &SegmentStatistics) -> Option<RowRank> {
        self.first.as_ref().map(|first| first.of_segment(statistics))
    }

    /// Whether a segment of this rank, or of a later one, still has rows to give.
    pub fn admits(&self, rank: RowRank) -> bool {
        self.first.as_ref().is_none_or(|first| first.admits(rank))
    }

    /// Starts on the next segment; the one before must be exhausted.
    pub fn start(&mut self, segment: SegmentScan, host: &mut dyn Host) -> Result<()> {
        host.poll()?;
        self.options.cancel.check()?;
        self.current = None;
        let mut scratch = BlockScratch::new(self.query.columns.len());
        let RowQuery { columns, filter, output } = &self.query;
        let rows = SelectedRows::new(
            &segment,
            columns,
            filter,
            &[],
            &self.options.budget,
            &mut scratch,
            &mut self.memo,
            host,
            &mut self.statistics,
        )?;
        let SelectedRows { view, filter, blocks, columns, memory } = rows;
        let mut blocks = blocks;
        if let Some(first) = &self.first {
            let mut ranked = Vec::with_capacity(blocks.len());
            for block in blocks {
                scratch.begin(&view, block as usize);
                ranked.push((first.of_block(&view, &mut scratch)?, block));
            }
            ranked.sort_unstable();
            blocks = ranked.into_iter().map(|(_, block)| block).collect();
        }
        self.statistics.threads = 1;
        let computed = view.computed();
        self.current = Some(Current {
            scan: segment,
            filter,
            blocks: blocks.into_iter(),
            dictionaries: vec![None; output.len()],
            columns,
            computed,
            memory,
            scratch,
            set: RowSet::new(),
        });
        Ok(())
    }

    /// The next non-empty batch of the segment started last; `None`: it is exhausted.
    pub fn next(&mut self, host: &mut dyn Host) -> Result<Option<RowBatch>> {
        let Some(current) = &mut self.current else { return Ok(None) };
        while let Some(block) = current.blocks.next() {
            host.poll()?;
            self.options.cancel.check()?;
            let (output, statistics, first) = (&self.query.output, &mut self.statistics, &mut self.first);
            let Current { scan, filter, dictionaries, columns, computed, memory, scratch, set, .. } = &mut *current;
            let batch = catch_unwind(AssertUnwindSafe(|| {
                let view = SegmentView::with(&scan.segment, columns, computed)?;
                scratch.begin(&view, block as usize);
                if let Some(first) = &first
                    && !first.admits(first.of_block(&view, scratch)?)
                {
                    statistics.blocks_skipped += 1;
                    return Ok(None);
                }
                let selection = filter::evaluate(filter, &view, scratch, &Selection::All)?;
                statistics.rows_scanned += scratch.rows() as u64;
                if selection.is_none() {
                    return Ok(None);
                }
                set.set(selection, scratch.rows());
                if let Some(first) = first {
                    first.keep(&view, scratch, set)?;
                    if set.selection.is_none() {
                        return Ok(None);
                    }
                }
                batch(&view, scratch, set, block, output, dictionaries, memory).map(Some)
            }));
            statistics.bytes_touched += scratch.take_bytes();
            let batch = batch.unwrap_or_else(|panic| Err(Error::Panic(panic_message(&*panic))))?;
            if let Some(batch) = batch {
                self.statistics.rows_selected += batch.rows as u64;
                return Ok(Some(batch));
            }
        }
        self.current = None;
        Ok(None)
    }

    pub fn statistics(&self) -> &ExecStatistics {
        &self.statistics
    }
}

/// Selected rows of one block.
pub struct RowBatch {
    pub rows: usize,
    /// Row numbers in the segment.
    pub row_numbers: Vec<u32>,
    /// One for each of the query's `output`.
    pub columns: Vec<BatchColumn>,
}

impl RowBatch {
    /// Memory that it takes beside `before`, whose dictionaries it may share.
    pub fn bytes(&self, before: Option<&RowBatch>) -> usize {
        let block = |block: &BytesBlock| block.data.capacity() + block.ends.capacity() * 4;
        let column = |(nth, column): (usize, &BatchColumn)| match column {
            BatchColumn::Constant(_) => 0,
            BatchColumn::I64 { values, nulls } => values.capacity() * 8 + nulls.capacity(),
            BatchColumn::I128 { values, nulls } => values.capacity() * 16 + nulls.capacity(),
            BatchColumn::F64 { values, nulls } => values.capacity() * 8 + nulls.capacity(),
            BatchColumn::Bytes { values, nulls } => block(values) + nulls.capacity(),
            BatchColumn::Dictionary { codes, dictionary } => {
                let shared = match before.and_then(|b| b.columns.get(nth)) {
                    Some(BatchColumn::Dictionary { dictionary: other, .. }) => Arc::ptr_eq(dictionary, other),
                    _ => false,
                };
                codes.capacity() * 4 + if shared { 0 } else { block(dictionary) }
            }
        };
        let columns: usize = self.columns.iter().enumerate().map(column).sum();
        self.row_numbers.capacity() * 4 + columns + self.columns.len() * size_of::<BatchColumn>()
    }
}

/// Dense values of the selected rows; where `nulls` is not empty, `nulls[i]` says that row `i` is NULL.
pub enum BatchColumn {
    Constant(Value),
    I64 {
        values: Vec<i64>,
        nulls: Vec<bool>,
    },
    I128 {
        values: Vec<i128>,
        nulls: Vec<bool>,
    },
    F64 {
        values: Vec<f64>,
        nulls: Vec<bool>,
    },
    /// `codes[i]` indexes `dictionary` (all values, shared by the segment's batches); its length means NULL.
    Dictionary {
        codes: Vec<u32>,
        dictionary: Arc<BytesBlock>,
    },
    Bytes {
        values: BytesBlock,
        nulls: Vec<bool>,
    },
}

fn batch(
    view: &SegmentView<'_>,
    scratch: &mut BlockScratch,
    set: &mut RowSet,
    block: u32,
    output: &[usize],
    dictionaries: &mut [Option<Arc<BytesBlock>>],
    memory: &mut Reservation,
) -> Result<RowBatch> {
    let first = block * crate::segment::BLOCK_ROWS as u32;
    let mut row_numbers = Vec::with_capacity(set.count());
    for_rows!(set, i, { row_numbers.push(first + i as u32) });
    let mut columns = Vec::with_capacity(output.len());
    for (nth, &column) in output.iter().enumerate() {
        let of = &view.columns[column];
        if let Some(value) = of.constant() {
            columns.push(BatchColumn::Constant(value.clone()));
            continue;
        }
        let nulls = match of.kind {
            Kind::Codes => Vec::new(),
            _ => nulls(view, scratch, set, column)?,
        };
        columns.push(match of.kind {
            Kind::I64 => BatchColumn::I64 { values: gather(scratch.ints(view, column)?, set), nulls },
            Kind::I128 => BatchColumn::I128 { values: gather(scratch.wide(view, column)?, set), nulls },
            Kind::F64 => BatchColumn::F64 { values: gather(scratch.floats(view, column)?, set), nulls },
            Kind::Codes => codes(view, scratch, set, column, &mut dictionaries[nth], memory)?,
            Kind::Bytes => {
                let from = scratch.bytes(view, column)?;
                let mut values = BytesBlock::default();
                for_rows!(set, i, {
                    values.data.extend_from_slice(value(from, i));
                    values.ends.push(values.data.len() as u32);
                });
                BatchColumn::Bytes { values, nulls }
            }
        });
    }
    Ok(RowBatch { rows: row_numbers.len(), row_numbers, columns })
}

impl BatchColumn {
    /// The value of a row, by itself: for tests and other readers in no hurry. Panics beyond the batch's rows.
    pub fn value(&self, row: usize) -> Value {
        let null = |nulls: &[bool]| nulls.get(row).copied().unwrap_or(false);
        match self {
            BatchColumn::Constant(value) => value.clone(),
            BatchColumn::I64 { nulls, .. }
            | BatchColumn::I128 { nulls, .. }
            | BatchColumn::F64 { nulls, .. }
            | BatchColumn::Bytes { nulls, .. }
                if null(nulls) =>
            {
                Value::Null
            }
            BatchColumn::I64 { values, .. } => Value::I64(values[row]),
            BatchColumn::I128 { values, .. } => Value::I128(values[row]),
            BatchColumn::F64 { values, .. } => Value::F64(values[row]),
            BatchColumn::Bytes { values, .. } => Value::Bytes(values.get(row).to_vec()),
            BatchColumn::Dictionary { codes, dictionary } => match codes[row] as usize {
                code if code == dictionary.len() => Value::Null,
                code => Value::Bytes(dictionary.get(code).to_vec()),
            },
        }
    }
}

fn gather<T: Copy>(values: &[T], set: &mut RowSet) -> Vec<T> {
    match set.list() {
        None => values.to_vec(),
        Some(list) => list.iter().map(|i| values[usize::from(*i)]).collect(),
    }
}

fn nulls(view: &SegmentView<'_>, scratch: &mut BlockScratch, set: &mut RowSet, column: usize) -> Result<Vec<bool>> {
    if scratch.header(view, column)?.nulls == 0 {
        return Ok(Vec::new());
    }
    let valid = scratch.validity(view, column)?;
    let mut nulls = Vec::with_capacity(set.count());
    for_rows!(set, i, { nulls.push(!valid.contains(i)) });
    Ok(nulls)
}

/// Codes with the whole dictionary, or, where few rows meet a large dictionary, their values.
fn codes(
    view: &SegmentView<'_>,
    scratch: &mut BlockScratch,
    set: &mut RowSet,
    column: usize,
    dictionary: &mut Option<Arc<BytesBlock>>,
    memory: &mut Reservation,
) -> Result<BatchColumn> {
    let of = &view.columns[column];
    let null = of.dictionary_len()?;
    let codes = gather(scratch.codes(view, column)?, set);
    if dictionary.is_none() && null as usize > codes.len() * DICTIONARY_SHARE + 64 {
        let mut values = BytesBlock::default();
        let mut nulls = Vec::with_capacity(codes.len());
        for (nth, code) in codes.into_iter().enumerate() {
            // Each may be decoded by itself, which takes about a microsecond.
            if nth.is_multiple_of(LOOK) {
                memory.check()?;
            }
            nulls.push(code == null);
            if code != null {
                of.dictionary_get(code, &mut values.data)?;
            }
            let end = u32::try_from(values.data.len());
            values.ends.push(end.map_err(|_| Error::OutOfRange { what: "size of a batch".into() })?);
        }
        return Ok(BatchColumn::Bytes { values, nulls });
    }
    let dictionary = match dictionary {
        Some(known) => known.clone(),
        none => {
            let values = of.dictionary_range(0..null)?;
            memory.grow(values.data.capacity() + values.ends.capacity() * 4)?;
            none.insert(Arc::new(values)).clone()
        }
    };
    Ok(BatchColumn::Dictionary { codes, dictionary })
}
