//! HTTP/1.1 on the reactor. Its twin is `http_blocking.rs`.
//!
//! - **Run** `cargo run --example http_reactor [ADDR]` (127.0.0.1:28080 unless given).
//! - **Try** `curl -v 127.0.0.1:28080/time`, half a request by `nc 127.0.0.1 28080`, and
//!   `wrk -c 1000 http://127.0.0.1:28080/time`: one thread serves them all.
//! - **Notice** that a deadline is an instant, as in Go: the first byte of a head sets it, and further bytes do not move
//!   it. No time left has to be computed. A client that does not take its answers gets no more of them. `capacity` bounds
//!   the answers of one callback, and the reactor offers the remaining requests again when there is room.

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use reactor::id::ConnMap;
use reactor::limits::Policy;
use reactor::protocol::http::{Conversation, Phase, Site};
use reactor::protocol::time_text::LocalTime;
use reactor::reactor::{ListenOptions, Reactor};
use reactor::service::{CloseReason, Context, Service};
use reactor::timer::{Deadline, Time};

/// The longest time for a head, pause in a body, pause between requests, and time that an answer stays unread.
const HEAD: Duration = Duration::from_secs(10);
const BODY: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const WRITE: Duration = Duration::from_secs(60);

struct Http {
    site: Site,
    conversations: ConnMap<Conversation>,
}

impl Service for Http {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.conversations.insert(ctx.id(), Conversation::NEW);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let Some(conversation) = self.conversations.get_mut(ctx.id()) else { return input.len() };
        self.site.set_time(ctx.wall_clock());
        let (before, capacity) = (conversation.phase(), ctx.room());
        let consumed = ctx.send_with(|output| conversation.receive(&self.site, input, capacity, output));
        match conversation.phase() {
            // Between requests the policy's idle timeout counts.
            Phase::Idle => ctx.set_deadline(Deadline::Read, Time::NEVER),
            Phase::Head if before == Phase::Head && consumed == 0 => {}
            Phase::Head => ctx.set_deadline(Deadline::Read, ctx.now() + HEAD),
            Phase::Body => ctx.set_deadline(Deadline::Read, ctx.now() + BODY),
            Phase::Done => ctx.finish(),
        }
        consumed
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        if let Some(conversation) = self.conversations.get_mut(ctx.id()) {
            self.site.set_time(ctx.wall_clock());
            ctx.send_with(|output| conversation.end(&self.site, output));
        }
        ctx.finish();
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        match (which, self.conversations.get_mut(ctx.id())) {
            (Deadline::Read, Some(conversation)) => {
                self.site.set_time(ctx.wall_clock());
                ctx.send_with(|output| conversation.time_out(&self.site, output));
                ctx.finish();
            }
            // A client that sends no further request gets FIN.
            (Deadline::Idle, _) => ctx.finish(),
            _ => ctx.abort_because(CloseReason::Deadline(which)),
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, _reason: CloseReason) {
        let id = ctx.id();
        self.conversations.remove(id);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:28080".to_owned());
    let addr: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
    let index = "<!DOCTYPE html><title>http_reactor</title><p>One thread for all connections.".to_owned();
    let site = Site::new(index, 1024 * 1024, LocalTime::of_system());
    let policy = Policy::default().with_idle_timeout(KEEP_ALIVE).with_write_timeout(WRITE);
    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let http = reactor.add_service("http", Box::new(Http { site, conversations: ConnMap::new() }));
    let listened = reactor.listen(http, addr, &ListenOptions::default(), policy);
    let (_, addr) = listened.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening http tcp {addr}");
    reactor.run()?;
    Ok(())
}
