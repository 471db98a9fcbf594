//! The raw chat service: every byte from anyone goes to everyone.

use super::relay::{Crowd, Portion};

/// Passes every byte on to every member, the sender included, unchanged and in one order for all.
pub type ChatRaw = Crowd<Stream>;

/// A stream may be cut anywhere. The sender hears itself: what its own queue has no room for waits.
#[derive(Debug)]
pub enum Stream {}

impl Portion for Stream {
    fn of(input: usize, room: usize) -> usize {
        input.min(room)
    }
}
