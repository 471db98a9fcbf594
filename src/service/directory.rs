//! The ids of all sources, and the facts about them that services may know.
//!
//! Owns: [`Directory`], which makes the ids, [`ConnectionFacts`] and [`SocketFacts`]. Must not know: sockets, buffers,
//! commands.
//!
//! A callback can make an id before the socket exists: [`ServiceContext::dial`](super::ServiceContext::dial) returns the
//! id of a connection that the reactor dials after the callback. So the directory belongs to the context of the services,
//! and the reactor keeps its sources under the ids of the directory.
//!
//! Invariants:
//! 1. An id finds the row that it was made for, or nothing.
//! 2. The row of a connection or of a datagram socket stays until its last callback has returned.

use std::mem;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::rc::Rc;

use slab::Slab;

use crate::addr::{Addr, Credentials};
use crate::id::{ConnId, DescriptorId, ListenerId, SocketId, SourceId};

/// The facts about one connection.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// The address of the peer.
    pub peer: Addr,
    /// The process of the peer on a Unix socket. In a box: other connections have none.
    pub credentials: Option<Box<Credentials>>,
    /// The local address, shared by the connections of a listener. Unspecified until a dial has succeeded.
    pub local: Rc<Addr>,
    /// Queued output at which the connection is congested, in bytes.
    pub high_water: usize,
    /// Bytes of output that wait for the kernel.
    pub queued: usize,
    /// False from the end of the connection on: services find it no longer.
    pub is_live: bool,
}

impl ConnectionFacts {
    /// Returns the facts about a connection without output.
    pub fn new(peer: Addr, local: impl Into<Rc<Addr>>, high_water: usize) -> Self {
        Self { peer, credentials: None, local: local.into(), high_water, queued: 0, is_live: true }
    }

    /// Returns the number of bytes that may be queued until the connection is congested.
    pub fn room(&self) -> usize {
        self.high_water.saturating_sub(self.queued)
    }
}

/// The facts about one datagram socket.
#[derive(Clone, Debug)]
pub struct SocketFacts {
    /// The local address; as requested until the socket is bound.
    pub local: SocketAddr,
    /// Bytes that wait for the kernel, with the overhead of each datagram.
    pub queued: usize,
}

impl SocketFacts {
    /// Returns the facts about a socket without output.
    pub fn new(local: SocketAddr) -> Self {
        Self { local, queued: 0 }
    }
}

#[derive(Debug)]
enum Facts {
    Connection(ConnectionFacts),
    Socket(SocketFacts),
    /// A source without facts: a listener, a descriptor, or a slot that a test double has reserved.
    Other,
}

#[derive(Debug)]
struct Row {
    id: SourceId,
    facts: Facts,
}

/// A directory with at most this many rows keeps its memory when the rows are gone.
const KEEP: usize = 1024;

/// All ids of a reactor, with the facts about connections and datagram sockets.
#[derive(Debug)]
pub struct Directory {
    rows: Slab<Row>,
    /// The generation of the next id.
    generation: NonZeroU32,
    /// The slab gives memory back when at most this many rows are left.
    shrink_at: usize,
}

impl Default for Directory {
    fn default() -> Self {
        Self { rows: Slab::new(), generation: NonZeroU32::MIN, shrink_at: 0 }
    }
}

impl Directory {
    /// Begins with other generations than the reactors of lower numbers, so that an id of another reactor finds nothing
    /// here, as a rule.
    pub(crate) fn begin_for(&mut self, number: u32) {
        // The step is odd and large: the first generations of many reactors are far apart.
        let first = number.wrapping_mul(0x9e37_79b1).wrapping_add(1);
        self.generation = NonZeroU32::new(first).unwrap_or(NonZeroU32::MIN);
    }

    fn insert(&mut self, facts: Facts) -> SourceId {
        let vacant = self.rows.vacant_entry();
        let id = SourceId::new(vacant.key() as u32, self.generation);
        vacant.insert(Row { id, facts });
        self.shrink_at = self.shrink_at.max(self.rows.len() / 4);
        self.generation = self.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        id
    }

    /// Returns the id of a new connection.
    pub fn insert_connection(&mut self, facts: ConnectionFacts) -> ConnId {
        ConnId::of(self.insert(Facts::Connection(facts)))
    }

    /// Returns the id of a new datagram socket.
    pub fn insert_socket(&mut self, facts: SocketFacts) -> SocketId {
        SocketId::of(self.insert(Facts::Socket(facts)))
    }

    /// Returns the id of a new listener.
    pub fn insert_listener(&mut self) -> ListenerId {
        ListenerId::of(self.insert(Facts::Other))
    }

    /// Returns the id of a new descriptor of the program.
    pub fn insert_descriptor(&mut self) -> DescriptorId {
        DescriptorId::of(self.insert(Facts::Other))
    }

    /// Returns the facts about a connection, also after its end. `None` if the id is stale.
    #[inline]
    pub fn get(&self, id: ConnId) -> Option<&ConnectionFacts> {
        match self.rows.get(id.slot())? {
            Row { id: owner, facts: Facts::Connection(facts) } if *owner == id.into() => Some(facts),
            _ => None,
        }
    }

    /// Returns the facts about a connection, to be changed.
    #[inline]
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut ConnectionFacts> {
        match self.rows.get_mut(id.slot())? {
            Row { id: owner, facts: Facts::Connection(facts) } if *owner == id.into() => Some(facts),
            _ => None,
        }
    }

    /// Returns the facts about a datagram socket. `None` if the id is stale.
    pub fn socket(&self, id: SocketId) -> Option<&SocketFacts> {
        match self.rows.get(id.slot())? {
            Row { id: owner, facts: Facts::Socket(facts) } if *owner == id.into() => Some(facts),
            _ => None,
        }
    }

    /// Returns the facts about a datagram socket, to be changed.
    pub fn socket_mut(&mut self, id: SocketId) -> Option<&mut SocketFacts> {
        match self.rows.get_mut(id.slot())? {
            Row { id: owner, facts: Facts::Socket(facts) } if *owner == id.into() => Some(facts),
            _ => None,
        }
    }

    /// Returns true if the connection has not ended.
    pub fn is_live(&self, id: ConnId) -> bool {
        self.get(id).is_some_and(|facts| facts.is_live)
    }

    /// Frees an id. A later source may get its slot, with another generation.
    pub fn remove(&mut self, id: SourceId) {
        if self.rows.get(id.slot()).is_none_or(|row| row.id != id) {
            return;
        }
        self.rows.remove(id.slot());
        if self.rows.capacity() > KEEP && self.rows.len() <= self.shrink_at {
            // Each attempt reads all rows, so the next one waits until half of the rows are gone.
            self.rows.shrink_to_fit();
            self.shrink_at = self.rows.len() / 2;
        }
    }

    /// Keeps the first `slots` slots for ids that a test double of the reactor chooses.
    pub fn reserve(&mut self, slots: u32) {
        while self.rows.len() < slots as usize {
            let vacant = self.rows.vacant_entry();
            let id = SourceId::new(vacant.key() as u32, NonZeroU32::MIN);
            vacant.insert(Row { id, facts: Facts::Other });
        }
    }

    /// Sets the facts about a connection whose id a test double has chosen.
    ///
    /// # Panics
    /// If another source has the slot of `id`.
    pub fn place(&mut self, id: ConnId, facts: ConnectionFacts) {
        self.place_facts(id.into(), Facts::Connection(facts));
    }

    /// Sets the facts about a datagram socket whose id a test double has chosen.
    ///
    /// # Panics
    /// As [`place`](Self::place).
    pub fn place_socket(&mut self, id: SocketId, facts: SocketFacts) {
        self.place_facts(id.into(), Facts::Socket(facts));
    }

    fn place_facts(&mut self, id: SourceId, facts: Facts) {
        self.reserve(id.slot() as u32 + 1);
        let row = &mut self.rows[id.slot()];
        let is_same_kind =
            matches!(row.facts, Facts::Other) || mem::discriminant(&row.facts) == mem::discriminant(&facts);
        assert!(row.id == id && is_same_kind, "another source has the slot of {id}");
        row.facts = facts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> ConnectionFacts {
        let addr = Addr::from(([127, 0, 0, 1], 7));
        ConnectionFacts::new(addr.clone(), addr, 10)
    }

    #[test]
    fn a_reused_slot_does_not_answer_to_its_old_id() {
        let mut directory = Directory::default();
        let old = directory.insert_connection(facts());
        directory.remove(old.into());
        let new = directory.insert_connection(facts());
        assert_eq!(old.slot(), new.slot());
        assert!(directory.get(old).is_none() && directory.get(new).is_some());
        directory.remove(old.into());
        assert!(directory.is_live(new));
    }

    #[test]
    fn an_id_of_another_kind_finds_nothing() {
        let mut directory = Directory::default();
        let socket = directory.insert_socket(SocketFacts::new(([127, 0, 0, 1], 7).into()));
        let listener = SourceId::from(directory.insert_listener());
        assert!(directory.socket(socket).is_some() && directory.get(ConnId::of(socket.into())).is_none());
        assert!(directory.socket(SocketId::of(listener)).is_none() && directory.get(ConnId::of(listener)).is_none());
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        let mut directory = Directory::default();
        let ids: Vec<_> = (0..20_000).map(|_| directory.insert_connection(facts())).collect();
        for id in ids {
            directory.remove(id.into());
        }
        assert!(directory.rows.capacity() <= KEEP, "capacity {} was kept", directory.rows.capacity());
    }

    #[test]
    fn room_is_what_is_left_below_the_high_water_mark() {
        let mut facts = facts();
        facts.queued = 4;
        assert_eq!(facts.room(), 6);
        facts.queued = 40;
        assert_eq!(facts.room(), 0);
    }
}
