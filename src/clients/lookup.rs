//! A name, resolved within a time: for those who need an address before they can begin.
//!
//! Owns: [`Lookup`]. Must not know: who resolves names.

use std::any::Any;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::console::ConsoleEvent;
use super::timed_out;
use crate::service::{Context, Service, ServiceContext, TimerName};

const DUE: TimerName = TimerName(1);

/// What a lookup has come to, once it has: the addresses, or why there are none.
pub type Found = Rc<RefCell<Option<Result<Vec<SocketAddr>, String>>>>;

/// Waits for [`ConsoleEvent::Resolved`], and not too long. It has no connections.
#[derive(Debug)]
pub struct Lookup {
    peer: String,
    within: Duration,
    found: Found,
}

impl Lookup {
    /// A lookup on behalf of `peer`, as it is called in messages, that may take `within` (zero: as long as it likes). The
    /// second value will say what has come of it.
    pub fn new(peer: String, within: Duration) -> (Self, Found) {
        let found = Found::default();
        (Self { peer, within, found: Rc::clone(&found) }, found)
    }

    fn answer(&self, answer: Result<Vec<SocketAddr>, String>) {
        self.found.borrow_mut().get_or_insert(answer);
    }
}

impl Service for Lookup {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        if !self.within.is_zero() {
            ctx.set_timer(DUE, ctx.now() + self.within, Duration::ZERO);
        }
    }

    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_timer(&mut self, _ctx: &mut ServiceContext, _timer: TimerName) {
        self.answer(Err(timed_out("dial", &self.peer, self.within)));
    }

    fn on_post(&mut self, _ctx: &mut ServiceContext, message: Box<dyn Any + Send>) {
        if let Ok(event) = message.downcast::<ConsoleEvent>()
            && let ConsoleEvent::Resolved(answer) = *event
        {
            self.answer(answer.map_err(|why| format!("dial {}: {why}", self.peer)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Probe;

    #[test]
    fn the_first_answer_counts_and_time_is_one() {
        let mut probe = Probe::new();
        let (mut lookup, found) = Lookup::new("udp://peer:9".to_owned(), Duration::from_secs(2));
        probe.call(|ctx| lookup.on_start(ctx));
        assert_eq!(probe.take_commands().len(), 1);
        let addrs = vec![SocketAddr::from(([127, 0, 0, 1], 9))];
        probe.call(|ctx| lookup.on_post(ctx, Box::new(ConsoleEvent::Resolved(Ok(addrs.clone())))));
        probe.call(|ctx| lookup.on_timer(ctx, DUE));
        assert_eq!(*found.borrow(), Some(Ok(addrs)));

        let (mut lookup, found) = Lookup::new("udp://peer:9".to_owned(), Duration::from_secs(2));
        probe.call(|ctx| lookup.on_timer(ctx, DUE));
        assert_eq!(*found.borrow(), Some(Err("dial udp://peer:9: i/o timeout after 2s".to_owned())));
    }
}
