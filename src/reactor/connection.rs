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
use crate::limits::{CATCH_UP, Policy, UNREAD};
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
    /// It was congested, which held its peer back: until then, the peer may have more to send than has arrived.
    catching_up: Time,
    /// There is a timeout that bytes renew.
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
            catching_up: Time::ZERO,
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
                || self.shall_finish()
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
        if self.finish_when_quiet && self.is_served() {
            self.expect_more(now);
        }
    }

    /// Bytes have come while the reactor stops: more may be on their way. One that was held back has until it is silent.
    /// Another has one moment: two that answer each other without end must not hold up the stop.
    #[cold]
    fn expect_more(&mut self, now: Time) {
        if self.catching_up > now {
            self.catching_up = now + CATCH_UP;
            self.deadlines.set(Deadline::Linger, self.catching_up);
        } else if self.deadlines.due(Deadline::Linger).is_never() {
            self.deadlines.set(Deadline::Linger, now + CATCH_UP);
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
            self.catching_up = now + CATCH_UP;
            if self.finish_when_quiet && self.is_served() {
                self.deadlines.set(Deadline::Linger, self.catching_up);
            }
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

    /// Finish as soon as it is quiet: when what has arrived is answered, and, if the peer was held back until now, what
    /// it could not send meanwhile.
    pub fn finish_when_quiet(&mut self, now: Time) {
        self.finish_when_quiet = true;
        self.timed = true;
        if self.halves == Halves::Open {
            self.readiness.suppose_readable();
        }
        if self.is_served() && self.catching_up > now {
            self.deadlines.set(Deadline::Linger, self.catching_up);
        }
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
        if self.shall_finish() {
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

    /// It is to finish when it is quiet, and it is: whatever had arrived has been served, and more need not be expected.
    fn shall_finish(&self) -> bool {
        self.finish_when_quiet && self.is_served() && self.is_quiet()
    }

    /// Nothing to read, nothing to write, nothing on its way.
    fn is_quiet(&self) -> bool {
        let may_be_read = match self.halves {
            Halves::Open => self.readiness.readable() && !self.deadlines.has_lapsed(Deadline::Read),
            Halves::Paused => self.readiness.readable(),
            _ => false,
        };
        !self.queued && !may_be_read && self.output.is_empty() && !self.is_catching_up()
    }

    /// The reactor is stopping, and more may be on its way.
    fn is_catching_up(&self) -> bool {
        !self.deadlines.due(Deadline::Linger).is_never() && !self.deadlines.has_lapsed(Deadline::Linger)
    }

    /// The next lapsed deadline that counts at present, if any: see [`Deadline`] for when each does.
    pub fn lapsed_deadline(&self) -> Option<Deadline> {
        self.deadlines.news(|which| match which {
            Deadline::Read => self.halves == Halves::Open && !self.congested,
            Deadline::Write => !self.output.is_empty(),
            Deadline::Linger => self.halves.outbound() == Outbound::FinSent,
            Deadline::Idle | Deadline::Dial => true,
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::super::socket::script::{Script, Step};
    use super::*;
    use crate::timer::Timeout;

    const ID: ConnId = ConnId::new(0, NonZeroU32::MIN);
    const MS: Duration = Duration::from_millis(1);

    const fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    const fn timeout(millis: u64) -> Timeout {
        Timeout::from_nanos(millis * 1_000_000)
    }

    /// High water is 8 bytes, low water 2; the linger timeout is 50 ms.
    fn policy() -> Policy {
        Policy { high_water: 8, low_water: 2, linger: 50 * MS, ..Policy::default() }
    }

    /// A connection that may be read and written, with the loop's memory and counters.
    struct Bench {
        connection: Connection<Script>,
        recorder: Recorder,
        scratch: [u8; 4],
        now: Time,
    }

    impl Bench {
        fn new(script: Script, policy: Policy) -> Self {
            let peer = ([127, 0, 0, 1], 9).into();
            let mut connection = Connection::accepted(script, ID, peer, ServiceId(0), policy.into(), Time::ZERO);
            assert!(!connection.wants_turn(), "nothing has arrived");
            connection.readiness = Readiness::of(true, true, false);
            Self { connection, recorder: Recorder::default(), scratch: [0; 4], now: Time::ZERO }
        }

        fn reads(steps: impl IntoIterator<Item = Step>) -> Self {
            Self::new(Script::reads(steps), policy())
        }

        fn writes(steps: impl IntoIterator<Item = Step>) -> Self {
            Self::new(Script::writes(steps), policy())
        }

        fn fill(&mut self) -> Fill {
            self.connection.fill(&mut self.scratch, self.now, &mut self.recorder)
        }

        fn send(&mut self, bytes: &[u8]) {
            self.connection.send(bytes, self.now, &mut self.recorder);
        }

        fn send_from_other(&mut self, bytes: &[u8]) {
            self.connection.send_from_other(bytes, self.now, &mut self.recorder);
        }

        fn flush(&mut self) {
            self.connection.flush(self.now, &mut self.recorder);
        }

        fn settle(&mut self) {
            self.connection.settle(self.now, &mut self.recorder);
        }

        /// What an event says that makes it writable.
        fn becomes_writable(&mut self) {
            self.connection.readiness = Readiness::of(self.connection.readiness.readable(), true, false);
        }

        fn becomes_readable(&mut self) {
            self.connection.readiness = Readiness::of(true, self.connection.readiness.writable(), false);
        }

        /// It is later, and the alarms have rung that are due.
        fn pass(&mut self, now: Time) {
            self.now = now;
            self.connection.deadlines.lapse(now);
        }

        fn queued(&self) -> &[u8] {
            self.connection.output.as_slice()
        }

        fn written(&self) -> &[u8] {
            &self.connection.stream.written
        }

        fn has_sent_fin(&self) -> bool {
            self.connection.stream.fin.get()
        }
    }

    #[test]
    fn a_fill_that_fills_the_scratch_memory_may_have_left_something() {
        let mut bench = Bench::reads([Step::Bytes(b"full"), Step::Bytes(b"not")]);
        assert_eq!(bench.fill(), Fill::Data(4));
        assert_eq!(&bench.scratch, b"full");
        assert!(bench.connection.wants_fill());
        assert_eq!(bench.fill(), Fill::Data(3));
        assert!(!bench.connection.wants_turn(), "a short read has emptied the socket");
    }

    #[test]
    fn a_short_read_after_the_last_event_is_followed_by_another_read() {
        let mut bench = Bench::reads([Step::Bytes(b"end"), Step::Eof]);
        bench.connection.readiness = Readiness::of(true, true, true);
        assert_eq!(bench.fill(), Fill::Data(3));
        assert!(bench.connection.wants_fill());
        assert_eq!(bench.fill(), Fill::Eof);
    }

    #[test]
    fn a_blocked_fill_waits_for_an_event_and_an_interrupted_one_does_not() {
        let mut bench = Bench::reads([Step::Interrupted, Step::Bytes(b"full"), Step::Interrupted, Step::Blocked]);
        assert_eq!(bench.fill(), Fill::Data(4));
        assert_eq!(bench.fill(), Fill::Nothing);
        assert_eq!(bench.recorder.ledger.interrupted, 2);
        assert!(!bench.connection.wants_turn());
        bench.becomes_readable();
        assert!(bench.connection.wants_fill());
    }

    #[test]
    fn the_end_of_file_is_told_once_and_leaves_the_other_half_open() {
        let mut bench = Bench::reads([Step::Eof]);
        bench.connection.deadlines.set(Deadline::Read, at(10));
        assert_eq!(bench.fill(), Fill::Eof);
        assert_eq!(bench.connection.halves(), Halves::HalfClosed);
        assert!(!bench.connection.wants_fill(), "readable for ever, but there is nothing to read");
        assert!(bench.connection.deadlines.due(Deadline::Read).is_never());
        bench.send(b"answer");
        assert_eq!(bench.written(), b"answer");
        bench.connection.finish();
        bench.settle();
        assert!(bench.has_sent_fin());
        assert_eq!(bench.connection.ending(), Some(CloseReason::Finished));
    }

    #[test]
    fn a_reset_ends_it_for_both_directions() {
        let mut bench = Bench::reads([Step::Reset]);
        assert_eq!(bench.fill(), Fill::Nothing);
        assert_eq!(bench.connection.ending(), Some(CloseReason::Reset));
        let mut bench = Bench::writes([Step::Reset]);
        bench.send(b"anybody?");
        assert_eq!(bench.connection.ending(), Some(CloseReason::Reset));
        assert!(!bench.connection.wants_turn());
    }

    #[test]
    fn what_the_kernel_takes_whole_is_not_kept() {
        let mut bench = Bench::writes([Step::Interrupted, Step::Short(99)]);
        bench.send(b"hello");
        assert_eq!(bench.written(), b"hello");
        assert_eq!(bench.connection.output.capacity(), 0);
        assert_eq!(bench.recorder.ledger.short_writes, 0);
    }

    #[test]
    fn a_short_write_leaves_the_rest_and_later_bytes_stand_behind_it() {
        let mut bench = Bench::writes([Step::Short(2), Step::Blocked]);
        bench.send(b"hello");
        assert_eq!(bench.queued(), b"llo");
        bench.send(b"!");
        assert_eq!((bench.written(), bench.queued()), (&b"he"[..], &b"llo!"[..]));
        bench.flush();
        assert!(!bench.connection.wants_flush(), "it would block");
        bench.becomes_writable();
        assert!(bench.connection.wants_flush());
        bench.flush();
        assert_eq!(bench.written(), b"hello!");
        assert!(!bench.connection.wants_flush());
    }

    #[test]
    fn a_blocked_write_leaves_everything_and_is_not_tried_again() {
        let mut bench = Bench::writes([Step::Blocked]);
        bench.send(b"one");
        bench.send(b"two");
        assert_eq!(bench.queued(), b"onetwo");
        assert_eq!(bench.recorder.ledger.write_blocked, 1);
        assert_eq!(bench.connection.queued_bytes(), (6, 0));
    }

    #[test]
    fn a_flush_goes_on_to_the_end_in_as_many_writes_as_it_takes() {
        let mut bench = Bench::writes([Step::Blocked, Step::Short(1), Step::Interrupted, Step::Short(2)]);
        bench.send(b"hello!");
        bench.becomes_writable();
        bench.flush();
        assert_eq!(bench.written(), b"hello!");
        assert_eq!((bench.recorder.ledger.writes, bench.connection.output.capacity()), (3, 0));
    }

    #[test]
    fn congestion_stops_the_fills_until_the_low_water_mark() {
        let mut bench = Bench::writes([Step::Blocked, Step::Short(5), Step::Blocked, Step::Short(1), Step::Blocked]);
        bench.send(b"1234567");
        assert_eq!(bench.connection.facts().room, 1);
        assert!(bench.connection.wants_fill(), "one byte below the mark");
        bench.send(b"8");
        assert_eq!((bench.connection.facts().room, bench.recorder.ledger.pauses), (0, 1));
        assert!(!bench.connection.wants_turn(), "nothing to do until it is writable, though it is readable");
        bench.becomes_writable();
        bench.flush();
        assert_eq!(bench.queued(), b"678");
        assert!(!bench.connection.wants_fill() && !bench.connection.take_drained(), "above the low-water mark");
        bench.becomes_writable();
        bench.flush();
        assert_eq!((bench.queued(), bench.recorder.ledger.resumes), (&b"78"[..], 1));
        assert!(!bench.connection.wants_fill() && bench.connection.wants_turn(), "the news come first");
        assert!(bench.connection.take_drained() && !bench.connection.take_drained(), "news are told once");
        assert!(bench.connection.wants_fill());
    }

    #[test]
    fn fin_follows_the_last_byte_once() {
        let mut bench = Bench::writes([Step::Blocked]);
        bench.send(b"last");
        bench.connection.finish();
        bench.settle();
        assert!(!bench.has_sent_fin(), "something is queued");
        assert_eq!(bench.connection.halves(), Halves::Flushing);
        bench.becomes_writable();
        bench.flush();
        assert_eq!(bench.written(), b"last");
        bench.settle();
        assert!(bench.has_sent_fin());
        assert_eq!(bench.connection.halves(), Halves::Lingering);
        assert_eq!(bench.connection.deadlines.due(Deadline::Linger), at(50));
        bench.connection.stream.fin.set(false);
        bench.connection.finish();
        bench.settle();
        assert!(!bench.has_sent_fin(), "a second FIN");
        assert_eq!(bench.connection.ending(), None);
    }

    #[test]
    fn after_finish_input_is_thrown_away_and_output_is_stale() {
        let mut bench = Bench::reads([Step::Bytes(b"more"), Step::Bytes(b"more"), Step::Eof]);
        bench.connection.finish();
        bench.settle();
        assert!(bench.connection.wants_fill() && !bench.connection.is_heeded());
        assert_eq!(bench.fill(), Fill::Data(4));
        bench.send(b"too late");
        bench.send_from_other(b"too late");
        assert_eq!((bench.written(), bench.queued()), (&b""[..], &b""[..]));
        assert_eq!(bench.recorder.ledger.stale_commands, 2);
        assert_eq!(bench.fill(), Fill::Data(4));
        assert_eq!(bench.fill(), Fill::Nothing, "the service has said its last word");
        bench.settle();
        assert_eq!(bench.connection.ending(), Some(CloseReason::Finished));
    }

    #[test]
    fn a_linger_that_is_over_wants_a_turn() {
        let mut bench = Bench::reads([Step::Blocked]);
        bench.connection.finish();
        bench.settle();
        assert_eq!(bench.fill(), Fill::Nothing);
        bench.connection.hasten(at(20));
        bench.connection.hasten(at(30));
        bench.pass(at(19));
        assert!(!bench.connection.wants_turn());
        bench.pass(at(20));
        assert!(bench.connection.wants_turn());
        assert_eq!(bench.connection.lapsed_deadline(), Some(Deadline::Linger));
    }

    #[test]
    fn a_write_deadline_that_has_passed_beats_a_writable_kernel() {
        let mut bench = Bench::writes([]);
        bench.connection.deadlines.set(Deadline::Write, at(5));
        bench.now = at(5);
        assert_eq!(bench.connection.lapsed_deadline(), None, "nothing is queued");
        bench.send(b"late");
        assert_eq!((bench.written(), bench.queued()), (&b""[..], &b"late"[..]));
        assert_eq!(bench.connection.lapsed_deadline(), Some(Deadline::Write));
        assert!(!bench.connection.wants_flush());
        bench.flush();
        assert_eq!(bench.written(), b"");
        bench.connection.deadlines.set(Deadline::Write, Time::NEVER);
        assert!(bench.connection.wants_flush());
        bench.flush();
        assert_eq!(bench.written(), b"late");
    }

    #[test]
    fn a_write_timeout_runs_while_something_is_queued_and_anew_with_progress() {
        let policy = Policy { write_timeout: timeout(10), ..policy() };
        let mut bench = Bench::new(Script::writes([Step::Blocked, Step::Short(1), Step::Blocked]), policy);
        assert!(bench.connection.deadlines.due(Deadline::Write).is_never());
        bench.now = at(3);
        bench.send(b"queued");
        assert_eq!(bench.connection.deadlines.due(Deadline::Write), at(13));
        bench.now = at(8);
        bench.becomes_writable();
        bench.flush();
        assert_eq!(bench.connection.deadlines.due(Deadline::Write), at(18));
        bench.now = at(9);
        bench.becomes_writable();
        bench.flush();
        assert_eq!(bench.written(), b"queued");
        assert!(bench.connection.deadlines.due(Deadline::Write).is_never());
    }

    #[test]
    fn a_read_deadline_that_has_passed_beats_bytes_until_it_is_set_anew() {
        let mut bench = Bench::reads([Step::Bytes(b"late")]);
        bench.connection.deadlines.set(Deadline::Read, at(5));
        bench.pass(at(4));
        assert!(bench.connection.wants_fill());
        bench.pass(at(5));
        assert!(!bench.connection.wants_fill());
        assert_eq!(bench.connection.lapsed_deadline(), Some(Deadline::Read));
        bench.connection.deadlines.report(Deadline::Read);
        assert!(!bench.connection.wants_turn(), "it has been told, and waits");
        bench.connection.deadlines.set(Deadline::Read, at(100));
        assert!(bench.connection.wants_fill());
        assert_eq!(bench.fill(), Fill::Data(4));
    }

    #[test]
    fn a_read_deadline_set_to_the_past_and_cleared_leaves_no_trace() {
        let mut bench = Bench::reads([Step::Bytes(b"data")]);
        bench.connection.deadlines.set(Deadline::Read, at(1));
        bench.pass(at(5));
        bench.connection.deadlines.set(Deadline::Read, Time::NEVER);
        assert_eq!(bench.connection.lapsed_deadline(), None);
        assert!(bench.connection.wants_fill());
        assert_eq!(bench.fill(), Fill::Data(4));
    }

    #[test]
    fn a_read_deadline_does_not_count_while_nobody_reads() {
        let mut bench = Bench::writes([Step::Blocked]);
        bench.connection.deadlines.set(Deadline::Read, at(5));
        bench.send(b"12345678");
        bench.pass(at(6));
        assert_eq!(bench.connection.lapsed_deadline(), None, "it is congested");
        assert!(!bench.connection.wants_turn());
    }

    #[test]
    fn bytes_of_both_directions_renew_the_idle_timeout() {
        let policy = Policy { idle_timeout: timeout(10), read_timeout: timeout(20), ..policy() };
        let mut bench = Bench::new(Script::reads([Step::Bytes(b"in"), Step::Blocked]), policy);
        let due = |bench: &Bench| {
            (bench.connection.deadlines.due(Deadline::Idle), bench.connection.deadlines.due(Deadline::Read))
        };
        assert_eq!(due(&bench), (at(10), at(20)));
        bench.now = at(3);
        assert_eq!(bench.fill(), Fill::Data(2));
        assert_eq!(due(&bench), (at(13), at(23)));
        bench.now = at(4);
        bench.send(b"out");
        assert_eq!(due(&bench), (at(14), at(23)), "output says nothing about the peer");
        bench.now = at(5);
        assert_eq!(bench.fill(), Fill::Nothing);
        bench.connection.stream.writes.push_back(Step::Blocked);
        bench.send(b"out");
        assert_eq!(due(&bench), (at(14), at(23)), "no byte has passed");
    }

    #[test]
    fn bytes_of_others_wait_for_the_end_of_the_turn_within_a_bound() {
        let mut bench = Bench::writes([Step::Short(4), Step::Blocked]);
        bench.send_from_other(b"1234");
        bench.send_from_other(b"");
        bench.send_from_other(b"5678");
        assert_eq!((bench.written(), bench.queued()), (&b""[..], &b"12345678"[..]));
        bench.send_from_other(b"9012");
        assert_eq!(bench.queued(), b"56789012", "a flush has made room");
        bench.send_from_other(b"x");
        assert_eq!(bench.connection.ending(), Some(CloseReason::Overflow));
        assert_eq!(bench.written(), b"1234");
    }

    #[test]
    fn one_that_has_ended_does_nothing_and_keeps_its_first_reason() {
        let mut bench = Bench::reads([Step::Bytes(b"more")]);
        bench.connection.end(CloseReason::Aborted);
        bench.connection.end(CloseReason::Overflow);
        bench.send(b"late");
        bench.send_from_other(b"late");
        bench.connection.finish();
        bench.connection.finish_when_quiet(bench.now);
        bench.connection.resume(bench.now);
        let mut unread = Buffer::new();
        unread.append(b"left");
        bench.connection.keep_unread(unread);
        bench.connection.deadlines.set(Deadline::Idle, at(0));
        bench.pass(at(1));
        bench.flush();
        bench.settle();
        assert!(!bench.connection.wants_turn() && !bench.connection.wants_fill() && !bench.connection.wants_flush());
        assert!(!bench.has_sent_fin() && bench.written().is_empty() && !bench.connection.has_unread());
        assert_eq!(bench.connection.ending(), Some(CloseReason::Aborted));
    }

    #[test]
    fn a_pause_stops_the_fills_and_resume_offers_what_was_left() {
        let mut bench = Bench::reads([Step::Bytes(b"data")]);
        bench.connection.pause();
        assert!(!bench.connection.wants_turn());
        let mut unread = Buffer::new();
        unread.append(b"left");
        bench.connection.keep_unread(unread);
        bench.connection.resume(bench.now);
        assert!(!bench.connection.wants_fill(), "what was left comes first");
        assert!(bench.connection.take_drained());
        assert_eq!(bench.connection.take_unread().as_slice(), b"left");
        assert!(bench.connection.wants_fill());
    }

    #[test]
    fn more_unread_than_allowed_ends_it() {
        let mut bench = Bench::reads([]);
        let mut unread = Buffer::new();
        unread.append(&vec![0; UNREAD + 1]);
        bench.connection.keep_unread(unread);
        assert_eq!(bench.connection.ending(), Some(CloseReason::Unread));
    }

    #[test]
    fn one_that_shall_finish_when_quiet_is_read_once_more() {
        let mut bench = Bench::reads([Step::Bytes(b"full"), Step::Blocked]);
        // The event of these bytes has not been noted.
        bench.connection.readiness = Readiness::of(false, true, false);
        bench.connection.finish_when_quiet(bench.now);
        bench.settle();
        assert!(!bench.has_sent_fin() && bench.connection.wants_fill());
        assert_eq!(bench.fill(), Fill::Data(4));
        bench.settle();
        assert!(!bench.has_sent_fin());
        assert_eq!(bench.fill(), Fill::Nothing);
        bench.settle();
        assert!(!bench.has_sent_fin(), "where that came from there may be more");
        bench.pass(bench.now + CATCH_UP);
        bench.settle();
        assert!(bench.has_sent_fin());
    }

    #[test]
    fn one_that_never_falls_silent_has_but_a_moment() {
        let script = Script::reads([Step::Bytes(b"one"), Step::Bytes(b"two"), Step::Bytes(b"end")]);
        let mut bench = Bench::new(script, policy());
        bench.connection.finish_when_quiet(bench.now);
        assert_eq!(bench.fill(), Fill::Data(3));
        bench.now = at(200);
        bench.becomes_readable();
        assert_eq!(bench.fill(), Fill::Data(3));
        bench.settle();
        assert!(!bench.has_sent_fin());
        bench.pass(Time::ZERO + CATCH_UP);
        assert!(bench.connection.wants_turn());
        bench.settle();
        assert!(bench.has_sent_fin());
        let due = bench.connection.deadlines.due(Deadline::Linger);
        bench.becomes_readable();
        assert_eq!(bench.fill(), Fill::Data(3));
        assert_eq!(bench.connection.deadlines.due(Deadline::Linger), due, "bytes that nobody heeds extend nothing");
    }

    #[test]
    fn quiet_does_not_depend_on_input_that_nobody_will_read() {
        let mut half_closed = Bench::reads([Step::Eof]);
        assert_eq!(half_closed.fill(), Fill::Eof);
        half_closed.connection.finish_when_quiet(half_closed.now);
        half_closed.settle();
        assert_eq!(half_closed.connection.ending(), Some(CloseReason::Finished));

        let mut paused = Bench::reads([]);
        paused.connection.readiness = Readiness::of(false, true, false);
        paused.connection.pause();
        paused.connection.finish_when_quiet(paused.now);
        paused.settle();
        assert!(paused.has_sent_fin());

        let mut lapsed = Bench::reads([]);
        lapsed.connection.deadlines.set(Deadline::Read, at(1));
        lapsed.pass(at(2));
        lapsed.connection.finish_when_quiet(lapsed.now);
        lapsed.settle();
        assert!(lapsed.has_sent_fin());
    }

    #[test]
    fn one_that_was_held_back_is_not_quiet_until_it_has_had_time_to_catch_up() {
        let script = Script {
            reads: [Step::Blocked, Step::Bytes(b"rest"), Step::Blocked].into(),
            writes: [Step::Blocked].into(),
            ..Script::default()
        };
        let mut bench = Bench::new(script, policy());
        bench.send(b"12345678");
        bench.connection.finish_when_quiet(bench.now);
        bench.now = at(1_000);
        bench.becomes_writable();
        bench.flush();
        assert!(bench.connection.take_drained());
        assert_eq!(bench.fill(), Fill::Nothing);
        bench.settle();
        assert!(!bench.has_sent_fin() && !bench.connection.wants_turn(), "its peer may not have heard of it");
        assert_eq!(bench.connection.deadlines.earliest(), bench.now + CATCH_UP);

        bench.now = at(1_100);
        bench.becomes_readable();
        assert_eq!(bench.fill(), Fill::Data(4));
        assert_eq!(bench.fill(), Fill::Nothing);
        bench.settle();
        assert_eq!(bench.connection.deadlines.earliest(), bench.now + CATCH_UP, "where that came from there is more");

        bench.pass(bench.now + CATCH_UP);
        assert!(bench.connection.wants_turn());
        assert_eq!(bench.connection.lapsed_deadline(), None, "that is no deadline of the service's");
        bench.settle();
        assert!(bench.has_sent_fin());
        assert_eq!(bench.connection.deadlines.due(Deadline::Linger), bench.now + 50 * MS);
    }

    #[test]
    fn one_that_was_held_back_a_moment_before_the_stop_may_catch_up_too() {
        let mut bench = Bench::writes([Step::Blocked]);
        bench.send(b"12345678");
        bench.becomes_writable();
        bench.flush();
        assert!(bench.connection.take_drained());
        bench.now = at(1);
        bench.connection.finish_when_quiet(bench.now);
        assert_eq!(bench.fill(), Fill::Nothing);
        bench.settle();
        assert!(!bench.has_sent_fin());
        bench.pass(Time::ZERO + CATCH_UP);
        bench.settle();
        assert!(bench.has_sent_fin());
    }
}
