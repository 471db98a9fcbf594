//! The datagram client, called without a reactor.

use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::addr::Addr;
use crate::clients::Backoff;
use crate::clients::console::ConsoleEvent;
use crate::clients::console::fake::FakeConsole;
use crate::service::{Command, DatagramService, Errno, Probe, Receive, ServiceContext, TimerName};
use crate::timer::Time;

fn settings() -> Settings {
    Settings::new("udp://peer:9")
}

fn patient() -> Settings {
    Settings { reconnect: Some(Backoff::new(fastrand::Rng::with_seed(1)).at_most(2)), ..settings() }
}

fn addr(n: u8) -> SocketAddr {
    ([127, 0, 0, n], 9).into()
}

fn local() -> SocketAddr {
    ([127, 0, 0, 1], 50_000).into()
}

fn route(addrs: impl Into<Option<Vec<SocketAddr>>>) -> Route {
    Route {
        addrs: addrs.into().map(|addrs| addrs.into_iter().map(Addr::from).collect()),
        from: None,
        dial_timeout: Duration::from_secs(1),
    }
}

struct Bench {
    probe: Probe,
    client: DatagramClient,
    console: FakeConsole,
}

/// The socket of the client.
fn socket() -> SocketId {
    Probe::socket(1)
}

impl Bench {
    /// A client whose socket is connected to its only address.
    fn new(settings: Settings) -> Self {
        let mut bench = Self::on(route(vec![addr(1)]), settings);
        bench.connect(addr(1));
        bench
    }

    /// A client whose socket is open.
    fn on(route: Route, settings: Settings) -> Self {
        let console = FakeConsole::default();
        let client = DatagramClient::new(settings, route, Box::new(console.clone()));
        let mut bench = Self { probe: Probe::new(), client, console };
        bench.probe.on_socket(socket(), |ctx| bench.client.on_open(ctx));
        bench
    }

    fn call(&mut self, callback: impl FnOnce(&mut DatagramClient, &mut ServiceContext)) {
        self.probe.call(|ctx| callback(&mut self.client, ctx));
    }

    /// Asserts that the client connects to `to`, and reports success.
    #[track_caller]
    fn connect(&mut self, to: SocketAddr) {
        self.expect_connect(to);
        self.connected(Ok(local()));
    }

    fn connected(&mut self, outcome: Result<SocketAddr, Errno>) {
        self.probe.on_socket(socket(), |ctx| self.client.on_connect(ctx, outcome));
    }

    #[track_caller]
    fn expect_connect(&mut self, to: SocketAddr) {
        assert_eq!(self.take_connect(), Some(to));
    }

    /// Takes the commands; returns the peer of the last connect among them.
    fn take_connect(&mut self) -> Option<SocketAddr> {
        let connects: Vec<_> = self.probe.outbox().connects().iter().map(|connect| connect.to).collect();
        let commands = self.probe.take_commands();
        let mut connected = commands.iter().filter_map(|command| match *command {
            Command::Connect { of, connect } if of == socket() => Some(connects[connect]),
            _ => None,
        });
        connected.next_back()
    }

    fn at(&mut self, millis: u64) -> &mut Self {
        let now = self.probe.call(|ctx| ctx.now());
        self.probe.advance(Time::from_millis(millis).since(now));
        self
    }

    fn post(&mut self, event: ConsoleEvent) {
        self.call(|client, ctx| client.on_post(ctx, event));
    }

    fn input(&mut self, text: &[u8]) {
        self.post(ConsoleEvent::Input(text.to_vec()));
    }

    fn answer(&mut self, payload: &[u8]) {
        let client = &mut self.client;
        self.probe.on_datagram(socket(), addr(1), payload, |ctx, payload| client.on_datagram(ctx, payload));
    }

    fn timer(&mut self, timer: TimerName) {
        self.call(|client, ctx| client.on_timer(ctx, timer));
    }

    /// Fires `timer` at `millis`, and again for each look.
    fn expire(&mut self, millis: u64, timer: TimerName) {
        for look in 0..3 {
            self.at(millis + look).timer(timer);
        }
    }

    fn error(&mut self, errno: i32) {
        self.probe.on_socket(socket(), |ctx| self.client.on_error(ctx, Errno(errno)));
    }

    /// Takes the datagrams that have been sent since.
    #[track_caller]
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let sent = self.probe.take_datagrams().into_iter();
        sent.map(|datagram| {
            assert_eq!((datagram.by, datagram.to), (socket(), None), "the client sends to its peer");
            datagram.payload
        })
        .collect()
    }

    fn notices(&self) -> Vec<String> {
        self.console.0.borrow().notices.clone()
    }

    fn outcome(&self) -> Option<Result<(), String>> {
        let outcome = self.console.0.borrow().outcome.clone();
        outcome.map(|outcome| outcome.map_err(|error| error.to_string()))
    }
}

fn failure(text: &str) -> Option<Result<(), String>> {
    Some(Err(text.to_owned()))
}

#[test]
fn a_line_is_a_datagram_and_notices_name_both_directions() {
    let mut bench = Bench::new(settings());
    bench.input(b"one\ntw");
    assert_eq!(bench.sent(), [b"one\n"]);
    bench.input(b"o\n");
    assert_eq!(bench.sent(), [b"two\n"]);
    bench.answer(b"one\n");
    assert_eq!(bench.console.0.borrow().output, b"one\n");
    let notices = ["packet-written: bytes=4", "packet-written: bytes=4", "packet-received: bytes=4 from=127.0.0.1:9"];
    assert_eq!(bench.notices(), notices);
    assert_eq!(bench.console.0.borrow().requested, PIECES + 2);
}

#[test]
fn silence_after_the_end_of_input_ends_the_client() {
    let mut bench = Bench::new(settings());
    bench.input(b"last");
    assert!(bench.sent().is_empty(), "the line may go on");
    bench.post(ConsoleEvent::InputEnd(Ok(())));
    assert_eq!(bench.sent(), [b"last"]);
    bench.at(900).answer(b"late");
    bench.at(1_000).timer(SILENCE);
    assert_eq!(bench.outcome(), None);
    bench.expire(1_900, SILENCE);
    assert_eq!(bench.outcome(), Some(Ok(())));
}

#[test]
fn a_missing_answer_fails_at_the_read_timeout() {
    let mut bench = Bench::new(Settings { read_timeout: Duration::from_millis(500), ..settings() });
    bench.at(100).input(b"one\n");
    bench.at(300).answer(b"one\n");
    bench.at(400).input(b"two\n");
    bench.at(600).timer(READ);
    assert_eq!(bench.outcome(), None);
    bench.expire(900, READ);
    assert_eq!(bench.outcome(), failure("read udp://peer:9: i/o timeout after 500ms"));
}

#[test]
fn a_line_that_is_too_long_is_reported_and_the_next_one_is_sent() {
    let mut bench = Bench::new(settings());
    bench.input(&[&[b'x'; 65_507][..], b"\nok\n"].concat());
    bench.post(ConsoleEvent::InputEnd(Ok(())));
    assert_eq!(bench.sent(), [b"ok\n"]);
    let notice = "error: write udp://peer:9: a line of 65508 bytes is too long for a datagram: at most 65507; not sent";
    assert_eq!(bench.notices()[0], notice);
    bench.expire(1_000, SILENCE);
    assert_eq!(bench.outcome(), failure("write udp://peer:9: not all lines were sent"));
}

#[test]
fn a_datagram_over_ipv6_has_no_ipv4_header() {
    let six: SocketAddr = "[::1]:9".parse().unwrap();
    let mut bench = Bench::on(route(vec![six]), settings());
    bench.connect(six);
    bench.input(&[&[b'x'; 65_526][..], b"\n"].concat());
    assert_eq!(bench.sent()[0].len(), 65_527);
}

#[test]
fn a_refusal_ends_the_client_or_is_followed_by_a_wait() {
    let mut bench = Bench::new(settings());
    bench.input(b"one\n");
    bench.error(libc::ECONNREFUSED);
    assert_eq!(bench.outcome(), failure("read udp://peer:9: Connection refused"));

    let mut bench = Bench::new(patient());
    bench.error(libc::ECONNREFUSED);
    bench.input(b"one\n");
    assert!(bench.sent().is_empty(), "the client waits");
    bench.timer(RETRY);
    assert_eq!(bench.sent(), [b"one\n"]);
    bench.answer(b"one\n");
    for _ in 0..2 {
        bench.error(libc::ECONNREFUSED);
        bench.timer(RETRY);
    }
    assert_eq!(bench.outcome(), None);
    bench.error(libc::ECONNREFUSED);
    assert_eq!(bench.outcome(), failure("read udp://peer:9: Connection refused (given up; attempts to reconnect: 2)"));
}

#[test]
fn a_loss_without_a_later_answer_is_a_failure() {
    let refused = failure("read udp://peer:9: Connection refused");
    let mut bench = Bench::new(patient());
    bench.input(b"one");
    bench.post(ConsoleEvent::InputEnd(Ok(())));
    bench.error(libc::ECONNREFUSED);
    assert_eq!(bench.outcome(), refused);
    for (answered, outcome) in [(false, refused), (true, Some(Ok(())))] {
        let mut bench = Bench::new(patient());
        bench.input(b"one\n");
        bench.error(libc::ECONNREFUSED);
        bench.post(ConsoleEvent::InputEnd(Ok(())));
        if answered {
            bench.answer(b"late");
        }
        bench.timer(RETRY);
        bench.expire(1_000, SILENCE);
        assert_eq!(bench.outcome(), outcome);
    }
}

#[test]
fn lines_wait_for_the_kernel_and_for_the_console() {
    let mut bench = Bench::new(Settings { write_timeout: Duration::from_secs(1), ..settings() });
    bench.probe.set_queued(1);
    bench.probe.on_socket(socket(), |ctx| assert!(ctx.is_congested()));
    bench.input(b"one\n");
    assert!(bench.sent().is_empty());
    bench.probe.set_queued(0);
    bench.probe.on_socket(socket(), |ctx| bench.client.on_drain(ctx));
    assert_eq!(bench.sent(), [b"one\n"]);
    bench.console.0.borrow_mut().full = true;
    bench.answer(b"one\n");
    bench.answer(b"lost\n");
    bench.input(b"two\nthree\n");
    assert!(bench.sent().is_empty());
    bench.post(ConsoleEvent::Writable);
    assert_eq!(bench.sent(), [b"two\n"], "the console is full after one");
    assert_eq!(bench.console.0.borrow().output, b"one\n");
}

#[test]
fn a_burst_of_lines_ends_for_the_answers() {
    let mut bench = Bench::new(settings());
    bench.input(&b"x\n".repeat(BURST + 1));
    assert_eq!(bench.sent().len(), BURST);
    bench.timer(BURST_OVER);
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn a_silent_peer_is_sent_heartbeats_and_then_counts_as_dead() {
    let mut bench = Bench::new(Settings { heartbeat: Duration::from_secs(1), ..settings() });
    bench.at(1_000).timer(BEAT);
    assert_eq!(bench.sent(), [b"ping\n"]);
    bench.at(1_500).answer(b"pong");
    for due in [2_500, 3_500] {
        bench.at(due).timer(BEAT);
        assert_eq!(bench.sent(), [b"ping\n"]);
    }
    bench.expire(4_500, BEAT);
    assert_eq!(bench.outcome(), failure("read udp://peer:9: no sign of life for 3s"));
}

#[test]
fn a_refusal_moves_unanswered_datagrams_to_the_next_address() {
    let mut bench = Bench::on(route(vec![addr(1), addr(2), addr(3)]), settings());
    bench.connect(addr(1));
    bench.input(b"one\ntwo\n");
    assert_eq!(bench.sent().len(), 2);
    bench.error(libc::ECONNREFUSED);
    bench.input(b"three\n");
    assert!(bench.sent().is_empty(), "the socket has no peer yet");
    bench.expect_connect(addr(2));
    bench.connected(Err(Errno(libc::ENETUNREACH)));
    bench.connect(addr(3));
    assert_eq!(bench.sent(), [&b"one\n"[..], b"two\n", b"three\n"]);
    assert_eq!(bench.notices().len(), 3, "one for each line");
    bench.error(libc::ECONNREFUSED);
    assert_eq!(bench.outcome(), failure("read udp://peer:9: Connection refused"));
}

#[test]
fn an_address_that_has_answered_is_the_choice() {
    let mut bench = Bench::on(route(vec![addr(1), addr(2)]), settings());
    bench.connect(addr(1));
    bench.input(b"one\n");
    bench.answer(b"one\n");
    bench.error(libc::ECONNREFUSED);
    assert_eq!(bench.take_connect(), None);
    assert_eq!(bench.outcome(), failure("read udp://peer:9: Connection refused"));
}

#[test]
fn the_next_attempt_begins_at_the_first_address() {
    let mut bench = Bench::on(route(vec![addr(1), addr(2)]), patient());
    bench.connect(addr(1));
    bench.input(b"one\n");
    bench.error(libc::ECONNREFUSED);
    bench.connect(addr(2));
    bench.error(libc::ECONNREFUSED);
    bench.input(b"two\n");
    bench.sent();
    bench.timer(RETRY);
    bench.connect(addr(1));
    assert_eq!(bench.sent(), [b"two\n"], "a refused line is not sent again after the last address");
}

#[test]
fn a_socket_that_connects_to_itself_is_a_failure() {
    let mut bench = Bench::on(route(vec![addr(1)]), settings());
    bench.expect_connect(addr(1));
    bench.connected(Ok(addr(1)));
    let text = "dial udp://peer:9: the socket connected to itself: no process listens there";
    assert_eq!(bench.outcome(), failure(text));
}

#[test]
fn a_name_is_resolved_within_the_dial_timeout() {
    let mut bench = Bench::on(route(None), settings());
    assert_eq!(bench.console.0.borrow().resolutions, 1);
    let six: SocketAddr = "[::1]:9".parse().unwrap();
    bench.post(ConsoleEvent::Resolved(Ok(vec![six, addr(1)])));
    bench.connect(addr(1));
    assert_eq!(bench.console.0.borrow().requested, PIECES);

    let mut bench = Bench::on(route(None), settings());
    bench.expire(1_000, RESOLVE);
    assert_eq!(bench.outcome(), failure("dial udp://peer:9: i/o timeout after 1s"));
}

#[test]
fn addresses_of_another_family_than_the_local_one_are_left_out() {
    let six: SocketAddr = "[::1]:9".parse().unwrap();
    let from = Some(local().into());
    let mut bench = Bench::on(Route { from, ..route(vec![six, addr(1)]) }, settings());
    bench.connect(addr(1));
    let bench = Bench::on(Route { from, ..route(vec![six]) }, settings());
    assert_eq!(bench.outcome(), failure("dial udp://peer:9: Cannot assign requested address"));
}

#[test]
fn an_answer_that_waits_is_received_before_a_timeout() {
    let mut bench = Bench::new(Settings { read_timeout: Duration::from_millis(500), ..settings() });
    bench.input(b"one\n");
    // The process was stopped: the timer is first, and the answer is read in the next turn but one.
    bench.at(9_000).timer(READ);
    bench.at(9_001).timer(READ);
    bench.answer(b"one\n");
    bench.at(9_002).timer(READ);
    assert_eq!(bench.outcome(), None);
    bench.post(ConsoleEvent::InputEnd(Ok(())));
    bench.at(9_900).timer(SILENCE);
    bench.at(9_901).answer(b"late\n");
    bench.at(9_902).timer(SILENCE);
    assert_eq!(bench.outcome(), None);
}
