//! A map with a ceiling.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// A map that holds at most `capacity` entries. When it is full the oldest entry that was not asked for since the last
/// round goes (second chance), so that what is in use stays without a list to reorder on each look-up.
#[derive(Debug)]
pub(crate) struct BoundedMap<K, V> {
    entries: HashMap<K, Slot<V>>,
    queue: VecDeque<K>,
    capacity: usize,
    evicted: u64,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    used: bool,
}

impl<K: Clone + Eq + Hash, V> BoundedMap<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), queue: VecDeque::new(), capacity, evicted: 0 }
    }

    /// The value of `key`, which is marked as used.
    pub(crate) fn get(&mut self, key: &K) -> Option<&V> {
        let slot = self.entries.get_mut(key)?;
        slot.used = true;
        Some(&slot.value)
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Adds or replaces the value of `key`; without capacity nothing is kept.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        if let Some(slot) = self.entries.get_mut(&key) {
            slot.value = value;
            return;
        }
        if self.capacity == 0 {
            return;
        }
        while self.entries.len() >= self.capacity {
            self.evict_one();
        }
        self.queue.push_back(key.clone());
        self.entries.insert(key, Slot { value, used: false });
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Entries given up since the start.
    pub(crate) const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Ends after at most one round, because each entry that is spared loses its mark.
    fn evict_one(&mut self) {
        while let Some(key) = self.queue.pop_front() {
            match self.entries.get_mut(&key) {
                Some(slot) if slot.used => {
                    slot.used = false;
                    self.queue.push_back(key);
                }
                _ => {
                    self.entries.remove(&key);
                    self.evicted += 1;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_for_outlives_what_is_not() {
        let mut map = BoundedMap::new(2);
        map.insert(1, "one");
        map.insert(2, "two");
        assert_eq!(map.get(&1), Some(&"one"));
        map.insert(3, "three");
        assert_eq!([1, 2, 3].map(|key| map.get(&key).copied()), [Some("one"), None, Some("three")]);
        assert_eq!((map.len(), map.evicted()), (2, 1));
    }

    #[test]
    fn without_capacity_nothing_is_kept() {
        let mut map = BoundedMap::new(0);
        map.insert(1, "one");
        assert_eq!(map.get(&1), None);
        assert_eq!(map.len(), 0);
    }

    proptest! {
        #[test]
        fn never_grows_beyond_its_capacity(capacity in 0usize..8, steps in proptest::collection::vec((0u8..20, any::<bool>()), 0..200)) {
            let mut map = BoundedMap::new(capacity);
            for (key, insert) in steps {
                if insert {
                    map.insert(key, key);
                    prop_assert!(capacity == 0 || map.contains(&key));
                } else if let Some(value) = map.get(&key) {
                    prop_assert_eq!(*value, key);
                }
                prop_assert!(map.len() <= capacity);
                prop_assert_eq!(map.len(), map.queue.len());
            }
        }
    }
}
