//! Standard input, read by a thread on request.
//!
//! Owns: [`Input`]. Must not know: its client.
//!
//! Invariants:
//! 1. One read for each request, and none before.
//! 2. The thread waits in poll(2), for input or for the end of the requests, and never in read(2), which the loop could not
//!    interrupt.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::EventSender;
use crate::clients::{ConsoleError, ConsoleEvent, StandardStream};

/// The most bytes of one read: the capacity of a pipe (pipe(7)).
const PIECE: usize = 64 * 1024;

/// After [`Input::finish`]: the silence of a pipe that ends the input. The process that writes to it may just have lost
/// the processor. At a terminal a user is waiting for the end.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
const NO_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The client's end of the thread.
#[derive(Debug)]
pub struct Input {
    requests: Sender<()>,
    /// Closing it makes the input end at its next pause.
    unfinished: Option<PipeWriter>,
}

impl Input {
    /// Starts the thread. It ends with the process. If it cannot be started, the input ends with that error.
    pub fn start(events: EventSender) -> Self {
        let (requests, requested) = channel();
        let unfinished = spawn(requested, events.clone()).map_err(|error| end(&events, Err(error))).ok();
        Self { requests, unfinished }
    }

    /// Requests one more read.
    pub fn request(&self) {
        // The send fails after the end of input.
        let _ = self.requests.send(());
    }

    /// Makes the input end at its next pause.
    pub fn finish(&mut self) {
        self.unfinished = None;
    }
}

fn spawn(requested: Receiver<()>, events: EventSender) -> io::Result<PipeWriter> {
    let (finished, unfinished) = io::pipe()?;
    let run = move || end(&events, run(&requested, &events, &finished));
    thread::Builder::new().name("stdin".to_owned()).spawn(run)?;
    Ok(unfinished)
}

/// Reads until the end of input, or until the loop is gone.
fn run(requested: &Receiver<()>, events: &EventSender, finished: &PipeReader) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut stdin = super::duplicate(io::stdin().as_fd())?;
    while requested.recv().is_ok() {
        let n = read(&mut stdin, &mut buffer, finished)?;
        if n == 0 || !events.send(ConsoleEvent::Input(buffer[..n].to_vec())) {
            break;
        }
    }
    Ok(())
}

fn end(events: &EventSender, outcome: io::Result<()>) {
    let outcome = outcome.map_err(|error| ConsoleError::new(StandardStream::Input, error));
    events.send(ConsoleEvent::InputEnd(outcome));
}

/// Reads once; returns 0 at the end of input. EAGAIN is possible, because another process may have made standard input
/// nonblocking or may have read the same bytes.
fn read(stdin: &mut File, buffer: &mut [u8], finished: &PipeReader) -> io::Result<usize> {
    while await_input(stdin, finished)? {
        match stdin.read(buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            outcome => return outcome,
        }
    }
    Ok(0)
}

/// Waits for input. Returns false if the input has paused after [`Input::finish`].
fn await_input(stdin: &File, finished: &PipeReader) -> io::Result<bool> {
    loop {
        let mut polled = [PollFd::new(stdin, PollFlags::IN), PollFd::new(finished, PollFlags::IN)];
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
