//! The four structures for timers that `benches/timer.rs` compares, behind one trait, and the reactor's use of the wheel.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use reactor::timer::{DeadlineKind, Deadlines, Tick, Time, TimerId, Wheel};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{self, Instant};
use tokio_util::time::{DelayQueue, delay_queue::Key};

/// The operations of each structure. Times are in milliseconds; the clock starts at 0.
pub trait Timers {
    const NAME: &'static str;
    type Id: Copy;

    fn new() -> Self;
    fn insert(&mut self, at: u64, item: u64) -> Self::Id;
    fn cancel(&mut self, id: Self::Id);

    /// Takes out one due item.
    fn expire(&mut self, now: u64) -> Option<u64>;

    /// Moves the structure's own clock, for a structure that has one.
    fn set_clock(&mut self, _now: u64) {}

    /// Moves a timer to a later instant.
    fn push(&mut self, id: Self::Id, at: u64, item: u64) -> Self::Id {
        self.cancel(id);
        self.insert(at, item)
    }
}

impl Timers for Wheel<u64> {
    const NAME: &'static str = "Wheel";
    type Id = TimerId;

    fn new() -> Self {
        Wheel::new(Tick(0))
    }

    fn insert(&mut self, at: u64, item: u64) -> TimerId {
        self.insert(Tick(at), item)
    }

    fn cancel(&mut self, id: TimerId) {
        assert!(self.cancel(id));
    }

    fn expire(&mut self, now: u64) -> Option<u64> {
        self.expire(Tick(now))
    }
}

/// A sorted map from (tick, serial number) to the item.
#[derive(Default)]
pub struct Map {
    timers: BTreeMap<(u64, u64), u64>,
    serial: u64,
}

impl Timers for Map {
    const NAME: &'static str = "BTreeMap";
    type Id = (u64, u64);

    fn new() -> Self {
        Self::default()
    }

    fn insert(&mut self, at: u64, item: u64) -> (u64, u64) {
        self.serial += 1;
        self.timers.insert((at, self.serial), item);
        (at, self.serial)
    }

    fn cancel(&mut self, id: (u64, u64)) {
        assert!(self.timers.remove(&id).is_some());
    }

    fn expire(&mut self, now: u64) -> Option<u64> {
        let first = self.timers.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

/// A heap with lazy deletion: a cancelled timer is flagged, and dropped when it comes to the top.
///
/// A flag for every timer that ever existed is too much memory for a server, but no other way is faster.
#[derive(Default)]
pub struct Heap {
    timers: BinaryHeap<Reverse<(u64, usize, u64)>>,
    dead: Vec<bool>,
}

impl Timers for Heap {
    const NAME: &'static str = "BinaryHeap";
    type Id = usize;

    fn new() -> Self {
        Self::default()
    }

    fn insert(&mut self, at: u64, item: u64) -> usize {
        let serial = self.dead.len();
        self.dead.push(false);
        self.timers.push(Reverse((at, serial, item)));
        serial
    }

    fn cancel(&mut self, serial: usize) {
        self.dead[serial] = true;
    }

    fn expire(&mut self, now: u64) -> Option<u64> {
        while self.timers.peek()?.0.0 <= now {
            let Reverse((_, serial, item)) = self.timers.pop()?;
            if !self.dead[serial] {
                return Some(item);
            }
        }
        None
    }
}

/// Gives [`Queue`] its paused clock. A user of a queue enters this runtime first.
pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.expect("a runtime with nothing but a clock")
});

/// tokio-util's `DelayQueue`, polled directly: no task is woken.
pub struct Queue {
    timers: DelayQueue<u64>,
    start: Instant,
}

impl Queue {
    fn instant(&self, at: u64) -> Instant {
        self.start + Duration::from_millis(at)
    }
}

impl Timers for Queue {
    const NAME: &'static str = "DelayQueue";
    type Id = Key;

    fn new() -> Self {
        let (timers, start) = (DelayQueue::new(), Instant::now());
        Self { timers, start }
    }

    fn insert(&mut self, at: u64, item: u64) -> Key {
        self.timers.insert_at(item, self.instant(at))
    }

    fn cancel(&mut self, id: Key) {
        self.timers.remove(&id);
    }

    fn expire(&mut self, _now: u64) -> Option<u64> {
        let mut context = Context::from_waker(Waker::noop());
        match self.timers.poll_expired(&mut context) {
            Poll::Ready(expired) => expired.map(|expired| expired.into_inner()),
            Poll::Pending => None,
        }
    }

    fn set_clock(&mut self, now: u64) {
        let step = self.instant(now) - Instant::now();
        RUNTIME.block_on(time::advance(step));
    }

    fn push(&mut self, id: Key, at: u64, _item: u64) -> Key {
        self.timers.reset_at(&id, self.instant(at));
        id
    }
}

/// Connections as the reactor has them: each has a table of deadlines and one alarm in the wheel.
pub struct Lazy {
    wheel: Wheel<usize>,
    tables: Vec<Deadlines>,
}

impl Lazy {
    pub fn new(connections: usize) -> Self {
        Self { wheel: Wheel::new(Tick(0)), tables: (0..connections).map(|_| Deadlines::new()).collect() }
    }

    /// Handles a message: the next is due at `due`.
    pub fn message(&mut self, connection: usize, due: u64) {
        let table = &mut self.tables[connection];
        table.set(DeadlineKind::Read, Time::from_millis(due));
        if table.moved() {
            self.set_alarm(connection);
        }
    }

    /// Handles the alarms that ring. Each deadline has moved on, so each alarm is set again.
    pub fn expire(&mut self, now: u64) {
        while let Some(connection) = self.wheel.expire(Tick(now)) {
            let table = &mut self.tables[connection];
            table.take_alarm();
            table.mark_expired(Time::from_millis(now));
            assert!(!table.is_expired(DeadlineKind::Read));
            self.set_alarm(connection);
        }
    }

    fn set_alarm(&mut self, connection: usize) {
        let table = &mut self.tables[connection];
        if let Some(old) = table.take_alarm() {
            self.wheel.cancel(old);
        }
        let due = table.earliest();
        let alarm = self.wheel.insert(Tick::of_deadline(due), connection);
        table.set_alarm(Some(alarm), due);
    }
}
