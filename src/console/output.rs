//! Standard output and standard error, written by a thread in the order of the calls.
//!
//! Owns: [`Output`]. Must not know: its client.
//!
//! Invariant: past [`HIGH`] queued bytes, each write returns false. [`ConsoleEvent::Writable`] follows once, at
//! [`LOW`].

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::EventSender;
use crate::clients::{ConsoleError, ConsoleEvent, StandardStream};

/// The high-water mark, in queued bytes: a few reads of the loop.
const HIGH: usize = 256 * 1024;
/// The low-water mark.
const LOW: usize = 64 * 1024;

#[derive(Debug)]
enum Item {
    /// Bytes for standard output.
    Bytes(Vec<u8>),
    /// A line for standard error.
    Notice(String),
    /// Post [`ConsoleEvent::Flushed`]: all items before are written.
    Flushed,
    /// Answer on this channel: all items before are written.
    Barrier(Sender<()>),
}

/// The queued bytes.
#[derive(Debug, Default)]
struct Queued {
    bytes: usize,
    /// The high-water mark was reached, and the low-water mark not since.
    full: bool,
}

/// The client's end of the thread.
#[derive(Debug)]
pub struct Output {
    items: Sender<Item>,
    queued: Arc<Mutex<Queued>>,
    write_error: Arc<OnceLock<ConsoleError>>,
}

impl Output {
    /// Starts the thread.
    ///
    /// # Errors
    /// Those of dup(2) and of starting a thread.
    pub fn start(events: EventSender) -> io::Result<Self> {
        let stdout = super::duplicate(io::stdout().as_fd())?;
        let stderr = super::duplicate(io::stderr().as_fd()).ok();
        let (items, received) = channel();
        let queued = Arc::new(Mutex::new(Queued::default()));
        let write_error = Arc::default();
        let writer = Writer {
            stdout: Some(stdout),
            stderr,
            events,
            queued: Arc::clone(&queued),
            write_error: Arc::clone(&write_error),
        };
        thread::Builder::new().name("stdout".to_owned()).spawn(move || writer.run(&received))?;
        Ok(Self { items, queued, write_error })
    }

    /// The first write error of standard output. It is final once all output has been written.
    pub fn write_error(&self) -> Arc<OnceLock<ConsoleError>> {
        Arc::clone(&self.write_error)
    }

    /// Queues bytes for standard output. Returns true below the high-water mark.
    pub fn write(&self, bytes: &[u8]) -> bool {
        self.queue(Item::Bytes(bytes.to_vec()), bytes.len())
    }

    /// Queues a line for standard error. Returns true below the high-water mark.
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
        self.push(item);
        !full
    }

    /// Makes the thread post [`ConsoleEvent::Flushed`] after all queued items.
    pub fn flush(&self) {
        self.push(Item::Flushed);
    }

    /// Waits until all queued items are written, at most `timeout`.
    pub fn flush_within(&self, timeout: Duration) {
        let (sender, written) = channel();
        self.push(Item::Barrier(sender));
        let _ = written.recv_timeout(timeout);
    }

    fn push(&self, item: Item) {
        // The thread ends only after this sender is dropped.
        let _ = self.items.send(item);
    }
}

struct Writer {
    /// `None` after a write error.
    stdout: Option<File>,
    /// Not std's handle: its lock would be held while the reader stalls. `None` if standard error is closed.
    stderr: Option<File>,
    events: EventSender,
    queued: Arc<Mutex<Queued>>,
    write_error: Arc<OnceLock<ConsoleError>>,
}

impl Writer {
    fn run(mut self, items: &Receiver<Item>) {
        while let Ok(item) = items.recv() {
            match item {
                Item::Bytes(bytes) => {
                    self.write(&bytes);
                    self.note_written(bytes.len());
                }
                Item::Notice(line) => {
                    // A notice that cannot be written is dropped: the output goes on.
                    let _ = self.stderr.as_mut().map(|stderr| write_all(stderr, line.as_bytes()));
                    self.note_written(line.len());
                }
                Item::Flushed => drop(self.events.send(ConsoleEvent::Flushed)),
                Item::Barrier(sender) => drop(sender.send(())),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let Some(stdout) = &mut self.stdout else { return };
        let outcome = match write_all(stdout, bytes) {
            Ok(()) => return,
            // The reader has closed it, as in `| head -1`.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(error) => {
                let error = ConsoleError::new(StandardStream::Output, error);
                Err(*self.write_error.get_or_init(|| error))
            }
        };
        self.stdout = None;
        self.events.send(ConsoleEvent::OutputEnd(outcome));
    }

    /// Bytes have left the queue, written or discarded.
    fn note_written(&self, bytes: usize) {
        let drained = {
            let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
            queued.bytes -= bytes;
            let drained = queued.full && queued.bytes <= LOW;
            queued.full &= !drained;
            drained
        };
        if drained {
            self.events.send(ConsoleEvent::Writable);
        }
    }
}

/// Writes all bytes, also to a stream that another process has made nonblocking.
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
