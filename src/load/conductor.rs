//! Who begins a run, ends it, and watches it.
//!
//! Owns: [`Run`], what all clients of a run share, and the [`Conductor`], a service without connections that looks at it
//! a hundred times a second. Must not know: what is asked of the server.
//!
//! ```text
//!     dialing ── everybody is ready ──▶ the window ── its end ──▶ draining ── all answered, or PATIENCE ──▶ stop
//! ```
//!
//! Invariants:
//! 1. Nothing is sent that is due after the window. What was due in it may be sent and answered after it: its latency
//!    counts, the throughput does not.
//! 2. Every request that was sent is answered, unanswered, has failed with an error, or was under way for less than
//!    [`PATIENCE`] when the run was cut short.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::pace::Pace;
use super::report::Report;
use super::tally::Tally;
use super::{Failure, Load};
use crate::service::{CloseReason, Context, Service, ServiceContext, TimerName};

/// How long an answer may take after the end of the window; one that takes longer passes for lost.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How long everybody may take to be ready. After that the run begins with those who are.
pub const PREPARATION: Duration = Duration::from_secs(20);

/// How often the conductor looks. The window is exact without it: it only ends what is over.
const LOOK: Duration = Duration::from_millis(10);

/// At the beginning, at the end, and every so many looks in between somebody is told how it goes.
const TELL: u32 = 10;

/// How a run goes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Progress {
    /// Time since the window began.
    pub elapsed: Duration,
    /// The length of the window; zero if it has no end.
    pub duration: Duration,
    /// Answers until now, or deliveries of a chat.
    pub achieved: u64,
    /// The same per second, since the last time.
    pub rate: f64,
    /// What has gone wrong until now.
    pub errors: u64,
}

/// What the clients of a run share.
#[derive(Debug)]
pub struct Run {
    /// What is counted.
    pub tally: Tally,
    /// Memory for a message.
    pub scratch: Vec<u8>,
    /// Requests that are under way.
    pub in_flight: u64,
    /// Clients that may yet do something.
    pub active: usize,
    /// Why somebody could not be reached.
    pub unreachable: Option<CloseReason>,
    clock: Instant,
    duration: Duration,
    rate: Option<u64>,
    window: Option<Window>,
    /// When the reactor was stopped.
    stopped: Option<u64>,
}

/// The time in which requests are due.
#[derive(Clone, Copy, Debug)]
struct Window {
    begin: u64,
    end: u64,
    /// How many requests an open loop has in it.
    scheduled: u64,
    /// Processor time of this process when it began.
    cpu: Duration,
}

/// Processor time that this process has used.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Run {
    /// A run that has not begun. Its clock starts now.
    pub fn new(load: &Load) -> Self {
        Self {
            tally: Tally::default(),
            scratch: Vec::new(),
            in_flight: 0,
            active: load.connections,
            unreachable: None,
            clock: Instant::now(),
            duration: load.duration,
            rate: load.rate,
            window: None,
            stopped: None,
        }
    }

    /// The present: nanoseconds since the run was made. Reads the clock.
    #[inline]
    pub fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Begins the window, unless it has begun.
    pub fn begin(&mut self) {
        if self.window.is_none() {
            let begin = self.now();
            let nanos = u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX);
            let end = if nanos == 0 { u64::MAX } else { begin.saturating_add(nanos) };
            let scheduled = self.rate.map_or(0, |rate| Pace::open(begin, end, rate, 0, 1).overdue(end));
            self.window = Some(Window { begin, end, scheduled, cpu: cpu() });
            self.forget_preparation();
        }
    }

    /// The schedule for number `share` of `of` that share it. Before the window it is empty.
    pub fn pace(&self, share: usize, of: usize) -> Pace {
        match (self.window, self.rate) {
            (None, _) => Pace::closed(0, 0),
            (Some(Window { begin, end, .. }), None) => Pace::closed(begin, end),
            (Some(Window { begin, end, .. }), Some(rate)) => Pace::open(begin, end, rate, share, of),
        }
    }

    /// Counts a request as sent.
    #[inline]
    pub fn sent(&mut self, bytes: usize) {
        self.tally.sent += 1;
        self.tally.bytes_out += bytes as u64;
        self.in_flight += 1;
    }

    /// Counts an answer at `now`.
    #[inline]
    pub fn answered(&mut self, now: u64) {
        self.in_flight -= 1;
        if self.is_in_window(now) {
            self.tally.answered += 1;
        } else {
            self.tally.answered_late += 1;
        }
    }

    /// Whether the window has begun and has not ended.
    #[inline]
    pub fn is_in_window(&self, now: u64) -> bool {
        self.window.is_some_and(|window| now < window.end)
    }

    /// Whether the window has begun.
    pub fn has_begun(&self) -> bool {
        self.window.is_some()
    }

    /// Whether the reactor is stopping: what ends now has been ended by us.
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Forgets what was counted before the window, but for errors.
    fn forget_preparation(&mut self) {
        let errors = std::mem::take(&mut self.tally.errors);
        self.tally = Tally { errors, ..Tally::default() };
    }

    /// The reactor is stopping.
    pub fn stop(&mut self) {
        self.stopped = self.stopped.or(Some(self.now()));
    }

    /// One client has nothing left that it could do.
    pub fn retire(&mut self) {
        self.active = self.active.saturating_sub(1);
    }

    /// A request that was due at `since` will not be answered any more: the run, or its connection, is over.
    pub fn give_up(&mut self, since: u64) {
        self.in_flight -= 1;
        let patience = PATIENCE.as_nanos() as u64;
        let cut_short = self.stopped.is_some_and(|stopped| stopped.saturating_sub(since) < patience);
        self.tally.unanswered += u64::from(!cut_short);
    }

    /// Requests of an open loop that were due and could never be sent.
    pub fn give_up_overdue(&mut self, pace: &Pace) {
        let patience = PATIENCE.as_nanos() as u64;
        let then = self.stopped.unwrap_or_else(|| self.now()).saturating_sub(patience);
        self.tally.unanswered += pace.overdue(then);
    }

    /// Whether the run is over at `now`.
    fn is_over(&self, now: u64) -> bool {
        let Some(window) = self.window else {
            return self.active == 0 || now > (PREPARATION + PATIENCE).as_nanos() as u64;
        };
        let deliveries = &self.tally.deliveries;
        let all_sent = self.tally.sent >= window.scheduled;
        let drained = all_sent && self.in_flight == 0 && deliveries.came >= deliveries.due;
        let patience = PATIENCE.as_nanos() as u64;
        self.active == 0 || now >= window.end && (drained || now >= window.end.saturating_add(patience))
    }

    /// Answers and deliveries until now.
    fn achieved(&self) -> u64 {
        self.tally.answered.max(self.tally.deliveries.in_time)
    }

    /// What it has come to.
    ///
    /// # Errors
    /// If it could not begin.
    pub fn report(&mut self, load: &Load) -> Result<Report, Failure> {
        let now = self.stopped.unwrap_or_else(|| self.now());
        let began = self.window.filter(|_| self.unreachable.is_none() || !self.tally.latency.is_empty());
        let Some(window) = began else {
            let cause = || self.tally.errors.keys().next().cloned().unwrap_or("nothing came back".to_owned());
            return Err(self.unreachable.map_or_else(|| Failure::NotServed(cause()), Failure::Unreachable));
        };
        let elapsed = Duration::from_nanos(now.min(window.end).saturating_sub(window.begin));
        let whole = Duration::from_nanos(now.saturating_sub(window.begin));
        let busy = cpu().saturating_sub(window.cpu).as_secs_f64() / whole.as_secs_f64().max(1e-9);
        Ok(Report::new(load, elapsed, now < window.end, busy, std::mem::take(&mut self.tally)))
    }
}

/// The service that watches a run.
pub struct Conductor<F> {
    run: Rc<RefCell<Run>>,
    watch: F,
    looks: u32,
    told: (u64, u64),
}

impl<F: FnMut(&Progress)> Conductor<F> {
    /// One that tells `watch` how it goes.
    pub fn new(run: &Rc<RefCell<Run>>, watch: F) -> Self {
        Self { run: Rc::clone(run), watch, looks: 0, told: (0, 0) }
    }

    fn tell(&mut self, now: u64) {
        let run = self.run.borrow();
        let Some(window) = run.window else { return };
        let achieved = run.achieved();
        let (then, before) = std::mem::replace(&mut self.told, (now, achieved));
        let seconds = now.saturating_sub(then.max(window.begin)) as f64 / 1e9;
        let progress = Progress {
            elapsed: Duration::from_nanos(now.min(window.end).saturating_sub(window.begin)),
            duration: run.duration,
            achieved,
            rate: (achieved - before) as f64 / seconds.max(1e-9),
            errors: run.tally.error_count(),
        };
        drop(run);
        (self.watch)(&progress);
    }
}

impl<F: FnMut(&Progress)> Service for Conductor<F> {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        ctx.set_timer(TimerName(0), ctx.now() + LOOK, LOOK);
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, _timer: TimerName) {
        let (now, begun, over) = {
            let run = self.run.borrow();
            let now = run.now();
            (now, run.has_begun(), run.is_over(now) && !run.is_stopped())
        };
        if begun {
            if over || self.looks.is_multiple_of(TELL) {
                self.tell(now);
            }
            self.looks += 1;
        }
        if over {
            self.run.borrow_mut().stop();
            ctx.stop_reactor();
        }
    }

    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }
}
