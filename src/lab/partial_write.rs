//! `partial-write`: a full send buffer. The first part meets EAGAIN with plain sockets. In the second the loop keeps
//! the unwritten bytes, makes no system call, and writes again after the next edge.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use super::fixture::{Fixture, connect, pair, pattern, sleep, wait_until};
use super::kernel::{self, Held};
use super::spy::SpyService;
use super::transcript::{Claims, Error, Result, Transcript};
use crate::limits::Policy;
use crate::reactor::{ConnectionStatus, Ledger, ListenOptions};
use crate::service::{Context, Service};

const MESSAGE: usize = 4 << 20;
/// So small that the message does not fit, whatever the kernel adds.
const SEND_BUFFER: usize = 256 * 1024;

/// Sends the whole message in one callback, without asking for the capacity.
struct BulkSender;

impl Service for BulkSender {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        ctx.send(&pattern(MESSAGE));
    }

    fn on_data(&mut self, _ctx: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

#[derive(Clone, Debug)]
struct Measured {
    by_hand: ByHand,
    /// The counters while the peer does not read.
    stuck: Ledger,
    status: ConnectionStatus,
    kernel_holds: Option<u64>,
    /// The counters 100 ms later.
    still: Ledger,
    /// The counters when the peer has read all bytes.
    done: Ledger,
    received_intact: bool,
}

#[derive(Clone, Debug)]
struct ByHand {
    taken: usize,
    last: usize,
    offered: usize,
    errno: i32,
    kernel_holds: Option<u64>,
    goes_on: bool,
}

pub fn run(transcript: &mut Transcript<'_>) -> Result<Claims> {
    let by_hand = by_hand(transcript)?;

    let options = ListenOptions { send_buffer: Some(SEND_BUFFER), ..ListenOptions::default() };
    let (service, events) = SpyService::new(BulkSender);
    let (fixture, addr) = Fixture::listening(service, Policy::default(), options)?;
    let mut peer = connect(addr)?;
    let id = events.next_open()?;
    transcript
        .we(format_args!("now a service on the loop sends {MESSAGE} bytes in one callback; the peer does not read"));
    let mut stuck = Ledger::default();
    let mut kernel_holds = None;
    wait_until("the write is blocked and the kernel has settled", || {
        stuck = fixture.ledger()?;
        kernel_holds = kernel::held_between(addr, peer.local_addr()?).map(Held::sum);
        Ok(stuck.write_blocked > 0 && kernel::is_settled(kernel_holds, stuck.bytes_out))
    })?;
    let gone = || Error::new("the connection ended too early");
    let status = fixture.query(move |reactor| reactor.connection_status(id))?.ok_or_else(gone)?;
    let Ledger { writes, short_writes, bytes_out, .. } = stuck;
    transcript
        .kernel(format_args!("takes {bytes_out} bytes in {writes} writes, {short_writes} of them short; then EAGAIN"));
    transcript.reactor(format_args!(
        "EAGAIN clears the bit `writable` (now {}); {} bytes wait in its buffer",
        status.writable, status.queued
    ));
    transcript.go("here Write parks the goroutine in pollDesc.waitWrite; the caller's slice is the buffer");
    sleep(Duration::from_millis(100));
    let still = fixture.ledger()?;
    let calls = |ledger: &Ledger| ledger.writes + ledger.write_blocked;
    transcript.reactor(format_args!(
        "makes no attempt in the next 100 ms: {} more calls of write",
        calls(&still) - calls(&stuck)
    ));

    let mut received = vec![0; MESSAGE];
    peer.read_exact(&mut received)?;
    transcript.we("the peer reads all of it");
    let done = fixture.ledger()?;
    transcript.kernel(format_args!("reports {} edges meanwhile: there is room again", done.events - still.events));
    transcript.reactor(format_args!(
        "flushes after each: writes = {}, write_blocked = {}, bytes_out = {}",
        done.writes, done.write_blocked, done.bytes_out
    ));
    drop(peer);
    fixture.stop()?;
    let received_intact = received == pattern(MESSAGE);
    Ok(judge(&Measured { by_hand, stuck, status, kernel_holds, still, done, received_intact }))
}

fn by_hand(transcript: &mut Transcript<'_>) -> Result<ByHand> {
    let (mut here, mut there) = pair()?;
    here.set_nonblocking(true)?;
    let chunk = vec![0; 64 * 1024];
    let (mut taken, mut last, mut settled) = (0, 0, false);
    let (from, to) = (here.local_addr()?, there.local_addr()?);
    let held_now = || kernel::held_between(from, to);
    let error = loop {
        match here.write(&chunk) {
            Ok(n) => (taken, last, settled) = (taken + n, n, false),
            // Bytes that move on to the peer's buffer make room: write once more when they have arrived.
            Err(error) if error.kind() == ErrorKind::WouldBlock && !settled => {
                let is_settled = || Ok(kernel::is_settled(held_now().map(Held::sum), taken as u64));
                wait_until("all bytes have arrived", is_settled)?;
                settled = true;
            }
            Err(error) => break error,
        }
    };
    let mut held = None;
    wait_until("all bytes have arrived", || {
        held = held_now();
        Ok(kernel::is_settled(held.map(Held::sum), taken as u64))
    })?;
    let errno = error.raw_os_error().unwrap_or_default();
    transcript.we(format_args!(
        "by hand: write pieces of {} bytes until the kernel refuses; the peer does not read",
        chunk.len()
    ));
    let name = kernel::name(errno);
    transcript.kernel(format_args!("{taken} bytes taken, {last} of them by the last write; then {name}: not now"));
    if let Some(Held { sent, received }) = held {
        transcript.kernel(format_args!(
            "they lie in two buffers: {sent} in ours (Send-Q), {received} in the peer's (Recv-Q)"
        ));
    }
    let mut read = 0;
    let mut sink = vec![0; 1 << 20];
    while read < taken {
        read += there.read(&mut sink)?;
    }
    let goes_on = wait_until("there is room again", || Ok(here.write(b"again").is_ok()));
    transcript.we(format_args!("read {read} bytes at the other end, and write again: it is taken"));
    Ok(ByHand { taken, last, offered: chunk.len(), errno, kernel_holds: held.map(Held::sum), goes_on: goes_on.is_ok() })
}

fn judge(m: &Measured) -> Claims {
    let ByHand { taken, last, offered, .. } = m.by_hand;
    let again = kernel::name(m.by_hand.errno);
    let (bytes_out, queued) = (m.stuck.bytes_out, m.status.queued);
    let calls = |ledger: &Ledger| ledger.writes + ledger.write_blocked;
    let idle = calls(&m.still) - calls(&m.stuck);
    let edges = m.done.events - m.still.events;
    Claims::new()
        .claim(m.by_hand.errno == libc::EAGAIN, format!("a full buffer is {again}, not an error"))
        .claim(last <= offered, format!("a write may be short: the last took {last} of {offered}"))
        .claim_if_known(m.by_hand.kernel_holds, |held| {
            (held == taken as u64, format!("the taken bytes are in the two buffers: {held} of {taken}"))
        })
        .claim(m.by_hand.goes_on, "when the peer has read, writing goes on")
        .claim(m.stuck.write_blocked >= 1, format!("the loop meets EAGAIN, too: {}", m.stuck.write_blocked))
        .claim(!m.status.writable, format!("and remembers it: writable = {}", m.status.writable))
        .claim(
            bytes_out + queued as u64 == MESSAGE as u64,
            format!("the bytes that the kernel has not taken are queued: {bytes_out} + {queued} = {MESSAGE}"),
        )
        .claim_if_known(m.kernel_holds, |held| {
            (held == bytes_out, format!("the bytes that it has taken are in its buffers: {held} of {bytes_out}"))
        })
        .claim(idle == 0, format!("while there is no room there is no system call: {idle}"))
        .claim(edges >= 1, format!("edges say go on: {edges}"))
        .claim(m.done.bytes_out == MESSAGE as u64, format!("all is written in the end: {}", m.done.bytes_out))
        .claim(m.received_intact, "and arrives as it was sent")
}

#[cfg(test)]
mod tests {
    use super::super::transcript::assert_judges;
    use super::*;

    #[test]
    fn judge_rejects_wrong_figures() {
        let by_hand =
            ByHand { taken: 100, last: 1, offered: 2, errno: libc::EAGAIN, kernel_holds: Some(100), goes_on: true };
        let stuck = Ledger { writes: 1, short_writes: 1, write_blocked: 1, bytes_out: 1000, ..Ledger::default() };
        let good = Measured {
            by_hand,
            status: ConnectionStatus { queued: MESSAGE - 1000, unread: 0, readable: false, writable: false },
            kernel_holds: Some(1000),
            still: stuck.clone(),
            done: Ledger { writes: 9, write_blocked: 8, bytes_out: MESSAGE as u64, events: 8, ..Ledger::default() },
            stuck,
            received_intact: true,
        };
        assert_judges(
            &good,
            judge,
            &[
                |m| m.by_hand.errno = libc::EPIPE,
                |m| m.by_hand.last = 3,
                |m| m.by_hand.kernel_holds = Some(99),
                |m| m.by_hand.goes_on = false,
                |m| (m.stuck.write_blocked, m.still.write_blocked) = (0, 0),
                |m| m.status.writable = true,
                |m| m.status.queued -= 1,
                |m| m.kernel_holds = Some(999),
                |m| m.still.write_blocked += 1,
                |m| m.done.events = 0,
                |m| m.done.bytes_out -= 1,
                |m| m.received_intact = false,
            ],
        );
    }
}
