//! The timers of services, in the library: never early, at most once for each period, gone when cancelled.

use std::collections::HashSet;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::harness::spy::{Loop, Told};
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
    let set = spy.order_and_wait(move |ctx| {
        for span in spans {
            ctx.set_timer(TimerName(span), ctx.now() + millis(span), Duration::ZERO);
        }
    });
    let mut late: Vec<_> = spans
        .iter()
        .map(|&span| {
            let fired = spy.expect(Told::Timer(span)).at;
            let after = fired.since(set);
            assert!(after >= millis(span), "the timer of {span} ms came after {after:?}");
            after - millis(span)
        })
        .collect();
    // Others use this machine, too: most timers are on time, and none is lost.
    late.sort_unstable();
    assert!(late[late.len() / 2] <= millis(5), "{late:?}");
    let (_, ledger, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(ledger.timers_fired, spans.len() as u64);
}

#[test]
fn a_timer_set_again_and_again_keeps_only_the_last_time() {
    let spy = Loop::start();
    // Across the levels of the wheel, up and down.
    for round in 0..50u64 {
        for span in [5_000, 70, 4_096, 64, 300_000, 63] {
            spy.order_and_wait(move |ctx| {
                ctx.set_timer(TimerName(7), ctx.now() + millis(span + round), Duration::ZERO)
            });
        }
    }
    let set = spy.order_and_wait(|ctx| ctx.set_timer(TimerName(7), ctx.now() + millis(130), Duration::ZERO));
    let after = spy.expect(Told::Timer(7)).at.since(set);
    assert!(after >= millis(130), "{after:?}");
    let (_, ledger, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!((ledger.timers_fired, ledger.timers_cancelled), (1, 300));
}

#[test]
fn a_cancelled_timer_does_not_fire() {
    let spy = Loop::start();
    spy.order_and_wait(|ctx| {
        ctx.set_timer(TimerName(1), ctx.now() + millis(30), Duration::ZERO);
        ctx.set_timer(TimerName(2), ctx.now() + millis(40), millis(10));
        ctx.set_timer(TimerName(3), ctx.now() + millis(90), Duration::ZERO);
        ctx.cancel_timer(TimerName(2));
        ctx.cancel_timer(TimerName(99));
    });
    spy.order(|ctx| ctx.cancel_timer(TimerName(1)));
    let mut told = vec![spy.next().what, spy.next().what];
    // On a machine that is held up the first may fire before its cancellation arrives; it is told then.
    if told.contains(&Told::Timer(1)) {
        assert_eq!(told.remove(0), Told::Timer(1), "cancelled and fired nevertheless");
        told.push(spy.next().what);
    }
    assert_eq!(told, [Told::Done, Told::Timer(3)]);
    let (_, ledger, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert!(ledger.timers_cancelled >= 1);
}

/// The number of the period in which a timer that was first due at `first` has fired at `at`.
fn period(at: Time, first: Time, every: Duration) -> u128 {
    assert!(at >= first, "early: {at} before {first}");
    at.since(first).as_nanos() / every.as_nanos()
}

#[test]
fn a_repeating_timer_keeps_its_phase() {
    let every = millis(20);
    let spy = Loop::start();
    let first = spy.order_and_wait(move |ctx| ctx.set_timer(TimerName(1), ctx.now() + every, every)) + every;
    let periods: Vec<_> = (0..25).map(|_| period(spy.expect(Told::Timer(1)).at, first, every)).collect();
    assert!(periods.is_sorted_by(|one, next| one < next), "twice in one period: {periods:?}");
    spy.order(|ctx| ctx.cancel_timer(TimerName(1)));
    // At most what had fired before the order arrived.
    while spy.next().what != Told::Done {}
    spy.order_and_wait(|_| {});
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "cancelled and fired nevertheless: {rest:?}");
}

#[test]
fn a_repeating_timer_that_was_held_up_fires_once_and_not_in_a_burst() {
    let every = millis(20);
    let spy = Loop::start();
    let first = spy.order_and_wait(move |ctx| ctx.set_timer(TimerName(1), ctx.now() + every, every)) + every;
    spy.expect(Told::Timer(1));
    // The loop stands still for many periods, as a stopped process does.
    spy.order(move |_| {
        let (_silent, nothing) = channel::<()>();
        let _ = nothing.recv_timeout(every * 13);
    });
    let mut fired = Vec::new();
    let mut held_since = None;
    while held_since.is_none() {
        match spy.next() {
            news if news.what == Told::Done => held_since = Some(news.at),
            news => fired.push(period(news.at, first, every)),
        }
    }
    fired.extend((0..5).map(|_| period(spy.expect(Told::Timer(1)).at, first, every)));
    assert!(fired.is_sorted_by(|one, next| one < next), "a burst: {fired:?}");
    let held = period(held_since.unwrap(), first, every);
    let after = fired.iter().find(|period| **period > held).expect("fired again");
    assert!(*after >= held + 12, "it fired while the loop stood still: {fired:?}, held in {held}");
    spy.stop();
}

#[test]
fn the_far_future_does_not_come() {
    let spy = Loop::start();
    let far = [
        (Time::from_millis(1 << 48), Duration::ZERO),
        (Time::from_millis(1 << 58), Duration::ZERO),
        (Time::from_millis(1 << 44), Duration::MAX),
        (Time::from_nanos(u64::MAX), Duration::ZERO),
        (Time::from_nanos(u64::MAX - 1), millis(1)),
        (Time::ZERO + Duration::MAX, Duration::MAX),
    ];
    spy.order_and_wait(move |ctx| {
        for (name, (at, every)) in (100..).zip(far) {
            ctx.set_timer(TimerName(name), at, every);
        }
        ctx.set_timer(TimerName(1), ctx.now() + millis(50), Duration::MAX);
        ctx.set_timer(TimerName(2), ctx.now() + millis(100), Duration::ZERO);
    });
    spy.expect(Told::Timer(1));
    spy.expect(Told::Timer(2));
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn many_timers_fire_each_once_in_order() {
    const COUNT: u64 = 20_000;
    let due = |n: u64| n.wrapping_mul(2_654_435_761) % 500;
    let spy = Loop::start();
    let set = spy.order_and_wait(move |ctx| {
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
        let news = spy.next();
        let Told::Timer(n) = news.what else { panic!("{news:?}") };
        assert!(left.remove(&n), "{n} fired twice, or was cancelled");
        assert!(news.at.since(set) >= millis(due(n)), "{n} was early");
        assert!(due(n) >= before, "{n} was overtaken");
        before = due(n);
    }
    let (_, _, rest) = spy.stop();
    assert!(rest.is_empty(), "{rest:?}");
}
