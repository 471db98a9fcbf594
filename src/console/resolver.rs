//! Names, resolved by a thread: getaddrinfo(3) waits for servers that may not answer for many seconds.
//!
//! Owns: [`Name`] and [`Resolver`]. Must not know: who asks.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use super::EventSender;
use crate::clients::ConsoleEvent;
use crate::id::Addressee;
use crate::reactor::Handle;

/// A host name and a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// The name.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Name {
    /// Its addresses, if nobody need be asked: `localhost` is this host, whatever others say (RFC 6761, section 6.3).
    pub fn known(&self) -> Option<Vec<SocketAddr>> {
        self.host
            .eq_ignore_ascii_case("localhost")
            .then(|| vec![(Ipv6Addr::LOCALHOST, self.port).into(), (Ipv4Addr::LOCALHOST, self.port).into()])
    }

    fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let cannot = |why: String| format!("cannot resolve {}: {why}", self.host);
        // std puts "failed to lookup address information: " before what getaddrinfo has said.
        let cause = |error: io::Error| {
            let text = error.to_string();
            text.rsplit(": ").next().unwrap_or(&text).to_owned()
        };
        let mut found = Vec::new();
        for addr in (self.host.as_str(), self.port).to_socket_addrs().map_err(|error| cannot(cause(error)))? {
            if !found.contains(&addr) {
                found.push(addr);
            }
        }
        if found.is_empty() { Err(cannot("no address".to_owned())) } else { Ok(found) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Resolves one name, as often as it is asked.
#[derive(Debug)]
pub struct Resolver {
    asked: Sender<()>,
}

impl Resolver {
    /// Starts the thread; answers are posted to `client`.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(name: Name, handle: Handle, client: impl Into<Addressee>) -> io::Result<Self> {
        Self::posting(name, EventSender { handle, client: Arc::new(OnceLock::from(client.into())) })
    }

    pub(super) fn posting(name: Name, events: EventSender) -> io::Result<Self> {
        let (asked, asks) = channel();
        thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            while asks.recv().is_ok() {
                let answer = name.resolve();
                // Questions that have come meanwhile are the same one.
                while asks.try_recv().is_ok() {}
                if !events.send(ConsoleEvent::Resolved(answer)) {
                    return;
                }
            }
        })?;
        Ok(Self { asked })
    }

    /// Asks for the addresses.
    pub fn request(&self) {
        // The thread ends only when nobody can be told any more.
        let _ = self.asked.send(());
    }
}
