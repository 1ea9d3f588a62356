//! The first rows by one column: a row that is surely behind the first N seen so far is not handed out. Segments and blocks come best
//! first, so that headers exclude most of the others. Byte strings are ranked by how they begin; of those that begin alike none is left out but
//! for what dictionaries tell, in which whole values are compared.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::bits::{Bits, Selection};
use super::columns::{BlockScratch, Kind, SegmentView, float_key};
use super::like::value;
use super::rowset::{RowSet, for_rows};
use crate::plan::RowTop;
use crate::segment::SegmentStatistics;
use crate::types::{ColumnId, Value};
use crate::{Budget, Reservation, Result, prefix};

/// Where a row stands in the order: less is earlier, and equal may be either. NULLs are a class of their own before or behind all values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowRank(u8, i128);

const FIRST: RowRank = RowRank(0, i128::MIN);

/// Where one of the first rows stands.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    rank: RowRank,
    /// Of a byte string the whole; `None`: it is not known, and may be any of its rank.
    text: Option<Box<[u8]>>,
    descending: bool,
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank).then_with(|| match (&self.text, &other.text) {
            (Some(a), Some(b)) if self.descending => b.cmp(a),
            (Some(a), Some(b)) => a.cmp(b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        })
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Place {
    fn bytes(&self) -> usize {
        self.text.as_ref().map_or(0, |text| text.len())
    }
}

pub(super) struct First {
    pub top: RowTop,
    id: ColumnId,
    /// The first places so far, the last of them on top.
    best: BinaryHeap<Place>,
    memory: Reservation,
}

/// The most rows of which whole texts are kept.
const MOST_TEXTS: usize = 1 << 12;

/// The most rows for which ranks are kept: of more, all are handed out.
const MOST: usize = 1 << 20;

/// The order of how byte strings begin, as a number.
fn beginning(bytes: &[u8]) -> i128 {
    (u128::from_be_bytes(prefix(bytes)) ^ 1 << 127) as i128
}

impl First {
    /// `None`: too many rows are asked for.
    pub fn new(top: RowTop, id: ColumnId, budget: &Budget) -> Result<Option<First>> {
        if top.limit > MOST {
            return Ok(None);
        }
        let memory = budget.reserve(top.limit * size_of::<Place>())?;
        Ok(Some(First { top, id, best: BinaryHeap::with_capacity(top.limit), memory }))
    }

    fn rank(&self, value: Option<i128>) -> RowRank {
        match value {
            None => RowRank(if self.top.nulls_first { 0 } else { 2 }, 0),
            Some(value) => RowRank(1, if self.top.descending { !value } else { value }),
        }
    }

    /// The earliest rank that limits allow.
    fn earliest(&self, nulls: bool, min: &Value, max: &Value) -> RowRank {
        if nulls && self.top.nulls_first {
            return FIRST;
        }
        match if self.top.descending { max } else { min } {
            Value::I64(v) => self.rank(Some(i128::from(*v))),
            Value::I128(v) => self.rank(Some(*v)),
            Value::F64(v) => self.rank(Some(i128::from(float_key(*v)))),
            Value::Bytes(v) => self.rank(Some(beginning(v))),
            Value::Null if nulls => self.rank(None),
            _ => FIRST,
        }
    }

    pub fn of_segment(&self, statistics: &SegmentStatistics) -> RowRank {
        let of = statistics.columns.iter().find(|c| c.id == self.id);
        of.map_or(FIRST, |c| self.earliest(c.nulls > 0, &c.min, &c.max))
    }

    pub fn of_block(&self, view: &SegmentView<'_>, scratch: &mut BlockScratch) -> Result<RowRank> {
        let of = &view.columns[self.top.column];
        let header = scratch.header(view, self.top.column)?;
        match of.kind {
            Kind::Codes => {
                let value = |code: &Value| -> Result<Value> {
                    let Value::I64(code) = code else { return Ok(Value::Null) };
                    let mut bytes = Vec::new();
                    of.dictionary_get(*code as u32, &mut bytes)?;
                    Ok(Value::Bytes(bytes))
                };
                Ok(self.earliest(header.nulls > 0, &value(&header.min)?, &value(&header.max)?))
            }
            _ => Ok(self.earliest(header.nulls > 0, &header.min, &header.max)),
        }
    }

    /// Whether a row of this rank may be among the first.
    pub fn admits(&self, rank: RowRank) -> bool {
        if self.best.len() < self.top.limit { true } else { self.best.peek().is_some_and(|last| rank <= last.rank) }
    }

    /// Takes a row into account. `false`: it is not among the first; nor is one that ties with the last of them.
    fn add(&mut self, rank: RowRank, text: Option<&[u8]>) -> Result<bool> {
        let whole = self.top.limit <= MOST_TEXTS;
        let text = text.filter(|_| whole).map(Box::from);
        let place = Place { rank, text, descending: self.top.descending };
        if self.best.len() >= self.top.limit {
            match self.best.peek() {
                Some(last) if place < *last => {}
                _ => return Ok(false),
            }
            let gone = self.best.pop().map_or(0, |gone| gone.bytes());
            self.memory.resize(self.memory.bytes() - gone)?;
        }
        self.memory.grow(place.bytes())?;
        self.best.push(place);
        Ok(true)
    }

    /// Takes the selected rows of a block into account; those that may be among the first stay selected.
    pub fn keep(&mut self, view: &SegmentView<'_>, scratch: &mut BlockScratch, set: &mut RowSet) -> Result<()> {
        let column = self.top.column;
        let valid = match scratch.header(view, column)?.nulls {
            0 => Selection::All,
            _ => scratch.validity(view, column)?.clone(),
        };
        let mut ranks = Vec::with_capacity(set.count());
        macro_rules! rank {
            ($values:expr, $v:ident, $key:expr) => {{
                let values = $values;
                for_rows!(set, i, {
                    let $v = values[i];
                    ranks.push((i as u32, self.rank(valid.contains(i).then(|| $key))));
                });
            }};
        }
        match view.columns[column].kind {
            Kind::I64 => rank!(scratch.ints(view, column)?, v, i128::from(v)),
            Kind::I128 => rank!(scratch.wide(view, column)?, v, v),
            Kind::F64 => rank!(scratch.float_keys(view, column)?, v, i128::from(v)),
            Kind::Bytes => {
                let values = scratch.bytes(view, column)?;
                for_rows!(set, i, {
                    ranks.push((i as u32, self.rank(valid.contains(i).then(|| beginning(value(values, i))))));
                });
            }
            Kind::Codes => self.rank_codes(view, scratch, set, &mut ranks)?,
        }
        if view.columns[column].kind != Kind::Codes {
            for (_, rank) in &ranks {
                self.add(*rank, None)?;
            }
        }
        let mut words = vec![0u64; set.rows.div_ceil(64)];
        for (row, rank) in ranks {
            if self.admits(rank) {
                words[row as usize / 64] |= 1 << (row % 64);
            }
        }
        set.set(Selection::of(Bits::from_words(words, set.rows)), set.rows);
        Ok(())
    }

    /// Ranks of rows by their codes, which have the values' order within the segment: only of those that may be among the first.
    fn rank_codes(
        &mut self,
        view: &SegmentView<'_>,
        scratch: &mut BlockScratch,
        set: &mut RowSet,
        ranks: &mut Vec<(u32, RowRank)>,
    ) -> Result<()> {
        let of = &view.columns[self.top.column];
        let null = of.dictionary_len()?;
        let descending = self.top.descending;
        // Less is earlier; NULL's code is the last.
        let null_place = if self.top.nulls_first { i64::MIN } else { i64::MAX };
        let place = |code: u32| match (code == null, descending) {
            (true, _) => null_place,
            (false, true) => -i64::from(code),
            (false, false) => i64::from(code),
        };
        let reach = match self.best.peek().filter(|_| self.best.len() >= self.top.limit) {
            Some(Place { rank: RowRank(1, _), text: Some(text), .. }) => {
                match (of.dictionary_search(text)?, descending) {
                    (Ok(code), _) => place(code),
                    (Err(next), true) => -i64::from(next),
                    (Err(next), false) => i64::from(next) - 1,
                }
            }
            Some(Place { rank: RowRank(0, _), .. }) => i64::MIN,
            _ => i64::MAX,
        };
        let codes = scratch.codes(view, self.top.column)?;
        let mut found = Vec::new();
        let near = |code: &u32| place(*code) <= reach;
        if set.list().is_some() || codes.iter().any(near) {
            for_rows!(set, i, {
                if near(&codes[i]) {
                    found.push((place(codes[i]), i as u32));
                }
            });
        }
        if found.len() > self.top.limit && self.top.limit > 0 {
            let last = found.select_nth_unstable(self.top.limit - 1).1.0;
            found.retain(|(place, _)| *place <= last);
        }
        found.sort_unstable();
        let mut bytes = Vec::new();
        // Rows that hold one value are all among the first or none.
        for alike in found.chunk_by(|a, b| a.0 == b.0) {
            let code = codes[alike[0].1 as usize];
            bytes.clear();
            if code != null {
                of.dictionary_get(code, &mut bytes)?;
            }
            let text = (code != null).then_some(bytes.as_slice());
            let rank = self.rank(text.map(beginning));
            // One that ties with the last of them may be before it by the order's other terms.
            let last = self.best.peek().filter(|_| self.best.len() >= self.top.limit);
            let mut kept = last
                .is_some_and(|last| rank == last.rank && last.text.as_deref().is_none_or(|last| Some(last) == text));
            for _ in alike {
                let added = self.add(rank, text)?;
                kept |= added;
                if !added {
                    break;
                }
            }
            // All that follow come after it.
            if !kept {
                break;
            }
            ranks.extend(alike.iter().map(|(_, row)| (*row, rank)));
        }
        Ok(())
    }
}
