//! Which rows of a source a merge takes, and in what order.

use super::MergeSource;
use crate::segment::{BuildOptions, Segment};
use crate::types::{ColumnId, Schema, Value};
use crate::{Reservation, Result};

pub(super) struct Input<'a> {
    pub segment: &'a Segment,
    pub rows: Rows,
    /// For listed rows.
    pub reservation: Option<Reservation>,
    /// What rows hold in columns that the segment lacks; NULL in others.
    pub fills: &'a [(ColumnId, &'a Value)],
}

pub(super) enum Rows {
    /// All of them.
    All(usize),
    /// Some, in the segment's order.
    Listed(Vec<u32>),
    /// In an order of their own.
    Permuted(Vec<u32>),
}

impl Rows {
    pub fn len(&self) -> usize {
        match self {
            Rows::All(n) => *n,
            Rows::Listed(rows) | Rows::Permuted(rows) => rows.len(),
        }
    }

    #[inline]
    pub fn get(&self, index: usize) -> u32 {
        match self {
            Rows::All(_) => index as u32,
            Rows::Listed(rows) | Rows::Permuted(rows) => rows[index],
        }
    }

    /// Whether blocks are met in order.
    pub fn ascend(&self) -> bool {
        !matches!(self, Rows::Permuted(_))
    }
}

impl<'a> Input<'a> {
    pub fn whole(segment: &'a Segment) -> Self {
        Input { segment, rows: Rows::All(segment.rows() as usize), reservation: None, fills: &[] }
    }

    /// The value of a column that the segment lacks; `None`: NULL.
    pub fn fill(&self, column: ColumnId) -> Option<&'a Value> {
        self.fills.iter().find(|(id, _)| *id == column).map(|(_, value)| *value)
    }

    pub fn new(source: &'a MergeSource, schema: &Schema, options: &BuildOptions) -> Result<Self> {
        let segment = &*source.segment;
        let mut input = Input::whole(segment);
        let deleted = source.deleted.as_ref().filter(|d| !d.is_empty());
        let hidden = match schema.time.and_then(|t| segment.column(schema.columns[t].id)) {
            Some(reader) => match segment.time_bounds() {
                // Without bounds all times are NULL.
                Some((id, min, max)) if id == schema.columns[schema.time.unwrap_or(0)].id => {
                    (!source.visibility.covers(min, max)).then_some(reader)
                }
                _ => (source.visibility != crate::TimeRanges::all()).then_some(reader),
            },
            None => None,
        };
        if deleted.is_none() && hidden.is_none() {
            return Ok(input);
        }
        let mut reservation = options.budget.reserve(segment.rows() as usize * 4)?;
        let mut rows = Vec::new();
        let mut times = Vec::new();
        for block in 0..segment.blocks() {
            options.cancel.check()?;
            let start = (block * crate::segment::BLOCK_ROWS) as u32;
            let count = (segment.rows() - start).min(crate::segment::BLOCK_ROWS as u32);
            let mut valid = None;
            if let Some(reader) = &hidden {
                reader.decode_i64(block, &mut times)?;
                valid = reader.validity(block)?;
            }
            for i in 0..count {
                let visible = || match &hidden {
                    None => true,
                    Some(reader) => {
                        let null = valid.as_ref().is_some_and(|v| v[i as usize / 64] >> (i % 64) & 1 == 0);
                        null || source.visibility.contains(reader.ty().to_micros(times[i as usize]))
                    }
                };
                if deleted.is_none_or(|d| !d.contains(start + i)) && visible() {
                    rows.push(start + i);
                }
            }
        }
        rows.shrink_to_fit();
        reservation.resize(rows.capacity() * 4)?;
        if rows.len() < segment.rows() as usize {
            input.rows = Rows::Listed(rows);
            input.reservation = Some(reservation);
        }
        Ok(input)
    }
}
