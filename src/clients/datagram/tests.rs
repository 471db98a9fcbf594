//! The datagram client, called without a reactor.

use super::super::Backoff;
use super::super::console::fake::FakeConsole;
use super::*;
use crate::service::{Payload, Transmit};

fn settings() -> Settings {
    Settings::new("udp://peer:9")
}

struct Bench {
    ctx: SocketContext,
    client: DatagramClient,
    console: FakeConsole,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let console = FakeConsole::default();
        let client = DatagramClient::new(settings, 8, Box::new(console.clone()));
        let mut bench = Self { ctx: SocketContext::new(), client, console };
        bench.client.on_start(&mut bench.ctx);
        bench
    }

    fn at(&mut self, millis: u64) -> &mut Self {
        self.ctx.set_now(Time::from_millis(millis));
        self
    }

    fn post(&mut self, event: ConsoleEvent) {
        self.client.on_post(&mut self.ctx, Box::new(event));
    }

    fn input(&mut self, text: &[u8]) {
        self.post(ConsoleEvent::Input(text.to_vec()));
    }

    fn answer(&mut self, payload: &[u8]) {
        let sender = ([127, 0, 0, 1], 9).into();
        self.client.on_datagram(&mut DatagramContext::new(&mut self.ctx, 0, sender), payload);
    }

    fn timer(&mut self, timer: TimerName) {
        self.client.on_timer(&mut self.ctx, timer);
    }

    fn error(&mut self, errno: i32) {
        self.client.on_error(&mut self.ctx, Errno(errno));
    }

    /// The datagrams that have been sent since.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let outbox = self.ctx.outbox();
        let payload = |transmit: &Transmit| match transmit.payload {
            Payload::Bytes(span) => outbox.bytes(span).to_vec(),
            Payload::Received(_) => panic!("nothing is sent back"),
        };
        let sent = outbox.transmits().iter().map(payload).collect();
        self.ctx.outbox_mut().clear_transmits();
        sent
    }

    fn notices(&self) -> Vec<String> {
        self.console.0.borrow().notices.clone()
    }

    fn outcome(&self) -> Option<Outcome> {
        self.console.0.borrow().outcome.clone()
    }
}

#[test]
fn a_line_is_a_datagram_and_both_ways_are_told() {
    let mut bench = Bench::new(settings());
    bench.input(b"one\ntw");
    assert_eq!(bench.sent(), [b"one\n"]);
    bench.input(b"o\n");
    assert_eq!(bench.sent(), [b"two\n"]);
    bench.answer(b"one\n");
    assert_eq!(bench.console.0.borrow().output, b"one\n");
    let told = ["packet-written: bytes=4", "packet-written: bytes=4", "packet-received: bytes=4 from=127.0.0.1:9"];
    assert_eq!(bench.notices(), told);
    assert_eq!(bench.console.0.borrow().requested, PIECES + 2);
}

#[test]
fn after_the_end_of_input_a_silence_ends_it() {
    let mut bench = Bench::new(settings());
    bench.input(b"last");
    assert!(bench.sent().is_empty(), "the line may go on");
    bench.post(ConsoleEvent::InputEnd(Ok(())));
    assert_eq!(bench.sent(), [b"last"]);
    bench.at(900).answer(b"late");
    bench.at(1_000).timer(OVER);
    assert_eq!(bench.outcome(), None);
    bench.at(1_900).timer(OVER);
    assert_eq!(bench.outcome(), Some(Ok(())));
}

#[test]
fn an_answer_that_does_not_come_in_time_is_a_failure() {
    let mut bench = Bench::new(Settings { read_timeout: Duration::from_millis(500), ..settings() });
    bench.at(100).input(b"one\n");
    bench.at(300).answer(b"one\n");
    bench.at(400).input(b"two\n");
    bench.at(600).timer(READ);
    assert_eq!(bench.outcome(), None);
    bench.at(900).timer(READ);
    assert_eq!(bench.outcome(), Some(Err("read udp://peer:9: i/o timeout after 500ms".to_owned())));
}

#[test]
fn a_line_that_is_too_long_is_told_and_the_next_one_sent() {
    let mut bench = Bench::new(settings());
    bench.input(b"123456789\nok\n");
    bench.post(ConsoleEvent::InputEnd(Ok(())));
    assert_eq!(bench.sent(), [b"ok\n"]);
    let told = "error: write udp://peer:9: a line of 10 bytes is too long for a datagram: at most 8; not sent";
    assert_eq!(bench.notices()[0], told);
    bench.at(1_000).timer(OVER);
    assert_eq!(bench.outcome(), Some(Err("write udp://peer:9: not all lines were sent".to_owned())));
}

#[test]
fn a_refusal_ends_it_or_makes_it_wait() {
    let mut bench = Bench::new(settings());
    bench.input(b"one\n");
    bench.error(libc::ECONNREFUSED);
    assert_eq!(bench.outcome(), Some(Err("read udp://peer:9: Connection refused".to_owned())));

    let backoff = Backoff::new(fastrand::Rng::with_seed(1)).at_most(2);
    let mut bench = Bench::new(Settings { reconnect: Some(backoff), ..settings() });
    bench.error(libc::ECONNREFUSED);
    bench.input(b"one\n");
    assert!(bench.sent().is_empty(), "it waits");
    bench.timer(RETRY);
    assert_eq!(bench.sent(), [b"one\n"]);
    bench.answer(b"one\n");
    for _ in 0..2 {
        bench.error(libc::ECONNREFUSED);
        bench.timer(RETRY);
    }
    assert_eq!(bench.outcome(), None);
    bench.error(libc::ECONNREFUSED);
    let failure = "read udp://peer:9: Connection refused (given up; attempts to reconnect: 2)";
    assert_eq!(bench.outcome(), Some(Err(failure.to_owned())));
}

#[test]
fn a_loss_that_nothing_has_mended_is_a_failure() {
    let patient = || Settings { reconnect: Some(Backoff::new(fastrand::Rng::with_seed(1))), ..settings() };
    let refused = Some(Err("read udp://peer:9: Connection refused".to_owned()));
    let mut bench = Bench::new(patient());
    bench.input(b"one");
    bench.post(ConsoleEvent::InputEnd(Ok(())));
    bench.error(libc::ECONNREFUSED);
    assert_eq!(bench.outcome(), refused);
    for (mended, outcome) in [(false, refused), (true, Some(Ok(())))] {
        let mut bench = Bench::new(patient());
        bench.input(b"one\n");
        bench.error(libc::ECONNREFUSED);
        bench.post(ConsoleEvent::InputEnd(Ok(())));
        if mended {
            bench.answer(b"late");
        }
        bench.timer(RETRY);
        bench.at(1_000).timer(OVER);
        assert_eq!(bench.outcome(), outcome);
    }
}

#[test]
fn lines_wait_for_the_kernel_and_for_the_console() {
    let mut bench = Bench::new(Settings { write_timeout: Duration::from_secs(1), ..settings() });
    bench.ctx.set_congested(true);
    bench.input(b"one\n");
    assert!(bench.sent().is_empty());
    bench.ctx.set_congested(false);
    bench.client.on_drain(&mut bench.ctx);
    assert_eq!(bench.sent(), [b"one\n"]);
    bench.console.0.borrow_mut().full = true;
    bench.answer(b"one\n");
    bench.answer(b"lost\n");
    bench.input(b"two\nthree\n");
    assert!(bench.sent().is_empty());
    bench.post(ConsoleEvent::Writable);
    assert_eq!(bench.sent(), [b"two\n"], "there was room for one");
    assert_eq!(bench.console.0.borrow().output, b"one\n");
}

#[test]
fn many_lines_leave_room_for_answers() {
    let mut bench = Bench::new(settings());
    bench.input(&b"x\n".repeat(BURST + 1));
    assert_eq!(bench.sent().len(), BURST);
    bench.timer(GO_ON);
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn a_silent_peer_is_asked_for_a_sign_of_life() {
    let mut bench = Bench::new(Settings { heartbeat: Duration::from_secs(1), ..settings() });
    bench.at(1_000).timer(BEAT);
    assert_eq!(bench.sent(), [b"ping\n"]);
    bench.at(1_500).answer(b"pong");
    bench.at(4_500).timer(BEAT);
    assert_eq!(bench.outcome(), Some(Err("read udp://peer:9: no sign of life for 3s".to_owned())));
}
