//! The hub service: the bytes of one read go to all members in one piece, and each member has a bounded queue.
//!
//! [`chat_raw`](super::chat_raw()) relays a stream, which may be cut anywhere to fit a queue. The hub relays whole
//! reads: no bytes of another member come between two parts of one.
//!
//! The bound belongs to the listener ([`Policy::overflow`](crate::limits::Policy::overflow)), and the reactor enforces
//! it: a member with that many bytes queued is closed, counted and logged
//! ([`CloseReason::Overflow`](crate::service::CloseReason::Overflow)). No other member waits for it.

use super::Relay;

/// Returns a relay of whole reads, whatever the sender's capacity is.
pub fn chat_hub() -> Relay {
    Relay::new(|input, _capacity| input)
}
