//! Tests of the connection on scripted streams.

use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::limits::{CATCH_UP, UNREAD, WhileDraining};
use crate::reactor::observe::recorder::Recorder;
use crate::reactor::sys::stream::script::{Script, Step};
use crate::service::{CloseReason, Errno};
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
    Policy { high_water: 8, low_water: 2, overflow: 8, linger: 50 * MS, ..Policy::default() }
}

/// A readable and writable connection, with the memory and counters of a loop.
struct Bench {
    connection: Connection<Script>,
    recorder: Recorder,
    scratch: [u8; 4],
    now: Time,
}

impl Bench {
    fn new(script: Script, policy: Policy) -> Self {
        let mut connection = Connection::accepted(script, ID, ServiceId::new(0, 0), policy.into(), Time::ZERO);
        assert!(!connection.wants_turn(), "no event was noted yet");
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

    fn queue_broadcast(&mut self, bytes: &[u8]) {
        self.connection.queue_broadcast(bytes, self.now, &mut self.recorder);
    }

    fn flush(&mut self) {
        self.connection.flush(self.now, &mut self.recorder);
    }

    fn advance(&mut self) {
        self.connection.advance(self.now, &mut self.recorder);
    }

    /// An event makes the socket writable.
    fn becomes_writable(&mut self) {
        self.connection.readiness = Readiness::of(self.connection.readiness.readable(), true, false);
    }

    fn becomes_readable(&mut self) {
        self.connection.readiness = Readiness::of(true, self.connection.readiness.writable(), false);
    }

    /// Moves the clock to `now` and fires the alarms that are due.
    fn pass(&mut self, now: Time) {
        self.now = now;
        self.connection.deadlines.mark_expired(now);
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
fn a_full_read_may_have_left_bytes_in_the_socket() {
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
fn the_end_of_file_comes_once_and_leaves_the_other_half_open() {
    let mut bench = Bench::reads([Step::Eof]);
    bench.connection.deadlines.set(DeadlineKind::Read, at(10));
    assert_eq!(bench.fill(), Fill::Eof);
    assert_eq!(bench.connection.halves(), Halves::HalfClosed);
    assert!(!bench.connection.wants_fill(), "the socket stays readable, but no input comes after FIN");
    assert!(bench.connection.deadlines.due(DeadlineKind::Read).is_never());
    bench.send(b"answer");
    assert_eq!(bench.written(), b"answer");
    bench.connection.finish(&mut bench.recorder);
    bench.advance();
    assert!(bench.has_sent_fin());
    assert_eq!(bench.connection.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn a_reset_ends_both_directions() {
    let mut bench = Bench::reads([Step::Reset]);
    assert_eq!(bench.fill(), Fill::Nothing);
    assert_eq!(bench.connection.close_reason(), Some(CloseReason::Reset));
    let mut script = Script::writes([Step::Reset]);
    script.reads = Script::reads([Step::Eof]).reads;
    let mut bench = Bench::new(script, policy());
    assert_eq!(bench.fill(), Fill::Eof);
    bench.send(b"output");
    assert_eq!(bench.connection.close_reason(), Some(CloseReason::Reset));
    assert!(!bench.connection.wants_turn());
}

#[test]
fn paused_input_before_an_error_is_delivered_after_the_pause() {
    // Either a write meets the reset, or an event announces it.
    for write in [true, false] {
        let mut script = Script::writes([Step::Reset]);
        script.reads = Script::reads([Step::Bytes(b"last"), Step::Bytes(b"in"), Step::Reset]).reads;
        let mut bench = Bench::new(script, policy());
        bench.connection.pause(&mut bench.recorder);
        if write {
            bench.connection.await_drain();
            bench.connection.take_drained();
            bench.send(b"output");
            bench.connection.await_drain();
        } else {
            bench.connection.readiness.assume_error();
        }
        assert_eq!(bench.connection.close_reason(), None);
        assert!(!bench.connection.wants_turn(), "the error waits, without a spin");
        bench.connection.resume(bench.now, &mut bench.recorder);
        assert!(bench.connection.wants_turn() && bench.connection.drain_before_error());
        assert_eq!([bench.fill(), bench.fill()], [Fill::Data(4), Fill::Data(2)]);
        assert_eq!(bench.fill(), Fill::Nothing);
        assert_eq!(bench.connection.close_reason(), Some(CloseReason::Reset));
    }
}

#[test]
fn input_before_a_write_error_is_delivered() {
    for end in [Step::Eof, Step::Reset, Step::Blocked] {
        let mut script = Script::writes([Step::Short(2), Step::Reset]);
        script.reads = Script::reads([Step::Bytes(b"no"), end]).reads;
        let mut bench = Bench::new(script, policy());
        bench.send(b"more than the kernel takes");
        bench.flush();
        assert_eq!((bench.connection.close_reason(), bench.queued().len()), (None, 0));
        bench.send(b"after the error");
        assert!(bench.queued().is_empty() && bench.connection.drain_before_error());
        assert_eq!(bench.fill(), Fill::Data(2));
        assert!(bench.connection.drain_before_error());
        assert_eq!(bench.fill(), Fill::Nothing);
        if bench.connection.close_reason().is_none() {
            assert!(!bench.connection.drain_before_error());
            bench.connection.take_error(bench.now, &mut bench.recorder);
        }
        assert_eq!(bench.connection.close_reason(), Some(CloseReason::Reset));
    }
}

/// Congests the connection while its service leaves `left` for want of capacity.
fn congest_with_unread(bench: &mut Bench, left: &[u8]) {
    bench.send(b"above the mark");
    let mut unread = Buffer::new();
    unread.append(left);
    bench.connection.keep_unread(unread, true, &mut bench.recorder);
    assert!(bench.connection.flow.is_draining() && !bench.connection.wants_offer());
}

/// Takes the offers of a service that consumes two bytes of each, because two answers fill its capacity.
fn take_offers(bench: &mut Bench) -> Vec<u8> {
    let mut taken = Vec::new();
    while bench.connection.wants_offer() {
        assert!(!bench.connection.wants_fill() && !bench.connection.owes_error(), "unread input comes first");
        assert_eq!(bench.connection.room(), 8, "lost output takes no capacity");
        let mut unread = bench.connection.take_unread();
        let n = unread.len().min(2);
        taken.extend_from_slice(&unread.as_slice()[..n]);
        unread.consume(n);
        bench.connection.keep_unread(unread, true, &mut bench.recorder);
    }
    taken
}

#[test]
fn unread_input_is_offered_before_the_error_that_a_write_meets() {
    let mut script = Script::writes([Step::Blocked, Step::Reset]);
    script.reads = Script::reads([Step::Bytes(b"more"), Step::Eof]).reads;
    let mut bench = Bench::new(script, Policy { read_timeout: timeout(10), ..policy() });
    congest_with_unread(&mut bench, b"unread");
    bench.pass(at(10));
    bench.becomes_writable();
    bench.flush();
    assert_eq!(bench.connection.expired_deadline(), None, "the read deadline did not count during the congestion");
    assert_eq!(take_offers(&mut bench), b"unread");
    assert!(bench.connection.drain_before_error());
    assert_eq!(bench.fill(), Fill::Data(4));
    assert_eq!((bench.fill(), bench.connection.close_reason()), (Fill::Nothing, Some(CloseReason::Reset)));
}

#[test]
fn unread_input_is_offered_before_an_error_that_is_announced_after_the_write_deadline() {
    let mut bench = Bench::writes([Step::Blocked]);
    bench.connection.stream.error = Some(Errno(libc::ETIMEDOUT)).into();
    bench.connection.stream.reads = Script::reads([Step::Bytes(b"more"), Step::Eof]).reads;
    congest_with_unread(&mut bench, b"unread");
    bench.connection.deadlines.set(DeadlineKind::Write, at(5));
    bench.pass(at(5));
    bench.connection.deadlines.mark_delivered(DeadlineKind::Write);
    assert!(!bench.connection.wants_turn(), "nothing may be written after the deadline");
    bench.becomes_writable();
    bench.connection.readiness.assume_error();
    assert!(bench.connection.wants_turn() && bench.connection.owes_error());
    bench.connection.take_error(bench.now, &mut bench.recorder);
    assert_eq!(take_offers(&mut bench), b"unread");
    assert_eq!(bench.fill(), Fill::Data(4));
    assert_eq!(bench.fill(), Fill::Nothing);
    assert_eq!(bench.connection.close_reason(), Some(CloseReason::Failed(Errno(libc::ETIMEDOUT))));
}

#[test]
fn unread_input_is_offered_before_the_error_that_a_read_during_congestion_meets() {
    let script = Script { reads: [Step::Reset, Step::Eof].into(), writes: [Step::Blocked].into(), ..Script::default() };
    let mut bench = Bench::new(script, Policy { while_draining: WhileDraining::Listen, ..policy() });
    congest_with_unread(&mut bench, b"unread");
    assert_eq!(bench.fill(), Fill::Nothing);
    assert_eq!(take_offers(&mut bench), b"unread");
    assert_eq!((bench.fill(), bench.connection.close_reason()), (Fill::Nothing, Some(CloseReason::Reset)));
}

#[test]
fn input_after_a_half_close_is_delivered_before_an_error() {
    // Either a write meets the error, or the FIN after the last byte.
    for write in [true, false] {
        let mut bench = Bench::writes([Step::Blocked, Step::Reset]);
        bench.connection.stream.reads = Script::reads([Step::Bytes(b"last"), Step::Bytes(b"in"), Step::Eof]).reads;
        if write {
            bench.send(b"output");
            bench.becomes_writable();
        } else {
            bench.connection.stream.error = Some(Errno(libc::ECONNRESET)).into();
        }
        bench.connection.half_close(&mut bench.recorder);
        bench.flush();
        bench.advance();
        assert!(!bench.has_sent_fin(), "the queued output is lost, and its end must not look complete");
        assert_eq!(bench.connection.close_reason(), None);
        assert_eq!(bench.connection.halves(), Halves::Concluding);
        assert_eq!([bench.fill(), bench.fill()], [Fill::Data(4), Fill::Data(2)]);
        bench.connection.pause(&mut bench.recorder);
        bench.advance();
        assert!(!bench.connection.wants_turn(), "the error waits for the end of the pause");
        bench.connection.resume(bench.now, &mut bench.recorder);
        assert_eq!((bench.fill(), bench.connection.close_reason()), (Fill::Nothing, Some(CloseReason::Reset)));
    }
}

#[test]
fn a_finish_after_a_write_error_ends_the_connection_with_that_error() {
    let mut bench = Bench::writes([Step::Reset]);
    bench.send(b"output");
    bench.connection.finish(&mut bench.recorder);
    bench.advance();
    assert!(!bench.has_sent_fin());
    assert_eq!(bench.connection.close_reason(), Some(CloseReason::Reset));
}

#[test]
fn output_that_the_kernel_takes_whole_is_not_kept() {
    let mut bench = Bench::writes([Step::Interrupted, Step::Short(99)]);
    bench.send(b"hello");
    assert_eq!(bench.written(), b"hello");
    assert_eq!(bench.connection.output.capacity(), 0);
    assert_eq!(bench.recorder.ledger.short_writes, 0);
}

#[test]
fn a_short_write_queues_the_rest_and_later_bytes_follow() {
    let mut bench = Bench::writes([Step::Short(2), Step::Blocked]);
    bench.send(b"hello");
    assert_eq!(bench.queued(), b"llo");
    bench.send(b"!");
    assert_eq!((bench.written(), bench.queued()), (&b"he"[..], &b"llo!"[..]));
    bench.flush();
    assert!(!bench.connection.wants_flush(), "a write would block");
    bench.becomes_writable();
    assert!(bench.connection.wants_flush());
    bench.flush();
    assert_eq!(bench.written(), b"hello!");
    assert!(!bench.connection.wants_flush());
}

#[test]
fn a_blocked_write_queues_all_bytes_and_is_not_repeated() {
    let mut bench = Bench::writes([Step::Blocked]);
    bench.send(b"one");
    bench.send(b"two");
    assert_eq!(bench.queued(), b"onetwo");
    assert_eq!(bench.recorder.ledger.write_blocked, 1);
    assert_eq!(bench.connection.status().queued, 6);
}

#[test]
fn a_flush_writes_until_the_queue_is_empty() {
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
    assert_eq!((bench.connection.room(), bench.connection.output.len()), (1, 7));
    assert!(bench.connection.wants_fill(), "one byte below the mark");
    bench.send(b"8");
    assert_eq!((bench.connection.room(), bench.recorder.ledger.pauses), (0, 1));
    assert!(!bench.connection.wants_turn(), "readable, but without a turn until the socket is writable");
    bench.becomes_writable();
    bench.flush();
    assert_eq!(bench.queued(), b"678");
    assert!(!bench.connection.wants_fill() && !bench.connection.take_drained(), "above the low-water mark");
    bench.becomes_writable();
    bench.flush();
    assert_eq!((bench.queued(), bench.recorder.ledger.resumes), (&b"78"[..], 1));
    assert_eq!((bench.connection.room(), bench.connection.output.len()), (6, 2));
    assert!(!bench.connection.wants_fill() && bench.connection.wants_turn(), "on_drain comes first");
    assert!(bench.connection.take_drained() && !bench.connection.take_drained(), "on_drain comes once");
    assert!(bench.connection.wants_fill());
}

#[test]
fn a_restored_timeout_is_that_of_the_policy() {
    let policy = Policy { read_timeout: timeout(10), ..policy() };
    let mut bench = Bench::new(Script::default(), policy);
    bench.connection.set_deadline(Deadline::Read, at(5), bench.now);
    bench.pass(at(7));
    bench.connection.restore_timeout(Deadline::Read, bench.now);
    assert_eq!(bench.connection.deadlines.due(DeadlineKind::Read), at(17));
    assert!(!bench.connection.deadlines.is_expired(DeadlineKind::Read));
    bench.connection.set_deadline(Deadline::Idle, at(8), bench.now);
    bench.connection.restore_timeout(Deadline::Idle, bench.now);
    assert!(bench.connection.deadlines.due(DeadlineKind::Idle).is_never());
}

#[test]
fn bytes_renew_a_timeout_and_no_deadline() {
    let policy = Policy { read_timeout: timeout(10), idle_timeout: timeout(90), ..policy() };
    let steps = [Step::Bytes(b"a"), Step::Bytes(b"b"), Step::Bytes(b"c"), Step::Bytes(b"d")];
    let mut bench = Bench::new(Script::reads(steps), policy);
    let due = |bench: &Bench| bench.connection.deadlines.due(DeadlineKind::Read);
    bench.connection.set_deadline(Deadline::Read, at(50), bench.now);
    bench.now = at(1);
    bench.fill();
    assert_eq!(due(&bench), at(50), "the timeout of the policy does not replace a deadline");
    bench.connection.set_timeout(Deadline::Read, timeout(20), bench.now);
    assert_eq!(due(&bench), at(21));
    bench.now = at(2);
    bench.fill();
    assert_eq!(due(&bench), at(22));
    bench.connection.set_timeout(Deadline::Read, Timeout::OFF, bench.now);
    bench.now = at(3);
    bench.fill();
    assert!(due(&bench).is_never());
    bench.connection.set_timeout(Deadline::Read, timeout(20), bench.now);
    bench.connection.set_deadline(Deadline::Read, Time::NEVER, bench.now);
    bench.now = at(4);
    bench.fill();
    assert!(due(&bench).is_never(), "a deadline that is off stays off");
    assert_eq!(bench.connection.deadlines.due(DeadlineKind::Idle), at(94), "the kinds are independent");
}

#[test]
fn a_write_timeout_counts_from_the_first_queued_byte() {
    let mut bench = Bench::writes([Step::Blocked, Step::Short(1)]);
    let due = |bench: &Bench| bench.connection.deadlines.due(DeadlineKind::Write);
    bench.connection.set_timeout(Deadline::Write, timeout(20), bench.now);
    assert!(due(&bench).is_never());
    bench.now = at(3);
    bench.send(b"two");
    assert_eq!(due(&bench), at(23));
    bench.connection.set_timeout(Deadline::Write, timeout(30), bench.now);
    assert_eq!(due(&bench), at(33), "output waits already");
}

#[test]
fn fin_follows_the_last_byte_once() {
    let mut bench = Bench::writes([Step::Blocked]);
    bench.send(b"last");
    bench.connection.finish(&mut bench.recorder);
    bench.advance();
    assert!(!bench.has_sent_fin(), "bytes are queued");
    assert_eq!(bench.connection.halves(), Halves::Flushing);
    bench.becomes_writable();
    bench.flush();
    assert_eq!(bench.written(), b"last");
    bench.advance();
    assert!(bench.has_sent_fin());
    assert_eq!(bench.connection.halves(), Halves::Lingering);
    assert_eq!(bench.connection.deadlines.due(DeadlineKind::Linger), at(50));
    bench.connection.stream.fin.set(false);
    bench.connection.finish(&mut bench.recorder);
    bench.advance();
    assert!(!bench.has_sent_fin(), "a second FIN");
    assert_eq!(bench.connection.close_reason(), None);
}

#[test]
fn finish_discards_input_and_makes_output_stale() {
    let mut bench = Bench::reads([Step::Bytes(b"more"), Step::Bytes(b"more"), Step::Eof]);
    bench.connection.finish(&mut bench.recorder);
    bench.advance();
    assert!(bench.connection.wants_fill() && !bench.connection.halves().service_decides());
    assert_eq!(bench.fill(), Fill::Data(4));
    bench.send(b"too late");
    bench.queue_broadcast(b"too late");
    assert_eq!((bench.written(), bench.queued()), (&b""[..], &b""[..]));
    assert_eq!(bench.recorder.ledger.stale_commands, 2);
    assert_eq!(bench.fill(), Fill::Data(4));
    assert_eq!(bench.fill(), Fill::Nothing, "input after finish is discarded");
    bench.advance();
    assert_eq!(bench.connection.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn a_half_close_still_delivers_input() {
    let mut bench = Bench::new(
        Script {
            reads: [Step::Bytes(b"more"), Step::Blocked, Step::Eof].into(),
            writes: [Step::Blocked].into(),
            ..Script::default()
        },
        policy(),
    );
    bench.send(b"last");
    bench.connection.half_close(&mut bench.recorder);
    bench.advance();
    assert!(!bench.has_sent_fin(), "bytes are queued");
    bench.send(b"too late");
    assert_eq!((bench.queued(), bench.recorder.ledger.stale_commands), (&b"last"[..], 1));
    bench.becomes_writable();
    bench.flush();
    bench.advance();
    assert!(bench.has_sent_fin());
    assert_eq!(bench.connection.halves(), Halves::Concluded);
    assert!(bench.connection.deadlines.due(DeadlineKind::Linger).is_never(), "a half-close has no linger deadline");
    bench.becomes_readable();
    assert!(bench.connection.halves().service_decides() && bench.connection.halves().delivers_input());
    assert_eq!(bench.fill(), Fill::Data(4));
    bench.connection.pause(&mut bench.recorder);
    assert!(!bench.connection.wants_fill());
    bench.connection.resume(at(1), &mut bench.recorder);
    assert_eq!(bench.fill(), Fill::Nothing);
    bench.becomes_readable();
    assert_eq!(bench.fill(), Fill::Eof);
    bench.advance();
    assert_eq!(bench.connection.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn a_finish_after_a_half_close_lingers() {
    let mut bench = Bench::reads([]);
    bench.connection.half_close(&mut bench.recorder);
    bench.advance();
    bench.now = at(7);
    bench.connection.finish(&mut bench.recorder);
    bench.advance();
    assert_eq!(bench.connection.halves(), Halves::Lingering);
    assert_eq!(bench.connection.deadlines.due(DeadlineKind::Linger), at(57));
}

#[test]
fn a_read_deadline_counts_after_a_half_close_until_a_stop() {
    let mut bench = Bench::reads([]);
    bench.connection.half_close(&mut bench.recorder);
    bench.advance();
    bench.connection.deadlines.set(DeadlineKind::Read, at(5));
    bench.pass(at(5));
    assert_eq!(bench.connection.expired_deadline(), Some(DeadlineKind::Read));
    bench.connection.finish_when_quiet(at(5));
    bench.advance();
    assert_eq!(bench.connection.halves(), Halves::Lingering);
}

#[test]
fn the_listen_policy_reads_during_congestion() {
    let mut bench = Bench::new(
        Script { reads: [Step::Bytes(b"in")].into(), writes: [Step::Blocked].into(), ..Script::default() },
        Policy { while_draining: WhileDraining::Listen, ..policy() },
    );
    bench.send(b"123456789");
    assert_eq!(bench.connection.room(), 0);
    assert!(bench.connection.wants_fill());
    assert_eq!(bench.fill(), Fill::Data(2));
    bench.connection.deadlines.set(DeadlineKind::Read, at(5));
    bench.pass(at(5));
    assert_eq!(bench.connection.expired_deadline(), Some(DeadlineKind::Read));
}

#[test]
fn await_drain_reports_at_the_low_water_mark_and_suspends_no_reading() {
    let mut bench = Bench::writes([Step::Blocked, Step::Short(1), Step::Blocked]);
    bench.connection.await_drain();
    assert!(bench.connection.take_drained(), "nothing is queued");
    bench.send(b"123");
    bench.connection.await_drain();
    assert!(!bench.connection.take_drained(), "above the low-water mark");
    assert!(bench.connection.wants_fill(), "the queue is far below the high-water mark");
    bench.becomes_writable();
    bench.flush();
    assert_eq!(bench.queued(), b"23");
    assert!(bench.connection.take_drained());
}

#[test]
fn an_expired_linger_wants_a_turn() {
    let mut bench = Bench::reads([Step::Blocked]);
    bench.connection.finish(&mut bench.recorder);
    bench.advance();
    assert_eq!(bench.fill(), Fill::Nothing);
    bench.connection.limit_linger(at(20));
    bench.connection.limit_linger(at(30));
    bench.pass(at(19));
    assert!(!bench.connection.wants_turn());
    bench.pass(at(20));
    assert!(bench.connection.wants_turn());
    assert_eq!(bench.connection.expired_deadline(), Some(DeadlineKind::Linger));
}

#[test]
fn a_write_deadline_that_has_passed_beats_a_writable_socket() {
    let mut bench = Bench::writes([]);
    bench.connection.deadlines.set(DeadlineKind::Write, at(5));
    bench.now = at(5);
    assert_eq!(bench.connection.expired_deadline(), None, "nothing is queued");
    bench.send(b"late");
    assert_eq!((bench.written(), bench.queued()), (&b""[..], &b"late"[..]));
    assert_eq!(bench.connection.expired_deadline(), Some(DeadlineKind::Write));
    assert!(!bench.connection.wants_flush());
    bench.flush();
    assert_eq!(bench.written(), b"");
    bench.connection.deadlines.set(DeadlineKind::Write, Time::NEVER);
    assert!(bench.connection.wants_flush());
    bench.flush();
    assert_eq!(bench.written(), b"late");
}

#[test]
fn a_write_timeout_runs_while_bytes_are_queued_and_restarts_with_progress() {
    let policy = Policy { write_timeout: timeout(10), ..policy() };
    let mut bench = Bench::new(Script::writes([Step::Blocked, Step::Short(1), Step::Blocked]), policy);
    assert!(bench.connection.deadlines.due(DeadlineKind::Write).is_never());
    bench.now = at(3);
    bench.send(b"queued");
    assert_eq!(bench.connection.deadlines.due(DeadlineKind::Write), at(13));
    bench.now = at(8);
    bench.becomes_writable();
    bench.flush();
    assert_eq!(bench.connection.deadlines.due(DeadlineKind::Write), at(18));
    bench.now = at(9);
    bench.becomes_writable();
    bench.flush();
    assert_eq!(bench.written(), b"queued");
    assert!(bench.connection.deadlines.due(DeadlineKind::Write).is_never());
}

#[test]
fn a_read_deadline_that_has_passed_beats_bytes_until_it_is_set_again() {
    let mut bench = Bench::reads([Step::Bytes(b"late")]);
    bench.connection.deadlines.set(DeadlineKind::Read, at(5));
    bench.pass(at(4));
    assert!(bench.connection.wants_fill());
    bench.pass(at(5));
    assert!(!bench.connection.wants_fill());
    assert_eq!(bench.connection.expired_deadline(), Some(DeadlineKind::Read));
    bench.connection.deadlines.mark_delivered(DeadlineKind::Read);
    assert!(!bench.connection.wants_turn(), "the delivered deadline waits until it is set again");
    bench.connection.deadlines.set(DeadlineKind::Read, at(100));
    assert!(bench.connection.wants_fill());
    assert_eq!(bench.fill(), Fill::Data(4));
}

#[test]
fn a_read_deadline_set_to_the_past_and_cleared_leaves_no_trace() {
    let mut bench = Bench::reads([Step::Bytes(b"data")]);
    bench.connection.deadlines.set(DeadlineKind::Read, at(1));
    bench.pass(at(5));
    bench.connection.deadlines.set(DeadlineKind::Read, Time::NEVER);
    assert_eq!(bench.connection.expired_deadline(), None);
    assert!(bench.connection.wants_fill());
    assert_eq!(bench.fill(), Fill::Data(4));
}

#[test]
fn a_read_deadline_does_not_count_while_reading_is_suspended() {
    let mut bench = Bench::writes([Step::Blocked]);
    bench.connection.deadlines.set(DeadlineKind::Read, at(5));
    bench.send(b"12345678");
    bench.pass(at(6));
    assert_eq!(bench.connection.expired_deadline(), None, "the connection is congested");
    assert!(!bench.connection.wants_turn());
}

#[test]
fn bytes_of_both_directions_renew_the_idle_timeout() {
    let policy = Policy { idle_timeout: timeout(10), read_timeout: timeout(20), ..policy() };
    let mut bench = Bench::new(Script::reads([Step::Bytes(b"in"), Step::Blocked]), policy);
    let due = |bench: &Bench| {
        (bench.connection.deadlines.due(DeadlineKind::Idle), bench.connection.deadlines.due(DeadlineKind::Read))
    };
    assert_eq!(due(&bench), (at(10), at(20)));
    bench.now = at(3);
    assert_eq!(bench.fill(), Fill::Data(2));
    assert_eq!(due(&bench), (at(13), at(23)));
    bench.now = at(4);
    bench.send(b"out");
    assert_eq!(due(&bench), (at(14), at(23)), "output is no sign of the peer");
    bench.now = at(5);
    assert_eq!(bench.fill(), Fill::Nothing);
    bench.connection.stream.writes.push_back(Step::Blocked);
    bench.send(b"out");
    assert_eq!(due(&bench), (at(14), at(23)), "no byte has passed");
}

#[test]
fn output_from_other_connections_is_queued_within_a_bound() {
    let mut bench = Bench::writes([Step::Short(4), Step::Blocked]);
    bench.queue_broadcast(b"1234");
    bench.queue_broadcast(b"");
    bench.queue_broadcast(b"5678");
    assert_eq!((bench.written(), bench.queued()), (&b""[..], &b"12345678"[..]));
    bench.queue_broadcast(b"9012");
    assert_eq!(bench.queued(), b"56789012", "a flush has freed capacity");
    bench.queue_broadcast(b"x");
    assert_eq!(bench.connection.close_reason(), Some(CloseReason::Overflow));
    assert_eq!(bench.written(), b"1234");
}

#[test]
fn output_from_other_connections_is_one_write_a_turn() {
    let mut bench = Bench::new(Script::default(), Policy { high_water: 100, low_water: 50, overflow: 100, ..policy() });
    for _ in 0..9 {
        bench.queue_broadcast(b"ten bytes.");
    }
    assert_eq!((bench.recorder.ledger.writes, bench.queued().len()), (0, 90));
    bench.flush();
    assert_eq!((bench.recorder.ledger.writes, bench.queued().len()), (1, 0));
}

#[test]
fn a_peer_that_reads_is_not_dropped_by_a_large_turn() {
    let mut bench = Bench::writes([]);
    for _ in 0..1000 {
        bench.queue_broadcast(b"three");
        assert!(bench.queued().len() <= 8);
    }
    bench.flush();
    assert_eq!((bench.connection.close_reason(), bench.written().len()), (None, 5000));
    // The connection counted as congested, so `on_drain` offers unread input again.
    assert!(bench.connection.take_drained());
    // A single message longer than the mark does not drop the peer either.
    bench.queue_broadcast(&[b'x'; 50]);
    bench.flush();
    assert_eq!((bench.connection.close_reason(), bench.queued().len()), (None, 0));
}

#[test]
fn a_congested_connection_still_takes_output_from_others() {
    let mut bench = Bench::new(Script::default(), Policy { overflow: 32, ..policy() });
    bench.connection.readiness.write_blocked();
    bench.send(b"above the mark.");
    assert!(!bench.connection.wants_fill(), "reading is suspended");
    bench.queue_broadcast(b"and others");
    assert_eq!((bench.connection.close_reason(), bench.queued().len()), (None, 25));
    bench.queue_broadcast(b"and others");
    bench.queue_broadcast(b"too many");
    assert_eq!(bench.connection.close_reason(), Some(CloseReason::Overflow));
}

#[test]
fn a_peer_that_does_not_read_has_at_most_the_bound_and_one_message_queued() {
    let mut bench = Bench::writes([Step::Short(3), Step::Blocked]);
    while bench.connection.close_reason().is_none() {
        assert!(bench.queued().len() < 8 + 5);
        bench.queue_broadcast(b"12345");
    }
    assert_eq!(bench.connection.close_reason(), Some(CloseReason::Overflow));
    let ledger = &bench.recorder.ledger;
    assert_eq!((ledger.writes, ledger.write_blocked), (1, 1), "a full socket is not written again");
}

#[test]
fn a_peer_after_its_fin_still_gets_output() {
    let mut bench = Bench::reads([Step::Bytes(b"bye"), Step::Eof]);
    assert_eq!((bench.fill(), bench.fill()), (Fill::Data(3), Fill::Eof));
    bench.queue_broadcast(b"hello");
    bench.connection.finish(&mut bench.recorder);
    bench.queue_broadcast(b"too late");
    bench.flush();
    bench.advance();
    assert_eq!(bench.written(), b"hello");
    assert!(bench.has_sent_fin());
    assert_eq!(bench.connection.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn an_ended_connection_does_nothing_and_keeps_its_first_reason() {
    let mut bench = Bench::reads([Step::Bytes(b"more")]);
    bench.connection.end(CloseReason::Aborted, &mut bench.recorder);
    bench.connection.end(CloseReason::Overflow, &mut bench.recorder);
    bench.send(b"late");
    bench.queue_broadcast(b"late");
    bench.connection.finish(&mut bench.recorder);
    bench.connection.finish_when_quiet(bench.now);
    bench.connection.resume(bench.now, &mut bench.recorder);
    let mut unread = Buffer::new();
    unread.append(b"left");
    bench.connection.keep_unread(unread, false, &mut bench.recorder);
    bench.connection.deadlines.set(DeadlineKind::Idle, at(0));
    bench.pass(at(1));
    bench.flush();
    bench.advance();
    assert!(!bench.connection.wants_turn() && !bench.connection.wants_fill() && !bench.connection.wants_flush());
    assert!(!bench.has_sent_fin() && bench.written().is_empty() && bench.connection.status().unread == 0);
    assert_eq!(bench.connection.close_reason(), Some(CloseReason::Aborted));
}

#[test]
fn a_pause_stops_the_fills_and_resume_offers_unread_input() {
    let mut bench = Bench::reads([Step::Bytes(b"data")]);
    bench.connection.pause(&mut bench.recorder);
    assert!(!bench.connection.wants_turn());
    let mut unread = Buffer::new();
    unread.append(b"left");
    bench.connection.keep_unread(unread, false, &mut bench.recorder);
    bench.connection.resume(bench.now, &mut bench.recorder);
    assert!(!bench.connection.wants_fill(), "unread input comes first");
    assert!(bench.connection.wants_offer() && !bench.connection.take_drained(), "a resume is no drain");
    assert_eq!(bench.connection.take_unread().as_slice(), b"left");
    assert!(bench.connection.wants_fill());
}

#[test]
fn unread_input_above_its_bound_ends_the_connection() {
    let mut bench = Bench::reads([]);
    let mut unread = Buffer::new();
    unread.append(&vec![0; UNREAD + 1]);
    bench.connection.keep_unread(unread, false, &mut bench.recorder);
    assert_eq!(bench.connection.close_reason(), Some(CloseReason::Unread));
}

#[test]
fn finish_when_quiet_reads_once_more() {
    let mut bench = Bench::reads([Step::Bytes(b"full"), Step::Blocked]);
    // The event of these bytes has not been noted.
    bench.connection.readiness = Readiness::of(false, true, false);
    bench.connection.finish_when_quiet(bench.now);
    bench.advance();
    assert!(!bench.has_sent_fin() && bench.connection.wants_fill());
    assert_eq!(bench.fill(), Fill::Data(4));
    bench.advance();
    assert!(!bench.has_sent_fin());
    assert_eq!(bench.fill(), Fill::Nothing);
    bench.advance();
    assert!(!bench.has_sent_fin(), "the peer may send more");
    bench.pass(bench.now + CATCH_UP);
    bench.advance();
    assert!(bench.has_sent_fin());
}

#[test]
fn finish_when_quiet_waits_a_bounded_time_for_a_peer_that_keeps_sending() {
    let script = Script::reads([Step::Bytes(b"one"), Step::Bytes(b"two"), Step::Bytes(b"end")]);
    let mut bench = Bench::new(script, policy());
    bench.connection.finish_when_quiet(bench.now);
    assert_eq!(bench.fill(), Fill::Data(3));
    bench.now = at(200);
    bench.becomes_readable();
    assert_eq!(bench.fill(), Fill::Data(3));
    bench.advance();
    assert!(!bench.has_sent_fin());
    bench.pass(Time::ZERO + CATCH_UP);
    assert!(bench.connection.wants_turn());
    bench.advance();
    assert!(bench.has_sent_fin());
    let due = bench.connection.deadlines.due(DeadlineKind::Linger);
    bench.becomes_readable();
    assert_eq!(bench.fill(), Fill::Data(3));
    assert_eq!(bench.connection.deadlines.due(DeadlineKind::Linger), due, "discarded bytes do not extend the linger");
}

#[test]
fn quiet_does_not_depend_on_input_that_is_not_read() {
    let mut half_closed = Bench::reads([Step::Eof]);
    assert_eq!(half_closed.fill(), Fill::Eof);
    half_closed.connection.finish_when_quiet(half_closed.now);
    half_closed.advance();
    assert_eq!(half_closed.connection.close_reason(), Some(CloseReason::Finished));

    let mut paused = Bench::reads([]);
    paused.connection.readiness = Readiness::of(false, true, false);
    paused.connection.pause(&mut paused.recorder);
    paused.connection.finish_when_quiet(paused.now);
    paused.advance();
    assert!(!paused.has_sent_fin(), "the service may still send an answer");
    paused.connection.resume(paused.now, &mut paused.recorder);
    paused.advance();
    assert!(paused.has_sent_fin());

    let mut expired = Bench::reads([]);
    expired.connection.deadlines.set(DeadlineKind::Read, at(1));
    expired.pass(at(2));
    expired.connection.finish_when_quiet(expired.now);
    expired.advance();
    assert!(expired.has_sent_fin());
}

#[test]
fn a_suspended_peer_has_time_to_catch_up_before_quiet() {
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
    bench.advance();
    assert!(!bench.has_sent_fin() && !bench.connection.wants_turn(), "the peer may still wait to send");
    assert_eq!(bench.connection.deadlines.earliest(), bench.now + CATCH_UP);

    bench.now = at(1_100);
    bench.becomes_readable();
    assert_eq!(bench.fill(), Fill::Data(4));
    assert_eq!(bench.fill(), Fill::Nothing);
    bench.advance();
    assert_eq!(bench.connection.deadlines.earliest(), bench.now + CATCH_UP, "the peer may send more");

    bench.pass(bench.now + CATCH_UP);
    assert!(bench.connection.wants_turn());
    assert_eq!(bench.connection.expired_deadline(), None, "the wait is no deadline of the service");
    bench.advance();
    assert!(bench.has_sent_fin());
    assert_eq!(bench.connection.deadlines.due(DeadlineKind::Linger), bench.now + 50 * MS);
}

#[test]
fn a_peer_suspended_just_before_the_stop_may_catch_up_too() {
    let mut bench = Bench::writes([Step::Blocked]);
    bench.send(b"12345678");
    bench.becomes_writable();
    bench.flush();
    assert!(bench.connection.take_drained());
    bench.now = at(1);
    bench.connection.finish_when_quiet(bench.now);
    assert_eq!(bench.fill(), Fill::Nothing);
    bench.advance();
    assert!(!bench.has_sent_fin());
    bench.pass(Time::ZERO + CATCH_UP);
    bench.advance();
    assert!(bench.has_sent_fin());
}

#[test]
fn a_resume_within_the_callback_offers_the_rest_again() {
    let mut bench = Bench::reads([Step::Bytes(b"data"), Step::Blocked]);
    assert_eq!(bench.fill(), Fill::Data(4));
    // The commands of a callback are applied before its unread input is kept.
    bench.connection.pause(&mut bench.recorder);
    bench.connection.resume(bench.now, &mut bench.recorder);
    let mut unread = Buffer::new();
    unread.append(b"ta");
    bench.connection.keep_unread(unread, false, &mut bench.recorder);
    bench.advance();
    assert!(bench.connection.wants_turn() && bench.connection.wants_offer());
    assert_eq!(bench.connection.take_unread().as_slice(), b"ta");
    assert!(!bench.connection.wants_offer());
}
