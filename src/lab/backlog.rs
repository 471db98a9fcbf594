//! `backlog`: `listen(N)` without `accept`. The scenario counts the connects that the kernel completes by itself, shows
//! the fate of the next ones, and then lets accepting begin.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::fixture::{Fixture, STEP_TIMEOUT, holds_within, wait_until};
use super::kernel::{self, State};
use super::transcript::{Claims, Error, Result, Transcript};
use crate::limits::Policy;
use crate::reactor::ListenOptions;
use crate::services::Echo;

const BACKLOG: u32 = 4;
/// More connects than any system completes: Linux N + 1, the BSDs up to 1.5 x N + 1.
const DIALS: usize = if cfg!(target_os = "linux") { 7 } else { 12 };
/// The time for a handshake over loopback, which takes a fraction of it.
const HANDSHAKE: Duration = Duration::from_millis(150);
const EARLY: &[u8] = b"written before the connection is accepted";

#[derive(Clone, Debug)]
struct Measured {
    completed: usize,
    errors: usize,
    /// The listener's Recv-Q.
    recv_q: Option<u64>,
    /// Sockets in SYN_SENT.
    hanging: Option<usize>,
    /// Bytes in the receive buffer of a connection that is not accepted.
    held: Option<u64>,
    echoed: Vec<u8>,
    accepts: u64,
    accept_blocked: u64,
    /// The longest time from a dial to its completed connection.
    slowest: Duration,
}

pub fn run(transcript: &mut Transcript<'_>) -> Result<Claims> {
    let options = ListenOptions { backlog: BACKLOG, ..ListenOptions::default() };
    let (fixture, addr) = Fixture::listening(Echo, Policy::default(), options)?;
    let stalled = fixture.stall()?;
    transcript
        .we(format_args!("listen at {addr} with a backlog of {BACKLOG}; the loop is blocked, so no accept follows"));

    let mut dials = Vec::new();
    for _ in 0..DIALS {
        dials.push((dial(addr)?, Instant::now()));
        holds_within(HANDSHAKE, || dials.last().is_some_and(is_complete));
    }
    let (complete, hung): (Vec<_>, Vec<_>) = dials.into_iter().partition(is_complete);
    let completed = complete.len();
    let errors = hung.iter().filter(|(socket, _)| !matches!(socket.take_error(), Ok(None))).count();
    transcript.kernel(format_args!("of {DIALS} nonblocking connects {completed} are complete without an accept"));
    let recv_q = kernel::listener(addr).map(|row| row.recv_q);
    if let Some(recv_q) = recv_q {
        transcript
            .kernel(format_args!("`ss -ltn` shows them as Recv-Q {recv_q}, beside the backlog, Send-Q {BACKLOG}"));
    }
    let rest = hung.len();
    transcript.kernel(format_args!("the SYN of the other {rest} was dropped; {errors} of them see an error"));
    let hanging = kernel::all_towards(addr, State::SYN_SENT);
    if let Some(again) = hanging.as_ref().and_then(|rows| rows.iter().min_by_key(|row| row.timer)) {
        let millis = again.timer.as_millis();
        transcript.kernel(format_args!("they are in {}; the first sends its SYN again in {millis} ms", again.state));
    }

    let Some((first, _)) = complete.first() else { return Err(Error::new("no connect completed")) };
    let mut first = TcpStream::from(first.try_clone()?);
    first.write_all(EARLY)?;
    let (here, there) = (first.local_addr()?, first.peer_addr()?);
    let mut held_bytes = None;
    if kernel::shows_sockets() {
        wait_until("the bytes have arrived", || {
            held_bytes = kernel::between(there, here).map(|row| row.recv_q);
            Ok(held_bytes == Some(EARLY.len() as u64))
        })?;
    }
    transcript.we(format_args!("write {} bytes on the first connection, which is not accepted", EARLY.len()));
    if let Some(bytes) = held_bytes {
        transcript.kernel(format_args!("takes them and keeps {bytes} until the accept"));
    }
    transcript.go("net.Listen has no such number: it asks for net.core.somaxconn connections");
    if let Some(most) = kernel::setting("net/core/somaxconn") {
        transcript.go(format_args!(
            "that is {most} here; a goroutine that does not return to Accept goes unnoticed until then"
        ));
    }

    let released = Instant::now();
    drop(stalled);
    first.set_nonblocking(false)?;
    first.set_read_timeout(Some(STEP_TIMEOUT))?;
    let mut echoed = vec![0; EARLY.len()];
    first.read_exact(&mut echoed)?;
    transcript
        .reactor(format_args!("goes on: the first is answered {:.1} ms later", released.elapsed().as_secs_f64() * 1e3));
    let mut slowest = Duration::ZERO;
    for dial in &hung {
        wait_until("the other connects complete", || Ok(is_complete(dial)))?;
        slowest = slowest.max(dial.1.elapsed());
    }
    transcript
        .kernel(format_args!("completes the others when they repeat their SYN, up to {} ms late", slowest.as_millis()));
    wait_until("all connections are accepted", || Ok(fixture.ledger()?.accepts >= DIALS as u64))?;
    drop((first, complete, hung));
    let (_, ledger) = fixture.stop()?;
    let (accepts, accept_blocked) = (ledger.accepts, ledger.accept_blocked);
    transcript
        .reactor(format_args!("accepts = {accepts}, accept_blocked = {accept_blocked}: one EAGAIN ends each round"));
    Ok(judge(&Measured {
        completed,
        errors,
        recv_q,
        hanging: hanging.map(|rows| rows.len()),
        held: held_bytes,
        echoed,
        accepts,
        accept_blocked,
        slowest,
    }))
}

fn dial(addr: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error.into()),
        _ => Ok(socket),
    }
}

/// Returns true if the handshake is over: the socket has a peer then.
fn is_complete(dial: &(Socket, Instant)) -> bool {
    dial.0.peer_addr().is_ok()
}

fn judge(m: &Measured) -> Claims {
    let Measured { completed, errors, slowest, accepts, .. } = m;
    let claims = if cfg!(target_os = "linux") {
        let one_more = *completed == BACKLOG as usize + 1;
        // RFC 6298: the first retransmission of a SYN comes after a second.
        let late = *slowest >= Duration::from_millis(900);
        Claims::new()
            .claim(one_more, format!("a backlog of N completes N + 1 connects: {BACKLOG} completed {completed}"))
            .claim(late, format!("a late connect has waited for a second SYN, 1 s: {} ms", slowest.as_millis()))
    } else {
        Claims::new()
            .claim((1..DIALS).contains(completed), format!("a backlog completes some connects, not all: {completed}"))
    };
    claims
        .claim_if_known(m.recv_q, |n| (n == *completed as u64, format!("Recv-Q of the listener counts them: {n}")))
        .claim(*errors == 0, format!("the others see no error: {errors}"))
        .claim_if_known(m.hanging, |n| (n == DIALS - completed, format!("the others are in SYN_SENT: {n}")))
        .claim_if_known(m.held, |n| (n == EARLY.len() as u64, format!("bytes wait for the accept, too: {n}")))
        .claim(m.echoed == EARLY, format!("no byte is lost: {} came back", m.echoed.len()))
        .claim(*accepts == DIALS as u64, format!("in the end all are accepted: {accepts} of {DIALS}"))
        .claim(m.accept_blocked >= 1, format!("accepting goes on until EAGAIN: {} times", m.accept_blocked))
}

#[cfg(test)]
mod tests {
    use super::super::transcript::assert_judges;
    use super::*;

    #[test]
    fn judge_rejects_wrong_figures() {
        let completed = BACKLOG as usize + 1;
        let good = Measured {
            completed,
            errors: 0,
            recv_q: Some(completed as u64),
            hanging: Some(DIALS - completed),
            held: Some(EARLY.len() as u64),
            echoed: EARLY.to_vec(),
            accepts: DIALS as u64,
            accept_blocked: 1,
            slowest: Duration::from_millis(1010),
        };
        assert_judges(
            &good,
            judge,
            &[
                |m| m.completed = DIALS,
                |m| m.errors = 1,
                |m| m.recv_q = Some(0),
                |m| m.hanging = Some(0),
                |m| m.held = Some(0),
                |m| m.echoed.clear(),
                |m| m.accepts -= 1,
                |m| m.accept_blocked = 0,
            ],
        );
    }
}
