//! Standard input, read by a thread when it is asked to.
//!
//! Owns: [`Input`]. Must not know: who asks.
//!
//! Invariant: one read for each time it was asked, and none before.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use log::warn;
use rustix::event::{PollFd, PollFlags, poll};

use super::Post;
use crate::clients::ConsoleEvent;

/// The most that one read takes: what a pipe holds.
const PIECE: usize = 64 * 1024;

/// The end at which it is asked.
#[derive(Debug)]
pub struct Input {
    asked: Sender<()>,
}

impl Input {
    /// Starts the thread. It dies with the process: nothing else ends a read(2) of a terminal.
    pub fn start(post: Post) -> Self {
        let (asked, asks) = channel();
        let refused = thread::Builder::new().name("stdin".to_owned()).spawn(move || run(&asks, &post)).err();
        if let Some(error) = refused {
            warn!("cannot read standard input: no thread: {error}");
        }
        Self { asked }
    }

    /// Lets it read once more.
    pub fn ask(&self) {
        // It may have come to the end.
        let _ = self.asked.send(());
    }
}

fn run(asks: &Receiver<()>, post: &Post) {
    let mut buffer = vec![0; PIECE];
    let mut stdin = match super::file(io::stdin().as_fd()) {
        Ok(stdin) => stdin,
        Err(error) => return end(post, Some(&error)),
    };
    while asks.recv().is_ok() {
        match read(&mut stdin, &mut buffer) {
            Ok(0) => return end(post, None),
            Ok(n) => {
                if !post.tell(ConsoleEvent::Input(buffer[..n].to_vec())) {
                    return;
                }
            }
            Err(error) => return end(post, Some(&error)),
        }
    }
}

fn end(post: &Post, error: Option<&io::Error>) {
    if let Some(error) = error {
        warn!("cannot read standard input: {error}");
    }
    post.tell(ConsoleEvent::InputEnd);
}

/// Reads once, also if somebody else has made standard input nonblocking.
fn read(stdin: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stdin.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(stdin, PollFlags::IN)], None)?;
            }
            outcome => return outcome,
        }
    }
}
