//! Between the wheel and its users: the alarms of connections, the timers of services, the ends of pauses.
//!
//! Owns: [`Timers`], and when an entry of the wheel is set, moved and cancelled. Must not know: what a deadline leads to.

use std::collections::HashMap;
use std::time::Duration;

use super::Reactor;
use super::observe::recorder::Recorder;
use super::source::sources::StreamConnection;
use crate::id::{ConnId, ServiceId, SourceId};
use crate::service::TimerName;
use crate::timer::{Tick, Time, Timeout, TimerId, Wheel};

/// The work of a turn, in nanoseconds, that delays no timer.
const SLACK: u64 = 1_000_000_000;

/// The subject of an entry of the wheel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Alarm {
    /// The earliest deadline of a connection, at the time when the alarm was set.
    Connection(ConnId),
    /// The end of the pause of a listener or a datagram socket.
    Retry(SourceId),
    /// A timer of a service.
    Named(ServiceId, TimerName),
    /// The end of the grace period.
    Grace,
}

/// A timer of a service that is set.
#[derive(Clone, Copy, Debug)]
struct NamedTimer {
    id: TimerId,
    at: Time,
    /// The period; off for a timer that fires once.
    every: Timeout,
}

impl NamedTimer {
    /// Returns the next instant of a timer that fires at `now`: the first instant after `now`. Instants that were
    /// missed while the process was held up are skipped, so the timer never fires in a burst. `None` if it fires once.
    fn next(&self, now: Time) -> Option<Time> {
        if !self.every.is_on() {
            return None;
        }
        let every = self.every.as_nanos();
        let missed = (now.as_nanos().saturating_sub(self.at.as_nanos())) / every;
        Some(self.at + Timeout::from_nanos(every.saturating_mul(missed + 1)))
    }
}

/// The wheel, and the timers of services by owner and name.
#[derive(Debug)]
pub(super) struct Timers {
    wheel: Wheel<Alarm>,
    named: HashMap<(ServiceId, TimerName), NamedTimer>,
}

impl Timers {
    /// Returns a wheel at tick zero without entries.
    pub fn new() -> Self {
        Self { wheel: Wheel::new(Tick(0)), named: HashMap::new() }
    }

    /// Returns the number of entries of the wheel.
    pub fn len(&self) -> usize {
        self.wheel.len()
    }

    /// Returns the time for which the loop may wait, at most until the next entry may be due. The turn has begun at `now`,
    /// and its work took time. For an entry that is near, the clock is read again. For any other the wait is shorter by
    /// [`SLACK`], and the turn after it decides: that spares a reading of the clock in almost every turn.
    pub fn next_timeout(&self, now: Time, clock: impl FnOnce() -> Time) -> Option<Duration> {
        let due = self.wheel.next_expiry()?.begins();
        let nanos = due.as_nanos().saturating_sub(now.as_nanos());
        Some(if nanos > 2 * SLACK { Duration::from_nanos(nanos - SLACK) } else { due.since(clock()) })
    }

    /// Returns the time from `now` until the next entry may be due.
    pub fn until_next(&self, now: Time) -> Option<Duration> {
        self.wheel.next_expiry().map(|tick| tick.begins().since(now))
    }

    /// Takes the next entry that is due at `now`.
    pub fn expire(&mut self, now: Time) -> Option<Alarm> {
        self.wheel.expire(Tick::of_now(now))
    }

    /// Sets an entry of the wheel.
    pub fn set_alarm(&mut self, due: Time, alarm: Alarm, now: Time, recorder: &mut Recorder) -> TimerId {
        recorder.ledger.timers_set += 1;
        // Not in the current tick: a callback that sets the next timer at once would never return to the loop.
        let next = Tick(Tick::of_now(now).0.saturating_add(1));
        self.wheel.insert(Tick::of_deadline(due).max(next), alarm)
    }

    fn cancel(&mut self, timer: TimerId, recorder: &mut Recorder) {
        recorder.ledger.timers_cancelled += u64::from(self.wheel.cancel(timer));
    }

    /// Sets the alarm of a connection for its earliest deadline, and marks the deadlines that are due already.
    pub fn move_alarm(&mut self, connection: &mut StreamConnection, now: Time, recorder: &mut Recorder) {
        connection.deadlines.mark_expired(now);
        self.cancel_alarm(connection, recorder);
        let due = connection.deadlines.earliest();
        let alarm = (!due.is_never()).then(|| self.set_alarm(due, Alarm::Connection(connection.id()), now, recorder));
        connection.deadlines.set_alarm(alarm, due);
    }

    /// Cancels the alarm of a connection.
    pub fn cancel_alarm(&mut self, connection: &mut StreamConnection, recorder: &mut Recorder) {
        if let Some(alarm) = connection.deadlines.take_alarm() {
            self.cancel(alarm, recorder);
        }
    }
}

impl Reactor {
    /// Sets an entry of the wheel.
    pub(super) fn set_alarm(&mut self, due: Time, alarm: Alarm) -> TimerId {
        self.timers.set_alarm(due, alarm, self.now, &mut self.recorder)
    }

    /// The alarm of a connection has fired. Where its deadlines were pushed later, the alarm is only set anew.
    pub(super) fn deadline_due(&mut self, id: ConnId) {
        let Self { sources, timers, recorder, now, .. } = self;
        let Some(connection) = sources.connection(id) else {
            recorder.ledger.stale_alarms += 1;
            return;
        };
        connection.deadlines.take_alarm();
        timers.move_alarm(connection, *now, recorder);
        sources.enqueue_if_wanted(id);
    }

    /// Sets a timer of a service, in place of a timer of the same name.
    pub(super) fn set_timer(&mut self, owner: ServiceId, name: TimerName, at: Time, every: Timeout) {
        self.cancel_timer(owner, name);
        let id = self.set_alarm(at, Alarm::Named(owner, name));
        self.timers.named.insert((owner, name), NamedTimer { id, at, every });
    }

    /// Cancels a timer of a service, if it is set.
    pub(super) fn cancel_timer(&mut self, owner: ServiceId, name: TimerName) {
        if let Some(timer) = self.timers.named.remove(&(owner, name)) {
            self.timers.cancel(timer.id, &mut self.recorder);
        }
    }

    /// A timer of a service has fired: sets it anew if it repeats, and calls the service.
    pub(super) fn named_timer_due(&mut self, owner: ServiceId, name: TimerName) {
        let Some(timer) = self.timers.named.remove(&(owner, name)) else {
            self.recorder.ledger.stale_alarms += 1;
            return;
        };
        if let Some(at) = timer.next(self.now) {
            self.set_timer(owner, name, at, timer.every);
        }
        self.call_service(owner, |service, ctx| service.on_timer(ctx, name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Dial;
    use crate::services::Discard;

    #[test]
    fn an_established_connection_beats_its_dial_deadline_without_an_event() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reactor = Reactor::new().unwrap();
        let discard = reactor.add_service("discard", Box::new(Discard));
        let dial = Dial::to(listener.local_addr().unwrap()).within(Duration::from_secs(60));
        let id = reactor.dial(discard, &dial).unwrap();
        let _peer = listener.accept().unwrap();
        // The process is suspended after the wait of a turn and before it reads the clock.
        reactor.now = reactor.clock() + Duration::from_secs(61);
        reactor.expire();
        reactor.work();
        reactor.reap();
        assert_eq!(reactor.ledger().timers_fired, 1);
        assert!(reactor.sources.get(id).is_some_and(|connection| !connection.is_connecting()), "{}", reactor.ledger());
    }

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
