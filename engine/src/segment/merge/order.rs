//! The order of a merge's rows: which source the next row comes from.

use super::cursor::{CodeCursor, ValueCursor};
use super::dictionaries::MergedDictionary;
use super::input::{Input, Rows};
use crate::segment::BuildOptions;
use crate::segment::build::plain_kind;
use crate::types::{ColumnId, Schema};
use crate::{Error, Reservation, Result};

/// Pairs of a source and how many of its rows come next.
pub(super) struct Runs {
    pairs: Vec<(u32, u32)>,
    reservation: Reservation,
}

impl Runs {
    pub fn iter(&self) -> std::slice::Iter<'_, (u32, u32)> {
        self.pairs.iter()
    }

    fn push(&mut self, source: u32) -> Result<()> {
        match self.pairs.last_mut() {
            Some((last, count)) if *last == source => *count += 1,
            _ => {
                let capacity = self.pairs.capacity();
                if self.pairs.len() == capacity {
                    // The old half lives until it is copied.
                    self.reservation.resize((capacity * 3).max(64) * size_of::<(u32, u32)>())?;
                }
                self.pairs.push((source, 1));
            }
        }
        Ok(())
    }
}

/// A binary heap of small numbers whose order is handed in.
pub(crate) struct Heap(Vec<u32>);

impl Heap {
    pub fn new(items: Vec<u32>, mut less: impl FnMut(u32, u32) -> bool) -> Self {
        let mut heap = Heap(items);
        for at in (0..heap.0.len() / 2).rev() {
            heap.sift_down(at, &mut less);
        }
        heap
    }

    /// The least item.
    pub fn top(&self) -> Option<u32> {
        self.0.first().copied()
    }

    /// Puts things right after the top's place in the order changed, or the top ended.
    pub fn fix_top(&mut self, live: bool, mut less: impl FnMut(u32, u32) -> bool) {
        if !live {
            self.0.swap_remove(0);
        }
        self.sift_down(0, &mut less);
    }

    fn sift_down(&mut self, mut at: usize, less: &mut impl FnMut(u32, u32) -> bool) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.0.len() && less(self.0[child], self.0[least]) {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.0.swap(at, least);
            at = least;
        }
    }
}

enum KeyCursor<'a> {
    Values(ValueCursor<'a>),
    Codes(CodeCursor<'a>),
}

impl KeyCursor<'_> {
    /// Integers that order as the values do, NULL last.
    fn next(&mut self) -> Result<(bool, u128)> {
        match self {
            KeyCursor::Values(cursor) => Ok(cursor.next_key()?.map_or((true, 0), |key| (false, key))),
            KeyCursor::Codes(cursor) => Ok((false, u128::from(cursor.next()?))),
        }
    }
}

type Key = Vec<(bool, u128)>;

fn sort_columns(schema: &Schema) -> impl Iterator<Item = usize> + '_ {
    schema.cluster_by.iter().chain(&schema.time).copied()
}

fn key_cursors<'a>(
    schema: &Schema,
    input: &'a Input<'a>,
    source: usize,
    dictionaries: &'a [Option<MergedDictionary<'a>>],
) -> Result<Vec<KeyCursor<'a>>> {
    sort_columns(schema)
        .map(|position| match &dictionaries[position] {
            // Codes stop before `u32::MAX`, and NULL is last.
            Some(merged) => Ok(KeyCursor::Codes(CodeCursor::new(input, &merged.sources[source], u32::MAX))),
            None => {
                let column = &schema.columns[position];
                Ok(KeyCursor::Values(ValueCursor::new(column, plain_kind(column.ty), input)?))
            }
        })
        .collect()
}

/// Puts the rows of every source that is sorted otherwise in the order of `schema`.
pub(super) fn sort_inputs(
    schema: &Schema,
    inputs: &mut [Input],
    dictionaries: &[Option<MergedDictionary>],
    options: &BuildOptions,
) -> Result<()> {
    let wanted: Vec<ColumnId> = sort_columns(schema).map(|p| schema.columns[p].id).collect();
    for (source, input) in inputs.iter_mut().enumerate() {
        let sorted = input.segment.sort_columns().collect::<Vec<_>>();
        // Sorted by more columns is sorted by the first of them.
        if sorted.starts_with(&wanted) || input.rows.len() < 2 {
            continue;
        }
        options.cancel.check()?;
        let rows = input.rows.len();
        let _keys = options.budget.reserve(rows * wanted.len() * 32 + rows * 24)?;
        let mut order: Vec<usize> = (0..rows).collect();
        {
            let mut cursors = key_cursors(schema, input, source, dictionaries)?;
            let mut keys: Vec<(bool, u128)> = Vec::with_capacity(rows * wanted.len());
            for _ in 0..rows {
                for cursor in &mut cursors {
                    keys.push(cursor.next()?);
                }
            }
            let key = |row: usize| &keys[row * wanted.len()..(row + 1) * wanted.len()];
            if (1..rows).all(|row| key(row - 1) <= key(row)) {
                continue;
            }
            order.sort_by(|a, b| key(*a).cmp(key(*b)));
        }
        let mut reservation = options.budget.reserve(rows * 4)?;
        let permuted: Vec<u32> = order.into_iter().map(|i| input.rows.get(i)).collect();
        reservation.resize(permuted.capacity() * 4)?;
        input.rows = Rows::Permuted(permuted);
        input.reservation = Some(reservation);
    }
    Ok(())
}

/// Merges sorted inputs; rows of equal keys keep the order of their sources.
pub(super) fn runs(
    schema: &Schema,
    inputs: &[Input],
    dictionaries: &[Option<MergedDictionary>],
    options: &BuildOptions,
) -> Result<Runs> {
    let mut runs = Runs { pairs: Vec::new(), reservation: options.budget.reserve(0)? };
    let mut left: Vec<usize> = inputs.iter().map(|i| i.rows.len()).collect();
    if sort_columns(schema).next().is_none() {
        runs.pairs.extend((0..).zip(&left).filter(|(_, rows)| **rows > 0).map(|(s, rows)| (s, *rows as u32)));
        return Ok(runs);
    }
    let mut cursors = Vec::new();
    for (source, input) in inputs.iter().enumerate() {
        cursors.push(key_cursors(schema, input, source, dictionaries)?);
    }
    let mut keys: Vec<Key> = vec![Vec::new(); inputs.len()];
    let mut advance = |keys: &mut Vec<Key>, source: usize| -> Result<bool> {
        let Some(rest) = left[source].checked_sub(1) else { return Ok(false) };
        left[source] = rest;
        let key = &mut keys[source];
        key.clear();
        for cursor in &mut cursors[source] {
            key.push(cursor.next()?);
        }
        Ok(true)
    };
    let mut live = Vec::new();
    for source in 0..inputs.len() {
        if advance(&mut keys, source)? {
            live.push(u32::try_from(source).map_err(|_| Error::invalid("too many sources"))?);
        }
    }
    let less = |keys: &Vec<Key>, a: u32, b: u32| (&keys[a as usize], a) < (&keys[b as usize], b);
    let mut heap = Heap::new(live, |a, b| less(&keys, a, b));
    let mut taken = 0usize;
    while let Some(source) = heap.top() {
        runs.push(source)?;
        taken += 1;
        if taken.is_multiple_of(65_536) {
            options.cancel.check()?;
        }
        let more = advance(&mut keys, source as usize)?;
        heap.fix_top(more, |a, b| less(&keys, a, b));
    }
    Ok(runs)
}
