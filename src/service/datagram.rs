//! The contract for datagrams: no open, no end of file, no half-close.
//!
//! Owns: [`DatagramService`], [`DatagramContext`] and the letters that it records. Must not know: batches, sockets.
//!
//! Invariant: one letter is one datagram, whatever its length (RFC 768), zero included.

use std::net::SocketAddr;

use super::command::Span;
use crate::timer::Time;

/// A protocol on datagrams.
pub trait DatagramService {
    /// A datagram has arrived.
    fn on_datagram(&mut self, ctx: &mut DatagramContext<'_>, payload: &[u8]);
}

/// To whom a letter goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recipient {
    /// The sender of the received datagram with this number, from the address that it was sent to.
    SenderOf(usize),
    /// Somebody else.
    Address(SocketAddr),
}

/// What a letter says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// The received datagram with this number, unchanged; it is not copied.
    Received(usize),
    /// Bytes of the outbox.
    Bytes(Span),
}

/// One datagram to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Letter {
    /// To whom.
    pub to: Recipient,
    /// What.
    pub payload: Payload,
}

/// The letters that a batch of received datagrams has given rise to, in order.
#[derive(Debug, Default)]
pub struct DatagramOutbox {
    letters: Vec<Letter>,
    bytes: Vec<u8>,
}

impl DatagramOutbox {
    /// The letters, in order.
    pub fn letters(&self) -> &[Letter] {
        &self.letters
    }

    /// The bytes of a [`Payload::Bytes`].
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.bytes[span.start..span.end]
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.letters.clear();
        self.bytes.clear();
    }

    fn write(&mut self, to: Recipient, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let payload = Payload::Bytes(Span { start, end: self.bytes.len() });
        self.letters.push(Letter { to, payload });
    }
}

/// What [`DatagramService::on_datagram`] may know and ask for.
#[derive(Debug)]
pub struct DatagramContext<'a> {
    now: Time,
    number: usize,
    sender: SocketAddr,
    outbox: &'a mut DatagramOutbox,
}

impl<'a> DatagramContext<'a> {
    /// A context for the datagram with this `number` in its batch, from `sender`.
    pub fn new(now: Time, number: usize, sender: SocketAddr, outbox: &'a mut DatagramOutbox) -> Self {
        Self { now, number, sender, outbox }
    }

    /// The present, read once per turn.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Who sent the datagram.
    pub fn sender(&self) -> SocketAddr {
        SocketAddr::new(self.sender.ip().to_canonical(), self.sender.port())
    }

    /// Sends `bytes` to the sender, from the address that it had written to.
    pub fn reply(&mut self, bytes: &[u8]) {
        self.outbox.write(Recipient::SenderOf(self.number), bytes);
    }

    /// Sends the datagram back as it is, without copying it.
    pub fn reply_same(&mut self) {
        let (to, payload) = (Recipient::SenderOf(self.number), Payload::Received(self.number));
        self.outbox.letters.push(Letter { to, payload });
    }

    /// Sends `bytes` to `to`.
    pub fn send_to(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.outbox.write(Recipient::Address(to), bytes);
    }
}
