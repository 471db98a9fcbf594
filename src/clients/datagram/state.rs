//! The states of a datagram client: of itself, of its input, of its output, and of the peer's answer.
//!
//! Owns: the four enums. Must not know: their transitions, which are methods of
//! [`DatagramClient`](super::DatagramClient).

use std::net::SocketAddr;

use crate::timer::Time;

/// The state of the client. Each transition is a method of the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// `on_open` has not been called.
    Idle,
    /// The console resolves the peer's name.
    Resolving,
    /// The socket is being connected to this address.
    Connecting(SocketAddr),
    /// Lines are sent and answers are received.
    Connected,
    /// The client waits for the time of the next attempt.
    Waiting(Retry),
    /// The client has ended.
    Ended,
}

/// The next attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// On the same socket, whose peer is the choice.
    Resume,
    /// From the first address of the peer on.
    Reconnect,
}

/// The state of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// No piece has been requested.
    Untouched,
    /// Pieces arrive; the lines of this many have not all been sent.
    Open(usize),
    /// The end of input has arrived, and lines wait to be sent.
    Ended,
    /// The last line has been sent.
    Sent,
}

/// The state of the console's output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// The console accepts output.
    Writable,
    /// The console accepts no output. UDP cannot hold a peer back, so answers that arrive meanwhile are dropped and counted.
    Full {
        /// The answers dropped since.
        dropped: u64,
    },
}

/// The answer to the datagrams that have been sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Every datagram is followed by an answer.
    Settled,
    /// No answer has followed the datagram that was sent at this time.
    Pending(Time),
}
