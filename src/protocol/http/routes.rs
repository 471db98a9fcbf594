//! The routes, as data, and the texts of their answers.
//!
//! Owns: [`ROUTES`] and [`Site`]. Must not know: the way in which requests arrive.

use std::time::SystemTime;

use httparse::Header;

use super::response::{Response, Stamp};
use super::status::{Refusal, Status};
use crate::protocol::time_text::LocalTime;

/// The content of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Page {
    /// The list of the routes, for a browser.
    Index,
    /// The local time.
    Time,
    /// The request's header fields.
    Headers,
    /// The request's body.
    Echo,
    /// The health of the server.
    Health,
}

/// A path and its content.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Route {
    /// The path of the target.
    pub path: &'static str,
    /// The content.
    pub page: Page,
    /// The description in the index.
    pub about: &'static str,
}

/// Every route. The index shows them in this order.
pub const ROUTES: [Route; 5] = [
    Route { path: "/time", page: Page::Time, about: "the local time" },
    Route { path: "/headers", page: Page::Headers, about: "the header fields of your request" },
    Route { path: "/echo", page: Page::Echo, about: "the body of your request, whatever the method" },
    Route { path: "/healthz", page: Page::Health, about: "ok, or 503 while the server is stopping" },
    Route { path: "/", page: Page::Index, about: "this page" },
];

/// The methods of the server as a whole (`OPTIONS *`).
const ALLOW_ALL: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The methods of pages without a request body.
const ALLOW_READING: &str = "GET, HEAD, OPTIONS";

const TEXT: &[u8] = b"text/plain";

/// The answer to a request: known when the head is complete, sent when the body is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// `/`
    Index,
    /// `/time`
    Time,
    /// `/healthz`
    Health,
    /// `/headers`, with the text.
    Headers(Vec<u8>),
    /// `/echo`, with the type of the content.
    Echo(Option<Vec<u8>>),
    /// The methods of the target.
    Options(&'static str),
    NotAllowed(&'static str),
    NotFound,
}

impl Answer {
    /// Returns the answer to a valid request.
    #[inline]
    pub fn find(method: &str, path: &str, headers: &[Header<'_>], content_type: Option<&[u8]>) -> Self {
        let reads = matches!(method, "GET" | "HEAD");
        let page =
            page_at(path).or_else(|| if path.bytes().any(|byte| byte == b'%') { page_at_encoded(path) } else { None });
        match page.map(|page| (page, reads)) {
            Some((Page::Echo, _)) => Answer::Echo(content_type.filter(|text| !text.is_empty()).map(<[u8]>::to_vec)),
            Some((Page::Index, true)) => Answer::Index,
            Some((Page::Time, true)) => Answer::Time,
            Some((Page::Health, true)) => Answer::Health,
            Some((Page::Headers, true)) => Answer::Headers(listing(headers)),
            Some((_, false)) if method == "OPTIONS" => Answer::Options(ALLOW_READING),
            Some((_, false)) => Answer::NotAllowed(ALLOW_READING),
            // Framing accepts this target for OPTIONS only.
            None if path == "*" => Answer::Options(ALLOW_ALL),
            None => Answer::NotFound,
        }
    }
}

/// Returns the page at `path`.
#[inline]
fn page_at(path: &str) -> Option<Page> {
    ROUTES.iter().find(|route| route.path == path).map(|route| route.page)
}

/// Returns the page at a `path` that is not spelled as its route is, if they are the same URI.
#[cold]
fn page_at_encoded(path: &str) -> Option<Page> {
    decode_unreserved(path).and_then(|path| page_at(&path))
}

/// Returns `path` with its unreserved characters decoded, which makes the same URI (RFC 3986 §6.2.2.2); `None` if none is
/// encoded. Other octets stay encoded: `%2F` is not the slash between two segments.
fn decode_unreserved(path: &str) -> Option<String> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, behind)) = rest.split_once('%') {
        decoded.push_str(before);
        let octet = behind.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match octet.map(char::from) {
            Some(c) if c.is_ascii_alphanumeric() || "-._~".contains(c) => {
                decoded.push(c);
                rest = &behind[2..];
            }
            _ => {
                decoded.push('%');
                rest = behind;
            }
        }
    }
    decoded.push_str(rest);
    (decoded.len() < path.len()).then_some(decoded)
}

/// Returns each field as `Name:value`, a line each, in the order of arrival. Field values have no line ends.
fn listing(headers: &[Header<'_>]) -> Vec<u8> {
    let mut text = Vec::new();
    for header in headers {
        text.extend_from_slice(header.name.as_bytes());
        text.push(b':');
        text.extend_from_slice(header.value);
        text.push(b'\n');
    }
    text
}

/// The state that all connections of a server share.
#[derive(Debug)]
pub struct Site {
    /// The longest body of a request, in bytes.
    pub max_body: usize,
    index: String,
    local: LocalTime,
    /// The line of `/time`.
    time: Vec<u8>,
    stamp: Stamp,
    stopping: bool,
}

impl Site {
    /// A site with `index` as its page at `/`, in HTML, that accepts bodies of up to `max_body` bytes. `/time` has the zone
    /// of `local`.
    pub fn new(index: String, max_body: usize, local: LocalTime) -> Self {
        let mut site = Self { max_body, index, local, time: Vec::new(), stamp: Stamp::default(), stopping: false };
        site.set_time(SystemTime::UNIX_EPOCH);
        site
    }

    /// Sets the time of `/time` and `Date`. Call this once a second: the texts have no smaller unit.
    pub fn set_time(&mut self, now: SystemTime) {
        self.time.clear();
        self.time.extend_from_slice(self.local.line(now));
        self.stamp.set(now);
    }

    /// Marks the server as stopping. From now on an answer is the last of its connection, unless more input has arrived.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Returns true if the server is stopping.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Appends `answer` to `output`. `body` is the body of the request. `like` has the parts of the response that depend on
    /// the request.
    #[inline]
    pub(super) fn answer(&self, answer: &Answer, body: &[u8], like: Response<'_>, output: &mut Vec<u8>) {
        let text = Response { content_type: TEXT, ..like };
        let response = match answer {
            Answer::Time => Response { content: &self.time, ..text },
            Answer::Health if self.stopping => {
                Response { status: Status::ServiceUnavailable, content: b"stopping\n", ..text }
            }
            Answer::Health => Response { content: b"ok\n", ..text },
            Answer::Index => {
                Response { content_type: b"text/html; charset=utf-8", content: self.index.as_bytes(), ..text }
            }
            Answer::Headers(listing) => Response { content: listing, ..text },
            // A browser shows an empty text, but saves empty bytes.
            Answer::Echo(None) if body.is_empty() => text,
            Answer::Echo(content_type) => {
                let content_type = content_type.as_deref().unwrap_or(b"application/octet-stream");
                Response { content_type, content: body, ..text }
            }
            Answer::Options(allow) => Response { allow: Some(allow), ..text },
            Answer::NotAllowed(allow) => Response {
                status: Status::MethodNotAllowed,
                allow: Some(allow),
                content: b"the field Allow lists the methods of this path\n",
                ..text
            },
            Answer::NotFound => Response { status: Status::NotFound, content: b"no page has this path\n", ..text },
        };
        response.encode(&self.stamp, output);
    }

    /// Appends the answer to a refused request, the last answer of its connection.
    #[cold]
    pub(super) fn refuse(&self, refusal: Refusal, like: Response<'_>, output: &mut Vec<u8>) {
        let content = format!("{}\n", refusal.reason);
        Response { status: refusal.status, content_type: TEXT, content: content.as_bytes(), ..like }
            .encode(&self.stamp, output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_one_page() {
        for (n, route) in ROUTES.iter().enumerate() {
            assert!(ROUTES[n + 1..].iter().all(|other| other.path != route.path));
            assert_ne!(Answer::find("GET", route.path, &[], None), Answer::NotFound);
        }
        assert_eq!(Answer::find("GET", "/tim", &[], None), Answer::NotFound);
        assert_eq!(Answer::find("POST", "/time", &[], None), Answer::NotAllowed(ALLOW_READING));
        assert_eq!(Answer::find("OPTIONS", "*", &[], None), Answer::Options(ALLOW_ALL));
        assert_eq!(Answer::find("POST", "/echo", &[], Some(b"")), Answer::Echo(None));
    }

    #[test]
    fn percent_encoded_unreserved_characters_are_the_characters() {
        for path in ["/%74ime", "/t%69m%65", "/%74%69%6D%65", "/%74%69%6d%65"] {
            assert_eq!(Answer::find("GET", path, &[], None), Answer::Time, "{path}");
        }
        assert_eq!(Answer::find("OPTIONS", "/%74ime", &[], None), Answer::Options(ALLOW_READING));
        for path in ["%2Ftime", "/%2574ime", "/time%2F", "/time%20", "/%54ime", "/time%", "/%7", "/%C3%A4"] {
            assert_eq!(Answer::find("GET", path, &[], None), Answer::NotFound, "{path}");
        }
        for (path, decoded) in
            [("/%7E%2d%5F%2e", Some("/~-_.")), ("/%2574", None), ("/a", None), ("/%%41", Some("/%A"))]
        {
            assert_eq!(decode_unreserved(path).as_deref(), decoded, "{path}");
        }
    }
}
