//! The stream client, called without a reactor.

use std::time::Duration;

use super::link::PROVEN;
use super::*;
use crate::clients::Backoff;
use crate::clients::console::fake::FakeConsole;
use crate::clients::console::{ConsoleEvent, PIECES};
use crate::id::ConnId;
use crate::resolver::ResolveError;
use crate::service::{CloseReason, Command, Errno, Probe, Receive, Service, TimerName};
use crate::timer::Deadline;

const REFUSED: CloseReason = CloseReason::Unreachable(Errno(libc::ECONNREFUSED));

fn settings() -> Settings {
    Settings::new("tcp://peer:9")
}

fn patient() -> Settings {
    Settings { reconnect: Some(Backoff::new(fastrand::Rng::with_seed(1)).at_most(3)), ..settings() }
}

fn route() -> Route {
    let addrs = Some(vec![([127, 0, 0, 1], 9).into()]);
    Route { addrs, from: None, dial_timeout: Duration::from_secs(1) }
}

/// A client with a fake console, called by a probe.
struct Bench {
    probe: Probe,
    client: StreamClient,
    console: FakeConsole,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        Self::on(route(), settings)
    }

    fn on(route: Route, settings: Settings) -> Self {
        let console = FakeConsole::default();
        let client = StreamClient::new(settings, route, Box::new(console.clone()));
        let mut bench = Self { probe: Probe::new(), client, console };
        bench.probe.call(|ctx| bench.client.on_start(ctx));
        bench
    }

    /// A client with connection number 1.
    fn connected(settings: Settings) -> (Self, ConnId) {
        let mut bench = Self::new(settings);
        let (id, _) = bench.dialed();
        (bench, id)
    }

    fn dialed(&mut self) -> (ConnId, Vec<Command>) {
        let id = self.dial();
        self.probe.on(id, |ctx| self.client.on_dialed(ctx));
        (id, self.probe.take_commands())
    }

    /// Returns the connection that the client dials.
    fn dial(&mut self) -> ConnId {
        let [(id, _)] = self.probe.take_dials()[..] else { panic!("not one dial") };
        id
    }

    fn post(&mut self, event: ConsoleEvent) -> Vec<Command> {
        self.probe.call(|ctx| self.client.on_post(ctx, event));
        self.sent()
    }

    /// Takes the commands that have been recorded since.
    fn sent(&mut self) -> Vec<Command> {
        self.probe.take_commands()
    }

    fn close(&mut self, id: ConnId, reason: CloseReason) -> Vec<Command> {
        self.probe.on(id, |ctx| self.client.on_close(ctx, reason));
        self.sent()
    }

    fn timer(&mut self, name: TimerName) {
        self.probe.call(|ctx| self.client.on_timer(ctx, name));
    }

    /// Fires a timer, and again for each look.
    fn expire(&mut self, name: TimerName) {
        for _ in 0..3 {
            self.probe.take_commands();
            self.timer(name);
        }
    }

    /// Reports a deadline, and again for each look; returns the commands of the last report.
    fn miss(&mut self, id: ConnId, which: Deadline) -> Vec<Command> {
        for _ in 0..3 {
            self.probe.take_commands();
            self.probe.on(id, |ctx| self.client.on_deadline(ctx, which));
        }
        self.sent()
    }

    fn outcome(&self) -> Option<Result<(), String>> {
        let outcome = self.console.0.borrow().outcome.clone();
        outcome.map(|outcome| outcome.map_err(|error| error.to_string()))
    }

    fn requested(&self) -> usize {
        self.console.0.borrow().requested
    }
}

fn input(text: &[u8]) -> ConsoleEvent {
    ConsoleEvent::Input(text.to_vec())
}

#[test]
fn input_is_sent_piece_by_piece_and_then_its_end() {
    let (mut bench, id) = Bench::connected(settings());
    assert_eq!(bench.requested(), PIECES);
    let first = bench.post(input(b"one"));
    assert!(matches!(first[..], [Command::Send { .. }, Command::AwaitDrain { of }] if of == id), "{first:?}");
    assert_eq!(bench.post(input(b"two")), []);
    assert_eq!(bench.post(ConsoleEvent::InputEnd(Ok(()))), []);
    bench.probe.on(id, |ctx| bench.client.on_drain(ctx));
    assert_eq!(bench.probe.sent_to(id, b""), b"two");
    assert_eq!(bench.sent().last(), Some(&Command::HalfClose { of: id }));
    bench.probe.on(id, |ctx| bench.client.on_drain(ctx));
    assert_eq!(bench.sent(), [], "closed twice");
    assert_eq!(bench.requested(), PIECES, "there is no more input");
    bench.probe.on(id, |ctx| bench.client.on_eof(ctx, b""));
    bench.close(id, CloseReason::Finished);
    assert_eq!(bench.outcome(), Some(Ok(())));
    assert_eq!(bench.post(ConsoleEvent::Flushed), [Command::Stop]);
}

#[test]
fn available_input_is_sent_after_the_peers_fin() {
    let ended = |reason| {
        let (mut bench, id) = Bench::connected(settings());
        bench.post(input(b"one"));
        bench.probe.on(id, |ctx| bench.client.on_drain(ctx));
        bench.sent();
        bench.probe.on(id, |ctx| bench.client.on_eof(ctx, b""));
        assert!(bench.console.0.borrow().input_finished);
        assert_eq!(bench.sent(), []);
        bench.probe.call(|ctx| bench.client.on_post(ctx, input(b"two")));
        assert_eq!(bench.probe.sent_to(id, b""), b"two");
        bench.sent();
        bench.probe.on(id, |ctx| bench.client.on_drain(ctx));
        assert_eq!(bench.requested(), PIECES + 2);
        if reason == CloseReason::Finished {
            assert_eq!(bench.post(ConsoleEvent::InputEnd(Ok(()))), [Command::HalfClose { of: id }]);
        }
        bench.close(id, reason);
        bench.outcome().expect("an outcome")
    };
    assert_eq!(ended(CloseReason::Finished), Ok(()));
    let failure = "write tcp://peer:9: Connection reset by peer: not all input was sent";
    assert_eq!(ended(CloseReason::Reset), Err(failure.to_owned()));

    // After a FIN that has met no output, a reset loses none.
    let (mut bench, id) = Bench::connected(settings());
    bench.probe.on(id, |ctx| bench.client.on_eof(ctx, b""));
    bench.close(id, CloseReason::Reset);
    assert_eq!(bench.outcome(), Some(Ok(())));
}

#[test]
fn a_piece_is_requested_when_one_has_been_passed_on() {
    let (mut bench, id) = Bench::connected(patient());
    bench.post(input(b"one"));
    assert_eq!(bench.requested(), PIECES);
    bench.probe.on(id, |ctx| bench.client.on_drain(ctx));
    assert_eq!(bench.requested(), PIECES + 1);
    bench.post(input(b"two"));
    bench.close(id, CloseReason::Reset);
    assert_eq!(bench.requested(), PIECES + 2, "the lost piece is not under way any more");
}

#[test]
fn reading_pauses_until_the_console_is_writable() {
    let (mut bench, id) = Bench::connected(settings());
    bench.console.0.borrow_mut().full = true;
    assert_eq!(bench.probe.on(id, |ctx| bench.client.on_data(ctx, b"much")), 4);
    assert_eq!(bench.sent(), [Command::Pause { of: id }]);
    assert_eq!(bench.post(ConsoleEvent::Writable), [Command::Resume { of: id }]);
    assert_eq!(bench.post(ConsoleEvent::Writable), []);
    assert_eq!(bench.console.0.borrow().output, b"much");
}

#[test]
fn each_failure_is_one_line() {
    let after = |reason| {
        let (mut bench, id) = Bench::connected(Settings { read_timeout: Duration::from_millis(1_500), ..settings() });
        bench.close(id, reason);
        bench.outcome().expect("an outcome").expect_err("a failure")
    };
    assert_eq!(after(CloseReason::Reset), "read tcp://peer:9: Connection reset by peer");
    assert_eq!(after(CloseReason::Deadline(Deadline::Read)), "read tcp://peer:9: i/o timeout after 1.5s");
    assert_eq!(after(CloseReason::Failed(Errno(libc::EPERM))), "read tcp://peer:9: Operation not permitted");
    let dialing = |reason| {
        let mut bench = Bench::new(settings());
        let id = bench.dial();
        bench.probe.on(id, |ctx| bench.client.on_dial_error(ctx, reason));
        bench.outcome().map(|outcome| outcome.expect_err("a failure"))
    };
    assert_eq!(dialing(REFUSED).unwrap(), "dial tcp://peer:9: Connection refused");
    let deadline = CloseReason::DialDeadline;
    assert_eq!(dialing(deadline).unwrap(), "dial tcp://peer:9: i/o timeout after 1s");
    assert_eq!(dialing(CloseReason::Aborted), None, "cancelled");
}

#[test]
fn a_closed_connection_is_reopened_and_input_is_kept() {
    let (mut bench, id) = Bench::connected(patient());
    bench.probe.on(id, |ctx| bench.client.on_eof(ctx, b""));
    assert_eq!(bench.sent(), [Command::Finish { of: id }]);
    assert_eq!(bench.post(input(b"too late for this one")), []);
    let timer = bench.close(id, CloseReason::Finished);
    assert!(matches!(timer[..], [Command::SetTimer { name: RETRY, .. }]), "{timer:?}");
    assert_eq!(bench.post(input(b"meanwhile")), []);
    bench.timer(RETRY);
    let id = bench.dial();
    bench.probe.on(id, |ctx| bench.client.on_dialed(ctx));
    assert_eq!(bench.probe.sent_to(id, b""), b"too late for this one");
    assert_eq!(bench.outcome(), None);
}

#[test]
fn attempts_are_limited_and_a_success_starts_them_anew() {
    let mut bench = Bench::new(patient());
    let fail = |bench: &mut Bench| {
        let id = bench.dial();
        bench.probe.on(id, |ctx| bench.client.on_dial_error(ctx, REFUSED));
        bench.timer(RETRY);
    };
    for _ in 0..3 {
        fail(&mut bench);
    }
    let (id, _) = bench.dialed();
    bench.probe.on(id, |ctx| bench.client.on_data(ctx, b"hello"));
    bench.close(id, CloseReason::Reset);
    bench.timer(RETRY);
    for _ in 0..2 {
        fail(&mut bench);
        assert_eq!(bench.outcome(), None);
    }
    fail(&mut bench);
    let failure = bench.outcome().unwrap().unwrap_err();
    assert_eq!(failure, "dial tcp://peer:9: Connection refused (given up; attempts to reconnect: 3)");
}

#[test]
fn a_connection_is_a_success_after_a_byte_or_ten_seconds() {
    let after = |lived, reason| {
        let mut bench = Bench::new(patient());
        for _ in 1..=4 {
            let (id, _) = bench.dialed();
            bench.probe.advance(lived);
            bench.close(id, reason);
            bench.timer(RETRY);
        }
        bench.outcome()
    };
    let given_up = |what: &str| Some(Err(format!("{what} (given up; attempts to reconnect: 3)")));
    let reset = given_up("read tcp://peer:9: Connection reset by peer");
    assert_eq!(after(Duration::from_millis(9_999), CloseReason::Reset), reset);
    assert_eq!(after(PROVEN, CloseReason::Reset), None);
    let silent = CloseReason::Deadline(Deadline::Read);
    assert_eq!(after(PROVEN, silent), given_up("read tcp://peer:9: i/o timeout after 0ns"));
}

#[test]
fn a_loss_after_the_end_of_input_is_final() {
    let (mut bench, id) = Bench::connected(patient());
    bench.post(input(b"one"));
    bench.probe.on(id, |ctx| bench.client.on_drain(ctx));
    bench.post(ConsoleEvent::InputEnd(Ok(())));
    assert_eq!(bench.close(id, CloseReason::Reset), []);
    let failure = "read tcp://peer:9: Connection reset by peer".to_owned();
    assert_eq!(bench.outcome(), Some(Err(failure)));
}

#[test]
fn no_heartbeat_is_judged_after_either_fin() {
    let beating = Settings { heartbeat: Duration::from_secs(1), ..settings() };
    for said_all in [true, false] {
        let (mut bench, id) = Bench::connected(beating.clone());
        if said_all {
            bench.post(ConsoleEvent::InputEnd(Ok(())));
        } else {
            bench.probe.on(id, |ctx| bench.client.on_eof(ctx, b""));
        }
        bench.sent();
        bench.probe.advance(Duration::from_secs(9));
        bench.timer(BEAT);
        assert_eq!(bench.sent(), []);
    }
}

#[test]
fn a_write_deadline_is_renewed_while_reading_is_paused() {
    let (mut bench, id) = Bench::connected(Settings { write_timeout: Duration::from_secs(1), ..settings() });
    let which = Deadline::Write;
    bench.console.0.borrow_mut().full = true;
    bench.probe.on(id, |ctx| bench.client.on_data(ctx, b"much"));
    bench.sent();
    bench.probe.on(id, |ctx| bench.client.on_deadline(ctx, which));
    let anew = Command::RestoreTimeout { of: id, which };
    assert_eq!(bench.sent(), [anew]);
    assert_eq!(bench.post(ConsoleEvent::Writable), [Command::Resume { of: id }, anew]);
    assert_eq!(bench.miss(id, which), [Command::Abort { of: id, reason: CloseReason::Deadline(which) }]);
}

#[test]
fn a_name_is_resolved_within_the_dial_timeout_and_for_each_attempt_anew() {
    let mut bench = Bench::on(Route { addrs: None, ..route() }, patient());
    bench.probe.advance(Duration::from_secs(1));
    bench.expire(RESOLVE);
    assert_eq!(bench.console.0.borrow().resolutions, 1);
    bench.timer(RETRY);
    assert_eq!(bench.console.0.borrow().resolutions, 2);
    bench.probe.take_commands();
    let error = ResolveError::new("peer", "no such name");
    bench.post(ConsoleEvent::Resolved(Err(error)));
    bench.timer(RETRY);
    bench.probe.take_commands();
    let found = ConsoleEvent::Resolved(Ok(vec![([127, 0, 0, 1], 9).into()]));
    bench.probe.call(|ctx| bench.client.on_post(ctx, found));
    bench.dialed();
    let mut impatient = Bench::on(Route { addrs: None, ..route() }, settings());
    impatient.expire(RESOLVE);
    let failure = impatient.outcome().unwrap().unwrap_err();
    assert_eq!(failure, "dial tcp://peer:9: i/o timeout after 1s");
}

#[test]
fn a_peer_that_misses_its_heartbeats_is_abandoned() {
    let beating = Settings { heartbeat: Duration::from_secs(1), ..settings() };
    let (mut bench, id) = Bench::connected(beating.clone());
    for _ in 0..2 {
        bench.probe.advance(Duration::from_secs(1));
        bench.timer(BEAT);
        assert_eq!(bench.probe.sent_to(id, b""), b"ping\n");
        bench.sent();
    }
    bench.probe.advance(Duration::from_secs(1));
    for _ in 0..2 {
        bench.timer(BEAT);
        let looks = bench.sent();
        assert!(matches!(looks[..], [Command::SetTimer { name: BEAT, .. }]), "{looks:?}");
        bench.probe.advance(Duration::from_millis(1));
    }
    bench.timer(BEAT);
    assert_eq!(bench.sent(), [Command::Abort { of: id, reason: CloseReason::Aborted }]);
    bench.close(id, CloseReason::Aborted);
    let failure = bench.outcome().unwrap().unwrap_err();
    assert_eq!(failure, "read tcp://peer:9: no sign of life for 3s");

    // A peer whose bytes wait unread is not judged.
    let (mut bench, id) = Bench::connected(beating);
    bench.console.0.borrow_mut().full = true;
    bench.probe.on(id, |ctx| bench.client.on_data(ctx, b"much"));
    bench.sent();
    bench.probe.advance(Duration::from_secs(9));
    bench.timer(BEAT);
    assert!(!bench.sent().iter().any(|command| matches!(command, Command::Abort { .. })));
}

#[test]
fn a_cancelled_client_has_no_outcome_and_a_closed_output_ends_it_quietly() {
    let (mut bench, id) = Bench::connected(patient());
    bench.probe.on(id, |ctx| bench.client.on_stop(ctx));
    assert_eq!(bench.sent(), [Command::Abort { of: id, reason: CloseReason::Aborted }]);
    assert_eq!(bench.close(id, CloseReason::Aborted), []);
    assert_eq!(bench.outcome(), None);

    let (mut bench, id) = Bench::connected(patient());
    let left = bench.post(ConsoleEvent::OutputEnd(Ok(())));
    assert_eq!(left, [Command::Abort { of: id, reason: CloseReason::Aborted }]);
    assert_eq!(bench.close(id, CloseReason::Aborted), []);
    assert_eq!(bench.outcome(), Some(Ok(())));
}

#[test]
fn a_write_that_advances_is_not_timed_out_by_looks() {
    let (mut bench, id) = Bench::connected(Settings { write_timeout: Duration::from_secs(1), ..settings() });
    let which = Deadline::Write;
    for queued in [9, 8, 7, 6] {
        bench.probe.set_queued(queued);
        bench.probe.advance(Duration::from_millis(1));
        bench.probe.on(id, |ctx| bench.client.on_deadline(ctx, which));
    }
    let look = Command::SetTimeout { of: id, which, timeout: Duration::from_millis(1).into() };
    let anew = Command::RestoreTimeout { of: id, which };
    assert_eq!(bench.sent(), [look, anew, anew, anew]);
}

#[test]
fn input_that_waits_is_read_before_a_timeout() {
    let (mut bench, id) = Bench::connected(Settings { read_timeout: Duration::from_secs(1), ..settings() });
    let which = Deadline::Read;
    // The process was stopped: the deadline is first, and the bytes are read in the next turn but one.
    for _ in 0..2 {
        bench.probe.advance(Duration::from_secs(5));
        bench.probe.on(id, |ctx| bench.client.on_deadline(ctx, which));
        bench.probe.advance(Duration::from_millis(1));
        bench.probe.on(id, |ctx| bench.client.on_deadline(ctx, which));
        let looks = bench.sent();
        assert!(matches!(looks[..], [Command::SetTimeout { .. }, Command::SetTimeout { .. }]), "{looks:?}");
        bench.probe.on(id, |ctx| bench.client.on_data(ctx, b"late"));
        assert_eq!(bench.sent(), [Command::RestoreTimeout { of: id, which }]);
    }
    assert_eq!(bench.miss(id, which), [Command::Abort { of: id, reason: CloseReason::Deadline(which) }]);
}
