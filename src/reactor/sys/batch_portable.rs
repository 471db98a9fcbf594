//! The system calls on datagram sockets for systems without recvmmsg(2): one datagram per call, by the calls of std.
//!
//! Owns: the same names as `batch.rs`, the Linux version of this module. Must not know: services, queues.
//!
//! On a socket bound to every interface, the kernel chooses the source address of an answer.

use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;

use super::outcome::{Observer, Outcome, retry};
use crate::id::SourceId;
use crate::limits::{DATAGRAM, DATAGRAMS};
use crate::service::Errno;

/// The local address of a datagram. The calls of std do not report it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Local {
    /// The address that the socket is bound to.
    Bound,
}

/// One datagram to send.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// The destination; `None` for the peer of a connected socket.
    pub to: Option<SocketAddr>,
    /// The source address.
    pub local: Local,
    /// The bytes.
    pub payload: &'a [u8],
}

/// Received datagrams.
#[derive(Debug, Default)]
pub struct Batch {
    area: Vec<u8>,
    received: Vec<(usize, SocketAddr)>,
}

/// The headers of the calls for one socket: empty, as the calls of std need none.
#[derive(Debug)]
pub struct MessageHeaders;

impl MessageHeaders {
    /// Returns the empty headers.
    ///
    /// # Errors
    /// None. The Linux version makes system calls here.
    pub fn new(_socket: &UdpSocket) -> io::Result<Self> {
        Ok(MessageHeaders)
    }
}

impl Batch {
    /// Receives up to [`DATAGRAMS`] datagrams. The outcome is their number.
    pub fn receive(
        &mut self,
        socket: &UdpSocket,
        _headers: &mut MessageHeaders,
        id: SourceId,
        observer: &mut impl Observer,
    ) -> Outcome {
        self.area.resize(DATAGRAMS * DATAGRAM, 0);
        self.received.clear();
        let mut last = Outcome::Done(0);
        for slot in self.area.chunks_exact_mut(DATAGRAM) {
            let mut sender = None;
            last = retry(observer, || {
                let (len, from) = socket.recv_from(slot).map_err(Errno::from)?;
                sender = Some(from);
                Ok(len)
            });
            match (last, sender) {
                (Outcome::Done(len), Some(sender)) => self.received.push((len, sender)),
                _ => break,
            }
        }
        let outcome = if self.received.is_empty() { last } else { Outcome::Done(self.received.len()) };
        observer.received(id, DATAGRAMS, outcome);
        outcome
    }

    /// Returns the number of received datagrams.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Returns the bytes of the datagram number `n`.
    pub fn payload(&self, n: usize) -> &[u8] {
        &self.area[n * DATAGRAM..][..self.received[n].0]
    }

    /// Returns the sender of the datagram number `n`.
    pub fn sender(&self, n: usize) -> Option<SocketAddr> {
        Some(self.received[n].1)
    }

    /// Returns an answer to the datagram number `n`.
    pub fn answer<'a>(&self, n: usize, payload: &'a [u8]) -> Transmit<'a> {
        Transmit { to: Some(self.received[n].1), local: Local::Bound, payload }
    }
}

/// Sends the first datagram of `transmits`. The outcome is the number of datagrams that the kernel took.
pub fn send(
    socket: &UdpSocket,
    _headers: &mut MessageHeaders,
    transmits: &[Transmit<'_>],
    id: SourceId,
    observer: &mut impl Observer,
) -> Outcome {
    let Some(first) = transmits.first() else {
        return Outcome::Done(0);
    };
    let sent = retry(observer, || match first.to {
        Some(to) => socket.send_to(first.payload, to).map_err(Errno::from),
        None => socket.send(first.payload).map_err(Errno::from),
    });
    let outcome = match sent {
        Outcome::Done(_) => Outcome::Done(1),
        other => other,
    };
    observer.sent(id, 1, outcome);
    outcome
}
