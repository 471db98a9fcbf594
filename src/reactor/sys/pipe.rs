//! splice(2) through a pipe: bytes from one stream to another that never enter user space.
//!
//! Owns: [`Pipe`] and the two calls on it. Must not know: connections.

use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::outcome::{Observer, Outcome, retry};
use crate::id::SourceId;
use crate::service::Errno;

/// The bytes that a pipe holds, if the kernel grants them (`F_SETPIPE_SZ`, fcntl(2); `/proc/sys/fs/pipe-max-size`).
pub const CAPACITY: usize = 256 * 1024;

/// A pipe, and the number of bytes in it.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    len: usize,
}

impl Pipe {
    /// Returns an empty pipe.
    ///
    /// # Errors
    /// Those of pipe2(2): EMFILE, ENFILE.
    pub fn new() -> Result<Self, Errno> {
        let (reader, writer) =
            pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(|error| Errno(error.raw_os_error()))?;
        // EPERM beyond the share of an unprivileged user (pipe(7)): the usual size serves as well.
        let _ = fcntl_setpipe_size(&writer, CAPACITY);
        Ok(Self { reader, writer, len: 0 })
    }

    /// Returns the number of bytes in the pipe.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Moves bytes of a stream into the empty pipe. `Done(0)` is the end of file.
    pub fn fill(&mut self, from: &impl AsFd, id: SourceId, observer: &mut impl Observer) -> Outcome {
        debug_assert_eq!(self.len, 0, "EAGAIN of a pipe with bytes is no news about the stream");
        let outcome = retry(observer, || pass(from, &self.writer, CAPACITY));
        match outcome {
            Outcome::Done(n) => {
                self.len = n;
                observer.read(id, CAPACITY, n);
            }
            _ => observer.read_failed(id, CAPACITY, outcome),
        }
        outcome
    }

    /// Moves bytes of the pipe into a stream.
    pub fn pour(&mut self, to: &impl AsFd, id: SourceId, observer: &mut impl Observer) -> Outcome {
        let outcome = retry(observer, || pass(&self.reader, to, self.len));
        match outcome {
            Outcome::Done(n) => {
                observer.write(id, self.len, n);
                self.len -= n;
            }
            _ => observer.write_failed(id, self.len, outcome),
        }
        outcome
    }
}

fn pass(from: &impl AsFd, to: &impl AsFd, len: usize) -> Result<usize, Errno> {
    splice(from, None, to, None, len, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)
        .map_err(|error| Errno(error.raw_os_error()))
}
