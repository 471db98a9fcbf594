//! The known readiness of a socket, as bits: Go's `pollDesc.rg` and `wg`.
//!
//! Owns: [`Readiness`]. Must not know: the socket.
//!
//! Each socket is registered once, edge-triggered. The kernel reports only that a socket *becomes* readable or
//! writable, so the bits keep the report until a system call would block.
//!
//! A Unix socket is registered for reads alone until a write would block. Otherwise each read of its peer would be an
//! event: the kernel reports room for output also when there was room before (`unix_write_space` in Linux). TCP reports
//! the end of a blocked write alone.
//!
//! Invariants:
//! 1. An event sets a bit, and a system call that would block clears it. The exceptions are invariant 2 and the
//!    `assume_…` methods.
//! 2. A short read has emptied a stream. So it clears `readable` as well (epoll(7), question 9), which spares a system
//!    call.
//! 3. After an event that may be the last one, a short read does not clear `readable`. Such an event reports FIN, an
//!    error, or urgent data, at whose mark a read stops short (tcp(7)).

use std::fmt;

use mio::Interest;
use mio::event::Event;

/// The operations on a socket that would not block, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Readiness(u8);

impl Readiness {
    const READABLE: u8 = 1;
    const WRITABLE: u8 = 2;
    /// The last event may have been noted: from then on a short read is no proof that the socket is empty.
    const LAST_EVENT: u8 = 4;
    const ERROR: u8 = 8;
    const READ_CLOSED: u8 = 16;
    /// The kernel does not report that the socket becomes writable.
    const UNWATCHED: u8 = 32;

    /// The readiness of a socket that was just accepted: writable.
    pub const WRITABLE_ONLY: Readiness = Readiness(Self::WRITABLE);

    /// Returns the interest of a socket: all events.
    pub const fn interest() -> Interest {
        Self::read_interest().add(Interest::WRITABLE)
    }

    /// Returns the interest in all events but those of writes.
    ///
    /// Only Linux announces urgent data. On other systems, the bytes behind the mark of urgent data come with an event
    /// of their own.
    pub const fn read_interest() -> Interest {
        let read = Interest::READABLE;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let read = read.add(Interest::PRIORITY);
        read
    }

    /// Notes that the socket is registered for [`read_interest`](Self::read_interest) alone.
    pub fn unwatch_writes(&mut self) {
        self.0 |= Self::UNWATCHED;
    }

    /// Returns true if a write would block and no event would announce its end: the socket is to be registered for
    /// [`interest`](Self::interest). Returns true once.
    #[inline]
    pub fn take_write_watch(&mut self) -> bool {
        let owed = self.0 & (Self::WRITABLE | Self::UNWATCHED) == Self::UNWATCHED;
        if owed {
            self.0 &= !Self::UNWATCHED;
        }
        owed
    }

    /// Sets the bits of an event.
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

    /// Sets the bits of an event that may be the last one of the socket.
    #[cold]
    fn note_end(&mut self, event: &Event) {
        self.0 |= Self::READABLE | Self::LAST_EVENT;
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

    /// Returns true if a read may return bytes, the end of file or an error.
    #[inline]
    pub const fn readable(self) -> bool {
        self.0 & Self::READABLE != 0
    }

    /// Returns true if the kernel may take bytes of a write.
    #[inline]
    pub const fn writable(self) -> bool {
        self.0 & Self::WRITABLE != 0
    }

    /// Returns true if an event has reported an error that no system call has returned yet.
    #[inline]
    pub const fn error(self) -> bool {
        self.0 & Self::ERROR != 0
    }

    /// Returns true if the peer has sent FIN (EPOLLRDHUP). Bytes before it may still be unread.
    #[inline]
    pub const fn read_closed(self) -> bool {
        self.0 & Self::READ_CLOSED != 0
    }

    /// Assumes that the socket is readable, because its event may not have been noted yet. The next read finds out.
    pub fn assume_readable(&mut self) {
        self.0 |= Self::READABLE;
    }

    /// A write returned an error. A read may still return the bytes that arrived before the error.
    pub fn assume_error(&mut self) {
        self.0 |= Self::READABLE | Self::LAST_EVENT | Self::ERROR;
    }

    /// A read would have blocked.
    pub fn read_blocked(&mut self) {
        self.0 &= !(Self::READABLE | Self::LAST_EVENT);
    }

    /// A read of a stream returned fewer bytes than asked for.
    #[inline]
    pub fn short_read(&mut self) {
        if self.0 & Self::LAST_EVENT == 0 {
            self.0 &= !Self::READABLE;
        }
    }

    /// A write would have blocked.
    pub fn write_blocked(&mut self) {
        self.0 &= !Self::WRITABLE;
    }

    /// The pending error was taken from the socket.
    pub fn error_taken(&mut self) {
        self.0 &= !Self::ERROR;
    }

    #[cfg(test)]
    pub(crate) fn of(readable: bool, writable: bool, last_event: bool) -> Self {
        Readiness(u8::from(readable) | u8::from(writable) << 1 | u8::from(last_event) << 2)
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
    fn a_short_read_clears_readable_unless_the_peer_has_closed() {
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
