//! Standard output and standard error, written by a thread in the order in which they were given to it.
//!
//! Owns: [`Output`]. Must not know: who reads.
//!
//! Invariant: past [`HIGH`] queued bytes it says that it has no room, and tells once when [`LOW`] is reached again.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::EventSender;
use crate::clients::ConsoleEvent;

/// Queued bytes at which there is no room: a few reads of the loop.
const HIGH: usize = 256 * 1024;
/// Queued bytes at which there is room again.
const LOW: usize = 64 * 1024;

#[derive(Debug)]
enum Item {
    /// For standard output.
    Bytes(Vec<u8>),
    /// A line for standard error.
    Notice(String),
    /// Everything before this has been written: tell the loop.
    Flushed,
    /// Everything before this has been written: tell who waits.
    Waited(Sender<()>),
}

/// How much is queued.
#[derive(Debug, Default)]
struct Queued {
    bytes: usize,
    /// Somebody has been told that there is no room.
    full: bool,
}

/// The end at which things are given to it.
#[derive(Debug)]
pub struct Output {
    items: Sender<Item>,
    queued: Arc<Mutex<Queued>>,
    failure: Arc<OnceLock<String>>,
}

impl Output {
    /// Starts the thread.
    ///
    /// # Errors
    /// Those of dup(2) and of starting a thread.
    pub fn start(events: EventSender) -> io::Result<Self> {
        let stdout = super::file(io::stdout().as_fd())?;
        let (items, given) = channel();
        let queued = Arc::new(Mutex::new(Queued::default()));
        let failure = Arc::default();
        let stderr = super::file(io::stderr().as_fd()).ok();
        let writer = Writer {
            stdout,
            stderr,
            events,
            queued: Arc::clone(&queued),
            failure: Arc::clone(&failure),
            closed: false,
        };
        thread::Builder::new().name("stdout".to_owned()).spawn(move || writer.run(&given))?;
        Ok(Self { items, queued, failure })
    }

    /// Where it is written why something could not be; once everything has been written, all is known.
    pub fn failure(&self) -> Arc<OnceLock<String>> {
        Arc::clone(&self.failure)
    }

    /// Queues bytes for standard output. Says whether there is room for more.
    pub fn write(&self, bytes: &[u8]) -> bool {
        self.queue(Item::Bytes(bytes.to_vec()), bytes.len())
    }

    /// Queues a line for standard error. Says whether there is room for more.
    pub fn write_notice(&self, line: String) -> bool {
        let len = line.len() + 1;
        self.queue(Item::Notice(line + "\n"), len)
    }

    fn queue(&self, item: Item, len: usize) -> bool {
        let full = {
            let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
            queued.bytes += len;
            queued.full |= queued.bytes >= HIGH;
            queued.full
        };
        self.give(item);
        !full
    }

    /// Posts [`ConsoleEvent::Flushed`] when everything has been written.
    pub fn flush(&self) {
        self.give(Item::Flushed);
    }

    /// Waits until everything has been written, at most `patience`.
    pub fn flush_within(&self, patience: Duration) {
        let (sender, written) = channel();
        self.give(Item::Waited(sender));
        let _ = written.recv_timeout(patience);
    }

    fn give(&self, item: Item) {
        // The thread ends only after this.
        let _ = self.items.send(item);
    }
}

struct Writer {
    stdout: File,
    /// Not std's, whose lock would be held while its reader sleeps. `None`: it is closed.
    stderr: Option<File>,
    events: EventSender,
    queued: Arc<Mutex<Queued>>,
    failure: Arc<OnceLock<String>>,
    /// Nobody reads any more.
    closed: bool,
}

impl Writer {
    fn run(mut self, items: &Receiver<Item>) {
        while let Ok(item) = items.recv() {
            match item {
                Item::Bytes(bytes) => {
                    self.write(&bytes);
                    self.written(bytes.len());
                }
                // With standard error closed, nobody wants to know.
                Item::Notice(line) => {
                    let _ = self.stderr.as_mut().map(|stderr| write_all(stderr, line.as_bytes()));
                    self.written(line.len());
                }
                Item::Flushed => drop(self.events.send(ConsoleEvent::Flushed)),
                Item::Waited(sender) => drop(sender.send(())),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        let outcome = match write_all(&mut self.stdout, bytes) {
            Ok(()) => return,
            // The reader has seen enough, as with `| head -1`.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(error) => {
                let failure = format!("write standard output: {}", super::cause(&error));
                Err(self.failure.get_or_init(|| failure).clone())
            }
        };
        self.closed = true;
        self.events.send(ConsoleEvent::OutputEnd(outcome));
    }

    fn written(&self, bytes: usize) {
        let room = {
            let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
            queued.bytes -= bytes;
            let room = queued.full && queued.bytes <= LOW;
            queued.full &= !room;
            room
        };
        if room {
            self.events.send(ConsoleEvent::Writable);
        }
    }
}

/// Writes everything, also if somebody else has made it nonblocking.
fn write_all(stream: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(stream, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
