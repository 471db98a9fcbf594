//! One connection's requests and answers, as bytes in and bytes out.
//!
//! Owns: [`Conversation`], the place of a client within its request. Must not know: deadlines, the source of bytes.
//!
//! ```text
//!                ┌────────────────────── answered ──────────────────────┐
//!                ▼                                                      │
//!        Idle ── first byte ──▶ Head ── complete, with a body ──▶ Body ─┤
//!                                ├───── complete, without ──────────────┤
//!                                └───── refused, or the last one ───────┴──▶ Done
//! ```

use std::mem;

use super::body::{Body, BodyDecoder};
use super::framing::{Content, Framing};
use super::head::{Head, HeaderStorage};
use super::response::{Connection, Response};
use super::routes::{Answer, Site};
use super::status::{Refusal, Status};
use crate::buffer::Buffer;

/// The input that a conversation waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The first byte of a request: no answer and no input is outstanding.
    Idle,
    /// The rest of a head that has begun, if only with an empty line before it.
    Head,
    /// The rest of a body.
    Body,
    /// No further input: the last answer is made. Later input is discarded.
    Done,
}

/// The state of a connection. A conversation in [`Phase::Idle`] equals a new one, so that a server need not keep it.
///
/// ```
/// use reactor::protocol::http::{Conversation, Phase, Site};
/// use reactor::protocol::time_text::LocalTime;
///
/// let site = Site::new(String::new(), 1000, LocalTime::utc());
/// let mut conversation = Conversation::default();
/// let mut output = Vec::new();
/// let input = b"GET /time HTTP/1.1\r\nHost: example.com\r\n\r\nGET";
/// assert_eq!(conversation.receive(&site, input, 65_536, &mut output), input.len() - 3);
/// assert!(output.ends_with(b"\r\n\r\n1970-01-01 00:00:00\n"));
/// assert_eq!(conversation.phase(), Phase::Head);
/// ```
#[derive(Debug, Default)]
pub struct Conversation {
    state: State,
}

/// The phase of a conversation, with its data.
#[derive(Debug, Default)]
enum State {
    /// No byte of a request has arrived.
    #[default]
    Idle,
    /// Only an empty line has arrived.
    EmptyLine,
    /// A part of a head has arrived. The mode is the part of it that is known.
    Head(ReplyMode),
    /// A head has arrived, and a part of its body.
    Body(Box<Pending>),
    /// The last answer is made.
    Done,
}

/// The empty lines that may precede a request. Some clients send a line end after a body, and RFC 9112 §2.2 asks recipients
/// to ignore at least one.
const MAX_EMPTY_LINES: usize = 2;

/// A request whose body has not arrived in full.
#[derive(Debug)]
struct Pending {
    decoder: BodyDecoder,
    /// The bytes of the body so far, if the answer needs them.
    body: Buffer,
    /// The number of bytes of the body so far.
    received: u64,
    answer: Answer,
    mode: ReplyMode,
}

/// The parts of a request that decide the form of its answer.
#[derive(Clone, Copy, Debug)]
struct ReplyMode {
    head_only: bool,
    is_1_1: bool,
    persists: bool,
}

impl ReplyMode {
    /// The mode for a request that is not understood.
    const LAST: Self = Self { head_only: false, is_1_1: true, persists: false };

    /// The mode for a request whose head begins with `front`. Whatever fault the head has, an answer to HEAD must not have a
    /// body: a client would take it for two answers.
    fn of_front(front: &[u8]) -> Self {
        Self { head_only: front.starts_with(b"HEAD "), ..Self::LAST }
    }

    /// Returns an empty response in this mode.
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
    /// The conversation of a new connection.
    pub const NEW: Self = Self { state: State::Idle };

    /// Returns the input that the conversation waits for.
    #[inline]
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Idle => Phase::Idle,
            State::EmptyLine | State::Head(_) => Phase::Head,
            State::Body(_) => Phase::Body,
            State::Done => Phase::Done,
        }
    }

    /// Returns the number of bytes so far of the body that the conversation waits for. The framing of chunks does not count.
    pub fn received(&self) -> u64 {
        match &self.state {
            State::Body(pending) => pending.received,
            _ => 0,
        }
    }

    /// Takes requests off the front of `input`, and appends their answers to `output`. Stops at the end of the input, at a
    /// head that is not complete, or after `capacity` bytes of answers. Returns the number of bytes consumed. The caller
    /// offers the other bytes again, followed by the next input.
    #[inline]
    pub fn receive(&mut self, site: &Site, input: &[u8], capacity: usize, output: &mut Vec<u8>) -> usize {
        let (mut rest, full) = (input, output.len().saturating_add(capacity));
        while output.len() < full {
            let went_on = match self.state {
                State::Idle | State::EmptyLine | State::Head(_) => self.take_head(site, &mut rest, output),
                State::Body(_) => self.take_body(site, &mut rest, output),
                State::Done => Ok(false),
            };
            match went_on {
                Ok(true) => {}
                Ok(false) => break,
                Err((refusal, mode)) => self.refuse(site, refusal, mode, output),
            }
        }
        if self.is_done() { input.len() } else { input.len() - rest.len() }
    }

    fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Ends the conversation because the client takes too long. Only a request that has begun gets an answer.
    pub fn time_out(&mut self, site: &Site, output: &mut Vec<u8>) {
        let reason = match self.state {
            State::Head(_) => "the head of the request has not arrived in time",
            State::Body(_) => "the body of the request has not arrived in time",
            State::Idle | State::EmptyLine | State::Done => return,
        };
        self.refuse(site, Refusal::new(Status::RequestTimeout, reason), self.mode(), output);
    }

    /// Ends the conversation at the client's end of file. An incomplete request is refused: the client may still read.
    pub fn end(&mut self, site: &Site, output: &mut Vec<u8>) {
        if matches!(self.state, State::Head(_) | State::Body(_)) {
            self.refuse(site, Refusal::bad("the request is not complete"), self.mode(), output);
        }
    }

    /// Returns the mode of the request that has arrived in part.
    fn mode(&self) -> ReplyMode {
        match &self.state {
            State::Head(mode) => *mode,
            State::Body(pending) => pending.mode,
            State::Idle | State::EmptyLine | State::Done => ReplyMode::LAST,
        }
    }

    fn refuse(&mut self, site: &Site, refusal: Refusal, mode: ReplyMode, output: &mut Vec<u8>) {
        site.refuse(refusal, ReplyMode { persists: false, ..mode }.response(), output);
        self.state = State::Done;
    }

    /// Takes a head, and answers at once a request without a body. Returns true if the input may hold more.
    #[inline]
    fn take_head(&mut self, site: &Site, rest: &mut &[u8], output: &mut Vec<u8>) -> Result<bool, Refused> {
        let mut front = *rest;
        if front.starts_with(b"\r\n") {
            front = behind_empty_lines(front).map_err(|refusal| (refusal, ReplyMode::LAST))?;
        }
        if front.is_empty() {
            self.state = if rest.is_empty() { State::Idle } else { State::EmptyLine };
            return Ok(false);
        }
        let mut storage = HeaderStorage::new();
        let Some(head) = Head::decode(front, &mut storage).map_err(|refusal| (refusal, ReplyMode::of_front(front)))?
        else {
            self.state = State::Head(ReplyMode::of_front(front));
            return Ok(false);
        };
        let head_only = head.method == "HEAD";
        let refused = |refusal| (refusal, ReplyMode { head_only, ..ReplyMode::LAST });
        let framing = Framing::of(&head).map_err(refused)?;
        let answer = Answer::find(head.method, framing.path, head.headers, framing.content_type);
        let mode = ReplyMode { head_only, is_1_1: head.is_1_1, persists: framing.persists };
        *rest = &front[head.len..];
        if framing.content == Content::Length(0) {
            self.answer(site, &answer, &[], mode, rest.is_empty(), output);
            return Ok(!self.is_done());
        }
        let decoder = BodyDecoder::new(framing.content, site.max_body).map_err(refused)?;
        if framing.expects_continue && !matches!(answer, Answer::Echo(_)) {
            // The client may now leave the body out, or send it all the same (RFC 9110 §10.1.1): the next byte need not
            // begin a request.
            self.answer(site, &answer, &[], ReplyMode { persists: false, ..mode }, true, output);
            return Ok(false);
        }
        if framing.expects_continue {
            output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.state = State::Body(Box::new(Pending { decoder, body: Buffer::new(), received: 0, answer, mode }));
        Ok(true)
    }

    /// Takes the bytes of a body, and answers when it is complete. Returns true if the input may hold more.
    fn take_body(&mut self, site: &Site, rest: &mut &[u8], output: &mut Vec<u8>) -> Result<bool, Refused> {
        let State::Body(mut pending) = mem::take(&mut self.state) else { return Ok(false) };
        if !pending.take(rest).map_err(|refusal| (refusal, pending.mode))? {
            self.state = State::Body(pending);
            return Ok(false);
        }
        let Pending { answer, body, mode, .. } = &*pending;
        self.answer(site, answer, body.as_slice(), *mode, rest.is_empty(), output);
        Ok(!self.is_done())
    }

    /// Answers a request. While the server is stopping, an answer is the last if no input follows its request.
    #[inline]
    fn answer(
        &mut self,
        site: &Site,
        answer: &Answer,
        body: &[u8],
        mode: ReplyMode,
        is_last: bool,
        output: &mut Vec<u8>,
    ) {
        let mode = ReplyMode { persists: mode.persists && !(is_last && site.is_stopping()), ..mode };
        site.answer(answer, body, mode.response(), output);
        self.state = if mode.persists { State::Idle } else { State::Done };
    }
}

impl Pending {
    /// Takes the bytes of the body. Returns true if it is complete.
    fn take(&mut self, rest: &mut &[u8]) -> Result<bool, Refusal> {
        loop {
            match self.decoder.decode(rest)? {
                Body::Piece(piece) => {
                    self.received += piece.len() as u64;
                    if matches!(self.answer, Answer::Echo(_)) {
                        self.body.append(piece);
                    }
                }
                Body::NeedMore => return Ok(false),
                Body::End => return Ok(true),
            }
        }
    }
}

/// Returns the bytes after the empty lines at the front of `input`. The head consumes the lines, so that their number does
/// not depend on the pieces in which they arrive.
#[cold]
fn behind_empty_lines(input: &[u8]) -> Result<&[u8], Refusal> {
    let mut front = input;
    while let Some(behind) = front.strip_prefix(b"\r\n") {
        front = behind;
        if input.len() - front.len() > 2 * MAX_EMPTY_LINES {
            return Err(Refusal::bad("more than two empty lines precede the request"));
        }
    }
    Ok(front)
}

/// A refusal, and the mode of the answer as far as the request shows it.
type Refused = (Refusal, ReplyMode);

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
    fn answers_stop_at_the_capacity() {
        let (site, mut conversation, mut output) = (site(), Conversation::NEW, b"other output".to_vec());
        let input = REQUEST.repeat(10);
        let one = REQUEST.len();
        assert_eq!(conversation.receive(&site, &input, 1, &mut output), one);
        assert_eq!(count(&output, "200 OK"), 1);
        assert_eq!(conversation.receive(&site, &input[one..], 0, &mut output), 0);
        assert_eq!(conversation.receive(&site, &input[one..], usize::MAX, &mut output), 9 * one);
        assert_eq!((count(&output, "200 OK"), conversation.phase()), (10, Phase::Idle));
    }

    #[test]
    fn each_phase_has_its_answer_to_a_timeout() {
        let site = site();
        let cases: [(&[u8], Phase, &str); 6] = [
            (b"", Phase::Idle, ""),
            (b"\r\n", Phase::Head, ""),
            (b"\r\n\r\nG", Phase::Head, "408 Request Timeout"),
            (b"G", Phase::Head, "408 Request Timeout"),
            (b"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", Phase::Body, "408 Request Timeout"),
            (b"GET /echo HTTP/1.0\r\n\r\n", Phase::Done, ""),
        ];
        for (input, phase, answer) in cases {
            let (mut conversation, mut output) = (Conversation::NEW, Vec::new());
            conversation.receive(&site, input, 1000, &mut output);
            assert_eq!(conversation.phase(), phase);
            output.clear();
            conversation.time_out(&site, &mut output);
            assert!(String::from_utf8_lossy(&output).contains(answer) && output.is_empty() == answer.is_empty());
        }
    }

    #[test]
    fn an_answer_to_head_never_has_a_body() {
        let site = site();
        for input in
            ["HEAD / HTTP/1.1\r\nHost : a\r\n\r\n", "HEAD / HTTP/9.1\r\n", "\r\nHEAD #", "HEAD / HTTP/1.1\r\nHost"]
        {
            for at in 0..input.len() {
                let (mut conversation, mut output) = (Conversation::NEW, Vec::new());
                let consumed = conversation.receive(&site, &input.as_bytes()[..at], usize::MAX, &mut output);
                conversation.receive(&site, &input.as_bytes()[consumed..], usize::MAX, &mut output);
                conversation.end(&site, &mut output);
                assert!(output.starts_with(b"HTTP/1.1 ") && output.ends_with(b"\r\n\r\n"), "{input:?} at {at}");
            }
        }
    }

    #[test]
    fn the_framing_of_chunks_does_not_count_as_body() {
        let (site, mut conversation, mut output) = (site(), Conversation::NEW, Vec::new());
        let head = b"PUT /time HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (piece, received) in [(&head[..], 0), (b"5;a=b", 0), (b"\r\nhel", 3), (b"lo\r\n", 5), (b"0\r\nX: y", 5)] {
            assert_eq!(conversation.receive(&site, piece, usize::MAX, &mut output), piece.len());
            assert_eq!(conversation.received(), received);
        }
    }

    #[test]
    fn input_after_the_last_answer_is_discarded() {
        let (site, mut conversation, mut output) = (site(), Conversation::NEW, Vec::new());
        let input = [b"GET / HTTP/1.0\r\n\r\n", REQUEST].concat();
        assert_eq!(conversation.receive(&site, &input, usize::MAX, &mut output), input.len());
        assert_eq!(conversation.receive(&site, REQUEST, usize::MAX, &mut output), REQUEST.len());
        conversation.end(&site, &mut output);
        assert_eq!(count(&output, "HTTP/1.1 "), 1);
    }

    #[test]
    fn the_last_answer_of_a_stop_has_no_input_after_it() {
        let (mut site, mut conversation, mut output) = (site(), Conversation::NEW, Vec::new());
        site.stop();
        conversation.receive(&site, &[REQUEST, REQUEST, b"G"].concat(), usize::MAX, &mut output);
        assert_eq!((count(&output, "503"), count(&output, "close"), conversation.phase()), (2, 0, Phase::Head));
        conversation.receive(&site, REQUEST, usize::MAX, &mut output);
        assert_eq!((count(&output, "503"), count(&output, "close"), conversation.phase()), (3, 1, Phase::Done));
    }
}
