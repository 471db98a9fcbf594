//! `slow-reader`: a peer that writes and does not read. The loop stops reading at its high-water mark, so its own
//! memory is bounded. The bytes pile up in the kernel, in four buffers that no program sees.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use super::fixture::{Fixture, connect, pattern, wait_until};
use super::kernel;
use super::spy::SpyService;
use super::transcript::{Claims, Error, Result, Transcript};
use crate::limits::{NOT_SENT, Policy, SCRATCH};
use crate::reactor::{ConnectionStatus, Ledger, ListenOptions};
use crate::services::Echo;

/// The time without progress after which the peer counts as stuck.
const STUCK: Duration = Duration::from_millis(300);

#[derive(Clone, Debug)]
struct Measured {
    policy: Policy,
    /// The bytes that the peer has written until it was stuck.
    written: usize,
    status: ConnectionStatus,
    /// The loop's Recv-Q and Send-Q, and the peer's.
    queues: Option<[u64; 4]>,
    stuck: Ledger,
    done: Ledger,
    returned_intact: bool,
}

pub fn run(transcript: &mut Transcript<'_>) -> Result<Claims> {
    let policy = Policy::default();
    let (echo, events) = SpyService::new(Echo);
    let (fixture, addr) = Fixture::listening(echo, policy.clone(), ListenOptions::default())?;
    let mut peer = connect(addr)?;
    let id = events.next_open()?;
    let marks = (policy.high_water >> 10, policy.low_water >> 10);
    transcript.we(format_args!(
        "write to echo and never read; its marks: pause at {} KiB, resume at {} KiB",
        marks.0, marks.1
    ));

    let bytes = pattern(64 * 1024);
    peer.set_nonblocking(true)?;
    let (mut written, mut last) = (0, Instant::now());
    wait_until("the peer is stuck", || {
        loop {
            match peer.write(&bytes[written % bytes.len()..]) {
                Ok(n) => (written, last) = (written + n, Instant::now()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(last.elapsed() > STUCK)
    })?;
    peer.set_nonblocking(false)?;
    transcript.kernel(format_args!("takes {written} bytes from us, then EAGAIN for {} ms", STUCK.as_millis()));

    let here = peer.local_addr()?;
    // From the peer to the loop, and back.
    let queues = || {
        let (there, back) = (kernel::held_between(here, addr)?, kernel::held_between(addr, here)?);
        Some([there.received, back.sent, back.received, there.sent])
    };
    let gone = || Error::new("the connection ended too early");
    let status_now = || fixture.query(move |reactor| reactor.connection_status(id))?.ok_or_else(gone);
    let (mut status, mut queues_seen) = (status_now()?, None);
    // Bytes that are not acknowledged yet count at both ends.
    wait_until("all bytes have arrived", || {
        (status, queues_seen) = (status_now()?, queues());
        let ours = (status.queued + status.unread) as u64;
        Ok(kernel::is_settled(queues_seen.map(|queues| queues.iter().sum::<u64>() + ours), written as u64))
    })?;
    let stuck = fixture.ledger()?;
    let ConnectionStatus { queued, .. } = status;
    transcript
        .reactor(format_args!("wrote until EAGAIN, queued {queued} bytes, and paused: pauses = {}", stuck.pauses));
    if let Some([in_recv, out_send, peer_recv, peer_send]) = queues_seen {
        transcript.kernel(format_args!(
            "on the way in: {peer_send} bytes in the peer's send, {in_recv} in our receive buffer"
        ));
        transcript.kernel(format_args!(
            "on the way out: {out_send} bytes in our send, {peer_recv} in the peer's receive buffer"
        ));
        transcript
            .reactor(format_args!("asks for {NOT_SENT} unsent bytes at most (TCP_NOTSENT_LOWAT): the peer did not"));
        let hidden = in_recv + out_send + peer_recv + peer_send;
        transcript.kernel(format_args!("hides {hidden} bytes of {written}; the loop holds {queued}"));
    }
    transcript.go("io.Copy does the same by blocking in Write: while it is parked, Read is not called");

    let mut returned = vec![0; written];
    peer.read_exact(&mut returned)?;
    transcript.we("now read all of it");
    let done = fixture.ledger()?;
    let Ledger { pauses, resumes, reads, writes, .. } = done;
    transcript.reactor(format_args!(
        "reads again: pauses = {pauses}, resumes = {resumes}, reads = {reads}, writes = {writes}"
    ));
    drop(peer);
    fixture.stop()?;
    let returned_intact = returned.chunks(bytes.len()).all(|chunk| *chunk == bytes[..chunk.len()]);
    Ok(judge(&Measured { policy, written, status, queues: queues_seen, stuck, done, returned_intact }))
}

fn judge(m: &Measured) -> Claims {
    let ConnectionStatus { queued, unread, .. } = m.status;
    let most = m.policy.high_water + SCRATCH;
    let (written, high) = (m.written as u64, m.policy.high_water);
    let (pauses, resumes) = (m.stuck.pauses, m.stuck.resumes);
    Claims::new()
        .claim(pauses == resumes + 1, format!("over its mark it is not read: pauses = {pauses}, resumes = {resumes}"))
        .claim(queued >= m.policy.low_water, format!("it stays paused above the low mark: {queued} bytes queued"))
        .claim(
            queued + unread <= most,
            format!("the loop holds one mark and one read at most: {queued} of {high} + {SCRATCH}"),
        )
        .claim_if_known(m.queues, |queues| {
            let (sum, ours) = (queues.iter().sum::<u64>(), (queued + unread) as u64);
            (sum + ours == written, format!("four buffers and ours hold every byte: {sum} + {ours} = {written}"))
        })
        .claim_if_known(m.queues, |queues| {
            let hidden = queues.iter().sum::<u64>();
            (
                hidden > queued as u64,
                format!("the kernel hides {:.1} x what the loop holds", hidden as f64 / queued as f64),
            )
        })
        .claim_if_known(m.queues.filter(|_| cfg!(target_os = "linux")), |[_, out_send, _, peer_send]| {
            // A write may pass the bound by a segment (64 KiB before it is cut for the wire).
            let bounded = out_send <= u64::from(NOT_SENT) + 65_536;
            (bounded, format!("the loop bounds its share of that, the peer does not: {out_send} and {peer_send}"))
        })
        .claim(
            m.done.pauses == m.done.resumes && m.done.resumes > resumes,
            format!("below the low mark it is read again: pauses = {}, resumes = {}", m.done.pauses, m.done.resumes),
        )
        .claim(m.done.bytes_out == written, format!("no byte is lost: {} bytes back", m.done.bytes_out))
        .claim(m.returned_intact, "and all come back in order")
}

#[cfg(test)]
mod tests {
    use super::super::transcript::assert_judges;
    use super::*;

    #[test]
    fn judge_rejects_wrong_figures() {
        let good = Measured {
            policy: Policy::default(),
            written: 1_000_000,
            status: ConnectionStatus { queued: 100_000, unread: 0, readable: true, writable: false },
            queues: Some([200_000, 100_000, 100_000, 500_000]),
            stuck: Ledger { pauses: 3, resumes: 2, ..Ledger::default() },
            done: Ledger { pauses: 9, resumes: 9, bytes_out: 1_000_000, ..Ledger::default() },
            returned_intact: true,
        };
        assert_judges(
            &good,
            judge,
            &[
                |m| m.stuck.pauses = 2,
                |m| (m.status.queued, m.queues) = (10_000, None),
                |m| (m.status.queued, m.queues) = (300_000, None),
                |m| m.queues = Some([200_000, 100_000, 100_000, 500_001]),
                #[cfg(target_os = "linux")]
                |m| m.queues = Some([200_000, 500_000, 100_000, 100_000]),
                |m| (m.written, m.queues, m.done.bytes_out) = (100_000, Some([0; 4]), 100_000),
                |m| m.done.resumes = 8,
                |m| m.done.bytes_out -= 1,
                |m| m.returned_intact = false,
            ],
        );
    }
}
