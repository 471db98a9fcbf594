//! The http service: HTTP/1.1 with a handful of routes.
//!
//! Owns: what a connection's events mean for its conversation, and how long a client may take. Must not know: what is
//! asked and answered, which is [`crate::protocol::http`]'s.
//!
//! Only a request that is under way has a row here. A connection that waits for the next one is as good as new: the usual
//! request comes in one piece, is answered, and leaves nothing behind. How long a connection may wait for a request is the
//! idle timeout of its listener, which the reactor renews with one store.

mod index;

use crate::id::{ConnId, ConnMap};
use crate::protocol::http::{Awaits, Conversation, Site};
use crate::protocol::time_text::LocalTime;
use crate::service::{CloseReason, Context, Service, ServiceContext};
use crate::services::Settings;
use crate::timer::{Deadline, Time, Timeout};

/// Answers requests.
#[derive(Debug)]
pub struct Http {
    site: Site,
    under_way: ConnMap<UnderWay>,
    header_timeout: Timeout,
    body_timeout: Timeout,
    /// When the second that [`Site`] has been told will be over.
    second_ends: Time,
}

/// A request of which some has come, but not all.
#[derive(Debug)]
struct UnderWay {
    conversation: Conversation,
    /// By when more of it must have come: of a head all, of a body something.
    due: Time,
    /// The connection may not have been read for a while after it had come so far: its output was full.
    was_full: bool,
}

impl UnderWay {
    const NOTHING: Self = Self { conversation: Conversation::NEW, due: Time::NEVER, was_full: false };
}

impl Http {
    /// A server with the limits of `settings`.
    pub fn new(settings: &Settings) -> Self {
        Self {
            site: Site::new(index::page(), settings.max_body, LocalTime::default()),
            under_way: ConnMap::new(),
            header_timeout: settings.header_timeout.into(),
            body_timeout: settings.body_timeout.into(),
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

    /// What follows from what a conversation now waits for. `went_on`: it has come further than it was.
    fn wait(&mut self, ctx: &mut Context<'_>, mut request: UnderWay, went_on: bool) {
        let timeout = match request.conversation.awaits() {
            Awaits::Request => {
                ctx.set_read_deadline(Time::NEVER);
                if self.site.is_stopping() {
                    ctx.finish_when_quiet();
                }
                return;
            }
            Awaits::Nothing => return ctx.finish(),
            Awaits::Head => self.header_timeout,
            Awaits::Body => self.body_timeout,
        };
        if went_on {
            request.due = if timeout.is_on() { ctx.now() + timeout } else { Time::NEVER };
        }
        request.was_full = ctx.is_congested();
        // Every time, because a read timeout of the listener would otherwise be renewed by each byte.
        ctx.set_read_deadline(request.due);
        self.under_way.insert(ctx.id(), request);
    }

    /// The request under way has not come in time.
    fn time_out(&mut self, ctx: &mut Context<'_>, mut request: UnderWay) {
        if std::mem::take(&mut request.was_full) {
            // It may have come, and we have not looked.
            return self.wait(ctx, request, true);
        }
        self.keep_time(ctx);
        ctx.send_with(|output| request.conversation.time_out(&self.site, output));
        ctx.finish();
    }
}

/// How long it is until the next second begins.
fn rest_of_second(now: std::time::SystemTime) -> std::time::Duration {
    use std::time::{Duration, UNIX_EPOCH};
    let second = Duration::from_secs(1);
    now.duration_since(UNIX_EPOCH).map_or(second, |since| second - Duration::from_nanos(since.subsec_nanos().into()))
}

impl Service for Http {
    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        self.keep_time(ctx);
        let (id, room) = (ctx.id(), ctx.room());
        let known = self.under_way.remove(id);
        let was_known = known.is_some();
        let mut request = known.unwrap_or(UnderWay::NOTHING);
        let site = &self.site;
        let consumed = ctx.send_with(|output| request.conversation.receive(site, input, room, output));
        if was_known || request.conversation.awaits() != Awaits::Request || self.site.is_stopping() {
            self.wait(ctx, request, consumed > 0 || !was_known);
        }
        consumed
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        if let Some(mut request) = self.under_way.remove(ctx.id()) {
            self.keep_time(ctx);
            ctx.send_with(|output| request.conversation.end(&self.site, output));
        }
        ctx.finish();
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        match (which, self.under_way.remove(ctx.id())) {
            (Deadline::Write, _) => ctx.abort_because(CloseReason::Deadline(which)),
            (Deadline::Read, Some(request)) => self.time_out(ctx, request),
            // Between requests nobody is surprised by an end.
            (_, None) => ctx.finish(),
            // The idle timeout is about the time between requests; within one its own deadline counts.
            (_, Some(request)) => drop(self.under_way.insert(ctx.id(), request)),
        }
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        self.site.stop();
        if self.under_way.get(ctx.id()).is_none() {
            ctx.finish_when_quiet();
        }
    }

    fn on_close(&mut self, _ctx: &mut ServiceContext, id: ConnId, _reason: CloseReason) {
        self.under_way.remove(id);
    }
}
