//! The client of datagrams: each line of input is one, and what comes back is shown.
//!
//! Owns: [`DatagramClient`]: when a line is sent, and when the conversation ends. Must not know: where its input comes
//! from, where its output goes.
//!
//! Invariants:
//! 1. Datagrams are sent in the order of the lines; none is sent while others wait for the kernel, nor between a loss
//!    and the next attempt.
//! 2. At most [`PIECES`] pieces of input are under way; one counts until its last line has been sent.
//!
//! UDP has no end of file, so silence has to do: after the end of input the conversation is over when nothing has come
//! for [`LINGER`], or for the read timeout if there is one. A read timeout counts from the first datagram that has not
//! been followed by an answer, as Go's read deadline does that is set after the write.

use std::any::Any;
use std::time::Duration;

use log::warn;

use super::console::{Console, ConsoleEvent, Outcome, PIECES};
use super::{BEAT, Heartbeat, Pulse, RETRY, Settings, found_dead, next_attempt, timed_out};
use crate::protocol::line_datagrams::{LineDatagrams, TooLong};
use crate::service::{DatagramContext, DatagramService, Errno, SocketContext, TimerName};
use crate::timer::Time;

/// An answer should have come.
const READ: TimerName = TimerName(3);
/// The kernel should have taken what waits for it.
const WRITE: TimerName = TimerName(4);
/// The next lines may be sent.
const GO_ON: TimerName = TimerName(5);
/// The conversation may be over.
const OVER: TimerName = TimerName(6);

/// Silence after the end of input that ends the conversation: more than a round trip to anywhere on earth.
const LINGER: Duration = Duration::from_secs(1);

/// Datagrams sent in a row, before answers have their turn: a file must not drown its own echo.
const BURST: usize = 64;

/// A [`Console`] and a peer, and datagrams between them.
pub struct DatagramClient {
    settings: Settings,
    console: Box<dyn Console>,
    longest: usize,
    lines: LineDatagrams,
    heartbeat: Heartbeat,
    input_ended: bool,
    /// The last line has been sent.
    said_all: bool,
    /// Pieces of input whose lines are being sent.
    pieces: usize,
    /// It waits for the time of the next attempt.
    waiting: bool,
    /// When the first datagram was sent that has not been followed by an answer.
    unanswered: Time,
    /// When something was last sent or received.
    passed: Time,
    /// The console has no room.
    full: bool,
    /// Answers that have not been shown for that reason.
    dropped: u64,
    /// What has become of the last datagrams, if they are lost and no answer has come since.
    loss: Option<String>,
    /// Some lines could not be sent.
    failed: bool,
    ended: bool,
}

impl DatagramClient {
    /// A client of this peer for this user. No datagram is longer than `longest` bytes: 65,507 on IPv4, 65,527 on IPv6.
    pub fn new(settings: Settings, longest: usize, console: Box<dyn Console>) -> Self {
        Self {
            lines: LineDatagrams::new(longest),
            longest,
            heartbeat: Heartbeat::new(settings.heartbeat),
            settings,
            console,
            input_ended: false,
            said_all: false,
            pieces: 0,
            waiting: false,
            unanswered: Time::NEVER,
            passed: Time::ZERO,
            full: false,
            dropped: 0,
            loss: None,
            failed: false,
            ended: false,
        }
    }

    /// Sends the next lines, as far as nothing is in the way.
    fn pass_on(&mut self, ctx: &mut SocketContext) {
        if self.waiting || self.ended || self.said_all {
            return;
        }
        for _ in 0..BURST {
            if self.full {
                return;
            }
            if ctx.is_congested() {
                return self.limit(ctx, WRITE, self.settings.write_timeout);
            }
            let next = self.lines.pop().or_else(|| if self.input_ended { self.lines.last() } else { None });
            match next {
                Some(Ok(line)) => self.send(ctx, &line),
                Some(Err(TooLong(len))) => {
                    let (peer, longest) = (&self.settings.peer, self.longest);
                    self.full |= !self.console.write_notice(format!(
                        "error: write {peer}: a line of {len} bytes is too long for a datagram: at most {longest}; not sent"
                    ));
                    self.failed = true;
                }
                None => return self.passed_on(ctx),
            }
        }
        ctx.set_timer(GO_ON, ctx.now(), Duration::ZERO);
    }

    /// All lines have been sent that are there.
    fn passed_on(&mut self, ctx: &mut SocketContext) {
        for _ in 0..std::mem::take(&mut self.pieces) {
            if !self.input_ended {
                self.console.request_input();
            }
        }
        if self.input_ended {
            self.said_all = true;
            self.passed = ctx.now();
            self.limit(ctx, OVER, self.linger());
        }
    }

    fn send(&mut self, ctx: &mut SocketContext, line: &[u8]) {
        ctx.send(line);
        self.full |= !self.console.write_notice(format!("packet-written: bytes={}", line.len()));
        self.spoken(ctx);
    }

    fn spoken(&mut self, ctx: &mut SocketContext) {
        self.heartbeat.spoken(ctx.now());
        self.passed = ctx.now();
        if self.unanswered.is_never() {
            self.unanswered = ctx.now();
            self.limit(ctx, READ, self.settings.read_timeout);
        }
    }

    /// Sets a timer, unless its timeout is off.
    fn limit(&self, ctx: &mut SocketContext, timer: TimerName, after: Duration) {
        if !after.is_zero() {
            ctx.set_timer(timer, ctx.now() + after, Duration::ZERO);
        }
    }

    fn linger(&self) -> Duration {
        if self.settings.read_timeout.is_zero() { LINGER } else { self.settings.read_timeout }
    }

    /// The peer has not taken or not answered what was sent: waits for the next attempt, or ends.
    fn lost(&mut self, ctx: &mut SocketContext, failure: String) {
        if self.waiting || self.ended {
            return;
        }
        self.unanswered = Time::NEVER;
        if self.said_all {
            // Nothing is left to be sent at the next attempt.
            return self.end(Err(failure));
        }
        self.loss = Some(failure.clone());
        match next_attempt(&mut self.settings.reconnect, failure) {
            Ok(wait) => {
                self.waiting = true;
                ctx.set_timer(RETRY, ctx.now() + wait, Duration::ZERO);
            }
            Err(failure) => self.end(Err(failure)),
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.ended = true;
        self.console.end(outcome);
    }

    /// Whether all has been said and nothing more is to be expected.
    fn end_if_over(&mut self, ctx: &mut SocketContext) {
        if !self.said_all || self.waiting {
            return;
        }
        let over = self.passed + self.linger();
        if ctx.now() < over {
            return ctx.set_timer(OVER, over, Duration::ZERO);
        }
        if self.unanswered.is_never() || self.settings.read_timeout.is_zero() {
            let unsent = || format!("write {}: not all lines were sent", self.settings.peer);
            let failure = self.loss.take().or_else(|| self.failed.then(unsent));
            self.end(failure.map_or(Ok(()), Err));
        }
    }

    fn watch_heart(&mut self, ctx: &mut SocketContext) {
        if !self.heartbeat.due().is_never() {
            ctx.set_timer(BEAT, self.heartbeat.due(), Duration::ZERO);
        }
    }

    fn beat(&mut self, ctx: &mut SocketContext) {
        if self.waiting || self.ended {
            return;
        }
        match self.heartbeat.pulse(ctx.now()) {
            Pulse::Quiet => {}
            Pulse::Beat => {
                ctx.send(&self.settings.heartbeat_text);
                self.heartbeat.spoken(ctx.now());
            }
            Pulse::Dead => return self.lost(ctx, found_dead(&self.settings.peer, &self.heartbeat)),
        }
        self.watch_heart(ctx);
    }
}

impl DatagramService for DatagramClient {
    fn on_start(&mut self, ctx: &mut SocketContext) {
        (0..PIECES).for_each(|_| self.console.request_input());
        self.heartbeat.start(ctx.now());
        self.watch_heart(ctx);
    }

    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, payload: &[u8]) {
        let now = ctx.now();
        self.heartbeat.heard(now);
        (self.unanswered, self.passed, self.loss) = (Time::NEVER, now, None);
        if let Some(backoff) = &mut self.settings.reconnect {
            backoff.succeeded();
        }
        if self.ended {
            return;
        }
        if self.full {
            // Nothing holds back a peer on UDP.
            self.dropped += 1;
            return;
        }
        self.full |=
            !self.console.write_notice(format!("packet-received: bytes={} from={}", payload.len(), ctx.sender()));
        self.full |= !self.console.write_output(payload);
    }

    fn on_drain(&mut self, ctx: &mut SocketContext) {
        ctx.cancel_timer(WRITE);
        self.pass_on(ctx);
    }

    fn on_error(&mut self, ctx: &mut SocketContext, errno: Errno) {
        let peer = &self.settings.peer;
        match errno.0 {
            // The line was longer than this route takes.
            libc::EMSGSIZE => {
                self.full |= !self.console.write_notice(format!("error: write {peer}: {errno}"));
                self.failed = true;
            }
            libc::ECONNREFUSED => self.lost(ctx, format!("read {peer}: {errno}")),
            _ => self.lost(ctx, format!("write {peer}: {errno}")),
        }
    }

    fn on_timer(&mut self, ctx: &mut SocketContext, timer: TimerName) {
        match timer {
            READ if !self.unanswered.is_never() => {
                let due = self.unanswered + self.settings.read_timeout;
                if ctx.now() < due {
                    ctx.set_timer(READ, due, Duration::ZERO);
                } else {
                    self.lost(ctx, timed_out("read", &self.settings.peer, self.settings.read_timeout));
                }
            }
            WRITE => self.lost(ctx, timed_out("write", &self.settings.peer, self.settings.write_timeout)),
            GO_ON => self.pass_on(ctx),
            RETRY => {
                self.waiting = false;
                self.passed = ctx.now();
                self.heartbeat.start(ctx.now());
                self.watch_heart(ctx);
                self.pass_on(ctx);
                self.end_if_over(ctx);
            }
            OVER if !self.ended => self.end_if_over(ctx),
            BEAT => self.beat(ctx),
            _ => {}
        }
    }

    fn on_post(&mut self, ctx: &mut SocketContext, message: Box<dyn Any + Send>) {
        let Ok(event) = message.downcast::<ConsoleEvent>() else { return };
        match *event {
            ConsoleEvent::Flushed => ctx.stop_reactor(),
            _ if self.ended => {}
            ConsoleEvent::Input(piece) => {
                self.pieces += 1;
                self.lines.push(&piece);
                self.pass_on(ctx);
            }
            ConsoleEvent::InputEnd(Ok(())) => {
                self.input_ended = true;
                self.pass_on(ctx);
            }
            ConsoleEvent::Writable => {
                self.full = false;
                let dropped = std::mem::take(&mut self.dropped);
                if dropped > 0 {
                    warn!("{}: standard output was full: datagrams dropped: {dropped}", self.settings.peer);
                }
                self.pass_on(ctx);
            }
            ConsoleEvent::InputEnd(outcome) | ConsoleEvent::OutputEnd(outcome) => self.end(outcome),
            // The name had been resolved before there was a socket.
            ConsoleEvent::Resolved(_) => {}
        }
    }
}

impl std::fmt::Debug for DatagramClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatagramClient").field("peer", &self.settings.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
