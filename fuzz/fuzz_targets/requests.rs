//! Any bytes, in any pieces: no panic, the same answers, and none that was not asked for.
//!
//! The first byte is the length of the pieces. Run it with `cargo fuzz run requests` (cargo-fuzz and a nightly toolchain).

#![no_main]

use libfuzzer_sys::fuzz_target;
use reactor::protocol::http::{Awaits, Conversation, Site};
use reactor::protocol::time_text::LocalTime;

/// What comes back for `pieces` and an end of file, and whether it was over before that.
fn converse<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
    let site = Site::new(String::new(), 1000, LocalTime::utc());
    let (mut conversation, mut unread, mut output) = (Conversation::NEW, Vec::new(), Vec::new());
    for piece in pieces {
        unread.extend_from_slice(piece);
        let consumed = conversation.receive(&site, &unread, usize::MAX, &mut output);
        unread.drain(..consumed);
    }
    let is_over = conversation.awaits() == Awaits::Nothing;
    conversation.end(&site, &mut output);
    (output, is_over)
}

/// How many answers there are. With room for one byte each call gives one at most.
fn answers(mut rest: &[u8]) -> usize {
    let site = Site::new(String::new(), 1000, LocalTime::utc());
    let (mut conversation, mut count) = (Conversation::NEW, 0);
    loop {
        let mut output = Vec::new();
        let consumed = conversation.receive(&site, rest, 1, &mut output);
        count += usize::from(!output.is_empty() && !output.starts_with(b"HTTP/1.1 100 "));
        rest = &rest[consumed..];
        if output.is_empty() {
            return count;
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [size, bytes @ ..] = input else { return };
    let whole = converse(std::iter::once(bytes));
    assert!(converse(bytes.chunks(usize::from(*size).max(1))) == whole, "the pieces make a difference");
    let ends = bytes.windows(4).filter(|four| four == b"\r\n\r\n").count();
    let answers = answers(bytes);
    assert!(answers <= ends + 1, "{answers} answers for {ends} heads");
});
