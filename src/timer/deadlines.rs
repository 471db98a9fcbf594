//! The table of deadlines of one connection, and the one alarm in the wheel that serves them all.
//!
//! Owns: [`Deadline`] (the kinds) and [`Deadlines`] (when each is due, which have lapsed, where the alarm stands).
//! Must not know: sockets, services, the wheel itself.
//!
//! Pushing a deadline later is one store: the alarm rings at its old time, finds nothing due, and is set again. Only a
//! deadline that is earlier than the alarm asks for the wheel. Go's runtime is lazy as well, one floor lower: each
//! `SetDeadline` reads the clock, takes locks and marks a timer (`pollDesc.rt`, `wt`, guarded by `rseq`, `wseq`), and
//! the heap is put in order later. Here nothing is touched but this table.
//!
//! Invariants:
//! 1. `alarm_at` is not later than the earliest deadline that has not lapsed, or `MOVED` is marked.
//! 2. A deadline that has lapsed stays so until it is set anew: like Go's, it is sticky.
//! 3. A lapsed deadline is reported at most once.

use std::fmt;

use super::time::Time;
use super::wheel::TimerId;

/// The kinds of deadline that a connection has. Each is independent of the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Deadline {
    /// Bytes from the peer must have arrived (Go's `SetReadDeadline`). Counts while the connection reads.
    Read,
    /// What is queued must have been taken by the kernel (Go's `SetWriteDeadline`). Counts while something is queued.
    Write,
    /// A byte must have passed, either way.
    Idle,
    /// The connection must have been established (Go's `Dialer.Timeout`).
    Dial,
    /// After we have sent FIN: the peer must have sent its own. Before that, while the reactor stops: a peer that had
    /// been held back must have sent what it had left.
    Linger,
}

const KINDS: [Deadline; 5] = [Deadline::Read, Deadline::Write, Deadline::Idle, Deadline::Dial, Deadline::Linger];

/// The mark that the wheel has to be asked.
const MOVED: u8 = 1 << 7;

impl Deadline {
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Deadline::Read => "read",
            Deadline::Write => "write",
            Deadline::Idle => "idle",
            Deadline::Dial => "dial",
            Deadline::Linger => "linger",
        })
    }
}

/// When each [`Deadline`] of one connection is due.
#[derive(Debug)]
pub struct Deadlines {
    due: [Time; KINDS.len()],
    /// When the wheel entry rings; [`Time::NEVER`] without one.
    alarm_at: Time,
    alarm: Option<TimerId>,
    /// The kinds that have lapsed, and [`MOVED`].
    marks: u8,
    reported: u8,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self::new()
    }
}

impl Deadlines {
    /// A table in which nothing is set.
    pub const fn new() -> Self {
        Self { due: [Time::NEVER; KINDS.len()], alarm_at: Time::NEVER, alarm: None, marks: 0, reported: 0 }
    }

    /// Sets a deadline; [`Time::NEVER`] clears it. Whatever had lapsed of its kind is forgotten.
    #[inline]
    pub fn set(&mut self, which: Deadline, due: Time) {
        self.due[which as usize] = due;
        self.marks &= !which.bit();
        self.reported &= !which.bit();
        self.marks |= if due < self.alarm_at { MOVED } else { 0 };
    }

    /// When `which` is due.
    pub fn due(&self, which: Deadline) -> Time {
        self.due[which as usize]
    }

    /// Whether `which` has passed and has not been set anew.
    #[inline]
    pub fn is_expired(&self, which: Deadline) -> bool {
        self.marks & which.bit() != 0
    }

    /// The earliest deadline that has not lapsed.
    pub fn earliest(&self) -> Time {
        let ahead = KINDS.iter().filter(|which| !self.is_expired(**which));
        ahead.map(|which| self.due(*which)).min().unwrap_or(Time::NEVER)
    }

    /// Whether the wheel has to be asked: a deadline is earlier than the alarm, or the alarm has rung.
    #[inline]
    pub fn moved(&self) -> bool {
        self.marks & MOVED != 0
    }

    /// Whether there is nothing to look at: no deadline has lapsed and the wheel need not be asked.
    #[inline]
    pub fn nothing_due(&self) -> bool {
        self.marks == 0
    }

    /// Marks as lapsed what is due at `now`.
    pub fn mark_expired(&mut self, now: Time) {
        for which in KINDS {
            if self.due(which) <= now {
                self.marks |= which.bit();
            }
        }
    }

    /// A lapsed deadline that has not been reported and that `counts` at present.
    #[inline]
    pub fn next_expired(&self, counts: impl Fn(Deadline) -> bool) -> Option<Deadline> {
        let news = self.marks & !MOVED & !self.reported;
        if news == 0 {
            return None;
        }
        KINDS.into_iter().find(|which| news & which.bit() != 0 && counts(*which))
    }

    /// Notes that a lapsed deadline has been reported.
    pub fn mark_delivered(&mut self, which: Deadline) {
        self.reported |= which.bit();
    }

    /// Takes the alarm out, because it has rung or shall be cancelled.
    pub fn take_alarm(&mut self) -> Option<TimerId> {
        self.alarm_at = Time::NEVER;
        self.marks |= MOVED;
        self.alarm.take()
    }

    /// Notes the alarm that now serves this table.
    pub fn set_alarm(&mut self, alarm: Option<TimerId>, at: Time) {
        (self.alarm, self.alarm_at) = (alarm, at);
        self.marks &= !MOVED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn kinds_are_independent_and_sticky() {
        let mut table = Deadlines::new();
        table.set(Deadline::Read, at(10));
        table.set(Deadline::Write, at(20));
        assert_eq!(table.earliest(), at(10));
        table.mark_expired(at(15));
        assert_eq!(table.next_expired(|_| true), Some(Deadline::Read));
        table.mark_delivered(Deadline::Read);
        assert_eq!(table.next_expired(|_| true), None);
        assert!(table.is_expired(Deadline::Read) && !table.is_expired(Deadline::Write));
        assert_eq!(table.earliest(), at(20));
        table.set(Deadline::Read, at(30));
        assert!(!table.is_expired(Deadline::Read));
    }

    #[test]
    fn one_that_does_not_count_waits_for_its_moment() {
        let mut table = Deadlines::new();
        table.set(Deadline::Write, at(1));
        table.mark_expired(at(2));
        assert_eq!(table.next_expired(|which| which != Deadline::Write), None);
        assert_eq!(table.next_expired(|_| true), Some(Deadline::Write));
    }

    #[test]
    fn only_an_earlier_deadline_asks_for_the_wheel() {
        let mut table = Deadlines::new();
        table.set(Deadline::Idle, at(100));
        assert!(table.moved());
        table.set_alarm(None, at(100));
        for later in 101..1_101 {
            table.set(Deadline::Idle, at(later));
            assert!(!table.moved());
        }
        table.set(Deadline::Read, at(50));
        assert!(table.moved());
    }

    #[test]
    fn set_to_the_past_and_cleared_is_still_waiting() {
        let mut table = Deadlines::new();
        table.set(Deadline::Read, at(1));
        table.mark_expired(at(5));
        table.set(Deadline::Read, Time::NEVER);
        assert_eq!(table.next_expired(|_| true), None);
        assert_eq!(table.earliest(), Time::NEVER);
    }
}
