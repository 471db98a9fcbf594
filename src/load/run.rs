//! The state that all clients of a run share: clock, window, and one outcome for each request.
//!
//! Owns: [`Run`]. Must not know: the protocol, the clients, the observer.
//!
//! Invariants:
//! 1. No request that is due after the window is sent. A request that is due in the window may be sent and answered after
//!    it: its latency counts, but the throughput does not include it.
//! 2. Each request has one outcome: `sent + unsent = answered + answered_late + unanswered + cut_off`. An error is the
//!    cause of an outcome, and not an outcome of its own.
//! 3. A request is cut off only if the user interrupts the run, and if it had been due for less than [`ANSWER_TIMEOUT`].

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::report::{End, Report};
use super::schedule::Schedule;
use super::stats::Stats;
use super::{Error, Plan};
use crate::service::CloseReason;

/// How long a run waits for answers after the end of the window. An answer that takes longer counts as lost.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a run waits until all connections are served. After that the window begins with those that are.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(20);

/// The state that the clients of a run share.
#[derive(Debug)]
pub struct Run {
    /// The counters.
    pub stats: Stats,
    /// Memory for the encoding of a message.
    pub scratch: Vec<u8>,
    /// Connections that have been served, or sockets that have been opened.
    pub served: usize,
    /// Why the last dial failed, while no connection has been established.
    pub unreachable: Option<CloseReason>,
    /// Requests without an outcome.
    in_flight: u64,
    /// Clients that may still send or receive.
    active: usize,
    clock: Instant,
    duration: Duration,
    rate: Option<u64>,
    window: Option<Window>,
    stop: Option<Stop>,
}

/// The time in which requests are due.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its first nanosecond.
    pub begin: u64,
    /// The first nanosecond after it.
    pub end: u64,
    /// The number of requests that an open loop schedules in it.
    scheduled: u64,
    /// Processor time of this process at its beginning.
    cpu: Duration,
}

/// When the reactor stopped, and why.
#[derive(Clone, Copy, Debug)]
struct Stop {
    at: u64,
    end: End,
    /// Processor time of this process by then.
    cpu: Duration,
}

/// Returns the processor time that this process has used.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

const fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

impl Run {
    /// A run of `plan` before its window. The clock starts now.
    pub fn new(plan: &Plan) -> Self {
        Self {
            stats: Stats::default(),
            scratch: Vec::new(),
            served: 0,
            unreachable: None,
            in_flight: 0,
            active: plan.connections,
            clock: Instant::now(),
            duration: plan.duration,
            rate: plan.rate,
            window: None,
            stop: None,
        }
    }

    /// Reads the clock: nanoseconds since the run was created.
    #[inline]
    pub fn now(&self) -> u64 {
        nanos(self.clock.elapsed())
    }

    /// Begins the window unless it has begun. Errors from before the window are kept; all other counters start at zero.
    pub fn begin(&mut self) {
        if self.window.is_none() {
            let begin = self.now();
            let end = if self.is_endless() { u64::MAX } else { begin.saturating_add(nanos(self.duration)) };
            let scheduled = self.rate.map_or(0, |rate| Schedule::open(begin, end, rate, 0, 1).overdue(end));
            self.window = Some(Window { begin, end, scheduled, cpu: cpu() });
            let errors = std::mem::take(&mut self.stats.errors);
            self.stats = Stats { errors, ..Stats::default() };
            self.unreachable = None;
        }
    }

    /// Returns share number `share` of `of` shares of the schedule. Before the window the schedule is empty.
    pub fn schedule(&self, share: usize, of: usize) -> Schedule {
        match (self.window, self.rate) {
            (None, _) => Schedule::closed(0, 0),
            (Some(Window { begin, end, .. }), None) => Schedule::closed(begin, end),
            (Some(Window { begin, end, .. }), Some(rate)) => Schedule::open(begin, end, rate, share, of),
        }
    }

    /// Takes a request of `schedule` that is sent at `now`. Returns the instant from which its latency counts.
    #[inline]
    pub fn take(&mut self, schedule: &mut Schedule, now: u64) -> Option<u64> {
        let since = schedule.take(now)?;
        self.stats.sent += 1;
        self.in_flight += 1;
        Some(since)
    }

    /// Counts `count` bytes as sent at `now`. Bytes outside the window are no throughput.
    #[inline]
    pub fn count_sent(&mut self, count: usize, now: u64) {
        if self.is_in_window(now) {
            self.stats.bytes_out += count as u64;
        }
    }

    /// Counts `count` bytes as received at `now`. Bytes outside the window are no throughput.
    #[inline]
    pub fn count_received(&mut self, count: usize, now: u64) {
        if self.is_in_window(now) {
            self.stats.bytes_in += count as u64;
        }
    }

    /// Counts `count` requests as answered at `now`.
    #[inline]
    pub fn count_answered(&mut self, count: u64, now: u64) {
        self.in_flight -= count;
        if self.is_in_window(now) {
            self.stats.answered += count;
        } else {
            self.stats.answered_late += count;
        }
    }

    /// Counts a request, due since `since`, that no longer can be answered: its connection or the run is over.
    pub fn count_unanswered(&mut self, since: u64) {
        self.in_flight -= 1;
        let cut_off =
            |stop: Stop| stop.end == End::Interrupted && stop.at.saturating_sub(since) < nanos(ANSWER_TIMEOUT);
        if self.stop.is_some_and(cut_off) {
            self.stats.cut_off += 1;
        } else {
            self.stats.unanswered += 1;
        }
    }

    /// Counts the requests of `schedule` that were due and never sent as unanswered. Called once the run is over.
    pub fn count_unsent(&mut self, schedule: &Schedule) {
        let stop = self.stop(End::Interrupted);
        let then = match (stop.end, self.window) {
            (_, None) => return,
            (End::Interrupted, _) => stop.at.saturating_sub(nanos(ANSWER_TIMEOUT)),
            (_, Some(window)) => self.accounted_until(window, stop),
        };
        let overdue = schedule.overdue(then);
        self.stats.unsent += overdue;
        self.stats.unanswered += overdue;
    }

    /// Returns the end of the time that the report covers. A schedule continues to its end even without a connection.
    fn accounted_until(&self, window: Window, stop: Stop) -> u64 {
        let keeps_schedule = stop.end == End::GaveUp && self.rate.is_some() && !self.is_endless();
        if keeps_schedule { window.end } else { stop.at.min(window.end) }
    }

    fn is_endless(&self) -> bool {
        self.duration.is_zero()
    }

    /// Returns the window, once it has begun.
    pub fn window(&self) -> Option<Window> {
        self.window
    }

    /// Returns true once the window has begun.
    pub fn has_begun(&self) -> bool {
        self.window.is_some()
    }

    /// Returns true if the window has begun and has not ended by `now`.
    #[inline]
    pub fn is_in_window(&self, now: u64) -> bool {
        self.window.is_some_and(|window| now < window.end)
    }

    /// Notes that the reactor stops because of `end`; the first reason stays. Returns the instant and the reason.
    fn stop(&mut self, end: End) -> Stop {
        let at = self.now();
        *self.stop.get_or_insert_with(|| Stop { at, end, cpu: cpu() })
    }

    /// Ends the run because of `end`.
    pub fn finish(&mut self, end: End) {
        self.stop(end);
    }

    /// Notes that the reactor stops. Unless the run has finished, the user has interrupted it.
    pub fn note_stop(&mut self) {
        self.stop(End::Interrupted);
    }

    /// Returns true if the reactor stops: from now on this process ends the connections.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_some()
    }

    /// Counts the unexpected end of a connection as an error, unless this process has ended it. `finished` describes an
    /// orderly end.
    pub fn count_end(&mut self, reason: CloseReason, finished: &str) {
        if self.is_stopped() {
            return;
        }
        match reason {
            CloseReason::Finished => self.stats.count_error(finished),
            reason => self.stats.count_error(reason),
        }
    }

    /// Counts a failed dial, unless this process has ended it. Returns true if the dial is counted.
    pub fn count_failed_dial(&mut self, reason: CloseReason) -> bool {
        // No client aborts a dial: only a stopping reactor does.
        if reason == CloseReason::Aborted {
            self.note_stop();
        }
        let counts = !self.is_stopped();
        if counts {
            self.stats.count_error(reason);
        }
        counts
    }

    /// Excludes a client that is not served in time.
    pub fn exclude(&mut self) {
        self.stats.count_error("not served in time");
        self.deactivate();
    }

    /// Notes that one client no longer sends or receives.
    pub fn deactivate(&mut self) {
        self.active = self.active.saturating_sub(1);
    }

    /// Notes that no client sends or receives any more.
    pub fn deactivate_all(&mut self) {
        self.active = 0;
    }

    /// Returns how the run ends, if it is over at `now`.
    pub fn ending(&self, now: u64) -> Option<End> {
        let deserted = self.active == 0;
        let Some(window) = self.window else {
            return (deserted || now > nanos(SETUP_TIMEOUT + ANSWER_TIMEOUT)).then_some(End::GaveUp);
        };
        if now < window.end {
            return deserted.then_some(End::GaveUp);
        }
        let deliveries = &self.stats.deliveries;
        let all_sent = self.stats.sent >= window.scheduled;
        let drained = all_sent && self.in_flight == 0 && deliveries.came >= deliveries.due;
        let timed_out = now >= window.end.saturating_add(nanos(ANSWER_TIMEOUT));
        (deserted || drained || timed_out).then_some(End::Completed)
    }

    /// Returns the result. All clients have counted their requests in flight.
    ///
    /// # Errors
    /// The reason why the window never began, or why no connection was established.
    pub fn report(&mut self, plan: &Plan) -> Result<Report, Error> {
        let stop = self.stop(End::Interrupted);
        let stats = std::mem::take(&mut self.stats);
        let Some(window) = self.window.filter(|_| self.unreachable.is_none() || !stats.latency.is_empty()) else {
            let cause = || stats.errors.into_keys().next().unwrap_or("nothing came back".to_owned());
            return Err(match self.unreachable {
                _ if stop.end == End::Interrupted => {
                    Error::Interrupted { served: self.served, connections: plan.connections }
                }
                Some(reason) => Error::Unreachable(reason),
                None => Error::NotServed(cause()),
            });
        };
        debug_assert_eq!((self.in_flight, stats.requests()), (0, stats.outcomes()), "invariant 2: {stats:?}");
        let lasted = Duration::from_nanos(stop.at.saturating_sub(window.begin));
        Ok(Report {
            plan: plan.clone(),
            served: self.served,
            elapsed: Duration::from_nanos(self.accounted_until(window, stop).saturating_sub(window.begin)),
            lasted,
            end: stop.end,
            busy: stop.cpu.saturating_sub(window.cpu).as_secs_f64() / lasted.as_secs_f64().max(1e-9),
            stats,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    /// A run with a schedule of a hundred requests: the first `taken` are taken, and `answered` of those are answered.
    fn run(taken: u64, answered: u64) -> (Run, Schedule, Plan) {
        let plan =
            Plan { rate: Some(100), duration: Duration::from_secs(1), ..Plan::new(Kind::Echo, ([127, 0, 0, 1], 7)) };
        let mut run = Run::new(&plan);
        run.begin();
        let mut schedule = run.schedule(0, 1);
        let begin = run.window().unwrap().begin;
        for _ in 0..taken {
            run.take(&mut schedule, begin + nanos(plan.duration)).unwrap();
        }
        run.count_answered(answered, begin);
        for _ in answered..taken {
            run.count_unanswered(begin);
        }
        (run, schedule, plan)
    }

    #[test]
    fn a_schedule_is_due_to_its_end_without_a_connection() {
        let (mut run, schedule, plan) = run(30, 20);
        assert_eq!(run.ending(run.now()), None);
        (0..plan.connections).for_each(|_| run.deactivate());
        let end = run.ending(run.now()).unwrap();
        run.finish(end);
        run.count_unsent(&schedule);
        let report = run.report(&plan).unwrap();
        assert_eq!((report.end, report.elapsed), (End::GaveUp, plan.duration));
        let Stats { sent, unsent, answered, unanswered, cut_off, .. } = report.stats;
        assert_eq!((sent, unsent, answered, unanswered, cut_off), (30, 70, 20, 80, 0));
    }

    #[test]
    fn an_interrupted_schedule_ends_at_the_interruption() {
        let (mut run, schedule, plan) = run(30, 30);
        run.note_stop();
        run.finish(End::GaveUp);
        run.count_unsent(&schedule);
        let report = run.report(&plan).unwrap();
        assert_eq!(report.end, End::Interrupted);
        assert!(report.elapsed < plan.duration);
        assert_eq!((report.stats.unsent, report.stats.unanswered), (0, 0));
    }

    #[test]
    fn the_end_waits_for_requests_without_an_outcome() {
        let (run, ..) = run(100, 100);
        let end = run.window().unwrap().end;
        assert_eq!((run.ending(end - 1), run.ending(end)), (None, Some(End::Completed)));
        let (mut run, mut schedule, _) = self::run(99, 99);
        let end = run.window().unwrap().end;
        assert_eq!(run.ending(end), None, "one request has not been sent");
        assert!(run.take(&mut schedule, end).is_some());
        assert_eq!(run.ending(end), None, "one request is in flight");
        assert_eq!(run.ending(end + nanos(ANSWER_TIMEOUT)), Some(End::Completed));
        run.count_answered(1, end);
        assert_eq!(run.ending(end), Some(End::Completed));
    }
}
