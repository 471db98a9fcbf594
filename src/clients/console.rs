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
    fn ask(&mut self);

    /// Nobody waits for input any more: it ends where it pauses. What is at hand still comes, as long as it is asked for, and
    /// [`ConsoleEvent::InputEnd`] after it.
    fn wind_up(&mut self);

    /// Takes what the peer has said. Says whether there is room for more; if not, [`ConsoleEvent::Room`] will tell when
    /// there is.
    fn show(&mut self, bytes: &[u8]) -> bool;

    /// Takes a line, without its end, about what is going on; it is shown in order with the rest, and says the same about
    /// room.
    fn note(&mut self, line: String) -> bool;

    /// The client has ended. [`ConsoleEvent::Flushed`] will tell when everything has been shown.
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
    Room,
    /// Nobody takes output any more: quietly, if the reader has gone; otherwise with an error.
    OutputEnd(Outcome),
    /// After the end: everything has been shown.
    Flushed,
}

/// Pieces of input that a client has asked for and not passed on: with pieces of 64 KiB, 256 KiB are read ahead.
pub(super) const PIECES: usize = 4;

#[cfg(test)]
pub(super) mod scripted {
    //! A console that keeps what it is given.

    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// What a console has been given.
    #[derive(Debug, Default)]
    pub struct Given {
        pub resolutions: usize,
        pub asked: usize,
        /// Input shall end where it pauses.
        pub winding_up: bool,
        pub shown: Vec<u8>,
        pub notes: Vec<String>,
        pub outcome: Option<Outcome>,
        /// There is no room.
        pub full: bool,
    }

    /// Keeps what it is given where a test can see it.
    #[derive(Clone, Debug, Default)]
    pub struct Scripted(pub Rc<RefCell<Given>>);

    impl Console for Scripted {
        fn resolve(&mut self) {
            self.0.borrow_mut().resolutions += 1;
        }

        fn ask(&mut self) {
            self.0.borrow_mut().asked += 1;
        }

        fn wind_up(&mut self) {
            self.0.borrow_mut().winding_up = true;
        }

        fn show(&mut self, bytes: &[u8]) -> bool {
            let mut given = self.0.borrow_mut();
            given.shown.extend_from_slice(bytes);
            !given.full
        }

        fn note(&mut self, line: String) -> bool {
            let mut given = self.0.borrow_mut();
            given.notes.push(line);
            !given.full
        }

        fn end(&mut self, outcome: Outcome) {
            self.0.borrow_mut().outcome.get_or_insert(outcome);
        }
    }
}
