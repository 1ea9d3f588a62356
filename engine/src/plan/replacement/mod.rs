//! Replacing by a regular expression, for expressions whose match is plain from PostgreSQL's rules (*9.7.3.5, Regular Expression Matching
//! Rules*): those that begin with `^`, end with `$` and are a sequence of characters, sets of them and groups, repeated as often as possible.
//!
//! Such an expression matches the whole text or nothing. Of several ways the one is right in which what stands before the first group that is
//! remembered is as long as it can be, then that group, then what is between it and the next one, and so on.

mod parse;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::utf8::begins;
use parse::{NOTHING, Parser, Shape};

/// Positions of an expression: its single characters and sets, each a bit.
const MOST: usize = 64;
/// Bytes of an expression.
const LONGEST: usize = 1000;
/// Groups that a replacement can name.
const GROUPS: usize = 9;
/// Steps by character of the text beyond which they are made backwards, once for all.
const TRIED: usize = 8;

/// `regexp_replace(text, pattern, replacement)`. Texts are UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub struct Replacement {
    /// By byte: the positions that a character beginning with it may stand at.
    fits: Box<[u64; 256]>,
    /// By position: those that may come behind it.
    after: Vec<u64>,
    /// By position: those that it may come behind.
    before: Vec<u64>,
    /// What the expression is made of, one after the other: groups that are remembered, and what is between them.
    parts: Vec<Part>,
    /// Of the whole: where it may end, and positions that, once reached, lead to a match whatever follows.
    last: u64,
    surely: u64,
    output: Vec<Piece>,
}

#[derive(Debug, PartialEq, Eq)]
struct Part {
    positions: u64,
    first: u64,
    last: u64,
    /// Whether it matches nothing, too.
    empty: bool,
    /// Where the rest, from this part on, may begin, and whether that matches nothing, too.
    rest_first: u64,
    rest_empty: bool,
    /// The number of the group, from 1 on; 0: it is none.
    group: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Group(usize),
    Whole,
}

/// Bits of positions as they are set.
fn members(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(at)
    })
}

fn union(of: &[u64], bits: u64) -> u64 {
    members(bits).fold(0, |all, at| all | of[at])
}

impl Replacement {
    /// `None`: the expression or the replacement is not one of those that are known. Both are texts as PostgreSQL takes them, of the form that
    /// it calls advanced.
    pub fn new(pattern: &[u8], replacement: &[u8]) -> Option<Replacement> {
        let rest = pattern.strip_prefix(b"^").filter(|rest| rest.len() <= LONGEST)?;
        let mut parser = Parser { rest, fits: Box::new([0; 256]), after: Vec::new() };
        let mut shapes: Vec<(Shape, u64, usize)> = Vec::new();
        let mut groups = 0;
        let positions = |of: Range<usize>| of.fold(0, |all, at| all | 1 << at);
        loop {
            let begin = parser.after.len();
            let shape = parser.sequence()?;
            shapes.push((shape, positions(begin..parser.after.len()), 0));
            match parser.rest {
                b"$" => break,
                [b'(', rest @ ..] if groups < GROUPS => {
                    parser.rest = rest;
                    let begin = parser.after.len();
                    let shape = parser.sequence()?;
                    groups += 1;
                    // A group that may be repeated or left out is left to PostgreSQL, and so is one within another.
                    if parser.next()? != b')' || parser.rest.first().is_some_and(|byte| b"*+?{".contains(byte)) {
                        return None;
                    }
                    shapes.push((shape, positions(begin..parser.after.len()), groups));
                }
                _ => return None,
            }
        }
        // From the end on, so that each part knows what comes behind it.
        let mut rest = NOTHING;
        let mut parts = Vec::with_capacity(shapes.len());
        for (shape, positions, group) in shapes.into_iter().rev() {
            let Shape { first, last, empty } = shape;
            rest = parser.join(shape, rest);
            parts.push(Part { positions, first, last, empty, rest_first: rest.first, rest_empty: rest.empty, group });
        }
        parts.reverse();
        let Parser { fits, after, .. } = parser;
        let any = fits.iter().fold(u64::MAX, |all, fits| all & fits);
        let surely = members(any & rest.last).filter(|at| after[*at] >> at & 1 == 1).fold(0, |all, at| all | 1 << at);
        let before =
            (0..after.len()).map(|to| (0..after.len()).fold(0, |all, from| all | (after[from] >> to & 1) << from));
        let before = before.collect();
        Some(Replacement { fits, after, before, parts, last: rest.last, surely, output: pieces(replacement, groups)? })
    }

    /// Appends what the text becomes to `out`. `sets`: a buffer.
    pub fn apply(&self, text: &[u8], sets: &mut Vec<u64>, out: &mut Vec<u8>) {
        let mut found: [Range<usize>; GROUPS + 1] = Default::default();
        if !self.find(text, sets, &mut found) {
            out.extend_from_slice(text);
            return;
        }
        for piece in &self.output {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Group(group) => out.extend_from_slice(&text[found[*group].clone()]),
                Piece::Whole => out.extend_from_slice(text),
            }
        }
    }

    /// Whether the text matches, and which parts of it the groups are.
    fn find(&self, text: &[u8], sets: &mut Vec<u64>, found: &mut [Range<usize>]) -> bool {
        let mut rest = Rest { of: self, text, sets, left: text.len() * TRIED, known: false };
        rest.sets.clear();
        let groups =
            self.output.iter().filter_map(|piece| if let Piece::Group(group) = piece { Some(*group) } else { None });
        let wanted = groups.max().unwrap_or(0);
        if wanted == 0 {
            return rest.matches(0, 0);
        }
        let mut at = 0;
        for (nth, part) in self.parts.iter().enumerate() {
            // The longest that leaves a match to the rest.
            let behind = |at: usize, rest: &mut Rest<'_>| {
                if nth + 1 == self.parts.len() { at == text.len() } else { rest.matches(nth + 1, at) }
            };
            let mut end = (part.empty && behind(at, &mut rest)).then_some(at);
            let (mut next, mut state) = (at, part.first);
            while next < text.len() && state != 0 {
                let reached = state & self.fits[usize::from(text[next])];
                next = behind_character(text, next);
                if reached & part.last != 0 && behind(next, &mut rest) {
                    end = Some(next);
                }
                state = union(&self.after, reached) & part.positions;
            }
            let Some(end) = end else { return false };
            if part.group > 0 {
                found[part.group] = at..end;
            }
            if part.group == wanted {
                return true;
            }
            at = end;
        }
        true
    }
}

/// Where the character that begins at `at` ends.
#[inline(always)]
fn behind_character(text: &[u8], at: usize) -> usize {
    let mut next = at + 1;
    while text.get(next).is_some_and(|byte| !begins(*byte)) {
        next += 1;
    }
    next
}

/// Tells whether the end of a text matches the end of an expression.
struct Rest<'a> {
    of: &'a Replacement,
    text: &'a [u8],
    /// Once `known`, by place in the text: the positions of the character there from which the rest matches.
    sets: &'a mut Vec<u64>,
    /// Steps to be made before that is found out for all places at once.
    left: usize,
    known: bool,
}

impl Rest<'_> {
    /// Whether the text from `at` on matches the parts from `part` on.
    fn matches(&mut self, part: usize, at: usize) -> bool {
        let Rest { of, text, .. } = *self;
        let Part { rest_first, rest_empty, .. } = of.parts[part];
        if at == text.len() {
            return rest_empty;
        }
        if self.known {
            return self.sets[at] & rest_first != 0;
        }
        let (mut next, mut state) = (at, rest_first);
        loop {
            let reached = state & of.fits[usize::from(text[next])];
            if reached & of.surely != 0 {
                return true;
            }
            next = behind_character(text, next);
            if next == text.len() {
                return reached & of.last != 0;
            }
            if reached == 0 {
                return false;
            }
            if self.left == 0 {
                self.look_back();
                return self.sets[at] & rest_first != 0;
            }
            self.left -= 1;
            state = union(&of.after, reached);
        }
    }

    /// Finds the sets of all places, from the end on.
    fn look_back(&mut self) {
        let Rest { of, text, .. } = *self;
        self.sets.clear();
        self.sets.resize(text.len(), 0);
        let mut state = of.last;
        for at in (0..text.len()).rev().filter(|at| begins(text[*at])) {
            let fits = state & of.fits[usize::from(text[at])];
            self.sets[at] = fits;
            state = union(&of.before, fits);
        }
        self.known = true;
    }
}

/// A replacement's text: `\1` to `\9` are groups, `\&` the match, `\\` a backslash. `None`: it names a group that is not there, or has a
/// backslash of another meaning.
fn pieces(replacement: &[u8], groups: usize) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut literal = Vec::new();
    let mut rest = replacement.iter();
    while let Some(byte) = rest.next() {
        if *byte != b'\\' {
            literal.push(*byte);
            continue;
        }
        let piece = match *rest.next()? {
            b'\\' => {
                literal.push(b'\\');
                continue;
            }
            b'&' => Piece::Whole,
            digit @ b'1'..=b'9' => Piece::Group(usize::from(digit - b'0')),
            _ => return None,
        };
        if matches!(piece, Piece::Group(group) if group > groups) {
            return None;
        }
        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        pieces.push(piece);
    }
    pieces.push(Piece::Literal(literal));
    pieces.retain(|piece| !matches!(piece, Piece::Literal(bytes) if bytes.is_empty()));
    Some(pieces)
}
