//! A connection for each request: how many a second are accepted, told the time, and closed.
//!
//! Owns: [`Time`]. Must not know: what time it is.
//!
//! A request is: connect, read a line, read the end of file. Its latency is that of all three.
//!
//! Invariant: there are as many *slots* as connections at a time. Each is dialing, connected, rests after a failure, or
//! stands in `free` and waits for a request to be due.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::Load;
use super::conductor::Run;
use super::pace::{Pace, Wake};
use super::stream::DIAL_TIMEOUT;
use crate::id::{ConnId, ConnMap};
use crate::service::{CloseReason, Context, Dial, DialName, Service, ServiceContext, TimerName};

/// How long a slot rests after it could not connect.
const REST: Duration = Duration::from_millis(100);

/// When the next request is due.
const DUE: TimerName = TimerName(0);
/// When slots have rested.
const RESTED: TimerName = TimerName(1);

struct Client {
    slot: usize,
    /// The last byte that has come.
    last: Option<u8>,
    done: bool,
}

/// The service of all connections of a run.
pub struct Time {
    run: Rc<RefCell<Run>>,
    pace: Pace,
    to: SocketAddr,
    /// When the request of each slot was due.
    since: Vec<u64>,
    free: Vec<usize>,
    resting: Vec<usize>,
    /// Somebody has been reached.
    reached: bool,
    clients: ConnMap<Client>,
    armed: bool,
}

impl Time {
    /// As many connections at a time as `load` asks for.
    pub fn new(load: &Load, run: &Rc<RefCell<Run>>) -> Self {
        Self {
            pace: run.borrow().pace(0, 1),
            run: Rc::clone(run),
            to: load.to,
            since: vec![0; load.connections],
            free: (0..load.connections).collect(),
            resting: Vec::new(),
            reached: false,
            clients: ConnMap::new(),
            armed: false,
        }
    }

    /// Gives the free slots the requests that are due.
    fn use_free(&mut self, ctx: &mut ServiceContext) {
        let run = &mut *self.run.borrow_mut();
        if run.is_stopped() {
            return;
        }
        while let Some(&slot) = self.free.last() {
            let now = run.now();
            let Some(since) = self.pace.take(now) else { break };
            self.free.pop();
            self.since[slot] = since;
            run.sent(0);
            ctx.dial(Dial::to(self.to).named(DialName(slot as u64)).within(DIAL_TIMEOUT));
        }
        if self.armed || self.free.is_empty() {
            return;
        }
        match self.pace.wake(run.now()) {
            Some(Wake::Timer(after)) => ctx.set_timer(DUE, ctx.now() + after, Duration::ZERO),
            Some(Wake::Turn) => ctx.request_turn(),
            None => return,
        }
        self.armed = true;
    }
}

impl Service for Time {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        self.pace = {
            let mut run = self.run.borrow_mut();
            run.begin();
            run.pace(0, 1)
        };
        self.use_free(ctx);
    }

    fn on_dialed(&mut self, ctx: &mut Context<'_>, dial: DialName) {
        self.reached = true;
        self.clients.insert(ctx.id(), Client { slot: dial.0 as usize, last: None, done: false });
    }

    fn on_dial_error(&mut self, ctx: &mut ServiceContext, dial: DialName, reason: CloseReason) {
        let slot = dial.0 as usize;
        let run = &mut *self.run.borrow_mut();
        run.in_flight -= 1;
        if run.is_stopped() || reason == CloseReason::Aborted {
            return;
        }
        run.tally.error(reason.to_string());
        run.unreachable = Some(reason);
        if !self.reached {
            return run.retire();
        }
        self.resting.push(slot);
        ctx.set_timer(RESTED, ctx.now() + REST, Duration::ZERO);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        self.run.borrow_mut().tally.bytes_in += input.len() as u64;
        if let Some(client) = self.clients.get_mut(ctx.id()) {
            client.last = input.last().copied();
        }
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        if let Some(client) = self.clients.get_mut(ctx.id()) {
            let run = &mut *self.run.borrow_mut();
            client.done = client.last == Some(b'\n');
            if client.done {
                let now = run.now();
                run.tally.record(now.saturating_sub(self.since[client.slot]));
                run.answered(now);
            }
        }
        ctx.finish();
    }

    fn on_turn(&mut self, ctx: &mut ServiceContext) {
        self.armed = false;
        self.use_free(ctx);
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        if timer == RESTED {
            self.free.append(&mut self.resting);
            return self.use_free(ctx);
        }
        self.on_turn(ctx);
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        self.run.borrow_mut().stop();
        ctx.abort();
    }

    fn on_close(&mut self, ctx: &mut ServiceContext, id: ConnId, reason: CloseReason) {
        let Some(client) = self.clients.remove(id) else { return };
        if !client.done {
            let run = &mut *self.run.borrow_mut();
            if !run.is_stopped() {
                run.tally.error(match reason {
                    CloseReason::Finished => "the connection ended without a line".to_owned(),
                    reason => reason.to_string(),
                });
            }
            run.in_flight -= 1;
        }
        self.free.push(client.slot);
        self.use_free(ctx);
    }
}

impl Drop for Time {
    fn drop(&mut self) {
        self.run.borrow_mut().give_up_overdue(&self.pace);
    }
}
