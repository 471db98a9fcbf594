//! The looks that a client takes before it judges its peer by a timer.
//!
//! Owns: [`Looks`]. Must not know: the timers, the verdicts.
//!
//! A process that was stopped itself (SIGSTOP, a paused virtual machine) finds all its timers due at once, and input that has waited. Its
//! own sleep says nothing about the peer, so the input is read first. That takes two turns more. A timer fires before the events of its
//! turn are handled; and the first wait after SIGCONT brings no events, because the signal interrupts it (signal(7)).

use std::time::Duration;

use crate::timer::Time;

/// The time between two looks: one tick of the wheel, so each look is in a turn of its own.
pub(super) const LOOK: Duration = Duration::from_millis(1);

/// The looks before a verdict.
const LOOKS: u8 = 2;

/// The age at which a look no longer counts: the peer has shown itself since, and the timer has been renewed.
const STALE: Duration = Duration::from_secs(1);

/// Counts the looks before a verdict.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    taken: u8,
    last: Time,
}

impl Looks {
    /// No look has been taken.
    pub const fn new() -> Self {
        Self { taken: 0, last: Time::ZERO }
    }

    /// The timer has fired at `now`. Returns true if the looks are over and the verdict may be given; otherwise the timer is set again,
    /// [`LOOK`] later.
    pub fn are_over(&mut self, now: Time) -> bool {
        if now.since(self.last) >= STALE {
            self.taken = 0;
        }
        self.last = now;
        let over = self.taken >= LOOKS;
        self.taken = if over { 0 } else { self.taken + 1 };
        over
    }

    /// The peer has shown itself: the next verdict takes all its looks. Returns true if a look was taken since the last
    /// verdict.
    pub fn reset(&mut self) -> bool {
        std::mem::take(&mut self.taken) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_takes_two_looks_in_a_row() {
        let at = Time::from_millis;
        let mut looks = Looks::new();
        assert_eq!([5_000, 5_001, 5_002].map(|now| looks.are_over(at(now))), [false, false, true]);
        assert!(!looks.are_over(at(5_003)), "the next verdict begins anew");
        looks.reset();
        assert_eq!([5_004, 5_005].map(|now| looks.are_over(at(now))), [false, false]);
        assert_eq!([6_006, 6_007, 6_008].map(|now| looks.are_over(at(now))), [false, false, true]);
    }
}
