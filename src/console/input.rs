//! Standard input, read by a thread when it is asked to.
//!
//! Owns: [`Input`]. Must not know: who asks.
//!
//! Invariants:
//! 1. One read for each time it was asked, and none before.
//! 2. It never waits in read(2), which nothing could end, but in poll(2), for input or to be told to wind up.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::EventSender;
use crate::clients::ConsoleEvent;

/// The most that one read takes: what a pipe holds.
const PIECE: usize = 64 * 1024;

/// When it winds up: a silence of a pipe that is a pause. Who writes into it may just have lost the processor. At a
/// terminal there is somebody who waits.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
const NO_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The end at which it is asked.
#[derive(Debug)]
pub struct Input {
    asked: Sender<()>,
    /// Closing it is the word to wind up.
    going_on: Option<PipeWriter>,
}

impl Input {
    /// Starts the thread. It dies with the process. If it cannot be had, that is an end of input.
    pub fn start(events: EventSender) -> Self {
        let (asked, asks) = channel();
        let going_on = spawn(asks, events.clone()).map_err(|error| end(&events, Err(error))).ok();
        Self { asked, going_on }
    }

    /// Lets it read once more.
    pub fn request(&self) {
        // It may have come to the end.
        let _ = self.asked.send(());
    }

    /// From now on it ends where it pauses.
    pub fn finish(&mut self) {
        self.going_on = None;
    }
}

fn spawn(asks: Receiver<()>, events: EventSender) -> io::Result<PipeWriter> {
    let (word, going_on) = io::pipe()?;
    thread::Builder::new().name("stdin".to_owned()).spawn(move || end(&events, run(&asks, &events, &word)))?;
    Ok(going_on)
}

/// Reads until the end of input, or until the loop is gone.
fn run(asks: &Receiver<()>, events: &EventSender, word: &PipeReader) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut stdin = super::file(io::stdin().as_fd())?;
    while asks.recv().is_ok() {
        let n = read(&mut stdin, &mut buffer, word)?;
        if n == 0 || !events.send(ConsoleEvent::Input(buffer[..n].to_vec())) {
            break;
        }
    }
    Ok(())
}

fn end(events: &EventSender, outcome: io::Result<()>) {
    let outcome = outcome.map_err(|error| format!("cannot read standard input: {}", super::cause(&error)));
    events.send(ConsoleEvent::InputEnd(outcome));
}

/// Reads once; 0 at the end of input. Somebody else may have made standard input nonblocking, or may read it as well.
fn read(stdin: &mut File, buffer: &mut [u8], word: &PipeReader) -> io::Result<usize> {
    while await_input(stdin, word)? {
        match stdin.read(buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            outcome => return outcome,
        }
    }
    Ok(0)
}

/// Waits for input. Says whether there is some, or its end; if not, it has paused when it should wind up.
fn await_input(stdin: &File, word: &PipeReader) -> io::Result<bool> {
    loop {
        let mut polled = [PollFd::new(stdin, PollFlags::IN), PollFd::new(word, PollFlags::IN)];
        match poll(&mut polled, None) {
            Err(Errno::INTR) => continue,
            outcome => outcome?,
        };
        if !polled[0].revents().is_empty() {
            return Ok(true);
        }
        let pause = if stdin.is_terminal() { NO_PAUSE } else { PAUSE };
        match poll(&mut polled[..1], Some(&pause)) {
            Err(Errno::INTR) => {}
            outcome => return Ok(outcome? > 0),
        }
    }
}
