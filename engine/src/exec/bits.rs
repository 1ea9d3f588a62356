//! Selections of the rows of one block, as bit words.

use roaring::RoaringBitmap;

use super::kernels;

/// One bit a row of a block: bit `i % 64` of word `i / 64`. Bits past the last row are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
    rows: usize,
}

impl Bits {
    pub fn zeros(rows: usize) -> Self {
        Bits { words: vec![0; rows.div_ceil(64)], rows }
    }

    pub fn ones(rows: usize) -> Self {
        let mut bits = Bits { words: vec![u64::MAX; rows.div_ceil(64)], rows };
        bits.clear_tail();
        bits
    }

    /// `words` beyond or short of `rows` are cut or taken as zero.
    pub fn from_words(mut words: Vec<u64>, rows: usize) -> Self {
        words.resize(rows.div_ceil(64), 0);
        let mut bits = Bits { words, rows };
        bits.clear_tail();
        bits
    }

    /// The rows `first..first + rows` of a bitmap over a segment.
    pub fn from_roaring(bitmap: &RoaringBitmap, first: u32, rows: usize) -> Self {
        let mut bits = Bits::zeros(rows);
        let mut iter = bitmap.range(first..first.saturating_add(rows as u32));
        let mut buffer = [0u32; 512];
        loop {
            let part = iter.next_many(&mut buffer);
            if part.is_empty() {
                return bits;
            }
            for row in part {
                let i = (*row - first) as usize;
                bits.words[i / 64] |= 1 << (i % 64);
            }
        }
    }

    fn clear_tail(&mut self) {
        if !self.rows.is_multiple_of(64)
            && let Some(last) = self.words.last_mut()
        {
            *last &= (1 << (self.rows % 64)) - 1;
        }
    }

    pub fn words(&self) -> &[u64] {
        &self.words
    }

    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn count(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    pub fn get(&self, row: usize) -> bool {
        self.words[row / 64] >> (row % 64) & 1 == 1
    }

    pub fn set(&mut self, row: usize) {
        self.words[row / 64] |= 1 << (row % 64);
    }

    pub fn and(&mut self, other: &Bits) {
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a &= b;
        }
    }

    pub fn and_not(&mut self, other: &Bits) {
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a &= !b;
        }
    }

    pub fn or(&mut self, other: &Bits) {
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a |= b;
        }
    }

    /// All other rows.
    pub fn invert(&mut self) {
        for w in &mut self.words {
            *w = !*w;
        }
        self.clear_tail();
    }

    pub fn for_each(&self, mut f: impl FnMut(usize)) {
        for (i, &word) in self.words.iter().enumerate() {
            let mut w = word;
            while w != 0 {
                f(i * 64 + w.trailing_zeros() as usize);
                w &= w - 1;
            }
        }
    }

    /// The selected rows, ascending. A block has at most 65,536 rows, so that a `u16` holds each.
    pub fn indices(&self, out: &mut Vec<u16>) {
        kernels::indices(&self.words, out);
    }
}

/// Rows of a block that a filter selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    None,
    All,
    /// Neither none nor all, unless by chance.
    Some(Bits),
}

impl Selection {
    /// Normalizes: no bit set is `None`, every bit set is `All`.
    /// Those rows of a block of `rows` that are in `range`, whose ends are multiples of 64 or the block's end.
    pub fn within(&self, range: std::ops::Range<usize>, rows: usize) -> Self {
        let mut words = vec![0; rows.div_ceil(64)];
        let place = range.start / 64..range.end.div_ceil(64);
        match self {
            Selection::None => {}
            Selection::All => words[place].fill(u64::MAX),
            Selection::Some(bits) => words[place.clone()].copy_from_slice(&bits.words()[place]),
        }
        Selection::of(Bits::from_words(words, rows))
    }

    pub fn of(bits: Bits) -> Self {
        match bits.count() {
            0 => Selection::None,
            n if n == bits.rows => Selection::All,
            _ => Selection::Some(bits),
        }
    }

    /// Whether it is all of the block or nothing.
    pub fn is_whole(&self) -> bool {
        !matches!(self, Selection::Some(_))
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Selection::None)
    }

    pub fn count(&self, rows: usize) -> usize {
        match self {
            Selection::None => 0,
            Selection::All => rows,
            Selection::Some(bits) => bits.count(),
        }
    }

    pub fn contains(&self, row: usize) -> bool {
        match self {
            Selection::None => false,
            Selection::All => true,
            Selection::Some(bits) => bits.get(row),
        }
    }

    /// Whether `other` has every row of `self`.
    pub fn is_within(&self, other: &Selection) -> bool {
        match (self, other) {
            (Selection::None, _) | (_, Selection::All) => true,
            (Selection::Some(a), Selection::Some(b)) => a.words.iter().zip(&b.words).all(|(a, b)| a & !b == 0),
            _ => false,
        }
    }

    /// Rows in both.
    pub fn and(self, other: &Selection) -> Selection {
        match (self, other) {
            (Selection::None, _) | (_, Selection::None) => Selection::None,
            (s, Selection::All) => s,
            (Selection::All, s) => s.clone(),
            (Selection::Some(mut a), Selection::Some(b)) => {
                a.and(b);
                Selection::of(a)
            }
        }
    }

    /// Rows in either.
    pub fn or(self, other: Selection) -> Selection {
        match (self, other) {
            (Selection::All, _) | (_, Selection::All) => Selection::All,
            (s, Selection::None) | (Selection::None, s) => s,
            (Selection::Some(mut a), Selection::Some(b)) => {
                a.or(&b);
                Selection::of(a)
            }
        }
    }

    /// Rows in `self` but not in `other`.
    pub fn and_not(self, other: &Selection, rows: usize) -> Selection {
        match (self, other) {
            (Selection::None, _) | (_, Selection::All) => Selection::None,
            (s, Selection::None) => s,
            (Selection::All, Selection::Some(b)) => {
                let mut bits = Bits::ones(rows);
                bits.and_not(b);
                Selection::of(bits)
            }
            (Selection::Some(mut a), Selection::Some(b)) => {
                a.and_not(b);
                Selection::of(a)
            }
        }
    }

    pub fn for_each(&self, rows: usize, mut f: impl FnMut(usize)) {
        match self {
            Selection::None => {}
            Selection::All => (0..rows).for_each(f),
            Selection::Some(bits) => bits.for_each(&mut f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_form_a_set_algebra() {
        let rows = 131;
        let some = |m: usize| {
            let mut b = Bits::zeros(rows);
            (0..rows).filter(|i| i % m == 0).for_each(|i| b.set(i));
            Selection::of(b)
        };
        let all: Vec<Selection> = vec![Selection::None, Selection::All, some(2), some(3), some(1), some(200)];
        for a in &all {
            for b in &all {
                let (and, or) = (a.clone().and(b), a.clone().or(b.clone()));
                let not = a.clone().and_not(b, rows);
                for i in 0..rows {
                    let (x, y) = (a.contains(i), b.contains(i));
                    assert_eq!(and.contains(i), x && y);
                    assert_eq!(or.contains(i), x || y);
                    assert_eq!(not.contains(i), x && !y);
                }
                assert_eq!(or.count(rows), (0..rows).filter(|&i| or.contains(i)).count());
            }
        }
    }

    #[test]
    fn inverting_keeps_the_tail_clear() {
        let mut bits = Bits::zeros(70);
        bits.set(69);
        bits.invert();
        assert_eq!(bits.count(), 69);
        assert!(!bits.get(69) && bits.get(0));
    }

    #[test]
    fn a_window_of_a_roaring_bitmap() {
        let bitmap: RoaringBitmap = (0..200_000).filter(|v| v % 7 == 0).collect();
        let bits = Bits::from_roaring(&bitmap, 65_536, 1000);
        for i in 0..1000 {
            assert_eq!(bits.get(i), (i + 65_536) % 7 == 0);
        }
    }
}
