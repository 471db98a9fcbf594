//! The lookup of the peer's name, on a thread of the reactor.
//!
//! Owns: [`Resolver`]. Must not know: its client.
//!
//! Invariant: at most one lookup is under way. A name server that does not answer holds up one thread, however many
//! attempts of the client it outlasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::EventSender;
use crate::clients::ConsoleEvent;
use crate::resolver::{HostPort, ResolveError};

/// Resolves one name, again for each request.
#[derive(Debug)]
pub(super) struct Resolver {
    name: HostPort,
    events: EventSender,
    is_under_way: Arc<AtomicBool>,
}

impl Resolver {
    /// Returns a resolver of `name`. It sends [`ConsoleEvent::Resolved`].
    pub fn new(name: HostPort, events: EventSender) -> Self {
        Self { name, events, is_under_way: Arc::default() }
    }

    /// Requests the addresses. A lookup that is under way answers this request, too.
    pub fn request(&self) {
        let Some(client) = self.events.client.get() else { return };
        if self.is_under_way.swap(true, Ordering::AcqRel) {
            return;
        }
        let is_under_way = Arc::clone(&self.is_under_way);
        let outcome = client.resolve(self.name.clone(), move |found| {
            // Before the post: a request that comes after this answer needs another.
            is_under_way.store(false, Ordering::Release);
            ConsoleEvent::Resolved(found)
        });
        if let Err(error) = outcome {
            self.is_under_way.store(false, Ordering::Release);
            self.events.send(ConsoleEvent::Resolved(Err(ResolveError::new(&self.name.host, &error.to_string()))));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::reactor::{Poster, Reactor};
    use crate::service::{Context, Receive, Service, ServiceContext, TimerName};

    /// Counts answers.
    #[derive(Default)]
    struct Client {
        resolved: usize,
        others: usize,
        ticks: usize,
    }

    impl Service for Client {
        /// Ends each wait of the loop, so that a test without an answer fails.
        fn on_start(&mut self, ctx: &mut ServiceContext) {
            ctx.set_timer(TimerName(0), ctx.now(), Duration::from_millis(10));
        }

        fn on_timer(&mut self, _: &mut ServiceContext, _: TimerName) {
            self.ticks += 1;
        }

        fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
            input.len()
        }
    }

    impl Receive<ConsoleEvent> for Client {
        fn on_post(&mut self, _: &mut ServiceContext, event: ConsoleEvent) {
            match event {
                ConsoleEvent::Resolved(found) => self.resolved += found.map_or(0, |addrs| addrs.len()),
                _ => self.others += 1,
            }
        }
    }

    #[test]
    fn requests_during_a_lookup_have_one_answer_and_later_ones_another() {
        let mut reactor = Reactor::new().unwrap();
        reactor.set_offload_threads(1);
        let mut poster = None;
        let id = reactor.add_service_with("client", |to: Poster<ConsoleEvent>| {
            poster = Some(to);
            Client::default()
        });
        let poster = poster.unwrap();
        let events = EventSender { client: Arc::new(OnceLock::from(poster.clone())) };
        let resolver = Resolver::new(HostPort { host: "127.0.0.1".to_owned(), port: 7 }, events);
        let (hold, held) = channel::<()>();
        // The only thread is busy until both requests are made.
        let job = move || {
            let _ = held.recv();
            ConsoleEvent::Writable
        };
        poster.offload(job).unwrap();
        resolver.request();
        resolver.request();
        drop(hold);
        let mut await_others = |others: usize| {
            let ended = |reactor: &Reactor| reactor.service::<Client>(id).is_some_and(|client| client.others == others);
            while !ended(&reactor) {
                reactor.turn().unwrap();
                assert!(reactor.service::<Client>(id).unwrap().ticks < 3_000, "no answer within 30 s");
            }
            reactor.service::<Client>(id).unwrap().resolved
        };
        // One thread runs its jobs in order: this answer is the last.
        poster.offload(|| ConsoleEvent::Writable).unwrap();
        assert_eq!(await_others(2), 1);
        resolver.request();
        poster.offload(|| ConsoleEvent::Writable).unwrap();
        assert_eq!(await_others(3), 2);
    }
}
