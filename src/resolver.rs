//! A host name and a port, and the one place where a name becomes addresses.
//!
//! Owns: [`HostPort`] with its text, [`ParseHostPortError`] and [`ResolveError`]. Must not know: threads, loops.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// A host name and a port.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HostPort {
    /// The name.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// The addresses, if they are known without a query: `localhost` is always this host, `::1` first (RFC 6761,
    /// section 6.3).
    pub fn known(&self) -> Option<Vec<SocketAddr>> {
        self.host
            .eq_ignore_ascii_case("localhost")
            .then(|| vec![(Ipv6Addr::LOCALHOST, self.port).into(), (Ipv4Addr::LOCALHOST, self.port).into()])
    }

    /// Resolves the name to at least one address, in the order of getaddrinfo(3), without duplicates.
    ///
    /// The call blocks: a name server that does not answer takes many seconds. A service resolves on a
    /// thread of the reactor ([`Poster::resolve`](crate::reactor::Poster::resolve)).
    ///
    /// # Errors
    /// [`ResolveError`] with the cause of getaddrinfo(3).
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, ResolveError> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let failed = |cause: &str| ResolveError::new(&self.host, cause);
        let found = (self.host.as_str(), self.port).to_socket_addrs().map_err(|error| {
            // std puts "failed to lookup address information: " before the text of gai_strerror(3).
            let text = error.to_string();
            failed(text.rsplit(": ").next().unwrap_or(&text))
        })?;
        let mut addrs = Vec::new();
        for addr in found {
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        if addrs.is_empty() { Err(failed("no address")) } else { Ok(addrs) }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for HostPort {
    type Err = ParseHostPortError;

    /// Parses a name and a port, such as `localhost:7`. The host may be an IPv4 address. An IPv6 address is an error,
    /// because [`Addr`](crate::addr::Addr) parses it.
    fn from_str(text: &str) -> Result<Self, ParseHostPortError> {
        let (host, port) = text.split_once(':').ok_or(ParseHostPortError)?;
        // The parser of std would take a sign, too.
        if host.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ParseHostPortError);
        }
        let port = port.parse().map_err(|_| ParseHostPortError)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

/// The text is no [`HostPort`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseHostPortError;

impl fmt::Display for ParseHostPortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a host and its port are NAME:PORT")
    }
}

impl std::error::Error for ParseHostPortError {}

/// The failure to resolve a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResolveError {
    host: String,
    cause: String,
}

impl ResolveError {
    pub(crate) fn new(host: &str, cause: &str) -> Self {
        Self { host: host.to_owned(), cause: cause.to_owned() }
    }

    /// The name that was not resolved.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The resolver's text.
    pub fn cause(&self) -> &str {
        &self.cause
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot resolve {}: {}", self.host, self.cause)
    }
}

impl std::error::Error for ResolveError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_both_loopback_addresses_without_a_query() {
        let name = HostPort { host: "LocalHost".to_owned(), port: 7 };
        let both = ["[::1]:7", "127.0.0.1:7"].map(|addr| addr.parse().unwrap()).to_vec();
        assert_eq!(name.known(), Some(both.clone()));
        assert_eq!(name.resolve(), Ok(both));
        assert_eq!(name.to_string(), "LocalHost:7");
    }

    #[test]
    fn a_host_and_its_port_are_parsed_back() {
        for text in ["localhost:7", "example.org:65535", "127.0.0.1:0"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        for text in ["", "localhost", ":7", "localhost:", "localhost:+7", "localhost:65536", "::1:7", "[::1]:7"] {
            assert_eq!(text.parse::<HostPort>(), Err(ParseHostPortError), "{text:?}");
        }
    }

    #[test]
    fn an_error_names_the_host_and_the_cause() {
        let error = ResolveError::new("example.invalid", "Name or service not known");
        assert_eq!((error.host(), error.cause()), ("example.invalid", "Name or service not known"));
        assert_eq!(error.to_string(), "cannot resolve example.invalid: Name or service not known");
    }
}
