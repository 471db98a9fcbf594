//! The counters: what the loop did, always on.
//!
//! Owns: [`Ledger`], as text and as JSON. Must not know: who counts.
//!
//! Plain `u64` additions on one thread: no atomics, no sampling, nothing to switch off.

use std::fmt;

use crate::service::CloseReason;

/// Declares the counters once, with their meaning; the struct and the list for printing follow from it.
macro_rules! counters {
    ($($(#[doc = $meaning:literal])+ $name:ident,)+) => {
        /// What the reactor has done since it was made.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Ledger {
            $($(#[doc = $meaning])+ pub $name: u64,)+
            /// Connections that ended, by [`CloseReason::kind`].
            pub closed: [u64; CloseReason::KINDS],
        }

        impl Ledger {
            /// The counters with their names, in the order in which they are printed.
            pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Passes of the loop.
    turns,
    /// Turns in which the kernel had events.
    wakeups,
    /// Events taken from the kernel.
    events,
    /// Events for a source that was already gone.
    stale_events,
    /// Alarms of the wheel for a source or timer that was already gone.
    stale_alarms,
    /// Commands for a connection that was already gone.
    stale_commands,
    /// Connections accepted.
    accepts,
    /// `accept` found nobody waiting (EAGAIN): where Go parks the accepting goroutine.
    accept_blocked,
    /// `accept` failed for a connection that had died in the backlog.
    accept_errors,
    /// A listener rested because descriptors or memory had run out, or nothing but dead connections came.
    accept_backoffs,
    /// Connections closed at once because there were as many as allowed, or because the poll had no room for one.
    refused,
    /// Connections dialed.
    dials,
    /// Reads that returned bytes.
    reads,
    /// Reads that found nothing (EAGAIN): where Go parks the reading goroutine.
    read_blocked,
    /// Reads that returned less than was asked for: the socket is empty, the read after it is spared.
    short_reads,
    /// Reads that returned the peer's end of file.
    eofs,
    /// Writes that took bytes.
    writes,
    /// Writes that took nothing (EAGAIN): where Go parks the writing goroutine.
    write_blocked,
    /// Writes that took less than was offered.
    short_writes,
    /// System calls that were interrupted by a signal and made again.
    interrupted,
    /// Connections that were no longer read because their output had reached the high-water mark.
    pauses,
    /// Connections that were read again because their output had fallen to the low-water mark.
    resumes,
    /// Bytes read from streams.
    bytes_in,
    /// Bytes written to streams.
    bytes_out,
    /// Datagrams received.
    datagrams_in,
    /// Datagrams sent.
    datagrams_out,
    /// Datagrams dropped because the send buffer and our queue were full, or the kernel refused to send them.
    datagrams_dropped,
    /// Errors that a datagram socket reported (ICMP, mostly); none of them ends it.
    datagram_errors,
    /// Timers set.
    timers_set,
    /// Timers fired.
    timers_fired,
    /// Timers cancelled.
    timers_cancelled,
    /// Messages from other threads.
    posts,
    /// Signals taken.
    signals,
}

impl Ledger {
    /// Counts the end of a connection.
    pub fn count_close(&mut self, reason: CloseReason) {
        self.closed[reason.kind()] += 1;
    }

    /// How many connections ended for a reason of this kind.
    pub fn closed_by(&self, reason: CloseReason) -> u64 {
        self.closed[reason.kind()]
    }

    fn all_rows(&self) -> impl Iterator<Item = (String, u64)> {
        let closed = CloseReason::NAMES.iter().zip(self.closed);
        self.rows()
            .map(|(name, count)| (name.to_owned(), count))
            .chain(closed.map(|(name, count)| (format!("closed_{name}"), count)))
    }

    /// One JSON object on one line, every counter a member.
    pub fn to_json(&self) -> String {
        let members: Vec<_> = self.all_rows().map(|(name, count)| format!("\"{name}\":{count}")).collect();
        format!("{{{}}}", members.join(","))
    }
}

/// A table of the counters that are not zero.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ledger:")?;
        for (name, count) in self.all_rows().filter(|(_, count)| *count != 0) {
            writeln!(f, "  {name:<24}{count:>16}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timer::Deadline;

    #[test]
    fn text_shows_what_happened_and_json_shows_everything() {
        let mut ledger = Ledger { turns: 7, ..Ledger::default() };
        ledger.count_close(CloseReason::Deadline(Deadline::Idle));
        let text = ledger.to_string();
        assert!(text.contains("turns"), "{text}");
        assert!(text.contains("closed_idle_deadline"), "{text}");
        assert!(!text.contains("datagrams_in"), "{text}");
        let json = ledger.to_json();
        assert!(json.starts_with("{\"turns\":7,\"wakeups\":0,"), "{json}");
        assert!(json.contains("\"closed_idle_deadline\":1"), "{json}");
        assert!(json.ends_with("\"closed_grace\":0}"), "{json}");
    }
}
