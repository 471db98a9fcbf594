//! Connections that stay open and answer.
//!
//! Owns: [`Stream`], the service that has them dialed, begins when all are ready, keeps each at work, and notes how each ends.
//! Must not know: any protocol; what is said is a [`Talk`].
//!
//! Connected is not yet served: the kernel completes connections that the server has not accepted, up to its backlog. So
//! a connection is *ready* when it has been greeted, or has answered a first request, which does not count.
//!
//! Invariants:
//! 1. A connection that may speak has as many *slots* as requests may be under way on it. Each slot is a request that is
//!    under way, or stands in `free` and waits for one to be due.
//! 2. Answers come in the order of the requests: the first of `in_flight` is the next to be answered.
//! 3. Before the window only the first request of a connection is under way on it, and is in no account. In the window
//!    every request that has been taken is in `in_flight` of its connection or in `again`, until it has an outcome.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::dialing::Dialing;
use super::{Client, Course};
use crate::id::{ConnId, ConnMap};
use crate::load::Load;
use crate::load::protocol::{Answers, Talk};
use crate::load::run::{PREPARATION, Run};
use crate::load::schedule::{Schedule, Wake};
use crate::service::{CloseReason, Context, DialName, Service, ServiceContext, TimerName};

/// When the next request is due.
const DUE: TimerName = TimerName(0);
/// When everybody should be ready.
const PREPARED: TimerName = TimerName(1);
/// When connections have rested.
const RESTED: TimerName = TimerName(2);

/// How long a server that has given its last answer may take to close: who closes first keeps the port (TIME_WAIT), but a
/// server may as well wait for the client, which has to close then (RFC 9112, section 9.6).
const LAST: Duration = Duration::from_millis(10);

/// The service of all connections of a run.
pub struct Stream<T: Talk> {
    run: Rc<RefCell<Run>>,
    talk: T,
    schedule: Schedule,
    dialing: Dialing,
    pipeline: usize,
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
        Self {
            schedule: run.borrow().schedule(0, 1),
            run: Rc::clone(run),
            talk,
            dialing: Dialing::new(load, RESTED),
            pipeline: load.pipeline,
            clients: ConnMap::new(),
            free: VecDeque::new(),
            again: VecDeque::new(),
            armed: false,
        }
    }

    /// A connection is gone that had been served: another one takes its place as long as there is something to ask for,
    /// `at_once` or when it has rested.
    fn replace(&mut self, ctx: &mut ServiceContext, number: usize, at_once: bool) {
        let has_work = {
            let run = self.run.borrow();
            let now = run.now();
            run.is_in_window(now) || !self.again.is_empty() || self.schedule.overdue(now) > 0
        };
        if !has_work {
            return self.run.borrow_mut().retire();
        }
        if at_once { self.dialing.dial(ctx, number) } else { self.dialing.rest(ctx, number) }
    }

    /// One connection less to wait for; with the last one the window begins.
    fn awaited_one(&mut self, ctx: &mut ServiceContext) {
        if self.dialing.settle_one(ctx) && !self.run.borrow().has_begun() {
            self.begin(ctx);
        }
    }

    /// Begins the window with those who are ready, if anybody is.
    fn begin(&mut self, ctx: &mut ServiceContext) {
        self.schedule = {
            let mut run = self.run.borrow_mut();
            if run.served == 0 {
                return;
            }
            run.begin();
            run.schedule(0, 1)
        };
        let speakers =
            self.clients.iter().filter(|(_, client)| client.may_be_asked() && self.talk.speaks(client.number));
        let speakers: Vec<_> = speakers.map(|(id, _)| id).collect();
        for _ in 0..self.pipeline {
            self.free.extend(&speakers);
        }
        self.dialing.begin(ctx);
        self.use_free(ctx);
    }

    /// Some are not ready in time: the run begins without them.
    fn leave_behind(&mut self, ctx: &mut ServiceContext) {
        let late: Vec<_> = self.clients.iter().filter(|(_, client)| !client.ready).map(|(id, _)| id).collect();
        for &id in &late {
            self.clients.remove(id);
            ctx.abort_peer(id);
        }
        for _ in 0..late.len() + self.dialing.leave_behind() {
            self.run.borrow_mut().leave_behind();
        }
        self.begin(ctx);
    }

    /// Gives the free slots the requests that are due.
    fn use_free(&mut self, ctx: &mut ServiceContext) {
        if self.run.borrow().is_stopped() {
            return;
        }
        while let Some(&id) = self.free.front() {
            let now = self.run.borrow().now();
            if self.clients.get(id).is_some_and(Client::may_be_asked) && !self.request(ctx, id, now) {
                break;
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
        match self.schedule.wake(now) {
            Some(Wake::Timer(after)) => ctx.set_timer(DUE, ctx.now() + after, Duration::ZERO),
            Some(Wake::Turn) => ctx.request_turn(),
            None => return,
        }
        self.armed = true;
    }

    /// Sends a request to `id`, if one is due at `now`; returns whether it was. The first one on a connection that is not
    /// ready yet always is.
    #[inline]
    fn request(&mut self, ctx: &mut ServiceContext, id: ConnId, now: u64) -> bool {
        let members = self.clients.len();
        let Some(client) = self.clients.get_mut(id) else { return false };
        let run = &mut *self.run.borrow_mut();
        let due = match self.again.pop_front() {
            None if client.ready => run.take(&mut self.schedule, now),
            None => Some(now),
            again => again,
        };
        let Some(since) = due else { return false };
        let bytes = self.talk.request(&mut client.row, since, &mut run.stats, members);
        run.note_sent(bytes.len(), now);
        client.in_flight.push_back(since);
        ctx.send_to(id, bytes);
        true
    }

    /// Lets `talk` read what the connection at hand has brought; the slots that are free then have new requests, unless
    /// the server answers no more here. `None` if it was wrong: the connection is over.
    #[inline]
    fn hear<R>(
        &mut self,
        ctx: &mut Context<'_>,
        read: impl FnOnce(&mut T, &mut T::Row, &mut Answers<'_>) -> Result<R, String>,
    ) -> Option<R> {
        let id = ctx.id();
        let client = self.clients.get_mut(id)?;
        let mut guard = self.run.borrow_mut();
        let run = &mut *guard;
        let now = run.now();
        let in_window = run.is_in_window(now);
        let mut answers = Answers::new(now, in_window, &mut run.stats, &client.in_flight);
        let heard = read(&mut self.talk, &mut client.row, &mut answers);
        let (count, is_last) = (answers.count(), answers.is_last());
        client.in_flight.drain(..count);
        client.answered |= count > 0;
        if client.ready {
            run.answered(count as u64, now);
        }
        let heard = match heard {
            Ok(heard) => heard,
            Err(wrong) => {
                run.stats.error(wrong);
                client.course = Course::Faulty;
                ctx.abort();
                return None;
            }
        };
        if is_last {
            client.course = Course::Last;
            ctx.set_read_deadline(ctx.now() + LAST);
        }
        let is_news = !client.ready && self.talk.is_greeted(&client.row).unwrap_or(count > 0);
        client.ready |= is_news;
        let goes_on = run.has_begun() && client.course == Course::Open;
        if is_news {
            self.dialing.note_served(client.number);
            run.served += 1;
        }
        drop(guard);
        if goes_on {
            self.next_requests(ctx, id, now, count);
        }
        if is_news {
            self.awaited_one(ctx);
        }
        Some(heard)
    }

    /// The requests that take the place of `count` that have been answered.
    #[inline]
    fn next_requests(&mut self, ctx: &mut ServiceContext, id: ConnId, now: u64, count: usize) {
        for _ in 0..count {
            if !self.request(ctx, id, now) {
                self.free.push_back(id);
            }
        }
        if !self.free.is_empty() {
            self.arm(ctx);
        }
    }

    /// Counts how a connection has ended, unless that was our doing, and what becomes of its requests.
    fn note_end(&mut self, client: &Client<T::Row>, reason: CloseReason) {
        let run = &mut *self.run.borrow_mut();
        if client.course == Course::Last {
            // Whatever it has ended by, it was told before.
            self.again.extend(&client.in_flight);
            return;
        }
        let expected = T::REOPENS && client.answered && client.in_flight.is_empty() && reason == CloseReason::Finished;
        if client.course != Course::Faulty && !expected {
            run.note_end(reason, "closed by the server");
        }
        if client.ready {
            client.in_flight.iter().for_each(|&since| run.give_up(since));
        }
    }
}

impl<T: Talk> Service for Stream<T> {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        ctx.set_timer(PREPARED, ctx.now() + PREPARATION, Duration::ZERO);
        self.dialing.start(ctx);
    }

    fn on_dialed(&mut self, ctx: &mut Context<'_>, dial: DialName) {
        let (id, number) = (ctx.id(), dial.0 as usize);
        let ready = self.dialing.was_served(number);
        if !ready && self.run.borrow().has_begun() {
            self.run.borrow_mut().leave_behind();
            return ctx.abort();
        }
        let row = self.talk.row(number);
        let probes = self.talk.is_greeted(&row).is_none();
        let in_flight = VecDeque::with_capacity(self.pipeline.min(1024));
        self.clients.insert(id, Client { number, ready, answered: false, course: Course::Open, in_flight, row });
        if ready && self.talk.speaks(number) {
            self.free.extend(std::iter::repeat_n(id, self.pipeline));
            self.use_free(ctx);
        } else if !ready && probes {
            let now = self.run.borrow().now();
            self.request(ctx, id, now);
        }
    }

    fn on_dial_error(&mut self, ctx: &mut ServiceContext, dial: DialName, reason: CloseReason) {
        let number = dial.0 as usize;
        if !self.run.borrow_mut().note_failed_dial(reason) {
            return;
        }
        if self.dialing.was_served(number) {
            return self.replace(ctx, number, false);
        }
        {
            let run = &mut *self.run.borrow_mut();
            run.unreachable = Some(reason);
            run.retire();
        }
        self.awaited_one(ctx);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let consumed = self.hear(ctx, |talk, row, answers| {
            let consumed = talk.read(row, input, answers)?;
            if answers.in_window {
                answers.stats.bytes_in += consumed as u64;
            }
            Ok(consumed)
        });
        consumed.unwrap_or(input.len())
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        if let Some(client) = self.clients.get_mut(ctx.id())
            && client.course == Course::Open
        {
            client.course = Course::Closed;
        }
        let heard = self.hear(ctx, |talk, row, answers| talk.read_eof(row, answers));
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
            RESTED => {
                for number in self.dialing.take_rested() {
                    self.replace(ctx, number, true);
                }
            }
            _ => self.on_turn(ctx),
        }
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        self.run.borrow_mut().note_stop();
        ctx.abort();
    }

    fn on_close(&mut self, ctx: &mut ServiceContext, id: ConnId, reason: CloseReason) {
        let Some(client) = self.clients.remove(id) else { return };
        self.note_end(&client, reason);
        let (has_begun, is_stopped) = {
            let run = self.run.borrow();
            (run.has_begun(), run.is_stopped())
        };
        if is_stopped {
            return;
        }
        if !T::REOPENS || !client.ready {
            let mut run = self.run.borrow_mut();
            run.retire();
            let speaks =
                |(_, client): (ConnId, &Client<T::Row>)| client.may_be_asked() && self.talk.speaks(client.number);
            if has_begun && self.talk.speaks(client.number) && !self.clients.iter().any(speaks) {
                // Those who only listen have nobody left to listen to.
                run.retire_all();
            }
        } else if has_begun {
            self.replace(ctx, client.number, client.answered);
        } else {
            self.dialing.dial_at_beginning(client.number);
        }
        if has_begun {
            // What is to be sent again need not wait for another connection.
            self.use_free(ctx);
        } else if !client.ready {
            self.awaited_one(ctx);
        }
    }
}

impl<T: Talk> Drop for Stream<T> {
    /// The run is over: what was due and has not been answered is counted.
    fn drop(&mut self) {
        let run = &mut *self.run.borrow_mut();
        run.give_up_overdue(&self.schedule);
        let clients = self.clients.iter().filter(|(_, client)| client.ready);
        let in_flight = clients.flat_map(|(_, client)| &client.in_flight);
        in_flight.chain(&self.again).for_each(|&since| run.give_up(since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::protocol::http::Http;
    use crate::load::{End, Kind};
    use crate::service::Probe;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    const LAST: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

    /// How many requests have been sent to a connection since the last look.
    fn requests(probe: &mut Probe, id: ConnId) -> usize {
        let sent = String::from_utf8(probe.sent_to(id, &[])).unwrap();
        probe.take_commands();
        sent.matches("GET ").count()
    }

    /// A run of HTTP with one connection that is ready, and has two requests under way in the window.
    fn begun(duration: Duration) -> (Load, Rc<RefCell<Run>>, Stream<Http>, Probe) {
        let load = Load { connections: 1, pipeline: 2, duration, ..Load::new(Kind::Http, ([127, 0, 0, 1], 80).into()) };
        let run = Rc::new(RefCell::new(Run::new(&load)));
        let mut stream = Stream::new(&load, &run, Http::new(&load));
        let (mut probe, id) = (Probe::new(), Probe::id(1));
        probe.call(|ctx| stream.on_start(ctx));
        probe.on(id, |ctx| stream.on_dialed(ctx, DialName(0)));
        assert_eq!(requests(&mut probe, id), 1, "the one that does not count");
        probe.on(id, |ctx| stream.on_data(ctx, ANSWER));
        assert_eq!((run.borrow().has_begun(), requests(&mut probe, id)), (true, 2));
        (load, run, stream, probe)
    }

    #[test]
    fn what_is_to_be_sent_again_keeps_the_run_open() {
        for is_answered in [true, false] {
            let (load, run, mut stream, mut probe) = begun(Duration::from_millis(1));
            let (one, two) = (Probe::id(1), Probe::id(2));
            while run.borrow().is_in_window(run.borrow().now()) {}
            probe.on(one, |ctx| stream.on_data(ctx, LAST));
            probe.call(|ctx| stream.on_close(ctx, one, CloseReason::Reset));
            let end = run.borrow().window().unwrap().end;
            assert_eq!(run.borrow().ending(end), None, "the other one has no outcome");
            probe.on(two, |ctx| stream.on_dialed(ctx, DialName(0)));
            assert_eq!(requests(&mut probe, two), 1);
            if is_answered {
                probe.on(two, |ctx| stream.on_data(ctx, ANSWER));
                assert_eq!(run.borrow().ending(end), Some(End::Whole));
            }
            run.borrow_mut().finish(End::Whole);
            drop(stream);
            let stats = run.borrow_mut().report(&load).unwrap().stats;
            let expected = if is_answered { (2, 2, 0) } else { (2, 1, 1) };
            assert_eq!((stats.sent, stats.answered_late, stats.unanswered), expected);
        }
    }

    #[test]
    fn a_connection_that_the_server_has_ended_is_asked_nothing() {
        let (load, run, mut stream, mut probe) = begun(Duration::ZERO);
        let id = Probe::id(1);
        probe.on(id, |ctx| stream.on_data(ctx, LAST));
        assert_eq!(requests(&mut probe, id), 0);
        stream.free.push_back(id);
        probe.on(id, |ctx| stream.on_eof(ctx, &[]));
        probe.call(|ctx| stream.on_turn(ctx));
        assert_eq!(requests(&mut probe, id), 0);
        drop(stream);
        let report = run.borrow_mut().report(&load).unwrap();
        assert_eq!((report.end, report.stats.sent, report.stats.cut_off), (End::Interrupted, 2, 1));
    }
}
