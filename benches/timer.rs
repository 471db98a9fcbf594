//! What a timer costs: this crate's [`Wheel`] beside three other ways to keep timers.
//!
//! `cargo bench --bench timer`; a word after `--` chooses benchmarks, as in `-- insert`.
//!
//! Every structure gets the same pseudo-random input and is timed in five ways, each alone:
//! - **insert**: a million timers, 1 ms to 60 s away, into a new structure. The memory it asks for is in the price, and
//!   it is cheaper when the allocator still holds some from the benchmark before.
//! - **again**: the same into a structure whose first million has expired, as in a server that has run for a while.
//! - **cancel**: half of a million, in an order that has nothing to do with that of their insertion.
//! - **expire**: the other half. The clock is at 60 s, and one item after the other is taken out.
//! - **push**: a busy server. 10,000 connections send a million messages, 100 in each millisecond. Each message pushes
//!   the deadline of its connection to two seconds from now, and each millisecond asks what is due. No deadline ever is.
//!
//! How each is driven:
//! - `Wheel`: by its own calls. In *push* once by cancel and insert, and once as the reactor does it ([`Lazy`]): a
//!   message is one store in a table, and the alarms that ring and are set again are part of the time.
//! - [`Map`], a `BTreeMap`, and [`Heap`], a `BinaryHeap` with lazy deletion: *push* is cancel and insert.
//! - [`Queue`], the `DelayQueue` of tokio-util under the paused clock of a single-threaded tokio runtime: *push* is its
//!   `reset_at`. To move tokio's clock is part of *push*, once a millisecond, and of nothing else.
//!
//! The tree is divan's and shows whole phases; the table after it shows nanoseconds for one timer or message. Compare
//! within one run: a busy machine has other numbers every minute.

use std::sync::{LazyLock, Mutex};
use std::time::Instant;

use divan::{Bencher, Divan, black_box};
use reactor::timer::Wheel;
use structures::{Heap, Lazy, Map, Queue, RUNTIME, Timers};

#[path = "timer/structures.rs"]
mod structures;

const SAMPLES: u32 = 7;
/// A build for tests only has to show that all of it runs: there, `DelayQueue` checks a whole list at each removal.
const SCALE: usize = if cfg!(debug_assertions) { 100 } else { 1 };
const TIMERS: usize = 1_000_000 / SCALE;
const LONGEST: u64 = 60_000;
const CONNECTIONS: usize = 10_000 / SCALE;
const MESSAGES: usize = 1_000_000 / SCALE;
const MESSAGES_A_TICK: usize = 100;
const TIMEOUT: u64 = 2_000;

struct Input {
    ticks: Vec<u64>,
    doomed: Vec<usize>,
    senders: Vec<usize>,
}

static INPUT: LazyLock<Input> = LazyLock::new(|| {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: u64| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D) % below
    };
    let ticks = (0..TIMERS).map(|_| 1 + random(LONGEST)).collect();
    let mut doomed: Vec<usize> = (0..TIMERS).collect();
    doomed.sort_by_cached_key(|_| random(u64::MAX));
    doomed.truncate(TIMERS / 2);
    let sender = |_| random(CONNECTIONS as u64) as usize;
    Input { ticks, doomed, senders: (0..MESSAGES).map(sender).collect() }
});

/// Sets the million timers, from `now` on.
fn fill<S: Timers>(timers: &mut S, now: u64) {
    for (item, &tick) in (0..).zip(&INPUT.ticks) {
        black_box(timers.insert(now + tick, item));
    }
}

/// A structure with the million timers, and the ids of those to cancel.
fn filled<S: Timers>() -> (S, Vec<S::Id>) {
    let mut timers = S::new();
    let insert = |(item, &tick)| timers.insert(tick, item);
    let ids: Vec<_> = (0..).zip(&INPUT.ticks).map(insert).collect();
    let doomed = INPUT.doomed.iter().map(|&i| ids[i]).collect();
    (timers, doomed)
}

/// Takes out everything that has expired at 60 s, and counts it.
fn drain<S: Timers>(timers: &mut S) -> usize {
    let fired = std::iter::from_fn(|| timers.expire(LONGEST));
    fired.map(black_box).count()
}

/// Each millisecond, and the connections whose messages arrive in it.
fn turns() -> impl Iterator<Item = (u64, &'static [usize])> {
    (1..).zip(INPUT.senders.chunks(MESSAGES_A_TICK))
}

/// What was done, by which structure, and how many nanoseconds each time took.
static LAPS: Mutex<Vec<(&str, &str, f64)>> = Mutex::new(Vec::new());

fn measure<I>(
    bencher: Bencher,
    (what, who, count): (&'static str, &'static str, usize),
    prepare: impl Fn() -> I,
    work: impl Fn(&mut I),
) {
    LazyLock::force(&INPUT);
    bencher.with_inputs(prepare).bench_local_refs(|input| {
        let start = Instant::now();
        work(input);
        let nanos = start.elapsed().as_nanos() as f64 / count as f64;
        LAPS.lock().expect("no panic").push((what, who, nanos));
    });
}

#[divan::bench(types = [Wheel<u64>, Map, Heap, Queue])]
fn insert<S: Timers>(bencher: Bencher) {
    let work = |timers: &mut S| fill(timers, 0);
    measure(bencher, ("insert", S::NAME, TIMERS), S::new, work);
}

#[divan::bench(types = [Wheel<u64>, Map, Heap, Queue])]
fn again<S: Timers>(bencher: Bencher) {
    let used = || {
        let mut timers = S::new();
        fill(&mut timers, 0);
        timers.set_clock(LONGEST);
        assert_eq!(drain(&mut timers), TIMERS);
        timers
    };
    let work = |timers: &mut S| fill(timers, LONGEST);
    measure(bencher, ("again", S::NAME, TIMERS), used, work);
}

#[divan::bench(types = [Wheel<u64>, Map, Heap, Queue])]
fn cancel<S: Timers>(bencher: Bencher) {
    let work = |(timers, doomed): &mut (S, Vec<S::Id>)| {
        doomed.iter().for_each(|&id| timers.cancel(id));
    };
    measure(bencher, ("cancel", S::NAME, TIMERS / 2), filled, work);
}

#[divan::bench(types = [Wheel<u64>, Map, Heap, Queue])]
fn expire<S: Timers>(bencher: Bencher) {
    let halved = || {
        let (mut timers, doomed) = filled::<S>();
        doomed.into_iter().for_each(|id| timers.cancel(id));
        timers.set_clock(LONGEST);
        timers
    };
    let work = |timers: &mut S| assert_eq!(drain(timers), TIMERS / 2);
    measure(bencher, ("expire", S::NAME, TIMERS / 2), halved, work);
}

#[divan::bench(types = [Wheel<u64>, Map, Heap, Queue])]
fn push<S: Timers>(bencher: Bencher) {
    let connected = || {
        let mut timers = S::new();
        let insert = |i| timers.insert(TIMEOUT, i as u64);
        let ids = (0..CONNECTIONS).map(insert).collect();
        (timers, ids)
    };
    let work = |(timers, ids): &mut (S, Vec<S::Id>)| {
        for (now, senders) in turns() {
            timers.set_clock(now);
            assert_eq!(timers.expire(now), None);
            for &i in senders {
                ids[i] = timers.push(ids[i], now + TIMEOUT, i as u64);
            }
        }
    };
    measure(bencher, ("push", S::NAME, MESSAGES), connected, work);
}

#[divan::bench]
fn push_lazily(bencher: Bencher) {
    let connected = || {
        let mut lazy = Lazy::new(CONNECTIONS);
        (0..CONNECTIONS).for_each(|i| lazy.message(i, TIMEOUT));
        lazy
    };
    let work = |lazy: &mut Lazy| {
        for (now, senders) in turns() {
            lazy.expire(now);
            for &i in senders {
                lazy.message(i, now + TIMEOUT);
            }
        }
    };
    measure(bencher, ("push", "Wheel, lazily", MESSAGES), connected, work);
}

fn main() {
    let _context = RUNTIME.enter();
    let divan = Divan::default().sample_count(SAMPLES).sample_size(1);
    divan.config_with_args().main();
    if cfg!(debug_assertions) {
        return;
    }

    let laps = LAPS.lock().expect("no panic");
    let median = |what: &str, who: &str| {
        let same = laps.iter().filter(|lap| (lap.0, lap.1) == (what, who));
        let mut nanos: Vec<f64> = same.map(|lap| lap.2).collect();
        nanos.sort_by(f64::total_cmp);
        nanos.get(nanos.len() / 2).copied()
    };
    println!("\nmedian ns for one timer or message, and its ratio to ours");
    for what in ["insert", "again", "cancel", "expire", "push"] {
        let ours = median(what, "Wheel, lazily").or(median(what, "Wheel"));
        for who in ["Wheel, lazily", "Wheel", "BTreeMap", "BinaryHeap", "DelayQueue"] {
            if let (Some(ours), Some(nanos)) = (ours, median(what, who)) {
                println!("{what:8} {who:14} {nanos:8.1} {:8.2}", nanos / ours);
            }
        }
    }
}
