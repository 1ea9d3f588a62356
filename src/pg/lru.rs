//! A map that forgets what was not used for longest.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Least-recently-used cache; its limit is given at each insertion, since settings change.
pub struct Lru<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// By time of use as it was when an entry was queued; uses since then count when it is its turn.
    queue: BTreeMap<u64, K>,
    clock: u64,
}

struct Entry<V> {
    used: u64,
    queued: u64,
    value: V,
}

impl<K: Hash + Eq + Clone, V> Lru<K, V> {
    pub fn new() -> Self {
        Lru { entries: HashMap::new(), queue: BTreeMap::new(), clock: 0 }
    }

    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.get_mut(key).map(|value| &*value)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        self.clock += 1;
        entry.used = self.clock;
        Some(&mut entry.value)
    }

    /// Inserts, then drops the oldest entries until `limit` are left.
    pub fn insert(&mut self, key: K, value: V, limit: usize) {
        self.remove(&key);
        self.clock += 1;
        self.queue.insert(self.clock, key.clone());
        self.entries.insert(key, Entry { used: self.clock, queued: self.clock, value });
        while self.entries.len() > limit.max(1) {
            self.pop();
        }
    }

    /// Removes what was not used for longest.
    pub fn pop(&mut self) -> Option<V> {
        loop {
            let (queued, oldest) = self.queue.pop_first()?;
            let entry = self.entries.get_mut(&oldest)?;
            if entry.used == queued {
                return self.entries.remove(&oldest).map(|entry| entry.value);
            }
            entry.queued = entry.used;
            self.queue.insert(entry.used, oldest);
        }
    }

    /// All entries, in no particular order; that does not count as use.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.value))
    }

    pub fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.queue.remove(&entry.queued);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = Lru::new();
        cache.insert(1, "a", 2);
        cache.insert(2, "b", 2);
        assert_eq!(cache.get(&1), Some(&"a"));
        cache.insert(3, "c", 2);
        assert_eq!(cache.get(&1), Some(&"a"));
        assert_eq!(cache.get(&2), None);
        assert_eq!(cache.get(&3), Some(&"c"));
        cache.get(&1);
        cache.remove(&3);
        cache.insert(4, "d", 2);
        cache.insert(5, "e", 2);
        assert_eq!(cache.get(&1), None);
        assert_eq!((cache.pop(), cache.pop(), cache.pop()), (Some("d"), Some("e"), None));
    }
}
