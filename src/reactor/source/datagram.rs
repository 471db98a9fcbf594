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
use std::net::SocketAddr;

use log::warn;
use mio::event::Event;
use mio::net::UdpSocket;

use crate::id::SourceId;
use crate::limits::{BUSY_BATCHES, DATAGRAM_QUEUE, DATAGRAMS, LAST_BATCHES, REST};
use crate::reactor::observe::recorder::Recorder;
use crate::reactor::source::readiness::Readiness;
use crate::reactor::sys::batch::{self, Batch, Lane, Outgoing};
use crate::reactor::sys::open::{self, ListenOptions};
use crate::reactor::sys::stream::Outcome;
use crate::service::{Connect, DatagramContext, DatagramService, Errno, Payload, Recipient, SocketContext};

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
    /// Its only peer, if it has one (connect(2)).
    peer: Option<SocketAddr>,
    /// The result of a connect, until `on_connect` has reported it.
    connect_outcome: Option<Result<SocketAddr, Errno>>,
    /// The options of its socket, for a connect.
    options: ListenOptions,
    /// An error that its service has not been told yet; several in one turn are told as one.
    failed: Option<Errno>,
    /// Nothing has been received since an error: another one is no news about a letter.
    failing: bool,
    rest: Rest,
}

/// Whether the socket has been left alone, for want of memory or because an error lasts: there will be no event when
/// that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rest {
    /// All is well.
    No,
    /// It shall rest; the alarm is not set yet.
    Wanted,
    /// It rests until the alarm.
    Resting,
    /// It has rested and tries again.
    Tried,
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
        peer: Option<SocketAddr>,
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
            peer,
            connect_outcome: None,
            options: ListenOptions::default(),
            failed: None,
            failing: false,
            rest: Rest::No,
        })
    }

    /// The same with the options that sockets of later connects get.
    #[must_use]
    pub fn with_options(self, options: &ListenOptions) -> Self {
        Self { options: options.clone(), ..self }
    }

    /// Replaces the socket, which is no longer registered, by one whose only peer is `connect.to`; returns its local address.
    /// Letters that wait are dropped and counted: they were meant for the former peer.
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2), bind(2), connect(2) and getsockname(2). The socket has no peer then.
    pub fn connect(&mut self, connect: Connect, recorder: &mut Recorder) -> io::Result<SocketAddr> {
        recorder.ledger.datagrams_dropped += self.waiting.len() as u64;
        (self.waiting, self.waiting_bytes) = (VecDeque::new(), 0);
        (self.readiness, self.full_batches) = (Readiness::WRITABLE_ONLY, 0);
        (self.peer, self.failed, self.failing, self.rest) = (None, None, false, Rest::No);
        // First the old socket is closed: it may hold the local port that the new one is to have.
        self.socket = open::unbound_datagram(&self.options)?;
        let socket = open::connect_datagram(connect.to, connect.from, &self.options)?;
        let local = socket.local_addr()?;
        self.lane = Lane::new(&socket)?;
        (self.socket, self.peer) = (socket, Some(connect.to));
        Ok(local)
    }

    /// Keeps the result of a connect for the next turn.
    pub fn note_connect(&mut self, outcome: Result<SocketAddr, Errno>) {
        self.connect_outcome = Some(outcome);
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
        let sends = self.readiness.writable() && !self.waiting.is_empty();
        // One that should be watched and could not be tries again after each rest.
        !self.is_resting()
            && (receives || sends || self.failed.is_some() || self.connect_outcome.is_some() || !self.watched)
    }

    /// It rests. Says whether that is news.
    pub fn rest(&mut self) -> bool {
        let before = std::mem::replace(&mut self.rest, Rest::Wanted);
        before == Rest::No
    }

    /// Whether it rests, or is about to.
    pub fn is_resting(&self) -> bool {
        matches!(self.rest, Rest::Wanted | Rest::Resting)
    }

    /// Whether its rest begins now: the caller sets the alarm.
    pub fn begins_rest(&mut self) -> bool {
        let begins = self.rest == Rest::Wanted;
        if begins {
            self.rest = Rest::Resting;
        }
        begins
    }

    /// What it had rested for has succeeded.
    pub fn recovered(&mut self) {
        self.rest = Rest::No;
    }

    /// The alarm has rung.
    pub fn wake(&mut self) {
        self.rest = Rest::Tried;
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
    pub fn work(&mut self, batch: &mut Batch, ctx: &mut SocketContext, recorder: &mut Recorder) {
        if let Some(outcome) = self.connect_outcome.take() {
            self.call(batch, ctx, recorder, |service, ctx| service.on_connect(ctx, outcome));
        }
        if let Some(errno) = self.failed.take() {
            self.call(batch, ctx, recorder, |service, ctx| service.on_error(ctx, errno));
        }
        if !self.waiting.is_empty() {
            self.flush(recorder);
            if self.waiting.is_empty() {
                self.call(batch, ctx, recorder, |service, ctx| service.on_drain(ctx));
            }
        }
        let batches = if self.finishing { LAST_BATCHES } else { 1 };
        for _ in 0..batches {
            if self.readiness.readable() && !self.is_resting() {
                self.receive(batch, ctx, recorder);
            }
        }
    }

    /// Calls the service, and sends what it says.
    pub fn call(
        &mut self,
        batch: &Batch,
        ctx: &mut SocketContext,
        recorder: &mut Recorder,
        callback: impl FnOnce(&mut dyn DatagramService, &mut SocketContext),
    ) {
        ctx.set_congested(!self.waiting.is_empty());
        callback(self.service.as_mut(), ctx);
        self.post(batch, ctx, recorder);
    }

    fn receive(&mut self, batch: &mut Batch, ctx: &mut SocketContext, recorder: &mut Recorder) {
        let outcome = batch.receive(&self.socket, &mut self.lane, self.id, recorder);
        self.full_batches = if outcome == Outcome::Done(DATAGRAMS) { self.full_batches + 1 } else { 0 };
        match outcome {
            Outcome::Done(DATAGRAMS) => {}
            Outcome::Done(_) => self.readiness.read_blocked(),
            Outcome::Blocked => {
                self.failing = false;
                return self.readiness.read_blocked();
            }
            Outcome::Failed(errno) => return self.receive_failed(errno),
        }
        self.failing = false;
        self.recovered();
        self.call(batch, ctx, recorder, |service, ctx| {
            for n in 0..batch.len() {
                let Some(sender) = batch.sender(n) else { continue };
                service.on_datagram(&mut DatagramContext::new(ctx, n, sender), batch.payload(n));
            }
        });
    }

    /// Nothing has been received. An ICMP error about an earlier letter is taken by that; the kernel's want of memory
    /// is not, nor is what comes again at once (a security module that forbids to receive).
    fn receive_failed(&mut self, errno: Errno) {
        self.readiness.error_taken();
        let lasts = std::mem::replace(&mut self.failing, true);
        let wants_memory = matches!(errno.0, libc::ENOMEM | libc::ENOBUFS);
        if !wants_memory {
            self.failed = Some(errno);
        }
        if (wants_memory || lasts) && self.rest() {
            warn!("{}: cannot receive: {errno}; trying again every {REST:?}", self.name);
        }
    }

    /// Sends the letters of a call; what the kernel does not take waits.
    fn post(&mut self, batch: &Batch, ctx: &mut SocketContext, recorder: &mut Recorder) {
        let outbox = ctx.outbox();
        if outbox.letters().is_empty() {
            return;
        }
        let mut mail = Vec::with_capacity(outbox.letters().len());
        mail.extend(outbox.letters().iter().filter_map(|letter| {
            let payload = match letter.payload {
                Payload::Received(n) => batch.payload(n),
                Payload::Bytes(span) => outbox.bytes(span),
            };
            let to = match (letter.to, self.peer) {
                (Recipient::SenderOf(n), None) => return Some(batch.answer(n, payload)),
                (Recipient::Address(addr), None) => Some(addr),
                // One that has a peer sends to nobody else.
                (Recipient::Address(addr), Some(peer)) if addr != peer => return None,
                _ => None,
            };
            Some(Outgoing { to, local: batch::Local::Bound, payload })
        }));
        let refused = outbox.letters().len() - mail.len();
        if refused > 0 {
            recorder.ledger.datagrams_dropped += refused as u64;
            self.failed = Some(Errno(libc::EISCONN));
        }
        let mut rest = mail.as_slice();
        while !rest.is_empty() && self.waiting.is_empty() && self.readiness.writable() {
            rest = &rest[self.send(rest, recorder)..];
        }
        for outgoing in rest {
            self.wait(outgoing, recorder);
        }
        ctx.outbox_mut().clear_letters();
    }

    /// Sends a few of `mail`; returns how many are done with, sent or dropped.
    fn send(&mut self, mail: &[Outgoing<'_>], recorder: &mut Recorder) -> usize {
        let mut outcome = batch::send(&self.socket, &mut self.lane, mail, self.id, recorder);
        if let (Outcome::Failed(errno), Some(_)) = (outcome, self.peer) {
            // On a connected socket this may be what has become of an earlier letter; it has been taken by that.
            self.failed = Some(errno);
            outcome = batch::send(&self.socket, &mut self.lane, mail, self.id, recorder);
        }
        match outcome {
            Outcome::Done(n) => n,
            Outcome::Blocked => {
                self.readiness.write_blocked();
                0
            }
            // The first one cannot be sent: too long, no route, forbidden. The next one may be well.
            Outcome::Failed(errno) => {
                recorder.ledger.datagrams_dropped += 1;
                self.failed = Some(errno);
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::reactor::sys::open::bind_datagram;

    /// Says whether it was congested when it was called.
    struct Drained(Sender<bool>);

    impl DatagramService for Drained {
        fn on_datagram(&mut self, _: &mut DatagramContext<'_>, _: &[u8]) {}

        fn on_drain(&mut self, ctx: &mut SocketContext) {
            self.0.send(ctx.is_congested()).unwrap();
        }
    }

    #[test]
    fn letters_wait_while_the_kernel_is_full_and_their_service_is_told_when_they_are_gone() {
        let socket = bind_datagram(([127, 0, 0, 1], 0).into(), &ListenOptions::default()).unwrap();
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = peer.local_addr().unwrap();
        let (sender, drained) = channel();
        let id = SourceId::new(0, NonZeroU32::MIN);
        let mut socket = DatagramSocket::new(socket, id, "drained", Box::new(Drained(sender)), None).unwrap();
        let (mut batch, mut ctx, mut recorder) = (Batch::default(), SocketContext::new(), Recorder::default());

        // A full send buffer is a matter of the link: the loopback has none.
        socket.readiness.write_blocked();
        for text in [&b"first"[..], b"second"] {
            socket.call(&batch, &mut ctx, &mut recorder, |_, ctx| ctx.send_to(to, text));
        }
        socket.call(&batch, &mut ctx, &mut recorder, |_, ctx| assert!(ctx.is_congested()));
        assert_eq!(socket.waiting(), (2, 11 + 2 * ENVELOPE));
        assert!(!socket.wants_turn());

        socket.readiness = Readiness::WRITABLE_ONLY;
        assert!(socket.wants_turn());
        socket.work(&mut batch, &mut ctx, &mut recorder);
        assert_eq!(socket.waiting(), (0, 0));
        assert_eq!(drained.try_iter().collect::<Vec<_>>(), [false]);
        let mut buffer = [0; 16];
        for text in [&b"first"[..], b"second"] {
            let n = peer.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], text);
        }
    }

    #[test]
    fn want_of_memory_is_rested_from_and_told_once() {
        let socket = bind_datagram(([127, 0, 0, 1], 0).into(), &ListenOptions::default()).unwrap();
        let (sender, _) = channel();
        let id = SourceId::new(0, NonZeroU32::MIN);
        let mut socket = DatagramSocket::new(socket, id, "tired", Box::new(Drained(sender)), None).unwrap();
        socket.readiness.suppose_readable();
        assert!(socket.wants_turn());
        socket.receive_failed(Errno(libc::ENOMEM));
        assert!(!socket.wants_turn() && socket.begins_rest() && !socket.begins_rest());
        socket.wake();
        assert!(socket.wants_turn());
        assert!(!socket.rest(), "told twice");
        socket.wake();
        socket.recovered();
        assert!(socket.rest(), "not told again after all was well");
    }

    #[test]
    fn an_error_that_lasts_is_rested_from_and_told_each_time() {
        let socket = bind_datagram(([127, 0, 0, 1], 0).into(), &ListenOptions::default()).unwrap();
        let (sender, _) = channel();
        let id = SourceId::new(0, NonZeroU32::MIN);
        let mut socket = DatagramSocket::new(socket, id, "forbidden", Box::new(Drained(sender)), None).unwrap();
        let (mut batch, mut ctx, mut recorder) = (Batch::default(), SocketContext::new(), Recorder::default());
        socket.readiness.suppose_readable();
        socket.receive_failed(Errno(libc::ECONNREFUSED));
        assert!(socket.wants_turn() && socket.failed.take().is_some(), "one may be about a letter");
        socket.receive_failed(Errno(libc::ECONNREFUSED));
        assert!(socket.begins_rest() && socket.failed.take().is_some());
        socket.wake();
        // Between two letters that are refused, the socket is found empty.
        socket.receive(&mut batch, &mut ctx, &mut recorder);
        assert!(!socket.readiness.readable());
        socket.readiness.suppose_readable();
        socket.receive_failed(Errno(libc::ECONNREFUSED));
        assert!(socket.wants_turn());
    }
}
