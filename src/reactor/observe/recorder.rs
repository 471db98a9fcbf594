//! The choke points of the loop: events, system calls (also the wait), commands, and moves of half-states.
//!
//! Owns: [`Recorder`], which counts each of them in the ledger and writes a line at level `trace`. Must not know:
//! connections, services, the reader of the lines.

use std::fmt;
use std::time::Duration;

use log::{Level, log_enabled, trace};
use mio::Events;
use mio::event::Event;

use crate::id::SourceId;
use crate::reactor::observe::ledger::Ledger;
use crate::reactor::sys::outcome::{Accepted, Observer, Outcome};
use crate::service::Command;

/// Counts and traces. Each method is a choke point.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The counters.
    pub ledger: Ledger,
}

/// Writes a line at level `trace`. The formatting is out of line, so a line that is not written costs one load and one
/// comparison.
macro_rules! trace_line {
    ($write:expr) => {
        if log_enabled!(Level::Trace) {
            #[cold]
            #[inline(never)]
            fn out_of_line(write: impl FnOnce()) {
                write();
            }
            out_of_line($write);
        }
    };
}

impl Recorder {
    /// The wait of a turn returned `events`. The wait was limited to `timeout`; `None` means no limit.
    pub fn wait(&mut self, timeout: Option<Duration>, events: &Events) {
        self.ledger.turns += 1;
        self.ledger.wakeups += u64::from(!events.is_empty());
        trace_line!(|| match timeout {
            None => trace!("wait(for an event) = {}", events.iter().count()),
            Some(Duration::ZERO) => trace!("wait(not at all) = {}", events.iter().count()),
            Some(timeout) => trace!("wait({timeout:?}) = {}", events.iter().count()),
        });
    }

    /// The kernel reported an event.
    #[inline]
    pub fn event(&mut self, id: SourceId, event: &Event) {
        self.ledger.events += 1;
        trace_line!(|| {
            let named = [
                (event.is_readable(), " readable"),
                (event.is_writable(), " writable"),
                (event.is_priority(), " priority"),
                (event.is_read_closed(), " read-closed"),
                (event.is_write_closed(), " write-closed"),
                (event.is_error(), " error"),
            ];
            let names: String = named.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
            trace!("{id} event:{names}");
        });
    }

    /// The reactor applies a command next.
    #[inline(always)]
    pub fn command(&mut self, command: &Command) {
        trace_line!(|| trace!("command {command:?}"));
    }

    /// The half-states of a connection change.
    #[inline]
    pub fn transition(&mut self, id: SourceId, from: impl fmt::Debug, to: impl fmt::Debug) {
        trace_line!(|| trace!("{id} {from:?} -> {to:?}"));
    }
}

impl Observer for Recorder {
    #[inline(always)]
    fn read(&mut self, id: SourceId, asked: usize, n: usize) {
        trace_line!(move || trace!("{id} read({asked}) = {n}"));
        if n == 0 {
            self.ledger.eofs += 1;
            return;
        }
        self.ledger.reads += 1;
        self.ledger.bytes_in += n as u64;
        self.ledger.short_reads += u64::from(n < asked);
    }

    #[cold]
    fn read_failed(&mut self, id: SourceId, asked: usize, outcome: Outcome) {
        self.ledger.read_blocked += u64::from(outcome == Outcome::Blocked);
        trace!("{id} read({asked}) = {outcome}");
    }

    #[inline(always)]
    fn write(&mut self, id: SourceId, offered: usize, n: usize) {
        trace_line!(move || trace!("{id} write({offered}) = {n}"));
        self.ledger.writes += 1;
        self.ledger.bytes_out += n as u64;
        self.ledger.short_writes += u64::from(n < offered);
    }

    #[cold]
    fn write_failed(&mut self, id: SourceId, offered: usize, outcome: Outcome) {
        self.ledger.write_blocked += u64::from(outcome == Outcome::Blocked);
        trace!("{id} write({offered}) = {outcome}");
    }

    fn accept(&mut self, id: SourceId, accepted: &Accepted) {
        match accepted {
            Accepted::Connection(_, peer) => {
                self.ledger.accepts += 1;
                trace!("{id} accept = {peer}");
            }
            Accepted::Blocked => {
                self.ledger.accept_blocked += 1;
                trace!("{id} accept = blocked");
            }
            Accepted::Died(errno) => {
                self.ledger.accept_errors += 1;
                trace!("{id} accept = {errno}");
            }
            Accepted::Exhausted(errno) => trace!("{id} accept = {errno}"),
        }
    }

    fn call(&mut self, id: SourceId, name: &str, outcome: Outcome) {
        trace!("{id} {name} = {outcome}");
    }

    #[cold]
    fn interrupted(&mut self) {
        self.ledger.interrupted += 1;
    }

    fn received(&mut self, id: SourceId, asked: usize, outcome: Outcome) {
        match outcome {
            Outcome::Done(n) => self.ledger.datagrams_in += n as u64,
            Outcome::Blocked => self.ledger.read_blocked += 1,
            Outcome::Failed(_) => self.ledger.datagram_errors += 1,
        }
        trace!("{id} recvmmsg({asked}) = {outcome}");
    }

    fn sent(&mut self, id: SourceId, offered: usize, outcome: Outcome) {
        match outcome {
            Outcome::Done(n) => self.ledger.datagrams_out += n as u64,
            Outcome::Blocked => self.ledger.write_blocked += 1,
            Outcome::Failed(_) => self.ledger.datagram_errors += 1,
        }
        trace!("{id} sendmmsg({offered}) = {outcome}");
    }
}
