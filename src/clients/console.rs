//! The user's side of a client: input to send, output to write.
//!
//! Owns: [`Console`], and the [`ConsoleEvent`]s by which it answers. Must not know: files, terminals, threads.
//!
//! Invariants:
//! 1. Each piece of input answers one request. So the number of requests bounds the input that is read ahead of a slow
//!    peer.
//! 2. No method blocks. Reading, writing and resolving a name take time; an event reports the result later.

use std::fmt;
use std::net::SocketAddr;

use super::ClientError;
use crate::resolver::ResolveError;
use crate::service::Errno;

/// The outcome of a client.
pub type Outcome = Result<(), ClientError>;

/// The user's side of a client. Events arrive at the client's `on_post`.
pub trait Console {
    /// Resolves the peer's name. [`ConsoleEvent::Resolved`] reports the result.
    fn resolve(&mut self);

    /// Requests one piece of input. [`ConsoleEvent::Input`] or [`ConsoleEvent::InputEnd`] answers.
    fn request_input(&mut self);

    /// Ends the input at its next pause, because no part of the client waits for it any more. Requested pieces that are
    /// available still arrive, then [`ConsoleEvent::InputEnd`].
    fn finish_input(&mut self);

    /// Writes bytes from the peer. Returns true if the console accepts more at once. After false,
    /// [`ConsoleEvent::Writable`] reports when it does.
    fn write_output(&mut self, bytes: &[u8]) -> bool;

    /// Writes a line about the progress of the client, in order with the output. `line` has no line end. Returns true
    /// as [`write_output`](Self::write_output) does.
    fn write_notice(&mut self, line: String) -> bool;

    /// Ends the client. [`ConsoleEvent::Flushed`] follows when all output has been written.
    fn end(&mut self, outcome: Outcome);
}

/// An event of a console.
#[derive(Debug)]
pub enum ConsoleEvent {
    /// The result of [`Console::resolve`].
    Resolved(Result<Vec<SocketAddr>, ResolveError>),
    /// A piece of input.
    Input(Vec<u8>),
    /// The end of input. With an error, input may be missing.
    InputEnd(Result<(), ConsoleError>),
    /// The console accepts output again.
    Writable,
    /// The console accepts no more output: `Ok` if the reader has closed it, otherwise an error.
    OutputEnd(Result<(), ConsoleError>),
    /// All output has been written, after [`Console::end`].
    Flushed,
}

/// A standard stream of a console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StandardStream {
    /// Standard input.
    Input,
    /// Standard output.
    Output,
}

/// A failed read or write of a standard stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ConsoleError {
    /// The stream.
    pub stream: StandardStream,
    /// The error of read(2) or write(2).
    pub errno: Errno,
}

impl ConsoleError {
    /// A failed read or write of `stream`.
    pub fn new(stream: StandardStream, errno: impl Into<Errno>) -> Self {
        Self { stream, errno: errno.into() }
    }
}

impl fmt::Display for ConsoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stream {
            StandardStream::Input => write!(f, "cannot read standard input: {}", self.errno),
            StandardStream::Output => write!(f, "write standard output: {}", self.errno),
        }
    }
}

impl std::error::Error for ConsoleError {}

/// The pieces of input that a client has requested and not yet sent. With pieces of 64 KiB, 256 KiB are read ahead.
pub(super) const PIECES: usize = 4;

#[cfg(test)]
pub(super) mod fake {
    //! A console that records its calls.

    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// The calls of a console.
    #[derive(Debug, Default)]
    pub struct Recorded {
        pub resolutions: usize,
        pub requested: usize,
        pub input_finished: bool,
        pub output: Vec<u8>,
        pub notices: Vec<String>,
        pub outcome: Option<Outcome>,
        /// Set by a test: the console accepts no more output.
        pub full: bool,
    }

    /// Records its calls where a test can read them.
    #[derive(Clone, Debug, Default)]
    pub struct FakeConsole(pub Rc<RefCell<Recorded>>);

    impl Console for FakeConsole {
        fn resolve(&mut self) {
            self.0.borrow_mut().resolutions += 1;
        }

        fn request_input(&mut self) {
            self.0.borrow_mut().requested += 1;
        }

        fn finish_input(&mut self) {
            self.0.borrow_mut().input_finished = true;
        }

        fn write_output(&mut self, bytes: &[u8]) -> bool {
            let mut recorded = self.0.borrow_mut();
            recorded.output.extend_from_slice(bytes);
            !recorded.full
        }

        fn write_notice(&mut self, line: String) -> bool {
            let mut recorded = self.0.borrow_mut();
            recorded.notices.push(line);
            !recorded.full
        }

        fn end(&mut self, outcome: Outcome) {
            self.0.borrow_mut().outcome.get_or_insert(outcome);
        }
    }
}
