//! The facts and verbs of a callback. A verb records a command.
//!
//! Owns: [`ServiceContext`] and [`Context`]. Must not know: the effects of commands.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, SystemTime};

use super::TimerName;
use super::command::{Command, Outbox, Span};
use super::dial::Dial;
use super::directory::{ConnectionFacts, Directory};
use super::reason::CloseReason;
use crate::addr::Addr;
use crate::id::ConnId;
use crate::timer::{Deadline, Time};

/// The facts and verbs of every callback of a service. [`connection`](Self::connection) returns the verbs of a connection.
pub struct ServiceContext {
    now: Time,
    wall_clock: fn() -> SystemTime,
    is_stopping: bool,
    outbox: Outbox,
    directory: Directory,
}

impl ServiceContext {
    /// Returns a context at time zero, with `wall_clock` for the time of day. The reactor has one, and each
    /// [`Probe`](super::Probe).
    pub fn new(wall_clock: fn() -> SystemTime) -> Self {
        Self {
            now: Time::ZERO,
            wall_clock,
            is_stopping: false,
            outbox: Outbox::default(),
            directory: Directory::default(),
        }
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

    /// Returns the ids and facts of all sources.
    #[inline]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Returns the ids and facts of all sources, to be changed by the reactor.
    #[inline]
    pub fn directory_mut(&mut self) -> &mut Directory {
        &mut self.directory
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

    /// Returns the view of a connection of this reactor: its facts and its verbs. `None` if the connection has ended.
    ///
    /// A command of this callback takes effect when the callback has returned, so a connection that it has reset is still
    /// found until then.
    pub fn connection(&mut self, id: ConnId) -> Option<Context<'_>> {
        self.directory.is_live(id).then(|| Context::new(self, id))
    }

    /// Sends `bytes` to each of `to`, at the end of the turn together with further broadcasts until then. A connection with
    /// [`Policy::overflow`](crate::limits::Policy::overflow) bytes queued is dropped with [`CloseReason::Overflow`]: a slow
    /// reader cannot hold up a broadcast.
    pub fn broadcast(&mut self, to: &[ConnId], bytes: &[u8]) {
        self.outbox.broadcast(to, bytes);
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

    /// Dials a peer. Returns the id of the connection at once: output that is sent before the connection is established
    /// is queued, and a reset cancels the dial. [`on_dialed`](super::Service::on_dialed) or
    /// [`on_dial_error`](super::Service::on_dial_error) follows with this id. An unreachable address can fail in the same
    /// turn: wait before the next attempt ([`set_timer`](Self::set_timer)). While the reactor is stopping, every dial fails.
    pub fn dial(&mut self, dial: Dial) -> ConnId {
        let id = self.directory.insert_connection(dial.facts());
        self.outbox.dial(id, dial);
        id
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

/// The view of one connection: its facts and its verbs.
///
/// A callback about a connection has the view of that connection. [`ServiceContext::connection`] returns the view of any
/// other. Each verb records a command, which the reactor applies when the callback has returned. A command for a connection
/// that has ended meanwhile does nothing.
#[derive(Debug)]
pub struct Context<'a> {
    service: &'a mut ServiceContext,
    id: ConnId,
}

impl<'a> Context<'a> {
    /// Returns the view of the connection `id`.
    #[inline]
    pub fn new(service: &'a mut ServiceContext, id: ConnId) -> Self {
        Self { service, id }
    }

    fn facts(&self) -> &ConnectionFacts {
        // A view is made of a row that exists, and no row goes while a callback runs.
        self.service.directory.get(self.id).expect("the row of a connection outlives its callbacks")
    }

    /// Returns the id of the connection.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Returns the address of the peer. An IPv4 peer of an IPv6 socket has its IPv4 address here; an IPv6 address keeps its
    /// zone. The peer on a Unix socket usually has no name.
    pub fn peer_addr(&self) -> Addr {
        self.facts().peer.to_canonical()
    }

    /// Returns the local address of the connection (getsockname(2)), as [`peer_addr`](Self::peer_addr). It is unspecified
    /// (`0.0.0.0:0`) while the connection is being dialed.
    pub fn local_addr(&self) -> Addr {
        self.facts().local.to_canonical()
    }

    /// Returns true if the queued output and the output of this callback have reached the high-water mark: there is no
    /// [`room`](Self::room). A service that answers many requests in one callback leaves the rest of its input unconsumed
    /// then.
    pub fn is_congested(&self) -> bool {
        self.room() == 0
    }

    /// Returns the number of bytes that may be sent until the connection is congested. Every byte that this callback has
    /// sent counts, whatever its connection.
    pub fn room(&self) -> usize {
        self.facts().room().saturating_sub(self.service.outbox.byte_count())
    }

    /// Returns the number of bytes that wait for the kernel. The output of this callback does not count, nor a broadcast
    /// of this turn. While bytes are queued, a silent peer may not be idle: it may have more input, and wait until the
    /// connection is read again.
    pub fn queued(&self) -> usize {
        self.facts().queued
    }

    /// Sends `bytes`. They are written at once if nothing is queued and the kernel takes them, and queued otherwise: also
    /// while the connection is being dialed. Nothing drops the connection for it, so the service bounds the queue of
    /// another connection ([`await_drain`](Self::await_drain)).
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) {
        self.service.outbox.send(self.id, bytes);
    }

    /// Sends the bytes that `encode` appends to the vector. The vector may have other bytes at its front.
    ///
    /// # Panics
    /// If `encode` makes the vector shorter.
    #[inline]
    pub fn send_with<R>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        self.service.outbox.send_with(self.id, encode)
    }

    /// Sends `part` of the input that this callback was given, without copying it first.
    ///
    /// # Panics
    /// The reactor panics when it applies a part that is not inside the input.
    #[inline]
    pub fn send_input(&mut self, part: Span) {
        self.service.outbox.send_input(part);
    }

    /// Sends the part of the input that this callback was given to the connection `to`, without copying it first. The
    /// input of this connection is not read again until the output of `to` is at its low-water mark or `to` has ended: at
    /// most that mark and one read are ever queued. The reactor resumes the input by itself, apart from
    /// [`pause`](Self::pause) and [`resume`](Self::resume). With [`Policy::relay`](crate::limits::Policy::relay) on both
    /// connections that is a forwarder:
    ///
    /// ```
    /// use reactor::service::Span;
    /// use reactor::{ConnId, ConnMap, Context};
    ///
    /// fn on_data(peers: &ConnMap<ConnId>, ctx: &mut Context<'_>, input: &[u8]) -> usize {
    ///     if let Some(&peer) = peers.get(ctx.id()) {
    ///         ctx.forward(peer, Span::of(input));
    ///     }
    ///     input.len()
    /// }
    /// ```
    ///
    /// # Panics
    /// The reactor panics when it applies a part that is not inside the input.
    #[inline]
    pub fn forward(&mut self, to: ConnId, part: Span) {
        self.service.outbox.forward(self.id, to, part);
    }

    /// Finishes the connection: queued output is flushed, FIN is sent, and further input is read and discarded until the FIN
    /// of the peer or the linger deadline. An earlier close would make the kernel answer unread bytes with RST, and the
    /// peer could lose the end of the output.
    pub fn finish(&mut self) {
        self.service.outbox.push(Command::Finish { of: self.id });
    }

    /// Finishes the output and goes on delivering input: queued output is flushed and FIN is sent (Go's `CloseWrite`). The
    /// connection ends with the FIN of the peer. A read deadline can set a bound for that.
    pub fn half_close(&mut self) {
        self.service.outbox.push(Command::HalfClose { of: self.id });
    }

    /// Serves the input that has arrived, and finishes as soon as nothing is left to read or to write.
    pub fn finish_when_quiet(&mut self) {
        self.service.outbox.push(Command::FinishWhenQuiet { of: self.id });
    }

    /// Closes the connection with RST, so that the peer cannot take the end for an orderly one. Queued output is lost.
    pub fn reset(&mut self) {
        self.service.outbox.push(Command::Reset { of: self.id });
    }

    /// Closes the connection now. If queued output is lost, the peer sees RST.
    pub fn abort(&mut self) {
        self.abort_because(CloseReason::Aborted);
    }

    /// Closes the connection now, for `reason`.
    pub fn abort_because(&mut self, reason: CloseReason) {
        self.service.outbox.push(Command::Abort { of: self.id, reason });
    }

    /// Pauses the input until [`resume`](Self::resume): the buffers of the kernel fill up, and the window of the peer closes.
    pub fn pause(&mut self) {
        self.service.outbox.push(Command::Pause { of: self.id });
    }

    /// Requests [`Service::on_drain`](super::Service::on_drain) as soon as the output is at its low-water mark, which may be
    /// at once. When forwarding data from another source, call this after each piece: at most the low-water mark plus one
    /// piece is then queued. The request has no other effect.
    pub fn await_drain(&mut self) {
        self.service.outbox.push(Command::AwaitDrain { of: self.id });
    }

    /// Resumes the input. Unread input is offered again first.
    pub fn resume(&mut self) {
        self.service.outbox.push(Command::Resume { of: self.id });
    }

    /// Sets one deadline: absolute, independent of the others, in force until it is set anew. [`Time::NEVER`] clears it. A
    /// deadline in the past acts as soon as this callback has returned, before any input that is ready.
    pub fn set_deadline(&mut self, which: Deadline, due: Time) {
        self.service.outbox.push(Command::SetDeadline { of: self.id, which, due });
    }

    /// Go's `SetReadDeadline`.
    pub fn set_read_deadline(&mut self, due: Time) {
        self.set_deadline(Deadline::Read, due);
    }

    /// Renews the timeout of the policy for one deadline, in place of the deadline that was set. Without such a timeout the
    /// deadline is cleared.
    pub fn renew_deadline(&mut self, which: Deadline) {
        self.service.outbox.push(Command::RenewDeadline { of: self.id, which });
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
