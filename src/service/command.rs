//! What a service can ask for, as data.
//!
//! Owns: [`Command`] and [`Outbox`], in which one callback's commands are recorded. Must not know: how they are done.
//!
//! Invariants:
//! 1. The order of commands is the order in which the service gave them.
//! 2. Bytes are copied once, into the outbox; a [`Command::SendInput`] is not copied at all.
//! 3. Consecutive sends to one connection, or to the same several, are one command: many small answers become one
//!    write, and a hundred lines in one read cost each member one delivery.

use super::TimerName;
use super::dial::Dial;
use super::reason::CloseReason;
use crate::id::ConnId;
use crate::limits::OUTBOX;
use crate::timer::{Deadline, Time, Timeout};

/// A part of a byte or id array: `start..end`. (`Range` is not `Copy`.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first index.
    pub start: usize,
    /// One past the last index.
    pub end: usize,
}

impl Span {
    /// How many there are.
    pub const fn len(self) -> usize {
        self.end - self.start
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// One recorded wish of a service. Those that name a connection do nothing if it is gone (counted as stale).
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Command {
    /// Queue bytes of the outbox for a connection.
    Send {
        /// The connection.
        to: ConnId,
        /// Which of [`Outbox::bytes`].
        bytes: Span,
    },
    /// Queue a part of the input that the callback was given, for the connection that it came from.
    SendInput {
        /// Which part of the input.
        part: Span,
    },
    /// Queue the same bytes for several connections; one whose queue is over its bound is dropped.
    Broadcast {
        /// Which of [`Outbox::recipients`].
        to: Span,
        /// Which of [`Outbox::bytes`].
        bytes: Span,
    },
    /// Flush, send FIN, then read and discard until the peer's FIN or the linger deadline.
    Finish {
        /// The connection.
        of: ConnId,
    },
    /// Serve what has already arrived, and finish when nothing is left to read or to write.
    FinishWhenQuiet {
        /// The connection.
        of: ConnId,
    },
    /// Flush, send FIN, and go on listening to the peer.
    HalfClose {
        /// The connection.
        of: ConnId,
    },
    /// Tell the service when the queue has fallen to the low-water mark, also if it is there already.
    AwaitDrain {
        /// The connection.
        of: ConnId,
    },
    /// Close with RST. Queued output is lost.
    Reset {
        /// The connection.
        of: ConnId,
    },
    /// Close now. Queued output is lost, and then the peer sees RST.
    Abort {
        /// The connection.
        of: ConnId,
        /// The reason for `on_close` and the ledger.
        reason: CloseReason,
    },
    /// Stop reading.
    Pause {
        /// The connection.
        of: ConnId,
    },
    /// Read again.
    Resume {
        /// The connection.
        of: ConnId,
    },
    /// Set a deadline; [`Time::NEVER`] clears it.
    SetDeadline {
        /// The connection.
        of: ConnId,
        /// Which of its deadlines.
        which: Deadline,
        /// When it is due.
        due: Time,
    },
    /// Start the timeout of the listener for a deadline anew; clear the deadline if there is none.
    RenewDeadline {
        /// The connection.
        of: ConnId,
        /// Which of its deadlines.
        which: Deadline,
    },
    /// Set a timer of the service, in place of one of the same name.
    SetTimer {
        /// The timer.
        name: TimerName,
        /// When it fires.
        at: Time,
        /// How often it fires after that; off for once.
        every: Timeout,
    },
    /// Cancel a timer of the service.
    CancelTimer {
        /// The timer.
        name: TimerName,
    },
    /// Dial a peer on behalf of the service: `on_dialed` or `on_dial_error` follows.
    Dial {
        /// Which of [`Outbox::dials`].
        dial: usize,
    },
    /// Call `on_turn` in the next turn, without waiting for events before it.
    Turn,
    /// Stop the reactor in an orderly way, as SIGTERM would.
    Stop,
}

/// The commands of one callback, with the bytes that they refer to.
#[derive(Debug, Default)]
pub struct Outbox {
    commands: Vec<Command>,
    bytes: Vec<u8>,
    recipients: Vec<ConnId>,
    dials: Vec<Dial>,
    /// Bytes of the input that are to be sent.
    input_bytes: usize,
}

impl Outbox {
    /// Records a command.
    #[inline]
    pub fn push(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// Copies `bytes` and records that they shall be sent to `to`.
    #[inline]
    pub fn send(&mut self, to: ConnId, bytes: &[u8]) {
        self.send_with(to, |outbox| outbox.extend_from_slice(bytes));
    }

    /// Records that what `encode` appends shall be sent to `to`: bytes that are made where they are kept.
    ///
    /// # Panics
    /// If `encode` makes the vector shorter: other commands refer to what is there.
    #[inline]
    pub fn send_with<R>(&mut self, to: ConnId, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let start = self.bytes.len();
        let result = encode(&mut self.bytes);
        let end = self.bytes.len();
        assert!(start <= end, "an encoder took {} bytes away", start - end);
        if start < end {
            self.record_send(to, start, end);
        }
        result
    }

    #[inline]
    fn record_send(&mut self, to: ConnId, start: usize, end: usize) {
        if let Some(Command::Send { to: before, bytes }) = self.commands.last_mut()
            && *before == to
            && bytes.end == start
        {
            bytes.end = end;
            return;
        }
        self.push(Command::Send { to, bytes: Span { start, end } });
    }

    /// Copies `bytes` once and records that they shall be sent to each of `to`.
    pub fn broadcast(&mut self, to: &[ConnId], bytes: &[u8]) {
        if to.is_empty() || bytes.is_empty() {
            return;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let end = self.bytes.len();
        if let Some(Command::Broadcast { to: before, bytes }) = self.commands.last_mut()
            && bytes.end == start
            && self.recipients[before.start..before.end] == *to
        {
            bytes.end = end;
            return;
        }
        let first = self.recipients.len();
        self.recipients.extend_from_slice(to);
        let to = Span { start: first, end: self.recipients.len() };
        self.push(Command::Broadcast { to, bytes: Span { start, end } });
    }

    /// Records that a peer shall be dialed.
    pub fn dial(&mut self, dial: Dial) {
        self.push(Command::Dial { dial: self.dials.len() });
        self.dials.push(dial);
    }

    /// The dials of [`Command::Dial`].
    pub fn dials(&self) -> &[Dial] {
        &self.dials
    }

    /// The recorded commands, in order.
    #[inline]
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// Records that `part` of the input shall be sent back.
    #[inline]
    pub fn send_input(&mut self, part: Span) {
        self.input_bytes += part.len();
        self.push(Command::SendInput { part });
    }

    /// How many bytes it says, those of the input included.
    #[inline]
    pub fn byte_count(&self) -> usize {
        self.bytes.len() + self.input_bytes
    }

    /// The bytes of a [`Command::Send`] or [`Command::Broadcast`].
    #[inline]
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.bytes[span.start..span.end]
    }

    /// The recipients of a [`Command::Broadcast`].
    pub fn recipients(&self, span: Span) -> &[ConnId] {
        &self.recipients[span.start..span.end]
    }

    /// Forgets everything; keeps the memory for the next callback.
    #[inline]
    pub fn clear(&mut self) {
        self.commands.clear();
        self.bytes.clear();
        self.recipients.clear();
        self.dials.clear();
        self.input_bytes = 0;
    }

    /// Gives back what a burst has taken. Once a turn is often enough.
    #[inline]
    pub fn trim(&mut self) {
        if self.commands.capacity() > OUTBOX / size_of::<Command>() {
            self.commands.shrink_to(OUTBOX / size_of::<Command>());
        }
        if self.bytes.capacity() > OUTBOX {
            self.bytes.shrink_to(OUTBOX);
        }
        if self.recipients.capacity() > OUTBOX / size_of::<ConnId>() {
            self.recipients.shrink_to(OUTBOX / size_of::<ConnId>());
        }
        if self.dials.capacity() > OUTBOX / size_of::<Dial>() {
            self.dials.shrink_to(OUTBOX / size_of::<Dial>());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Probe;

    #[test]
    fn what_goes_the_same_way_is_one_command() {
        let [one, two] = [1, 2].map(Probe::id);
        let mut outbox = Outbox::default();
        outbox.broadcast(&[one, two], b"a");
        outbox.broadcast(&[one, two], b"bc");
        outbox.broadcast(&[one], b"d");
        outbox.send(one, b"e");
        outbox.send(one, b"f");
        outbox.broadcast(&[], b"nobody hears this");
        outbox.broadcast(&[one, two], b"g");
        let said = outbox.commands().iter().map(|&command| match command {
            Command::Send { to, bytes } => (vec![to], outbox.bytes(bytes)),
            Command::Broadcast { to, bytes } => (outbox.recipients(to).to_vec(), outbox.bytes(bytes)),
            _ => unreachable!(),
        });
        let expected = [(vec![one, two], &b"abc"[..]), (vec![one], b"d"), (vec![one], b"ef"), (vec![one, two], b"g")];
        assert_eq!(said.collect::<Vec<_>>(), expected);
    }
}
