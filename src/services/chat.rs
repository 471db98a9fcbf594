//! The chat service: a room in which members exchange lines.
//!
//! Owns: the meaning of a connection's events for the room. Must not know: the texts of the room, which belong to
//! [`crate::protocol::room`].
//!
//! A member is in the room from its greeting to its end of file, its close, or a line that is too long, whichever comes
//! first. The room announces each departure once. The service announces departures in the next turn, or before any other
//! text until then, all in one broadcast. Otherwise, when thousands leave at once, each departure would go to the others
//! that leave with it.

use crate::addr::Addr;
use crate::id::{ConnId, ConnMap};
use crate::protocol::lines::{Decoded, LineDecoder};
use crate::protocol::room::{ChatRoom, line_too_long};
use crate::service::{CloseReason, Context, Service, ServiceContext};

/// Broadcasts every line to every member, the speaker included.
#[derive(Debug)]
pub struct Chat {
    room: ChatRoom<ConnId>,
    decoders: ConnMap<LineDecoder>,
    max_line: usize,
    /// Texts of departures that are not announced yet.
    departures: String,
    stopping: bool,
}

impl Chat {
    /// A chat in which a line has at most `max_line` bytes, without its end.
    pub fn new(max_line: usize) -> Self {
        Self { room: ChatRoom::new(), decoders: ConnMap::new(), max_line, departures: String::new(), stopping: false }
    }

    fn broadcast_line(&mut self, ctx: &mut ServiceContext, id: ConnId, line: &[u8]) {
        self.announce_departures(ctx);
        if let Some(notice) = self.room.say(&id, line) {
            ctx.broadcast(notice.to, notice.text.as_bytes());
        }
    }

    /// Takes lines off the front of `rest` until no complete line is left, the speaker is congested, or a line is too long.
    /// Returns false if a line is too long.
    fn take_lines(&mut self, ctx: &mut Context<'_>, rest: &mut &[u8]) -> bool {
        let id = ctx.id();
        // The speaker gets its own lines as well, so its own queue bounds them: short lines grow by the address in front.
        while !ctx.is_congested() {
            let Some(decoder) = self.decoders.get_mut(id) else { return false };
            match decoder.decode(rest) {
                Decoded::Line(line) => self.broadcast_line(ctx, id, line),
                Decoded::NeedMore => break,
                Decoded::TooLong => return false,
            }
        }
        true
    }

    /// Ends a member whose line is too long.
    fn refuse_line(&mut self, ctx: &mut Context<'_>) {
        let id = ctx.id();
        self.leave(ctx, id);
        ctx.send(line_too_long(self.max_line).as_bytes());
        ctx.finish();
    }

    fn leave(&mut self, ctx: &mut ServiceContext, id: ConnId) {
        self.decoders.remove(id);
        // When the server stops, all members leave, and no member stays to read the announcement.
        if let Some(notice) = self.room.leave(&id)
            && !self.stopping
        {
            if self.departures.is_empty() {
                ctx.request_turn();
            }
            self.departures.push_str(notice.text);
        }
    }

    fn announce_departures(&mut self, ctx: &mut ServiceContext) {
        if !self.departures.is_empty() {
            ctx.broadcast(self.room.members(), self.departures.as_bytes());
            self.departures = String::new();
        }
    }
}

/// Returns the name of a member: its address. The peers of a Unix socket have no names, or choose them, so that two could
/// have the same: their names are the ids of their connections.
fn name(ctx: &Context<'_>) -> String {
    match ctx.peer_addr() {
        Addr::Ip(addr) => addr.to_string(),
        Addr::Unix(_) => format!("unix{}", ctx.id()),
    }
}

impl Service for Chat {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let id = ctx.id();
        self.decoders.insert(id, LineDecoder::new(self.max_line));
        self.announce_departures(ctx);
        let arrival = self.room.arrive(id, name(ctx));
        ctx.send(arrival.greeting.as_bytes());
        ctx.broadcast(arrival.news.to, arrival.news.text.as_bytes());
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let mut rest = input;
        if !self.take_lines(ctx, &mut rest) {
            self.refuse_line(ctx);
            return input.len();
        }
        input.len() - rest.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, rest: &[u8]) {
        let id = ctx.id();
        if let Some(line) = LineDecoder::last(rest) {
            self.broadcast_line(ctx, id, line);
        }
        self.leave(ctx, id);
        ctx.finish();
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        self.stopping = true;
        ctx.finish_when_quiet();
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, _reason: CloseReason) {
        let id = ctx.id();
        self.leave(ctx, id);
    }

    fn on_turn(&mut self, ctx: &mut ServiceContext) {
        self.announce_departures(ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Command, Probe};

    /// A chat with members 1, 2 and 3, after their arrivals.
    fn three(max_line: usize) -> (Probe, Chat, [ConnId; 3]) {
        let (mut probe, mut chat) = (Probe::new(), Chat::new(max_line));
        let members = [1, 2, 3].map(Probe::id);
        for id in members {
            probe.on(id, |ctx| chat.on_open(ctx));
        }
        probe.take_commands();
        (probe, chat, members)
    }

    fn sent(probe: &Probe, id: ConnId) -> String {
        String::from_utf8(probe.sent_to(id, b"")).unwrap()
    }

    #[test]
    fn a_newcomer_gets_its_name_and_the_others_get_its_arrival() {
        let (mut probe, mut chat, [one, two, three]) = three(100);
        let four = Probe::id(4);
        probe.on(four, |ctx| chat.on_open(ctx));
        assert_eq!(sent(&probe, four), "You are 127.0.0.1:40004\n");
        for id in [one, two, three] {
            assert_eq!(sent(&probe, id), "127.0.0.1:40004 has arrived\n");
        }
    }

    #[test]
    fn a_line_goes_to_all_members_in_one_command() {
        let (mut probe, mut chat, members) = three(100);
        assert_eq!(probe.on(members[1], |ctx| chat.on_data(ctx, b"a\nb\r\n\nhel")), 6);
        for id in members {
            assert_eq!(sent(&probe, id), "127.0.0.1:40002: a\n127.0.0.1:40002: b\n127.0.0.1:40002: \n");
        }
        assert!(matches!(probe.take_commands()[..], [Command::Broadcast { .. }]));
        assert_eq!(probe.on(members[1], |ctx| chat.on_data(ctx, b"hello\n")), 6);
        assert_eq!(sent(&probe, members[0]), "127.0.0.1:40002: hello\n");
    }

    #[test]
    fn a_last_line_precedes_the_departure_which_is_announced_once() {
        let (mut probe, mut chat, [one, two, _]) = three(100);
        probe.on(two, |ctx| chat.on_eof(ctx, b"bye"));
        assert_eq!(sent(&probe, two), "127.0.0.1:40002: bye\n");
        assert_eq!(probe.take_commands()[1..], [Command::Turn, Command::Finish { of: two }]);
        probe.call(|ctx| chat.on_turn(ctx));
        assert_eq!(sent(&probe, one), "127.0.0.1:40002 has left\n");
        assert_eq!(sent(&probe, two), "");
        probe.take_commands();
        probe.on(two, |ctx| chat.on_close(ctx, CloseReason::Finished));
        assert_eq!(probe.take_commands(), []);
    }

    #[test]
    fn every_way_to_leave_is_announced() {
        let (mut probe, mut chat, [one, two, three]) = three(100);
        probe.on(two, |ctx| chat.on_close(ctx, CloseReason::Reset));
        probe.on(three, |ctx| chat.on_close(ctx, CloseReason::Overflow));
        assert_eq!(probe.take_commands(), [Command::Turn], "one turn and one broadcast for both");
        probe.call(|ctx| chat.on_turn(ctx));
        assert_eq!(sent(&probe, one), "127.0.0.1:40002 has left\n127.0.0.1:40003 has left\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_and_its_speaker_finished() {
        let (mut probe, mut chat, [one, two, _]) = three(4);
        assert_eq!(probe.on(two, |ctx| chat.on_data(ctx, b"1234\n12345")), 10);
        assert_eq!(sent(&probe, two), "127.0.0.1:40002: 1234\nYour line is too long: the limit is 4 bytes\n");
        assert_eq!(sent(&probe, one), "127.0.0.1:40002: 1234\n");
        assert_eq!(probe.take_commands().last(), Some(&Command::Finish { of: two }));
        // A line before the turn follows the departure.
        probe.on(one, |ctx| chat.on_data(ctx, b"who?\n"));
        assert_eq!(sent(&probe, one), "127.0.0.1:40002 has left\n127.0.0.1:40001: who?\n");
        probe.take_commands();
        probe.call(|ctx| chat.on_turn(ctx));
        probe.on(two, |ctx| chat.on_close(ctx, CloseReason::Finished));
        assert_eq!(probe.take_commands(), []);
    }

    #[test]
    fn a_speaker_with_a_full_queue_waits() {
        let (mut probe, mut chat, [one, two, _]) = three(100);
        let lines = [b'\n'; 1000];
        probe.set_room(100);
        // An empty line has one byte on the way in and 18 on the way out: six fill 100.
        assert_eq!(probe.on(two, |ctx| chat.on_data(ctx, &lines)), 6);
        assert_eq!(sent(&probe, one).lines().count(), 6);
    }

    #[test]
    fn departures_are_not_announced_while_the_server_stops() {
        let (mut probe, mut chat, members) = three(100);
        for id in members {
            probe.on(id, |ctx| chat.on_stop(ctx));
        }
        assert_eq!(probe.take_commands(), members.map(|of| Command::FinishWhenQuiet { of }));
        assert_eq!(probe.on(members[0], |ctx| chat.on_data(ctx, b"last\n")), 5);
        assert_eq!(sent(&probe, members[2]), "127.0.0.1:40001: last\n");
        probe.take_commands();
        probe.on(members[0], |ctx| chat.on_close(ctx, CloseReason::Finished));
        assert_eq!(probe.take_commands(), []);
    }
}
