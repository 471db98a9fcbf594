//! One connection: a stream, its two half-states, what is known of its readiness, its buffers and its deadlines.
//!
//! Owns: [`Connection`], and every transition of its state. Must not know: its service, other connections, the wheel.
//!
//! Invariants:
//! 1. Whether it gets a turn is a function of its state, [`Connection::wants_turn`], and of nothing else.
//! 2. It is read only while its output has room and its unread input has been offered: memory is bounded by the
//!    high-water mark and one read, plus what its service leaves unread.
//! 3. Once `ending` is set the halves are `Over`: nothing is read, written or handed to the service any more.
//! 4. FIN is sent after the last queued byte, once.

use std::net::SocketAddr;
use std::rc::Rc;

use mio::event::Event;

use super::halves::{Halves, Outbound};
use super::readiness::Readiness;
use super::recorder::Recorder;
use super::socket::{self, Outcome, Stream};
use crate::buffer::Buffer;
use crate::id::{ConnId, ServiceId};
use crate::limits::{Policy, UNREAD};
use crate::service::{CloseReason, Facts};
use crate::timer::{Deadline, Deadlines, Time};

/// What a fill has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// So many bytes: for the service, if the connection is still heeded.
    Data(usize),
    /// The peer's end of file, which the service has to be told.
    Eof,
    /// Nothing that concerns the service.
    Nothing,
}

/// A connection over a stream of type `S`: a TCP socket, or a script in tests.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    facts: Facts,
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
    /// Its policy has a timeout that bytes renew.
    timed: bool,
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
            facts: Facts { id, peer, room: policy.high_water },
            service,
            halves: Halves::Open,
            readiness: Readiness::default(),
            queued: false,
            dirty: false,
            congested: false,
            drained: false,
            finish_when_quiet: false,
            timed: policy.is_timed(),
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
        self.facts.id
    }

    /// Its service.
    pub fn service(&self) -> ServiceId {
        self.service
    }

    /// What its service may know of it.
    #[inline]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The other end.
    pub fn peer(&self) -> &SocketAddr {
        &self.facts.peer
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
                || self.lapsed_deadline().is_some()
                || self.readiness.error())
    }

    /// Whether it shall be read now.
    #[inline]
    pub fn wants_fill(&self) -> bool {
        self.readiness.readable()
            && match self.halves {
                Halves::Open => !self.congested && !self.drained && !self.deadlines.has_lapsed(Deadline::Read),
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

    /// Starts the timeouts anew that bytes from the peer renew.
    fn renew_after_read(&mut self, now: Time) {
        self.renew(Deadline::Read, now);
        self.renew(Deadline::Idle, now);
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

    /// Reads once into `scratch`.
    #[inline(always)]
    pub fn fill(&mut self, scratch: &mut [u8], now: Time, recorder: &mut Recorder) -> Fill {
        match socket::read(&mut self.stream, scratch, self.facts.id, recorder) {
            Outcome::Done(0) => {
                let heeded = self.is_heeded();
                self.halves.eof();
                self.deadlines.set(Deadline::Read, Time::NEVER);
                if heeded { Fill::Eof } else { Fill::Nothing }
            }
            Outcome::Done(n) => {
                if n < scratch.len() {
                    self.readiness.short_read();
                }
                if self.timed {
                    self.renew_after_read(now);
                }
                Fill::Data(n)
            }
            Outcome::Blocked => {
                self.readiness.read_blocked();
                Fill::Nothing
            }
            Outcome::Failed(errno) => {
                self.end(socket::close_reason(errno));
                Fill::Nothing
            }
        }
    }

    /// Whether its service wants to know what the peer says.
    #[inline]
    pub fn is_heeded(&self) -> bool {
        !matches!(self.halves, Halves::Flushing | Halves::Lingering)
    }

    /// Whether its service has left bytes unread.
    #[inline]
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Takes the bytes that the service has left unread, to be offered again.
    #[inline]
    pub fn take_unread(&mut self) -> Buffer {
        std::mem::take(&mut self.unread)
    }

    /// Keeps what the service has left unread of a fill.
    pub fn keep_unread(&mut self, unread: Buffer) {
        if !self.is_served() {
            return;
        }
        if unread.len() > UNREAD {
            self.end(CloseReason::Unread);
        }
        self.unread = unread;
    }

    /// Whether it was congested and has drained, which is news for its service. Asking takes the news.
    #[inline]
    pub fn take_drained(&mut self) -> bool {
        std::mem::take(&mut self.drained)
    }

    /// Sends `bytes`: as many as the kernel takes at once are not even copied.
    #[inline(always)]
    pub fn send(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) {
        if !matches!(self.halves, Halves::Open | Halves::Paused | Halves::HalfClosed | Halves::Dialing) {
            recorder.ledger.stale_commands += 1;
            return;
        }
        // A write deadline that has passed beats a kernel that has room, as in Go.
        let taken = if self.output.is_empty() && self.readiness.writable() && self.deadlines.due(Deadline::Write) > now
        {
            self.write(bytes, now, recorder)
        } else {
            0
        };
        if taken < bytes.len() {
            self.queue(&bytes[taken..], now, recorder);
        }
    }

    /// Queues `bytes` that another connection has caused, for the end of the turn. One that does not read is ended:
    /// the others must not wait for it.
    pub fn send_from_other(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) {
        if self.halves.outbound() != Outbound::Open {
            recorder.ledger.stale_commands += 1;
            return;
        }
        if self.output.len() >= self.policy.high_water {
            self.flush(now, recorder);
            if self.output.len() >= self.policy.high_water {
                self.end(CloseReason::Overflow);
                return;
            }
        }
        if !bytes.is_empty() {
            self.queue(bytes, now, recorder);
        }
    }

    #[inline(never)]
    fn queue(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) {
        if self.output.is_empty() {
            self.renew(Deadline::Write, now);
        }
        self.output.append(bytes);
        self.facts.room = self.policy.high_water.saturating_sub(self.output.len());
        if self.facts.room == 0 && !self.congested {
            self.congested = true;
            recorder.ledger.pauses += 1;
        }
        if self.deadlines.due(Deadline::Write) <= now {
            self.deadlines.lapse(now);
        }
    }

    /// Writes queued bytes until none is left or the kernel takes no more.
    pub fn flush(&mut self, now: Time, recorder: &mut Recorder) {
        while !self.output.is_empty() && self.wants_flush() && !self.is_connecting() {
            let queued = std::mem::take(&mut self.output);
            let n = self.write(queued.as_slice(), now, recorder);
            self.output = queued;
            self.output.consume(n);
            if n > 0 {
                let more = !self.output.is_empty();
                self.progress(more, now);
            }
        }
        self.facts.room = self.policy.high_water.saturating_sub(self.output.len());
        if self.congested && self.output.len() <= self.policy.low_water {
            self.congested = false;
            self.drained = self.halves.outbound() == Outbound::Open;
            self.renew(Deadline::Read, now);
            recorder.ledger.resumes += 1;
        }
    }

    /// The queue has become shorter: its write timeout starts anew, or rests while nothing is queued.
    fn progress(&mut self, more: bool, now: Time) {
        if more {
            self.renew(Deadline::Write, now);
        } else if self.policy.write_timeout.is_on() {
            self.deadlines.set(Deadline::Write, Time::NEVER);
        }
    }

    /// One write; returns how many bytes the kernel took.
    #[inline(always)]
    fn write(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) -> usize {
        match socket::write(&mut self.stream, bytes, self.facts.id, recorder) {
            Outcome::Done(n) => {
                if self.timed {
                    self.renew(Deadline::Idle, now);
                }
                n
            }
            Outcome::Blocked => {
                self.readiness.write_blocked();
                0
            }
            Outcome::Failed(errno) => {
                self.end(socket::close_reason(errno));
                0
            }
        }
    }

    /// No more output: flush, send FIN, discard what still comes.
    pub fn finish(&mut self) {
        if self.is_connecting() {
            self.end(CloseReason::Aborted);
        } else if self.halves.finish() {
            self.unread = Buffer::new();
            self.drained = false;
            self.deadlines.set(Deadline::Read, Time::NEVER);
        }
    }

    /// Finish as soon as it is quiet.
    pub fn finish_when_quiet(&mut self) {
        self.finish_when_quiet = true;
    }

    /// Stop reading.
    pub fn pause(&mut self) {
        self.halves.pause();
    }

    /// Read again; what the service has left unread is offered first.
    pub fn resume(&mut self, now: Time) {
        if self.halves.resume() {
            self.drained |= !self.unread.is_empty();
            self.renew(Deadline::Read, now);
        }
    }

    /// It will be closed at the end of the turn. The first reason stands.
    pub fn end(&mut self, reason: CloseReason) {
        self.ending.get_or_insert(reason);
        self.halves = Halves::Over;
    }

    /// Makes the transitions that follow from its state: FIN after the last byte, and the end after both FINs.
    pub fn settle(&mut self, now: Time, recorder: &mut Recorder) {
        if self.ending.is_some() {
            return;
        }
        if self.finish_when_quiet && self.is_quiet() {
            self.finish();
        }
        if self.halves.outbound() == Outbound::Finishing && self.output.is_empty() {
            if let Outcome::Failed(errno) = socket::shutdown(&self.stream, self.facts.id, recorder) {
                self.end(socket::close_reason(errno));
                return;
            }
            self.halves.fin_sent();
            self.deadlines.set(Deadline::Linger, now + self.policy.linger);
        }
        if self.halves == Halves::Over {
            self.end(CloseReason::Finished);
        }
    }

    /// Nothing to read, nothing to write: whatever had arrived has been served. What a passed deadline keeps out will
    /// not be.
    fn is_quiet(&self) -> bool {
        let unread = self.readiness.readable() && !self.deadlines.has_lapsed(Deadline::Read);
        !self.queued && !unread && self.output.is_empty() && !self.is_connecting()
    }

    /// The next lapsed deadline that counts at present, if any: see [`Deadline`] for when each does.
    pub fn lapsed_deadline(&self) -> Option<Deadline> {
        self.deadlines.news(|which| match which {
            Deadline::Read => self.halves == Halves::Open && !self.congested,
            Deadline::Write => !self.output.is_empty(),
            Deadline::Idle | Deadline::Dial | Deadline::Linger => true,
        })
    }

    /// Whether its service still decides about it: it has not said its last word.
    pub fn is_served(&self) -> bool {
        self.halves.outbound() == Outbound::Open
    }

    /// Takes the error that an event has announced, if no call has met it yet.
    pub fn take_error(&mut self, recorder: &mut Recorder) {
        self.readiness.error_taken();
        if let Some(errno) = socket::take_error(&self.stream, self.facts.id, recorder) {
            self.end(socket::close_reason(errno));
        }
    }

    /// The linger of a stopping reactor is shorter.
    pub fn hasten(&mut self, linger_due: Time) {
        if self.halves == Halves::Lingering && self.deadlines.due(Deadline::Linger) > linger_due {
            self.deadlines.set(Deadline::Linger, linger_due);
        }
    }
}
