//! Standard input and output beside a loop that must not wait for them.
//!
//! Owns: the threads of a client's [`Terminal`], and the [`Outlet`] of a server, which needs none. Must not know: what is
//! read and written.
//!
//! Standard input and output are shared with the shell and with whoever else has them: making them nonblocking would
//! surprise the others (the flag belongs to the open file, not to the descriptor), and epoll refuses regular files. So a
//! client reads and writes them in threads of its own, which wait in its stead and post what has come of it. A server
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

pub use nonblocking_stdout::Outlet;
pub use resolver::{Name, Resolver};

use self::input::Input;
use self::output::Output;
use crate::clients::{Console, ConsoleEvent, Outcome};
use crate::id::Addressee;
use crate::reactor::Handle;

/// How threads tell a client what has come of something.
#[derive(Clone, Debug)]
struct Post {
    handle: Handle,
    /// The client, which is added to the reactor after its console has been made; it asks for nothing before.
    client: Arc<OnceLock<Addressee>>,
}

impl Post {
    /// Tells; says whether somebody is still there. The mailbox holds hundreds of times more messages than are ever under
    /// way here, so it refuses one only when the loop is gone.
    fn tell(&self, event: ConsoleEvent) -> bool {
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
pub struct Terminal {
    post: Post,
    input: Option<Input>,
    output: Output,
    resolver: Option<Resolver>,
    ending: Rc<RefCell<Option<Outcome>>>,
}

/// What is left of a [`Terminal`] when a client has got it.
#[derive(Debug)]
pub struct Wire {
    client: Arc<OnceLock<Addressee>>,
    ending: Rc<RefCell<Option<Outcome>>>,
    unwritten: Arc<OnceLock<String>>,
}

impl Wire {
    /// Says to whom the terminal belongs.
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

impl Terminal {
    /// The console of a client that is yet to be attached, whose peer may have a `name` that has to be resolved.
    ///
    /// # Errors
    /// Those of dup(2) and of starting a thread.
    pub fn new(handle: Handle, name: Option<Name>) -> io::Result<(Self, Wire)> {
        let client = Arc::default();
        let post = Post { handle, client: Arc::clone(&client) };
        let resolver = name.map(|name| Resolver::posting(name, post.clone())).transpose()?;
        let output = Output::start(post.clone())?;
        let wire = Wire { client, ending: Rc::default(), unwritten: output.failure() };
        Ok((Self { post, input: None, output, resolver, ending: Rc::clone(&wire.ending) }, wire))
    }
}

impl Console for Terminal {
    fn resolve(&mut self) {
        if let Some(resolver) = &self.resolver {
            resolver.ask();
        }
    }

    fn ask(&mut self) {
        self.input.get_or_insert_with(|| Input::start(self.post.clone())).ask();
    }

    fn wind_up(&mut self) {
        if let Some(input) = &mut self.input {
            input.wind_up();
        }
    }

    fn show(&mut self, bytes: &[u8]) -> bool {
        self.output.write(bytes)
    }

    fn note(&mut self, line: String) -> bool {
        self.output.note(line)
    }

    fn end(&mut self, outcome: Outcome) {
        self.ending.borrow_mut().get_or_insert(outcome);
        self.output.flush();
    }
}

impl Drop for Terminal {
    /// A client that has been cancelled has not waited: what is under way gets a moment, and not more, for the reader may
    /// have stopped reading.
    fn drop(&mut self) {
        self.output.flush_within(Duration::from_millis(200));
    }
}
