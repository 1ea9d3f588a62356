//! Rows that a builder holds, column by column, in arrival order.

use crate::dictionary::Interner;
use crate::rows::{ColumnData, ColumnRows};
use crate::types::Physical;

pub(crate) enum Held {
    I64(Vec<i64>),
    I128(Vec<i128>),
    F64(Vec<f64>),
    /// Each row's number in `values`; `u32::MAX` is NULL.
    Bytes {
        values: Interner,
        ids: Vec<u32>,
    },
}

pub(crate) struct HeldColumn {
    pub data: Held,
    /// Rows that are NULL, ascending; unused for bytes.
    pub nulls: Vec<u32>,
}

/// A permutation of interned values and its inverse.
pub(crate) struct SortedValues {
    /// The interner's numbers in byte order of their values.
    pub order: Vec<u32>,
    /// `ranks[order[i]] == i`.
    pub ranks: Vec<u32>,
}

impl HeldColumn {
    pub fn new(physical: Physical) -> Self {
        let data = match physical {
            Physical::I64 => Held::I64(Vec::new()),
            Physical::I128 => Held::I128(Vec::new()),
            Physical::F64 => Held::F64(Vec::new()),
            Physical::Bytes => Held::Bytes { values: Interner::default(), ids: Vec::new() },
        };
        HeldColumn { data, nulls: Vec::new() }
    }

    /// Appends rows of the same physical type after the `base` rows already held.
    pub fn append(&mut self, base: usize, rows: ColumnRows) {
        match (&mut self.data, rows.data) {
            (Held::I64(to), ColumnData::I64(from)) => extend(to, from),
            (Held::I128(to), ColumnData::I128(from)) => extend(to, from),
            (Held::F64(to), ColumnData::F64(from)) => extend(to, from),
            (Held::Bytes { values, ids }, ColumnData::Bytes { ends, data }) => {
                ids.reserve(ends.len());
                let mut nulls = rows.nulls.iter().map(|n| *n as usize).peekable();
                let mut start = 0;
                let rows = ends.into_iter().enumerate().map(|(row, end)| {
                    let bytes = &data[start..end as usize];
                    start = end as usize;
                    if nulls.next_if_eq(&row).is_some() { None } else { Some(bytes) }
                });
                values.intern_all(rows, ids);
                return;
            }
            // The caller compared the schemas.
            _ => return,
        }
        self.nulls.extend(rows.nulls.iter().map(|n| n + base as u32));
    }

    pub fn memory(&self) -> usize {
        let data = match &self.data {
            Held::I64(v) => v.capacity() * 8,
            Held::I128(v) => v.capacity() * 16,
            Held::F64(v) => v.capacity() * 8,
            Held::Bytes { values, ids } => values.memory() + ids.capacity() * 4,
        };
        data + self.nulls.capacity() * 4
    }

    /// Distinct byte strings; 0 for other kinds.
    pub fn distinct(&self) -> usize {
        match &self.data {
            Held::Bytes { values, .. } => values.len(),
            _ => 0,
        }
    }

    /// Bytes only.
    pub fn sorted_values(&self) -> Option<SortedValues> {
        let Held::Bytes { values, .. } = &self.data else { return None };
        let order = values.sorted();
        let mut ranks = vec![0; order.len()];
        for (rank, id) in order.iter().enumerate() {
            ranks[*id as usize] = rank as u32;
        }
        Some(SortedValues { order, ranks })
    }

    /// One bit a row, set where it is NULL; `None`: no row is.
    pub fn null_words(&self, rows: usize) -> Option<Vec<u64>> {
        let mut words = vec![0u64; rows.div_ceil(64)];
        let mut any = false;
        let mut set = |row: usize| {
            any = true;
            words[row / 64] |= 1 << (row % 64);
        };
        match &self.data {
            Held::Bytes { ids, .. } => {
                ids.iter().enumerate().filter(|(_, id)| **id == u32::MAX).for_each(|(row, _)| set(row))
            }
            _ => self.nulls.iter().for_each(|row| set(*row as usize)),
        }
        any.then_some(words)
    }
}

/// Keeps the vector that comes first, so that a single buffer is not copied.
fn extend<T: Copy>(to: &mut Vec<T>, from: Vec<T>) {
    if to.is_empty() { *to = from } else { to.extend_from_slice(&from) }
}
