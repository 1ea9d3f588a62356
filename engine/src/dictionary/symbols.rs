//! Tables of symbols for short strings: `docs/segment-format.md`, section 7. The idea, and how a table is learned, are those
//! of FSST (Boncz, Neumann and Leis, *FSST: Fast Random Access String Compression*, VLDB 2020).
#![deny(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::ops::Range;

use crate::encoding::cursor::Cursor;
use crate::{Error, Result};

/// Bytes of the longest symbol.
pub(crate) const LONGEST: usize = 8;
/// Stands for the byte that follows it.
const ESCAPE: u8 = 255;

/// Byte strings of 1 to 8 bytes by their codes, 0 to at most 254.
#[derive(Debug)]
pub(crate) struct SymbolTable {
    words: [u64; 256],
    /// 0: the code has no symbol.
    lengths: [u8; 256],
}

impl SymbolTable {
    /// Reads a table; `None`: strings are not compressed.
    pub fn read(bytes: &[u8]) -> Result<Option<SymbolTable>> {
        let mut input = Cursor::new(bytes);
        let count = input.u8()?;
        let mut table = SymbolTable { words: [0; 256], lengths: [0; 256] };
        for (word, length) in table.words.iter_mut().zip(&mut table.lengths).take(usize::from(count)) {
            *length = input.u8()?;
            if *length == 0 || usize::from(*length) > LONGEST {
                return Err(Error::corrupt("a table of symbols"));
            }
            *word = load(input.take(usize::from(*length))?);
        }
        input.end("a table of symbols")?;
        if count == 0 {
            return Ok(None);
        }
        Ok(Some(table))
    }

    /// Appends what `codes` stand for to `out`. Errors: `Corrupt`.
    pub fn decode(&self, codes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let at = out.len();
        out.resize(at + codes.len() * LONGEST, 0);
        let length = self.decode_into(codes, out.get_mut(at..).unwrap_or_default())?;
        out.truncate(at + length);
        Ok(())
    }

    /// Puts what `codes` stand for at the front of `out`, which has room for 8 bytes a code; its length. What is behind it
    /// in this room is overwritten. Errors: `Corrupt`.
    #[inline]
    pub fn decode_into(&self, codes: &[u8], out: &mut [u8]) -> Result<usize> {
        let mut at = 0;
        let mut good = true;
        let mut codes = codes.iter();
        while let Some(code) = codes.next() {
            let code = usize::from(*code);
            let (mut word, mut length) = (self.words[code], usize::from(self.lengths[code]));
            if length == 0 {
                let literal = codes.next().filter(|_| code == usize::from(ESCAPE));
                good &= literal.is_some();
                (word, length) = (u64::from(literal.copied().unwrap_or(0)), 1);
            }
            match out.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<LONGEST>()) {
                Some(slot) => *slot = word.to_le_bytes(),
                None => good = false,
            }
            at += length;
        }
        if good { Ok(at) } else { Err(Error::corrupt("compressed values of a dictionary")) }
    }
}

/// The first bytes of `bytes`, at most 8, lowest first.
#[inline]
fn load(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<LONGEST>() {
        Some(word) => u64::from_le_bytes(*word),
        None => bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// A symbol while a table is learned: ordered by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Symbol {
    word: u64,
    length: u32,
}

impl Symbol {
    fn byte(byte: u8) -> Symbol {
        Symbol { word: u64::from(byte), length: 1 }
    }

    /// This and what follows it, cut to the longest that may be.
    fn and(self, next: Symbol) -> Symbol {
        if self.length >= 8 {
            return self;
        }
        Symbol { word: self.word | next.word << (8 * self.length), length: (self.length + next.length).min(8) }
    }
}

const SLOTS: usize = 2048;

#[inline(always)]
fn slot(word: u64) -> usize {
    // The top bits of a product with an odd constant, of the first three bytes.
    #[allow(clippy::cast_possible_truncation)]
    let slot = ((word & 0xff_ffff).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - 11)) as usize;
    slot % SLOTS
}

/// A symbol of three bytes and more where it is looked for.
#[derive(Clone, Copy)]
struct Slot {
    word: u64,
    /// `u32::MAX`: free.
    length: u32,
    /// Moves the bytes behind the symbol out of a word.
    shift: u8,
    code: u8,
}

const FREE: Slot = Slot { word: 0, length: u32::MAX, shift: 0, code: ESCAPE };

/// No symbol: the byte stands for itself.
const NO_SYMBOL: u16 = u16::from_le_bytes([ESCAPE, 1]);

/// Finds the longest symbol that a string begins with: one of three bytes and more by a hash of the first three, of which
/// each slot has one; else by its first two bytes.
pub(crate) struct SymbolEncoder {
    symbols: Vec<Symbol>,
    slots: Box<[Slot; SLOTS]>,
    /// By two bytes, lowest first: code and length of a symbol of one or two bytes, or `NO_SYMBOL`.
    pairs: Box<[u16]>,
}

/// Strings of fewer bytes do not pay for their table.
const WORTH_LEARNING: usize = 4096;
/// Strings of a sample that a table is learned from, in bytes.
const SAMPLE: usize = 16 << 10;
const GENERATIONS: usize = 5;
/// Codes while learning: symbols, then single bytes.
const LEARNED: usize = 512;
/// Symbols by gain of which nearly always enough find a place.
const LIKELY: usize = 512;

/// Learns tables of symbols, one after the other.
#[derive(Default)]
pub(crate) struct Learner {
    /// How often each code, and each pair of them, came in a generation; zeros between two.
    singles: Vec<u32>,
    pairs: Vec<u16>,
    touched: Vec<u32>,
    gains: Gains,
    codes: Vec<u8>,
}

impl Learner {
    /// Learns a table from some of the strings `data[range]`, which have `bytes` bytes; 8 more bytes stand in `data` behind each.
    /// `None`: there are too few, or they hardly shrink. Equal strings give equal tables.
    pub fn learn(
        &mut self,
        data: &[u8],
        strings: impl Iterator<Item = Range<usize>>,
        bytes: usize,
    ) -> Option<SymbolEncoder> {
        if bytes < WORTH_LEARNING {
            return None;
        }
        self.singles.resize(LEARNED, 0);
        self.pairs.resize(LEARNED * LEARNED, 0);
        let sample: Vec<Range<usize>> = strings.step_by(bytes.div_ceil(SAMPLE)).collect();
        let mut encoder = SymbolEncoder::new();
        for generation in 0..GENERATIONS {
            sample.iter().for_each(|string| self.count(&encoder, data, string.clone()));
            self.weigh(&encoder, generation + 1 == GENERATIONS);
            encoder = self.gains.best();
        }
        let (mut raw, mut encoded) = (0, 0);
        for string in sample {
            raw += string.len();
            self.codes.resize(self.codes.len().max(string.len() * 2), 0);
            encoded += encoder.encode(data, string, &mut self.codes);
        }
        (encoded < raw - raw / 8).then_some(encoder)
    }

    /// Counts a string's symbols.
    fn count(&mut self, encoder: &SymbolEncoder, data: &[u8], string: Range<usize>) {
        let mut before: Option<usize> = None;
        let mut at = string.start;
        while at < string.end {
            let word = load(&data[at..]);
            let (code, length) = encoder.longest(word, string.end - at);
            let code = if code == ESCAPE { 256 + usize::from(word.to_le_bytes()[0]) } else { usize::from(code) };
            self.singles[code] += 1;
            if let Some(before) = before {
                let pair = before * LEARNED + code;
                let count = &mut self.pairs[pair];
                if *count == 0 {
                    self.touched.push(u32::try_from(pair).unwrap_or(0));
                }
                *count = count.saturating_add(1);
            }
            before = Some(code);
            at += length;
        }
    }

    /// Turns counts into gains.
    fn weigh(&mut self, encoder: &SymbolEncoder, last: bool) {
        let symbol = |code: usize| match encoder.symbols.get(code) {
            Some(symbol) => *symbol,
            None => Symbol::byte(u8::try_from(code - 256).unwrap_or(0)),
        };
        self.gains.clear();
        for (code, count) in self.singles.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            let symbol = symbol(code);
            // A byte that needs no escape saves one.
            let weight = if symbol.length == 1 { 8 } else { u64::from(symbol.length) };
            self.gains.add(symbol, weight * u64::from(*count));
            *count = 0;
        }
        for pair in self.touched.drain(..) {
            let pair = pair as usize;
            let count = std::mem::take(&mut self.pairs[pair]);
            // Rare ones are chance; in the last generation they would not be tried any more.
            if last || count <= 2 {
                continue;
            }
            let (first, second) = (symbol(pair / LEARNED), symbol(pair % LEARNED));
            if first.length < 8 {
                let both = first.and(second);
                self.gains.add(both, u64::from(both.length) * u64::from(count));
            }
        }
    }
}

/// What each symbol would save.
#[derive(Default)]
struct Gains {
    all: Vec<(Symbol, u64)>,
    /// Numbers in `all` and 1 by hash of the symbol; 0: free. A power of two.
    places: Vec<u32>,
}

impl Gains {
    fn clear(&mut self) {
        self.all.clear();
        self.places.fill(0);
    }

    fn add(&mut self, symbol: Symbol, gain: u64) {
        if self.places.len() < (self.all.len() + 1) * 2 {
            self.places.clear();
            self.places.resize(((self.all.len() + 1) * 4).next_power_of_two().max(4096), 0);
            for number in 0..self.all.len() {
                let place = self.place(self.all[number].0);
                self.places[place] = u32::try_from(number + 1).unwrap_or(0);
            }
        }
        let place = self.place(symbol);
        match self.places[place] {
            0 => {
                self.all.push((symbol, gain));
                self.places[place] = u32::try_from(self.all.len()).unwrap_or(0);
            }
            number => self.all[number as usize - 1].1 += gain,
        }
    }

    /// Of the symbol, or the free one that it would take.
    fn place(&self, symbol: Symbol) -> usize {
        let mixed = (symbol.word ^ u64::from(symbol.length)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        #[allow(clippy::cast_possible_truncation)]
        let mut at = (mixed >> 32) as usize & (self.places.len() - 1);
        while self.places[at] != 0 && self.all[self.places[at] as usize - 1].0 != symbol {
            at = (at + 1) & (self.places.len() - 1);
        }
        at
    }

    /// A table of the first 255, by gain, that find a place.
    fn best(&mut self) -> SymbolEncoder {
        let order = |a: &(Symbol, u64), b: &(Symbol, u64)| b.1.cmp(&a.1).then(a.0.cmp(&b.0));
        let likely = self.all.len().min(LIKELY);
        if likely < self.all.len() {
            self.all.select_nth_unstable_by(likely, order);
        }
        let (first, others) = self.all.split_at_mut(likely);
        let mut encoder = SymbolEncoder::new();
        for part in [first, others] {
            if encoder.is_full() {
                break;
            }
            part.sort_unstable_by(order);
            part.iter().for_each(|(symbol, _)| encoder.add(*symbol));
        }
        encoder.pair();
        encoder
    }
}

impl SymbolEncoder {
    fn new() -> SymbolEncoder {
        SymbolEncoder {
            symbols: Vec::new(),
            slots: Box::new([FREE; SLOTS]),
            pairs: vec![NO_SYMBOL; 1 << 16].into_boxed_slice(),
        }
    }

    fn is_full(&self) -> bool {
        self.symbols.len() == usize::from(ESCAPE)
    }

    /// Adds a symbol if it finds a place.
    fn add(&mut self, symbol: Symbol) {
        if self.is_full() {
            return;
        }
        if let length @ 3.. = symbol.length {
            let slot = &mut self.slots[slot(symbol.word)];
            if slot.length != FREE.length {
                return;
            }
            let code = u8::try_from(self.symbols.len()).unwrap_or(ESCAPE);
            let shift = u8::try_from(64 - 8 * length.min(8)).unwrap_or(0);
            *slot = Slot { word: symbol.word, length, shift, code };
        }
        self.symbols.push(symbol);
    }

    /// Makes the table by two bytes, after the last symbol.
    fn pair(&mut self) {
        let mut singles = [NO_SYMBOL; 256];
        let short = |length: u8| {
            let of_length = move |(code, symbol): (usize, &Symbol)| {
                (symbol.length == u32::from(length)).then(|| {
                    let entry = u16::from_le_bytes([u8::try_from(code).unwrap_or(ESCAPE), length]);
                    (usize::try_from(symbol.word).unwrap_or(0), entry)
                })
            };
            self.symbols.iter().enumerate().filter_map(of_length)
        };
        for (byte, entry) in short(1) {
            singles[byte] = entry;
        }
        // Behind a byte any other may stand, but a symbol of both is longer.
        let twos: Vec<(usize, u16)> = short(2).collect();
        self.pairs.chunks_exact_mut(256).for_each(|row| row.copy_from_slice(&singles));
        for (bytes, entry) in twos {
            self.pairs[bytes] = entry;
        }
    }

    /// Code and length of the symbol that a string of `left` (not 0) bytes begins with; `ESCAPE` and 1: none. `word` is its first bytes,
    /// and whatever follows them.
    #[inline(always)]
    fn longest(&self, word: u64, left: usize) -> (u8, usize) {
        let slot = &self.slots[slot(word)];
        if (word ^ slot.word) << slot.shift == 0 && slot.length as usize <= left {
            return (slot.code, slot.length as usize);
        }
        // A lone last byte looks as if a zero followed it.
        let two = word & if left > 1 { 0xffff } else { 0xff };
        let [code, length] = self.pairs[usize::try_from(two).unwrap_or(0)].to_le_bytes();
        if usize::from(length) <= left { (code, usize::from(length)) } else { (ESCAPE, 1) }
    }

    /// Puts the codes of `data[range]` to the front of `out`, which has room for twice as many bytes; their number. What is behind them
    /// in this room is overwritten. What stands behind the range in `data` does not matter, but if 8 bytes do, that is faster.
    #[inline]
    pub fn encode(&self, data: &[u8], range: Range<usize>, out: &mut [u8]) -> usize {
        let (mut at, mut count) = (range.start, 0);
        while at < range.end {
            let word = load(&data[at..]);
            let (code, length) = self.longest(word, range.end - at);
            if let Some(to) = out.get_mut(count..).and_then(|rest| rest.first_chunk_mut::<2>()) {
                *to = [code, word.to_le_bytes()[0]];
            }
            count += 1 + usize::from(code == ESCAPE);
            at += length;
        }
        count
    }

    /// Appends the table as [`SymbolTable::read`] takes it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.symbols.len()).unwrap_or(0));
        for symbol in &self.symbols {
            out.push(u8::try_from(symbol.length).unwrap_or(0));
            out.extend(symbol.word.to_le_bytes().iter().take(symbol.length as usize));
        }
    }
}

/// What [`SymbolTable::read`] takes for strings that are not compressed.
pub(crate) const NO_SYMBOLS: [u8; 1] = [0];
