//! `sticky-packets`: TCP carries bytes, not messages. Three writes arrive in one read, and one message arrives in many
//! reads. A line decoder finds the same three lines and the same one line either way.

use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::fixture::{Fixture, STEP_TIMEOUT, connect, wait_until};
use super::spy::{Callback, Event, SpyService};
use super::transcript::{Claims, Error, Result, Transcript};
use crate::id::ConnMap;
use crate::limits::Policy;
use crate::protocol::lines::{Decoded, LineDecoder};
use crate::reactor::{Ledger, ListenOptions};
use crate::service::{CloseReason, Context, Service};

const THREE: [&str; 3] = ["one\n", "two\n", "three\n"];
const PIECES: [&str; 5] = ["o", "ne mess", "age, ma", "ny reads", "\n"];

/// Sends the decoded lines of its connections to a channel.
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
                // The send fails once the scenario has dropped its end.
                Decoded::Line(line) => drop(self.lines.send(String::from_utf8_lossy(line).into_owned())),
                Decoded::NeedMore => return input.len() - rest.len(),
                Decoded::TooLong => {
                    ctx.abort();
                    return input.len();
                }
            }
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, _reason: CloseReason) {
        let id = ctx.id();
        self.decoders.remove(id);
    }
}

#[derive(Clone, Debug)]
struct Measured {
    /// Three lines in three writes.
    joined: Seen,
    /// One line in five writes.
    split: Seen,
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
    let stalled = fixture.stall()?;
    for message in THREE {
        peer.write_all(message.as_bytes())?;
    }
    drop(stalled);
    transcript.we(format_args!("write {THREE:?}, with TCP_NODELAY, while the loop is busy"));
    let joined = observe(&fixture, &before, THREE.concat().len(), THREE.len(), &decoded)?;
    report(transcript, "bytes do not keep the bounds of their writes", &joined, &events.received());
    transcript.go("conn.Read has the same freedom; one Write there is not one Read here");

    let before = fixture.ledger()?;
    let mut sent = 0;
    for piece in PIECES {
        peer.write_all(piece.as_bytes())?;
        sent += piece.len() as u64;
        wait_until("the piece has been read", || Ok(fixture.ledger()?.bytes_in == before.bytes_in + sent))?;
    }
    transcript.we(format_args!("write a line in pieces, each when the last is read: {PIECES:?}"));
    let split = observe(&fixture, &before, PIECES.concat().len(), 1, &decoded)?;
    report(transcript, "a read returns the bytes that have arrived, not a message", &split, &events.received());
    transcript.go("bufio.Scanner and bufio.Reader.ReadString are the decoders there");
    drop(peer);
    fixture.stop()?;
    Ok(judge(&Measured { joined, split }))
}

fn report(transcript: &mut Transcript<'_>, why: &str, seen: &Seen, events: &[Event]) {
    let offered = events.iter().filter_map(|event| match event.callback {
        Callback::Data(n) => Some(n.to_string()),
        _ => None,
    });
    let offered = offered.collect::<Vec<_>>().join(", ");
    transcript.kernel(format_args!("{} bytes, reads = {}: {why}", seen.bytes, seen.reads));
    transcript.reactor(format_args!("on_data gets {offered} bytes; the decoder finds {:?}", seen.lines));
}

/// The reads and lines that the loop has made of `bytes` bytes, which must be `lines` lines.
fn observe(fixture: &Fixture, before: &Ledger, bytes: usize, lines: usize, decoded: &Receiver<String>) -> Result<Seen> {
    wait_until("all bytes have been read", || Ok(fixture.ledger()?.bytes_in == before.bytes_in + bytes as u64))?;
    let missing = |_| Error::new("a line is missing");
    let mut found =
        (0..lines).map(|_| decoded.recv_timeout(STEP_TIMEOUT).map_err(missing)).collect::<Result<Vec<_>>>()?;
    found.extend(decoded.try_iter());
    let after = fixture.ledger()?;
    Ok(Seen { reads: after.reads - before.reads, bytes: after.bytes_in - before.bytes_in, lines: found })
}

fn judge(m: &Measured) -> Claims {
    let Measured { joined, split } = m;
    let (three, one) = (THREE.map(|line| line.trim_end().to_owned()), PIECES.concat().trim_end().to_owned());
    Claims::new()
        .claim(joined.reads == 1, format!("{} writes can be one read: {}", THREE.len(), joined.reads))
        .claim(
            split.reads == PIECES.len() as u64,
            format!("one message can be {} reads: {}", PIECES.len(), split.reads),
        )
        .claim(
            joined.lines == three,
            format!("the decoder finds the lines that arrived together: {}", joined.lines.len()),
        )
        .claim(split.lines == [one], format!("and the line that arrived in pieces: {}", split.lines.len()))
}

#[cfg(test)]
mod tests {
    use super::super::transcript::assert_judges;
    use super::*;

    #[test]
    fn judge_rejects_wrong_figures() {
        let lines = ["one", "two", "three"].map(str::to_owned).to_vec();
        let good = Measured {
            joined: Seen { reads: 1, bytes: 14, lines },
            split: Seen { reads: 5, bytes: 24, lines: vec!["one message, many reads".to_owned()] },
        };
        assert_judges(
            &good,
            judge,
            &[
                |m| m.joined.reads = 3,
                |m| m.split.reads = 1,
                |m| m.joined.lines = vec!["onetwothree".to_owned()],
                |m| m.split.lines.push("one".to_owned()),
            ],
        );
    }
}
