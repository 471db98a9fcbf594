//! `time-wait`: the end that closes first keeps the pair of addresses for a while, because a segment may arrive late.
//! If that is the server, its port is in use when it starts again, unless it sets SO_REUSEADDR.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::fixture::{Fixture, LOOPBACK, connect, wait_until};
use super::kernel::{self, Row, State};
use super::transcript::{Claims, Result, Transcript};
use crate::limits::Policy;
use crate::reactor::ListenOptions;
use crate::service::{CloseReason, Service};
use crate::services::{Echo, Time};

#[derive(Clone, Debug)]
struct Measured {
    server_first: Remains,
    client_first: Remains,
    /// The result of binding the stopped server's address, without SO_REUSEADDR: an errno, or 0.
    plain: i32,
    /// The same with SO_REUSEADDR.
    reusing: i32,
    /// The same without it, when the client closed first.
    plain_after_client: i32,
    /// The same with it, when the listener before had not set it.
    after_plain: i32,
}

/// The remains of a connection after both ends have closed.
#[derive(Clone, Debug)]
struct Remains {
    /// The remaining time in TIME_WAIT of the server's end and of the client's.
    remaining: Option<[Option<Duration>; 2]>,
    finished: u64,
}

pub fn run(transcript: &mut Transcript<'_>) -> Result<Claims> {
    transcript.we("a server closes first, as `time` does; the client reads to the end and closes; the server stops");
    let (addr, server_first) = run_connection(transcript, Time::default(), false)?;
    let plain = bind(addr, false);
    transcript.we(format_args!("bind {addr} again, without SO_REUSEADDR: {}", outcome(plain)));
    let reusing = bind(addr, true);
    transcript.we(format_args!("bind {addr} again, with SO_REUSEADDR: {}", outcome(reusing)));
    let after_plain = bind(without_reuse()?, true);
    transcript.we(format_args!("the same where the listener before had not set it: {}", outcome(after_plain)));
    transcript.reactor("sets it on every listener, from the first start on");
    transcript.go("net.Listen sets it, too: only the bare system calls meet this there");

    transcript.we("a server that waits for the client to close first, as `echo` does");
    let (addr, client_first) = run_connection(transcript, Echo, true)?;
    let plain_after_client = bind(addr, false);
    transcript.we(format_args!("bind {addr} again, without SO_REUSEADDR: {}", outcome(plain_after_client)));
    Ok(judge(&Measured { server_first, client_first, plain, reusing, plain_after_client, after_plain }))
}

/// Makes one connection to `service`, from its beginning to its end, and then closes the listener.
fn run_connection(
    transcript: &mut Transcript<'_>,
    service: impl Service + Send + 'static,
    client_closes: bool,
) -> Result<(SocketAddr, Remains)> {
    let (fixture, addr) = Fixture::listening(service, Policy::default(), ListenOptions::default())?;
    let mut peer = connect(addr)?;
    let here = peer.local_addr()?;
    if client_closes {
        peer.shutdown(Shutdown::Write)?;
    }
    peer.read_to_end(&mut Vec::new())?;
    drop(peer);
    wait_until("the loop has closed its end", || Ok(fixture.ledger()?.closed.iter().sum::<u64>() == 1))?;
    let (_, ledger) = fixture.stop()?;
    let finished = ledger.closed_by(CloseReason::Finished);
    transcript
        .reactor(format_args!("accepts = {}, closed_finished = {finished}; the listener is closed", ledger.accepts));
    let waits = |row: &Row| row.state == State::TIME_WAIT;
    let ends = || [kernel::between(addr, here), kernel::between(here, addr)].map(|row| row.filter(waits));
    if kernel::shows_sockets() {
        wait_until("one end is in TIME_WAIT", || Ok(ends().iter().any(Option::is_some)))?;
    }
    let [server, client] = ends();
    for (end, row) in [("server", server), ("client", client)] {
        if let Some(row) = row {
            let seconds = row.timer.as_secs_f64();
            transcript
                .kernel(format_args!("the {end}'s end, {}, is in {} for another {seconds:.2} s", row.local, row.state));
        }
    }
    let remaining = kernel::shows_sockets().then_some([server, client].map(|row| row.map(|row| row.timer)));
    Ok((addr, Remains { remaining, finished }))
}

/// The address of a plain server without SO_REUSEADDR that has closed first.
fn without_reuse() -> Result<SocketAddr> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&LOOPBACK.into())?;
    listener.listen(1)?;
    let listener = TcpListener::from(listener);
    let addr = listener.local_addr()?;
    let mut peer = connect(addr)?;
    drop(listener.accept()?);
    peer.read_to_end(&mut Vec::new())?;
    Ok(addr)
}

fn bind(addr: SocketAddr, reuse: bool) -> i32 {
    let try_it = || -> io::Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(reuse)?;
        socket.bind(&addr.into())?;
        socket.listen(1)
    };
    try_it().map_or_else(|error| error.raw_os_error().unwrap_or(-1), |()| 0)
}

fn outcome(errno: i32) -> String {
    if errno == 0 { "done".to_owned() } else { kernel::name(errno) }
}

fn judge(m: &Measured) -> Claims {
    let (server_first, client_first) = (&m.server_first, &m.client_first);
    Claims::new()
        .claim_if_known(server_first.remaining, |[server, client]| {
            (
                server.is_some() && client.is_none(),
                format!("the server closes first: {} keeps it", holder(server, client)),
            )
        })
        .claim_if_known(client_first.remaining, |[server, client]| {
            (
                client.is_some() && server.is_none(),
                format!("the client closes first: {} keeps it", holder(server, client)),
            )
        })
        .claim_if_known(server_first.remaining.filter(|_| cfg!(target_os = "linux")), |[server, _]| {
            // TCP_TIMEWAIT_LEN is a constant of the kernel.
            let left = server.unwrap_or_default().as_secs_f64();
            ((50.0..61.0).contains(&left), format!("for a minute: {left:.2} s are left"))
        })
        .claim(m.plain == libc::EADDRINUSE, format!("a server's port is taken meanwhile: {}", outcome(m.plain)))
        .claim(m.reusing == 0, format!("SO_REUSEADDR is for exactly that: {}", outcome(m.reusing)))
        .claim_if_known(cfg!(target_os = "linux").then_some(m.after_plain), |errno| {
            (errno == libc::EADDRINUSE, format!("but not after a listener without it: {}", outcome(errno)))
        })
        .claim(
            m.plain_after_client == 0,
            format!("a client's TIME_WAIT is no hindrance: {}", outcome(m.plain_after_client)),
        )
        .claim(
            server_first.finished == 1 && client_first.finished == 1,
            format!("each connection has ended in order: {} and {}", server_first.finished, client_first.finished),
        )
}

fn holder(server: Option<Duration>, client: Option<Duration>) -> &'static str {
    match (server, client) {
        (Some(_), None) => "the server",
        (None, Some(_)) => "the client",
        (Some(_), Some(_)) => "each of them",
        (None, None) => "neither end",
    }
}

#[cfg(test)]
mod tests {
    use super::super::transcript::assert_judges;
    use super::*;

    #[test]
    fn judge_rejects_wrong_figures() {
        let minute = Some(Duration::from_secs(59));
        let good = Measured {
            server_first: Remains { remaining: Some([minute, None]), finished: 1 },
            client_first: Remains { remaining: Some([None, minute]), finished: 1 },
            plain: libc::EADDRINUSE,
            reusing: 0,
            plain_after_client: 0,
            after_plain: libc::EADDRINUSE,
        };
        assert_judges(
            &good,
            judge,
            &[
                |m| m.server_first.remaining = Some([None, None]),
                |m| m.client_first.remaining = m.server_first.remaining,
                |m| m.plain = 0,
                |m| m.reusing = libc::EADDRINUSE,
                |m| m.plain_after_client = libc::EADDRINUSE,
                #[cfg(target_os = "linux")]
                |m| m.after_plain = 0,
                |m| m.client_first.finished = 0,
            ],
        );
    }
}
