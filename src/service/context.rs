//! What a callback is given: a few facts, and the verbs that record commands.
//!
//! Owns: [`ServiceContext`] and [`Context`]. Must not know: who applies the commands.

use std::fmt;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, SystemTime};

use super::TimerName;
use super::command::{Command, Outbox, Span};
use super::reason::CloseReason;
use crate::id::ConnId;
use crate::timer::{Deadline, Time};

/// What every callback of a service may know and ask for; verbs name the connection that they are about.
pub struct ServiceContext<'a> {
    now: Time,
    wall_clock: fn() -> SystemTime,
    outbox: &'a mut Outbox,
}

impl<'a> ServiceContext<'a> {
    /// A context for callbacks at `now` that records into `outbox`. The reactor makes them, and [`Probe`](super::Probe).
    #[inline]
    pub fn new(now: Time, wall_clock: fn() -> SystemTime, outbox: &'a mut Outbox) -> Self {
        Self {
            now,
            wall_clock,
            outbox,
        }
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

    /// Sends `bytes` to each of `to`. One that does not read, and has more queued than its high-water mark, is dropped
    /// with [`CloseReason::Overflow`]: nobody waits for the slowest.
    pub fn broadcast(&mut self, to: impl IntoIterator<Item = ConnId>, bytes: &[u8]) {
        self.outbox.broadcast(to, bytes);
    }

    /// Ends `of` in an orderly way; see [`Context::finish`].
    pub fn finish_peer(&mut self, of: ConnId) {
        self.outbox.push(Command::Finish { of });
    }

    /// Closes `of` at once; see [`Context::abort`].
    pub fn abort_peer(&mut self, of: ConnId) {
        self.outbox.push(Command::Abort {
            of,
            reason: CloseReason::Aborted,
        });
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
        self.outbox.push(Command::SetTimer { name, at, every });
    }

    /// Cancels the timer `name`, if it is set.
    pub fn cancel_timer(&mut self, name: TimerName) {
        self.outbox.push(Command::CancelTimer { name });
    }

    /// Dials `to`; `on_open` or `on_close` will tell. A `timeout` of zero leaves it to the kernel (about two minutes).
    pub fn connect(&mut self, to: SocketAddr, timeout: Duration) {
        self.outbox.push(Command::Connect { to, timeout });
    }

    /// Stops the reactor in an orderly way.
    pub fn stop_reactor(&mut self) {
        self.outbox.push(Command::Stop);
    }
}

impl fmt::Debug for ServiceContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceContext")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// What a callback about one connection may know and ask for.
///
/// Its own verbs are about that connection; those of [`ServiceContext`] reach the others.
#[derive(Debug)]
pub struct Context<'a> {
    service: ServiceContext<'a>,
    id: ConnId,
    peer: &'a SocketAddr,
    /// How many more bytes may be queued before the connection is congested.
    room: usize,
}

impl<'a> Context<'a> {
    /// A context for a callback about the connection `id` to `peer`, which can queue `room` more bytes.
    #[inline]
    pub fn new(service: ServiceContext<'a>, id: ConnId, peer: &'a SocketAddr, room: usize) -> Self {
        Self {
            service,
            id,
            peer,
            room,
        }
    }

    /// The connection's id.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// The peer's address. An IPv4 peer of an IPv6 socket has its IPv4 address here.
    pub fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.peer.ip().to_canonical(), self.peer.port())
    }

    /// Whether as much is queued as the high-water mark allows, what this callback has sent included. A service that
    /// answers many requests in one callback should leave the rest unconsumed then.
    #[inline]
    pub fn is_congested(&self) -> bool {
        self.room == 0
    }

    /// Sends `bytes`. They are written at once if the kernel takes them, and queued otherwise.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) {
        self.room = self.room.saturating_sub(bytes.len());
        self.service.outbox.send(self.id, bytes);
    }

    /// Sends `part` of the input that this callback was given, without copying it first.
    ///
    /// # Panics
    /// The reactor panics when it applies a part that is not inside the input.
    #[inline]
    pub fn send_input(&mut self, part: Span) {
        self.room = self.room.saturating_sub(part.len());
        self.service
            .outbox
            .push(Command::SendInput { to: self.id, part });
    }

    /// Ends the connection in an orderly way: what is queued is flushed, FIN is sent, and what the peer still sends is
    /// read and thrown away until its FIN or the linger deadline. Closing earlier would make the kernel answer unread
    /// bytes with RST, and the peer could lose the last of our output.
    pub fn finish(&mut self) {
        self.service.outbox.push(Command::Finish { of: self.id });
    }

    /// Serves what has already arrived, and finishes as soon as nothing is left to read or to write.
    pub fn finish_when_quiet(&mut self) {
        self.service
            .outbox
            .push(Command::FinishWhenQuiet { of: self.id });
    }

    /// Closes the connection at once; what is queued is lost.
    pub fn abort(&mut self) {
        self.abort_because(CloseReason::Aborted);
    }

    /// Closes the connection at once and says why.
    pub fn abort_because(&mut self, reason: CloseReason) {
        self.service.outbox.push(Command::Abort {
            of: self.id,
            reason,
        });
    }

    /// Stops reading until [`resume`](Self::resume); the kernel's buffers fill up and the peer is held back.
    pub fn pause(&mut self) {
        self.service.outbox.push(Command::Pause { of: self.id });
    }

    /// Reads again.
    pub fn resume(&mut self) {
        self.service.outbox.push(Command::Resume { of: self.id });
    }

    /// Sets one deadline: absolute, independent of the others, in force until it is set anew. [`Time::NEVER`] clears
    /// it; one in the past acts as soon as this callback has returned, before any data that is ready.
    pub fn set_deadline(&mut self, which: Deadline, due: Time) {
        self.service.outbox.push(Command::SetDeadline {
            of: self.id,
            which,
            due,
        });
    }

    /// Go's `SetReadDeadline`.
    pub fn set_read_deadline(&mut self, due: Time) {
        self.set_deadline(Deadline::Read, due);
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

impl<'a> Deref for Context<'a> {
    type Target = ServiceContext<'a>;

    fn deref(&self) -> &ServiceContext<'a> {
        &self.service
    }
}

impl DerefMut for Context<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.service
    }
}
