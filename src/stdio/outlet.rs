//! Standard output for a loop that must not wait for it and has no other thread.
//!
//! Owns: [`Outlet`]. Must not know: what is printed.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::services::Sink;

/// When poll(2) says that a pipe can be written, so much fits into it (pipe(7): `PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// Standard output, written to only when poll(2) says that it has room.
///
/// That holds for pipes and files. A terminal with less room than is written may make us wait until it is read; it holds
/// tens of kilobytes, and one that is stopped (Ctrl-S) says so.
#[derive(Debug)]
pub struct Outlet {
    /// `None` when nobody reads any more.
    stdout: Option<File>,
}

impl Outlet {
    /// The process's standard output; closed, if it cannot be had.
    pub fn stdout() -> Self {
        Self { stdout: super::file(io::stdout().as_fd()).ok() }
    }

    fn has_room(stdout: &File) -> bool {
        let mut polled = [PollFd::new(stdout, PollFlags::OUT)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A pipe without a reader is an error that the write will tell.
        poll(&mut polled, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }
}

impl Sink for Outlet {
    fn take(&mut self, text: &[u8]) -> usize {
        let Some(stdout) = &mut self.stdout else { return text.len() };
        if !Self::has_room(stdout) {
            return 0;
        }
        match stdout.write(&text[..text.len().min(PIPE_BUF)]) {
            Ok(n) => n,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            // A closed standard output never stops a server; one that fails is no better.
            Err(_) => {
                self.stdout = None;
                text.len()
            }
        }
    }
}
