//! `udp-refused`: ICMP answers a datagram to a port without a socket. The next call of a connected socket returns the
//! error; an unconnected socket gets none. A server must treat it as an event of one peer, not as an end.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use super::fixture::{Fixture, LOOPBACK, STEP_TIMEOUT, wait_until};
use super::kernel;
use super::transcript::{Claims, Error, Result, Transcript};
use crate::reactor::{Ledger, ListenOptions};
use crate::service::{DatagramContext, DatagramService, Errno, SocketContext};
use crate::services::EchoUdp;

/// The time without an error after which none is expected.
const SILENCE: Duration = Duration::from_millis(150);

#[derive(Clone, Debug)]
struct Measured {
    /// The result of the send to an unused port, in bytes.
    sent: usize,
    /// The result of the next call: an errno, or 0.
    refused: i32,
    after: Duration,
    unconnected: i32,
    recovered: bool,
    ledger: Ledger,
    next_served: bool,
    /// The error that a connected socket on the loop reports.
    reported: i32,
    /// The errors in the ledger.
    errors: u64,
}

pub fn run(transcript: &mut Transcript<'_>) -> Result<Claims> {
    let unused = UdpSocket::bind(LOOPBACK)?.local_addr()?;
    let connected = socket(STEP_TIMEOUT)?;
    connected.connect(unused)?;
    let start = Instant::now();
    let sent = connected.send(b"anybody?")?;
    transcript.we(format_args!("connect a UDP socket to {unused}, where no socket is bound, and send {sent} bytes"));
    transcript.kernel(format_args!("send = {sent}: the bytes have left. UDP promises no more"));
    let mut back = [0; 64];
    let refused = errno(connected.recv(&mut back));
    let after = start.elapsed();
    let name = kernel::name(refused);
    transcript.kernel(format_args!(
        "ICMP port unreachable comes back: recv = {name}, after {:.2} ms",
        after.as_secs_f64() * 1e3
    ));

    let unconnected = socket(SILENCE)?;
    unconnected.send_to(b"anybody?", unused)?;
    let start = Instant::now();
    let silence = errno(unconnected.recv(&mut back));
    let millis = start.elapsed().as_millis();
    transcript.we("send the same from a socket that is not connected");
    transcript
        .kernel(format_args!("recv = {} after {millis} ms: the error could not name its peer", kernel::name(silence)));

    let bound = UdpSocket::bind(unused)?;
    bound.set_read_timeout(Some(STEP_TIMEOUT))?;
    connected.send(b"now?")?;
    let recovered = bound.recv(&mut back)? == 4;
    transcript.we(format_args!("bind {unused}, and send again from the refused socket: 4 bytes arrive"));
    transcript.go("net.DialUDP connects (`read: connection refused`), net.ListenUDP does not");
    drop((connected, unconnected, bound));

    let (ledger, next_served) = unconnected_server(transcript)?;
    let (reported, errors) = connected_client(transcript)?;
    Ok(judge(&Measured {
        sent,
        refused,
        after,
        unconnected: silence,
        recovered,
        ledger,
        next_served,
        reported,
        errors,
    }))
}

/// A server's socket on the loop: one client closes its socket before the answer, and another follows.
fn unconnected_server(transcript: &mut Transcript<'_>) -> Result<(Ledger, bool)> {
    let (fixture, (_, addr)) = Fixture::new(|reactor| {
        let echo = reactor.add_datagram_service("echo-udp", Box::new(EchoUdp));
        reactor.bind_datagram(echo, LOOPBACK, &ListenOptions::default())
    })?;
    let stalled = fixture.stall()?;
    let gone = socket(STEP_TIMEOUT)?;
    gone.send_to(b"do not wait for me", addr)?;
    drop(gone);
    drop(stalled);
    wait_until("the answer has been sent", || Ok(fixture.ledger()?.datagrams_out == 1))?;
    let Ledger { datagrams_in, datagrams_out, .. } = fixture.ledger()?;
    transcript.we("echo-udp on the loop: a client sends, and closes its socket before it is answered");
    transcript.reactor(format_args!(
        "datagrams_in = {datagrams_in}, datagrams_out = {datagrams_out}: the answer has no reader"
    ));
    let next_served = is_echoed(addr)?;
    let (_, ledger) = fixture.stop()?;
    let Ledger { datagrams_in, datagrams_out, datagram_errors, .. } = ledger;
    transcript.reactor(format_args!(
        "the next client is served: in = {datagrams_in}, out = {datagrams_out}, datagram_errors = {datagram_errors}"
    ));
    Ok((ledger, next_served))
}

/// Sends one datagram to its only peer, and passes the errors to a channel.
struct ErrorReporter(Sender<Errno>);

impl DatagramService for ErrorReporter {
    fn on_open(&mut self, ctx: &mut SocketContext<'_>) {
        ctx.send(b"anybody?");
    }

    fn on_datagram(&mut self, _ctx: &mut DatagramContext<'_>, _payload: &[u8]) {}

    fn on_error(&mut self, _ctx: &mut SocketContext<'_>, errno: Errno) {
        // The send fails once the scenario has dropped its end.
        let _ = self.0.send(errno);
    }
}

/// A connected socket on the loop, whose peer has no socket. Returns the reported error and the number of counted
/// errors.
fn connected_client(transcript: &mut Transcript<'_>) -> Result<(i32, u64)> {
    let unused = UdpSocket::bind(LOOPBACK)?.local_addr()?;
    let (sender, errors) = channel();
    let (fixture, _) = Fixture::new(move |reactor| {
        let reporter = reactor.add_datagram_service("reporter", Box::new(ErrorReporter(sender)));
        reactor.connect_datagram(reporter, unused, None, &ListenOptions::default())
    })?;
    transcript.we(format_args!("a connected socket on the loop sends to {unused}, where no socket is bound"));
    let reported = errors.recv_timeout(STEP_TIMEOUT).map_err(|_| Error::timeout("the service gets the error"))?;
    let (_, ledger) = fixture.stop()?;
    let (name, counted) = (kernel::name(reported.0), ledger.datagram_errors);
    transcript
        .reactor(format_args!("on_error({name}), datagram_errors = {counted}; the socket stays open until the stop"));
    Ok((reported.0, counted))
}

fn is_echoed(addr: SocketAddr) -> Result<bool> {
    let next = socket(STEP_TIMEOUT)?;
    next.send_to(b"next", addr)?;
    let mut back = [0; 64];
    let (n, from) = next.recv_from(&mut back)?;
    Ok(back[..n] == *b"next" && from == addr)
}

fn socket(patience: Duration) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(LOOPBACK)?;
    socket.set_read_timeout(Some(patience))?;
    Ok(socket)
}

fn errno(received: std::io::Result<usize>) -> i32 {
    received.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0)
}

fn judge(m: &Measured) -> Claims {
    let Ledger { datagrams_in, datagrams_out, .. } = m.ledger;
    let (refused, silence) = (kernel::name(m.refused), kernel::name(m.unconnected));
    Claims::new()
        .claim(m.sent == b"anybody?".len(), format!("a send to an unused port succeeds: {} bytes", m.sent))
        .claim(
            m.refused == libc::ECONNREFUSED,
            format!("the next call of a connected socket returns the error: {refused}"),
        )
        .claim(m.after < STEP_TIMEOUT / 2, format!("as soon as ICMP is back: {:.2} ms", m.after.as_secs_f64() * 1e3))
        .claim(m.unconnected == libc::EAGAIN, format!("an unconnected socket gets no error: {silence}"))
        .claim(m.recovered, "the error is about a datagram, the socket goes on")
        .claim(
            datagrams_in == 2 && datagrams_out == 2,
            format!("the loop answers each datagram: {datagrams_in} in, {datagrams_out} out"),
        )
        .claim(
            m.ledger.datagram_errors == 0,
            format!("and its unconnected socket gets no error: {}", m.ledger.datagram_errors),
        )
        .claim(m.next_served, "so the next client is served")
        .claim(
            m.reported == libc::ECONNREFUSED && m.errors == 1,
            format!("a connected socket on the loop does: {}, {} counted", kernel::name(m.reported), m.errors),
        )
}

#[cfg(test)]
mod tests {
    use super::super::transcript::assert_judges;
    use super::*;

    #[test]
    fn judge_rejects_wrong_figures() {
        let good = Measured {
            sent: 8,
            refused: libc::ECONNREFUSED,
            after: Duration::from_millis(1),
            unconnected: libc::EAGAIN,
            recovered: true,
            ledger: Ledger { datagrams_in: 2, datagrams_out: 2, ..Ledger::default() },
            next_served: true,
            reported: libc::ECONNREFUSED,
            errors: 1,
        };
        assert_judges(
            &good,
            judge,
            &[
                |m| m.sent = 0,
                |m| m.refused = 0,
                |m| m.after = STEP_TIMEOUT,
                |m| m.unconnected = libc::ECONNREFUSED,
                |m| m.recovered = false,
                |m| m.ledger.datagrams_out = 1,
                |m| m.ledger.datagram_errors = 1,
                |m| m.next_served = false,
                |m| m.reported = libc::EAGAIN,
                |m| m.errors = 2,
            ],
        );
    }
}
