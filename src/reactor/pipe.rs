//! Writing to a standard stream that may be a pipe, without waiting for its reader.
//!
//! Owns: the question before the write. Must not know: what is written.
//!
//! Standard streams are shared with the shell and with whoever else has them: making one nonblocking would surprise the
//! others, for the flag belongs to the open file and not to the descriptor (fcntl(2)).

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// When poll(2) says that a pipe can be written, so much fits into it (pipe(7): `PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// Writes as much of `text` as surely fits, if there is room or comes within `patience`; `None`: there is none.
///
/// That holds for pipes and files. A terminal with less room than is written may make us wait until it is read; it holds
/// tens of kilobytes, and one that is stopped (Ctrl-S) says so.
///
/// # Errors
/// Those of poll(2) and write(2), EPIPE for one.
pub fn write_if_room(stream: &mut (impl Write + AsFd), text: &[u8], patience: Duration) -> io::Result<Option<usize>> {
    while has_room(stream, patience)? {
        match stream.write(&text[..text.len().min(PIPE_BUF)]) {
            Ok(n) => return Ok(Some(n)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Somebody else has made it nonblocking, or was quicker.
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
