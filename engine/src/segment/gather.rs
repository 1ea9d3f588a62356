//! Rows on their way into one segment, from the first to the moment that it is built.

use std::ops::Range;
use std::sync::Arc;

use super::build::MAX_ROWS;
use super::held::HeldRows;
use crate::rows::RowBuffer;
use crate::types::Schema;
use crate::{Error, Result};

/// Rows that are held as they came before they take the builder's form: what they take is in a processor's cache then.
const STEP: usize = 4096;

/// Rows in arrival order: the last ones as they came, those before in the builder's form, in which each distinct byte string of a column is there once.
pub struct Gathered {
    held: HeldRows,
    buffer: RowBuffer,
}

impl Gathered {
    pub fn new(schema: Arc<Schema>) -> Self {
        Gathered { held: HeldRows::new(schema.clone()), buffer: RowBuffer::new(schema) }
    }

    pub fn schema(&self) -> &Arc<Schema> {
        self.buffer.schema()
    }

    pub fn rows(&self) -> usize {
        self.held.rows() + self.buffer.rows()
    }

    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Bytes allocated.
    pub fn memory(&self) -> usize {
        self.held.memory() + self.buffer.memory()
    }

    /// Lets `push` append rows to a buffer, behind those that it holds.
    pub fn push<E: From<Error>>(
        &mut self,
        push: impl FnOnce(&mut RowBuffer) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        push(&mut self.buffer)?;
        if self.buffer.rows() >= STEP {
            self.settle()?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        self.held.append(&self.buffer, 0..self.buffer.rows())?;
        self.buffer.truncate(0);
        Ok(())
    }

    /// Appends rows `range` of `rows`. Errors: `Error::Invalid` if its schema is another, it has fewer rows, or there are too many.
    pub fn append(&mut self, rows: &RowBuffer, range: Range<usize>) -> Result<()> {
        if self.buffer.rows() + range.len() < STEP {
            return self.buffer.append_range(rows, range);
        }
        self.settle()?;
        self.held.append(rows, range)
    }

    /// Appends all rows of `other`. Errors: `Error::Invalid` if its schema is another or there are too many.
    pub fn append_all(&mut self, other: Gathered) -> Result<()> {
        if other.held.rows() > 0 {
            let held = other.held.into_rows();
            self.append(&held, 0..held.rows())?;
        }
        self.append(&other.buffer, 0..other.buffer.rows())
    }

    /// Takes the first `count` rows out.
    pub fn split(&mut self, count: usize) -> Result<Gathered> {
        let rest = Gathered::new(self.schema().clone());
        let mut first = std::mem::replace(self, rest);
        let held = first.held.rows();
        if count < held {
            let held = std::mem::replace(&mut first.held, HeldRows::new(self.schema().clone())).into_rows();
            first.held.append(&held, 0..count)?;
            self.append(&held, count..held.rows())?;
        }
        let kept = count.saturating_sub(held).min(first.buffer.rows());
        self.append(&first.buffer, kept..first.buffer.rows())?;
        first.buffer.truncate(kept);
        Ok(first)
    }

    /// All of them in the builder's form. Errors: there are too many.
    pub(crate) fn into_held(mut self) -> Result<HeldRows> {
        self.settle()?;
        Ok(self.held)
    }
}

/// Errors: `Invalid` for more rows than a segment may hold.
pub(crate) fn check_rows(rows: usize) -> Result<()> {
    if rows > MAX_ROWS { Err(Error::invalid("a segment of more than 2^32 - 2 rows")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentBuilder;
    use crate::segment::testing::{Spread, TYPES, buffer, build, options, rows_of, schema};

    fn built(rows: Gathered) -> Vec<u8> {
        let mut out = Vec::new();
        SegmentBuilder::of(rows, options()).unwrap().finish(&mut out).unwrap();
        out
    }

    /// Rows of both forms, split wherever and joined again, make the segments that they would have made at once.
    #[test]
    fn rows_stay_what_they_are() {
        let schema = schema(&TYPES, Some(9), &[]);
        let rows = rows_of(&TYPES, &TYPES.map(|_| Spread::Few), &TYPES.map(|_| 10), 10_000, 3);
        let all = buffer(&schema, &rows);
        let expected = build(&schema, &rows).0;
        for piece in [700, STEP, 9000] {
            for count in [0, 1, 699, STEP, 9500, 10_000] {
                let mut gathered = Gathered::new(schema.clone());
                for start in (0..rows.len()).step_by(piece) {
                    gathered.append(&all, start..rows.len().min(start + piece)).unwrap();
                }
                let mut first = gathered.split(count).unwrap();
                assert_eq!((first.rows(), gathered.rows()), (count, rows.len() - count));
                if count == 9500 {
                    let again = first.split(first.rows()).unwrap();
                    assert!(built(again) == build(&schema, &rows[..count]).0, "{count} rows of pieces of {piece}");
                    continue;
                }
                first.append_all(gathered).unwrap();
                assert!(built(first) == expected, "{count} rows of pieces of {piece}");
            }
        }
    }

    #[test]
    fn rows_of_another_schema_are_refused() {
        let rows = RowBuffer::new(schema(&TYPES, None, &[]));
        assert!(Gathered::new(schema(&TYPES, Some(9), &[])).append(&rows, 0..0).is_err());
        assert!(Gathered::new(rows.schema().clone()).append(&rows, 0..1).is_err());
    }
}
