//! Datagrams that come back, or do not.
//!
//! Owns: [`Client`], one socket with its datagrams under way. Must not know: batches, system calls.
//!
//! A datagram begins with its number, so that an answer is known whatever has become of the one before. One that has not
//! come back within [`PATIENCE`] is lost; in a closed loop the next one takes its place then.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use super::pattern::Pattern;
use crate::load::Load;
use crate::load::run::{PATIENCE, Run};
use crate::load::schedule::{Schedule, Wake};
use crate::service::{CloseReason, DatagramContext, DatagramService, Errno, SocketContext, TimerName};

/// The number in front of each datagram.
const NUMBER: usize = size_of::<u64>();

/// Sizes that a datagram may have (RFC 768, and the IPv4 header).
pub const SIZES: RangeInclusive<usize> = NUMBER..=65_507;

/// How often lost datagrams are looked for.
const SWEEP: Duration = Duration::from_millis(100);

/// When the next datagram is due.
const DUE: TimerName = TimerName(0);
/// When to look for lost ones.
const SWEPT: TimerName = TimerName(1);

/// A datagram that is under way.
struct Sent {
    number: u64,
    /// When it was due: its latency counts from then.
    since: u64,
    /// When it was sent: it can be lost from then on.
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
    /// The oldest first.
    in_flight: VecDeque<Sent>,
    answered: bool,
    refused: bool,
    armed: bool,
}

/// The sockets that `load` asks for.
pub fn clients(load: &Load, run: &Rc<RefCell<Run>>) -> impl Iterator<Item = Client> {
    let pattern = Rc::new(Pattern::new(load.size));
    let Load { connections, size, pipeline, .. } = *load;
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
    /// Sends what is due, as far as there are slots for it.
    fn send_due(&mut self, ctx: &mut SocketContext) {
        let run = &mut *self.run.borrow_mut();
        if run.is_stopped() {
            return;
        }
        let now = run.now();
        while self.in_flight.len() < self.pipeline
            && let Some(since) = run.take(&mut self.schedule, now)
        {
            let number = self.next;
            self.next += 1;
            let mut datagram = std::mem::take(&mut run.scratch);
            datagram.clear();
            datagram.extend_from_slice(&number.to_le_bytes());
            datagram.extend_from_slice(self.pattern.piece(number, self.size - NUMBER));
            ctx.send(&datagram);
            run.note_sent(datagram.len(), now);
            run.scratch = datagram;
            self.in_flight.push_back(Sent { number, since, at: now });
        }
        if self.armed || self.in_flight.len() == self.pipeline {
            return;
        }
        match self.schedule.wake(now) {
            Some(Wake::Timer(after)) => ctx.set_timer(DUE, ctx.now() + after, Duration::ZERO),
            Some(Wake::Turn) => ctx.request_turn(),
            None => return,
        }
        self.armed = true;
    }

    /// The number of an answer, if it is one of ours, whole.
    fn number(&self, payload: &[u8]) -> Option<u64> {
        let (number, rest) = payload.split_first_chunk::<NUMBER>()?;
        let number = u64::from_le_bytes(*number);
        (payload.len() == self.size && number < self.next && self.pattern.matches(number, rest)).then_some(number)
    }

    fn hear(&mut self, payload: &[u8]) {
        let run = &mut *self.run.borrow_mut();
        let now = run.now();
        run.note_received(payload.len(), now);
        let Some(number) = self.number(payload) else { return run.stats.error("wrong bytes") };
        let Some(place) = self.in_flight.iter().position(|sent| sent.number == number) else {
            run.stats.strays += 1;
            return;
        };
        if let Some(sent) = self.in_flight.remove(place) {
            run.stats.record(now.saturating_sub(sent.since));
            run.answered(1, now);
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
        ctx.set_timer(SWEPT, ctx.now() + SWEEP, SWEEP);
        self.send_due(ctx);
    }

    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, payload: &[u8]) {
        self.answered = true;
        self.hear(payload);
        self.send_due(ctx);
    }

    fn on_error(&mut self, _ctx: &mut SocketContext, errno: Errno) {
        let run = &mut *self.run.borrow_mut();
        if run.is_stopped() {
            return;
        }
        run.stats.error(errno.to_string());
        // Nobody listens there, and nobody ever has: no use waiting.
        if errno.0 == libc::ECONNREFUSED && !self.answered && !std::mem::replace(&mut self.refused, true) {
            run.unreachable = Some(CloseReason::Unreachable(errno));
            run.retire();
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
            let patience = PATIENCE.as_nanos() as u64;
            let lost = run.now().saturating_sub(patience);
            while self.in_flight.front().is_some_and(|sent| sent.at < lost)
                && let Some(sent) = self.in_flight.pop_front()
            {
                run.give_up(sent.since);
            }
        }
        self.send_due(ctx);
    }

    fn on_stop(&mut self, _ctx: &mut SocketContext) {
        self.run.borrow_mut().note_stop();
    }
}

impl Drop for Client {
    /// The run is over: what was due and has not come back is counted.
    fn drop(&mut self) {
        let run = &mut *self.run.borrow_mut();
        run.give_up_overdue(&self.schedule);
        self.in_flight.iter().for_each(|sent| run.give_up(sent.since));
    }
}
