//! Distinct byte strings in arrival order, found by hash.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Gives each distinct byte string a number, from 0 in order of first arrival.
#[derive(Default)]
pub(crate) struct Interner {
    hasher: DefaultHashBuilder,
    /// Low bits of the hash, and the number.
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
        let tag = hash as u32;
        if let Some((_, id)) = table.find(hash, |(t, id)| *t == tag && value(ends, data, *id) == bytes) {
            return *id;
        }
        let id = ends.len() as u32;
        data.extend_from_slice(bytes);
        ends.push(data.len() as u64);
        table.insert_unique(hash, (tag, id), |(_, id)| hasher.hash_one(value(ends, data, *id)));
        id
    }

    /// The numbers in byte order of their values.
    pub fn sorted(&self) -> Vec<u32> {
        let mut order: Vec<(u64, u32)> = (0..self.len() as u32).map(|id| (prefix(self.get(id)), id)).collect();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| self.get(a.1).cmp(self.get(b.1))));
        order.into_iter().map(|(_, id)| id).collect()
    }
}

fn value<'a>(ends: &[u64], data: &'a [u8], id: u32) -> &'a [u8] {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] as usize };
    &data[start..ends[id] as usize]
}

/// The first eight bytes, so that integers compare as the strings do; ties are decided by the rest.
fn prefix(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    let n = bytes.len().min(8);
    first[..n].copy_from_slice(&bytes[..n]);
    u64::from_be_bytes(first)
}
