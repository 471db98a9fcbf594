//! The framing of responses in HTTP/1.
//!
//! Owns: [`Responses`], a decoder of the responses to GET requests on one connection. The decoder knows status, framing and
//! persistence, and skips the content (RFC 9112, sections 4, 6, 7 and 9). Must not know: requests, connections.
//!
//! Invariant: the outcome does not depend on how the bytes were split.

use std::fmt;

/// The longest head of a response, and the longest line of a trailer section, in bytes.
const LONGEST: usize = 64 * 1024;

/// The part of a response that comes next.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum State {
    /// A status line and fields.
    #[default]
    Head,
    /// The given number of content bytes.
    Content(u64),
    /// The size of a chunk.
    ChunkSize,
    /// The given number of bytes of a chunk, its line end included.
    Chunk(u64),
    /// The lines after the last chunk.
    Trailer,
    /// Content until the end of file.
    UntilEof,
}

/// A complete response.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// True if the server answers no further request on this connection (RFC 9112, section 9.6).
    pub last: bool,
}

/// Why the end of a response cannot be found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ResponseError {
    /// The first line is not a status line of HTTP/1.
    NotHttp,
    /// The head is longer than 64 KiB.
    LongHead,
    /// A line is longer than 64 KiB.
    LongLine,
    /// A line does not end in CRLF.
    BareLineFeed,
    /// The head is not UTF-8.
    NotText,
    /// A field line has no colon.
    NoColon,
    /// `Content-Length` is not a number below 2^64.
    ContentLength,
    /// Two values of `Content-Length` differ.
    ContentLengths,
    /// The transfer coding is not `chunked`.
    TransferCoding(String),
    /// The size of a chunk is not a hexadecimal number below 2^64.
    ChunkSize,
    /// The connection has ended within a response.
    Truncated,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            ResponseError::NotHttp => "not a response of HTTP/1",
            ResponseError::LongHead => "a response head of more than 64 KiB",
            ResponseError::LongLine => "a response line of more than 64 KiB",
            ResponseError::BareLineFeed => "a line without CR",
            ResponseError::NotText => "a response head that is not text",
            ResponseError::NoColon => "a response field without a colon",
            ResponseError::ContentLength => "a wrong Content-Length",
            ResponseError::ContentLengths => "two different Content-Lengths",
            ResponseError::TransferCoding(coding) => return write!(f, "transfer coding {coding:.40}"),
            ResponseError::ChunkSize => "a wrong chunk size",
            ResponseError::Truncated => "a response was cut off",
        };
        f.write_str(text)
    }
}

/// Decodes the responses of one connection, one after the other.
#[derive(Clone, Default, Debug)]
pub struct Responses {
    state: State,
    current: Response,
}

impl Responses {
    /// Decodes until a response is complete or `input` ends. Returns the number of consumed bytes, and the response if one
    /// is complete. The caller offers unconsumed bytes again, with those that follow.
    ///
    /// # Errors
    /// The reason why the end of the response cannot be found.
    pub fn decode(&mut self, input: &[u8]) -> Result<(usize, Option<Response>), ResponseError> {
        let mut at = 0;
        while at < input.len() {
            let rest = &input[at..];
            let read = match self.state {
                State::Head => self.decode_head(rest)?,
                State::Content(left) | State::Chunk(left) => {
                    let n = left.min(rest.len() as u64);
                    self.state = match self.state {
                        State::Chunk(_) if n == left => State::ChunkSize,
                        State::Chunk(_) => State::Chunk(left - n),
                        _ => State::Content(left - n),
                    };
                    n as usize
                }
                State::ChunkSize => self.decode_chunk_size(rest)?,
                State::Trailer => self.decode_trailer(rest)?,
                State::UntilEof => rest.len(),
            };
            at += read;
            if self.state == State::Content(0) {
                self.state = State::Head;
                return Ok((at, Some(self.current)));
            }
            if read == 0 {
                break;
            }
        }
        Ok((at, None))
    }

    /// Handles the end of the connection. Returns the response that ends with it, if there is one.
    ///
    /// # Errors
    /// [`ResponseError::Truncated`] within a response.
    pub fn decode_eof(&mut self) -> Result<Option<Response>, ResponseError> {
        match std::mem::take(&mut self.state) {
            State::Head => Ok(None),
            State::UntilEof => Ok(Some(self.current)),
            _ => Err(ResponseError::Truncated),
        }
    }

    /// Decodes a head if it is complete: from the status line to the empty line.
    fn decode_head(&mut self, input: &[u8]) -> Result<usize, ResponseError> {
        let Some(len) = head_len(input)? else { return Ok(0) };
        let head = std::str::from_utf8(&input[..len]).map_err(|_| ResponseError::NotText)?;
        let mut lines = head.split("\r\n");
        let (minor, status) = lines.next().and_then(status).ok_or(ResponseError::NotHttp)?;
        // From HTTP/1.1 on connections persist unless a field ends them (RFC 9112, section 9.3).
        let mut last = minor == 0;
        let (mut length, mut chunked) = (None, false);
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(ResponseError::NoColon)?;
            let value = value.trim_matches([' ', '\t']);
            if name.eq_ignore_ascii_case("content-length") {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let value = value.parse::<u64>().ok().filter(|_| digits).ok_or(ResponseError::ContentLength)?;
                if length.replace(value).is_some_and(|before| before != value) {
                    return Err(ResponseError::ContentLengths);
                }
            } else if name.eq_ignore_ascii_case("connection") {
                for option in value.split(',').map(|option| option.trim_matches([' ', '\t'])) {
                    last |= option.eq_ignore_ascii_case("close");
                    last &= !option.eq_ignore_ascii_case("keep-alive");
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = value.eq_ignore_ascii_case("chunked");
                if !chunked {
                    return Err(ResponseError::TransferCoding(value.to_owned()));
                }
            }
        }
        let has_no_content = status < 200 || matches!(status, 204 | 304);
        // Content without a length ends with the connection (RFC 9112, section 6.3).
        last |= !has_no_content && !chunked && length.is_none();
        self.current = Response { status, last };
        self.state = match (status, length) {
            // The final response to the same request follows (RFC 9110, section 15.2).
            (100..200, _) => State::Head,
            (204 | 304, _) => State::Content(0),
            _ if chunked => State::ChunkSize,
            (_, Some(length)) => State::Content(length),
            (_, None) => State::UntilEof,
        };
        Ok(len)
    }

    fn decode_chunk_size(&mut self, input: &[u8]) -> Result<usize, ResponseError> {
        let Some(len) = line_len(input)? else { return Ok(0) };
        let line = std::str::from_utf8(&input[..len - 2]).map_err(|_| ResponseError::ChunkSize)?;
        let size = line.split(';').next().unwrap_or_default().trim_end_matches([' ', '\t']);
        let hex = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = u64::from_str_radix(size, 16).ok().filter(|_| hex).ok_or(ResponseError::ChunkSize)?;
        self.state = match size {
            0 => State::Trailer,
            size => State::Chunk(size.checked_add(2).ok_or(ResponseError::ChunkSize)?),
        };
        Ok(len)
    }

    /// Decodes a line after the last chunk. The empty line completes the response.
    fn decode_trailer(&mut self, input: &[u8]) -> Result<usize, ResponseError> {
        let Some(len) = line_len(input)? else { return Ok(0) };
        if len == 2 {
            self.state = State::Content(0);
        }
        Ok(len)
    }
}

/// Returns the minor version and the status of a status line.
fn status(line: &str) -> Option<(u8, u16)> {
    let rest = line.strip_prefix("HTTP/1.")?;
    let mut words = rest.split(' ');
    let (minor, status) = (words.next()?, words.next()?);
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(minor, 1) || !digits(status, 3) {
        return None;
    }
    let status = status.parse().ok().filter(|status| (100..600).contains(status))?;
    Some((minor.parse().ok()?, status))
}

/// Returns the length of the head at the front of `input`, with its empty line; `None` if the head is incomplete.
fn head_len(input: &[u8]) -> Result<Option<usize>, ResponseError> {
    let mut at = 0;
    while let Some(len) = line_len(&input[at..])? {
        at += len;
        if len == 2 && at > 2 {
            return Ok(Some(at));
        }
    }
    if at > LONGEST { Err(ResponseError::LongHead) } else { Ok(None) }
}

/// Returns the length of the line at the front of `input`, with its CRLF; `None` if the line is incomplete.
fn line_len(input: &[u8]) -> Result<Option<usize>, ResponseError> {
    match input.iter().take(LONGEST).position(|&byte| byte == b'\n') {
        Some(end) if end > 0 && input[end - 1] == b'\r' => Ok(Some(end + 1)),
        Some(_) => Err(ResponseError::BareLineFeed),
        None if input.len() >= LONGEST => Err(ResponseError::LongLine),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the statuses of the responses in `stream`, which arrives in pieces that end at `cuts`.
    fn statuses(stream: &[u8], cuts: &[usize]) -> Result<Vec<u16>, ResponseError> {
        let (mut responses, mut statuses, mut unread) = (Responses::default(), Vec::new(), Vec::new());
        let mut from = 0;
        for &to in cuts.iter().chain([&stream.len()]) {
            unread.extend_from_slice(&stream[from..to]);
            from = to;
            loop {
                let (n, complete) = responses.decode(&unread)?;
                unread.drain(..n);
                match complete {
                    Some(response) => statuses.push(response.status),
                    None => break,
                }
            }
        }
        statuses.extend(responses.decode_eof()?.map(|response| response.status));
        if unread.is_empty() { Ok(statuses) } else { Err(ResponseError::Truncated) }
    }

    #[test]
    fn responses_end_at_the_same_byte_however_they_are_split() {
        let samples: [(&[u8], &[u16]); 7] = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 404 \r\ncontent-length:0\r\n\r\n", &[200, 404]),
            (b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.0 304 x\r\nContent-Length: 7\r\n\r\n", &[204, 304]),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", &[200]),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0A\r\n0123456789\r\n0\r\n\r\n", &[200]),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n0\r\nA: b\r\n\r\nHTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", &[200, 500]),
            (b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nuntil the end\r\n\r\n", &[200]),
            (b"", &[]),
        ];
        for (stream, expected) in samples {
            for cut in 0..=stream.len() {
                assert_eq!(statuses(stream, &[cut]).as_deref(), Ok(expected), "cut at {cut}");
            }
            let each: Vec<_> = (0..stream.len()).collect();
            assert_eq!(statuses(stream, &each).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn the_last_response_of_a_connection_is_marked() {
        let cases = [
            ("HTTP/1.1 200 OK", "X: y", false),
            ("HTTP/1.1 200 OK", "Connection: close", true),
            ("HTTP/1.1 200 OK", "connection: Upgrade , CLOSE", true),
            ("HTTP/1.0 200 OK", "X: close", true),
            ("HTTP/1.0 200 OK", "Connection: keep-alive", false),
        ];
        for (line, field, last) in cases {
            let head = format!("{line}\r\n{field}\r\nContent-Length: 0\r\n\r\n");
            let read = Responses::default().decode(head.as_bytes());
            assert_eq!(read, Ok((head.len(), Some(Response { status: 200, last }))), "{line} {field}");
        }
    }

    #[test]
    fn doubtful_framing_is_an_error() {
        let samples: [&[u8]; 12] = [
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/2 200 OK\r\n\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
            b"HTTP/1.1 200 OK\r\nContent-",
        ];
        for stream in samples {
            assert!(statuses(stream, &[]).is_err(), "{}", String::from_utf8_lossy(stream));
        }
        assert!(statuses(&[b'x'; 2 * LONGEST], &[]).is_err());
    }
}
