//! One connection: a stream, its two half-states, what is known of its readiness, its buffers and its deadlines.
//!
//! Owns: [`Connection`], its state, and the decisions that follow from it. How bytes pass is in [`flow`], how it ends in
//! [`closing`]. Must not know: its service, other connections, the wheel.
//!
//! Invariants:
//! 1. Whether it gets a turn is a function of its state, [`Connection::wants_turn`], and of nothing else.
//! 2. It is read only while its output has room and its unread input has been offered: memory is bounded by the
//!    high-water mark and one read, plus what its service leaves unread.
//! 3. Once `ending` is set the halves are `Over`: nothing is read, written or handed to the service any more.
//! 4. FIN is sent after the last queued byte, once.

mod closing;
mod flow;
pub mod halves;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::rc::Rc;

use mio::event::Event;

use crate::buffer::Buffer;
use crate::id::{ConnId, ServiceId};
use crate::limits::{Policy, WhileCongested};
use crate::reactor::source::connection::halves::Halves;
use crate::reactor::source::readiness::Readiness;
use crate::reactor::sys::stream::Stream;
use crate::service::{CloseReason, ConnectionInfo};
use crate::timer::{Deadline, Deadlines, Time};

pub use flow::Fill;

/// A connection over a stream of type `S`: a TCP socket, or a script in tests.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    info: ConnectionInfo,
    service: ServiceId,
    halves: Halves,
    readiness: Readiness,
    /// It stands in a ready queue.
    pub queued: bool,
    /// It stands in the list of those to be flushed at the end of the turn.
    pub dirty: bool,
    /// Its output has reached the high-water mark and has not fallen to the low-water mark since.
    congested: bool,
    /// It was congested and is not any more; its service has not been told.
    drained: bool,
    finish_when_quiet: bool,
    /// It was congested, which held its peer back: until then, the peer may have more to send than has arrived.
    catching_up: Time,
    /// There is a timeout that bytes renew.
    timed: bool,
    /// That timeout is, or is among others, the idle timeout: bytes to the peer renew it as well.
    idles: bool,
    /// Nothing can be written any more, for this reason; what the peer had said before is still read.
    broken: Option<CloseReason>,
    ending: Option<CloseReason>,
    output: Buffer,
    unread: Buffer,
    policy: Rc<Policy>,
    /// When what is due.
    pub deadlines: Deadlines,
}

impl<S: Stream> Connection<S> {
    /// A connection that has been accepted: it can be written, and an event will say when it can be read.
    pub fn accepted(
        stream: S,
        id: ConnId,
        peer: SocketAddr,
        service: ServiceId,
        policy: Rc<Policy>,
        now: Time,
    ) -> Self {
        let mut connection = Self::new(stream, id, peer, service, policy);
        connection.readiness = Readiness::WRITABLE_ONLY;
        connection.established(now);
        connection
    }

    /// A connection that is being dialed.
    pub fn dialing(stream: S, id: ConnId, peer: SocketAddr, service: ServiceId, policy: Rc<Policy>, due: Time) -> Self {
        let mut connection = Self::new(stream, id, peer, service, policy);
        connection.halves = Halves::Dialing;
        connection.deadlines.set(Deadline::Dial, due);
        connection
    }

    fn new(stream: S, id: ConnId, peer: SocketAddr, service: ServiceId, policy: Rc<Policy>) -> Self {
        Self {
            stream,
            info: ConnectionInfo { id, peer, capacity: policy.high_water, queued: 0 },
            service,
            halves: Halves::Open,
            readiness: Readiness::default(),
            queued: false,
            dirty: false,
            congested: false,
            drained: false,
            finish_when_quiet: false,
            catching_up: Time::ZERO,
            timed: policy.is_timed(),
            idles: policy.idle_timeout.is_on(),
            broken: None,
            ending: None,
            output: Buffer::new(),
            unread: Buffer::new(),
            policy,
            deadlines: Deadlines::new(),
        }
    }

    /// The stream itself: to be registered, or to be asked for its addresses.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Its id.
    #[inline]
    pub fn id(&self) -> ConnId {
        self.info.id
    }

    /// Its service.
    pub fn service(&self) -> ServiceId {
        self.service
    }

    /// What its service may know of it.
    #[inline]
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// The other end.
    pub fn peer(&self) -> &SocketAddr {
        &self.info.peer
    }

    /// Its two half-states.
    pub fn halves(&self) -> Halves {
        self.halves
    }

    /// What is known of its readiness.
    pub fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// Bytes that wait for the kernel, and bytes that wait for the service.
    pub fn queued_bytes(&self) -> (usize, usize) {
        (self.output.len(), self.unread.len())
    }

    /// Why it is about to be closed, if it is.
    #[inline]
    pub fn ending(&self) -> Option<CloseReason> {
        self.ending
    }

    /// Adds what an event says.
    #[inline]
    pub fn note(&mut self, event: &Event) {
        self.readiness.note(event);
    }

    /// Whether nothing is going on but the exchange itself. In this, by far the most common state, [`wants_turn`]
    /// depends on `readable` alone, and nothing is to be settled: a shortcut, not a state of its own.
    ///
    /// [`wants_turn`]: Self::wants_turn
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.halves == Halves::Open
            && self.output.is_empty()
            && !(self.drained | self.finish_when_quiet)
            && !self.readiness.error()
            && self.deadlines.is_calm()
    }

    /// Whether there is anything to do: the decision about every turn, made in one place.
    pub fn wants_turn(&self) -> bool {
        self.halves != Halves::Over
            && (self.wants_fill()
                || self.wants_flush()
                || self.drained
                || self.shall_finish()
                || self.lapsed_deadline().is_some()
                || self.readiness.error())
    }

    /// Whether it shall be read now.
    #[inline]
    pub fn wants_fill(&self) -> bool {
        self.readiness.readable()
            && match self.halves {
                Halves::Open | Halves::Concluding | Halves::Concluded => {
                    !self.is_held_back() && !self.drained && !self.deadlines.has_lapsed(Deadline::Read)
                }
                Halves::Flushing | Halves::Lingering => true,
                _ => false,
            }
    }

    /// Whether something is queued that can be written now. A socket that connects becomes writable when it has.
    #[inline]
    pub fn wants_flush(&self) -> bool {
        self.readiness.writable()
            && self.halves != Halves::Over
            && !self.deadlines.has_lapsed(Deadline::Write)
            && (!self.output.is_empty() || self.is_connecting())
    }

    /// Whether it is still being dialed.
    #[inline]
    pub fn is_connecting(&self) -> bool {
        self.halves == Halves::Dialing
    }

    /// The dialed connection is established.
    pub fn established(&mut self, now: Time) {
        if self.is_connecting() {
            self.halves.connected();
            self.deadlines.set(Deadline::Dial, Time::NEVER);
        }
        self.renew_after_read(now);
    }

    /// Starts the timeouts anew that bytes from the peer renew. Out of line: an exchange without timeouts shall not pay
    /// with registers.
    #[inline(never)]
    fn renew_after_read(&mut self, now: Time) {
        self.renew(Deadline::Read, now);
        self.renew(Deadline::Idle, now);
        if self.finish_when_quiet && self.is_served() {
            self.expect_more(now);
        }
    }

    /// Starts the policy's timeout for `which` anew.
    #[inline]
    fn renew(&mut self, which: Deadline, now: Time) {
        let timeout = match which {
            Deadline::Read => self.policy.read_timeout,
            Deadline::Write => self.policy.write_timeout,
            _ => self.policy.idle_timeout,
        };
        if timeout.is_on() {
            self.deadlines.set(which, now + timeout);
        }
    }

    /// Starts the policy's timeout for `which` anew, in place of what its service has set.
    pub fn renew_deadline(&mut self, which: Deadline, now: Time) {
        self.deadlines.set(which, Time::NEVER);
        self.renew(which, now);
    }

    /// Stop reading.
    pub fn pause(&mut self) {
        self.halves.pause();
    }

    /// Read again; what the service has left unread is offered first.
    pub fn resume(&mut self, now: Time) {
        if self.halves.resume() {
            self.drained |= !self.unread.is_empty() && !self.is_held_back();
            self.renew(Deadline::Read, now);
        }
    }

    /// The next lapsed deadline that counts at present, if any: see [`Deadline`] for when each does.
    pub fn lapsed_deadline(&self) -> Option<Deadline> {
        self.deadlines.news(|which| match which {
            Deadline::Read => self.is_heard() && !self.is_held_back(),
            Deadline::Write => !self.output.is_empty(),
            Deadline::Linger => self.halves == Halves::Lingering,
            Deadline::Idle | Deadline::Dial => true,
        })
    }

    /// Whether there is an error, and the peer may have said something before it.
    pub fn hears_last_words(&self) -> bool {
        self.readiness.error() && self.wants_fill() && self.is_heard()
    }

    /// Whether its service takes input: not while it has paused the connection.
    pub fn is_heard(&self) -> bool {
        matches!(self.halves, Halves::Open | Halves::Concluding | Halves::Concluded)
    }

    /// Whether its peer is not read because it does not read us.
    fn is_held_back(&self) -> bool {
        self.congested && self.policy.while_congested == WhileCongested::HoldBack
    }

    /// Whether its service still decides about it: it has not said its last word.
    pub fn is_served(&self) -> bool {
        !matches!(
            self.halves,
            Halves::Dialing | Halves::Flushing | Halves::FlushingAfterEof | Halves::Lingering | Halves::Over
        )
    }
}
