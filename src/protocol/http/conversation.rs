//! One connection's requests and answers, as bytes in and bytes out.
//!
//! Owns: [`Conversation`], which knows where in a request the client is. Must not know: how long it may take, where
//! bytes come from.
//!
//! ```text
//!                ┌────────────────────── answered ──────────────────────┐
//!                ▼                                                      │
//!     Request ── first byte ──▶ Head ── complete, with a body ──▶ Body ─┤
//!                                ├───── complete, without ──────────────┤
//!                                └───── refused, or the last one ───────┴──▶ Nothing
//! ```

use super::body::{Body, BodyDecoder};
use super::framing::{Content, Framing};
use super::head::{Head, Room};
use super::response::{Connection, Response};
use super::routes::{Answer, Site};
use super::status::{Refusal, Status};
use crate::buffer::Buffer;

/// What a conversation waits for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Awaits {
    /// The first byte of a request: nobody owes anybody anything.
    #[default]
    Request,
    /// The rest of a head, of which some has come.
    Head,
    /// The rest of a body.
    Body,
    /// Nothing more: the last answer has been given. What follows is to be thrown away.
    Nothing,
}

/// Where a connection stands. One that waits for a request is as good as a new one: nothing needs to be kept for it.
///
/// ```
/// use reactor::protocol::http::{Awaits, Conversation, Site};
/// use reactor::protocol::time_text::LocalTime;
///
/// let site = Site::new(String::new(), 1000, LocalTime::utc());
/// let mut conversation = Conversation::default();
/// let mut output = Vec::new();
/// let input = b"GET /time HTTP/1.1\r\nHost: example.com\r\n\r\nGET";
/// assert_eq!(conversation.receive(&site, input, 65_536, &mut output), input.len() - 3);
/// assert!(output.ends_with(b"\r\n\r\n1970-01-01 00:00:00\n"));
/// assert_eq!(conversation.awaits(), Awaits::Head);
/// ```
#[derive(Debug, Default)]
pub struct Conversation {
    awaits: Awaits,
    pending: Option<Box<Pending>>,
}

/// A request whose body is still coming.
#[derive(Debug)]
struct Pending {
    decoder: BodyDecoder,
    body: Buffer,
    answer: Answer,
    manner: Manner,
}

/// How a request wants to be answered.
#[derive(Clone, Copy, Debug)]
struct Manner {
    head_only: bool,
    is_1_1: bool,
    persists: bool,
}

impl Manner {
    /// For a request that is not known well enough.
    const LAST: Self = Self { head_only: false, is_1_1: true, persists: false };

    /// A response that has this manner and nothing else yet.
    fn response(self) -> Response<'static> {
        let connection = match (self.persists, self.is_1_1) {
            (true, true) => Connection::Default,
            (true, false) => Connection::KeepAlive,
            (false, _) => Connection::Close,
        };
        let head_only = self.head_only;
        Response { status: Status::Ok, content_type: b"", allow: None, connection, content: b"", head_only }
    }
}

impl Conversation {
    /// That of a connection that has just been opened.
    pub const NEW: Self = Self { awaits: Awaits::Request, pending: None };

    /// What it waits for.
    #[inline]
    pub fn awaits(&self) -> Awaits {
        self.awaits
    }

    /// Takes requests off the front of `input` and appends their answers to `output`, until the input is used up, does
    /// not hold a whole head, or `room` bytes of answers have been made. Returns how many bytes of the input have been
    /// consumed: those that follow are to be offered again, together with what comes after them.
    #[inline]
    pub fn receive(&mut self, site: &Site, input: &[u8], room: usize, output: &mut Vec<u8>) -> usize {
        let (mut rest, full) = (input, output.len().saturating_add(room));
        while output.len() < full {
            let went_on = match self.awaits {
                Awaits::Request | Awaits::Head => self.take_head(site, &mut rest, output),
                Awaits::Body => self.take_body(site, &mut rest, output),
                Awaits::Nothing => Ok(false),
            };
            match went_on {
                Ok(true) => {}
                Ok(false) => break,
                Err((refusal, manner)) => self.refuse(site, refusal, manner, output),
            }
        }
        if self.awaits == Awaits::Nothing { input.len() } else { input.len() - rest.len() }
    }

    /// The client takes too long.
    pub fn time_out(&mut self, site: &Site, output: &mut Vec<u8>) {
        let why = match self.awaits {
            Awaits::Head => "the head of the request has not come in time",
            Awaits::Body => "the body of the request has not come in time",
            Awaits::Request | Awaits::Nothing => return,
        };
        self.refuse(site, Refusal::new(Status::RequestTimeout, why), self.manner(), output);
    }

    /// The client has sent everything. In the middle of a request it is told that this is not all: it may still read.
    pub fn end(&mut self, site: &Site, output: &mut Vec<u8>) {
        if matches!(self.awaits, Awaits::Head | Awaits::Body) {
            self.refuse(site, Refusal::bad("the request is not complete"), self.manner(), output);
        }
    }

    /// The manner of the request whose body is coming.
    fn manner(&self) -> Manner {
        self.pending.as_ref().map_or(Manner::LAST, |pending| pending.manner)
    }

    fn refuse(&mut self, site: &Site, refusal: Refusal, manner: Manner, output: &mut Vec<u8>) {
        site.refuse(refusal, Manner { persists: false, ..manner }.response(), output);
        *self = Self { awaits: Awaits::Nothing, ..Self::NEW };
    }

    /// Takes a head, and answers at once if there is no body. Says whether to go on.
    #[inline]
    fn take_head(&mut self, site: &Site, rest: &mut &[u8], output: &mut Vec<u8>) -> Result<bool, Refused> {
        // Some clients end a body with a line end of their own (RFC 9112 §2.2). It is not the beginning of a request.
        while let Some(behind) = rest.strip_prefix(b"\r\n") {
            *rest = behind;
        }
        if rest.is_empty() {
            self.awaits = Awaits::Request;
            return Ok(false);
        }
        let mut room = Room::new();
        let Some(head) = Head::decode(rest, &mut room).map_err(|refusal| (refusal, Manner::LAST))? else {
            self.awaits = Awaits::Head;
            return Ok(false);
        };
        let head_only = head.method == "HEAD";
        let refused = |refusal| (refusal, Manner { head_only, ..Manner::LAST });
        let framing = Framing::of(&head).map_err(refused)?;
        let answer = Answer::find(head.method, framing.path, head.headers, framing.content_type);
        let manner = Manner { head_only, is_1_1: head.is_1_1, persists: framing.persists };
        *rest = &rest[head.len..];
        if framing.content == Content::Length(0) {
            self.answer(site, &answer, &[], manner, rest.is_empty(), output);
            return Ok(self.awaits != Awaits::Nothing);
        }
        let decoder = BodyDecoder::new(framing.content, site.max_body).map_err(refused)?;
        if framing.expects_continue && !matches!(answer, Answer::Echo(_)) {
            // The client may now leave the body out, or send it all the same (RFC 9110 §10.1.1): what comes next is not
            // known to be a request.
            self.answer(site, &answer, &[], Manner { persists: false, ..manner }, true, output);
            return Ok(false);
        }
        if framing.expects_continue {
            output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.awaits = Awaits::Body;
        self.pending = Some(Box::new(Pending { decoder, body: Buffer::new(), answer, manner }));
        Ok(true)
    }

    /// Takes what has come of a body, and answers when it is complete. Says whether to go on.
    fn take_body(&mut self, site: &Site, rest: &mut &[u8], output: &mut Vec<u8>) -> Result<bool, Refused> {
        let Some(pending) = &mut self.pending else { return Ok(false) };
        let manner = pending.manner;
        loop {
            match pending.decoder.decode(rest).map_err(|refusal| (refusal, manner))? {
                Body::Piece(piece) if matches!(pending.answer, Answer::Echo(_)) => pending.body.append(piece),
                Body::Piece(_) => {}
                Body::NeedMore => return Ok(false),
                Body::End => break,
            }
        }
        if let Some(pending) = self.pending.take() {
            self.answer(site, &pending.answer, pending.body.as_slice(), manner, rest.is_empty(), output);
        }
        Ok(self.awaits != Awaits::Nothing)
    }

    /// Answers a request. While the server is stopping an answer is the last one if nothing has come behind its request.
    #[inline]
    fn answer(
        &mut self,
        site: &Site,
        answer: &Answer,
        body: &[u8],
        manner: Manner,
        is_last: bool,
        output: &mut Vec<u8>,
    ) {
        let manner = Manner { persists: manner.persists && !(is_last && site.is_stopping()), ..manner };
        site.answer(answer, body, manner.response(), output);
        self.awaits = if manner.persists { Awaits::Request } else { Awaits::Nothing };
    }
}

/// A refusal, and how the request wanted to be answered as far as that is known.
type Refused = (Refusal, Manner);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::time_text::LocalTime;

    const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

    fn site() -> Site {
        Site::new(String::new(), 100, LocalTime::utc())
    }

    fn count(output: &[u8], text: &str) -> usize {
        String::from_utf8_lossy(output).matches(text).count()
    }

    #[test]
    fn answers_stop_when_there_is_no_more_room() {
        let (site, mut conversation, mut output) = (site(), Conversation::NEW, b"of somebody else".to_vec());
        let input = REQUEST.repeat(10);
        let one = REQUEST.len();
        assert_eq!(conversation.receive(&site, &input, 1, &mut output), one);
        assert_eq!(count(&output, "200 OK"), 1);
        assert_eq!(conversation.receive(&site, &input[one..], 0, &mut output), 0);
        assert_eq!(conversation.receive(&site, &input[one..], usize::MAX, &mut output), 9 * one);
        assert_eq!((count(&output, "200 OK"), conversation.awaits()), (10, Awaits::Request));
    }

    #[test]
    fn it_knows_what_it_waits_for_and_says_so_when_time_is_up() {
        let site = site();
        let cases: [(&[u8], Awaits, &str); 5] = [
            (b"", Awaits::Request, ""),
            (b"\r\n", Awaits::Request, ""),
            (b"G", Awaits::Head, "408 Request Timeout"),
            (b"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", Awaits::Body, "408 Request Timeout"),
            (b"GET /echo HTTP/1.0\r\n\r\n", Awaits::Nothing, ""),
        ];
        for (input, awaits, answer) in cases {
            let (mut conversation, mut output) = (Conversation::NEW, Vec::new());
            conversation.receive(&site, input, 1000, &mut output);
            assert_eq!(conversation.awaits(), awaits);
            output.clear();
            conversation.time_out(&site, &mut output);
            assert!(String::from_utf8_lossy(&output).contains(answer) && output.is_empty() == answer.is_empty());
        }
    }

    #[test]
    fn nothing_is_heard_after_the_last_answer() {
        let (site, mut conversation, mut output) = (site(), Conversation::NEW, Vec::new());
        let input = [b"GET / HTTP/1.0\r\n\r\n", REQUEST].concat();
        assert_eq!(conversation.receive(&site, &input, usize::MAX, &mut output), input.len());
        assert_eq!(conversation.receive(&site, REQUEST, usize::MAX, &mut output), REQUEST.len());
        conversation.end(&site, &mut output);
        assert_eq!(count(&output, "HTTP/1.1 "), 1);
    }

    #[test]
    fn while_the_server_stops_the_last_answer_is_the_one_that_nothing_follows() {
        let (mut site, mut conversation, mut output) = (site(), Conversation::NEW, Vec::new());
        site.stop();
        conversation.receive(&site, &[REQUEST, REQUEST, b"G"].concat(), usize::MAX, &mut output);
        assert_eq!((count(&output, "503"), count(&output, "close"), conversation.awaits()), (2, 0, Awaits::Head));
        conversation.receive(&site, REQUEST, usize::MAX, &mut output);
        assert_eq!((count(&output, "503"), count(&output, "close"), conversation.awaits()), (3, 1, Awaits::Nothing));
    }
}
