//! From lines to datagrams: each line is one datagram, with its end, as `nc -u` sends it.
//!
//! Owns: [`LineDatagrams`], [`TooLong`]. Must not know: the source of the bytes, the destination of the datagrams.
//!
//! Invariants:
//! 1. The datagrams do not depend on the pieces in which their bytes arrive.
//! 2. Each byte is looked at once. The memory holds at most one datagram and one piece: of a line that is too long, further
//!    bytes are skipped as they arrive.

use std::error::Error;
use std::fmt;

use crate::buffer::Buffer;

/// The error of a line that is longer than a datagram can be. Holds the length of the line, in bytes, all of which are left
/// out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong(pub usize);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a line of {} bytes is longer than a datagram", self.0)
    }
}

impl Error for TooLong {}

/// The datagram of a line.
pub type Datagram = Result<Vec<u8>, TooLong>;

/// Cuts input into datagrams, one for each line.
///
/// ```
/// use reactor::protocol::line_datagrams::{LineDatagrams, TooLong};
///
/// let mut lines = LineDatagrams::new(8);
/// lines.push(b"one\ntoo long for it\nla");
/// assert_eq!(lines.pop(), Some(Ok(b"one\n".to_vec())));
/// assert_eq!(lines.pop(), Some(Err(TooLong(16))));
/// assert_eq!(lines.pop(), None);
/// lines.push(b"st");
/// assert_eq!(lines.last(), Some(Ok(b"last".to_vec())));
/// ```
#[derive(Debug)]
pub struct LineDatagrams {
    limit: usize,
    input: Buffer,
    /// The number of bytes at the front of the input without an LF.
    scanned: usize,
    /// The number of bytes of the present line that have been skipped.
    skipped: usize,
}

impl LineDatagrams {
    /// Makes datagrams of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, input: Buffer::new(), scanned: 0, skipped: 0 }
    }

    /// Adds input.
    pub fn push(&mut self, bytes: &[u8]) {
        self.input.append(bytes);
    }

    /// Returns the next datagram, if its line is complete.
    pub fn pop(&mut self) -> Option<Datagram> {
        let bytes = self.input.as_slice();
        let fresh = bytes.get(self.scanned..).unwrap_or_default();
        match fresh.iter().position(|&byte| byte == b'\n') {
            Some(n) => Some(self.take(self.scanned + n + 1)),
            None if self.skipped > 0 || bytes.len() > self.limit => {
                self.skipped += bytes.len();
                self.input.consume(bytes.len());
                self.scanned = 0;
                None
            }
            None => {
                self.scanned = bytes.len();
                None
            }
        }
    }

    /// Returns the datagram of the line that the end of the input ends.
    pub fn last(&mut self) -> Option<Datagram> {
        let left = self.input.len();
        (left + self.skipped > 0).then(|| self.take(left))
    }

    fn take(&mut self, len: usize) -> Datagram {
        let line = &self.input.as_slice()[..len];
        let whole = self.skipped + len;
        let taken = if whole > self.limit { Err(TooLong(whole)) } else { Ok(line.to_vec()) };
        self.input.consume(len);
        (self.scanned, self.skipped) = (0, 0);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagrams(pieces: &[&[u8]]) -> Vec<Datagram> {
        let mut lines = LineDatagrams::new(8);
        let mut all = Vec::new();
        for piece in pieces {
            lines.push(piece);
            all.extend(std::iter::from_fn(|| lines.pop()));
            assert!(lines.input.len() <= 8, "it keeps {}", lines.input.len());
        }
        all.extend(lines.last());
        assert_eq!(lines.last(), None);
        all
    }

    #[test]
    fn every_split_of_every_sample_gives_the_same_datagrams() {
        let ok = |text: &[u8]| Ok(text.to_vec());
        let samples: [(&[u8], Vec<Datagram>); 8] = [
            (b"", vec![]),
            (b"\n", vec![ok(b"\n")]),
            (b"a\n\nb", vec![ok(b"a\n"), ok(b"\n"), ok(b"b")]),
            (b"1234567\n12345678", vec![ok(b"1234567\n"), ok(b"12345678")]),
            (b"12345678\n", vec![Err(TooLong(9))]),
            (b"123456789", vec![Err(TooLong(9))]),
            (b"123456789012345678901234567890\nok\r\n", vec![Err(TooLong(31)), ok(b"ok\r\n")]),
            (b"ok\n123456789012345", vec![ok(b"ok\n"), Err(TooLong(15))]),
        ];
        for (sample, expected) in samples {
            assert_eq!(datagrams(&[sample]), expected);
            for first in 0..=sample.len() {
                for second in first..=sample.len() {
                    let pieces = [&sample[..first], &sample[first..second], &sample[second..]];
                    assert_eq!(datagrams(&pieces), expected, "{pieces:?}");
                }
            }
            let bytes: Vec<&[u8]> = sample.chunks(1).collect();
            assert_eq!(datagrams(&bytes), expected);
        }
    }
}
