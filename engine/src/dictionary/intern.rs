//! Distinct byte strings in arrival order, found by hash.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Gives each distinct byte string a number, from 0 in order of first arrival.
#[derive(Default)]
pub(crate) struct Interner {
    hasher: DefaultHashBuilder,
    /// Half of the hash, and the number.
    table: HashTable<(u32, u32)>,
    ends: Vec<u64>,
    data: Vec<u8>,
}

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
        self.table.allocation_size() + self.ends.capacity() * 8 + self.data.capacity()
    }

    pub fn get(&self, id: u32) -> &[u8] {
        value(&self.ends, &self.data, id)
    }

    pub fn intern(&mut self, bytes: &[u8]) -> u32 {
        let Interner { hasher, table, ends, data } = self;
        let hash = hasher.hash_one(bytes);
        let tag = (hash >> 32) as u32 ^ hash as u32;
        if let Some((_, id)) = table.find(spread(tag), |(t, id)| *t == tag && value(ends, data, *id) == bytes) {
            return *id;
        }
        let id = ends.len() as u32;
        data.extend_from_slice(bytes);
        ends.push(data.len() as u64);
        table.insert_unique(spread(tag), (tag, id), |(tag, _)| spread(*tag));
        id
    }

    /// The numbers in byte order of their values.
    pub fn sorted(&self) -> Vec<u32> {
        let mut keys: Vec<Key> = (0..self.len() as u32).map(|id| key(self.get(id), 0, id)).collect();
        // Runs that are equal in the words before `offset`, and not sorted yet.
        let mut runs = vec![(0, keys.len(), 0)];
        while let Some((start, end, offset)) = runs.pop() {
            let run = &mut keys[start..end];
            if offset > 0 {
                run.iter_mut().for_each(|k| *k = key(self.get(*k as u32), offset, *k as u32));
            }
            run.sort_unstable();
            let mut first = start;
            for equal in run.chunk_by(|a, b| a >> 32 == b >> 32) {
                // Distinct values that are equal so far go on.
                if equal.len() > 1 {
                    runs.push((first, first + equal.len(), offset + WORD));
                }
                first += equal.len();
            }
        }
        keys.into_iter().map(|key| key as u32).collect()
    }
}

/// A table's hash from half of one, so that growing reads no value.
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
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
    let word = match rest.first_chunk::<WORD>() {
        Some(word) => u64::from_be_bytes(*word),
        None => {
            let mut word = [0; WORD];
            word[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(word)
        }
    };
    // A value that ends in the word is less than one that goes on; zeros at its end are told apart by its length.
    let left = rest.len().min(WORD + 1) as u128;
    u128::from(word) << 64 | left << 32 | u128::from(id)
}
