//! Rows of a block handed to an accumulator: a selection and, when asked for, its row numbers.

use super::bits::Selection;
use crate::Result;

/// Runs `$body` with `$i` as the number of each selected row of a [`RowSet`].
macro_rules! for_rows {
    ($set:expr, $i:ident, $body:block) => {{
        let rows = $set.rows;
        match $set.list() {
            None => {
                for $i in 0..rows {
                    $body
                }
            }
            Some(list) => {
                for row in list {
                    let $i = usize::from(*row);
                    $body
                }
            }
        }
    }};
}
pub(super) use for_rows;

pub(super) struct RowSet {
    pub selection: Selection,
    /// Rows of the block.
    pub rows: usize,
    list: Vec<u16>,
    listed: bool,
    grouped: Grouped,
}

/// Calls `f` with the rows whose bit is set. `words`: `None`: all of `rows`.
#[inline(always)]
pub(super) fn each_selected(rows: usize, words: Option<&[u64]>, mut f: impl FnMut(usize) -> Result<()>) -> Result<()> {
    let Some(words) = words else { return (0..rows).try_for_each(f) };
    for (nth, &word) in words.iter().enumerate().take(rows.div_ceil(64)) {
        let mut left = word;
        while left != 0 {
            f(nth * 64 + left.trailing_zeros() as usize)?;
            left &= left - 1;
        }
    }
    Ok(())
}

/// Rows in order of their groups.
#[derive(Default)]
pub(super) struct Grouped {
    known: bool,
    pub rows: Vec<u16>,
    /// Groups that have rows, ascending, and where each one's end.
    pub ends: Vec<(u32, usize)>,
}

impl RowSet {
    pub fn new() -> Self {
        let (list, grouped) = (Vec::new(), Grouped::default());
        RowSet { selection: Selection::None, rows: 0, list, listed: false, grouped }
    }

    pub fn set(&mut self, selection: Selection, rows: usize) {
        self.selection = selection;
        self.rows = rows;
        self.listed = false;
        self.grouped.known = false;
    }

    pub fn count(&self) -> usize {
        if self.listed { self.list.len() } else { self.selection.count(self.rows) }
    }

    /// The words of the selected rows, inner `None`: all are; outer: none is.
    pub fn words(&self) -> Option<Option<&[u64]>> {
        match &self.selection {
            Selection::None => None,
            Selection::All => Some(None),
            Selection::Some(bits) => Some(Some(bits.words())),
        }
    }

    /// The selected rows; `None`: all.
    pub fn list(&mut self) -> Option<&[u16]> {
        match &self.selection {
            Selection::All => return None,
            Selection::None => self.list.clear(),
            Selection::Some(bits) if !self.listed => bits.indices(&mut self.list),
            Selection::Some(_) => {}
        }
        self.listed = true;
        Some(&self.list)
    }

    /// The selected rows in order of their groups, which are below `slots`; always called with the same groups.
    pub fn grouped(&mut self, groups: &[u32], slots: usize) -> &Grouped {
        let mut grouped = std::mem::take(&mut self.grouped);
        if !grouped.known {
            let mut places = vec![0u32; slots];
            for_rows!(self, i, { places[groups[i] as usize] += 1 });
            let mut end = 0;
            grouped.ends.clear();
            for (group, place) in places.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
                let start = end;
                end += *place as usize;
                grouped.ends.push((group as u32, end));
                *place = start as u32;
            }
            grouped.rows.clear();
            grouped.rows.resize(end, 0);
            for_rows!(self, i, {
                let place = &mut places[groups[i] as usize];
                grouped.rows[*place as usize] = i as u16;
                *place += 1;
            });
            grouped.known = true;
        }
        self.grouped = grouped;
        &self.grouped
    }
}
