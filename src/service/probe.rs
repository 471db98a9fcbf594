//! Calls a service without a reactor and returns the recorded commands.
//!
//! Owns: [`Probe`]. For the tests of services, here and in other crates.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use super::command::Command;
use super::context::{Context, ServiceContext};
use super::dial::Dial;
use super::directory::ConnectionFacts;
use super::outbox::Outbox;
use crate::addr::Addr;
use crate::id::ConnId;

/// The local address of every connection.
const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 7);

/// The ids of connections that a test chooses have lower slots than this, so that no dial gets one of them.
const CHOSEN: u32 = 128;

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
#[derive(Debug)]
pub struct Probe {
    context: ServiceContext,
    room: usize,
    queued: usize,
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
        context.directory_mut().reserve(CHOSEN);
        Self { context, room: usize::MAX, queued: 0 }
    }

    /// Returns an id for the connection number `n`, which is below 128 in a test with dials.
    pub fn id(n: u32) -> ConnId {
        ConnId::new(n, NonZeroU32::MIN)
    }

    /// Advances the clock.
    pub fn advance(&mut self, by: Duration) {
        self.context.set_now(self.context.now() + by);
    }

    /// Sets the room for output that the next callbacks find, in bytes.
    pub fn set_room(&mut self, bytes: usize) {
        self.room = bytes;
    }

    /// Sets the queued output that the next callbacks find, in bytes.
    pub fn set_queued(&mut self, bytes: usize) {
        self.queued = bytes;
    }

    /// Makes a callback about the connection `id`, which is live from then on. A connection that was not dialed has port
    /// 40000 plus its number at the peer; the local port is 7.
    pub fn on<R>(&mut self, id: ConnId, callback: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let peer = Addr::from(([127, 0, 0, 1], 40_000u16.wrapping_add(id.slot() as u16)));
        let peer = self.context.directory().get(id).map_or(peer, |facts| facts.peer.clone());
        let mut facts = ConnectionFacts::new(peer, LOCAL.into(), self.room.saturating_add(self.queued));
        facts.queued = self.queued;
        self.context.directory_mut().place(id, facts);
        callback(&mut Context::new(&mut self.context, id))
    }

    /// Marks a connection as ended: [`ServiceContext::connection`] finds it no longer.
    pub fn end(&mut self, id: ConnId) {
        if let Some(facts) = self.context.directory_mut().get_mut(id) {
            facts.is_live = false;
        }
    }

    /// Makes a callback that is not about a connection at hand.
    pub fn call<R>(&mut self, callback: impl FnOnce(&mut ServiceContext) -> R) -> R {
        callback(&mut self.context)
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
        self.context.outbox_mut().clear();
        dials
    }

    /// Takes the recorded commands.
    pub fn take_commands(&mut self) -> Vec<Command> {
        let commands = self.context.outbox().commands().to_vec();
        self.context.outbox_mut().clear();
        commands
    }
}
