//! The library as a program that embeds it sees it: posting and stopping from other threads, and the one end that each
//! connection has.

use std::io::{Read, Write};
use std::net::{Shutdown, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use crate::harness::spy::{Loop, Told, ends};
use crate::harness::{PATIENCE, client, pattern, read_all, reset};
use reactor::id::ServiceId;
use reactor::limits::{DATAGRAMS, POSTS, Policy};
use reactor::reactor::{PostError, Reactor, RunOutcome};
use reactor::service::{CloseReason, DatagramContext, DatagramService};
use reactor::services::Echo;
use reactor::timer::Deadline;

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

// Other threads.

#[test]
fn posts_of_many_threads_arrive_each_once_and_in_order() {
    let (spy, seen) = (Loop::start(), channel());
    thread::scope(|scope| {
        for poster in 0..4u32 {
            let (handle, service, sender) = (spy.handle.clone(), spy.service, seen.0.clone());
            scope.spawn(move || {
                for n in 0..200u32 {
                    let sender = sender.clone();
                    let order: Box<dyn FnOnce(&mut reactor::service::ServiceContext) + Send> =
                        Box::new(move |_| sender.send((poster, n)).unwrap());
                    handle.post(service, Box::new(order)).expect("room for 800 messages");
                }
            });
        }
    });
    let mut next = [0; 4];
    for _ in 0..800 {
        let (poster, n) = seen.1.recv_timeout(PATIENCE).expect("a post");
        assert_eq!(n, next[poster as usize], "poster {poster}");
        next[poster as usize] += 1;
    }
    let (ended, ledger, _) = spy.stop();
    assert_eq!((ended, ledger.posts), (RunOutcome::Drained, 800));
}

#[test]
fn a_full_mailbox_is_the_senders_error_and_blocks_nobody() {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.add_service("echo", Box::new(Echo));
    let handle = reactor.handle();
    for n in 0..POSTS {
        handle.post(service, Box::new(n)).expect("room");
    }
    match handle.post(service, Box::new("one too many")) {
        Err(PostError::Full(message)) => assert_eq!(message.downcast_ref(), Some(&"one too many")),
        other => panic!("{other:?}"),
    }
    // A turn makes room again.
    reactor.turn().unwrap();
    assert_eq!(reactor.ledger().posts, POSTS as u64);
    handle.post(service, Box::new(())).expect("room again");
    drop(reactor);
    assert!(matches!(handle.post(service, Box::new(())), Err(PostError::Gone(_))));
    handle.stop();
}

#[test]
fn a_post_to_nobody_is_ignored() {
    let mut reactor = Reactor::new().unwrap();
    reactor.handle().post(ServiceId(7), Box::new(())).unwrap();
    reactor.turn().unwrap();
    reactor.handle().stop();
    assert_eq!(reactor.run().unwrap(), RunOutcome::Drained);
}

#[test]
fn a_stop_before_the_start_is_a_stop() {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.add_service("echo", Box::new(Echo));
    reactor.listen(service, ([127, 0, 0, 1], 0).into(), &Default::default(), Policy::default()).unwrap();
    reactor.handle().stop();
    reactor.handle().stop();
    assert_eq!(reactor.run().unwrap(), RunOutcome::Drained);
}

#[test]
fn a_service_can_stop_the_reactor() {
    let spy = Loop::start();
    spy.order(|ctx| ctx.stop_reactor());
    let (ended, _, _) = spy.wait();
    assert_eq!(ended, RunOutcome::Drained);
}

// Datagrams.

#[test]
fn every_datagram_is_delivered_also_to_a_service_that_never_answers() {
    /// Answers would wake the socket; without them an edge that is lost stays lost.
    struct Silent(Sender<u16>);
    impl DatagramService for Silent {
        fn on_datagram(&mut self, _ctx: &mut DatagramContext<'_>, payload: &[u8]) {
            let _ = self.0.send(u16::from_be_bytes(payload.try_into().expect("a number")));
        }
    }
    let (sender, numbers) = channel();
    let (started, start) = channel();
    let (go, wait) = channel::<()>();
    let running = thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        let anywhere = ([127, 0, 0, 1], 0).into();
        let (_, addr) =
            reactor.bind_datagram("silent", Box::new(Silent(sender)), anywhere, &Default::default()).unwrap();
        started.send((addr, reactor.handle())).unwrap();
        wait.recv().unwrap();
        reactor.run().unwrap()
    });
    let (addr, handle) = start.recv_timeout(PATIENCE).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    // More than one batch, an exact multiple of it, and all of them there before the loop begins.
    let count = 3 * DATAGRAMS as u16;
    for n in 0..count {
        peer.send_to(&n.to_be_bytes(), addr).unwrap();
    }
    go.send(()).unwrap();
    for n in 0..count {
        assert_eq!(numbers.recv_timeout(PATIENCE), Ok(n));
    }
    // And one by one, each with an edge of its own.
    for n in 0..count {
        peer.send_to(&n.to_be_bytes(), addr).unwrap();
        assert_eq!(numbers.recv_timeout(PATIENCE), Ok(n));
    }
    handle.stop();
    assert_eq!(running.join().unwrap(), RunOutcome::Drained);
}

// The end of a connection: once, and with its reason.

#[test]
fn an_end_on_both_sides_is_finished() {
    let spy = Loop::start();
    let (peer, id) = spy.connect();
    peer.shutdown(Shutdown::Write).unwrap();
    spy.expect(Told::Eof);
    assert_eq!(spy.expect(Told::Close(CloseReason::Finished)).id, Some(id));
    // Commands to it do nothing any more.
    spy.order_and_wait(move |ctx| {
        ctx.send_to(id, b"too late");
        ctx.abort_peer(id);
        ctx.finish_peer(id);
        ctx.broadcast(&[id], b"too late");
    });
    let (_, ledger, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(ledger.stale_commands, 4);
}

#[test]
fn a_reset_is_a_reset() {
    let spy = Loop::start();
    // Idle, with bytes that nobody has read, and after a half-close.
    for say in [&b""[..], b"some words"] {
        let (mut peer, id) = spy.connect();
        peer.write_all(say).unwrap();
        if !say.is_empty() {
            spy.expect(Told::Data(say.to_vec()));
            spy.order_and_wait(move |ctx| ctx.send_to(id, b"an answer that is not read"));
        }
        reset(peer);
        assert_eq!(spy.expect(Told::Close(CloseReason::Reset)).id, Some(id));
    }
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn an_abort_is_told_to_the_service_that_wanted_it() {
    let spy = Loop::acting(Policy::default(), |ctx, told| match told {
        Told::Data(word) if word == b"abort" => {
            // Whatever follows an abort, it ends once, and for the first reason.
            ctx.abort();
            ctx.send(b"too late");
            ctx.finish();
            ctx.abort_because(CloseReason::Overflow);
        }
        _ => {}
    });
    let (mut peer, id) = spy.connect();
    peer.write_all(b"abort").unwrap();
    spy.expect(Told::Data(b"abort".to_vec()));
    assert_eq!(spy.expect(Told::Close(CloseReason::Aborted)).id, Some(id));
    assert_eq!(read_all(&mut peer), b"");
    // From outside.
    let (_peer, id) = spy.connect();
    spy.order_and_wait(move |ctx| ctx.abort_peer(id));
    assert_eq!(spy.expect(Told::Close(CloseReason::Aborted)).id, Some(id));
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn a_deadline_is_a_reason_of_its_own() {
    for which in [Deadline::Read, Deadline::Idle] {
        let timeout = millis(50);
        let policy = match which {
            Deadline::Read => Policy::default().with_read_timeout(timeout),
            _ => Policy::default().with_idle_timeout(timeout),
        };
        let spy = Loop::acting(policy, |ctx, told| {
            if let Told::Deadline(which) = told {
                ctx.abort_because(CloseReason::Deadline(*which));
            }
        });
        let (mut peer, _) = spy.connect();
        spy.expect(Told::Deadline(which));
        spy.expect(Told::Close(CloseReason::Deadline(which)));
        assert_eq!(read_all(&mut peer), b"");
        let (_, _, rest) = spy.stop();
        assert!(rest.is_empty(), "{rest:?}");
    }
}

#[test]
fn a_peer_that_keeps_its_side_open_is_left_after_the_linger_time() {
    let policy = Policy::default().with_linger(millis(100));
    let spy = Loop::acting(policy, |ctx, told| {
        if let Told::Data(_) = told {
            ctx.send(b"goodbye");
            ctx.finish();
        }
    });
    let (mut peer, _) = spy.connect();
    peer.write_all(b"x").unwrap();
    let finished = spy.expect(Told::Data(b"x".to_vec())).at;
    assert_eq!(read_all(&mut peer), b"goodbye");
    // What it still says is thrown away.
    peer.write_all(b"are you still there?").unwrap();
    let after = spy.expect(Told::Close(CloseReason::Deadline(Deadline::Linger))).at.since(finished);
    assert!(after >= millis(100) && after < millis(400), "{after:?}");
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn who_does_not_read_what_others_send_is_dropped_at_its_bound() {
    let spy = Loop::start();
    let (_deaf, id) = spy.connect();
    let (mut peer, other) = spy.connect();
    let part = pattern(60_000);
    let mut heard = vec![0; part.len()];
    let dropped = (0..2_000).any(|_| {
        let said = part.clone();
        spy.order(move |ctx| ctx.broadcast(&[id, other], &said));
        peer.read_exact(&mut heard).unwrap();
        assert!(heard == part, "the other one hears something else");
        let news = spy.next();
        if news.what == Told::Done {
            return false;
        }
        assert_eq!((news.id, news.what), (Some(id), Told::Close(CloseReason::Overflow)));
        true
    });
    assert!(dropped, "the kernel hides that much?");
    spy.expect(Told::Done);
    drop(peer);
    spy.expect(Told::Eof);
    assert_eq!(spy.expect(Told::Close(CloseReason::Finished)).id, Some(other));
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn a_stop_finishes_who_is_quiet() {
    let spy = Loop::start();
    let mut peers: Vec<_> = (0..20).map(|_| spy.connect().0).collect();
    let reading = thread::spawn(move || peers.iter_mut().map(|peer| read_all(peer).len()).sum::<usize>());
    let (ended, _, rest) = spy.stop();
    assert_eq!(reading.join().unwrap(), 0);
    assert_eq!(ended, RunOutcome::Drained);
    let reasons = ends(&rest);
    assert_eq!(reasons.len(), 20);
    // The clients close one after the other; the last ones may be late for the shorter linger time of a stop.
    let orderly = [CloseReason::Finished, CloseReason::Deadline(Deadline::Linger)];
    assert!(reasons.values().all(|reason| orderly.contains(reason)), "{reasons:?}");
}

#[test]
fn a_stop_aborts_who_does_not_read_at_the_end_of_its_grace() {
    let spy = Loop::prepared(
        Policy::default(),
        |ctx, told| {
            if *told == Told::Open {
                ctx.send(&vec![0; 32 << 20]);
            }
        },
        |reactor, _| reactor.set_grace(millis(300)),
    );
    let _deaf = client(spy.addr);
    let id = spy.expect(Told::Open).id.unwrap();
    let start = std::time::Instant::now();
    let (ended, _, rest) = spy.stop();
    assert!(start.elapsed() >= millis(300) && start.elapsed() < millis(1_300), "{:?}", start.elapsed());
    assert_eq!(ended, RunOutcome::Aborted(1));
    assert_eq!(ends(&rest).get(&id), Some(&CloseReason::Grace));
    assert_eq!(rest.len(), 1, "{rest:?}");
}

#[test]
fn a_stop_does_not_wait_for_what_a_deadline_keeps_out() {
    let spy = Loop::start();
    let (mut peer, id) = spy.connect();
    spy.order(move |ctx| ctx.set_peer_deadline(id, Deadline::Read, ctx.now()));
    spy.expect(Told::Done);
    spy.expect(Told::Deadline(Deadline::Read));
    peer.write_all(b"nobody will read this").unwrap();
    spy.order_and_wait(|_| {});
    let reading = thread::spawn(move || read_all(&mut peer));
    let start = std::time::Instant::now();
    let (ended, _, rest) = spy.stop();
    assert_eq!(reading.join().unwrap(), b"");
    assert_eq!(ended, RunOutcome::Drained);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(ends(&rest).get(&id), Some(&CloseReason::Finished));
}
