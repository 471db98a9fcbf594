//! The deadlines of connections in the library: Go's `SetDeadline`.

use std::io::{Read, Write};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::{SLACK, expect_silence, millis};
use crate::harness::spy::{Callback, Loop};
use crate::harness::{PATIENCE, client, hold, scaled};
use reactor::limits::Policy;
use reactor::service::CloseReason;
use reactor::timer::{Deadline, Time};

#[test]
fn a_passed_deadline_beats_data_that_is_ready() {
    let (written, wait) = channel();
    let spy = Loop::acting(Policy::default(), move |ctx, callback| {
        if *callback == Callback::Open {
            wait.recv_timeout(PATIENCE).expect("the client has written");
            ctx.set_deadline(Deadline::Read, ctx.now());
        }
    });
    let (mut peer, id) = spy.connect();
    peer.write_all(b"too late").unwrap();
    written.send(()).unwrap();
    assert_eq!(spy.expect(Callback::Deadline(Deadline::Read)).id, Some(id));
    // The deadline stays passed until it is set anew, through any number of turns and arrivals.
    for _ in 0..10 {
        peer.write_all(b"!").unwrap();
        spy.run(|_| {});
    }
    spy.run_on(id, move |ctx| ctx.set_deadline(Deadline::Read, Time::NEVER));
    spy.expect(Callback::Data(b"too late!!!!!!!!!!".to_vec()));
    let (_, ledger, _) = spy.stop();
    assert_eq!(ledger.closed_by(CloseReason::Deadline(Deadline::Read)), 0);
}

/// Starts a loop with three words. `gate` holds up the turn until the returned sender is used. `set` sets the read
/// deadline of the latest connection to the present. Any other word is only reported.
fn gated() -> (Loop, Sender<()>) {
    let (open, gate) = channel();
    let mut ids = Vec::new();
    let spy = Loop::acting(Policy::default(), move |ctx, callback| match callback {
        Callback::Open => ids.push(ctx.id()),
        Callback::Data(word) if word == b"gate" => gate.recv_timeout(PATIENCE).expect("the gate opens"),
        Callback::Data(word) if word == b"set" => {
            let (last, now) = (*ids.last().expect("connections"), ctx.now());
            let mut last = ctx.connection(last).expect("a connection");
            last.set_deadline(Deadline::Read, now);
        }
        _ => {}
    });
    (spy, open)
}

#[test]
fn a_deadline_set_by_another_thread_beats_data_of_the_same_turn() {
    let (spy, open) = gated();
    let ((mut porter, _), (mut peer, id)) = (spy.connect(), spy.connect());
    porter.write_all(b"gate").unwrap();
    spy.expect(Callback::Data(b"gate".to_vec()));
    // The loop finds both after its next wait.
    peer.write_all(b"too late").unwrap();
    spy.post_on(id, move |ctx| ctx.set_deadline(Deadline::Read, ctx.now()));
    open.send(()).unwrap();
    spy.expect(Callback::Done);
    assert_eq!(spy.expect(Callback::Deadline(Deadline::Read)).id, Some(id));
    let (_, _, rest) = spy.stop();
    assert!(!rest.iter().any(|event| matches!(event.callback, Callback::Data(_))), "{rest:?}");
}

#[test]
fn a_deadline_set_by_another_connection_beats_data_of_the_same_turn() {
    let (spy, open) = gated();
    let ((mut porter, _), (mut speaker, _), (mut peer, id)) = (spy.connect(), spy.connect(), spy.connect());
    porter.write_all(b"gate").unwrap();
    spy.expect(Callback::Data(b"gate".to_vec()));
    // The kernel reports them in this order.
    speaker.write_all(b"set").unwrap();
    peer.write_all(b"too late").unwrap();
    open.send(()).unwrap();
    spy.expect(Callback::Data(b"set".to_vec()));
    assert_eq!(spy.expect(Callback::Deadline(Deadline::Read)).id, Some(id));
    spy.stop();
}

#[test]
fn a_deadline_set_to_the_past_and_cleared_does_not_fire() {
    let spy = Loop::acting(Policy::default(), |ctx, callback| {
        if *callback == Callback::Open {
            for due in [Time::ZERO, Time::NEVER] {
                ctx.set_deadline(Deadline::Read, due);
                ctx.set_deadline(Deadline::Write, due);
            }
        }
    });
    let (mut peer, _) = spy.connect();
    spy.run(|_| {});
    peer.write_all(b"in time").unwrap();
    spy.expect(Callback::Data(b"in time".to_vec()));
    spy.stop();
}

/// Asserts that the read deadline set by `set` fires after `span`: never early, and late by less than [`SLACK`] of the
/// time in which the loop could run.
#[track_caller]
fn assert_fires_after(spy: &Loop, span: Duration, set: impl FnOnce(&Loop) -> Time) {
    let clock = spy.stopwatch();
    let set = set(spy);
    let fired = spy.expect(Callback::Deadline(Deadline::Read)).at.since(set);
    let granted = clock.granted();
    assert!(fired >= span, "{span:?}: early, after {fired:?}");
    assert!(granted < span + SLACK, "{span:?}: late, after {granted:?} of {fired:?}");
}

#[test]
fn a_deadline_is_never_early_and_fires_once_for_each_setting() {
    let spy = Loop::start();
    let (mut peer, id) = spy.connect();
    for span in [1, 20, 64, 100].map(millis) {
        assert_fires_after(&spy, span, |spy| {
            spy.run_on(id, move |ctx| ctx.set_deadline(Deadline::Read, ctx.now() + span))
        });
    }
    // A passed deadline keeps data back, and is not reported again.
    for _ in 0..4 {
        peer.write_all(b"!").unwrap();
        spy.run(|_| {});
    }
    spy.run_on(id, move |ctx| ctx.set_deadline(Deadline::Read, ctx.now() + PATIENCE));
    spy.expect(Callback::Data(b"!!!!".to_vec()));
    spy.stop();
}

#[test]
fn a_thousand_extensions_fire_once_at_the_last() {
    scaled(|scale| {
        let span = millis(800) * scale;
        let spy = Loop::acting(Policy::default(), move |ctx, callback| {
            if let Callback::Data(bytes) = callback {
                ctx.set_deadline(Deadline::Read, ctx.now() + span);
                ctx.send(bytes);
            }
        });
        let (mut peer, _) = spy.connect();
        let mut last = (spy.stopwatch(), Time::ZERO);
        for _ in 0..1_000 {
            let clock = spy.stopwatch();
            peer.write_all(b"x").unwrap();
            let event = spy.next();
            if event.callback != Callback::Data(b"x".to_vec()) {
                assert!(last.0.withheld() > span / 2, "{event:?} between two extensions");
                return None;
            }
            peer.read_exact(&mut [0]).unwrap();
            last = (clock, event.at);
        }
        let fired = spy.expect(Callback::Deadline(Deadline::Read)).at.since(last.1);
        let granted = last.0.granted();
        assert!(fired >= span && granted < span + SLACK, "{granted:?} of {fired:?}");
        let (_, ledger, rest) = spy.stop();
        assert!(!rest.iter().any(|event| matches!(event.callback, Callback::Deadline(_))), "{rest:?}");
        // The wheel does no work for a deadline that moves to a later time.
        assert!(ledger.timers_set < 20, "{} timers for one deadline", ledger.timers_set);
        Some(())
    });
}

#[test]
fn an_earlier_deadline_replaces_a_later_one() {
    let spy = Loop::start();
    let (_peer, id) = spy.connect();
    spy.run_on(id, move |ctx| ctx.set_deadline(Deadline::Read, ctx.now() + PATIENCE));
    // The loop sets the alarm at the end of the turn: the next task finds it set.
    spy.run(|_| {});
    assert_fires_after(&spy, millis(50), |spy| {
        spy.run_on(id, move |ctx| ctx.set_deadline(Deadline::Read, ctx.now() + millis(50)))
    });
    spy.stop();
}

#[test]
fn reading_and_writing_have_separate_deadlines() {
    let spy = Loop::acting(Policy::default(), |ctx, callback| match callback {
        Callback::Deadline(Deadline::Read) => ctx.send(b"I can still write"),
        Callback::Data(bytes) => ctx.send(bytes),
        _ => {}
    });
    let (mut peer, id) = spy.connect();
    // Only the read deadline has passed.
    spy.run_on(id, move |ctx| ctx.set_deadline(Deadline::Read, ctx.now()));
    spy.expect(Callback::Deadline(Deadline::Read));
    peer.read_exact(&mut [0; 17]).unwrap();
    // Only the write deadline has passed. It is reported when bytes are queued.
    spy.run_on(id, move |ctx| {
        ctx.set_deadline(Deadline::Read, Time::NEVER);
        ctx.set_deadline(Deadline::Write, ctx.now());
    });
    peer.write_all(b"heard").unwrap();
    spy.expect(Callback::Data(b"heard".to_vec()));
    spy.expect(Callback::Deadline(Deadline::Write));
    expect_silence(&mut peer, millis(50));
    spy.run_on(id, move |ctx| ctx.set_deadline(Deadline::Write, Time::NEVER));
    let mut answer = [0; 5];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"heard");
    spy.stop();
}

#[test]
fn deadlines_in_the_far_future_do_not_fire() {
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
        for which in [Deadline::Read, Deadline::Write, Deadline::Idle] {
            spy.run_on(id, move |ctx| ctx.set_deadline(which, due));
        }
    }
    spy.run_on(id, move |ctx| {
        ctx.set_deadline(Deadline::Write, Time::from_millis(1 << 44));
        ctx.set_deadline(Deadline::Read, ctx.now() + millis(100));
    });
    spy.expect(Callback::Deadline(Deadline::Read));
    spy.run_on(id, move |ctx| ctx.set_deadline(Deadline::Read, Time::from_nanos(u64::MAX - 1)));
    peer.write_all(b"for ever").unwrap();
    spy.expect(Callback::Data(b"for ever".to_vec()));
    spy.stop();
}

#[test]
fn a_write_deadline_fires_for_a_peer_that_never_reads() {
    // Allocated before the loop runs: the time of a debug build is not the deadline's.
    let much = vec![0; 32 << 20];
    let spy = Loop::acting(Policy::default(), move |ctx, callback| match callback {
        Callback::Open => {
            ctx.set_deadline(Deadline::Write, ctx.now() + millis(100));
            ctx.send(&much);
        }
        Callback::Deadline(Deadline::Write) => ctx.abort_because(CloseReason::Deadline(Deadline::Write)),
        _ => {}
    });
    let clock = spy.stopwatch();
    let peer = client(spy.addr);
    let opened = spy.expect(Callback::Open).at;
    let fired = spy.expect(Callback::Deadline(Deadline::Write)).at.since(opened);
    let granted = clock.granted();
    assert!(fired >= millis(100) && granted < Duration::from_secs(1), "{granted:?} of {fired:?}");
    spy.expect(Callback::Close(CloseReason::Deadline(Deadline::Write)));
    drop(peer);
    spy.stop();
}

#[test]
fn a_write_timeout_is_renewed_by_progress_and_by_nothing_else() {
    scaled(|scale| {
        let timeout = millis(400) * scale;
        let policy = Policy::default().with_write_timeout(timeout);
        let much = vec![0; 32 << 20];
        let spy = Loop::acting(policy, move |ctx, callback| match callback {
            Callback::Data(_) => ctx.send(&much),
            Callback::Deadline(Deadline::Write) => ctx.abort(),
            _ => {}
        });
        let (mut peer, _) = spy.connect();
        // Nothing is queued, so no write is late.
        expect_silence(&mut peer, timeout * 3 / 2);
        peer.write_all(b"go").unwrap();
        let asked = spy.expect(Callback::Data(b"go".to_vec())).at;
        let clock = spy.stopwatch();
        let mut part = vec![0; 1 << 20];
        for _ in 0..8 {
            let read = peer.read_exact(&mut part);
            if read.is_err() {
                assert!(clock.withheld() > timeout / 2, "{read:?} in spite of progress");
                return None;
            }
            hold(timeout / 4);
        }
        let stalled = spy.stopwatch();
        let fired = spy.expect(Callback::Deadline(Deadline::Write)).at.since(asked);
        let granted = stalled.granted();
        if fired < 2 * timeout && clock.withheld() > timeout / 2 {
            return None;
        }
        assert!(fired >= 2 * timeout, "{fired:?} in spite of progress");
        assert!(granted < timeout + Duration::from_secs(2), "{granted:?} without progress");
        spy.expect(Callback::Close(CloseReason::Aborted));
        spy.stop();
        Some(())
    });
}
