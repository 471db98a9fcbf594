//! The ids of all sources, and the facts about them that services may know.
//!
//! Owns: [`Directory`], which makes the ids, and [`ConnectionFacts`]. Must not know: sockets, buffers, commands.
//!
//! A callback can make an id before the socket exists: [`ServiceContext::dial`](super::ServiceContext::dial) returns the
//! id of a connection that the reactor dials after the callback. So the directory belongs to the context of the services,
//! and the reactor keeps its sources under the ids of the directory.
//!
//! Invariants:
//! 1. An id finds the row that it was made for, or nothing.
//! 2. The row of a connection stays until its last callback has returned.

use std::num::NonZeroU32;

use slab::Slab;

use crate::addr::Addr;
use crate::id::{ConnId, SourceId};

/// The facts about one connection.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// The address of the peer.
    pub peer: Addr,
    /// The local address. Unspecified until a dial has succeeded.
    pub local: Addr,
    /// Queued output at which the connection is congested, in bytes.
    pub high_water: usize,
    /// Bytes of output that wait for the kernel.
    pub queued: usize,
    /// False from the end of the connection on: services find it no longer.
    pub is_live: bool,
}

impl ConnectionFacts {
    /// Returns the facts about a connection without output.
    pub fn new(peer: Addr, local: Addr, high_water: usize) -> Self {
        Self { peer, local, high_water, queued: 0, is_live: true }
    }

    /// Returns the number of bytes that may be queued until the connection is congested.
    pub fn room(&self) -> usize {
        self.high_water.saturating_sub(self.queued)
    }
}

#[derive(Debug)]
struct Row {
    id: SourceId,
    /// `None` for a source that is not a connection.
    connection: Option<ConnectionFacts>,
}

/// A directory with at most this many rows keeps its memory when the rows are gone.
const KEEP: usize = 1024;

/// All ids of a reactor, with the facts about connections.
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
    fn insert(&mut self, connection: Option<ConnectionFacts>) -> SourceId {
        let vacant = self.rows.vacant_entry();
        let id = SourceId::new(vacant.key() as u32, self.generation);
        vacant.insert(Row { id, connection });
        self.shrink_at = self.shrink_at.max(self.rows.len() / 4);
        self.generation = self.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        id
    }

    /// Returns the id of a new connection.
    pub fn insert_connection(&mut self, facts: ConnectionFacts) -> ConnId {
        ConnId::of(self.insert(Some(facts)))
    }

    /// Returns the id of a new source that is not a connection.
    pub fn insert_source(&mut self) -> SourceId {
        self.insert(None)
    }

    /// Returns the facts about a connection, also after its end. `None` if the id is stale.
    #[inline]
    pub fn get(&self, id: ConnId) -> Option<&ConnectionFacts> {
        self.rows.get(id.slot()).filter(|row| row.id == id.into())?.connection.as_ref()
    }

    /// Returns the facts about a connection, to be changed.
    #[inline]
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut ConnectionFacts> {
        self.rows.get_mut(id.slot()).filter(|row| row.id == id.into())?.connection.as_mut()
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
            vacant.insert(Row { id, connection: None });
        }
    }

    /// Sets the facts about `id`, which a test double has chosen.
    ///
    /// # Panics
    /// If a dial has got the slot of `id`.
    pub fn place(&mut self, id: ConnId, facts: ConnectionFacts) {
        self.reserve(id.slot() as u32 + 1);
        let row = &mut self.rows[id.slot()];
        assert_eq!(row.id, id.into(), "the slot has another id already");
        row.connection = Some(facts);
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
