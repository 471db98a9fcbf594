//! The cost of a timer: this crate's [`Wheel`] beside three other structures for timers.
//!
//! `cargo bench --bench timer` runs all benchmarks; a word after `--` selects some, as in `-- insert`.
//!
//! Every structure gets the same pseudo-random input. Five operations are measured, each alone:
//! - **insert**: a million timers, 1 ms to 60 s away, into a new structure. The time includes the allocation of memory,
//!   which is cheaper if the allocator still holds memory from the benchmark before.
//! - **again**: the same into a structure whose first million has expired, as in a server that has run for a while.
//! - **cancel**: half of a million, in an order that is independent of the order of insertion.
//! - **expire**: the other half. The clock is at 60 s, and the items are taken out one after the other.
//! - **push**: a busy server. 10,000 connections send a million messages, 100 in each millisecond. Each message pushes
//!   the deadline of its connection to two seconds from now. Each millisecond asks for due timers, and there is none.
//!
//! How each is driven:
//! - `Wheel`: by its own calls. *push* is measured twice: as cancel and insert, and as the reactor does it ([`Lazy`]). There
//!   a message is one store in a table, and the time includes the alarms that ring and are set again.
//! - [`Map`], a `BTreeMap`, and [`Heap`], a `BinaryHeap` with lazy deletion: *push* is cancel and insert.
//! - [`Queue`], the `DelayQueue` of tokio-util under the paused clock of a single-threaded tokio runtime: *push* is its
//!   `reset_at`. Moving tokio's clock is part of *push*, once a millisecond, and of no other operation.
//!
//! The tree is divan's and shows whole phases; the table after it shows nanoseconds for one timer or message. Compare
//! figures of the same run: on a busy machine they change every minute.

use std::sync::{LazyLock, Mutex};
use std::time::Instant;

use divan::{Bencher, Divan, black_box};
use reactor::timer::Wheel;
use structures::{Heap, Lazy, Map, Queue, RUNTIME, Timers};

#[path = "timer/structures.rs"]
mod structures;

const SAMPLES: u32 = 7;
/// In a debug build `DelayQueue` checks a whole list at each removal, so a test runs a hundredth of the load.
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

/// Returns a structure with the million timers, and the ids of the timers to cancel.
fn filled<S: Timers>() -> (S, Vec<S::Id>) {
    let mut timers = S::new();
    let insert = |(item, &tick)| timers.insert(tick, item);
    let ids: Vec<_> = (0..).zip(&INPUT.ticks).map(insert).collect();
    let doomed = INPUT.doomed.iter().map(|&i| ids[i]).collect();
    (timers, doomed)
}

/// Takes out the timers that have expired at 60 s, and returns their number.
fn drain<S: Timers>(timers: &mut S) -> usize {
    let fired = std::iter::from_fn(|| timers.expire(LONGEST));
    fired.map(black_box).count()
}

/// Returns each millisecond with the connections whose messages arrive in it.
fn turns() -> impl Iterator<Item = (u64, &'static [usize])> {
    (1..).zip(INPUT.senders.chunks(MESSAGES_A_TICK))
}

/// By operation and structure: the nanoseconds of each sample.
static LAPS: Mutex<Vec<(&str, &str, f64)>> = Mutex::new(Vec::new());

fn measure<I>(
    bencher: Bencher,
    (operation, structure, count): (&'static str, &'static str, usize),
    prepare: impl Fn() -> I,
    work: impl Fn(&mut I),
) {
    LazyLock::force(&INPUT);
    bencher.with_inputs(prepare).bench_local_refs(|input| {
        let start = Instant::now();
        work(input);
        let nanos = start.elapsed().as_nanos() as f64 / count as f64;
        LAPS.lock().expect("no panic").push((operation, structure, nanos));
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
    let median = |operation: &str, structure: &str| {
        let same = laps.iter().filter(|lap| (lap.0, lap.1) == (operation, structure));
        let mut nanos: Vec<f64> = same.map(|lap| lap.2).collect();
        nanos.sort_by(f64::total_cmp);
        nanos.get(nanos.len() / 2).copied()
    };
    println!("\nmedian ns for one timer or message, and its ratio to ours");
    for operation in ["insert", "again", "cancel", "expire", "push"] {
        let ours = median(operation, "Wheel, lazily").or(median(operation, "Wheel"));
        for structure in ["Wheel, lazily", "Wheel", "BTreeMap", "BinaryHeap", "DelayQueue"] {
            if let (Some(ours), Some(nanos)) = (ours, median(operation, structure)) {
                println!("{operation:8} {structure:14} {nanos:8.1} {:8.2}", nanos / ours);
            }
        }
    }
}
