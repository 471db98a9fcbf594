//! Standard input and output beside a loop that must not wait for them.
//!
//! Owns: the threads of a client's [`ThreadedConsole`], and the [`NonblockingStdout`] of a server, which needs none.
//! Must not know: the bytes.
//!
//! Standard input and output are shared with the shell and with other processes. `O_NONBLOCK` belongs to the open file
//! and not to the descriptor, so setting it would change their reads and writes, too. Moreover, epoll refuses regular files.
//! So a client reads and writes them on threads of its own, which block in place of the loop and post the results. A
//! server promises one thread: before each write it asks poll(2), and keeps its bytes if there is no room.

mod input;
mod nonblocking_stdout;
mod output;
mod resolver;

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub use nonblocking_stdout::NonblockingStdout;

use self::input::Input;
use self::output::Output;
use self::resolver::Resolver;
use crate::clients::{Console, ConsoleError, ConsoleEvent, Outcome};
use crate::reactor::Poster;
use crate::resolver::HostPort;

/// The threads' way to their client.
#[derive(Clone, Debug)]
struct EventSender {
    /// The poster to the client. The client is added to the reactor after its console has been made, and requests nothing
    /// before.
    client: Arc<OnceLock<Poster<ConsoleEvent>>>,
}

impl EventSender {
    /// Posts an event. Returns false if the loop is gone. The mailbox holds hundreds of times more messages than are
    /// ever under way here, so it is never full.
    fn send(&self, event: ConsoleEvent) -> bool {
        self.client.get().is_some_and(|client| client.post(event).is_ok())
    }
}

/// Duplicates the descriptor of a standard stream, to read or write it without std's buffer and lock.
fn duplicate(stream: BorrowedFd<'_>) -> io::Result<File> {
    Ok(File::from(stream.try_clone_to_owned()?))
}

/// The process's standard streams as a client's [`Console`].
#[derive(Debug)]
pub struct ThreadedConsole {
    events: EventSender,
    input: Option<Input>,
    output: Output,
    resolver: Option<Resolver>,
    outcome: Rc<RefCell<Option<Outcome>>>,
}

/// The program's side of a [`ThreadedConsole`], which its client owns.
#[derive(Debug)]
pub struct ConsoleHandle {
    client: Arc<OnceLock<Poster<ConsoleEvent>>>,
    outcome: Rc<RefCell<Option<Outcome>>>,
    write_error: Arc<OnceLock<ConsoleError>>,
}

impl ConsoleHandle {
    /// Sets the poster to the client, which receives the events; once.
    pub fn attach(&self, client: Poster<ConsoleEvent>) {
        self.client.get_or_init(|| client);
    }

    /// The client's outcome; `None` if the reactor was stopped before. A write error that was found after a good
    /// outcome replaces the outcome.
    pub fn outcome(&self) -> Option<Outcome> {
        let outcome = self.outcome.borrow().clone()?;
        Some(self.write_error.get().map_or(outcome, |error| Err((*error).into())))
    }
}

impl ThreadedConsole {
    /// A console for a client that is attached later. `name` is the peer's name, if the client has to resolve one.
    ///
    /// # Errors
    /// Those of dup(2) and of starting a thread.
    pub fn new(name: Option<HostPort>) -> io::Result<(Self, ConsoleHandle)> {
        let client = Arc::default();
        let events = EventSender { client: Arc::clone(&client) };
        let resolver = name.map(|name| Resolver::new(name, events.clone()));
        let output = Output::start(events.clone())?;
        let handle = ConsoleHandle { client, outcome: Rc::default(), write_error: output.write_error() };
        Ok((Self { events, input: None, output, resolver, outcome: Rc::clone(&handle.outcome) }, handle))
    }
}

impl Console for ThreadedConsole {
    fn resolve(&mut self) {
        if let Some(resolver) = &self.resolver {
            resolver.request();
        }
    }

    fn request_input(&mut self) {
        self.input.get_or_insert_with(|| Input::start(self.events.clone())).request();
    }

    fn finish_input(&mut self) {
        if let Some(input) = &mut self.input {
            input.finish();
        }
    }

    fn write_output(&mut self, bytes: &[u8]) -> bool {
        self.output.write(bytes)
    }

    fn write_notice(&mut self, line: String) -> bool {
        self.output.write_notice(line)
    }

    fn end(&mut self, outcome: Outcome) {
        self.outcome.borrow_mut().get_or_insert(outcome);
        self.output.flush();
    }
}

impl Drop for ThreadedConsole {
    /// Waits a moment for queued output: a cancelled client has not waited for it. The wait is short, because the
    /// reader of standard output may have stopped reading.
    fn drop(&mut self) {
        self.output.flush_within(Duration::from_millis(200));
    }
}
