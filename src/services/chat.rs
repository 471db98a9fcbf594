//! The chat service: a room in which lines are spoken.
//!
//! Owns: what a connection's events mean for the room. Must not know: what the room says, which is
//! [`crate::protocol::room`]'s.
//!
//! A member is in the room from its greeting to its end of file, its end, or a line that is too long, whichever comes
//! first; the room makes sure that its departure is told once. Departures are told in the next turn, or before whatever
//! is said until then, all in one broadcast: when thousands leave at once, each would otherwise be told of the others
//! that leave with it.

use crate::id::{ConnId, ConnMap};
use crate::protocol::lines::{Decoded, LineDecoder};
use crate::protocol::room::{ChatRoom, line_too_long};
use crate::service::{CloseReason, Context, Service, ServiceContext};

/// Passes every line on to every member, the speaker included.
#[derive(Debug)]
pub struct Chat {
    room: ChatRoom<ConnId>,
    decoders: ConnMap<LineDecoder>,
    max_line: usize,
    /// Departures that the room has not been told of yet.
    departures: String,
    stopping: bool,
}

impl Chat {
    /// A chat in which a line has at most `max_line` bytes, its end not counted.
    pub fn new(max_line: usize) -> Self {
        Self { room: ChatRoom::new(), decoders: ConnMap::new(), max_line, departures: String::new(), stopping: false }
    }

    fn say(&mut self, ctx: &mut ServiceContext, id: ConnId, line: &[u8]) {
        self.tell_departures(ctx);
        if let Some(notice) = self.room.say(&id, line) {
            ctx.broadcast(notice.to, notice.text.as_bytes());
        }
    }

    /// Takes lines off the front of `rest` until it is used up, the speaker is congested, or a line is too long. Says
    /// whether the speaker may go on.
    fn hear(&mut self, ctx: &mut Context<'_>, rest: &mut &[u8]) -> bool {
        let id = ctx.id();
        // The speaker hears itself, so its own queue says when to stop: short lines grow by the address before each.
        while !ctx.is_congested() {
            let Some(decoder) = self.decoders.get_mut(id) else { return false };
            match decoder.decode(rest) {
                Decoded::Line(line) => self.say(ctx, id, line),
                Decoded::NeedMore => break,
                Decoded::TooLong => return false,
            }
        }
        true
    }

    /// The last words of a member who has sent a line that is too long.
    fn send_off(&mut self, ctx: &mut Context<'_>) {
        let id = ctx.id();
        self.leave(ctx, id);
        ctx.send(line_too_long(self.max_line).as_bytes());
        ctx.finish();
    }

    fn leave(&mut self, ctx: &mut ServiceContext, id: ConnId) {
        self.decoders.remove(id);
        // When the server stops all leave, and nobody stays who could be told.
        if let Some(notice) = self.room.leave(&id)
            && !self.stopping
        {
            if self.departures.is_empty() {
                ctx.request_turn();
            }
            self.departures.push_str(notice.text);
        }
    }

    fn tell_departures(&mut self, ctx: &mut ServiceContext) {
        if !self.departures.is_empty() {
            ctx.broadcast(self.room.members(), self.departures.as_bytes());
            self.departures = String::new();
        }
    }
}

impl Service for Chat {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let (id, peer) = (ctx.id(), ctx.peer());
        self.decoders.insert(id, LineDecoder::new(self.max_line));
        self.tell_departures(ctx);
        let arrival = self.room.arrive(id, peer);
        ctx.send(arrival.greeting.as_bytes());
        ctx.broadcast(arrival.news.to, arrival.news.text.as_bytes());
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let mut rest = input;
        if !self.hear(ctx, &mut rest) {
            self.send_off(ctx);
            return input.len();
        }
        input.len() - rest.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, rest: &[u8]) {
        let id = ctx.id();
        if let Some(line) = LineDecoder::last(rest) {
            self.say(ctx, id, line);
        }
        self.leave(ctx, id);
        ctx.finish();
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        self.stopping = true;
        ctx.finish_when_quiet();
    }

    fn on_close(&mut self, ctx: &mut ServiceContext, id: ConnId, _reason: CloseReason) {
        self.leave(ctx, id);
    }

    fn on_turn(&mut self, ctx: &mut ServiceContext) {
        self.tell_departures(ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Command, Probe};

    /// A chat with members 1, 2 and 3, whose arrivals have been dealt with.
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
    fn a_newcomer_hears_who_it_is_and_the_others_hear_of_it() {
        let (mut probe, mut chat, [one, two, three]) = three(100);
        let four = Probe::id(4);
        probe.on(four, |ctx| chat.on_open(ctx));
        assert_eq!(sent(&probe, four), "You are 127.0.0.1:40004\n");
        for id in [one, two, three] {
            assert_eq!(sent(&probe, id), "127.0.0.1:40004 has arrived\n");
        }
    }

    #[test]
    fn lines_go_to_all_in_one_command() {
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
    fn a_last_line_counts_before_the_departure_which_is_told_once() {
        let (mut probe, mut chat, [one, two, _]) = three(100);
        probe.on(two, |ctx| chat.on_eof(ctx, b"bye"));
        assert_eq!(sent(&probe, two), "127.0.0.1:40002: bye\n");
        assert_eq!(probe.take_commands()[1..], [Command::Turn, Command::Finish { of: two }]);
        probe.call(|ctx| chat.on_turn(ctx));
        assert_eq!(sent(&probe, one), "127.0.0.1:40002 has left\n");
        assert_eq!(sent(&probe, two), "");
        probe.take_commands();
        probe.call(|ctx| chat.on_close(ctx, two, CloseReason::Finished));
        assert_eq!(probe.take_commands(), []);
    }

    #[test]
    fn every_way_to_go_is_told() {
        let (mut probe, mut chat, [one, two, three]) = three(100);
        probe.call(|ctx| chat.on_close(ctx, two, CloseReason::Reset));
        probe.call(|ctx| chat.on_close(ctx, three, CloseReason::Overflow));
        assert_eq!(probe.take_commands(), [Command::Turn], "one turn and one broadcast for both");
        probe.call(|ctx| chat.on_turn(ctx));
        assert_eq!(sent(&probe, one), "127.0.0.1:40002 has left\n127.0.0.1:40003 has left\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_answered_and_the_speaker_finished() {
        let (mut probe, mut chat, [one, two, _]) = three(4);
        assert_eq!(probe.on(two, |ctx| chat.on_data(ctx, b"1234\n12345")), 10);
        assert_eq!(sent(&probe, two), "127.0.0.1:40002: 1234\nYour line is too long: the limit is 4 bytes\n");
        assert_eq!(sent(&probe, one), "127.0.0.1:40002: 1234\n");
        assert_eq!(probe.take_commands().last(), Some(&Command::Finish { of: two }));
        // What is said before the turn comes is said after the departure.
        probe.on(one, |ctx| chat.on_data(ctx, b"who?\n"));
        assert_eq!(sent(&probe, one), "127.0.0.1:40002 has left\n127.0.0.1:40001: who?\n");
        probe.take_commands();
        probe.call(|ctx| chat.on_turn(ctx));
        probe.call(|ctx| chat.on_close(ctx, two, CloseReason::Finished));
        assert_eq!(probe.take_commands(), []);
    }

    #[test]
    fn a_speaker_whose_queue_is_full_has_to_wait() {
        let (mut probe, mut chat, [one, two, _]) = three(100);
        let lines = [b'\n'; 1000];
        probe.set_room(100);
        // Each empty line is one byte here and 18 on the way out: six of them are the first that fill 100.
        assert_eq!(probe.on(two, |ctx| chat.on_data(ctx, &lines)), 6);
        assert_eq!(sent(&probe, one).lines().count(), 6);
    }

    #[test]
    fn when_the_server_stops_nobody_is_told_that_all_leave() {
        let (mut probe, mut chat, members) = three(100);
        for id in members {
            probe.on(id, |ctx| chat.on_stop(ctx));
        }
        assert_eq!(probe.take_commands(), members.map(|of| Command::FinishWhenQuiet { of }));
        assert_eq!(probe.on(members[0], |ctx| chat.on_data(ctx, b"last\n")), 5);
        assert_eq!(sent(&probe, members[2]), "127.0.0.1:40001: last\n");
        probe.take_commands();
        probe.call(|ctx| chat.on_close(ctx, members[0], CloseReason::Finished));
        assert_eq!(probe.take_commands(), []);
    }
}
