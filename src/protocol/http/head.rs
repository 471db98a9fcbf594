//! The head of a request: the request line and the header fields, up to the empty line.
//!
//! Owns: [`Head`] and its limits. Must not know: the meaning of the fields, which belongs to [`super::framing`].
//!
//! httparse finds the parts, and refuses bytes that the grammar forbids. The parser is fast, needs no memory, and is the
//! parser of hyper. It accepts a line that ends with LF alone, which RFC 9112 §2.2 leaves to the recipient. Through such a
//! line one request here can be two requests to a proxy. So this module checks every LF.
//!
//! Invariants:
//! 1. The verdict depends on the bytes, not on the pieces in which they arrive: the first fault, in the order of the bytes,
//!    decides. The parser stops at the first byte that it forbids. A limit passed before that byte decides, a limit passed
//!    after it does not.
//! 2. At most [`MAX_HEAD`] bytes wait for more.

use std::fmt;
use std::mem::MaybeUninit;

use httparse::{Header, Request, Status as Parsed};

use super::status::{Refusal, Status};

/// The longest head, in bytes, with its last line end. Node.js has the same; nginx has four lines of 8 KiB.
pub const MAX_HEAD: usize = 16 * 1024;

/// The longest target, in bytes. RFC 9112 §3 asks for at least 8,000 octets in a request line.
pub const MAX_TARGET: usize = 8 * 1024;

/// The longest method, in bytes. The longest registered method has 17 letters, so that a longer one than this is not
/// implemented (501, RFC 9112 §3).
pub const MAX_METHOD: usize = 32;

/// The greatest number of header fields.
pub const MAX_HEADERS: usize = 100;

/// The memory for the fields of a head. Costs nothing to make.
pub struct HeaderStorage<'b> {
    fields: [MaybeUninit<Header<'b>>; MAX_HEADERS],
    /// The fields of a head of HTTP/1.2 or later, which the parser does not put into uninitialized memory.
    later: Vec<Header<'b>>,
}

impl HeaderStorage<'_> {
    /// Empty storage.
    #[inline]
    pub const fn new() -> Self {
        Self { fields: [const { MaybeUninit::uninit() }; MAX_HEADERS], later: Vec::new() }
    }
}

impl Default for HeaderStorage<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HeaderStorage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderStorage").finish_non_exhaustive()
    }
}

/// A complete head, whose parts lie in the input.
#[derive(Debug)]
#[non_exhaustive]
pub struct Head<'h, 'b> {
    /// The method, a token. Case matters.
    pub method: &'b str,
    /// The target, as the client has sent it.
    pub target: &'b str,
    /// The version is 1.1 or a later 1.x, not 1.0.
    pub is_1_1: bool,
    /// The fields. Names are as the client has sent them, values have no white space around them.
    pub headers: &'h [Header<'b>],
    /// The number of bytes of the head in the input.
    pub len: usize,
}

impl<'h, 'b> Head<'h, 'b> {
    /// Finds the head at the front of `input`. `None`: the head is not complete. Call again with the same bytes and the next
    /// ones.
    ///
    /// # Errors
    /// If the bytes are no head, or a head beyond the limits.
    #[inline]
    pub fn decode(input: &'b [u8], storage: &'h mut HeaderStorage<'b>) -> Result<Option<Self>, Refusal> {
        let seen = &input[..input.len().min(MAX_HEAD)];
        let mut request = Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(seen, &mut storage.fields);
        if let (Ok(Parsed::Complete(len)), Some(method), Some(target)) = (&parsed, request.method, request.path)
            && method.len() <= MAX_METHOD
            && target.len() <= MAX_TARGET
            && !has_bare_lf(&seen[..*len])
        {
            let headers: &'h [Header<'b>] = request.headers;
            return Ok(Some(Self { method, target, is_1_1: request.version == Some(1), headers, len: *len }));
        }
        undecided(seen, &parsed, &mut storage.later)
    }

    /// Decodes the head of HTTP/1.2 or later at the front of `seen`, given a `copy` of it that claims to be one of 1.1.
    fn decode_later(seen: &'b [u8], copy: &[u8], fields: &'h mut Vec<Header<'b>>) -> Result<Option<Self>, Refusal> {
        let mut storage = HeaderStorage::new();
        let Some(Head { method, target, len, .. }) = Head::decode(copy, &mut storage)? else { return Ok(None) };
        // The copy has the same bytes at the same places, but for one digit.
        let part = |from: usize, len: usize| str::from_utf8(&seen[from..from + len]).unwrap_or_default();
        let (method, target) = (part(0, method.len()), part(method.len() + 1, target.len()));
        *fields = vec![httparse::EMPTY_HEADER; MAX_HEADERS];
        let line = method.len() + target.len() + REST_OF_LINE;
        match httparse::parse_headers(&seen[line..len], fields) {
            Ok(Parsed::Complete((_, headers))) => Ok(Some(Self { method, target, is_1_1: true, headers, len })),
            _ => Err(Refusal::bad(NOT_A_HEAD)),
        }
    }
}

/// The length of a request line without method and target.
const REST_OF_LINE: usize = "  HTTP/1.2\r\n".len();

const NOT_A_HEAD: &str = "this is not a request line of HTTP/1.1 followed by header fields";

/// Returns true if a line of `head` ends with LF alone. The loop has no early exit, so that the compiler takes many bytes at
/// a time.
#[inline]
fn has_bare_lf(head: &[u8]) -> bool {
    let pairs = head.iter().zip(head.get(1..).unwrap_or_default());
    let begins_bare = head.first() == Some(&b'\n');
    pairs.fold(begins_bare, |found, (&before, &byte)| found | ((byte == b'\n') & (before != b'\r')))
}

/// Returns the result for bytes that are not a good head of 1.0 or 1.1: the beginning of a head, a later version, or a
/// refusal.
#[cold]
fn undecided<'h, 'b>(
    seen: &'b [u8],
    parsed: &httparse::Result<usize>,
    later: &'h mut Vec<Header<'b>>,
) -> Result<Option<Head<'h, 'b>>, Refusal> {
    if matches!(parsed, Err(httparse::Error::Version))
        && let Some(copy) = as_1_1(seen)
    {
        return Head::decode_later(seen, &copy, later);
    }
    let (seen, is_complete) = match parsed {
        Ok(Parsed::Complete(len)) => (&seen[..*len], true),
        _ => (seen, false),
    };
    let limit = first_limit(seen, is_complete);
    match (limit, parsed) {
        (None, Ok(_)) => Ok(None),
        (None, Err(error)) => Err(malformed(seen, *error)),
        (Some((_, refusal)), Ok(_)) => Err(refusal),
        (Some((at, refusal)), Err(_)) => {
            let before = Request::new(&mut []).parse_with_uninit_headers(&seen[..at], &mut HeaderStorage::new().fields);
            Err(before.map_or_else(|error| malformed(&seen[..at], error), |_| refusal))
        }
    }
}

/// Returns the first limit that `seen` passes, and the number of bytes that show it.
fn first_limit(seen: &[u8], is_complete: bool) -> Option<(usize, Refusal)> {
    let is_end = |byte: &u8| matches!(byte, b' ' | b'\r' | b'\n');
    let method_ends = seen.iter().position(is_end).unwrap_or(seen.len());
    let target = seen.get(method_ends + 1..).unwrap_or_default();
    let target_len = target.iter().position(is_end).unwrap_or(target.len());
    // The search for the place takes far longer than the test that usually fails.
    let bare_lf =
        has_bare_lf(seen).then(|| (0..seen.len()).find(|&n| seen[n] == b'\n' && (n == 0 || seen[n - 1] != b'\r')));
    let limits = [
        (method_ends > MAX_METHOD).then(|| {
            (MAX_METHOD + 1, Refusal::new(Status::NotImplemented, "no implemented method is longer than 32 bytes"))
        }),
        (target_len > MAX_TARGET).then(|| {
            (method_ends + 1 + MAX_TARGET + 1, Refusal::new(Status::UriTooLong, "the target is longer than 8 KiB"))
        }),
        bare_lf.flatten().map(|n| (n + 1, Refusal::bad("a line ends with LF alone"))),
        (!is_complete && seen.len() == MAX_HEAD).then(|| {
            (MAX_HEAD, Refusal::new(Status::HeaderFieldsTooLarge, "the head of the request is longer than 16 KiB"))
        }),
    ];
    limits.into_iter().flatten().min_by_key(|(at, _)| *at)
}

/// Returns the refusal for an error of the parser.
fn malformed(seen: &[u8], error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => {
            Refusal::new(Status::HeaderFieldsTooLarge, "the head has more than 100 fields")
        }
        httparse::Error::Version if is_other_version(seen) => {
            Refusal::new(Status::VersionNotSupported, "the version is not HTTP/1.x")
        }
        httparse::Error::HeaderName => Refusal::bad("the name of a header field is not a token followed by a colon"),
        httparse::Error::HeaderValue => Refusal::bad("the value of a header field has a character that is not allowed"),
        _ => Refusal::bad(NOT_A_HEAD),
    }
}

/// Returns a copy of a head of HTTP/1.2 to HTTP/1.9 in which the version is 1.1; `None` if `seen` is no such head.
///
/// The parser knows versions 1.0 and 1.1. A recipient processes a message of a later minor version as one of the latest
/// minor version that it implements (RFC 9110 §2.5).
fn as_1_1(seen: &[u8]) -> Option<Vec<u8>> {
    let version = seen.splitn(3, |&byte| byte == b' ').nth(2)?;
    let minor = seen.len() - version.len() + "HTTP/1.".len();
    let is_later = version.starts_with(b"HTTP/1.") && matches!(seen.get(minor), Some(b'2'..=b'9'));
    is_later.then(|| {
        let mut head = seen.to_vec();
        head[minor] = b'1';
        head
    })
}

/// Returns true if the first byte of the version that the parser forbids is a digit in the place of a digit. The parser stops
/// at that byte, and so does this function.
fn is_other_version(seen: &[u8]) -> bool {
    let version = seen.splitn(3, |&byte| byte == b' ').nth(2).unwrap_or_default();
    let differs = version.iter().zip(b"HTTP/1.1").position(|(byte, known)| byte != known);
    matches!(differs, Some(n @ (5 | 7)) if version[n].is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_complete_with_its_last_byte() {
        let text = b"GET /a?b HTTP/1.1\r\nHost: a\r\nX-y:\t z \r\n\r\nGET";
        for n in 0..text.len() - 3 {
            assert!(matches!(Head::decode(&text[..n], &mut HeaderStorage::new()), Ok(None)), "{n} bytes");
        }
        let mut storage = HeaderStorage::new();
        let head = Head::decode(text, &mut storage).expect("a head").expect("all of it");
        assert_eq!((head.method, head.target, head.is_1_1, head.len), ("GET", "/a?b", true, text.len() - 3));
        let fields: Vec<_> = head.headers.iter().map(|field| (field.name, field.value)).collect();
        assert_eq!(fields, [("Host", &b"a"[..]), ("X-y", b"z")]);
    }

    #[test]
    fn the_first_fault_decides() {
        let refusal =
            |text: String| Head::decode(text.as_bytes(), &mut HeaderStorage::new()).expect_err("a refusal").status;
        let long = "a".repeat(MAX_HEAD);
        assert_eq!(refusal(format!("GET /{long} HTTP/1.1\r\nbad field")), Status::UriTooLong);
        assert_eq!(refusal(format!("G(T /{long}")), Status::BadRequest);
        assert_eq!(refusal(format!("{long} / HTTP/9.9")), Status::NotImplemented);
        assert_eq!(refusal(format!("GET / HTTP/1.1\nHost: a\r\nX: {long}")), Status::BadRequest);
        assert_eq!(refusal(format!("GET / HTTP/1.1\r\nX: {long}\n")), Status::HeaderFieldsTooLarge);
        assert_eq!(refusal("GET / HTTP/3.0".to_owned()), Status::VersionNotSupported);
        assert_eq!(refusal("GET / HTTP/1,1".to_owned()), Status::BadRequest);
    }
}
