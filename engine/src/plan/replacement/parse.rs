//! Reading an expression.

use super::MOST;

/// Where a part of an expression begins and ends.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) empty: bool,
}

pub(super) const NOTHING: Shape = Shape { first: 0, last: 0, empty: true };

pub(super) struct Parser<'a> {
    pub(super) rest: &'a [u8],
    pub(super) fits: Box<[u64; 256]>,
    pub(super) after: Vec<u64>,
}

impl Parser<'_> {
    fn link(&mut self, from: u64, to: u64) {
        for (at, after) in self.after.iter_mut().enumerate() {
            if from >> at & 1 == 1 {
                *after |= to;
            }
        }
    }

    pub(super) fn next(&mut self) -> Option<u8> {
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

    pub(super) fn join(&mut self, a: Shape, b: Shape) -> Shape {
        self.link(a.last, b.first);
        Shape {
            first: a.first | if a.empty { b.first } else { 0 },
            last: b.last | if b.empty { a.last } else { 0 },
            empty: a.empty && b.empty,
        }
    }

    /// Atoms up to a group that is remembered or to an end.
    pub(super) fn sequence(&mut self) -> Option<Shape> {
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
