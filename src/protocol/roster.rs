//! The members of a broadcast, in one array.
//!
//! Owns: [`Roster`]. Must not know: the meaning of keys and values.
//!
//! Invariants:
//! 1. A key is a member once. `places` holds the index of every key in `keys`, and `values` has the same order as `keys`.

use std::collections::HashMap;
use std::hash::Hash;

/// A roster with a capacity of up to this many members keeps its memory until it is empty.
const KEEP: usize = 1024;

/// Members, each with a value, in an array that a broadcast takes as it is.
#[derive(Debug)]
pub struct Roster<K, V = ()> {
    keys: Vec<K>,
    values: Vec<V>,
    places: HashMap<K, usize>,
}

impl<K, V> Default for Roster<K, V> {
    fn default() -> Self {
        Self { keys: Vec::new(), values: Vec::new(), places: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Roster<K, V> {
    /// An empty roster.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns all members. The last to join is the last here.
    pub fn keys(&self) -> &[K] {
        &self.keys
    }

    /// Returns the value of a member.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.places.get(key).map(|&place| &self.values[place])
    }

    /// Returns the value of a member, for changes.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.places.get(key).map(|&place| &mut self.values[place])
    }

    /// Adds a member. Returns false if it is a member already, and keeps its value then.
    pub fn join(&mut self, key: K, value: V) -> bool {
        if self.places.contains_key(&key) {
            return false;
        }
        self.places.insert(key.clone(), self.keys.len());
        self.keys.push(key);
        self.values.push(value);
        true
    }

    /// Frees memory after many members have left. Small remains in it would pin much more of the heap.
    fn shrink(&mut self) {
        let (len, capacity) = (self.keys.len(), self.keys.capacity());
        if len == 0 || (capacity > KEEP && len < capacity / 4) {
            self.keys.shrink_to(len * 2);
            self.values.shrink_to(len * 2);
            self.places.shrink_to(len * 2);
        }
    }

    /// Removes a member, and returns its value. The last member moves to its place.
    pub fn leave(&mut self, key: &K) -> Option<V> {
        let place = self.places.remove(key)?;
        self.keys.swap_remove(place);
        if let Some(moved) = self.keys.get(place).and_then(|moved| self.places.get_mut(moved)) {
            *moved = place;
        }
        let value = self.values.swap_remove(place);
        self.shrink();
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(to: &[u32]) -> Vec<u32> {
        let mut to = to.to_vec();
        to.sort_unstable();
        to
    }

    #[test]
    fn a_roster_is_a_set_whatever_the_order() {
        let mut roster = Roster::new();
        let mut model = std::collections::BTreeMap::new();
        let mut seed = 1u32;
        for step in 0..10_000u32 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let key = seed >> 24;
            if seed & 0x800 == 0 {
                let is_new = !model.contains_key(&key);
                model.entry(key).or_insert(step);
                assert_eq!(roster.join(key, step), is_new);
                if is_new {
                    assert_eq!(roster.keys().last(), Some(&key));
                }
            } else {
                assert_eq!(roster.leave(&key), model.remove(&key));
            }
            assert_eq!(sorted(roster.keys()), model.keys().copied().collect::<Vec<_>>());
            assert_eq!(roster.get(&key), model.get(&key));
        }
    }
}
