//! The body of a request, as its bytes come.
//!
//! Owns: [`BodyDecoder`]. Must not know: what the body is for.
//!
//! ```text
//!     Content-Length:   n bytes
//!     chunked:          size [;extensions] CRLF  data CRLF   …   0 [;extensions] CRLF  trailer fields  CRLF
//! ```
//!
//! Invariants:
//! 1. Each byte is looked at once; nothing is kept, whatever the pieces are.
//! 2. Bytes behind the end are not touched: they are the next request's.
//! 3. No more than the limit comes out, and no more than [`MAX_HEAD`] bytes of extensions and trailers go in: they cost
//!    the client nothing to make up and us nothing to keep, but somebody has to read them.

use super::framing::Content;
use super::head::MAX_HEAD;
use super::status::{Refusal, Status};

/// What the front of the input is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// A piece of the body.
    Piece(&'a [u8]),
    /// The body has ended.
    End,
    /// The input is used up, the body has not ended.
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
    /// How much more may come out.
    remaining: u64,
    /// How many more bytes of extensions and trailers are read.
    patience: usize,
}

/// Where in the body the next byte is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// Bytes whose number was told by Content-Length.
    Plain(u64),
    /// The first digit of a chunk's size.
    Size,
    /// Behind so many digits.
    Digits(u64, u8),
    /// In the extensions behind the size.
    Extension(u64, Extension),
    /// Behind the CR of a size line.
    SizeLf(u64),
    /// In a chunk.
    Data(u64),
    /// Behind a chunk.
    DataCr,
    DataLf,
    /// The beginning of a line of the trailer section.
    Line,
    /// In the name of a trailer field.
    FieldName,
    /// In its value.
    FieldValue,
    FieldLf,
    /// Behind the CR of the empty line.
    LastLf,
    End,
}

/// Where in the extensions of a chunk (RFC 9112 §7.1.1). They mean nothing here, but who takes one for good whose quotes do
/// not match may see the line end elsewhere than others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extension {
    /// White space that only a semicolon may follow.
    Blank,
    /// Behind a semicolon: a name begins.
    BeforeName,
    Name,
    /// White space behind a name.
    BehindName,
    /// Behind an equals sign: a value begins.
    BeforeValue,
    Value,
    Quoted,
    /// Behind a backslash.
    Escaped,
    BehindQuoted,
}

impl Extension {
    /// Whether the line may end here.
    fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::BehindQuoted)
    }

    /// Where the byte behind `byte` is, if `byte` is allowed.
    fn step(self, byte: u8) -> Option<Self> {
        let is_blank = matches!(byte, b' ' | b'\t');
        Some(match (self, byte) {
            (Self::Blank | Self::Name | Self::BehindName | Self::Value | Self::BehindQuoted, b';') => Self::BeforeName,
            (Self::Blank | Self::BeforeName | Self::BehindName | Self::BeforeValue, _) if is_blank => self,
            (Self::BeforeName | Self::Name, _) if is_token(byte) => Self::Name,
            (Self::Name | Self::BehindName, b'=') => Self::BeforeValue,
            (Self::Name, _) if is_blank => Self::BehindName,
            (Self::BeforeValue | Self::Value, _) if is_token(byte) => Self::Value,
            (Self::BeforeValue, b'"') => Self::Quoted,
            (Self::Value | Self::BehindQuoted, _) if is_blank => Self::Blank,
            (Self::Quoted, b'"') => Self::BehindQuoted,
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
    /// If it is known already that the body is longer.
    pub fn new(content: Content, limit: usize) -> Result<Self, Refusal> {
        let mut decoder = Self { at: At::Size, remaining: limit as u64, patience: MAX_HEAD };
        if let Content::Length(length) = content {
            decoder.claim(length)?;
            decoder.at = At::Plain(length);
        }
        Ok(decoder)
    }

    /// Takes the next piece off the front of `input`.
    ///
    /// # Errors
    /// If the chunks are not what RFC 9112 §7.1 says, or the body is too long. There is no way to go on from there.
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

    /// Where the byte behind `byte` is.
    fn step(&mut self, at: At, byte: u8) -> Result<At, Refusal> {
        const SIZE: Refusal = Refusal::bad("the size of a chunk is not a hexadecimal number");
        const LINE: Refusal = Refusal::bad("a size line of a chunk is malformed");
        const TRAILER: Refusal = Refusal::bad("a trailer field is malformed");
        Ok(match (at, byte) {
            (At::Size, _) => At::Digits(digit(byte).ok_or(SIZE)?, 1),
            (At::Digits(size, _), b' ' | b'\t') => At::Extension(size, Extension::Blank),
            (At::Digits(size, _), b';') => At::Extension(size, Extension::BeforeName),
            (At::Digits(size, _), b'\r') => At::SizeLf(size),
            // Sixteen digits are all that a number of 64 bits can have.
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
            (At::DataCr | At::DataLf, _) => return Err(Refusal::bad("there is no line end behind a chunk")),
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

    /// `n` more bytes of the body are to come.
    fn claim(&mut self, n: u64) -> Result<(), Refusal> {
        let too_long = Refusal::new(Status::ContentTooLarge, "the body is longer than this server takes");
        self.remaining = self.remaining.checked_sub(n).ok_or(too_long)?;
        Ok(())
    }

    /// Counts a byte that is neither body nor needed to find its end, and goes to `next`.
    fn read_extra<T>(&mut self, next: T) -> Result<T, Refusal> {
        let too_much = Refusal::new(Status::HeaderFieldsTooLarge, "the extensions and trailers are longer than 16 KiB");
        self.patience = self.patience.checked_sub(1).ok_or(too_much)?;
        Ok(next)
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

/// RFC 9110 §5.6.2
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What may stand in a field's value (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 20;

    /// What comes out for `pieces`: the body and what is behind it, if there is an end.
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
    fn what_is_behind_the_end_is_left_alone() {
        let samples: [(Content, &[u8]); 2] =
            [(Content::Length(5), b"helloGET"), (Content::Chunked, b"5\r\nhello\r\n0\r\nX: y\r\n\r\nGET")];
        for (content, bytes) in samples {
            assert_eq!(decoded(content, &[bytes]), Ok((b"hello".to_vec(), Some(b"GET".to_vec()))));
        }
    }

    #[test]
    fn no_more_comes_out_than_the_limit() {
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
