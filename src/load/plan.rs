//! The load that a run puts on a server.
//!
//! Owns: [`Plan`], [`Kind`], and the bounds of a plan ([`PlanError`]). Must not know: connections, the reactor, the command
//! line.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV6};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::plot;
use super::protocol::{chat, http, udp};
use super::report::count;
use crate::addr::Addr;

/// The service that a run measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// Messages over TCP that the server returns (RFC 862).
    Echo,
    /// Datagrams that the server returns (RFC 862).
    EchoUdp,
    /// A connection for each request, on which the server sends the time (RFC 867).
    Time,
    /// Lines that the server sends to every member of a room.
    Chat,
    /// Requests of HTTP/1.1 (RFC 9112).
    Http,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 5] = [Kind::Echo, Kind::EchoUdp, Kind::Time, Kind::Chat, Kind::Http];

    /// Returns the name of the service.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Echo => "echo",
            Kind::EchoUdp => "echo-udp",
            Kind::Time => "time",
            Kind::Chat => "chat",
            Kind::Http => "http",
        }
    }

    /// Returns true if [`Plan::size`] applies.
    pub const fn has_size(self) -> bool {
        matches!(self, Kind::Echo | Kind::EchoUdp | Kind::Chat)
    }

    /// Returns true if [`Plan::pipeline`] applies.
    pub const fn has_pipeline(self) -> bool {
        !matches!(self, Kind::Time)
    }

    /// Returns the sizes of a message in bytes.
    fn sizes(self) -> RangeInclusive<usize> {
        match self {
            Kind::Echo => 1..=1 << 28,
            Kind::EchoUdp => udp::SIZES,
            Kind::Chat => chat::SIZES,
            Kind::Time | Kind::Http => 0..=usize::MAX,
        }
    }
}

/// The load that a run puts on a server.
///
/// ```
/// use reactor::load::{Kind, Plan};
///
/// let mut plan = Plan::new(Kind::Echo, ([127, 0, 0, 1], 7007));
/// plan.connections = 10;
/// assert_eq!(plan.check(), Ok(()));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The service.
    pub kind: Kind,
    /// The address of the server.
    pub to: Addr,
    /// Further addresses of the server. They are tried in turn if `to` cannot be reached; the run then measures the first
    /// that can.
    pub fallbacks: Vec<Addr>,
    /// Concurrent connections, or sockets.
    pub connections: usize,
    /// Bytes of a message.
    pub size: usize,
    /// The maximum of requests in flight on each connection.
    pub pipeline: usize,
    /// The length of the window. Zero lets the run last until the reactor is stopped.
    pub duration: Duration,
    /// Requests per second of an open loop; `None` for a closed loop.
    pub rate: Option<u64>,
    /// Chat: the number of connections that send lines.
    pub speakers: usize,
    /// HTTP: the `Host` field.
    pub host: String,
    /// HTTP: the target of the requests.
    pub path: String,
}

impl Plan {
    /// A closed loop of three seconds with 50 connections, one message of 64 bytes in flight on each, and one speaker.
    pub fn new(kind: Kind, to: impl Into<Addr>) -> Self {
        let to = to.into();
        Self {
            kind,
            host: host(&to),
            to,
            fallbacks: Vec::new(),
            connections: 50,
            size: 64,
            pipeline: 1,
            duration: Duration::from_secs(3),
            rate: None,
            speakers: 1,
            path: "/time".to_owned(),
        }
    }

    /// Checks the bounds of the plan.
    ///
    /// # Errors
    /// The bound that the plan exceeds.
    pub fn check(&self) -> Result<(), PlanError> {
        let sizes = self.kind.sizes();
        if !sizes.contains(&self.size) {
            return Err(PlanError::Size { kind: self.kind, sizes });
        }
        if self.kind == Kind::EchoUdp && [&self.to].into_iter().chain(&self.fallbacks).any(Addr::is_unix) {
            return Err(PlanError::Transport { kind: self.kind });
        }
        if self.connections == 0 || self.pipeline == 0 || self.rate == Some(0) {
            return Err(PlanError::Empty);
        }
        let most = self.connections.min(chat::SPEAKERS);
        if self.kind == Kind::Chat && !(1..=most).contains(&self.speakers) {
            return Err(PlanError::Speakers { connections: self.connections, most });
        }
        match self.memory() {
            Some(bytes) if bytes <= MEMORY => Ok(()),
            _ => Err(PlanError::Memory { load: self.describe(), most: MEMORY }),
        }
    }

    /// Describes the requests in flight.
    fn describe(&self) -> String {
        let count = |n: usize, noun| count(n as u64, noun);
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

    /// Returns the memory in bytes that requests in flight may take in this process; `None` on overflow.
    fn memory(&self) -> Option<usize> {
        let message = match self.kind {
            Kind::Echo | Kind::EchoUdp | Kind::Chat => self.size,
            Kind::Http => http::request(self).len(),
            Kind::Time => 0,
        };
        let in_flight = message.checked_add(SLOT)?.checked_mul(self.pipeline)?;
        // Each member of a chat keeps the number of the last line of each speaker.
        let received = if self.kind == Kind::Chat { self.speakers.checked_mul(size_of::<u32>())? } else { 0 };
        in_flight.checked_add(received)?.checked_mul(self.connections)
    }
}

/// Returns `addr` as a `Host` field. The zone of an IPv6 address belongs to this host alone (RFC 6874, section 4). A path
/// cannot be a host, so a Unix socket is `localhost`, as in curl.
fn host(addr: &Addr) -> String {
    match addr {
        Addr::Ip(SocketAddr::V6(addr)) => SocketAddrV6::new(*addr.ip(), addr.port(), 0, 0).to_string(),
        Addr::Ip(SocketAddr::V4(addr)) => addr.to_string(),
        Addr::Unix(_) => "localhost".to_owned(),
    }
}

/// The maximum of memory for requests in flight, in bytes. Besides this process, the kernel and the server hold what has
/// been sent and not been read.
const MEMORY: usize = 1 << 30;

/// The memory of a request besides its bytes: its due instant and its slot, in queues that may be half empty.
const SLOT: usize = 32;

/// The bound that a [`Plan`] exceeds.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PlanError {
    /// Messages of `kind` cannot have this size.
    #[non_exhaustive]
    Size {
        /// The service.
        kind: Kind,
        /// The possible sizes in bytes.
        sizes: RangeInclusive<usize>,
    },
    /// The service is one of datagrams, and the address that of a Unix socket for streams.
    #[non_exhaustive]
    Transport {
        /// The service.
        kind: Kind,
    },
    /// The number of connections, the pipeline or the rate is zero.
    Empty,
    /// The number of speakers is zero or too high.
    #[non_exhaustive]
    Speakers {
        /// Connections of the plan.
        connections: usize,
        /// The maximum of speakers.
        most: usize,
    },
    /// The requests in flight need too much memory.
    #[non_exhaustive]
    Memory {
        /// The requests in flight, in words.
        load: String,
        /// The maximum of memory in bytes.
        most: usize,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::Size { kind, sizes } => {
                let (from, to) = (sizes.start(), sizes.end());
                write!(f, "the size of {} messages is from {from} to {to} bytes", kind.name())
            }
            PlanError::Transport { kind } => write!(f, "{} goes over UDP, and not over a Unix socket", kind.name()),
            PlanError::Empty => {
                f.write_str("without a connection, a request under way or a rate there is nothing to measure")
            }
            PlanError::Speakers { connections, most } => {
                write!(f, "of {connections} connections from 1 to {most} can speak")
            }
            PlanError::Memory { load, most } => {
                write!(f, "{load} need more than {} of memory", plot::bytes(*most as f64))
            }
        }
    }
}

impl std::error::Error for PlanError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_field_has_no_zone() {
        let host = |addr: &str| Plan::new(Kind::Http, addr.parse::<Addr>().unwrap()).host;
        assert_eq!(
            ["[fe80::1%7]:80", "[::1]:81", "127.0.0.1:82", "unix:/x"].map(host),
            ["[fe80::1]:80", "[::1]:81", "127.0.0.1:82", "localhost"]
        );
    }

    #[test]
    fn each_bound_has_its_error() {
        let plan = |change: fn(&mut Plan)| {
            let mut plan = Plan::new(Kind::Chat, ([127, 0, 0, 1], 7));
            change(&mut plan);
            plan.check().map_err(|error| error.to_string())
        };
        assert_eq!(plan(|_| {}), Ok(()));
        let errors = [
            plan(|plan| (plan.kind, plan.to) = (Kind::EchoUdp, Addr::unix("/x"))),
            plan(|plan| plan.size = 1),
            plan(|plan| plan.rate = Some(0)),
            plan(|plan| plan.speakers = 51),
            plan(|plan| plan.pipeline = 1 << 30),
            plan(|plan| plan.pipeline = usize::MAX),
        ];
        let texts = [
            "over UDP, and not",
            "the size of chat",
            "nothing to measure",
            "from 1 to 50",
            "need more than 1 GiB",
            "need more than",
        ];
        for (error, text) in errors.into_iter().zip(texts) {
            assert!(error.as_ref().is_err_and(|error| error.contains(text)), "{error:?} has not: {text}");
        }
    }
}
