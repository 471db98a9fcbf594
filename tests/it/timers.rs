//! The timers of services, in the library: never early, at most once a period, silent after a cancellation.

use std::collections::HashSet;
use std::time::Duration;

use crate::harness::hold;
use crate::harness::spy::{Callback, Loop};
use reactor::service::TimerName;
use reactor::timer::Time;

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn timers_are_never_early_and_late_by_milliseconds_at_most() {
    // Around the borders of the wheel's levels and far between them.
    let spans = [0u64, 1, 2, 10, 63, 64, 65, 100, 127, 128, 129, 500, 1_000, 2_047, 4_095, 4_096, 4_097];
    let spy = Loop::start();
    let set = spy.run(move |ctx| {
        for span in spans {
            ctx.set_timer(TimerName(span), ctx.now() + millis(span), Duration::ZERO);
        }
    });
    let mut clock = spy.stopwatch();
    let mut late: Vec<_> = spans
        .iter()
        .map(|&span| {
            let fired = spy.expect(Callback::Timer(span)).at;
            let after = fired.since(set);
            assert!(after >= millis(span), "the timer of {span} ms came after {after:?}");
            // Less the time for which the loop, awake, waited for a processor since the timer before.
            let withheld = std::mem::replace(&mut clock, spy.stopwatch()).withheld();
            (after - millis(span)).saturating_sub(withheld)
        })
        .collect();
    // The machine may hold up a few; a wheel that is late is late every time.
    late.sort_unstable();
    assert!(late[late.len() / 2] <= millis(5), "{late:?}");
    let (_, ledger, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(ledger.timers_fired, spans.len() as u64);
}

#[test]
fn a_timer_set_again_and_again_keeps_only_the_last_time() {
    let spy = Loop::start();
    // Up and down across the levels of the wheel.
    for round in 0..50u64 {
        for span in [5_000, 70, 4_096, 64, 300_000, 63] {
            spy.run(move |ctx| ctx.set_timer(TimerName(7), ctx.now() + millis(span + round), Duration::ZERO));
        }
    }
    let set = spy.run(|ctx| ctx.set_timer(TimerName(7), ctx.now() + millis(130), Duration::ZERO));
    let after = spy.expect(Callback::Timer(7)).at.since(set);
    assert!(after >= millis(130), "{after:?}");
    let (_, ledger, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!((ledger.timers_fired, ledger.timers_cancelled), (1, 300));
}

#[test]
fn a_cancelled_timer_does_not_fire() {
    let spy = Loop::start();
    spy.run(|ctx| {
        ctx.set_timer(TimerName(1), ctx.now() + millis(30), Duration::ZERO);
        ctx.set_timer(TimerName(2), ctx.now() + millis(40), millis(10));
        ctx.set_timer(TimerName(3), ctx.now() + millis(90), Duration::ZERO);
        ctx.cancel_timer(TimerName(2));
        ctx.cancel_timer(TimerName(99));
    });
    spy.post(|ctx| ctx.cancel_timer(TimerName(1)));
    let mut callbacks = vec![spy.next().callback, spy.next().callback];
    // On a busy machine the first may fire before its cancellation arrives. Then it comes first.
    if callbacks.contains(&Callback::Timer(1)) {
        assert_eq!(callbacks.remove(0), Callback::Timer(1), "cancelled and fired nevertheless");
        callbacks.push(spy.next().callback);
    }
    assert_eq!(callbacks, [Callback::Done, Callback::Timer(3)]);
    let (_, ledger, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert!(ledger.timers_cancelled >= 1);
}

/// Returns the number of the period in which a timer, first due at `first`, fired at `at`.
fn period(at: Time, first: Time, every: Duration) -> u128 {
    assert!(at >= first, "early: {at} before {first}");
    at.since(first).as_nanos() / every.as_nanos()
}

#[test]
fn a_repeating_timer_keeps_its_phase() {
    let every = millis(20);
    let spy = Loop::start();
    let first = spy.run(move |ctx| ctx.set_timer(TimerName(1), ctx.now() + every, every)) + every;
    let periods: Vec<_> = (0..25).map(|_| period(spy.expect(Callback::Timer(1)).at, first, every)).collect();
    assert!(periods.is_sorted_by(|one, next| one < next), "twice in one period: {periods:?}");
    spy.post(|ctx| ctx.cancel_timer(TimerName(1)));
    // The timer may have fired before the cancellation arrived.
    while spy.next().callback != Callback::Done {}
    spy.run(|_| {});
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "cancelled and fired nevertheless: {rest:?}");
}

#[test]
fn a_repeating_timer_fires_once_and_not_in_a_burst_after_a_blocked_loop() {
    let every = millis(20);
    let spy = Loop::start();
    let first = spy.run(move |ctx| ctx.set_timer(TimerName(1), ctx.now() + every, every)) + every;
    spy.expect(Callback::Timer(1));
    // The task blocks the loop for many periods, as SIGSTOP does.
    spy.post(move |_| hold(every * 13));
    let mut fired = Vec::new();
    let mut held_since = None;
    while held_since.is_none() {
        match spy.next() {
            event if event.callback == Callback::Done => held_since = Some(event.at),
            event => fired.push(period(event.at, first, every)),
        }
    }
    fired.extend((0..5).map(|_| period(spy.expect(Callback::Timer(1)).at, first, every)));
    assert!(fired.is_sorted_by(|one, next| one < next), "a burst: {fired:?}");
    let held = period(held_since.unwrap(), first, every);
    let after = fired.iter().find(|period| **period > held).expect("fired again");
    assert!(*after >= held + 12, "a timer fired in a blocked loop: {fired:?}, blocked in {held}");
    spy.stop();
}

#[test]
fn timers_in_the_far_future_do_not_fire() {
    let spy = Loop::start();
    let far = [
        (Time::from_millis(1 << 48), Duration::ZERO),
        (Time::from_millis(1 << 58), Duration::ZERO),
        (Time::from_millis(1 << 44), Duration::MAX),
        (Time::from_nanos(u64::MAX), Duration::ZERO),
        (Time::from_nanos(u64::MAX - 1), millis(1)),
        (Time::ZERO + Duration::MAX, Duration::MAX),
    ];
    spy.run(move |ctx| {
        for (name, (at, every)) in (100..).zip(far) {
            ctx.set_timer(TimerName(name), at, every);
        }
        ctx.set_timer(TimerName(1), ctx.now() + millis(50), Duration::MAX);
        ctx.set_timer(TimerName(2), ctx.now() + millis(100), Duration::ZERO);
    });
    spy.expect(Callback::Timer(1));
    spy.expect(Callback::Timer(2));
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn many_timers_fire_each_once_in_order() {
    const COUNT: u64 = 20_000;
    let due = |n: u64| n.wrapping_mul(2_654_435_761) % 500;
    let spy = Loop::start();
    let set = spy.run(move |ctx| {
        for n in 0..COUNT {
            ctx.set_timer(TimerName(n), ctx.now() + millis(due(n)), Duration::ZERO);
        }
        for n in (0..COUNT).step_by(2) {
            ctx.cancel_timer(TimerName(n));
        }
    });
    let mut left: HashSet<_> = (0..COUNT).filter(|n| n % 2 == 1).collect();
    let mut before = 0;
    while !left.is_empty() {
        let event = spy.next();
        let Callback::Timer(n) = event.callback else { panic!("{event:?}") };
        assert!(left.remove(&n), "{n} fired twice, or was cancelled");
        assert!(event.at.since(set) >= millis(due(n)), "{n} was early");
        assert!(due(n) >= before, "{n} was overtaken");
        before = due(n);
    }
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn a_timer_does_not_wait_for_the_work_of_the_turn_that_has_set_it() {
    let spy = Loop::start();
    let set = spy.run(|ctx| {
        ctx.set_timer(TimerName(1), ctx.now() + millis(60), Duration::ZERO);
        hold(millis(50));
    });
    let clock = spy.stopwatch();
    let fired = spy.expect(Callback::Timer(1)).at;
    let late = fired.since(set).saturating_sub(millis(60)).saturating_sub(clock.withheld());
    assert!(late < millis(30), "{late:?} late: the work of the turn counts twice");
    spy.stop();
}
