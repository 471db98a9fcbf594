//! The services, one file each, and the list that the command line, the README and the tests are made from.
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

/// How a service is made, and by that, what it runs on.
#[derive(Clone, Copy, Debug)]
pub enum Make {
    /// A service on TCP.
    Tcp(fn(&Settings) -> Box<dyn Service>),
    /// A service on UDP.
    Udp(fn(&Settings) -> Box<dyn DatagramService>),
}

impl Make {
    /// `tcp` or `udp`.
    pub const fn transport(self) -> &'static str {
        match self {
            Make::Tcp(_) => "tcp",
            Make::Udp(_) => "udp",
        }
    }
}

/// A service that `reactor serve` offers.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its port unless another is given.
    pub port: u16,
    /// What it does, in one line.
    pub about: &'static str,
    /// How to make it.
    pub make: Make,
    /// Its idle timeout unless another is given; zero is none.
    pub idle_timeout: Duration,
    /// Whether what one connection sends goes to others, each of which has a bound of its own for that.
    pub broadcasts: bool,
    /// Its write timeout unless another is given; zero is none.
    pub write_timeout: Duration,
    /// Whether its idle timeout is about connections that are kept for the next request.
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
    Entry::new("echo-udp", 7007, Make::Udp(|_| Box::new(EchoUdp)), "RFC 862: one datagram in, the same out"),
    Entry::new(
        "print-udp",
        7015,
        Make::Udp(|with| Box::new(PrintUdp::new((with.print_to)()))),
        "prints what it gets, answers nothing",
    ),
    Entry::new("discard", 7009, Make::Tcp(|_| Box::new(Discard)), "RFC 863: takes everything, says nothing"),
    Entry::new(
        "time",
        7013,
        Make::Tcp(|with| Box::new(Time::new((with.local_time)()))),
        "sends the local time, then closes",
    ),
    Entry {
        idle_timeout: Duration::from_secs(3),
        ..Entry::new("idle", 7014, Make::Tcp(|_| Box::new(Idle)), "every byte buys time; then: goodbye")
    },
    Entry::new("chat", 8000, Make::Tcp(|with| Box::new(Chat::new(with.max_line))), "lines, passed on to everybody")
        .broadcasting(),
    Entry::new("chat-raw", 8001, Make::Tcp(|_| Box::new(chat_raw())), "bytes, passed on to everybody").broadcasting(),
    Entry::new("chat-hub", 8002, Make::Tcp(|_| Box::new(chat_hub())), "pieces as read, passed on to everybody")
        .broadcasting(),
    // As long as nginx keeps a connection, and as long as it waits for a slow reader.
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

/// The page of the http service that lists them all.
fn index_page() -> String {
    index::page(SERVICES.iter().map(|&Entry { name, port, about, make, .. }| index::Row {
        name,
        transport: make.transport(),
        port,
        about,
    }))
}

/// The service called `name`.
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
