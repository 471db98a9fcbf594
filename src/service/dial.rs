//! The parameters of a dial, as those of Go's `net.Dialer`.
//!
//! Owns: [`Dial`] and [`DialName`]. Must not know: sockets.

use std::net::SocketAddr;

use crate::addr::Addr;
use crate::limits::Policy;
use crate::timer::Timeout;

/// The name that a service gives to one of its dials, to recognize it in
/// [`Service::on_dialed`](super::Service::on_dialed) and [`Service::on_dial_error`](super::Service::on_dial_error).
/// Names need not be unique.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct DialName(pub u64);

/// One dial.
///
/// ```
/// use std::time::Duration;
/// use reactor::service::{Dial, DialName};
///
/// let dial = Dial::to(([127, 0, 0, 1], 7007)).within(Duration::from_secs(3)).named(DialName(1));
/// assert_eq!(dial.to.to_string(), "127.0.0.1:7007");
/// ```
#[derive(Clone, Debug)]
pub struct Dial {
    /// The name of the dial.
    pub name: DialName,
    /// The peer.
    pub to: Addr,
    /// The local address, if given (bind(2)). Port 0 lets the kernel choose the port. Without effect on a Unix socket.
    pub from: Option<SocketAddr>,
    /// The dial timeout; off leaves it to the kernel (about two minutes on Linux).
    pub timeout: Timeout,
    /// The bounds and timeouts of the connection.
    pub policy: Policy,
}

impl Dial {
    /// Returns a dial without a name, a local address or a timeout.
    pub fn to(peer: impl Into<Addr>) -> Self {
        Self { name: DialName(0), to: peer.into(), from: None, timeout: Timeout::OFF, policy: Policy::default() }
    }

    /// Sets the name.
    #[must_use]
    pub fn named(self, name: DialName) -> Self {
        Self { name, ..self }
    }

    /// Sets the local address.
    #[must_use]
    pub fn from(self, local: SocketAddr) -> Self {
        Self { from: Some(local), ..self }
    }

    /// Sets the dial timeout. Zero leaves it to the kernel.
    #[must_use]
    pub fn within(self, timeout: impl Into<Timeout>) -> Self {
        Self { timeout: timeout.into(), ..self }
    }

    /// Sets the bounds and timeouts of the connection.
    #[must_use]
    pub fn with(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }
}
