//! The table of deadlines of one connection, and the one alarm in the wheel that serves them all.
//!
//! Owns: [`Deadline`] and [`DeadlineKind`] (the kinds), and [`Deadlines`] (the due times, the expired kinds, the time of the alarm). Must not
//! know: sockets, services, the wheel itself.
//!
//! Moving a deadline later is one store: the alarm fires at its old time, finds nothing due, and is set again. Only a
//! deadline earlier than the alarm needs the wheel.
//!
//! Go's runtime is lazy as well, one layer lower. Each `SetDeadline` reads the clock, takes locks and marks a timer
//! (`pollDesc.rt` and `wt`, guarded by `rseq` and `wseq`); the heap is reordered later. Here a store in this table is
//! enough.
//!
//! Invariants:
//! 1. `alarm_at` is not later than the earliest deadline that has not expired, or `MOVED` is marked.
//! 2. An expired deadline stays expired until it is set again. Deadlines are sticky, as in Go.
//! 3. An expired deadline is delivered at most once.

use std::fmt;

use super::time::Time;
use super::wheel::TimerId;

/// The kinds of deadline that a service can set. The kinds are independent. A kind that does not count at present is not
/// delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deadline {
    /// The time by which bytes of the peer must arrive (Go's `SetReadDeadline`). Counts while the connection reads.
    Read,
    /// The time by which the kernel must take all queued output (Go's `SetWriteDeadline`). Counts while output is
    /// queued.
    Write,
    /// The time by which a byte must pass in either direction.
    Idle,
}

/// All kinds of deadline of a connection: those of the service and those of the reactor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeadlineKind {
    /// [`Deadline::Read`].
    Read,
    /// [`Deadline::Write`].
    Write,
    /// [`Deadline::Idle`].
    Idle,
    /// The time by which the connection must be established (Go's `Dialer.Timeout`).
    Dial,
    /// After our FIN: the time by which the peer must send its own.
    ///
    /// Before our FIN, while the reactor stops: the time by which a peer whose reading was suspended must send its
    /// remaining bytes.
    Linger,
}

impl From<Deadline> for DeadlineKind {
    fn from(which: Deadline) -> Self {
        match which {
            Deadline::Read => Self::Read,
            Deadline::Write => Self::Write,
            Deadline::Idle => Self::Idle,
        }
    }
}

const KINDS: [DeadlineKind; 5] =
    [DeadlineKind::Read, DeadlineKind::Write, DeadlineKind::Idle, DeadlineKind::Dial, DeadlineKind::Linger];

/// The mark of a table whose alarm must be set again.
const MOVED: u8 = 1 << 7;

impl DeadlineKind {
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
        })
    }
}

/// The due times of each [`DeadlineKind`] of one connection.
#[derive(Debug)]
pub struct Deadlines {
    due: [Time; KINDS.len()],
    /// The time at which the alarm fires; [`Time::NEVER`] without an alarm.
    alarm_at: Time,
    alarm: Option<TimerId>,
    /// One bit for each expired kind, and [`MOVED`].
    marks: u8,
    /// One bit for each delivered kind.
    delivered: u8,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self::new()
    }
}

impl Deadlines {
    /// Returns a table without deadlines.
    pub const fn new() -> Self {
        Self { due: [Time::NEVER; KINDS.len()], alarm_at: Time::NEVER, alarm: None, marks: 0, delivered: 0 }
    }

    /// Sets a deadline; [`Time::NEVER`] clears it. Removes the expired and delivered marks of the kind.
    #[inline]
    pub fn set(&mut self, which: DeadlineKind, due: Time) {
        self.due[which as usize] = due;
        self.marks &= !which.bit();
        self.delivered &= !which.bit();
        self.marks |= if due < self.alarm_at { MOVED } else { 0 };
    }

    /// Returns the due time of `which`, or [`Time::NEVER`].
    pub fn due(&self, which: DeadlineKind) -> Time {
        self.due[which as usize]
    }

    /// Returns true if `which` has expired and was not set again.
    #[inline]
    pub fn is_expired(&self, which: DeadlineKind) -> bool {
        self.marks & which.bit() != 0
    }

    /// Returns the due time of the earliest deadline that has not expired, or [`Time::NEVER`].
    pub fn earliest(&self) -> Time {
        let pending = KINDS.iter().filter(|which| !self.is_expired(**which));
        pending.map(|which| self.due(*which)).min().unwrap_or(Time::NEVER)
    }

    /// Returns true if the alarm must be set again: a deadline is earlier than the alarm, or the alarm has fired.
    #[inline]
    pub fn moved(&self) -> bool {
        self.marks & MOVED != 0
    }

    /// Returns true if no deadline has expired and the alarm need not be set again.
    #[inline]
    pub fn nothing_due(&self) -> bool {
        self.marks == 0
    }

    /// Marks each deadline that is due at `now` as expired.
    pub fn mark_expired(&mut self, now: Time) {
        for which in KINDS {
            if self.due(which) <= now {
                self.marks |= which.bit();
            }
        }
    }

    /// Returns an expired deadline that was not delivered and for which `counts` returns true.
    #[inline]
    pub fn next_expired(&self, counts: impl Fn(DeadlineKind) -> bool) -> Option<DeadlineKind> {
        let undelivered = self.marks & !MOVED & !self.delivered;
        if undelivered == 0 {
            return None;
        }
        KINDS.into_iter().find(|which| undelivered & which.bit() != 0 && counts(*which))
    }

    /// Marks an expired deadline as delivered.
    pub fn mark_delivered(&mut self, which: DeadlineKind) {
        self.delivered |= which.bit();
    }

    /// Returns the alarm and removes it from the table. The alarm has fired, or the caller cancels it.
    pub fn take_alarm(&mut self) -> Option<TimerId> {
        self.alarm_at = Time::NEVER;
        self.marks |= MOVED;
        self.alarm.take()
    }

    /// Records the alarm that serves this table from now on.
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
    fn deadlines_are_independent_and_sticky() {
        let mut table = Deadlines::new();
        table.set(DeadlineKind::Read, at(10));
        table.set(DeadlineKind::Write, at(20));
        assert_eq!(table.earliest(), at(10));
        table.mark_expired(at(15));
        assert_eq!(table.next_expired(|_| true), Some(DeadlineKind::Read));
        table.mark_delivered(DeadlineKind::Read);
        assert_eq!(table.next_expired(|_| true), None);
        assert!(table.is_expired(DeadlineKind::Read) && !table.is_expired(DeadlineKind::Write));
        assert_eq!(table.earliest(), at(20));
        table.set(DeadlineKind::Read, at(30));
        assert!(!table.is_expired(DeadlineKind::Read));
    }

    #[test]
    fn an_expired_deadline_waits_until_it_counts() {
        let mut table = Deadlines::new();
        table.set(DeadlineKind::Write, at(1));
        table.mark_expired(at(2));
        assert_eq!(table.next_expired(|which| which != DeadlineKind::Write), None);
        assert_eq!(table.next_expired(|_| true), Some(DeadlineKind::Write));
    }

    #[test]
    fn only_an_earlier_deadline_moves_the_alarm() {
        let mut table = Deadlines::new();
        table.set(DeadlineKind::Idle, at(100));
        assert!(table.moved());
        table.set_alarm(None, at(100));
        for later in 101..1_101 {
            table.set(DeadlineKind::Idle, at(later));
            assert!(!table.moved());
        }
        table.set(DeadlineKind::Read, at(50));
        assert!(table.moved());
    }

    #[test]
    fn a_deadline_cleared_after_it_expired_is_not_delivered() {
        let mut table = Deadlines::new();
        table.set(DeadlineKind::Read, at(1));
        table.mark_expired(at(5));
        table.set(DeadlineKind::Read, Time::NEVER);
        assert_eq!(table.next_expired(|_| true), None);
        assert_eq!(table.earliest(), Time::NEVER);
    }
}
