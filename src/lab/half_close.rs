//! `half-close`: the peer says that it has nothing more to say. It may still want the answer. And what becomes of an answer
//! when a socket is closed over bytes that nobody has read.

use std::any::Any;
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
use crate::service::{CloseReason, Context, Service, ServiceContext};
use crate::services::Time;

const QUESTION: &[u8] = b"what was the question?";
/// How long the answer is kept back at least.
const WORK: Duration = Duration::from_millis(200);

/// Answers, when it is told to, those who have said everything.
#[derive(Default)]
struct Thinker {
    heard: ConnMap<Vec<u8>>,
    asked: Vec<ConnId>,
}

impl Service for Thinker {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.heard.insert(ctx.id(), Vec::new());
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        if let Some(heard) = self.heard.get_mut(ctx.id()) {
            heard.extend_from_slice(input);
        }
        input.len()
    }

    fn on_eof(&mut self, ctx: &mut Context<'_>, _rest: &[u8]) {
        self.asked.push(ctx.id());
    }

    fn on_post(&mut self, ctx: &mut ServiceContext, _message: Box<dyn Any + Send>) {
        for id in self.asked.drain(..) {
            let heard = self.heard.get(id).map_or(0, Vec::len);
            ctx.send_to(id, answer(heard).as_bytes());
            ctx.finish_peer(id);
        }
    }

    fn on_close(&mut self, _ctx: &mut ServiceContext, id: ConnId, _reason: CloseReason) {
        self.heard.remove(id);
    }
}

fn answer(heard: usize) -> String {
    format!("I have heard {heard} bytes, and your FIN")
}

#[derive(Clone, Debug)]
struct Measured {
    /// The peer's state and ours, between the FIN and the answer.
    states: Option<[State; 2]>,
    thought: Duration,
    answer: Vec<u8>,
    reason: CloseReason,
    eofs: u64,
    /// How reading ends at the other end of a socket that was closed over unread bytes; an errno, or 0 for the end of
    /// file.
    rude_end: i32,
    /// The same if the socket is the loop's, and how many bytes that has thrown away.
    polite_end: i32,
    discarded: u64,
}

pub fn run(transcript: &mut Transcript<'_>) -> Result<Claims> {
    let (thinker, events) = SpyService::new(Thinker::default());
    let (fixture, addr) = Fixture::listening(thinker, Policy::default(), ListenOptions::default())?;
    let mut peer = connect(addr)?;
    let id = events.next_open()?;
    peer.write_all(QUESTION)?;
    peer.shutdown(Shutdown::Write)?;
    transcript.we(format_args!("write {} bytes, then shutdown(SHUT_WR): the kernel sends FIN", QUESTION.len()));
    let eof = events.wait_for("the end of file", |event| (event.callback == Callback::Eof).then_some(event.at))?;
    let ledger = fixture.ledger()?;
    transcript.reactor(format_args!(
        "read = {}, read = 0: eofs = {}; the service is told on_eof",
        ledger.bytes_in, ledger.eofs
    ));
    let here = peer.local_addr()?;
    let mut states = None;
    if kernel::shows_sockets() {
        wait_until("both ends know of the FIN", || {
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
    fixture.post(())?;
    let mut text = Vec::new();
    peer.read_to_end(&mut text)?;
    let (closed, reason) = events.next_close(id)?;
    let thought = closed.since(eof);
    transcript.reactor(format_args!(
        "the service thinks for {} ms, answers, and finishes: FIN; {reason}",
        thought.as_millis()
    ));
    transcript.we(format_args!("read '{}', then the end of file", String::from_utf8_lossy(&text)));
    let eofs = fixture.stop()?.1.eofs;

    let (mut rude, mut asking) = pair()?;
    asking.write_all(QUESTION)?;
    let mut peeked = [0; QUESTION.len()];
    wait_until("the question has arrived", || Ok(rude.peek(&mut peeked)? == QUESTION.len()))?;
    rude.write_all(b"not interested")?;
    drop(rude);
    transcript.we("by hand: another server answers and calls close without having read the question");
    let (n, rude_end) = read_to_the_end(&mut asking);
    let end = end_name(rude_end);
    transcript.kernel(format_args!(
        "close over unread bytes sends RST: after {n} bytes of the answer reading ends with {end}"
    ));

    let (fixture, addr) = Fixture::listening(Time::default(), Policy::default(), ListenOptions::default())?;
    let held = fixture.stall()?;
    let mut asking = connect(addr)?;
    asking.write_all(QUESTION)?;
    drop(held);
    transcript.we("the same to a server on the loop, which answers and calls `finish` without having read");
    let (n, polite_end) = read_to_the_end(&mut asking);
    let end = end_name(polite_end);
    drop(asking);
    let (_, ledger) = fixture.stop()?;
    let discarded = ledger.bytes_in;
    transcript.reactor(format_args!(
        "sends FIN, then reads {discarded} bytes and throws them away, and closes after the peer"
    ));
    transcript.kernel(format_args!("after {n} bytes of the answer reading ends with {end}"));
    Ok(judge(&Measured { states, thought, answer: text, reason, eofs, rude_end, polite_end, discarded }))
}

/// How many bytes come, and what comes after them: an errno, or 0 for the end of file.
fn read_to_the_end(stream: &mut TcpStream) -> (usize, i32) {
    let mut heard = Vec::new();
    let end = stream.read_to_end(&mut heard);
    (heard.len(), end.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0))
}

fn end_name(errno: i32) -> String {
    if errno == 0 { "the end of file".to_owned() } else { kernel::name(errno) }
}

fn judge(m: &Measured) -> Claims {
    let wanted = answer(QUESTION.len());
    let (rude, polite) = (end_name(m.rude_end), end_name(m.polite_end));
    Claims::new()
        .claim(m.eofs == 1, format!("FIN is a read of 0 bytes, once: {}", m.eofs))
        .claim_if_known(m.states, |[ours, theirs]| {
            let half = [ours, theirs] == [State::FIN_WAIT2, State::CLOSE_WAIT];
            (half, format!("after it the other direction stays open: {ours}, {theirs}"))
        })
        .claim(m.thought >= WORK, format!("for as long as the answer takes: {} ms", m.thought.as_millis()))
        .claim(m.answer == wanted.as_bytes(), format!("the answer after the FIN arrives: {} bytes", m.answer.len()))
        .claim(m.reason == CloseReason::Finished, format!("both FINs are the orderly end: {}", m.reason))
        .claim(m.rude_end == libc::ECONNRESET, format!("closing over unread bytes is none: {rude}"))
        .claim(m.polite_end == 0, format!("finishing over unread bytes is one: {polite}"))
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
    fn wrong_figures_are_not_believed() {
        let good = Measured {
            states: Some([State::FIN_WAIT2, State::CLOSE_WAIT]),
            thought: WORK,
            answer: answer(QUESTION.len()).into_bytes(),
            reason: CloseReason::Finished,
            eofs: 1,
            rude_end: libc::ECONNRESET,
            polite_end: 0,
            discarded: QUESTION.len() as u64,
        };
        assert_judges(
            &good,
            judge,
            &[
                |m| m.states = Some([State::TIME_WAIT, State::CLOSE_WAIT]),
                |m| m.thought = WORK / 2,
                |m| m.answer.clear(),
                |m| m.reason = CloseReason::Reset,
                |m| m.eofs = 2,
                |m| m.rude_end = 0,
                |m| m.polite_end = libc::ECONNRESET,
                |m| m.discarded = 0,
            ],
        );
    }
}
