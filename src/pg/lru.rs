//! A map that forgets what was not used for longest.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Least-recently-used cache; its limit is given at each insertion, since settings change.
pub struct Lru<K, V> {
    entries: HashMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    clock: u64,
}

impl<K: Hash + Eq + Clone, V> Lru<K, V> {
    pub fn new() -> Self {
        Lru { entries: HashMap::new(), order: BTreeMap::new(), clock: 0 }
    }

    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.get_mut(key).map(|value| &*value)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (used, value) = self.entries.get_mut(key)?;
        self.order.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.order.insert(self.clock, key.clone());
        Some(value)
    }

    /// Inserts, then drops the oldest entries until `limit` are left.
    pub fn insert(&mut self, key: K, value: V, limit: usize) {
        self.remove(&key);
        self.clock += 1;
        self.order.insert(self.clock, key.clone());
        self.entries.insert(key, (self.clock, value));
        while self.entries.len() > limit.max(1) {
            self.pop();
        }
    }

    /// Removes what was not used for longest.
    pub fn pop(&mut self) -> Option<V> {
        let (_, oldest) = self.order.pop_first()?;
        self.entries.remove(&oldest).map(|(_, value)| value)
    }

    /// All entries, in no particular order; that does not count as use.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (_, value))| (key, value))
    }

    pub fn remove(&mut self, key: &K) {
        if let Some((used, _)) = self.entries.remove(key) {
            self.order.remove(&used);
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
    }
}
