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
mod tests;
