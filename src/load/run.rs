//! What the clients of a run share: its clock, its window, and the account of its requests.
//!
//! Owns: [`Run`]. Must not know: what is asked of the server, who asks, who looks on.
//!
//! Invariants:
//! 1. Nothing is sent that is due after the window. What was due in it may be sent and answered after it: its latency
//!    counts, the throughput does not.
//! 2. Each request has one outcome: `sent + unsent = answered + answered_late + unanswered + cut_off`. An error tells why
//!    a request has the one it has; it is not another one.
//! 3. Only what the user has interrupted is cut off, and only if it had been due for less than [`PATIENCE`] then.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::report::{End, Report};
use super::schedule::Schedule;
use super::stats::Stats;
use super::{Failure, Load};
use crate::service::CloseReason;

/// How long an answer may take after the end of the window; one that takes longer passes for lost.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How long everybody may take to be ready. After that the run begins with those who are.
pub const PREPARATION: Duration = Duration::from_secs(20);

/// What the clients of a run share.
#[derive(Debug)]
pub struct Run {
    /// What is counted.
    pub stats: Stats,
    /// Memory for a message.
    pub scratch: Vec<u8>,
    /// Connections that have been served, or sockets that have been opened.
    pub served: usize,
    /// Why nobody could be reached.
    pub unreachable: Option<CloseReason>,
    /// Requests that have no outcome yet.
    in_flight: u64,
    /// Clients that may yet do something.
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
    /// The first one after it.
    pub end: u64,
    /// How many requests an open loop has in it.
    scheduled: u64,
    /// Processor time of this process when it began.
    cpu: Duration,
}

/// When the reactor was stopped, and why.
#[derive(Clone, Copy, Debug)]
struct Stop {
    at: u64,
    end: End,
    /// Processor time of this process by then.
    cpu: Duration,
}

/// Processor time that this process has used.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

const fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

impl Run {
    /// A run that has not begun. Its clock starts now.
    pub fn new(load: &Load) -> Self {
        Self {
            stats: Stats::default(),
            scratch: Vec::new(),
            served: 0,
            unreachable: None,
            in_flight: 0,
            active: load.connections,
            clock: Instant::now(),
            duration: load.duration,
            rate: load.rate,
            window: None,
            stop: None,
        }
    }

    /// The present: nanoseconds since the run was made. Reads the clock.
    #[inline]
    pub fn now(&self) -> u64 {
        nanos(self.clock.elapsed())
    }

    /// Begins the window, unless it has begun. Of what was counted before, errors are kept.
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

    /// The schedule for number `share` of `of` that share it. Before the window it is empty.
    pub fn schedule(&self, share: usize, of: usize) -> Schedule {
        match (self.window, self.rate) {
            (None, _) => Schedule::closed(0, 0),
            (Some(Window { begin, end, .. }), None) => Schedule::closed(begin, end),
            (Some(Window { begin, end, .. }), Some(rate)) => Schedule::open(begin, end, rate, share, of),
        }
    }

    /// Takes a request of `schedule` that is to be sent at `now`: the instant from which its latency counts.
    #[inline]
    pub fn take(&mut self, schedule: &mut Schedule, now: u64) -> Option<u64> {
        let since = schedule.take(now)?;
        self.stats.sent += 1;
        self.in_flight += 1;
        Some(since)
    }

    /// Counts `count` bytes as sent at `now`. What passes outside the window is no throughput.
    #[inline]
    pub fn note_sent(&mut self, count: usize, now: u64) {
        if self.is_in_window(now) {
            self.stats.bytes_out += count as u64;
        }
    }

    /// Counts `count` bytes as received at `now`.
    #[inline]
    pub fn note_received(&mut self, count: usize, now: u64) {
        if self.is_in_window(now) {
            self.stats.bytes_in += count as u64;
        }
    }

    /// Counts `count` requests as answered at `now`.
    #[inline]
    pub fn answered(&mut self, count: u64, now: u64) {
        self.in_flight -= count;
        if self.is_in_window(now) {
            self.stats.answered += count;
        } else {
            self.stats.answered_late += count;
        }
    }

    /// A request that was due at `since` will not be answered any more: the run, or its connection, is over.
    pub fn give_up(&mut self, since: u64) {
        self.in_flight -= 1;
        let cut_off = |stop: Stop| stop.end == End::Interrupted && stop.at.saturating_sub(since) < nanos(PATIENCE);
        if self.stop.is_some_and(cut_off) {
            self.stats.cut_off += 1;
        } else {
            self.stats.unanswered += 1;
        }
    }

    /// The run is over: the requests of `schedule` that were due and could never be sent are unanswered, too.
    pub fn give_up_overdue(&mut self, schedule: &Schedule) {
        let stop = self.stop(End::Interrupted);
        let then = match (stop.end, self.window) {
            (_, None) => return,
            (End::Interrupted, _) => stop.at.saturating_sub(nanos(PATIENCE)),
            (_, Some(window)) => self.end_of_account(window, stop),
        };
        let overdue = schedule.overdue(then);
        self.stats.unsent += overdue;
        self.stats.unanswered += overdue;
    }

    /// Until when the report counts. A schedule does not end because nobody is left to keep it.
    fn end_of_account(&self, window: Window, stop: Stop) -> u64 {
        let keeps_schedule = stop.end == End::GaveUp && self.rate.is_some() && !self.is_endless();
        if keeps_schedule { window.end } else { stop.at.min(window.end) }
    }

    fn is_endless(&self) -> bool {
        self.duration.is_zero()
    }

    /// The window, once it has begun.
    pub fn window(&self) -> Option<Window> {
        self.window
    }

    /// Whether the window has begun.
    pub fn has_begun(&self) -> bool {
        self.window.is_some()
    }

    /// Whether the window has begun and has not ended.
    #[inline]
    pub fn is_in_window(&self, now: u64) -> bool {
        self.window.is_some_and(|window| now < window.end)
    }

    /// The reactor is stopping, for the reason `end` unless another one came first. Returns when, and why.
    fn stop(&mut self, end: End) -> Stop {
        let at = self.now();
        *self.stop.get_or_insert_with(|| Stop { at, end, cpu: cpu() })
    }

    /// The run comes to its end by itself.
    pub fn finish(&mut self, end: End) {
        self.stop(end);
    }

    /// The reactor is stopping. If the run has not come to its end by itself, the user has interrupted it.
    pub fn note_stop(&mut self) {
        self.stop(End::Interrupted);
    }

    /// Whether the reactor is stopping: what ends now has been ended by us.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_some()
    }

    /// Counts how a connection has ended that should not have, unless we have ended it. `finished` tells an end in order.
    pub fn note_end(&mut self, reason: CloseReason, finished: &str) {
        if !self.is_stopped() {
            self.stats.error(if reason == CloseReason::Finished { finished.to_owned() } else { reason.to_string() });
        }
    }

    /// Counts a dial that has failed, unless we have ended it; returns whether it has been counted.
    pub fn note_failed_dial(&mut self, reason: CloseReason) -> bool {
        // No client aborts its dials: the reactor does when it stops.
        if reason == CloseReason::Aborted {
            self.note_stop();
        }
        let counts = !self.is_stopped();
        if counts {
            self.stats.error(reason.to_string());
        }
        counts
    }

    /// The run begins without a client.
    pub fn leave_behind(&mut self) {
        self.stats.error("not served in time");
        self.retire();
    }

    /// One client has nothing left that it could do.
    pub fn retire(&mut self) {
        self.active = self.active.saturating_sub(1);
    }

    /// No client has anything left that it could do.
    pub fn retire_all(&mut self) {
        self.active = 0;
    }

    /// How the run ends, if it is over at `now`.
    pub fn ending(&self, now: u64) -> Option<End> {
        let deserted = self.active == 0;
        let Some(window) = self.window else {
            return (deserted || now > nanos(PREPARATION + PATIENCE)).then_some(End::GaveUp);
        };
        if now < window.end {
            return deserted.then_some(End::GaveUp);
        }
        let deliveries = &self.stats.deliveries;
        let all_sent = self.stats.sent >= window.scheduled;
        let drained = all_sent && self.in_flight == 0 && deliveries.came >= deliveries.due;
        let waited = now >= window.end.saturating_add(nanos(PATIENCE));
        (deserted || drained || waited).then_some(End::Whole)
    }

    /// What it has come to. All clients have given up what they had under way.
    ///
    /// # Errors
    /// If it could not begin.
    pub fn report(&mut self, load: &Load) -> Result<Report, Failure> {
        let stop = self.stop(End::Interrupted);
        let stats = std::mem::take(&mut self.stats);
        let Some(window) = self.window.filter(|_| self.unreachable.is_none() || !stats.latency.is_empty()) else {
            let cause = || stats.errors.into_keys().next().unwrap_or("nothing came back".to_owned());
            return Err(match self.unreachable {
                _ if stop.end == End::Interrupted => Failure::Interrupted { served: self.served, of: load.connections },
                Some(reason) => Failure::Unreachable(reason),
                None => Failure::NotServed(cause()),
            });
        };
        debug_assert_eq!((self.in_flight, stats.requests()), (0, stats.outcomes()), "invariant 2: {stats:?}");
        let lasted = Duration::from_nanos(stop.at.saturating_sub(window.begin));
        Ok(Report {
            load: load.clone(),
            served: self.served,
            elapsed: Duration::from_nanos(self.end_of_account(window, stop).saturating_sub(window.begin)),
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

    /// A run with a schedule of a hundred requests, of which `taken` have been taken, and `answered` of those answered.
    fn run(taken: u64, answered: u64) -> (Run, Schedule, Load) {
        let load = Load {
            rate: Some(100),
            duration: Duration::from_secs(1),
            ..Load::new(Kind::Echo, ([127, 0, 0, 1], 7).into())
        };
        let mut run = Run::new(&load);
        run.begin();
        let mut schedule = run.schedule(0, 1);
        let begin = run.window().unwrap().begin;
        for _ in 0..taken {
            run.take(&mut schedule, begin + nanos(load.duration)).unwrap();
        }
        run.answered(answered, begin);
        for _ in answered..taken {
            run.give_up(begin);
        }
        (run, schedule, load)
    }

    #[test]
    fn a_schedule_is_due_to_its_end_though_nobody_is_left() {
        let (mut run, schedule, load) = run(30, 20);
        assert_eq!(run.ending(run.now()), None);
        (0..load.connections).for_each(|_| run.retire());
        let end = run.ending(run.now()).unwrap();
        run.finish(end);
        run.give_up_overdue(&schedule);
        let report = run.report(&load).unwrap();
        assert_eq!((report.end, report.elapsed), (End::GaveUp, load.duration));
        let Stats { sent, unsent, answered, unanswered, cut_off, .. } = report.stats;
        assert_eq!((sent, unsent, answered, unanswered, cut_off), (30, 70, 20, 80, 0));
    }

    #[test]
    fn a_schedule_that_is_interrupted_ends_there() {
        let (mut run, schedule, load) = run(30, 30);
        run.note_stop();
        run.finish(End::GaveUp);
        run.give_up_overdue(&schedule);
        let report = run.report(&load).unwrap();
        assert_eq!(report.end, End::Interrupted);
        assert!(report.elapsed < load.duration);
        assert_eq!((report.stats.unsent, report.stats.unanswered), (0, 0));
    }

    #[test]
    fn it_waits_for_what_has_no_outcome() {
        let (run, ..) = run(100, 100);
        let end = run.window().unwrap().end;
        assert_eq!((run.ending(end - 1), run.ending(end)), (None, Some(End::Whole)));
        let (mut run, mut schedule, _) = self::run(99, 99);
        let end = run.window().unwrap().end;
        assert_eq!(run.ending(end), None, "one has not been sent");
        assert!(run.take(&mut schedule, end).is_some());
        assert_eq!(run.ending(end), None, "one is under way");
        assert_eq!(run.ending(end + nanos(PATIENCE)), Some(End::Whole));
        run.answered(1, end);
        assert_eq!(run.ending(end), Some(End::Whole));
    }
}
