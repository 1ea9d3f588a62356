//! Many byte strings one behind the other, in pieces that stay where they are: a vector of hundreds of megabytes that grows is copied, or
//! moved by the system onto small pages, which are slow to fill and slow to let go.

use crate::pages::{grow_room, prefer_large_room};
use crate::{Error, Reservation, Result};

/// Bytes of a piece; only one string that is longer has a longer piece.
const PIECE: usize = 1 << 24;

/// Byte strings by number, 0, 1, 2, ...
#[derive(Default)]
pub(super) struct Strings {
    /// The first one grows, the others have their size from the start. A longer one is followed by empty ones.
    pieces: Vec<Vec<u8>>,
    /// Where each string ends, as if all pieces had [`PIECE`] bytes. None lies in two.
    ends: Vec<usize>,
    bytes: usize,
}

impl Strings {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all strings together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub fn get(&self, number: u32) -> &[u8] {
        let i = number as usize;
        let (before, end) = (if i == 0 { 0 } else { self.ends[i - 1] }, self.ends[i]);
        if before == end {
            return &[];
        }
        let start = if before / PIECE == (end - 1) / PIECE { before } else { before.next_multiple_of(PIECE) };
        let at = start % PIECE;
        &self.pieces[start / PIECE][at..at + (end - start)]
    }

    /// Adds a string, and what it takes to `memory`; returns its number. Errors: `Budget`, `OutOfRange`; then nothing was added.
    pub fn push(&mut self, value: &[u8], memory: &mut Reservation) -> Result<u32> {
        let number = u32::try_from(self.ends.len()).ok().filter(|n| *n < u32::MAX - 2);
        let number = number.ok_or_else(|| Error::OutOfRange { what: "number of groups".into() })?;
        if self.ends.len() == self.ends.capacity() {
            let more = self.ends.capacity().max(32);
            memory.grow(more * size_of::<usize>())?;
            let capacity = self.ends.capacity() + more;
            grow_room(&mut self.ends, capacity);
        }
        let mut end = self.ends.last().copied().unwrap_or(0);
        if !value.is_empty() {
            end = self.room(value.len(), end, memory)? + value.len();
            let piece = self.pieces.iter_mut().rev().find(|piece| piece.capacity() > 0);
            piece.ok_or_else(|| Error::invalid("a string without room"))?.extend_from_slice(value);
            // The pieces that a longer one stands for.
            self.pieces.resize_with((end - 1) / PIECE + 1, Vec::new);
            self.bytes += value.len();
        }
        self.ends.push(end);
        Ok(number)
    }

    /// Makes room for `len` bytes behind all others, which end at `end`; returns where they begin.
    fn room(&mut self, len: usize, end: usize, memory: &mut Reservation) -> Result<usize> {
        let pieces = self.pieces.len();
        if let Some(last) = self.pieces.last_mut() {
            if last.len() + len <= last.capacity().min(PIECE) {
                return Ok(end);
            }
            if pieces == 1 && last.len() + len <= PIECE {
                let capacity = (last.capacity() * 2).max(last.len() + len).min(PIECE);
                memory.grow(capacity - last.capacity())?;
                grow_room(last, capacity);
                return Ok(end);
            }
        }
        let capacity = if pieces == 0 { len.max(256) } else { len.max(PIECE) };
        memory.grow(capacity)?;
        let piece = Vec::with_capacity(capacity);
        prefer_large_room(&piece);
        self.pieces.push(piece);
        Ok(end.next_multiple_of(PIECE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Budget;

    /// Strings of all lengths, those that fill pieces or are longer than one among them.
    #[test]
    fn strings_stay_as_they_are() {
        let lengths = [0, 3, 200, 0, PIECE - 203, 0, 1, PIECE, 5, PIECE - 4, 2 * PIECE, 0, 7, 3 * PIECE + 1, 0, 9];
        let budget = Budget::unlimited();
        let mut memory = budget.reserve(0).unwrap();
        let mut strings = Strings::default();
        let value = |nth: usize| vec![nth as u8 + 1; lengths[nth]];
        for nth in 0..lengths.len() {
            assert_eq!(strings.push(&value(nth), &mut memory).unwrap() as usize, nth);
        }
        assert!((0..lengths.len()).all(|nth| strings.get(nth as u32) == value(nth)));
        assert_eq!((strings.len(), strings.bytes()), (lengths.len(), lengths.iter().sum()));
        assert!(memory.bytes() >= strings.bytes());
        assert!(strings.pieces.iter().map(Vec::capacity).sum::<usize>() <= memory.bytes());
    }

    #[test]
    fn what_was_added_does_not_move() {
        let budget = Budget::unlimited();
        let mut memory = budget.reserve(0).unwrap();
        let mut strings = Strings::default();
        let long = vec![7; 1000];
        for _ in 0..2 * PIECE / long.len() {
            strings.push(&long, &mut memory).unwrap();
        }
        let first = strings.get(0).as_ptr();
        for _ in 0..2 * PIECE / long.len() {
            strings.push(&long, &mut memory).unwrap();
        }
        assert_eq!(first, strings.get(0).as_ptr());
        // Nothing is set aside but one piece, and twice the numbers.
        assert!(memory.bytes() <= strings.bytes() + 2 * PIECE + strings.len() * 16);
    }

    #[test]
    fn too_little_memory_changes_nothing() {
        let budget = Budget::new(100_000);
        let mut memory = budget.reserve(0).unwrap();
        let mut strings = Strings::default();
        while strings.push(b"some bytes", &mut memory).is_ok() {}
        let len = strings.len() as u32;
        assert!(matches!(strings.push(&[1; 100_000], &mut memory), Err(Error::Budget { .. })));
        assert_eq!(strings.len() as u32, len);
        assert!((0..len).all(|n| strings.get(n) == b"some bytes"));
    }
}
