//! The contract for datagrams: no open, no end of file, no half-close.
//!
//! Owns: [`DatagramService`], its contexts, and the transmits and commands that they record. Must not know: batches, sockets.
//!
//! Invariant: one transmit is one datagram, whatever its length (RFC 768), zero included.

use std::any::Any;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::TimerName;
use super::command::{Command, Span};
use super::context::canonical;
use super::reason::Errno;
use crate::limits::OUTBOX;
use crate::timer::Time;

/// A protocol on datagrams: one object per socket.
pub trait DatagramService {
    /// The reactor has begun to turn, or the socket has been added since: the moment for the first transmit or timer.
    fn on_start(&mut self, ctx: &mut SocketContext) {
        let _ = ctx;
    }

    /// A datagram has arrived.
    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, payload: &[u8]);

    /// The transmits that the kernel would not take at once have all been sent; see [`SocketContext::is_congested`].
    fn on_drain(&mut self, ctx: &mut SocketContext) {
        let _ = ctx;
    }

    /// A transmit could not be sent, or the kernel reports what became of an earlier one: on a connected socket
    /// ECONNREFUSED says that nobody listens at the peer's port (udp(7)). The socket goes on; several errors in one turn
    /// are told as one. Who answers by sending again to a dead port does so once a turn, without rest. The default does
    /// nothing.
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

    /// The next turn has begun, for which [`SocketContext::request_turn`] has asked.
    fn on_turn(&mut self, ctx: &mut SocketContext) {
        let _ = ctx;
    }

    /// Another thread has posted `message` through a [`Handle`](crate::reactor::Handle).
    fn on_post(&mut self, ctx: &mut SocketContext, message: Box<dyn Any + Send>) {
        let _ = (ctx, message);
    }

    /// The reactor is stopping: what has arrived by now will be received yet, and what is sent by then.
    fn on_stop(&mut self, ctx: &mut SocketContext) {
        let _ = ctx;
    }
}

/// To whom a transmit goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recipient {
    /// The sender of the received datagram with this number, from the address that it was sent to.
    SenderOf(usize),
    /// The peer of a connected socket.
    Peer,
    /// Somebody else.
    Address(SocketAddr),
}

/// What a transmit says.
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
    /// To whom.
    pub to: Recipient,
    /// What.
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

/// What the callbacks about a batch of received datagrams, or another one, have recorded, in order.
#[derive(Debug, Default)]
pub struct DatagramOutbox {
    transmits: Vec<Transmit>,
    bytes: Vec<u8>,
    commands: Vec<Command>,
    connect: Option<Connect>,
}

impl DatagramOutbox {
    /// The transmits, in order.
    pub fn transmits(&self) -> &[Transmit] {
        &self.transmits
    }

    /// The bytes of a [`Payload::Bytes`].
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.bytes[span.start..span.end]
    }

    /// What else has been recorded, in order: timers, a stop.
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// Forgets the transmits.
    pub fn clear_transmits(&mut self) {
        self.transmits.clear();
        self.bytes.clear();
        self.transmits.shrink_to(OUTBOX / size_of::<Transmit>());
        self.bytes.shrink_to(OUTBOX);
    }

    /// Takes the other commands.
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

/// What every callback of a [`DatagramService`] may know and ask for.
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
    /// A context at time zero. The reactor has one.
    pub fn new() -> Self {
        Self { now: Time::ZERO, congested: false, outbox: DatagramOutbox::default() }
    }

    /// Lets it be `now`.
    pub fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    /// Says whether transmits of the socket at hand wait.
    pub fn set_congested(&mut self, congested: bool) {
        self.congested = congested;
    }

    /// What has been recorded.
    pub fn outbox(&self) -> &DatagramOutbox {
        &self.outbox
    }

    /// What has been recorded, to be cleared.
    pub fn outbox_mut(&mut self) -> &mut DatagramOutbox {
        &mut self.outbox
    }

    /// The present, read once per turn.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Whether transmits wait for the kernel. What is sent now waits behind them, and is dropped when too much does; who
    /// minds waits for [`DatagramService::on_drain`].
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

    /// Makes [`DatagramService::on_timer`] be called at `at`, and then each `every` (zero: once); as
    /// [`ServiceContext::set_timer`](super::ServiceContext::set_timer).
    pub fn set_timer(&mut self, name: TimerName, at: Time, every: Duration) {
        self.outbox.commands.push(Command::SetTimer { name, at, every: every.into() });
    }

    /// Cancels the timer `name`, if it is set.
    pub fn cancel_timer(&mut self, name: TimerName) {
        self.outbox.commands.push(Command::CancelTimer { name });
    }

    /// Makes [`DatagramService::on_turn`] be called in the next turn, which then does not wait for events; as
    /// [`ServiceContext::request_turn`](super::ServiceContext::request_turn).
    pub fn request_turn(&mut self) {
        self.outbox.commands.push(Command::Turn);
    }

    /// Stops the reactor in an orderly way.
    pub fn stop_reactor(&mut self) {
        self.outbox.commands.push(Command::Stop);
    }
}

/// What [`DatagramService::on_datagram`] may know and ask for besides.
#[derive(Debug)]
pub struct DatagramContext<'a> {
    socket: &'a mut SocketContext,
    number: usize,
    sender: SocketAddr,
}

impl<'a> DatagramContext<'a> {
    /// A context for the datagram with this `number` in its batch, from `sender`.
    pub fn new(socket: &'a mut SocketContext, number: usize, sender: SocketAddr) -> Self {
        Self { socket, number, sender }
    }

    /// Who sent the datagram.
    pub fn sender(&self) -> SocketAddr {
        canonical(self.sender)
    }

    /// Sends `bytes` to the sender, from the address that it had written to.
    pub fn reply(&mut self, bytes: &[u8]) {
        self.socket.outbox.write(Recipient::SenderOf(self.number), bytes);
    }

    /// Sends the datagram back as it is, without copying it.
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
