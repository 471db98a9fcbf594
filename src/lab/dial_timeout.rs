//! `dial-timeout`: a listener whose backlog is full drops every SYN, as a firewall would. No refusal comes, so a
//! deadline has to end the dial. For comparison the loop dials a port without a listener, which refuses at once.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::fixture::{Fixture, LOOPBACK, holds_within, unused_port};
use super::kernel::{self, State};
use super::spy::{Events, SpyService};
use super::transcript::{Claims, Error, Result, Transcript};
use crate::id::ServiceId;
use crate::service::{CloseReason, Dial, Errno};
use crate::services::Discard;

const TIMEOUT: Duration = Duration::from_millis(300);
/// A deadline is never early. It may be late by the time that a busy machine needs.
const SLACK: Duration = Duration::from_millis(700);

#[derive(Clone, Debug)]
struct Measured {
    hole: DialEnd,
    refused_dial: DialEnd,
    /// The time for which the loop was blocked, so that the sockets could be counted.
    inspection: Duration,
    /// Sockets in SYN_SENT towards the black hole: before the dial, during it, after it.
    hanging: Option<[usize; 3]>,
    dials: u64,
    timers_fired: u64,
    dial_deadlines: u64,
}

pub fn run(transcript: &mut Transcript<'_>) -> Result<Claims> {
    let (hole, _full) = black_hole()?;
    transcript.we(format_args!("fill the backlog of {hole}: it drops every SYN, as a firewall or a dead host would"));
    let (discard, events) = SpyService::new(Discard);
    let (fixture, service) = Fixture::new(|reactor| Ok(reactor.add_service("discard", Box::new(discard))))?;

    let before = Unanswered::towards(hole);
    transcript.we(format_args!("the loop dials {hole} with a deadline of {} ms", TIMEOUT.as_millis()));
    let (hole_end, (during, inspection)) = dial(&fixture, &events, service, hole, move || {
        let start = Instant::now();
        (Unanswered::towards(hole), start.elapsed())
    })?;
    let after = Unanswered::towards(hole);
    let (reason, took) = hole_end;
    if kernel::shows_sockets() {
        let ([before, during], millis) = ([before.sockets, during.sockets], during.timer.as_millis());
        transcript
            .kernel(format_args!("{during} sockets in SYN_SENT towards it, {before} before; next SYN in {millis} ms"));
    }
    if let Some(retries) = kernel::setting("net/ipv4/tcp_syn_retries") {
        transcript
            .kernel(format_args!("would retry {retries} times, for a minute or two, before it reports ETIMEDOUT"));
    }
    transcript
        .reactor(format_args!("{:.1} ms after the dial: {reason}; the socket is closed", took.as_secs_f64() * 1e3));
    transcript.go("net.Dialer{Timeout: d}; without it Dial waits for the kernel, which is the minute or two");

    let unused = unused_port()?;
    transcript.we(format_args!("the loop dials {unused}, where no socket listens"));
    let (refused_dial, ()) = dial(&fixture, &events, service, unused, || {})?;
    if let CloseReason::Unreachable(Errno(errno)) = refused_dial.0 {
        let (name, took) = (kernel::name(errno), refused_dial.1.as_secs_f64() * 1e3);
        transcript.kernel(format_args!("answers RST: {name} after {took:.1} ms. A refusal needs no deadline"));
    }
    let (_, ledger) = fixture.stop()?;
    let dial_deadlines = ledger.closed_by(CloseReason::DialDeadline);
    transcript.reactor(format_args!("dials = {}, closed_dial_deadline = {dial_deadlines}", ledger.dials));
    Ok(judge(&Measured {
        hole: hole_end,
        refused_dial,
        inspection,
        hanging: kernel::shows_sockets().then_some([before, during, after].map(|hanging| hanging.sockets)),
        dials: ledger.dials,
        timers_fired: ledger.timers_fired,
        dial_deadlines,
    }))
}

/// A listener with a full backlog, and the sockets that fill it.
fn black_hole() -> Result<(SocketAddr, (Socket, Vec<Socket>))> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&LOOPBACK.into())?;
    listener.listen(0)?;
    let listener = TcpListener::from(listener);
    let addr = listener.local_addr()?;
    let mut filling = Vec::new();
    // Linux needs one.
    while filling.len() < 16 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // EINPROGRESS; any other failure shows below.
        let _ = socket.connect(&addr.into());
        let complete = holds_within(Duration::from_millis(100), || socket.peer_addr().is_ok());
        filling.push(socket);
        if !complete {
            return Ok((addr, (listener.into(), filling)));
        }
    }
    Err(Error::new("a backlog of 0 took 16 connections: there is no black hole to dial"))
}

/// The sockets whose SYN has no answer, and the time until the latest of them repeats it.
#[derive(Clone, Copy, Debug)]
struct Unanswered {
    sockets: usize,
    timer: Duration,
}

impl Unanswered {
    fn towards(addr: SocketAddr) -> Self {
        let hanging = kernel::all_towards(addr, State::SYN_SENT).unwrap_or_default();
        Self { sockets: hanging.len(), timer: hanging.iter().map(|row| row.timer).max().unwrap_or_default() }
    }
}

/// The reason of the end of a dial, and its duration.
type DialEnd = (CloseReason, Duration);

/// Dials `addr` from the loop, calls `inspect` before the next turn, and waits for the end of the dial.
fn dial<T: Send + 'static>(
    fixture: &Fixture,
    events: &Events,
    service: ServiceId,
    addr: SocketAddr,
    inspect: impl FnOnce() -> T + Send + 'static,
) -> Result<(DialEnd, T)> {
    let (start, dialed, seen) = fixture.query(move |reactor| {
        let dialed = reactor.dial(service, &Dial::to(addr).within(TIMEOUT));
        (reactor.now(), dialed, inspect())
    })?;
    match dialed.map_err(|error| (error.raw_os_error(), error)) {
        Ok(_) => events.next_dial_error().map(|(failed, reason)| ((reason, failed.since(start)), seen)),
        // Some systems refuse in connect(2) itself.
        Err((Some(errno), _)) => Ok(((CloseReason::Unreachable(Errno(errno)), Duration::ZERO), seen)),
        Err((None, error)) => Err(error.into()),
    }
}

fn judge(m: &Measured) -> Claims {
    let (timed_out, took) = m.hole;
    let (refused, at_once) = m.refused_dial;
    let (millis, wanted) = (took.as_secs_f64() * 1e3, TIMEOUT.as_millis());
    Claims::new()
        .claim(
            timed_out == CloseReason::DialDeadline,
            format!("the deadline ends a dial without an answer: {timed_out}"),
        )
        .claim(took >= TIMEOUT, format!("a deadline is never early: {millis:.1} ms of {wanted}"))
        .claim(
            took < TIMEOUT.max(m.inspection) + SLACK,
            format!("and late only by the load of the machine: {millis:.1} ms of {wanted}"),
        )
        .claim_if_known(m.hanging, |[before, during, after]| {
            let socket = during == before + 1 && after == before;
            (socket, format!("the dial is a socket that is closed with it: {before}, {during}, {after} in SYN_SENT"))
        })
        .claim(
            refused == CloseReason::Unreachable(Errno(libc::ECONNREFUSED)),
            format!("a port without a listener refuses: {refused}"),
        )
        .claim(at_once < TIMEOUT, format!("and needs no deadline for that: {:.1} ms", at_once.as_secs_f64() * 1e3))
        .claim(
            m.dial_deadlines == 1 && m.dials >= 1 && m.timers_fired >= 1,
            format!(
                "the ledger has dials = {}, timers_fired = {}, closed_dial_deadline = {}",
                m.dials, m.timers_fired, m.dial_deadlines
            ),
        )
}

#[cfg(test)]
mod tests {
    use super::super::transcript::assert_judges;
    use super::*;

    #[test]
    fn judge_rejects_wrong_figures() {
        let good = Measured {
            hole: (CloseReason::DialDeadline, TIMEOUT + Duration::from_millis(1)),
            refused_dial: (CloseReason::Unreachable(Errno(libc::ECONNREFUSED)), Duration::from_millis(1)),
            inspection: Duration::ZERO,
            hanging: Some([1, 2, 1]),
            dials: 2,
            timers_fired: 1,
            dial_deadlines: 1,
        };
        assert_judges(
            &good,
            judge,
            &[
                |m| m.hole.0 = CloseReason::Unreachable(Errno(libc::ETIMEDOUT)),
                |m| m.hole.1 = TIMEOUT - Duration::from_nanos(1),
                |m| m.hole.1 = TIMEOUT + SLACK,
                |m| m.refused_dial.0 = CloseReason::DialDeadline,
                |m| m.refused_dial.1 = TIMEOUT,
                |m| m.hanging = Some([1, 2, 2]),
                |m| m.dial_deadlines = 0,
            ],
        );
    }
}
