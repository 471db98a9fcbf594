//! The raw chat service: every byte from anyone goes to everyone.

use crate::id::ConnId;
use crate::protocol::room::Roster;
use crate::service::{CloseReason, Context, Service, ServiceContext};

/// Passes every byte on to every member, the sender included, unchanged and in one order for all.
#[derive(Debug, Default)]
pub struct ChatRaw {
    members: Roster<ConnId>,
}

impl Service for ChatRaw {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.members.join(ctx.id(), ());
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        // A stream may be cut anywhere. The sender hears itself: what its own queue has no room for waits.
        let n = input.len().min(ctx.room());
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

    #[test]
    fn every_byte_goes_to_everyone_in_one_command() {
        let (mut probe, mut chat) = (Probe::new(), ChatRaw::default());
        let members = [1, 2, 3].map(Probe::id);
        for id in members {
            probe.on(id, |ctx| chat.on_open(ctx));
        }
        assert_eq!(probe.take_commands(), []);
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(probe.on(members[1], |ctx| chat.on_data(ctx, &all)), 256);
        for id in members {
            assert_eq!(probe.sent_to(id, b""), all);
        }
        assert!(matches!(probe.take_commands()[..], [Command::Broadcast { .. }]));
    }

    #[test]
    fn a_flood_waits_for_its_own_sender() {
        let (mut probe, mut chat) = (Probe::new(), ChatRaw::default());
        let one = Probe::id(1);
        probe.on(one, |ctx| chat.on_open(ctx));
        probe.set_room(3);
        assert_eq!(probe.on(one, |ctx| chat.on_data(ctx, b"abcdef")), 3);
        assert_eq!(probe.sent_to(one, b""), b"abc");
    }

    #[test]
    fn who_has_left_gets_nothing_more() {
        let (mut probe, mut chat) = (Probe::new(), ChatRaw::default());
        let [one, two, three] = [1, 2, 3].map(Probe::id);
        for id in [one, two, three] {
            probe.on(id, |ctx| chat.on_open(ctx));
        }
        probe.on(two, |ctx| chat.on_eof(ctx, b""));
        assert_eq!(probe.take_commands(), [Command::Finish { of: two }]);
        probe.call(|ctx| chat.on_close(ctx, three, CloseReason::Reset));
        probe.on(one, |ctx| chat.on_data(ctx, b"anybody?"));
        assert_eq!(probe.sent_to(one, b""), b"anybody?");
        assert_eq!((probe.sent_to(two, b""), probe.sent_to(three, b"")), (vec![], vec![]));
    }
}
