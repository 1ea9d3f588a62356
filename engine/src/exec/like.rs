//! SQL LIKE over UTF-8, compiled once and matched against single values or whole blocks of them.

use memchr::memmem::Finder;

use crate::segment::BytesBlock;
use crate::{Error, Result};

/// A compiled pattern: parts between the `%`s, each a string of bytes and any-character places.
pub(super) struct Like {
    parts: Vec<Part>,
    /// Whether the pattern begins or ends with `%`.
    open_start: bool,
    open_end: bool,
    /// The longest literal anywhere, and its searcher: a value without it cannot match.
    needle: Option<Finder<'static>>,
    /// The pattern is `%needle%`: finding the needle is enough.
    contains_only: bool,
}

struct Part {
    items: Vec<Item>,
    /// Characters of the part, for a match that ends at the end of the value.
    chars: usize,
    finder: Option<Finder<'static>>,
}

#[derive(Debug, PartialEq)]
enum Item {
    Literal(Vec<u8>),
    AnyChar,
}

/// Length of the character at the start of `bytes`, which are not empty.
fn char_len(bytes: &[u8]) -> usize {
    let len = match bytes[0] {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    };
    len.min(bytes.len())
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

impl Part {
    fn new(items: Vec<Item>) -> Part {
        let chars = items
            .iter()
            .map(|item| match item {
                Item::AnyChar => 1,
                Item::Literal(bytes) => bytes.iter().filter(|b| !is_continuation(**b)).count(),
            })
            .sum();
        let finder = match items.first() {
            Some(Item::Literal(bytes)) => Some(Finder::new(bytes).into_owned()),
            _ => None,
        };
        Part { items, chars, finder }
    }

    /// Where the part ends if it matches at the start of `bytes`.
    fn match_at(&self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        for item in &self.items {
            let rest = bytes.get(at..)?;
            match item {
                Item::Literal(literal) if rest.starts_with(literal) => at += literal.len(),
                Item::AnyChar if !rest.is_empty() => at += char_len(rest),
                _ => return None,
            }
        }
        Some(at)
    }

    /// The end of the first match in `bytes`. The first match also ends first: a part has a fixed number of characters.
    fn find(&self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            if let Some(finder) = &self.finder {
                at += finder.find(bytes.get(at..)?)?;
            }
            if let Some(len) = self.match_at(&bytes[at..]) {
                return Some(at + len);
            }
            if at >= bytes.len() {
                return None;
            }
            at += char_len(&bytes[at..]);
        }
    }

    /// Whether the part matches exactly the last characters of `bytes`.
    fn matches_end(&self, bytes: &[u8]) -> bool {
        let mut start = bytes.len();
        for _ in 0..self.chars {
            if start == 0 {
                return false;
            }
            start -= 1;
            while start > 0 && is_continuation(bytes[start]) {
                start -= 1;
            }
        }
        self.match_at(&bytes[start..]) == Some(bytes.len() - start)
    }
}

impl Like {
    /// Errors: `Invalid` if the pattern ends within an escape.
    pub fn new(pattern: &[u8]) -> Result<Like> {
        let mut parts = Vec::new();
        let mut items: Vec<Item> = Vec::new();
        let literal = |items: &mut Vec<Item>, byte: u8| match items.last_mut() {
            Some(Item::Literal(bytes)) => bytes.push(byte),
            _ => items.push(Item::Literal(vec![byte])),
        };
        let mut bytes = pattern.iter();
        while let Some(&byte) = bytes.next() {
            match byte {
                b'%' => parts.push(std::mem::take(&mut items)),
                b'_' => items.push(Item::AnyChar),
                b'\\' => match bytes.next() {
                    Some(&escaped) => literal(&mut items, escaped),
                    None => return Err(Error::invalid("LIKE pattern must not end with escape character")),
                },
                _ => literal(&mut items, byte),
            }
        }
        parts.push(items);
        let open_start = parts.len() > 1 && parts[0].is_empty();
        let open_end = parts.len() > 1 && parts[parts.len() - 1].is_empty();
        let has_percent = parts.len() > 1;
        parts.retain(|p| !p.is_empty());
        let longest = parts
            .iter()
            .flatten()
            .filter_map(|item| match item {
                Item::Literal(bytes) => Some(bytes),
                Item::AnyChar => None,
            })
            .max_by_key(|bytes| bytes.len());
        let needle = longest.map(|bytes| Finder::new(bytes).into_owned());
        let contains_only =
            open_start && open_end && parts.len() == 1 && matches!(parts[0].as_slice(), [Item::Literal(_)]);
        let parts: Vec<Part> = parts.into_iter().map(Part::new).collect();
        // A lone part without any `%` is anchored at both ends; an empty pattern matches only the empty value.
        debug_assert!(has_percent || parts.len() <= 1);
        Ok(Like {
            open_start: open_start || (has_percent && parts.is_empty()),
            open_end: open_end || (has_percent && parts.is_empty()),
            parts,
            needle,
            contains_only,
        })
    }

    /// The bytes that every match begins with, possibly none.
    pub fn prefix(&self) -> &[u8] {
        match self.parts.first().and_then(|p| p.items.first()) {
            Some(Item::Literal(bytes)) if !self.open_start => bytes,
            _ => &[],
        }
    }

    /// The pattern is `prefix%`: a range of values in byte order.
    pub fn is_prefix(&self) -> bool {
        !self.open_start
            && self.open_end
            && self.parts.len() == 1
            && self.parts[0].items.len() == 1
            && matches!(self.parts[0].items[0], Item::Literal(_))
    }

    /// The one value that matches, if the pattern holds no wildcard.
    pub fn exact(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            _ if self.open_start || self.open_end => None,
            [] => Some(&[]),
            [Part { items, .. }] => match items.as_slice() {
                [Item::Literal(bytes)] => Some(bytes),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn matches(&self, value: &[u8]) -> bool {
        let Some((last, before)) = self.parts.split_last() else {
            return self.open_start || value.is_empty();
        };
        let mut at = 0;
        for (i, part) in before.iter().enumerate() {
            let rest = &value[at..];
            let end = if i == 0 && !self.open_start { part.match_at(rest) } else { part.find(rest) };
            match end {
                Some(end) => at += end,
                None => return false,
            }
        }
        let rest = &value[at..];
        let anchored_start = before.is_empty() && !self.open_start;
        match (anchored_start, self.open_end) {
            (true, true) => last.match_at(rest).is_some(),
            (true, false) => last.match_at(rest) == Some(rest.len()),
            (false, true) => last.find(rest).is_some(),
            (false, false) => last.matches_end(rest),
        }
    }

    /// Calls `found` with the positions of matching values, ascending. A literal of the pattern is searched in the
    /// whole block's bytes at once; only values that hold it are matched one by one.
    pub fn matches_block(&self, values: &BytesBlock, mut found: impl FnMut(usize)) {
        let anchored = self.prefix().len();
        let Some(needle) = self.needle.as_ref().filter(|n| n.needle().len() >= 2 && anchored == 0) else {
            for i in 0..values.ends.len() {
                if self.matches(value(values, i)) {
                    found(i);
                }
            }
            return;
        };
        let mut i = 0;
        let mut at = 0;
        while let Some(hit) = values.data.get(at..).and_then(|rest| needle.find(rest)) {
            let start = at + hit;
            // Values before the hit cannot match. Gallop: hits may be far apart.
            let mut step = 1;
            while i + step < values.ends.len() && values.ends[i + step] as usize <= start {
                i += step;
                step *= 2;
            }
            i += values.ends[i..values.ends.len().min(i + step + 1)].partition_point(|end| *end as usize <= start);
            let Some(&end) = values.ends.get(i) else { return };
            let end = end as usize;
            if start + needle.needle().len() > end {
                // The hit spans two values; another may begin right behind its first byte.
                at = start + 1;
                continue;
            }
            if self.contains_only || self.matches(value(values, i)) {
                found(i);
            }
            at = end;
            i += 1;
        }
    }
}

/// Value `i` of a block.
pub(super) fn value(values: &BytesBlock, i: usize) -> &[u8] {
    let start = if i == 0 { 0 } else { values.ends[i - 1] as usize };
    values.data.get(start..values.ends[i] as usize).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The textbook definition, over characters.
    fn naive(pattern: &[char], value: &[char]) -> bool {
        match pattern.split_first() {
            None => value.is_empty(),
            Some(('%', rest)) => (0..=value.len()).any(|n| naive(rest, &value[n..])),
            Some(('_', rest)) => !value.is_empty() && naive(rest, &value[1..]),
            Some(('\\', rest)) => !value.is_empty() && value[0] == rest[0] && naive(&rest[1..], &value[1..]),
            Some((c, rest)) => value.first() == Some(c) && naive(rest, &value[1..]),
        }
    }

    fn check(pattern: &str, value: &str) -> bool {
        let got = Like::new(pattern.as_bytes()).unwrap().matches(value.as_bytes());
        let chars = |s: &str| s.chars().collect::<Vec<_>>();
        assert_eq!(got, naive(&chars(pattern), &chars(value)), "{value:?} LIKE {pattern:?}");
        got
    }

    #[test]
    fn known_answers() {
        assert!(check("", "") && !check("", "a") && check("%", "") && check("%%", "abc"));
        assert!(check("a_c", "aéc") && !check("a_c", "ac") && check("_", "€") && !check("__", "€"));
        assert!(check("%special%requests%", "some special and many requests") && !check("%b%a%", "ab"));
        assert!(check("100\\%", "100%") && !check("100\\%", "1000") && check("\\_", "_"));
        assert!(check("ab%ba", "abba") && !check("ab%ba", "aba") && check("%_a", "ba") && !check("%_a", "a"));
        assert!(Like::new(b"abc\\").is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            pattern in "([abé%_]|\\\\[%_a]){0,7}",
            values in prop::collection::vec("[abé%_]{0,9}", 0..40),
        ) {
            let like = Like::new(pattern.as_bytes()).unwrap();
            let mut block = BytesBlock::default();
            let mut want = Vec::new();
            for (i, v) in values.iter().enumerate() {
                if check(&pattern, v) {
                    want.push(i);
                    prop_assert!(v.as_bytes().starts_with(like.prefix()));
                    prop_assert!(like.exact().is_none_or(|e| e == v.as_bytes()));
                } else {
                    prop_assert!(!like.is_prefix() || !v.as_bytes().starts_with(like.prefix()));
                    prop_assert!(like.exact() != Some(v.as_bytes()));
                }
                block.data.extend_from_slice(v.as_bytes());
                block.ends.push(block.data.len() as u32);
            }
            let mut got = Vec::new();
            like.matches_block(&block, |i| got.push(i));
            prop_assert_eq!(got, want);
        }
    }
}
