//! `self-connect`: a socket that dials the port to which it is bound connects to itself, without any listener. A client
//! that redials a dead server meets it by chance, if the server's port is one that the kernel gives out to clients.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::fixture::{Fixture, LOOPBACK, STEP_TIMEOUT, unused_port};
use super::kernel::{self, State};
use super::spy::{Callback, SpyService};
use super::transcript::{Claims, Result, Transcript};
use crate::reactor::Ledger;
use crate::service::{CloseReason, Dial, Errno};
use crate::services::Echo;

/// The time for which a dead port is dialed again and again.
const REDIALS: Duration = Duration::from_millis(750);

#[derive(Clone, Debug)]
struct Measured {
    by_hand: Option<ByHand>,
    /// The number of the dial that succeeded, if one did, and true if the socket connected to itself.
    by_chance: Option<(u32, bool)>,
    reason: CloseReason,
    opened: bool,
    counted: u64,
}

#[derive(Clone, Debug)]
struct ByHand {
    local: SocketAddr,
    peer: SocketAddr,
    /// Sockets in the kernel's table for this connection.
    sockets: Option<usize>,
    echoed: bool,
}

pub fn run(transcript: &mut Transcript<'_>) -> Result<Claims> {
    let by_hand = by_hand(transcript)?;
    let by_chance = by_chance(transcript)?;

    let (echo, events) = SpyService::new(Echo);
    let (fixture, service) = Fixture::new(|reactor| Ok(reactor.add_service("echo", Box::new(echo))))?;
    let addr = unused_port()?;
    let dialed =
        fixture.query(move |reactor| reactor.dial(service, &Dial::to(addr).from(addr).within(STEP_TIMEOUT)))?;
    transcript.we(format_args!("the loop dials {addr} from {addr}"));
    let mut opened = false;
    let reason = match dialed {
        Ok(_) => events.wait_for("the dial ends", |event| match event.callback {
            Callback::DialError(reason) => Some(reason),
            what => {
                opened |= what == Callback::Open;
                None
            }
        })?,
        // Systems that do not let a socket connect to itself refuse at once.
        Err(error) => CloseReason::Unreachable(Errno(error.raw_os_error().unwrap_or_default())),
    };
    let (_, ledger) = fixture.stop()?;
    let counted = ledger.closed_by(CloseReason::SelfConnect);
    transcript.reactor(format_args!("compares both addresses before on_dialed: {reason}"));
    let Ledger { dials, .. } = ledger;
    transcript.reactor(format_args!("dials = {dials}, closed_self_connect = {counted}"));
    transcript.go("net.Dial does the same check (selfConnect in tcpsock_posix.go) and dials again, twice at most");
    Ok(judge(&Measured { by_hand, by_chance, reason, opened, counted }))
}

fn by_hand(transcript: &mut Transcript<'_>) -> Result<Option<ByHand>> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&LOOPBACK.into())?;
    let Some(addr) = socket.local_addr()?.as_socket() else { return Ok(None) };
    transcript.we(format_args!("bind {addr}, which the kernel has chosen, and connect to it; no socket listens"));
    if let Err(error) = socket.connect(&addr.into()) {
        transcript
            .kernel(format_args!("{}: this system does not let a socket connect to itself", kernel::name_of(&error)));
        return if cfg!(target_os = "linux") { Err(error.into()) } else { Ok(None) };
    }
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    transcript.kernel("connected: its SYN meets itself, which is a simultaneous open (RFC 9293, section 3.5)");
    let sockets = kernel::all_towards(peer, State::ESTABLISHED).map(|rows| rows.len());
    if let Some(sockets) = sockets {
        transcript.kernel(format_args!("local {local}, peer {peer}, {sockets} socket in ESTABLISHED"));
    }
    let mut back = [0; 5];
    stream.write_all(b"hello")?;
    stream.read_exact(&mut back)?;
    transcript.we("write hello, and read hello: the client sees a server, and the real one could not bind its port");
    Ok(Some(ByHand { local, peer, sockets, echoed: back == *b"hello" }))
}

/// Dials a dead port until a dial succeeds: to the dialer itself.
fn by_chance(transcript: &mut Transcript<'_>) -> Result<Option<(u32, bool)>> {
    // Linux prefers even ports for connect(2) and odd ports for bind(2) to port 0.
    let Some(addr) = unused_even_port()? else { return Ok(None) };
    if let Some(range) = kernel::setting("net/ipv4/ip_local_port_range") {
        let range = range.split_whitespace().collect::<Vec<_>>().join(" to ");
        transcript.we(format_args!("without bind: dial {addr} again and again; clients get the ports {range}"));
    }
    let (start, mut dials) = (Instant::now(), 0);
    while start.elapsed() < REDIALS {
        dials += 1;
        match TcpStream::connect_timeout(&addr, STEP_TIMEOUT) {
            Ok(stream) => {
                let itself = stream.local_addr()? == stream.peer_addr()?;
                let (millis, local) = (start.elapsed().as_millis(), stream.local_addr()?);
                transcript.kernel(format_args!("dial {dials}, after {millis} ms: connected, from {local}"));
                return Ok(Some((dials, itself)));
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error.into()),
        }
    }
    transcript.kernel(format_args!("{dials} times ECONNREFUSED in {} ms: not this time", REDIALS.as_millis()));
    Ok(None)
}

fn unused_even_port() -> Result<Option<SocketAddr>> {
    for _ in 0..16 {
        let mut addr = unused_port()?;
        addr.set_port(addr.port() & !1);
        if TcpListener::bind(addr).is_ok() {
            return Ok(Some(addr));
        }
    }
    Ok(None)
}

fn judge(m: &Measured) -> Claims {
    let claims = Claims::new()
        .claim_if_known(m.by_hand.as_ref(), |by_hand| {
            (by_hand.local == by_hand.peer, format!("both ends are one: {} and {}", by_hand.local, by_hand.peer))
        })
        .claim_if_known(m.by_hand.as_ref().and_then(|by_hand| by_hand.sockets), |n| {
            (n == 1, format!("there is one socket, not two: {n}"))
        })
        .claim_if_known(m.by_hand.as_ref(), |by_hand| (by_hand.echoed, "it reads the bytes that it writes".to_owned()))
        .claim_if_known(m.by_chance, |(dials, itself)| {
            (itself, format!("the answer at a dead port is the dialer's own: dial {dials}"))
        })
        .claim(!m.opened, "the loop does not open such a connection for a service");
    if m.by_hand.is_some() {
        claims.claim(
            m.reason == CloseReason::SelfConnect && m.counted == 1,
            format!("but names it and counts it: {}, {}", m.reason, m.counted),
        )
    } else {
        claims.claim(matches!(m.reason, CloseReason::Unreachable(_)), format!("but names the cause: {}", m.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::super::transcript::assert_judges;
    use super::*;

    #[test]
    fn judge_rejects_wrong_figures() {
        let addr: SocketAddr = ([127, 0, 0, 1], 40000).into();
        let good = Measured {
            by_hand: Some(ByHand { local: addr, peer: addr, sockets: Some(1), echoed: true }),
            by_chance: Some((77, true)),
            reason: CloseReason::SelfConnect,
            opened: false,
            counted: 1,
        };
        assert_judges(
            &good,
            judge,
            &[
                |m| m.by_hand.as_mut().unwrap().peer.set_port(1),
                |m| m.by_hand.as_mut().unwrap().sockets = Some(2),
                |m| m.by_hand.as_mut().unwrap().echoed = false,
                |m| m.by_chance = Some((77, false)),
                |m| m.opened = true,
                |m| m.reason = CloseReason::Finished,
                |m| m.counted = 0,
                |m| m.by_hand = None,
            ],
        );
    }
}
