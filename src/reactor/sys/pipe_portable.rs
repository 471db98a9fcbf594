//! Systems without splice(2): there is no pipe, and the bytes are copied.
//!
//! Owns: the same names as the file for Linux. Must not know: connections.

use std::os::fd::AsFd;

use super::outcome::{Observer, Outcome};
use crate::id::SourceId;
use crate::service::Errno;

/// The bytes that a pipe would hold.
pub const CAPACITY: usize = 0;

/// No pipe.
#[derive(Debug)]
pub enum Pipe {}

impl Pipe {
    /// Returns an error: this system has no splice(2).
    pub fn new() -> Result<Self, Errno> {
        Err(Errno(libc::ENOSYS))
    }

    /// Returns the number of bytes in the pipe.
    pub fn len(&self) -> usize {
        match *self {}
    }

    /// Moves bytes of a stream into the empty pipe.
    pub fn fill(&mut self, _: &impl AsFd, _: SourceId, _: &mut impl Observer) -> Outcome {
        match *self {}
    }

    /// Moves bytes of the pipe into a stream.
    pub fn pour(&mut self, _: &impl AsFd, _: SourceId, _: &mut impl Observer) -> Outcome {
        match *self {}
    }
}
