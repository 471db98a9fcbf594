//! Calls a service without a reactor and returns the recorded commands.
//!
//! Owns: [`Probe`] and [`SentDatagram`]. For the tests of services, here and in other crates.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use super::command::{Command, Span};
use super::context::{Context, DatagramContext, ServiceContext, SocketContext};
use super::datagram::{Payload, Recipient, Transmits};
use super::dial::Dial;
use super::directory::{ConnectionFacts, SocketFacts};
use super::outbox::Outbox;
use crate::addr::Addr;
use crate::id::{ConnId, SocketId, SourceId};

/// The local address of every connection and datagram socket.
const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 7);

/// The ids of connections that a test chooses have lower slots than this, so that no dial gets one of them.
const CHOSEN: u32 = 128;

/// The number of slots above [`CHOSEN`] for the sockets that a test chooses.
const CHOSEN_SOCKETS: u32 = 16;

/// A datagram that has arrived: its sender and its payload.
type Received<'a> = (SocketAddr, &'a [u8]);

/// A datagram that a service has sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SentDatagram {
    /// The socket.
    pub by: SocketId,
    /// The recipient; `None` for the peer of a connected socket.
    pub to: Option<SocketAddr>,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// A test double of the reactor: makes contexts and keeps the commands.
///
/// ```
/// use reactor::service::{Command, Probe, Service};
/// use reactor::services::Discard;
///
/// let mut probe = Probe::new();
/// let one = Probe::id(1);
/// assert_eq!(probe.on(one, |ctx| Discard.on_data(ctx, b"hello")), 5);
/// probe.on(one, |ctx| Discard.on_eof(ctx, b""));
/// assert_eq!(probe.take_commands(), [Command::Finish { of: one }]);
/// ```
///
/// A service on datagrams:
///
/// ```
/// use reactor::service::{DatagramService, Probe};
/// use reactor::services::EchoUdp;
///
/// let mut probe = Probe::new();
/// let (socket, sender) = (Probe::socket(1), ([127, 0, 0, 1], 9).into());
/// probe.on_datagram(socket, sender, b"hello", |ctx, payload| EchoUdp.on_datagram(ctx, payload));
/// let sent = probe.take_datagrams();
/// assert_eq!((sent[0].by, sent[0].to, &sent[0].payload[..]), (socket, Some(sender), &b"hello"[..]));
/// ```
#[derive(Debug)]
pub struct Probe {
    context: ServiceContext,
    room: usize,
    queued: usize,
    datagrams: Vec<SentDatagram>,
    /// The number of datagrams of [`Command::Transmit`] that are in `datagrams`.
    transmits: usize,
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

impl Probe {
    /// Returns a probe at time zero. Its connections are never congested, and its wall clock shows 1970-01-01 00:00:00 UTC.
    pub fn new() -> Self {
        let mut context = ServiceContext::new(|| SystemTime::UNIX_EPOCH);
        context.directory_mut().reserve(CHOSEN + CHOSEN_SOCKETS);
        Self { context, room: usize::MAX, queued: 0, datagrams: Vec::new(), transmits: 0 }
    }

    /// Returns an id for the connection number `n`, which is below 128 in a test with dials.
    pub fn id(n: u32) -> ConnId {
        ConnId::new(n, NonZeroU32::MIN)
    }

    /// Returns an id for the datagram socket number `n`, which is below 16.
    pub fn socket(n: u32) -> SocketId {
        SocketId::of(SourceId::new(CHOSEN + n, NonZeroU32::MIN))
    }

    /// Advances the clock.
    pub fn advance(&mut self, by: Duration) {
        self.context.set_now(self.context.now() + by);
    }

    /// Lets [`ServiceContext::is_stopping`] return true from now on.
    pub fn set_stopping(&mut self) {
        self.context.set_stopping();
    }

    /// Sets the room for output that the next callbacks find, in bytes.
    pub fn set_room(&mut self, bytes: usize) {
        self.room = bytes;
    }

    /// Sets the queued output that the next callbacks find, in bytes. A datagram socket with queued output is congested.
    pub fn set_queued(&mut self, bytes: usize) {
        self.queued = bytes;
    }

    /// Makes a callback about the connection `id`, which is live from then on. A connection that was not dialed has port
    /// 40000 plus its number at the peer; the local port is 7.
    pub fn on<R>(&mut self, id: ConnId, callback: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let peer = Addr::from(([127, 0, 0, 1], 40_000u16.wrapping_add(id.slot() as u16)));
        let peer = self.context.directory().get(id).map_or(peer, |facts| facts.peer.clone());
        let mut facts = ConnectionFacts::new(peer, Addr::from(LOCAL), self.room.saturating_add(self.queued));
        facts.queued = self.queued;
        self.context.directory_mut().place(id, facts);
        let result = callback(&mut Context::new(&mut self.context, id));
        self.note_datagrams(None);
        result
    }

    /// Makes a callback about the datagram socket `id`, which is open from then on. Its local port is 7.
    pub fn on_socket<R>(&mut self, id: SocketId, callback: impl FnOnce(&mut SocketContext<'_>) -> R) -> R {
        self.begin(id);
        let result = callback(&mut SocketContext::new(&mut self.context, id));
        self.note_datagrams(Some((id, None)));
        result
    }

    /// Makes a callback about a datagram that has arrived at the socket `id` from `sender`. The callback gets `payload`.
    pub fn on_datagram<R>(
        &mut self,
        id: SocketId,
        sender: SocketAddr,
        payload: &[u8],
        callback: impl FnOnce(&mut DatagramContext<'_>, &[u8]) -> R,
    ) -> R {
        self.begin(id);
        let result = callback(&mut DatagramContext::new(&mut self.context, id, 0, sender), payload);
        self.note_datagrams(Some((id, Some((sender, payload)))));
        result
    }

    /// Begins a callback about a datagram socket.
    fn begin(&mut self, id: SocketId) {
        let local = self.context.directory().socket(id).map_or(LOCAL.into(), |facts| facts.local);
        let facts = SocketFacts { local, queued: self.queued };
        self.context.directory_mut().place_socket(id, facts);
        self.context.outbox_mut().begin_transmits(id);
    }

    /// After a callback: keeps the datagrams that it has sent. The reactor sends those of the socket at hand first, too.
    fn note_datagrams(&mut self, at_hand: Option<(SocketId, Option<Received<'_>>)>) {
        let outbox = self.context.outbox();
        if let Some((by, received)) = at_hand {
            let all = Span::of(outbox.transmits().as_slice());
            self.datagrams.extend(sent(by, outbox.transmits(), all, received));
        }
        for command in outbox.commands() {
            if let Command::Transmit { of, transmits: Span { start, end } } = *command {
                let new = Span { start: start.max(self.transmits).min(end), end };
                self.datagrams.extend(sent(of, outbox.other_transmits(), new, None));
            }
        }
        self.transmits = outbox.other_transmits().as_slice().len();
        self.context.outbox_mut().end_transmits();
    }

    /// Marks a connection as ended: [`ServiceContext::connection`] finds it no longer.
    pub fn end(&mut self, id: ConnId) {
        if let Some(facts) = self.context.directory_mut().get_mut(id) {
            facts.is_live = false;
        }
    }

    /// Closes a datagram socket: [`ServiceContext::socket`] finds it no longer.
    pub fn close(&mut self, id: SocketId) {
        self.context.directory_mut().remove(id.into());
    }

    /// Makes a callback that is not about a connection or a socket at hand, such as
    /// [`on_timer`](super::Service::on_timer) or [`on_post`](super::Receive::on_post).
    pub fn call<R>(&mut self, callback: impl FnOnce(&mut ServiceContext) -> R) -> R {
        let result = callback(&mut self.context);
        self.note_datagrams(None);
        result
    }

    /// Takes the datagrams that were sent, in the order in which the reactor sends them.
    pub fn take_datagrams(&mut self) -> Vec<SentDatagram> {
        std::mem::take(&mut self.datagrams)
    }

    /// Returns the bytes that were sent to `id` since the last [`take_commands`](Self::take_commands). `input` is the input of
    /// the callback, for the parts of it that were sent back.
    pub fn sent_to(&self, id: ConnId, input: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        let outbox = self.context.outbox();
        for command in outbox.commands() {
            match *command {
                Command::Send { to, bytes } if to == id => sent.extend_from_slice(outbox.bytes(bytes)),
                Command::SendInput { part } => sent.extend_from_slice(&input[part.start..part.end]),
                Command::Forward { to, part, .. } if to == id => sent.extend_from_slice(&input[part.start..part.end]),
                Command::Broadcast { to, bytes } if outbox.recipients(to).contains(&id) => {
                    sent.extend_from_slice(outbox.bytes(bytes));
                }
                _ => {}
            }
        }
        sent
    }

    /// Returns the recorded commands, dials included, since the last [`take_commands`](Self::take_commands).
    pub fn outbox(&self) -> &Outbox {
        self.context.outbox()
    }

    /// Takes the recorded commands; returns the dials among them, each with the id of its connection.
    pub fn take_dials(&mut self) -> Vec<(ConnId, Dial)> {
        let outbox = self.context.outbox();
        let dials = outbox.commands().iter().filter_map(|command| match *command {
            Command::Dial { id, dial } => Some((id, outbox.dials()[dial].clone())),
            _ => None,
        });
        let dials = dials.collect();
        self.clear();
        dials
    }

    /// Takes the recorded commands, also sends and dials. A send refers to its bytes by a [`Span`]: read them before, with
    /// [`sent_to`](Self::sent_to). [`ServiceContext::close`] of a connection is [`Command::Finish`].
    pub fn take_commands(&mut self) -> Vec<Command> {
        let commands = self.context.outbox().commands().to_vec();
        self.clear();
        commands
    }

    fn clear(&mut self) {
        self.context.outbox_mut().clear();
        self.transmits = 0;
    }
}

/// Returns the datagrams in a part of `transmits`, as the socket `by` sends them. `received` is the datagram that they may
/// answer.
fn sent(
    by: SocketId,
    transmits: &Transmits,
    part: Span,
    received: Option<Received<'_>>,
) -> impl Iterator<Item = SentDatagram> {
    transmits.as_slice()[part.start..part.end].iter().map(move |transmit| {
        let to = match transmit.to {
            Recipient::SenderOf(_) => received.map(|(sender, _)| sender),
            Recipient::Peer => None,
            Recipient::Address(addr) => Some(addr),
        };
        let payload = match transmit.payload {
            Payload::Received(_) => received.map_or_else(Vec::new, |(_, payload)| payload.to_vec()),
            Payload::Bytes(span) => transmits.bytes(span).to_vec(),
        };
        SentDatagram { by, to, payload }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_of_all_sockets_are_kept_in_their_order() {
        let mut probe = Probe::new();
        let ([one, two], sender) = ([1, 2].map(Probe::socket), ([127, 0, 0, 1], 9).into());
        probe.on_socket(two, |ctx| ctx.send(b"a"));
        probe.on_datagram(one, sender, b"in", |ctx, payload| {
            assert_eq!((ctx.id(), ctx.sender(), payload), (one, sender, &b"in"[..]));
            ctx.socket(two).unwrap().send_to(sender, b"d");
            ctx.reply(b"b");
            ctx.reply_same();
        });
        // A second callback goes on with the command of the first.
        probe.call(|ctx| ctx.socket(two).unwrap().send(b"e"));
        let expected = [
            (two, None, &b"a"[..]),
            (one, Some(sender), b"b"),
            (one, Some(sender), b"in"),
            (two, Some(sender), b"d"),
            (two, None, b"e"),
        ];
        let expected = expected.map(|(by, to, payload)| SentDatagram { by, to, payload: payload.to_vec() });
        assert_eq!(probe.take_datagrams(), expected);
        assert!(probe.take_datagrams().is_empty());
        probe.close(two);
        assert!(probe.call(|ctx| ctx.socket(two).is_none() && ctx.socket(one).is_some()));
    }
}
