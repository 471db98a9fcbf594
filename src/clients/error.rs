//! The failures of clients, with the texts that a user reads.
//!
//! Owns: [`ClientError`] and [`Operation`]. Must not know: the state of any client.
//!
//! The texts follow Go's `net.OpError`: the operation, the peer, the cause.

use std::fmt;
use std::time::Duration;

use super::console::ConsoleError;
use crate::resolver::ResolveError;
use crate::service::{CloseReason, Errno};

/// The operation that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// Connecting, resolving the name included.
    Dial,
    /// Receiving from the peer.
    Read,
    /// Sending to the peer.
    Write,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Dial => "dial",
            Operation::Read => "read",
            Operation::Write => "write",
        })
    }
}

/// The failure of a client. Its text is one line.
///
/// ```
/// use std::time::Duration;
/// use reactor::clients::{ClientError, Operation};
///
/// let error = ClientError::timeout(Operation::Dial, "tcp://127.0.0.1:3000", Duration::from_secs(1));
/// assert!(error.is_timeout());
/// assert_eq!(error.to_string(), "dial tcp://127.0.0.1:3000: i/o timeout after 1s");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientError {
    peer: String,
    cause: Cause,
    attempts: Option<u32>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Cause {
    System(Operation, Errno),
    Timeout(Operation, Duration),
    Silent(Duration),
    SelfConnect,
    Resolve(ResolveError),
    ClosedByPeer,
    InputUnsent,
    LinesUnsent,
    Closed(CloseReason),
    Console(ConsoleError),
}

impl ClientError {
    fn new(peer: &str, cause: Cause) -> Self {
        Self { peer: peer.to_owned(), cause, attempts: None }
    }

    /// A system call of `operation` failed.
    pub fn system(operation: Operation, peer: &str, errno: Errno) -> Self {
        Self::new(peer, Cause::System(operation, errno))
    }

    /// `operation` made no progress for `after`.
    pub fn timeout(operation: Operation, peer: &str, after: Duration) -> Self {
        Self::new(peer, Cause::Timeout(operation, after))
    }

    /// The peer missed its heartbeats: no byte came for `silence`.
    pub fn silent(peer: &str, silence: Duration) -> Self {
        Self::new(peer, Cause::Silent(silence))
    }

    /// The socket connected to itself; see [`CloseReason::SelfConnect`].
    pub fn self_connect(peer: &str) -> Self {
        Self::new(peer, Cause::SelfConnect)
    }

    /// The peer's name could not be resolved.
    pub fn resolve(peer: &str, error: ResolveError) -> Self {
        Self::new(peer, Cause::Resolve(error))
    }

    /// A connection ended for this reason. A passed deadline is [`ClientError::timeout`] instead, which has the
    /// duration.
    pub(super) fn closed(peer: &str, reason: CloseReason) -> Self {
        let cause = match reason {
            CloseReason::Unreachable(errno) => Cause::System(Operation::Dial, errno),
            CloseReason::SelfConnect => Cause::SelfConnect,
            CloseReason::Reset => Cause::System(Operation::Read, Errno(libc::ECONNRESET)),
            CloseReason::Failed(errno) => Cause::System(Operation::Read, errno),
            CloseReason::Finished => Cause::ClosedByPeer,
            other => Cause::Closed(other),
        };
        Self::new(peer, cause)
    }

    /// The peer reset the connection after its end of file, before it had taken all input.
    pub(super) fn input_unsent(peer: &str) -> Self {
        Self::new(peer, Cause::InputUnsent)
    }

    /// Some lines of input were too long for a datagram.
    pub(super) fn lines_unsent(peer: &str) -> Self {
        Self::new(peer, Cause::LinesUnsent)
    }

    /// The same after the last of `attempts` to reconnect.
    pub(super) fn after_attempts(self, attempts: u32) -> Self {
        Self { attempts: Some(attempts), ..self }
    }

    /// Returns true if the failure is a timeout: of a dial, a read, a write, or of the heartbeats.
    pub fn is_timeout(&self) -> bool {
        matches!(self.cause, Cause::Timeout(..) | Cause::Silent(_))
    }

    /// Returns true if the peer's host refused: no process has the port.
    pub fn is_refused(&self) -> bool {
        self.errno() == Some(Errno(libc::ECONNREFUSED))
    }

    /// Returns true if the peer reset the connection.
    pub fn is_reset(&self) -> bool {
        self.cause == Cause::InputUnsent || self.errno() == Some(Errno(libc::ECONNRESET))
    }

    /// The operation that failed; `None` if the failure belongs to none, such as an end of file that came too early.
    pub fn operation(&self) -> Option<Operation> {
        match self.cause {
            Cause::System(operation, _) | Cause::Timeout(operation, _) => Some(operation),
            Cause::SelfConnect | Cause::Resolve(_) => Some(Operation::Dial),
            Cause::Silent(_) => Some(Operation::Read),
            Cause::InputUnsent | Cause::LinesUnsent => Some(Operation::Write),
            Cause::ClosedByPeer | Cause::Closed(_) | Cause::Console(_) => None,
        }
    }

    /// The error number of the system call that failed, if one did.
    pub fn errno(&self) -> Option<Errno> {
        match &self.cause {
            Cause::System(_, errno) => Some(*errno),
            Cause::Console(error) => Some(error.errno),
            _ => None,
        }
    }

    /// The number of attempts to reconnect, if they were exhausted.
    pub fn attempts(&self) -> Option<u32> {
        self.attempts
    }
}

impl From<ConsoleError> for ClientError {
    fn from(error: ConsoleError) -> Self {
        Self::new("", Cause::Console(error))
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = &self.peer;
        match &self.cause {
            Cause::System(operation, errno) => write!(f, "{operation} {peer}: {errno}"),
            Cause::Timeout(operation, after) => write!(f, "{operation} {peer}: i/o timeout after {after:?}"),
            Cause::Silent(silence) => write!(f, "read {peer}: no sign of life for {silence:?}"),
            Cause::SelfConnect => write!(f, "dial {peer}: the socket connected to itself: no process listens there"),
            Cause::Resolve(error) => write!(f, "dial {peer}: {error}"),
            Cause::ClosedByPeer => write!(f, "{peer}: closed by the peer"),
            Cause::InputUnsent => {
                write!(f, "write {peer}: {}: not all input was sent", Errno(libc::ECONNRESET))
            }
            Cause::LinesUnsent => write!(f, "write {peer}: not all lines were sent"),
            Cause::Closed(reason) => write!(f, "{peer}: {reason}"),
            Cause::Console(error) => write!(f, "{error}"),
        }?;
        match self.attempts {
            Some(attempts) => write!(f, " (given up; attempts to reconnect: {attempts})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Resolve(error) => Some(error),
            Cause::Console(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicates_follow_the_cause() {
        let refused = ClientError::closed("peer", CloseReason::Unreachable(Errno(libc::ECONNREFUSED)));
        assert!(refused.is_refused() && !refused.is_timeout() && !refused.is_reset());
        assert_eq!(refused.operation(), Some(Operation::Dial));
        let reset = ClientError::closed("peer", CloseReason::Reset);
        assert!(reset.is_reset() && !reset.is_refused());
        assert!(ClientError::silent("peer", Duration::from_secs(3)).is_timeout());
        assert!(ClientError::input_unsent("peer").is_reset());
        let exhausted = refused.after_attempts(2);
        assert_eq!(exhausted.attempts(), Some(2));
        assert_eq!(exhausted.to_string(), "dial peer: Connection refused (given up; attempts to reconnect: 2)");
    }
}
