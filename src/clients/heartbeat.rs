//! Heartbeats: the time to send one, and the time at which a silent peer counts as dead.
//!
//! Owns: [`Heartbeat`]. Must not know: the bytes of a heartbeat, any clock.
//!
//! Invariants:
//! 1. A period counts as missed only if this process was awake at its end: it has sent a heartbeat and could read the answer.
//! 2. Input that waits is read before a peer counts as dead ([`Looks`]).

use std::time::Duration;

use super::looks::{LOOK, Looks};
use crate::timer::{Time, Timeout};

/// The missed periods after which a peer counts as dead.
const MISSED: u32 = 3;

/// The least delay of a timer that counts as a sleep of this process: more than a busy machine causes. Longer periods count as slept
/// through at a delay of one period.
const SLEEP: Duration = Duration::from_millis(100);

/// The action that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pulse {
    /// None.
    Quiet,
    /// No byte has passed in either direction for a period: send a heartbeat, and call [`Heartbeat::spoken`].
    Beat,
    /// No byte has come from the peer for three periods: the peer counts as dead.
    Dead,
}

/// Keeps a connection alive, and detects a peer that is not.
///
/// A kernel answers for a process that is stopped or stuck: TCP acknowledges, and so does its keepalive. Only bytes of the peer prove
/// that the peer lives.
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
/// for now in [1_500, 2_500] {
///     assert_eq!(heartbeat.due(), at(now)); // set a timer for it; when it fires:
///     assert_eq!(heartbeat.pulse(at(now)), Pulse::Beat);
///     heartbeat.spoken(at(now));
/// }
/// // Two more turns, in which input that waits is read:
/// assert_eq!(heartbeat.pulse(at(3_500)), Pulse::Quiet);
/// assert_eq!(heartbeat.due(), at(3_501));
/// assert_eq!(heartbeat.pulse(at(3_501)), Pulse::Quiet);
/// assert_eq!(heartbeat.pulse(at(3_502)), Pulse::Dead);
/// ```
#[derive(Clone, Debug)]
pub struct Heartbeat {
    every: Timeout,
    /// The last byte in either direction.
    passed: Time,
    /// The beginning of the present period without a byte from the peer.
    period: Time,
    /// Such periods before it.
    missed: u32,
    /// The time of the next look, once enough periods are missed.
    look: Time,
    looks: Looks,
}

impl Heartbeat {
    /// Heartbeats after silences of `every`; zero switches them off.
    pub fn new(every: Duration) -> Self {
        Self {
            every: every.into(),
            passed: Time::ZERO,
            period: Time::ZERO,
            missed: 0,
            look: Time::ZERO,
            looks: Looks::new(),
        }
    }

    /// A connection has begun.
    pub fn start(&mut self, now: Time) {
        self.heard(now);
    }

    /// Bytes have come from the peer, or its silence does not count.
    pub fn heard(&mut self, now: Time) {
        (self.passed, self.period, self.missed) = (now, now, 0);
        self.looks.reset();
    }

    /// Bytes have been sent to the peer.
    pub fn spoken(&mut self, now: Time) {
        self.passed = now;
    }

    /// The silence after which a peer counts as dead.
    pub fn patience(&self) -> Duration {
        Duration::from_nanos(self.every.as_nanos()).saturating_mul(MISSED)
    }

    /// The time of the next action. Bytes only move it later, so a timer need not be set anew for each.
    pub fn due(&self) -> Time {
        if !self.every.is_on() {
            Time::NEVER
        } else if self.missed >= MISSED {
            self.look
        } else {
            self.passed.min(self.period) + self.every
        }
    }

    /// Returns the action that is due at `now`. Afterwards the timer is set for [`due`](Self::due) again.
    pub fn pulse(&mut self, now: Time) -> Pulse {
        if now < self.due() {
            return Pulse::Quiet;
        }
        if self.missed < MISSED {
            self.end_period(now);
        }
        if self.missed >= MISSED {
            return self.verdict(now);
        }
        if now >= self.passed + self.every { Pulse::Beat } else { Pulse::Quiet }
    }

    /// Begins a new period if the present one is over at `now`.
    fn end_period(&mut self, now: Time) {
        let end = self.period + self.every;
        if now < end {
            return;
        }
        let sleep = Duration::from_nanos(self.every.as_nanos()).max(SLEEP);
        if now < end + sleep {
            self.missed += 1;
        }
        self.period = now;
    }

    fn verdict(&mut self, now: Time) -> Pulse {
        if self.looks.are_over(now) {
            return Pulse::Dead;
        }
        self.look = now + LOOK;
        Pulse::Quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    /// Pulses at each due time, and answers each beat by sending, until the peer counts as dead. Returns the times of the beats, and
    /// the time of death.
    fn run(heartbeat: &mut Heartbeat) -> (Vec<Time>, Time) {
        let mut beats = Vec::new();
        loop {
            let due = heartbeat.due();
            match heartbeat.pulse(due) {
                Pulse::Quiet => {}
                Pulse::Beat => {
                    heartbeat.spoken(due);
                    beats.push(due);
                }
                Pulse::Dead => return (beats, due),
            }
        }
    }

    #[test]
    fn a_silent_peer_gets_two_heartbeats_and_is_dead_after_three_periods() {
        let mut heartbeat = Heartbeat::new(Duration::from_millis(100));
        heartbeat.start(at(50));
        assert_eq!(run(&mut heartbeat), (vec![at(150), at(250)], at(352)));
    }

    #[test]
    fn a_dead_peer_is_detected_while_bytes_are_sent_to_it() {
        let mut heartbeat = Heartbeat::new(Duration::from_millis(100));
        heartbeat.start(at(0));
        for now in (50..300).step_by(50) {
            assert_eq!(heartbeat.pulse(at(now)), Pulse::Quiet);
            heartbeat.spoken(at(now));
        }
        assert_eq!(heartbeat.due(), at(300));
        assert_eq!(run(&mut heartbeat), (vec![], at(302)));
    }

    #[test]
    fn a_heartbeat_follows_a_whole_period_without_bytes() {
        let mut heartbeat = Heartbeat::new(Duration::from_millis(100));
        heartbeat.start(at(0));
        heartbeat.spoken(at(50));
        assert_eq!(heartbeat.pulse(at(100)), Pulse::Quiet);
        assert_eq!((heartbeat.due(), heartbeat.pulse(at(150))), (at(150), Pulse::Beat));
    }

    #[test]
    fn a_period_slept_through_does_not_count() {
        let mut heartbeat = Heartbeat::new(Duration::from_millis(200));
        heartbeat.start(at(0));
        // The process is stopped for 50 periods.
        assert_eq!(heartbeat.pulse(at(10_000)), Pulse::Beat, "the peer is asked first");
        heartbeat.spoken(at(10_000));
        assert_eq!(run(&mut heartbeat), (vec![at(10_200), at(10_400)], at(10_602)));

        // A late timer of a busy machine counts.
        heartbeat.start(at(20_000));
        assert_eq!(heartbeat.pulse(at(20_399)), Pulse::Beat);
        heartbeat.spoken(at(20_399));
        assert_eq!(run(&mut heartbeat), (vec![at(20_599)], at(20_801)));
    }

    #[test]
    fn input_that_waits_is_read_before_the_verdict() {
        let mut heartbeat = Heartbeat::new(Duration::from_millis(100));
        heartbeat.start(at(0));
        for now in [100, 200] {
            assert_eq!(heartbeat.pulse(at(now)), Pulse::Beat);
            heartbeat.spoken(at(now));
        }
        assert_eq!(heartbeat.pulse(at(300)), Pulse::Quiet);
        assert_eq!(heartbeat.pulse(at(301)), Pulse::Quiet);
        heartbeat.heard(at(301));
        assert_eq!((heartbeat.due(), heartbeat.pulse(at(302))), (at(401), Pulse::Quiet));
        assert_eq!(run(&mut heartbeat).1, at(603));
    }

    #[test]
    fn zero_switches_heartbeats_off() {
        let mut heartbeat = Heartbeat::new(Duration::ZERO);
        assert!(heartbeat.due().is_never());
        assert_eq!(heartbeat.pulse(at(1 << 40)), Pulse::Quiet);
    }
}
