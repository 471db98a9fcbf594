//! The contract for datagrams: no end of file, no half-close.
//!
//! Owns: [`DatagramService`], and the transmits that it records. Must not know: batches, sockets.
//!
//! Invariant: one transmit is one datagram, whatever its length (RFC 768), zero included.

use std::any::Any;
use std::net::SocketAddr;

use super::TimerName;
use super::command::Span;
use super::context::{DatagramContext, ServiceContext, SocketContext};
use super::ready::Ready;
use super::reason::Errno;
use crate::id::{DescriptorId, SocketId};
use crate::limits::OUTBOX;

/// A protocol on datagrams: one object per service, shared by all its sockets.
///
/// A service may own several sockets, and send to connections of other services ([`ServiceContext::connection`]). Timers,
/// turns and messages belong to the service; [`ServiceContext::socket`] returns the verbs of a socket there.
///
/// ```
/// use reactor::{DatagramContext, DatagramService, ListenOptions, Reactor};
///
/// struct Upper;
///
/// impl DatagramService for Upper {
///     fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, payload: &[u8]) {
///         ctx.reply(&payload.to_ascii_uppercase());
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// let upper = reactor.add_datagram_service("upper", Box::new(Upper));
/// let (socket, addr) = reactor.bind_datagram(upper, ([127, 0, 0, 1], 0).into(), &ListenOptions::default())?;
/// # let _ = (socket, addr);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait DatagramService: Any {
    /// The reactor has begun to turn, or the service was added since: the moment for the first timer.
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        let _ = ctx;
    }

    /// A socket of the service is open: bound, opened or connected. Once for each socket, before its other callbacks: the
    /// moment for the first datagram.
    fn on_open(&mut self, ctx: &mut SocketContext<'_>) {
        let _ = ctx;
    }

    /// [`ServiceContext::bind_datagram`] has failed, with an error of socket(2), setsockopt(2) or bind(2), or with ECANCELED
    /// while the reactor is stopping. Commands for this id do nothing.
    fn on_open_error(&mut self, ctx: &mut ServiceContext, id: SocketId, errno: Errno) {
        let _ = (ctx, id, errno);
    }

    /// A datagram has arrived.
    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, payload: &[u8]);

    /// The kernel has taken all queued datagrams of the socket; see [`SocketContext::is_congested`].
    fn on_drain(&mut self, ctx: &mut SocketContext<'_>) {
        let _ = ctx;
    }

    /// A datagram could not be sent, or the kernel reports the fate of an earlier one. On a connected socket ECONNREFUSED
    /// means that no socket is bound to the port of the peer (udp(7)). The socket goes on. Several errors in one turn are
    /// one callback. A service that answers by sending again does so once a turn: it should wait with a timer. The default
    /// does nothing.
    fn on_error(&mut self, ctx: &mut SocketContext<'_>, errno: Errno) {
        let _ = (ctx, errno);
    }

    /// The result of [`SocketContext::connect`]: the local address of the new socket, or the error of socket(2), bind(2) or
    /// connect(2), after which the socket has no peer. The default does nothing.
    fn on_connect(&mut self, ctx: &mut SocketContext<'_>, outcome: Result<SocketAddr, Errno>) {
        let _ = (ctx, outcome);
    }

    /// A timer of this service has fired.
    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        let _ = (ctx, timer);
    }

    /// The turn has begun that [`ServiceContext::request_turn`] has requested.
    fn on_turn(&mut self, ctx: &mut ServiceContext) {
        let _ = ctx;
    }

    /// A descriptor of this service is ready; see [`Service::on_ready`](super::Service::on_ready).
    fn on_ready(&mut self, ctx: &mut ServiceContext, id: DescriptorId, ready: Ready) {
        let _ = (ctx, id, ready);
    }

    /// The process has received `signal`; see [`Service::on_signal`](super::Service::on_signal).
    fn on_signal(&mut self, ctx: &mut ServiceContext, signal: i32) {
        let _ = (ctx, signal);
    }

    /// The reactor begins to stop. Once for each service, also for a service without sockets, before
    /// [`on_stop`](Self::on_stop) of its sockets.
    fn on_stopping(&mut self, ctx: &mut ServiceContext) {
        let _ = ctx;
    }

    /// The reactor is stopping. Once for each socket. Datagrams that have arrived by now are still received, and their
    /// answers sent; then the socket is closed.
    fn on_stop(&mut self, ctx: &mut SocketContext<'_>) {
        let _ = ctx;
    }
}

/// The recipient of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recipient {
    /// The sender of the received datagram with this number, from the address that it was sent to.
    SenderOf(usize),
    /// The peer of a connected socket.
    Peer,
    /// The socket at this address.
    Address(SocketAddr),
}

/// The payload of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// The received datagram with this number, unchanged; it is not copied.
    Received(usize),
    /// Bytes of the [`Transmits`].
    Bytes(Span),
}

/// One datagram to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// The recipient.
    pub to: Recipient,
    /// The payload.
    pub payload: Payload,
}

/// Datagrams to be sent, in order, with their bytes.
#[derive(Debug, Default)]
pub struct Transmits {
    list: Vec<Transmit>,
    bytes: Vec<u8>,
}

impl Transmits {
    /// Returns the transmits, in order.
    #[inline]
    pub fn as_slice(&self) -> &[Transmit] {
        &self.list
    }

    /// Returns the bytes of a [`Payload::Bytes`].
    #[inline]
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.bytes[span.start..span.end]
    }

    /// Records a transmit.
    #[inline]
    pub fn push(&mut self, transmit: Transmit) {
        self.list.push(transmit);
    }

    /// Copies `bytes` and records a transmit to `to`.
    pub fn write(&mut self, to: Recipient, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let payload = Payload::Bytes(Span { start, end: self.bytes.len() });
        self.list.push(Transmit { to, payload });
    }

    /// Clears the transmits, and gives the memory of a burst back.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
        self.list.shrink_to(OUTBOX / size_of::<Transmit>());
        self.bytes.shrink_to(OUTBOX);
    }
}

/// The peer that a datagram socket is to be connected to; see [`SocketContext::connect`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connect {
    /// The peer.
    pub to: SocketAddr,
    /// The local address, if given; port 0 lets the kernel choose the port.
    pub from: Option<SocketAddr>,
}
