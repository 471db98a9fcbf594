//! The counters of the loop. They are always on.
//!
//! Owns: [`Ledger`], as text and as JSON. Must not know: the places that count.
//!
//! Each count is a plain `u64` addition on one thread, without atomics, sampling or a switch.

use std::fmt;

use crate::service::CloseReason;

/// Declares each counter once, with its meaning. The struct and the list for printing follow from the declaration.
macro_rules! counters {
    ($($(#[doc = $meaning:literal])+ $name:ident,)+) => {
        /// The counts of a reactor since it was made.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Ledger {
            $($(#[doc = $meaning])+ pub $name: u64,)+
            /// Connections that ended, by [`CloseReason::kind`].
            pub closed: [u64; CloseReason::KINDS],
        }

        impl Ledger {
            /// Returns the names and values of all counters except [`closed`](Self::closed), in the order of the text.
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
    /// Events for a source that was gone.
    stale_events,
    /// Alarms of the wheel for a source or a timer that was gone.
    stale_alarms,
    /// Commands without effect: the connection was gone or had finished its output, or a dial came during a stop.
    stale_commands,
    /// Connections accepted.
    accepts,
    /// Calls of accept that found an empty backlog (EAGAIN). Go parks the accepting goroutine there.
    accept_blocked,
    /// Calls of accept that failed for a connection that had died in the backlog.
    accept_errors,
    /// Pauses of a listener: descriptors or memory had run out, or all connections in the backlog were dead.
    accept_backoffs,
    /// Accepted connections closed at once: they were above a limit, or epoll could not register their socket.
    refused,
    /// Connections dialed.
    dials,
    /// Reads that returned bytes.
    reads,
    /// Reads that found an empty socket (EAGAIN). Go parks the reading goroutine there.
    read_blocked,
    /// Reads that returned fewer bytes than asked for: the socket is then empty, and the next read is spared.
    short_reads,
    /// Reads that returned the end of file of the peer.
    eofs,
    /// Writes of which the kernel took bytes.
    writes,
    /// Writes that found a full send buffer (EAGAIN). Go parks the writing goroutine there.
    write_blocked,
    /// Writes of which the kernel took fewer bytes than offered.
    short_writes,
    /// System calls that a signal interrupted and the loop repeated.
    interrupted,
    /// Times that the output of a connection reached the high-water mark, where servers suspend reading.
    pauses,
    /// Times that the output of such a connection fell to the low-water mark, where reading resumes.
    resumes,
    /// Bytes read from streams.
    bytes_in,
    /// Bytes written to streams.
    bytes_out,
    /// Datagrams received.
    datagrams_in,
    /// Datagrams sent.
    datagrams_out,
    /// Datagrams dropped: above the bound of the queue, refused by the kernel, or still queued when the peer changed or
    /// the grace period ended.
    datagrams_dropped,
    /// Errors of datagram sockets, most of them from ICMP. The socket stays open.
    datagram_errors,
    /// Entries of the wheel set: for deadlines, timers of services, back-offs and the grace period.
    timers_set,
    /// Entries of the wheel that fired.
    timers_fired,
    /// Entries of the wheel cancelled.
    timers_cancelled,
    /// Messages from other threads.
    posts,
    /// Signals handled.
    signals,
}

impl Ledger {
    /// Counts the end of a connection.
    pub fn count_close(&mut self, reason: CloseReason) {
        self.closed[reason.kind()] += 1;
    }

    /// Returns the number of connections that ended for a reason of this kind.
    pub fn closed_by(&self, reason: CloseReason) -> u64 {
        self.closed[reason.kind()]
    }

    fn all_rows(&self) -> impl Iterator<Item = (String, u64)> {
        let closed = CloseReason::NAMES.iter().zip(self.closed);
        self.rows()
            .map(|(name, count)| (name.to_owned(), count))
            .chain(closed.map(|(name, count)| (format!("closed_{name}"), count)))
    }

    /// Returns one JSON object on one line, with every counter as a member.
    pub fn to_json(&self) -> String {
        let members: Vec<_> = self.all_rows().map(|(name, count)| format!("\"{name}\":{count}")).collect();
        format!("{{{}}}", members.join(","))
    }
}

/// Writes a table of the counters that are not zero.
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
    fn text_leaves_out_zeros_and_json_has_every_counter() {
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
