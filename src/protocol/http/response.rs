//! Responses, from their parts to bytes.
//!
//! Owns: [`Response`], and [`Stamp`], the lines that all responses of a second share. Must not know: requests, routes.

use std::time::SystemTime;

use super::status::Status;
use crate::protocol::civil::{Civil, seconds_since_epoch};

/// The lines `Server` and `Date`, made once a second, however many responses have them.
#[derive(Debug, Default)]
pub struct Stamp {
    second: Option<i64>,
    lines: String,
}

impl Stamp {
    /// Sets the time.
    pub fn set(&mut self, now: SystemTime) {
        let now = seconds_since_epoch(now);
        if self.second != Some(now) {
            self.second = Some(now);
            // The format has years of four digits only.
            let date = imf_fixdate(Civil::at(now).unwrap_or(Civil::EPOCH));
            self.lines = format!("Server: reactor\r\nDate: {date}\r\n");
        }
    }
}

/// Returns `date` as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT` (IMF-fixdate, RFC 9110 §5.6.7).
fn imf_fixdate(date: Civil) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let Civil { year, month, day, weekday, hour, minute, second } = date;
    let (weekday, month) = (DAYS[weekday], MONTHS[month as usize - 1]);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// The field `Connection` of a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connection {
    /// No field: the connection goes on, as is usual in HTTP/1.1.
    Default,
    /// `keep-alive`: the connection goes on, which is not usual in HTTP/1.0.
    KeepAlive,
    /// `close`: the connection ends.
    Close,
}

impl Connection {
    const fn line(self) -> &'static str {
        match self {
            Connection::Default => "",
            Connection::KeepAlive => "Connection: keep-alive\r\n",
            Connection::Close => "Connection: close\r\n",
        }
    }
}

/// A response.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The status.
    pub status: Status,
    /// The type of the content. Must be a valid field value, such as the value of a parsed header field.
    pub content_type: &'a [u8],
    /// The methods of the target, for the field `Allow`.
    pub allow: Option<&'static str>,
    /// The field `Connection`.
    pub connection: Connection,
    /// The content. Every response has its length.
    pub content: &'a [u8],
    /// The response to HEAD: all but the content (RFC 9110 §9.3.2).
    pub head_only: bool,
}

impl Response<'_> {
    /// Appends the response to `output`.
    #[inline]
    pub fn encode(&self, stamp: &Stamp, output: &mut Vec<u8>) {
        // More than the lines below need, so that the buffer grows once at most.
        output.reserve(256 + stamp.lines.len() + self.content_type.len() + self.content.len());
        output.extend_from_slice(self.status.line().as_bytes());
        output.extend_from_slice(stamp.lines.as_bytes());
        output.extend_from_slice(b"Content-Type: ");
        output.extend_from_slice(self.content_type);
        output.extend_from_slice(b"\r\nContent-Length: ");
        push_decimal(self.content.len(), output);
        output.extend_from_slice(b"\r\n");
        if let Some(allow) = self.allow {
            output.extend_from_slice(b"Allow: ");
            output.extend_from_slice(allow.as_bytes());
            output.extend_from_slice(b"\r\n");
        }
        output.extend_from_slice(self.connection.line().as_bytes());
        output.extend_from_slice(b"\r\n");
        if !self.head_only {
            output.extend_from_slice(self.content);
        }
    }
}

fn push_decimal(number: usize, output: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    output.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const FULL: Response<'_> = Response {
        status: Status::MethodNotAllowed,
        content_type: b"text/plain",
        allow: Some("GET"),
        connection: Connection::Close,
        content: b"0123456789",
        head_only: false,
    };

    fn encoded(response: Response<'_>, seconds: u64) -> String {
        let (mut stamp, mut output) = (Stamp::default(), b"before ".to_vec());
        stamp.set(UNIX_EPOCH + Duration::from_secs(seconds));
        response.encode(&stamp, &mut output);
        String::from_utf8(output).expect("text")
    }

    #[test]
    fn a_response_has_its_fields_in_order() {
        let head = "before HTTP/1.1 405 Method Not Allowed\r\nServer: reactor\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                    Content-Type: text/plain\r\nContent-Length: 10\r\nAllow: GET\r\nConnection: close\r\n\r\n";
        assert_eq!(encoded(FULL, 784_111_777), format!("{head}0123456789"));
        assert_eq!(encoded(Response { head_only: true, ..FULL }, 784_111_777), head);
        let empty = Response { content: b"", allow: None, connection: Connection::Default, ..FULL };
        assert!(encoded(empty, 0).ends_with("00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n"));
    }

    #[test]
    fn a_clock_far_from_the_present_gives_a_date() {
        assert!(encoded(FULL, 1 << 60).contains("\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"));
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for number in [0, 9, 10, 1_000_000, usize::MAX] {
            let mut output = Vec::new();
            push_decimal(number, &mut output);
            assert_eq!(output, number.to_string().as_bytes());
        }
    }
}
