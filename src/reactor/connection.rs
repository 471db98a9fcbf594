//! One connection: a stream, its two half-states, what is known of its readiness, its buffers and its deadlines.
//!
//! Owns: [`Connection`], and every transition of its state. Must not know: its service, other connections, the wheel.
//!
//! Invariants:
//! 1. Whether it gets a turn is a function of its state, [`Connection::wants_turn`], and of nothing else.
//! 2. It is read only while its output has room and its unread input has been offered: memory is bounded by the
//!    high-water mark and one read, plus what its service leaves unread.
//! 3. Once `ending` is set nothing is read, written or handed to the service any more.
//! 4. FIN is sent after the last queued byte, once.

use std::net::SocketAddr;
use std::rc::Rc;

use mio::event::Event;

use super::halves::{Halves, Inbound, Outbound};
use super::readiness::Readiness;
use super::recorder::Recorder;
use super::socket::{self, Outcome, Stream};
use crate::buffer::Buffer;
use crate::id::{ConnId, ServiceId};
use crate::limits::{Policy, UNREAD};
use crate::service::CloseReason;
use crate::timer::{Deadline, Deadlines, Time};

/// What a fill has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// So many bytes for the service.
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
    id: ConnId,
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
    ending: Option<CloseReason>,
    output: Buffer,
    unread: Buffer,
    policy: Rc<Policy>,
    /// When what is due.
    pub deadlines: Deadlines,
    peer: SocketAddr,
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
    pub fn dialing(
        stream: S,
        id: ConnId,
        peer: SocketAddr,
        service: ServiceId,
        policy: Rc<Policy>,
        due: Time,
    ) -> Self {
        let mut connection = Self::new(stream, id, peer, service, policy);
        connection.halves = Halves::CONNECTING;
        connection.deadlines.set(Deadline::Dial, due);
        connection
    }

    fn new(
        stream: S,
        id: ConnId,
        peer: SocketAddr,
        service: ServiceId,
        policy: Rc<Policy>,
    ) -> Self {
        Self {
            stream,
            id,
            service,
            halves: Halves::OPEN,
            readiness: Readiness::default(),
            queued: false,
            dirty: false,
            congested: false,
            drained: false,
            finish_when_quiet: false,
            ending: None,
            output: Buffer::new(),
            unread: Buffer::new(),
            policy,
            deadlines: Deadlines::new(),
            peer,
        }
    }

    /// The stream itself: to be registered, or to be asked for its addresses.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Its id.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Its service.
    pub fn service(&self) -> ServiceId {
        self.service
    }

    /// The other end.
    pub fn peer(&self) -> &SocketAddr {
        &self.peer
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

    /// How many more bytes may be queued before it is congested.
    #[inline]
    pub fn room(&self) -> usize {
        if self.congested {
            0
        } else {
            self.policy.high_water.saturating_sub(self.output.len())
        }
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

    /// Whether there is anything to do: the decision about every turn, made in one place.
    #[inline]
    pub fn wants_turn(&self) -> bool {
        self.ending.is_none()
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
            && match self.halves.inbound() {
                Inbound::Open => self.is_reading(),
                Inbound::Discarding => true,
                Inbound::Paused | Inbound::Eof => false,
            }
    }

    /// Whether it waits for bytes on behalf of its service: the time during which a read deadline counts.
    #[inline]
    fn is_reading(&self) -> bool {
        self.halves.inbound() == Inbound::Open
            && self.halves.outbound() != Outbound::Connecting
            && !self.congested
            && !self.drained
            && self.ending.is_none()
            && !self.deadlines.has_lapsed(Deadline::Read)
    }

    /// Whether something is queued that can be written now. A socket that connects becomes writable when it has.
    #[inline]
    pub fn wants_flush(&self) -> bool {
        self.readiness.writable()
            && !self.deadlines.has_lapsed(Deadline::Write)
            && (!self.output.is_empty() || self.is_connecting())
    }

    /// Whether it is still being dialed.
    #[inline]
    pub fn is_connecting(&self) -> bool {
        self.halves.outbound() == Outbound::Connecting
    }

    /// The dialed connection is established.
    pub fn established(&mut self, now: Time) {
        if self.is_connecting() {
            self.halves.connected();
            self.deadlines.set(Deadline::Dial, Time::NEVER);
        }
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
        if !timeout.is_zero() {
            self.deadlines.set(which, now + timeout);
        }
    }

    /// Reads once into `scratch`.
    #[inline]
    pub fn fill(&mut self, scratch: &mut [u8], now: Time, recorder: &mut Recorder) -> Fill {
        match socket::read(&mut self.stream, scratch, self.id, recorder) {
            Outcome::Done(0) => {
                let told = self.halves.inbound() == Inbound::Discarding;
                self.halves.eof();
                self.deadlines.set(Deadline::Read, Time::NEVER);
                if told { Fill::Nothing } else { Fill::Eof }
            }
            Outcome::Done(n) => {
                if n < scratch.len() {
                    self.readiness.short_read();
                }
                self.renew(Deadline::Read, now);
                self.renew(Deadline::Idle, now);
                if self.halves.inbound() == Inbound::Discarding {
                    Fill::Nothing
                } else {
                    Fill::Data(n)
                }
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
    #[inline]
    pub fn send(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) {
        if !matches!(
            self.halves.outbound(),
            Outbound::Open | Outbound::Connecting
        ) || self.ending.is_some()
        {
            recorder.ledger.stale_commands += 1;
            return;
        }
        let mut rest = bytes;
        // A write deadline that has passed beats a kernel that has room, as in Go.
        if self.output.is_empty()
            && self.readiness.writable()
            && self.deadlines.due(Deadline::Write) > now
        {
            rest = &bytes[self.write(bytes, now, recorder)..];
        }
        if !rest.is_empty() {
            self.queue(rest, now, recorder);
        }
    }

    /// Queues `bytes` that another connection has caused, for the end of the turn. One that does not read is ended:
    /// the others must not wait for it.
    pub fn send_from_other(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) {
        if self.halves.outbound() != Outbound::Open || self.ending.is_some() {
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

    fn queue(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) {
        if self.output.is_empty() {
            self.renew(Deadline::Write, now);
        }
        self.output.append(bytes);
        if self.output.len() >= self.policy.high_water && !self.congested {
            self.congested = true;
            recorder.ledger.pauses += 1;
        }
        if self.deadlines.due(Deadline::Write) <= now {
            self.deadlines.lapse(now);
        }
    }

    /// Writes queued bytes until none is left or the kernel takes no more.
    pub fn flush(&mut self, now: Time, recorder: &mut Recorder) {
        while !self.output.is_empty()
            && self.wants_flush()
            && !self.is_connecting()
            && self.ending.is_none()
        {
            let queued = std::mem::take(&mut self.output);
            let n = self.write(queued.as_slice(), now, recorder);
            self.output = queued;
            self.output.consume(n);
            if n > 0 {
                let more = !self.output.is_empty();
                self.progress(more, now);
            }
        }
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
        } else if !self.policy.write_timeout.is_zero() {
            self.deadlines.set(Deadline::Write, Time::NEVER);
        }
    }

    /// One write; returns how many bytes the kernel took.
    #[inline]
    fn write(&mut self, bytes: &[u8], now: Time, recorder: &mut Recorder) -> usize {
        match socket::write(&mut self.stream, bytes, self.id, recorder) {
            Outcome::Done(n) => {
                self.renew(Deadline::Idle, now);
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
    }

    /// Makes the transitions that follow from its state: FIN after the last byte, and the end after both FINs.
    #[inline]
    pub fn settle(&mut self, now: Time, recorder: &mut Recorder) {
        if self.ending.is_some() {
            return;
        }
        if self.finish_when_quiet && self.is_quiet() {
            self.finish();
        }
        if self.halves.outbound() == Outbound::Finishing && self.output.is_empty() {
            if let Outcome::Failed(errno) = socket::shutdown(&self.stream, self.id, recorder) {
                self.end(socket::close_reason(errno));
                return;
            }
            self.halves.fin_sent();
            self.deadlines
                .set(Deadline::Linger, now + self.policy.linger);
        }
        if self.halves.over() {
            self.end(CloseReason::Finished);
        }
    }

    /// Nothing to read, nothing to write: whatever had arrived has been served.
    fn is_quiet(&self) -> bool {
        !self.queued
            && !self.readiness.readable()
            && self.output.is_empty()
            && !self.is_connecting()
    }

    /// The next lapsed deadline that counts at present, if any: see [`Deadline`] for when each does.
    #[inline]
    pub fn lapsed_deadline(&self) -> Option<Deadline> {
        self.deadlines.news(|which| match which {
            Deadline::Read => {
                self.halves.inbound() == Inbound::Open && !self.is_connecting() && !self.congested
            }
            Deadline::Write => !self.output.is_empty(),
            Deadline::Idle | Deadline::Dial | Deadline::Linger => true,
        })
    }

    /// Whether its service still decides about it: it has not said its last word.
    pub fn is_served(&self) -> bool {
        self.ending.is_none() && self.halves.outbound() == Outbound::Open
    }

    /// Takes the error that an event has announced, if no call has met it yet.
    pub fn take_error(&mut self, recorder: &mut Recorder) {
        self.readiness.error_taken();
        if let Some(errno) = socket::take_error(&self.stream, self.id, recorder) {
            self.end(socket::close_reason(errno));
        }
    }

    /// The linger of a stopping reactor is shorter.
    pub fn hasten(&mut self, linger_due: Time) {
        if self.halves.outbound() == Outbound::FinSent
            && self.deadlines.due(Deadline::Linger) > linger_due
        {
            self.deadlines.set(Deadline::Linger, linger_due);
        }
    }
}
