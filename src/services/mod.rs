//! The services, one file each, and the table from which the command line, the index page and the tests take them.
//!
//! Must not know: sockets, mio, any clock.

mod chat;
mod chat_hub;
mod chat_raw;

mod discard;
mod echo;
mod echo_udp;
mod http;
mod idle;
mod index;
mod print_udp;
mod relay;
mod settings;
mod time;

use std::time::Duration;

pub use chat::Chat;
pub use chat_hub::chat_hub;
pub use chat_raw::chat_raw;
pub use discard::Discard;
pub use echo::Echo;
pub use echo_udp::EchoUdp;
pub use http::Http;
pub use idle::Idle;
pub use print_udp::{Nowhere, PrintUdp, Sink};
pub use relay::{ChunkFn, Relay};
pub use settings::Settings;
pub use time::Time;

use crate::service::{DatagramService, Service};

/// The constructor of a service, and with it, the transport.
#[derive(Clone, Copy, Debug)]
pub enum Make {
    /// Makes a service on TCP.
    Tcp(fn(&Settings) -> Box<dyn Service>),
    /// Makes a service on UDP.
    Udp(fn(&Settings) -> Box<dyn DatagramService>),
}

impl Make {
    /// Returns `tcp` or `udp`.
    pub const fn transport(self) -> &'static str {
        match self {
            Make::Tcp(_) => "tcp",
            Make::Udp(_) => "udp",
        }
    }
}

/// A service that `reactor serve` offers.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The name on the command line.
    pub name: &'static str,
    /// The default port.
    pub port: u16,
    /// A description in one line.
    pub about: &'static str,
    /// The constructor.
    pub make: Make,
    /// The default idle timeout; zero is none.
    pub idle_timeout: Duration,
    /// A connection's input goes to other connections, each with its own bound for it.
    pub broadcasts: bool,
    /// The default write timeout; zero is none.
    pub write_timeout: Duration,
    /// The idle timeout concerns connections that wait for their next request.
    pub keeps_alive: bool,
}

impl Entry {
    const fn new(name: &'static str, port: u16, make: Make, about: &'static str) -> Self {
        let (idle_timeout, write_timeout) = (Duration::ZERO, Duration::ZERO);
        Self { name, port, about, make, idle_timeout, write_timeout, keeps_alive: false, broadcasts: false }
    }

    const fn broadcasting(self) -> Self {
        Self { broadcasts: true, ..self }
    }
}

/// Every service, in the order in which they are started and listed.
pub const SERVICES: &[Entry] = &[
    Entry::new("echo", 7007, Make::Tcp(|_| Box::new(Echo)), "RFC 862: bytes come back"),
    Entry::new("echo-udp", 7007, Make::Udp(|_| Box::new(EchoUdp)), "RFC 862: each datagram comes back"),
    Entry::new(
        "print-udp",
        7015,
        Make::Udp(|with| Box::new(PrintUdp::new((with.print_to)()))),
        "prints each datagram, answers nothing",
    ),
    Entry::new("discard", 7009, Make::Tcp(|_| Box::new(Discard)), "RFC 863: discards every byte, sends nothing"),
    Entry::new(
        "time",
        7013,
        Make::Tcp(|with| Box::new(Time::new((with.local_time)()))),
        "sends the local time, then closes",
    ),
    Entry {
        idle_timeout: Duration::from_secs(3),
        ..Entry::new("idle", 7014, Make::Tcp(|_| Box::new(Idle)), "every byte renews the timeout; then: goodbye")
    },
    Entry::new("chat", 8000, Make::Tcp(|with| Box::new(Chat::new(with.max_line))), "lines, to every member")
        .broadcasting(),
    Entry::new("chat-raw", 8001, Make::Tcp(|_| Box::new(chat_raw())), "bytes, to every member").broadcasting(),
    Entry::new("chat-hub", 8002, Make::Tcp(|_| Box::new(chat_hub())), "whole reads, to every member").broadcasting(),
    // nginx keeps a connection for 75 s (keepalive_timeout), and waits 60 s for a slow reader (send_timeout).
    Entry {
        idle_timeout: Duration::from_secs(75),
        write_timeout: Duration::from_secs(60),
        keeps_alive: true,
        ..Entry::new(
            "http",
            8080,
            Make::Tcp(|with| Box::new(Http::new(with, index_page()))),
            "HTTP/1.1: /time, /headers, /echo",
        )
    },
];

/// Returns the page at `/` of the http service.
fn index_page() -> String {
    index::page(SERVICES.iter().map(|&Entry { name, port, about, make, .. }| index::Row {
        name,
        transport: make.transport(),
        port,
        about,
    }))
}

/// Returns the service called `name`.
pub fn find(name: &str) -> Option<&'static Entry> {
    SERVICES.iter().find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_unique() {
        for (n, entry) in SERVICES.iter().enumerate() {
            assert_eq!(find(entry.name).map(|found| found.port), Some(entry.port));
            for other in &SERVICES[n + 1..] {
                assert_ne!(entry.name, other.name);
                assert_ne!((entry.port, entry.make.transport()), (other.port, other.make.transport()));
            }
        }
    }
}
