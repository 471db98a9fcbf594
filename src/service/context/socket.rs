//! The view of one datagram socket.
//!
//! Owns: [`SocketContext`], and [`DatagramContext`] of a datagram that has arrived. Must not know: the effects of commands.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use super::ServiceContext;
use crate::id::SocketId;
use crate::service::datagram::{Connect, Payload, Recipient, Transmit};
use crate::service::directory::SocketFacts;

/// The view of one datagram socket: its facts and its verbs.
///
/// A callback about a socket has the view of that socket. [`ServiceContext::socket`] returns the view of any other.
#[derive(Debug)]
pub struct SocketContext<'a> {
    service: &'a mut ServiceContext,
    id: SocketId,
}

impl<'a> SocketContext<'a> {
    /// Returns the view of the socket `id`.
    #[inline]
    pub fn new(service: &'a mut ServiceContext, id: SocketId) -> Self {
        Self { service, id }
    }

    fn facts(&self) -> &SocketFacts {
        // A view is made of a row that exists, and no row goes while a callback runs.
        self.service.directory.socket(self.id).expect("the row of a socket outlives its callbacks")
    }

    /// Returns the id of the socket.
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// Returns the local address of the socket (getsockname(2)). Unspecified (`0.0.0.0`, `::`) for a socket on every
    /// interface, and as requested while [`ServiceContext::bind_datagram`] is under way.
    pub fn local_addr(&self) -> SocketAddr {
        crate::addr::canonical(self.facts().local)
    }

    /// Returns true if datagrams wait for the kernel. Further datagrams wait behind them, up to
    /// [`DATAGRAM_QUEUE`](crate::limits::DATAGRAM_QUEUE) bytes, and are dropped above that.
    /// [`DatagramService::on_drain`](crate::service::DatagramService::on_drain) reports the end of the wait. The datagrams
    /// of this callback do not count.
    pub fn is_congested(&self) -> bool {
        self.queued() > 0
    }

    /// Returns the number of bytes that wait for the kernel, with the overhead of each datagram.
    pub fn queued(&self) -> usize {
        self.facts().queued
    }

    /// Sends `bytes` to `to`. A connected socket sends to its peer alone: another is an error (EISCONN,
    /// [`DatagramService::on_error`](crate::service::DatagramService::on_error)).
    pub fn send_to(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.service.outbox.transmit(self.id, Recipient::Address(to), bytes);
    }

    /// Sends `bytes` to the peer of a connected socket.
    pub fn send(&mut self, bytes: &[u8]) {
        self.service.outbox.transmit(self.id, Recipient::Peer, bytes);
    }

    /// Replaces the socket by one whose only peer is `to` (connect(2)), from the local address `from` if given.
    /// [`DatagramService::on_connect`](crate::service::DatagramService::on_connect) reports the result in a later turn. A
    /// datagram that is sent before that may go to the former peer. Datagrams that still wait for the kernel are dropped
    /// and counted. A second call replaces the first.
    pub fn connect(&mut self, to: SocketAddr, from: Option<SocketAddr>) {
        self.service.outbox.connect(self.id, Connect { to, from });
    }
}

impl Deref for SocketContext<'_> {
    type Target = ServiceContext;

    fn deref(&self) -> &ServiceContext {
        self.service
    }
}

impl DerefMut for SocketContext<'_> {
    fn deref_mut(&mut self) -> &mut ServiceContext {
        self.service
    }
}

/// The view of a datagram that has arrived: its sender, and the answers to it.
///
/// The socket is the one at hand, so answers are recorded in one batch without commands
/// ([`Outbox::begin_transmits`](crate::service::Outbox::begin_transmits)).
#[derive(Debug)]
pub struct DatagramContext<'a> {
    socket: SocketContext<'a>,
    number: usize,
    sender: SocketAddr,
}

impl<'a> DatagramContext<'a> {
    /// Returns the view of the datagram with this `number` in its batch, from `sender`, on the socket `id`.
    #[inline]
    pub fn new(service: &'a mut ServiceContext, id: SocketId, number: usize, sender: SocketAddr) -> Self {
        Self { socket: SocketContext::new(service, id), number, sender }
    }

    /// Returns the address of the sender. An IPv4 sender of an IPv6 socket has its IPv4 address here; an IPv6 address keeps
    /// its zone.
    pub fn sender(&self) -> SocketAddr {
        crate::addr::canonical(self.sender)
    }

    /// Sends `bytes` to the sender, from the address that the datagram was sent to.
    pub fn reply(&mut self, bytes: &[u8]) {
        self.socket.service.outbox.transmits_mut().write(Recipient::SenderOf(self.number), bytes);
    }

    /// Sends the datagram back unchanged, without a copy.
    pub fn reply_same(&mut self) {
        let (to, payload) = (Recipient::SenderOf(self.number), Payload::Received(self.number));
        self.socket.service.outbox.transmits_mut().push(Transmit { to, payload });
    }
}

impl<'a> Deref for DatagramContext<'a> {
    type Target = SocketContext<'a>;

    fn deref(&self) -> &SocketContext<'a> {
        &self.socket
    }
}

impl DerefMut for DatagramContext<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.socket
    }
}
