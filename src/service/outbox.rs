//! The record of one callback.
//!
//! Owns: [`Outbox`], with the commands of one callback and the bytes that they refer to. Must not know: the effects of
//! commands.
//!
//! Invariants:
//! 1. The order of commands is the order of the calls of the service.
//! 2. Bytes are copied once, into the outbox; a [`Command::SendInput`] is not copied at all.
//! 3. Consecutive sends to the same connections are one command. Many small answers become one write, and a hundred lines
//!    in one read cost each member one delivery.

use super::command::{Command, Span};
use super::dial::Dial;
use crate::id::ConnId;
use crate::limits::OUTBOX;

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

    /// Copies `bytes` and records a send to `to`.
    #[inline]
    pub fn send(&mut self, to: ConnId, bytes: &[u8]) {
        self.send_with(to, |outbox| outbox.extend_from_slice(bytes));
    }

    /// Records a send to `to` of the bytes that `encode` appends: they are encoded where they are kept.
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

    /// Copies `bytes` once and records a broadcast to each of `to`.
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

    /// Records a dial of the connection `id`.
    pub fn dial(&mut self, id: ConnId, dial: Dial) {
        self.push(Command::Dial { id, dial: self.dials.len() });
        self.dials.push(dial);
    }

    /// Returns the dials of [`Command::Dial`].
    pub fn dials(&self) -> &[Dial] {
        &self.dials
    }

    /// Returns the recorded commands, in order.
    #[inline]
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// Records a send of `part` of the input.
    #[inline]
    pub fn send_input(&mut self, part: Span) {
        self.input_bytes += part.len();
        self.push(Command::SendInput { part });
    }

    /// Records that `part` of the input of `from` goes to `to`.
    #[inline]
    pub fn forward(&mut self, from: ConnId, to: ConnId, part: Span) {
        self.push(Command::Forward { from, to, part });
    }

    /// Returns the number of bytes in all sends, those of the input included. What is forwarded does not count: it is not
    /// output of the connection at hand.
    #[inline]
    pub fn byte_count(&self) -> usize {
        self.bytes.len() + self.input_bytes
    }

    /// Returns the bytes of a [`Command::Send`] or [`Command::Broadcast`].
    #[inline]
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.bytes[span.start..span.end]
    }

    /// Returns the recipients of a [`Command::Broadcast`].
    pub fn recipients(&self, span: Span) -> &[ConnId] {
        &self.recipients[span.start..span.end]
    }

    /// Clears everything and keeps the memory for the next callback.
    #[inline]
    pub fn clear(&mut self) {
        self.commands.clear();
        self.bytes.clear();
        self.recipients.clear();
        self.dials.clear();
        self.input_bytes = 0;
    }

    /// Gives the memory of a burst back. Once a turn is often enough.
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
    fn consecutive_sends_to_the_same_connections_are_one_command() {
        let [one, two] = [1, 2].map(Probe::id);
        let mut outbox = Outbox::default();
        outbox.broadcast(&[one, two], b"a");
        outbox.broadcast(&[one, two], b"bc");
        outbox.broadcast(&[one], b"d");
        outbox.send(one, b"e");
        outbox.send(one, b"f");
        outbox.broadcast(&[], b"to no connection");
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
