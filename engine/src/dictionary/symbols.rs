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

#[inline]
fn low(word: u64, length: u32) -> u64 {
    if length >= 8 { word } else { word & ((1 << (8 * length)) - 1) }
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

#[inline]
fn slot(word: u64) -> usize {
    // The top bits of a product with an odd constant, of the first three bytes.
    #[allow(clippy::cast_possible_truncation)]
    let slot = ((word & 0xff_ffff).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - 11)) as usize;
    slot % SLOTS
}

/// Finds the longest symbol that a string begins with: one of three bytes and more by a hash of the first three, of which
/// each slot has one; else by its first two bytes.
pub(crate) struct SymbolEncoder {
    symbols: Vec<Symbol>,
    /// Codes of long symbols; `NO_CODE`: none.
    slots: Box<[(Symbol, u16)]>,
    /// By two bytes, lowest first: the code of a symbol of one or two bytes, or `NO_CODE`.
    pairs: Box<[u16]>,
}

const NO_CODE: u16 = 256;
/// Strings of fewer bytes do not pay for their table.
const WORTH_LEARNING: usize = 4096;
/// Strings of a sample that a table is learned from, in bytes.
const SAMPLE: usize = 16 << 10;
const GENERATIONS: usize = 5;
/// Codes while learning: symbols, then single bytes.
const LEARNED: usize = 512;

impl SymbolEncoder {
    /// Learns a table from some of `strings`, which have `bytes` bytes. `None`: there are too few, or they hardly shrink.
    /// Equal strings give equal tables.
    pub fn learn<'a>(strings: impl Iterator<Item = &'a [u8]>, bytes: usize) -> Option<SymbolEncoder> {
        if bytes < WORTH_LEARNING {
            return None;
        }
        let sample: Vec<&[u8]> = strings.step_by(bytes.div_ceil(SAMPLE)).collect();
        let mut encoder = SymbolEncoder::of(Vec::new());
        let mut singles = vec![0u32; LEARNED];
        let mut pairs: Vec<u16> = vec![0; LEARNED * LEARNED];
        let mut touched: Vec<u32> = Vec::new();
        for generation in 0..GENERATIONS {
            for string in &sample {
                let mut before: Option<usize> = None;
                let mut rest = *string;
                while !rest.is_empty() {
                    let (code, length) = match encoder.longest(rest, rest.len()) {
                        Some((code, length)) => (usize::from(code), length),
                        None => (256 + usize::from(rest[0]), 1),
                    };
                    singles[code] += 1;
                    if let Some(before) = before {
                        let pair = before * LEARNED + code;
                        if pairs[pair] == 0 {
                            touched.push(u32::try_from(pair).unwrap_or(0));
                        }
                        pairs[pair] = pairs[pair].saturating_add(1);
                    }
                    before = Some(code);
                    rest = &rest[length..];
                }
            }
            let symbol = |code: usize| match encoder.symbols.get(code) {
                Some(symbol) => *symbol,
                None => Symbol::byte(u8::try_from(code - 256).unwrap_or(0)),
            };
            let mut gains: Vec<(Symbol, u64)> = Vec::new();
            for (code, count) in singles.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
                let symbol = symbol(code);
                // A byte that needs no escape saves one.
                let weight = if symbol.length == 1 { 8 } else { u64::from(symbol.length) };
                gains.push((symbol, weight * u64::from(*count)));
                *count = 0;
            }
            for pair in touched.drain(..) {
                let pair = pair as usize;
                let count = std::mem::take(&mut pairs[pair]);
                let (first, second) = (symbol(pair / LEARNED), symbol(pair % LEARNED));
                // Rare ones are chance; in the last generation they would not be tried any more.
                if first.length < 8 && count > 2 && generation + 1 < GENERATIONS {
                    let both = first.and(second);
                    gains.push((both, u64::from(both.length) * u64::from(count)));
                }
            }
            gains.sort_unstable();
            gains.dedup_by(|a, b| {
                let same = a.0 == b.0;
                if same {
                    b.1 += a.1;
                }
                same
            });
            gains.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
            encoder = SymbolEncoder::of(gains.into_iter().map(|(symbol, _)| symbol).collect());
        }
        let mut codes = Vec::new();
        sample.iter().for_each(|string| encoder.encode(string, 0..string.len(), &mut codes));
        let raw: usize = sample.iter().map(|string| string.len()).sum();
        (codes.len() < raw - raw / 8).then_some(encoder)
    }

    /// Of the first 255 of `wanted` that find a place.
    fn of(wanted: Vec<Symbol>) -> SymbolEncoder {
        let nothing = (Symbol { word: 0, length: 0 }, NO_CODE);
        let mut encoder = SymbolEncoder {
            symbols: Vec::new(),
            slots: vec![nothing; SLOTS].into_boxed_slice(),
            pairs: vec![NO_CODE; 1 << 16].into_boxed_slice(),
        };
        for symbol in wanted {
            if encoder.symbols.len() == usize::from(ESCAPE) {
                break;
            }
            let code = u16::try_from(encoder.symbols.len()).unwrap_or(NO_CODE);
            match symbol.length {
                1 => {
                    // Behind it any byte may stand, but a symbol of both is longer.
                    let first = usize::try_from(symbol.word).unwrap_or(0);
                    for pair in encoder.pairs.iter_mut().skip(first).step_by(256) {
                        let longer = encoder.symbols.get(usize::from(*pair)).is_some_and(|s| s.length == 2);
                        *pair = if longer { *pair } else { code };
                    }
                }
                2 => encoder.pairs[usize::try_from(symbol.word).unwrap_or(0)] = code,
                _ => match &mut encoder.slots[slot(symbol.word)] {
                    (_, taken) if *taken != NO_CODE => continue,
                    free => *free = (symbol, code),
                },
            }
            encoder.symbols.push(symbol);
        }
        encoder
    }

    /// Code and length of the symbol that the first `length` (not 0) bytes of `rest` begin with.
    #[inline]
    fn longest(&self, rest: &[u8], length: usize) -> Option<(u8, usize)> {
        let word = low(load(rest), u32::try_from(length).unwrap_or(u32::MAX));
        let (symbol, code) = self.slots[slot(word)];
        if code != NO_CODE && low(word, symbol.length) == symbol.word && symbol.length as usize <= length {
            return Some((u8::try_from(code).ok()?, symbol.length as usize));
        }
        let code = self.pairs[usize::try_from(word & 0xffff).unwrap_or(0)];
        let found = self.symbols.get(usize::from(code))?.length as usize;
        // A lone last byte looks as if a zero followed it.
        if found <= length { Some((u8::try_from(code).ok()?, found)) } else { None }
    }

    /// Appends the codes of `data[range]`. What stands behind the range does not matter, but if it is there, that is faster.
    pub fn encode(&self, data: &[u8], range: Range<usize>, out: &mut Vec<u8>) {
        let mut at = range.start;
        while at < range.end {
            match self.longest(&data[at..], range.end - at) {
                Some((code, length)) => {
                    out.push(code);
                    at += length;
                }
                None => {
                    out.extend([ESCAPE, data[at]]);
                    at += 1;
                }
            }
        }
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
