//! The bytes that are sent, so that what comes back can be checked.
//!
//! Owns: [`Pattern`]. Must not know: messages, connections.
//!
//! Every stream is a part of one endless sequence with a prime period. A byte that is lost, repeated or somebody else's
//! is found at the next comparison, because the sequence does not fit any more.

/// The period: prime, so that messages of any usual size begin at a different place each.
const PERIOD: usize = 4093;

/// The sequence, long enough to be read in one piece from any of its places.
#[derive(Debug)]
pub struct Pattern {
    bytes: Vec<u8>,
    longest: usize,
}

impl Pattern {
    /// A pattern from which pieces of `longest` bytes can be taken.
    pub fn new(longest: usize) -> Self {
        let byte = |i: usize| ((i % PERIOD) as u32).wrapping_add(1).wrapping_mul(2_654_435_761).to_be_bytes()[0];
        Self { bytes: (0..PERIOD + longest).map(byte).collect(), longest }
    }

    /// `len` bytes of the sequence from the place `at`.
    ///
    /// # Panics
    /// If that is longer than the longest piece.
    #[inline]
    pub fn piece(&self, at: u64, len: usize) -> &[u8] {
        let from = (at % PERIOD as u64) as usize;
        &self.bytes[from..from + len]
    }

    /// Whether `bytes` are those of the sequence from the place `at`.
    #[inline]
    pub fn matches(&self, mut at: u64, bytes: &[u8]) -> bool {
        bytes.chunks(self.longest).all(|chunk| {
            let same = self.piece(at, chunk.len()) == chunk;
            at += chunk.len() as u64;
            same
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_repeated_or_changed_is_found() {
        let pattern = Pattern::new(100);
        let stream: Vec<u8> = (0..50).flat_map(|n| pattern.piece(n * 100, 100).to_vec()).collect();
        assert!(pattern.matches(0, &stream) && pattern.matches(200, &stream[200..300]));
        let lost = [&stream[..100], &stream[200..]].concat();
        let repeated = [&stream[..200], &stream[100..]].concat();
        let mut changed = stream.clone();
        changed[4_099] ^= 1;
        for wrong in [lost, repeated, changed] {
            assert!(!pattern.matches(0, &wrong));
        }
        assert!(!pattern.matches(1, &stream));
    }
}
