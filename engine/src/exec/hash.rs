//! An open-addressing map from 64-bit keys to dense numbers in order of arrival.

use super::kernels;
use crate::pages::prefer_large;
use crate::{Budget, Reservation, Result};

/// Keys whose slots are fetched before they are looked up.
const AHEAD: usize = 16;
/// Slots beyond which memory counts more than short searches.
const LARGE: usize = 1 << 16;

/// Numbers distinct keys 0, 1, 2, ... Key and number stand in one slot: one cache miss a lookup.
pub(super) struct U64Map {
    /// (key, number + 1); 0: free. Power of two, at most half full, from [`LARGE`] slots on at most two thirds.
    slots: Vec<(u64, u32)>,
    keys: Vec<u64>,
    memory: Reservation,
}

/// Mixes all bits of a key into the high half and folds it back.
#[inline(always)]
pub(super) fn mix(key: u64) -> u64 {
    let wide = u128::from(key ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
    (wide >> 64) as u64 ^ wide as u64
}

impl U64Map {
    pub fn new(budget: &Budget) -> Result<Self> {
        Ok(U64Map { slots: vec![(0, 0); 64], keys: Vec::new(), memory: budget.reserve(64 * 16)? })
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn key(&self, number: u32) -> u64 {
        self.keys[number as usize]
    }

    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// The number of `key`, a new one if it is new. Errors: `Budget`.
    #[inline(always)]
    pub fn number(&mut self, key: u64) -> Result<u32> {
        let mask = self.slots.len() - 1;
        let mut at = mix(key) as usize & mask;
        loop {
            let slot = self.slots[at & mask];
            if slot.1 == 0 {
                return self.insert(key, at & mask);
            }
            if slot.0 == key {
                return Ok(slot.1 - 1);
            }
            at += 1;
        }
    }

    /// [`U64Map::number`] of many keys. Slots are fetched ahead: a table that outgrows the caches costs the memory's bandwidth, not
    /// its latency. Errors: `Budget`; then some keys may have been added.
    pub fn numbers(&mut self, keys: impl Iterator<Item = u64> + Clone, mut take: impl FnMut(u32)) -> Result<()> {
        let mut ahead = keys.clone();
        ahead.by_ref().take(AHEAD).for_each(|key| self.fetch(key));
        for key in keys {
            if let Some(next) = ahead.next() {
                self.fetch(next);
            }
            take(self.number(key)?);
        }
        Ok(())
    }

    #[inline(always)]
    fn fetch(&self, key: u64) {
        kernels::prefetch(&self.slots, mix(key) as usize & (self.slots.len() - 1));
    }

    /// Appends a key that is known to be new, without making it findable.
    pub fn push_unhashed(&mut self, key: u64) -> Result<u32> {
        self.make_room()?;
        self.keys.push(key);
        Ok(self.keys.len() as u32 - 1)
    }

    fn make_room(&mut self) -> Result<()> {
        if self.keys.len() == self.keys.capacity() {
            let capacity = (self.keys.capacity() * 2).max(32);
            self.memory.grow((capacity - self.keys.capacity()) * 8)?;
            self.keys.reserve_exact(capacity - self.keys.len());
        }
        Ok(())
    }

    /// Nothing changes on an error: the table is never full.
    #[cold]
    fn insert(&mut self, key: u64, mut at: usize) -> Result<u32> {
        self.make_room()?;
        let number = self.keys.len() as u32;
        let size = self.slots.len();
        if (self.keys.len() + 1) * 2 > size && (size < LARGE || (self.keys.len() + 1) * 3 > size * 2) {
            self.grow()?;
            let mask = self.slots.len() - 1;
            at = mix(key) as usize & mask;
            while self.slots[at].1 != 0 {
                at = (at + 1) & mask;
            }
        }
        self.keys.push(key);
        self.slots[at] = (key, number + 1);
        Ok(number)
    }

    fn grow(&mut self) -> Result<()> {
        let size = self.slots.len() * if self.slots.len() < LARGE { 4 } else { 2 };
        let bytes = size * size_of::<(u64, u32)>();
        self.memory.grow(bytes)?;
        let slots = vec![(0, 0); size];
        prefer_large(&slots);
        let old = std::mem::replace(&mut self.slots, slots);
        let mask = size - 1;
        for slot in &old {
            if slot.1 != 0 {
                let mut at = mix(slot.0) as usize & mask;
                while self.slots[at].1 != 0 {
                    at = (at + 1) & mask;
                }
                self.slots[at] = *slot;
            }
        }
        let keep = self.memory.bytes() - old.len() * size_of::<(u64, u32)>();
        drop(old);
        self.memory.resize(keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use std::collections::HashMap;

    #[test]
    fn numbers_follow_arrival() {
        let budget = Budget::new(64 << 20);
        let mut map = U64Map::new(&budget).unwrap();
        let mut naive: HashMap<u64, u32> = HashMap::new();
        for i in 0..300_000u64 {
            let key = (i * i) % 70_001 * if i % 2 == 0 { 1 } else { 1 << 40 };
            let next = naive.len() as u32;
            let want = *naive.entry(key).or_insert(next);
            assert_eq!(map.number(key).unwrap(), want);
        }
        assert_eq!(map.len(), naive.len());
        assert!(map.keys().iter().enumerate().all(|(i, k)| naive[k] == i as u32));
        assert!(budget.used() >= map.len() * 24);
        drop(map);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn growth_asks_the_budget() {
        let budget = Budget::new(10_000);
        let mut map = U64Map::new(&budget).unwrap();
        let failed = (0..100_000u64).find_map(|k| map.number(k).err());
        assert!(matches!(failed, Some(Error::Budget { .. })));
        // The map stays usable: lookups end, and what is in it is found.
        assert!((0..100_000u64).all(|k| map.number(k).map_or(true, |n| u64::from(n) == k)));
    }
}
