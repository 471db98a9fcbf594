//! The hub service: what one sends goes to all in one piece, and each member has a bounded queue.
//!
//! Where [`ChatRaw`](super::ChatRaw) passes on a stream, which may be cut anywhere to fit a queue, this passes on
//! pieces, and no other member's bytes come between two parts of one.
//!
//! The bound is the listener's ([`Policy::overflow`](crate::limits::Policy::overflow)), and the reactor keeps it: a member
//! for whom as much is queued is dropped, counted and logged
//! ([`CloseReason::Overflow`](crate::service::CloseReason::Overflow)), and nobody waits for it.

use super::relay::{Crowd, Portion};

/// Passes each piece on, as it was read, to every member, the sender included.
pub type ChatHub = Crowd<Pieces>;

/// A piece is passed on whole, whatever room there is.
#[derive(Debug)]
pub enum Pieces {}

impl Portion for Pieces {
    fn of(input: usize, _room: usize) -> usize {
        input
    }
}
