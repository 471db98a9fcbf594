//! When to say something after a silence, and when a silent peer counts as dead.
//!
//! Owns: [`Heartbeat`]. Must not know: what is said, how time passes.

use std::time::Duration;

use crate::timer::{Time, Timeout};

/// So many periods without a sign of life, and the peer counts as dead.
const MISSED: u32 = 3;

/// What a look at the heartbeat comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pulse {
    /// Nothing is to be done.
    Quiet,
    /// Nothing has passed for a period: say something, and tell [`Heartbeat::spoken`].
    Beat,
    /// Nothing has come from the peer for three periods.
    Dead,
}

/// Keeps a conversation alive and finds out when the other end is not.
///
/// A kernel answers for a process that is stopped or stuck: its TCP acknowledges and keeps silent, and so do its
/// keepalive answers. Only the peer itself can tell that it lives.
///
/// ```
/// use std::time::Duration;
/// use reactor::clients::{Heartbeat, Pulse};
/// use reactor::timer::Time;
///
/// let at = Time::from_millis;
/// let mut heartbeat = Heartbeat::new(Duration::from_secs(1));
/// heartbeat.start(at(0));
/// heartbeat.heard(at(500));
/// assert_eq!(heartbeat.due(), at(1_500)); // set a timer for it, and when it fires ask:
/// assert_eq!(heartbeat.pulse(at(1_500)), Pulse::Beat);
/// heartbeat.spoken(at(1_500));
/// assert_eq!(heartbeat.pulse(at(2_499)), Pulse::Quiet);
/// assert_eq!(heartbeat.pulse(at(3_500)), Pulse::Dead);
/// ```
#[derive(Clone, Debug)]
pub struct Heartbeat {
    every: Timeout,
    heard: Time,
    passed: Time,
}

impl Heartbeat {
    /// One for silences of `every`; zero switches it off.
    pub fn new(every: Duration) -> Self {
        Self { every: every.into(), heard: Time::ZERO, passed: Time::ZERO }
    }

    /// The conversation has begun.
    pub fn start(&mut self, now: Time) {
        self.heard(now);
    }

    /// Something has come from the peer, or its silence is not its fault.
    pub fn heard(&mut self, now: Time) {
        (self.heard, self.passed) = (now, now);
    }

    /// Something has been said to the peer.
    pub fn spoken(&mut self, now: Time) {
        self.passed = now;
    }

    /// How long a silence a peer survives.
    pub fn patience(&self) -> Duration {
        Duration::from_nanos(self.every.as_nanos()).saturating_mul(MISSED)
    }

    /// When to look next. What is said and heard only moves it later, so a timer need not be set anew each time.
    pub fn due(&self) -> Time {
        if !self.every.is_on() {
            return Time::NEVER;
        }
        (self.passed + self.every).min(self.heard + self.patience())
    }

    /// What is to be done at `now`.
    pub fn pulse(&self, now: Time) -> Pulse {
        if now < self.due() {
            Pulse::Quiet
        } else if now >= self.heard + self.patience() {
            Pulse::Dead
        } else {
            Pulse::Beat
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn a_silent_peer_is_asked_twice_and_is_dead_after_three_periods() {
        let mut heartbeat = Heartbeat::new(Duration::from_millis(100));
        heartbeat.start(at(50));
        for due in [150, 250] {
            assert_eq!(heartbeat.due(), at(due));
            assert_eq!(heartbeat.pulse(at(due)), Pulse::Beat);
            heartbeat.spoken(at(due));
        }
        assert_eq!((heartbeat.due(), heartbeat.pulse(at(350))), (at(350), Pulse::Dead));
    }

    #[test]
    fn who_talks_to_a_dead_peer_finds_out_as_well() {
        let mut heartbeat = Heartbeat::new(Duration::from_millis(100));
        heartbeat.start(at(0));
        for now in (50..300).step_by(50) {
            heartbeat.spoken(at(now));
        }
        assert_eq!(heartbeat.due(), at(300));
    }

    #[test]
    fn it_can_be_off() {
        let heartbeat = Heartbeat::new(Duration::ZERO);
        assert!(heartbeat.due().is_never());
        assert_eq!(heartbeat.pulse(at(1 << 40)), Pulse::Quiet);
    }
}
