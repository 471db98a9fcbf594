//! A queue of bytes between a socket and its user.
//!
//! Owns: [`Buffer`]. Must not know: sockets, connections, watermarks.
//!
//! ```text
//!     store:   ┌──────────┬───────────────────────────┬──────────────┐
//!              │ consumed │          queued           │    spare     │
//!              └──────────┴───────────────────────────┴──────────────┘
//!              0          head            head + queued       capacity
//!                          └── as_slice() ────────────┘
//!              consume(n) moves head to the right; append() writes behind the queued bytes.
//! ```
//!
//! A small store is an ordinary vector. A large store is a memory mapping of its own, which the kernel takes back at
//! once when the buffer frees it. An allocator would keep the memory, between small objects that are still in use. The
//! memory of a burst of slow readers would then stay resident for ever. Each thread keeps a few mappings, of which little
//! was written: a forwarder needs one for most of its pieces, and a fresh mapping costs a page fault for each 4 KiB.
//!
//! Invariants:
//! 1. The queued bytes are contiguous: one system call can take them all.
//! 2. An empty buffer owns no memory: ten thousand idle connections cost nothing here.
//! 3. Each appended byte is moved at most once on average. The consumed front is closed only when the queued bytes are
//!    no more than the front.

use std::cell::RefCell;

use memmap2::MmapMut;

/// The largest size of a vector, in bytes. A larger store is a mapping.
const SMALL: usize = 16 * 1024;

/// The smallest size of a mapping, in bytes.
///
/// An unwritten page costs address space only. Growth copies the mapping. The queues of a hundred chat members that do
/// not read would all grow in the same turn.
const MAPPING: usize = 1024 * 1024;

/// Mappings that a thread keeps for its next large stores.
const SPARES: usize = 8;

/// The most bytes that were written to a mapping that is kept: its pages stay resident.
const SPARE: usize = 256 * 1024;

thread_local! {
    /// The mappings that this thread keeps, each of the size [`MAPPING`].
    static MAPPINGS: RefCell<Vec<MmapMut>> = const { RefCell::new(Vec::new()) };
}

/// The bytes of a consumed front that is closed even if the store has spare space. The pages of that space may never
/// have been used, and would become resident.
const FRONT: usize = 4 * SMALL;

/// The bytes to which a store grows with its second chunk.
///
/// A single chunk gets the memory that it needs. After a second chunk more are likely, and growing at once saves half a
/// dozen steps.
const GROWN: usize = 4096;

/// A growable queue of bytes: appended at the back, consumed from the front, contiguous in between.
#[derive(Debug, Default)]
pub struct Buffer {
    queued: usize,
    head: usize,
    store: Store,
}

#[derive(Debug)]
enum Store {
    /// Its length is `head + queued`.
    Small(Vec<u8>),
    Large(Box<Mapping>),
}

/// A mapping, and the number of its bytes that were written.
#[derive(Debug)]
struct Mapping {
    bytes: Option<MmapMut>,
    written: usize,
}

impl Mapping {
    /// Returns a mapping for `size` bytes, with at least [`MAPPING`] bytes if the process has the address space. The kernel
    /// allocates a page when it is first written.
    fn new(size: usize) -> std::io::Result<Self> {
        let spare = (size <= MAPPING).then(|| MAPPINGS.with_borrow_mut(Vec::pop)).flatten();
        let bytes = match spare {
            Some(spare) => spare,
            None => MmapMut::map_anon(size.max(MAPPING)).or_else(|_| MmapMut::map_anon(size))?,
        };
        Ok(Self { bytes: Some(bytes), written: 0 })
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes.as_deref_mut().unwrap_or_default()
    }

    /// Copies `bytes` to the place `at`.
    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.as_mut_slice()[at..at + bytes.len()].copy_from_slice(bytes);
        self.written = self.written.max(at + bytes.len());
    }
}

impl Drop for Mapping {
    /// Keeps a mapping that is little written. Any other is unmapped.
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes.take_if(|bytes| bytes.len() == MAPPING && self.written <= SPARE) {
            // The thread may be ending, and its mappings be gone already.
            let _ = MAPPINGS.try_with(|mappings| {
                let mut mappings = mappings.borrow_mut();
                if mappings.len() < SPARES {
                    mappings.push(bytes);
                }
            });
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Store::Small(Vec::new())
    }
}

impl Buffer {
    /// Returns an empty buffer. It allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of queued bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.queued
    }

    /// Returns true if no byte is queued.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Returns the queued bytes, oldest first.
    pub fn as_slice(&self) -> &[u8] {
        let store = match &self.store {
            Store::Small(bytes) => bytes,
            Store::Large(mapping) => mapping.as_slice(),
        };
        &store[self.head..self.head + self.queued]
    }

    /// Queues a copy of `more` behind the queued bytes.
    pub fn append(&mut self, more: &[u8]) {
        let fits = self.head + self.queued + more.len() <= self.capacity();
        if (!fits || self.head >= FRONT) && self.queued <= self.head {
            self.close_front();
        }
        let needed = self.head + self.queued + more.len();
        if needed > SMALL && needed > self.capacity() {
            self.enlarge(more.len());
        }
        let end = self.head + self.queued;
        match &mut self.store {
            Store::Small(bytes) if bytes.is_empty() => *bytes = more.to_vec(),
            Store::Small(bytes) => {
                bytes.reserve(more.len().max(GROWN.saturating_sub(bytes.len())));
                bytes.extend_from_slice(more);
            }
            Store::Large(mapping) => mapping.write(end, more),
        }
        self.queued += more.len();
    }

    /// Moves the queued bytes to the beginning of the store.
    fn close_front(&mut self) {
        match &mut self.store {
            Store::Small(bytes) => drop(bytes.drain(..self.head)),
            Store::Large(mapping) => mapping.as_mut_slice().copy_within(self.head..self.head + self.queued, 0),
        }
        self.head = 0;
    }

    /// Moves the queued bytes into a mapping with space for `more` further bytes.
    ///
    /// The size is the next power of two. Without a mapping, the store becomes a vector.
    #[cold]
    fn enlarge(&mut self, more: usize) {
        let size = (self.queued + more).next_power_of_two();
        let store = match Mapping::new(size) {
            Ok(mut mapping) => {
                mapping.write(0, self.as_slice());
                Store::Large(Box::new(mapping))
            }
            Err(_) => Store::Small(self.as_slice().to_vec()),
        };
        (self.store, self.head) = (store, 0);
    }

    /// Drops the oldest `n` bytes. Frees the memory when no byte is left.
    ///
    /// # Panics
    /// If fewer than `n` bytes are queued. The count of the caller is wrong then, and the stream would be corrupted.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.queued, "consumed {n} of {} queued bytes", self.queued);
        self.head += n;
        self.queued -= n;
        if self.queued == 0 {
            self.head = 0;
            match &mut self.store {
                Store::Small(bytes) => drop(std::mem::take(bytes)),
                Store::Large(_) => self.store = Store::default(),
            }
        }
    }

    /// Returns the memory that the buffer holds, in bytes. The pages of a mapping are resident only once written.
    pub fn capacity(&self) -> usize {
        match &self.store {
            Store::Small(bytes) => bytes.capacity(),
            Store::Large(mapping) => mapping.as_slice().len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_buffer_owns_nothing() {
        let mut buffer = Buffer::new();
        assert_eq!(buffer.capacity(), 0);
        buffer.append(b"hello");
        buffer.consume(2);
        assert_eq!(buffer.as_slice(), b"llo");
        buffer.consume(3);
        assert!(buffer.is_empty());
        assert_eq!(buffer.capacity(), 0);
        buffer.append(b"");
        assert!(buffer.is_empty());
    }

    #[test]
    fn bytes_come_out_in_order_for_random_steps() {
        let mut buffer = Buffer::new();
        let (mut written, mut read) = (0u32, 0u32);
        let mut seed = 1u32;
        for _ in 0..10_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (put, take) = ((seed >> 24) as usize % 50 * 40, (seed >> 16) as usize % 50 * 39);
            let more: Vec<u8> = (0..put as u32).map(|i| (written + i) as u8).collect();
            buffer.append(&more);
            written += put as u32;
            let take = take.min(buffer.len());
            for (i, &byte) in buffer.as_slice()[..take].iter().enumerate() {
                assert_eq!(byte, (read + i as u32) as u8);
            }
            buffer.consume(take);
            read += take as u32;
            assert_eq!(buffer.len() as u32, written - read);
        }
    }

    #[test]
    fn a_steady_flow_does_not_grow_the_buffer() {
        for (standing, flow, most) in [(1_000, 100, 4_096), (60_000, 5_000, 256 * 1024)] {
            let mut buffer = Buffer::new();
            buffer.append(&vec![0; standing]);
            // Only written pages are resident, so the written length is the measure and not the capacity.
            let mut reached = 0;
            for _ in 0..10_000 {
                buffer.append(&vec![0; flow]);
                reached = reached.max(buffer.head + buffer.queued);
                buffer.consume(flow);
            }
            assert!(reached <= most, "grew to {reached}");
        }
    }

    #[test]
    fn bytes_survive_every_change_of_the_store() {
        for size in [SMALL - 1, SMALL, SMALL + 1, 4 * SMALL, 4 * SMALL + 1, 1 << 20] {
            let mut buffer = Buffer::new();
            let bytes: Vec<u8> = (0..size).map(|i| (i * 7 / 3) as u8).collect();
            for chunk in bytes.chunks(1_000) {
                buffer.append(chunk);
            }
            assert!(buffer.as_slice() == bytes, "{size} bytes differ");
            buffer.consume(size / 2);
            buffer.append(&bytes);
            assert!(buffer.as_slice() == [&bytes[size / 2..], &bytes].concat(), "{size} bytes differ");
            assert_eq!(matches!(buffer.store, Store::Small(_)), buffer.capacity() <= 2 * SMALL);
            buffer.consume(buffer.len());
            assert_eq!(buffer.capacity(), 0);
        }
    }

    #[test]
    fn a_mapping_is_kept_if_it_was_little_written_and_used_again() {
        let kept = || MAPPINGS.with_borrow(Vec::len);
        let once = |len| {
            let mut buffer = Buffer::new();
            buffer.append(&vec![b'x'; len]);
            assert!(buffer.as_slice().iter().all(|byte| *byte == b'x'));
            assert_eq!(kept(), 0, "the spare mapping is in use");
            buffer.consume(len);
        };
        once(SMALL + 1);
        assert_eq!(kept(), 1);
        once(SPARE);
        assert_eq!(kept(), 1);
        once(SPARE + 1);
        assert_eq!(kept(), 0, "its pages would stay resident");
        let buffers: Vec<_> = (0..2 * SPARES)
            .map(|_| {
                let mut buffer = Buffer::new();
                buffer.append(&[0; SMALL + 1]);
                buffer
            })
            .collect();
        drop(buffers);
        assert_eq!(kept(), SPARES);
    }

    #[test]
    #[should_panic(expected = "consumed 2 of 1")]
    fn consuming_more_than_is_queued_panics() {
        let mut buffer = Buffer::new();
        buffer.append(b"x");
        buffer.consume(2);
    }
}
