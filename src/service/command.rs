//! The commands of a service, as data.
//!
//! Owns: [`Command`] and [`Span`]. Must not know: their effects, and the [`Outbox`](super::Outbox) that holds their bytes.

use super::TimerName;
use super::reason::CloseReason;
use crate::id::{ConnId, ListenerId, SocketId, SourceId};
use crate::timer::{Deadline, Time, Timeout};

/// A part of a byte or id array: `start..end`. (`Range` is not `Copy`.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first index.
    pub start: usize,
    /// One past the last index.
    pub end: usize,
}

impl Span {
    /// Returns the span of all of `elements`.
    pub const fn of<T>(elements: &[T]) -> Self {
        Self { start: 0, end: elements.len() }
    }

    /// Returns the number of elements.
    pub const fn len(self) -> usize {
        self.end - self.start
    }

    /// Returns true if there are no elements.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// One recorded command. A command for a connection that is gone does nothing, and is counted as stale.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Command {
    /// Send bytes of the outbox to a connection.
    Send {
        /// The connection.
        to: ConnId,
        /// The part of [`Outbox::bytes`](super::Outbox::bytes).
        bytes: Span,
    },
    /// Send a part of the input of the callback back to its connection.
    SendInput {
        /// The part of the input.
        part: Span,
    },
    /// Send a part of the input of the callback to another connection, and read `from` no further until `to` has drained.
    Forward {
        /// The connection of the input.
        from: ConnId,
        /// The connection that the part goes to.
        to: ConnId,
        /// The part of the input.
        part: Span,
    },
    /// Hand all further input of a connection to another one.
    Splice {
        /// The connection of the input.
        from: ConnId,
        /// The connection that the input goes to.
        to: ConnId,
    },
    /// Queue the same bytes for several connections. A connection whose queue is above its bound is dropped.
    Broadcast {
        /// The part of [`Outbox::recipients`](super::Outbox::recipients).
        to: Span,
        /// The part of [`Outbox::bytes`](super::Outbox::bytes).
        bytes: Span,
    },
    /// Flush, send FIN, then read and discard input until the FIN of the peer or the linger deadline.
    Finish {
        /// The connection.
        of: ConnId,
    },
    /// Serve the input that has arrived, and finish when nothing is left to read or to write.
    FinishWhenQuiet {
        /// The connection.
        of: ConnId,
    },
    /// Flush, send FIN, and go on delivering input.
    HalfClose {
        /// The connection.
        of: ConnId,
    },
    /// Call `on_drain` when the queue has fallen to the low-water mark, also if it is there already.
    AwaitDrain {
        /// The connection.
        of: ConnId,
    },
    /// Close with RST. Queued output is lost.
    Reset {
        /// The connection.
        of: ConnId,
    },
    /// Close now. Queued output is lost, and then the peer sees RST.
    Abort {
        /// The connection.
        of: ConnId,
        /// The reason for `on_close` and the ledger.
        reason: CloseReason,
    },
    /// Stop reading.
    Pause {
        /// The connection.
        of: ConnId,
    },
    /// Read again.
    Resume {
        /// The connection.
        of: ConnId,
    },
    /// Set a deadline; [`Time::NEVER`] clears it.
    SetDeadline {
        /// The connection.
        of: ConnId,
        /// The kind of deadline.
        which: Deadline,
        /// The time at which it is due.
        due: Time,
    },
    /// Set a timeout, which bytes renew, in place of the deadline or timeout that was set.
    SetTimeout {
        /// The connection.
        of: ConnId,
        /// The kind of deadline.
        which: Deadline,
        /// The timeout; off for none.
        timeout: Timeout,
    },
    /// Set the timeout of the policy, in place of the deadline or timeout that was set.
    RestoreTimeout {
        /// The connection.
        of: ConnId,
        /// The kind of deadline.
        which: Deadline,
    },
    /// Set a timer of the service, in place of one of the same name.
    SetTimer {
        /// The timer.
        name: TimerName,
        /// The time at which it fires.
        at: Time,
        /// The period after that; off for a timer that fires once.
        every: Timeout,
    },
    /// Cancel a timer of the service.
    CancelTimer {
        /// The timer.
        name: TimerName,
    },
    /// Dial a peer on behalf of the service: `on_dialed` or `on_dial_error` follows.
    Dial {
        /// The connection to be.
        id: ConnId,
        /// The index in [`Outbox::dials`](super::Outbox::dials).
        dial: usize,
    },
    /// Listen for connections on behalf of the service: `on_listening` follows.
    Listen {
        /// The listener to be.
        id: ListenerId,
        /// The index in [`Outbox::listens`](super::Outbox::listens).
        listen: usize,
    },
    /// Bind a datagram socket on behalf of the service: `on_open` or `on_open_error` follows.
    Bind {
        /// The socket to be.
        id: SocketId,
        /// The index in [`Outbox::binds`](super::Outbox::binds).
        bind: usize,
    },
    /// Send datagrams by a socket that the callback is not about.
    Transmit {
        /// The socket.
        of: SocketId,
        /// The part of [`Outbox::other_transmits`](super::Outbox::other_transmits).
        transmits: Span,
    },
    /// Connect a datagram socket to a peer: `on_connect` follows.
    Connect {
        /// The socket.
        of: SocketId,
        /// The index in [`Outbox::connects`](super::Outbox::connects).
        connect: usize,
    },
    /// Close a listener or a datagram socket.
    Close {
        /// The listener or the socket.
        id: SourceId,
    },
    /// Call `on_turn` in the next turn, without waiting for events before it.
    Turn,
    /// Stop the reactor in an orderly way, as SIGTERM would.
    Stop,
}
