//! The client of byte streams: input goes to the peer, bytes from the peer go to the console.
//!
//! Owns: [`StreamClient`], the reaction to each event, and the end of the client. Must not know: the source of its
//! input, the destination of its output.
//!
//! ```text
//!   Idle ─ attempt ─┐      ┌──────────── attempt ──────────┐
//!                   ▼      ▼                                │
//!   Resolving ◀── needs a name?                             │
//!       │ dial          │ dial                              │
//!       └─────▶ Dialing ◀┘                                  │
//!                  │ connected                              │
//!                  ▼          abandon                       │ RETRY
//!              Connected ───────────────▶ Abandoned         │
//!                  │ on_close               │ on_close      │
//!                  ▼                        ▼               │
//!               reconnect? ── yes ──────────────────────▶ Waiting
//!                  └── no ──▶ Ended
//! ```
//!
//! A failed attempt takes the same way as a loss.
//!
//! Invariants:
//! 1. At most one piece of input is with the connection and not drained. The others wait in the [`InputQueue`], in
//!    order.
//! 2. Our half is closed after the last byte of input, once per connection.

mod input;
mod link;
mod service;

use std::mem;
use std::time::Duration;

use self::input::InputQueue;
use self::link::Link;
use super::console::{Console, Outcome};
use super::looks::Looks;
use super::{BEAT, ClientError, Dialer, Heartbeat, Operation, Pulse, RESOLVE, RETRY, Route, Settings};
use crate::addr::Addr;
use crate::limits::{Policy, WhileDraining};
use crate::service::{CloseReason, ServiceContext};
use crate::timer::Deadline;

/// The state of the client. Each transition is a method of [`StreamClient`].
#[derive(PartialEq, Eq, Debug)]
enum State {
    /// `on_start` has not been called.
    Idle,
    /// The console resolves the peer's name.
    Resolving,
    /// The dialer tries the peer's addresses.
    Dialing,
    /// A connection is established.
    Connected(Link),
    /// The client has aborted the connection for this failure and waits for its end.
    Abandoned(Link, ClientError),
    /// The client waits for the time of the next attempt.
    Waiting,
    /// The client has ended, or the reactor is stopping.
    Ended,
}

/// The consequence of the end of a connection.
enum Next {
    /// The client ends.
    End(Outcome),
    /// The failure is final or followed by another attempt, as the settings say.
    Lose(ClientError),
    /// The reactor is stopping: the user has cancelled the client.
    Cancel,
}

/// A client that connects a [`Console`] with a peer on a byte stream.
pub struct StreamClient {
    settings: Settings,
    route: Route,
    console: Box<dyn Console>,
    state: State,
    dialer: Dialer,
    heartbeat: Heartbeat,
    input: InputQueue,
    /// The looks before a timeout of resolving, of reading and of writing.
    resolve_looks: Looks,
    read_looks: Looks,
    write_looks: Looks,
    /// The queued output at the last look for a write, in bytes.
    queued: usize,
}

impl StreamClient {
    /// A client of the peer at `route`, with this `console`.
    pub fn new(settings: Settings, route: Route, console: Box<dyn Console>) -> Self {
        let policy = Policy {
            read_timeout: settings.read_timeout.into(),
            write_timeout: settings.write_timeout.into(),
            while_draining: WhileDraining::Listen,
            ..Policy::default()
        };
        Self {
            dialer: Dialer::new(route.dial_timeout, route.from, policy),
            heartbeat: Heartbeat::new(settings.heartbeat),
            settings,
            route,
            console,
            state: State::Idle,
            input: InputQueue::new(),
            resolve_looks: Looks::new(),
            read_looks: Looks::new(),
            write_looks: Looks::new(),
            queued: 0,
        }
    }

    /// Begins an attempt: resolves the name, if there is one, and dials.
    fn attempt(&mut self, ctx: &mut ServiceContext) {
        self.dialer.begin(ctx.now());
        match self.route.addrs.clone() {
            Some(addrs) => self.dial(ctx, addrs),
            None => {
                self.state = State::Resolving;
                self.console.resolve();
                self.resolve_looks.reset();
                if !self.dialer.due().is_never() {
                    ctx.set_timer(RESOLVE, self.dialer.due(), Duration::ZERO);
                }
            }
        }
    }

    fn dial(&mut self, ctx: &mut ServiceContext, addrs: Vec<Addr>) {
        self.state = State::Dialing;
        if let Some(reason) = self.dialer.dial(ctx, addrs) {
            self.lose(ctx, self.failure(reason));
        }
    }

    /// The failure that a connection or a dial has ended with.
    fn failure(&self, reason: CloseReason) -> ClientError {
        let Settings { peer, read_timeout, write_timeout, .. } = &self.settings;
        match reason {
            CloseReason::DialDeadline => ClientError::timeout(Operation::Dial, peer, self.route.dial_timeout),
            CloseReason::Deadline(Deadline::Read) => ClientError::timeout(Operation::Read, peer, *read_timeout),
            CloseReason::Deadline(Deadline::Write) => ClientError::timeout(Operation::Write, peer, *write_timeout),
            other => ClientError::closed(peer, other),
        }
    }

    /// There is no connection: waits for the next attempt, or ends.
    fn lose(&mut self, ctx: &mut ServiceContext, failure: ClientError) {
        match self.settings.next_attempt(failure) {
            Ok(wait) => {
                self.state = State::Waiting;
                ctx.set_timer(RETRY, ctx.now() + wait, Duration::ZERO);
            }
            Err(failure) => self.end(Err(failure)),
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.state = State::Ended;
        self.input.clear();
        self.console.end(outcome);
    }

    /// Aborts the connection, if there is one, and ends.
    fn leave(&mut self, ctx: &mut ServiceContext, outcome: Outcome) {
        if let State::Connected(link) = &self.state {
            link.with(ctx, |connection| connection.abort());
        }
        self.end(outcome);
    }

    /// Aborts the connection: the peer has failed.
    fn abandon(&mut self, ctx: &mut ServiceContext, failure: ClientError) {
        self.state = match mem::replace(&mut self.state, State::Waiting) {
            State::Connected(link) => {
                link.with(ctx, |connection| connection.abort());
                State::Abandoned(link, failure)
            }
            other => other,
        };
    }

    /// Sends the next piece of input if the connection has drained, and closes our half after the last.
    fn send_input(&mut self, ctx: &mut ServiceContext) {
        let State::Connected(link) = &mut self.state else { return };
        if link.is_read_closed() && link.is_reopened(&self.settings) {
            // The connection is finished already: input that arrives now is for the next one.
            return;
        }
        if link.can_send()
            && let Some(piece) = self.input.pop()
        {
            link.with(ctx, |connection| {
                connection.send(&piece);
                connection.await_drain();
            });
            link.note_sent();
            self.heartbeat.spoken(ctx.now());
        }
        if self.input.is_exhausted() && !link.is_write_closed() {
            link.with(ctx, |connection| connection.half_close());
            link.close_write();
        }
    }

    fn set_heartbeat_timer(&mut self, ctx: &mut ServiceContext) {
        if !self.heartbeat.due().is_never() {
            ctx.set_timer(BEAT, self.heartbeat.due(), Duration::ZERO);
        }
    }

    /// Sends a heartbeat if it is due, or abandons a peer that has missed too many.
    fn beat(&mut self, ctx: &mut ServiceContext) {
        let State::Connected(link) = &mut self.state else { return };
        if link.is_write_closed() || link.is_read_closed() {
            // A heartbeat cannot be sent, or no answer can come: silence proves nothing then.
            return;
        }
        if link.is_paused() {
            // Bytes of the peer may wait unread.
            self.heartbeat.heard(ctx.now());
        }
        match self.heartbeat.pulse(ctx.now()) {
            Pulse::Quiet => {}
            Pulse::Beat => {
                if link.can_send() {
                    link.with(ctx, |connection| connection.send(&self.settings.heartbeat_text));
                }
                self.heartbeat.spoken(ctx.now());
            }
            Pulse::Dead => {
                let failure = ClientError::silent(&self.settings.peer, self.heartbeat.patience());
                return self.abandon(ctx, failure);
            }
        }
        self.set_heartbeat_timer(ctx);
    }

    /// Reads again after a pause: the console accepts output.
    fn resume(&mut self, ctx: &mut ServiceContext) {
        let State::Connected(link) = &mut self.state else { return };
        if link.resume() {
            self.heartbeat.heard(ctx.now());
            link.with(ctx, |connection| {
                connection.resume();
                if !self.settings.write_timeout.is_zero() {
                    connection.restore_timeout(Deadline::Write);
                }
            });
        }
    }

    /// The consequence of the end of `link` for `reason`.
    fn after_close(&self, link: &Link, abandoned: Option<ClientError>, reason: CloseReason) -> Next {
        let read_closed = link.is_read_closed() && matches!(reason, CloseReason::Finished | CloseReason::Reset);
        let failure = match (reason, abandoned) {
            (_, Some(failure)) => failure,
            _ if read_closed && link.is_reopened(&self.settings) => self.failure(CloseReason::Finished),
            (CloseReason::Reset, _) if read_closed && (link.is_output_at_risk() || !self.input.is_empty()) => {
                return Next::End(Err(ClientError::input_unsent(&self.settings.peer)));
            }
            _ if read_closed => return Next::End(Ok(())),
            (CloseReason::Aborted, None) => return Next::Cancel,
            (reason, None) => self.failure(reason),
        };
        if link.is_write_closed() && link.has_sent() {
            // No input is left for another connection, and its arrival cannot be known.
            return Next::End(Err(failure));
        }
        Next::Lose(failure)
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
