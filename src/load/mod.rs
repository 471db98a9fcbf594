//! The load generator: clients of the services, on the same reactor, that measure.
//!
//! Owns: what a run is ([`Load`]) and how it goes ([`run`]). Must not know: the command line, the terminal.
//!
//! ```text
//!     conductor      watches the run and ends it; the only one who stops the reactor
//!     run            what all clients share: the clock, the window, the account of the requests
//!     stream         connections that stay open and answer: pacing, closing (dialing: which are to be dialed, and when)
//!     talk           what is said on them, as bytes:
//!       ├ echo
//!       ├ chat
//!       └ http         (response: where an answer ends)
//!     time           a connection per request
//!     echo_udp       a socket per client
//!     schedule           when requests are due          stats    what is counted
//!     pattern        bytes that can be checked      report   what it comes to, in words and JSON
//!     plot           lines on a plane, as SVG
//! ```
//!
//! How latency is measured: a clock of the run is read when the reactor hands over what has arrived (once per read, not
//! once per turn: a turn may hold fifty exchanges, and the last must not pass for as early as the first). A request's
//! latency counts from the reading after which it was handed to the reactor, which writes it as soon as the callback has
//! returned, or from the moment at which it was due ([`Schedule`]). It ends with the reading after which its answer was taken
//! apart. What lies between is the kernel's, the server's, and this process's own queue, as any client would see it.

mod connection;
pub mod plot;
mod progress;
mod protocol;
mod report;
mod run;
mod schedule;
mod stats;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

pub use self::progress::Progress;
pub use self::report::{End, Report};
pub use self::run::PREPARATION;
pub use self::schedule::Schedule;
pub use self::stats::{Deliveries, Stats};

use self::connection::Stream;
use self::progress::Conductor;
use self::protocol::{chat, echo, http, time, udp};
use self::run::Run;
use crate::reactor::{ListenOptions, Reactor};
use crate::service::{CloseReason, Service};

/// What is asked of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Messages on TCP that come back.
    Echo,
    /// Datagrams that come back.
    EchoUdp,
    /// Connections, each of which is told the time.
    Time,
    /// Lines that everybody hears.
    Chat,
    /// Requests of HTTP/1.1.
    Http,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 5] = [Kind::Echo, Kind::EchoUdp, Kind::Time, Kind::Chat, Kind::Http];

    /// The name of the service that it is for.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Echo => "echo",
            Kind::EchoUdp => "echo-udp",
            Kind::Time => "time",
            Kind::Chat => "chat",
            Kind::Http => "http",
        }
    }

    /// Whether messages have a size that one may choose.
    pub const fn has_size(self) -> bool {
        matches!(self, Kind::Echo | Kind::EchoUdp | Kind::Chat)
    }

    /// Whether several requests may be under way on one connection.
    pub const fn has_pipeline(self) -> bool {
        !matches!(self, Kind::Time)
    }
}

/// A run.
#[derive(Clone, Debug)]
pub struct Load {
    /// What is asked.
    pub kind: Kind,
    /// Whom.
    pub to: SocketAddr,
    /// Connections, or sockets, at a time.
    pub connections: usize,
    /// Bytes of a message.
    pub size: usize,
    /// Requests under way on each connection, at most.
    pub pipeline: usize,
    /// How long; zero until somebody stops the reactor.
    pub duration: Duration,
    /// Requests per second that are due whatever the server does; `None` for as fast as it answers.
    pub rate: Option<u64>,
    /// Chat: how many of the connections speak.
    pub speakers: usize,
    /// HTTP: the `Host` field.
    pub host: String,
    /// HTTP: the target.
    pub path: String,
}

impl Load {
    /// A run of three seconds with 50 connections, one message of 64 bytes under way on each, and one speaker.
    pub fn new(kind: Kind, to: SocketAddr) -> Self {
        Self {
            kind,
            to,
            connections: 50,
            size: 64,
            pipeline: 1,
            duration: Duration::from_secs(3),
            rate: None,
            speakers: 1,
            host: to.to_string(),
            path: "/time".to_owned(),
        }
    }

    /// Checks that it can be done.
    ///
    /// # Errors
    /// What is asked that cannot be.
    pub fn check(&self) -> Result<(), String> {
        let kind = self.kind.name();
        let sizes = match self.kind {
            Kind::Echo => 1..=1 << 28,
            Kind::EchoUdp => udp::SIZES,
            Kind::Chat => chat::SIZES,
            Kind::Time | Kind::Http => 0..=usize::MAX,
        };
        if !sizes.contains(&self.size) {
            return Err(format!("the size of {kind} messages is from {} to {} bytes", sizes.start(), sizes.end()));
        }
        if self.connections == 0 || self.pipeline == 0 || self.rate == Some(0) {
            return Err("without a connection, a request under way or a rate there is nothing to measure".to_owned());
        }
        if self.kind == Kind::Chat && !(1..=self.connections.min(chat::SPEAKERS)).contains(&self.speakers) {
            return Err(format!(
                "of {} connections from 1 to {} can speak",
                self.connections,
                self.connections.min(chat::SPEAKERS)
            ));
        }
        match self.memory() {
            Some(bytes) if bytes <= MEMORY => Ok(()),
            _ => Err(format!("{} need more than {} of memory", self.in_words(), plot::bytes(MEMORY as f64))),
        }
    }

    /// What would be under way.
    fn in_words(&self) -> String {
        let count = |n: usize, noun| report::count(n as u64, noun);
        let speakers = match self.kind {
            Kind::Chat => format!(" and {}", count(self.speakers, "speaker")),
            _ => String::new(),
        };
        let requests = match self.kind.has_size() {
            true => format!("{} of {}", count(self.pipeline, "message"), count(self.size, "byte")),
            false => count(self.pipeline, "request"),
        };
        format!("{}{speakers} with {requests} under way on each", count(self.connections, "connection"))
    }

    /// Bytes of memory that what is under way may take in this process; `None` if that is beyond counting.
    fn memory(&self) -> Option<usize> {
        let message = match self.kind {
            Kind::Echo | Kind::EchoUdp | Kind::Chat => self.size,
            Kind::Http => self.host.len() + self.path.len() + REQUEST,
            Kind::Time => 0,
        };
        let under_way = message.checked_add(SLOT)?.checked_mul(self.pipeline)?;
        // Each member of a chat keeps the last line of each speaker.
        let heard = if self.kind == Kind::Chat { self.speakers.checked_mul(size_of::<u32>())? } else { 0 };
        under_way.checked_add(heard)?.checked_mul(self.connections)
    }
}

/// More than this is not kept under way: what has been sent and not been read is held here, in the kernel, and by the
/// server.
const MEMORY: usize = 1 << 30;

/// What a request takes beside its bytes: when it was due, and its slot, in queues that may be half empty.
const SLOT: usize = 32;

/// A request of HTTP without its host and path.
const REQUEST: usize = 64;

/// Why a run came to nothing.
#[derive(Debug)]
pub enum Failure {
    /// The event loop could not be made or has failed.
    Reactor(io::Error),
    /// Nobody could be reached; the last reason of several.
    Unreachable(CloseReason),
    /// Connections were made, and then not served; why.
    NotServed(String),
    /// The user has ended it before it began.
    Interrupted {
        /// How many connections were served then.
        served: usize,
        /// How many there should have been.
        of: usize,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Reactor(error) => write!(f, "cannot run an event loop: {error}"),
            Failure::Unreachable(CloseReason::Unreachable(errno)) => write!(f, "cannot connect: {errno}"),
            Failure::Unreachable(reason) => write!(f, "cannot connect: {reason}"),
            Failure::NotServed(why) => write!(f, "connected, but not served: {why}"),
            Failure::Interrupted { served, of } => {
                write!(f, "interrupted when {served} of {of} connections were served")
            }
        }
    }
}

/// Runs `load` and reports. `watch` is told how it goes, ten times a second, from the first connection on. A first SIGINT or SIGTERM ends it early.
///
/// # Errors
/// If nothing could be measured, why.
pub fn run(load: &Load, watch: impl FnMut(&Progress) + 'static) -> Result<Report, Failure> {
    allow_descriptors();
    let mut reactor = Reactor::new().map_err(Failure::Reactor)?;
    reactor.handle_signals().map_err(Failure::Reactor)?;
    let run = Rc::new(RefCell::new(Run::new(load)));
    let service: Option<Box<dyn Service>> = match load.kind {
        Kind::Echo => Some(Box::new(Stream::new(load, &run, echo::Echo::new(load)))),
        Kind::Chat => Some(Box::new(Stream::new(load, &run, chat::Chat::new(load)))),
        Kind::Http => Some(Box::new(Stream::new(load, &run, http::Http::new(load)))),
        Kind::Time => Some(Box::new(time::Time::new(load, &run))),
        Kind::EchoUdp => None,
    };
    match service {
        Some(service) => drop(reactor.add_service(load.kind.name(), service)),
        None => {
            for client in udp::clients(load, &run) {
                let options = ListenOptions::default();
                let added = reactor.connect_datagram("echo-udp", Box::new(client), load.to, None, &options);
                added.map_err(|error| Failure::Unreachable(CloseReason::Unreachable(error.into())))?;
            }
        }
    }
    reactor.add_service("conductor", Box::new(Conductor::new(&run, watch)));
    reactor.run().map_err(Failure::Reactor)?;
    // The services go with the reactor: what they have counted is all there then.
    drop(reactor);
    run.borrow_mut().report(load)
}

/// Allows this process, and those that it starts, as many descriptors as they may have: the usual soft limit is 1,024. If it
/// cannot be raised the dials past it will fail, and say so.
pub fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
