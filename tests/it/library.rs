//! The library in an embedding program: posts and stops from other threads, and the one end of each connection.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use crate::harness::spy::{Callback, Loop, Task, ends};
use crate::harness::{PATIENCE, client, pattern, read_all, reset};
use reactor::limits::{DATAGRAMS, POSTS, Policy};
use reactor::reactor::{ListenOptions, PostError, Poster, Reactor, RunOutcome};
use reactor::service::{
    CloseReason, Context, DatagramContext, DatagramService, Dial, Receive, Service, ServiceContext,
};
use reactor::services::{Discard, Echo};
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
            let (tasks, sender) = (spy.poster.clone(), seen.0.clone());
            scope.spawn(move || {
                for n in 0..200u32 {
                    let sender = sender.clone();
                    let task: Task = Box::new(move |_| sender.send((poster, n)).unwrap());
                    tasks.post(task).expect("room for 800 messages");
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
fn no_wake_up_is_lost() {
    let spy = Loop::start();
    let (sender, seen) = channel();
    // One message at a time, each while the loop ends the turn of the one before. A message without a wake-up would wait
    // for ever.
    for n in 0..100_000 {
        let sender = sender.clone();
        spy.poster.post(Box::new(move |_| sender.send(n).unwrap())).expect("room");
        assert_eq!(seen.recv_timeout(PATIENCE), Ok(n));
    }
    spy.stop();
}

/// Adds up the numbers that are posted, and the lengths of the texts.
#[derive(Default, PartialEq, Debug)]
struct Sum(usize);

impl Service for Sum {
    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

impl Receive<usize> for Sum {
    fn on_post(&mut self, _: &mut ServiceContext, number: usize) {
        self.0 += number;
    }
}

impl Receive<String> for Sum {
    fn on_post(&mut self, _: &mut ServiceContext, text: String) {
        self.0 += text.len();
    }
}

#[test]
fn services_are_found_by_their_type_before_and_after_the_run() {
    let mut reactor = Reactor::new().unwrap();
    let echo = reactor.add_service("echo", Box::new(Echo));
    let sum = reactor.add_service_with("sum", |poster: Poster<usize>| {
        poster.post(1).unwrap();
        Sum::default()
    });
    let other = reactor.add_service("sum", Box::new(Sum::default()));
    assert!(reactor.service::<Echo>(sum).is_none() && reactor.service_mut::<Sum>(echo).is_none());
    assert!(reactor.poster::<Sum, usize>(echo).is_none());
    reactor.service_mut::<Sum>(sum).unwrap().0 = 10;
    // One service, two types of messages.
    reactor.poster::<Sum, String>(sum).unwrap().post("text".to_owned()).unwrap();
    reactor.poster::<Sum, usize>(sum).unwrap().post(100).unwrap();
    reactor.turn().unwrap();
    reactor.handle().stop();
    assert_eq!(reactor.run().unwrap(), RunOutcome::Drained);
    assert_eq!(reactor.service::<Sum>(sum), Some(&Sum(115)));
    assert_eq!(reactor.service::<Sum>(other), Some(&Sum(0)));
}

#[test]
fn a_blocking_post_waits_for_room() {
    let mut reactor = Reactor::new().unwrap();
    let sum = reactor.add_service("sum", Box::new(Sum::default()));
    let poster = reactor.poster::<Sum, usize>(sum).unwrap();
    for _ in 0..POSTS {
        poster.post(1).expect("room");
    }
    thread::scope(|scope| {
        let waiting = scope.spawn(|| (0..POSTS).try_for_each(|_| poster.post_blocking(1)));
        while reactor.ledger().posts < 2 * POSTS as u64 {
            reactor.turn().unwrap();
        }
        waiting.join().unwrap().expect("room in the end");
    });
    assert_eq!(reactor.service::<Sum>(sum), Some(&Sum(2 * POSTS)));
}

#[test]
fn a_full_mailbox_is_an_error_of_the_post_and_blocks_no_thread() {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.add_service("sum", Box::new(Sum::default()));
    let poster = reactor.poster::<Sum, usize>(service).expect("a sum");
    for n in 0..POSTS {
        poster.post(n).expect("room");
    }
    match poster.post(77) {
        Err(PostError::Full(message)) => assert_eq!(message, 77),
        other => panic!("{other:?}"),
    }
    // A turn makes room again.
    reactor.turn().unwrap();
    assert_eq!(reactor.ledger().posts, POSTS as u64);
    assert_eq!(reactor.service::<Sum>(service), Some(&Sum((0..POSTS).sum())));
    poster.post(1).expect("room again");
    drop(reactor);
    let error = poster.post(78).unwrap_err();
    assert!(!error.is_full());
    assert_eq!(error.into_message(), 78);
    assert!(matches!(poster.post_blocking(79), Err(PostError::Gone(79))));
    poster.handle().stop();
}

#[test]
fn a_service_of_another_reactor_is_an_error_at_the_call() {
    let (mut reactor, mut other) = (Reactor::new().unwrap(), Reactor::new().unwrap());
    let foreign = other.add_service("foreign", Box::new(Discard));
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let listened = reactor.listen(foreign, anywhere, &ListenOptions::default(), Policy::default());
    assert_eq!(listened.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    let dialed = reactor.dial(foreign, &Dial::to(anywhere));
    assert_eq!(dialed.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert!(reactor.service::<Discard>(foreign).is_none() && other.service::<Discard>(foreign).is_some());
}

#[test]
fn a_stop_before_the_run_stops_the_run() {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.add_service("echo", Box::new(Echo));
    reactor.listen(service, ([127, 0, 0, 1], 0), &Default::default(), Policy::default()).unwrap();
    reactor.handle().stop();
    reactor.handle().stop();
    assert_eq!(reactor.run().unwrap(), RunOutcome::Drained);
}

#[test]
fn a_service_can_stop_the_reactor() {
    let spy = Loop::start();
    spy.post(|ctx| ctx.stop_reactor());
    let (ended, _, _) = spy.wait();
    assert_eq!(ended, RunOutcome::Drained);
}

// Datagrams.

#[test]
fn every_datagram_reaches_a_service_that_never_answers() {
    /// An answer would wake the socket. Without answers, a lost edge stays lost.
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
        let silent = reactor.add_datagram_service("silent", Box::new(Silent(sender)));
        let (_, addr) = reactor.bind_datagram(silent, anywhere, &Default::default()).unwrap();
        started.send((addr, reactor.handle())).unwrap();
        wait.recv().unwrap();
        reactor.run().unwrap()
    });
    let (addr, handle) = start.recv_timeout(PATIENCE).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    // An exact multiple of a batch, all of which has arrived before the loop begins.
    let count = 3 * DATAGRAMS as u16;
    for n in 0..count {
        peer.send_to(&n.to_be_bytes(), addr).unwrap();
    }
    go.send(()).unwrap();
    for n in 0..count {
        assert_eq!(numbers.recv_timeout(PATIENCE), Ok(n));
    }
    // One by one: each has an edge of its own.
    for n in 0..count {
        peer.send_to(&n.to_be_bytes(), addr).unwrap();
        assert_eq!(numbers.recv_timeout(PATIENCE), Ok(n));
    }
    handle.stop();
    assert_eq!(running.join().unwrap(), RunOutcome::Drained);
}

// The end of a connection: once, and with its reason.

#[test]
fn a_connection_with_an_end_on_both_sides_is_finished() {
    let spy = Loop::start();
    let (peer, id) = spy.connect();
    peer.shutdown(Shutdown::Write).unwrap();
    spy.expect(Callback::Eof);
    assert_eq!(spy.expect(Callback::Close(CloseReason::Finished)).id, Some(id));
    // Commands for a closed connection do nothing.
    spy.run(move |ctx| {
        assert!(ctx.connection(id).is_none());
        ctx.broadcast(&[id], b"too late");
    });
    let (_, ledger, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(ledger.stale_commands, 1);
}

#[test]
fn a_connection_reset_by_the_peer_ends_as_reset() {
    let spy = Loop::start();
    // An idle connection, and one with unread bytes at the peer.
    for sent in [&b""[..], b"some words"] {
        let (mut peer, id) = spy.connect();
        peer.write_all(sent).unwrap();
        if !sent.is_empty() {
            spy.expect(Callback::Data(sent.to_vec()));
            spy.run_on(id, move |ctx| ctx.send(b"an answer that is not read"));
        }
        reset(peer);
        assert_eq!(spy.expect(Callback::Close(CloseReason::Reset)).id, Some(id));
    }
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn an_abort_is_reported_to_the_service_that_asked_for_it() {
    let spy = Loop::acting(Policy::default(), |ctx, callback| match callback {
        Callback::Data(word) if word == b"abort" => {
            // Commands after an abort change neither the number of ends nor the reason.
            ctx.abort();
            ctx.send(b"too late");
            ctx.finish();
            ctx.abort_because(CloseReason::Overflow);
        }
        _ => {}
    });
    let (mut peer, id) = spy.connect();
    peer.write_all(b"abort").unwrap();
    spy.expect(Callback::Data(b"abort".to_vec()));
    assert_eq!(spy.expect(Callback::Close(CloseReason::Aborted)).id, Some(id));
    assert_eq!(read_all(&mut peer), b"");
    // The same from outside of the connection's callbacks.
    let (_peer, id) = spy.connect();
    spy.run_on(id, |ctx| ctx.abort());
    assert_eq!(spy.expect(Callback::Close(CloseReason::Aborted)).id, Some(id));
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn a_deadline_is_the_reason_of_the_end() {
    for which in [Deadline::Read, Deadline::Idle] {
        let timeout = millis(50);
        let policy = match which {
            Deadline::Read => Policy::default().with_read_timeout(timeout),
            _ => Policy::default().with_idle_timeout(timeout),
        };
        let spy = Loop::acting(policy, |ctx, callback| {
            if let Callback::Deadline(which) = callback {
                ctx.abort_because(CloseReason::Deadline(*which));
            }
        });
        let (mut peer, _) = spy.connect();
        spy.expect(Callback::Deadline(which));
        spy.expect(Callback::Close(CloseReason::Deadline(which)));
        assert_eq!(read_all(&mut peer), b"");
        let (_, _, rest) = spy.stop();
        assert!(rest.is_empty(), "{rest:?}");
    }
}

#[test]
fn a_peer_that_keeps_its_side_open_is_closed_after_the_linger_time() {
    let policy = Policy::default().with_linger(millis(100));
    let spy = Loop::acting(policy, |ctx, callback| {
        if let Callback::Data(_) = callback {
            ctx.send(b"goodbye");
            ctx.finish();
        }
    });
    let (mut peer, _) = spy.connect();
    let clock = spy.stopwatch();
    peer.write_all(b"x").unwrap();
    let finished = spy.expect(Callback::Data(b"x".to_vec())).at;
    assert_eq!(read_all(&mut peer), b"goodbye");
    // The loop discards input that arrives after its FIN.
    peer.write_all(b"are you still there?").unwrap();
    let after = spy.expect(Callback::Close(CloseReason::LingerDeadline)).at.since(finished);
    let granted = clock.granted();
    assert!(after >= millis(100) && granted < millis(400), "{granted:?} of {after:?}");
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn a_peer_that_does_not_read_a_broadcast_is_dropped_at_its_bound() {
    let spy = Loop::start();
    let (_deaf, id) = spy.connect();
    let (mut peer, other) = spy.connect();
    let part = pattern(60_000);
    let mut received = vec![0; part.len()];
    let dropped = (0..2_000).any(|_| {
        let sent = part.clone();
        spy.post(move |ctx| ctx.broadcast(&[id, other], &sent));
        peer.read_exact(&mut received).unwrap();
        assert!(received == part, "the other peer receives other bytes");
        let event = spy.next();
        if event.callback == Callback::Done {
            return false;
        }
        assert_eq!((event.id, event.callback), (Some(id), Callback::Close(CloseReason::Overflow)));
        true
    });
    assert!(dropped, "the kernel holds 120 MB for a peer");
    spy.expect(Callback::Done);
    drop(peer);
    spy.expect(Callback::Eof);
    assert_eq!(spy.expect(Callback::Close(CloseReason::Finished)).id, Some(other));
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn a_stop_finishes_quiet_connections() {
    let spy = Loop::start();
    let mut peers: Vec<_> = (0..20).map(|_| spy.connect().0).collect();
    let reading = thread::spawn(move || peers.iter_mut().map(|peer| read_all(peer).len()).sum::<usize>());
    let (ended, _, rest) = spy.stop();
    assert_eq!(reading.join().unwrap(), 0);
    assert_eq!(ended, RunOutcome::Drained);
    let reasons = ends(&rest);
    assert_eq!(reasons.len(), 20);
    // The clients close one after the other. The last ones may close after the shorter linger time of a stop.
    let orderly = [CloseReason::Finished, CloseReason::LingerDeadline];
    assert!(reasons.values().all(|reason| orderly.contains(reason)), "{reasons:?}");
}

#[test]
fn a_stop_aborts_a_peer_that_does_not_read_at_the_end_of_the_grace_period() {
    let spy = Loop::prepared(
        Policy::default(),
        |ctx, callback| {
            if *callback == Callback::Open {
                ctx.send(&vec![0; 32 << 20]);
            }
        },
        |reactor, _| reactor.set_grace(millis(300)),
    );
    let _deaf = client(spy.addr);
    let id = spy.expect(Callback::Open).id.unwrap();
    let clock = spy.stopwatch();
    spy.handle.stop();
    assert_eq!(spy.expect(Callback::Close(CloseReason::Grace)).id, Some(id));
    let (elapsed, granted) = (clock.elapsed(), clock.granted());
    assert!(elapsed >= millis(300) && granted < millis(1_300), "{granted:?} of {elapsed:?}");
    let (ended, _, rest) = spy.wait();
    assert_eq!(ended, RunOutcome::Aborted(1));
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn a_stop_does_not_wait_for_input_behind_a_passed_read_deadline() {
    let spy = Loop::start();
    let (mut peer, id) = spy.connect();
    spy.run_on(id, move |ctx| ctx.set_deadline(Deadline::Read, ctx.now()));
    spy.expect(Callback::Deadline(Deadline::Read));
    peer.write_all(b"never read").unwrap();
    spy.run(|_| {});
    let reading = thread::spawn(move || read_all(&mut peer));
    let clock = spy.stopwatch();
    spy.handle.stop();
    assert_eq!(spy.expect(Callback::Close(CloseReason::Finished)).id, Some(id));
    assert!(clock.granted() < Duration::from_secs(2), "{:?}", clock.granted());
    assert_eq!(reading.join().unwrap(), b"");
    let (ended, _, _) = spy.wait();
    assert_eq!(ended, RunOutcome::Drained);
}
