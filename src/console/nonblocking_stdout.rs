//! Standard output for a loop that must not wait for it and has no other thread.
//!
//! Owns: [`NonblockingStdout`]. Must not know: the bytes.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::services::Sink;
use crate::stdio::Pipe;

/// Standard output, written only as far as it has room.
#[derive(Debug)]
pub struct NonblockingStdout {
    /// `None` after the reader has closed it or a write has failed.
    stdout: Option<Pipe>,
}

impl NonblockingStdout {
    /// The process's standard output. If dup(2) fails, all bytes are discarded.
    pub fn new() -> Self {
        Self { stdout: Pipe::open(io::stdout().as_fd()).ok() }
    }
}

impl Default for NonblockingStdout {
    fn default() -> Self {
        Self::new()
    }
}

impl Sink for NonblockingStdout {
    fn take(&mut self, text: &[u8]) -> usize {
        let Some(stdout) = &mut self.stdout else { return text.len() };
        match stdout.write_within(text, Duration::ZERO) {
            Ok(written) => written.unwrap_or(0),
            // Neither a closed standard output nor a failing one stops a server.
            Err(_) => {
                self.stdout = None;
                text.len()
            }
        }
    }
}
