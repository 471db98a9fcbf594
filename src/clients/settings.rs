//! The settings of the clients: timeouts, heartbeat, reconnection, and the route to the peer.
//!
//! Owns: [`Settings`], [`Route`] and [`LocalAddr`]. Must not know: any state of a client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use log::info;

use super::{Backoff, ClientError};
use crate::addr::Addr;

/// The behaviour of a client, whatever its transport.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The peer's name in messages.
    pub peer: String,
    /// The time without a byte from the peer, or without an answer to a datagram, that is a failure; zero is off.
    pub read_timeout: Duration,
    /// The time without progress of queued output that is a failure; zero is off.
    pub write_timeout: Duration,
    /// The silence after which [`heartbeat_text`](Self::heartbeat_text) is sent; zero is off.
    pub heartbeat: Duration,
    /// The bytes of a heartbeat.
    pub heartbeat_text: Vec<u8>,
    /// The waits between attempts; `None` makes the first loss final. A datagram client reconnects after a refusal, a
    /// missing answer or a missed heartbeat.
    pub reconnect: Option<Backoff>,
}

impl Settings {
    /// Settings for `peer` without timeouts, heartbeats or reconnection.
    pub fn new(peer: impl Into<String>) -> Self {
        Self {
            peer: peer.into(),
            read_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            heartbeat: Duration::ZERO,
            heartbeat_text: b"ping\n".to_vec(),
            reconnect: None,
        }
    }

    /// Counts a failed attempt or a loss. Returns the wait before the next attempt, which is logged.
    ///
    /// # Errors
    /// `failure`, if there is no next attempt.
    pub(super) fn next_attempt(&mut self, failure: ClientError) -> Result<Duration, ClientError> {
        let Some(backoff) = &mut self.reconnect else { return Err(failure) };
        match backoff.failed() {
            Some(wait) => {
                let millis = Duration::from_millis(wait.as_millis() as u64);
                info!("{failure}; reconnecting in {millis:?} (attempt {})", backoff.failures());
                Ok(wait)
            }
            None => Err(failure.after_attempts(backoff.failures())),
        }
    }

    /// Starts the back-off anew: the peer has proved that it is there.
    pub(super) fn note_success(&mut self) {
        if let Some(backoff) = &mut self.reconnect {
            backoff.succeeded();
        }
    }
}

/// The route to a peer.
#[derive(Clone, Debug)]
pub struct Route {
    /// The peer's addresses, tried in this order. A datagram client leaves out Unix sockets. `None` makes the client resolve the peer's name before each attempt
    /// ([`Console::resolve`](super::Console::resolve)).
    pub addrs: Option<Vec<Addr>>,
    /// The local address; `None` lets the kernel choose.
    pub from: Option<LocalAddr>,
    /// The time for an attempt, resolving the name included; zero leaves it to the kernel.
    pub dial_timeout: Duration,
}

/// A local address to connect from. Its address family may depend on the peer's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LocalAddr {
    /// Any interface, with this port.
    AnyInterface(u16),
    /// The loopback interface, with this port.
    Loopback(u16),
    /// This address.
    Addr(SocketAddr),
}

impl LocalAddr {
    /// The address to bind for a connection to `peer`; `None` if the two address families differ.
    pub fn towards(self, peer: SocketAddr) -> Option<SocketAddr> {
        let of_family = |four: Ipv4Addr, six: Ipv6Addr| if peer.is_ipv4() { IpAddr::from(four) } else { six.into() };
        match self {
            LocalAddr::AnyInterface(port) => {
                Some((of_family(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED), port).into())
            }
            LocalAddr::Loopback(port) => Some((of_family(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST), port).into()),
            LocalAddr::Addr(addr) => (addr.is_ipv4() == peer.is_ipv4()).then_some(addr),
        }
    }
}

impl From<SocketAddr> for LocalAddr {
    fn from(addr: SocketAddr) -> Self {
        LocalAddr::Addr(addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_address_has_the_family_of_the_peer() {
        let [four, six]: [SocketAddr; 2] = ["127.0.0.1:9", "[::1]:9"].map(|addr| addr.parse().unwrap());
        let cases = [
            (LocalAddr::AnyInterface(5), four, Some("0.0.0.0:5")),
            (LocalAddr::AnyInterface(5), six, Some("[::]:5")),
            (LocalAddr::Loopback(5), four, Some("127.0.0.1:5")),
            (LocalAddr::Loopback(5), six, Some("[::1]:5")),
            (four.into(), four, Some("127.0.0.1:9")),
            (four.into(), six, None),
        ];
        for (local, peer, expected) in cases {
            let expected = expected.map(|addr| addr.parse::<SocketAddr>().unwrap());
            assert_eq!(local.towards(peer), expected, "{local:?} {peer}");
        }
    }
}
