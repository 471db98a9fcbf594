//! `udp-refused`: a datagram to a port where nobody is bound is answered by ICMP. A connected socket is told, at its next
//! call; an unconnected one is not. A server must take it as news about one peer, not as an end.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::kernel;
use super::stage::{ANYWHERE, PATIENCE, Stage, until};
use super::tale::{Claims, Result, Tale};
use crate::reactor::{Ledger, ListenOptions};
use crate::services::EchoUdp;

/// How long an error is waited for that does not come.
const SILENCE: Duration = Duration::from_millis(150);

#[derive(Clone, Debug)]
struct Measured {
    /// What sending to nobody returns, and what the call after it does: an errno, or 0.
    sent: usize,
    refused: i32,
    after: Duration,
    unconnected: i32,
    recovered: bool,
    ledger: Ledger,
    next_served: bool,
}

pub fn play(tale: &mut Tale<'_>) -> Result<Claims> {
    let nobody = UdpSocket::bind(ANYWHERE)?.local_addr()?;
    let connected = socket(PATIENCE)?;
    connected.connect(nobody)?;
    let start = Instant::now();
    let sent = connected.send(b"anybody?")?;
    tale.we(format_args!("connect a UDP socket to {nobody}, where nobody is bound, and send {sent} bytes"));
    tale.kernel(format_args!("send = {sent}: they have left. UDP promises no more"));
    let mut back = [0; 64];
    let refused = errno(connected.recv(&mut back));
    let after = start.elapsed();
    let name = kernel::name(refused);
    tale.kernel(format_args!(
        "ICMP port unreachable comes back: recv = {name}, after {:.2} ms",
        after.as_secs_f64() * 1e3
    ));

    let unconnected = socket(SILENCE)?;
    unconnected.send_to(b"anybody?", nobody)?;
    let start = Instant::now();
    let silence = errno(unconnected.recv(&mut back));
    let millis = start.elapsed().as_millis();
    tale.we("send the same from a socket that is not connected");
    tale.kernel(format_args!(
        "recv = {} after {millis} ms: it does not say whom an error would be about",
        kernel::name(silence)
    ));

    let somebody = UdpSocket::bind(nobody)?;
    somebody.set_read_timeout(Some(PATIENCE))?;
    connected.send(b"now?")?;
    let recovered = somebody.recv(&mut back)? == 4;
    tale.we(format_args!(
        "bind {nobody}, and send again from the refused socket: 4 bytes arrive, it is as good as new"
    ));
    tale.go("net.DialUDP gives a connected socket: read: connection refused. net.ListenUDP an unconnected one");
    drop((connected, unconnected, somebody));

    let (ledger, next_served) = the_loop(tale)?;
    Ok(judge(&Measured { sent, refused, after, unconnected: silence, recovered, ledger, next_served }))
}

/// A client that has gone when its answer comes, and one after it.
fn the_loop(tale: &mut Tale<'_>) -> Result<(Ledger, bool)> {
    let (stage, addr) = Stage::new(|reactor| {
        reactor.bind_datagram("echo-udp", Box::new(EchoUdp), ANYWHERE, &ListenOptions::default())
    })?;
    let held = stage.hold()?;
    let gone = socket(PATIENCE)?;
    gone.send_to(b"do not wait for me", addr)?;
    drop(gone);
    drop(held);
    until("the answer has been sent", || Ok(stage.ledger()?.datagrams_out == 1))?;
    let Ledger { datagrams_in, datagrams_out, .. } = stage.ledger()?;
    tale.we("now echo-udp on the loop: a client sends and closes its socket before it is answered");
    tale.reactor(format_args!(
        "datagrams_in = {datagrams_in}, datagrams_out = {datagrams_out}: answered into the void"
    ));
    let next_served = is_echoed(addr)?;
    let (_, ledger) = stage.stop()?;
    let Ledger { datagrams_in, datagrams_out, datagram_errors, .. } = ledger;
    tale.reactor(format_args!(
        "the next client is served: in = {datagrams_in}, out = {datagrams_out}, datagram_errors = {datagram_errors}"
    ));
    Ok((ledger, next_served))
}

fn is_echoed(addr: SocketAddr) -> Result<bool> {
    let next = socket(PATIENCE)?;
    next.send_to(b"next", addr)?;
    let mut back = [0; 64];
    let (n, from) = next.recv_from(&mut back)?;
    Ok(back[..n] == *b"next" && from == addr)
}

fn socket(patience: Duration) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(ANYWHERE)?;
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
        .that(m.sent == b"anybody?".len(), format!("sending to nobody succeeds: {} bytes", m.sent))
        .that(m.refused == libc::ECONNREFUSED, format!("the next call of a connected socket tells: {refused}"))
        .that(m.after < PATIENCE / 2, format!("as soon as ICMP is back: {:.2} ms", m.after.as_secs_f64() * 1e3))
        .that(m.unconnected == libc::EAGAIN, format!("an unconnected socket is never told: {silence}"))
        .that(m.recovered, "the error is about a datagram, the socket goes on")
        .that(
            datagrams_in == 2 && datagrams_out == 2,
            format!("the loop answers each, whoever has gone: {datagrams_in} in, {datagrams_out} out"),
        )
        .that(m.ledger.datagram_errors == 0, format!("and is told of no error: {}", m.ledger.datagram_errors))
        .that(m.next_served, "so the next client is served")
}

#[cfg(test)]
mod tests {
    use super::super::tale::assert_judges;
    use super::*;

    #[test]
    fn wrong_figures_are_not_believed() {
        let good = Measured {
            sent: 8,
            refused: libc::ECONNREFUSED,
            after: Duration::from_millis(1),
            unconnected: libc::EAGAIN,
            recovered: true,
            ledger: Ledger { datagrams_in: 2, datagrams_out: 2, ..Ledger::default() },
            next_served: true,
        };
        assert_judges(
            &good,
            judge,
            &[
                |m| m.sent = 0,
                |m| m.refused = 0,
                |m| m.after = PATIENCE,
                |m| m.unconnected = libc::ECONNREFUSED,
                |m| m.recovered = false,
                |m| m.ledger.datagrams_out = 1,
                |m| m.ledger.datagram_errors = 1,
                |m| m.next_served = false,
            ],
        );
    }
}
