//! A standard stream that may be a pipe or a terminal, written without waiting for its reader.
//!
//! Owns: [`Pipe`]. Must not know: the bytes.
//!
//! Standard streams are shared with the shell and with other processes. `O_NONBLOCK` belongs to the open file and not
//! to the descriptor (fcntl(2)), so setting it would change their writes, too. A pipe or a terminal that is opened once
//! more is an open file of our own, with flags of its own (proc(5), `/proc/self/fd`).

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// The bytes that fit into a pipe that poll(2) reports as writable (pipe(7): `PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// A standard stream for a loop that must not wait.
#[derive(Debug)]
pub struct Pipe {
    file: File,
    /// The most bytes of one write. Where `/proc` does not allow a second open file, this file may be blocking. A
    /// terminal with less room would then block the write. So would a pipe that another process has filled since
    /// poll(2).
    write_limit: usize,
}

impl Pipe {
    /// An open file of our own for `stream`, if it is a pipe or a terminal.
    ///
    /// # Errors
    /// Those of dup(2): the stream is closed, or there are no descriptors.
    pub fn open(stream: BorrowedFd<'_>) -> io::Result<Self> {
        let file = File::from(stream.try_clone_to_owned()?);
        let is_kind = |kind: std::fs::FileType| kind.is_fifo() || kind.is_char_device();
        // A second open file of a regular file would begin at offset 0. A regular file has no slow reader.
        let own = file.metadata().is_ok_and(|metadata| is_kind(metadata.file_type())).then(|| {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
        });
        Ok(match own {
            Some(Ok(file)) => Self { file, write_limit: usize::MAX },
            _ => Self { file, write_limit: PIPE_BUF },
        })
    }

    /// Writes the front of `text`, as far as it fits, if the stream is writable within `timeout`. Returns the number of
    /// bytes, or `None` if the stream is full.
    ///
    /// # Errors
    /// Those of poll(2) and write(2), such as EPIPE.
    pub fn write_within(&mut self, text: &[u8], timeout: Duration) -> io::Result<Option<usize>> {
        write_within(&mut self.file, &text[..text.len().min(self.write_limit)], timeout)
    }
}

fn write_within(stream: &mut (impl Write + AsFd), text: &[u8], timeout: Duration) -> io::Result<Option<usize>> {
    while is_writable(stream, timeout)? {
        match stream.write(text) {
            Ok(n) => return Ok(Some(n)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process has filled it since poll(2), or the room is less than the least that a write takes.
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Waits for room, at most `timeout`. Returns true also for a stream without a reader: the write reports EPIPE.
fn is_writable(stream: &impl AsFd, timeout: Duration) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos().into() };
    loop {
        match poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            outcome => return Ok(outcome? > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, pipe};
    use std::os::fd::BorrowedFd;

    use super::*;

    /// A pipe whose first write is interrupted before it begins.
    struct Interrupted(PipeWriter, bool);

    impl Write for Interrupted {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.1, false) { Err(ErrorKind::Interrupted.into()) } else { self.0.write(text) }
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }

    impl AsFd for Interrupted {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    #[test]
    fn an_interrupted_write_is_repeated() {
        let (_reader, writer) = pipe().unwrap();
        let mut stream = Interrupted(writer, true);
        assert_eq!(write_within(&mut stream, b"text", Duration::ZERO).unwrap(), Some(4));
    }
}
