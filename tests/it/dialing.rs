//! Dialing, in the library: each dial ends in `on_dialed` or in `on_dial_error`, and the reason says which way it failed.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::harness::addresses::{BlackHole, dead_address};
use crate::harness::spy::{Loop, News, Told};
use crate::harness::{PATIENCE, eventually, pattern};
use reactor::limits::Policy;
use reactor::reactor::RunOutcome;
use reactor::service::{CloseReason, Dial, DialName, Errno};
use reactor::timer::{Deadline, Time};

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
        |ctx, told| match told {
            Told::Open => ctx.send(b"hello"),
            Told::Data(bytes) => ctx.send(bytes),
            _ => {}
        },
        move |reactor, service| {
            let id = reactor.dial(service, &Dial::to(addr)).expect("dial");
            dialed.send(id).unwrap();
        },
    );
    let (mut peer, from) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(spy.expect(Told::Open).id, Some(ids.recv().unwrap()));
    assert_ne!(from.port(), addr.port());
    let mut hello = [0; 5];
    peer.read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"hello");
    peer.write_all(b"and back").unwrap();
    spy.expect(Told::Data(b"and back".to_vec()));
    peer.read_exact(&mut [0; 8]).unwrap();
    drop(peer);
    spy.expect(Told::Eof);
    spy.expect(Told::Close(CloseReason::Finished));
    let (_, ledger, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(ledger.dials, 1);
}

#[test]
fn what_is_sent_while_dialing_waits_for_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let sent = pattern(1 << 20);
    let spy = Loop::prepared(
        Policy::default(),
        {
            let sent = sent.clone();
            move |ctx, told| {
                if *told == Told::Open {
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
    spy.expect(Told::Open);
    spy.expect(Told::Close(CloseReason::Finished));
    spy.stop();
}

#[test]
fn the_local_address_is_the_one_that_was_asked_for() {
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
    spy.expect(Told::Open);
    spy.stop();
}

#[test]
fn a_refusal_is_told_at_once() {
    let addr = dead_address();
    let spy = Loop::start();
    let start = Instant::now();
    spy.order_and_wait(move |ctx| ctx.dial(Dial::to(addr).named(DialName(3))));
    spy.expect(Told::DialError(3, REFUSED));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let (_, ledger, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(ledger.closed_by(REFUSED), 1);
}

#[test]
fn an_address_that_cannot_be_dialed_is_told_as_well() {
    let spy = Loop::start();
    // TCP has no broadcast: connect(2) fails at once.
    spy.order_and_wait(|ctx| ctx.dial(Dial::to(([255, 255, 255, 255], 9).into()).named(DialName(4))));
    let news = spy.next();
    assert!(matches!(news.what, Told::DialError(4, CloseReason::Unreachable(_))), "{news:?}");
    let (ended, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(ended, RunOutcome::Drained);
}

#[test]
fn a_dial_that_nobody_answers_ends_at_its_deadline() {
    let hole = BlackHole::new();
    let addr = hole.addr;
    let spy = Loop::start();
    let dialed = spy.order_and_wait(move |ctx| ctx.dial(Dial::to(addr).within(millis(150)).named(DialName(5))));
    let news = spy.expect(Told::DialError(5, CloseReason::Deadline(Deadline::Dial)));
    let after = news.at.since(dialed);
    assert!(after >= millis(150) && after < millis(450), "{after:?}");
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn the_time_before_the_loop_turns_does_not_count() {
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
    let start = Instant::now();
    let news = spy.expect(Told::DialError(0, CloseReason::Deadline(Deadline::Dial)));
    assert!(news.at >= Time::from_millis(250), "{}", news.at);
    assert!(start.elapsed() < PATIENCE);
    spy.stop();
}

#[test]
fn a_stop_does_not_wait_for_a_dial() {
    let hole = BlackHole::new();
    let addr = hole.addr;
    let spy = Loop::start();
    spy.order_and_wait(move |ctx| ctx.dial(Dial::to(addr)));
    let start = Instant::now();
    let (ended, _, rest) = spy.stop();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(ended, RunOutcome::Drained);
    let told: Vec<_> = rest.into_iter().map(|news| news.what).collect();
    assert_eq!(told, [Told::DialError(0, CloseReason::Aborted)]);
}

#[test]
fn a_dead_port_is_never_answered_by_the_dialer_itself() {
    let addr = dead_address();
    let spy = Loop::start();
    let mut news: Vec<News> = Vec::new();
    for round in 0..20 {
        spy.order(move |ctx| (0..50).for_each(|n| ctx.dial(Dial::to(addr).named(DialName(round * 50 + n)))));
        news.extend((0..51).map(|_| spy.next()));
    }
    let opened = news.iter().find(|news| news.what == Told::Open);
    assert!(opened.is_none(), "connected to a port at which nobody listens: {opened:?}");
    let reasons: HashMap<u64, CloseReason> = news
        .iter()
        .filter_map(|news| match news.what {
            Told::DialError(dial, reason) => Some((dial, reason)),
            _ => None,
        })
        .collect();
    assert_eq!(reasons.len(), 1_000);
    assert!(reasons.values().all(|reason| [REFUSED, CloseReason::SelfConnect].contains(reason)), "{reasons:?}");
    let (_, ledger, _) = spy.stop();
    assert_eq!(ledger.closed_by(REFUSED) + ledger.closed_by(CloseReason::SelfConnect), 1_000);
}

#[test]
fn a_socket_that_has_connected_to_itself_is_found_out() {
    // Chance makes it happen once in many thousand dials; the same address at both ends makes it happen now.
    let mut news = None;
    let met = eventually(PATIENCE, || {
        let addr = dead_address();
        let (dialed, outcome) = channel();
        let spy = Loop::prepared(
            Policy::default(),
            |_, _| {},
            move |reactor, service| {
                let dial = reactor.dial(service, &Dial::to(addr).from(addr).named(DialName(7)));
                dialed.send(dial.is_ok()).unwrap();
            },
        );
        // Somebody else may have bound the port in the meantime.
        let dialed = outcome.recv().unwrap();
        news = dialed.then(|| spy.next().what);
        spy.stop();
        dialed
    });
    assert!(met, "cannot bind any port");
    assert_eq!(news, Some(Told::DialError(7, CloseReason::SelfConnect)));
}
