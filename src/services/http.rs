//! The http service: HTTP/1.1 with a handful of routes.
//!
//! Owns: the meaning of a connection's events for its conversation, and the deadlines of a client. Must not know: requests
//! and answers, which belong to [`crate::protocol::http`].
//!
//! Only a request that has arrived in part has a row here. A connection between two requests needs none: the usual request
//! arrives in one piece, gets its answer, and leaves no state. The idle timeout of the listener bounds the time between two
//! requests, and the reactor renews it with one store.

use std::mem;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::id::ConnMap;
use crate::protocol::http::{Conversation, Phase, Site};
use crate::service::{CloseReason, Context, Service, ServiceContext};
use crate::services::Settings;
use crate::timer::{Deadline, Time, Timeout};

/// The least rate of a body, in bytes a second: a client that is slower than the slowest modem is slow on purpose.
/// (Apache's `RequestReadTimeout` has 500 by default.)
const BODY_RATE: u64 = 1024;

/// From the stop of the server, the time for all further heads, and the longest pause in a body. Less than the grace
/// period, so that one incomplete request does not use it up.
const STOPPING: Duration = Duration::from_secs(2);

/// Answers the requests of HTTP/1.1 clients.
#[derive(Debug)]
pub struct Http {
    site: Site,
    partial_requests: ConnMap<PartialRequest>,
    header_timeout: Timeout,
    body_timeout: Timeout,
    /// The end of the time for heads, once the server is stopping.
    last_heads_due: Time,
    /// The end of the second whose texts [`Site`] has.
    second_ends: Time,
}

/// A request that has arrived in part.
#[derive(Debug)]
struct PartialRequest {
    conversation: Conversation,
    /// The phase of the conversation after the last input.
    phase: Phase,
    /// The deadline for the rest of a head, or for the next bytes of a body.
    due: Time,
    /// The deadline of the whole body, which each of its bytes moves on.
    body_due: Time,
    /// The bytes of the body that have moved `body_due` on.
    received: u64,
    /// After this part, the output was full: the reactor may have suspended reading for a while.
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

    /// Moves the deadlines of a body on, if further bytes have arrived.
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

    /// Gives the site the time, once a second. A clock that is set takes effect within a second.
    #[inline]
    fn keep_time(&mut self, ctx: &ServiceContext) {
        if ctx.now() >= self.second_ends {
            let now = ctx.wall_clock();
            self.site.set_time(now);
            self.second_ends = ctx.now() + rest_of_second(now);
        }
    }

    /// Sets the deadlines of a conversation by its phase. `anew`: the phase belongs to another request than before, even if
    /// it is the same phase.
    #[inline(never)]
    fn wait(&mut self, ctx: &mut Context<'_>, conversation: Conversation, anew: bool) {
        let mut request = self.partial_requests.remove(ctx.id()).unwrap_or(PartialRequest::NOTHING);
        request.conversation = conversation;
        let phase = request.conversation.phase();
        let began = mem::replace(&mut request.phase, phase) != phase || anew;
        match phase {
            Phase::Idle => {
                ctx.restore_timeout(Deadline::Read);
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
        ctx.set_deadline(Deadline::Read, request.due);
        self.partial_requests.insert(ctx.id(), request);
    }

    /// Ends a request that has not arrived in time.
    fn time_out(&mut self, ctx: &mut Context<'_>, mut request: PartialRequest) {
        if request.was_full && ctx.now() < self.last_heads_due {
            // The rest may have arrived, unread.
            return self.wait(ctx, request.conversation, true);
        }
        self.keep_time(ctx);
        ctx.send_with(|output| request.conversation.time_out(&self.site, output));
        ctx.finish();
    }
}

/// Returns the end of a `timeout` that begins `now`.
fn from(now: Time, timeout: Timeout) -> Time {
    if timeout.is_on() { now + timeout } else { Time::NEVER }
}

/// Returns the time until the next second.
fn rest_of_second(now: SystemTime) -> Duration {
    let second = Duration::from_secs(1);
    now.duration_since(UNIX_EPOCH).map_or(second, |since| second - Duration::from_nanos(since.subsec_nanos().into()))
}

impl Service for Http {
    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        self.keep_time(ctx);
        let capacity = ctx.room();
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
            // The client has answers to take, and may have sent requests that are still unread. The write timeout decides,
            // and bytes that the client takes renew the idle timeout.
            (Deadline::Idle, None) if ctx.queued() > 0 => {}
            // Between requests the client expects an end.
            (_, None) => ctx.finish(),
            // The idle timeout bounds the time between requests. A request has its own deadline.
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
                ctx.set_deadline(Deadline::Read, request.due);
            }
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, _reason: CloseReason) {
        let id = ctx.id();
        self.partial_requests.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ConnId;
    use crate::service::{Command, Probe};

    const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    const BODY: &[u8] = b"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";

    fn start() -> (Probe, Http, ConnId) {
        (Probe::new(), Http::new(&Settings::default(), String::new()), Probe::id(1))
    }

    /// Stands for the timeout of the listener.
    const RESTORED: Time = Time::ZERO;

    /// The read deadlines in `commands`.
    fn deadlines(commands: &[Command]) -> Vec<Time> {
        let due = |command: &Command| match *command {
            Command::SetDeadline { which: Deadline::Read, due, .. } => Some(due),
            Command::RestoreTimeout { which: Deadline::Read, .. } => Some(RESTORED),
            _ => None,
        };
        commands.iter().filter_map(due).collect()
    }

    #[test]
    fn a_request_in_one_piece_is_one_answer_and_no_other_command() {
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
        assert_eq!(set.into_iter().map(due).collect::<Vec<_>>(), [10_000, 10_000, 32_000, 32_003, due(RESTORED)]);
        assert!(http.partial_requests.is_empty());
    }

    #[test]
    fn a_body_has_a_least_rate() {
        let (mut probe, mut http, one) = start();
        let head = b"PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        // A byte of the body moves the deadline by a thousandth of a second, other bytes do not move it.
        for (piece, due) in [(&head[..], 30_000), (b"400;a=", 30_000), (b"b\r\n", 30_000), (&[b'x'; 0x400], 31_000)] {
            probe.on(one, |ctx| http.on_data(ctx, piece));
            assert_eq!(deadlines(&probe.take_commands())[0].as_nanos().div_ceil(1_000_000), due);
            probe.advance(Duration::from_secs(9));
        }
    }

    #[test]
    fn each_body_has_its_own_deadline() {
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
        // Nor do many heads, one after another, each of which begins when the one before is answered.
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
        // A body that goes on has time to arrive.
        probe.advance(Duration::from_secs(1));
        probe.on(one, |ctx| http.on_data(ctx, b"he"));
        assert_eq!(deadlines(&probe.take_commands()), [Time::from_millis(3_000)]);
    }

    #[test]
    fn a_timeout_of_zero_sets_no_deadline() {
        let settings = Settings { header_timeout: Duration::ZERO, ..Settings::default() };
        let (mut probe, mut http, one) = (Probe::new(), Http::new(&settings, String::new()), Probe::id(1));
        probe.on(one, |ctx| http.on_data(ctx, b"G"));
        assert_eq!(deadlines(&probe.take_commands()), [Time::NEVER]);
    }

    #[test]
    fn a_late_request_gets_408_and_an_idle_connection_only_fin() {
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
    fn a_request_that_may_be_unread_gets_another_deadline() {
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
    fn a_client_with_queued_answers_is_not_idle() {
        let (mut probe, mut http, one) = start();
        probe.set_queued(1);
        probe.on(one, |ctx| http.on_deadline(ctx, Deadline::Idle));
        assert_eq!(probe.take_commands(), []);
        probe.set_queued(0);
        probe.on(one, |ctx| http.on_deadline(ctx, Deadline::Idle));
        assert_eq!(probe.take_commands(), [Command::Finish { of: one }]);
    }

    #[test]
    fn requests_beyond_the_capacity_stay_unread() {
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
    fn a_stop_finishes_idle_connections_and_waits_for_requests() {
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
    fn a_closed_connection_leaves_no_row() {
        let (mut probe, mut http, one) = start();
        probe.on(one, |ctx| http.on_data(ctx, BODY));
        probe.on(one, |ctx| http.on_close(ctx, CloseReason::Reset));
        assert!(http.partial_requests.is_empty());
    }
}
