//! Echo over UDP (RFC 862): a socket for each client, as a service of its own.
//!
//! Owns: [`Client`], one socket with its datagrams in flight. Must not know: batches, system calls.
//!
//! A datagram begins with its number, so that an answer identifies its request even if an earlier one is lost. A datagram
//! without an answer after [`ANSWER_TIMEOUT`] is lost. In a closed loop the next datagram takes its place then.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use super::pattern::Pattern;
use crate::load::Plan;
use crate::load::run::{ANSWER_TIMEOUT, Run};
use crate::load::schedule::{Schedule, Wake};
use crate::service::{CloseReason, DatagramContext, DatagramService, Errno, SocketContext, TimerName};

/// The length of the number at the front of each datagram.
const NUMBER: usize = size_of::<u64>();

/// Sizes of a datagram in bytes (RFC 768, less the IPv4 header).
pub const SIZES: RangeInclusive<usize> = NUMBER..=65_507;

/// The interval of the search for lost datagrams.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// The bytes of datagrams that one callback sends: far less than the queue of a socket holds (`DATAGRAM_QUEUE`), so that
/// this process drops no datagram of its own.
const BURST: usize = 256 * 1024;

/// The next datagram is due.
const DUE: TimerName = TimerName(0);
/// A search for lost datagrams is due.
const SWEEP: TimerName = TimerName(1);

/// A datagram in flight.
struct Sent {
    number: u64,
    /// The instant at which the datagram was due: its latency counts from then.
    since: u64,
    /// The instant of sending: the answer timeout counts from then.
    at: u64,
}

/// One socket.
pub struct Client {
    run: Rc<RefCell<Run>>,
    pattern: Rc<Pattern>,
    schedule: Schedule,
    share: usize,
    of: usize,
    size: usize,
    pipeline: usize,
    /// The number of the next datagram.
    next: u64,
    /// Oldest first.
    in_flight: VecDeque<Sent>,
    answered: bool,
    refused: bool,
    /// A timer is set or a turn is requested.
    armed: bool,
}

/// Returns the clients of `plan`.
pub fn clients(plan: &Plan, run: &Rc<RefCell<Run>>) -> impl Iterator<Item = Client> {
    let pattern = Rc::new(Pattern::new(plan.size));
    let Plan { connections, size, pipeline, .. } = *plan;
    let run = Rc::clone(run);
    run.borrow_mut().served = connections;
    (0..connections).map(move |share| Client {
        schedule: run.borrow().schedule(share, connections),
        run: Rc::clone(&run),
        pattern: Rc::clone(&pattern),
        share,
        of: connections,
        size,
        pipeline,
        next: 0,
        in_flight: VecDeque::with_capacity(pipeline.min(1024)),
        answered: false,
        refused: false,
        armed: false,
    })
}

impl Client {
    /// Sends the due datagrams, at most `pipeline` in flight and [`BURST`] bytes at a time. None is sent while the queue of
    /// the socket waits for the kernel.
    fn send_due(&mut self, ctx: &mut SocketContext) {
        let run = &mut *self.run.borrow_mut();
        if run.is_stopped() {
            return;
        }
        let now = run.now();
        let mut left = BURST;
        while self.in_flight.len() < self.pipeline
            && left >= self.size
            && !ctx.is_congested()
            && let Some(since) = run.take(&mut self.schedule, now)
        {
            left -= self.size;
            let number = self.next;
            self.next += 1;
            let mut datagram = std::mem::take(&mut run.scratch);
            datagram.clear();
            datagram.extend_from_slice(&number.to_le_bytes());
            datagram.extend_from_slice(self.pattern.slice(number, self.size - NUMBER));
            ctx.send(&datagram);
            run.count_sent(datagram.len(), now);
            run.scratch = datagram;
            self.in_flight.push_back(Sent { number, since, at: now });
        }
        if self.armed || self.in_flight.len() == self.pipeline || ctx.is_congested() {
            return;
        }
        match self.schedule.wake(now) {
            _ if left < self.size => ctx.request_turn(),
            Some(Wake::Timer(after)) => ctx.set_timer(DUE, ctx.now() + after, Duration::ZERO),
            Some(Wake::Turn) => ctx.request_turn(),
            None => return,
        }
        self.armed = true;
    }

    /// Returns the number of an answer; `None` if the answer differs from every datagram that was sent.
    fn number(&self, payload: &[u8]) -> Option<u64> {
        let (number, rest) = payload.split_first_chunk::<NUMBER>()?;
        let number = u64::from_le_bytes(*number);
        (payload.len() == self.size && number < self.next && self.pattern.matches(number, rest)).then_some(number)
    }

    /// Checks and counts one answer.
    fn receive(&mut self, payload: &[u8]) {
        let run = &mut *self.run.borrow_mut();
        let now = run.now();
        run.count_received(payload.len(), now);
        let Some(number) = self.number(payload) else { return run.stats.count_error("wrong bytes") };
        let Some(place) = self.in_flight.iter().position(|sent| sent.number == number) else {
            run.stats.strays += 1;
            return;
        };
        if let Some(sent) = self.in_flight.remove(place) {
            run.stats.record(now.saturating_sub(sent.since));
            run.count_answered(1, now);
        }
    }
}

impl DatagramService for Client {
    fn on_start(&mut self, ctx: &mut SocketContext) {
        self.schedule = {
            let mut run = self.run.borrow_mut();
            run.begin();
            run.schedule(self.share, self.of)
        };
        ctx.set_timer(SWEEP, ctx.now() + SWEEP_INTERVAL, SWEEP_INTERVAL);
        self.send_due(ctx);
    }

    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, payload: &[u8]) {
        self.answered = true;
        self.receive(payload);
        self.send_due(ctx);
    }

    fn on_drain(&mut self, ctx: &mut SocketContext) {
        self.send_due(ctx);
    }

    fn on_error(&mut self, _ctx: &mut SocketContext, errno: Errno) {
        let run = &mut *self.run.borrow_mut();
        if run.is_stopped() {
            return;
        }
        run.stats.count_error(errno);
        // A port that refuses the first datagrams has no server: waiting for answers would be pointless.
        if errno.0 == libc::ECONNREFUSED && !self.answered && !std::mem::replace(&mut self.refused, true) {
            run.unreachable = Some(CloseReason::Unreachable(errno));
            run.deactivate();
        }
    }

    fn on_turn(&mut self, ctx: &mut SocketContext) {
        self.armed = false;
        self.send_due(ctx);
    }

    fn on_timer(&mut self, ctx: &mut SocketContext, timer: TimerName) {
        if timer == DUE {
            return self.on_turn(ctx);
        }
        {
            let run = &mut *self.run.borrow_mut();
            let timeout = ANSWER_TIMEOUT.as_nanos() as u64;
            let lost = run.now().saturating_sub(timeout);
            while self.in_flight.front().is_some_and(|sent| sent.at < lost)
                && let Some(sent) = self.in_flight.pop_front()
            {
                run.count_unanswered(sent.since);
            }
        }
        self.send_due(ctx);
    }

    fn on_stop(&mut self, _ctx: &mut SocketContext) {
        self.run.borrow_mut().note_stop();
    }
}

impl Drop for Client {
    /// Counts the datagrams that are due and not answered: the run is over.
    fn drop(&mut self) {
        let run = &mut *self.run.borrow_mut();
        run.count_unsent(&self.schedule);
        self.in_flight.iter().for_each(|sent| run.count_unanswered(sent.since));
    }
}
