//! `half-close`: the peer sends FIN and still waits for the answer. The second part shows the loss of an answer when a
//! socket is closed over unread bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::fixture::{Fixture, connect, pair, sleep, wait_until};
use super::kernel::{self, State};
use super::spy::{Callback, SpyService};
use super::transcript::{Claims, Result, Transcript};
use crate::id::{ConnId, ConnMap};
use crate::limits::Policy;
use crate::reactor::ListenOptions;
use crate::service::{CloseReason, Context, Receive, Service, ServiceContext};
use crate::services::Time;

const QUESTION: &[u8] = b"what was the question?";
/// The least delay of the answer.
const WORK: Duration = Duration::from_millis(200);

/// Answers each peer that has sent FIN, when a message is posted.
#[derive(Default)]
struct DelayedAnswer {
    received: ConnMap<Vec<u8>>,
    waiting: Vec<ConnId>,
}

impl Service for DelayedAnswer {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.received.insert(ctx.id(), Vec::new());
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        if let Some(received) = self.received.get_mut(ctx.id()) {
            received.extend_from_slice(input);
        }
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        self.waiting.push(ctx.id());
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, _reason: CloseReason) {
        self.received.remove(ctx.id());
    }
}

/// The answers are due.
struct Due;

impl Receive<Due> for DelayedAnswer {
    fn on_post(&mut self, ctx: &mut ServiceContext, _: Due) {
        for id in self.waiting.drain(..) {
            let received = self.received.get(id).map_or(0, Vec::len);
            if let Some(mut connection) = ctx.connection(id) {
                connection.send(answer(received).as_bytes());
                connection.finish();
            }
        }
    }
}

fn answer(received: usize) -> String {
    format!("{received} bytes have arrived, and your FIN")
}

#[derive(Clone, Debug)]
struct Measured {
    /// The TCP states of the peer and of the loop's end, between the FIN and the answer.
    states: Option<[State; 2]>,
    delay: Duration,
    answer: Vec<u8>,
    reason: CloseReason,
    eofs: u64,
    /// The peer's last read after close(2) over unread bytes: an errno, or 0 for the end of file.
    closed_end: i32,
    /// The same after the loop's `finish`.
    finished_end: i32,
    /// Bytes that `finish` has discarded.
    discarded: u64,
}

pub fn run(transcript: &mut Transcript<'_>) -> Result<Claims> {
    let (service, events) = SpyService::new(DelayedAnswer::default());
    let (fixture, addr) = Fixture::listening(service, Policy::default(), ListenOptions::default())?;
    let mut peer = connect(addr)?;
    let id = events.next_open()?;
    peer.write_all(QUESTION)?;
    peer.shutdown(Shutdown::Write)?;
    transcript.we(format_args!("write {} bytes, then shutdown(SHUT_WR): the kernel sends FIN", QUESTION.len()));
    let eof = events.wait_for("the end of file", |event| (event.callback == Callback::Eof).then_some(event.at))?;
    let ledger = fixture.ledger()?;
    transcript.reactor(format_args!("read = {}, read = 0: eofs = {}; on_eof is called", ledger.bytes_in, ledger.eofs));
    let here = peer.local_addr()?;
    let mut states = None;
    if kernel::shows_sockets() {
        wait_until("both ends have seen the FIN", || {
            let rows = (kernel::between(here, addr), kernel::between(addr, here));
            states = rows.0.zip(rows.1).map(|(ours, theirs)| [ours.state, theirs.state]);
            Ok(states == Some([State::FIN_WAIT2, State::CLOSE_WAIT]))
        })?;
    }
    if let Some([ours, theirs]) = states {
        transcript
            .kernel(format_args!("the asking end is in {ours}, the answering one in {theirs}: one direction is open"));
    }
    transcript.go("read = 0 is io.EOF there; CloseWrite on a *net.TCPConn is this shutdown, Close would end both");
    sleep(WORK);
    fixture.post::<SpyService<DelayedAnswer>, _>(Due)?;
    let mut text = Vec::new();
    peer.read_to_end(&mut text)?;
    let (closed, reason) = events.next_close(id)?;
    let delay = closed.since(eof);
    transcript.reactor(format_args!("the service answers after {} ms and finishes: FIN; {reason}", delay.as_millis()));
    transcript.we(format_args!("read '{}', then the end of file", String::from_utf8_lossy(&text)));
    let eofs = fixture.stop()?.1.eofs;

    let (mut closed, mut asking) = pair()?;
    asking.write_all(QUESTION)?;
    let mut peeked = [0; QUESTION.len()];
    wait_until("the question has arrived", || Ok(closed.peek(&mut peeked)? == QUESTION.len()))?;
    closed.write_all(b"no")?;
    drop(closed);
    transcript.we("by hand: another server answers and calls close, and has not read the question");
    let (n, closed_end) = read_to_the_end(&mut asking);
    let end = end_name(closed_end);
    transcript.kernel(format_args!(
        "close over unread bytes sends RST: after {n} bytes of the answer reading ends with {end}"
    ));

    let (fixture, addr) = Fixture::listening(Time::default(), Policy::default(), ListenOptions::default())?;
    let stalled = fixture.stall()?;
    let mut asking = connect(addr)?;
    asking.write_all(QUESTION)?;
    drop(stalled);
    transcript.we("the same to a server on the loop, which answers and calls `finish` before it reads");
    let (n, finished_end) = read_to_the_end(&mut asking);
    let end = end_name(finished_end);
    drop(asking);
    let (_, ledger) = fixture.stop()?;
    let discarded = ledger.bytes_in;
    transcript.reactor(format_args!(
        "sends FIN, then reads {discarded} bytes and throws them away, and closes after the peer"
    ));
    transcript.kernel(format_args!("after {n} bytes of the answer reading ends with {end}"));
    Ok(judge(&Measured { states, delay, answer: text, reason, eofs, closed_end, finished_end, discarded }))
}

/// Reads to the end: returns the number of bytes, and an errno or 0 for the end of file.
fn read_to_the_end(stream: &mut TcpStream) -> (usize, i32) {
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received);
    (received.len(), end.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0))
}

fn end_name(errno: i32) -> String {
    if errno == 0 { "the end of file".to_owned() } else { kernel::name(errno) }
}

fn judge(m: &Measured) -> Claims {
    let wanted = answer(QUESTION.len());
    let (closed, finished) = (end_name(m.closed_end), end_name(m.finished_end));
    Claims::new()
        .claim(m.eofs == 1, format!("FIN is a read of 0 bytes, once: {}", m.eofs))
        .claim_if_known(m.states, |[ours, theirs]| {
            let half = [ours, theirs] == [State::FIN_WAIT2, State::CLOSE_WAIT];
            (half, format!("after it the other direction stays open: {ours}, {theirs}"))
        })
        .claim(m.delay >= WORK, format!("for as long as the answer takes: {} ms", m.delay.as_millis()))
        .claim(m.answer == wanted.as_bytes(), format!("the answer after the FIN arrives: {} bytes", m.answer.len()))
        .claim(m.reason == CloseReason::Finished, format!("both FINs are the orderly end: {}", m.reason))
        .claim(m.closed_end == libc::ECONNRESET, format!("closing over unread bytes is none: {closed}"))
        .claim(m.finished_end == 0, format!("finishing over unread bytes is one: {finished}"))
        .claim(
            m.discarded == QUESTION.len() as u64,
            format!("because they are read all the same: {} bytes", m.discarded),
        )
}

#[cfg(test)]
mod tests {
    use super::super::transcript::assert_judges;
    use super::*;

    #[test]
    fn judge_rejects_wrong_figures() {
        let good = Measured {
            states: Some([State::FIN_WAIT2, State::CLOSE_WAIT]),
            delay: WORK,
            answer: answer(QUESTION.len()).into_bytes(),
            reason: CloseReason::Finished,
            eofs: 1,
            closed_end: libc::ECONNRESET,
            finished_end: 0,
            discarded: QUESTION.len() as u64,
        };
        assert_judges(
            &good,
            judge,
            &[
                |m| m.states = Some([State::TIME_WAIT, State::CLOSE_WAIT]),
                |m| m.delay = WORK / 2,
                |m| m.answer.clear(),
                |m| m.reason = CloseReason::Reset,
                |m| m.eofs = 2,
                |m| m.closed_end = 0,
                |m| m.finished_end = libc::ECONNRESET,
                |m| m.discarded = 0,
            ],
        );
    }
}
