//! The results of a nonblocking system call.
//!
//! Owns: [`Outcome`] and [`Accepted`], the loop that repeats an interrupted call, and [`Observer`], to which every call
//! reports. Must not know: the socket, the call.
//!
//! In Go this is `internal/poll.FD`: where `fd.pd.waitRead` parks the goroutine, a call here returns
//! [`Outcome::Blocked`]. EAGAIN is a value and not an error.

use std::fmt;
use std::io;

use super::stream::StreamSocket;
use crate::addr::Addr;
use crate::id::SourceId;
use crate::service::{CloseReason, Errno};

/// The result of a read, a write or a batch on a nonblocking socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The number of bytes or datagrams that the call moved. A read of 0 bytes is the end of file.
    Done(usize),
    /// EAGAIN: the call would block. An event announces when to call again.
    Blocked,
    /// The socket cannot be used any more.
    Failed(Errno),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done(n) => write!(f, "{n}"),
            Outcome::Blocked => f.write_str("blocked"),
            Outcome::Failed(errno) => write!(f, "{errno}"),
        }
    }
}

/// The result of accept4(2).
#[derive(Debug)]
pub enum Accepted {
    /// A connection.
    Connection(StreamSocket, Addr),
    /// EAGAIN: the backlog is empty.
    Blocked,
    /// The connection died in the backlog. The next connection may be alive.
    Died(Errno),
    /// Descriptors or memory are used up, or an immediate retry would fail again.
    Exhausted(Errno),
}

/// The receiver of the outcome of each system call.
///
/// This module declares the trait, and [`observe`](crate::reactor::observe) implements it: no system call depends on
/// the counters or the trace.
pub trait Observer {
    /// A read of at most `asked` bytes returned `n`.
    fn read(&mut self, id: SourceId, asked: usize, n: usize);
    /// A read of at most `asked` bytes failed or would block.
    fn read_failed(&mut self, id: SourceId, asked: usize, outcome: Outcome);
    /// A write of `offered` bytes took `n`.
    fn write(&mut self, id: SourceId, offered: usize, n: usize);
    /// A write of `offered` bytes failed or would block.
    fn write_failed(&mut self, id: SourceId, offered: usize, outcome: Outcome);
    /// An accept returned.
    fn accept(&mut self, id: SourceId, accepted: &Accepted);
    /// A batch of at most `asked` datagrams was received.
    fn received(&mut self, id: SourceId, asked: usize, outcome: Outcome);
    /// A batch of `offered` datagrams was sent, or a part of it.
    fn sent(&mut self, id: SourceId, offered: usize, outcome: Outcome);
    /// Another system call on a source returned.
    fn call(&mut self, id: SourceId, name: &str, outcome: Outcome);
    /// A signal interrupted a system call (EINTR). The caller repeats the call.
    fn interrupted(&mut self);
}

/// The three kinds of error of a nonblocking call.
pub(super) enum Fault {
    /// EAGAIN: the call would block.
    Blocked,
    /// EINTR: a signal interrupted the call. The socket has no error.
    Interrupted,
    /// Any other error: the socket cannot be used any more.
    Failed(Errno),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        match io::Error::from_raw_os_error(errno.0).kind() {
            io::ErrorKind::WouldBlock => Fault::Blocked,
            io::ErrorKind::Interrupted => Fault::Interrupted,
            _ => Fault::Failed(errno),
        }
    }
}

/// Makes a call, repeats it while signals interrupt it, and returns the outcome.
pub(super) fn retry(observer: &mut impl Observer, mut call: impl FnMut() -> Result<usize, Errno>) -> Outcome {
    match call() {
        Ok(n) => Outcome::Done(n),
        Err(errno) => after_error(errno, observer, call),
    }
}

/// Returns the outcome of a call that failed with `errno`. Repeats an interrupted call.
#[cold]
#[inline(never)]
pub(super) fn after_error(
    mut errno: Errno,
    observer: &mut impl Observer,
    mut call: impl FnMut() -> Result<usize, Errno>,
) -> Outcome {
    loop {
        match Fault::from(errno) {
            Fault::Blocked => return Outcome::Blocked,
            Fault::Failed(errno) => return Outcome::Failed(errno),
            Fault::Interrupted => observer.interrupted(),
        }
        match call() {
            Ok(n) => return Outcome::Done(n),
            Err(again) => errno = again,
        }
    }
}

/// Returns the reason for which a connection ends after a call on its socket failed with `errno`.
pub fn close_reason(errno: Errno) -> CloseReason {
    match errno.0 {
        libc::ECONNRESET | libc::EPIPE | libc::ENOTCONN => CloseReason::Reset,
        _ => CloseReason::Failed(errno),
    }
}
