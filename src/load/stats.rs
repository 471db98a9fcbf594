//! The counters of a run.
//!
//! Owns: [`Stats`]. Must not know: the clients that count, and the form in which the counters are shown.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;

/// The longest latency that is recorded: an hour, in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;
/// Significant digits of a latency: an error of 0.1 %, at any length.
const DIGITS: u8 = 3;

/// The counters of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Latencies in nanoseconds.
    pub latency: Histogram<u64>,
    /// Requests sent, including those whose connection ended before the kernel took them.
    pub sent: u64,
    /// Requests of an open loop that became due and were never sent.
    pub unsent: u64,
    /// Requests answered before the end of the window.
    pub answered: u64,
    /// Requests answered after the end of the window.
    pub answered_late: u64,
    /// Requests that became due, sent or not, and were never answered.
    pub unanswered: u64,
    /// Requests in flight when the user ended the run.
    pub cut_off: u64,
    /// Bytes sent within the window.
    pub bytes_out: u64,
    /// Bytes received within the window.
    pub bytes_in: u64,
    /// The number of errors by description.
    pub errors: BTreeMap<String, u64>,
    /// Answers that arrived twice, or after their request had been counted as unanswered.
    pub strays: u64,
    /// The deliveries of a chat.
    pub deliveries: Deliveries,
}

/// The deliveries of a chat: each line is due to each member once, in the order of sending.
#[derive(Clone, Default, Debug)]
#[non_exhaustive]
pub struct Deliveries {
    /// Deliveries due: each line counts once for each member.
    pub due: u64,
    /// Deliveries that arrived.
    pub came: u64,
    /// Deliveries that arrived before the end of the window.
    pub in_time: u64,
    /// Deliveries that are missing although a later one has arrived.
    pub skipped: u64,
    /// Deliveries that arrived after a later one.
    pub reordered: u64,
    /// Deliveries that arrived again.
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
    /// Records a latency in nanoseconds.
    #[inline]
    pub fn record(&mut self, nanos: u64) {
        self.latency.saturating_record(nanos.max(1));
    }

    /// Counts an error under its description.
    pub fn count_error(&mut self, error: impl fmt::Display) {
        *self.errors.entry(error.to_string()).or_default() += 1;
    }

    /// Returns the number of requests: of an open loop, all that became due.
    pub fn requests(&self) -> u64 {
        self.sent + self.unsent
    }

    /// Returns the number of requests that have an outcome. Equals [`requests`](Self::requests) when the run is over.
    pub fn outcomes(&self) -> u64 {
        self.answered + self.answered_late + self.unanswered + self.cut_off
    }

    /// Returns the number of errors of all descriptions.
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}
