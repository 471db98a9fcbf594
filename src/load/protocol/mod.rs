//! The protocols that a run can speak, one file each.
//!
//! Owns: [`Protocol`], the contract of a protocol on persistent connections, and [`Completions`], to which a protocol
//! reports answered requests. Must not know: sockets, connections, any clock.
//!
//! [`echo`], [`chat`] and [`http`] implement [`Protocol`] and share one pool of connections. [`time`] opens a connection
//! for each request, and [`udp`] has a socket for each client: both are services of their own.

pub mod chat;
pub mod echo;
pub mod http;
mod pattern;
mod response;
pub mod time;
pub mod udp;

use std::collections::VecDeque;
use std::fmt;

use self::response::ResponseError;
use crate::load::stats::Stats;

/// A protocol on the connections of a [`ConnectionPool`](crate::load::connection::ConnectionPool): bytes, and no socket.
pub trait Protocol {
    /// The state of one connection.
    type State;

    /// The ended connections that the pool dials again.
    const REDIAL: Redial;

    /// Returns the length of a request in bytes.
    fn request_len(&self) -> usize;

    /// Returns the state of a new connection, the `number`th.
    fn new_state(&mut self, number: usize) -> Self::State;

    /// Returns true if the connection `number` sends requests.
    fn sends_requests(&self, number: usize) -> bool {
        let _ = number;
        true
    }

    /// Returns whether the greeting has arrived, for a protocol whose server greets first: the greeting makes a connection
    /// ready. `None` for the others, whose connections become ready with the answer to their first request.
    fn has_greeting(&self, state: &Self::State) -> Option<bool> {
        let _ = state;
        None
    }

    /// Returns the bytes of the next request. Its latency counts from `since`; `members` connections are open.
    fn encode_request(&mut self, state: &mut Self::State, since: u64, stats: &mut Stats, members: usize) -> &[u8];

    /// Decodes `input` and returns the number of bytes that are consumed.
    ///
    /// # Errors
    /// The violation of the protocol that ends the connection.
    fn decode(
        &mut self,
        state: &mut Self::State,
        input: &[u8],
        completions: &mut Completions<'_>,
    ) -> Result<usize, ProtocolError>;

    /// Handles the peer's FIN, which may complete an answer.
    ///
    /// # Errors
    /// The answer that FIN has truncated.
    fn decode_eof(&mut self, state: &mut Self::State, completions: &mut Completions<'_>) -> Result<(), ProtocolError> {
        let _ = (state, completions);
        Ok(())
    }
}

/// The ended connections that a pool dials again while requests are due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Redial {
    /// None: the end of a connection is always an error.
    Never,
    /// Those that the server has ended in order while no request was in flight. Such an end is no error: a server may
    /// close an idle connection at any time.
    Idle,
    /// All that have been served before. An end in order without a request in flight is no error.
    Always,
}

/// How a server has violated a protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    /// The bytes differ from those that were sent.
    WrongBytes,
    /// An answer has arrived while no request was in flight.
    UnexpectedAnswer,
    /// A line of the chat claims a number that its speaker has not sent yet.
    UnsentLine,
    /// A response of HTTP/1 cannot be decoded.
    Response(ResponseError),
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolError::WrongBytes => f.write_str("wrong bytes"),
            ProtocolError::UnexpectedAnswer => f.write_str("an answer to no request"),
            ProtocolError::UnsentLine => f.write_str("a line that no speaker has sent"),
            ProtocolError::Response(error) => error.fmt(f),
        }
    }
}

impl From<ResponseError> for ProtocolError {
    fn from(error: ResponseError) -> Self {
        ProtocolError::Response(error)
    }
}

/// The answers that a [`Protocol`] has found in one read.
pub struct Completions<'a> {
    /// The instant of the read, in nanoseconds of the run's clock.
    pub now: u64,
    /// True if `now` lies within the window: the answers count for the throughput.
    pub in_window: bool,
    /// The counters of the run.
    pub stats: &'a mut Stats,
    in_flight: &'a VecDeque<u64>,
    /// The connection has answered a request in an earlier read.
    answered: bool,
    count: usize,
    last: bool,
}

impl<'a> Completions<'a> {
    /// No answer yet, at `now`, on a connection whose requests in flight became due at the instants `in_flight`, oldest
    /// first. `answered`: the connection has answered a request before.
    pub fn new(now: u64, in_window: bool, stats: &'a mut Stats, in_flight: &'a VecDeque<u64>, answered: bool) -> Self {
        Self { now, in_window, stats, in_flight, answered, count: 0, last: false }
    }

    /// Notes that the server answers no further request on this connection.
    pub fn set_last(&mut self) {
        self.last = true;
    }

    /// Returns true if the server answers no further request on this connection.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Returns true if no request is in flight.
    pub fn is_idle(&self) -> bool {
        self.count == self.in_flight.len()
    }

    /// Returns true if the connection has answered a request, in this read or before.
    pub fn has_answered(&self) -> bool {
        self.answered || self.count > 0
    }

    /// Returns the number of answered requests.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Counts the oldest request in flight as answered and records its latency.
    ///
    /// # Errors
    /// [`ProtocolError::UnexpectedAnswer`] if no request is in flight.
    #[inline]
    pub fn complete(&mut self) -> Result<(), ProtocolError> {
        let since = *self.in_flight.get(self.count).ok_or(ProtocolError::UnexpectedAnswer)?;
        self.stats.record(self.now.saturating_sub(since));
        self.count += 1;
        Ok(())
    }

    /// Counts the oldest request in flight as answered. For a protocol that records latencies itself.
    ///
    /// # Errors
    /// [`ProtocolError::UnexpectedAnswer`] if no request is in flight.
    pub fn complete_unrecorded(&mut self) -> Result<(), ProtocolError> {
        self.in_flight.get(self.count).ok_or(ProtocolError::UnexpectedAnswer)?;
        self.count += 1;
        Ok(())
    }
}
