//! The progress of a run, and its end.
//!
//! Owns: [`Progress`] and its [`Observer`], and [`Monitor`], a service without connections that checks the run a hundred
//! times a second. Must not know: the protocol.
//!
//! ```text
//!     connecting ── all connections are ready ──▶ the window ── its end ──▶ draining ── all answered, or timeout ──▶ stop
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::run::Run;
use crate::service::{Context, Service, ServiceContext, TimerName};

/// The interval of the checks. The window is exact without them: a check only ends a run that is over.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// Checks between two reports of progress. The beginning and the end of the window are reported besides.
const CHECKS_PER_REPORT: u32 = 10;

/// The progress of a run.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Progress {
    /// The run opens its connections and waits until each is served.
    #[non_exhaustive]
    Connecting {
        /// The time since the run started.
        elapsed: Duration,
        /// Connections that are served.
        served: usize,
    },
    /// The window has begun.
    #[non_exhaustive]
    Measuring {
        /// The time since the window began.
        elapsed: Duration,
        /// Answers so far; for a chat, deliveries.
        achieved: u64,
        /// Answers per second since the last report; for a chat, deliveries.
        rate: f64,
        /// Errors so far.
        errors: u64,
    },
}

/// The receiver of everything that a run has to show before its result. A closure that takes the progress is one.
pub trait Observer {
    /// Receives the progress: ten times a second, and at the beginning and the end of the window. The run waits for this call.
    fn on_progress(&mut self, progress: &Progress);

    /// Receives the report on the reactor that SIGUSR1 requests. The default discards it. The run waits for this call.
    fn on_report(&mut self, text: &str) {
        let _ = text;
    }
}

impl<F: FnMut(&Progress)> Observer for F {
    fn on_progress(&mut self, progress: &Progress) {
        self(progress);
    }
}

/// The service that checks a run and ends it.
pub struct Monitor<O> {
    run: Rc<RefCell<Run>>,
    observer: Rc<RefCell<O>>,
    /// Checks since the last report.
    checks: u32,
    /// The window had begun at the last check.
    begun: bool,
    /// The instant of the last report, and the answers by then.
    last: (u64, u64),
}

impl<O: Observer> Monitor<O> {
    /// A monitor of `run` that reports to `observer`.
    pub fn new(run: &Rc<RefCell<Run>>, observer: &Rc<RefCell<O>>) -> Self {
        Self { run: Rc::clone(run), observer: Rc::clone(observer), checks: 0, begun: false, last: (0, 0) }
    }

    fn report(&mut self, now: u64) {
        let run = self.run.borrow();
        let progress = match run.window() {
            None => Progress::Connecting { elapsed: Duration::from_nanos(now), served: run.served },
            Some(window) => {
                let achieved = run.stats.answered.max(run.stats.deliveries.in_time);
                let (then, before) = std::mem::replace(&mut self.last, (now, achieved));
                let seconds = now.saturating_sub(then.max(window.begin)) as f64 / 1e9;
                Progress::Measuring {
                    elapsed: Duration::from_nanos(now.min(window.end).saturating_sub(window.begin)),
                    achieved,
                    rate: (achieved - before) as f64 / seconds.max(1e-9),
                    errors: run.stats.error_count(),
                }
            }
        };
        drop(run);
        self.observer.borrow_mut().on_progress(&progress);
    }
}

impl<O: Observer + 'static> Service for Monitor<O> {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        ctx.set_timer(TimerName(0), ctx.now() + CHECK_INTERVAL, CHECK_INTERVAL);
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, _timer: TimerName) {
        let (now, has_begun, end) = {
            let run = self.run.borrow();
            let now = run.now();
            (now, run.has_begun(), run.ending(now).filter(|_| !run.is_stopped()))
        };
        self.checks += 1;
        let begins = has_begun && !std::mem::replace(&mut self.begun, has_begun);
        if begins || end.is_some() || self.checks >= CHECKS_PER_REPORT {
            self.checks = 0;
            self.report(now);
        }
        if let Some(end) = end {
            self.run.borrow_mut().finish(end);
            ctx.stop_reactor();
        }
    }

    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }
}
