//! A service that requests the next turn gets it at once, without an event.

use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use crate::harness::PATIENCE;
use crate::harness::process::withheld_here;
use reactor::reactor::{ListenOptions, Reactor, RunOutcome};
use reactor::service::{Context, DatagramContext, DatagramService, Service, ServiceContext};
use reactor::timer::Time;

const TURNS: u32 = 1_000;

/// Requests `left` turns, and reports the time of the last one.
struct Counts {
    left: u32,
    /// The time on the reactor's clock, and the time in which the thread waited for a processor.
    last: Sender<(Time, Duration)>,
}

impl Counts {
    /// Counts a turn. Returns true if another one is wanted.
    fn goes_on(&mut self, now: Time) -> bool {
        self.left -= 1;
        if self.left == 0 {
            self.last.send((now, withheld_here())).unwrap();
        }
        self.left > 0
    }
}

impl Service for Counts {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        ctx.request_turn();
    }

    fn on_turn(&mut self, ctx: &mut ServiceContext) {
        if self.goes_on(ctx.now()) {
            ctx.request_turn();
        } else {
            ctx.stop_reactor();
        }
    }

    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

impl DatagramService for Counts {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        ctx.request_turn();
    }

    fn on_turn(&mut self, ctx: &mut ServiceContext) {
        if self.goes_on(ctx.now()) {
            ctx.request_turn();
        } else {
            ctx.stop_reactor();
        }
    }

    fn on_datagram(&mut self, _ctx: &mut DatagramContext<'_>, _payload: &[u8]) {}
}

/// Runs a reactor until its service has had its turns.
fn run(prepare: impl FnOnce(&mut Reactor, Counts) + Send + 'static) {
    let (last, times) = channel();
    let (end, ended) = channel();
    thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        prepare(&mut reactor, Counts { left: TURNS, last });
        end.send(reactor.run().unwrap()).unwrap();
    });
    let (last, withheld) = times.recv_timeout(PATIENCE).expect("the requested turns");
    let granted = last.since(Time::ZERO).saturating_sub(withheld);
    // The wheel's tick is a millisecond: a turn that waits for a timer takes at least that.
    assert!(granted < Duration::from_millis(u64::from(TURNS)), "{TURNS} turns took {granted:?} of {last}");
    assert_eq!(ended.recv_timeout(PATIENCE).expect("the end"), RunOutcome::Drained);
}

#[test]
fn a_service_gets_the_turns_that_it_requests() {
    run(|reactor, counts| {
        reactor.add_service("counts", Box::new(counts));
    });
}

#[test]
fn a_datagram_service_gets_the_turns_that_it_requests() {
    run(|reactor, counts| {
        let anywhere = ([127, 0, 0, 1], 0).into();
        let counts = reactor.add_datagram_service("counts", Box::new(counts));
        reactor.bind_datagram(counts, anywhere, &ListenOptions::default()).unwrap();
    });
}
