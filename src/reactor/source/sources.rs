//! The table of sources by slot, and the two queues of those that are to be served.
//!
//! Owns: [`Sources`], [`Slot`] and [`Source`], the four kinds of thing that the kernel reports events for. Must not
//! know: what happens to a source that has its turn, where an id comes from (the slab of ids is the
//! [`Directory`](crate::service::Directory)).
//!
//! Invariants:
//! 1. An id finds the source that it was made for, or nothing.
//! 2. `queued` is set while the source is in the ready queue, `pending_flush` while it is in the flush queue: a source
//!    is in each queue at most once. Only this file sets or clears the two.
//! 3. An id in a queue may be stale: its source was removed after it had been queued.

use std::fmt::Display;
use std::io;
use std::mem;

use mio::event::Event;

use super::connection::Connection;
use super::datagram::DatagramSocket;
use super::descriptor::Descriptor;
use super::listener::Listener;
use crate::id::{ConnId, ListenerId, ServiceId, SocketId, SourceId};
use crate::reactor::observe::report::{ConnectionStatus, Row};
use crate::reactor::sys::stream::StreamSocket;

/// A connection over TCP or a Unix socket.
pub type StreamConnection = Connection<StreamSocket>;

/// Something that the kernel reports events for. Connections are by far the most: they lie in the table itself, so that
/// the memory of a burst is one piece and can be given back.
// The tag is a byte of its own, which costs one comparison to read; a niche would be cheaper in memory only.
#[derive(Debug)]
#[repr(u8)]
#[expect(clippy::large_enum_variant)]
pub enum Source {
    /// A stream between two peers.
    Connection(StreamConnection),
    /// A socket that connections come from.
    Listener(Box<Listener>),
    /// A socket that datagrams come from and go to.
    Datagram(Box<DatagramSocket>),
    /// A descriptor of the program.
    Descriptor(Box<Descriptor>),
}

impl Source {
    /// Records the readiness that an event announces.
    fn note(&mut self, event: &Event) {
        match self {
            Source::Connection(connection) => connection.note(event),
            Source::Listener(listener) => listener.note(event),
            Source::Datagram(socket) => socket.note(event),
            Source::Descriptor(descriptor) => descriptor.note(event),
        }
    }

    /// Returns true for a connection that a listener has accepted.
    fn is_accepted(&self) -> bool {
        matches!(self, Source::Connection(connection) if connection.listener().is_some())
    }

    /// Returns true if the source has work to do now.
    fn wants_turn(&self) -> bool {
        match self {
            Source::Connection(connection) => connection.wants_turn(),
            Source::Listener(listener) => listener.wants_turn(),
            Source::Datagram(socket) => socket.wants_turn(),
            Source::Descriptor(descriptor) => descriptor.wants_turn(),
        }
    }

    /// Returns the source as a row of the report. `name` returns the name of a service, `peer` the peer of a connection.
    fn row(&self, id: SourceId, name: impl Fn(ServiceId) -> &'static str, peer: impl Fn(ConnId) -> String) -> Row {
        match self {
            Source::Connection(connection) => {
                let (ConnectionStatus { queued, unread, .. }, halves) = (connection.status(), connection.halves());
                Row {
                    id,
                    service: name(connection.service()),
                    addr: peer(connection.id()),
                    state: format!("{:?}/{:?}", halves.inbound(), halves.outbound()),
                    readiness: connection.readiness().to_string(),
                    queued: Some(queued),
                    unread: Some(unread),
                    due: Some(connection.deadlines.earliest()),
                }
            }
            Source::Listener(listener) => Row {
                id,
                service: listener.name,
                addr: text(listener.socket.local_addr()),
                state: "listening".to_owned(),
                readiness: listener.readiness().to_string(),
                queued: None,
                unread: None,
                due: None,
            },
            Source::Datagram(socket) => Row {
                id,
                service: socket.name,
                addr: text(socket.socket.local_addr()),
                state: "bound".to_owned(),
                readiness: socket.readiness().to_string(),
                queued: Some(socket.queued().1),
                unread: None,
                due: None,
            },
            Source::Descriptor(descriptor) => Row {
                id,
                service: descriptor.name,
                addr: String::new(),
                state: "registered".to_owned(),
                readiness: String::new(),
                queued: None,
                unread: None,
                due: None,
            },
        }
    }
}

/// Returns the text of an address, or of the error in its place.
fn text(addr: io::Result<impl Display>) -> String {
    addr.map_or_else(|error| error.to_string(), |addr| addr.to_string())
}

/// One entry of the table.
#[derive(Debug)]
struct Slot {
    id: SourceId,
    queued: bool,
    pending_flush: bool,
    source: Source,
}

impl Slot {
    /// Puts the source into the ready queue, once.
    #[inline]
    fn enqueue(&mut self, ready: &mut Vec<SourceId>) {
        if !mem::replace(&mut self.queued, true) {
            ready.push(self.id);
        }
    }
}

/// A table of up to this many slots keeps its memory when its sources are gone.
const KEEP: usize = 1024;

/// All sources of a reactor.
#[derive(Debug, Default)]
pub struct Sources {
    /// Indexed by the slot of the id.
    slots: Vec<Option<Slot>>,
    len: usize,
    connections: usize,
    /// Connections that a listener has accepted.
    accepted: usize,
    /// Sources that are served in the next `work`.
    ready: Vec<SourceId>,
    /// An empty queue that owns memory: two queues take turns.
    spare: Vec<SourceId>,
    /// Connections that the callback of another source has changed. They are flushed at the end of the turn.
    pending_flush: Vec<ConnId>,
}

/// Returns the slot of the source with this id, or `None` if the id is stale.
#[inline]
fn find(slots: &mut [Option<Slot>], id: SourceId) -> Option<&mut Slot> {
    slots.get_mut(id.slot())?.as_mut().filter(|slot| slot.id == id)
}

impl Sources {
    /// Inserts a source under an id that has none.
    pub fn insert(&mut self, id: SourceId, source: Source) {
        self.connections += usize::from(matches!(source, Source::Connection(_)));
        self.accepted += usize::from(source.is_accepted());
        self.len += 1;
        if id.slot() >= self.slots.len() {
            self.slots.resize_with(id.slot() + 1, || None);
        }
        self.slots[id.slot()] = Some(Slot { id, queued: false, pending_flush: false, source });
    }

    #[inline]
    fn slot(&mut self, id: SourceId) -> Option<&mut Slot> {
        find(&mut self.slots, id)
    }

    /// Returns the source with this id, or `None` if the id is stale.
    #[inline]
    pub fn get_mut(&mut self, id: SourceId) -> Option<&mut Source> {
        Some(&mut self.slot(id)?.source)
    }

    /// Returns the connection with this id, or `None` if the id is stale.
    #[inline]
    pub fn connection(&mut self, id: ConnId) -> Option<&mut StreamConnection> {
        match self.get_mut(id.into())? {
            Source::Connection(connection) => Some(connection),
            _ => None,
        }
    }

    /// Returns the connection with this id for reading.
    pub fn get(&self, id: ConnId) -> Option<&StreamConnection> {
        match self.slots.get(id.slot())? {
            Some(Slot { id: owner, source: Source::Connection(connection), .. }) if *owner == id.into() => {
                Some(connection)
            }
            _ => None,
        }
    }

    /// Returns the listener with this id.
    pub fn listener(&mut self, id: ListenerId) -> Option<&mut Listener> {
        match self.get_mut(id.into())? {
            Source::Listener(listener) => Some(listener),
            _ => None,
        }
    }

    /// Returns the datagram socket with this id.
    pub fn datagram(&mut self, id: SocketId) -> Option<&mut DatagramSocket> {
        match self.get_mut(id.into())? {
            Source::Datagram(socket) => Some(socket),
            _ => None,
        }
    }

    /// Records the readiness that an event announces, and queues the source. Returns false if the id is stale.
    #[inline]
    pub fn note(&mut self, id: SourceId, event: &Event) -> bool {
        let Some(slot) = find(&mut self.slots, id) else { return false };
        slot.source.note(event);
        slot.enqueue(&mut self.ready);
        true
    }

    /// Queues a source for a turn, whatever its state.
    pub fn enqueue(&mut self, id: SourceId) {
        if let Some(slot) = find(&mut self.slots, id) {
            slot.enqueue(&mut self.ready);
        }
    }

    /// Queues a source for a turn if it wants one.
    #[inline]
    pub fn enqueue_if_wanted(&mut self, id: impl Into<SourceId>) {
        let id = id.into();
        if let Some(slot) = find(&mut self.slots, id).filter(|slot| slot.source.wants_turn()) {
            slot.enqueue(&mut self.ready);
        }
    }

    /// Returns true if a source waits for its turn.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the ready queue. From now on sources are queued for the next turn.
    pub fn take_ready(&mut self) -> Vec<SourceId> {
        mem::replace(&mut self.ready, mem::take(&mut self.spare))
    }

    /// Gives the memory of a queue back that has been served.
    pub fn recycle(&mut self, mut served: Vec<SourceId>) {
        served.clear();
        self.spare = served;
    }

    /// Begins the turn of a source: another event may queue it again. Returns `None` if the id is stale.
    #[inline]
    pub fn begin_turn(&mut self, id: SourceId) -> Option<&mut Source> {
        let slot = self.slot(id)?;
        slot.queued = false;
        Some(&mut slot.source)
    }

    /// Returns a connection to be changed on behalf of another source: it is flushed and advanced at the end of the
    /// turn. `None` if the id is stale.
    #[inline]
    pub fn connection_pending_flush(&mut self, id: ConnId) -> Option<&mut StreamConnection> {
        let slot = find(&mut self.slots, id.into())?;
        let Source::Connection(connection) = &mut slot.source else { return None };
        if !mem::replace(&mut slot.pending_flush, true) {
            self.pending_flush.push(id);
        }
        Some(connection)
    }

    /// Returns true if a connection waits for the flush at the end of the turn.
    pub fn has_pending_flush(&self) -> bool {
        !self.pending_flush.is_empty()
    }

    /// Takes the flush queue.
    pub fn take_pending_flush(&mut self) -> Vec<ConnId> {
        mem::take(&mut self.pending_flush)
    }

    /// Begins the flush of a connection: another callback may queue it again.
    #[inline]
    pub fn begin_flush(&mut self, id: ConnId) -> Option<&mut StreamConnection> {
        let slot = self.slot(id.into())?;
        slot.pending_flush = false;
        match &mut slot.source {
            Source::Connection(connection) => Some(connection),
            _ => None,
        }
    }

    /// Gives the memory of a flush queue back, unless a new one has been begun.
    pub fn recycle_pending_flush(&mut self, mut flushed: Vec<ConnId>) {
        debug_assert!(self.pending_flush.is_empty(), "a flush calls no service");
        flushed.clear();
        self.pending_flush = flushed;
    }

    /// Removes a source and closes its socket. Its id is stale from now on. Returns false if it was stale before.
    pub fn remove(&mut self, id: SourceId) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        let (is_connection, is_accepted) = (matches!(slot.source, Source::Connection(_)), slot.source.is_accepted());
        self.connections -= usize::from(is_connection);
        self.accepted -= usize::from(is_accepted);
        self.len -= 1;
        self.slots[id.slot()] = None;
        self.shrink();
        true
    }

    /// Gives the memory of a burst back.
    fn shrink(&mut self) {
        while let Some(None) = self.slots.last() {
            self.slots.pop();
        }
        if self.slots.capacity() > KEEP && self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to(self.slots.len() * 2);
        }
    }

    /// Returns the number of connections.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Returns the number of connections that a listener has accepted.
    pub fn accepted(&self) -> usize {
        self.accepted
    }

    /// Returns true if there is no source.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns all sources with their ids, in the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = (SourceId, &Source)> {
        self.slots.iter().flatten().map(|slot| (slot.id, &slot.source))
    }

    /// Returns all sources as rows of the report. `name` returns the name of a service, `peer` the peer of a connection.
    pub fn rows(
        &self,
        name: impl Fn(ServiceId) -> &'static str,
        peer: impl Fn(ConnId) -> String,
    ) -> impl Iterator<Item = Row> {
        self.iter().map(move |(id, source)| source.row(id, &name, &peer))
    }

    /// Returns the ids of all sources.
    pub fn ids(&self) -> Vec<SourceId> {
        self.iter().map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::sys::batch::MessageHeaders;
    use crate::reactor::sys::open::bind_datagram;
    use crate::service::{Directory, ListenOptions, SocketFacts};

    fn insert(sources: &mut Sources, directory: &mut Directory) -> SourceId {
        let socket = bind_datagram(([127, 0, 0, 1], 0).into(), &ListenOptions::default()).unwrap();
        let headers = MessageHeaders::new(&socket).unwrap();
        let id = directory.insert_socket(SocketFacts::new(socket.local_addr().unwrap()));
        let socket = DatagramSocket::new(socket, headers, id, ServiceId::new(0, 0), "silent", None);
        sources.insert(id.into(), Source::Datagram(Box::new(socket)));
        id.into()
    }

    #[test]
    fn a_reused_slot_does_not_answer_to_its_old_id() {
        let (mut sources, mut directory) = (Sources::default(), Directory::default());
        let old = insert(&mut sources, &mut directory);
        assert!(sources.remove(old));
        directory.remove(old);
        let new = insert(&mut sources, &mut directory);
        assert_eq!(old.slot(), new.slot());
        assert!(sources.get_mut(old).is_none());
        assert!(!sources.remove(old));
        assert!(sources.get_mut(new).is_some());
        assert!(sources.connection(ConnId::of(new)).is_none() && sources.datagram(SocketId::of(new)).is_some());
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        let (mut sources, mut directory) = (Sources::default(), Directory::default());
        let id = insert(&mut sources, &mut directory);
        sources.slots.resize_with(20 * KEEP, || None);
        assert!(sources.remove(id) && sources.is_empty());
        assert_eq!((sources.slots.len(), sources.slots.capacity()), (0, 0));
    }

    #[test]
    fn a_source_is_in_the_ready_queue_at_most_once() {
        let (mut sources, mut directory) = (Sources::default(), Directory::default());
        let id = insert(&mut sources, &mut directory);
        sources.enqueue(id);
        sources.enqueue(id);
        let ready = sources.take_ready();
        assert_eq!(ready, [id]);
        assert!(sources.begin_turn(id).is_some());
        sources.recycle(ready);
        sources.enqueue(id);
        assert!(sources.has_ready());
        sources.remove(id);
        assert!(sources.begin_turn(id).is_none(), "an id in the queue may be stale");
    }
}
