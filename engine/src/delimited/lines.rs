//! Lines and their fields: found by the few bytes that divide them.

use super::{Dialect, Format};
use crate::simd;

/// Bytes that are looked through at once: little is lost if the reader stops at a line among them.
const WINDOW: usize = 4096;

/// How a field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    /// With backslashes.
    Escaped,
    /// Without the quotes.
    Quoted,
    /// With quotes in it, each twice.
    QuotedEscaped,
}

/// Where a field is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub start: u32,
    pub end: u32,
    pub form: Form,
}

pub(super) enum Line {
    /// Divided; the next one begins at `end`. `lines`: how many ends of lines it has.
    Whole {
        end: usize,
        lines: u64,
    },
    /// The input ends within it.
    Part,
    Doubtful,
}

pub(super) struct Divider {
    dialect: Dialect,
    /// Bytes that divide, or may.
    wanted: [u8; 4],
    fields: usize,
    /// Those of whole lines, one after the other, then those of the line that is being divided.
    pieces: Vec<Piece>,
    /// Where the latter begin.
    line: usize,
    marks: Marks,
}

/// Positions of the dividing bytes of an input, found as they are needed.
#[derive(Default)]
struct Marks {
    found: Vec<u32>,
    next: usize,
    /// Bytes looked through.
    searched: usize,
}

impl Marks {
    #[inline(always)]
    fn peek(&mut self, input: &[u8], wanted: [u8; 4]) -> Option<usize> {
        if self.next == self.found.len() && !self.search(input, wanted) {
            return None;
        }
        Some(self.found[self.next] as usize)
    }

    /// Looks through one window more, or several until a byte is found. What was found before is used up.
    #[inline(never)]
    fn search(&mut self, input: &[u8], wanted: [u8; 4]) -> bool {
        self.found.clear();
        self.next = 0;
        while self.found.is_empty() && self.searched < input.len() {
            let start = self.searched;
            let window = &input[start..input.len().min(start + WINDOW)];
            let (blocks, rest) = window.as_chunks::<64>();
            for (number, block) in blocks.iter().enumerate() {
                self.note(start + number * 64, simd::any_of(block, wanted));
            }
            let mut last = [0; 64];
            last[..rest.len()].copy_from_slice(rest);
            let bits = simd::any_of(&last, wanted) & ((1 << rest.len()) - 1);
            self.note(start + blocks.len() * 64, bits);
            self.searched += window.len();
        }
        !self.found.is_empty()
    }

    #[inline(always)]
    fn note(&mut self, base: usize, mut bits: u64) {
        while bits != 0 {
            self.found.push(base as u32 + bits.trailing_zeros());
            bits &= bits - 1;
        }
    }
}

impl Divider {
    /// For lines of `fields` fields.
    pub fn new(dialect: Dialect, fields: usize) -> Self {
        let third = match dialect.format {
            Format::Text => b'\\',
            Format::Csv { quote, .. } => quote,
        };
        let wanted = [dialect.delimiter, third, b'\n', b'\r'];
        Divider { dialect, wanted, fields, pieces: Vec::new(), line: 0, marks: Marks::default() }
    }

    /// A new input follows.
    pub fn begin(&mut self) {
        self.marks.found.clear();
        self.marks.next = 0;
        self.marks.searched = 0;
    }

    /// Divides up to `most` lines from `start` on, which is where the last one ended. Appends the end of each to `ends`, with the ends of lines
    /// in it, and says what came behind them.
    pub fn divide(&mut self, input: &[u8], start: usize, most: usize, ends: &mut Vec<(usize, u64)>) -> Line {
        self.pieces.clear();
        let mut at = start;
        loop {
            self.line = self.pieces.len();
            let line = match self.dialect.format {
                Format::Text => self.next_text(input, at),
                Format::Csv { quote, escape } => self.next_csv(input, at, quote, escape),
            };
            match line {
                Line::Whole { end, lines } => {
                    ends.push((end, lines));
                    at = end;
                    if ends.len() == most {
                        return line;
                    }
                }
                Line::Part | Line::Doubtful => {
                    self.pieces.truncate(self.line);
                    return line;
                }
            }
        }
    }

    /// The fields of the lines that were divided last.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    #[inline]
    fn next_text(&mut self, input: &[u8], start: usize) -> Line {
        let mut at = start;
        loop {
            let mut form = Form::Plain;
            let end = loop {
                let Some(mark) = self.marks.peek(input, self.wanted) else { return Line::Part };
                if input[mark] != b'\\' {
                    break mark;
                }
                match input.get(mark + 1) {
                    None => return Line::Part,
                    // An end of the data, bytes by number, a line that goes on.
                    Some(b'.' | b'0'..=b'7' | b'x' | b'\n' | b'\r') => return Line::Doubtful,
                    Some(_) => form = Form::Escaped,
                }
                self.marks.next += 1;
                // The escaped byte may be a dividing one.
                if self.marks.peek(input, self.wanted) == Some(mark + 1) {
                    self.marks.next += 1;
                }
            };
            self.pieces.push(Piece { start: at as u32, end: end as u32, form });
            match self.end_field(input, end) {
                Ok(next) => at = next,
                Err(line) => return line,
            }
        }
    }

    #[inline]
    fn next_csv(&mut self, input: &[u8], start: usize, quote: u8, escape: u8) -> Line {
        // It may end the data.
        if input.get(start) == Some(&b'\\') {
            return Line::Doubtful;
        }
        let (mut at, mut within) = (start, 0);
        loop {
            let Some(mark) = self.marks.peek(input, self.wanted) else { return Line::Part };
            let end = if mark == at && input[mark] == quote {
                self.marks.next += 1;
                match self.close(input, at + 1, quote, escape, &mut within) {
                    Ok(close) => close + 1,
                    Err(line) => return line,
                }
            } else {
                self.pieces.push(Piece { start: at as u32, end: mark as u32, form: Form::Plain });
                mark
            };
            match self.end_field(input, end) {
                Ok(next) => at = next,
                Err(Line::Whole { end, lines }) => return Line::Whole { end, lines: lines + within },
                Err(line) => return line,
            }
        }
    }

    /// Finds the closing quote of a field whose text begins at `start`. `within` counts the ends of lines in it.
    fn close(&mut self, input: &[u8], start: usize, quote: u8, escape: u8, within: &mut u64) -> Result<usize, Line> {
        let mut form = Form::Quoted;
        let end_of_line = if self.dialect.carriage_return { b'\r' } else { b'\n' };
        loop {
            let Some(mark) = self.marks.peek(input, self.wanted) else { return Err(Line::Part) };
            self.marks.next += 1;
            if input[mark] != quote {
                *within += u64::from(input[mark] == end_of_line);
                continue;
            }
            if input.get(mark + 1) == Some(&quote) && quote == escape {
                // The second one, which is the next mark.
                self.marks.peek(input, self.wanted);
                self.marks.next += 1;
                form = Form::QuotedEscaped;
                continue;
            }
            if quote != escape && input[start..mark].contains(&escape) {
                return Err(Line::Doubtful);
            }
            self.pieces.push(Piece { start: start as u32, end: mark as u32, form });
            return Ok(mark);
        }
    }

    /// What follows a field that ends at `end`: where the next one begins, or that the line is over.
    #[inline(always)]
    fn end_field(&mut self, input: &[u8], end: usize) -> Result<usize, Line> {
        match self.marks.peek(input, self.wanted) {
            None => return Err(Line::Part),
            // Text behind a closing quote.
            Some(mark) if mark != end => return Err(Line::Doubtful),
            Some(_) => self.marks.next += 1,
        }
        let byte = input[end];
        let is_last = self.pieces.len() - self.line == self.fields;
        if byte == self.dialect.delimiter {
            return if is_last { Err(Line::Doubtful) } else { Ok(end + 1) };
        }
        let length = if !self.dialect.carriage_return {
            if byte != b'\n' {
                return Err(Line::Doubtful);
            }
            1
        } else {
            match input.get(end + 1) {
                _ if byte != b'\r' => return Err(Line::Doubtful),
                None => return Err(Line::Part),
                Some(b'\n') => {
                    self.marks.peek(input, self.wanted);
                    self.marks.next += 1;
                    2
                }
                Some(_) => return Err(Line::Doubtful),
            }
        };
        Err(if is_last { Line::Whole { end: end + length, lines: 1 } } else { Line::Doubtful })
    }
}

impl Format {
    /// The text of an escaped field.
    pub(super) fn resolve(self, raw: &[u8], text: &mut Vec<u8>) {
        let mut bytes = raw.iter().copied();
        while let Some(byte) = bytes.next() {
            let meant = match self {
                Format::Csv { quote, .. } => {
                    if byte == quote {
                        bytes.next();
                    }
                    byte
                }
                Format::Text if byte == b'\\' => match bytes.next() {
                    Some(b'b') => 8,
                    Some(b'f') => 12,
                    Some(b'n') => b'\n',
                    Some(b'r') => b'\r',
                    Some(b't') => b'\t',
                    Some(b'v') => 11,
                    Some(other) => other,
                    None => b'\\',
                },
                Format::Text => byte,
            };
            text.push(meant);
        }
    }
}
