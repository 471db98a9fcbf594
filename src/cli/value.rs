//! How values are written on the command line: addresses, URLs, durations, sizes.
//!
//! Owns: their grammar and the messages when they do not follow it. Must not know: what they are for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::time::Duration;

/// Where to listen: `PORT`, `:PORT`, `HOST:PORT`, `[IPv6]:PORT`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// Every interface, both families where there are two.
    Everywhere(u16),
    /// One address.
    At(SocketAddr),
    /// A name that has yet to be resolved.
    Named(String, u16),
}

impl Address {
    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Address::Everywhere(port) | Address::Named(_, port) => *port,
            Address::At(addr) => addr.port(),
        }
    }

    /// The peer that this means. Every interface is this host then, as for Go's `net.Dial`.
    ///
    /// # Errors
    /// If the name cannot be resolved, why.
    pub fn resolve_peer(&self) -> Result<SocketAddr, String> {
        let local = |addr: SocketAddr| match addr.ip() {
            ip if !ip.is_unspecified() => addr,
            IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, addr.port()).into(),
            IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, addr.port()).into(),
        };
        match self {
            Address::Everywhere(port) => Ok((Ipv4Addr::LOCALHOST, *port).into()),
            Address::At(addr) => Ok(local(*addr)),
            // Resolving has found at least one.
            Address::Named(..) => Ok(local(self.resolve()?[0])),
        }
    }

    /// The addresses that this may mean, the preferred one first.
    ///
    /// # Errors
    /// If the name cannot be resolved, why.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        match self {
            // A host without IPv6 has no `[::]`; the caller tries the next one then.
            Address::Everywhere(port) => {
                Ok(vec![(Ipv6Addr::UNSPECIFIED, *port).into(), (Ipv4Addr::UNSPECIFIED, *port).into()])
            }
            Address::At(addr) => Ok(vec![*addr]),
            Address::Named(host, port) => {
                let found = (host.as_str(), *port).to_socket_addrs();
                let mut found: Vec<_> = found.map_err(|error| format!("cannot resolve {host}: {error}"))?.collect();
                // Like Go's net.Listen: IPv4 first.
                found.sort_by_key(|addr| addr.is_ipv6());
                found.truncate(1);
                if found.is_empty() { Err(format!("cannot resolve {host}: no address")) } else { Ok(found) }
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Everywhere(port) => write!(f, ":{port}"),
            Address::At(addr) => write!(f, "{addr}"),
            Address::Named(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// Parses an [`Address`].
pub fn address(text: &str) -> Result<Address, String> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(format!("'{text}' is not a port: a number from 0 to 65535")),
    };
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Address::At((Ipv4Addr::LOCALHOST, port(text)?).into()));
    }
    let Some((host, tail)) = text.rsplit_once(':') else {
        return Err("an address is PORT, :PORT, HOST:PORT or [IPv6]:PORT".to_owned());
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

/// Whom to ask by HTTP, and what for.
#[derive(PartialEq, Eq, Debug)]
pub struct Url {
    /// Where the server is.
    pub address: Address,
    /// Its name as it was written, if it has one.
    pub host: Option<String>,
    /// What is asked for, from the first slash on; `None` if nothing was written.
    pub target: Option<String>,
}

/// Parses an [`Address`] with `http://` in front and a path behind, both of which may be left out.
pub fn url(text: &str) -> Result<Url, String> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?', '#']) => (Some(scheme), rest),
        _ => (None, text),
    };
    if let Some(scheme) = scheme.filter(|scheme| !scheme.eq_ignore_ascii_case("http")) {
        return Err(format!("{scheme}:// is not spoken here, only http://"));
    }
    // A fragment is the client's own business (RFC 3986, section 3.5).
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (authority, ""),
    };
    if authority.is_empty() || scheme.is_some() && name.is_empty() {
        return Err("it names no host".to_owned());
    }
    if authority.contains('@') {
        return Err("names of users and passwords are not sent".to_owned());
    }
    if target.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err("a path has no space, control or non-ASCII character".to_owned());
    }
    let address = match scheme {
        Some(_) if port.is_empty() => address(&format!("{}:80", unescaped_zone(name)))?,
        Some(_) => address(&unescaped_zone(authority))?,
        None => address(authority)?,
    };
    let host = match address {
        Address::Named(..) => Some(authority.trim_end_matches(':').to_owned()),
        // A zone means nothing to another host.
        Address::At(SocketAddr::V6(addr)) if addr.scope_id() != 0 => {
            Some(SocketAddrV6::new(*addr.ip(), addr.port(), 0, 0).to_string())
        }
        Address::At(_) | Address::Everywhere(_) => None,
    };
    let target = match target.as_bytes().first() {
        // curl and wrk ask a URL without a path for the root.
        None => scheme.map(|_| "/".to_owned()),
        Some(b'/') => Some(target.to_owned()),
        // An empty path is sent as a slash (RFC 9112, section 3.2.1).
        Some(_) => Some(format!("/{target}")),
    };
    Ok(Url { address, host, target })
}

/// Returns an authority whose zone is written as in [`address`]: a URL has `%25` in front of a zone (RFC 6874 §2). Like
/// curl, this leaves a `%` alone that stands there by itself.
fn unescaped_zone(authority: &str) -> String {
    match authority.split_once("%25") {
        Some((ip, zone)) if !zone.starts_with(']') => format!("{ip}%{zone}"),
        _ => authority.to_owned(),
    }
}

/// Parses a duration: `250ms`, `3s`, `2m`, `1h`, or `0`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration such as 250ms, 3s or 2m (0 is off)");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit);
    let nanos: u64 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    let mut total = digits(whole)?.checked_mul(nanos);
    if number.contains('.') {
        if fraction.is_empty() || fraction.len() > 9 {
            return Err(wrong());
        }
        let part = u128::from(digits(fraction)?) * u128::from(nanos) / 10u128.pow(fraction.len() as u32);
        total = total.and_then(|total| total.checked_add(u64::try_from(part).ok()?));
    }
    total.map(Duration::from_nanos).ok_or_else(|| format!("'{text}' is longer than 584 years"))
}

/// Parses a size: bytes, or with `KiB`, `MiB`, `GiB` behind it.
pub fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("'{text}' is not a size such as 4096, 64KiB or 1MiB");
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(wrong()),
    };
    let number: usize = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// Parses the size of a kernel buffer, which is a C int there.
pub fn buffer_size(text: &str) -> Result<usize, String> {
    match size(text)? {
        0 => Err("a kernel buffer cannot be empty".to_owned()),
        bytes if i32::try_from(bytes).is_ok() => Ok(bytes),
        _ => Err(format!("'{text}' is more than a kernel buffer can be: {} bytes", i32::MAX)),
    }
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

    #[test]
    fn urls() {
        let cases = [
            ("8080", "127.0.0.1:8080", None, None),
            (":8080/a", ":8080", None, Some("/a")),
            ("localhost:8080/a/b?c=d", "localhost:8080", Some("localhost:8080"), Some("/a/b?c=d")),
            ("localhost:8080?c", "localhost:8080", Some("localhost:8080"), Some("/?c")),
            ("localhost:8080/?to=http://x", "localhost:8080", Some("localhost:8080"), Some("/?to=http://x")),
            ("http://localhost", "localhost:80", Some("localhost"), Some("/")),
            ("HTTP://localhost:/a#b", "localhost:80", Some("localhost"), Some("/a")),
            ("http://localhost:81#/b", "localhost:81", Some("localhost:81"), Some("/")),
            ("http://10.0.0.1/", "10.0.0.1:80", None, Some("/")),
            ("http://[::1]/", "[::1]:80", None, Some("/")),
            ("http://[::1]:81?", "[::1]:81", None, Some("/?")),
            ("http://[fe80::1%7]:81", "[fe80::1%7]:81", Some("[fe80::1]:81"), Some("/")),
            ("http://[fe80::1%257]/", "[fe80::1%7]:80", Some("[fe80::1]:80"), Some("/")),
            ("[fe80::1%25]:81/", "[fe80::1%25]:81", Some("[fe80::1]:81"), Some("/")),
        ];
        for (text, at, host, target) in cases {
            let found = url(text).unwrap();
            assert_eq!(found.address.to_string(), at, "{text}");
            assert_eq!((found.host.as_deref(), found.target.as_deref()), (host, target), "{text}");
        }
        let bad = [
            ("", "no host"),
            ("/a", "no host"),
            ("#a", "no host"),
            ("http://", "no host"),
            ("http:///a", "no host"),
            ("http://:80/a", "no host"),
            ("https://localhost/", "https:// is not spoken here"),
            ("tcp://localhost:80", "tcp:// is not spoken here"),
            ("http://me:secret@localhost/", "passwords are not sent"),
            ("http://8080/", "'8080' is neither"),
            ("localhost/a", "an address is"),
            ("localhost:80/a b", "a path has no space"),
            ("localhost:80/\u{e4}", "a path has no space"),
        ];
        for (text, cause) in bad {
            let error = url(text).unwrap_err();
            assert!(error.contains(cause), "{text}: {error}");
        }
    }

    #[test]
    fn durations() {
        let good = [
            ("0", 0),
            ("250ms", 250_000),
            ("3s", 3_000_000),
            ("2m", 120_000_000),
            ("1h", 3_600_000_000),
            ("0s", 0),
            ("1.5s", 1_500_000),
            ("10us", 10),
        ];
        for (text, micros) in good {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in
            ["", "1", "-1s", "s", "1.s", ".5s", "1.2.3s", "1x", "1 s", "18446744073709551616s", "99999999999h", "1e3s"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2GiB", 2 << 30), ("5B", 5)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "-1", "1KB", "KiB", "1.5MiB", "18446744073709551616", "18446744073709551615KiB", "1 KiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(buffer_size("16KiB"), Ok(16_384));
        assert!(buffer_size("2GiB").is_err() && buffer_size("0").is_err());
    }
}
