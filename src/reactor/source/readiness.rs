//! What is known about a socket: Go's `pollDesc.rg` and `wg`, as bits.
//!
//! Owns: [`Readiness`]. Must not know: which socket.
//!
//! Each socket is registered once, edge-triggered: the kernel says when something has *become* possible, and only then.
//! So the answer has to be remembered until a system call says that it is no longer true.
//!
//! Invariants:
//! 1. A bit is set by an event and cleared by a system call that would have blocked: never by anything else, but for 2.
//! 2. A read that returned less than was asked for has emptied a stream, so it clears `readable` too (epoll(7),
//!    question 9), and a system call is spared; but not after an event that may have been the last one: the peer has
//!    closed its side, there is an error, or urgent data, at whose mark a read stops short (tcp(7)).

use std::fmt;

use mio::Interest;
use mio::event::Event;

/// What can be done with a socket, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Readiness(u8);

impl Readiness {
    const READABLE: u8 = 1;
    const WRITABLE: u8 = 2;
    /// A short read is no proof that the socket is empty.
    const LAST_CALL: u8 = 4;
    const ERROR: u8 = 8;
    const READ_CLOSED: u8 = 16;

    /// A socket that can be written: one that has just been accepted.
    pub const WRITABLE_ONLY: Readiness = Readiness(Self::WRITABLE);

    /// What a socket is registered for, once and for all: everything. Urgent data is announced on Linux only; where it
    /// is not, a read that stops at its mark is followed by the event of the bytes behind it.
    pub const fn interest() -> Interest {
        let both = Interest::READABLE.add(Interest::WRITABLE);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let both = both.add(Interest::PRIORITY);
        both
    }

    /// Adds what an event says.
    #[inline]
    pub fn note(&mut self, event: &Event) {
        if event.is_readable() {
            self.0 |= Self::READABLE;
        }
        if event.is_writable() {
            self.0 |= Self::WRITABLE;
        }
        if event.is_error() || event.is_priority() || event.is_read_closed() {
            self.note_end(event);
        }
    }

    /// Adds what one of the last events of a socket says.
    #[cold]
    fn note_end(&mut self, event: &Event) {
        self.0 |= Self::READABLE | Self::LAST_CALL;
        if event.is_read_closed() {
            self.0 |= Self::READ_CLOSED;
        }
        if event.is_error() || event.is_write_closed() {
            self.0 |= Self::WRITABLE;
        }
        if event.is_error() {
            self.0 |= Self::ERROR;
        }
    }

    /// Whether a read may return something.
    #[inline]
    pub const fn readable(self) -> bool {
        self.0 & Self::READABLE != 0
    }

    /// Whether a write may take something.
    #[inline]
    pub const fn writable(self) -> bool {
        self.0 & Self::WRITABLE != 0
    }

    /// Whether the kernel has reported an error that no system call has returned yet.
    #[inline]
    pub const fn error(self) -> bool {
        self.0 & Self::ERROR != 0
    }

    /// Returns true if the peer has sent FIN (EPOLLRDHUP). Bytes before it may still be unread.
    #[inline]
    pub const fn read_closed(self) -> bool {
        self.0 & Self::READ_CLOSED != 0
    }

    /// An event that has not been noted yet may say so: a read will tell.
    pub fn assume_readable(&mut self) {
        self.0 |= Self::READABLE;
    }

    /// A write has met an error; a read may still bring what came before it.
    pub fn assume_error(&mut self) {
        self.0 |= Self::READABLE | Self::LAST_CALL | Self::ERROR;
    }

    /// A read would have blocked.
    pub fn read_blocked(&mut self) {
        self.0 &= !(Self::READABLE | Self::LAST_CALL);
    }

    /// A read of a stream returned less than was asked for.
    #[inline]
    pub fn short_read(&mut self) {
        if self.0 & Self::LAST_CALL == 0 {
            self.0 &= !Self::READABLE;
        }
    }

    /// A write would have blocked.
    pub fn write_blocked(&mut self) {
        self.0 &= !Self::WRITABLE;
    }

    /// The error has been taken from the socket.
    pub fn error_taken(&mut self) {
        self.0 &= !Self::ERROR;
    }

    #[cfg(test)]
    pub(crate) fn of(readable: bool, writable: bool, last_call: bool) -> Self {
        Readiness(u8::from(readable) | u8::from(writable) << 1 | u8::from(last_call) << 2)
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.readable() { "r" } else { "-" })?;
        f.write_str(if self.writable() { "w" } else { "-" })?;
        f.write_str(if self.error() { "e" } else { "-" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_read_empties_a_stream_unless_the_peer_has_closed() {
        let mut open = Readiness::of(true, true, false);
        open.short_read();
        assert!(!open.readable() && open.writable());
        let mut closed = Readiness::of(true, true, true);
        closed.short_read();
        assert!(closed.readable());
        closed.read_blocked();
        assert_eq!(closed, Readiness::of(false, true, false));
    }

    #[test]
    fn directions_are_independent() {
        let mut both = Readiness::of(true, true, false);
        both.write_blocked();
        assert!(both.readable() && !both.writable());
        assert_eq!(both.to_string(), "r--");
    }
}
