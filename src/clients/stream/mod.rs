//! The client of byte streams: what is typed goes to the peer, what the peer says is shown.
//!
//! Owns: [`StreamClient`]: what each event means for the conversation, and when it ends. Must not know: where its input
//! comes from, where its output goes.
//!
//! ```text
//!              ┌──────── the name is resolved ◀────────┐
//!   Resolving ─┴▶ Dialing ── on_dialed ──▶ Connected   │ the time has come
//!       │            │ all addresses fail      │ lost   │
//!       └────────────┴───────────┬─────────────┘   Waiting
//!                                ▼                     ▲
//!                     shall it try again? ─── yes ─────┘
//!                                └─── no ───▶ Ended
//! ```
//!
//! Invariants:
//! 1. At most one piece of input is with the connection and not drained; the others wait here, in order, and outlive it.
//! 2. A piece is asked for whenever one has been passed on, never otherwise: at most [`PIECES`] are under way.
//! 3. Our half is closed after the last byte of input, once per connection.

mod link;

use std::any::Any;
use std::collections::VecDeque;
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use log::{debug, info};

use self::link::Link;
use super::console::{Console, ConsoleEvent, Outcome, PIECES};
use super::{BEAT, Dialer, Heartbeat, Pulse, RETRY, Settings, found_dead, next_attempt, timed_out};
use crate::id::ConnId;
use crate::limits::{Policy, WhileCongested};
use crate::service::{CloseReason, Context, DialName, Service, ServiceContext, TimerName};
use crate::timer::Deadline;

/// The peer's name should have been resolved.
const RESOLVE: TimerName = TimerName(3);

/// How a stream client comes to its peer.
#[derive(Clone, Debug)]
pub struct Route {
    /// The peer's addresses; without them the console is asked, for each attempt anew.
    pub addrs: Option<Vec<SocketAddr>>,
    /// The local address, if it matters.
    pub from: Option<SocketAddr>,
    /// How long an attempt may take, resolving the name included; zero for as long as it likes.
    pub dial_timeout: Duration,
}

/// How far it is.
#[derive(PartialEq, Eq, Debug)]
enum State {
    Resolving,
    Dialing,
    Connected(Link),
    Waiting,
    Ended,
}

/// A [`Console`] and a peer, and nothing between them.
pub struct StreamClient {
    settings: Settings,
    route: Route,
    console: Box<dyn Console>,
    state: State,
    dialer: Dialer,
    heartbeat: Heartbeat,
    /// Input that has not been passed on.
    pending: VecDeque<Vec<u8>>,
    input_ended: bool,
    /// It has been connected before.
    begun: bool,
}

impl StreamClient {
    /// A client of this peer for this user.
    pub fn new(settings: Settings, route: Route, console: Box<dyn Console>) -> Self {
        let policy = Policy {
            read_timeout: settings.read_timeout.into(),
            write_timeout: settings.write_timeout.into(),
            while_congested: WhileCongested::Listen,
            ..Policy::default()
        };
        Self {
            dialer: Dialer::new(route.dial_timeout, route.from, policy),
            heartbeat: Heartbeat::new(settings.heartbeat),
            settings,
            route,
            console,
            state: State::Waiting,
            pending: VecDeque::new(),
            input_ended: false,
            begun: false,
        }
    }

    fn attempt(&mut self, ctx: &mut ServiceContext) {
        self.dialer.begin(ctx.now());
        match self.route.addrs.clone() {
            Some(addrs) => self.dial(ctx, addrs),
            None => {
                self.state = State::Resolving;
                self.console.resolve();
                if !self.dialer.due().is_never() {
                    ctx.set_timer(RESOLVE, self.dialer.due(), Duration::ZERO);
                }
            }
        }
    }

    fn dial(&mut self, ctx: &mut ServiceContext, addrs: Vec<SocketAddr>) {
        self.state = State::Dialing;
        if let Some(reason) = self.dialer.dial(ctx, addrs) {
            self.lost(ctx, self.describe(reason));
        }
    }

    /// What a reason is called on the command line.
    fn describe(&self, reason: CloseReason) -> String {
        let Settings { peer, read_timeout, write_timeout, .. } = &self.settings;
        match reason {
            CloseReason::Unreachable(errno) => format!("dial {peer}: {errno}"),
            CloseReason::SelfConnect => {
                format!("dial {peer}: the socket had connected to itself: nobody listens there")
            }
            CloseReason::Deadline(Deadline::Dial) => timed_out("dial", peer, self.route.dial_timeout),
            CloseReason::Deadline(Deadline::Read) => timed_out("read", peer, *read_timeout),
            CloseReason::Deadline(Deadline::Write) => timed_out("write", peer, *write_timeout),
            CloseReason::Reset => format!("read {peer}: Connection reset by peer"),
            CloseReason::Failed(errno) => format!("read {peer}: {errno}"),
            CloseReason::Finished => format!("{peer}: closed by the peer"),
            other => format!("{peer}: {other}"),
        }
    }

    /// There is no connection, or no more: waits for the next attempt, or ends.
    fn lost(&mut self, ctx: &mut ServiceContext, failure: String) {
        match next_attempt(&mut self.settings.reconnect, failure) {
            Ok(wait) => {
                self.state = State::Waiting;
                ctx.set_timer(RETRY, ctx.now() + wait, Duration::ZERO);
            }
            Err(failure) => self.end(Err(failure)),
        }
    }

    /// The peer has shown that it is there: its kernel accepts for a process that hangs or closes everything at once.
    fn succeeded(&mut self) {
        if let Some(backoff) = &mut self.settings.reconnect {
            backoff.succeeded();
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.state = State::Ended;
        self.pending.clear();
        self.console.end(outcome);
    }

    /// Passes on what has been typed, as far as the connection has room, and then its end.
    fn pass_on(&mut self, ctx: &mut ServiceContext) {
        let State::Connected(link) = &mut self.state else { return };
        if link.heard_all && link.shall_return(&self.settings) {
            // It is finished already; what comes now is for the next connection.
            return;
        }
        if !link.sending
            && let Some(piece) = self.pending.pop_front()
        {
            ctx.send_to(link.id, &piece);
            ctx.await_drain(link.id);
            link.speak();
            self.heartbeat.spoken(ctx.now());
        }
        if self.pending.is_empty() && self.input_ended && !link.said_all {
            ctx.half_close_peer(link.id);
            link.said_all = true;
        }
    }

    /// The piece that was with the connection is so no more: another may come.
    fn passed_on(&mut self) {
        if let State::Connected(link) = &mut self.state
            && mem::take(&mut link.sending)
            && !self.input_ended
        {
            self.console.request_input();
        }
    }

    fn watch_heart(&mut self, ctx: &mut ServiceContext) {
        if !self.heartbeat.due().is_never() {
            ctx.set_timer(BEAT, self.heartbeat.due(), Duration::ZERO);
        }
    }

    fn beat(&mut self, ctx: &mut ServiceContext) {
        let State::Connected(link) = &mut self.state else { return };
        if link.said_all || link.heard_all {
            // Whoever cannot be asked, or has said all, may be silent.
            return;
        }
        if link.paused {
            // It may have said much that we have not read.
            self.heartbeat.heard(ctx.now());
        }
        match self.heartbeat.pulse(ctx.now()) {
            Pulse::Quiet => {}
            Pulse::Beat => {
                if !link.sending {
                    ctx.send_to(link.id, &self.settings.heartbeat_text);
                }
                self.heartbeat.spoken(ctx.now());
            }
            Pulse::Dead => {
                link.verdict = Some(found_dead(&self.settings.peer, &self.heartbeat));
                ctx.abort_peer(link.id);
                return;
            }
        }
        self.watch_heart(ctx);
    }

    /// Leaves the peer, if there is one.
    fn leave(&mut self, ctx: &mut ServiceContext, outcome: Outcome) {
        if let State::Connected(link) = &self.state {
            ctx.abort_peer(link.id);
        }
        self.end(outcome);
    }
}

impl Service for StreamClient {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        self.attempt(ctx);
    }

    fn on_dialed(&mut self, ctx: &mut Context<'_>, _dial: DialName) {
        if self.state == State::Ended {
            return ctx.abort();
        }
        if self.settings.reconnect.as_ref().is_some_and(|backoff| backoff.failures() > 0) {
            info!("{}: connected to {}", self.settings.peer, ctx.peer());
        }
        debug!("{}: connected to {}", self.settings.peer, ctx.peer());
        self.state = State::Connected(Link::new(ctx.id(), ctx.now()));
        // Before this, what is typed is left to whoever else might read it.
        if !mem::replace(&mut self.begun, true) {
            (0..PIECES).for_each(|_| self.console.request_input());
        }
        self.heartbeat.start(ctx.now());
        self.watch_heart(ctx);
        self.pass_on(ctx);
    }

    fn on_dial_error(&mut self, ctx: &mut ServiceContext, dial: DialName, reason: CloseReason) {
        // A stopping reactor aborts dials; that is no failure.
        if self.state == State::Dialing
            && reason != CloseReason::Aborted
            && let Some(reason) = self.dialer.on_dial_error(ctx, dial, reason)
        {
            self.lost(ctx, self.describe(reason));
        }
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        self.heartbeat.heard(ctx.now());
        self.succeeded();
        if let State::Connected(link) = &mut self.state
            && !self.console.write_output(input)
        {
            link.paused = true;
            ctx.pause();
        }
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        let State::Connected(link) = &mut self.state else { return };
        link.hear_all();
        if link.shall_return(&self.settings) {
            ctx.finish();
        } else {
            // It may want to hear the rest of ours all the same.
            self.console.finish_input();
        }
    }

    fn on_drain(&mut self, ctx: &mut Context<'_>) {
        self.passed_on();
        self.pass_on(ctx);
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        if which == Deadline::Write && matches!(&self.state, State::Connected(link) if link.paused) {
            // It may take nothing because we do not take its answers.
            ctx.set_write_deadline(ctx.now() + self.settings.write_timeout);
        } else {
            ctx.abort_because(CloseReason::Deadline(which));
        }
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        match timer {
            RETRY if self.state == State::Waiting => self.attempt(ctx),
            RESOLVE if self.state == State::Resolving => {
                self.lost(ctx, timed_out("dial", &self.settings.peer, self.route.dial_timeout));
            }
            BEAT => self.beat(ctx),
            _ => {}
        }
    }

    fn on_post(&mut self, ctx: &mut ServiceContext, message: Box<dyn Any + Send>) {
        let Ok(event) = message.downcast::<ConsoleEvent>() else { return };
        match *event {
            ConsoleEvent::Flushed => ctx.stop_reactor(),
            _ if self.state == State::Ended => {}
            ConsoleEvent::Resolved(found) => {
                // One that comes too late is asked for again.
                if self.state == State::Resolving {
                    ctx.cancel_timer(RESOLVE);
                    match found {
                        Ok(addrs) => self.dial(ctx, addrs),
                        Err(why) => self.lost(ctx, format!("dial {}: {why}", self.settings.peer)),
                    }
                }
            }
            ConsoleEvent::Input(piece) => {
                self.pending.push_back(piece);
                self.pass_on(ctx);
            }
            ConsoleEvent::InputEnd(Ok(())) => {
                self.input_ended = true;
                self.pass_on(ctx);
            }
            ConsoleEvent::Writable => {
                if let State::Connected(link) = &mut self.state
                    && mem::take(&mut link.paused)
                {
                    self.heartbeat.heard(ctx.now());
                    ctx.resume_peer(link.id);
                    if !self.settings.write_timeout.is_zero() {
                        ctx.set_peer_deadline(link.id, Deadline::Write, ctx.now() + self.settings.write_timeout);
                    }
                }
            }
            ConsoleEvent::InputEnd(outcome) | ConsoleEvent::OutputEnd(outcome) => self.leave(ctx, outcome),
        }
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        ctx.abort();
    }

    fn on_close(&mut self, ctx: &mut ServiceContext, id: ConnId, reason: CloseReason) {
        if !matches!(&self.state, State::Connected(link) if link.id == id) {
            return;
        }
        self.passed_on();
        let State::Connected(link) = mem::replace(&mut self.state, State::Waiting) else { return };
        if link.is_proven(ctx.now(), reason) {
            self.succeeded();
        }
        let heard_all = link.heard_all && matches!(reason, CloseReason::Finished | CloseReason::Reset);
        let failure = match reason {
            _ if heard_all && link.shall_return(&self.settings) => self.describe(CloseReason::Finished),
            // It has not taken what we had to say when it had said all.
            CloseReason::Reset if heard_all && (link.talked_on || !self.pending.is_empty()) => {
                let peer = &self.settings.peer;
                let failure = format!("write {peer}: Connection reset by peer: not all input was sent");
                return self.end(Err(failure));
            }
            _ if heard_all => return self.end(Ok(())),
            CloseReason::Aborted => match link.verdict {
                Some(verdict) => verdict,
                // The user has cancelled it.
                None => return,
            },
            reason => self.describe(reason),
        };
        if link.said_all && link.spoken {
            // Nothing is left to be said on another connection, and whether all of it has arrived cannot be known.
            return self.end(Err(failure));
        }
        self.lost(ctx, failure);
    }
}

impl std::fmt::Debug for StreamClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamClient")
            .field("peer", &self.settings.peer)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Backoff;
    use super::super::console::fake::FakeConsole;
    use super::link::PROVEN;
    use super::*;
    use crate::service::{Command, Errno, Probe};
    use crate::timer::Time;

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

    /// A client with a scripted console, called by a probe.
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

        /// One whose connection number `n` has been dialed.
        fn connected(settings: Settings) -> (Self, ConnId) {
            let mut bench = Self::new(settings);
            bench.dialed(1);
            (bench, Probe::id(1))
        }

        fn dialed(&mut self, n: u32) -> Vec<Command> {
            let [dial] = self.probe.outbox().dials() else { panic!("not one dial") };
            let name = dial.name;
            self.probe.take_commands();
            self.probe.on(Probe::id(n), |ctx| self.client.on_dialed(ctx, name));
            self.probe.take_commands()
        }

        fn post(&mut self, event: ConsoleEvent) -> Vec<Command> {
            self.probe.call(|ctx| self.client.on_post(ctx, Box::new(event)));
            self.sent()
        }

        /// What has been recorded since.
        fn sent(&mut self) -> Vec<Command> {
            self.probe.take_commands()
        }

        fn close(&mut self, id: ConnId, reason: CloseReason) -> Vec<Command> {
            self.probe.call(|ctx| self.client.on_close(ctx, id, reason));
            self.sent()
        }

        fn timer(&mut self, name: TimerName) {
            self.probe.call(|ctx| self.client.on_timer(ctx, name));
        }

        fn outcome(&self) -> Option<Outcome> {
            self.console.0.borrow().outcome.clone()
        }

        fn requested(&self) -> usize {
            self.console.0.borrow().requested
        }
    }

    fn input(text: &[u8]) -> ConsoleEvent {
        ConsoleEvent::Input(text.to_vec())
    }

    #[test]
    fn input_goes_piece_by_piece_and_then_its_end() {
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
        assert_eq!(bench.sent(), [], "said twice");
        assert_eq!(bench.requested(), PIECES, "there is no more input");
        bench.probe.on(id, |ctx| bench.client.on_eof(ctx, b""));
        bench.close(id, CloseReason::Finished);
        assert_eq!(bench.outcome(), Some(Ok(())));
        assert_eq!(bench.post(ConsoleEvent::Flushed), [Command::Stop]);
    }

    #[test]
    fn what_is_at_hand_when_the_peer_has_said_all_still_goes_to_it() {
        let ended = |reason| {
            let (mut bench, id) = Bench::connected(settings());
            bench.post(input(b"one"));
            bench.probe.on(id, |ctx| bench.client.on_drain(ctx));
            bench.sent();
            bench.probe.on(id, |ctx| bench.client.on_eof(ctx, b""));
            assert!(bench.console.0.borrow().input_finished);
            assert_eq!(bench.sent(), []);
            bench.probe.call(|ctx| bench.client.on_post(ctx, Box::new(input(b"two"))));
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

        // Nothing was lost with one that has not been told anything since.
        let (mut bench, id) = Bench::connected(settings());
        bench.probe.on(id, |ctx| bench.client.on_eof(ctx, b""));
        bench.close(id, CloseReason::Reset);
        assert_eq!(bench.outcome(), Some(Ok(())));
    }

    #[test]
    fn a_piece_is_asked_for_when_one_has_been_passed_on() {
        let (mut bench, id) = Bench::connected(patient());
        bench.post(input(b"one"));
        assert_eq!(bench.requested(), PIECES);
        bench.probe.on(id, |ctx| bench.client.on_drain(ctx));
        assert_eq!(bench.requested(), PIECES + 1);
        bench.post(input(b"two"));
        bench.close(id, CloseReason::Reset);
        assert_eq!(bench.requested(), PIECES + 2, "the piece that is lost is not under way any more");
    }

    #[test]
    fn without_room_the_peer_is_paused_until_there_is() {
        let (mut bench, id) = Bench::connected(settings());
        bench.console.0.borrow_mut().full = true;
        assert_eq!(bench.probe.on(id, |ctx| bench.client.on_data(ctx, b"much")), 4);
        assert_eq!(bench.sent(), [Command::Pause { of: id }]);
        assert_eq!(bench.post(ConsoleEvent::Writable), [Command::Resume { of: id }]);
        assert_eq!(bench.post(ConsoleEvent::Writable), []);
        assert_eq!(bench.console.0.borrow().output, b"much");
    }

    #[test]
    fn failures_are_told_in_one_line_each() {
        let after = |reason| {
            let (mut bench, id) =
                Bench::connected(Settings { read_timeout: Duration::from_millis(1_500), ..settings() });
            bench.close(id, reason);
            bench.outcome().expect("an outcome").expect_err("a failure")
        };
        assert_eq!(after(CloseReason::Reset), "read tcp://peer:9: Connection reset by peer");
        assert_eq!(after(CloseReason::Deadline(Deadline::Read)), "read tcp://peer:9: i/o timeout after 1.5s");
        assert_eq!(after(CloseReason::Failed(Errno(libc::EPERM))), "read tcp://peer:9: Operation not permitted");
        let dialing = |reason| {
            let mut bench = Bench::new(settings());
            let name = bench.probe.outbox().dials()[0].name;
            bench.probe.call(|ctx| bench.client.on_dial_error(ctx, name, reason));
            bench.outcome().map(|outcome| outcome.expect_err("a failure"))
        };
        assert_eq!(dialing(REFUSED).unwrap(), "dial tcp://peer:9: Connection refused");
        let deadline = CloseReason::Deadline(Deadline::Dial);
        assert_eq!(dialing(deadline).unwrap(), "dial tcp://peer:9: i/o timeout after 1s");
        assert_eq!(dialing(CloseReason::Aborted), None, "cancelled");
    }

    #[test]
    fn what_the_peer_closes_is_opened_again_and_what_was_typed_is_kept() {
        let (mut bench, id) = Bench::connected(patient());
        bench.probe.on(id, |ctx| bench.client.on_eof(ctx, b""));
        assert_eq!(bench.sent(), [Command::Finish { of: id }]);
        assert_eq!(bench.post(input(b"too late for this one")), []);
        let timer = bench.close(id, CloseReason::Finished);
        assert!(matches!(timer[..], [Command::SetTimer { name: RETRY, .. }]), "{timer:?}");
        assert_eq!(bench.post(input(b"meanwhile")), []);
        bench.timer(RETRY);
        let name = bench.probe.outbox().dials()[0].name;
        bench.probe.take_commands();
        bench.probe.on(Probe::id(2), |ctx| bench.client.on_dialed(ctx, name));
        assert_eq!(bench.probe.sent_to(Probe::id(2), b""), b"too late for this one");
        assert_eq!(bench.outcome(), None);
    }

    #[test]
    fn attempts_have_an_end_and_a_success_starts_them_anew() {
        let mut bench = Bench::new(patient());
        let fail = |bench: &mut Bench| {
            let name = bench.probe.outbox().dials()[0].name;
            bench.probe.take_commands();
            bench.probe.call(|ctx| bench.client.on_dial_error(ctx, name, REFUSED));
            bench.timer(RETRY);
        };
        for _ in 0..3 {
            fail(&mut bench);
        }
        bench.dialed(1);
        bench.probe.on(Probe::id(1), |ctx| bench.client.on_data(ctx, b"hello"));
        bench.close(Probe::id(1), CloseReason::Reset);
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
    fn a_connection_is_a_success_when_the_peer_has_spoken_or_it_has_lived() {
        let after = |lived, reason| {
            let mut bench = Bench::new(patient());
            for n in 1..=4 {
                bench.dialed(n);
                bench.probe.advance(lived);
                bench.close(Probe::id(n), reason);
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
    fn who_has_said_all_does_not_come_back() {
        let (mut bench, id) = Bench::connected(patient());
        bench.post(input(b"one"));
        bench.probe.on(id, |ctx| bench.client.on_drain(ctx));
        bench.post(ConsoleEvent::InputEnd(Ok(())));
        assert_eq!(bench.close(id, CloseReason::Reset), []);
        let failure = "read tcp://peer:9: Connection reset by peer".to_owned();
        assert_eq!(bench.outcome(), Some(Err(failure)));
    }

    #[test]
    fn a_peer_that_cannot_be_asked_or_has_said_all_may_be_silent() {
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
    fn a_write_deadline_waits_while_we_do_not_read() {
        let (mut bench, id) = Bench::connected(Settings { write_timeout: Duration::from_secs(1), ..settings() });
        let which = Deadline::Write;
        bench.console.0.borrow_mut().full = true;
        bench.probe.on(id, |ctx| bench.client.on_data(ctx, b"much"));
        bench.sent();
        bench.probe.on(id, |ctx| bench.client.on_deadline(ctx, which));
        let anew = Command::SetDeadline { of: id, which, due: Time::ZERO + Duration::from_secs(1) };
        assert_eq!(bench.sent(), [anew]);
        assert_eq!(bench.post(ConsoleEvent::Writable), [Command::Resume { of: id }, anew]);
        bench.probe.on(id, |ctx| bench.client.on_deadline(ctx, which));
        assert_eq!(bench.sent(), [Command::Abort { of: id, reason: CloseReason::Deadline(which) }]);
    }

    #[test]
    fn a_name_is_resolved_within_the_time_of_the_dial_and_for_each_attempt_anew() {
        let mut bench = Bench::on(Route { addrs: None, ..route() }, patient());
        bench.probe.take_commands();
        bench.probe.advance(Duration::from_secs(1));
        bench.timer(RESOLVE);
        assert_eq!(bench.console.0.borrow().resolutions, 1);
        bench.timer(RETRY);
        assert_eq!(bench.console.0.borrow().resolutions, 2);
        bench.probe.take_commands();
        bench.post(ConsoleEvent::Resolved(Err("no such name".to_owned())));
        bench.timer(RETRY);
        bench.probe.take_commands();
        let found = ConsoleEvent::Resolved(Ok(vec![([127, 0, 0, 1], 9).into()]));
        bench.probe.call(|ctx| bench.client.on_post(ctx, Box::new(found)));
        bench.dialed(1);
        let impatient = Bench::on(Route { addrs: None, ..route() }, settings());
        let Bench { mut probe, mut client, console } = impatient;
        probe.advance(Duration::from_secs(1));
        probe.call(|ctx| client.on_timer(ctx, RESOLVE));
        let failure = console.0.borrow().outcome.clone().unwrap().unwrap_err();
        assert_eq!(failure, "dial tcp://peer:9: i/o timeout after 1s");
    }

    #[test]
    fn a_peer_that_misses_its_heartbeats_is_left() {
        let beating = Settings { heartbeat: Duration::from_secs(1), ..settings() };
        let (mut bench, id) = Bench::connected(beating.clone());
        for _ in 0..2 {
            bench.probe.advance(Duration::from_secs(1));
            bench.timer(BEAT);
            assert_eq!(bench.probe.sent_to(id, b""), b"ping\n");
            bench.sent();
        }
        bench.probe.advance(Duration::from_secs(1));
        bench.timer(BEAT);
        assert_eq!(bench.sent(), [Command::Abort { of: id, reason: CloseReason::Aborted }]);
        bench.close(id, CloseReason::Aborted);
        let failure = bench.outcome().unwrap().unwrap_err();
        assert_eq!(failure, "read tcp://peer:9: no sign of life for 3s");

        // Not one that we do not read.
        let (mut bench, id) = Bench::connected(beating);
        bench.console.0.borrow_mut().full = true;
        bench.probe.on(id, |ctx| bench.client.on_data(ctx, b"much"));
        bench.sent();
        bench.probe.advance(Duration::from_secs(9));
        bench.timer(BEAT);
        assert!(!bench.sent().iter().any(|command| matches!(command, Command::Abort { .. })));
    }

    #[test]
    fn a_cancelled_conversation_has_no_outcome_and_a_reader_that_leaves_ends_it_quietly() {
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
}
