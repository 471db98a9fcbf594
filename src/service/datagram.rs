//! The contract for datagrams: no open, no end of file, no half-close.
//!
//! Owns: [`DatagramService`], its contexts, and the transmits and commands that they record. Must not know: batches,
//! sockets.
//!
//! Invariant: one transmit is one datagram, whatever its length (RFC 768), zero included.

use std::any::Any;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::TimerName;
use super::command::{Command, Span};
use super::reason::Errno;
use crate::limits::OUTBOX;
use crate::timer::Time;

/// A protocol on datagrams: one object per socket.
pub trait DatagramService: Any {
    /// The reactor has begun to turn, or the socket was added since: the moment for the first transmit or timer.
    fn on_start(&mut self, ctx: &mut SocketContext) {
        let _ = ctx;
    }

    /// A datagram has arrived.
    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, payload: &[u8]);

    /// The kernel has taken all queued datagrams; see [`SocketContext::is_congested`].
    fn on_drain(&mut self, ctx: &mut SocketContext) {
        let _ = ctx;
    }

    /// A datagram could not be sent, or the kernel reports the fate of an earlier one. On a connected socket ECONNREFUSED
    /// means that no socket is bound to the port of the peer (udp(7)). The socket goes on. Several errors in one turn are
    /// one callback. A service that answers by sending again does so once a turn: it should wait with a timer. The default
    /// does nothing.
    fn on_error(&mut self, ctx: &mut SocketContext, errno: Errno) {
        let _ = (ctx, errno);
    }

    /// The result of [`SocketContext::connect`]: the local address of the new socket, or the error of socket(2), bind(2) or
    /// connect(2), after which the socket has no peer. The default does nothing.
    fn on_connect(&mut self, ctx: &mut SocketContext, outcome: Result<SocketAddr, Errno>) {
        let _ = (ctx, outcome);
    }

    /// A timer of this socket has fired.
    fn on_timer(&mut self, ctx: &mut SocketContext, timer: TimerName) {
        let _ = (ctx, timer);
    }

    /// The turn has begun that [`SocketContext::request_turn`] has requested.
    fn on_turn(&mut self, ctx: &mut SocketContext) {
        let _ = ctx;
    }

    /// The reactor is stopping. Datagrams that have arrived by now are still received, and their answers sent.
    fn on_stop(&mut self, ctx: &mut SocketContext) {
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
    /// Bytes of the outbox.
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

/// The peer that a datagram socket is to be connected to; see [`SocketContext::connect`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connect {
    /// The peer.
    pub to: SocketAddr,
    /// The local address, if given; port 0 lets the kernel choose the port.
    pub from: Option<SocketAddr>,
}

/// The transmits and commands of one callback, or of all callbacks for one batch, in order.
#[derive(Debug, Default)]
pub struct DatagramOutbox {
    transmits: Vec<Transmit>,
    bytes: Vec<u8>,
    commands: Vec<Command>,
    connect: Option<Connect>,
}

impl DatagramOutbox {
    /// Returns the transmits, in order.
    pub fn transmits(&self) -> &[Transmit] {
        &self.transmits
    }

    /// Returns the bytes of a [`Payload::Bytes`].
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.bytes[span.start..span.end]
    }

    /// Returns the recorded commands, in order: timers, a stop.
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// Clears the transmits.
    pub fn clear_transmits(&mut self) {
        self.transmits.clear();
        self.bytes.clear();
        self.transmits.shrink_to(OUTBOX / size_of::<Transmit>());
        self.bytes.shrink_to(OUTBOX);
    }

    /// Takes the commands.
    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// The recorded connect, if any.
    pub fn connect(&self) -> Option<Connect> {
        self.connect
    }

    /// Takes the recorded connect.
    pub fn take_connect(&mut self) -> Option<Connect> {
        self.connect.take()
    }

    fn write(&mut self, to: Recipient, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let payload = Payload::Bytes(Span { start, end: self.bytes.len() });
        self.transmits.push(Transmit { to, payload });
    }
}

/// The facts and verbs of every callback of a [`DatagramService`].
#[derive(Debug)]
pub struct SocketContext {
    now: Time,
    congested: bool,
    outbox: DatagramOutbox,
}

impl Default for SocketContext {
    fn default() -> Self {
        Self::new()
    }
}

impl SocketContext {
    /// Returns a context at time zero. The reactor has one.
    pub fn new() -> Self {
        Self { now: Time::ZERO, congested: false, outbox: DatagramOutbox::default() }
    }

    /// Sets the present.
    pub fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    /// Marks the socket at hand as congested, or not.
    pub fn set_congested(&mut self, congested: bool) {
        self.congested = congested;
    }

    /// Returns the recorded transmits and commands.
    pub fn outbox(&self) -> &DatagramOutbox {
        &self.outbox
    }

    /// Returns the recorded transmits and commands, to be cleared.
    pub fn outbox_mut(&mut self) -> &mut DatagramOutbox {
        &mut self.outbox
    }

    /// Returns the present, read once per turn.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Returns true if datagrams wait for the kernel. Further datagrams wait behind them, up to
    /// [`DATAGRAM_QUEUE`](crate::limits::DATAGRAM_QUEUE) bytes, and are dropped above that. [`DatagramService::on_drain`]
    /// reports the end of the wait.
    pub fn is_congested(&self) -> bool {
        self.congested
    }

    /// Sends `bytes` to `to`. A connected socket sends to its peer alone: another is an error (EISCONN,
    /// [`DatagramService::on_error`]).
    pub fn send_to(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.outbox.write(Recipient::Address(to), bytes);
    }

    /// Sends `bytes` to the peer of a connected socket.
    pub fn send(&mut self, bytes: &[u8]) {
        self.outbox.write(Recipient::Peer, bytes);
    }

    /// Replaces the socket by one whose only peer is `to` (connect(2)), from the local address `from` if given.
    /// [`DatagramService::on_connect`] reports the result in a later turn. Datagrams sent before that go to the former peer, and
    /// those that still wait for the kernel then are dropped and counted. A second call replaces the first.
    pub fn connect(&mut self, to: SocketAddr, from: Option<SocketAddr>) {
        self.outbox.connect = Some(Connect { to, from });
    }

    /// Requests [`DatagramService::on_timer`] at `at`, and then each `every` (zero: once); as
    /// [`ServiceContext::set_timer`](super::ServiceContext::set_timer).
    pub fn set_timer(&mut self, name: TimerName, at: Time, every: Duration) {
        self.outbox.commands.push(Command::SetTimer { name, at, every: every.into() });
    }

    /// Cancels the timer `name`, if it is set.
    pub fn cancel_timer(&mut self, name: TimerName) {
        self.outbox.commands.push(Command::CancelTimer { name });
    }

    /// Requests [`DatagramService::on_turn`] in the next turn, which then does not wait for events; as
    /// [`ServiceContext::request_turn`](super::ServiceContext::request_turn).
    pub fn request_turn(&mut self) {
        self.outbox.commands.push(Command::Turn);
    }

    /// Stops the reactor in an orderly way.
    pub fn stop_reactor(&mut self) {
        self.outbox.commands.push(Command::Stop);
    }
}

/// The facts and verbs of [`DatagramService::on_datagram`].
#[derive(Debug)]
pub struct DatagramContext<'a> {
    socket: &'a mut SocketContext,
    number: usize,
    sender: SocketAddr,
}

impl<'a> DatagramContext<'a> {
    /// Returns a context for the datagram with this `number` in its batch, from `sender`.
    pub fn new(socket: &'a mut SocketContext, number: usize, sender: SocketAddr) -> Self {
        Self { socket, number, sender }
    }

    /// Returns the address of the sender. An IPv4 sender of an IPv6 socket has its IPv4 address here; an IPv6 address keeps
    /// its zone.
    pub fn sender(&self) -> SocketAddr {
        crate::addr::canonical(self.sender)
    }

    /// Sends `bytes` to the sender, from the address that the datagram was sent to.
    pub fn reply(&mut self, bytes: &[u8]) {
        self.socket.outbox.write(Recipient::SenderOf(self.number), bytes);
    }

    /// Sends the datagram back unchanged, without a copy.
    pub fn reply_same(&mut self) {
        let (to, payload) = (Recipient::SenderOf(self.number), Payload::Received(self.number));
        self.socket.outbox.transmits.push(Transmit { to, payload });
    }
}

impl Deref for DatagramContext<'_> {
    type Target = SocketContext;

    fn deref(&self) -> &SocketContext {
        self.socket
    }
}

impl DerefMut for DatagramContext<'_> {
    fn deref_mut(&mut self) -> &mut SocketContext {
        self.socket
    }
}
