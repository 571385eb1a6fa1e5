//! A map with a ceiling, which gives up the entry that was used longest ago.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    num::NonZeroUsize,
};

/// A map of at most `capacity` entries. Keys are held twice, so they should be cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Recent<K, V> {
    capacity: NonZeroUsize,
    entries: HashMap<K, (u64, V)>,
    /// Keys by the time of their last use, in uses of this map.
    order: BTreeMap<u64, K>,
    uses: u64,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        Self { capacity, entries: HashMap::new(), order: BTreeMap::new(), uses: 0 }
    }

    /// Most entries that it may hold.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity.get()
    }

    /// Entries held now.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Looks without counting as a use.
    pub(crate) fn peek(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// As [`Self::peek`], to change the value.
    pub(crate) fn peek_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// Makes the entry the most recently used.
    pub(crate) fn touch(&mut self, key: &K) {
        if let Some((used, _)) = self.entries.get_mut(key)
            && let Some(key) = self.order.remove(used)
        {
            self.uses += 1;
            *used = self.uses;
            self.order.insert(self.uses, key);
        }
    }

    /// Inserts or replaces; returns the entry that had to go for it.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        self.remove(&key);
        let evicted = if self.entries.len() >= self.capacity.get() { self.pop_oldest() } else { None };
        self.uses += 1;
        self.order.insert(self.uses, key.clone());
        self.entries.insert(key, (self.uses, value));
        evicted
    }

    /// Takes out the entry that was used longest ago.
    pub(crate) fn pop_oldest(&mut self) -> Option<(K, V)> {
        let oldest = self.order.first_key_value().map(|(_, key)| key.clone())?;
        self.remove(&oldest).map(|value| (oldest, value))
    }

    /// Every value, in no order, to change it.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut().map(|(_, value)| value)
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (used, value) = self.entries.remove(key)?;
        self.order.remove(&used);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_entry_goes_first() {
        let mut map = Recent::new(NonZeroUsize::new(2).unwrap());
        assert_eq!(map.insert('a', 1), None);
        assert_eq!(map.insert('b', 2), None);
        map.touch(&'a');
        assert_eq!(map.peek(&'b'), Some(&2));
        assert_eq!(map.insert('c', 3), Some(('b', 2)));
        assert_eq!(map.insert('a', 4), None);
        assert_eq!(map.insert('d', 5), Some(('c', 3)));
        assert_eq!((map.len(), map.order.len(), map.peek(&'a')), (2, 2, Some(&4)));
        assert_eq!((map.remove(&'a'), map.remove(&'a'), map.len()), (Some(4), None, 1));
    }
}
