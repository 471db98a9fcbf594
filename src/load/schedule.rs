//! When requests are due.
//!
//! Owns: [`Schedule`]. Must not know: connections, any clock. Instants are nanoseconds of the run's clock.
//!
//! A *closed* loop sends the next request when the one before has been answered. A server that stalls then receives fewer
//! requests, and the stall shows in at most one sample for each request in flight. An *open* loop has a schedule that the
//! server cannot change: request number n is due n / rate after the beginning. Its latency counts from that instant,
//! even if the request is sent later. So the schedule omits no inconvenient sample (Gil Tene calls the opposite
//! coordinated omission).
//!
//! Invariant: the schedule is computed, not stored; a backlog of due requests takes no memory.

use std::time::Duration;

/// How long before the next due request the loop begins to spin: a timer may be two milliseconds late.
const SPIN: Duration = Duration::from_millis(3);

/// How a client waits for the next due request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// By a timer: the request is due later than [`SPIN`] from now.
    Timer(Duration),
    /// By the next turn: a timer could be too late.
    Turn,
}

/// The schedule of a run, or one share of it.
#[derive(Clone, Debug)]
pub struct Schedule {
    begin: u64,
    end: u64,
    open: Option<OpenLoop>,
}

#[derive(Clone, Debug)]
struct OpenLoop {
    /// Requests per second.
    rate: u64,
    /// The number of the next request.
    next: u64,
    /// The distance to the request after it: the number of shares.
    step: u64,
}

impl Schedule {
    /// A closed loop from `begin` until `end`.
    pub fn closed(begin: u64, end: u64) -> Self {
        Self { begin, end, open: None }
    }

    /// Share number `share` of `of` shares of an open loop with `rate` requests per second.
    pub fn open(begin: u64, end: u64, rate: u64, share: usize, of: usize) -> Self {
        Self { begin, end, open: Some(OpenLoop { rate, next: share as u64, step: of as u64 }) }
    }

    fn due(&self, open: &OpenLoop) -> u64 {
        let after = u128::from(open.next) * 1_000_000_000 / u128::from(open.rate);
        self.begin.saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
    }

    /// Returns when the next request of an open loop is due; `None` if the schedule has no further request.
    pub fn next_due(&self) -> Option<u64> {
        let due = self.due(self.open.as_ref()?);
        (due < self.end).then_some(due)
    }

    /// Returns how to wait for the next request of an open loop; `None` if the schedule has no further request.
    pub fn wake(&self, now: u64) -> Option<Wake> {
        let wait = Duration::from_nanos(self.next_due()?.saturating_sub(now));
        Some(if wait > SPIN { Wake::Timer(wait - SPIN) } else { Wake::Turn })
    }

    /// Takes a request that is due at `now`. Returns the instant from which its latency counts.
    #[inline]
    pub fn take(&mut self, now: u64) -> Option<u64> {
        if self.open.is_none() {
            return (now < self.end).then_some(now);
        }
        let due = self.next_due().filter(|&due| due <= now)?;
        if let Some(open) = &mut self.open {
            open.next += open.step;
        }
        Some(due)
    }

    /// Returns the number of requests that were due by `then` and have not been taken.
    pub fn overdue(&self, then: u64) -> u64 {
        let Some(OpenLoop { rate, next, step }) = self.open else { return 0 };
        let last = then.min(self.end.saturating_sub(1));
        if last < self.begin {
            return 0;
        }
        // Request n is due by `last` if n * 1e9 < (last - begin + 1) * rate.
        let due = (u128::from(last - self.begin) + 1) * u128::from(rate);
        let numbers = u64::try_from(due.div_ceil(1_000_000_000)).unwrap_or(u64::MAX);
        numbers.saturating_sub(next).div_ceil(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_closed_loop_takes_requests_until_the_end() {
        let mut schedule = Schedule::closed(100, 200);
        assert_eq!(
            (schedule.take(100), schedule.take(100), schedule.take(199), schedule.take(200)),
            (Some(100), Some(100), Some(199), None)
        );
        assert_eq!((schedule.next_due(), schedule.overdue(300)), (None, 0));
    }

    #[test]
    fn late_requests_keep_the_instant_at_which_they_were_due() {
        let mut schedule = Schedule::open(SECOND, 2 * SECOND, 4, 0, 1);
        assert_eq!((schedule.take(SECOND), schedule.take(SECOND)), (Some(SECOND), None));
        assert_eq!(schedule.next_due(), Some(SECOND + SECOND / 4));
        // A stall: three requests are late, and each keeps its own due instant.
        let late: Vec<_> = std::iter::from_fn(|| schedule.take(5 * SECOND)).collect();
        assert_eq!(late, [5, 6, 7].map(|quarter| quarter * SECOND / 4));
        assert_eq!((schedule.next_due(), schedule.overdue(9 * SECOND)), (None, 0));
    }

    #[test]
    fn shares_add_up_to_the_schedule() {
        let mut shares: Vec<_> = (0..3).map(|share| Schedule::open(0, SECOND, 10, share, 3)).collect();
        assert_eq!(shares.iter().map(|schedule| schedule.overdue(SECOND)).sum::<u64>(), 10);
        let mut due: Vec<_> = shares
            .iter_mut()
            .flat_map(|schedule| std::iter::from_fn(|| schedule.take(SECOND)).collect::<Vec<_>>())
            .collect();
        due.sort_unstable();
        assert_eq!(due, (0..10).map(|n| n * SECOND / 10).collect::<Vec<_>>());
    }
}
