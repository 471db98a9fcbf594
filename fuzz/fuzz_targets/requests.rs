//! Any bytes, in any pieces: no panic, the same answers, and no answer without a request.
//!
//! The first byte is the length of the pieces.

#![no_main]

#[path = "../../tests/it/http/converse.rs"]
mod converse;

use converse::{MAX_BODY, converse};
use libfuzzer_sys::fuzz_target;
use reactor::protocol::http::{Conversation, Site};
use reactor::protocol::time_text::LocalTime;

/// Returns the number of answers. With a capacity of one byte, each call makes one answer at most.
fn answers(mut rest: &[u8]) -> usize {
    let site = Site::new(String::new(), MAX_BODY, LocalTime::utc());
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
    let whole = converse([bytes]);
    assert!(converse(bytes.chunks(usize::from(*size).max(1))) == whole, "the pieces make a difference");
    let ends = bytes.windows(4).filter(|four| four == b"\r\n\r\n").count();
    let answers = answers(bytes);
    assert!(answers <= ends + 1, "{answers} answers for {ends} heads");
});
