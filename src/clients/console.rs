//! What a client has at its other end: somebody who types and reads.
//!
//! Owns: [`Console`], and the [`ConsoleEvent`]s by which it answers. Must not know: files, terminals, threads.
//!
//! Invariants:
//! 1. No piece of input comes that has not been asked for: that bounds what is read ahead of a slow peer.
//! 2. Nothing here waits. What takes time (reading, writing, resolving a name) is answered with an event later.

use std::net::SocketAddr;

/// How a client has ended: an error is one line for its user.
pub type Outcome = Result<(), String>;

/// The user's side of a client. Events come to the client's `on_post`.
pub trait Console {
    /// Resolves the peer's name. [`ConsoleEvent::Resolved`] will tell.
    fn resolve(&mut self);

    /// Lets one more piece of input come, as [`ConsoleEvent::Input`].
    fn request_input(&mut self);

    /// Nobody waits for input any more: it ends where it pauses. What is at hand still comes, as long as it is asked for, and
    /// [`ConsoleEvent::InputEnd`] after it.
    fn finish_input(&mut self);

    /// Takes what the peer has said. Says whether there is room for more; if not, [`ConsoleEvent::Writable`] will tell when
    /// there is.
    fn write_output(&mut self, bytes: &[u8]) -> bool;

    /// Takes a line, without its end, about what is going on; it is output in order with the rest, and says the same about
    /// room.
    fn write_notice(&mut self, line: String) -> bool;

    /// The client has ended. [`ConsoleEvent::Flushed`] will tell when everything has been output.
    fn end(&mut self, outcome: Outcome);
}

/// What a console has to tell.
#[derive(Debug)]
pub enum ConsoleEvent {
    /// The addresses of the peer, or why there are none.
    Resolved(Result<Vec<SocketAddr>, String>),
    /// A piece of input.
    Input(Vec<u8>),
    /// The end of input; an error if there may have been more that cannot be read.
    InputEnd(Outcome),
    /// There is room for output again.
    Writable,
    /// Nobody takes output any more: quietly, if the reader has gone; otherwise with an error.
    OutputEnd(Outcome),
    /// After the end: everything has been output.
    Flushed,
}

/// Pieces of input that a client has asked for and not passed on: with pieces of 64 KiB, 256 KiB are read ahead.
pub(super) const PIECES: usize = 4;

#[cfg(test)]
pub(super) mod fake {
    //! A console that keeps what it is recorded.

    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// What a console has been recorded.
    #[derive(Debug, Default)]
    pub struct Recorded {
        pub resolutions: usize,
        pub requested: usize,
        /// Input shall end where it pauses.
        pub input_finished: bool,
        pub output: Vec<u8>,
        pub notices: Vec<String>,
        pub outcome: Option<Outcome>,
        /// There is no room.
        pub full: bool,
    }

    /// Keeps what it is recorded where a test can see it.
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
