//! Connections that stay open and answer.
//!
//! Owns: [`Stream`], the service that dials them, begins when all are ready, keeps each at work, and notes how each ends.
//! Must not know: any protocol; what is said is a [`Talk`].
//!
//! Connected is not yet served: the kernel completes connections that the server has not accepted, up to its backlog. So
//! a connection is *ready* when it has been greeted, or has answered a first request, which does not count; and no more
//! are dialed at a time than a backlog holds.
//!
//! Invariants:
//! 1. A connection that may speak has as many *slots* as requests may be under way on it. Each slot is a request that is
//!    under way, or stands in `free` and waits for one to be due.
//! 2. Answers come in the order of the requests: the first of `in_flight` is the next to be answered.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::Load;
use super::conductor::{PREPARATION, Run};
use super::pace::{Pace, Wake};
use super::talk::{Answers, Talk};
use crate::id::{ConnId, ConnMap};
use crate::limits::Policy;
use crate::service::{CloseReason, Context, Dial, DialName, Service, ServiceContext, TimerName};

/// Connections at a time that are not ready yet: fewer than the shortest usual backlog (128), so that no dial is dropped.
const DIALS: usize = 100;

/// How long a dial may take.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// When the next request is due.
const DUE: TimerName = TimerName(0);
/// When everybody should be ready.
const PREPARED: TimerName = TimerName(1);

struct Client<R> {
    number: usize,
    ready: bool,
    answered: bool,
    /// The server has said that it will answer nothing else here.
    last: bool,
    /// How it has ended, if that has been counted.
    ended: bool,
    in_flight: VecDeque<u64>,
    row: R,
}

/// The service of all connections of a run.
pub struct Stream<T: Talk> {
    run: Rc<RefCell<Run>>,
    talk: T,
    pace: Pace,
    to: SocketAddr,
    policy: Policy,
    pipeline: usize,
    /// Connections that have not been dialed for the first time.
    undialed: std::ops::Range<usize>,
    /// Connections that are neither ready nor have failed.
    awaited: usize,
    /// Connections that have been ready, though they may have ended since.
    ready: usize,
    /// Those that have: they are dialed again when the window begins.
    reopened: Vec<usize>,
    clients: ConnMap<Client<T::Row>>,
    free: VecDeque<ConnId>,
    /// Requests that were under way on connections whose server has said that it would not answer them, with when they
    /// were due: they are sent again.
    again: VecDeque<u64>,
    /// A timer or a turn has been asked for.
    armed: bool,
}

impl<T: Talk> Stream<T> {
    /// The connections that `load` asks for, on which `talk` is said.
    pub fn new(load: &Load, run: &Rc<RefCell<Run>>, talk: T) -> Self {
        // A peer that waits until we read must be read: no more is ever queued than what is under way.
        let high_water = Policy::default().high_water.max(load.size.saturating_mul(load.pipeline).saturating_add(1));
        Self {
            pace: run.borrow().pace(0, 1),
            run: Rc::clone(run),
            talk,
            to: load.to,
            policy: Policy { high_water, ..Policy::default() },
            pipeline: load.pipeline,
            undialed: 0..load.connections,
            awaited: load.connections,
            ready: 0,
            reopened: Vec::new(),
            clients: ConnMap::new(),
            free: VecDeque::new(),
            again: VecDeque::new(),
            armed: false,
        }
    }

    fn dial(&mut self, ctx: &mut ServiceContext, number: usize) {
        let dial = Dial::to(self.to).named(DialName(number as u64)).within(DIAL_TIMEOUT).with(self.policy.clone());
        ctx.dial(dial);
    }

    fn dial_next(&mut self, ctx: &mut ServiceContext) {
        if let Some(number) = self.undialed.next() {
            self.dial(ctx, number);
        }
    }

    /// One connection less to wait for; with the last one the window begins.
    fn awaited_one(&mut self, ctx: &mut ServiceContext) {
        self.dial_next(ctx);
        self.awaited = self.awaited.saturating_sub(1);
        if self.awaited == 0 && !self.run.borrow().has_begun() {
            self.begin(ctx);
        }
    }

    /// Begins the window with those who are ready, if anybody is.
    fn begin(&mut self, ctx: &mut ServiceContext) {
        if self.ready == 0 {
            return;
        }
        self.pace = {
            let mut run = self.run.borrow_mut();
            run.begin();
            run.pace(0, 1)
        };
        let speakers =
            self.clients.iter().filter(|(_, client)| client.ready && !client.last && self.talk.speaks(client.number));
        let speakers: Vec<_> = speakers.map(|(id, _)| id).collect();
        for _ in 0..self.pipeline {
            self.free.extend(&speakers);
        }
        for number in std::mem::take(&mut self.reopened) {
            self.dial(ctx, number);
        }
        self.use_free(ctx);
    }

    /// Some are not ready in time: the run begins without them.
    fn leave_behind(&mut self, ctx: &mut ServiceContext) {
        let late: Vec<_> = self.clients.iter().filter(|(_, client)| !client.ready).map(|(id, _)| id).collect();
        let undialed = std::mem::replace(&mut self.undialed, 0..0).len();
        {
            let run = &mut *self.run.borrow_mut();
            (0..late.len() + undialed).for_each(|_| run.tally.error("not served in time"));
            (0..undialed).for_each(|_| run.retire());
        }
        for id in late {
            if let Some(client) = self.clients.get_mut(id) {
                client.ended = true;
            }
            ctx.abort_peer(id);
        }
        self.begin(ctx);
    }

    /// Gives the free slots the requests that are due.
    fn use_free(&mut self, ctx: &mut ServiceContext) {
        while let Some(&id) = self.free.front() {
            let now = self.run.borrow().now();
            if self.clients.get(id).is_some() {
                let Some(since) = self.pace.take(now) else { break };
                self.request(ctx, id, since);
            }
            self.free.pop_front();
        }
        self.arm(ctx);
    }

    /// Asks to be called when the next request is due, if there is a slot for it.
    fn arm(&mut self, ctx: &mut ServiceContext) {
        if self.armed || self.free.is_empty() {
            return;
        }
        let now = self.run.borrow().now();
        match self.pace.wake(now) {
            Some(Wake::Timer(after)) => ctx.set_timer(DUE, ctx.now() + after, Duration::ZERO),
            Some(Wake::Turn) => ctx.request_turn(),
            None => return,
        }
        self.armed = true;
    }

    fn request(&mut self, ctx: &mut ServiceContext, id: ConnId, since: u64) {
        let members = self.clients.len();
        let Some(client) = self.clients.get_mut(id) else { return };
        let run = &mut *self.run.borrow_mut();
        let bytes = self.talk.request(&mut client.row, since, &mut run.tally, members);
        run.sent(bytes.len());
        client.in_flight.push_back(since);
        ctx.send_to(id, bytes);
    }

    /// Lets `talk` read what the connection at hand has brought; the slots that are free then have new requests, unless
    /// that was the `last` of it. `None` if it was wrong: the connection is over.
    #[inline]
    fn hear<R>(
        &mut self,
        ctx: &mut Context<'_>,
        last: bool,
        read: impl FnOnce(&mut T, &mut T::Row, &mut Answers<'_>) -> Result<R, String>,
    ) -> Option<R> {
        let id = ctx.id();
        let client = self.clients.get_mut(id)?;
        let mut guard = self.run.borrow_mut();
        let run = &mut *guard;
        let now = run.now();
        let in_window = run.is_in_window(now);
        let mut answers = Answers::new(now, in_window, &mut run.tally, &client.in_flight);
        let heard = read(&mut self.talk, &mut client.row, &mut answers);
        let (count, is_last) = (answers.count(), answers.is_last());
        client.in_flight.drain(..count);
        client.answered |= count > 0;
        for _ in 0..count {
            run.answered(now);
        }
        let heard = match heard {
            Ok(heard) => heard,
            Err(wrong) => {
                run.tally.error(wrong);
                client.ended = true;
                ctx.abort();
                return None;
            }
        };
        let is_news = !client.ready && self.talk.is_greeted(&client.row).unwrap_or(count > 0);
        client.ready |= is_news;
        client.last |= is_last;
        let has_begun = run.has_begun();
        drop(guard);
        // Whoever closes first has the port in TIME_WAIT: leave that to the server, which has said that it will.
        if has_begun && !is_last && !last {
            self.next_requests(ctx, id, now, count);
        }
        if is_news {
            self.ready += 1;
            self.awaited_one(ctx);
        }
        Some(heard)
    }

    /// The requests that take the place of `count` that have been answered.
    #[inline]
    fn next_requests(&mut self, ctx: &mut ServiceContext, id: ConnId, now: u64, count: usize) {
        for _ in 0..count {
            match self.pace.take(now) {
                Some(since) => self.request(ctx, id, since),
                None => self.free.push_back(id),
            }
        }
        if !self.free.is_empty() {
            self.arm(ctx);
        }
    }

    /// Counts how a connection has ended, unless that was our doing.
    fn note_end(&mut self, client: &Client<T::Row>, reason: CloseReason) {
        let run = &mut *self.run.borrow_mut();
        if client.last {
            // Whatever it has ended by, it was told before.
            run.in_flight -= client.in_flight.len() as u64;
            run.tally.sent -= client.in_flight.len() as u64;
            self.again.extend(&client.in_flight);
            return;
        }
        let expected = T::REOPENS && client.answered && client.in_flight.is_empty() && reason == CloseReason::Finished;
        if !client.ended && !expected && !run.is_stopped() {
            run.tally.error(match reason {
                CloseReason::Finished => "closed by the server".to_owned(),
                reason => reason.to_string(),
            });
        }
        for &since in &client.in_flight {
            run.give_up(since);
        }
    }
}

impl<T: Talk> Service for Stream<T> {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        ctx.set_timer(PREPARED, ctx.now() + PREPARATION, Duration::ZERO);
        for _ in 0..DIALS {
            self.dial_next(ctx);
        }
    }

    fn on_dialed(&mut self, ctx: &mut Context<'_>, dial: DialName) {
        let (id, number) = (ctx.id(), dial.0 as usize);
        let row = self.talk.row(number);
        let ready = self.run.borrow().has_begun();
        let probes = self.talk.is_greeted(&row).is_none();
        let in_flight = VecDeque::with_capacity(self.pipeline.min(1024));
        let client = Client { number, ready, answered: false, last: false, ended: false, in_flight, row };
        self.clients.insert(id, client);
        if !ready && probes {
            let now = self.run.borrow().now();
            self.request(ctx, id, now);
        } else if ready && self.talk.speaks(number) {
            let again = self.again.len().min(self.pipeline);
            for since in self.again.drain(..again).collect::<Vec<_>>() {
                self.request(ctx, id, since);
            }
            self.free.extend(std::iter::repeat_n(id, self.pipeline - again));
            self.use_free(ctx);
        }
    }

    fn on_dial_error(&mut self, ctx: &mut ServiceContext, _dial: DialName, reason: CloseReason) {
        {
            let run = &mut *self.run.borrow_mut();
            if run.is_stopped() || reason == CloseReason::Aborted {
                return;
            }
            run.tally.error(reason.to_string());
            run.unreachable = Some(reason);
            run.retire();
        }
        self.awaited_one(ctx);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let consumed = self.hear(ctx, false, |talk, row, answers| {
            let consumed = talk.read(row, input, answers)?;
            answers.tally.bytes_in += consumed as u64;
            Ok(consumed)
        });
        consumed.unwrap_or(input.len())
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        let heard = self.hear(ctx, true, |talk, row, answers| talk.read_eof(row, answers));
        if heard.is_some() {
            ctx.finish();
        }
    }

    fn on_turn(&mut self, ctx: &mut ServiceContext) {
        self.armed = false;
        self.use_free(ctx);
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        match timer {
            PREPARED if self.run.borrow().has_begun() => {}
            PREPARED => self.leave_behind(ctx),
            _ => self.on_turn(ctx),
        }
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        self.run.borrow_mut().stop();
        ctx.abort();
    }

    fn on_close(&mut self, ctx: &mut ServiceContext, id: ConnId, reason: CloseReason) {
        let Some(client) = self.clients.remove(id) else { return };
        self.note_end(&client, reason);
        let (has_begun, is_stopped, in_window) = {
            let run = self.run.borrow();
            (run.has_begun(), run.is_stopped(), run.is_in_window(run.now()))
        };
        if T::REOPENS && client.answered && !is_stopped {
            if !has_begun {
                return self.reopened.push(client.number);
            }
            if in_window || !self.again.is_empty() {
                return self.dial(ctx, client.number);
            }
        }
        self.run.borrow_mut().retire();
        if !has_begun && !client.ready {
            self.awaited_one(ctx);
        }
    }
}

impl<T: Talk> Drop for Stream<T> {
    /// The run is over: what was due and could not be sent is counted.
    fn drop(&mut self) {
        let run = &mut *self.run.borrow_mut();
        for &since in &self.again {
            run.sent(0);
            run.give_up(since);
        }
        run.give_up_overdue(&self.pace);
    }
}
