//! How a peer is dialed: what Go's `net.Dialer` says.
//!
//! Owns: [`Dial`] and [`DialName`]. Must not know: how it is done.

use std::net::SocketAddr;

use crate::limits::Policy;
use crate::timer::Timeout;

/// The name that a service gives to one of its dials, to know it again in
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
/// let dial = Dial::to(([127, 0, 0, 1], 7007).into()).within(Duration::from_secs(3)).named(DialName(1));
/// assert_eq!(dial.to.port(), 7007);
/// ```
#[derive(Clone, Debug)]
pub struct Dial {
    /// Its name.
    pub name: DialName,
    /// The peer.
    pub to: SocketAddr,
    /// The local address, if it matters (bind(2)); port 0 lets the kernel choose one.
    pub from: Option<SocketAddr>,
    /// How long it may take; off leaves it to the kernel (about two minutes on Linux).
    pub timeout: Timeout,
    /// The bounds and timeouts of the connection.
    pub policy: Policy,
}

impl Dial {
    /// A dial without a name, a local address or a timeout.
    pub fn to(peer: SocketAddr) -> Self {
        Self { name: DialName(0), to: peer, from: None, timeout: Timeout::OFF, policy: Policy::default() }
    }

    /// Gives it a name.
    #[must_use]
    pub fn named(self, name: DialName) -> Self {
        Self { name, ..self }
    }

    /// Dials from this local address.
    #[must_use]
    pub fn from(self, local: SocketAddr) -> Self {
        Self { from: Some(local), ..self }
    }

    /// Lets it take so long; a duration of zero leaves it to the kernel.
    #[must_use]
    pub fn within(self, timeout: impl Into<Timeout>) -> Self {
        Self { timeout: timeout.into(), ..self }
    }

    /// Gives the connection these bounds and timeouts.
    #[must_use]
    pub fn with(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }
}
