//! Columns that are looked up by key: the rows that keys find, and what these rows hold.

use std::sync::Arc;

use super::super::columns::{BlockScratch, Kind, SegmentView};
use super::super::like::value;
use super::Space;
use crate::exec::bits::{Bits, Selection};
use crate::plan::{Attribute, AttributeValues, Held, KeyIndex, Limits, Lookup, NO_ROW, Rows};
use crate::segment::BytesBlock;
use crate::{Error, Reservation, Result};

/// Codes whose values are decoded at a time.
const RUN: u32 = 1024;
/// A dictionary of so many values a key is searched for keys; of fewer, its values are looked up.
const SEARCHED: usize = 64;

/// A lookup column bound to a segment.
pub(in crate::exec) struct LookupTable {
    /// The column of keys.
    source: usize,
    index: Arc<KeyIndex>,
    /// The row of each code of the source's dictionary, or [`NO_ROW`]; NULL's as the last.
    by_code: Option<Vec<u32>>,
}

impl LookupTable {
    /// The source is bound if it is computed. `memory` grows by what is held. Errors: `Budget`, `Corrupt`.
    pub fn new(lookup: &Lookup, view: &SegmentView<'_>, memory: &mut Reservation) -> Result<LookupTable> {
        let (source, index) = (lookup.column, lookup.index.clone());
        let column = &view.columns[source];
        let (Kind::Codes, Rows::Bytes(rows)) = (column.kind, index.rows()) else {
            return Ok(LookupTable { source, index, by_code: None });
        };
        let len = column.dictionary_len()?;
        memory.grow((len as usize + 1) * 4)?;
        let mut by_code = vec![NO_ROW; len as usize + 1];
        if rows.len().saturating_mul(SEARCHED) < len as usize {
            for (key, row) in rows {
                if let Ok(code) = column.dictionary_search(key)? {
                    by_code[code as usize] = *row;
                }
            }
        } else {
            for start in (0..len).step_by(RUN as usize) {
                let values = column.dictionary_range(start..len.min(start + RUN))?;
                for i in 0..values.len() {
                    if let Some(row) = rows.get(values.get(i)) {
                        by_code[start as usize + i] = *row;
                    }
                }
            }
        }
        Ok(LookupTable { source, index, by_code: Some(by_code) })
    }

    pub fn limits(&self) -> Limits {
        Some((0, i128::from(NO_ROW)))
    }

    /// Finds the rows of the scratch's block.
    pub fn apply(
        &self,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        column: usize,
        rows: &Selection,
    ) -> Result<()> {
        let source = self.source;
        scratch.compute(view, source, rows)?;
        let known = scratch.known_rows(source);
        let valid = scratch.validity(view, source)?.clone();
        let mut space = scratch.take_space(column);
        let found = &mut space.ints;
        found.clear();
        match (self.index.rows(), view.columns[source].kind) {
            (rows @ (Rows::Dense { .. } | Rows::Sparse { .. } | Rows::Hash(_)), kind) if kind != Kind::Codes => {
                let keys = match kind {
                    Kind::F64 => scratch.float_keys(view, source)?,
                    Kind::I64 => scratch.ints(view, source)?,
                    _ => return Err(misfit()),
                };
                match rows {
                    // The common case without a look at the kind for each key.
                    Rows::Dense { min, rows } => {
                        let of = |key: &i64| rows.get(key.wrapping_sub(*min) as usize).copied().unwrap_or(NO_ROW);
                        found.extend(keys.iter().map(|key| i64::from(of(key))));
                    }
                    rows => found.extend(keys.iter().map(|key| i64::from(rows.of_number(*key)))),
                }
            }
            (Rows::Wide(rows), Kind::I128) => {
                let keys = scratch.wide(view, source)?;
                found.extend(keys.iter().map(|key| i64::from(rows.get(key).copied().unwrap_or(NO_ROW))));
            }
            (Rows::Bytes(rows), Kind::Bytes) => {
                let keys = scratch.bytes(view, source)?;
                let find = |i: usize| rows.get(value(keys, i)).copied().unwrap_or(NO_ROW);
                found.extend((0..keys.len()).map(|i| i64::from(find(i))));
            }
            (_, Kind::Codes) => {
                let by_code = self.by_code.as_deref().ok_or_else(misfit)?;
                let codes = scratch.codes(view, source)?;
                let find = |code: &u32| by_code.get(*code as usize).copied().unwrap_or(NO_ROW);
                found.extend(codes.iter().map(|code| i64::from(find(code))));
            }
            _ => return Err(misfit()),
        }
        // Keys are arbitrary where they are NULL or were not computed.
        Selection::All.and_not(&valid.and(&known), found.len()).for_each(found.len(), |i| found[i] = i64::from(NO_ROW));
        let mut bits = Bits::zeros(found.len());
        for (run, word) in found.chunks(64).zip(bits.words_mut()) {
            *word = run.iter().enumerate().fold(0, |w, (i, row)| w | u64::from(*row != i64::from(NO_ROW)) << i);
        }
        scratch.put_space(column, space);
        scratch.computed(view, column, known, Selection::of(bits), true, self.limits());
        Ok(())
    }
}

fn misfit() -> Error {
    Error::invalid("keys are of another type than their column")
}

/// An attribute column bound to a segment.
pub(in crate::exec) struct AttributeTable {
    /// The column of rows.
    source: usize,
    /// Whether it holds [`NO_ROW`] where it is NULL, as a lookup column does; else anything may stand there.
    exact: bool,
    values: Arc<AttributeValues>,
}

impl AttributeTable {
    pub fn new(attribute: &Attribute, exact: bool) -> AttributeTable {
        AttributeTable { source: attribute.column, exact, values: attribute.values.clone() }
    }

    pub fn limits(&self) -> (Limits, bool) {
        self.values.limits()
    }

    pub fn dictionary(&self) -> Option<&BytesBlock> {
        self.values.dictionary()
    }

    /// Fetches the values of the scratch's block.
    pub fn apply(
        &self,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        column: usize,
        rows: &Selection,
    ) -> Result<()> {
        scratch.compute(view, self.source, rows)?;
        let known = scratch.known_rows(self.source);
        let valid = scratch.validity(view, self.source)?.clone();
        let (slots, mut codes) = scratch.take_slots(column);
        scratch.keep_slots(column, slots);
        let mut space = scratch.take_space(column);
        let found = scratch.ints(view, self.source)?;
        let own = gather(&self.values, found.iter().map(|row| *row as u32), &mut space, &mut codes);
        if let (false, Held::Codes(_, dictionary)) = (self.exact, &self.values.held) {
            let (null, rows) = (dictionary.len() as u32, codes.len());
            Selection::All.and_not(&valid.clone().and(&known), rows).for_each(rows, |i| codes[i] = null);
        }
        put(&self.values, space, codes, view, scratch, column, known, own.and(&valid));
        Ok(())
    }
}

/// Makes column `column` of the scratch's block hold the values of these rows; beyond the last there are zeros.
/// `codes`: a buffer; `known`: where the rows mean something.
pub(super) fn fetch(
    values: &AttributeValues,
    rows: impl ExactSizeIterator<Item = u32> + Clone,
    mut codes: Vec<u32>,
    view: &SegmentView<'_>,
    scratch: &mut BlockScratch,
    column: usize,
    known: &Selection,
) -> Result<()> {
    let mut space = scratch.take_space(column);
    let valid = gather(values, rows, &mut space, &mut codes);
    put(values, space, codes, view, scratch, column, known.clone(), valid);
    Ok(())
}

/// Collects the values of these rows; returns where they are not NULL.
fn gather(
    values: &AttributeValues,
    rows: impl ExactSizeIterator<Item = u32> + Clone,
    space: &mut Space,
    codes: &mut Vec<u32>,
) -> Selection {
    let valid = match &values.valid {
        None => Selection::All,
        Some(valid) => {
            let mut bits = Bits::zeros(rows.len());
            let mut each = rows.clone();
            for word in bits.words_mut() {
                let known = each.by_ref().take(64).enumerate();
                *word = known
                    .fold(0, |word, (i, row)| word | u64::from(valid.get(row as usize).copied().unwrap_or(false)) << i);
            }
            Selection::of(bits)
        }
    };
    codes.clear();
    match &values.held {
        Held::Ints(held) => {
            space.ints.clear();
            space.ints.extend(rows.map(|row| held.get(row as usize).copied().unwrap_or(0)));
        }
        Held::Wide(held) => {
            space.wide.clear();
            space.wide.extend(rows.map(|row| held.get(row as usize).copied().unwrap_or(0)));
        }
        Held::Floats(held) => {
            space.floats.clear();
            space.floats.extend(rows.map(|row| held.get(row as usize).copied().unwrap_or(0.0)));
        }
        Held::Codes(held, dictionary) => {
            let null = dictionary.len() as u32;
            codes.extend(rows.map(|row| held.get(row as usize).copied().unwrap_or(null)));
        }
    }
    valid
}

#[allow(clippy::too_many_arguments)]
fn put(
    values: &AttributeValues,
    space: Space,
    codes: Vec<u32>,
    view: &SegmentView<'_>,
    scratch: &mut BlockScratch,
    column: usize,
    known: Selection,
    valid: Selection,
) {
    scratch.put_space(column, space);
    scratch.put_codes(column, codes);
    let narrow = matches!(values.held, Held::Ints(_));
    scratch.computed(view, column, known, valid, narrow, values.limits);
}
