//! A column's values in one segment as small integers: what groups and distinct sets are made of.

use std::sync::Arc;

use super::columns::{BlockScratch, Kind, SegmentView, float_key};
use super::rowset::{RowSet, for_rows};
use super::unify::Unified;
use super::values::ValueMap;
use crate::plan::Buckets;
use crate::types::Value;
use crate::{Budget, Error, Result};

/// How digits of one column are made; shared by the threads of a segment.
pub(super) struct Digits {
    pub column: usize,
    pub source: Source,
    /// -0 is another value than 0.
    exact: bool,
    /// Digits are below this, NULL's included.
    pub cardinality: u64,
}

pub(super) enum Source {
    /// Codes; NULL is the last digit.
    Codes,
    /// Numbers of the values of all segments; NULL is the last digit.
    Unified(Arc<Unified>),
    /// `value - min`; NULL is the last digit.
    Offset { min: i64 },
    /// `number of the bucket's value - base`; NULL is the last digit.
    Buckets(BucketIndex),
    /// Numbers of a thread's own [`ValueMap`].
    Interned,
}

/// Digits of values that are numbered as they come.
pub(super) const INTERNED: u64 = 1 << 32;

impl Digits {
    /// Digits of a plain column; `limits` are its extremes in the blocks to be read, `None` if nothing is known or all is NULL.
    /// `wide`: digits may have 64 bits, else 32. `exact`: -0 is another value than 0.
    pub fn of_column(
        view: &SegmentView<'_>,
        column: usize,
        limits: Option<(i64, i64)>,
        wide: bool,
        exact: bool,
    ) -> Result<Digits> {
        let most = if wide { u64::MAX - 2 } else { u64::from(u32::MAX) - 2 };
        let of = &view.columns[column];
        let (source, cardinality) = match of.kind {
            Kind::Codes if let Some((unified, _)) = &of.unified => {
                (Source::Unified(unified.clone()), unified.len() as u64 + 1)
            }
            Kind::Codes => (Source::Codes, u64::from(of.dictionary_len()?) + 1),
            Kind::I64 => match limits {
                Some((min, max)) if max.wrapping_sub(min) as u64 <= most => {
                    (Source::Offset { min }, max.wrapping_sub(min) as u64 + 2)
                }
                _ => (Source::Interned, INTERNED),
            },
            Kind::I128 | Kind::F64 | Kind::Bytes => (Source::Interned, INTERNED),
        };
        Ok(Digits { column, source, exact, cardinality })
    }

    /// Digits of a bucketed time column.
    pub fn of_buckets(column: usize, buckets: &Arc<Buckets>, limits: Option<(i64, i64)>) -> Result<Digits> {
        let index = BucketIndex::new(buckets, limits)?;
        let cardinality = u64::from(index.span) + 2;
        Ok(Digits { column, source: Source::Buckets(index), exact: false, cardinality })
    }

    pub fn null(&self) -> u64 {
        match &self.source {
            Source::Interned => 0,
            Source::Buckets(index) => {
                index.buckets.null.map_or(self.cardinality - 1, |null| u64::from(null.wrapping_sub(index.base)))
            }
            _ => self.cardinality - 1,
        }
    }

    /// The one digit of all rows of the block, if headers tell.
    pub fn constant(
        &self,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        interner: Option<&mut ValueMap>,
    ) -> Result<Option<u64>> {
        if view.columns[self.column].is_computed() {
            return Ok(None);
        }
        let rows = scratch.rows() as u32;
        let block = scratch.block();
        let header = scratch.header(view, self.column)?;
        if header.nulls == rows {
            return Ok(Some(self.null()));
        }
        if header.nulls > 0 {
            return Ok(None);
        }
        let limits = match (&header.min, &header.max) {
            (Value::I64(min), Value::I64(max)) => (*min, *max),
            // A block of zeros may be of both kinds.
            (Value::F64(min), Value::F64(_)) if self.exact && *min == 0.0 => return Ok(None),
            (Value::F64(min), Value::F64(max)) => (float_key(*min), float_key(*max)),
            _ => return Ok(None),
        };
        if let Source::Buckets(index) = &self.source {
            return Ok(index.constant(limits.0, limits.1));
        }
        if limits.0 != limits.1 || !view.columns[self.column].is_constant(block)? {
            return Ok(None);
        }
        let value = limits.0;
        Ok(match (&self.source, interner) {
            (Source::Codes, _) => Some((value as u64).min(self.cardinality - 1)),
            (Source::Unified(_), _) => numbers(view, self.column)?.get(value as usize).map(|number| u64::from(*number)),
            (Source::Offset { min }, _) => Some((value.wrapping_sub(*min) as u64).min(self.cardinality - 1)),
            (Source::Interned, Some(map)) => Some(u64::from(map.of_int(value)?)),
            _ => None,
        })
    }

    /// Calls `f(row, digit)` for each row of `set`.
    pub fn each(
        &self,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        interner: Option<&mut ValueMap>,
        set: &mut RowSet,
        mut f: impl FnMut(usize, u64),
    ) -> Result<()> {
        let last = self.cardinality - 1;
        scratch.compute(view, self.column, &set.selection)?;
        if matches!(self.source, Source::Codes) {
            let codes = scratch.codes(view, self.column)?;
            for_rows!(set, i, { f(i, u64::from(codes[i]).min(last)) });
            return Ok(());
        }
        if matches!(self.source, Source::Unified(_)) {
            let (codes, numbers) = (scratch.codes(view, self.column)?, numbers(view, self.column)?);
            let null = numbers.len().saturating_sub(1);
            // A code past the end counts as NULL's.
            for_rows!(set, i, { f(i, u64::from(numbers[(codes[i] as usize).min(null)])) });
            return Ok(());
        }
        let validity = match scratch.is_null_free(view, self.column, &set.selection)? {
            true => None,
            false => Some(scratch.validity(view, self.column)?.clone()),
        };
        let null = self.null();
        macro_rules! rows {
            ($i:ident, $digit:expr) => {
                match &validity {
                    None => for_rows!(set, $i, { f($i, $digit) }),
                    Some(valid) => for_rows!(set, $i, { f($i, if valid.contains($i) { $digit } else { null }) }),
                }
            };
        }
        match (&self.source, interner) {
            (Source::Offset { min }, _) => {
                let values = scratch.ints(view, self.column)?;
                // A header that lies must not lead past the accumulators.
                rows!(i, (values[i].wrapping_sub(*min) as u64).min(last));
            }
            (Source::Buckets(index), _) => {
                let values = scratch.ints(view, self.column)?;
                if validity.is_none() && set.list().is_none() && index.is_clustered(values) {
                    index.runs(values, |row, digit| f(row, digit.min(last)));
                    return Ok(());
                }
                rows!(i, u64::from(index.digit(values[i])).min(last));
            }
            (Source::Interned, Some(map))
                if validity.is_none() && matches!(view.columns[self.column].kind, Kind::I64 | Kind::F64) =>
            {
                let values = match view.columns[self.column].kind {
                    Kind::F64 if self.exact => scratch.exact_keys(view, self.column)?,
                    Kind::F64 => scratch.float_keys(view, self.column)?,
                    _ => scratch.ints(view, self.column)?,
                };
                let mut row = 0;
                match set.list() {
                    None => map.of_ints(values.iter().copied(), |number| {
                        f(row, u64::from(number));
                        row += 1;
                    })?,
                    Some(rows) => map.of_ints(rows.iter().map(|r| values[usize::from(*r)]), |number| {
                        f(usize::from(rows[row]), u64::from(number));
                        row += 1;
                    })?,
                }
            }
            (Source::Interned, Some(map)) => match view.columns[self.column].kind {
                Kind::I64 => {
                    let values = scratch.ints(view, self.column)?;
                    rows!(i, u64::from(map.of_int(values[i])?));
                }
                Kind::F64 => {
                    let values = match self.exact {
                        true => scratch.exact_keys(view, self.column)?,
                        false => scratch.float_keys(view, self.column)?,
                    };
                    rows!(i, u64::from(map.of_int(values[i])?));
                }
                Kind::I128 => {
                    let values = scratch.wide(view, self.column)?;
                    rows!(i, u64::from(map.of_wide(values[i])?));
                }
                Kind::Bytes => {
                    let values = scratch.bytes(view, self.column)?;
                    rows!(i, u64::from(map.of_bytes(super::like::value(values, i))?));
                }
                Kind::Codes => return Err(Error::invalid("codes need no numbering")),
            },
            _ => return Err(Error::invalid("no numbering for a column's values")),
        }
        Ok(())
    }

    /// A numbering for one thread, where digits need one.
    pub fn interner(&self, view: &SegmentView<'_>, budget: &Budget) -> Result<Option<ValueMap>> {
        match self.source {
            Source::Interned => ValueMap::new(view.columns[self.column].ty.physical(), budget).map(Some),
            _ => Ok(None),
        }
    }

    /// The value that a digit stands for (bucket keys: the value's number).
    pub fn value(&self, digit: u64, view: &SegmentView<'_>, interner: Option<&ValueMap>) -> Result<Value> {
        let own = !matches!(&self.source, Source::Buckets(index) if index.buckets.null.is_some());
        if own && digit == self.null() {
            return Ok(Value::Null);
        }
        let of = &view.columns[self.column];
        Ok(match (&self.source, interner) {
            (Source::Codes, _) => {
                let mut bytes = Vec::new();
                of.dictionary_get(digit as u32, &mut bytes)?;
                Value::Bytes(bytes)
            }
            (Source::Unified(unified), _) => Value::Bytes(unified.get(digit as u32).to_vec()),
            (Source::Offset { min }, _) => Value::I64(min.wrapping_add(digit as i64)),
            (Source::Buckets(index), _) => Value::I64(i64::from(index.base) + digit as i64),
            (Source::Interned, Some(map)) => map.value(digit as u32),
            (Source::Interned, None) => return Err(Error::invalid("no numbering for a column's values")),
        })
    }
}

/// What a segment's codes are in the numbering of all.
fn numbers<'v>(view: &'v SegmentView<'_>, column: usize) -> Result<&'v [u32]> {
    match &view.columns[column].unified {
        Some((_, map)) => Ok(&map.numbers),
        None => Err(Error::invalid("codes without a common numbering")),
    }
}

/// Pieces in one cell beyond which they are searched by halving.
const CROWDED: usize = 16;

/// Finds the piece that a time falls into in constant time: a table of cells, each with its first piece.
pub(super) struct BucketIndex {
    buckets: Arc<Buckets>,
    min: i64,
    shift: u32,
    cells: Vec<u32>,
    /// Smallest value number among the pieces in reach, and the distance to the largest.
    base: u32,
    span: u32,
}

impl BucketIndex {
    fn new(buckets: &Arc<Buckets>, limits: Option<(i64, i64)>) -> Result<Self> {
        let (starts, values) = (&buckets.starts, &buckets.values);
        if starts.is_empty() || starts.len() != values.len() || !starts.is_sorted() {
            return Err(Error::invalid("buckets without ascending starts"));
        }
        let (min, max) = limits.unwrap_or((starts[0], starts[0]));
        let (first, last) = (piece(starts, min), piece(starts, max));
        let reach = &values[first..=last];
        let numbers = || reach.iter().copied().chain(buckets.null);
        let base = numbers().min().unwrap_or(0);
        let span = numbers().max().unwrap_or(0) - base;
        // Up to four cells a piece: most cells then hold one piece or two.
        let width = max.wrapping_sub(min) as u64;
        let wanted = ((last - first + 1) as u64).saturating_mul(4).clamp(1, 1 << 16);
        let shift = (0..63).find(|s| width >> s < wanted.max(64)).unwrap_or(63);
        let mut cells = Vec::with_capacity((width >> shift) as usize + 1);
        let mut at = first;
        for cell in 0..=width >> shift {
            let start = min.wrapping_add((cell << shift) as i64);
            while at + 1 < starts.len() && starts[at + 1] <= start {
                at += 1;
            }
            cells.push(at as u32);
        }
        Ok(BucketIndex { buckets: buckets.clone(), min, shift, cells, base, span })
    }

    #[inline(always)]
    fn digit(&self, time: i64) -> u32 {
        self.buckets.values[self.piece(time)].wrapping_sub(self.base)
    }

    #[inline(always)]
    fn piece(&self, time: i64) -> usize {
        let cell = (time.wrapping_sub(self.min) as u64 >> self.shift) as usize;
        let cell = cell.min(self.cells.len() - 1);
        let mut at = self.cells[cell] as usize;
        let starts = self.buckets.starts.as_slice();
        // A far time (infinity) makes cells wide, and then one may hold most pieces.
        if let Some(end) = self.cells.get(cell + 1).map(|end| *end as usize)
            && end > at + CROWDED
        {
            return at + piece(&starts[at..=end], time);
        }
        while at + 1 < starts.len() && starts[at + 1] <= time {
            at += 1;
        }
        at
    }

    /// Whether neighbours are nearly always of one piece, as in a block that is sorted by time: a sample tells.
    fn is_clustered(&self, values: &[i64]) -> bool {
        const SAMPLES: usize = 32;
        let step = values.len() / SAMPLES;
        let alike = |nth: &usize| self.piece(values[nth * step]) == self.piece(values[nth * step + 1]);
        step > 1 && (0..SAMPLES).filter(alike).count() >= SAMPLES - 2
    }

    /// Calls `f(row, digit)` for each value, run by run: the piece is looked up once for as long as values stay in it.
    fn runs(&self, values: &[i64], mut f: impl FnMut(usize, u64)) {
        let starts = self.buckets.starts.as_slice();
        let mut row = 0;
        while let Some(time) = values.get(row) {
            let piece = self.piece(*time);
            let low = if piece == 0 { i64::MIN } else { starts[piece] };
            let width = starts.get(piece + 1).map_or(i64::MAX, |next| *next).wrapping_sub(low) as u64;
            let inside = |v: &i64| (v.wrapping_sub(low) as u64) < width;
            let rest = &values[row + 1..];
            let whole = rest.as_chunks::<64>().0.iter().take_while(|c| c.iter().fold(true, |all, v| all & inside(v)));
            let whole = whole.count() * 64;
            let end = row + 1 + whole + rest[whole..].iter().take_while(|v| inside(v)).count();
            let digit = u64::from(self.buckets.values[piece].wrapping_sub(self.base));
            for i in row..end {
                f(i, digit);
            }
            row = end;
        }
    }

    /// The digit of all times of `min..=max`, if it is one.
    fn constant(&self, min: i64, max: i64) -> Option<u64> {
        let (first, last) = (piece(&self.buckets.starts, min), piece(&self.buckets.starts, max));
        let value = self.buckets.values[first];
        let one = self.buckets.values[first..=last].iter().all(|v| *v == value);
        one.then(|| u64::from(value.wrapping_sub(self.base)))
    }
}

/// The piece that `time` falls into; times before the first piece count to it.
fn piece(starts: &[i64], time: i64) -> usize {
    starts.partition_point(|s| *s <= time).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_index_finds_the_piece(
            starts in prop::collection::btree_set(-2000..2000i64, 1..40),
            times in prop::collection::vec(-2000..3000i64, 1..50),
            scale in prop_oneof![Just(1i64), Just(86_400_000_000)],
            infinite in any::<bool>(),
        ) {
            let mut starts: Vec<i64> = std::iter::once(-3000).chain(starts).map(|s| s * scale).collect();
            let mut times: Vec<i64> = times.iter().map(|t| t * scale + 1).collect();
            if infinite {
                starts.insert(0, i64::MIN);
                starts.push(i64::MAX);
                times.extend([i64::MIN, i64::MAX]);
            }
            let values: Vec<u32> = (0..starts.len() as u32).map(|i| i * 7 % 5 + 3).collect();
            let buckets = Arc::new(Buckets { starts: starts.clone(), values: values.clone(), null: None });
            let (min, max) = (*times.iter().min().unwrap(), *times.iter().max().unwrap());
            let index = BucketIndex::new(&buckets, Some((min, max))).unwrap();
            for t in &times {
                let want = values[starts.iter().rposition(|s| s <= t).unwrap()];
                prop_assert_eq!(index.digit(*t) + index.base, want);
                prop_assert!(index.digit(*t) <= index.span);
                prop_assert_eq!(index.constant(*t, *t), Some(u64::from(want - index.base)));
            }
            for sorted in [false, true] {
                let mut times = times.clone();
                // Long runs, too.
                if sorted {
                    times.sort_unstable();
                    times = times.iter().flat_map(|t| std::iter::repeat_n(*t, 1 + (*t).rem_euclid(150) as usize)).collect();
                }
                let mut found = vec![u64::MAX; times.len()];
                index.runs(&times, |row, digit| found[row] = digit);
                let want: Vec<u64> = times.iter().map(|t| u64::from(index.digit(*t))).collect();
                prop_assert_eq!(found, want);
            }
        }
    }
}
