//! A batch on its way from messages to a published segment.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use basalt_engine::rows::{ColumnData, RowBuffer};
use basalt_engine::segment::SegmentStatistics;
use basalt_engine::types::Schema;

use crate::checkpoint::Delta;
use crate::json::HostCell;
use crate::source::Message;

/// A message that is no row, kept as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub error: String,
}

impl DeadLetter {
    pub fn new(message: &Message<'_>, error: impl Into<String>) -> Self {
        DeadLetter {
            partition: message.partition,
            offset: message.offset,
            timestamp: message.timestamp,
            key: message.key.map(<[u8]>::to_vec),
            payload: message.payload.map(<[u8]>::to_vec),
            error: error.into(),
        }
    }
}

/// Where a row came from, kept only while the host may still refuse it.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Option<i64>,
    pub key: Option<Range<usize>>,
    pub payload: Range<usize>,
}

/// Decoded messages.
#[derive(Debug)]
pub struct Decoded {
    /// Every offset taken in, be it a row, a dead letter or a gap.
    pub delta: Delta,
    /// Partitions that the catalog does not know yet.
    pub new_partitions: BTreeSet<i32>,
    pub rows: RowBuffer,
    pub dead: Vec<DeadLetter>,
    pub messages: u64,
    /// Milliseconds since 1970 of the newest message.
    pub newest: Option<i64>,
    /// Cells that hold text which the host's input functions have yet to read, by row.
    pub host: Vec<HostCell>,
    /// One a row if the host may refuse rows, else empty; ranges are of `kept`.
    pub(super) origins: Vec<Origin>,
    pub(super) kept: Vec<u8>,
}

impl Decoded {
    pub(super) fn new(schema: Arc<Schema>) -> Self {
        Decoded {
            delta: Delta::default(),
            new_partitions: BTreeSet::new(),
            rows: RowBuffer::new(schema),
            dead: Vec::new(),
            messages: 0,
            newest: None,
            host: Vec::new(),
            origins: Vec::new(),
            kept: Vec::new(),
        }
    }

    pub(super) fn keep_origin(&mut self, message: &Message<'_>, payload: &[u8]) {
        let mut keep = |bytes: &[u8]| {
            let start = self.kept.len();
            self.kept.extend_from_slice(bytes);
            start..self.kept.len()
        };
        let (key, payload) = (message.key.map(&mut keep), keep(payload));
        let Message { partition, offset, timestamp, .. } = *message;
        self.origins.push(Origin { partition, offset, timestamp, key, payload });
    }

    /// Replaces each host cell by what `convert(column, text)` makes of it; a row with a refused cell becomes a dead letter with the
    /// reason given. Errors: the engine's, when a row cannot be copied.
    pub fn convert(
        mut self,
        mut convert: impl FnMut(usize, &[u8]) -> Result<Vec<u8>, String>,
    ) -> basalt_engine::Result<Self> {
        let mut rows = RowBuffer::new(self.rows.schema().clone());
        let mut cells = std::mem::take(&mut self.host).into_iter().peekable();
        let mut nulls = vec![0; self.rows.columns().len()];
        for row in 0..self.rows.rows() {
            let mut own = Vec::new();
            while let Some(cell) = cells.next_if(|c| c.row as usize == row) {
                own.push(cell.column as usize);
            }
            match copy_row(&self.rows, row, &own, &mut nulls, &mut rows, &mut convert)? {
                Ok(()) => rows.finish_row()?,
                Err(error) => {
                    rows.abandon_row();
                    self.dead.extend(self.origins.get(row).map(|origin| DeadLetter {
                        partition: origin.partition,
                        offset: origin.offset,
                        timestamp: origin.timestamp,
                        key: origin.key.clone().map(|range| self.kept[range].to_vec()),
                        payload: Some(self.kept[origin.payload.clone()].to_vec()),
                        error,
                    }));
                }
            }
        }
        self.rows = rows;
        self.origins = Vec::new();
        self.kept = Vec::new();
        Ok(self)
    }
}

/// Rows with a time and rows without, which have no place in a segment's visibility, apart.
pub(super) fn split_timeless(rows: RowBuffer) -> basalt_engine::Result<Vec<RowBuffer>> {
    let timeless = match rows.schema().time {
        Some(time) => rows.columns()[time].nulls.as_slice(),
        None => &[],
    };
    if timeless.is_empty() || timeless.len() == rows.rows() {
        return Ok(if rows.is_empty() { Vec::new() } else { vec![rows] });
    }
    let mut split = vec![RowBuffer::new(rows.schema().clone()), RowBuffer::new(rows.schema().clone())];
    let mut nulls = vec![0; rows.columns().len()];
    for row in 0..rows.rows() {
        let to = &mut split[usize::from(timeless.binary_search(&(row as u32)).is_ok())];
        let _ = copy_row(&rows, row, &[], &mut nulls, to, &mut |_, _| Ok(Vec::new()))?;
        to.finish_row()?;
    }
    Ok(split)
}

/// Pushes all columns of one row; `nulls[c]` is how many NULLs of column `c` lie before it. The inner error is the reason why the
/// host refuses the row.
fn copy_row(
    from: &RowBuffer,
    row: usize,
    host: &[usize],
    nulls: &mut [usize],
    to: &mut RowBuffer,
    convert: &mut impl FnMut(usize, &[u8]) -> Result<Vec<u8>, String>,
) -> basalt_engine::Result<Result<(), String>> {
    let mut refused = None;
    for (column, values) in from.columns().iter().enumerate() {
        if values.nulls.get(nulls[column]) == Some(&(row as u32)) {
            nulls[column] += 1;
            to.push_null(column);
            continue;
        }
        // After a refusal only NULLs are still counted.
        if refused.is_some() {
            continue;
        }
        match &values.data {
            ColumnData::I64(v) => to.push_i64(column, v[row])?,
            ColumnData::I128(v) => to.push_i128(column, v[row])?,
            ColumnData::F64(v) => to.push_f64(column, v[row])?,
            ColumnData::Bytes { .. } if host.contains(&column) => match convert(column, values.bytes(row)) {
                Ok(bytes) => to.push_bytes(column, &bytes)?,
                Err(error) => refused = Some(error),
            },
            ColumnData::Bytes { .. } => to.push_bytes(column, values.bytes(row))?,
        }
    }
    Ok(refused.map_or(Ok(()), Err))
}

/// A finished segment file.
#[derive(Debug)]
pub struct BuiltSegment {
    pub bytes: Vec<u8>,
    /// CRC32C of `bytes`.
    pub checksum: u32,
    pub statistics: SegmentStatistics,
}

/// A batch that only needs publishing.
#[derive(Debug)]
pub struct Prepared {
    pub delta: Delta,
    pub new_partitions: BTreeSet<i32>,
    /// The topic that the messages are from; `None`: the broker has no topic ids.
    pub topic_id: Option<[u8; 16]>,
    /// None if no message became a row; two if some rows have a time and some do not.
    pub segments: Vec<BuiltSegment>,
    pub dead: Vec<DeadLetter>,
    pub messages: u64,
    pub rows: u64,
    /// Milliseconds since 1970 of the newest message.
    pub newest: Option<i64>,
}
