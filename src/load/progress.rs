//! Who watches a run, and ends it.
//!
//! Owns: [`Conductor`], a service without connections that looks at the run a hundred times a second, and [`Progress`].
//! Must not know: what is asked of the server.
//!
//! ```text
//!     preparing ── everybody is ready ──▶ the window ── its end ──▶ draining ── all answered, or PATIENCE ──▶ stop
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::run::Run;
use crate::service::{Context, Service, ServiceContext, TimerName};

/// How often the conductor looks. The window is exact without it: it only ends what is over.
const LOOK: Duration = Duration::from_millis(10);

/// At the beginning of the window, at its end, and every so many looks somebody is told how it goes.
const TELL: u32 = 10;

/// How a run goes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Progress {
    /// It waits for its connections to be served.
    Preparing {
        /// Time since it waits.
        elapsed: Duration,
        /// How many are.
        served: usize,
    },
    /// It measures.
    Measuring {
        /// Time since the window began.
        elapsed: Duration,
        /// Answers until now, or deliveries of a chat.
        achieved: u64,
        /// The same per second, since the last time.
        rate: f64,
        /// What has gone wrong until now.
        errors: u64,
    },
}

/// The service that watches a run.
pub struct Conductor<F> {
    run: Rc<RefCell<Run>>,
    watch: F,
    /// Looks since somebody was told.
    looks: u32,
    /// The window had begun when somebody was told.
    begun: bool,
    /// When somebody was told, and how many answers there were.
    told: (u64, u64),
}

impl<F: FnMut(&Progress)> Conductor<F> {
    /// One that tells `watch` how it goes.
    pub fn new(run: &Rc<RefCell<Run>>, watch: F) -> Self {
        Self { run: Rc::clone(run), watch, looks: 0, begun: false, told: (0, 0) }
    }

    fn tell(&mut self, now: u64) {
        let run = self.run.borrow();
        let progress = match run.window() {
            None => Progress::Preparing { elapsed: Duration::from_nanos(now), served: run.served },
            Some(window) => {
                // Answers, or what a chat has delivered.
                let achieved = run.stats.answered.max(run.stats.deliveries.in_time);
                let (then, before) = std::mem::replace(&mut self.told, (now, achieved));
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
        (self.watch)(&progress);
    }
}

impl<F: FnMut(&Progress)> Service for Conductor<F> {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        ctx.set_timer(TimerName(0), ctx.now() + LOOK, LOOK);
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, _timer: TimerName) {
        let (now, has_begun, end) = {
            let run = self.run.borrow();
            let now = run.now();
            (now, run.has_begun(), run.ending(now).filter(|_| !run.is_stopped()))
        };
        self.looks += 1;
        let begins = has_begun && !std::mem::replace(&mut self.begun, has_begun);
        if begins || end.is_some() || self.looks >= TELL {
            self.looks = 0;
            self.tell(now);
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
