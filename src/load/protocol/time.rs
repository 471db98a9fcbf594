//! A connection for each request: how many a second are accepted, told the time, and closed.
//!
//! Owns: [`Time`]. Must not know: what time it is.
//!
//! A request is: connect, read a line, read the end of file. Its latency is that of all three.
//!
//! Invariants:
//! 1. There are as many *slots* as connections at a time. Each is dialing, connected, rests after a failure, or stands in
//!    `free` and waits for a request to be due.
//! 2. A slot has a request under way from its dial until that has an outcome.

use std::cell::RefCell;
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::id::{ConnId, ConnMap};
use crate::load::Load;
use crate::load::connection::{DIAL_TIMEOUT, REST};
use crate::load::run::Run;
use crate::load::schedule::{Schedule, Wake};
use crate::service::{CloseReason, Context, Dial, DialName, Service, ServiceContext, TimerName};

/// When the next request is due.
const DUE: TimerName = TimerName(0);
/// When slots have rested.
const RESTED: TimerName = TimerName(1);

#[derive(Clone, Copy, Default)]
struct Slot {
    /// When the request was due that is under way.
    since: Option<u64>,
    dials: Dials,
}

/// What the dials of a slot have come to.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Dials {
    /// None has ended.
    #[default]
    Open,
    /// All have failed: it does not count as served.
    Failed,
    /// One has succeeded.
    Succeeded,
}

struct Client {
    slot: usize,
    /// The last byte that has come.
    last: Option<u8>,
}

/// The service of all connections of a run.
pub struct Time {
    run: Rc<RefCell<Run>>,
    schedule: Schedule,
    to: SocketAddr,
    slots: Vec<Slot>,
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
        run.borrow_mut().served = load.connections;
        Self {
            schedule: run.borrow().schedule(0, 1),
            run: Rc::clone(run),
            to: load.to,
            slots: vec![Slot::default(); load.connections],
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
            let Some(since) = run.take(&mut self.schedule, now) else { break };
            self.free.pop();
            self.slots[slot].since = Some(since);
            ctx.dial(Dial::to(self.to).named(DialName(slot as u64)).within(DIAL_TIMEOUT));
        }
        if self.armed || self.free.is_empty() {
            return;
        }
        match self.schedule.wake(run.now()) {
            Some(Wake::Timer(after)) => ctx.set_timer(DUE, ctx.now() + after, Duration::ZERO),
            Some(Wake::Turn) => ctx.request_turn(),
            None => return,
        }
        self.armed = true;
    }
}

impl Service for Time {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        self.schedule = {
            let mut run = self.run.borrow_mut();
            run.begin();
            run.schedule(0, 1)
        };
        self.use_free(ctx);
    }

    fn on_dialed(&mut self, ctx: &mut Context<'_>, dial: DialName) {
        let slot = dial.0 as usize;
        self.reached = true;
        if mem::replace(&mut self.slots[slot].dials, Dials::Succeeded) == Dials::Failed {
            self.run.borrow_mut().served += 1;
        }
        self.clients.insert(ctx.id(), Client { slot, last: None });
    }

    fn on_dial_error(&mut self, ctx: &mut ServiceContext, dial: DialName, reason: CloseReason) {
        let number = dial.0 as usize;
        let run = &mut *self.run.borrow_mut();
        let counts = run.note_failed_dial(reason);
        let slot = &mut self.slots[number];
        if let Some(since) = slot.since.take() {
            run.give_up(since);
        }
        if !counts {
            return;
        }
        if slot.dials == Dials::Open {
            slot.dials = Dials::Failed;
            run.served -= 1;
        }
        if !self.reached {
            run.unreachable = Some(reason);
            return run.retire();
        }
        if self.resting.is_empty() {
            ctx.set_timer(RESTED, ctx.now() + REST, Duration::ZERO);
        }
        self.resting.push(number);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let run = &mut *self.run.borrow_mut();
        run.note_received(input.len(), run.now());
        if let Some(client) = self.clients.get_mut(ctx.id()) {
            client.last = input.last().copied();
        }
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        if let Some(client) = self.clients.get(ctx.id())
            && client.last == Some(b'\n')
            && let Some(since) = self.slots[client.slot].since.take()
        {
            let run = &mut *self.run.borrow_mut();
            let now = run.now();
            run.stats.record(now.saturating_sub(since));
            run.answered(1, now);
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
        self.run.borrow_mut().note_stop();
        ctx.abort();
    }

    fn on_close(&mut self, ctx: &mut ServiceContext, id: ConnId, reason: CloseReason) {
        let Some(client) = self.clients.remove(id) else { return };
        if let Some(since) = self.slots[client.slot].since.take() {
            let run = &mut *self.run.borrow_mut();
            run.note_end(reason, "the connection ended without a line");
            run.give_up(since);
        }
        self.free.push(client.slot);
        self.use_free(ctx);
    }
}

impl Drop for Time {
    /// The run is over: what was due and has not been answered is counted.
    fn drop(&mut self) {
        let run = &mut *self.run.borrow_mut();
        run.give_up_overdue(&self.schedule);
        self.slots.iter().filter_map(|slot| slot.since).for_each(|since| run.give_up(since));
    }
}
