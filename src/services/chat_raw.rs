//! The raw chat service: every member gets every byte of every member.

use super::Relay;

/// Returns a relay of a stream, which may be cut anywhere: bytes beyond the capacity of the sender's own queue wait,
/// because the sender gets its own bytes as well.
pub fn chat_raw() -> Relay {
    Relay::new(|input, capacity| input.min(capacity))
}
