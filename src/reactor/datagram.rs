//! A datagram socket: its service, its readiness, and the queue of what the kernel would not take yet.
//!
//! Owns: [`DatagramSocket`]. Must not know: how a batch is received or sent.
//!
//! Invariants:
//! 1. One datagram in, one callback; one letter, one datagram out, in order.
//! 2. The queue is bounded; what does not fit, or what the kernel refuses to send, is dropped and counted.
//! 3. No error ends the socket: an ICMP message about one peer must not cost the others their service.
//! 4. It is not watched (registered with the poll) only while it is readable and nothing waits: then it has its turns
//!    without being told. A watched UDP socket pays for that with each datagram that it sends: the kernel frees the
//!    datagram and wakes whoever might wait for the room, and the poll always might.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use mio::event::Event;
use mio::net::UdpSocket;

use super::batch::{self, Batch, Lane, Outgoing};
use super::readiness::Readiness;
use super::recorder::Recorder;
use super::socket::Outcome;
use crate::id::SourceId;
use crate::limits::{BUSY_BATCHES, DATAGRAM_QUEUE, DATAGRAMS, LAST_BATCHES};
use crate::service::{DatagramContext, DatagramOutbox, DatagramService, Payload, Recipient};
use crate::timer::Time;

/// A letter that waits for room in the send buffer.
#[derive(Debug)]
struct Waiting {
    envelope: Outgoing<'static>,
    payload: Vec<u8>,
}

/// A socket that datagrams come from and go to.
pub struct DatagramSocket {
    /// The socket.
    pub socket: UdpSocket,
    /// Its name in logs.
    pub name: &'static str,
    /// It stands in a ready queue.
    pub queued: bool,
    /// It is registered with the poll.
    pub watched: bool,
    /// Full batches in a row.
    full_batches: u32,
    id: SourceId,
    service: Box<dyn DatagramService>,
    readiness: Readiness,
    lane: Lane,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    finishing: bool,
}

/// A waiting letter costs its payload and about this much besides.
const ENVELOPE: usize = size_of::<Waiting>();

impl DatagramSocket {
    /// A datagram socket that `service` speaks on.
    ///
    /// # Errors
    /// Those of [`Lane::new`].
    pub fn new(
        socket: UdpSocket,
        id: SourceId,
        name: &'static str,
        service: Box<dyn DatagramService>,
    ) -> io::Result<Self> {
        Ok(Self {
            lane: Lane::new(&socket)?,
            socket,
            name,
            queued: false,
            watched: true,
            full_batches: 0,
            id,
            service,
            readiness: Readiness::WRITABLE_ONLY,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            finishing: false,
        })
    }

    /// What is known of its readiness.
    pub fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// Letters that wait for the kernel, and their bytes.
    pub fn waiting(&self) -> (usize, usize) {
        (self.waiting.len(), self.waiting_bytes)
    }

    /// Adds what an event says.
    pub fn note(&mut self, event: &Event) {
        self.readiness.note(event);
    }

    /// Whether there is anything to do.
    pub fn wants_turn(&self) -> bool {
        let receives = self.readiness.readable() && !self.finishing;
        // One that should be watched and could not be is asked each time.
        receives || (self.readiness.writable() && !self.waiting.is_empty()) || !self.watched
    }

    /// Whether it shall be watched: always, but for a socket that is never found empty.
    pub fn wants_watch(&self) -> bool {
        self.full_batches < BUSY_BATCHES || !self.readiness.readable() || !self.waiting.is_empty()
    }

    /// The next turn is the last in which it receives.
    pub fn finish(&mut self) {
        self.finishing = true;
    }

    /// Whether it has been finished and nothing is waiting any more.
    pub fn is_over(&self) -> bool {
        self.finishing && self.waiting.is_empty()
    }

    /// One turn: send what waits, receive one batch, send what it has given rise to. The last turn takes all that has
    /// arrived, within a bound.
    pub fn work(&mut self, batch: &mut Batch, outbox: &mut DatagramOutbox, now: Time, recorder: &mut Recorder) {
        self.flush(recorder);
        let batches = if self.finishing { LAST_BATCHES } else { 1 };
        for _ in 0..batches {
            if self.readiness.readable() {
                self.receive(batch, outbox, now, recorder);
            }
        }
    }

    fn receive(&mut self, batch: &mut Batch, outbox: &mut DatagramOutbox, now: Time, recorder: &mut Recorder) {
        let outcome = batch.receive(&self.socket, &mut self.lane, self.id, recorder);
        self.full_batches = if outcome == Outcome::Done(DATAGRAMS) { self.full_batches + 1 } else { 0 };
        match outcome {
            Outcome::Done(DATAGRAMS) => {}
            Outcome::Done(_) => self.readiness.read_blocked(),
            Outcome::Blocked => return self.readiness.read_blocked(),
            // An ICMP error about an earlier answer: taking it was all there was to do.
            Outcome::Failed(_) => return self.readiness.error_taken(),
        }
        for n in 0..batch.len() {
            let Some(sender) = batch.sender(n) else { continue };
            let mut ctx = DatagramContext::new(now, n, sender, outbox);
            self.service.on_datagram(&mut ctx, batch.payload(n));
        }
        self.post(batch, outbox, recorder);
        outbox.clear();
    }

    /// Sends the letters of a batch; what the kernel does not take waits.
    fn post(&mut self, batch: &Batch, outbox: &DatagramOutbox, recorder: &mut Recorder) {
        let mail = outbox.letters().iter().map(|letter| {
            let payload = match letter.payload {
                Payload::Received(n) => batch.payload(n),
                Payload::Bytes(span) => outbox.bytes(span),
            };
            match letter.to {
                Recipient::SenderOf(n) => batch.answer(n, payload),
                Recipient::Address(addr) => {
                    Outgoing { to: batch::to_storage(addr), local: batch::Local::Bound, payload }
                }
            }
        });
        let mail: Vec<_> = mail.collect();
        let mut rest = mail.as_slice();
        while !rest.is_empty() && self.waiting.is_empty() && self.readiness.writable() {
            rest = &rest[self.send(rest, recorder)..];
        }
        for outgoing in rest {
            self.wait(outgoing, recorder);
        }
    }

    /// Sends a few of `mail`; returns how many are done with, sent or dropped.
    fn send(&mut self, mail: &[Outgoing<'_>], recorder: &mut Recorder) -> usize {
        match batch::send(&self.socket, &mut self.lane, mail, self.id, recorder) {
            Outcome::Done(n) => n,
            Outcome::Blocked => {
                self.readiness.write_blocked();
                0
            }
            // The first one cannot be sent: too long, no route, forbidden. The next one may be well.
            Outcome::Failed(_) => {
                recorder.ledger.datagrams_dropped += 1;
                1
            }
        }
    }

    fn wait(&mut self, outgoing: &Outgoing<'_>, recorder: &mut Recorder) {
        let bytes = outgoing.payload.len() + ENVELOPE;
        if self.waiting_bytes + bytes > DATAGRAM_QUEUE {
            recorder.ledger.datagrams_dropped += 1;
            return;
        }
        self.waiting_bytes += bytes;
        let envelope = Outgoing { to: outgoing.to, local: outgoing.local, payload: &[] };
        self.waiting.push_back(Waiting { envelope, payload: outgoing.payload.to_vec() });
    }

    /// Sends what waits, oldest first, until the kernel takes no more.
    fn flush(&mut self, recorder: &mut Recorder) {
        while self.readiness.writable() && !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            let mail: Vec<_> = waiting
                .iter()
                .take(DATAGRAMS)
                .map(|letter| Outgoing { payload: &letter.payload, ..letter.envelope })
                .collect();
            let done = self.send(&mail, recorder);
            drop(mail);
            self.waiting = waiting;
            for letter in self.waiting.drain(..done) {
                self.waiting_bytes -= letter.payload.len() + ENVELOPE;
            }
        }
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
    }
}

impl fmt::Debug for DatagramSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramSocket").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}
