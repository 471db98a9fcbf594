//! A queue of bytes between a socket and its user.
//!
//! Owns: [`Buffer`]. Must not know: sockets, connections, watermarks.
//!
//! ```text
//!     bytes:   ┌──────────┬───────────────────────────┬──────────────┐
//!              │ consumed │          queued           │    spare     │
//!              └──────────┴───────────────────────────┴──────────────┘
//!              0          head                    bytes.len()    capacity
//!                          └── as_slice() ──────────┘
//!              consume(n) moves head to the right; append() writes at the end.
//! ```
//!
//! Invariants:
//! 1. `head <= bytes.len()`, and the queued bytes are contiguous: one read or write system call can take them all.
//! 2. An empty buffer owns no memory: ten thousand idle connections cost nothing here.
//! 3. Each byte is moved at most once on average after it was appended: the consumed front is closed only when the
//!    queued bytes are no more than the front.

/// A growable queue of bytes: appended at the back, consumed from the front, contiguous in between.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    head: usize,
}

impl Buffer {
    /// An empty buffer; allocates nothing.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), head: 0 }
    }

    /// Queued bytes.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.head
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        // By invariant 2 an empty buffer is a fresh one; a queued byte means a nonempty vector.
        self.bytes.is_empty()
    }

    /// The queued bytes, oldest first.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.head..]
    }

    /// Queues a copy of `more` behind what is there.
    pub fn append(&mut self, more: &[u8]) {
        if self.bytes.capacity() - self.bytes.len() < more.len() && self.len() <= self.head {
            self.bytes.drain(..self.head);
            self.head = 0;
        }
        self.bytes.extend_from_slice(more);
    }

    /// Drops the oldest `n` bytes; gives the memory back when none is left.
    ///
    /// # Panics
    /// If fewer than `n` bytes are queued: the caller has lost count, and going on would corrupt the stream.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "consumed {n} of {} queued bytes", self.len());
        self.head += n;
        if self.head == self.bytes.len() {
            *self = Self::new();
        }
    }

    /// Memory that is held, in bytes.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
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
    fn what_goes_in_comes_out_in_order_whatever_the_steps() {
        let mut buffer = Buffer::new();
        let (mut written, mut read) = (0u32, 0u32);
        let mut seed = 1u32;
        for _ in 0..10_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (put, take) = ((seed >> 24) as usize % 50, (seed >> 16) as usize % 50);
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
        let mut buffer = Buffer::new();
        buffer.append(&[0; 1000]);
        for _ in 0..10_000 {
            buffer.append(&[0; 100]);
            buffer.consume(100);
        }
        assert!(buffer.capacity() <= 4096, "grew to {}", buffer.capacity());
    }

    #[test]
    #[should_panic(expected = "consumed 2 of 1")]
    fn losing_count_is_a_bug_of_the_caller() {
        let mut buffer = Buffer::new();
        buffer.append(b"x");
        buffer.consume(2);
    }
}
