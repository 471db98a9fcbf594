//! A conversation without a socket, shared with the fuzz target.

use reactor::protocol::http::{Conversation, Phase, Site};
use reactor::protocol::time_text::LocalTime;

/// The limit for bodies here.
pub const MAX_BODY: usize = 1000;

/// Returns the output for `pieces` and an end of file, and true if the conversation was over before that end.
pub fn converse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
    let site = Site::new(String::new(), MAX_BODY, LocalTime::utc());
    let (mut conversation, mut unread, mut output) = (Conversation::NEW, Vec::new(), Vec::new());
    for piece in pieces {
        unread.extend_from_slice(piece);
        let consumed = conversation.receive(&site, &unread, usize::MAX, &mut output);
        unread.drain(..consumed);
    }
    let is_over = conversation.phase() == Phase::Done;
    conversation.end(&site, &mut output);
    (output, is_over)
}
