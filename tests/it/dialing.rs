//! Dialing, in the library: each dial ends in `on_open` or in `on_dial_error`, with the reason of the failure.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use crate::harness::addresses::{BlackHole, Vacant};
use crate::harness::spy::{Callback, Event, Loop};
use crate::harness::{PATIENCE, pattern, read_all};
use reactor::limits::Policy;
use reactor::reactor::RunOutcome;
use reactor::service::{CloseReason, Dial, Errno};
use reactor::timer::Time;
use reactor::{Addr, ConnId, Context, Reactor, Service, ServiceContext};

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

const REFUSED: CloseReason = CloseReason::Unreachable(Errno(libc::ECONNREFUSED));

#[test]
fn a_dialed_connection_is_opened_used_and_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (dialed, ids) = channel();
    let spy = Loop::prepared(
        Policy::default(),
        |ctx, callback| match callback {
            Callback::Open => ctx.send(b"hello"),
            Callback::Data(bytes) => ctx.send(bytes),
            _ => {}
        },
        move |reactor, service| {
            let id = reactor.dial(service, &Dial::to(addr)).expect("dial");
            dialed.send(id).unwrap();
        },
    );
    let (mut peer, from) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(spy.expect(Callback::Open).id, Some(ids.recv().unwrap()));
    assert_ne!(from.port(), addr.port());
    let mut hello = [0; 5];
    peer.read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"hello");
    peer.write_all(b"and back").unwrap();
    spy.expect(Callback::Data(b"and back".to_vec()));
    peer.read_exact(&mut [0; 8]).unwrap();
    drop(peer);
    spy.expect(Callback::Eof);
    spy.expect(Callback::Close(CloseReason::Finished));
    let (_, ledger, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(ledger.dials, 1);
}

#[test]
fn bytes_sent_on_open_arrive_before_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let sent = pattern(1 << 20);
    let spy = Loop::prepared(
        Policy::default(),
        {
            let sent = sent.clone();
            move |ctx, callback| {
                if *callback == Callback::Open {
                    ctx.send(&sent);
                    ctx.finish();
                }
            }
        },
        move |reactor, service| {
            reactor.dial(service, &Dial::to(addr).within(millis(5_000))).expect("dial");
        },
    );
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(crate::harness::read_all(&mut peer) == sent, "something else has arrived");
    drop(peer);
    spy.expect(Callback::Open);
    spy.expect(Callback::Close(CloseReason::Finished));
    spy.stop();
}

#[test]
fn a_dial_starts_at_the_requested_local_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let spy = Loop::prepared(
        Policy::default(),
        |_, _| {},
        move |reactor, service| {
            let local = ([127, 0, 0, 2], 0).into();
            reactor.dial(service, &Dial::to(addr).from(local)).expect("dial");
        },
    );
    let (_peer, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), Ipv4Addr::new(127, 0, 0, 2));
    spy.expect(Callback::Open);
    spy.stop();
}

#[test]
fn a_refusal_is_reported_at_once() {
    let vacant = Vacant::new();
    let addr = vacant.addr;
    let spy = Loop::start();
    let clock = spy.stopwatch();
    let (sender, dialed) = channel();
    spy.run(move |ctx| sender.send(ctx.dial(Dial::to(addr))).unwrap());
    assert_eq!(spy.expect(Callback::DialError(REFUSED)).id, dialed.try_recv().ok());
    assert!(clock.granted() < Duration::from_secs(1), "{:?}", clock.granted());
    let (_, ledger, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(ledger.closed_by(REFUSED), 1);
}

#[test]
fn an_address_that_cannot_be_dialed_is_reported() {
    let spy = Loop::start();
    // TCP has no broadcast: connect(2) fails at once.
    let (sender, dialed) = channel();
    spy.run(move |ctx| sender.send(ctx.dial(Dial::to(([255, 255, 255, 255], 9)))).unwrap());
    let event = spy.next();
    assert!(matches!(event.callback, Callback::DialError(CloseReason::Unreachable(_))), "{event:?}");
    assert_eq!(event.id, dialed.try_recv().ok());
    let (outcome, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(outcome, RunOutcome::Drained);
}

#[test]
fn a_dial_without_an_answer_ends_at_its_deadline() {
    let hole = BlackHole::new();
    let addr = hole.addr;
    let spy = Loop::start();
    let clock = spy.stopwatch();
    let dialed = spy.run(move |ctx| _ = ctx.dial(Dial::to(addr).within(millis(150))));
    let event = spy.expect(Callback::DialError(CloseReason::DialDeadline));
    let (after, granted) = (event.at.since(dialed), clock.granted());
    assert!(after >= millis(150) && granted < millis(450), "{granted:?} of {after:?}");
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn the_deadline_of_a_dial_counts_from_the_call_and_not_from_the_last_turn() {
    let hole = BlackHole::new();
    let addr = hole.addr;
    let spy = Loop::prepared(
        Policy::default(),
        |_, _| {},
        move |reactor, service| {
            let start = Instant::now();
            while start.elapsed() < millis(150) {
                std::hint::spin_loop();
            }
            reactor.dial(service, &Dial::to(addr).within(millis(100))).expect("dial");
        },
    );
    let event = spy.expect(Callback::DialError(CloseReason::DialDeadline));
    assert!(event.at >= Time::from_millis(250), "{}", event.at);
    spy.stop();
}

#[test]
fn a_stop_does_not_wait_for_a_dial() {
    let hole = BlackHole::new();
    let addr = hole.addr;
    let spy = Loop::start();
    spy.run(move |ctx| _ = ctx.dial(Dial::to(addr)));
    let clock = spy.stopwatch();
    spy.handle.stop();
    let event = spy.next();
    assert!(clock.granted() < Duration::from_secs(1), "{:?}", clock.granted());
    assert_eq!(event.callback, Callback::DialError(CloseReason::Aborted));
    let (outcome, _, rest) = spy.wait();
    assert_eq!(outcome, RunOutcome::Drained);
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn a_port_without_a_listener_is_never_answered_by_the_dialer_itself() {
    let vacant = Vacant::new();
    let (addr, any_port) = (vacant.addr, vacant.any_port());
    let spy = Loop::start();
    let mut events: Vec<Event> = Vec::new();
    for _ in 0..20 {
        spy.post(move |ctx| {
            for _ in 0..50 {
                ctx.dial(Dial::to(addr).from(any_port));
            }
        });
        events.extend((0..51).map(|_| spy.next()));
    }
    let opened = events.iter().find(|event| event.callback == Callback::Open);
    assert!(opened.is_none(), "connected to a port without a listener: {opened:?}");
    let reasons: HashMap<ConnId, CloseReason> = events
        .iter()
        .filter_map(|event| match event.callback {
            Callback::DialError(reason) => event.id.map(|id| (id, reason)),
            _ => None,
        })
        .collect();
    assert_eq!(reasons.len(), 1_000);
    assert!(reasons.values().all(|reason| [REFUSED, CloseReason::SelfConnect].contains(reason)), "{reasons:?}");
    let (_, ledger, _) = spy.stop();
    assert_eq!(ledger.closed_by(REFUSED) + ledger.closed_by(CloseReason::SelfConnect), 1_000);
}

#[test]
fn a_socket_connected_to_itself_is_a_failed_dial() {
    // The kernel chooses the same port once in many thousand dials; the same address at both ends forces it.
    let vacant = Vacant::new();
    let addr = vacant.addr;
    let spy = Loop::prepared(
        Policy::default(),
        |_, _| {},
        move |reactor, service| {
            reactor.dial(service, &Dial::to(addr).from(addr)).expect("dial");
        },
    );
    spy.expect(Callback::DialError(CloseReason::SelfConnect));
    spy.stop();
}

/// Dials once, with verbs before the connection is established, and again after each failure.
struct Early {
    to: Addr,
    verbs: fn(&mut Context<'_>),
    events: Sender<&'static str>,
}

impl Service for Early {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        let id = ctx.dial(Dial::to(self.to.clone()));
        (self.verbs)(&mut ctx.connection(id).unwrap());
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
        self.events.send("data").unwrap();
        input.len()
    }

    fn on_drain(&mut self, _: &mut Context<'_>) {
        self.events.send("drain").unwrap();
    }

    fn on_dial_error(&mut self, ctx: &mut Context<'_>, _: CloseReason) {
        ctx.dial(Dial::to(self.to.clone()));
    }
}

/// Runs a loop until `end` has returned, with the peer in the hands of the test. Returns the callbacks.
fn early(verbs: fn(&mut Context<'_>), end: impl FnOnce(TcpStream)) -> Vec<&'static str> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = Addr::from(listener.local_addr().unwrap());
    let (events, received) = channel();
    let (started, start) = channel();
    let thread = std::thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        reactor.set_grace(millis(50));
        reactor.add_service("early", Box::new(Early { to, verbs, events }));
        started.send(reactor.handle()).unwrap();
        reactor.run().unwrap();
    });
    let handle = start.recv_timeout(PATIENCE).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.write_all(b"input").unwrap();
    end(peer);
    handle.stop();
    thread.join().unwrap();
    received.try_iter().collect()
}

#[test]
fn verbs_before_a_connection_is_established_act_when_it_is() {
    let drains = early(
        |ctx| {
            ctx.send(b"early");
            ctx.await_drain();
            ctx.pause();
        },
        |mut peer| peer.read_exact(&mut [0; 5]).unwrap(),
    );
    assert_eq!(drains, ["drain"], "the input is paused");
    let ends = early(
        |ctx| {
            ctx.finish();
            ctx.half_close();
        },
        |mut peer| assert_eq!(read_all(&mut peer), b""),
    );
    assert_eq!(ends, [""; 0], "a finish discards input, and a half-close does not weaken it");
}

#[test]
fn a_service_that_dials_again_at_once_does_not_hold_up_a_stop() {
    let vacant = Vacant::new();
    let (events, _received) = channel();
    let mut reactor = Reactor::new().unwrap();
    reactor.add_service("again", Box::new(Early { to: vacant.addr.into(), verbs: |_| {}, events }));
    reactor.set_grace(millis(50));
    reactor.handle().stop();
    assert!(!matches!(reactor.run().unwrap(), RunOutcome::Forced));
}

#[test]
fn an_id_of_one_reactor_finds_nothing_in_another() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reactors = [Reactor::new().unwrap(), Reactor::new().unwrap()];
    let ids = reactors.each_mut().map(|reactor| {
        let (events, _) = channel();
        let to = Addr::from(listener.local_addr().unwrap());
        let service = reactor.add_service("early", Box::new(Early { to: to.clone(), verbs: |_| {}, events }));
        reactor.dial(service, &Dial::to(to)).unwrap()
    });
    assert_ne!(ids[0], ids[1]);
    assert!(reactors[1].connection_status(ids[0]).is_none() && reactors[0].connection_status(ids[0]).is_some());
}
