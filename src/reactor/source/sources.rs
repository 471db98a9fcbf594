//! The slab of sources, with a generation on every slot.
//!
//! Owns: [`Sources`] and [`Source`], the three kinds of thing that the kernel reports events for. Must not know: what
//! is done with them.
//!
//! Invariants:
//! 1. An id finds the source that it was made for, or nothing.
//! 2. A connection that has been taken out keeps its slot until it is put back.

use std::num::NonZeroU32;

use mio::net::TcpStream;
use slab::Slab;

use crate::id::SourceId;
use crate::reactor::source::connection::Connection;
use crate::reactor::source::datagram::DatagramSocket;
use crate::reactor::source::listener::Listener;

/// A connection over TCP.
pub type TcpConnection = Connection<TcpStream>;

/// Something that the kernel reports events for. Connections are by far the most: they lie in the slab itself, so that
/// the memory of a burst is one piece and can be given back.
// The tag is a byte of its own, which costs one comparison to look at; a niche would be cheaper in memory only.
#[derive(Debug)]
#[repr(u8)]
#[expect(clippy::large_enum_variant)]
pub enum Source {
    /// A stream between two peers.
    Connection(TcpConnection),
    /// The place of a connection or a datagram socket that has been taken out for its turn.
    Taken,
    /// A socket that connections come from.
    Listener(Box<Listener>),
    /// A socket that datagrams come from and go to.
    Datagram(Box<DatagramSocket>),
}

/// A slab of up to this many slots is kept when its sources are gone.
const KEEP: usize = 1024;

/// All sources of a reactor.
#[derive(Debug)]
pub struct Sources {
    slab: Slab<(SourceId, Source)>,
    generation: NonZeroU32,
    connections: usize,
    /// When so few sources are left, slots are given back.
    shrink_at: usize,
}

impl Default for Sources {
    fn default() -> Self {
        Self { slab: Slab::new(), generation: NonZeroU32::MIN, connections: 0, shrink_at: 0 }
    }
}

impl Sources {
    /// Puts in what `make` makes, which is told its id, or fails.
    pub fn insert<E>(&mut self, make: impl FnOnce(SourceId) -> Result<Source, E>) -> Result<SourceId, E> {
        let vacant = self.slab.vacant_entry();
        let id = SourceId::new(vacant.key() as u32, self.generation);
        let source = make(id)?;
        self.connections += usize::from(matches!(source, Source::Connection(_)));
        vacant.insert((id, source));
        self.shrink_at = self.shrink_at.max(self.slab.len() / 4);
        self.generation = self.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        Ok(id)
    }

    /// The source with this id, unless it is gone.
    #[inline]
    pub fn get_mut(&mut self, id: SourceId) -> Option<&mut Source> {
        match self.slab.get_mut(id.slot()) {
            Some((owner, source)) if *owner == id => Some(source),
            _ => None,
        }
    }

    /// Takes a connection out for its turn, so that the reactor and the connection can be changed at the same time.
    /// `None` if the id is stale or is not a connection's.
    #[inline]
    pub fn take_out(&mut self, id: SourceId) -> Option<TcpConnection> {
        match self.get_mut(id) {
            Some(source @ Source::Connection(_)) => match std::mem::replace(source, Source::Taken) {
                Source::Connection(connection) => Some(connection),
                _ => None,
            },
            _ => None,
        }
    }

    /// Puts a connection back that has been taken out.
    #[inline]
    pub fn put_back(&mut self, connection: TcpConnection) {
        if let Some((_, place @ Source::Taken)) = self.slab.get_mut(connection.id().slot()) {
            *place = Source::Connection(connection);
        }
    }

    /// The connection with this id, to be looked at, unless it is gone or has its turn.
    pub fn get(&self, id: SourceId) -> Option<&TcpConnection> {
        match self.slab.get(id.slot()) {
            Some((owner, Source::Connection(connection))) if *owner == id => Some(connection),
            _ => None,
        }
    }

    /// Takes a datagram socket out for its turn. `None` if the id is stale or is not a datagram socket's.
    pub fn take_socket(&mut self, id: SourceId) -> Option<Box<DatagramSocket>> {
        match self.get_mut(id) {
            Some(source @ Source::Datagram(_)) => match std::mem::replace(source, Source::Taken) {
                Source::Datagram(socket) => Some(socket),
                _ => None,
            },
            _ => None,
        }
    }

    /// Puts a datagram socket back that has been taken out.
    pub fn put_socket_back(&mut self, id: SourceId, socket: Box<DatagramSocket>) {
        if let Some(place @ Source::Taken) = self.get_mut(id) {
            *place = Source::Datagram(socket);
        }
    }

    /// The connection with this id, unless it is gone or has its turn.
    #[inline]
    pub fn connection(&mut self, id: SourceId) -> Option<&mut TcpConnection> {
        match self.get_mut(id) {
            Some(Source::Connection(connection)) => Some(connection),
            _ => None,
        }
    }

    /// The listener with this id, unless it is gone.
    pub fn listener(&mut self, id: SourceId) -> Option<&mut Listener> {
        match self.get_mut(id) {
            Some(Source::Listener(listener)) => Some(listener),
            _ => None,
        }
    }

    /// Removes a source; its id is stale from now on.
    pub fn remove(&mut self, id: SourceId) -> Option<Source> {
        self.get_mut(id)?;
        let (_, source) = self.slab.remove(id.slot());
        self.connections -= usize::from(matches!(source, Source::Connection(_)));
        if self.slab.capacity() > KEEP && self.slab.len() <= self.shrink_at {
            // Each attempt looks at all slots, so the next one waits until half of the sources are gone.
            self.slab.shrink_to_fit();
            self.shrink_at = self.slab.len() / 2;
        }
        Some(source)
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Whether there is no source at all.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// All sources with their ids, in the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = (SourceId, &Source)> {
        self.slab.iter().map(|(_, (id, source))| (*id, source))
    }

    /// The ids of all sources.
    pub fn ids(&self) -> Vec<SourceId> {
        self.iter().map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::sys::open::{ListenOptions, bind_datagram};

    fn some_source(id: SourceId) -> Result<Source, std::io::Error> {
        struct Nobody;
        impl crate::service::DatagramService for Nobody {
            fn on_datagram(&mut self, _: &mut crate::service::DatagramContext<'_>, _: &[u8]) {}
        }
        let socket = bind_datagram(([127, 0, 0, 1], 0).into(), &ListenOptions::default())?;
        Ok(Source::Datagram(Box::new(DatagramSocket::new(socket, id, "nobody", Box::new(Nobody), None)?)))
    }

    #[test]
    fn a_slot_that_is_used_again_does_not_answer_to_its_old_id() {
        let mut sources = Sources::default();
        let old = sources.insert(some_source).unwrap();
        assert!(sources.remove(old).is_some());
        let new = sources.insert(some_source).unwrap();
        assert_eq!(old.slot(), new.slot());
        assert!(sources.get_mut(old).is_none());
        assert!(sources.remove(old).is_none());
        assert!(sources.get_mut(new).is_some());
        assert!(sources.connection(new).is_none() && sources.take_out(new).is_none());
    }

    #[test]
    fn a_source_that_cannot_be_made_takes_no_slot() {
        let mut sources = Sources::default();
        assert!(sources.insert(|_| Err::<Source, ()>(())).is_err());
        assert!(sources.is_empty());
    }
}
