//! The timers of services, by name.
//!
//! Owns: [`NamedTimers`]. Must not know: the wheel, services.

use std::collections::HashMap;

use crate::id::Addressee;
use crate::service::TimerName;
use crate::timer::{Time, Timeout, TimerId};

/// A timer that is set.
#[derive(Clone, Copy, Debug)]
pub struct NamedTimer {
    /// Its entry in the wheel.
    pub id: TimerId,
    /// When it is due.
    pub at: Time,
    /// Its period; off for once.
    pub every: Timeout,
}

impl NamedTimer {
    /// When a timer that fires at `now` is due again: the first of its instants that is still to come. Those that were
    /// missed while the process was held up are skipped, so it never fires in a burst. `None` for once.
    pub fn next(&self, now: Time) -> Option<Time> {
        if !self.every.is_on() {
            return None;
        }
        let every = self.every.as_nanos();
        let missed = (now.as_nanos().saturating_sub(self.at.as_nanos())) / every;
        Some(self.at + Timeout::from_nanos(every.saturating_mul(missed + 1)))
    }
}

/// Every timer that is set, by owner and name.
pub type NamedTimers = HashMap<(Addressee, TimerName), NamedTimer>;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::timer::{Tick, Wheel};

    #[test]
    fn missed_periods_are_skipped_and_the_phase_is_kept() {
        let id = Wheel::new(Tick(0)).insert(Tick(1), ());
        let timer = NamedTimer { id, at: Time::from_millis(100), every: Duration::from_millis(50).into() };
        assert_eq!(timer.next(Time::from_millis(100)), Some(Time::from_millis(150)));
        assert_eq!(timer.next(Time::from_millis(149)), Some(Time::from_millis(150)));
        assert_eq!(timer.next(Time::from_millis(150)), Some(Time::from_millis(200)));
        assert_eq!(timer.next(Time::from_millis(1_234)), Some(Time::from_millis(1_250)));
        assert_eq!(NamedTimer { every: Timeout::OFF, ..timer }.next(Time::from_millis(100)), None);
        assert_eq!(NamedTimer { every: Duration::MAX.into(), ..timer }.next(Time::from_millis(100)), Some(Time::NEVER));
    }
}
