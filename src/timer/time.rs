//! Instants and ticks as plain numbers.
//!
//! Owns: [`Time`] (nanoseconds since the reactor was made), [`Timeout`] (a duration or none) and [`Tick`] (whole
//! milliseconds, the unit of the wheel). Must not know: any clock. The reactor reads the clock once per turn and passes
//! a `Time` down.
//!
//! Invariants:
//! 1. Arithmetic never overflows: it saturates at [`Time::NEVER`], which no clock reaches (584 years).
//! 2. A deadline rounds up to its tick and the present rounds down, so a timer can be late but never early.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// An instant, in nanoseconds since the reactor was made. A `Time` has eight bytes, so a connection can hold several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Time(u64);

impl Time {
    /// The moment at which the reactor was made.
    pub const ZERO: Time = Time(0);
    /// The instant that no clock reaches: the value of a deadline that is not set.
    pub const NEVER: Time = Time(u64::MAX);

    /// Returns the instant `nanos` nanoseconds after [`Time::ZERO`].
    pub const fn from_nanos(nanos: u64) -> Self {
        Time(nanos)
    }

    /// Returns the instant `millis` milliseconds after [`Time::ZERO`].
    pub const fn from_millis(millis: u64) -> Self {
        Time(millis.saturating_mul(1_000_000))
    }

    /// Returns the nanoseconds since [`Time::ZERO`].
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns true for [`Time::NEVER`].
    pub const fn is_never(self) -> bool {
        self.0 == u64::MAX
    }

    /// Returns the duration from `earlier` to this instant, or zero if this instant is before `earlier`.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates at [`Time::NEVER`].
    fn add(self, timeout: Duration) -> Time {
        let whole = timeout.as_secs().saturating_mul(1_000_000_000);
        Time(self.0.saturating_add(whole).saturating_add(u64::from(timeout.subsec_nanos())))
    }
}

impl Add<Timeout> for Time {
    type Output = Time;

    /// Saturates at [`Time::NEVER`].
    #[inline]
    fn add(self, timeout: Timeout) -> Time {
        Time(self.0.saturating_add(timeout.0))
    }
}

/// An upper bound of a duration, in nanoseconds; zero means no bound.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Timeout(u64);

impl Timeout {
    /// No bound.
    pub const OFF: Timeout = Timeout(0);

    /// Returns a bound of `nanos` nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Timeout(nanos)
    }

    /// Returns the bound in nanoseconds; zero means no bound.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns true if there is a bound.
    #[inline]
    pub const fn is_on(self) -> bool {
        self.0 != 0
    }

    /// Returns the shorter of this timeout and `bound`. [`Timeout::OFF`] is longer than every bound.
    pub fn at_most(self, bound: Duration) -> Self {
        let bound = Timeout::from(bound);
        if self.is_on() && self.0 < bound.0 { self } else { bound }
    }
}

impl From<Duration> for Timeout {
    /// Returns 584 years for every longer duration.
    fn from(duration: Duration) -> Self {
        Timeout((Time::ZERO + duration).0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() { f.write_str("never") } else { write!(f, "{:.3}s", self.0 as f64 / 1e9) }
    }
}

/// A whole millisecond since the reactor was made: the unit of the [`Wheel`](super::Wheel).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tick(pub u64);

impl Tick {
    const NANOS: u64 = 1_000_000;

    /// Returns the tick at which a timer for `deadline` may fire: the first tick that does not begin before `deadline`.
    pub const fn of_deadline(deadline: Time) -> Self {
        Tick(deadline.0.div_ceil(Self::NANOS))
    }

    /// Returns the last tick that has begun at `now`.
    pub const fn of_now(now: Time) -> Self {
        Tick(now.0 / Self::NANOS)
    }

    /// Returns the instant at which the tick begins.
    pub const fn begins(self) -> Time {
        Time(self.0.saturating_mul(Self::NANOS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time::ZERO + Duration::MAX, Time::NEVER);
        assert_eq!(Time::NEVER + Duration::from_secs(1), Time::NEVER);
        assert_eq!(Time::from_millis(1 << 48), Time::NEVER);
        assert_eq!(Time::from_millis(3).since(Time::from_millis(5)), Duration::ZERO);
        assert_eq!(Tick::of_deadline(Time::NEVER).begins(), Time::NEVER);
    }

    #[test]
    fn deadlines_round_up_and_the_present_rounds_down() {
        for (nanos, deadline, now) in [(0, 0, 0), (1, 1, 0), (999_999, 1, 0), (1_000_000, 1, 1), (1_000_001, 2, 1)] {
            assert_eq!(Tick::of_deadline(Time::from_nanos(nanos)), Tick(deadline));
            assert_eq!(Tick::of_now(Time::from_nanos(nanos)), Tick(now));
        }
    }

    #[test]
    fn times_read_as_seconds() {
        assert_eq!(Time::from_millis(1500).to_string(), "1.500s");
        assert_eq!(Time::NEVER.to_string(), "never");
    }
}
