//! Where a response of HTTP/1.1 ends.
//!
//! Owns: [`Responses`], a decoder of the responses to GET requests on one connection: status, framing, whether another one
//! may follow; no content (RFC 9112, sections 4, 6, 7 and 9). Must not know: requests, connections.
//!
//! Invariant: the outcome does not depend on how the bytes were split.

/// A response head that is longer, or a longer line of a trailer, is refused.
const LONGEST: usize = 64 * 1024;

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum State {
    /// A status line and fields.
    #[default]
    Head,
    /// So many bytes of content.
    Content(u64),
    /// The size of a chunk.
    ChunkSize,
    /// So many bytes of a chunk, its line end included.
    Chunk(u64),
    /// The lines after the last chunk.
    Trailer,
    /// Content until the end of file.
    UntilEof,
}

/// A response that is complete.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// The server will not answer another request on this connection (RFC 9112, section 9.6).
    pub last: bool,
}

/// Reads one response after the other.
#[derive(Clone, Default, Debug)]
pub struct Responses {
    state: State,
    current: Response,
}

impl Responses {
    /// Reads until a response is complete or `input` has come to its end. Returns how much has been read, and the
    /// response if one is complete. What is left is to be offered again with what follows.
    ///
    /// # Errors
    /// What is wrong with the response.
    pub fn read(&mut self, input: &[u8]) -> Result<(usize, Option<Response>), String> {
        let mut at = 0;
        while at < input.len() {
            let rest = &input[at..];
            let read = match self.state {
                State::Head => self.read_head(rest)?,
                State::Content(left) | State::Chunk(left) => {
                    let n = left.min(rest.len() as u64);
                    self.state = match self.state {
                        State::Chunk(_) if n == left => State::ChunkSize,
                        State::Chunk(_) => State::Chunk(left - n),
                        _ => State::Content(left - n),
                    };
                    n as usize
                }
                State::ChunkSize => self.read_chunk_size(rest)?,
                State::Trailer => self.read_trailer(rest)?,
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

    /// The server has ended the connection. Returns the response that this completes, if it does.
    ///
    /// # Errors
    /// If it is in the middle of a response.
    pub fn read_eof(&mut self) -> Result<Option<Response>, String> {
        match std::mem::take(&mut self.state) {
            State::Head => Ok(None),
            State::UntilEof => Ok(Some(self.current)),
            _ => Err("a response was cut off".to_owned()),
        }
    }

    /// A head, if it is all there: from the status line to the empty line.
    fn read_head(&mut self, input: &[u8]) -> Result<usize, String> {
        let Some(len) = head_len(input)? else { return Ok(0) };
        let head = std::str::from_utf8(&input[..len]).map_err(|_| "a response head that is not text")?;
        let mut lines = head.split("\r\n");
        let (minor, status) = lines.next().and_then(status).ok_or("not a response of HTTP/1")?;
        // Connections persist from HTTP/1.1 on, unless somebody says otherwise.
        let mut last = minor == 0;
        let (mut length, mut chunked) = (None, false);
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or("a response field without a colon")?;
            let value = value.trim_matches([' ', '\t']);
            if name.eq_ignore_ascii_case("content-length") {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let value = value.parse::<u64>().ok().filter(|_| digits).ok_or("a wrong Content-Length")?;
                if length.replace(value).is_some_and(|before| before != value) {
                    return Err("two different Content-Lengths".to_owned());
                }
            } else if name.eq_ignore_ascii_case("connection") {
                for option in value.split(',').map(|option| option.trim_matches([' ', '\t'])) {
                    last |= option.eq_ignore_ascii_case("close");
                    last &= !option.eq_ignore_ascii_case("keep-alive");
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = value.eq_ignore_ascii_case("chunked");
                if !chunked {
                    return Err(format!("transfer coding {value:.40}"));
                }
            }
        }
        let has_no_content = status < 200 || matches!(status, 204 | 304);
        // Content without a length ends with the connection (RFC 9112, section 6.3).
        last |= !has_no_content && !chunked && length.is_none();
        self.current = Response { status, last };
        self.state = match (status, length) {
            // Another one follows for the same request (RFC 9110, section 15.2).
            (100..200, _) => State::Head,
            (204 | 304, _) => State::Content(0),
            _ if chunked => State::ChunkSize,
            (_, Some(length)) => State::Content(length),
            (_, None) => State::UntilEof,
        };
        Ok(len)
    }

    fn read_chunk_size(&mut self, input: &[u8]) -> Result<usize, String> {
        let Some(len) = line_len(input)? else { return Ok(0) };
        let line = std::str::from_utf8(&input[..len - 2]).map_err(|_| "a wrong chunk size")?;
        let size = line.split(';').next().unwrap_or_default().trim_end_matches([' ', '\t']);
        let hex = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = u64::from_str_radix(size, 16).ok().filter(|_| hex).ok_or("a wrong chunk size")?;
        self.state = match size {
            0 => State::Trailer,
            size => State::Chunk(size.checked_add(2).ok_or("a wrong chunk size")?),
        };
        Ok(len)
    }

    /// A line after the last chunk; the empty one completes the response.
    fn read_trailer(&mut self, input: &[u8]) -> Result<usize, String> {
        let Some(len) = line_len(input)? else { return Ok(0) };
        if len == 2 {
            self.state = State::Content(0);
        }
        Ok(len)
    }
}

/// The minor version and the status of a status line.
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

/// How long the head at the front of `input` is, with its empty line; `None` if it is not all there.
fn head_len(input: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    while let Some(len) = line_len(&input[at..])? {
        at += len;
        if len == 2 && at > 2 {
            return Ok(Some(at));
        }
    }
    if at > LONGEST { Err("a response head of more than 64 KiB".to_owned()) } else { Ok(None) }
}

/// How long the line at the front of `input` is, with its CRLF; `None` if it is not all there.
fn line_len(input: &[u8]) -> Result<Option<usize>, String> {
    match input.iter().take(LONGEST).position(|&byte| byte == b'\n') {
        Some(end) if end > 0 && input[end - 1] == b'\r' => Ok(Some(end + 1)),
        Some(_) => Err("a line without CR".to_owned()),
        None if input.len() >= LONGEST => Err("a response line of more than 64 KiB".to_owned()),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statuses of the responses in `stream`, which comes in pieces that end at `cuts`.
    fn statuses(stream: &[u8], cuts: &[usize]) -> Result<Vec<u16>, String> {
        let (mut responses, mut statuses, mut unread) = (Responses::default(), Vec::new(), Vec::new());
        let mut from = 0;
        for &to in cuts.iter().chain([&stream.len()]) {
            unread.extend_from_slice(&stream[from..to]);
            from = to;
            loop {
                let (n, complete) = responses.read(&unread)?;
                unread.drain(..n);
                match complete {
                    Some(response) => statuses.push(response.status),
                    None => break,
                }
            }
        }
        statuses.extend(responses.read_eof()?.map(|response| response.status));
        if unread.is_empty() { Ok(statuses) } else { Err("something is left".to_owned()) }
    }

    #[test]
    fn responses_end_where_they_say_however_they_are_split() {
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
    fn the_last_response_says_so() {
        let cases = [
            ("HTTP/1.1 200 OK", "X: y", false),
            ("HTTP/1.1 200 OK", "Connection: close", true),
            ("HTTP/1.1 200 OK", "connection: Upgrade , CLOSE", true),
            ("HTTP/1.0 200 OK", "X: close", true),
            ("HTTP/1.0 200 OK", "Connection: keep-alive", false),
        ];
        for (line, field, last) in cases {
            let head = format!("{line}\r\n{field}\r\nContent-Length: 0\r\n\r\n");
            let read = Responses::default().read(head.as_bytes());
            assert_eq!(read, Ok((head.len(), Some(Response { status: 200, last }))), "{line} {field}");
        }
    }

    #[test]
    fn what_is_in_doubt_is_an_error() {
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
