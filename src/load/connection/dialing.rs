//! Which connections are to be dialed: for the first time, when the window begins, and after a rest.
//!
//! Owns: [`Dialing`]. Must not know: what is said on a connection, or what has become of it.
//!
//! Invariant: connections have numbers; each number is in one of the lists here, or is dialing, or connected, or has
//! retired.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use crate::limits::Policy;
use crate::load::Load;
use crate::service::{Dial, DialName, ServiceContext, TimerName};

/// Connections at a time that are not ready yet: fewer than the shortest usual backlog (128), so that no dial is dropped.
const DIALS: usize = 100;

/// How long a dial may take.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after a failure before there is another dial.
pub const REST: Duration = Duration::from_millis(100);

/// The numbers of the connections of a run.
pub struct Dialing {
    to: SocketAddr,
    policy: Policy,
    rested: TimerName,
    /// Those that have not been dialed.
    undialed: Range<usize>,
    /// How many are neither ready nor have failed.
    awaited: usize,
    /// By their numbers, those that have been ready, though they may have ended since.
    served: Vec<bool>,
    /// Those of them that have ended before the window.
    ended: Vec<usize>,
    /// Those that could not be dialed again.
    resting: Vec<usize>,
}

impl Dialing {
    /// The connections that `load` asks for. When some have rested, the timer `rested` expires.
    pub fn new(load: &Load, rested: TimerName) -> Self {
        // A peer that waits until we read must be read: no more is ever queued than what is under way.
        let high_water = Policy::default().high_water.max(load.size.saturating_mul(load.pipeline).saturating_add(1));
        Self {
            to: load.to,
            policy: Policy { high_water, overflow: high_water, ..Policy::default() },
            rested,
            undialed: 0..load.connections,
            awaited: load.connections,
            served: vec![false; load.connections],
            ended: Vec::new(),
            resting: Vec::new(),
        }
    }

    /// Dials the first ones.
    pub fn start(&mut self, ctx: &mut ServiceContext) {
        for _ in 0..DIALS {
            self.dial_next(ctx);
        }
    }

    fn dial_next(&mut self, ctx: &mut ServiceContext) {
        if let Some(number) = self.undialed.next() {
            self.dial(ctx, number);
        }
    }

    /// Dials.
    pub fn dial(&mut self, ctx: &mut ServiceContext, number: usize) {
        let dial = Dial::to(self.to).named(DialName(number as u64)).within(DIAL_TIMEOUT).with(self.policy.clone());
        ctx.dial(dial);
    }

    /// One connection is ready, or has failed; the next one is dialed. Returns whether it was the last to wait for.
    pub fn settle_one(&mut self, ctx: &mut ServiceContext) -> bool {
        self.dial_next(ctx);
        self.awaited = self.awaited.saturating_sub(1);
        self.awaited == 0
    }

    /// Those that have not been dialed will not be; how many they are.
    pub fn leave_behind(&mut self) -> usize {
        std::mem::replace(&mut self.undialed, 0..0).len()
    }

    /// The connection `number` is ready.
    pub fn note_served(&mut self, number: usize) {
        self.served[number] = true;
    }

    /// Whether the connection `number` has ever been ready.
    pub fn was_served(&self, number: usize) -> bool {
        self.served[number]
    }

    /// The connection `number` has ended before the window: it is dialed again when that begins.
    pub fn dial_at_beginning(&mut self, number: usize) {
        self.ended.push(number);
    }

    /// The window begins.
    pub fn begin(&mut self, ctx: &mut ServiceContext) {
        for number in std::mem::take(&mut self.ended) {
            self.dial(ctx, number);
        }
    }

    /// The connection `number` rests.
    pub fn rest(&mut self, ctx: &mut ServiceContext, number: usize) {
        if self.resting.is_empty() {
            ctx.set_timer(self.rested, ctx.now() + REST, Duration::ZERO);
        }
        self.resting.push(number);
    }

    /// Those that have rested.
    pub fn take_rested(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.resting)
    }
}
