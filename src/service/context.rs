//! What a callback is given: a few info, and the verbs that record commands.
//!
//! Owns: [`ServiceContext`] and [`Context`]. Must not know: who applies the commands.

use std::fmt;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, SystemTime};

use super::TimerName;
use super::command::{Command, Outbox, Span};
use super::dial::Dial;
use super::reason::CloseReason;
use crate::id::ConnId;
use crate::timer::{Deadline, Time};

/// What every callback of a service may know and ask for; verbs name the connection that they are about.
pub struct ServiceContext {
    now: Time,
    wall_clock: fn() -> SystemTime,
    is_stopping: bool,
    outbox: Outbox,
}

impl ServiceContext {
    /// A context at time zero, with `wall_clock` for the time of day. The reactor has one, and so has each
    /// [`Probe`](super::Probe).
    pub fn new(wall_clock: fn() -> SystemTime) -> Self {
        Self { now: Time::ZERO, wall_clock, is_stopping: false, outbox: Outbox::default() }
    }

    /// Lets it be `now`.
    pub fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    /// The commands that have been recorded.
    #[inline]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The commands that have been recorded, to be cleared.
    #[inline]
    pub fn outbox_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Marks the reactor as stopping.
    pub fn set_stopping(&mut self) {
        self.is_stopping = true;
    }

    /// Returns true while the reactor is stopping.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// The present, read once per turn.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The time of day. Asks the system's clock, which can be set: never compute a deadline from it.
    pub fn wall_clock(&self) -> SystemTime {
        (self.wall_clock)()
    }

    /// Sends `bytes` to `to`, at the end of the turn together with whatever else is sent to it until then.
    pub fn send_to(&mut self, to: ConnId, bytes: &[u8]) {
        self.outbox.send(to, bytes);
    }

    /// Sends `bytes` to each of `to`. One that reads so slowly, or not at all, that its bound is queued for it
    /// ([`Policy::overflow`](crate::limits::Policy::overflow)) is dropped with [`CloseReason::Overflow`]: nobody waits for
    /// the slowest.
    pub fn broadcast(&mut self, to: &[ConnId], bytes: &[u8]) {
        self.outbox.broadcast(to, bytes);
    }

    /// Ends `of` in an orderly way; see [`Context::finish`].
    pub fn finish_peer(&mut self, of: ConnId) {
        self.outbox.push(Command::Finish { of });
    }

    /// Ends our half of `of`; see [`Context::half_close`].
    pub fn half_close_peer(&mut self, of: ConnId) {
        self.outbox.push(Command::HalfClose { of });
    }

    /// Makes [`Service::on_drain`](super::Service::on_drain) be called as soon as the output of `of` is at its low-water
    /// mark: at once, if it is there already. Who sends on what somebody else has caused asks so after each piece, and
    /// never has more queued than the mark and one piece.
    pub fn await_drain(&mut self, of: ConnId) {
        self.outbox.push(Command::AwaitDrain { of });
    }

    /// Closes `of` at once; see [`Context::abort`].
    pub fn abort_peer(&mut self, of: ConnId) {
        self.outbox.push(Command::Abort { of, reason: CloseReason::Aborted });
    }

    /// Closes `of` with RST; see [`Context::reset`].
    pub fn reset_peer(&mut self, of: ConnId) {
        self.outbox.push(Command::Reset { of });
    }

    /// Stops reading `of`; see [`Context::pause`].
    pub fn pause_peer(&mut self, of: ConnId) {
        self.outbox.push(Command::Pause { of });
    }

    /// Reads `of` again.
    pub fn resume_peer(&mut self, of: ConnId) {
        self.outbox.push(Command::Resume { of });
    }

    /// Sets a deadline of `of`; see [`Context::set_deadline`].
    pub fn set_peer_deadline(&mut self, of: ConnId, which: Deadline, due: Time) {
        self.outbox.push(Command::SetDeadline { of, which, due });
    }

    /// Makes [`Service::on_timer`](super::Service::on_timer) be called at `at`, and then each `every` (zero: once).
    ///
    /// A repeating timer that was held up for several periods fires once and keeps its phase. A timer of the same name
    /// is replaced.
    pub fn set_timer(&mut self, name: TimerName, at: Time, every: Duration) {
        self.outbox.push(Command::SetTimer { name, at, every: every.into() });
    }

    /// Cancels the timer `name`, if it is set.
    pub fn cancel_timer(&mut self, name: TimerName) {
        self.outbox.push(Command::CancelTimer { name });
    }

    /// Makes [`Service::on_turn`](super::Service::on_turn) be called in the next turn, which then does not wait for events.
    ///
    /// For work that is cut into pieces, so that everybody else is served in between, and for what must happen sooner
    /// than the millisecond of a timer. Who asks each time keeps the processor busy.
    pub fn request_turn(&mut self) {
        self.outbox.push(Command::Turn);
    }

    /// Dials a peer; [`on_dialed`](super::Service::on_dialed) or [`on_dial_error`](super::Service::on_dial_error) will
    /// tell. A stopping reactor dials nobody: then this does nothing. An address that is unreachable can fail at once;
    /// who tries again should wait first ([`set_timer`](Self::set_timer)).
    pub fn dial(&mut self, dial: Dial) {
        self.outbox.dial(dial);
    }

    /// Stops the reactor in an orderly way.
    pub fn stop_reactor(&mut self) {
        self.outbox.push(Command::Stop);
    }
}

impl fmt::Debug for ServiceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceContext").field("now", &self.now).finish_non_exhaustive()
    }
}

/// The info about a connection that its service may know.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Its id.
    pub id: ConnId,
    /// The other end.
    pub peer: SocketAddr,
    /// How many more bytes may be queued before it is congested.
    pub capacity: usize,
    /// How many bytes are queued: the kernel has not taken them, because its own buffers are full.
    pub queued: usize,
}

/// Returns an IPv4-mapped address as the IPv4 address, and any other address as it is, with its zone.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => SocketAddr::new(v6.ip().to_canonical(), v6.port()),
        addr => addr,
    }
}

/// What a callback about one connection may know and ask for.
///
/// Its own verbs are about that connection; those of [`ServiceContext`] reach the others.
#[derive(Debug)]
pub struct Context<'a> {
    service: &'a mut ServiceContext,
    info: &'a ConnectionInfo,
}

impl<'a> Context<'a> {
    /// A context for a callback about the connection that `info` are about.
    #[inline]
    pub fn new(service: &'a mut ServiceContext, info: &'a ConnectionInfo) -> Self {
        Self { service, info }
    }

    /// The connection's id.
    pub fn id(&self) -> ConnId {
        self.info.id
    }

    /// The peer's address. An IPv4 peer of an IPv6 socket has its IPv4 address here.
    pub fn peer(&self) -> SocketAddr {
        canonical(self.info.peer)
    }

    /// Whether as much is queued as the high-water mark allows, what this callback has sent included. A service that
    /// answers many requests in one callback should leave the rest unconsumed then.
    pub fn is_congested(&self) -> bool {
        self.capacity() == 0
    }

    /// How many more bytes may be sent until the connection is congested.
    pub fn capacity(&self) -> usize {
        self.info.capacity.saturating_sub(self.service.outbox.byte_count())
    }

    /// How many bytes of what earlier callbacks have sent the kernel has not taken yet. While there are any, a peer that is
    /// silent may not be idle: it may have more to say, and wait until we read it again.
    pub fn queued(&self) -> usize {
        self.info.queued
    }

    /// Sends `bytes`. They are written at once if the kernel takes them, and queued otherwise.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) {
        self.service.outbox.send(self.info.id, bytes);
    }

    /// Sends what `encode` appends to the vector that it is given, in which there may be something already.
    ///
    /// # Panics
    /// If `encode` makes the vector shorter.
    #[inline]
    pub fn send_with<R>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        self.service.outbox.send_with(self.info.id, encode)
    }

    /// Sends `part` of the input that this callback was given, without copying it first.
    ///
    /// # Panics
    /// The reactor panics when it applies a part that is not inside the input.
    #[inline]
    pub fn send_input(&mut self, part: Span) {
        self.service.outbox.send_input(part);
    }

    /// Ends the connection in an orderly way: what is queued is flushed, FIN is sent, and what the peer still sends is
    /// read and thrown away until its FIN or the linger deadline. Closing earlier would make the kernel answer unread
    /// bytes with RST, and the peer could lose the last of our output.
    pub fn finish(&mut self) {
        self.service.outbox.push(Command::Finish { of: self.info.id });
    }

    /// Says that nothing more will be sent, and goes on listening: what is queued is flushed and FIN is sent (Go's
    /// `CloseWrite`). The connection ends with the peer's FIN, however long that takes; a read deadline may set a bound.
    pub fn half_close(&mut self) {
        self.service.outbox.push(Command::HalfClose { of: self.info.id });
    }

    /// Serves what has already arrived, and finishes as soon as nothing is left to read or to write.
    pub fn finish_when_quiet(&mut self) {
        self.service.outbox.push(Command::FinishWhenQuiet { of: self.info.id });
    }

    /// Closes the connection with RST, so that the peer cannot take the end for an orderly one. Queued output is lost.
    pub fn reset(&mut self) {
        self.service.outbox.push(Command::Reset { of: self.info.id });
    }

    /// Closes the connection now. If queued output is lost, the peer sees RST.
    pub fn abort(&mut self) {
        self.abort_because(CloseReason::Aborted);
    }

    /// Closes the connection now, for `reason`.
    pub fn abort_because(&mut self, reason: CloseReason) {
        self.service.outbox.push(Command::Abort { of: self.info.id, reason });
    }

    /// Stops reading until [`resume`](Self::resume); the kernel's buffers fill up and the peer is held back.
    pub fn pause(&mut self) {
        self.service.outbox.push(Command::Pause { of: self.info.id });
    }

    /// Reads again.
    pub fn resume(&mut self) {
        self.service.outbox.push(Command::Resume { of: self.info.id });
    }

    /// Sets one deadline: absolute, independent of the others, in force until it is set anew. [`Time::NEVER`] clears
    /// it; one in the past acts as soon as this callback has returned, before any data that is ready.
    pub fn set_deadline(&mut self, which: Deadline, due: Time) {
        self.service.outbox.push(Command::SetDeadline { of: self.info.id, which, due });
    }

    /// Go's `SetReadDeadline`.
    pub fn set_read_deadline(&mut self, due: Time) {
        self.set_deadline(Deadline::Read, due);
    }

    /// Starts the timeout of the listener for one deadline anew, in place of what has been set: for who needs a deadline of
    /// its own no more. Without such a timeout the deadline is cleared.
    pub fn renew_deadline(&mut self, which: Deadline) {
        self.service.outbox.push(Command::RenewDeadline { of: self.info.id, which });
    }

    /// Go's `SetWriteDeadline`.
    pub fn set_write_deadline(&mut self, due: Time) {
        self.set_deadline(Deadline::Write, due);
    }

    /// Go's `SetDeadline`: read and write.
    pub fn set_deadlines(&mut self, due: Time) {
        self.set_read_deadline(due);
        self.set_write_deadline(due);
    }
}

impl Deref for Context<'_> {
    type Target = ServiceContext;

    fn deref(&self) -> &ServiceContext {
        self.service
    }
}

impl DerefMut for Context<'_> {
    fn deref_mut(&mut self) -> &mut ServiceContext {
        self.service
    }
}
