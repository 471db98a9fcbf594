//! The state of the sources between two turns, as data and as the table that SIGUSR1 prints.
//!
//! Owns: [`ConnectionStatus`], [`Row`] and the text. Must not know: the origin of the rows, the reader of the text.

use std::fmt::Write;

use super::ledger::Ledger;
use crate::id::SourceId;
use crate::timer::Time;

/// The state of a connection between two turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ConnectionStatus {
    /// Bytes of output that wait for the kernel.
    pub queued: usize,
    /// Bytes of input that the service has not consumed.
    pub unread: usize,
    /// A read may return bytes.
    pub readable: bool,
    /// A write may take bytes.
    pub writable: bool,
}

/// One source in the table.
#[derive(Debug)]
pub struct Row {
    /// The id of the source.
    pub id: SourceId,
    /// The name of its service.
    pub service: &'static str,
    /// The peer of a connection, the local address of any other source.
    pub addr: String,
    /// The half-states of a connection (`Inbound/Outbound`), `listening`, or `bound`.
    pub state: String,
    /// The known readiness: `r`, `w` and `e`, each replaced by `-` while it is not known.
    pub readiness: String,
    /// Bytes of output that wait for the kernel.
    pub queued: Option<usize>,
    /// Bytes of input that the service has not consumed.
    pub unread: Option<usize>,
    /// The earliest deadline; `None` for a source that has no deadlines.
    pub due: Option<Time>,
}

/// Returns the ledger and a table of all sources, one a line. `timers` is the number of entries in the wheel.
pub fn report(ledger: &Ledger, now: Time, timers: usize, rows: impl Iterator<Item = Row>) -> String {
    let mut text = format!("{ledger}now: {now}  timers: {timers}\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{:<10} {:<10} {:<47} {:<22} {:<5} {:>9} {:>9} {:>10}",
        "id", "kind", "peer", "halves", "ready", "queued", "unread", "due in"
    );
    for row in rows {
        let count = |bytes: Option<usize>| bytes.map_or_else(String::new, |bytes| bytes.to_string());
        let due = match row.due {
            None => String::new(),
            Some(due) if due.is_never() => "-".to_owned(),
            Some(due) => format!("{:.3}s", due.since(now).as_secs_f64()),
        };
        let line = format!(
            "{:<10} {:<10} {:<47} {:<22} {:<5} {:>9} {:>9} {due:>10}",
            row.id.to_string(),
            row.service,
            row.addr,
            row.state,
            row.readiness,
            count(row.queued),
            count(row.unread),
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
