//! The merge of sorted dictionaries by a tree of losers, which compares values by how they differ from the last winner.

use std::ops::Range;

use super::columns::SegmentColumn;
use super::values::BytesMap;
use crate::dictionary::shared;
use crate::segment::BytesBlock;
use crate::{Budget, Error, Reservation, Result, prefix};

/// Values decoded of all dictionaries together, and of each at least.
const DECODED: usize = 1 << 12;
const RUN: usize = 16;
/// Values merged between two looks.
const STEP: usize = 8192;

/// Where the merge stands in one dictionary.
struct Reader<'c, 'a> {
    column: &'c SegmentColumn<'a>,
    /// Behind the last code.
    end: u32,
    run: BytesBlock,
    /// Code of the run's first value, and the place of the current one in it.
    start: u32,
    at: usize,
}

impl Reader<'_, '_> {
    /// Decodes the values from `start` on into `run`. `false`: there are none.
    fn decode(&self, start: u32, values: u32, run: &mut BytesBlock, memory: &mut Reservation) -> Result<bool> {
        if start >= self.end {
            return Ok(false);
        }
        let held = run.data.capacity();
        self.column.dictionary_range_into(start..(start + values).min(self.end), run)?;
        memory.grow(run.data.capacity().saturating_sub(held))?;
        if run.is_empty() { Err(Error::corrupt("a dictionary")) } else { Ok(true) }
    }

    /// Goes to the next value; how it differs from the one before. `spare`: a buffer.
    fn advance(&mut self, values: u32, spare: &mut BytesBlock, memory: &mut Reservation) -> Result<u64> {
        if self.at + 1 < self.run.len() {
            self.at += 1;
            return Ok(difference(self.run.get(self.at - 1), self.run.get(self.at)));
        }
        let start = self.start + self.run.len() as u32;
        if !self.decode(start, values, spare, memory)? {
            return Ok(GONE);
        }
        let difference = difference(self.run.get(self.at), spare.get(0));
        std::mem::swap(&mut self.run, spare);
        (self.start, self.at) = (start, 0);
        Ok(difference)
    }

    fn value(&self) -> &[u8] {
        self.run.get(self.at)
    }
}

// How a value differs from an earlier one, the base, as a number (an offset-value code: G. Graefe and T. Do, *Offset-value coding in
// database query processing*, EDBT 2023). Values are taken for words of four bytes, the last one cut short. Of values with one base the
// lesser code is the lesser value: it is made of the number of words that value and base begin with alike, the more the less, and of the
// word behind them. Where two codes are the same, the values are compared from there on, and the greater gets the lesser for its base;
// where they are not, the greater one's code is right for that base already.
const WORD: usize = 4;
/// A word, and how many of its bytes there are.
const SYMBOL_BITS: u32 = 35;
const MOST_SHARED: u64 = (1 << (64 - SYMBOL_BITS)) - 1;
/// Of a value that equals its base.
const EQUAL: u64 = 0;
/// Of a dictionary without another value: beyond the code of any word.
const GONE: u64 = u64::MAX;

/// `shared`: words.
#[inline]
fn code(shared: usize, value: &[u8]) -> u64 {
    let rest = value.get(shared * WORD..).unwrap_or_default();
    let symbol = u64::from(u32::from_be_bytes(prefix(rest))) << 3 | rest.len().min(WORD) as u64;
    (MOST_SHARED - shared as u64) << SYMBOL_BITS | symbol
}

#[inline]
fn difference(base: &[u8], value: &[u8]) -> u64 {
    let shared = shared(base, value);
    if shared == value.len() && shared == base.len() { EQUAL } else { code(shared / WORD, value) }
}

/// A code and its reader.
#[derive(Clone, Copy)]
struct Entry {
    code: u64,
    reader: u32,
}

/// A tree of losers (D. E. Knuth, *The Art of Computer Programming* 3, 5.4.1): who won at a node goes on, who lost stays there.
/// Reader `i` begins below node `(readers + i) / 2`.
struct Tournament {
    losers: Vec<Entry>,
}

impl Tournament {
    /// All codes have one base. Returns the winner, too.
    fn new(codes: &[u64], readers: &[Reader<'_, '_>]) -> (Tournament, Entry) {
        let gone = Entry { code: GONE, reader: 0 };
        let mut winners = vec![gone; codes.len()];
        winners.extend(codes.iter().enumerate().map(|(i, code)| Entry { code: *code, reader: i as u32 }));
        let mut losers = vec![gone; codes.len()];
        for node in (1..codes.len()).rev() {
            (winners[node], losers[node]) = meet(winners[2 * node], winners[2 * node + 1], readers);
        }
        let winner = winners.get(1).copied().unwrap_or(gone);
        (Tournament { losers }, winner)
    }

    /// The last winner's reader goes on with `code`, whose base is the value that won: the next winner.
    #[inline]
    fn replay(&mut self, reader: u32, code: u64, readers: &[Reader<'_, '_>]) -> Entry {
        let mut best = Entry { code, reader };
        let mut node = (self.losers.len() + reader as usize) / 2;
        while node > 0 {
            (best, self.losers[node]) = meet(best, self.losers[node], readers);
            node /= 2;
        }
        best
    }
}

/// Of two with one base: the winner, and the loser with the winner for its base.
#[inline(always)]
fn meet(a: Entry, b: Entry, readers: &[Reader<'_, '_>]) -> (Entry, Entry) {
    if a.code == b.code && a.code != EQUAL && a.code != GONE {
        return compare(a, b, readers);
    }
    let less = a.code <= b.code;
    let pick = |first: bool| Entry {
        code: if first { a.code } else { b.code },
        reader: if first { a.reader } else { b.reader },
    };
    (pick(less), pick(!less))
}

/// [`meet`] of equal codes.
fn compare(a: Entry, b: Entry, readers: &[Reader<'_, '_>]) -> (Entry, Entry) {
    let (left, right) = (readers[a.reader as usize].value(), readers[b.reader as usize].value());
    let known = ((MOST_SHARED - (a.code >> SYMBOL_BITS)) as usize + 1) * WORD;
    let rest = |value: &[u8]| value.len().min(known);
    let alike = known + shared(&left[rest(left)..], &right[rest(right)..]);
    if alike >= left.len() && alike >= right.len() {
        return (a, Entry { code: EQUAL, ..b });
    }
    let (low, high) = (code(alike / WORD, left), code(alike / WORD, right));
    if low < high { (a, Entry { code: high, ..b }) } else { (b, Entry { code: low, ..a }) }
}

/// A dictionary's values of these codes, and where their numbers go.
pub(super) struct Source<'c, 'a> {
    pub column: &'c SegmentColumn<'a>,
    pub codes: Range<u32>,
    pub numbers: &'c mut [u32],
}

/// The values of all sources, once each, in order; their numbers are those of a value's place. `look` is called every few thousand values.
/// Errors: `Budget`, `Corrupt`; what `look` says.
pub(super) fn merge(
    sources: &mut [Source<'_, '_>],
    budget: &Budget,
    look: &mut dyn FnMut() -> Result<()>,
) -> Result<BytesMap> {
    let run = (DECODED / sources.len().max(1)).next_multiple_of(RUN) as u32;
    let mut memory = budget.reserve(sources.len() * (run as usize * 4 + size_of::<Reader>()))?;
    let mut readers = Vec::with_capacity(sources.len());
    let mut codes = Vec::with_capacity(sources.len());
    for Source { column, codes: Range { start, end }, .. } in &*sources {
        let mut reader = Reader { column, end: *end, run: BytesBlock::default(), start: *start, at: 0 };
        let mut first = BytesBlock::default();
        codes.push(match reader.decode(*start, run, &mut first, &mut memory)? {
            true => difference(&[], first.get(0)),
            false => GONE,
        });
        reader.run = first;
        readers.push(reader);
    }
    let mut numbers: Vec<_> = sources.iter_mut().map(|source| source.numbers.iter_mut()).collect();
    let mut values = BytesMap::new(budget)?;
    let (mut tournament, mut winner) = Tournament::new(&codes, &readers);
    let mut spare = BytesBlock::default();
    let (mut number, mut step) = (0, 0usize);
    while winner.code != GONE {
        step += 1;
        if step.is_multiple_of(STEP) {
            look()?;
        }
        let at = winner.reader as usize;
        if winner.code != EQUAL || values.len() == 0 {
            number = values.push_unhashed(readers[at].value())?;
        }
        *numbers[at].next().ok_or_else(|| Error::corrupt("a dictionary"))? = number;
        let code = readers[at].advance(run, &mut spare, &mut memory)?;
        winner = tournament.replay(winner.reader, code, &readers);
    }
    Ok(values)
}
