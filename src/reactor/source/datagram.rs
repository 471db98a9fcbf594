//! A datagram socket: its readiness, and the queue of datagrams that the kernel did not take yet.
//!
//! Owns: [`DatagramSocket`]. Must not know: its service, how a batch is received or sent.
//!
//! Invariants:
//! 1. One datagram in, one callback; one transmit, one datagram out, in order.
//! 2. The queue is bounded. A datagram that does not fit, or that the kernel refuses, is dropped and counted.
//! 3. No error ends the socket: an ICMP message about one peer must not cost the others their service.
//! 4. The socket is not registered with the poll only while it is readable and its queue is empty: then it has its turns
//!    without an event. A registered UDP socket pays with each datagram that it sends: the kernel frees the datagram and
//!    wakes every waiter for room, and the poll always is one.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use log::warn;
use mio::event::Event;
use mio::net::UdpSocket;

use super::backoff::Backoff;
use super::readiness::Readiness;
use crate::id::{ServiceId, SocketId};
use crate::limits::{BACKOFF, BUSY_BATCHES, DATAGRAM_QUEUE, DATAGRAMS};
use crate::reactor::observe::recorder::Recorder;
use crate::reactor::sys::batch::{self, Batch, MessageHeaders, Transmit};
use crate::reactor::sys::open;
use crate::reactor::sys::outcome::Outcome;
use crate::service::{Connect, Errno, ListenOptions, Payload, Recipient, Span, Transmits};

/// A datagram that waits for room in the send buffer.
#[derive(Debug)]
struct Queued {
    headers: Transmit<'static>,
    payload: Vec<u8>,
}

/// A socket that datagrams come from and go to.
pub struct DatagramSocket {
    /// The socket.
    pub socket: UdpSocket,
    /// Its name in logs.
    pub name: &'static str,
    /// The socket is registered with the poll.
    pub registered: bool,
    /// `on_open` was called.
    pub is_open: bool,
    /// Its pause when memory is used up or an error lasts.
    pub backoff: Backoff,
    /// Full batches in a row.
    full_batches: u32,
    id: SocketId,
    service: ServiceId,
    readiness: Readiness,
    headers: MessageHeaders,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// The length of the queue that services know.
    published_bytes: usize,
    finishing: bool,
    /// The only peer of a connected socket (connect(2)).
    peer: Option<SocketAddr>,
    /// The result of a connect, until `on_connect` has reported it.
    connect_outcome: Option<Result<SocketAddr, Errno>>,
    /// The options of the socket, for the next connect.
    options: ListenOptions,
    /// An error that the service has not got yet. Several errors in one turn are one callback.
    failed: Option<Errno>,
    /// Nothing has been received since an error: the next error is not about a datagram that we sent.
    failing: bool,
}

/// The memory that a queued datagram costs besides its payload, in bytes.
const OVERHEAD: usize = size_of::<Queued>();

impl DatagramSocket {
    /// Returns a datagram socket of `service`, whose name is `name`.
    pub fn new(
        socket: UdpSocket,
        headers: MessageHeaders,
        id: SocketId,
        service: ServiceId,
        name: &'static str,
        peer: Option<SocketAddr>,
    ) -> Self {
        Self {
            headers,
            socket,
            name,
            registered: true,
            is_open: false,
            backoff: Backoff::Off,
            full_batches: 0,
            id,
            service,
            readiness: Readiness::WRITABLE_ONLY,
            queue: VecDeque::new(),
            queued_bytes: 0,
            published_bytes: 0,
            finishing: false,
            peer,
            connect_outcome: None,
            options: ListenOptions::default(),
            failed: None,
            failing: false,
        }
    }

    /// Returns the same with the options that the sockets of later connects get.
    #[must_use]
    pub fn with_options(self, options: &ListenOptions) -> Self {
        Self { options: options.clone(), ..self }
    }

    /// Replaces the socket, which is no longer registered, by a socket whose only peer is `connect.to`; returns its local
    /// address. Queued datagrams are dropped and counted: they were for the former peer.
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2), bind(2), connect(2) and getsockname(2). Then the socket has no peer.
    pub fn connect(&mut self, connect: Connect, recorder: &mut Recorder) -> io::Result<SocketAddr> {
        recorder.ledger.datagrams_dropped += self.queue.len() as u64;
        (self.queue, self.queued_bytes) = (VecDeque::new(), 0);
        (self.readiness, self.full_batches) = (Readiness::WRITABLE_ONLY, 0);
        (self.peer, self.failed, self.failing, self.backoff) = (None, None, false, Backoff::Off);
        // First the old socket is closed: it may hold the local port that the new socket is to have.
        self.socket = open::unbound_datagram(&self.options)?;
        let socket = open::connect_datagram(connect.to, connect.from, &self.options)?;
        let local = socket.local_addr()?;
        self.headers = MessageHeaders::new(&socket)?;
        (self.socket, self.peer) = (socket, Some(connect.to));
        Ok(local)
    }

    /// Returns the service.
    #[inline]
    pub fn service(&self) -> ServiceId {
        self.service
    }

    /// Keeps the result of a connect for the next turn.
    pub fn note_connect(&mut self, outcome: Result<SocketAddr, Errno>) {
        self.connect_outcome = Some(outcome);
    }

    /// Takes the result of a connect.
    pub fn take_connect_outcome(&mut self) -> Option<Result<SocketAddr, Errno>> {
        self.connect_outcome.take()
    }

    /// Takes the error that the service has not got yet.
    pub fn take_error(&mut self) -> Option<Errno> {
        self.failed.take()
    }

    /// Returns true if a callback may be due besides those for datagrams.
    #[inline]
    pub fn owes_callback(&self) -> bool {
        !self.is_open || self.connect_outcome.is_some() || self.failed.is_some() || !self.queue.is_empty()
    }

    /// Takes the length of the queue in bytes, if it has changed since the last call.
    #[inline]
    pub fn take_unpublished(&mut self) -> Option<usize> {
        let has_changed = self.queued_bytes != self.published_bytes;
        self.published_bytes = self.queued_bytes;
        has_changed.then_some(self.queued_bytes)
    }

    /// Returns the known readiness.
    pub fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// Sets the known readiness.
    #[cfg(test)]
    pub fn set_readiness(&mut self, readiness: Readiness) {
        self.readiness = readiness;
    }

    /// Returns the number of queued datagrams, and their bytes.
    pub fn queued(&self) -> (usize, usize) {
        (self.queue.len(), self.queued_bytes)
    }

    /// Records the readiness that an event announces.
    pub fn note(&mut self, event: &Event) {
        self.readiness.note(event);
    }

    /// Returns true if there is work to do now.
    pub fn wants_turn(&self) -> bool {
        let receives = self.readiness.readable() && !self.finishing;
        let sends = self.readiness.writable() && !self.queue.is_empty();
        // A registration that has failed is tried again after each back-off.
        !self.backoff.is_pausing()
            && (receives
                || sends
                || self.is_over()
                || self.failed.is_some()
                || self.connect_outcome.is_some()
                || !self.registered)
    }

    /// Returns true if the socket is to be registered: always, unless it is never found empty.
    pub fn wants_registration(&self) -> bool {
        self.full_batches < BUSY_BATCHES || !self.readiness.readable() || !self.queue.is_empty()
    }

    /// Makes the next turn the last in which the socket receives.
    pub fn finish(&mut self) {
        self.finishing = true;
    }

    /// Returns true if the next turn is the last in which the socket receives.
    #[inline]
    pub fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// Returns true if the socket is finished and its queue is empty.
    pub fn is_over(&self) -> bool {
        self.finishing && self.queue.is_empty()
    }

    /// Receives one batch. Returns true if datagrams have arrived.
    pub fn receive(&mut self, batch: &mut Batch, recorder: &mut Recorder) -> bool {
        if !self.readiness.readable() || self.backoff.is_pausing() {
            return false;
        }
        let outcome = batch.receive(&self.socket, &mut self.headers, self.id.into(), recorder);
        self.full_batches = if outcome == Outcome::Done(DATAGRAMS) { self.full_batches + 1 } else { 0 };
        match outcome {
            Outcome::Done(DATAGRAMS) => {}
            Outcome::Done(_) => self.readiness.read_blocked(),
            Outcome::Blocked => {
                self.failing = false;
                self.readiness.read_blocked();
                return false;
            }
            Outcome::Failed(errno) => {
                self.receive_failed(errno);
                return false;
            }
        }
        self.failing = false;
        self.backoff.succeeded();
        true
    }

    /// A receive has failed. That takes an ICMP error about an earlier datagram from the socket. It does not take a lack of
    /// kernel memory, nor an error that comes again at once (a security module that forbids to receive).
    fn receive_failed(&mut self, errno: Errno) {
        self.readiness.error_taken();
        let lasts = std::mem::replace(&mut self.failing, true);
        let out_of_memory = matches!(errno.0, libc::ENOMEM | libc::ENOBUFS);
        if !out_of_memory {
            self.failed = Some(errno);
        }
        if (out_of_memory || lasts) && self.backoff.begin() {
            warn!("{}: cannot receive: {errno}; trying again every {BACKOFF:?}", self.name);
        }
    }

    /// Sends a part of the transmits of a callback; datagrams that the kernel does not take are queued.
    pub fn transmit(&mut self, batch: &Batch, recorded: &Transmits, part: Span, recorder: &mut Recorder) {
        let list = &recorded.as_slice()[part.start..part.end];
        let mut transmits = Vec::with_capacity(list.len());
        transmits.extend(list.iter().filter_map(|transmit| {
            let payload = match transmit.payload {
                Payload::Received(n) => batch.payload(n),
                Payload::Bytes(span) => recorded.bytes(span),
            };
            let to = match (transmit.to, self.peer) {
                (Recipient::SenderOf(n), None) => return Some(batch.answer(n, payload)),
                (Recipient::Address(addr), None) => Some(addr),
                // A connected socket sends to its peer alone.
                (Recipient::Address(addr), Some(peer)) if addr != peer => return None,
                _ => None,
            };
            Some(Transmit { to, local: batch::Local::Bound, payload })
        }));
        let refused = list.len() - transmits.len();
        if refused > 0 {
            recorder.ledger.datagrams_dropped += refused as u64;
            self.failed = Some(Errno(libc::EISCONN));
        }
        let mut rest = transmits.as_slice();
        while !rest.is_empty() && self.queue.is_empty() && self.readiness.writable() {
            rest = &rest[self.send(rest, recorder)..];
        }
        for transmit in rest {
            self.enqueue(transmit, recorder);
        }
    }

    /// Sends the first of `transmits`; returns the number of those that are sent or dropped.
    fn send(&mut self, transmits: &[Transmit<'_>], recorder: &mut Recorder) -> usize {
        let mut outcome = batch::send(&self.socket, &mut self.headers, transmits, self.id.into(), recorder);
        if let (Outcome::Failed(errno), Some(_)) = (outcome, self.peer) {
            // On a connected socket the error may be about an earlier datagram; this call has taken it.
            self.failed = Some(errno);
            outcome = batch::send(&self.socket, &mut self.headers, transmits, self.id.into(), recorder);
        }
        match outcome {
            Outcome::Done(n) => n,
            Outcome::Blocked => {
                self.readiness.write_blocked();
                0
            }
            // The first datagram cannot be sent: too long, no route, forbidden. The next one may be well.
            Outcome::Failed(errno) => {
                recorder.ledger.datagrams_dropped += 1;
                self.failed = Some(errno);
                1
            }
        }
    }

    fn enqueue(&mut self, transmit: &Transmit<'_>, recorder: &mut Recorder) {
        let bytes = transmit.payload.len() + OVERHEAD;
        if self.queued_bytes + bytes > DATAGRAM_QUEUE {
            recorder.ledger.datagrams_dropped += 1;
            return;
        }
        self.queued_bytes += bytes;
        let headers = Transmit { to: transmit.to, local: transmit.local, payload: &[] };
        self.queue.push_back(Queued { headers, payload: transmit.payload.to_vec() });
    }

    /// Sends the queue, oldest first, until the kernel takes no more. Returns true if the queue is empty after that, and was
    /// not before.
    pub fn flush(&mut self, recorder: &mut Recorder) -> bool {
        if self.queue.is_empty() {
            return false;
        }
        while self.readiness.writable() && !self.queue.is_empty() {
            let queue = std::mem::take(&mut self.queue);
            let transmits: Vec<_> = queue
                .iter()
                .take(DATAGRAMS)
                .map(|queued| Transmit { payload: &queued.payload, ..queued.headers })
                .collect();
            let done = self.send(&transmits, recorder);
            drop(transmits);
            self.queue = queue;
            for sent in self.queue.drain(..done) {
                self.queued_bytes -= sent.payload.len() + OVERHEAD;
            }
        }
        if !self.queue.is_empty() {
            return false;
        }
        self.queue = VecDeque::new();
        true
    }
}

impl fmt::Debug for DatagramSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramSocket").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::id::SourceId;
    use crate::reactor::sys::open::bind_datagram;

    fn socket(name: &'static str) -> DatagramSocket {
        let socket = bind_datagram(([127, 0, 0, 1], 0).into(), &ListenOptions::default()).unwrap();
        let id = SocketId::of(SourceId::new(0, NonZeroU32::MIN));
        let headers = MessageHeaders::new(&socket).unwrap();
        DatagramSocket::new(socket, headers, id, ServiceId::new(0, 0), name, None)
    }

    #[test]
    fn datagrams_are_queued_while_the_kernel_is_full() {
        let mut socket = socket("drained");
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = peer.local_addr().unwrap();
        let (batch, mut recorder) = (Batch::default(), Recorder::default());

        // A full send buffer is a matter of the link: the loopback has none.
        socket.readiness.write_blocked();
        let mut transmits = Transmits::default();
        for text in [&b"first"[..], b"second"] {
            transmits.write(Recipient::Address(to), text);
        }
        for n in 0..2 {
            socket.transmit(&batch, &transmits, Span { start: n, end: n + 1 }, &mut recorder);
        }
        assert_eq!(socket.queued(), (2, 11 + 2 * OVERHEAD));
        assert_eq!((socket.take_unpublished(), socket.take_unpublished()), (Some(11 + 2 * OVERHEAD), None));
        assert!(!socket.wants_turn());
        assert!(!socket.flush(&mut recorder), "the kernel is still full");

        socket.readiness = Readiness::WRITABLE_ONLY;
        assert!(socket.wants_turn() && socket.owes_callback());
        assert!(socket.flush(&mut recorder), "the queue is empty");
        assert!(!socket.flush(&mut recorder), "the queue was empty before");
        assert_eq!((socket.queued(), socket.take_unpublished()), ((0, 0), Some(0)));
        let mut buffer = [0; 16];
        for text in [&b"first"[..], b"second"] {
            let n = peer.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], text);
        }
    }

    #[test]
    fn a_lack_of_memory_pauses_the_socket_and_is_warned_of_once() {
        let mut socket = socket("tired");
        socket.readiness.assume_readable();
        assert!(socket.wants_turn());
        socket.receive_failed(Errno(libc::ENOMEM));
        assert!(!socket.wants_turn() && socket.backoff.take_request() && !socket.backoff.take_request());
        socket.backoff.end();
        assert!(socket.wants_turn());
        assert!(!socket.backoff.begin(), "a second warning");
        socket.backoff.end();
        socket.backoff.succeeded();
        assert!(socket.backoff.begin(), "no warning of a new shortage");
    }

    #[test]
    fn an_error_that_lasts_pauses_the_socket_and_reaches_the_service_each_time() {
        let mut socket = socket("forbidden");
        let (mut batch, mut recorder) = (Batch::default(), Recorder::default());
        socket.readiness.assume_readable();
        socket.receive_failed(Errno(libc::ECONNREFUSED));
        assert!(
            socket.wants_turn() && socket.failed.take().is_some(),
            "the first error may be about a datagram that was sent"
        );
        socket.receive_failed(Errno(libc::ECONNREFUSED));
        assert!(socket.backoff.take_request() && socket.failed.take().is_some());
        socket.backoff.end();
        // Between two datagrams that are refused, the socket is found empty.
        assert!(!socket.receive(&mut batch, &mut recorder));
        assert!(!socket.readiness.readable());
        socket.readiness.assume_readable();
        socket.receive_failed(Errno(libc::ECONNREFUSED));
        assert!(socket.wants_turn());
    }
}
