//! Why a connection ended.
//!
//! Owns: [`CloseReason`] and its list for the ledger. Must not know: which system call it came from.

use std::fmt;
use std::io;

use crate::timer::Deadline;

/// An error number of the operating system (errno(3)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

impl From<io::Error> for Errno {
    /// An error that has no number is an input/output error.
    fn from(error: io::Error) -> Self {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text of std ends in " (os error N)", which is noise to whoever reads the cause.
        let text = io::Error::from_raw_os_error(self.0).to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

/// Why a connection ended; each connection has exactly one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// Both sides have sent FIN and everything that was queued has been handed to the kernel.
    Finished,
    /// The service gave it up.
    Aborted,
    /// The peer reset the connection (ECONNRESET, EPIPE; ENOTCONN where the reset came before a shutdown).
    Reset,
    /// A system call on the socket failed in another way.
    Failed(Errno),
    /// A deadline passed. For [`Deadline::Linger`] this is a normal end: all was sent, the peer kept its side open.
    Deadline(Deadline),
    /// As much output was queued for it as its bound allows, and others had more to say: it reads too slowly, or not at
    /// all.
    Overflow,
    /// It sent more than the service was willing to keep without consuming any of it.
    Unread,
    /// It could not be dialed.
    Unreachable(Errno),
    /// Dialing a local port of the ephemeral range had connected the socket to itself.
    SelfConnect,
    /// It was still there when the grace period of a stopping reactor ended.
    Grace,
}

impl CloseReason {
    /// The number of kinds of reason.
    pub const KINDS: usize = 14;

    /// The names of the kinds, as the ledger prints them.
    pub const NAMES: [&'static str; Self::KINDS] = [
        "finished",
        "aborted",
        "reset",
        "failed",
        "read_deadline",
        "write_deadline",
        "idle_deadline",
        "dial_deadline",
        "linger_deadline",
        "overflow",
        "unread",
        "unreachable",
        "self_connect",
        "grace",
    ];

    /// The index of this kind in [`CloseReason::NAMES`].
    pub const fn kind(self) -> usize {
        match self {
            CloseReason::Finished => 0,
            CloseReason::Aborted => 1,
            CloseReason::Reset => 2,
            CloseReason::Failed(_) => 3,
            CloseReason::Deadline(which) => 4 + which as usize,
            CloseReason::Overflow => 9,
            CloseReason::Unread => 10,
            CloseReason::Unreachable(_) => 11,
            CloseReason::SelfConnect => 12,
            CloseReason::Grace => 13,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Finished => f.write_str("finished"),
            CloseReason::Aborted => f.write_str("aborted by the service"),
            CloseReason::Reset => f.write_str("reset by the peer"),
            CloseReason::Failed(errno) => write!(f, "failed: {errno}"),
            CloseReason::Deadline(which) => write!(f, "{which} deadline passed"),
            CloseReason::Overflow => f.write_str("overflow: the peer reads too slowly, or not at all"),
            CloseReason::Unread => f.write_str("overflow: more input than the service takes"),
            CloseReason::Unreachable(errno) => write!(f, "cannot connect: {errno}"),
            CloseReason::SelfConnect => f.write_str("cannot connect: the socket had connected to itself"),
            CloseReason::Grace => f.write_str("aborted at the end of the grace period"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        let deadlines = [Deadline::Read, Deadline::Write, Deadline::Idle, Deadline::Dial, Deadline::Linger];
        let mut all = vec![
            CloseReason::Finished,
            CloseReason::Aborted,
            CloseReason::Reset,
            CloseReason::Failed(Errno(1)),
            CloseReason::Overflow,
            CloseReason::Unread,
            CloseReason::Unreachable(Errno(1)),
            CloseReason::SelfConnect,
            CloseReason::Grace,
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
    fn an_errno_is_told_in_words() {
        assert_eq!(Errno(2).to_string(), "No such file or directory");
    }
}
