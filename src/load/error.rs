//! Why a run has no result.
//!
//! Owns: [`Error`]. Must not know: the command line.

use std::fmt;
use std::io;

use crate::resolver::ResolveError;
use crate::service::CloseReason;

/// Why a run has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The event loop could not be created, or has failed.
    Reactor(io::Error),
    /// The name of the server has no address.
    Resolve(ResolveError),
    /// No connection could be established; the reason of the last dial.
    Unreachable(CloseReason),
    /// Connections were established, and the server served none of them; the first error.
    NotServed(String),
    /// The user has interrupted the run before its window.
    #[non_exhaustive]
    Interrupted {
        /// Connections that were served by then.
        served: usize,
        /// Connections of the plan.
        connections: usize,
    },
}

impl Error {
    /// Returns true if the user has interrupted the run.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Error::Interrupted { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Reactor(error) => write!(f, "cannot run an event loop: {error}"),
            Error::Resolve(error) => write!(f, "{error}"),
            Error::Unreachable(CloseReason::Unreachable(errno)) => write!(f, "cannot connect: {errno}"),
            Error::Unreachable(reason) => write!(f, "cannot connect: {reason}"),
            Error::NotServed(why) => write!(f, "connected, but not served: {why}"),
            Error::Interrupted { served, connections } => {
                write!(f, "interrupted when {served} of {connections} connections were served")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Reactor(error) => Some(error),
            Error::Resolve(error) => Some(error),
            Error::Unreachable(_) | Error::NotServed(_) | Error::Interrupted { .. } => None,
        }
    }
}
