//! Time (RFC 867): a connection for each request, as a service of its own.
//!
//! Owns: [`Time`]. Must not know: the format of the time.
//!
//! A request connects, reads a line, and reads the end of file. Its latency covers all three, so a run measures how many
//! connections a second the server accepts, answers and closes.
//!
//! Invariants:
//! 1. The run has `plan.connections` *slots*. Each slot is dialing, is connected, waits for its retry delay, or is in `free`
//!    and waits for a due request.
//! 2. A slot has a request in flight from its dial until that request has an outcome.

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use crate::addr::Addr;
use crate::id::ConnMap;
use crate::load::Plan;
use crate::load::connection::{DIAL_TIMEOUT, RETRY_DELAY};
use crate::load::run::Run;
use crate::load::schedule::{Schedule, Wake};
use crate::service::{CloseReason, Context, Dial, Service, ServiceContext, TimerName};

/// The next request is due.
const DUE: TimerName = TimerName(0);
/// A retry delay has passed.
const RETRY: TimerName = TimerName(1);

#[derive(Clone, Copy, Default)]
struct Slot {
    /// The due instant of the request in flight.
    since: Option<u64>,
    dials: Dials,
}

/// The outcome of all dials of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Dials {
    /// No dial has an outcome.
    #[default]
    Pending,
    /// All dials have failed: the slot is not served.
    Failed,
    /// A dial has succeeded.
    Succeeded,
}

struct Connection {
    slot: usize,
    /// The last byte received.
    last: Option<u8>,
}

/// The service of all connections of a run.
pub struct Time {
    run: Rc<RefCell<Run>>,
    schedule: Schedule,
    to: Addr,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Slots that wait for the retry delay.
    delayed: Vec<usize>,
    /// A dial has succeeded.
    reached: bool,
    /// The slots of the connections that are being dialed.
    dialing: ConnMap<usize>,
    connections: ConnMap<Connection>,
    /// A timer is set or a turn is requested.
    armed: bool,
}

impl Time {
    /// The slots of `plan`.
    pub fn new(plan: &Plan, run: &Rc<RefCell<Run>>) -> Self {
        run.borrow_mut().served = plan.connections;
        Self {
            schedule: run.borrow().schedule(0, 1),
            run: Rc::clone(run),
            to: plan.to.clone(),
            slots: vec![Slot::default(); plan.connections],
            free: (0..plan.connections).collect(),
            delayed: Vec::new(),
            reached: false,
            dialing: ConnMap::new(),
            connections: ConnMap::new(),
            armed: false,
        }
    }

    /// Dials for the due requests on the free slots.
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
            let id = ctx.dial(Dial::to(self.to.clone()).within(DIAL_TIMEOUT));
            self.dialing.insert(id, slot);
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

    fn on_dialed(&mut self, ctx: &mut Context<'_>) {
        let Some(slot) = self.dialing.remove(ctx.id()) else { return };
        self.reached = true;
        if mem::replace(&mut self.slots[slot].dials, Dials::Succeeded) == Dials::Failed {
            self.run.borrow_mut().served += 1;
        }
        self.connections.insert(ctx.id(), Connection { slot, last: None });
    }

    fn on_dial_error(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        let Some(number) = self.dialing.remove(ctx.id()) else { return };
        let run = &mut *self.run.borrow_mut();
        let counts = run.count_failed_dial(reason);
        let slot = &mut self.slots[number];
        if let Some(since) = slot.since.take() {
            run.count_unanswered(since);
        }
        if !counts {
            return;
        }
        if slot.dials == Dials::Pending {
            slot.dials = Dials::Failed;
            run.served -= 1;
        }
        if !self.reached {
            run.unreachable = Some(reason);
            return run.deactivate();
        }
        if self.delayed.is_empty() {
            let due = ctx.now() + RETRY_DELAY;
            ctx.set_timer(RETRY, due, Duration::ZERO);
        }
        self.delayed.push(number);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let run = &mut *self.run.borrow_mut();
        run.count_received(input.len(), run.now());
        if let Some(connection) = self.connections.get_mut(ctx.id()) {
            connection.last = input.last().copied();
        }
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        if let Some(connection) = self.connections.get(ctx.id())
            && connection.last == Some(b'\n')
            && let Some(since) = self.slots[connection.slot].since.take()
        {
            let run = &mut *self.run.borrow_mut();
            let now = run.now();
            run.stats.record(now.saturating_sub(since));
            run.count_answered(1, now);
        }
        ctx.finish();
    }

    fn on_turn(&mut self, ctx: &mut ServiceContext) {
        self.armed = false;
        self.use_free(ctx);
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        if timer == RETRY {
            self.free.append(&mut self.delayed);
            return self.use_free(ctx);
        }
        self.on_turn(ctx);
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        self.run.borrow_mut().note_stop();
        ctx.abort();
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        let id = ctx.id();
        let Some(connection) = self.connections.remove(id) else { return };
        if let Some(since) = self.slots[connection.slot].since.take() {
            let run = &mut *self.run.borrow_mut();
            run.count_end(reason, "the connection ended without a line");
            run.count_unanswered(since);
        }
        self.free.push(connection.slot);
        self.use_free(ctx);
    }
}

impl Drop for Time {
    /// Counts the requests that are due and not answered: the run is over.
    fn drop(&mut self) {
        let run = &mut *self.run.borrow_mut();
        run.count_unsent(&self.schedule);
        self.slots.iter().filter_map(|slot| slot.since).for_each(|since| run.count_unanswered(since));
    }
}
