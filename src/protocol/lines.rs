//! Lines: from bytes in pieces to lines, and from lines to text that is safe on a terminal.
//!
//! Owns: [`LineDecoder`], [`push_clean`] and [`push_escaped`]. Must not know: the source of bytes, the reader of lines.
//!
//! Invariants:
//! 1. The lines do not depend on the pieces in which their bytes arrive.
//! 2. The decoder looks at each byte once, however small the pieces are: it remembers its place.
//! 3. At most the longest line and its end wait for more bytes. Past that the result is [`Decoded::TooLong`].

/// The result of looking at the front of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoded<'a> {
    /// A line, without its LF or CRLF.
    Line(&'a [u8]),
    /// The beginning of a line. Call again with the same bytes and the next ones.
    NeedMore,
    /// A line, complete or not, that is longer than the limit. The decoder cannot go on.
    TooLong,
}

/// Finds lines that end with LF or CRLF and are no longer than a limit, without their ends.
///
/// ```
/// use reactor::protocol::lines::{Decoded, LineDecoder};
///
/// let mut decoder = LineDecoder::new(100);
/// let mut input = &b"one\r\ntwo\nthr"[..];
/// assert_eq!(decoder.decode(&mut input), Decoded::Line(b"one"));
/// assert_eq!(decoder.decode(&mut input), Decoded::Line(b"two"));
/// assert_eq!(decoder.decode(&mut input), Decoded::NeedMore);
/// assert_eq!(input, b"thr");
/// ```
#[derive(Clone, Debug)]
pub struct LineDecoder {
    limit: usize,
    /// The number of bytes at the front of the input without an LF.
    scanned: usize,
}

impl LineDecoder {
    /// A decoder for lines of at most `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self { limit, scanned: 0 }
    }

    /// Takes the next line off the front of `input`. After [`Decoded::NeedMore`] the next call needs the bytes that are
    /// left here, followed by the bytes that have arrived since.
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Decoded<'a> {
        let bytes = *input;
        let fresh = bytes.get(self.scanned..).unwrap_or_default();
        match fresh.iter().position(|&byte| byte == b'\n') {
            Some(n) => {
                let end = self.scanned + n;
                let line = without_cr(&bytes[..end]);
                if line.len() > self.limit {
                    return Decoded::TooLong;
                }
                *input = &bytes[end + 1..];
                self.scanned = 0;
                Decoded::Line(line)
            }
            // A CR at the end may be half of a line end, which does not count.
            None if without_cr(bytes).len() > self.limit => Decoded::TooLong,
            None => {
                self.scanned = bytes.len();
                Decoded::NeedMore
            }
        }
    }

    /// Returns the line that the end of the input ends, given the bytes that [`decode`](Self::decode) has left. `None` if
    /// the input ended with a line end.
    pub fn last(rest: &[u8]) -> Option<&[u8]> {
        (!rest.is_empty()).then(|| without_cr(rest))
    }
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Appends `line` as text that is safe on a terminal. Bytes that are not UTF-8 become U+FFFD. Control characters other than
/// the tab are left out (C0, DEL and C1, with which escape sequences begin).
pub fn push_clean(text: &mut String, line: &[u8]) {
    for chunk in line.utf8_chunks() {
        let valid = chunk.valid();
        // C1 takes two bytes, and the first is not ASCII.
        if valid.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
            text.push_str(valid);
        } else {
            text.extend(valid.chars().filter(|&c| c == '\t' || !c.is_control()));
        }
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Appends `line` as text that shows every character and is safe on a terminal. Bytes that are not UTF-8 become U+FFFD, and
/// control characters other than the tab appear as in Rust (`\n`, `\u{1b}`).
pub fn push_escaped(text: &mut String, line: &[u8]) {
    for c in String::from_utf8_lossy(line).chars() {
        if c.is_control() && c != '\t' { text.extend(c.escape_default()) } else { text.push(c) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result for a peer's bytes.
    #[derive(PartialEq, Eq, Debug)]
    enum Item {
        Line(Vec<u8>),
        TooLong,
        Last(Vec<u8>),
    }

    /// Decodes `pieces` as a connection offers them: the bytes left over come again, with the next piece.
    fn items(pieces: &[&[u8]], limit: usize) -> Vec<Item> {
        let mut decoder = LineDecoder::new(limit);
        let (mut unread, mut items) = (Vec::new(), Vec::new());
        for piece in pieces {
            unread.extend_from_slice(piece);
            let mut input = &unread[..];
            loop {
                match decoder.decode(&mut input) {
                    Decoded::Line(line) => items.push(Item::Line(line.to_vec())),
                    Decoded::NeedMore => break,
                    Decoded::TooLong => {
                        items.push(Item::TooLong);
                        return items;
                    }
                }
            }
            unread = input.to_vec();
        }
        items.extend(LineDecoder::last(&unread).map(|line| Item::Last(line.to_vec())));
        items
    }

    const SAMPLES: [&[u8]; 14] = [
        b"",
        b"\n",
        b"\r\n",
        b"\r",
        b"a\nb\n",
        b"hello\r\nworld",
        b"\n\n\r\n\n",
        b"a\rb\r\r\nc\r",
        b"12345678\n",
        b"12345678\r\n1",
        b"12345678\r",
        b"123456789\n",
        b"ok\n123456789\r\nlost\n",
        b"12345678\rx\n",
    ];

    #[test]
    fn lines_end_with_lf_or_crlf() {
        let line = |text: &[u8]| Item::Line(text.to_vec());
        let last = |text: &[u8]| Item::Last(text.to_vec());
        let expected = [
            vec![],
            vec![line(b"")],
            vec![line(b"")],
            vec![last(b"")],
            vec![line(b"a"), line(b"b")],
            vec![line(b"hello"), last(b"world")],
            vec![line(b""), line(b""), line(b""), line(b"")],
            vec![line(b"a\rb\r"), last(b"c")],
            vec![line(b"12345678")],
            vec![line(b"12345678"), last(b"1")],
            vec![last(b"12345678")],
            vec![Item::TooLong],
            vec![line(b"ok"), Item::TooLong],
            vec![Item::TooLong],
        ];
        for (sample, expected) in SAMPLES.iter().zip(expected) {
            assert_eq!(items(&[sample], 8), expected, "{:?}", sample.escape_ascii().to_string());
        }
    }

    #[test]
    fn every_split_of_every_sample_gives_the_same_items() {
        for sample in SAMPLES {
            let whole = items(&[sample], 8);
            for first in 0..=sample.len() {
                for second in first..=sample.len() {
                    let pieces = [&sample[..first], &sample[first..second], &sample[second..]];
                    assert_eq!(items(&pieces, 8), whole, "{pieces:?}");
                }
            }
            let bytes: Vec<&[u8]> = sample.chunks(1).collect();
            assert_eq!(items(&bytes, 8), whole, "{:?} byte by byte", sample.escape_ascii().to_string());
        }
    }

    #[test]
    fn a_byte_is_looked_at_once() {
        let mut decoder = LineDecoder::new(100);
        let mut line = b"0123456789".to_vec();
        assert_eq!(decoder.decode(&mut &line[..]), Decoded::NeedMore);
        // A decoder that began again at the front would find this LF.
        line[3] = b'\n';
        assert_eq!(decoder.decode(&mut &line[..]), Decoded::NeedMore);
        line.push(b'\n');
        assert_eq!(decoder.decode(&mut &line[..]), Decoded::Line(b"012\n456789"));
        // Afterwards the decoder begins at the front of the next line.
        assert_eq!(decoder.decode(&mut &b"next\n"[..]), Decoded::Line(b"next"));
    }

    #[test]
    fn the_limit_counts_the_line_and_not_its_end() {
        let mut decoder = LineDecoder::new(4);
        assert_eq!(decoder.decode(&mut &b"1234"[..]), Decoded::NeedMore);
        assert_eq!(decoder.decode(&mut &b"1234\r"[..]), Decoded::NeedMore);
        assert_eq!(decoder.decode(&mut &b"1234\r\n"[..]), Decoded::Line(b"1234"));
        assert_eq!(decoder.decode(&mut &b"12345"[..]), Decoded::TooLong);
        assert_eq!(LineDecoder::new(4).decode(&mut &b"1234\rx"[..]), Decoded::TooLong);
    }

    fn clean(line: &[u8]) -> String {
        let mut text = String::new();
        push_clean(&mut text, line);
        text
    }

    #[test]
    fn clean_text_keeps_printable_characters() {
        for text in ["", "hello", "a\tb", "grüß Gott", "你好", "🙂", "~ !"] {
            assert_eq!(clean(text.as_bytes()), text);
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        assert_eq!(clean(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(clean(b"\xe4\xbd"), "\u{fffd}");
        assert_eq!(clean(b"\xc0\xaf"), "\u{fffd}\u{fffd}");
        let all: Vec<u8> = (0..=255).collect();
        assert!(!clean(&all).contains(|c: char| c != '\t' && c.is_control()));
    }

    #[test]
    fn escaped_text_shows_control_characters() {
        let mut text = String::new();
        push_escaped(&mut text, b"\x1b[2J\x07\x00\x7f\r\n\ttab \xff gr\xc3\xbc\xc3\x9f\xc2\x9b");
        assert_eq!(text, "\\u{1b}[2J\\u{7}\\u{0}\\u{7f}\\r\\n\ttab \u{fffd} grüß\\u{9b}");
    }

    #[test]
    fn clean_text_leaves_control_characters_out() {
        assert_eq!(clean(b"\x1b[2J\x07bell\x00\x7f\rand\ttab"), "[2Jbelland\ttab");
        assert_eq!(clean("csi \u{9b}31m ü".as_bytes()), "csi 31m ü");
    }
}
