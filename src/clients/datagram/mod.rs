//! The client of datagrams: each line of input is one datagram, and each payload goes to the console.
//!
//! Owns: [`DatagramClient`], the time at which a line is sent, and the end of the client. Must not know: the source of
//! its input, the destination of its output.
//!
//! ```text
//!   Idle ── attempt ──▶ Resolving ── resolved ──▶ Connecting ── on_connect ──▶ Connected
//!                          │                        │   ▲ next address │          │
//!                          │ failed                 │   └──────────────┴─ refused ┤
//!                          ▼                        ▼ no address left             │
//!                         reconnect? ◀──────────────┴─────────────────────────────┘
//!                          │ yes          │ no                                    ▲ resume
//!                          ▼              ▼                                       │
//!                       Waiting         Ended              Waiting ── RETRY ──────┴── or attempt
//! ```
//!
//! Invariants:
//! 1. Datagrams are sent in the order of the lines. No datagram is sent while others wait for the kernel, nor between
//!    a loss and the next attempt.
//! 2. At most [`PIECES`] pieces of input are under way. A piece counts until its last line has been sent.
//!
//! UDP has no end of file. After the end of input, the client ends after a silence of [`LINGER`], or of the read
//! timeout if there is one. The read timeout counts from the first datagram without a later answer, like a read
//! deadline in Go that is set after the write.

mod candidates;
mod service;
mod state;

use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use log::warn;

use self::candidates::Candidates;
use self::state::{Answer, Input, Output, Retry, State};
use super::console::{Console, Outcome, PIECES};
use super::looks::{LOOK, Looks};
use super::{BEAT, ClientError, Heartbeat, Operation, Pulse, RESOLVE, RETRY, Route, Settings};
use crate::addr::Addr;
use crate::id::SocketId;
use crate::protocol::line_datagrams::{LineDatagrams, TooLong};
use crate::service::{Errno, SocketContext, TimerName};
use crate::timer::Time;

/// The answer to the oldest unanswered datagram is overdue.
const READ: TimerName = TimerName(4);
/// The kernel has accepted no datagram for the write timeout.
const WRITE: TimerName = TimerName(5);
/// The next burst of lines may be sent.
const BURST_OVER: TimerName = TimerName(6);
/// The silence after the end of input may be over.
const SILENCE: TimerName = TimerName(7);

/// The silence after the end of input that ends the client: longer than a round trip to anywhere on earth.
const LINGER: Duration = Duration::from_secs(1);

/// Datagrams that are sent in a row, before answers are received: a long file must not fill the receive buffer with its
/// echo.
const BURST: usize = 64;

/// The longest payload over IPv4 and over IPv6, in bytes (RFC 768, RFC 791, RFC 8200).
const LONGEST: [usize; 2] = [65_507, 65_527];

/// A client that connects a [`Console`] with a peer on datagrams.
pub struct DatagramClient {
    settings: Settings,
    route: Route,
    console: Box<dyn Console>,
    /// Its socket, once that is open.
    socket: Option<SocketId>,
    state: State,
    candidates: Candidates,
    lines: LineDatagrams,
    longest: usize,
    heartbeat: Heartbeat,
    input: Input,
    output: Output,
    answer: Answer,
    /// The time of the last datagram, sent or received.
    last_datagram: Time,
    /// The last failure that no answer has followed.
    loss: Option<ClientError>,
    /// Lines that were too long for a datagram.
    unsent_lines: u64,
    /// The looks before a timeout of resolving, of reading (the silence at the end included) and of writing.
    resolve_looks: Looks,
    read_looks: Looks,
    write_looks: Looks,
}

impl DatagramClient {
    /// A client of the peer at `route`, with this `console`. Its socket, the only one, has no peer yet
    /// ([`Reactor::open_datagram`](crate::reactor::Reactor::open_datagram)).
    pub fn new(settings: Settings, route: Route, console: Box<dyn Console>) -> Self {
        let [longest, _] = LONGEST;
        Self {
            socket: None,
            state: State::Idle,
            candidates: Candidates::Settled,
            lines: LineDatagrams::new(longest),
            longest,
            heartbeat: Heartbeat::new(settings.heartbeat),
            settings,
            route,
            console,
            input: Input::Untouched,
            output: Output::Writable,
            answer: Answer::Settled,
            last_datagram: Time::ZERO,
            loss: None,
            unsent_lines: 0,
            resolve_looks: Looks::new(),
            read_looks: Looks::new(),
            write_looks: Looks::new(),
        }
    }

    /// Begins an attempt: resolves the name, if there is one, and connects.
    fn attempt(&mut self, ctx: &mut SocketContext<'_>) {
        match self.route.addrs.clone() {
            Some(addrs) => self.connect(ctx, addrs.iter().filter_map(Addr::as_socket).collect()),
            None => {
                self.state = State::Resolving;
                self.console.resolve();
                self.resolve_looks.reset();
                self.set_timeout(ctx, RESOLVE, self.route.dial_timeout);
            }
        }
    }

    /// Connects to the first of `addrs`, IPv4 first, as Go's `ResolveUDPAddr` prefers. The others follow after a
    /// refusal.
    fn connect(&mut self, ctx: &mut SocketContext<'_>, mut addrs: Vec<SocketAddr>) {
        let from = self.route.from;
        addrs.retain(|to| from.is_none_or(|from| from.towards(*to).is_some()));
        addrs.sort_by_key(SocketAddr::is_ipv6);
        if self.input == Input::Untouched {
            self.longest = LONGEST[usize::from(addrs.iter().all(SocketAddr::is_ipv6))];
            self.lines = LineDatagrams::new(self.longest);
        }
        let is_only = addrs.len() == 1;
        self.candidates = Candidates::new(addrs);
        if self.connect_next(ctx) {
            if is_only {
                self.candidates.settle();
            }
        } else {
            self.lose(ctx, ClientError::system(Operation::Dial, &self.settings.peer, Errno(libc::EADDRNOTAVAIL)));
        }
    }

    /// Connects to the next address. Returns false if there is none.
    fn connect_next(&mut self, ctx: &mut SocketContext<'_>) -> bool {
        let Some(to) = self.candidates.advance() else { return false };
        self.state = State::Connecting(to);
        self.answer = Answer::Settled;
        ctx.connect(to, self.route.from.and_then(|from| from.towards(to)));
        true
    }

    /// The socket has a peer: sends the waiting lines.
    fn connected(&mut self, ctx: &mut SocketContext<'_>) {
        self.state = State::Connected;
        if self.input == Input::Untouched {
            self.input = Input::Open(0);
            (0..PIECES).for_each(|_| self.console.request_input());
        }
        self.last_datagram = ctx.now();
        self.heartbeat.start(ctx.now());
        self.set_heartbeat_timer(ctx);
        for datagram in self.candidates.unanswered() {
            ctx.send(&datagram);
            self.note_sent(ctx);
        }
        self.send_lines(ctx);
        self.end_if_silent(ctx);
    }

    /// The present address has failed: connects to the next, or loses the peer.
    fn try_next(&mut self, ctx: &mut SocketContext<'_>, failure: ClientError) {
        let tries = matches!(self.state, State::Connecting(_) | State::Connected);
        if !tries || !self.connect_next(ctx) {
            self.lose(ctx, failure);
        }
    }

    /// Sends the next lines, as far as the kernel and the console accept them.
    fn send_lines(&mut self, ctx: &mut SocketContext<'_>) {
        if self.state != State::Connected || self.input == Input::Sent {
            return;
        }
        for _ in 0..BURST {
            if self.output != Output::Writable {
                return;
            }
            if ctx.is_congested() {
                return self.set_timeout(ctx, WRITE, self.settings.write_timeout);
            }
            let next = self.lines.pop().or_else(|| if self.input == Input::Ended { self.lines.last() } else { None });
            match next {
                Some(Ok(line)) => {
                    ctx.send(&line);
                    self.candidates.note_sent(&line);
                    self.write_notice(format!("packet-written: bytes={}", line.len()));
                    self.note_sent(ctx);
                }
                Some(Err(TooLong(len))) => {
                    let (peer, longest) = (&self.settings.peer, self.longest);
                    self.write_notice(format!(
                        "error: write {peer}: a line of {len} bytes is too long for a datagram: at most {longest}; not sent"
                    ));
                    self.unsent_lines += 1;
                }
                None => return self.lines_sent(ctx),
            }
        }
        let now = ctx.now();
        ctx.set_timer(BURST_OVER, now, Duration::ZERO);
    }

    /// All lines that have arrived have been sent: requests as many pieces of input, or waits for the last answers.
    fn lines_sent(&mut self, ctx: &mut SocketContext<'_>) {
        match self.input {
            Input::Open(pieces) => {
                self.input = Input::Open(0);
                (0..pieces).for_each(|_| self.console.request_input());
            }
            Input::Ended => {
                self.input = Input::Sent;
                self.last_datagram = ctx.now();
                self.set_timeout(ctx, SILENCE, self.linger());
            }
            Input::Untouched | Input::Sent => {}
        }
    }

    /// A datagram was sent that has an answer.
    fn note_sent(&mut self, ctx: &mut SocketContext<'_>) {
        self.heartbeat.spoken(ctx.now());
        self.last_datagram = ctx.now();
        if self.answer == Answer::Settled {
            self.answer = Answer::Pending(ctx.now());
            self.set_timeout(ctx, READ, self.settings.read_timeout);
        }
    }

    fn write_notice(&mut self, line: String) {
        let writable = self.console.write_notice(line);
        self.note_output(writable);
    }

    /// The console has accepted output; `writable` is its answer.
    fn note_output(&mut self, writable: bool) {
        if !writable && self.output == Output::Writable {
            self.output = Output::Full { dropped: 0 };
        }
    }

    /// Sets a timer, unless its timeout is off.
    fn set_timeout(&self, ctx: &mut SocketContext<'_>, timer: TimerName, after: Duration) {
        if !after.is_zero() {
            let due = ctx.now() + after;
            ctx.set_timer(timer, due, Duration::ZERO);
        }
    }

    fn linger(&self) -> Duration {
        if self.settings.read_timeout.is_zero() { LINGER } else { self.settings.read_timeout }
    }

    /// The peer has not accepted or not answered a datagram: waits for the next attempt, or ends.
    fn lose(&mut self, ctx: &mut SocketContext<'_>, failure: ClientError) {
        let retry = match self.state {
            State::Waiting(_) | State::Ended => return,
            State::Connected if self.candidates.is_settled() => Retry::Resume,
            _ => Retry::Reconnect,
        };
        self.answer = Answer::Settled;
        if self.input == Input::Sent {
            // No line is left for the next attempt.
            return self.end(Err(failure));
        }
        self.loss = Some(failure.clone());
        match self.settings.next_attempt(failure) {
            Ok(wait) => {
                self.state = State::Waiting(retry);
                let due = ctx.now() + wait;
                ctx.set_timer(RETRY, due, Duration::ZERO);
            }
            Err(failure) => self.end(Err(failure)),
        }
    }

    /// The deadline for resolving the name has passed.
    fn resolve_overdue(&mut self, ctx: &mut SocketContext<'_>) {
        let now = ctx.now();
        if !self.resolve_looks.are_over(now) {
            return ctx.set_timer(RESOLVE, now + LOOK, Duration::ZERO);
        }
        let failure = ClientError::timeout(Operation::Dial, &self.settings.peer, self.route.dial_timeout);
        self.lose(ctx, failure);
    }

    /// The answer may be overdue: the timer counts from a datagram that may have been answered since.
    fn answer_overdue(&mut self, ctx: &mut SocketContext<'_>) {
        let Answer::Pending(since) = self.answer else { return };
        let (now, due) = (ctx.now(), since + self.settings.read_timeout);
        if now < due {
            return ctx.set_timer(READ, due, Duration::ZERO);
        }
        if !self.read_looks.are_over(now) {
            return ctx.set_timer(READ, now + LOOK, Duration::ZERO);
        }
        let failure = ClientError::timeout(Operation::Read, &self.settings.peer, self.settings.read_timeout);
        self.lose(ctx, failure);
    }

    /// The kernel has accepted no datagram for the write timeout.
    fn write_overdue(&mut self, ctx: &mut SocketContext<'_>) {
        let now = ctx.now();
        if !self.write_looks.are_over(now) {
            return ctx.set_timer(WRITE, now + LOOK, Duration::ZERO);
        }
        let failure = ClientError::timeout(Operation::Write, &self.settings.peer, self.settings.write_timeout);
        self.lose(ctx, failure);
    }

    fn end(&mut self, outcome: Outcome) {
        self.state = State::Ended;
        self.console.end(outcome);
    }

    /// Ends the client if all lines have been sent and the silence after them is over.
    fn end_if_silent(&mut self, ctx: &mut SocketContext<'_>) {
        if self.input != Input::Sent || self.state != State::Connected {
            return;
        }
        let (now, over) = (ctx.now(), self.last_datagram + self.linger());
        if now < over {
            return ctx.set_timer(SILENCE, over, Duration::ZERO);
        }
        if !self.read_looks.are_over(now) {
            return ctx.set_timer(SILENCE, now + LOOK, Duration::ZERO);
        }
        // A missing answer within the read timeout belongs to the timer READ.
        if self.answer == Answer::Settled || self.settings.read_timeout.is_zero() {
            let unsent = (self.unsent_lines > 0).then(|| ClientError::lines_unsent(&self.settings.peer));
            let failure = self.loss.take().or(unsent);
            self.end(failure.map_or(Ok(()), Err));
        }
    }

    fn set_heartbeat_timer(&mut self, ctx: &mut SocketContext<'_>) {
        if !self.heartbeat.due().is_never() {
            ctx.set_timer(BEAT, self.heartbeat.due(), Duration::ZERO);
        }
    }

    /// Sends a heartbeat if it is due, or loses a peer that has missed too many.
    fn beat(&mut self, ctx: &mut SocketContext<'_>) {
        if self.state != State::Connected {
            return;
        }
        match self.heartbeat.pulse(ctx.now()) {
            Pulse::Quiet => {}
            Pulse::Beat => {
                ctx.send(&self.settings.heartbeat_text);
                self.heartbeat.spoken(ctx.now());
            }
            Pulse::Dead => {
                let failure = ClientError::silent(&self.settings.peer, self.heartbeat.patience());
                return self.lose(ctx, failure);
            }
        }
        self.set_heartbeat_timer(ctx);
    }

    /// The console accepts output again.
    fn resume(&mut self, ctx: &mut SocketContext<'_>) {
        if let Output::Full { dropped } = mem::replace(&mut self.output, Output::Writable)
            && dropped > 0
        {
            warn!("{}: standard output was full: datagrams dropped: {dropped}", self.settings.peer);
        }
        self.send_lines(ctx);
    }
}

impl std::fmt::Debug for DatagramClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatagramClient")
            .field("peer", &self.settings.peer)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
