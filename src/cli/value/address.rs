//! The grammar of addresses on the command line.
//!
//! Owns: [`Address`], its grammar, and the errors of texts outside of it. Must not know: the use of an address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};

use reactor::addr::{Addr, ParseAddrError, UnixAddr};
use reactor::resolver::HostPort;

/// An address: `PORT`, `:PORT`, `HOST:PORT`, `[IPv6]:PORT` or `unix:PATH`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// Every interface, both families where there are two.
    Everywhere(u16),
    /// One address.
    At(SocketAddr),
    /// A name without an address so far.
    Named(String, u16),
    /// A Unix socket.
    Unix(UnixAddr),
}

impl Address {
    /// Returns the port; `None` for a Unix socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Everywhere(port) | Address::Named(_, port) => Some(*port),
            Address::At(addr) => Some(addr.port()),
            Address::Unix(_) => None,
        }
    }

    /// Returns the addresses of the peer, to be tried in turn: `resolve` looks a name up. Every interface means this host,
    /// as for Go's `net.Dial`.
    ///
    /// # Errors
    /// Those of `resolve`.
    pub fn resolve_peer<E>(
        &self,
        resolve: impl FnOnce(HostPort) -> Result<Vec<SocketAddr>, E>,
    ) -> Result<Vec<Addr>, E> {
        let local = |addr: SocketAddr| match addr.ip() {
            ip if !ip.is_unspecified() => addr.into(),
            IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, addr.port()).into(),
            IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, addr.port()).into(),
        };
        match self {
            Address::Everywhere(port) => Ok(vec![(Ipv4Addr::LOCALHOST, *port).into()]),
            Address::At(addr) => Ok(vec![local(*addr)]),
            Address::Named(host, port) => {
                let found = resolve(HostPort { host: host.clone(), port: *port })?;
                Ok(found.into_iter().map(local).collect())
            }
            Address::Unix(addr) => Ok(vec![addr.clone().into()]),
        }
    }

    /// Returns the possible addresses of a listener, the preferred one first.
    ///
    /// # Errors
    /// The reason why the name cannot be resolved.
    pub fn resolve(&self) -> Result<Vec<Addr>, String> {
        match self {
            // A host without IPv6 has no `[::]`, and the caller tries the next address then.
            Address::Everywhere(port) => {
                Ok(vec![(Ipv6Addr::UNSPECIFIED, *port).into(), (Ipv4Addr::UNSPECIFIED, *port).into()])
            }
            Address::At(addr) => Ok(vec![(*addr).into()]),
            Address::Named(host, port) => {
                let found = (host.as_str(), *port).to_socket_addrs();
                let mut found: Vec<_> = found.map_err(|error| format!("cannot resolve {host}: {error}"))?.collect();
                // IPv4 first, as for Go's net.Listen.
                found.sort_by_key(|addr| addr.is_ipv6());
                match found.first() {
                    Some(&addr) => Ok(vec![addr.into()]),
                    None => Err(format!("cannot resolve {host}: no address")),
                }
            }
            Address::Unix(addr) => Ok(vec![addr.clone().into()]),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Everywhere(port) => write!(f, ":{port}"),
            Address::At(addr) => write!(f, "{addr}"),
            Address::Named(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(addr) => write!(f, "unix:{addr}"),
        }
    }
}

/// Parses an [`Address`].
pub fn address(text: &str) -> Result<Address, String> {
    if let Some(name) = text.strip_prefix("unix:") {
        return unix(name).map(Address::Unix);
    }
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(format!("'{text}' is not a port: a number from 0 to 65535")),
    };
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Address::At((Ipv4Addr::LOCALHOST, port(text)?).into()));
    }
    let Some((host, tail)) = text.rsplit_once(':') else {
        return Err("an address is PORT, :PORT, HOST:PORT, [IPv6]:PORT or unix:PATH".to_owned());
    };
    let port = port(tail)?;
    if host.is_empty() {
        return Ok(Address::Everywhere(port));
    }
    if host.starts_with('[') {
        return bracketed(host, port);
    }
    if host.contains(':') {
        return Err(format!("an IPv6 address needs brackets: [{host}]:{port}"));
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(Address::At((ip, port).into()));
    }
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !host.bytes().all(name) || host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(format!("'{host}' is neither an IP address nor a host name"));
    }
    Ok(Address::Named(host.to_owned(), port))
}

/// Parses the name of a Unix socket after `unix:`: a path, `//` and an absolute path as in a URL, or `@` and an abstract
/// name.
fn unix(name: &str) -> Result<UnixAddr, String> {
    let name = match name.strip_prefix("//") {
        Some(path) if !path.starts_with('/') => return Err(format!("unix:// needs an absolute path: unix:///{path}")),
        Some(path) => path,
        None => name,
    };
    if name.ends_with('/') {
        return Err(format!("'{name}' is a directory, not a Unix socket"));
    }
    name.parse().map_err(|error: ParseAddrError| match name.len() > UnixAddr::MAX_LEN {
        true => format!("{error}, and this one {}", name.len()),
        false => error.to_string(),
    })
}

/// Parses `[IPv6]`, which may have a zone (RFC 4007 §11): `[fe80::1%eth0]` or `[fe80::1%2]`.
fn bracketed(host: &str, port: u16) -> Result<Address, String> {
    let wrong = || format!("'{host}' is not an IPv6 address in brackets");
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).ok_or_else(wrong)?;
    let (ip, zone) = inner.split_once('%').map_or((inner, None), |(ip, zone)| (ip, Some(zone)));
    let ip: Ipv6Addr = ip.parse().map_err(|_| wrong())?;
    let zone = zone.map_or(Ok(0), zone_index)?;
    Ok(Address::At(SocketAddrV6::new(ip, port, 0, zone).into()))
}

/// Returns the index of the interface that `zone` names.
fn zone_index(zone: &str) -> Result<u32, String> {
    let unknown = || format!("no network interface is called '{zone}'");
    if !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_digit()) {
        return zone.parse().map_err(|_| unknown());
    }
    // getaddrinfo(3) knows the names of interfaces, as zones of a link-local address. It asks no name server for one.
    let found = (format!("fe80::1%{zone}"), 0).to_socket_addrs().map_err(|_| unknown())?;
    let index = found.filter_map(|addr| match addr {
        SocketAddr::V6(addr) => Some(addr.scope_id()),
        SocketAddr::V4(_) => None,
    });
    index.into_iter().find(|&index| index != 0).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let at = |text: &str| Address::At(text.parse().unwrap());
        let good = [
            ("7007", at("127.0.0.1:7007")),
            ("0", at("127.0.0.1:0")),
            (":80", Address::Everywhere(80)),
            ("10.0.0.1:80", at("10.0.0.1:80")),
            ("[::1]:80", at("[::1]:80")),
            ("[fe80::1%7]:80", at("[fe80::1%7]:80")),
            ("[::1%0]:80", at("[::1]:80")),
            ("localhost:80", Address::Named("localhost".into(), 80)),
            ("unix:/run/x.sock", Address::Unix(UnixAddr::new("/run/x.sock"))),
            ("unix:///run/x.sock", Address::Unix(UnixAddr::new("/run/x.sock"))),
            ("unix:x:80", Address::Unix(UnixAddr::new("x:80"))),
            ("unix:@x", Address::Unix(UnixAddr::new_abstract(b"x"))),
            ("my-host.example:0", Address::Named("my-host.example".into(), 0)),
        ];
        for (text, expected) in good {
            assert_eq!(address(text), Ok(expected), "{text}");
        }
        let bad = [
            "",
            "x",
            "65536",
            "-1",
            "+1",
            "18446744073709551616",
            ":",
            "::",
            "::1:80",
            "[::1]",
            "[::1]x:80",
            "[x]:80",
            "[fe80::1%]:80",
            "[%1]:80",
            "[fe80::1%4294967296]:80",
            "[fe80::1%no such interface]:80",
            "[fe80::1%a%b]:80",
            "1.2.3:80",
            "1.2.3.4.5:80",
            "256.1.1.1:80",
            "a b:80",
            "host:-1",
            "host:+1",
            "host:",
            "a/b:1",
            "é:80",
            "unix:",
            "unix:/",
            "unix:@",
            "unix://run/x.sock",
            &format!("unix:{}", "x".repeat(UnixAddr::MAX_LEN + 1)),
        ];
        for text in bad {
            assert!(address(text).is_err(), "{text} was accepted as {:?}", address(text));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn zones_are_interfaces() {
        let index: u32 = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap().trim().parse().unwrap();
        for ip in ["fe80::1", "::1", "ff02::1"] {
            let expected = SocketAddrV6::new(ip.parse().unwrap(), 80, 0, index);
            assert_eq!(address(&format!("[{ip}%lo]:80")), Ok(Address::At(expected.into())), "{ip}");
        }
        assert_eq!(address("[fe80::1%lo9]:80").unwrap_err(), "no network interface is called 'lo9'");
    }
}
