//! The reactions of a stream client to the events of its connection, its timers and its console.
//!
//! Owns: the callbacks of [`StreamClient`]. Must not know: how a transition is made.

use std::mem;
use std::time::Duration;

use log::{debug, info};

use super::link::Link;
use super::{Next, State, StreamClient};
use crate::addr::Addr;
use crate::clients::console::ConsoleEvent;
use crate::clients::looks::LOOK;
use crate::clients::{BEAT, ClientError, RESOLVE, RETRY};
use crate::service::{CloseReason, Context, Receive, Service, ServiceContext, TimerName};
use crate::timer::Deadline;

impl Service for StreamClient {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        self.attempt(ctx);
    }

    fn on_dialed(&mut self, ctx: &mut Context<'_>) {
        if self.state == State::Ended {
            return ctx.abort();
        }
        if self.settings.reconnect.as_ref().is_some_and(|backoff| backoff.failures() > 0) {
            info!("{}: connected to {}", self.settings.peer, ctx.peer_addr());
        }
        debug!("{}: connected to {}", self.settings.peer, ctx.peer_addr());
        self.state = State::Connected(Link::new(ctx.id(), ctx.now()));
        self.input.start(self.console.as_mut());
        self.heartbeat.start(ctx.now());
        self.set_heartbeat_timer(ctx);
        self.send_input(ctx);
    }

    fn on_dial_error(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        // A stopping reactor aborts dials; that is no failure.
        if self.state == State::Dialing
            && reason != CloseReason::Aborted
            && let Some(reason) = self.dialer.on_dial_error(ctx, reason)
        {
            self.lose(ctx, self.failure(reason));
        }
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        self.heartbeat.heard(ctx.now());
        if self.read_looks.reset() {
            ctx.restore_timeout(Deadline::Read);
        }
        // A byte proves that the peer is there. A connection does not: a kernel accepts for a process that hangs.
        self.settings.note_success();
        if let State::Connected(link) = &mut self.state
            && !self.console.write_output(input)
        {
            link.pause();
            ctx.pause();
        }
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        let State::Connected(link) = &mut self.state else { return };
        link.close_read(ctx.queued());
        if link.is_reopened(&self.settings) {
            ctx.finish();
        } else {
            // The peer may still read the rest of the input.
            self.console.finish_input();
        }
    }

    fn on_drain(&mut self, ctx: &mut Context<'_>) {
        self.queued = 0;
        if self.write_looks.reset() {
            ctx.restore_timeout(Deadline::Write);
        }
        if let State::Connected(link) = &mut self.state
            && link.note_drained()
        {
            self.input.request_next(self.console.as_mut());
        }
        self.send_input(ctx);
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        let now = ctx.now();
        match which {
            Deadline::Write if matches!(&self.state, State::Connected(link) if link.is_paused()) => {
                // The peer may accept no bytes because we do not read its answers.
                ctx.restore_timeout(which);
            }
            Deadline::Write if mem::replace(&mut self.queued, ctx.queued()) > ctx.queued() => {
                // The kernel has taken bytes since the last look.
                self.write_looks.reset();
                ctx.restore_timeout(which);
            }
            Deadline::Read if !self.read_looks.are_over(now) => ctx.set_timeout(which, LOOK),
            Deadline::Write if !self.write_looks.are_over(now) => ctx.set_timeout(which, LOOK),
            _ => ctx.abort_because(CloseReason::Deadline(which)),
        }
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        match timer {
            RETRY if self.state == State::Waiting => self.attempt(ctx),
            RESOLVE if self.state == State::Resolving => {
                if self.resolve_looks.are_over(ctx.now()) {
                    self.lose(ctx, self.failure(CloseReason::DialDeadline));
                } else {
                    ctx.set_timer(RESOLVE, ctx.now() + LOOK, Duration::ZERO);
                }
            }
            BEAT => self.beat(ctx),
            _ => {}
        }
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        ctx.abort();
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        let id = ctx.id();
        let (mut link, abandoned) = match mem::replace(&mut self.state, State::Waiting) {
            State::Connected(link) if link.id() == id => (link, None),
            State::Abandoned(link, failure) if link.id() == id => (link, Some(failure)),
            other => return self.state = other,
        };
        if link.note_drained() {
            self.input.request_next(self.console.as_mut());
        }
        if abandoned.is_none() && link.is_proven(ctx.now(), reason) {
            self.settings.note_success();
        }
        match self.after_close(&link, abandoned, reason) {
            Next::End(outcome) => self.end(outcome),
            Next::Lose(failure) => self.lose(ctx, failure),
            Next::Cancel => self.state = State::Ended,
        }
    }
}

impl Receive<ConsoleEvent> for StreamClient {
    fn on_post(&mut self, ctx: &mut ServiceContext, event: ConsoleEvent) {
        match event {
            ConsoleEvent::Flushed => ctx.stop_reactor(),
            _ if self.state == State::Ended => {}
            // A result that comes too late is stale: each attempt resolves anew.
            ConsoleEvent::Resolved(_) if self.state != State::Resolving => {}
            ConsoleEvent::Resolved(result) => {
                ctx.cancel_timer(RESOLVE);
                match result {
                    Ok(addrs) => self.dial(ctx, addrs.into_iter().map(Addr::from).collect()),
                    Err(error) => self.lose(ctx, ClientError::resolve(&self.settings.peer, error)),
                }
            }
            ConsoleEvent::Input(piece) => {
                self.input.push(piece);
                self.send_input(ctx);
            }
            ConsoleEvent::InputEnd(Ok(())) => {
                self.input.close();
                self.send_input(ctx);
            }
            ConsoleEvent::Writable => self.resume(ctx),
            ConsoleEvent::InputEnd(outcome) | ConsoleEvent::OutputEnd(outcome) => {
                self.leave(ctx, outcome.map_err(ClientError::from));
            }
        }
    }
}
