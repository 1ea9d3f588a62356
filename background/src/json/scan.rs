//! A strict scanner of one JSON object (RFC 8259): reports each member's key and value as positions in
//! the message, skips nested values after checking them, and copies nothing.

/// Nested arrays and objects beyond this are refused.
const MAX_DEPTH: u32 = 128;

/// What a value is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    True,
    False,
    Number,
    /// Without escapes: the bytes between the quotes are the string.
    Plain,
    /// With escapes: see [`unescape`].
    Escaped,
    /// An array or object, brackets included.
    Nested,
}

/// A value's place in the message: `start..end`, quotes of strings excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub start: u32,
    pub end: u32,
}

impl Token {
    pub fn bytes<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        &message[self.start as usize..self.end as usize]
    }
}

/// Why a message is not a JSON object, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syntax {
    pub what: &'static str,
    pub at: usize,
}

/// Calls `member(key, value)` for each member in order; keys are string tokens. `message` must be valid
/// UTF-8 and shorter than 4 GiB. Errors: anything but one object with nothing but blanks around it.
pub fn object(message: &[u8], mut member: impl FnMut(Token, Token)) -> Result<(), Syntax> {
    let mut scanner = Scanner { message, at: 0 };
    scanner.blanks();
    if scanner.peek() != b'{' {
        return Err(scanner.error("expected a JSON object"));
    }
    scanner.at += 1;
    scanner.blanks();
    if scanner.peek() == b'}' {
        scanner.at += 1;
    } else {
        loop {
            let key = scanner.string()?;
            scanner.colon()?;
            let value = scanner.value(0)?;
            member(key, value);
            scanner.blanks();
            match scanner.peek() {
                b',' => scanner.at += 1,
                b'}' => {
                    scanner.at += 1;
                    break;
                }
                _ => return Err(scanner.error("expected , or }")),
            }
            scanner.blanks();
        }
    }
    scanner.blanks();
    if scanner.at < message.len() { Err(scanner.error("trailing characters")) } else { Ok(()) }
}

struct Scanner<'a> {
    message: &'a [u8],
    at: usize,
}

/// Bytes that may follow each other inside a string without a closer look.
static ORDINARY: [bool; 256] = {
    let mut table = [true; 256];
    let mut i = 0;
    while i < 0x20 {
        table[i] = false;
        i += 1;
    }
    table[b'"' as usize] = false;
    table[b'\\' as usize] = false;
    table
};

impl Scanner<'_> {
    fn error(&self, what: &'static str) -> Syntax {
        Syntax { what, at: self.at }
    }

    /// The next byte; 0, which is no JSON, at the end.
    fn peek(&self) -> u8 {
        self.message.get(self.at).copied().unwrap_or(0)
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn colon(&mut self) -> Result<(), Syntax> {
        self.blanks();
        if self.peek() != b':' {
            return Err(self.error("expected :"));
        }
        self.at += 1;
        self.blanks();
        Ok(())
    }

    fn token(&self, kind: Kind, start: usize, end: usize) -> Token {
        Token { kind, start: start as u32, end: end as u32 }
    }

    fn string(&mut self) -> Result<Token, Syntax> {
        if self.peek() != b'"' {
            return Err(self.error("expected a string"));
        }
        self.at += 1;
        let start = self.at;
        let mut kind = Kind::Plain;
        loop {
            while self.message.get(self.at).is_some_and(|b| ORDINARY[*b as usize]) {
                self.at += 1;
            }
            match self.message.get(self.at) {
                Some(b'"') => {
                    let token = self.token(kind, start, self.at);
                    self.at += 1;
                    return Ok(token);
                }
                Some(b'\\') => {
                    kind = Kind::Escaped;
                    self.escape()?;
                }
                Some(_) => return Err(self.error("control character in a string")),
                None => return Err(self.error("unterminated string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Syntax> {
        self.at += 1;
        match self.peek() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                let digits = self.message.get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.error("invalid \\u escape"));
                }
                self.at += 5;
            }
            _ => return Err(self.error("invalid escape")),
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Syntax> {
        if !self.peek().is_ascii_digit() {
            return Err(self.error("invalid number"));
        }
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Token, Syntax> {
        let start = self.at;
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(self.token(Kind::Number, start, self.at))
    }

    fn word(&mut self, word: &'static [u8], kind: Kind) -> Result<Token, Syntax> {
        let start = self.at;
        if self.message.get(start..start + word.len()) != Some(word) {
            return Err(self.error("invalid value"));
        }
        self.at += word.len();
        Ok(self.token(kind, start, self.at))
    }

    fn value(&mut self, depth: u32) -> Result<Token, Syntax> {
        match self.peek() {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word(b"true", Kind::True),
            b'f' => self.word(b"false", Kind::False),
            b'n' => self.word(b"null", Kind::Null),
            b'{' | b'[' if depth >= MAX_DEPTH => Err(self.error("nested too deeply")),
            b'{' => self.nested(b'}', depth),
            b'[' => self.nested(b']', depth),
            _ => Err(self.error("expected a value")),
        }
    }

    fn nested(&mut self, close: u8, depth: u32) -> Result<Token, Syntax> {
        let start = self.at;
        self.at += 1;
        self.blanks();
        if self.peek() == close {
            self.at += 1;
            return Ok(self.token(Kind::Nested, start, self.at));
        }
        loop {
            if close == b'}' {
                self.string()?;
                self.colon()?;
            }
            self.value(depth + 1)?;
            self.blanks();
            match self.peek() {
                b',' => self.at += 1,
                b if b == close => {
                    self.at += 1;
                    return Ok(self.token(Kind::Nested, start, self.at));
                }
                _ => return Err(self.error("expected , or a closing bracket")),
            }
            self.blanks();
        }
    }
}

/// Appends the string that `raw` (between the quotes, already scanned) stands for. Errors: a surrogate
/// without its partner.
pub fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|b| *b == b'\\') {
        out.extend_from_slice(&rest[..at]);
        let byte = match rest.get(at + 1) {
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let (character, length) = unicode(&rest[at..])?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[at + length..];
                continue;
            }
            Some(other) => *other,
            None => return Err("incomplete escape"),
        };
        out.push(byte);
        rest = &rest[at + 2..];
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// The character of the `\uXXXX` (or surrogate pair) at the start, and how many bytes it took.
fn unicode(escape: &[u8]) -> Result<(char, usize), &'static str> {
    let unit = |at: usize| -> Option<u32> {
        if escape.get(at..at + 2)? != b"\\u" {
            return None;
        }
        let digits = std::str::from_utf8(escape.get(at + 2..at + 6)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let lone = "a \\u escape is half of a surrogate pair";
    let first = unit(0).ok_or("invalid \\u escape")?;
    if !(0xD800..0xE000).contains(&first) {
        return char::from_u32(first).map(|c| (c, 6)).ok_or(lone);
    }
    let second = unit(6).filter(|u| (0xDC00..0xE000).contains(u) && first < 0xDC00).ok_or(lone)?;
    char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)).map(|c| (c, 12)).ok_or(lone)
}
