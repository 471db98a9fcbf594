//! One connection: a stream, its two half-states, its known readiness, its buffers and its deadlines.
//!
//! Owns: [`Connection`], its state, and the decisions that follow from it. How bytes pass is in [`flow`], how a
//! connection ends in [`closing`]. Must not know: the service, other connections, the wheel.
//!
//! Invariants:
//! 1. Whether a connection gets a turn is a function of its state, [`Connection::wants_turn`], and of nothing else.
//! 2. A connection is read only while its output has capacity and its unread input has been offered. That bounds its
//!    memory: the high-water mark, one read, and the input that its service leaves unread.
//! 3. The half-states are `Over` if and only if there is a close reason. Then nothing is read, written or delivered.
//! 4. FIN is sent after the last queued byte, once.
//! 5. The half-states change in [`Connection::set_halves`] only, which checks the move and traces it.

mod closing;
mod detour;
mod flow;
pub mod halves;
pub mod relay;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use mio::event::Event;

use self::closing::{AfterDial, Ending, Stopping};
use self::detour::Detour;
use self::flow::{Flow, Unread};
use self::halves::{Halves, Inbound};
use super::readiness::Readiness;
use crate::buffer::Buffer;
use crate::id::{ConnId, ListenerId, ServiceId};
use crate::limits::{Policy, WhileDraining};
use crate::reactor::observe::recorder::Recorder;
use crate::reactor::observe::report::ConnectionStatus;
use crate::reactor::sys::stream::Stream;
use crate::timer::{Deadline, DeadlineKind, Deadlines, Time, Timeout};

pub use self::flow::Fill;

/// A connection over a stream of type `S`: a socket, or a script in tests.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    id: ConnId,
    service: ServiceId,
    halves: Halves,
    readiness: Readiness,
    /// How far the output is from its marks.
    flow: Flow,
    renewals: Renewals,
    /// The timeouts that bytes renew, by [`Deadline`].
    timeouts: [Timeout; 3],
    stopping: Stopping,
    /// [`CATCH_UP`](crate::limits::CATCH_UP) after reading was resumed: until then the peer may still have to send what it
    /// could not send meanwhile.
    catch_up_until: Time,
    ending: Ending,
    /// The peer is to see RST.
    resets: bool,
    /// `on_peer_closed` was called.
    peer_closed_delivered: bool,
    /// The connections that bytes come from or go to.
    detour: Option<Box<Detour>>,
    /// A copy of what follows from the detour, for the hot path.
    has_detour: bool,
    after_dial: AfterDial,
    /// The input of a connection that is being dialed is paused as soon as the connection is established.
    is_paused_after_dial: bool,
    /// False until a dial has succeeded.
    is_established: bool,
    /// The listener of an accepted connection.
    listener: Option<ListenerId>,
    output: Buffer,
    /// The length of the output that the [`Directory`](crate::service::Directory) has.
    published: usize,
    unread: Unread,
    policy: Rc<Policy>,
    /// When each deadline is due.
    pub deadlines: Deadlines,
}

/// The directions whose bytes renew a timeout: a copy of what follows from timeouts and state, for the hot path.
#[derive(Clone, Copy, Debug)]
struct Renewals {
    on_read: bool,
    on_write: bool,
}

impl<S: Stream> Connection<S> {
    /// Returns a connection that was accepted: it can be written, and an event announces when it can be read.
    pub fn accepted(stream: S, id: ConnId, service: ServiceId, policy: Rc<Policy>, now: Time) -> Self {
        let mut connection = Self::new(stream, id, service, policy);
        connection.readiness = Readiness::WRITABLE_ONLY;
        connection.renew_after_read(now);
        connection
    }

    /// Returns a connection that is being dialed until `due`.
    pub fn dialing(stream: S, id: ConnId, service: ServiceId, policy: Rc<Policy>, due: Time) -> Self {
        let mut connection = Self::new(stream, id, service, policy);
        connection.halves = Halves::Dialing;
        connection.is_established = false;
        connection.deadlines.set(DeadlineKind::Dial, due);
        connection
    }

    fn new(stream: S, id: ConnId, service: ServiceId, policy: Rc<Policy>) -> Self {
        Self {
            stream,
            id,
            service,
            halves: Halves::Open,
            readiness: Readiness::default(),
            flow: Flow::Free,
            renewals: Renewals { on_read: policy.is_timed(), on_write: policy.idle_timeout.is_on() },
            timeouts: [Deadline::Read, Deadline::Write, Deadline::Idle].map(|which| policy.timeout(which)),
            stopping: Stopping::No,
            catch_up_until: Time::ZERO,
            ending: Ending::No,
            resets: false,
            peer_closed_delivered: false,
            after_dial: AfterDial::GoOn,
            is_paused_after_dial: false,
            detour: None,
            has_detour: false,
            is_established: true,
            listener: None,
            output: Buffer::new(),
            published: 0,
            unread: Unread::default(),
            policy,
            deadlines: Deadlines::new(),
        }
    }

    /// Notes the listener that has accepted the connection.
    pub fn set_listener(&mut self, listener: ListenerId) {
        self.listener = Some(listener);
    }

    /// Returns the listener of an accepted connection; `None` for a dialed or adopted connection.
    pub fn listener(&self) -> Option<ListenerId> {
        self.listener
    }

    /// Returns the stream itself, to be registered or asked for its addresses.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Returns the id.
    #[inline]
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Returns the id of the service.
    #[inline]
    pub fn service(&self) -> ServiceId {
        self.service
    }

    /// Returns the number of bytes that may be queued until the connection is congested.
    pub fn room(&self) -> usize {
        self.policy.high_water.saturating_sub(self.output.len())
    }

    /// Returns the length of the output if it has changed since the last call.
    #[inline]
    pub fn take_unpublished(&mut self) -> Option<usize> {
        let queued = self.output.len();
        if queued == self.published {
            return None;
        }
        self.published = queued;
        Some(queued)
    }

    /// Returns the two half-states.
    #[inline]
    pub fn halves(&self) -> Halves {
        self.halves
    }

    /// Moves to other half-states: the only place that does. An unchanged state is no move.
    fn set_halves(&mut self, next: Halves, recorder: &mut Recorder) {
        if self.halves != next {
            debug_assert!(self.halves.may_become(next), "{:?} cannot become {next:?} (halves.rs)", self.halves);
            recorder.transition(self.id.into(), self.halves, next);
            self.halves = next;
        }
    }

    /// Returns the known readiness.
    #[inline]
    pub fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// Notes that the stream is registered for events of reads alone.
    pub fn unwatch_writes(&mut self) {
        self.readiness.unwatch_writes();
    }

    /// Returns true, once, if a write would block and no event would announce its end.
    #[inline]
    pub fn take_write_watch(&mut self) -> bool {
        self.readiness.take_write_watch()
    }

    /// Returns the state that can be seen from outside.
    pub fn status(&self) -> ConnectionStatus {
        ConnectionStatus {
            queued: self.output.len(),
            unread: self.unread.len(),
            readable: self.readiness.readable(),
            writable: self.readiness.writable(),
        }
    }

    /// Records the readiness that an event announces.
    #[inline]
    pub fn note(&mut self, event: &Event) {
        self.readiness.note(event);
    }

    /// Returns true in the most common state: both directions open, nothing queued or unread, nothing due. Then
    /// [`wants_turn`](Self::wants_turn) depends on `readable` alone, and [`advance`](Self::advance) changes nothing. A
    /// shortcut, not a state of its own.
    #[inline(always)]
    pub fn takes_fast_path(&self) -> bool {
        self.halves == Halves::Open
            // Unread input comes before the next read, which may meet the FIN of the peer.
            && self.output.len() | self.unread.len() == 0
            && !(self.flow.is_drained() | self.stopping.is_requested() | self.has_detour)
            && !self.readiness.error()
            && self.deadlines.nothing_due()
    }

    /// Returns true if there is work to do now: the decision about every turn, made in one place.
    pub fn wants_turn(&self) -> bool {
        self.halves != Halves::Over
            && (self.wants_fill()
                || self.wants_flush()
                || (self.has_detour && self.wants_pour())
                || self.flow.is_drained()
                || self.wants_offer()
                || self.owes_peer_closed()
                || self.may_finish()
                || self.expired_deadline().is_some()
                || self.owes_error())
    }

    /// Returns true if the socket is to be read now. A service that is owed a callback or unread input gets that first.
    #[inline]
    pub fn wants_fill(&self) -> bool {
        self.readiness.readable()
            && ((self.halves.discards_input() && !self.has_bytes_in_pipe())
                || (self.halves.delivers_input()
                    && !self.reading_suspended()
                    && !self.flow.is_drained()
                    && !self.unread.is_due()
                    && !self.deadlines.is_expired(DeadlineKind::Read)))
    }

    /// Returns true if queued bytes can be written now. A socket that connects becomes writable when it is connected.
    #[inline]
    pub fn wants_flush(&self) -> bool {
        self.readiness.writable()
            && self.halves != Halves::Over
            && !self.deadlines.is_expired(DeadlineKind::Write)
            && (!self.output.is_empty() || self.is_connecting())
    }

    /// Returns true if unread input is to be offered to the service again.
    pub fn wants_offer(&self) -> bool {
        self.unread.is_due() && self.halves.delivers_input()
    }

    /// Returns true if the peer has sent FIN while the input is paused, and the service has not had `on_peer_closed`.
    pub fn owes_peer_closed(&self) -> bool {
        self.readiness.read_closed() && !self.peer_closed_delivered && self.halves.inbound() == Inbound::Paused
    }

    /// Takes the news that the peer has sent FIN while the input is paused. Returns true once.
    pub fn take_peer_closed(&mut self) -> bool {
        let owed = self.owes_peer_closed();
        self.peer_closed_delivered |= owed;
        owed
    }

    /// Returns true while the connection is being dialed.
    #[inline]
    pub fn is_connecting(&self) -> bool {
        self.halves == Halves::Dialing
    }

    /// Returns false for a connection whose dial has not succeeded.
    pub fn is_established(&self) -> bool {
        self.is_established
    }

    /// The dialed connection is established.
    pub fn established(&mut self, now: Time, recorder: &mut Recorder) {
        self.set_halves(Halves::Open, recorder);
        self.is_established = true;
        self.deadlines.set(DeadlineKind::Dial, Time::NEVER);
        self.renew_after_read(now);
        if std::mem::take(&mut self.is_paused_after_dial) {
            self.pause(recorder);
        }
        self.note_drain_of_dial();
        match self.after_dial {
            AfterDial::GoOn => {}
            AfterDial::HalfClose => self.half_close(recorder),
            AfterDial::Finish => self.finish(recorder),
        }
    }

    /// Renews the timeouts that bytes from the peer renew. Out of line: an exchange without timeouts must not pay with
    /// registers.
    #[inline(never)]
    fn renew_after_read(&mut self, now: Time) {
        self.renew(Deadline::Read, now);
        self.renew(Deadline::Idle, now);
        self.expect_more(now);
    }

    /// Renews the timeout for `which`, if there is one.
    #[inline]
    fn renew(&mut self, which: Deadline, now: Time) {
        let timeout = self.timeouts[which as usize];
        if timeout.is_on() {
            self.deadlines.set(which.into(), now + timeout);
        }
    }

    /// Sets a deadline in place of the timeout: bytes do not renew it.
    pub fn set_deadline(&mut self, which: Deadline, due: Time, now: Time) {
        self.timeouts[which as usize] = Timeout::OFF;
        self.note_timeouts();
        self.deadlines.set(which.into(), due);
        // A deadline that has passed beats the bytes for which the connection may have its turn next.
        self.deadlines.mark_expired(now);
    }

    /// Sets a timeout in place of the deadline or timeout that was set.
    pub fn set_timeout(&mut self, which: Deadline, timeout: Timeout, now: Time) {
        self.timeouts[which as usize] = timeout;
        self.note_timeouts();
        self.deadlines.set(which.into(), Time::NEVER);
        // Without output, no write can be late. The next output sets the deadline.
        if which != Deadline::Write || !self.output.is_empty() {
            self.renew(which, now);
        }
    }

    /// Sets the timeout of the policy, in place of the deadline or timeout that was set.
    pub fn restore_timeout(&mut self, which: Deadline, now: Time) {
        self.set_timeout(which, self.policy.timeout(which), now);
    }

    /// Copies what follows from the timeouts, for the hot path.
    fn note_timeouts(&mut self) {
        let [read, _, idle] = self.timeouts.map(Timeout::is_on);
        self.renewals = Renewals { on_read: read || idle || self.stopping.is_requested(), on_write: idle };
    }

    /// Suspends the input of the service.
    pub fn pause(&mut self, recorder: &mut Recorder) {
        self.is_paused_after_dial = self.is_connecting();
        self.set_halves(self.halves.after_pause(), recorder);
    }

    /// Delivers input again, the unread input first.
    pub fn resume(&mut self, now: Time, recorder: &mut Recorder) {
        self.is_paused_after_dial = false;
        let resumed = self.halves.after_resume();
        if resumed != self.halves {
            self.set_halves(resumed, recorder);
            self.unread.offer_again();
            self.renew(Deadline::Read, now);
        }
    }

    /// Returns the next expired deadline that counts at present: see [`Deadline`] for when each does.
    pub fn expired_deadline(&self) -> Option<DeadlineKind> {
        self.deadlines.next_expired(|which| match which {
            DeadlineKind::Read => self.halves.delivers_input() && !self.reading_suspended(),
            DeadlineKind::Write => !self.output.is_empty() || self.is_awaited_by_pipe(),
            DeadlineKind::Linger => self.halves == Halves::Lingering,
            DeadlineKind::Idle | DeadlineKind::Dial => true,
        })
    }

    /// Returns true if the peer is not read because it does not read our output, or because the connection that its input
    /// goes to has not drained.
    fn reading_suspended(&self) -> bool {
        self.is_held() || self.flow.is_draining() && self.policy.while_draining == WhileDraining::HoldBack
    }
}
