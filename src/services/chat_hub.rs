//! The hub service: what one sends goes to all in one piece, and each member has a bounded queue.
//!
//! Where [`ChatRaw`](super::ChatRaw) passes on a stream, which may be cut anywhere to fit a queue, this passes on
//! pieces, and no other member's bytes come between two parts of one.
//!
//! The bound is the listener's high-water mark, and the reactor keeps it: a member whose queue is over it is dropped,
//! counted and logged ([`CloseReason::Overflow`]), and nobody waits for it.

use crate::id::ConnId;
use crate::protocol::room::Roster;
use crate::service::{CloseReason, Context, Service, ServiceContext};

/// Passes each piece on, as it was read, to every member, the sender included.
#[derive(Debug, Default)]
pub struct ChatHub {
    members: Roster<ConnId>,
}

impl Service for ChatHub {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.members.join(ctx.id(), ());
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        ctx.broadcast(self.members.keys(), input);
        input.len()
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
    use crate::service::{Command, Probe, Span};

    #[test]
    fn a_piece_stays_in_one_piece_and_goes_to_all() {
        let (mut probe, mut hub) = (Probe::new(), ChatHub::default());
        let members = [1, 2, 3].map(Probe::id);
        for id in members {
            probe.on(id, |ctx| hub.on_open(ctx));
        }
        probe.set_room(10);
        let piece = [b'x'; 5000];
        assert_eq!(probe.on(members[0], |ctx| hub.on_data(ctx, &piece)), 5000);
        for id in members {
            assert_eq!(probe.sent_to(id, b""), piece);
        }
        let [Command::Broadcast { bytes, .. }] = probe.take_commands()[..] else { panic!("not one command") };
        assert_eq!(bytes, Span { start: 0, end: 5000 });
    }

    #[test]
    fn who_was_dropped_is_no_member_any_more() {
        let (mut probe, mut hub) = (Probe::new(), ChatHub::default());
        let [one, two, three] = [1, 2, 3].map(Probe::id);
        for id in [one, two, three] {
            probe.on(id, |ctx| hub.on_open(ctx));
        }
        probe.call(|ctx| hub.on_close(ctx, two, CloseReason::Overflow));
        probe.on(three, |ctx| hub.on_eof(ctx, b""));
        assert_eq!(probe.take_commands(), [Command::Finish { of: three }]);
        probe.on(one, |ctx| hub.on_data(ctx, b"who is left?"));
        assert_eq!(probe.sent_to(one, b""), b"who is left?");
        assert_eq!((probe.sent_to(two, b""), probe.sent_to(three, b"")), (vec![], vec![]));
    }
}
