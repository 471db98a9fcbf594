//! The service of all persistent connections of a run.
//!
//! Owns: [`ConnectionPool`]. The pool dials the connections, keeps requests in flight on each, and counts how each one ends.
//! `setup` begins the window when all are ready. Must not know: the bytes of a [`Protocol`].
//!
//! An established connection is not yet a served one: the kernel completes handshakes before the server accepts, up to its
//! backlog. So a connection is *ready* when the greeting or the answer to a first request has arrived. That first request
//! is not counted.
//!
//! Invariants:
//! 1. A connection that sends requests has `pipeline` *slots*. Each slot is a request in flight, or an entry of `free`
//!    that waits for a due request.
//! 2. Answers come in the order of the requests: the front of `in_flight` is answered next.
//! 3. Before the window only the first request of a connection is in flight there, and is not counted. In the window every
//!    taken request is in `in_flight` of its connection or in `resend`, until it has an outcome.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::{Connection, ConnectionState, DialQueue, Ending};
use crate::id::{ConnId, ConnMap};
use crate::load::Plan;
use crate::load::protocol::{Completions, Protocol, ProtocolError, Redial};
use crate::load::run::{Run, SETUP_TIMEOUT};
use crate::load::schedule::{Schedule, Wake};
use crate::service::{CloseReason, Context, Service, ServiceContext, TimerName};
use crate::timer::Deadline;

/// The next request is due.
const DUE: TimerName = TimerName(0);
/// The setup has timed out.
const SETUP: TimerName = TimerName(1);
/// A retry delay has passed.
const RETRY: TimerName = TimerName(2);

/// How long a server may take to close after its last answer. The side that closes first keeps the port (TIME_WAIT), so the
/// server goes first. A server may as well wait for the client, which then has to close (RFC 9112, section 9.6).
const CLOSE_TIMEOUT: Duration = Duration::from_millis(10);

/// The service of all persistent connections of a run.
pub struct ConnectionPool<P: Protocol> {
    pub(super) run: Rc<RefCell<Run>>,
    pub(super) protocol: P,
    pub(super) schedule: Schedule,
    pub(super) dial_queue: DialQueue,
    pub(super) pipeline: usize,
    pub(super) connections: ConnMap<Connection<P::State>>,
    pub(super) free: VecDeque<ConnId>,
    /// Due instants of requests whose connection the server has announced to close without answering them. They are sent
    /// again.
    resend: VecDeque<u64>,
    /// A timer is set or a turn is requested.
    armed: bool,
}

impl<P: Protocol> ConnectionPool<P> {
    /// The connections of `plan`, which speak `protocol`.
    pub fn new(plan: &Plan, run: &Rc<RefCell<Run>>, protocol: P) -> Self {
        Self {
            schedule: run.borrow().schedule(0, 1),
            run: Rc::clone(run),
            dial_queue: DialQueue::new(plan, protocol.request_len(), RETRY),
            protocol,
            pipeline: plan.pipeline,
            connections: ConnMap::new(),
            free: VecDeque::new(),
            resend: VecDeque::new(),
            armed: false,
        }
    }

    /// Replaces a served connection that has ended, while requests are due: at once, or after the retry delay.
    fn replace(&mut self, ctx: &mut ServiceContext, number: usize, at_once: bool) {
        let has_work = {
            let run = self.run.borrow();
            let now = run.now();
            run.is_in_window(now) || !self.resend.is_empty() || self.schedule.overdue(now) > 0
        };
        if !has_work {
            return self.run.borrow_mut().deactivate();
        }
        if at_once { self.dial_queue.dial(ctx, number) } else { self.dial_queue.delay(ctx, number) }
    }

    /// Sends the due requests on the free slots.
    pub(super) fn use_free(&mut self, ctx: &mut ServiceContext) {
        if self.run.borrow().is_stopped() {
            return;
        }
        while let Some(&id) = self.free.front() {
            let now = self.run.borrow().now();
            if self.connections.get(id).is_some_and(Connection::accepts_requests) && !self.send_request(ctx, id, now) {
                break;
            }
            self.free.pop_front();
        }
        self.arm(ctx);
    }

    /// Arranges a call when the next request is due, if a slot is free for it.
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

    /// Sends a request on `id`, if one is due at `now`. Returns true if a request was sent. The first request on a
    /// connection that is not ready is always due.
    #[inline]
    fn send_request(&mut self, ctx: &mut ServiceContext, id: ConnId, now: u64) -> bool {
        let members = self.connections.len();
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let run = &mut *self.run.borrow_mut();
        let due = match self.resend.pop_front() {
            None if connection.ready => run.take(&mut self.schedule, now),
            None => Some(now),
            again => again,
        };
        let Some(since) = due else { return false };
        let bytes = self.protocol.encode_request(&mut connection.protocol_state, since, &mut run.stats, members);
        run.count_sent(bytes.len(), now);
        connection.in_flight.push_back(since);
        if let Some(mut connection) = ctx.connection(id) {
            connection.send(bytes);
        }
        true
    }

    /// Lets the protocol decode the input of the current connection. New requests take the slots that are free then, unless
    /// the server answers no further request here. Returns `None` after a violation of the protocol, which ends the
    /// connection.
    #[inline]
    fn receive<R>(
        &mut self,
        ctx: &mut Context<'_>,
        decode: impl FnOnce(&mut P, &mut P::State, &mut Completions<'_>) -> Result<R, ProtocolError>,
    ) -> Option<R> {
        let id = ctx.id();
        let connection = self.connections.get_mut(id)?;
        let mut guard = self.run.borrow_mut();
        let run = &mut *guard;
        let now = run.now();
        let in_window = run.is_in_window(now);
        let answered = connection.answered;
        let mut completions = Completions::new(now, in_window, &mut run.stats, &connection.in_flight, answered);
        let decoded = decode(&mut self.protocol, &mut connection.protocol_state, &mut completions);
        let (count, is_last) = (completions.count(), completions.is_last());
        connection.in_flight.drain(..count);
        connection.answered |= count > 0;
        if connection.ready {
            run.count_answered(count as u64, now);
        }
        let decoded = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                run.stats.count_error(error);
                connection.state = ConnectionState::Failed;
                ctx.abort();
                return None;
            }
        };
        if is_last {
            connection.state = ConnectionState::Closing;
            ctx.set_deadline(Deadline::Read, ctx.now() + CLOSE_TIMEOUT);
        }
        let becomes_ready =
            !connection.ready && self.protocol.has_greeting(&connection.protocol_state).unwrap_or(count > 0);
        connection.ready |= becomes_ready;
        let continues = run.has_begun() && connection.state == ConnectionState::Open;
        if becomes_ready {
            self.dial_queue.note_served(connection.number);
            run.served += 1;
        }
        drop(guard);
        if continues {
            self.send_next_requests(ctx, id, now, count);
        }
        if becomes_ready {
            self.complete_setup_of_one(ctx);
        }
        Some(decoded)
    }

    /// Replaces `count` answered requests by new ones.
    #[inline]
    fn send_next_requests(&mut self, ctx: &mut ServiceContext, id: ConnId, now: u64, count: usize) {
        for _ in 0..count {
            if !self.send_request(ctx, id, now) {
                self.free.push_back(id);
            }
        }
        if !self.free.is_empty() {
            self.arm(ctx);
        }
    }

    /// Counts the end of a connection and the outcomes of its requests in flight.
    fn count_end(&mut self, connection: &Connection<P::State>, ending: Ending, reason: CloseReason) {
        let run = &mut *self.run.borrow_mut();
        match ending {
            Ending::Announced => return self.resend.extend(&connection.in_flight),
            Ending::Idle if P::REDIAL != Redial::Never => {}
            Ending::Idle | Ending::Unexpected => run.count_end(reason, "closed by the server"),
            Ending::Failed => {}
        }
        if connection.ready {
            connection.in_flight.iter().for_each(|&since| run.count_unanswered(since));
        }
    }

    /// Notes that a connection has ended for good.
    fn deactivate(&mut self, number: usize) {
        let mut run = self.run.borrow_mut();
        run.deactivate();
        let sends = |(_, connection): (ConnId, &Connection<P::State>)| {
            connection.accepts_requests() && self.protocol.sends_requests(connection.number)
        };
        if P::REDIAL == Redial::Never
            && run.has_begun()
            && self.protocol.sends_requests(number)
            && !self.connections.iter().any(sends)
        {
            // Without a speaker the other members receive nothing any more.
            run.deactivate_all();
        }
    }
}

impl<P: Protocol + 'static> Service for ConnectionPool<P> {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        ctx.set_timer(SETUP, ctx.now() + SETUP_TIMEOUT, Duration::ZERO);
        self.dial_queue.start(ctx);
    }

    fn on_dialed(&mut self, ctx: &mut Context<'_>) {
        let id = ctx.id();
        let Some(number) = self.dial_queue.take_dialed(id) else { return };
        let ready = self.dial_queue.was_served(number);
        if !ready && self.run.borrow().has_begun() {
            self.run.borrow_mut().exclude();
            return ctx.abort();
        }
        let protocol_state = self.protocol.new_state(number);
        let requests_first = self.protocol.has_greeting(&protocol_state).is_none();
        let in_flight = VecDeque::with_capacity(self.pipeline.min(1024));
        let state = ConnectionState::Open;
        self.connections.insert(id, Connection { number, ready, answered: false, state, in_flight, protocol_state });
        if ready && self.protocol.sends_requests(number) {
            self.free.extend(std::iter::repeat_n(id, self.pipeline));
            self.use_free(ctx);
        } else if !ready && requests_first {
            let now = self.run.borrow().now();
            self.send_request(ctx, id, now);
        }
    }

    fn on_dial_error(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        let Some(number) = self.dial_queue.take_dialed(ctx.id()) else { return };
        if !self.run.borrow_mut().count_failed_dial(reason) {
            return;
        }
        if self.dial_queue.was_served(number) {
            return if P::REDIAL == Redial::Always {
                self.replace(ctx, number, false)
            } else {
                self.deactivate(number)
            };
        }
        {
            let run = &mut *self.run.borrow_mut();
            run.unreachable = Some(reason);
            run.deactivate();
        }
        self.complete_setup_of_one(ctx);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let consumed = self.receive(ctx, |protocol, state, completions| {
            let consumed = protocol.decode(state, input, completions)?;
            if completions.in_window {
                completions.stats.bytes_in += consumed as u64;
            }
            Ok(consumed)
        });
        consumed.unwrap_or(input.len())
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        if let Some(connection) = self.connections.get_mut(ctx.id())
            && connection.state == ConnectionState::Open
        {
            connection.state = ConnectionState::PeerClosed;
        }
        let decoded = self.receive(ctx, |protocol, state, completions| protocol.decode_eof(state, completions));
        if decoded.is_some() {
            ctx.finish();
        }
    }

    fn on_turn(&mut self, ctx: &mut ServiceContext) {
        self.armed = false;
        self.use_free(ctx);
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        match timer {
            SETUP if self.run.borrow().has_begun() => {}
            SETUP => self.exclude_late(ctx),
            RETRY => {
                for number in self.dial_queue.take_delayed() {
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

    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        let id = ctx.id();
        let Some(connection) = self.connections.remove(id) else { return };
        let ending = connection.ending(reason);
        self.count_end(&connection, ending, reason);
        let (has_begun, is_stopped) = {
            let run = self.run.borrow();
            (run.has_begun(), run.is_stopped())
        };
        if is_stopped {
            return;
        }
        let redials = match P::REDIAL {
            Redial::Never => false,
            Redial::Idle => ending == Ending::Idle,
            Redial::Always => connection.ready,
        };
        if !redials {
            self.deactivate(connection.number);
        } else if has_begun {
            self.replace(ctx, connection.number, connection.answered);
        } else {
            self.dial_queue.dial_at_beginning(connection.number);
        }
        if has_begun {
            // Requests to send again need not wait for another connection.
            self.use_free(ctx);
        } else if !connection.ready {
            self.complete_setup_of_one(ctx);
        }
    }
}

impl<P: Protocol> Drop for ConnectionPool<P> {
    /// Counts the requests that are due and not answered: the run is over.
    fn drop(&mut self) {
        let run = &mut *self.run.borrow_mut();
        run.count_unsent(&self.schedule);
        let connections = self.connections.iter().filter(|(_, connection)| connection.ready);
        let in_flight = connections.flat_map(|(_, connection)| &connection.in_flight);
        in_flight.chain(&self.resend).for_each(|&since| run.count_unanswered(since));
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

    /// Returns the number of requests sent to a connection since the last call.
    fn requests(probe: &mut Probe, id: ConnId) -> usize {
        let sent = String::from_utf8(probe.sent_to(id, &[])).unwrap();
        probe.take_commands();
        sent.matches("GET ").count()
    }

    /// A run of HTTP in its window, with one ready connection that has two requests in flight.
    fn begun(duration: Duration) -> (Plan, Rc<RefCell<Run>>, ConnectionPool<Http>, Probe, ConnId) {
        let plan = Plan { connections: 1, pipeline: 2, duration, ..Plan::new(Kind::Http, ([127, 0, 0, 1], 80)) };
        let run = Rc::new(RefCell::new(Run::new(&plan)));
        let mut pool = ConnectionPool::new(&plan, &run, Http::new(&plan));
        let mut probe = Probe::new();
        probe.call(|ctx| pool.on_start(ctx));
        let [(id, _)] = probe.take_dials()[..] else { panic!("not one dial") };
        probe.on(id, |ctx| pool.on_dialed(ctx));
        assert_eq!(requests(&mut probe, id), 1, "the request that is not counted");
        probe.on(id, |ctx| pool.on_data(ctx, ANSWER));
        assert_eq!((run.borrow().has_begun(), requests(&mut probe, id)), (true, 2));
        (plan, run, pool, probe, id)
    }

    #[test]
    fn requests_to_resend_keep_the_run_open() {
        for is_answered in [true, false] {
            // Longer than a busy machine keeps the test from its processor: the requests are due within the window.
            let (plan, run, mut pool, mut probe, one) = begun(Duration::from_millis(500));
            while run.borrow().is_in_window(run.borrow().now()) {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            probe.on(one, |ctx| pool.on_data(ctx, LAST));
            probe.on(one, |ctx| pool.on_close(ctx, CloseReason::Reset));
            let end = run.borrow().window().unwrap().end;
            assert_eq!(run.borrow().ending(end), None, "the other request has no outcome");
            let [(two, _)] = probe.take_dials()[..] else { panic!("not one dial") };
            probe.on(two, |ctx| pool.on_dialed(ctx));
            assert_eq!(requests(&mut probe, two), 1);
            if is_answered {
                probe.on(two, |ctx| pool.on_data(ctx, ANSWER));
                assert_eq!(run.borrow().ending(end), Some(End::Completed));
            }
            run.borrow_mut().finish(End::Completed);
            drop(pool);
            let stats = run.borrow_mut().report(&plan).unwrap().stats;
            let expected = if is_answered { (2, 2, 0) } else { (2, 1, 1) };
            assert_eq!((stats.sent, stats.answered_late, stats.unanswered), expected);
        }
    }

    #[test]
    fn an_idle_408_is_one_end_and_its_requests_are_sent_again() {
        const IDLE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let (plan, run, mut pool, mut probe, one) = begun(Duration::from_secs(3600));
        probe.on(one, |ctx| pool.on_data(ctx, IDLE));
        probe.on(one, |ctx| pool.on_close(ctx, CloseReason::Finished));
        let [(two, _)] = probe.take_dials()[..] else { panic!("not one dial") };
        probe.on(two, |ctx| pool.on_dialed(ctx));
        assert_eq!(requests(&mut probe, two), 2);
        // A connection that has answered no request is not idle: there the status is the answer to the request.
        probe.on(two, |ctx| pool.on_data(ctx, IDLE));
        drop(pool);
        let stats = run.borrow_mut().report(&plan).unwrap().stats;
        assert_eq!((stats.sent, stats.answered, stats.errors.get("status 408")), (2, 1, Some(&1)));
    }

    #[test]
    fn a_connection_that_the_server_has_ended_gets_no_request() {
        let (plan, run, mut pool, mut probe, id) = begun(Duration::ZERO);
        probe.on(id, |ctx| pool.on_data(ctx, LAST));
        assert_eq!(requests(&mut probe, id), 0);
        pool.free.push_back(id);
        probe.on(id, |ctx| pool.on_eof(ctx, &[]));
        probe.call(|ctx| pool.on_turn(ctx));
        assert_eq!(requests(&mut probe, id), 0);
        drop(pool);
        let report = run.borrow_mut().report(&plan).unwrap();
        assert_eq!((report.end, report.stats.sent, report.stats.cut_off), (End::Interrupted, 2, 1));
    }
}
