//! Standard input and output beside a loop that must not wait for them.
//!
//! Owns: the threads of a client's [`ThreadedConsole`], and the [`NonblockingStdout`] of a server, which needs none. Must not know: what is
//! read and written.
//!
//! Standard input and output are shared with the shell and with whoever else has them: making them nonblocking would
//! surprise the others (the flag belongs to the open file, not to the descriptor), and epoll refuses regular files. So a
//! client reads and writes them in threads of its own, which wait in its stead and events what has come of it. A server
//! promises one thread; it asks poll(2) before it writes, and takes no for an answer.

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
pub use resolver::{Name, Resolver};

use self::input::Input;
use self::output::Output;
use crate::clients::{Console, ConsoleEvent, Outcome};
use crate::id::Addressee;
use crate::reactor::Handle;

/// How threads tell a client what has come of something.
#[derive(Clone, Debug)]
struct EventSender {
    handle: Handle,
    /// The client, which is added to the reactor after its console has been made; it asks for nothing before.
    client: Arc<OnceLock<Addressee>>,
}

impl EventSender {
    /// Tells; says whether somebody is still there. The mailbox holds hundreds of times more messages than are ever under
    /// way here, so it refuses one only when the loop is gone.
    fn send(&self, event: ConsoleEvent) -> bool {
        self.client.get().is_some_and(|client| self.handle.post(*client, Box::new(event)).is_ok())
    }
}

/// A file of our own for a standard stream, without std's buffer.
fn file(stream: BorrowedFd<'_>) -> io::Result<File> {
    Ok(File::from(stream.try_clone_to_owned()?))
}

/// The words of the system for an error, without its number.
fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// The process's standard streams as a client's [`Console`].
#[derive(Debug)]
pub struct ThreadedConsole {
    events: EventSender,
    input: Option<Input>,
    output: Output,
    resolver: Option<Resolver>,
    ending: Rc<RefCell<Option<Outcome>>>,
}

/// What is left of a [`ThreadedConsole`] when a client has got it.
#[derive(Debug)]
pub struct ConsoleHandle {
    client: Arc<OnceLock<Addressee>>,
    ending: Rc<RefCell<Option<Outcome>>>,
    unwritten: Arc<OnceLock<String>>,
}

impl ConsoleHandle {
    /// Says to whom the console belongs.
    pub fn attach(&self, client: impl Into<Addressee>) {
        self.client.get_or_init(|| client.into());
    }

    /// How the client has ended; `None` if it has been stopped before. Output that could not be written after a good end
    /// makes it a bad one.
    pub fn ending(&self) -> Option<Outcome> {
        let ending = self.ending.borrow().clone()?;
        Some(self.unwritten.get().map_or(ending, |failure| Err(failure.clone())))
    }
}

impl ThreadedConsole {
    /// The console of a client that is yet to be attached, whose peer may have a `name` that has to be resolved.
    ///
    /// # Errors
    /// Those of dup(2) and of starting a thread.
    pub fn new(handle: Handle, name: Option<Name>) -> io::Result<(Self, ConsoleHandle)> {
        let client = Arc::default();
        let events = EventSender { handle, client: Arc::clone(&client) };
        let resolver = name.map(|name| Resolver::posting(name, events.clone())).transpose()?;
        let output = Output::start(events.clone())?;
        let console = ConsoleHandle { client, ending: Rc::default(), unwritten: output.failure() };
        Ok((Self { events, input: None, output, resolver, ending: Rc::clone(&console.ending) }, console))
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
        self.ending.borrow_mut().get_or_insert(outcome);
        self.output.flush();
    }
}

impl Drop for ThreadedConsole {
    /// A client that has been cancelled has not waited: what is under way gets a moment, and not more, for the reader may
    /// have stopped reading.
    fn drop(&mut self) {
        self.output.flush_within(Duration::from_millis(200));
    }
}
