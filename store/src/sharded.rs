//! A hash table for very many keys, as many small tables.
//!
//! One table doubles, and while it does, both are there. A million keys are just too
//! many for 2^20 places, so they would take 2^21. Small tables double one after the
//! other, and there are as many of them as make a million keys fill them well.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

/// 2^20 keys are about 6550 for each; a table of 8192 places has room for 7168.
const TABLES: usize = 160;

/// A hash table.
#[derive(Debug)]
pub(crate) struct Sharded<K, V> {
    tables: Vec<HashMap<K, V>>,
    /// Says which table a key is in; each table has a hash of its own.
    choice: RandomState,
    len: usize,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self {
            tables: (0..TABLES).map(|_| HashMap::new()).collect(),
            choice: RandomState::new(),
            len: 0,
        }
    }
}

impl<K: Eq + Hash, V> Sharded<K, V> {
    fn table<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        self.choice.hash_one(key) as usize % TABLES
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The value of a key.
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.tables[self.table(key)].get(key)
    }

    /// Gives a key a value; returns the one that it had.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let table = self.table(&key);
        let before = self.tables[table].insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// All keys with their values, in any order.
    #[cfg(feature = "write")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.tables.iter().flatten()
    }

    /// All keys with their values, in any order; each table is freed when it was handed out.
    #[cfg(feature = "write")]
    pub(crate) fn into_iter(self) -> impl Iterator<Item = (K, V)> {
        self.tables.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_value_that_it_was_given_last() {
        let mut table = Sharded::default();
        for key in 0..10_000_u32 {
            assert_eq!(table.insert(key, key), None);
        }
        assert_eq!(table.insert(7, 8), Some(7));
        assert_eq!((table.get(&7), table.get(&10_000)), (Some(&8), None));
        assert_eq!(table.len(), 10_000);
        #[cfg(feature = "write")]
        {
            assert_eq!(table.iter().count(), 10_000);
            let mut keys: Vec<u32> = table.into_iter().map(|(key, _)| key).collect();
            keys.sort_unstable();
            assert!(keys.into_iter().eq(0..10_000));
        }
    }
}
