//! The relay of [`chat-raw`](super::chat_raw()) and [`chat-hub`](super::chat_hub()): every member gets the bytes of every
//! member.
//!
//! Owns: [`Relay`]. Must not know: how many bytes leave at a time. A chunk function decides that, and is the only
//! difference between the two services.

use crate::id::ConnId;
use crate::protocol::roster::Roster;
use crate::service::{CloseReason, Context, Service};

/// Returns how many of `input` bytes the relay broadcasts now, given the sender's own `capacity` in bytes. The other
/// bytes stay unread. A function of the size alone: a chunk starts at the first unread byte.
pub type ChunkFn = fn(input: usize, capacity: usize) -> usize;

/// Broadcasts the bytes of each member to all members, the sender included, in one order for all.
#[derive(Debug)]
pub struct Relay {
    members: Roster<ConnId>,
    chunk: ChunkFn,
}

impl Relay {
    /// A relay without members, whose chunks have the size that `chunk` returns.
    pub fn new(chunk: ChunkFn) -> Self {
        Self { members: Roster::new(), chunk }
    }
}

impl Service for Relay {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.members.join(ctx.id(), ());
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        // A chunk function cannot make the relay consume bytes that are not there.
        let n = (self.chunk)(input.len(), ctx.room()).min(input.len());
        ctx.broadcast(self.members.keys(), &input[..n]);
        n
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        self.members.leave(&ctx.id());
        ctx.finish();
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, _reason: CloseReason) {
        let id = ctx.id();
        self.members.leave(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Command, Probe};
    use crate::services::{chat_hub, chat_raw};

    /// Adds members 1, 2 and 3.
    fn three(mut relay: Relay) -> (Probe, Relay, [ConnId; 3]) {
        let mut probe = Probe::new();
        let members = [1, 2, 3].map(Probe::id);
        for id in members {
            probe.on(id, |ctx| relay.on_open(ctx));
        }
        assert_eq!(probe.take_commands(), []);
        (probe, relay, members)
    }

    #[test]
    fn every_byte_goes_to_everyone_in_one_command() {
        let (mut probe, mut relay, members) = three(chat_raw());
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(probe.on(members[1], |ctx| relay.on_data(ctx, &all)), 256);
        for id in members {
            assert_eq!(probe.sent_to(id, b""), all);
        }
        assert!(matches!(probe.take_commands()[..], [Command::Broadcast { .. }]));
    }

    #[test]
    fn members_that_have_left_get_nothing_more() {
        let (mut probe, mut relay, [one, two, three]) = three(chat_raw());
        probe.on(two, |ctx| relay.on_eof(ctx, b""));
        assert_eq!(probe.take_commands(), [Command::Finish { of: two }]);
        probe.on(three, |ctx| relay.on_close(ctx, CloseReason::Overflow));
        probe.on(one, |ctx| relay.on_data(ctx, b"anybody?"));
        assert_eq!(probe.sent_to(one, b""), b"anybody?");
        assert_eq!((probe.sent_to(two, b""), probe.sent_to(three, b"")), (vec![], vec![]));
    }

    #[test]
    fn a_stream_is_cut_to_the_capacity_and_a_read_is_not() {
        let (mut probe, mut raw, [one, ..]) = three(chat_raw());
        probe.set_room(3);
        assert_eq!(probe.on(one, |ctx| raw.on_data(ctx, b"abcdef")), 3);
        assert_eq!(probe.sent_to(one, b""), b"abc");

        let (mut probe, mut hub, [one, ..]) = three(chat_hub());
        probe.set_room(3);
        assert_eq!(probe.on(one, |ctx| hub.on_data(ctx, b"abcdef")), 6);
        assert_eq!(probe.sent_to(one, b""), b"abcdef");
        assert!(matches!(probe.take_commands()[..], [Command::Broadcast { .. }]));
    }

    #[test]
    fn a_chunk_longer_than_the_input_ends_with_the_input() {
        let (mut probe, mut relay, [one, ..]) = three(Relay::new(|input, _| input + 1));
        assert_eq!(probe.on(one, |ctx| relay.on_data(ctx, b"abc")), 3);
        assert_eq!(probe.sent_to(one, b""), b"abc");
    }
}
