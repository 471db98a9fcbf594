//! One connection of a load that stays open.
//!
//! Owns: [`Client`]: what is under way on it, and its [`Course`]. Must not know: who else there is.

mod dialing;
mod pool;

pub use self::dialing::{DIAL_TIMEOUT, REST};
pub use self::pool::Stream;

use std::collections::VecDeque;

/// Whether a connection may be asked, and if not, what its end means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Course {
    /// It may.
    Open,
    /// The server has said that it will answer nothing else here. It has a moment to close.
    Last,
    /// The server has ended it without a word.
    Closed,
    /// What was wrong with it has been counted.
    Faulty,
}

/// A connection.
pub struct Client<R> {
    /// Which of the connections of the run it is.
    pub number: usize,
    /// It has been served.
    pub ready: bool,
    /// It has answered a request.
    pub answered: bool,
    /// What may become of it.
    pub course: Course,
    /// When those of its requests were due that are under way, the oldest first.
    pub in_flight: VecDeque<u64>,
    /// What its talk keeps for it.
    pub row: R,
}

impl<R> Client<R> {
    /// Whether it may be sent a request.
    pub fn may_be_asked(&self) -> bool {
        self.ready && self.course == Course::Open
    }
}
