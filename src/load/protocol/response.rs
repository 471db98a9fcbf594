//! The framing of responses in HTTP/1.
//!
//! Owns: [`Responses`], a decoder of the responses to GET requests on one connection. The decoder knows status, framing and
//! persistence, and skips all other bytes (RFC 9112, sections 4, 6, 7 and 9). Must not know: requests, connections.
//!
//! A load generator measures a server and does not judge it. So the decoder accepts the responses that wrk, curl and h2load
//! accept, as long as their end is certain. That includes any status of three digits, obs-text and control characters,
//! folded lines, LF without CR, empty lines before a response, and unknown transfer codings.
//!
//! Invariant: the outcome does not depend on how the bytes were split.

use std::fmt;

/// The longest head of a response, and the longest line of a chunked body, in bytes (curl: 300 KiB).
const LONGEST: usize = 300 * 1024;

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
    /// The given number of bytes of a chunk.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResponseError {
    /// The first line is not a status line of HTTP/1.
    NotHttp,
    /// The head is longer than 300 KiB.
    LongHead,
    /// A line of a chunked body is longer than 300 KiB.
    LongLine,
    /// A field line has no colon.
    NoColon,
    /// `Content-Length` is not a number below 2^64.
    ContentLength,
    /// Two values of `Content-Length` differ.
    ContentLengths,
    /// The size of a chunk is not a hexadecimal number below 2^64.
    ChunkSize,
    /// The connection has ended within a response.
    Truncated,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResponseError::NotHttp => "not a response of HTTP/1",
            ResponseError::LongHead => "a response head of more than 300 KiB",
            ResponseError::LongLine => "a response line of more than 300 KiB",
            ResponseError::NoColon => "a response field without a colon",
            ResponseError::ContentLength => "a wrong Content-Length",
            ResponseError::ContentLengths => "two different Content-Lengths",
            ResponseError::ChunkSize => "a wrong chunk size",
            ResponseError::Truncated => "a response was cut off",
        })
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
                State::Content(left) => {
                    let n = left.min(rest.len() as u64);
                    self.state = State::Content(left - n);
                    n as usize
                }
                State::ChunkSize => self.decode_chunk_size(rest)?,
                State::Chunk(left) => {
                    let n = left.min(rest.len() as u64);
                    self.state = if n == left { State::ChunkEnd } else { State::Chunk(left - n) };
                    n as usize
                }
                State::ChunkEnd => self.decode_chunk_end(rest),
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

    /// Decodes a head if it is complete: from the status line to the empty line. Empty lines before it are skipped.
    fn decode_head(&mut self, input: &[u8]) -> Result<usize, ResponseError> {
        if let [b'\n' | b'\r', ..] = input {
            return Ok(1);
        }
        let within = &input[..input.len().min(LONGEST)];
        let Some(line) = line_len(within) else { return incomplete_head(input) };
        let (is_old, status) = status_line(text(&within[..line])).ok_or(ResponseError::NotHttp)?;
        let mut framing = Framing::default();
        // Whitespace after the status line begins no field (RFC 9112, section 2.2).
        let Some(mut at) = end_of_folded(within, line) else { return incomplete_head(input) };
        loop {
            let Some(len) = line_len(&within[at..]) else { return incomplete_head(input) };
            if text(&within[at..at + len]).is_empty() {
                at += len;
                break;
            }
            let Some(end) = end_of_folded(within, at + len) else { return incomplete_head(input) };
            framing.add(&within[at..end])?;
            at = end;
        }
        self.begin(is_old, status, &framing)?;
        Ok(at)
    }

    /// Begins the response with the given head (RFC 9112, section 6.3). `is_old` stands for a version before HTTP/1.1.
    fn begin(&mut self, is_old: bool, status: u16, framing: &Framing) -> Result<(), ResponseError> {
        self.state = match (status, framing.chunked, framing.length) {
            // The server speaks another protocol from here on, which no request has asked for.
            (101, ..) | (204 | 304, ..) => State::Content(0),
            // The final response to the same request follows (RFC 9110, section 15.2).
            (100..200, ..) => State::Head,
            (_, true, _) => State::ChunkSize,
            // Also of a response with another transfer coding, as in wrk: a server that sends both keeps to the length.
            (.., Some(length)) => State::Content(length?),
            (.., None) => State::UntilEof,
        };
        // From HTTP/1.1 on connections persist unless a field ends them (RFC 9112, section 9.3).
        let persists = !framing.close && (!is_old || framing.keep_alive);
        let last = !persists || status == 101 || self.state == State::UntilEof;
        self.current = Response { status, last };
        Ok(())
    }

    fn decode_chunk_size(&mut self, input: &[u8]) -> Result<usize, ResponseError> {
        let Some(len) = bounded_line_len(input)? else { return Ok(0) };
        // An extension follows a semicolon, or whitespace for servers that pad the size.
        let line = text(&input[..len]);
        let digits = line.split(|byte| b"; \t".contains(byte)).next().unwrap_or_default();
        let size = number(digits, 16).ok_or(ResponseError::ChunkSize)?;
        self.state = if size == 0 { State::Trailer } else { State::Chunk(size) };
        Ok(len)
    }

    /// Skips the line end after a chunk, which the size of the chunk implies.
    fn decode_chunk_end(&mut self, input: &[u8]) -> usize {
        let len = match input {
            [b'\n', ..] => 1,
            [_, _, ..] => 2,
            _ => return 0,
        };
        self.state = State::ChunkSize;
        len
    }

    /// Decodes a line after the last chunk. The empty line completes the response.
    fn decode_trailer(&mut self, input: &[u8]) -> Result<usize, ResponseError> {
        let Some(len) = bounded_line_len(input)? else { return Ok(0) };
        if text(&input[..len]).is_empty() {
            self.state = State::Content(0);
        }
        Ok(len)
    }
}

/// The fields of a head that decide where the response ends, and whether the connection persists.
#[derive(Default)]
struct Framing {
    length: Option<Result<u64, ResponseError>>,
    /// The final transfer coding is `chunked`.
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl Framing {
    /// Adds a field line, with its folded lines and its line end.
    fn add(&mut self, field: &[u8]) -> Result<(), ResponseError> {
        let colon = field.iter().position(|&byte| byte == b':').ok_or(ResponseError::NoColon)?;
        let (name, value) = (field[..colon].trim_ascii_end(), &field[colon + 1..]);
        // A list may have empty elements (RFC 9110, section 5.6.1).
        let mut elements =
            value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty());
        // The lengths of the names tell nearly all other fields apart.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let mut length = |element| {
                    let length = number(element, 10).ok_or(ResponseError::ContentLength);
                    self.length = match self.length {
                        Some(before) if before != length => Some(Err(ResponseError::ContentLengths)),
                        _ => Some(length),
                    };
                };
                length(elements.next().unwrap_or_default());
                elements.for_each(length);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                for coding in elements {
                    self.chunked = coding.eq_ignore_ascii_case(b"chunked");
                }
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in elements {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Decodes a status line: returns true for a version before HTTP/1.1, and the status. A line with another version of two
/// digits counts as HTTP/1.1, because the bytes of HTTP/2 are no text.
fn status_line(line: &[u8]) -> Option<(bool, u16)> {
    let mut words = line.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
    let (name, version) = words.next()?.split_at_checked(5)?;
    let &[major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9'] = version else { return None };
    let status = words.next().filter(|status| status.len() == 3)?;
    let is_old = (major, minor) < (b'1', b'1');
    name.eq_ignore_ascii_case(b"HTTP/").then_some((is_old, u16::try_from(number(status, 10)?).ok()?))
}

/// Returns the value of digits; `None` without a digit, with another byte, or above 2^64.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let add = |value: u64, &digit: &u8| {
        value.checked_mul(radix.into())?.checked_add(char::from(digit).to_digit(radix)?.into())
    };
    digits.iter().try_fold(0, add).filter(|_| !digits.is_empty())
}

/// Returns a line without its line end: LF, or CR and LF.
fn text(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Returns the length of the line at the front of `input`, with its line end; `None` if the line is incomplete.
fn line_len(input: &[u8]) -> Option<usize> {
    input.iter().position(|&byte| byte == b'\n').map(|end| end + 1)
}

/// Returns the end of the folded lines that begin at `at` (RFC 9112, section 5.2); `None` if one is incomplete.
fn end_of_folded(input: &[u8], mut at: usize) -> Option<usize> {
    while let Some(b' ' | b'\t') = input.get(at) {
        at += line_len(&input[at..])?;
    }
    Some(at)
}

/// Returns the length of the line at the front of `input`, which has at most [`LONGEST`] bytes; `None` if the line is
/// incomplete.
fn bounded_line_len(input: &[u8]) -> Result<Option<usize>, ResponseError> {
    match line_len(&input[..input.len().min(LONGEST)]) {
        None if input.len() >= LONGEST => Err(ResponseError::LongLine),
        len => Ok(len),
    }
}

/// Consumes nothing of a head that may still become complete within [`LONGEST`] bytes.
fn incomplete_head(input: &[u8]) -> Result<usize, ResponseError> {
    if input.len() >= LONGEST { Err(ResponseError::LongHead) } else { Ok(0) }
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
        let samples: [(&[u8], &[u16]); 22] = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 404 \r\ncontent-length:0\r\n\r\n", &[200, 404]),
            (b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.0 304 x\r\nContent-Length: 7\r\n\r\n", &[204, 304]),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", &[200]),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0A\r\n0123456789\r\n0\r\n\r\n", &[200]),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n0\r\nA: b\r\n\r\nHTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", &[200, 500]),
            (b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nuntil the end\r\n\r\n", &[200]),
            (b"", &[]),
            // Bytes that do not decide where a response ends.
            (b"HTTP/1.1 302 D\xe9plac\xe9\r\nServer: caf\xe9\0\x07\r\nContent-Length: 1\r\n\r\nx", &[302]),
            (b"HTTP/1.1 200 OK\r\n folded\r\nX: one\r\n two\r\n\t\r\nContent-Length:\r\n 1\r\n\r\nx", &[200]),
            (b"HTTP/1.1 999 Denied\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 099\tx\r\nContent-Length: 0\r\n\r\n", &[999, 99]),
            (b"\r\n\n\rHTTP/1.1 204 x\r\n\r\n\r\n\r\nHTTP/1.1  204 y\r\n\r\n\n", &[204, 204]),
            (b"HTTP/1.1 200 OK\nContent-Length : 1\n\nxHTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\nx\n0\n\n", &[200, 200]),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nxxHTTP/1.1 204 x\r\n\r\n", &[200, 204]),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: x\r\n\r\n1 ;\xe9\r\nx\r\n0\r\n\r\n", &[200]),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[200]),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\nuntil the end", &[200]),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: ,1,\r\n\r\nxHTTP/1.1 204 x\r\n\r\n", &[200, 204]),
            (b"HTTP/2.0 204 x\r\n\r\nhttp/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1 x=y\r\nx\r\n0\r\n\r\n", &[204, 200]),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 204 x\r\n\r\n", &[200, 204]),
            (b"HTTP/1.1 304 x\r\nContent-Length: unknown\r\n\r\n", &[304]),
            (b"HTTP/1.1 102 x\r\n\r\nHTTP/1.1 103 x\r\nLink: y\r\n\r\nHTTP/1.1 204 x\r\n\r\n", &[204]),
            (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", &[101]),
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
            ("HTTP/1.1 200 OK", "Connection: close, keep-alive", true),
            ("HTTP/1.1 200 OK", "Connection:\r\n close", true),
        ];
        for (line, field, last) in cases {
            let head = format!("{line}\r\n{field}\r\nContent-Length: 0\r\n\r\n");
            let read = Responses::default().decode(head.as_bytes());
            assert_eq!(read, Ok((head.len(), Some(Response { status: 200, last }))), "{line} {field}");
        }
    }

    #[test]
    fn doubtful_framing_is_an_error() {
        let samples: [&[u8]; 17] = [
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/2 200 OK\r\n\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1 2x0 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nxx",
            b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
            b"HTTP/1.1 204 x\r\n\r\nstray",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
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
