//! Standard output for a loop that must not wait for it and has no other thread.
//!
//! Owns: [`NonblockingStdout`]. Must not know: what is printed.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::services::Sink;
use crate::stdio::Pipe;

/// Standard output, written to only when it has room.
#[derive(Debug)]
pub struct NonblockingStdout {
    /// `None` when nobody reads any more.
    stdout: Option<Pipe>,
}

impl NonblockingStdout {
    /// The process's standard output; closed, if it cannot be had.
    pub fn stdout() -> Self {
        Self { stdout: Pipe::of(io::stdout().as_fd()).ok() }
    }
}

impl Sink for NonblockingStdout {
    fn take(&mut self, text: &[u8]) -> usize {
        let Some(stdout) = &mut self.stdout else { return text.len() };
        match stdout.write_if_room(text, Duration::ZERO) {
            Ok(written) => written.unwrap_or(0),
            // A closed standard output never stops a server; one that fails is no better.
            Err(_) => {
                self.stdout = None;
                text.len()
            }
        }
    }
}
