//! Replacing by a regular expression, for expressions whose match is plain from PostgreSQL's rules (*9.7.3.5, Regular Expression Matching
//! Rules*): those that begin with `^`, end with `$` and are a sequence of characters, sets of them and groups, repeated as often as possible.
//!
//! Such an expression matches the whole text or nothing. Of several ways the one is right in which what stands before the first group that is
//! remembered is as long as it can be, then that group, then what is between it and the next one, and so on.

use std::ops::Range;

use crate::utf8::begins;

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

/// Where a part of an expression begins and ends.
#[derive(Clone, Copy)]
struct Shape {
    first: u64,
    last: u64,
    empty: bool,
}

const NOTHING: Shape = Shape { first: 0, last: 0, empty: true };

struct Parser<'a> {
    rest: &'a [u8],
    fits: Box<[u64; 256]>,
    after: Vec<u64>,
}

impl Parser<'_> {
    fn link(&mut self, from: u64, to: u64) {
        for (at, after) in self.after.iter_mut().enumerate() {
            if from >> at & 1 == 1 {
                *after |= to;
            }
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// A position that characters beginning with these bytes fit.
    fn position(&mut self, fits: impl Fn(u8) -> bool) -> Option<Shape> {
        let at = self.after.len();
        if at == MOST {
            return None;
        }
        self.after.push(0);
        // Bytes inside of a character are passed over.
        for byte in (0..=255u8).filter(|byte| fits(*byte)) {
            self.fits[usize::from(byte)] |= 1 << at;
        }
        Some(Shape { first: 1 << at, last: 1 << at, empty: false })
    }

    fn set(&mut self) -> Option<Shape> {
        let negated = self.rest.first() == Some(&b'^');
        if negated {
            self.next()?;
        }
        let mut set = [false; 128];
        let mut any = false;
        loop {
            let low = self.next()?;
            if low == b']' && any {
                break;
            }
            // Classes, escapes and what needs a second look are left to PostgreSQL.
            let plain = |byte: u8| byte.is_ascii() && byte != 0 && !b"[]\\-^".contains(&byte);
            if !plain(low) {
                return None;
            }
            any = true;
            let mut high = low;
            if let [b'-', end, ..] = self.rest {
                high = *end;
                self.rest = &self.rest[2..];
                let alike = |of: fn(&u8) -> bool| of(&low) && of(&high);
                let ordered =
                    alike(u8::is_ascii_digit) || alike(u8::is_ascii_lowercase) || alike(u8::is_ascii_uppercase);
                if !ordered || low > high {
                    return None;
                }
            }
            set[usize::from(low)..=usize::from(high)].fill(true);
        }
        self.position(|byte| set.get(usize::from(byte)).map_or(negated, |inside| *inside != negated))
    }

    /// A character, a set or a group that is not remembered, and how often it stands there.
    fn atom(&mut self) -> Option<Shape> {
        let mut shape = match self.next()? {
            b'.' => self.position(|_| true)?,
            b'[' => self.set()?,
            b'(' => {
                self.rest = self.rest.strip_prefix(b"?:")?;
                let shape = self.sequence()?;
                (self.next()? == b')' && shape.first != 0).then_some(shape)?
            }
            b'\\' => {
                let byte = self.next().filter(u8::is_ascii_punctuation)?;
                self.position(|of| of == byte)?
            }
            byte if byte.is_ascii() && byte != 0 && !b"^$*+?{}|)]".contains(&byte) => self.position(|of| of == byte)?,
            _ => return None,
        };
        let repeated = self.rest.first().copied().filter(|byte| b"*+?".contains(byte));
        if let Some(repeated) = repeated {
            self.next()?;
            // What is repeated as seldom as possible, or twice over, is left to PostgreSQL.
            if self.rest.first().is_some_and(|byte| b"*+?{".contains(byte)) {
                return None;
            }
            if repeated != b'?' {
                self.link(shape.last, shape.first);
            }
            shape.empty |= repeated != b'+';
        }
        if self.rest.first() == Some(&b'{') { None } else { Some(shape) }
    }

    fn join(&mut self, a: Shape, b: Shape) -> Shape {
        self.link(a.last, b.first);
        Shape {
            first: a.first | if a.empty { b.first } else { 0 },
            last: b.last | if b.empty { a.last } else { 0 },
            empty: a.empty && b.empty,
        }
    }

    /// Atoms up to a group that is remembered or to an end.
    fn sequence(&mut self) -> Option<Shape> {
        let mut all = NOTHING;
        loop {
            match self.rest {
                [] | [b')' | b'$', ..] => return Some(all),
                [b'(', rest @ ..] if !rest.starts_with(b"?") => return Some(all),
                _ => {
                    let atom = self.atom()?;
                    all = self.join(all, atom);
                }
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn replaced(pattern: &str, replacement: &str, text: &str) -> String {
        let of = Replacement::new(pattern.as_bytes(), replacement.as_bytes()).unwrap();
        let mut out = Vec::new();
        of.apply(text.as_bytes(), &mut Vec::new(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hosts_of_addresses() {
        let host = |text| replaced(r"^https?://(?:www\.)?([^/]+)/.*$", r"\1", text);
        assert_eq!(host("http://example.com/page"), "example.com");
        assert_eq!(host("https://www.пример.рф/a/b\nc"), "пример.рф");
        assert_eq!(host("http://www./x"), "www.");
        assert_eq!(host("http://example.com"), "http://example.com");
        assert_eq!(host(""), "");
        assert_eq!(replaced("^(a*)(a*)b?$", r"<\1,\2,\&,\\>", "aaa"), r"<aaa,,aaa,\>");
        // What is before a group is as long as it can be, whichever of its parts that is due to.
        assert_eq!(replaced("^a?(?:ab)?(b*)$", r"[\1]", "ab"), "[]");
        // The positions from which it can be done are found once, not anew from each of them.
        assert_eq!(replaced("^(a*)(?:a*b)?c$", r"\1", &format!("{}c", "a".repeat(100_000))).len(), 100_000);
        let long = "a".repeat(100_000);
        assert_eq!(replaced("^(?:a*)([ab]*)a*c$", r"\1", &long), long);
    }

    #[test]
    fn others_are_left_to_the_host() {
        for pattern in [
            "a",
            "^a",
            "a$",
            "^a|b$",
            "^(a)*$",
            "^((a))$",
            "^a{2}$",
            "^a*?$",
            r"^\d$",
            r"^(a)\1$",
            "^[[:alpha:]]$",
            "^[z-a]$",
            "^é$",
            "^*$",
            "^(?=a)$",
            "^a$b$",
            "^[]a]$",
        ] {
            assert_eq!(Replacement::new(pattern.as_bytes(), b""), None, "{pattern}");
        }
        for replacement in [r"\2", r"\", r"\x"] {
            assert_eq!(Replacement::new(b"^(a)$", replacement.as_bytes()), None, "{replacement}");
        }
        assert_eq!(Replacement::new(format!("^{}a$", "(?:".repeat(5000)).as_bytes(), b""), None);
        assert_eq!(Replacement::new(format!("^{}$", "a".repeat(65)).as_bytes(), b""), None);
    }

    #[derive(Clone, Debug)]
    enum Tree {
        Set(&'static str),
        Repeated(Box<Tree>, char),
        Sequence(Vec<Tree>),
    }

    impl Tree {
        fn text(&self) -> String {
            match self {
                Tree::Set(set) => (*set).into(),
                Tree::Repeated(of, how) => format!("{}{how}", of.text()),
                Tree::Sequence(parts) => format!("(?:{})", parts.iter().map(Tree::text).collect::<String>()),
            }
        }

        /// Where matches that begin at `at` end.
        fn ends(&self, text: &[char], at: usize) -> Vec<usize> {
            let mut ends = match self {
                Tree::Set(set) => match text.get(at) {
                    Some(c) if fits(set, *c) => vec![at + 1],
                    _ => vec![],
                },
                Tree::Repeated(of, how) => {
                    let mut ends = if *how == '+' { of.ends(text, at) } else { vec![at] };
                    let mut from = 0;
                    while from < ends.len() && (*how != '?' || from == 0) {
                        let more =
                            of.ends(text, ends[from]).into_iter().filter(|e| !ends.contains(e)).collect::<Vec<_>>();
                        ends.extend(more);
                        from += 1;
                    }
                    ends
                }
                Tree::Sequence(parts) => ends_of(parts, text, at),
            };
            ends.sort_unstable();
            ends.dedup();
            ends
        }
    }

    fn ends_of(parts: &[Tree], text: &[char], at: usize) -> Vec<usize> {
        parts.iter().fold(vec![at], |ends, part| ends.into_iter().flat_map(|at| part.ends(text, at)).collect())
    }

    fn fits(set: &str, c: char) -> bool {
        match set {
            "." => true,
            "[^/]" => c != '/',
            "[ab]" => "ab".contains(c),
            "[a-c/]" => "abc/".contains(c),
            r"\." => c == '.',
            literal => literal.chars().eq([c]),
        }
    }

    /// The ends of the groups, by PostgreSQL's rule: each part as long as what follows allows. `parts` take turns: the odd ones are groups.
    fn divided(parts: &[Vec<Tree>], text: &[char], at: usize) -> Option<Vec<usize>> {
        let Some((first, rest)) = parts.split_first() else { return (at == text.len()).then(Vec::new) };
        let mut ends = ends_of(first, text, at);
        ends.sort_unstable();
        ends.into_iter().rev().find_map(|end| {
            let mut all = divided(rest, text, end)?;
            all.insert(0, end);
            Some(all)
        })
    }

    fn tree() -> impl Strategy<Value = Tree> {
        let set = prop::sample::select(vec!["a", "b", "/", ".", "[^/]", "[ab]", "[a-c/]", r"\."]).prop_map(Tree::Set);
        let how = || prop::sample::select(vec!['*', '+', '?']);
        let atom =
            prop_oneof![2 => set.clone(), 1 => (set, how()).prop_map(|(of, how)| Tree::Repeated(Box::new(of), how))];
        atom.prop_recursive(2, 8, 3, move |inner| {
            let sequence = prop::collection::vec(inner, 1..4).prop_map(Tree::Sequence);
            prop_oneof![sequence.clone(), (sequence, how()).prop_map(|(of, how)| Tree::Repeated(Box::new(of), how)),]
        })
    }

    proptest! {
        #[test]
        fn groups_are_as_long_as_they_can_be(
            parts in prop::collection::vec(prop::collection::vec(tree(), 0..4), 1..5),
            texts in prop::collection::vec("[abcé/.]{0,12}", 1..20),
        ) {
            // The last one is no group.
            let parts = if parts.len() % 2 == 0 { &parts[1..] } else { &parts };
            let pattern: String = parts.iter().enumerate().map(|(nth, of)| {
                let text: String = of.iter().map(Tree::text).collect();
                if nth % 2 == 1 { format!("({text})") } else { text }
            }).collect();
            let groups = parts.len() / 2;
            let replacement: String = (1..=groups).map(|n| format!("<\\{n}>")).chain(["!".to_string()]).collect();
            let pattern = format!("^{pattern}$");
            let Some(of) = Replacement::new(pattern.as_bytes(), replacement.as_bytes()) else {
                prop_assert!(pattern.len() > 40, "{} is known", pattern);
                return Ok(());
            };
            for text in &texts {
                let chars: Vec<char> = text.chars().collect();
                let want = match divided(parts, &chars, 0) {
                    None => text.clone(),
                    Some(ends) => (0..groups).map(|n| {
                        format!("<{}>", chars[ends[2 * n]..ends[2 * n + 1]].iter().collect::<String>())
                    }).chain(["!".to_string()]).collect(),
                };
                let mut out = Vec::new();
                of.apply(text.as_bytes(), &mut Vec::new(), &mut out);
                prop_assert_eq!(String::from_utf8(out).unwrap(), want, "{} of {:?}", pattern, text);
            }
        }
    }
}
