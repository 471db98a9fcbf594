//! The http service: HTTP/1.1 with a handful of routes.
//!
//! Owns: what a connection's events mean for its conversation, and how long a client may take. Must not know: what is
//! asked and answered, which is [`crate::protocol::http`]'s.
//!
//! Only a request that is under way has a row here. A connection that waits for the next one is as good as new: the usual
//! request comes in one piece, is answered, and leaves nothing behind. How long a connection may wait for a request is the
//! idle timeout of its listener, which the reactor renews with one store.

use std::mem;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::id::{ConnId, ConnMap};
use crate::protocol::http::{Conversation, Phase, Site};
use crate::service::{CloseReason, Context, Service, ServiceContext};
use crate::services::Settings;
use crate::timer::{Deadline, Time, Timeout};

/// The bytes a second that a body must make in the long run: one that comes more slowly than the slowest modem sent is
/// slow on purpose. (Apache's `RequestReadTimeout` has 500 by default.)
const BODY_RATE: u64 = 1024;

/// How long the heads that come may still take when the server stops, all of them, and how long a body may pause: less
/// than the grace period, so that a request which does not come is not what the period ends with.
const STOPPING: Duration = Duration::from_secs(2);

/// Answers requests.
#[derive(Debug)]
pub struct Http {
    site: Site,
    partial_requests: ConnMap<PartialRequest>,
    header_timeout: Timeout,
    body_timeout: Timeout,
    /// By when every head must have come, once the server is stopping.
    last_heads_due: Time,
    /// When the second that [`Site`] has been told will be over.
    second_ends: Time,
}

/// A request of which some has come, but not all.
#[derive(Debug)]
struct PartialRequest {
    conversation: Conversation,
    /// What it waits for, since the last time that anything has come.
    phase: Phase,
    /// By when more of it must have come: of a head all, of a body something.
    due: Time,
    /// By when the body must have come unless more of it comes, each byte of which moves this on.
    body_due: Time,
    /// How much of the body that takes into account.
    received: u64,
    /// The connection may not have been read for a while after it had come so far: its output was full.
    was_full: bool,
}

impl PartialRequest {
    const NOTHING: Self = Self {
        conversation: Conversation::NEW,
        phase: Phase::Idle,
        due: Time::NEVER,
        body_due: Time::NEVER,
        received: 0,
        was_full: false,
    };

    /// Moves the deadlines of a body on, if more of it has come.
    fn keep_pace(&mut self, now: Time, timeout: Timeout) {
        let received = self.conversation.received();
        let more = received - self.received;
        if more > 0 {
            self.received = received;
            self.body_due = self.body_due + Duration::from_nanos(more.saturating_mul(1_000_000_000 / BODY_RATE));
            self.due = from(now, timeout).min(self.body_due);
        }
    }
}

impl Http {
    /// A server with the limits of `settings` and `index` as its page at `/`, in HTML.
    pub fn new(settings: &Settings, index: String) -> Self {
        Self {
            site: Site::new(index, settings.max_body, (settings.local_time)()),
            partial_requests: ConnMap::new(),
            header_timeout: settings.header_timeout.into(),
            body_timeout: settings.body_timeout.into(),
            last_heads_due: Time::NEVER,
            second_ends: Time::ZERO,
        }
    }

    /// Tells the site what time it is, once a second. If the clock is set meanwhile, that is noticed within a second.
    #[inline]
    fn keep_time(&mut self, ctx: &ServiceContext) {
        if ctx.now() >= self.second_ends {
            let now = ctx.wall_clock();
            self.site.set_time(now);
            self.second_ends = ctx.now() + rest_of_second(now);
        }
    }

    /// What follows from what a conversation now waits for. `anew`: not for what it has waited for until now, though it may
    /// be of the same kind.
    #[inline(never)]
    fn wait(&mut self, ctx: &mut Context<'_>, conversation: Conversation, anew: bool) {
        let mut request = self.partial_requests.remove(ctx.id()).unwrap_or(PartialRequest::NOTHING);
        request.conversation = conversation;
        let phase = request.conversation.phase();
        let began = mem::replace(&mut request.phase, phase) != phase || anew;
        match phase {
            Phase::Idle => {
                ctx.renew_deadline(Deadline::Read);
                if self.site.is_stopping() {
                    ctx.finish_when_quiet();
                }
                return;
            }
            Phase::Done => return ctx.finish(),
            Phase::Head if began => {
                request.due = from(ctx.now(), self.header_timeout).min(self.last_heads_due);
            }
            Phase::Head => {}
            Phase::Body => {
                if began {
                    request.due = from(ctx.now(), self.body_timeout);
                    (request.body_due, request.received) = (request.due, 0);
                }
                request.keep_pace(ctx.now(), self.body_timeout);
            }
        }
        request.was_full = ctx.is_congested();
        // Every time, because a read timeout of the listener would otherwise be renewed by each byte.
        ctx.set_read_deadline(request.due);
        self.partial_requests.insert(ctx.id(), request);
    }

    /// The request under way has not come in time.
    fn time_out(&mut self, ctx: &mut Context<'_>, mut request: PartialRequest) {
        if request.was_full && ctx.now() < self.last_heads_due {
            // It may have come, and we have not looked.
            return self.wait(ctx, request.conversation, true);
        }
        self.keep_time(ctx);
        ctx.send_with(|output| request.conversation.time_out(&self.site, output));
        ctx.finish();
    }
}

/// When `timeout` is over that begins now.
fn from(now: Time, timeout: Timeout) -> Time {
    if timeout.is_on() { now + timeout } else { Time::NEVER }
}

/// How long it is until the next second begins.
fn rest_of_second(now: SystemTime) -> Duration {
    let second = Duration::from_secs(1);
    now.duration_since(UNIX_EPOCH).map_or(second, |since| second - Duration::from_nanos(since.subsec_nanos().into()))
}

impl Service for Http {
    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        self.keep_time(ctx);
        let capacity = ctx.capacity();
        let known = self.partial_requests.get_mut(ctx.id());
        let was_known = known.is_some();
        let mut conversation = known.map_or(Conversation::NEW, |request| mem::take(&mut request.conversation));
        let site = &self.site;
        let (consumed, has_answered) = ctx.send_with(|output| {
            let start = output.len();
            let consumed = conversation.receive(site, input, capacity, output);
            (consumed, output.len() > start)
        });
        if was_known || conversation.phase() != Phase::Idle || self.site.is_stopping() {
            self.wait(ctx, conversation, has_answered);
        }
        consumed
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        if let Some(mut request) = self.partial_requests.remove(ctx.id()) {
            self.keep_time(ctx);
            ctx.send_with(|output| request.conversation.end(&self.site, output));
        }
        ctx.finish();
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        match (which, self.partial_requests.remove(ctx.id())) {
            (Deadline::Write, _) => ctx.abort_because(CloseReason::Deadline(which)),
            (Deadline::Read, Some(request)) => self.time_out(ctx, request),
            // A client that does not read has been answered, and may have asked for more than we have looked at. It is the
            // write timeout's; bytes that it takes start the idle timeout anew.
            (Deadline::Idle, None) if ctx.queued() > 0 => {}
            // Between requests nobody is surprised by an end.
            (_, None) => ctx.finish(),
            // The idle timeout is about the time between requests; within one its own deadline counts.
            (_, Some(request)) => drop(self.partial_requests.insert(ctx.id(), request)),
        }
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        if !self.site.is_stopping() {
            self.site.stop();
            self.last_heads_due = ctx.now() + STOPPING;
            self.body_timeout = self.body_timeout.at_most(STOPPING);
        }
        match self.partial_requests.get_mut(ctx.id()) {
            None => ctx.finish_when_quiet(),
            Some(request) => {
                request.due = request.due.min(self.last_heads_due);
                ctx.set_read_deadline(request.due);
            }
        }
    }

    fn on_close(&mut self, _ctx: &mut ServiceContext, id: ConnId, _reason: CloseReason) {
        self.partial_requests.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Command, Probe};

    const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    const BODY: &[u8] = b"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";

    fn start() -> (Probe, Http, ConnId) {
        (Probe::new(), Http::new(&Settings::default(), String::new()), Probe::id(1))
    }

    /// That of the listener.
    const RENEWED: Time = Time::ZERO;

    /// The read deadlines that have been set.
    fn deadlines(commands: &[Command]) -> Vec<Time> {
        let due = |command: &Command| match *command {
            Command::SetDeadline { which: Deadline::Read, due, .. } => Some(due),
            Command::RenewDeadline { which: Deadline::Read, .. } => Some(RENEWED),
            _ => None,
        };
        commands.iter().filter_map(due).collect()
    }

    #[test]
    fn a_request_in_one_piece_is_one_answer_and_nothing_else() {
        let (mut probe, mut http, one) = start();
        assert_eq!(probe.on(one, |ctx| http.on_data(ctx, &REQUEST.repeat(3))), 3 * REQUEST.len());
        assert_eq!(String::from_utf8(probe.sent_to(one, b"")).unwrap().matches("200 OK").count(), 3);
        assert!(matches!(probe.take_commands()[..], [Command::Send { to, .. }] if to == one));
        assert!(http.partial_requests.is_empty());
    }

    #[test]
    fn a_head_has_one_deadline_and_a_body_one_that_each_piece_moves_on() {
        let (mut probe, mut http, one) = start();
        let mut unread = Vec::new();
        let mut set = Vec::new();
        for piece in [&BODY[..1], &BODY[1..20], &BODY[20..], b"hel", b"lo"] {
            unread.extend_from_slice(piece);
            let consumed = probe.on(one, |ctx| http.on_data(ctx, &unread));
            unread.drain(..consumed);
            set.extend(deadlines(&probe.take_commands()));
            probe.advance(Duration::from_secs(1));
        }
        let due = |time: Time| time.as_nanos().div_ceil(1_000_000);
        assert_eq!(set.into_iter().map(due).collect::<Vec<_>>(), [10_000, 10_000, 32_000, 32_003, due(RENEWED)]);
        assert!(http.partial_requests.is_empty());
    }

    #[test]
    fn a_body_must_not_come_byte_by_byte_for_ever() {
        let (mut probe, mut http, one) = start();
        let head = b"PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        // Bytes that are no body buy nothing, others a thousandth of a second each.
        for (piece, due) in [(&head[..], 30_000), (b"400;a=", 30_000), (b"b\r\n", 30_000), (&[b'x'; 0x400], 31_000)] {
            probe.on(one, |ctx| http.on_data(ctx, piece));
            assert_eq!(deadlines(&probe.take_commands())[0].as_nanos().div_ceil(1_000_000), due);
            probe.advance(Duration::from_secs(9));
        }
    }

    #[test]
    fn each_body_has_its_own_time() {
        let (mut probe, mut http, one) = start();
        for n in 0..3 {
            probe.on(one, |ctx| http.on_data(ctx, &[&b"hello"[..5 * n.min(1)], BODY].concat()));
            assert_eq!(deadlines(&probe.take_commands()), [Time::from_millis(30_000 + 20_000 * n as u64)]);
            probe.advance(Duration::from_secs(20));
        }
    }

    #[test]
    fn a_head_that_is_not_complete_does_not_hold_up_a_stop() {
        let (mut probe, mut http, one) = start();
        let two = Probe::id(2);
        probe.on(one, |ctx| http.on_data(ctx, b"\r\n"));
        probe.take_commands();
        probe.on(one, |ctx| http.on_stop(ctx));
        assert_eq!(deadlines(&probe.take_commands()), [Time::from_millis(2_000)]);
        probe.on(two, |ctx| http.on_data(ctx, b"G"));
        assert_eq!(deadlines(&probe.take_commands()), [Time::from_millis(2_000)]);
        // Nor do many, one after another, each of which has begun when the one before is answered.
        probe.advance(Duration::from_secs(1));
        probe.on(two, |ctx| http.on_data(ctx, &[REQUEST, b"G"].concat()));
        assert_eq!(deadlines(&probe.take_commands()), [Time::from_millis(2_000)]);
    }

    #[test]
    fn a_body_that_pauses_does_not_hold_up_a_stop() {
        let (mut probe, mut http, one) = start();
        probe.on(one, |ctx| http.on_data(ctx, BODY));
        probe.take_commands();
        probe.on(one, |ctx| http.on_stop(ctx));
        assert_eq!(deadlines(&probe.take_commands()), [Time::from_millis(2_000)]);
        // One that goes on has time to come to its end.
        probe.advance(Duration::from_secs(1));
        probe.on(one, |ctx| http.on_data(ctx, b"he"));
        assert_eq!(deadlines(&probe.take_commands()), [Time::from_millis(3_000)]);
    }

    #[test]
    fn a_timeout_that_is_off_never_comes() {
        let settings = Settings { header_timeout: Duration::ZERO, ..Settings::default() };
        let (mut probe, mut http, one) = (Probe::new(), Http::new(&settings, String::new()), Probe::id(1));
        probe.on(one, |ctx| http.on_data(ctx, b"G"));
        assert_eq!(deadlines(&probe.take_commands()), [Time::NEVER]);
    }

    #[test]
    fn who_is_late_is_told_and_who_has_asked_for_nothing_is_not() {
        let (mut probe, mut http, one) = start();
        probe.on(one, |ctx| http.on_data(ctx, b"G"));
        probe.take_commands();
        probe.on(one, |ctx| http.on_deadline(ctx, Deadline::Idle));
        assert_eq!(probe.take_commands(), []);
        probe.on(one, |ctx| http.on_deadline(ctx, Deadline::Read));
        assert!(probe.sent_to(one, b"").starts_with(b"HTTP/1.1 408 "));
        assert_eq!(probe.take_commands().last(), Some(&Command::Finish { of: one }));
        for which in [Deadline::Idle, Deadline::Read] {
            probe.on(one, |ctx| http.on_deadline(ctx, which));
            assert_eq!(probe.take_commands(), [Command::Finish { of: one }]);
        }
    }

    #[test]
    fn who_may_not_have_been_read_is_given_another_while() {
        let (mut probe, mut http, one) = start();
        probe.set_room(1);
        let waiting = b"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        probe.on(one, |ctx| http.on_data(ctx, waiting));
        probe.take_commands();
        probe.advance(Duration::from_secs(30));
        probe.set_room(1000);
        probe.on(one, |ctx| http.on_deadline(ctx, Deadline::Read));
        assert_eq!(deadlines(&probe.take_commands()), [Time::from_millis(60_000)]);
        probe.on(one, |ctx| http.on_deadline(ctx, Deadline::Read));
        assert!(probe.sent_to(one, b"").starts_with(b"HTTP/1.1 408 "));
    }

    #[test]
    fn who_does_not_take_its_answers_is_not_idle() {
        let (mut probe, mut http, one) = start();
        probe.set_queued(1);
        probe.on(one, |ctx| http.on_deadline(ctx, Deadline::Idle));
        assert_eq!(probe.take_commands(), []);
        probe.set_queued(0);
        probe.on(one, |ctx| http.on_deadline(ctx, Deadline::Idle));
        assert_eq!(probe.take_commands(), [Command::Finish { of: one }]);
    }

    #[test]
    fn requests_that_find_no_room_are_left_unread() {
        let (mut probe, mut http, one) = start();
        probe.set_room(200);
        // The first answer leaves some room, the second none.
        assert_eq!(probe.on(one, |ctx| http.on_data(ctx, &REQUEST.repeat(3))), 2 * REQUEST.len());
        probe.set_room(0);
        assert_eq!(probe.on(one, |ctx| http.on_data(ctx, REQUEST)), 0);
        assert!(http.partial_requests.is_empty());
    }

    #[test]
    fn the_end_of_file_within_a_request_is_answered() {
        let (mut probe, mut http, one) = start();
        probe.on(one, |ctx| http.on_data(ctx, BODY));
        probe.on(one, |ctx| http.on_eof(ctx, b""));
        assert!(probe.sent_to(one, b"").starts_with(b"HTTP/1.1 400 "));
        assert_eq!(probe.take_commands().last(), Some(&Command::Finish { of: one }));
        probe.on(one, |ctx| http.on_eof(ctx, b""));
        assert_eq!(probe.take_commands(), [Command::Finish { of: one }]);
    }

    #[test]
    fn a_stop_ends_what_is_idle_and_waits_for_what_is_not() {
        let (mut probe, mut http, idle) = start();
        let busy = Probe::id(2);
        probe.on(busy, |ctx| http.on_data(ctx, BODY));
        probe.take_commands();
        probe.on(idle, |ctx| http.on_stop(ctx));
        assert_eq!(probe.take_commands(), [Command::FinishWhenQuiet { of: idle }]);
        probe.on(busy, |ctx| http.on_stop(ctx));
        assert_eq!(deadlines(&probe.take_commands()), [Time::from_millis(2_000)]);
        probe.on(busy, |ctx| http.on_data(ctx, b"hello"));
        assert!(String::from_utf8(probe.sent_to(busy, b"")).unwrap().contains("Connection: close"));
        assert_eq!(probe.take_commands().last(), Some(&Command::Finish { of: busy }));
    }

    #[test]
    fn one_that_is_gone_leaves_nothing_behind() {
        let (mut probe, mut http, one) = start();
        probe.on(one, |ctx| http.on_data(ctx, BODY));
        probe.call(|ctx| http.on_close(ctx, one, CloseReason::Reset));
        assert!(http.partial_requests.is_empty());
    }
}
