//! The framing of a request: the rules of RFC 9112 that decide its end, and whether another request may follow.
//!
//! Owns: [`Framing`]. Must not know: routes, bodies.
//!
//! If two recipients disagree about the end of a request, one client can insert a request in another client's name (request
//! smuggling, RFC 9112 §11.2). So a request with two possible meanings is refused, even where the RFC allows a repair.

use std::net::Ipv6Addr;

use httparse::Header;

use super::head::Head;
use super::status::{Refusal, Status};

/// The way to find the end of a request's body (RFC 9112 §6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// By its length, in bytes; zero for no body.
    Length(u64),
    /// By a last chunk of length zero.
    Chunked,
}

/// The facts about a request that its answer depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Framing<'b> {
    /// The end of the body.
    pub content: Content,
    /// Another request may follow on the connection (RFC 9112 §9.3).
    pub persists: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The path of the target, without the query. `*` stands for the server as a whole.
    pub path: &'b str,
    /// The type of the body, as the client declares it.
    pub content_type: Option<&'b [u8]>,
}

/// The fields that decide the framing.
#[derive(Default)]
struct Fields<'b> {
    host: Option<&'b [u8]>,
    content_length: Option<&'b [u8]>,
    content_type: Option<&'b [u8]>,
    codings: Codings,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    expects_other: bool,
}

/// The list in the fields called Transfer-Encoding.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Codings {
    #[default]
    None,
    /// `chunked` once, and no other coding.
    Chunked,
    /// `chunked` at the end, after others.
    ChunkedLast,
    /// A list that leaves the end of the body unknown.
    Unknowable,
}

impl<'b> Framing<'b> {
    /// Applies the rules to a head.
    ///
    /// # Errors
    /// If the request breaks one of them.
    #[inline]
    pub fn of(head: &Head<'_, 'b>) -> Result<Self, Refusal> {
        let path = path(head)?;
        let mut fields = Fields::default();
        for header in head.headers {
            fields.take(header)?;
        }
        match fields.host {
            Some(host) if is_authority(host) => {}
            Some(_) => return Err(Refusal::bad("the Host is not a host with an optional port")),
            None if head.is_1_1 => return Err(Refusal::bad("the Host is missing")),
            None => {}
        }
        let content = fields.content(head.is_1_1)?;
        // An HTTP/1.0 client cannot know what to do with 100 (RFC 9110 §10.1.1).
        if fields.expects_other && head.is_1_1 {
            return Err(Refusal::new(Status::ExpectationFailed, "only 100-continue can be expected"));
        }
        Ok(Self {
            content,
            persists: !fields.close && (head.is_1_1 || fields.keep_alive),
            expects_continue: fields.expects_continue && head.is_1_1 && content != Content::Length(0),
            path,
            content_type: fields.content_type,
        })
    }
}

impl<'b> Fields<'b> {
    #[inline]
    fn take(&mut self, header: &Header<'b>) -> Result<(), Refusal> {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        match header.name.len() {
            4 if is("Host") => set_once(&mut self.host, header, "the Host comes twice")?,
            6 if is("Expect") => {
                for expectation in list(header.value).filter(|element| !element.is_empty()) {
                    self.expects_continue |= expectation.eq_ignore_ascii_case(b"100-continue");
                    self.expects_other |= !expectation.eq_ignore_ascii_case(b"100-continue");
                }
            }
            10 if is("Connection") => {
                for option in list(header.value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            12 if is("Content-Type") => set_once(&mut self.content_type, header, "the Content-Type comes twice")?,
            14 if is("Content-Length") => {
                set_once(&mut self.content_length, header, "the Content-Length comes twice")?;
            }
            17 if is("Transfer-Encoding") => {
                for coding in list(header.value) {
                    self.codings = self.codings.then(coding);
                }
            }
            _ => {}
        }
        Ok(())
    }

    #[inline]
    fn content(&self, is_1_1: bool) -> Result<Content, Refusal> {
        match (self.codings, self.content_length) {
            (Codings::None, None) => Ok(Content::Length(0)),
            (Codings::None, Some(length)) => match decimal(length) {
                Some(length) => Ok(Content::Length(length)),
                None => Err(Refusal::bad("the Content-Length is not a number of at most 19 digits")),
            },
            (_, Some(_)) => Err(Refusal::bad("a Content-Length and a Transfer-Encoding contradict each other")),
            (_, None) if !is_1_1 => Err(Refusal::bad("HTTP/1.0 has no Transfer-Encoding")),
            (Codings::Chunked, None) => Ok(Content::Chunked),
            (Codings::ChunkedLast, None) => {
                Err(Refusal::new(Status::NotImplemented, "no transfer coding other than chunked is implemented"))
            }
            (Codings::Unknowable, None) => Err(Refusal::bad("the Transfer-Encoding does not end with one chunked")),
        }
    }
}

impl Codings {
    fn then(self, coding: &[u8]) -> Self {
        let is_chunked = coding.eq_ignore_ascii_case(b"chunked");
        match self {
            Codings::None if is_chunked => Codings::Chunked,
            Codings::Chunked | Codings::ChunkedLast => Codings::Unknowable,
            _ if is_chunked => Codings::ChunkedLast,
            _ => Codings::Unknowable,
        }
    }
}

/// Sets a field that must not come a second time.
#[inline]
fn set_once<'b>(field: &mut Option<&'b [u8]>, header: &Header<'b>, reason: &'static str) -> Result<(), Refusal> {
    match field.replace(header.value) {
        None => Ok(()),
        Some(_) => Err(Refusal::bad(reason)),
    }
}

/// Returns the elements of a comma-separated list, with the empty ones: the caller refuses them where it has to.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(|element| element.trim_ascii())
}

/// Returns the number that `text` has in decimal digits; `None` if it has other characters, or more than 19 digits.
fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= 19 && text.iter().all(u8::is_ascii_digit);
    digits.then(|| text.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// Returns the path of the request's target (RFC 9112 §3.2).
#[inline]
fn path<'b>(head: &Head<'_, 'b>) -> Result<&'b str, Refusal> {
    let target = head.target;
    if !is_of_uri(target.as_bytes()) {
        return Err(Refusal::bad("the target has a character that is not allowed"));
    }
    let path = match target.as_bytes() {
        _ if head.method == "CONNECT" => return Err(Refusal::new(Status::NotImplemented, "this is not a proxy")),
        [b'/', ..] => target,
        [b'*'] if head.method == "OPTIONS" => target,
        _ => absolute_path(head.method, target).ok_or(Refusal::bad("the target is neither a path nor an http URI"))?,
    };
    let query = path.bytes().position(|byte| byte == b'?');
    Ok(&path[..query.unwrap_or(path.len())])
}

/// Returns the path of an absolute URI, with its query.
fn absolute_path<'b>(method: &str, target: &'b str) -> Option<&'b str> {
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    match (is_authority(authority.as_bytes()), path.as_bytes()) {
        (false, _) => None,
        (true, [b'/', ..]) => Some(path),
        // RFC 9112 §3.2.4
        (true, []) if method == "OPTIONS" => Some("*"),
        // An empty path is the root (RFC 9110 §4.2.3).
        (true, _) => Some("/"),
    }
}

/// Returns a table of letters, digits, and `signs`.
const fn characters(mut signs: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    while let [sign, rest @ ..] = signs {
        table[*sign as usize] = true;
        signs = rest;
    }
    table
}

/// The characters of a host that is not an IPv6 address: unreserved characters and sub-delims (RFC 3986 §3.2.2).
const NAME: [bool; 256] = characters(b"-._~!$&'()*+,;=");

/// The characters of a target, besides percent-encoding: the same and gen-delims (RFC 3986 §2), less `#`, because clients
/// never send a fragment (RFC 9110 §4.2.5). Brackets belong into an IPv6 address, but browsers send them unencoded elsewhere
/// as well.
const URI: [bool; 256] = characters(b"-._~!$&'()*+,;=:/?[]@");

/// Returns true if `target` has only characters of a URI, and percent signs only before two hexadecimal digits.
#[inline]
fn is_of_uri(target: &[u8]) -> bool {
    target.iter().all(|&byte| URI[usize::from(byte)]) || has_good_escapes(target)
}

/// The same for a target with percent signs.
fn has_good_escapes(target: &[u8]) -> bool {
    let mut rest = target.iter();
    while let Some(&byte) = rest.next() {
        let mut is_digit = || rest.next().is_some_and(u8::is_ascii_hexdigit);
        let is_good = if byte == b'%' { is_digit() && is_digit() } else { URI[usize::from(byte)] };
        if !is_good {
            return false;
        }
    }
    true
}

/// Returns true for `host [":" port]` with a host that is not empty (RFC 3986 §3.2.2; by RFC 9110 §4.2.1 an http URI has
/// one). Percent-encoded hosts are refused: no resolver knows them.
#[inline(always)]
fn is_authority(text: &[u8]) -> bool {
    let host = match text {
        [b'[', ..] => address_len(text),
        _ => text.iter().position(|&byte| !NAME[usize::from(byte)]).unwrap_or(text.len()),
    };
    match &text[host..] {
        _ if host == 0 => false,
        [] => true,
        [b':', port @ ..] => is_port(port),
        _ => false,
    }
}

/// Returns true for a port, which may be empty (RFC 3986 §3.2.3).
#[inline]
fn is_port(text: &[u8]) -> bool {
    let mut number = 0;
    for byte in text {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        number = number * 10 + digit;
        if digit > 9 || number > u32::from(u16::MAX) {
            return false;
        }
    }
    text.len() <= 5
}

/// Returns the length of the IPv6 address in brackets at the front of `text`, or zero. An address with a zone is refused: a
/// zone has no meaning on another host (RFC 6874 §1).
#[cold]
fn address_len(text: &[u8]) -> usize {
    let end = text.iter().position(|&byte| byte == b']').unwrap_or(0);
    let address = str::from_utf8(text.get(1..end).unwrap_or_default());
    if address.is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok()) { end + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http::HeaderStorage;

    fn framing(lines: &str) -> Result<(Content, bool), Refusal> {
        let text = format!("POST /a?b HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut storage = HeaderStorage::new();
        let head = Head::decode(text.as_bytes(), &mut storage).expect("a head").expect("all of it");
        Framing::of(&head).map(|framing| (framing.content, framing.persists))
    }

    #[test]
    fn one_field_decides_the_end_of_a_body() {
        assert_eq!(framing(""), Ok((Content::Length(0), true)));
        assert_eq!(framing("Content-Length: 9223372036854775807\r\n"), Ok((Content::Length(i64::MAX as u64), true)));
        assert_eq!(framing("transfer-encoding: Chunked\r\nConnection: close\r\n"), Ok((Content::Chunked, false)));
        for (lines, status) in [
            ("Content-Length: 1\r\nContent-Length: 1\r\n", Status::BadRequest),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", Status::BadRequest),
            ("Transfer-Encoding: chunked, gzip\r\n", Status::BadRequest),
            ("Transfer-Encoding: gzip, chunked\r\n", Status::NotImplemented),
        ] {
            assert_eq!(framing(lines).map_err(|refusal| refusal.status), Err(status), "{lines}");
        }
    }

    #[test]
    fn a_target_has_the_characters_of_a_uri() {
        for good in ["/", "/a-._~!$&'()*+,;=:@/?x[]=%41%fF", "http://[::1]:80/"] {
            assert!(is_of_uri(good.as_bytes()), "{good}");
        }
        for bad in "\"<>\\^`{|}# \u{e4}\u{7f}".chars().map(|sign| format!("/a{sign}b")) {
            assert!(!is_of_uri(bad.as_bytes()), "{bad}");
        }
        for bad in ["/%", "/%4", "/%4g", "/%g4", "/%%41", "/%41%"] {
            assert!(!is_of_uri(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for good in ["a", "a.b-c", "127.0.0.1:80", "[::1]", "[::1]:8080", "a:", "a:65535"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "[:]",
            "[:::]",
            "[1.2.3.4]",
            "[::1%eth0]",
            "[12345::]",
            "a:65536",
            "a:99999",
            "a:+1",
            "",
            ":80",
            "a b",
            "a/b",
            "a@b",
            "a:b",
            "a:1:1",
            "a:123456",
            "[",
            "[]",
            "[a]",
            "[::1",
            "::1",
            "[::1]x",
            "\u{e4}",
            "a%41",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }
}
