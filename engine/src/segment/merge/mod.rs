//! Many segments into one, deterministically, a column and a block at a time.

mod cursor;
mod dictionaries;
mod input;
mod order;

use std::io::Write;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::build::{MAX_ROWS, SegmentWriter, check_schema, dictionary_pays, plain_kind};
use super::column::{Block, BlockSource};
use super::{BuildOptions, ColumnKind, Segment, SegmentStatistics};
use crate::types::{ColumnId, Physical, Schema, Value};
use crate::{Error, Result, TimeRanges};
use cursor::{CodeCursor, ValueCursor};
use dictionaries::MergedDictionary;
use input::Input;
use order::Runs;

/// One input of a merge: its rows in `visibility` and not in `deleted` are taken. Rows without a time
/// are in no interval that could be hidden: they are visible.
pub struct MergeSource {
    pub segment: Arc<Segment>,
    pub visibility: TimeRanges,
    pub deleted: Option<RoaringBitmap>,
}

pub struct MergeOutput {
    pub statistics: SegmentStatistics,
    /// For each source, old row number -> new row number; `u32::MAX` for rows left out.
    pub row_map: Vec<Vec<u32>>,
}

/// Merges `sources` in their order (equal sort keys keep it) into a segment of `schema`; a column
/// that a source lacks is NULL there. Equal sources give equal bytes.
///
/// Memory: about 24 bytes a row, 8 a distinct value, and a block a source.
pub fn merge(
    schema: Arc<Schema>,
    sources: &[MergeSource],
    options: BuildOptions,
    out: &mut dyn Write,
) -> Result<MergeOutput> {
    merge_filling(schema, sources, &[], options, out)
}

/// As [`merge`], but rows of sources that lack column `i` of the schema hold `missing[i]`. Errors: `Invalid` for a value
/// of another physical type.
pub fn merge_filling(
    schema: Arc<Schema>,
    sources: &[MergeSource],
    missing: &[Value],
    options: BuildOptions,
    out: &mut dyn Write,
) -> Result<MergeOutput> {
    check_schema(&schema)?;
    let fills: Vec<(ColumnId, &Value)> =
        schema.columns.iter().map(|c| c.id).zip(missing).filter(|(_, value)| !value.is_null()).collect();
    let mut inputs = Vec::new();
    for source in sources {
        options.cancel.check()?;
        inputs.push(Input { fills: &fills, ..Input::new(source, &schema, &options)? });
    }
    let (statistics, runs) = merge_inputs(&schema, &mut inputs, &options, out)?;
    let total: usize = inputs.iter().map(|i| i.segment.rows() as usize).sum();
    let _maps = options.budget.reserve(total * 4)?;
    Ok(MergeOutput { statistics, row_map: row_map(&inputs, &runs) })
}

/// Merges whole, sorted segments: a builder's spilled runs.
pub(super) fn merge_runs(
    schema: &Schema,
    segments: &[Segment],
    options: &BuildOptions,
    out: &mut dyn Write,
) -> Result<SegmentStatistics> {
    let mut inputs: Vec<Input> = segments.iter().map(Input::whole).collect();
    Ok(merge_inputs(schema, &mut inputs, options, out)?.0)
}

fn merge_inputs(
    schema: &Schema,
    inputs: &mut [Input],
    options: &BuildOptions,
    out: &mut dyn Write,
) -> Result<(SegmentStatistics, Runs)> {
    let rows: usize = inputs.iter().map(|i| i.rows.len()).sum();
    if rows > MAX_ROWS {
        return Err(Error::invalid("a segment of more than 2^32 - 2 rows"));
    }
    // Cluster columns need their dictionaries merged before rows can be compared.
    let mut dictionaries: Vec<Option<MergedDictionary>> = schema.columns.iter().map(|_| None).collect();
    for position in &schema.cluster_by {
        let column = &schema.columns[*position];
        if column.ty.physical() == Physical::Bytes && dictionaries[*position].is_none() {
            dictionaries[*position] = Some(MergedDictionary::new(column, inputs, options)?);
        }
    }
    let blocks: usize = inputs.iter().map(|i| i.rows.len().min(super::BLOCK_ROWS)).sum();
    let _blocks = options.budget.reserve(blocks * 16)?;
    order::sort_inputs(schema, inputs, &dictionaries, options)?;
    let runs = order::runs(schema, inputs, &dictionaries, options)?;
    let mut writer = SegmentWriter::new(schema, rows, out)?;
    for (column, merged) in schema.columns.iter().zip(&mut dictionaries) {
        let kind = plain_kind(column.ty);
        if kind == ColumnKind::Bytes {
            let merged = match merged.take() {
                Some(merged) => merged,
                None => MergedDictionary::new(column, inputs, options)?,
            };
            if dictionary_pays(column, rows, u64::from(merged.count), merged.bytes) {
                let _codes = options.budget.reserve(rows * 8 + merged.count as usize * 4)?;
                let codes = merged_codes(inputs, &merged, &runs, rows, options)?;
                let mut next = |push: super::column::Push| merged.visit(push);
                writer.codes(column, merged.count, &mut next, &codes, &options.cancel)?;
                continue;
            }
        }
        let mut source = RunSource::new(column, kind, inputs, &runs)?;
        writer.values(column, kind, &mut source, &options.cancel)?;
    }
    Ok((writer.finish()?, runs))
}

fn merged_codes(
    inputs: &[Input],
    merged: &MergedDictionary,
    runs: &Runs,
    rows: usize,
    options: &BuildOptions,
) -> Result<Vec<u32>> {
    let mut cursors = inputs
        .iter()
        .zip(&merged.sources)
        .map(|(input, source)| CodeCursor::new(input, source, merged.count))
        .collect::<Vec<_>>();
    let mut codes = Vec::with_capacity(rows);
    for (source, count) in runs.iter() {
        options.cancel.check()?;
        for _ in 0..*count {
            codes.push(cursors[*source as usize].next()?);
        }
    }
    Ok(codes)
}

/// Values of all inputs in the merged order.
struct RunSource<'a> {
    cursors: Vec<ValueCursor<'a>>,
    runs: std::slice::Iter<'a, (u32, u32)>,
    source: usize,
    left: u32,
}

impl<'a> RunSource<'a> {
    fn new(column: &crate::types::Column, kind: ColumnKind, inputs: &'a [Input<'a>], runs: &'a Runs) -> Result<Self> {
        let cursors = inputs.iter().map(|i| ValueCursor::new(column, kind, i)).collect::<Result<Vec<_>>>()?;
        Ok(RunSource { cursors, runs: runs.iter(), source: 0, left: 0 })
    }
}

impl BlockSource for RunSource<'_> {
    fn fill(&mut self, rows: usize, block: &mut Block) -> Result<()> {
        for row in 0..rows {
            if self.left == 0 {
                let (source, count) = self.runs.next().ok_or_else(|| Error::invalid("a merge without rows"))?;
                (self.source, self.left) = (*source as usize, *count);
            }
            self.left -= 1;
            self.cursors[self.source].push(row, block)?;
        }
        Ok(())
    }
}

fn row_map(inputs: &[Input], runs: &Runs) -> Vec<Vec<u32>> {
    let mut maps: Vec<Vec<u32>> = inputs.iter().map(|i| vec![u32::MAX; i.segment.rows() as usize]).collect();
    let mut taken = vec![0usize; inputs.len()];
    let mut row = 0;
    for (source, count) in runs.iter() {
        let source = *source as usize;
        for _ in 0..*count {
            maps[source][inputs[source].rows.get(taken[source]) as usize] = row;
            taken[source] += 1;
            row += 1;
        }
    }
    maps
}
