//! Rows of a block handed to an accumulator: a selection and, when asked for, its row numbers.

use super::bits::Selection;

pub(super) struct RowSet {
    pub selection: Selection,
    /// Rows of the block.
    pub rows: usize,
    list: Vec<u16>,
    listed: bool,
}

impl RowSet {
    pub fn new() -> Self {
        RowSet { selection: Selection::None, rows: 0, list: Vec::new(), listed: false }
    }

    pub fn set(&mut self, selection: Selection, rows: usize) {
        self.selection = selection;
        self.rows = rows;
        self.listed = false;
    }

    pub fn count(&self) -> usize {
        if self.listed { self.list.len() } else { self.selection.count(self.rows) }
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
}

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
