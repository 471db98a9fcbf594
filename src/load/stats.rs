//! What a run counts.
//!
//! Owns: [`Stats`]. Must not know: who counts, and how it is shown.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Latencies of up to an hour, in nanoseconds, to three digits: 0.1 % of each, at any length.
const LONGEST: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// The counters of a run.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Latencies in nanoseconds.
    pub latency: Histogram<u64>,
    /// Requests that have been sent, or were about to be when their connection ended.
    pub sent: u64,
    /// Requests of an open loop that were due and have never been sent.
    pub unsent: u64,
    /// Requests that were answered before the end of the window.
    pub answered: u64,
    /// Requests that were answered after it.
    pub answered_late: u64,
    /// Requests that were due, sent or not, and have never been answered.
    pub unanswered: u64,
    /// Requests that were under way when the user has ended the run.
    pub cut_off: u64,
    /// Bytes sent within the window.
    pub bytes_out: u64,
    /// Bytes received within the window.
    pub bytes_in: u64,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, u64>,
    /// Answers that came twice, or so late that they had been given up.
    pub strays: u64,
    /// What became of the lines of a chat.
    pub deliveries: Deliveries,
}

/// What became of the lines of a chat: each is due to each member once, in the order in which it was said.
#[derive(Clone, Default, Debug)]
pub struct Deliveries {
    /// Lines that were due, counted once for each member.
    pub due: u64,
    /// Those that came.
    pub came: u64,
    /// Those that came before the end of the window.
    pub in_time: u64,
    /// Those that are missing though a later one has come.
    pub skipped: u64,
    /// Those that came after a later one.
    pub reordered: u64,
    /// Those that came again.
    pub duplicated: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            latency: Histogram::new_with_bounds(1, LONGEST, DIGITS)
                .expect("a histogram takes every lowest value from 1, twice that as the highest, and up to 5 digits"),
            sent: 0,
            unsent: 0,
            answered: 0,
            answered_late: 0,
            unanswered: 0,
            cut_off: 0,
            bytes_out: 0,
            bytes_in: 0,
            errors: BTreeMap::new(),
            strays: 0,
            deliveries: Deliveries::default(),
        }
    }
}

impl Stats {
    /// Counts a latency.
    #[inline]
    pub fn record(&mut self, nanos: u64) {
        self.latency.saturating_record(nanos.max(1));
    }

    /// Counts something that went wrong.
    pub fn error(&mut self, what: impl Into<String>) {
        *self.errors.entry(what.into()).or_default() += 1;
    }

    /// How many requests there were: of an open loop, all that were due.
    pub fn requests(&self) -> u64 {
        self.sent + self.unsent
    }

    /// How many have come to something, be it nothing. As many as there were when the run is over.
    pub fn outcomes(&self) -> u64 {
        self.answered + self.answered_late + self.unanswered + self.cut_off
    }

    /// How often something went wrong.
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}
