//! What [`ChatRaw`](super::ChatRaw) and [`ChatHub`](super::ChatHub) have in common: members, and that all of them get
//! what any of them sends.
//!
//! Owns: [`Crowd`]. Must not know: how much is passed on at a time, which is a [`Portion`] and makes the difference.

use std::marker::PhantomData;

use crate::id::ConnId;
use crate::protocol::room::Roster;
use crate::service::{CloseReason, Context, Service, ServiceContext};

/// What a crowd passes on.
pub trait Portion {
    /// How many of `input` bytes are passed on now, when the sender's own queue has room for `room`. The others wait.
    fn of(input: usize, room: usize) -> usize;
}

/// Passes on what its members send, to all of them, the sender included, in one order.
#[derive(Debug)]
pub struct Crowd<P> {
    members: Roster<ConnId>,
    portion: PhantomData<P>,
}

impl<P> Default for Crowd<P> {
    fn default() -> Self {
        Self { members: Roster::new(), portion: PhantomData }
    }
}

impl<P: Portion> Service for Crowd<P> {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.members.join(ctx.id(), ());
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let n = P::of(input.len(), ctx.capacity());
        ctx.broadcast(self.members.keys(), &input[..n]);
        n
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        self.members.leave(&ctx.id());
        ctx.finish();
    }

    fn on_close(&mut self, _ctx: &mut ServiceContext, id: ConnId, _reason: CloseReason) {
        self.members.leave(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Command, Probe};
    use crate::services::{ChatHub, ChatRaw};

    /// A crowd of 1, 2 and 3.
    fn three<P: Portion>() -> (Probe, Crowd<P>, [ConnId; 3]) {
        let (mut probe, mut crowd) = (Probe::new(), Crowd::default());
        let members = [1, 2, 3].map(Probe::id);
        for id in members {
            probe.on(id, |ctx| crowd.on_open(ctx));
        }
        assert_eq!(probe.take_commands(), []);
        (probe, crowd, members)
    }

    #[test]
    fn every_byte_goes_to_everyone_in_one_command() {
        let (mut probe, mut crowd, members): (_, ChatRaw, _) = three();
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(probe.on(members[1], |ctx| crowd.on_data(ctx, &all)), 256);
        for id in members {
            assert_eq!(probe.sent_to(id, b""), all);
        }
        assert!(matches!(probe.take_commands()[..], [Command::Broadcast { .. }]));
    }

    #[test]
    fn who_has_left_gets_nothing_more() {
        let (mut probe, mut crowd, [one, two, three]): (_, ChatRaw, _) = three();
        probe.on(two, |ctx| crowd.on_eof(ctx, b""));
        assert_eq!(probe.take_commands(), [Command::Finish { of: two }]);
        probe.call(|ctx| crowd.on_close(ctx, three, CloseReason::Overflow));
        probe.on(one, |ctx| crowd.on_data(ctx, b"anybody?"));
        assert_eq!(probe.sent_to(one, b""), b"anybody?");
        assert_eq!((probe.sent_to(two, b""), probe.sent_to(three, b"")), (vec![], vec![]));
    }

    #[test]
    fn a_stream_is_cut_to_fit_and_a_piece_is_not() {
        let (mut probe, mut raw, [one, ..]): (_, ChatRaw, _) = three();
        probe.set_room(3);
        assert_eq!(probe.on(one, |ctx| raw.on_data(ctx, b"abcdef")), 3);
        assert_eq!(probe.sent_to(one, b""), b"abc");

        let (mut probe, mut hub, [one, ..]): (_, ChatHub, _) = three();
        probe.set_room(3);
        assert_eq!(probe.on(one, |ctx| hub.on_data(ctx, b"abcdef")), 6);
        assert_eq!(probe.sent_to(one, b""), b"abcdef");
        assert!(matches!(probe.take_commands()[..], [Command::Broadcast { .. }]));
    }
}
