//! The grammar of URLs on the command line.
//!
//! Owns: [`Url`], its grammar, and the errors of texts outside of it. Must not know: the use of a URL.

use std::net::{SocketAddr, SocketAddrV6};

use super::{Address, address};

/// An HTTP server, and a target on it.
#[derive(PartialEq, Eq, Debug)]
pub struct Url {
    /// The address of the server.
    pub address: Address,
    /// The field `Host`, if the server has a name or the address has a zone.
    pub host: Option<String>,
    /// The target, from the first slash on; `None` if the text has none.
    pub target: Option<String>,
}

/// Parses an [`Address`] with an optional `http://` in front and an optional path after it. The path follows the name of a
/// Unix socket after a colon, as in nginx: `http://unix:/run/http.sock:/path`.
pub fn url(text: &str) -> Result<Url, String> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if !text.starts_with("unix:") && !scheme.contains(['/', '?', '#']) => (Some(scheme), rest),
        _ => (None, text),
    };
    if let Some(scheme) = scheme.filter(|scheme| !scheme.eq_ignore_ascii_case("http")) {
        return Err(format!("the scheme {scheme}:// is not supported, only http://"));
    }
    if let Some(name) = rest.strip_prefix("unix:") {
        return unix(name, scheme.is_some());
    }
    // A client never sends a fragment (RFC 3986 §3.5).
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (authority, ""),
    };
    if authority.is_empty() || scheme.is_some() && name.is_empty() {
        return Err("the URL names no host".to_owned());
    }
    if authority.contains('@') {
        return Err("user names and passwords are not supported".to_owned());
    }
    check_target(target)?;
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
        Address::At(_) | Address::Everywhere(_) | Address::Unix(_) => None,
    };
    let target = match target.as_bytes().first() {
        // curl and wrk request the root of a URL without a path.
        None => scheme.map(|_| "/".to_owned()),
        Some(b'/') => Some(target.to_owned()),
        // A client sends an empty path as a slash (RFC 9112 §3.2.1).
        Some(_) => Some(format!("/{target}")),
    };
    Ok(Url { address, host, target })
}

/// Parses the name of a Unix socket, with an optional `:` and a target after it.
fn unix(name: &str, has_scheme: bool) -> Result<Url, String> {
    let (name, target) = match name.split_once(":/") {
        Some((name, path)) => (name, Some(format!("/{}", path.split('#').next().unwrap_or_default()))),
        None => (name, has_scheme.then(|| "/".to_owned())),
    };
    check_target(target.as_deref().unwrap_or_default())?;
    Ok(Url { address: address(&format!("unix:{name}"))?, host: None, target })
}

fn check_target(target: &str) -> Result<(), String> {
    match target.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err("a path has no space, control or non-ASCII character".to_owned()),
    }
}

/// Returns an authority in which the zone follows `%`, as [`address`] takes it. A URL has `%25` there (RFC 6874 §2), but a
/// plain `%` is accepted as well, as curl does.
fn unescaped_zone(authority: &str) -> String {
    match authority.split_once("%25") {
        Some((ip, zone)) if !zone.starts_with(']') => format!("{ip}%{zone}"),
        _ => authority.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("unix:/run/x.sock", "unix:/run/x.sock", None, None),
            ("unix:///run/x.sock:/a?b#c", "unix:/run/x.sock", None, Some("/a?b")),
            ("http://unix:x.sock", "unix:x.sock", None, Some("/")),
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
            ("https://localhost/", "https:// is not supported"),
            ("tcp://localhost:80", "tcp:// is not supported"),
            ("http://me:secret@localhost/", "passwords are not supported"),
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
}
