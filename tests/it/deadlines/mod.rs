//! Deadlines: over real sockets as far as the command line sets them, and in the library with the semantics of Go's
//! `SetDeadline`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::spy::{Loop, Told};
use crate::harness::{PATIENCE, Server, client, exchange, pattern, read_all};
use reactor::limits::Policy;
use reactor::service::CloseReason;
use reactor::timer::{Deadline, Time};

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What a debug build may add to any delay.
const SLACK: Duration = millis(300);

/// What a machine that is busy with other things may add, where only once is asked.
const HELD_UP: Duration = millis(1_500);

/// Waits for the peer's end with nothing before it; how long after `start` it came.
fn wait_for_end(peer: &mut TcpStream, start: Instant) -> Duration {
    assert_eq!(peer.read(&mut [0; 16]).expect("an end without a reset"), 0);
    start.elapsed()
}

/// Lets `span` pass while nothing must come from the peer.
fn hear_nothing(peer: &mut TcpStream, span: Duration) {
    peer.set_read_timeout(Some(span)).unwrap();
    let silence = peer.read(&mut [0; 16]);
    assert!(silence.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{silence:?}");
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
}

/// A pause that is a part of the story, not a wait for something to happen.
fn hold(span: Duration) {
    let (_silent, nothing) = channel::<()>();
    let _ = nothing.recv_timeout(span);
}

/// Tells the story again when the machine was held up while it was told: early is never excused, late is up to four
/// times. `story` returns how late it was, if it went as planned.
fn on_time(mut story: impl FnMut() -> Option<Duration>) {
    let late: Vec<_> =
        (0..5).map_while(|_| Some(story()).filter(|late| late.is_none_or(|late| late > SLACK))).collect();
    assert!(late.len() < 5, "late every time: {late:?}");
}

#[test]
fn every_byte_moves_the_goodbye() {
    let server = Server::start(&["idle=0", "--idle-timeout", "1s"]);
    let silent = || {
        let start = Instant::now();
        assert_eq!(read_all(&mut server.connect("idle")), b"goodbye\n");
        let after = start.elapsed();
        assert!(after >= millis(1_000), "{after:?} without a byte");
        Some(after - millis(1_000))
    };
    let spoke = || {
        let mut peer = server.connect("idle");
        let connected = Instant::now();
        hear_nothing(&mut peer, millis(850));
        let spoke = Instant::now();
        peer.write_all(b"!").ok()?;
        // Later than this the goodbye may have been on its way already.
        let in_time = connected.elapsed() < millis(950);
        assert_eq!(read_all(&mut peer), b"goodbye\n");
        let after = spoke.elapsed();
        assert!(!in_time || after >= millis(1_000), "{after:?} after the last byte");
        in_time.then(|| after - millis(1_000))
    };
    thread::scope(|scope| {
        scope.spawn(|| on_time(silent));
        scope.spawn(|| on_time(spoke));
    });
    let remains = server.stop();
    remains.assert_clean();
    assert!(remains.count("closed_finished") >= 2);
}

#[test]
fn the_goodbye_reaches_a_client_that_is_still_sending() {
    let server = Server::start(&["idle=0", "--idle-timeout", "300ms"]);
    let mut peer = server.connect("idle");
    // It has been said, but not yet read.
    assert_eq!(peer.peek(&mut [0; 1]).unwrap(), 1);
    for _ in 0..32 {
        peer.write_all(&pattern(65_536)).unwrap();
    }
    assert_eq!(read_all(&mut peer), b"goodbye\n");
    peer.write_all(b"and one more thing").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert!(peer.take_error().unwrap().is_none());
    let remains = server.stop();
    remains.assert_clean();
    assert_eq!(remains.count("closed_finished"), 1);
}

#[test]
fn a_silent_client_is_closed_and_a_busy_one_is_not() {
    let server = Server::start(&["echo=0", "--read-timeout", "800ms"]);
    let silent = || {
        let start = Instant::now();
        let after = wait_for_end(&mut server.connect("echo"), start);
        assert!(after >= millis(800), "{after:?}");
        Some(after - millis(800))
    };
    let busy = || {
        let mut peer = server.connect("echo");
        for _ in 0..12 {
            assert_eq!(exchange(&mut peer, b"busy"), b"busy");
            hear_nothing(&mut peer, millis(100));
        }
        // From the last byte on it counts again.
        let start = Instant::now();
        peer.write_all(b"!").unwrap();
        peer.read_exact(&mut [0]).unwrap();
        let after = wait_for_end(&mut peer, start);
        assert!(after >= millis(800), "{after:?}");
        Some(after - millis(800))
    };
    thread::scope(|scope| {
        scope.spawn(|| on_time(silent));
        scope.spawn(|| on_time(busy));
    });
    let remains = server.stop();
    remains.assert_clean();
    assert!(remains.count("closed_read_deadline") >= 2);
}

#[test]
fn a_peer_that_never_reads_is_closed() {
    let server = Server::start(&["echo=0", "--write-timeout", "100ms"]);
    let mut peer = server.connect("echo");
    let chunk = pattern(16 * 1024);
    let start = Instant::now();
    let mut progress = start;
    // It is closed over what it has not read, so a reset is its due.
    while peer.write_all(&chunk).is_ok() {
        progress = Instant::now();
    }
    let (stalled, total) = (progress.elapsed(), start.elapsed());
    assert!(total >= millis(100) && stalled < Duration::from_secs(1), "{stalled:?} of {total:?}");
    server.assert_serves();
    let remains = server.stop();
    remains.assert_clean();
    assert_eq!(remains.count("closed_write_deadline"), 1);
}

#[test]
fn a_peer_that_reads_slowly_is_not_closed() {
    let server = Server::start(&["echo=0", "--write-timeout", "400ms", "--send-buffer", "16KiB"]);
    let peer = server.connect("echo");
    let sent = pattern(1 << 20);
    let start = Instant::now();
    let received = thread::scope(|scope| {
        scope.spawn(|| {
            (&peer).write_all(&sent).unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        let mut sip = [0; 16 * 1024];
        loop {
            let n = (&peer).read(&mut sip).expect("a slow reader is served");
            if n == 0 {
                break received;
            }
            received.extend_from_slice(&sip[..n]);
            hold(millis(15));
        }
    });
    assert!(received == sent, "the echo differs");
    assert!(start.elapsed() > millis(800), "that was not slow");
    drop(peer);
    let remains = server.stop();
    remains.assert_clean();
    assert_eq!(remains.count("closed_finished"), 1);
    assert_eq!(remains.count("closed_write_deadline"), 0);
}

#[test]
fn a_flood_does_not_make_others_deadlines_late() {
    let server = Server::start(&["echo=0", "--read-timeout", "100ms"]);
    let flooded = AtomicBool::new(true);
    let peer = server.connect("echo");
    let mut late: Vec<_> = thread::scope(|scope| {
        let chunk = pattern(65_536);
        scope.spawn(|| {
            let mut sender = &peer;
            let chunk = chunk;
            // A machine that is held up for longer than the timeout ends this one, too.
            while flooded.load(Ordering::Relaxed) {
                if sender.write_all(&chunk).is_err() {
                    break;
                }
            }
            let _ = peer.shutdown(Shutdown::Write);
        });
        scope.spawn(|| {
            let mut part = vec![0; 65_536];
            while (&peer).read(&mut part).is_ok_and(|n| n > 0) {}
        });
        let late = (0..15).map(|_| {
            let start = Instant::now();
            let after = wait_for_end(&mut server.connect("echo"), start);
            assert!(after >= millis(100), "early: {after:?}");
            after - millis(100)
        });
        let late = late.collect();
        flooded.store(false, Ordering::Relaxed);
        late
    });
    // The machine may be held up once or twice by somebody else; a loop that is late is late every time.
    late.sort_unstable();
    assert!(late[late.len() / 2] < millis(150), "{late:?}");
    let remains = server.stop();
    assert!(remains.count("closed_read_deadline") >= 15);
    assert!(remains.count("bytes_in") > 10 << 20, "that was no flood");
}

// The library: Go's SetDeadline.

#[test]
fn a_passed_deadline_beats_data_that_is_ready() {
    let (written, wait) = channel();
    let spy = Loop::acting(Policy::default(), move |ctx, told| {
        if *told == Told::Open {
            wait.recv_timeout(PATIENCE).expect("the client has written");
            ctx.set_read_deadline(ctx.now());
        }
    });
    let (mut peer, id) = spy.connect();
    peer.write_all(b"too late").unwrap();
    written.send(()).unwrap();
    assert_eq!(spy.expect(Told::Deadline(Deadline::Read)).id, Some(id));
    // It stays so until it is set anew, however often the loop turns and whatever else arrives.
    for _ in 0..10 {
        peer.write_all(b"!").unwrap();
        spy.order_and_wait(|_| {});
    }
    spy.order_and_wait(move |ctx| ctx.set_peer_deadline(id, Deadline::Read, Time::NEVER));
    spy.expect(Told::Data(b"too late!!!!!!!!!!".to_vec()));
    let (_, ledger, _) = spy.stop();
    assert_eq!(ledger.closed_by(CloseReason::Deadline(Deadline::Read)), 0);
}

/// A loop in which the word `gate` holds up the turn until the returned sender is used, `set` sets the read deadline of
/// the latest connection to the present, and any other word is just told.
fn gated() -> (Loop, std::sync::mpsc::Sender<()>) {
    let (open, gate) = channel();
    let mut ids = Vec::new();
    let spy = Loop::acting(Policy::default(), move |ctx, told| match told {
        Told::Open => ids.push(ctx.id()),
        Told::Data(word) if word == b"gate" => gate.recv_timeout(PATIENCE).expect("the gate opens"),
        Told::Data(word) if word == b"set" => {
            let (last, now) = (*ids.last().expect("connections"), ctx.now());
            ctx.set_peer_deadline(last, Deadline::Read, now);
        }
        _ => {}
    });
    (spy, open)
}

#[test]
fn a_deadline_that_another_thread_sets_beats_data_of_the_same_turn() {
    let (spy, open) = gated();
    let ((mut porter, _), (mut peer, id)) = (spy.connect(), spy.connect());
    porter.write_all(b"gate").unwrap();
    spy.expect(Told::Data(b"gate".to_vec()));
    // Both are there when the loop looks again.
    peer.write_all(b"too late").unwrap();
    spy.order(move |ctx| ctx.set_peer_deadline(id, Deadline::Read, ctx.now()));
    open.send(()).unwrap();
    spy.expect(Told::Done);
    assert_eq!(spy.expect(Told::Deadline(Deadline::Read)).id, Some(id));
    let (_, _, rest) = spy.stop();
    assert!(!rest.iter().any(|news| matches!(news.what, Told::Data(_))), "{rest:?}");
}

#[test]
fn a_deadline_that_another_connection_sets_beats_data_of_the_same_turn() {
    let (spy, open) = gated();
    let ((mut porter, _), (mut speaker, _), (mut peer, id)) = (spy.connect(), spy.connect(), spy.connect());
    porter.write_all(b"gate").unwrap();
    spy.expect(Told::Data(b"gate".to_vec()));
    // The kernel reports them in this order.
    speaker.write_all(b"set").unwrap();
    peer.write_all(b"too late").unwrap();
    open.send(()).unwrap();
    spy.expect(Told::Data(b"set".to_vec()));
    assert_eq!(spy.expect(Told::Deadline(Deadline::Read)).id, Some(id));
    spy.stop();
}

#[test]
fn set_to_the_past_and_cleared_is_still_waiting() {
    let spy = Loop::acting(Policy::default(), |ctx, told| {
        if *told == Told::Open {
            ctx.set_deadlines(Time::ZERO);
            ctx.set_deadlines(Time::NEVER);
        }
    });
    let (mut peer, _) = spy.connect();
    spy.order_and_wait(|_| {});
    peer.write_all(b"in time").unwrap();
    spy.expect(Told::Data(b"in time".to_vec()));
    spy.stop();
}

#[test]
fn a_deadline_is_never_early_and_fires_once_for_each_setting() {
    let spy = Loop::start();
    let (mut peer, id) = spy.connect();
    for span in [1, 20, 64, 100].map(millis) {
        let set = spy.order_and_wait(move |ctx| ctx.set_peer_deadline(id, Deadline::Read, ctx.now() + span));
        let fired = spy.expect(Told::Deadline(Deadline::Read)).at;
        assert!(fired.since(set) >= span && fired.since(set) < span + HELD_UP, "{span:?}: {:?}", fired.since(set));
    }
    // Sticky: no data, and no second report.
    for _ in 0..4 {
        peer.write_all(b"!").unwrap();
        spy.order_and_wait(|_| {});
    }
    spy.order_and_wait(move |ctx| ctx.set_peer_deadline(id, Deadline::Read, ctx.now() + PATIENCE));
    spy.expect(Told::Data(b"!!!!".to_vec()));
    spy.stop();
}

#[test]
fn a_thousand_extensions_fire_once_at_the_last() {
    const SPAN: Duration = millis(800);
    let spy = Loop::acting(Policy::default(), |ctx, told| {
        if let Told::Data(bytes) = told {
            ctx.set_read_deadline(ctx.now() + SPAN);
            ctx.send(bytes);
        }
    });
    let (mut peer, _) = spy.connect();
    let mut last = Time::ZERO;
    for _ in 0..1_000 {
        assert_eq!(exchange(&mut peer, b"x"), b"x");
        last = spy.expect(Told::Data(b"x".to_vec())).at;
    }
    let fired = spy.expect(Told::Deadline(Deadline::Read)).at;
    assert!(fired.since(last) >= SPAN && fired.since(last) < SPAN + HELD_UP, "{:?}", fired.since(last));
    let (_, ledger, rest) = spy.stop();
    assert!(!rest.iter().any(|news| matches!(news.what, Told::Deadline(_))), "{rest:?}");
    // Pushing a deadline later costs the wheel nothing.
    assert!(ledger.timers_set < 20, "{} timers for one deadline", ledger.timers_set);
}

#[test]
fn an_earlier_deadline_replaces_a_later_one() {
    let spy = Loop::start();
    let (_peer, id) = spy.connect();
    spy.order_and_wait(move |ctx| ctx.set_peer_deadline(id, Deadline::Read, ctx.now() + PATIENCE));
    // The order is done at the end of a turn, and so is the alarm.
    spy.order_and_wait(|_| {});
    let set = spy.order_and_wait(move |ctx| ctx.set_peer_deadline(id, Deadline::Read, ctx.now() + millis(50)));
    let fired = spy.expect(Told::Deadline(Deadline::Read)).at;
    assert!(fired.since(set) >= millis(50) && fired.since(set) < millis(50) + HELD_UP, "{:?}", fired.since(set));
    spy.stop();
}

#[test]
fn reading_and_writing_have_deadlines_of_their_own() {
    let spy = Loop::acting(Policy::default(), |ctx, told| match told {
        Told::Deadline(Deadline::Read) => ctx.send(b"I can still write"),
        Told::Data(bytes) => ctx.send(bytes),
        _ => {}
    });
    let (mut peer, id) = spy.connect();
    // Only reading.
    spy.order(move |ctx| ctx.set_peer_deadline(id, Deadline::Read, ctx.now()));
    spy.expect(Told::Done);
    spy.expect(Told::Deadline(Deadline::Read));
    peer.read_exact(&mut [0; 17]).unwrap();
    // Only writing. It counts from the moment when something is to be written.
    spy.order_and_wait(move |ctx| {
        ctx.set_peer_deadline(id, Deadline::Read, Time::NEVER);
        ctx.set_peer_deadline(id, Deadline::Write, ctx.now());
    });
    peer.write_all(b"heard").unwrap();
    spy.expect(Told::Data(b"heard".to_vec()));
    spy.expect(Told::Deadline(Deadline::Write));
    hear_nothing(&mut peer, millis(50));
    spy.order_and_wait(move |ctx| ctx.set_peer_deadline(id, Deadline::Write, Time::NEVER));
    let mut answer = [0; 5];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"heard");
    spy.stop();
}

#[test]
fn the_far_future_does_not_come() {
    let spy = Loop::start();
    let (mut peer, id) = spy.connect();
    let far = [
        Time::from_millis(1 << 48),
        Time::from_millis(1 << 58),
        Time::from_millis(1 << 44),
        Time::from_millis((1 << 36) - 1),
        Time::from_millis(1 << 36),
        Time::from_nanos(u64::MAX),
        Time::from_nanos(u64::MAX - 1),
        Time::ZERO + Duration::MAX,
    ];
    for due in far {
        for which in [Deadline::Read, Deadline::Write, Deadline::Idle, Deadline::Linger] {
            spy.order_and_wait(move |ctx| ctx.set_peer_deadline(id, which, due));
        }
    }
    spy.order_and_wait(move |ctx| {
        ctx.set_peer_deadline(id, Deadline::Write, Time::from_millis(1 << 44));
        ctx.set_peer_deadline(id, Deadline::Read, ctx.now() + millis(100));
    });
    spy.expect(Told::Deadline(Deadline::Read));
    spy.order_and_wait(move |ctx| ctx.set_peer_deadline(id, Deadline::Read, Time::from_nanos(u64::MAX - 1)));
    peer.write_all(b"for ever").unwrap();
    spy.expect(Told::Data(b"for ever".to_vec()));
    spy.stop();
}

#[test]
fn a_write_deadline_against_a_peer_that_never_reads() {
    let spy = Loop::acting(Policy::default(), |ctx, told| match told {
        Told::Open => {
            ctx.set_write_deadline(ctx.now() + millis(100));
            ctx.send(&vec![0; 32 << 20]);
        }
        Told::Deadline(Deadline::Write) => ctx.abort_because(CloseReason::Deadline(Deadline::Write)),
        _ => {}
    });
    let peer = client(spy.addr);
    let opened = spy.expect(Told::Open).at;
    let fired = spy.expect(Told::Deadline(Deadline::Write)).at.since(opened);
    assert!(fired >= millis(100) && fired < Duration::from_secs(1), "{fired:?}");
    spy.expect(Told::Close(CloseReason::Deadline(Deadline::Write)));
    drop(peer);
    spy.stop();
}

#[test]
fn a_write_timeout_is_renewed_by_progress_and_by_nothing_else() {
    let policy = Policy::default().with_write_timeout(millis(400));
    let spy = Loop::acting(policy, |ctx, told| match told {
        Told::Data(_) => ctx.send(&vec![0; 32 << 20]),
        Told::Deadline(Deadline::Write) => ctx.abort(),
        _ => {}
    });
    let (mut peer, _) = spy.connect();
    // Nothing is queued: nothing is late.
    hear_nothing(&mut peer, millis(600));
    peer.write_all(b"go").unwrap();
    let asked = spy.expect(Told::Data(b"go".to_vec())).at;
    let mut part = vec![0; 1 << 20];
    for _ in 0..8 {
        peer.read_exact(&mut part).unwrap();
        hold(millis(100));
    }
    let fired = spy.expect(Told::Deadline(Deadline::Write)).at.since(asked);
    assert!(fired >= millis(800) && fired < Duration::from_secs(3), "{fired:?}");
    spy.expect(Told::Close(CloseReason::Aborted));
    spy.stop();
}
