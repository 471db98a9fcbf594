//! `sticky-packets`: TCP carries bytes, not messages. Three writes are one read, one message is many reads, and a line
//! decoder makes it the same three lines and the same one either way.

use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::fixture::{Fixture, STEP_TIMEOUT, connect, wait_until};
use super::spy::{Callback, Event, SpyService};
use super::transcript::{Claims, Error, Result, Transcript};
use crate::id::{ConnId, ConnMap};
use crate::limits::Policy;
use crate::protocol::lines::{Decoded, LineDecoder};
use crate::reactor::{Ledger, ListenOptions};
use crate::service::{CloseReason, Context, Service, ServiceContext};

const THREE: [&str; 3] = ["one\n", "two\n", "three\n"];
const PIECES: [&str; 5] = ["o", "ne mess", "age, ma", "ny reads", "\n"];

/// Hands out the lines that its connections send.
struct Lines {
    decoders: ConnMap<LineDecoder>,
    lines: Sender<String>,
}

impl Service for Lines {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        self.decoders.insert(ctx.id(), LineDecoder::new(1024));
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let Some(decoder) = self.decoders.get_mut(ctx.id()) else { return input.len() };
        let mut rest = input;
        loop {
            match decoder.decode(&mut rest) {
                // A scenario that is gone does not listen any more.
                Decoded::Line(line) => drop(self.lines.send(String::from_utf8_lossy(line).into_owned())),
                Decoded::NeedMore => return input.len() - rest.len(),
                Decoded::TooLong => {
                    ctx.abort();
                    return input.len();
                }
            }
        }
    }

    fn on_close(&mut self, _ctx: &mut ServiceContext, id: ConnId, _reason: CloseReason) {
        self.decoders.remove(id);
    }
}

#[derive(Clone, Debug)]
struct Measured {
    /// Of three writes, and of five pieces of one message: the reads that brought them, and the lines.
    stuck: Seen,
    torn: Seen,
}

#[derive(Clone, Debug)]
struct Seen {
    reads: u64,
    bytes: u64,
    lines: Vec<String>,
}

pub fn run(transcript: &mut Transcript<'_>) -> Result<Claims> {
    let (lines, decoded) = channel();
    let (service, events) = SpyService::new(Lines { decoders: ConnMap::new(), lines });
    let (fixture, addr) = Fixture::listening(service, Policy::default(), ListenOptions::default())?;
    let mut peer = connect(addr)?;
    events.next_open()?;

    let before = fixture.ledger()?;
    let held = fixture.stall()?;
    for message in THREE {
        peer.write_all(message.as_bytes())?;
    }
    drop(held);
    transcript.we(format_args!("write {THREE:?}, with TCP_NODELAY, while the loop is busy elsewhere"));
    let stuck = seen(&fixture, &before, THREE.concat().len(), THREE.len(), &decoded)?;
    tell(transcript, "bytes do not remember who wrote them together", &stuck, &events.received());
    transcript.go("conn.Read has the same freedom; one Write there is not one Read here");

    let before = fixture.ledger()?;
    let mut sent = 0;
    for piece in PIECES {
        peer.write_all(piece.as_bytes())?;
        sent += piece.len() as u64;
        wait_until("the piece has been read", || Ok(fixture.ledger()?.bytes_in == before.bytes_in + sent))?;
    }
    transcript.we(format_args!("write a line in pieces, each when the last is read: {PIECES:?}"));
    let torn = seen(&fixture, &before, PIECES.concat().len(), 1, &decoded)?;
    tell(transcript, "a read has what has come, not what was meant", &torn, &events.received());
    transcript.go("bufio.Scanner and bufio.Reader.ReadString are the decoders there");
    drop(peer);
    fixture.stop()?;
    Ok(judge(&Measured { stuck, torn }))
}

fn tell(transcript: &mut Transcript<'_>, why: &str, seen: &Seen, events: &[Event]) {
    let offered = events.iter().filter_map(|event| match event.callback {
        Callback::Data(n) => Some(n.to_string()),
        _ => None,
    });
    let offered = offered.collect::<Vec<_>>().join(", ");
    transcript.kernel(format_args!("{} bytes, reads = {}: {why}", seen.bytes, seen.reads));
    transcript.reactor(format_args!("on_data is offered {offered} bytes; the decoder finds {:?}", seen.lines));
}

/// What the loop has made of `bytes` bytes that must be `lines` lines.
fn seen(fixture: &Fixture, before: &Ledger, bytes: usize, lines: usize, decoded: &Receiver<String>) -> Result<Seen> {
    wait_until("all has been read", || Ok(fixture.ledger()?.bytes_in == before.bytes_in + bytes as u64))?;
    let missing = |_| Error::new("a line has not been decoded");
    let mut found =
        (0..lines).map(|_| decoded.recv_timeout(STEP_TIMEOUT).map_err(missing)).collect::<Result<Vec<_>>>()?;
    found.extend(decoded.try_iter());
    let after = fixture.ledger()?;
    Ok(Seen { reads: after.reads - before.reads, bytes: after.bytes_in - before.bytes_in, lines: found })
}

fn judge(m: &Measured) -> Claims {
    let Measured { stuck, torn } = m;
    let (three, one) = (THREE.map(|line| line.trim_end().to_owned()), PIECES.concat().trim_end().to_owned());
    Claims::new()
        .claim(stuck.reads == 1, format!("{} writes can be one read: {}", THREE.len(), stuck.reads))
        .claim(torn.reads == PIECES.len() as u64, format!("one message can be {} reads: {}", PIECES.len(), torn.reads))
        .claim(stuck.lines == three, format!("framing finds the messages that stick together: {}", stuck.lines.len()))
        .claim(torn.lines == [one], format!("and the one that is torn: {}", torn.lines.len()))
}

#[cfg(test)]
mod tests {
    use super::super::transcript::assert_judges;
    use super::*;

    #[test]
    fn wrong_figures_are_not_believed() {
        let lines = ["one", "two", "three"].map(str::to_owned).to_vec();
        let good = Measured {
            stuck: Seen { reads: 1, bytes: 14, lines },
            torn: Seen { reads: 5, bytes: 24, lines: vec!["one message, many reads".to_owned()] },
        };
        assert_judges(
            &good,
            judge,
            &[
                |m| m.stuck.reads = 3,
                |m| m.torn.reads = 1,
                |m| m.stuck.lines = vec!["onetwothree".to_owned()],
                |m| m.torn.lines.push("one".to_owned()),
            ],
        );
    }
}
