//! Signals as one more source: the handler writes to a socket pair, and the loop reads it.
//!
//! Owns: [`Signals`] and what each signal means. Must not know: how a reactor stops.

use std::io;

use mio::event::Event;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0 as hook;

/// The word of the events of signals: its generation is zero, so it is no source's.
const WORD: Token = Token(2);

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// SIGINT, SIGTERM (its number): stop; the second time, at once.
    Stop(i32),
    /// SIGUSR1: tell what is going on.
    Report,
    /// SIGHUP (its number): the terminal is closed.
    HangUp(i32),
}

/// The signals that a reactor listens to.
pub struct Signals {
    hook: hook::Signals,
    raised: bool,
}

impl Signals {
    /// Installs the handlers and registers their socket.
    pub fn new(registry: &Registry) -> io::Result<Self> {
        let mut hook = hook::Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1])?;
        registry.register(&mut hook, WORD, Interest::READABLE)?;
        Ok(Self { hook, raised: false })
    }

    /// Adds what an event says, if it is about signals.
    pub fn note(&mut self, event: &Event) {
        self.raised |= event.token() == WORD;
    }

    /// What the signals that have arrived since ask for.
    pub fn take(&mut self) -> Vec<Request> {
        if !std::mem::take(&mut self.raised) {
            return Vec::new();
        }
        let requests = self.hook.pending().map(|signal| match signal {
            SIGINT | SIGTERM => Request::Stop(signal),
            SIGUSR1 => Request::Report,
            _ => Request::HangUp(signal),
        });
        requests.collect()
    }
}
