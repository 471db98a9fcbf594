//! Verifiable bytes: every byte that a server returns can be compared with the byte that was sent.
//!
//! Owns: [`Pattern`]. Must not know: messages, connections.
//!
//! Every stream is a part of one endless sequence with a prime period. The next comparison finds a byte that is lost,
//! repeated or from another stream, because the sequence no longer fits.

/// The period: prime, so that messages of any usual size begin at a different place each.
const PERIOD: usize = 4093;

/// The sequence, long enough for a contiguous slice from any place.
#[derive(Debug)]
pub struct Pattern {
    bytes: Vec<u8>,
    longest: usize,
}

impl Pattern {
    /// A pattern with slices of up to `longest` bytes.
    pub fn new(longest: usize) -> Self {
        let byte = |i: usize| ((i % PERIOD) as u32).wrapping_add(1).wrapping_mul(2_654_435_761).to_be_bytes()[0];
        Self { bytes: (0..PERIOD + longest).map(byte).collect(), longest }
    }

    /// Returns `len` bytes of the sequence from the place `at`.
    ///
    /// # Panics
    /// If `len` exceeds the longest slice.
    #[inline]
    pub fn slice(&self, at: u64, len: usize) -> &[u8] {
        let from = (at % PERIOD as u64) as usize;
        &self.bytes[from..from + len]
    }

    /// Returns true if `bytes` equals the sequence from the place `at`.
    #[inline]
    pub fn matches(&self, mut at: u64, bytes: &[u8]) -> bool {
        bytes.chunks(self.longest).all(|chunk| {
            let same = self.slice(at, chunk.len()) == chunk;
            at += chunk.len() as u64;
            same
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_repeated_and_changed_bytes_do_not_match() {
        let pattern = Pattern::new(100);
        let stream: Vec<u8> = (0..50).flat_map(|n| pattern.slice(n * 100, 100).to_vec()).collect();
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
