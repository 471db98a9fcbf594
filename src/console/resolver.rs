//! A thread that resolves names: getaddrinfo(3) blocks while a name server does not answer, for many seconds.
//!
//! Owns: [`Resolver`]. Must not know: its client.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::EventSender;
use crate::clients::ConsoleEvent;
use crate::resolver::HostPort;

/// Resolves one name, again for each request.
#[derive(Debug)]
pub(super) struct Resolver {
    requests: Sender<()>,
}

impl Resolver {
    /// Starts the thread. It sends [`ConsoleEvent::Resolved`].
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(name: HostPort, events: EventSender) -> io::Result<Self> {
        let (requests, requested) = channel();
        thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            while requested.recv().is_ok() {
                let answer = name.resolve();
                // Requests that have come meanwhile have the same answer.
                while requested.try_recv().is_ok() {}
                if !events.send(ConsoleEvent::Resolved(answer)) {
                    return;
                }
            }
        })?;
        Ok(Self { requests })
    }

    /// Requests the addresses.
    pub fn request(&self) {
        // The thread ends only when the loop is gone.
        let _ = self.requests.send(());
    }
}
