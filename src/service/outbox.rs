//! The record of one callback, or of all callbacks for one batch of datagrams.
//!
//! Owns: [`Outbox`], with the commands and what they refer to. Must not know: the effects of commands.
//!
//! Invariants:
//! 1. The order of commands is the order of the calls of the service.
//! 2. Bytes are copied once, into the outbox; a [`Command::SendInput`] is not copied at all.
//! 3. Consecutive sends to the same connections are one command. Many small answers become one write, and a hundred lines
//!    in one read cost each member one delivery.
//! 4. A datagram by the socket at hand is no command. Any other datagram is, so an outbox without commands has no work for
//!    the callback of a stream.

use super::command::{Command, Span};
use super::datagram::{Connect, Recipient, Transmits};
use super::dial::Dial;
use super::listen::{Bind, Listen};
use crate::id::{ConnId, ListenerId, SocketId, SourceId};
use crate::limits::OUTBOX;

/// The commands of one callback, with the bytes that they refer to.
#[derive(Debug, Default)]
pub struct Outbox {
    commands: Vec<Command>,
    bytes: Vec<u8>,
    recipients: Vec<ConnId>,
    /// Bytes of the input that are to be sent.
    input_bytes: usize,
    /// The datagram socket that the callback is about.
    socket_at_hand: Option<SocketId>,
    /// The datagrams by the socket at hand.
    transmits: Transmits,
    parameters: Parameters,
}

/// The parameters of commands that are not in every turn.
#[derive(Debug, Default)]
struct Parameters {
    dials: Vec<Dial>,
    listens: Vec<Listen>,
    binds: Vec<Bind>,
    connects: Vec<Connect>,
    /// The datagrams by sockets that are not at hand.
    transmits: Transmits,
    /// There are parameters, or memory of former parameters.
    in_use: bool,
}

impl Parameters {
    fn clear(&mut self) {
        let Self { dials, listens, binds, connects, transmits, in_use: _ } = self;
        dials.clear();
        listens.clear();
        binds.clear();
        connects.clear();
        transmits.clear();
    }
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

    fn parameters(&mut self) -> &mut Parameters {
        self.parameters.in_use = true;
        &mut self.parameters
    }

    /// Records a dial of the connection `id`.
    pub fn dial(&mut self, id: ConnId, dial: Dial) {
        self.push(Command::Dial { id, dial: self.parameters.dials.len() });
        self.parameters().dials.push(dial);
    }

    /// Returns the dials of [`Command::Dial`].
    pub fn dials(&self) -> &[Dial] {
        &self.parameters.dials
    }

    /// Records that the listener `id` is to be made.
    pub fn listen(&mut self, id: ListenerId, listen: Listen) {
        self.push(Command::Listen { id, listen: self.parameters.listens.len() });
        self.parameters().listens.push(listen);
    }

    /// Returns the listeners of [`Command::Listen`].
    pub fn listens(&self) -> &[Listen] {
        &self.parameters.listens
    }

    /// Records that the datagram socket `id` is to be bound.
    pub fn bind(&mut self, id: SocketId, bind: Bind) {
        self.push(Command::Bind { id, bind: self.parameters.binds.len() });
        self.parameters().binds.push(bind);
    }

    /// Returns the sockets of [`Command::Bind`].
    pub fn binds(&self) -> &[Bind] {
        &self.parameters.binds
    }

    /// Records that the datagram socket `of` is to be connected.
    pub fn connect(&mut self, of: SocketId, connect: Connect) {
        self.push(Command::Connect { of, connect: self.parameters.connects.len() });
        self.parameters().connects.push(connect);
    }

    /// Returns the peers of [`Command::Connect`].
    pub fn connects(&self) -> &[Connect] {
        &self.parameters.connects
    }

    /// Records that a listener or a datagram socket is to be closed. A socket at hand is at hand no longer.
    pub fn close(&mut self, id: SourceId) {
        if self.socket_at_hand.map(SourceId::from) == Some(id) {
            self.socket_at_hand = None;
        }
        self.push(Command::Close { id });
    }

    /// Begins callbacks about the datagram socket `id`: it is at hand until [`end_transmits`](Self::end_transmits).
    #[inline]
    pub fn begin_transmits(&mut self, id: SocketId) {
        self.socket_at_hand = Some(id);
    }

    /// Returns the socket at hand. `None` outside callbacks about a socket, and when the callback has closed the socket.
    #[inline]
    pub fn socket_at_hand(&self) -> Option<SocketId> {
        self.socket_at_hand
    }

    /// Ends the callbacks about a datagram socket, and clears its transmits.
    #[inline]
    pub fn end_transmits(&mut self) {
        self.socket_at_hand = None;
        if !self.transmits.as_slice().is_empty() {
            self.transmits.clear();
        }
    }

    /// Records a datagram by the socket `of`. If the socket is not at hand, that is a command.
    #[inline]
    pub fn transmit(&mut self, of: SocketId, to: Recipient, bytes: &[u8]) {
        if self.socket_at_hand == Some(of) {
            self.transmits.write(to, bytes);
        } else {
            self.transmit_by_other(of, to, bytes);
        }
    }

    fn transmit_by_other(&mut self, of: SocketId, to: Recipient, bytes: &[u8]) {
        let start = self.parameters.transmits.as_slice().len();
        self.parameters().transmits.write(to, bytes);
        if let Some(Command::Transmit { of: before, transmits }) = self.commands.last_mut()
            && *before == of
        {
            transmits.end += 1;
            return;
        }
        self.push(Command::Transmit { of, transmits: Span { start, end: start + 1 } });
    }

    /// Returns the datagrams by the socket at hand.
    #[inline]
    pub fn transmits(&self) -> &Transmits {
        &self.transmits
    }

    #[inline]
    pub(super) fn transmits_mut(&mut self) -> &mut Transmits {
        &mut self.transmits
    }

    /// Returns the datagrams of [`Command::Transmit`].
    pub fn other_transmits(&self) -> &Transmits {
        &self.parameters.transmits
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

    /// Returns the number of bytes in all sends, those of the input included. Forwarded bytes do not count: they are not
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

    /// Clears everything but the transmits of a socket at hand, and keeps the memory for the next callback.
    #[inline]
    pub fn clear(&mut self) {
        self.clear_answer();
        self.recipients.clear();
        if self.parameters.in_use {
            self.parameters.clear();
        }
    }

    /// Clears an outbox whose only command is a send.
    #[inline]
    pub fn clear_answer(&mut self) {
        self.commands.clear();
        self.bytes.clear();
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
        if self.parameters.in_use {
            self.parameters = Parameters::default();
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

    #[test]
    fn a_datagram_is_a_command_unless_its_socket_is_at_hand() {
        let [one, two] = [1, 2].map(Probe::socket);
        let mut outbox = Outbox::default();
        outbox.begin_transmits(one);
        outbox.transmit(one, Recipient::Peer, b"at hand");
        outbox.transmit(two, Recipient::Peer, b"a");
        outbox.transmit(two, Recipient::Peer, b"b");
        outbox.close(one.into());
        outbox.transmit(one, Recipient::Peer, b"closed");
        outbox.transmit(two, Recipient::Peer, b"c");
        outbox.connect(two, Connect { to: ([127, 0, 0, 1], 9).into(), from: None });
        assert_eq!((outbox.transmits().as_slice().len(), outbox.socket_at_hand()), (1, None));
        let transmits = |start, end| Span { start, end };
        let expected = [
            Command::Transmit { of: two, transmits: transmits(0, 2) },
            Command::Close { id: one.into() },
            Command::Transmit { of: one, transmits: transmits(2, 3) },
            Command::Transmit { of: two, transmits: transmits(3, 4) },
            Command::Connect { of: two, connect: 0 },
        ];
        assert_eq!(outbox.commands(), expected);
        outbox.clear();
        assert!(outbox.commands().is_empty() && outbox.connects().is_empty());
        assert!(outbox.other_transmits().as_slice().is_empty());
        assert_eq!(outbox.transmits().as_slice().len(), 1, "the reactor sends these itself");
        outbox.end_transmits();
        assert!(outbox.transmits().as_slice().is_empty());
    }
}
