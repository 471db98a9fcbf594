//! The facts and verbs of a callback. A verb records a command.
//!
//! Owns: [`ServiceContext`] and [`Context`]. Must not know: the effects of commands.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, SystemTime};

use super::TimerName;
use super::command::{Command, Outbox, Span};
use super::dial::Dial;
use super::reason::CloseReason;
use crate::addr::Addr;
use crate::id::ConnId;
use crate::timer::{Deadline, Time};

/// The facts and verbs of every callback of a service. A verb for a connection takes its id.
pub struct ServiceContext {
    now: Time,
    wall_clock: fn() -> SystemTime,
    is_stopping: bool,
    outbox: Outbox,
}

impl ServiceContext {
    /// Returns a context at time zero, with `wall_clock` for the time of day. The reactor has one, and each
    /// [`Probe`](super::Probe).
    pub fn new(wall_clock: fn() -> SystemTime) -> Self {
        Self { now: Time::ZERO, wall_clock, is_stopping: false, outbox: Outbox::default() }
    }

    /// Sets the present.
    pub fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    /// Returns the recorded commands.
    #[inline]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Returns the recorded commands, to be cleared.
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

    /// Returns the present, read once per turn.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Returns the time of day. The system clock can be set, so no deadline must be computed from it.
    pub fn wall_clock(&self) -> SystemTime {
        (self.wall_clock)()
    }

    /// Sends `bytes` to `to`. The kernel gets them at once if nothing is queued, and they are queued otherwise: also while
    /// `to` is being dialed. Nothing drops the connection, so the service bounds the queue
    /// ([`await_drain`](Self::await_drain)).
    pub fn send_to(&mut self, to: ConnId, bytes: &[u8]) {
        self.outbox.send(to, bytes);
    }

    /// Sends `bytes` to each of `to`, at the end of the turn together with further broadcasts until then. A connection with
    /// [`Policy::overflow`](crate::limits::Policy::overflow) bytes queued is dropped with [`CloseReason::Overflow`]: a slow
    /// reader cannot hold up a broadcast.
    pub fn broadcast(&mut self, to: &[ConnId], bytes: &[u8]) {
        self.outbox.broadcast(to, bytes);
    }

    /// Finishes `of`; see [`Context::finish`].
    pub fn finish_peer(&mut self, of: ConnId) {
        self.outbox.push(Command::Finish { of });
    }

    /// Finishes the output of `of`; see [`Context::half_close`].
    pub fn half_close_peer(&mut self, of: ConnId) {
        self.outbox.push(Command::HalfClose { of });
    }

    /// Requests [`Service::on_drain`](super::Service::on_drain) as soon as the output of `of` is at its low-water mark, which
    /// may be at once. When forwarding data from another source, call this after each piece: at most the low-water mark plus
    /// one piece is then queued. The request has no other effect.
    pub fn await_drain(&mut self, of: ConnId) {
        self.outbox.push(Command::AwaitDrain { of });
    }

    /// Closes `of` now; see [`Context::abort`].
    pub fn abort_peer(&mut self, of: ConnId) {
        self.outbox.push(Command::Abort { of, reason: CloseReason::Aborted });
    }

    /// Closes `of` with RST; see [`Context::reset`].
    pub fn reset_peer(&mut self, of: ConnId) {
        self.outbox.push(Command::Reset { of });
    }

    /// Pauses the input of `of`; see [`Context::pause`].
    pub fn pause_peer(&mut self, of: ConnId) {
        self.outbox.push(Command::Pause { of });
    }

    /// Resumes the input of `of`.
    pub fn resume_peer(&mut self, of: ConnId) {
        self.outbox.push(Command::Resume { of });
    }

    /// Sets a deadline of `of`; see [`Context::set_deadline`].
    pub fn set_peer_deadline(&mut self, of: ConnId, which: Deadline, due: Time) {
        self.outbox.push(Command::SetDeadline { of, which, due });
    }

    /// Requests [`Service::on_timer`](super::Service::on_timer) at `at`, and then each `every` (zero: once).
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

    /// Requests [`Service::on_turn`](super::Service::on_turn) in the next turn, which then does not wait for events.
    ///
    /// For work that is cut into pieces, so that other connections are served in between, and for reactions within the
    /// millisecond of a timer. A request in every turn keeps the processor busy.
    pub fn request_turn(&mut self) {
        self.outbox.push(Command::Turn);
    }

    /// Dials a peer. [`on_dialed`](super::Service::on_dialed) or [`on_dial_error`](super::Service::on_dial_error) follows. While
    /// the reactor is stopping this does nothing. An unreachable address can fail at once: wait before the next attempt
    /// ([`set_timer`](Self::set_timer)).
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
    /// The id.
    pub id: ConnId,
    /// The address of the peer.
    pub peer_addr: Addr,
    /// Bytes that may be queued before the connection is congested.
    pub capacity: usize,
    /// Queued bytes: the kernel has not taken them, because its own buffers are full.
    pub queued: usize,
}

/// The facts and verbs of a callback about one connection.
///
/// Its own verbs are about that connection. The verbs of [`ServiceContext`] reach the other connections.
#[derive(Debug)]
pub struct Context<'a> {
    service: &'a mut ServiceContext,
    info: &'a ConnectionInfo,
}

impl<'a> Context<'a> {
    /// Returns a context for a callback about the connection that `info` describes.
    #[inline]
    pub fn new(service: &'a mut ServiceContext, info: &'a ConnectionInfo) -> Self {
        Self { service, info }
    }

    /// Returns the id of the connection.
    pub fn id(&self) -> ConnId {
        self.info.id
    }

    /// Returns the address of the peer. An IPv4 peer of an IPv6 socket has its IPv4 address here; an IPv6 address keeps its
    /// zone. The peer on a Unix socket usually has no name.
    pub fn peer_addr(&self) -> Addr {
        self.info.peer_addr.to_canonical()
    }

    /// Returns true if the queued output and the output of this callback have reached the high-water mark. A service that
    /// answers many requests in one callback leaves the rest of its input unconsumed then.
    pub fn is_congested(&self) -> bool {
        self.capacity() == 0
    }

    /// Returns the number of bytes that may be sent until the connection is congested.
    pub fn capacity(&self) -> usize {
        self.info.capacity.saturating_sub(self.service.outbox.byte_count())
    }

    /// Returns the number of queued bytes from earlier callbacks. While bytes are queued, a silent peer may not be idle: it
    /// may have more input, and wait until the connection is read again.
    pub fn queued(&self) -> usize {
        self.info.queued
    }

    /// Sends `bytes`. They are written at once if the kernel takes them, and queued otherwise.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) {
        self.service.outbox.send(self.info.id, bytes);
    }

    /// Sends the bytes that `encode` appends to the vector. The vector may have other bytes at its front.
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

    /// Finishes the connection: queued output is flushed, FIN is sent, and further input is read and discarded until the FIN
    /// of the peer or the linger deadline. An earlier close would make the kernel answer unread bytes with RST, and the
    /// peer could lose the end of the output.
    pub fn finish(&mut self) {
        self.service.outbox.push(Command::Finish { of: self.info.id });
    }

    /// Finishes the output and goes on delivering input: queued output is flushed and FIN is sent (Go's `CloseWrite`). The
    /// connection ends with the FIN of the peer. A read deadline can set a bound for that.
    pub fn half_close(&mut self) {
        self.service.outbox.push(Command::HalfClose { of: self.info.id });
    }

    /// Serves the input that has arrived, and finishes as soon as nothing is left to read or to write.
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

    /// Pauses the input until [`resume`](Self::resume): the buffers of the kernel fill up, and the window of the peer closes.
    pub fn pause(&mut self) {
        self.service.outbox.push(Command::Pause { of: self.info.id });
    }

    /// Resumes the input. Unread input is offered again first.
    pub fn resume(&mut self) {
        self.service.outbox.push(Command::Resume { of: self.info.id });
    }

    /// Sets one deadline: absolute, independent of the others, in force until it is set anew. [`Time::NEVER`] clears it. A
    /// deadline in the past acts as soon as this callback has returned, before any input that is ready.
    pub fn set_deadline(&mut self, which: Deadline, due: Time) {
        self.service.outbox.push(Command::SetDeadline { of: self.info.id, which, due });
    }

    /// Go's `SetReadDeadline`.
    pub fn set_read_deadline(&mut self, due: Time) {
        self.set_deadline(Deadline::Read, due);
    }

    /// Renews the timeout of the policy for one deadline, in place of the deadline that was set. Without such a timeout the
    /// deadline is cleared.
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
