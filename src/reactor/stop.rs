//! The stop of a reactor. Listeners close at once, and connections when they have finished. The end of the grace period
//! aborts the remaining connections.
//!
//! Owns: [`Stop`], the state, and [`RunOutcome`], the result. Must not know: the names of signals.
//!
//! ```text
//!     running ── wanted ──▶ draining ── no source is left ──▶ RunOutcome::Drained
//!                              ├────── grace has passed ────▶ RunOutcome::Aborted(n)
//!                              └────── a second signal ─────▶ RunOutcome::Forced
//! ```

use std::time::Duration;

use log::{info, warn};

use super::source::connection::halves::Halves;
use super::source::sources::{Source, Sources};
use super::sys::signals::Request;

use super::Reactor;
use super::timers::Alarm;
use crate::id::{ConnId, ListenerId, ServiceId, SocketId, SourceId};
use crate::limits::{ACCEPTS_STOPPING, GRACE, LINGER_STOPPING};
use crate::service::CloseReason;
use crate::timer::Time;

/// The result of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RunOutcome {
    /// Every connection finished.
    Drained,
    /// The grace period ended and aborted this number of connections.
    Aborted(usize),
    /// A second signal stopped the reactor at once, without callbacks.
    Forced,
}

/// The progress of a stop.
#[derive(Debug)]
pub(super) struct Stop {
    /// A stop was requested.
    pub wanted: bool,
    /// The signal that requested the stop.
    pub signal: Option<i32>,
    /// SIGHUP requests a stop.
    pub on_hangup: bool,
    /// The time in which connections must finish; zero for no limit.
    pub grace: Duration,
    draining: bool,
    /// The last outcomes of requests were reported: a service that repeats its request in each report has no end.
    pub has_reported: bool,
    forced: bool,
    aborted: usize,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            wanted: false,
            signal: None,
            on_hangup: false,
            grace: GRACE,
            draining: false,
            has_reported: false,
            forced: false,
            aborted: 0,
        }
    }
}

impl Stop {
    /// Returns the result of the run, if it has ended.
    pub fn ended(&self, sources: &Sources) -> Option<RunOutcome> {
        match self {
            Stop { forced: true, .. } => Some(RunOutcome::Forced),
            Stop { draining: true, aborted: 0, .. } if sources.is_empty() => Some(RunOutcome::Drained),
            Stop { draining: true, aborted, .. } if sources.is_empty() => Some(RunOutcome::Aborted(*aborted)),
            _ => None,
        }
    }

    /// Returns true while the reactor is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Returns the time until which a peer must answer our FIN, while the reactor is stopping.
    #[inline]
    pub fn linger_due(&self, now: Time) -> Option<Time> {
        self.draining.then(|| now + LINGER_STOPPING)
    }
}

impl Reactor {
    /// Handles the signals that have arrived. Out of line, so that the work of the turn keeps the registers.
    #[inline(never)]
    pub(super) fn take_signals(&mut self) {
        let Some(signals) = &mut self.signals else {
            return;
        };
        for signal in signals.take() {
            self.recorder.ledger.signals += 1;
            if let Some(&(_, service)) = self.signal_services.iter().find(|(number, _)| *number == signal) {
                self.call_service(service, |service, ctx| service.on_signal(ctx, signal));
                continue;
            }
            match Request::of(signal) {
                Some(Request::Stop) => self.stop_for(signal),
                Some(Request::Report) => {
                    let report = self.report();
                    if let Some(sink) = &mut self.report_sink {
                        sink(&report);
                    }
                }
                Some(Request::HangUp) if self.stop.on_hangup => self.stop_for(signal),
                // A server keeps running after its terminal is closed.
                Some(Request::HangUp) | None => {}
            }
        }
    }

    /// Stops because of a signal. The second signal stops at once, also in the same turn.
    fn stop_for(&mut self, signal: i32) {
        if self.stop.draining || self.stop.signal.is_some() {
            warn!("stopping at once");
            self.stop.forced = true;
        } else {
            self.stop.wanted = true;
            self.stop.signal = Some(signal);
        }
    }

    /// Begins a requested stop, at the end of the turn.
    pub(super) fn begin_stop_if_wanted(&mut self) {
        if !self.stop.wanted || self.stop.draining || self.stop.forced {
            return;
        }
        self.stop.draining = true;
        for id in self.sources.ids() {
            let listener = ListenerId::of(id);
            let Some(source) = self.sources.listener(listener) else { continue };
            source.socket.remove_file();
            // The close of a listener resets the connections in its backlog, so the reactor first accepts them.
            for _ in 0..ACCEPTS_STOPPING {
                if !self.accept(listener) {
                    break;
                }
            }
            self.close_source(id);
        }
        info!("stopping; connections to finish: {}", self.sources.connections());
        self.context.set_stopping();
        for index in 0..self.services.len() {
            let id = ServiceId::new(self.number, index as u16);
            self.call_service(id, |service, ctx| service.on_stopping(ctx));
        }
        for id in self.sources.ids() {
            self.stop_source(id);
        }
        if !self.stop.grace.is_zero() && !self.sources.is_empty() {
            self.set_alarm(self.now + self.stop.grace, Alarm::Grace);
        }
    }

    /// Calls `on_stop`, and gives the source one more turn: input that has arrived by then is served.
    fn stop_source(&mut self, id: SourceId) {
        self.stop_socket(SocketId::of(id));
        match self.sources.get_mut(id) {
            Some(Source::Connection(connection)) if connection.is_connecting() => {
                connection.end(CloseReason::Aborted, &mut self.recorder);
            }
            Some(Source::Connection(connection)) if connection.halves().service_decides() => {
                self.call(ConnId::of(id), &[], |service, ctx| service.on_stop(ctx));
            }
            // The program closes its descriptor: it does not hold up the stop.
            Some(Source::Descriptor(_)) => {
                self.close_source(id);
                return;
            }
            _ => {}
        }
        self.sources.enqueue(id);
    }

    /// Ends the grace period: aborts the remaining connections, and removes the other sources.
    pub(super) fn end_grace(&mut self) {
        for id in self.sources.ids() {
            match self.sources.get_mut(id) {
                // All output was sent, and only the FIN of the peer is missing: not an abort.
                Some(Source::Connection(connection)) if connection.halves() == Halves::Lingering => {
                    connection.end(CloseReason::LingerDeadline, &mut self.recorder);
                    self.closing.push(ConnId::of(id));
                }
                Some(Source::Connection(connection)) => {
                    connection.end(CloseReason::Grace, &mut self.recorder);
                    self.stop.aborted += 1;
                    self.closing.push(ConnId::of(id));
                }
                _ => {
                    self.close_source(id);
                }
            }
        }
        if self.stop.aborted > 0 {
            warn!("the grace period is over; connections aborted: {}", self.stop.aborted);
        }
    }
}
