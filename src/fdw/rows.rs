//! Scans of rows.

use std::sync::Arc;

use basalt_engine::exec::{BatchColumn, ExecStatistics, RowBatch, RowExecution, SegmentScan};
use basalt_engine::plan::RowQuery;
use basalt_engine::segment::BytesBlock;
use basalt_engine::types::LogicalType;
use basalt_engine::{Budget, Reservation};
use pgrx::pg_sys::{self, Datum};

use super::chunk::{CHUNK_ROWS, Chunk, Column};
use super::order;
use super::scan::{Inputs, Start};
use crate::catalog::cache;
use crate::catalog::segment::SegmentEntry;
use crate::error::{Error, Result};
use crate::pg::memory::InContext;
use crate::pg::settings::FixedSettings;
use crate::pg::values::Codec;
use crate::translate::host::PgHost;
use crate::translate::template::RowTopTemplate;

/// Dictionaries up to this size are converted once a segment, larger ones row by row.
const MAX_CONVERTED_DICTIONARY: usize = 65_536;

pub struct Rows {
    execution: RowExecution,
    segments: std::vec::IntoIter<SegmentEntry>,
    started: bool,
    batch: Option<Arc<RowBatch>>,
    /// Rows of the batch that were converted.
    done: usize,
    outputs: Vec<Output>,
    kept: Option<Kept>,
}

/// What was handed out, for scans that are repeated.
struct Kept {
    batches: Vec<Arc<RowBatch>>,
    memory: Reservation,
    most: usize,
    /// The next batch to hand out; behind the last one more are read, unless all are here.
    next: usize,
    whole: bool,
}

impl Kept {
    /// Share of the query's memory.
    const SHARE: usize = 4;

    fn new(budget: &Budget) -> Result<Kept> {
        Ok(Kept {
            batches: Vec::new(),
            memory: budget.reserve(0)?,
            most: budget.limit() / Self::SHARE,
            next: 0,
            whole: false,
        })
    }

    /// False: there is no room for it.
    fn add(&mut self, batch: &Arc<RowBatch>) -> bool {
        let bytes = batch.bytes(self.batches.last().map(|b| &**b));
        let fits = self.memory.bytes() + bytes <= self.most && self.memory.grow(bytes).is_ok();
        if fits {
            self.batches.push(batch.clone());
            self.next = self.batches.len();
        }
        fits
    }
}

/// Converts one column's batches.
pub struct Output {
    codec: Codec,
    dictionary: ConvertedDictionary,
}

/// Datums of a segment's dictionary, made when first needed.
struct ConvertedDictionary {
    of: Option<Arc<BytesBlock>>,
    datums: Vec<Option<Datum>>,
    context: pg_sys::MemoryContext,
}

impl Rows {
    /// `keep`: its rows may be wanted again.
    pub fn new(
        mut start: Start,
        keep: bool,
        output: &[usize],
        top: Option<&RowTopTemplate>,
        inputs: &Inputs,
        chunk: &mut Chunk,
    ) -> Result<Rows> {
        let mut attributes = Vec::new();
        let mut outputs = Vec::new();
        let _guard = inputs.expressions.evaluator().in_query_context();
        for position in output {
            let column = inputs.bound.get(*position).ok_or_else(malformed)?;
            let schema_position = inputs.datasource.schema.position(inputs.columns[*position].id);
            let attribute = inputs.datasource.attributes.iter().position(|a| a.is_some() && *a == schema_position);
            attributes.push(attribute.ok_or_else(malformed)?);
            outputs.push(Output::new(column.ty, column.declared, column.typmod));
        }
        chunk.set_columns(attributes);
        let query = RowQuery { columns: inputs.columns.clone(), filter: start.filter, output: output.to_vec() };
        let kept = keep.then(|| Kept::new(&start.options.budget)).transpose()?;
        let mut execution = RowExecution::new(query, start.options)?;
        if let Some(top) = top.map(|top| order::bind_rows(top, inputs)).transpose()?.flatten() {
            execution = execution.with_top(top)?;
            start.segments.sort_by_key(|entry| execution.rank(&entry.statistics));
        }
        let segments = start.segments.into_iter();
        Ok(Rows { execution, segments, started: false, batch: None, done: 0, outputs, kept })
    }

    /// Lets the same rows come again, if they were kept.
    pub fn rewind(&mut self) -> bool {
        let Some(kept) = &mut self.kept else { return false };
        kept.next = 0;
        self.batch = None;
        true
    }

    pub fn statistics(&self) -> &ExecStatistics {
        self.execution.statistics()
    }

    /// Gets rows to fill a chunk with, if there are any.
    pub fn prepare(&mut self, host: &mut PgHost) -> Result<()> {
        while self.batch.as_ref().is_none_or(|b| self.done >= b.rows) {
            self.batch = None;
            if !self.advance(host)? {
                break;
            }
        }
        Ok(())
    }

    /// Fills the chunk with the rows that were prepared; false at the end.
    pub fn fill(&mut self, chunk: &mut Chunk) -> Result<bool> {
        let Some(batch) = &self.batch else { return Ok(false) };
        let range = self.done..batch.rows.min(self.done + CHUNK_ROWS);
        let (outputs, rows) = (&mut self.outputs, range.len());
        chunk.fill(rows, |i, column| {
            let (Some(output), Some(values)) = (outputs.get_mut(i), batch.columns.get(i)) else {
                return Err(malformed());
            };
            let _fixed = output.needs_fixed_settings().then(FixedSettings::new);
            output.convert(values, range.clone(), column)
        })?;
        self.done = range.end;
        Ok(true)
    }

    /// Gets the next batch; false when all segments are exhausted.
    fn advance(&mut self, host: &mut PgHost) -> Result<bool> {
        self.done = 0;
        if let Some(Kept { batches, next, whole, .. }) = &mut self.kept
            && (*next < batches.len() || *whole)
        {
            self.batch = batches.get(*next).cloned();
            *next += 1;
            return Ok(self.batch.is_some());
        }
        self.batch = self.read(host)?.map(Arc::new);
        if let Some(mut kept) = self.kept.take() {
            kept.whole = self.batch.is_none();
            let fits = self.batch.as_ref().is_none_or(|batch| kept.add(batch));
            self.kept = fits.then_some(kept);
        }
        Ok(self.batch.is_some())
    }

    /// Reads the next batch.
    fn read(&mut self, host: &mut PgHost) -> Result<Option<RowBatch>> {
        loop {
            crate::pg::interrupts::check();
            if self.started {
                let batch = self.execution.next(host);
                if let Some(batch) = host.conclude(batch)? {
                    return Ok(Some(batch));
                }
                self.started = false;
            }
            let Some(entry) = self.segments.next() else { return Ok(None) };
            // Those that follow come later in the order.
            if self.execution.rank(&entry.statistics).is_some_and(|rank| !self.execution.admits(rank)) {
                return Ok(None);
            }
            let scan = SegmentScan {
                segment: cache::open(&entry)?,
                visibility: entry.visibility.clone(),
                deleted: entry.deleted.clone(),
            };
            let started = self.execution.start(scan, host);
            host.conclude(started)?;
            self.started = true;
        }
    }
}

impl Output {
    /// The current memory context outlives it.
    pub fn new(ty: LogicalType, declared: pg_sys::Oid, typmod: i32) -> Self {
        Output { codec: Codec::with_type(ty, declared, typmod), dictionary: ConvertedDictionary::new() }
    }

    pub fn needs_fixed_settings(&self) -> bool {
        self.codec.needs_fixed_settings()
    }

    /// Pushes the values of `range` to `column`, by-reference ones in the current memory context or a longer lived one.
    pub fn convert(&mut self, values: &BatchColumn, range: std::ops::Range<usize>, column: &mut Column) -> Result<()> {
        let codec = &mut self.codec;
        let is_null = |nulls: &[bool], i: usize| nulls.get(i).copied().unwrap_or(false);
        match values {
            BatchColumn::Constant(value) => {
                let (datum, null) = codec.to_datum(value)?;
                range.for_each(|_| column.push((!null).then_some(datum)));
            }
            BatchColumn::I64 { values, nulls } => {
                for i in range {
                    column.push((!is_null(nulls, i)).then(|| codec.datum_of_i64(values[i])));
                }
            }
            BatchColumn::I128 { values, nulls } => {
                for i in range {
                    column.push((!is_null(nulls, i)).then(|| codec.datum_of_i128(values[i])));
                }
            }
            BatchColumn::F64 { values, nulls } => {
                for i in range {
                    column.push((!is_null(nulls, i)).then(|| codec.datum_of_f64(values[i])));
                }
            }
            BatchColumn::Bytes { values, nulls } => {
                for i in range {
                    let datum = if is_null(nulls, i) { None } else { Some(codec.datum_of_bytes(value(values, i)?)?) };
                    column.push(datum);
                }
            }
            BatchColumn::Dictionary { codes, dictionary } => {
                self.dictionary.switch(dictionary);
                for i in range {
                    column.push(self.dictionary.get(codes[i] as usize, codec)?);
                }
            }
        }
        Ok(())
    }
}

/// Value `i` of a block.
pub fn value(block: &BytesBlock, i: usize) -> Result<&[u8]> {
    let start = if i == 0 { 0 } else { block.ends.get(i - 1).copied().unwrap_or(u32::MAX) as usize };
    let end = block.ends.get(i).copied().unwrap_or(0) as usize;
    block.data.get(start..end).ok_or_else(|| basalt_engine::Error::corrupt("offsets of byte strings").into())
}

impl ConvertedDictionary {
    fn new() -> Self {
        // SAFETY: the name is static; the current context is the query's.
        let context = unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"basalt dictionary".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        };
        ConvertedDictionary { of: None, datums: Vec::new(), context }
    }

    fn switch(&mut self, dictionary: &Arc<BytesBlock>) {
        if self.of.as_ref().is_some_and(|known| Arc::ptr_eq(known, dictionary)) {
            return;
        }
        self.datums.clear();
        // SAFETY: chunks copy the datums' pointers only within one segment; the slot was cleared before this call.
        unsafe { pg_sys::MemoryContextReset(self.context) }
        if dictionary.ends.len() <= MAX_CONVERTED_DICTIONARY {
            self.datums.resize(dictionary.ends.len(), None);
        }
        self.of = Some(dictionary.clone());
    }

    /// The datum of a code, `None` for NULL's; from this context, or for large dictionaries from the current one.
    fn get(&mut self, code: usize, codec: &mut Codec) -> Result<Option<Datum>> {
        let Some(dictionary) = &self.of else { return Ok(None) };
        if code >= dictionary.ends.len() {
            return Ok(None);
        }
        if let Some(Some(known)) = self.datums.get(code) {
            return Ok(Some(*known));
        }
        let bytes = value(dictionary, code)?;
        let Some(kept) = self.datums.get_mut(code) else { return Ok(Some(codec.datum_of_bytes(bytes)?)) };
        // SAFETY: the context lives as long as the query.
        let _guard = unsafe { InContext::new(self.context) };
        let datum = codec.datum_of_bytes(bytes)?;
        *kept = Some(datum);
        Ok(Some(datum))
    }
}

fn malformed() -> Error {
    basalt_engine::Error::invalid("the batch does not fit the plan").into()
}
