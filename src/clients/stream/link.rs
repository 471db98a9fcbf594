//! One connection of a client, which may have several, one after another.
//!
//! Owns: [`Link`], the state of the connection's two halves. Must not know: the bytes, the console.
//!
//! ```text
//!   write half                                        read half
//!               note_sent            close_write                    pause
//!     Unused ─────────────▶ Busy ───────────────▶ Closed     Open ────────▶ Paused
//!        │                  │  ▲                    ▲          │ ◀──────── │
//!        │     note_drained ▼  │ note_sent          │          │  resume   │
//!        │                Drained ──────────────────┤          └──▶ Closed ◀┘
//!        └──────────────────────────────────────────┘          close_read
//! ```

use std::time::Duration;

use crate::clients::Settings;
use crate::id::ConnId;
use crate::service::{CloseReason, Context, ServiceContext};
use crate::timer::Time;

/// The age at which a connection counts as a success though its peer has sent nothing: the longest wait of a
/// [`Backoff`](crate::clients::Backoff).
pub const PROVEN: Duration = Duration::from_secs(10);

/// The half on which we send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WriteHalf {
    /// No input has been sent.
    Unused,
    /// The connection holds a piece of input that has not drained.
    Busy,
    /// All input so far has drained.
    Drained,
    /// Our half is closed; `used` if input was sent before.
    Closed { used: bool },
}

/// The half on which the peer sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ReadHalf {
    /// The connection is read.
    Open {
        /// Output was sent during a pause, possibly after the peer's FIN, which no read had met.
        sent_blindly: bool,
    },
    /// Reading is suspended, because the console accepts no output.
    Paused {
        /// As above.
        sent_blindly: bool,
    },
    /// The peer's FIN has arrived.
    Closed {
        /// Output was under way at the FIN or was sent after it, or may have been. A reset then means that the peer did not take
        /// all.
        output_at_risk: bool,
    },
}

/// An established connection.
#[derive(PartialEq, Eq, Debug)]
pub struct Link {
    id: ConnId,
    since: Time,
    write: WriteHalf,
    read: ReadHalf,
}

impl Link {
    /// A connection that is established at `now`.
    pub fn new(id: ConnId, now: Time) -> Self {
        Self { id, since: now, write: WriteHalf::Unused, read: ReadHalf::Open { sent_blindly: false } }
    }

    /// The connection's id.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Calls `act` with the connection, unless the connection has ended.
    pub fn with(&self, ctx: &mut ServiceContext, act: impl FnOnce(&mut Context<'_>)) {
        if let Some(mut connection) = ctx.connection(self.id) {
            act(&mut connection);
        }
    }

    /// A piece of input was sent.
    pub fn note_sent(&mut self) {
        debug_assert!(self.can_send(), "{self:?}");
        self.write = WriteHalf::Busy;
        match &mut self.read {
            ReadHalf::Open { .. } => {}
            ReadHalf::Paused { sent_blindly: at_risk } | ReadHalf::Closed { output_at_risk: at_risk } => {
                *at_risk = true
            }
        }
    }

    /// The connection has drained, or has lost its piece by its end. Returns true if it held one.
    pub fn note_drained(&mut self) -> bool {
        let busy = self.write == WriteHalf::Busy;
        if busy {
            self.write = WriteHalf::Drained;
        }
        busy
    }

    /// Our half is closed: the input has ended.
    pub fn close_write(&mut self) {
        self.write = WriteHalf::Closed { used: self.has_sent() };
    }

    /// Reading is suspended.
    pub fn pause(&mut self) {
        if let ReadHalf::Open { sent_blindly } = self.read {
            self.read = ReadHalf::Paused { sent_blindly };
        }
    }

    /// Reading may go on. Returns true if it was suspended.
    pub fn resume(&mut self) -> bool {
        let ReadHalf::Paused { sent_blindly } = self.read else { return false };
        self.read = ReadHalf::Open { sent_blindly };
        true
    }

    /// The peer's FIN has arrived, with `queued` bytes of output still in the connection. A piece counts as drained at the
    /// low-water mark, when a part of it may still be queued.
    pub fn close_read(&mut self, queued: usize) {
        let under_way = matches!(self.write, WriteHalf::Busy | WriteHalf::Closed { .. });
        let blindly =
            matches!(self.read, ReadHalf::Open { sent_blindly: true } | ReadHalf::Paused { sent_blindly: true });
        self.read = ReadHalf::Closed { output_at_risk: under_way || blindly || queued > 0 };
    }

    /// Returns true if another piece of input may be sent.
    pub fn can_send(&self) -> bool {
        matches!(self.write, WriteHalf::Unused | WriteHalf::Drained)
    }

    /// Returns true if input was sent.
    pub fn has_sent(&self) -> bool {
        !matches!(self.write, WriteHalf::Unused | WriteHalf::Closed { used: false })
    }

    /// Returns true if our half is closed.
    pub fn is_write_closed(&self) -> bool {
        matches!(self.write, WriteHalf::Closed { .. })
    }

    /// Returns true if the peer's half is closed.
    pub fn is_read_closed(&self) -> bool {
        matches!(self.read, ReadHalf::Closed { .. })
    }

    /// Returns true if reading is suspended.
    pub fn is_paused(&self) -> bool {
        matches!(self.read, ReadHalf::Paused { .. })
    }

    /// Returns true if a reset means that the peer did not take all output, though it had closed its half.
    pub fn is_output_at_risk(&self) -> bool {
        self.read == ReadHalf::Closed { output_at_risk: true }
    }

    /// Returns true if the client reconnects after the peer's FIN.
    pub fn is_reopened(&self, settings: &Settings) -> bool {
        settings.reconnect.is_some() && !self.is_write_closed()
    }

    /// Returns true if an end at `now` for `reason` proves that the peer was there all the time.
    pub fn is_proven(&self, now: Time, reason: CloseReason) -> bool {
        now.since(self.since) >= PROVEN && !matches!(reason, CloseReason::Deadline(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Probe;

    fn link() -> Link {
        Link::new(Probe::id(1), Time::ZERO)
    }

    #[test]
    fn a_piece_is_busy_until_it_has_drained() {
        let mut link = link();
        assert!(link.can_send() && !link.has_sent() && !link.note_drained());
        link.note_sent();
        assert!(!link.can_send() && link.has_sent());
        assert!(link.note_drained() && !link.note_drained());
        assert!(link.can_send() && link.has_sent());
    }

    #[test]
    fn a_closed_write_half_remembers_its_use() {
        let mut unused = link();
        unused.close_write();
        assert!(unused.is_write_closed() && !unused.has_sent() && !unused.can_send());
        let mut used = link();
        used.note_sent();
        used.close_write();
        assert!(used.has_sent() && !used.note_drained());
    }

    #[test]
    fn output_is_at_risk_if_it_is_under_way_at_the_fin_or_later() {
        let (mut idle, mut busy, mut closed, mut queued) = (link(), link(), link(), link());
        busy.note_sent();
        closed.close_write();
        queued.note_sent();
        queued.note_drained();
        for (link, bytes) in [(&mut idle, 0), (&mut busy, 0), (&mut closed, 0), (&mut queued, 1)] {
            link.close_read(bytes);
            assert!(link.is_read_closed());
        }
        assert!(!idle.is_output_at_risk() && busy.is_output_at_risk() && closed.is_output_at_risk());
        assert!(queued.is_output_at_risk());
        // The FIN may have waited in the socket during a pause.
        let mut paused = link();
        paused.pause();
        paused.note_sent();
        assert!(paused.note_drained() && paused.resume());
        paused.close_read(0);
        assert!(paused.is_output_at_risk());
        idle.note_sent();
        assert!(idle.is_output_at_risk());
    }

    #[test]
    fn reading_resumes_only_from_a_pause() {
        let mut link = link();
        assert!(!link.resume());
        link.pause();
        assert!(link.is_paused() && link.resume() && !link.is_paused());
        link.close_read(0);
        link.pause();
        assert!(!link.is_paused() && !link.resume());
    }
}
