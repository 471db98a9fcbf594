//! The order in which the connections of a run are dialed: at the start, at the beginning of the window, after a failure.
//!
//! Owns: [`DialQueue`]. Must not know: the bytes on a connection, the reason of its end.
//!
//! Invariant: connections have numbers. Each number is in one of the lists here, or is dialing, or connected, or inactive
//! for the rest of the run.

use std::ops::Range;
use std::time::Duration;

use crate::addr::Addr;
use crate::id::{ConnId, ConnMap};
use crate::limits::Policy;
use crate::load::Plan;
use crate::service::{Dial, ServiceContext, TimerName};

/// Connections at a time that are dialed and not ready: fewer than the shortest usual backlog (128), so that the kernel
/// drops no dial.
const CONCURRENT_DIALS: usize = 100;

/// The timeout of a dial.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The delay between a failure and the next dial.
pub const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The numbers of the connections of a run, by what each waits for.
pub struct DialQueue {
    to: Addr,
    policy: Policy,
    retry: TimerName,
    /// Numbers that have never been dialed.
    undialed: Range<usize>,
    /// The numbers of the connections that are being dialed.
    dialing: ConnMap<usize>,
    /// The count of connections that are neither ready nor failed.
    pending: usize,
    /// By number: true once the connection has been ready, even if it has ended since.
    served: Vec<bool>,
    /// Numbers of served connections that have ended before the window.
    ended_early: Vec<usize>,
    /// Numbers that wait for the retry delay.
    delayed: Vec<usize>,
}

impl DialQueue {
    /// The connections of `plan`, whose requests have `request_len` bytes. The timer `retry` expires when a retry delay has
    /// passed.
    pub fn new(plan: &Plan, request_len: usize, retry: TimerName) -> Self {
        // The server may refuse to read while its own output waits, so this side must keep reading. A queue above the
        // high-water mark would suspend reading: the mark lies above all bytes that can be in flight.
        let high_water = Policy::default().high_water.max(request_len.saturating_mul(plan.pipeline).saturating_add(1));
        Self {
            to: plan.to.clone(),
            policy: Policy { high_water, overflow: high_water, ..Policy::default() },
            retry,
            undialed: 0..plan.connections,
            dialing: ConnMap::new(),
            pending: plan.connections,
            served: vec![false; plan.connections],
            ended_early: Vec::new(),
            delayed: Vec::new(),
        }
    }

    /// Dials the first connections.
    pub fn start(&mut self, ctx: &mut ServiceContext) {
        for _ in 0..CONCURRENT_DIALS {
            self.dial_next(ctx);
        }
    }

    fn dial_next(&mut self, ctx: &mut ServiceContext) {
        if let Some(number) = self.undialed.next() {
            self.dial(ctx, number);
        }
    }

    /// Dials connection `number`.
    pub fn dial(&mut self, ctx: &mut ServiceContext, number: usize) {
        let id = ctx.dial(Dial::to(self.to.clone()).within(DIAL_TIMEOUT).with(self.policy.clone()));
        self.dialing.insert(id, number);
    }

    /// Takes the number of the connection `id`, whose dial has succeeded or failed.
    pub fn take_dialed(&mut self, id: ConnId) -> Option<usize> {
        self.dialing.remove(id)
    }

    /// Notes that one connection is ready or has failed, and dials the next. Returns true after the last one.
    pub fn complete_one(&mut self, ctx: &mut ServiceContext) -> bool {
        self.dial_next(ctx);
        self.pending = self.pending.saturating_sub(1);
        self.pending == 0
    }

    /// Drops the numbers that have never been dialed, and returns their count.
    pub fn drop_undialed(&mut self) -> usize {
        std::mem::replace(&mut self.undialed, 0..0).len()
    }

    /// Notes that connection `number` is ready.
    pub fn note_served(&mut self, number: usize) {
        self.served[number] = true;
    }

    /// Returns true if connection `number` has ever been ready.
    pub fn was_served(&self, number: usize) -> bool {
        self.served[number]
    }

    /// Dials connection `number`, which has ended before the window, when the window begins.
    pub fn dial_at_beginning(&mut self, number: usize) {
        self.ended_early.push(number);
    }

    /// Begins the window.
    pub fn begin(&mut self, ctx: &mut ServiceContext) {
        for number in std::mem::take(&mut self.ended_early) {
            self.dial(ctx, number);
        }
    }

    /// Starts the retry delay of connection `number`.
    pub fn delay(&mut self, ctx: &mut ServiceContext, number: usize) {
        if self.delayed.is_empty() {
            ctx.set_timer(self.retry, ctx.now() + RETRY_DELAY, Duration::ZERO);
        }
        self.delayed.push(number);
    }

    /// Returns the numbers whose retry delay has passed.
    pub fn take_delayed(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.delayed)
    }
}
