//! A standard stream that may be a pipe or a terminal, written to without waiting for its reader.
//!
//! Owns: [`Pipe`]. Must not know: what is written.
//!
//! Standard streams are shared with the shell and with whoever else has them: making one nonblocking would surprise the
//! others, for the flag belongs to the open file and not to the descriptor (fcntl(2)). Opened once more, a pipe or a
//! terminal is an open file of our own, with flags of our own (proc(5), `/proc/self/fd`).

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// When poll(2) says that a pipe can be written, so much fits into it (pipe(7): `PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// A standard stream for a loop that must not wait.
#[derive(Debug)]
pub struct Pipe {
    file: File,
    /// The most that is written at a time: it may not be nonblocking, where `/proc` does not let us open it. A terminal
    /// with less room would be waited for there, and a pipe that somebody else has filled since it was asked.
    at_once: usize,
}

impl Pipe {
    /// One of our own for `stream`.
    ///
    /// # Errors
    /// Those of dup(2): it is closed, or there are no descriptors.
    pub fn of(stream: BorrowedFd<'_>) -> io::Result<Self> {
        let file = File::from(stream.try_clone_to_owned()?);
        let is_kind = |kind: std::fs::FileType| kind.is_fifo() || kind.is_char_device();
        // A file would be written from its beginning; and nobody waits for one.
        let own = file.metadata().is_ok_and(|metadata| is_kind(metadata.file_type())).then(|| {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
        });
        Ok(match own {
            Some(Ok(file)) => Self { file, at_once: usize::MAX },
            _ => Self { file, at_once: PIPE_BUF },
        })
    }

    /// Writes as much of `text` as fits, if there is room or comes within `patience`; `None`: there is none.
    ///
    /// # Errors
    /// Those of poll(2) and write(2), EPIPE for one.
    pub fn write_if_room(&mut self, text: &[u8], patience: Duration) -> io::Result<Option<usize>> {
        write_if_room(&mut self.file, &text[..text.len().min(self.at_once)], patience)
    }
}

fn write_if_room(stream: &mut (impl Write + AsFd), text: &[u8], patience: Duration) -> io::Result<Option<usize>> {
    while has_room(stream, patience)? {
        match stream.write(text) {
            Ok(n) => return Ok(Some(n)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Somebody else was quicker, or there is less room than this takes at least.
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Nobody at the other end is an error that the write will tell.
fn has_room(stream: &impl AsFd, patience: Duration) -> io::Result<bool> {
    let patience = Timespec { tv_sec: patience.as_secs() as _, tv_nsec: patience.subsec_nanos().into() };
    loop {
        match poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&patience)) {
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

    /// A pipe; the first write is interrupted before it has begun.
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
    fn an_interrupted_write_is_made_again() {
        let (_reader, writer) = pipe().unwrap();
        let mut stream = Interrupted(writer, true);
        assert_eq!(write_if_room(&mut stream, b"text", Duration::ZERO).unwrap(), Some(4));
    }
}
