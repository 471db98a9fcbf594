//! A service that asks for the next turn has it at once, without an event; one that does not ask lets the loop sleep.

use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use reactor::reactor::{ListenOptions, Reactor, RunOutcome};
use reactor::service::{Context, DatagramContext, DatagramService, Service, ServiceContext, SocketContext};
use reactor::timer::Time;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const TURNS: u32 = 1_000;

/// Has so many turns, and says when the last one was.
struct Counts {
    left: u32,
    last: Sender<Time>,
}

impl Counts {
    /// Whether there is another one.
    fn goes_on(&mut self, now: Time) -> bool {
        self.left -= 1;
        if self.left == 0 {
            self.last.send(now).unwrap();
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
    fn on_start(&mut self, ctx: &mut SocketContext) {
        ctx.request_turn();
    }

    fn on_turn(&mut self, ctx: &mut SocketContext) {
        if self.goes_on(ctx.now()) {
            ctx.request_turn();
        } else {
            ctx.stop_reactor();
        }
    }

    fn on_datagram(&mut self, _ctx: &mut DatagramContext<'_>, _payload: &[u8]) {}
}

/// Runs a reactor whose service has its turns and stops it then.
fn run(prepare: impl FnOnce(&mut Reactor, Counts) + Send + 'static) {
    let (last, told) = channel();
    let (end, ended) = channel();
    thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        prepare(&mut reactor, Counts { left: TURNS, last });
        end.send(reactor.run().unwrap()).unwrap();
    });
    let last = told.recv_timeout(PATIENCE).expect("the turns that were asked for");
    // By a timer it would have been a millisecond for each.
    assert!(last < Time::from_millis(u64::from(TURNS)), "{TURNS} turns took until {last}");
    assert_eq!(ended.recv_timeout(PATIENCE).expect("the end"), RunOutcome::Drained);
}

#[test]
fn a_service_has_the_turns_that_it_asks_for() {
    run(|reactor, counts| {
        reactor.add_service("counts", Box::new(counts));
    });
}

#[test]
fn so_has_a_datagram_socket() {
    run(|reactor, counts| {
        let anywhere = ([127, 0, 0, 1], 0).into();
        reactor.bind_datagram("counts", Box::new(counts), anywhere, &ListenOptions::default()).unwrap();
    });
}
