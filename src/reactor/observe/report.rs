//! What can be seen from outside between two turns: how a connection stands, and what SIGUSR1 prints, the ledger and
//! the table of sources.
//!
//! Owns: [`ConnectionStatus`], and the text. Must not know: who reads it.

use std::fmt::Write;

use crate::id::ConnId;
use crate::reactor::Reactor;
use crate::reactor::source::sources::Source;
use crate::timer::Time;

/// How a connection stands between two turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionStatus {
    /// Bytes of output that wait for the kernel.
    pub queued: usize,
    /// Bytes of input that its service has left.
    pub unread: usize,
    /// A read may return something.
    pub readable: bool,
    /// A write may take something.
    pub writable: bool,
}

impl Reactor {
    /// How a connection stands, unless it is gone.
    pub fn connection_status(&self, id: ConnId) -> Option<ConnectionStatus> {
        let connection = self.sources.get(id)?;
        let (queued, unread) = connection.queued_bytes();
        let readiness = connection.readiness();
        Some(ConnectionStatus { queued, unread, readable: readiness.readable(), writable: readiness.writable() })
    }

    /// The ledger and a table of all sources, one a line.
    pub fn report(&self) -> String {
        let mut text = format!("{}now: {}  timers: {}\n", self.recorder.ledger, self.now, self.wheel.len());
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<10} {:<10} {:<47} {:<22} {:<5} {:>9} {:>9} {:>10}",
            "id", "kind", "peer", "halves", "ready", "queued", "unread", "due in"
        );
        for (id, source) in self.sources.iter() {
            let row = match source {
                Source::Connection(connection) => {
                    let (queued, unread) = connection.queued_bytes();
                    let halves = connection.halves();
                    format!(
                        "{:<10} {:<47} {:<22} {:<5} {queued:>9} {unread:>9} {:>10}",
                        self.services[usize::from(connection.service().0)].0,
                        connection.peer().to_string(),
                        format!("{:?}/{:?}", halves.inbound(), halves.outbound()),
                        connection.readiness().to_string(),
                        due_in(connection.deadlines.earliest(), self.now),
                    )
                }
                // Nobody has a turn while a report is written.
                Source::Taken => continue,
                Source::Listener(listener) => {
                    let at =
                        listener.socket.local_addr().map_or_else(|error| error.to_string(), |addr| addr.to_string());
                    format!("{:<10} {at:<47} {:<22} {}", listener.name, "listening", listener.readiness())
                }
                Source::Datagram(socket) => {
                    let at = socket.socket.local_addr().map_or_else(|error| error.to_string(), |addr| addr.to_string());
                    let (_, bytes) = socket.waiting();
                    format!(
                        "{:<10} {at:<47} {:<22} {:<5} {bytes:>9}",
                        socket.name,
                        "bound",
                        socket.readiness().to_string()
                    )
                }
            };
            let _ = writeln!(text, "{:<10} {row}", id.to_string());
        }
        text
    }
}

fn due_in(due: Time, now: Time) -> String {
    if due.is_never() { "-".to_owned() } else { format!("{:.3}s", due.since(now).as_secs_f64()) }
}
