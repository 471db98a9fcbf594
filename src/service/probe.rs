//! Calls a service without a reactor and returns the recorded commands.
//!
//! Owns: [`Probe`]. For the tests of services, here and in other crates.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use super::command::{Command, Outbox};
use super::context::{ConnectionInfo, Context, ServiceContext};
use crate::addr::Addr;
use crate::id::ConnId;

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
    capacity: usize,
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
        Self { context: ServiceContext::new(|| SystemTime::UNIX_EPOCH), capacity: usize::MAX, queued: 0 }
    }

    /// Returns an id for the connection number `n`.
    pub fn id(n: u32) -> ConnId {
        ConnId::new(n, NonZeroU32::MIN)
    }

    /// Advances the clock.
    pub fn advance(&mut self, by: Duration) {
        self.context.set_now(self.context.now() + by);
    }

    /// Sets the capacity for output that the next callbacks find, in bytes.
    pub fn set_capacity(&mut self, bytes: usize) {
        self.capacity = bytes;
    }

    /// Sets the queued output that the next callbacks find, in bytes.
    pub fn set_queued(&mut self, bytes: usize) {
        self.queued = bytes;
    }

    /// Makes a callback about the connection `id`. The peer's port is 40000 plus the number of the connection.
    pub fn on<R>(&mut self, id: ConnId, callback: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let peer_addr = Addr::from(([127, 0, 0, 1], 40_000u16.wrapping_add(id.slot() as u16)));
        let info = ConnectionInfo { id, peer_addr, capacity: self.capacity, queued: self.queued };
        callback(&mut Context::new(&mut self.context, &info))
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

    /// Takes the recorded commands.
    pub fn take_commands(&mut self) -> Vec<Command> {
        let commands = self.context.outbox().commands().to_vec();
        self.context.outbox_mut().clear();
        commands
    }
}
