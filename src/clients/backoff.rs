//! The wait before the next attempt.
//!
//! Owns: [`Backoff`]. Must not know: the attempted action, any clock. The caller passes the randomness.

use std::time::Duration;

use fastrand::Rng;

/// The shortest wait: long enough for a server to be started again, short enough to go unnoticed.
const LEAST: Duration = Duration::from_millis(100);
/// The longest wait: a client finds a server that comes back after a long time within it.
const MOST: Duration = Duration::from_secs(10);

/// Exponential backoff with jitter.
///
/// The wait after the n-th failure in a row is drawn evenly from the upper half of a span that doubles.
/// The waits are 100 to 200 ms, 200 to 400 ms, and so on up to 5 to 10 s. Clients that lose the same server at the same
/// moment come back spread over time, also after long waits. A success resets the waits.
///
/// ```
/// use reactor::clients::Backoff;
///
/// let mut backoff = Backoff::new(fastrand::Rng::with_seed(7)).at_most(2);
/// let first = backoff.failed().expect("a wait").as_millis();
/// let second = backoff.failed().expect("a wait").as_millis();
/// assert!((100..=200).contains(&first) && (200..=400).contains(&second));
/// assert_eq!(backoff.failed(), None);
/// backoff.succeeded();
/// assert!(backoff.failed().is_some());
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    limit: u32,
    failures: u32,
    random: Rng,
}

impl Backoff {
    /// Waits from 100 ms to 10 s, for any number of attempts. `random` is the source of jitter; the same seed gives the same waits.
    pub fn new(random: Rng) -> Self {
        Self { least: LEAST, most: MOST, limit: u32::MAX, failures: 0, random }
    }

    /// Waits at least `least` and at most `most`.
    #[must_use]
    pub fn between(self, least: Duration, most: Duration) -> Self {
        Self { least, most: most.max(least), ..self }
    }

    /// Gives up after `attempts` attempts in a row.
    #[must_use]
    pub fn at_most(self, attempts: u32) -> Self {
        Self { limit: attempts, ..self }
    }

    /// Returns the wait after a failed attempt or a lost connection, or `None` if no attempts are left.
    pub fn failed(&mut self) -> Option<Duration> {
        if self.failures >= self.limit {
            return None;
        }
        self.failures += 1;
        let doubled = self.least.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let longest = doubled.min(self.most);
        let half = longest / 2;
        let jitter = half.mul_f64(self.random.f64());
        Some(half.saturating_add(jitter).clamp(self.least, self.most))
    }

    /// An attempt has succeeded: the next wait is short again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(seed: u64, count: usize) -> Vec<Duration> {
        let mut backoff = Backoff::new(Rng::with_seed(seed));
        (0..count).map(|_| backoff.failed().expect("no limit")).collect()
    }

    #[test]
    fn waits_grow_up_to_the_longest() {
        for seed in 0..200 {
            let waits = waits(seed, 100);
            assert!(waits[..6].is_sorted(), "{waits:?}");
            assert!(waits.iter().all(|wait| (LEAST..=MOST).contains(wait)), "{waits:?}");
            assert!(waits[10..].iter().all(|wait| *wait >= MOST / 2), "{waits:?}");
        }
    }

    #[test]
    fn waits_are_spread_also_at_the_longest() {
        for nth in [0, 3, 50] {
            let drawn: Vec<_> = (0..100).map(|seed| waits(seed, nth + 1)[nth]).collect();
            let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
            assert!(*most > least.mul_f64(1.8), "{nth}: from {least:?} to {most:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_waits_and_a_success_starts_anew() {
        assert_eq!(waits(3, 20), waits(3, 20));
        let mut backoff = Backoff::new(Rng::with_seed(3));
        for _ in 0..20 {
            backoff.failed();
        }
        backoff.succeeded();
        assert!(backoff.failed().unwrap() <= 2 * LEAST);
        assert_eq!(backoff.failures(), 1);
    }

    #[test]
    fn bounds_are_kept_whatever_they_are() {
        let mut never = Backoff::new(Rng::with_seed(1)).at_most(0);
        assert_eq!(never.failed(), None);
        let mut fixed = Backoff::new(Rng::with_seed(1)).between(MOST, LEAST);
        assert_eq!(fixed.failed(), Some(MOST));
        let mut huge = Backoff::new(Rng::with_seed(1)).between(Duration::MAX, Duration::MAX);
        assert_eq!((0..40).filter_map(|_| huge.failed()).max(), Some(Duration::MAX));
    }
}
