//! Any bytes, in any pieces: the same lines and datagrams as from the whole, and text that is safe on a terminal.
//!
//! The first byte is the length of the pieces, the second byte is the limit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reactor::protocol::line_datagrams::{Datagram, LineDatagrams, TooLong};
use reactor::protocol::lines::{Decoded, LineDecoder, push_clean, push_escaped};

/// Returns the lines in `pieces`; `None` for a line that is too long, which is the last.
fn decoded<'a>(pieces: impl Iterator<Item = &'a [u8]>, limit: usize) -> Vec<Option<Vec<u8>>> {
    let (mut decoder, mut unread, mut lines) = (LineDecoder::new(limit), Vec::new(), Vec::new());
    for piece in pieces {
        unread.extend_from_slice(piece);
        let mut input = &unread[..];
        loop {
            match decoder.decode(&mut input) {
                Decoded::Line(line) => lines.push(Some(line.to_vec())),
                Decoded::NeedMore => break,
                Decoded::TooLong => {
                    lines.push(None);
                    return lines;
                }
            }
        }
        unread = input.to_vec();
    }
    lines.extend(LineDecoder::last(&unread).map(|line| Some(line.to_vec())));
    lines
}

/// Returns the same for the whole.
fn split(bytes: &[u8], limit: usize) -> Vec<Option<Vec<u8>>> {
    let mut lines = Vec::new();
    for whole in bytes.split_inclusive(|&byte| byte == b'\n') {
        let line = whole.strip_suffix(b"\n").unwrap_or(whole);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > limit {
            lines.push(None);
            break;
        }
        lines.push(Some(line.to_vec()));
    }
    lines
}

/// Returns the datagrams of `pieces`.
fn datagrams<'a>(pieces: impl Iterator<Item = &'a [u8]>, limit: usize) -> Vec<Datagram> {
    let (mut lines, mut all) = (LineDatagrams::new(limit), Vec::new());
    for piece in pieces {
        lines.push(piece);
        all.extend(std::iter::from_fn(|| lines.pop()));
    }
    all.extend(lines.last());
    all
}

fuzz_target!(|input: &[u8]| {
    let [size, limit, bytes @ ..] = input else { return };
    let (size, limit) = (usize::from(*size).max(1), usize::from(*limit));
    let lines = decoded(bytes.chunks(size), limit);
    assert_eq!(lines, split(bytes, limit));
    let whole = bytes.split_inclusive(|&byte| byte == b'\n');
    let whole = whole.map(|line| if line.len() > limit { Err(TooLong(line.len())) } else { Ok(line.to_vec()) });
    assert_eq!(datagrams(bytes.chunks(size), limit), whole.collect::<Vec<_>>());
    for push in [push_clean, push_escaped] {
        let mut text = String::new();
        push(&mut text, bytes);
        assert!(text.chars().all(|c| c == '\t' || !c.is_control()), "{text:?}");
    }
});
