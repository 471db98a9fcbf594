//! The body of a request, as its bytes arrive.
//!
//! Owns: [`BodyDecoder`]. Must not know: the use of the body.
//!
//! ```text
//!     Content-Length:   n bytes
//!     chunked:          size [;extensions] CRLF  data CRLF   …   0 [;extensions] CRLF  trailer fields  CRLF
//! ```
//!
//! Invariants:
//! 1. The decoder looks at each byte once, and keeps none, whatever the pieces are.
//! 2. Bytes after the end stay in the input: they belong to the next request.
//! 3. A body has at most `limit` bytes, and at most [`MAX_HEAD`] bytes of extensions and trailers. Those are cheap to make
//!    up and need no memory here, but reading them takes time.

use super::framing::Content;
use super::head::MAX_HEAD;
use super::status::{Refusal, Status};

/// The result of looking at the front of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// A piece of the body.
    Piece(&'a [u8]),
    /// The body has ended.
    End,
    /// The input has no further byte, and the body has not ended.
    NeedMore,
}

/// Takes a body off the front of the input, piece by piece.
///
/// ```
/// use reactor::protocol::http::{Body, BodyDecoder, Content};
///
/// let mut decoder = BodyDecoder::new(Content::Chunked, 1000).unwrap();
/// let mut input = &b"5\r\nhello\r\n0\r\n\r\nGET "[..];
/// assert_eq!(decoder.decode(&mut input), Ok(Body::Piece(b"hello")));
/// assert_eq!(decoder.decode(&mut input), Ok(Body::End));
/// assert_eq!(input, b"GET ");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BodyDecoder {
    at: At,
    /// The bytes that the body may still have.
    remaining: u64,
    /// The bytes that extensions and trailers may still have.
    extra: usize,
}

/// The place of the next byte in the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// In a body with a Content-Length, with this many bytes left.
    Plain(u64),
    /// The first digit of a chunk's size.
    Size,
    /// After this many digits of a size.
    Digits(u64, u8),
    /// In the extensions after the size.
    Extension(u64, Extension),
    /// After the CR of a size line.
    SizeLf(u64),
    /// In a chunk, with this many bytes left.
    Data(u64),
    /// After a chunk.
    DataCr,
    DataLf,
    /// The beginning of a line of the trailer section.
    Line,
    /// In the name of a trailer field.
    FieldName,
    /// In the value of a trailer field.
    FieldValue,
    FieldLf,
    /// After the CR of the empty line.
    LastLf,
    End,
}

/// The place in the extensions of a chunk (RFC 9112 §7.1.1). Extensions have no meaning here. But a recipient that accepts
/// one with unbalanced quotes may see the end of the line at another place than other recipients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extension {
    /// In white space before a semicolon.
    Blank,
    /// After a semicolon: a name begins.
    BeforeName,
    Name,
    /// In white space after a name.
    AfterName,
    /// After an equals sign: a value begins.
    BeforeValue,
    Value,
    Quoted,
    /// After a backslash.
    Escaped,
    AfterQuoted,
}

impl Extension {
    /// Returns true if the line may end here.
    fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::AfterQuoted)
    }

    /// Returns the place of the byte after `byte`; `None` if the grammar forbids `byte` here.
    fn step(self, byte: u8) -> Option<Self> {
        let is_blank = matches!(byte, b' ' | b'\t');
        Some(match (self, byte) {
            (Self::Blank | Self::Name | Self::AfterName | Self::Value | Self::AfterQuoted, b';') => Self::BeforeName,
            (Self::Blank | Self::BeforeName | Self::AfterName | Self::BeforeValue, _) if is_blank => self,
            (Self::BeforeName | Self::Name, _) if is_token(byte) => Self::Name,
            (Self::Name | Self::AfterName, b'=') => Self::BeforeValue,
            (Self::Name, _) if is_blank => Self::AfterName,
            (Self::BeforeValue | Self::Value, _) if is_token(byte) => Self::Value,
            (Self::BeforeValue, b'"') => Self::Quoted,
            (Self::Value | Self::AfterQuoted, _) if is_blank => Self::Blank,
            (Self::Quoted, b'"') => Self::AfterQuoted,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, _) if is_text(byte) => Self::Quoted,
            _ => return None,
        })
    }
}

impl BodyDecoder {
    /// A decoder for a body of at most `limit` bytes.
    ///
    /// # Errors
    /// If the Content-Length is larger.
    pub fn new(content: Content, limit: usize) -> Result<Self, Refusal> {
        let mut decoder = Self { at: At::Size, remaining: limit as u64, extra: MAX_HEAD };
        if let Content::Length(length) = content {
            decoder.claim(length)?;
            decoder.at = At::Plain(length);
        }
        Ok(decoder)
    }

    /// Takes the next piece off the front of `input`.
    ///
    /// # Errors
    /// If the chunks break the grammar of RFC 9112 §7.1, or the body is too long. The decoder cannot go on then.
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Body<'a>, Refusal> {
        loop {
            match self.at {
                At::Plain(0) | At::End => {
                    self.at = At::End;
                    return Ok(Body::End);
                }
                At::Data(0) => self.at = At::DataCr,
                _ if input.is_empty() => return Ok(Body::NeedMore),
                At::Plain(left) | At::Data(left) => {
                    let whole = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                    let (piece, rest) = input.split_at(whole);
                    *input = rest;
                    let left = left - whole as u64;
                    self.at = if matches!(self.at, At::Plain(_)) { At::Plain(left) } else { At::Data(left) };
                    return Ok(Body::Piece(piece));
                }
                at => {
                    let byte = input[0];
                    *input = &input[1..];
                    self.at = self.step(at, byte)?;
                }
            }
        }
    }

    /// Returns the place of the byte after `byte`.
    fn step(&mut self, at: At, byte: u8) -> Result<At, Refusal> {
        const SIZE: Refusal = Refusal::bad("the size of a chunk is not a hexadecimal number");
        const LINE: Refusal = Refusal::bad("a size line of a chunk is malformed");
        const TRAILER: Refusal = Refusal::bad("a trailer field is malformed");
        Ok(match (at, byte) {
            (At::Size, _) => At::Digits(digit(byte).ok_or(SIZE)?, 1),
            (At::Digits(size, _), b' ' | b'\t') => At::Extension(size, Extension::Blank),
            (At::Digits(size, _), b';') => At::Extension(size, Extension::BeforeName),
            (At::Digits(size, _), b'\r') => At::SizeLf(size),
            // A number of 64 bits has at most sixteen digits.
            (At::Digits(size, n @ ..16), _) => At::Digits(size * 16 + digit(byte).ok_or(SIZE)?, n + 1),
            (At::Digits(..), _) => return Err(SIZE),
            (At::Extension(size, extension), b'\r') if extension.may_end() => At::SizeLf(size),
            (At::Extension(size, extension), _) => {
                self.read_extra(At::Extension(size, extension.step(byte).ok_or(LINE)?))?
            }
            (At::SizeLf(0), b'\n') => At::Line,
            (At::SizeLf(size), b'\n') => {
                self.claim(size)?;
                At::Data(size)
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size,
            (At::DataCr | At::DataLf, _) => return Err(Refusal::bad("no line end follows a chunk")),
            (At::Line, b'\r') => At::LastLf,
            (At::LastLf, b'\n') => At::End,
            (At::Line | At::FieldName, _) if is_token(byte) => self.read_extra(At::FieldName)?,
            (At::FieldName, b':') => At::FieldValue,
            (At::FieldValue, b'\r') => At::FieldLf,
            (At::FieldValue, _) if is_text(byte) => self.read_extra(At::FieldValue)?,
            (At::FieldLf, b'\n') => At::Line,
            (At::Line | At::FieldName | At::FieldValue | At::FieldLf | At::LastLf, _) => return Err(TRAILER),
            _ => return Err(LINE),
        })
    }

    /// Counts the next `n` bytes of the body.
    fn claim(&mut self, n: u64) -> Result<(), Refusal> {
        let too_long = Refusal::new(Status::ContentTooLarge, "the body is longer than this server accepts");
        self.remaining = self.remaining.checked_sub(n).ok_or(too_long)?;
        Ok(())
    }

    /// Counts a byte of extensions or trailers, and returns `next`.
    fn read_extra<T>(&mut self, next: T) -> Result<T, Refusal> {
        let too_much = Refusal::new(Status::HeaderFieldsTooLarge, "the extensions and trailers are longer than 16 KiB");
        self.extra = self.extra.checked_sub(1).ok_or(too_much)?;
        Ok(next)
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

/// Returns true for a character of a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns true for a character of a field's value (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 20;

    /// The body in `pieces`, and the bytes after it if it has an end.
    fn decoded(content: Content, pieces: &[&[u8]]) -> Result<(Vec<u8>, Option<Vec<u8>>), Refusal> {
        let mut decoder = BodyDecoder::new(content, LIMIT)?;
        let (mut body, mut behind) = (Vec::new(), None);
        for piece in pieces {
            let mut rest = *piece;
            if let Some(behind) = &mut behind {
                Vec::extend_from_slice(behind, piece);
                continue;
            }
            loop {
                match decoder.decode(&mut rest)? {
                    Body::Piece(piece) => body.extend_from_slice(piece),
                    Body::End => break behind = Some(rest.to_vec()),
                    Body::NeedMore => break assert_eq!(rest, b""),
                }
            }
        }
        Ok((body, behind))
    }

    #[test]
    fn every_split_of_every_sample_gives_the_same_body() {
        let samples: [(Content, &[u8]); 14] = [
            (Content::Length(0), b"next"),
            (Content::Length(5), b"hellonext"),
            (Content::Length(5), b"hel"),
            (Content::Chunked, b"5\r\nhello\r\n0\r\n\r\nnext"),
            (Content::Chunked, b"5;a=\"b;c\"\r\nhello\r\nA ; d\r\n0123456789\r\n00\r\nX: y\r\nZ:\r\n\r\nnext"),
            (Content::Chunked, b"5\r\nhel"),
            (Content::Chunked, b"5\r\nhello\r\n0\r\nX: y\r\n"),
            (Content::Chunked, b"g\r\n"),
            (Content::Chunked, b"5\nhello"),
            (Content::Chunked, b"5;\r\nhello"),
            (Content::Chunked, b"5\r\nhelloX"),
            (Content::Chunked, b"14\r\n01234567890123456789\r\n1\r\n"),
            (Content::Chunked, b"00000000000000001\r\n"),
            (Content::Chunked, b"0\r\nX\0: y\r\n\r\n"),
        ];
        for (content, bytes) in samples {
            let whole = decoded(content, &[bytes]);
            assert_eq!(decoded(content, &bytes.chunks(1).collect::<Vec<_>>()), whole, "{bytes:?}");
            for at in 0..=bytes.len() {
                assert_eq!(decoded(content, &[&bytes[..at], &bytes[at..]]), whole, "{bytes:?} at {at}");
            }
        }
    }

    #[test]
    fn extensions_are_names_and_values() {
        let is_good = |extensions: &str| decoded(Content::Chunked, &[format!("1{extensions}\r\nx").as_bytes()]).is_ok();
        for good in
            ["", ";a", " ; a", ";a;b", ";a=b", ";a = b\t; c", "; a=\"\"", ";a=\"b;\\\"c\\\\\" ;d", ";a=\"\u{e4}=\""]
        {
            assert!(is_good(good), "{good}");
        }
        for bad in [
            " ",
            ";",
            ";;",
            ";a;",
            ";a ",
            ";=b",
            ";a=",
            ";a=b=c",
            ";a=b ",
            ";a b",
            ";a=b c",
            ";a=\"b",
            ";a=\"b\\\"",
            ";a=\"b\"c",
            ";a=b\"c\"",
            ";a=\"\0\"",
            ";a=(",
            ";\u{e4}",
            ",a",
        ] {
            assert!(!is_good(bad), "{bad}");
        }
    }

    #[test]
    fn bytes_after_the_end_stay_in_the_input() {
        let samples: [(Content, &[u8]); 2] =
            [(Content::Length(5), b"helloGET"), (Content::Chunked, b"5\r\nhello\r\n0\r\nX: y\r\n\r\nGET")];
        for (content, bytes) in samples {
            assert_eq!(decoded(content, &[bytes]), Ok((b"hello".to_vec(), Some(b"GET".to_vec()))));
        }
    }

    #[test]
    fn a_body_has_at_most_limit_bytes() {
        let status = |content, bytes: &[u8]| decoded(content, &[bytes]).map_err(|refusal| refusal.status);
        assert_eq!(status(Content::Length(21), b""), Err(Status::ContentTooLarge));
        assert_eq!(status(Content::Length(u64::MAX), b""), Err(Status::ContentTooLarge));
        assert!(status(Content::Chunked, b"14\r\n01234567890123456789\r\n0\r\n\r\n").is_ok());
        assert_eq!(status(Content::Chunked, b"13\r\n0123456789012345678\r\n2\r\n"), Err(Status::ContentTooLarge));
        assert_eq!(status(Content::Chunked, b"ffffffffffffffff\r\n"), Err(Status::ContentTooLarge));
        assert_eq!(
            status(Content::Chunked, &[b"0;", &[b'x'; MAX_HEAD + 1][..]].concat()),
            Err(Status::HeaderFieldsTooLarge)
        );
    }
}
