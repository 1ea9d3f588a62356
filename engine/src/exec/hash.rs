//! An open-addressing map from 64-bit keys to dense numbers in order of arrival.

use super::kernels;
use super::states::reserve;
use crate::{Budget, Reservation, Result};

/// Keys whose slots are fetched before they are looked up.
const AHEAD: usize = 16;
/// Keys between two looks at whether the query is to end: each may take some hundred nanoseconds.
const LOOK: usize = 1 << 14;
/// Slots beyond which memory counts more than short searches.
const LARGE: usize = 1 << 16;

/// Mixes all bits of a key into the high half and folds it back.
#[inline(always)]
pub(super) fn mix(key: u64) -> u64 {
    let wide = u128::from(key ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
    (wide >> 64) as u64 ^ wide as u64
}

/// Keys with their numbers in one slot each: one cache miss a lookup.
struct Slots {
    /// (key, number + 1); 0: free. Power of two, at most half full, from [`LARGE`] slots on at most two thirds.
    slots: Vec<(u64, u32)>,
    used: usize,
}

impl Slots {
    /// Slots at first.
    const FEWEST: usize = 64;

    fn new(memory: &mut Reservation) -> Result<Self> {
        memory.grow(Self::FEWEST * size_of::<(u64, u32)>())?;
        Ok(Slots { slots: vec![(0, 0); Self::FEWEST], used: 0 })
    }

    /// The number of `key`, or the free slot where it would stand.
    #[inline(always)]
    fn find(&self, key: u64) -> std::result::Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut at = mix(key) as usize & mask;
        loop {
            let slot = self.slots[at & mask];
            if slot.1 == 0 {
                return Err(at & mask);
            }
            if slot.0 == key {
                return Ok(slot.1 - 1);
            }
            at += 1;
        }
    }

    #[inline(always)]
    fn fetch(&self, key: u64) {
        kernels::prefetch(&self.slots, mix(key) as usize & (self.slots.len() - 1));
    }

    /// Puts a new key into the free slot that [`Slots::find`] told. Nothing changes on an error: the table is never full.
    fn put(&mut self, key: u64, number: u32, mut at: usize, memory: &mut Reservation) -> Result<()> {
        let size = self.slots.len();
        if (self.used + 1) * 2 > size && (size < LARGE || (self.used + 1) * 3 > size * 2) {
            self.grow(memory)?;
            let mask = self.slots.len() - 1;
            at = mix(key) as usize & mask;
            while self.slots[at].1 != 0 {
                at = (at + 1) & mask;
            }
        }
        self.slots[at] = (key, number + 1);
        self.used += 1;
        Ok(())
    }

    fn grow(&mut self, memory: &mut Reservation) -> Result<()> {
        let size = self.slots.len() * if self.slots.len() < LARGE { 4 } else { 2 };
        let bytes = size * size_of::<(u64, u32)>();
        memory.grow(bytes)?;
        let mut slots = vec![(0, 0); size];
        let mask = size - 1;
        for chunk in self.slots.chunks(LOOK) {
            memory.check()?;
            for slot in chunk {
                if slot.1 != 0 {
                    let mut at = mix(slot.0) as usize & mask;
                    while slots[at].1 != 0 {
                        at = (at + 1) & mask;
                    }
                    slots[at] = *slot;
                }
            }
        }
        let old = std::mem::replace(&mut self.slots, slots);
        let keep = memory.bytes() - old.len() * size_of::<(u64, u32)>();
        drop(old);
        memory.resize(keep)
    }
}

/// Numbers distinct keys 0, 1, 2, ...
pub struct U64Map {
    slots: Slots,
    keys: Vec<u64>,
    memory: Reservation,
}

impl U64Map {
    /// Errors: `Budget`.
    pub fn new(budget: &Budget) -> Result<Self> {
        let mut memory = budget.reserve(0)?;
        Ok(U64Map { slots: Slots::new(&mut memory)?, keys: Vec::new(), memory })
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn key(&self, number: u32) -> u64 {
        self.keys[number as usize]
    }

    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// The number of `key`, a new one if it is new. Errors: `Budget`, `Canceled`; then nothing changed.
    #[inline(always)]
    pub fn number(&mut self, key: u64) -> Result<u32> {
        match self.slots.find(key) {
            Ok(number) => Ok(number),
            Err(at) => self.insert(key, at),
        }
    }

    /// The number of a key that is there.
    #[inline]
    pub fn find(&self, key: u64) -> Option<u32> {
        self.slots.find(key).ok()
    }

    /// [`U64Map::number`] of many keys. Slots are fetched ahead: a table that outgrows the caches costs the memory's bandwidth, not
    /// its latency. Errors: `Budget`; then some keys may have been added.
    pub fn numbers(&mut self, keys: impl Iterator<Item = u64> + Clone, mut take: impl FnMut(u32)) -> Result<()> {
        let mut ahead = keys.clone();
        ahead.by_ref().take(AHEAD).for_each(|key| self.slots.fetch(key));
        let mut left = LOOK;
        for key in keys {
            if let Some(next) = ahead.next() {
                self.slots.fetch(next);
            }
            take(self.number(key)?);
            left -= 1;
            if left == 0 {
                self.memory.check()?;
                left = LOOK;
            }
        }
        Ok(())
    }

    /// Appends a key that is known to be new, without making it findable. Errors: `Budget`.
    pub fn push_unhashed(&mut self, key: u64) -> Result<u32> {
        let len = self.keys.len() + 1;
        reserve(&mut self.keys, len, &mut self.memory)?;
        self.keys.push(key);
        Ok(self.keys.len() as u32 - 1)
    }

    /// Nothing changes on an error.
    #[cold]
    fn insert(&mut self, key: u64, at: usize) -> Result<u32> {
        let len = self.keys.len() + 1;
        reserve(&mut self.keys, len, &mut self.memory)?;
        let number = self.keys.len() as u32;
        self.slots.put(key, number, at, &mut self.memory)?;
        self.keys.push(key);
        Ok(number)
    }
}

/// Numbers distinct pairs 0, 1, 2, ... of a number in the low half of a key, one of those that are given out from 0 on, and what goes with
/// it in the high half. Where most numbers go with one thing only, as a person with a region, no key is hashed: it stands by its number.
pub(super) struct PairMap {
    /// By number: what it went with first, and that pair's number + 1; 0: it is new.
    first: Vec<(u32, u32)>,
    /// The other pairs.
    others: Slots,
    keys: Vec<u64>,
    memory: Reservation,
}

/// Pairs looked at together.
const TOGETHER: usize = 256;

impl PairMap {
    pub fn new(budget: &Budget) -> Result<Self> {
        let mut memory = budget.reserve(0)?;
        Ok(PairMap { first: Vec::new(), others: Slots::new(&mut memory)?, keys: Vec::new(), memory })
    }

    pub fn number(&mut self, key: u64) -> Result<u32> {
        let mut number = 0;
        self.numbers(std::iter::once(key), |n| number = n)?;
        Ok(number)
    }

    /// As [`U64Map::numbers`].
    pub fn numbers(&mut self, mut keys: impl Iterator<Item = u64>, mut take: impl FnMut(u32)) -> Result<()> {
        let (mut together, mut numbers, mut missed) = ([0u64; TOGETHER], [0u32; TOGETHER], [0u16; TOGETHER]);
        loop {
            let (mut count, mut most) = (0, 0);
            for (slot, key) in together.iter_mut().zip(keys.by_ref()) {
                *slot = key;
                most = most.max(key as u32);
                kernels::prefetch(&self.first, key as u32 as usize);
                count += 1;
            }
            if count == 0 {
                return Ok(());
            }
            let reach = (most as usize + 1).max(self.first.len());
            reserve(&mut self.first, reach, &mut self.memory)?;
            self.first.resize(reach, (0, 0));
            let reach = self.keys.len() + count;
            reserve(&mut self.keys, reach, &mut self.memory)?;
            let mut others = 0;
            for (i, (key, number)) in together.iter().zip(&mut numbers).enumerate().take(count) {
                let first = &mut self.first[*key as u32 as usize];
                if first.1 == 0 {
                    *first = ((key >> 32) as u32, self.keys.len() as u32 + 1);
                    self.keys.push(*key);
                }
                *number = first.1 - 1;
                if first.0 != (key >> 32) as u32 {
                    missed[others] = i as u16;
                    others += 1;
                    self.others.fetch(*key);
                }
            }
            for i in &missed[..others] {
                let key = together[usize::from(*i)];
                numbers[usize::from(*i)] = match self.others.find(key) {
                    Ok(number) => number,
                    Err(at) => {
                        let number = self.keys.len() as u32;
                        self.others.put(key, number, at, &mut self.memory)?;
                        self.keys.push(key);
                        number
                    }
                };
            }
            numbers[..count].iter().for_each(|number| take(*number));
            if count < TOGETHER {
                return Ok(());
            }
        }
    }
}

/// Either map.
pub(super) enum KeyMap {
    Any(U64Map),
    Pairs(PairMap),
}

impl KeyMap {
    /// `pairs`: keys are pairs whose low halves are numbers that are given out from 0 on.
    pub fn new(pairs: bool, budget: &Budget) -> Result<Self> {
        Ok(if pairs { KeyMap::Pairs(PairMap::new(budget)?) } else { KeyMap::Any(U64Map::new(budget)?) })
    }

    pub fn len(&self) -> usize {
        self.keys().len()
    }

    pub fn key(&self, number: u32) -> u64 {
        self.keys()[number as usize]
    }

    pub fn keys(&self) -> &[u64] {
        match self {
            KeyMap::Any(map) => &map.keys,
            KeyMap::Pairs(map) => &map.keys,
        }
    }

    pub fn number(&mut self, key: u64) -> Result<u32> {
        match self {
            KeyMap::Any(map) => map.number(key),
            KeyMap::Pairs(map) => map.number(key),
        }
    }

    /// As [`U64Map::numbers`].
    pub fn numbers(&mut self, keys: impl Iterator<Item = u64> + Clone, take: impl FnMut(u32)) -> Result<()> {
        match self {
            KeyMap::Any(map) => map.numbers(keys, take),
            KeyMap::Pairs(map) => map.numbers(keys, take),
        }
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
            assert_eq!(map.find(key), (want != next).then_some(want));
            assert_eq!(map.number(key).unwrap(), want);
        }
        assert_eq!(map.len(), naive.len());
        assert!(map.keys().iter().enumerate().all(|(i, k)| naive[k] == i as u32));
        assert!(budget.used() >= map.len() * 24);
        drop(map);
        assert_eq!(budget.used(), 0);
    }

    /// Some numbers go with one thing, others with many.
    #[test]
    fn pairs_are_numbered_once() {
        let budget = Budget::new(64 << 20);
        let mut map = PairMap::new(&budget).unwrap();
        let mut naive: HashMap<u64, u32> = HashMap::new();
        for round in 0..3u64 {
            let keys = || (0..90_000u64).map(move |i| (i % 1001) | ((i % 7 * (i % 1001 % 5) * (round + 1) % 23) << 32));
            let mut found = Vec::new();
            map.numbers(keys(), |number| found.push(number)).unwrap();
            assert_eq!(found.len(), 90_000);
            for (key, number) in keys().zip(found) {
                assert_eq!(*naive.entry(key).or_insert(number), number);
                assert_eq!(map.keys[number as usize], key);
            }
        }
        assert_eq!(map.keys.len(), naive.len());
        assert_eq!(map.number(5_000).unwrap() as usize, naive.len());
        assert_eq!(map.number(5_000 | 1 << 32).unwrap() as usize, naive.len() + 1);
        assert_eq!(map.number(5_000).unwrap() as usize, naive.len());
        let mut poor = PairMap::new(&Budget::new(20_000)).unwrap();
        assert!(matches!(poor.numbers((0..100_000).map(|k| k << 32), |_| {}), Err(Error::Budget { .. })));
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
