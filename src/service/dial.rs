//! The parameters of a dial, as those of Go's `net.Dialer`.
//!
//! Owns: [`Dial`]. Must not know: sockets.

use std::net::SocketAddr;

use super::directory::ConnectionFacts;
use crate::addr::Addr;
use crate::limits::Policy;
use crate::timer::Timeout;

/// One dial.
///
/// ```
/// use std::time::Duration;
/// use reactor::service::Dial;
///
/// let dial = Dial::to(([127, 0, 0, 1], 7007)).within(Duration::from_secs(3));
/// assert_eq!(dial.to.to_string(), "127.0.0.1:7007");
/// ```
#[derive(Clone, Debug)]
pub struct Dial {
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
    /// Returns a dial without a local address or a timeout.
    pub fn to(peer: impl Into<Addr>) -> Self {
        Self { to: peer.into(), from: None, timeout: Timeout::OFF, policy: Policy::default() }
    }

    /// Returns the facts about the connection while it is being dialed.
    pub(crate) fn facts(&self) -> ConnectionFacts {
        let local = self.from.map_or_else(|| self.to.unspecified(), Addr::from);
        ConnectionFacts::new(self.to.clone(), local, self.policy.high_water)
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
