//! How a reactor stops: listeners at once, connections when they are done, the rest at the end of the grace period.
//!
//! Owns: [`Stop`], the state, and [`RunOutcome`], the result. Must not know: what a signal is called.
//!
//! ```text
//!     running ── wanted ──▶ draining ── no source is left ──▶ RunOutcome::Drained
//!                              ├────── grace has passed ────▶ RunOutcome::Aborted(n)
//!                              └────── a second signal ─────▶ RunOutcome::Forced
//! ```

use std::io::Write;
use std::time::Duration;

use log::{info, warn};

use super::source::connection::halves::Halves;
use super::source::sources::{Source, Sources};
use super::sys::signals::Request;

use super::Reactor;
use super::timers::Alarm;
use crate::id::SourceId;
use crate::limits::{ACCEPTS_STOPPING, GRACE, LINGER_STOPPING};
use crate::service::CloseReason;
use crate::stdio::Stderr;
use crate::timer::{Deadline, Time};

/// How a run has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunOutcome {
    /// Every connection was served to its end.
    Drained,
    /// So many connections were aborted when the grace period was over.
    Aborted(usize),
    /// A second signal made it stop at once: nobody was told.
    Forced,
}

/// Whether the reactor is to stop, and how far that has come.
#[derive(Debug)]
pub(super) struct Stop {
    /// Somebody wants it to stop.
    pub wanted: bool,
    /// The signal that made it stop, if it was one.
    pub signal: Option<i32>,
    /// SIGHUP is one of those that do.
    pub on_hangup: bool,
    /// How long connections may take; zero for as long as they like.
    pub grace: Duration,
    draining: bool,
    forced: bool,
    aborted: usize,
}

impl Default for Stop {
    fn default() -> Self {
        Self { wanted: false, signal: None, on_hangup: false, grace: GRACE, draining: false, forced: false, aborted: 0 }
    }
}

impl Stop {
    /// How the run has ended, if it has.
    pub fn ended(&self, sources: &Sources) -> Option<RunOutcome> {
        match self {
            Stop { forced: true, .. } => Some(RunOutcome::Forced),
            Stop { draining: true, aborted: 0, .. } if sources.is_empty() => Some(RunOutcome::Drained),
            Stop { draining: true, aborted, .. } if sources.is_empty() => Some(RunOutcome::Aborted(*aborted)),
            _ => None,
        }
    }

    /// Whether the reactor is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// While stopping: by when a peer that has our FIN must have sent its own.
    #[inline]
    pub fn linger_due(&self, now: Time) -> Option<Time> {
        self.draining.then(|| now + LINGER_STOPPING)
    }
}

/// How long a report may take, which can have thousands of lines, and for which somebody has asked.
const REPORT: Duration = Duration::from_millis(30);

impl Reactor {
    /// Does what the signals ask for that have arrived. Out of line, to leave its registers to the work of the turn.
    #[inline(never)]
    pub(super) fn take_signals(&mut self) {
        let Some(signals) = &mut self.signals else {
            return;
        };
        for request in signals.take() {
            self.recorder.ledger.signals += 1;
            match request {
                Request::Stop(signal) => self.stop_for(signal),
                // It takes everything.
                Request::Report => drop(Stderr::new(REPORT).write_all(self.report().as_bytes())),
                Request::HangUp(signal) if self.stop.on_hangup => self.stop_for(signal),
                // A server goes on without a terminal.
                Request::HangUp(_) => {}
            }
        }
    }

    /// Stops on account of a signal; the second time, at once.
    fn stop_for(&mut self, signal: i32) {
        if self.stop.draining {
            warn!("stopping at once");
            self.stop.forced = true;
        } else {
            self.stop.wanted = true;
            self.stop.signal.get_or_insert(signal);
        }
    }

    /// Begins to stop, at the end of the turn in which somebody has asked for it.
    pub(super) fn begin_stop_if_wanted(&mut self) {
        if !self.stop.wanted || self.stop.draining {
            return;
        }
        self.stop.draining = true;
        for id in self.sources.ids() {
            // Who has connected already is served; closing the listener over them would reset them.
            for _ in 0..ACCEPTS_STOPPING {
                if self.sources.listener(id).is_none() || !self.accept(id) {
                    break;
                }
            }
            if self.sources.listener(id).is_some() {
                self.sources.remove(id);
            }
        }
        info!("stopping; connections to finish: {}", self.sources.connections());
        for id in self.sources.ids() {
            self.stop_source(id);
        }
        if !self.stop.grace.is_zero() && !self.sources.is_empty() {
            self.set_alarm(self.now + self.stop.grace, Alarm::Grace);
        }
    }

    /// Tells a source, and gives it one more turn: what has arrived by then is served.
    fn stop_source(&mut self, id: SourceId) {
        self.call_socket(id, |service, ctx| service.on_stop(ctx));
        match self.sources.get_mut(id) {
            Some(Source::Connection(connection)) if connection.is_connecting() => {
                connection.end(CloseReason::Aborted, &mut self.recorder);
            }
            Some(Source::Connection(connection)) if connection.halves().service_decides() => {
                self.call(id, &[], |service, ctx| service.on_stop(ctx));
            }
            Some(Source::Datagram(socket)) => socket.finish(),
            Some(Source::Connection(_) | Source::Listener(_)) | None => {}
        }
        self.sources.enqueue(id);
    }

    /// The grace period is over.
    pub(super) fn end_grace(&mut self) {
        for id in self.sources.ids() {
            match self.sources.get_mut(id) {
                // It has been served to its end; only its peer's FIN is missing.
                Some(Source::Connection(connection)) if connection.halves() == Halves::Lingering => {
                    connection.end(CloseReason::Deadline(Deadline::Linger), &mut self.recorder);
                    self.closing.push(id);
                }
                Some(Source::Connection(connection)) => {
                    connection.end(CloseReason::Grace, &mut self.recorder);
                    self.stop.aborted += 1;
                    self.closing.push(id);
                }
                Some(Source::Datagram(socket)) => {
                    let (datagrams, _) = socket.queued();
                    self.recorder.ledger.datagrams_dropped += datagrams as u64;
                    self.remove_socket(id);
                }
                _ => {
                    self.sources.remove(id);
                }
            }
        }
        if self.stop.aborted > 0 {
            warn!("the grace period is over; connections aborted: {}", self.stop.aborted);
        }
    }
}
