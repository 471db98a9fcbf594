//! The reason for which a connection ended.
//!
//! Owns: [`CloseReason`] and its names in the ledger. Must not know: the system call that the reason came from.

use std::fmt;
use std::io;

use crate::timer::Deadline;

/// An error number of the operating system (errno(3)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

impl From<io::Error> for Errno {
    /// An error without a number has that of its kind: EEXIST, EINVAL, otherwise EIO.
    fn from(error: io::Error) -> Self {
        Errno(error.raw_os_error().unwrap_or(match error.kind() {
            io::ErrorKind::AlreadyExists => libc::EEXIST,
            io::ErrorKind::InvalidInput => libc::EINVAL,
            _ => libc::EIO,
        }))
    }
}

impl Errno {
    /// Returns the kind of the error, as [`io::Error::kind`].
    pub fn kind(self) -> io::ErrorKind {
        io::Error::from(self).kind()
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        io::Error::from_raw_os_error(errno.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text of std ends in " (os error N)", which does not help a reader of the cause.
        let text = io::Error::from_raw_os_error(self.0).to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

/// Declares each reason once: its documentation, its names in the ledger (with the choice among several), and its text.
macro_rules! close_reasons {
    ($(
        $(#[doc = $doc:literal])+
        $reason:ident $(($value:ident: $type:ty))?, [$first:literal $(, $more:literal)*] $([$choice:expr])?,
            $($text:tt),+;
    )+) => {
        /// Why a connection ended. Each connection has exactly one reason.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum CloseReason {
            $($(#[doc = $doc])+ $reason $(($type))?,)+
        }

        impl CloseReason {
            /// The names of the kinds of reason, as the ledger prints them.
            pub const NAMES: [&'static str; Self::KINDS] = [$($first, $($more,)*)+];

            /// The number of kinds of reason.
            pub const KINDS: usize = [$($first, $($more,)*)+].len();

            /// Returns the index of this kind in [`CloseReason::NAMES`].
            pub const fn kind(self) -> usize {
                match self {
                    $(Self::$reason $(($value))? => {
                        $(let _ = $value;)?
                        let first = const { index_of($first) };
                        first $(+ $choice as usize)?
                    })+
                }
            }
        }

        impl fmt::Display for CloseReason {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$reason $(($value))? => write!(f, $($text),+),)+
                }
            }
        }
    };
}

impl CloseReason {
    /// Returns true if the connection was given up, so that the peer sees RST and not an orderly end.
    pub const fn gives_up(self) -> bool {
        matches!(
            self,
            CloseReason::Overflow
                | CloseReason::Unread
                | CloseReason::Grace
                | CloseReason::ServiceFault
                | CloseReason::Deadline(Deadline::Write)
        )
    }
}

/// Returns the index of a name of the list, at compile time.
const fn index_of(name: &str) -> usize {
    let mut index = 0;
    while !same(CloseReason::NAMES[index], name) {
        index += 1;
    }
    index
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut n = 0;
    while n < a.len() && n < b.len() && a[n] == b[n] {
        n += 1;
    }
    n == a.len() && n == b.len()
}

close_reasons! {
    /// Both sides have sent FIN, and the kernel has taken all output.
    Finished, ["finished"], "finished";
    /// The service closed the connection at once.
    Aborted, ["aborted"], "aborted by the service";
    /// The peer reset the connection (ECONNRESET, EPIPE; ENOTCONN where the reset came before a shutdown).
    Reset, ["reset"], "reset by the peer";
    /// A system call on the socket failed with another error.
    Failed(errno: Errno), ["failed"], "failed: {errno}";
    /// A deadline passed, and the service let the connection end.
    Deadline(which: Deadline), ["read_deadline", "write_deadline", "idle_deadline"] [which], "{which} deadline passed";
    /// The dial timeout passed: the connection was not established in time.
    DialDeadline, ["dial_deadline"], "dial deadline passed";
    /// The peer has not sent FIN within the linger time after ours. A normal end: all output was sent.
    LingerDeadline, ["linger_deadline"], "linger deadline passed";
    /// The connection had as much output queued as its bound allows, and other connections had more for it: the peer
    /// reads too slowly, or not at all.
    Overflow, ["overflow"], "overflow: the peer reads too slowly, or not at all";
    /// The service left more input unread than [`Policy::max_unread`](crate::limits::Policy::max_unread).
    Unread, ["unread"], "overflow: more input than the service takes";
    /// The dial failed.
    Unreachable(errno: Errno), ["unreachable"], "cannot connect: {errno}";
    /// The dial of a local port of the ephemeral range connected the socket to itself (RFC 9293, section 3.5).
    SelfConnect, ["self_connect"], "cannot connect: the socket had connected to itself";
    /// The service broke its contract: `on_data` returned more than it was given.
    ServiceFault, ["service_fault"], "the service broke its contract";
    /// The connection was still open when the grace period of a stopping reactor ended.
    Grace, ["grace"], "aborted at the end of the grace period";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        let deadlines = [Deadline::Read, Deadline::Write, Deadline::Idle];
        let mut all = vec![
            CloseReason::Finished,
            CloseReason::Aborted,
            CloseReason::Reset,
            CloseReason::Failed(Errno(1)),
            CloseReason::Overflow,
            CloseReason::Unread,
            CloseReason::Unreachable(Errno(1)),
            CloseReason::SelfConnect,
            CloseReason::ServiceFault,
            CloseReason::Grace,
            CloseReason::DialDeadline,
            CloseReason::LingerDeadline,
        ];
        all.extend(deadlines.map(CloseReason::Deadline));
        let mut kinds: Vec<_> = all.iter().map(|reason| reason.kind()).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, (0..CloseReason::KINDS).collect::<Vec<_>>());
        for which in deadlines {
            let name = CloseReason::NAMES[CloseReason::Deadline(which).kind()];
            assert_eq!(name, format!("{which}_deadline"));
        }
    }

    #[test]
    fn an_errno_becomes_an_error_of_std_and_back() {
        let refused = Errno(libc::ECONNREFUSED);
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let error = io::Error::from(refused);
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        assert_eq!(Errno::from(error), refused);
    }

    #[test]
    fn an_errno_is_printed_in_words() {
        assert_eq!(Errno(2).to_string(), "No such file or directory");
    }
}
