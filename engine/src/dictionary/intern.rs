//! Distinct byte strings in arrival order, found by hash.

use hashbrown::DefaultHashBuilder;
use std::hash::{BuildHasher, Hasher};

use crate::simd::prefetch;
use crate::sort::sort_in_place_by;
use crate::{Cancel, Result, prefix};

/// Gives each distinct byte string a number, from 0 in order of first arrival.
#[derive(Default)]
pub(crate) struct Interner {
    hasher: DefaultHashBuilder,
    /// Half of the hash, and the number + 1; 0: free. A power of two, at most half full.
    slots: Vec<(u32, u32)>,
    ends: Vec<u64>,
    data: Vec<u8>,
}

/// Values whose slots are fetched together.
const TOGETHER: usize = 32;
/// Values between two looks at whether the work is to end.
const LOOK: usize = 1 << 16;
/// Slots that are near anyway.
const NEAR: usize = 1 << 12;

impl Interner {
    /// One without values, for as long as anyone wants.
    pub fn none() -> &'static Interner {
        static NONE: std::sync::LazyLock<Interner> = std::sync::LazyLock::new(Interner::default);
        &NONE
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of the values alone.
    pub fn data_len(&self) -> u64 {
        self.data.len() as u64
    }

    /// Bytes allocated, and the most that growing by one value can come to need at once.
    pub fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<(u32, u32)>() + self.ends.capacity() * 8 + self.data.capacity()
    }

    pub fn get(&self, id: u32) -> &[u8] {
        value(&self.ends, &self.data, id)
    }

    /// The values of these numbers, which may be in any order.
    pub fn get_all<'v>(&'v self, ids: &'v [u32]) -> impl Iterator<Item = &'v [u8]> {
        ids.iter().enumerate().map(|(at, id)| {
            self.fetch(|ahead| ids.get(at + ahead).copied());
            self.get(*id)
        })
    }

    /// Sends for values that are asked for soon: `next` tells the number of the value so many ahead.
    #[inline(always)]
    fn fetch(&self, next: impl Fn(usize) -> Option<u32>) {
        const AHEAD: usize = 16;
        // First where a value ends, then its bytes.
        if let Some(id) = next(2 * AHEAD) {
            prefetch(&self.ends, id as usize);
        }
        if let Some(id) = next(AHEAD) {
            let start = if id == 0 { 0 } else { self.ends[id as usize - 1] };
            prefetch(&self.data, start as usize);
        }
    }

    pub fn intern(&mut self, bytes: &[u8]) -> u32 {
        let tag = self.tag(bytes);
        self.number(tag, bytes)
    }

    /// Appends the numbers of values to `out`, `u32::MAX` for `None`. Slots are fetched some values ahead: most of a large table is not in
    /// the caches.
    pub fn intern_all<'v>(&mut self, values: impl Iterator<Item = Option<&'v [u8]>>, out: &mut Vec<u32>) {
        let mut values = values.fuse();
        let mut next: [Option<(u32, &[u8])>; TOGETHER] = [None; TOGETHER];
        // Many columns repeat the value before.
        let mut last: Option<(&[u8], u32)> = None;
        loop {
            if self.slots.len() <= NEAR {
                let Some(value) = values.next() else { return };
                out.push(match (value, last) {
                    (None, _) => u32::MAX,
                    (Some(bytes), Some((before, number))) if same(bytes, before) => number,
                    (Some(bytes), _) => {
                        let number = self.intern(bytes);
                        last = Some((bytes, number));
                        number
                    }
                });
                continue;
            }
            let mut count = 0;
            for (slot, value) in next.iter_mut().zip(values.by_ref()) {
                *slot = value.map(|bytes| (self.tag(bytes), bytes));
                if let Some((tag, _)) = slot {
                    prefetch(&self.slots, self.place(*tag));
                }
                count += 1;
            }
            out.extend(next[..count].iter().map(|value| match value {
                Some((tag, bytes)) => self.number(*tag, bytes),
                None => u32::MAX,
            }));
            if count < TOGETHER {
                return;
            }
        }
    }

    #[inline(always)]
    fn tag(&self, bytes: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(bytes);
        let hash = hasher.finish();
        (hash >> 32) as u32 ^ hash as u32
    }

    /// Where a search begins.
    fn place(&self, tag: u32) -> usize {
        spread(tag) & self.slots.len().wrapping_sub(1)
    }

    fn number(&mut self, tag: u32, bytes: &[u8]) -> u32 {
        if self.slots.len() < (self.ends.len() + 1) * 2 {
            self.grow();
        }
        let mut at = self.place(tag);
        loop {
            match self.slots[at] {
                (_, 0) => break,
                (known, number) if known == tag && same(self.get(number - 1), bytes) => return number - 1,
                _ => at = (at + 1) & (self.slots.len() - 1),
            }
        }
        self.data.extend_from_slice(bytes);
        self.ends.push(self.data.len() as u64);
        let number = self.ends.len() as u32;
        self.slots[at] = (tag, number);
        number - 1
    }

    /// Growing reads no value: half of the hash is kept.
    fn grow(&mut self) {
        let slots = vec![(0, 0); (self.slots.len() * 2).max(64)];
        let old = std::mem::replace(&mut self.slots, slots);
        for slot in old.into_iter().filter(|slot| slot.1 != 0) {
            let mut at = self.place(slot.0);
            while self.slots[at].1 != 0 {
                at = (at + 1) & (self.slots.len() - 1);
            }
            self.slots[at] = slot;
        }
    }

    /// The numbers in byte order of their values. Errors: `Canceled`.
    pub fn sorted(&self, cancel: &Cancel) -> Result<Vec<u32>> {
        let mut keys: Vec<Key> = Vec::with_capacity(self.len());
        for start in (0..self.len() as u32).step_by(LOOK) {
            cancel.check()?;
            let ids = start..(start + LOOK as u32).min(self.len() as u32);
            keys.extend(ids.map(|id| key(self.get(id), 0, id)));
        }
        // Runs that are equal in the words before `offset`, and not sorted yet.
        let mut runs = vec![(0, keys.len(), 0)];
        while let Some((start, end, offset)) = runs.pop() {
            let run = &mut keys[start..end];
            if offset > 0 {
                for at in 0..run.len() {
                    if at % LOOK == 0 {
                        cancel.check()?;
                    }
                    self.fetch(|ahead| run.get(at + ahead).map(|key| *key as u32));
                    run[at] = key(self.get(run[at] as u32), offset, run[at] as u32);
                }
            }
            sort_in_place_by(run, &Key::cmp, &mut || cancel.check())?;
            let mut first = start;
            for equal in run.chunk_by(|a, b| a >> 32 == b >> 32) {
                // Distinct values that are equal so far go on.
                if equal.len() > 1 {
                    runs.push((first, first + equal.len(), offset + WORD));
                }
                first += equal.len();
            }
        }
        Ok(keys.into_iter().map(|key| key as u32).collect())
    }
}

/// Whether both are equal; short ones without a call.
#[inline(always)]
fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let words = |v: &[u8]| Some((u64::from_ne_bytes(*v.first_chunk()?), u64::from_ne_bytes(*v.last_chunk()?)));
    let halves = |v: &[u8]| Some((u32::from_ne_bytes(*v.first_chunk()?), u32::from_ne_bytes(*v.last_chunk()?)));
    match a.len() {
        0 => true,
        1..4 => a.iter().eq(b),
        4..8 => halves(a) == halves(b),
        8..=16 => words(a) == words(b),
        _ => a == b,
    }
}

fn spread(tag: u32) -> usize {
    (u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 28) as usize
}

fn value<'a>(ends: &[u64], data: &'a [u8], id: u32) -> &'a [u8] {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] as usize };
    &data[start..ends[id] as usize]
}

/// A word of a value, how much of the value is left there, and the number: they compare as the values do, as far as they go.
type Key = u128;

const WORD: usize = 8;

fn key(value: &[u8], offset: usize, id: u32) -> Key {
    let rest = value.get(offset..).unwrap_or_default();
    let word = u64::from_be_bytes(prefix(rest));
    // A value that ends in the word is less than one that goes on; zeros at its end are told apart by its length.
    let left = rest.len().min(WORD + 1) as u128;
    u128::from(word) << 64 | left << 32 | u128::from(id)
}
