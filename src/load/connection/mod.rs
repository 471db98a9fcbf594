//! The persistent connections of a run.
//!
//! Owns: [`Connection`], its requests in flight and its [`ConnectionState`]. Must not know: the other connections; those
//! belong to [`ConnectionPool`] and [`DialQueue`].

mod dial_queue;
mod pool;
mod setup;

use std::collections::VecDeque;

use crate::service::CloseReason;

pub use self::dial_queue::{DIAL_TIMEOUT, DialQueue, RETRY_DELAY};
pub use self::pool::ConnectionPool;

/// The state of a connection, which decides how its end counts. Only an open connection is sent requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionState {
    /// Requests may be sent.
    Open,
    /// The server has announced that it answers no further request here, and has a moment to close.
    Closing,
    /// The server has sent FIN without announcing its last answer.
    PeerClosed,
    /// An error of this connection has been counted. Its end counts no other.
    Failed,
}

/// How the end of a connection counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The server has announced it. Requests in flight are sent again.
    Announced,
    /// The server has ended the connection in order while no request was in flight.
    Idle,
    /// An error of this connection has been counted.
    Failed,
    /// Any other end.
    Unexpected,
}

/// One connection, with `S` as the state of its protocol.
pub struct Connection<S> {
    /// The number of this connection in the run, from 0.
    pub number: usize,
    /// True once the server has served this connection.
    pub ready: bool,
    /// True once the server has answered a request here.
    pub answered: bool,
    /// Decides how the end of the connection counts.
    pub state: ConnectionState,
    /// The instants at which the requests in flight became due, oldest first.
    pub in_flight: VecDeque<u64>,
    /// The state of the protocol.
    pub protocol_state: S,
}

impl<S> Connection<S> {
    /// Returns true if a request may be sent.
    pub fn accepts_requests(&self) -> bool {
        self.ready && self.state == ConnectionState::Open
    }

    /// Returns how the end of this connection counts, if it ends because of `reason`.
    pub fn ending(&self, reason: CloseReason) -> Ending {
        match self.state {
            ConnectionState::Closing => Ending::Announced,
            ConnectionState::Failed => Ending::Failed,
            _ if self.ready && self.in_flight.is_empty() && reason == CloseReason::Finished => Ending::Idle,
            ConnectionState::Open | ConnectionState::PeerClosed => Ending::Unexpected,
        }
    }
}
