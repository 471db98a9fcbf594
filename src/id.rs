//! Ids that can dangle: a slot and a generation.
//!
//! Owns: [`SourceId`], its packing into one word, the id of each kind of source, [`ServiceId`], and [`ConnMap`], the table of a service with one row per connection. Must not know: what the slot holds, where a generation
//! comes from.
//!
//! Invariants:
//! 1. Two sources that live at different times never have equal ids, even in the same slot (until the 32-bit
//!    generation has gone once around).
//! 2. An id survives the round trip through the word that the kernel returns with an event.
//! 3. The ids of different kinds of source are different types: a call for one kind does not compile with another.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

/// The name of one source (a connection, a listener, a datagram socket) for as long as the source lives, and of nothing
/// afterwards.
///
/// A descriptor or a slot number is used again as soon as it is free, so a late event, alarm or command could reach the
/// next source in the slot. The generation makes it miss:
///
/// ```text
///   63            32 31             0
///  ┌────────────────┬────────────────┐
///  │   generation   │      slot      │   one word, carried by epoll_event.data
///  └────────────────┴────────────────┘
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(NonZeroU64);

// An event carries one usize; refuse to build where an id does not fit into it.
const _: () = assert!(usize::BITS >= 64, "reactor packs slot and generation into one 64-bit word");

impl SourceId {
    /// Returns the id of `slot` in its `generation`.
    pub const fn new(slot: u32, generation: NonZeroU32) -> Self {
        let generation = (generation.get() as u64) << 32;
        match NonZeroU64::new(generation | slot as u64) {
            Some(word) => Self(word),
            None => unreachable!(),
        }
    }

    /// Returns the slot of the table that holds the source.
    #[inline]
    pub const fn slot(self) -> usize {
        self.0.get() as u32 as usize
    }

    /// Returns the generation of that slot.
    #[inline]
    pub const fn generation(self) -> NonZeroU32 {
        match NonZeroU32::new((self.0.get() >> 32) as u32) {
            Some(generation) => generation,
            None => unreachable!(),
        }
    }

    /// Returns the word that goes to the kernel (`mio::Token`).
    #[inline]
    pub const fn to_word(self) -> usize {
        self.0.get() as usize
    }

    /// Returns the id in a word that the kernel returned; `None` if the word is no id (its generation is zero).
    #[inline]
    pub const fn from_word(word: usize) -> Option<Self> {
        match NonZeroU64::new(word as u64) {
            Some(word) if word.get() >> 32 != 0 => Some(Self(word)),
            _ => None,
        }
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.slot(), self.generation())
    }
}

impl fmt::Debug for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Declares the id of one kind of source.
macro_rules! source_id {
    ($(#[doc = $doc:literal])+ $id:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $id(SourceId);

        impl $id {
            /// Returns the id of a source that is of this kind.
            #[inline]
            pub(crate) const fn of(source: SourceId) -> Self {
                Self(source)
            }

            /// Returns the slot of the table that holds the source.
            #[inline]
            pub const fn slot(self) -> usize {
                self.0.slot()
            }

            /// Returns the generation of that slot.
            #[inline]
            pub const fn generation(self) -> NonZeroU32 {
                self.0.generation()
            }
        }

        impl From<$id> for SourceId {
            #[inline]
            fn from(id: $id) -> SourceId {
                id.0
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

source_id! {
    /// The id of a connection.
    ConnId
}
source_id! {
    /// The id of a listener.
    ListenerId
}
source_id! {
    /// The id of a datagram socket.
    SocketId
}
source_id! {
    /// The id of a descriptor of the program.
    DescriptorId
}

impl ConnId {
    /// Returns the id of a connection in `slot` with its `generation`.
    pub const fn new(slot: u32, generation: NonZeroU32) -> Self {
        Self(SourceId::new(slot, generation))
    }
}

/// The id of one service of one reactor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ServiceId {
    reactor: u32,
    index: u16,
}

impl ServiceId {
    /// Returns the id of the service number `index` of the reactor number `reactor`.
    pub(crate) const fn new(reactor: u32, index: u16) -> Self {
        Self { reactor, index }
    }

    /// Returns the number of the service within its reactor.
    #[inline]
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// Returns the number of the reactor within the process.
    pub(crate) const fn reactor(self) -> u32 {
        self.reactor
    }
}

/// The state of a service per connection: a vector indexed by slot that checks the generation.
///
/// A look-up costs one index and one comparison. A stale id finds nothing.
///
/// ```
/// use reactor::{ConnMap, Context};
///
/// /// Counts the bytes of each connection.
/// fn count(bytes: &mut ConnMap<usize>, ctx: &mut Context<'_>, input: &[u8]) {
///     *bytes.get_or_insert_with(ctx.id(), || 0) += input.len();
/// }
/// # let mut probe = reactor::Probe::new();
/// # let mut bytes = ConnMap::new();
/// # probe.on(reactor::Probe::id(3), |ctx| count(&mut bytes, ctx, b"hello"));
/// # assert_eq!(bytes.get(reactor::Probe::id(3)), Some(&5));
/// ```
#[derive(Debug)]
pub struct ConnMap<T> {
    rows: Vec<Option<(NonZeroU32, T)>>,
    len: usize,
}

impl<T> Default for ConnMap<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), len: 0 }
    }
}

impl<T> ConnMap<T> {
    /// Returns an empty map. Allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of connections that have a row.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if no connection has a row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Stores `value` for `id` and returns the value that `id` had before. A row of an earlier generation is dropped.
    pub fn insert(&mut self, id: ConnId, value: T) -> Option<T> {
        if self.rows.len() <= id.slot() {
            self.rows.resize_with(id.slot() + 1, || None);
        }
        match self.rows[id.slot()].replace((id.generation(), value)) {
            Some((generation, old)) if generation == id.generation() => Some(old),
            Some(_) => None,
            None => {
                self.len += 1;
                None
            }
        }
    }

    /// Returns the row of `id`, or `None` if there is none or `id` is stale.
    pub fn get(&self, id: ConnId) -> Option<&T> {
        match self.rows.get(id.slot()) {
            Some(Some((generation, value))) if *generation == id.generation() => Some(value),
            _ => None,
        }
    }

    /// Returns the row of `id` for a change.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        match self.rows.get_mut(id.slot()) {
            Some(Some((generation, value))) if *generation == id.generation() => Some(value),
            _ => None,
        }
    }

    /// Removes the row of `id`. The table shrinks when its tail is empty, so that a burst leaves no memory behind.
    pub fn remove(&mut self, id: ConnId) -> Option<T> {
        self.get(id)?;
        let (_, value) = self.rows[id.slot()].take()?;
        self.len -= 1;
        while let Some(None) = self.rows.last() {
            self.rows.pop();
        }
        let (len, capacity) = (self.rows.len(), self.rows.capacity());
        if len == 0 || (capacity > 1024 && len < capacity / 4) {
            self.rows.shrink_to(len * 2);
        }
        Some(value)
    }

    /// Returns true if the connection has a row.
    pub fn contains(&self, id: ConnId) -> bool {
        self.get(id).is_some()
    }

    /// Returns the row of a connection. A connection without a row gets the value of `make`. A row of an earlier connection
    /// in the same slot is dropped.
    pub fn get_or_insert_with(&mut self, id: ConnId, make: impl FnOnce() -> T) -> &mut T {
        if !self.contains(id) {
            self.insert(id, make());
        }
        match &mut self.rows[id.slot()] {
            Some((_, value)) => value,
            None => unreachable!("the row was inserted above"),
        }
    }

    /// Returns every row with its id, in the order of slots, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ConnId, &mut T)> {
        self.rows.iter_mut().enumerate().filter_map(|(slot, row)| {
            let (generation, value) = row.as_mut()?;
            Some((ConnId::new(slot as u32, *generation), value))
        })
    }

    /// Keeps the rows for which `keep` returns true, and drops the others.
    pub fn retain(&mut self, mut keep: impl FnMut(ConnId, &mut T) -> bool) {
        let dropped: Vec<_> = self.iter_mut().filter_map(|(id, value)| (!keep(id, value)).then_some(id)).collect();
        for id in dropped {
            self.remove(id);
        }
    }

    /// Returns every row with its id, in the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &T)> {
        self.rows.iter().enumerate().filter_map(|(slot, row)| {
            let (generation, value) = row.as_ref()?;
            Some((ConnId::new(slot as u32, *generation), value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32, generation: u32) -> ConnId {
        ConnId::new(slot, NonZeroU32::new(generation).unwrap())
    }

    #[test]
    fn ids_survive_the_word() {
        for slot in [0, 1, 77, u32::MAX] {
            for generation in [1, 2, u32::MAX] {
                let before = id(slot, generation);
                assert_eq!(SourceId::from_word(SourceId::from(before).to_word()), Some(before.into()));
            }
        }
        assert_eq!(SourceId::from_word(77), None);
    }

    #[test]
    fn a_stale_id_finds_nothing_and_changes_nothing() {
        let mut map = ConnMap::new();
        assert_eq!(map.insert(id(3, 1), "old"), None);
        assert_eq!(map.insert(id(3, 2), "new"), None);
        assert_eq!(map.len(), 1);
        assert_eq!(map.get(id(3, 1)), None);
        assert_eq!(map.remove(id(3, 1)), None);
        assert_eq!(map.get(id(3, 2)), Some(&"new"));
        assert_eq!(map.insert(id(3, 2), "newer"), Some("new"));
        assert_eq!(map.remove(id(3, 2)), Some("newer"));
        assert!(map.is_empty());
    }

    #[test]
    fn rows_are_made_changed_and_dropped_in_place() {
        let mut map = ConnMap::new();
        assert!(!map.contains(id(1, 1)));
        for slot in 0..5 {
            *map.get_or_insert_with(id(slot, 1), || slot * 10) += 1;
        }
        assert_eq!(*map.get_or_insert_with(id(1, 1), || unreachable!()), 11);
        assert_eq!(*map.get_or_insert_with(id(1, 2), || 0), 0, "another connection in the slot");
        assert!(map.contains(id(1, 2)) && !map.contains(id(1, 1)));
        map.iter_mut().for_each(|(id, value)| *value += id.slot() as u32);
        map.retain(|id, value| id.slot() != 2 && *value < 40);
        assert_eq!(map.iter().map(|(id, value)| (id.slot(), *value)).collect::<Vec<_>>(), [(0, 1), (1, 1), (3, 34)]);
        assert_eq!(map.len(), 3);
    }

    #[test]
    fn rows_are_listed_with_their_ids_and_the_tail_is_given_back() {
        let mut map = ConnMap::new();
        for slot in 0..5000 {
            map.insert(id(slot, 9), slot);
        }
        for slot in 10..5000 {
            map.remove(id(slot, 9));
        }
        assert_eq!(map.iter().map(|(id, _)| id.slot()).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert!(map.rows.capacity() < 4096, "capacity {} was kept", map.rows.capacity());
    }
}
