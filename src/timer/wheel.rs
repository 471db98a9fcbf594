//! A hierarchical timing wheel (Varghese and Lauck, 1987): insert and cancel in O(1), no walk over empty ticks.
//!
//! Owns: [`Wheel`], [`TimerId`]. Must not know: clocks, connections, the meaning of an item.
//!
//! ```text
//!   level 0    64 slots of     1 ms  │··x·····x·······│   a timer lies at the level of the highest
//!   level 1    64 slots of    64 ms  │·····x··········│   group of six bits in which its tick differs
//!   level 2    64 slots of   4.1 s   │·x··············│   from the present. Those six bits are the
//!   level 3    64 slots of   262 s   │················│   index of its slot. When the present enters
//!   level 4    64 slots of   4.7 h   │················│   a slot of a higher level, each timer in it
//!   level 5    64 slots of  12.4 d   │················│   cascades to a lower level: five times at most.
//!   far        beyond 2.2 years      │ one list       │
//! ```
//!
//! A slot is a plain vector of entries, in the order of insertion. A cancel changes one cell of the table of
//! generations and a count in the slot; the dead entry stays in the slot. When the time of the slot comes, a dead entry
//! is recognised by its generation. A slot is swept when more than half of its entries are dead. The wheel follows no
//! links, so a timer costs one sequential write, whatever the number of timers.
//!
//! Invariants:
//! 1. Every entry lies at the level and slot that [`place_of`] returns for its tick and the present `elapsed`. So the
//!    lowest occupied level holds the earliest timer, and its first occupied slot is not before the present.
//! 2. A bit of `occupied` is set if and only if its slot holds a live entry.
//! 3. A timer is live while its cell has its generation. The end of a timer changes the generation of its cell.
//! 4. Entries of one tick always share one slot, in the order of insertion, and fire in that order.
//! 5. A slot holds fewer than 32 dead entries, or no more dead entries than live ones.

use std::num::NonZeroU32;

use super::time::Tick;

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 6;
/// The slot after the last level, for timers outside the block of 2^36 ms that holds the present.
const FAR: usize = LEVELS * SLOTS;
/// The place of a timer that was taken out of its slot and that `expire` has not returned yet.
const FIRING: usize = FAR + 1;
/// Emptied vectors with a capacity of up to `KEEP` entries are reused; larger vectors are freed.
const KEEP: usize = 256;
/// The least number of dead entries for which a slot is swept.
const SWEEP: usize = 32;

/// The id of one timer. An id is stale after its timer has fired or was cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerId {
    cell: u32,
    generation: NonZeroU32,
}

/// A set of timers. Each timer has an item, which [`expire`](Self::expire) returns when the tick of the timer has come.
///
/// Timers fire in the order of their ticks, and timers of one tick in the order of insertion. The header of
/// `timer/wheel.rs` explains the mechanism.
#[derive(Debug)]
pub struct Wheel<T> {
    /// The present: all timers of earlier ticks have fired.
    elapsed: u64,
    /// One bit per slot and level.
    occupied: [u64; LEVELS],
    slots: Vec<Slot<T>>,
    cells: Vec<Cell>,
    /// The cells without a timer: a stack beside the table. A linked list through the cells would have to load the last
    /// free cell from memory to find the next.
    free: Vec<u32>,
    live: usize,
    /// The entries whose tick has come. Those before the index `fired` were returned or were dead.
    firing: Vec<Entry<T>>,
    fired: usize,
}

#[derive(Debug)]
struct Slot<T> {
    entries: Vec<Entry<T>>,
    dead: usize,
    /// The earliest tick of the entries. The tick may belong to a dead entry, until the next sweep.
    earliest: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    at: u64,
    id: TimerId,
    item: T,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    generation: NonZeroU32,
    /// The index of the slot while the timer is live.
    place: u32,
}

/// Returns the index of the slot of a timer at `at` when the present is `elapsed`.
fn place_of(elapsed: u64, at: u64) -> usize {
    let level = ((elapsed ^ at) | (SLOTS as u64 - 1)).ilog2() / SLOT_BITS;
    if level as usize >= LEVELS {
        return FAR;
    }
    let slot = (at >> (level * SLOT_BITS)) as usize % SLOTS;
    level as usize * SLOTS + slot
}

impl<T: Copy> Wheel<T> {
    /// Returns an empty wheel whose present is `now`.
    pub fn new(now: Tick) -> Self {
        Self {
            elapsed: now.0,
            occupied: [0; LEVELS],
            slots: (0..=FAR).map(|_| Slot { entries: Vec::new(), dead: 0, earliest: u64::MAX }).collect(),
            cells: Vec::new(),
            free: Vec::new(),
            live: 0,
            firing: Vec::new(),
            fired: 0,
        }
    }

    /// Returns the number of live timers.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Returns true if no timer is live.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Sets a timer: [`expire`](Self::expire) returns `item` once the present is `at` or later. A tick in the past
    /// counts as the present. O(1).
    pub fn insert(&mut self, at: Tick, item: T) -> TimerId {
        let at = at.0.max(self.elapsed);
        let place = place_of(self.elapsed, at);
        let id = self.claim_cell(place);
        self.live += 1;
        self.push(place, Entry { at, id, item });
        id
    }

    /// Cancels a timer. Returns false if `id` is stale. O(1), amortised over the sweeps.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        let Some(place) = self.release_cell(id) else {
            return false;
        };
        self.live -= 1;
        if place == FIRING {
            return true;
        }
        let slot = &mut self.slots[place];
        slot.dead += 1;
        let (dead, all) = (slot.dead, slot.entries.len());
        if dead == all {
            let entries = self.take_entries(place);
            self.recycle(entries, place);
        } else if dead >= SWEEP && dead * 2 > all {
            self.sweep(place);
        }
        true
    }

    /// Returns a tick that is not later than that of the next live timer, or `None` if no timer is live. O(levels).
    ///
    /// After a cancel, the tick may be that of the cancelled timer, and so too early.
    pub fn next_expiry(&self) -> Option<Tick> {
        if self.fired < self.firing.len() {
            return Some(Tick(self.elapsed));
        }
        let place = self.first_place()?;
        Some(Tick(self.slots[place].earliest))
    }

    /// Moves the present to `now` and returns the items whose tick has come, one per call, then `None`.
    ///
    /// Between two calls the caller may set and cancel timers. A cancelled timer does not fire any more. A `now` before
    /// the present counts as the present.
    pub fn expire(&mut self, now: Tick) -> Option<T> {
        loop {
            while let Some(&entry) = self.firing.get(self.fired) {
                self.fired += 1;
                if self.release_cell(entry.id).is_some() {
                    self.live -= 1;
                    return Some(entry.item);
                }
            }
            let place = match self.first_place() {
                Some(place) if self.begin_of(place) <= now.0 => place,
                _ => {
                    self.elapsed = self.elapsed.max(now.0);
                    return None;
                }
            };
            self.elapsed = self.elapsed.max(self.begin_of(place));
            let entries = self.take_entries(place);
            if place < SLOTS {
                self.fire(entries);
            } else {
                self.cascade(entries);
            }
        }
    }

    /// Returns the first occupied slot of the lowest occupied level: the earliest slot, by invariant 1.
    fn first_place(&self) -> Option<usize> {
        for (level, &bits) in self.occupied.iter().enumerate() {
            if bits != 0 {
                return Some(level * SLOTS + bits.trailing_zeros() as usize);
            }
        }
        (!self.slots[FAR].entries.is_empty()).then_some(FAR)
    }

    /// Returns the first tick of the slot at `place`, in the present round of its level.
    fn begin_of(&self, place: usize) -> u64 {
        let level = (place / SLOTS) as u32;
        let round = (level + 1) * SLOT_BITS;
        if place == FAR {
            // The block of 2^36 ticks that holds the earliest entry, without a walk over the empty blocks before it.
            let block = round - SLOT_BITS;
            return self.slots[FAR].earliest >> block << block;
        }
        (self.elapsed >> round << round) | ((place % SLOTS) as u64) << (level * SLOT_BITS)
    }

    fn push(&mut self, place: usize, entry: Entry<T>) {
        let slot = &mut self.slots[place];
        slot.earliest = slot.earliest.min(entry.at);
        slot.entries.push(entry);
        if place < FAR {
            self.occupied[place / SLOTS] |= 1 << (place % SLOTS);
        }
    }

    /// Empties a slot and returns its entries.
    fn take_entries(&mut self, place: usize) -> Vec<Entry<T>> {
        let slot = &mut self.slots[place];
        slot.dead = 0;
        slot.earliest = u64::MAX;
        if place < FAR {
            self.occupied[place / SLOTS] &= !(1 << (place % SLOTS));
        }
        std::mem::take(&mut slot.entries)
    }

    /// Gives an emptied vector to the slot at `place`, which saves the next timers there an allocation. A vector that a
    /// burst made large is freed.
    fn recycle(&mut self, mut entries: Vec<Entry<T>>, place: usize) {
        if entries.capacity() <= KEEP && self.slots[place].entries.capacity() == 0 {
            entries.clear();
            self.slots[place].entries = entries;
        }
    }

    fn fire(&mut self, entries: Vec<Entry<T>>) {
        for entry in &entries {
            if let Some(cell) = self.cells.get_mut(entry.id.cell as usize)
                && cell.generation == entry.id.generation
            {
                cell.place = FIRING as u32;
            }
        }
        let done = std::mem::replace(&mut self.firing, entries);
        self.fired = 0;
        let place = self.elapsed as usize % SLOTS;
        self.recycle(done, place);
    }

    fn cascade(&mut self, entries: Vec<Entry<T>>) {
        for &entry in &entries {
            let place = place_of(self.elapsed, entry.at);
            if let Some(cell) = self.cells.get_mut(entry.id.cell as usize)
                && cell.generation == entry.id.generation
            {
                cell.place = place as u32;
                self.push(place, entry);
            }
        }
    }

    /// Removes the dead entries of a slot. The live entries keep their order.
    fn sweep(&mut self, place: usize) {
        let (slot, cells) = (&mut self.slots[place], &self.cells);
        slot.entries.retain(|entry| cells[entry.id.cell as usize].generation == entry.id.generation);
        slot.dead = 0;
        slot.earliest = slot.entries.iter().map(|entry| entry.at).min().unwrap_or(u64::MAX);
        if slot.entries.capacity() > KEEP && slot.entries.len() < slot.entries.capacity() / 4 {
            slot.entries.shrink_to_fit();
        }
    }

    fn claim_cell(&mut self, place: usize) -> TimerId {
        let place = place as u32;
        if let Some(index) = self.free.pop() {
            let cell = &mut self.cells[index as usize];
            cell.place = place;
            return TimerId { cell: index, generation: cell.generation };
        }
        let index = self.cells.len() as u32;
        self.cells.push(Cell { generation: NonZeroU32::MIN, place });
        TimerId { cell: index, generation: NonZeroU32::MIN }
    }

    /// Ends the timer `id`. Returns its place, or `None` if `id` is stale.
    fn release_cell(&mut self, id: TimerId) -> Option<usize> {
        let cell = self.cells.get_mut(id.cell as usize).filter(|cell| cell.generation == id.generation)?;
        let place = cell.place as usize;
        cell.generation = cell.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.free.push(id.cell);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A small random generator (xorshift64*). A failure can be repeated from its seed.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
        }

        fn below(&mut self, n: u64) -> u64 {
            self.next() % n
        }
    }

    /// The wheel beside its model: a map of timers sorted by tick, then by insertion.
    struct Pair {
        wheel: Wheel<u64>,
        model: BTreeMap<(u64, u64), TimerId>,
        now: u64,
        serial: u64,
    }

    impl Pair {
        fn new(now: u64) -> Self {
            Self { wheel: Wheel::new(Tick(now)), model: BTreeMap::new(), now, serial: 0 }
        }

        fn insert(&mut self, at: u64) {
            let id = self.wheel.insert(Tick(at), self.serial);
            self.model.insert((at.max(self.now), self.serial), id);
            self.serial += 1;
        }

        fn cancel_nth(&mut self, n: u64) {
            let Some((&key, &id)) = self.model.iter().nth(n as usize % self.model.len().max(1)) else {
                return;
            };
            self.model.remove(&key);
            assert!(self.wheel.cancel(id));
            assert!(!self.wheel.cancel(id), "cancelled twice");
        }

        fn advance(&mut self, now: u64) {
            self.now = now;
            while let Some(serial) = self.wheel.expire(Tick(now)) {
                let ((at, expected), _) = self.model.pop_first().expect("fired but not set");
                assert_eq!(serial, expected, "wrong order at {now}");
                assert!(at <= now, "early: {at} fired at {now}");
            }
            if let Some((&(at, _), _)) = self.model.first_key_value() {
                assert!(at > now, "late: {at} did not fire at {now}");
                let next = self.wheel.next_expiry().expect("timers are set");
                assert!(next.0 <= at, "would sleep past {at} until {next:?}");
            } else {
                assert_eq!(self.wheel.next_expiry(), None);
            }
            assert_eq!(self.wheel.len(), self.model.len());
        }
    }

    fn run_against_model(start: u64, seed: u64, steps: u32) {
        let mut random = Random(seed);
        let mut pair = Pair::new(start);
        for _ in 0..steps {
            let reach = 1u64 << random.below(40);
            match random.below(10) {
                0..=4 => pair.insert(pair.now.saturating_add(random.below(reach))),
                5 => pair.insert(pair.now.saturating_sub(random.below(reach))),
                6 | 7 => pair.cancel_nth(random.next()),
                8 => pair.advance(pair.now.saturating_add(random.below(reach))),
                _ => pair.advance(pair.now.saturating_add(random.below(100))),
            }
        }
        pair.advance(u64::MAX);
        assert!(pair.wheel.is_empty());
    }

    #[test]
    fn the_wheel_equals_a_sorted_map_for_random_operations() {
        for seed in 1..=60 {
            run_against_model(0, seed, 2_000);
        }
    }

    #[test]
    fn the_wheel_equals_a_sorted_map_when_the_clock_is_near_a_border() {
        for seed in 1..=20 {
            for start in [1 << 32, 1 << 36, 1 << 42, u64::MAX] {
                run_against_model(start - 50_000.min(start), seed, 500);
            }
        }
    }

    #[test]
    fn every_border_of_a_level_is_exact() {
        for level in 1..=7 {
            let border = 1u64 << (level * SLOT_BITS);
            for start in [0, 1, 63, border / 2 + 1, border - 1] {
                let mut pair = Pair::new(start);
                for offset in -3i64..=3 {
                    pair.insert((start + border).wrapping_add_signed(offset));
                    pair.insert(border.wrapping_add_signed(offset));
                }
                for offset in -4i64..=4 {
                    let now = border.wrapping_add_signed(offset);
                    pair.advance(now.max(pair.now));
                }
                for offset in -4i64..=4 {
                    pair.advance((start + border).wrapping_add_signed(offset).max(pair.now));
                }
                assert!(pair.wheel.is_empty());
            }
        }
    }

    #[test]
    fn timers_of_one_tick_fire_in_the_order_of_insertion() {
        let mut wheel = Wheel::new(Tick(0));
        for (i, now) in [0u64, 5, 64, 4096, 262_144, 262_150].into_iter().enumerate() {
            assert_eq!(wheel.expire(Tick(now)), None);
            wheel.insert(Tick(262_200), i);
        }
        let order: Vec<_> = std::iter::from_fn(|| wheel.expire(Tick(300_000))).collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_timer_in_the_far_future_waits_without_a_panic() {
        let mut wheel = Wheel::new(Tick(7));
        let never = wheel.insert(Tick(u64::MAX), "never");
        wheel.insert(Tick(1 << 48), "far");
        assert_eq!(wheel.next_expiry(), Some(Tick(1 << 48)));
        assert_eq!(wheel.expire(Tick((1 << 48) - 1)), None);
        assert_eq!(wheel.expire(Tick(1 << 48)), Some("far"));
        assert_eq!(wheel.expire(Tick(u64::MAX - 1)), None);
        assert!(wheel.cancel(never));
        assert_eq!(wheel.expire(Tick(u64::MAX)), None);
    }

    #[test]
    fn a_timer_cancelled_while_its_tick_fires_does_not_fire() {
        let mut wheel = Wheel::new(Tick(0));
        wheel.insert(Tick(5), 'a');
        let b = wheel.insert(Tick(5), 'b');
        wheel.insert(Tick(5), 'c');
        assert_eq!(wheel.expire(Tick(5)), Some('a'));
        assert!(wheel.cancel(b));
        assert_eq!(wheel.next_expiry(), Some(Tick(5)));
        assert_eq!(wheel.expire(Tick(5)), Some('c'));
        assert_eq!(wheel.expire(Tick(5)), None);
    }

    #[test]
    fn a_stale_id_cancels_no_other_timer() {
        let mut wheel = Wheel::new(Tick(0));
        let old = wheel.insert(Tick(1), "old");
        assert_eq!(wheel.expire(Tick(1)), Some("old"));
        wheel.insert(Tick(2), "new");
        assert!(!wheel.cancel(old));
        assert_eq!(wheel.expire(Tick(2)), Some("new"));
    }

    #[test]
    fn half_of_a_hundred_thousand_timers_can_be_cancelled() {
        let mut random = Random(42);
        let mut pair = Pair::new(0);
        for _ in 0..100_000 {
            pair.insert(1 + random.below(5_000));
        }
        let every_second: Vec<_> = pair.model.iter().step_by(2).map(|(&key, &id)| (key, id)).collect();
        for (key, id) in every_second {
            pair.model.remove(&key);
            assert!(pair.wheel.cancel(id));
        }
        assert_eq!(pair.wheel.len(), 50_000);
        for now in 0..=5_000 {
            pair.advance(now);
        }
        assert!(pair.wheel.is_empty());
    }

    #[test]
    fn cancelled_timers_do_not_pile_up() {
        let mut wheel = Wheel::new(Tick(0));
        for _ in 0..1_000_000 {
            let id = wheel.insert(Tick(60_000), ());
            assert!(wheel.cancel(id));
        }
        wheel.insert(Tick(60_000), ());
        for _ in 0..1_000_000 {
            let id = wheel.insert(Tick(60_000), ());
            assert!(wheel.cancel(id));
        }
        let held: usize = wheel.slots.iter().map(|slot| slot.entries.capacity()).sum();
        assert!(held <= 4 * SWEEP, "{held} entries are held for one timer");
        assert!(wheel.cells.len() <= 2);
    }
}
