//! `time-wait`: whoever closes first keeps the pair of addresses for a while, in case a segment comes late. If that is the
//! server, its port is taken when it starts again, unless it says SO_REUSEADDR.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::kernel::{self, Row, State};
use super::stage::{Stage, client, until};
use super::tale::{Claims, Result, Tale};
use crate::limits::Policy;
use crate::reactor::ListenOptions;
use crate::service::Service;
use crate::services::{Echo, Time};

#[derive(Clone, Debug)]
struct Measured {
    server_first: Keeper,
    client_first: Keeper,
    /// Binding the server's address after it has gone, in each case: an errno, or 0.
    plain: i32,
    reusing: i32,
    plain_after_client: i32,
}

/// Who is in TIME_WAIT after both ends have gone.
#[derive(Clone, Debug)]
struct Keeper {
    server: bool,
    client: bool,
    remaining: Duration,
    finished: u64,
}

pub fn play(tale: &mut Tale<'_>) -> Result<Claims> {
    tale.we("a server that closes first, as `time` does; the client reads to the end and closes; the server stops");
    let (addr, server_first) = converse(tale, Time::default(), false)?;
    let plain = bind(addr, false);
    tale.we(format_args!("bind {addr} again, without SO_REUSEADDR: {}", outcome(plain)));
    let reusing = bind(addr, true);
    tale.we(format_args!("bind {addr} again, with SO_REUSEADDR: {}", outcome(reusing)));
    tale.reactor("sets SO_REUSEADDR on every listener; on Linux the one before it must have had it as well");
    tale.go("net.Listen sets it too, so one never meets this there until somebody uses the bare system calls");

    tale.we("a server that waits for the client to close first, as `echo` does");
    let (addr, client_first) = converse(tale, Echo, true)?;
    let plain_after_client = bind(addr, false);
    tale.we(format_args!("bind {addr} again, without SO_REUSEADDR: {}", outcome(plain_after_client)));
    Ok(judge(&Measured { server_first, client_first, plain, reusing, plain_after_client }))
}

/// One connection to `service` from its beginning to its end, after which the listener is closed.
fn converse(
    tale: &mut Tale<'_>,
    service: impl Service + Send + 'static,
    client_closes: bool,
) -> Result<(SocketAddr, Keeper)> {
    let (stage, addr) = Stage::serving(service, Policy::default(), ListenOptions::default())?;
    let mut peer = client(addr)?;
    let here = peer.local_addr()?;
    if client_closes {
        peer.shutdown(Shutdown::Write)?;
    }
    peer.read_to_end(&mut Vec::new())?;
    drop(peer);
    until("the loop has closed its end", || Ok(stage.ledger()?.closed.iter().sum::<u64>() == 1))?;
    let (_, ledger) = stage.stop()?;
    let finished = ledger.closed_by(crate::service::CloseReason::Finished);
    let waits = |row: &Row| row.state == State::TIME_WAIT;
    let ends = || [kernel::between(addr, here), kernel::between(here, addr)].map(|row| row.filter(waits));
    if kernel::shows_sockets() {
        until("one end is in TIME_WAIT", || Ok(ends().iter().any(Option::is_some)))?;
    }
    let [server, client] = ends();
    for (who, row) in [("server", server), ("client", client)] {
        if let Some(row) = row {
            let seconds = row.timer.as_secs_f64();
            tale.kernel(format_args!("the {who}'s end, {}, is in {} for another {seconds:.2} s", row.local, row.state));
        }
    }
    let remaining = server.or(client).map_or(Duration::ZERO, |row| row.timer);
    Ok((addr, Keeper { server: server.is_some(), client: client.is_some(), remaining, finished }))
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
    let Measured { server_first, client_first, .. } = m;
    let known = kernel::shows_sockets().then_some(());
    let words = |keeper: &Keeper| match (keeper.server, keeper.client) {
        (true, false) => "the server",
        (false, true) => "the client",
        (true, true) => "both",
        (false, false) => "nobody",
    };
    Claims::new()
        .that_where_known(known, |()| {
            (
                server_first.server && !server_first.client,
                format!("the server closes first: {} keeps it", words(server_first)),
            )
        })
        .that_where_known(known, |()| {
            (
                client_first.client && !client_first.server,
                format!("the client closes first: {} keeps it", words(client_first)),
            )
        })
        .that_where_known(known.filter(|()| cfg!(target_os = "linux")), |()| {
            // TCP_TIMEWAIT_LEN, which nobody can set.
            let about_a_minute = Duration::from_secs(50)..=Duration::from_secs(61);
            let all = [server_first, client_first].iter().all(|keeper| about_a_minute.contains(&keeper.remaining));
            (all, format!("for a minute: {:.2} s are left", server_first.remaining.as_secs_f64()))
        })
        .that(m.plain == libc::EADDRINUSE, format!("a server's port is taken meanwhile: {}", outcome(m.plain)))
        .that(m.reusing == 0, format!("SO_REUSEADDR is for exactly that: {}", outcome(m.reusing)))
        .that(
            m.plain_after_client == 0,
            format!("a client's TIME_WAIT is no hindrance: {}", outcome(m.plain_after_client)),
        )
        .that(
            server_first.finished == 1 && client_first.finished == 1,
            format!("each connection has ended in order: {} and {}", server_first.finished, client_first.finished),
        )
}

#[cfg(test)]
mod tests {
    use super::super::tale::assert_judges;
    use super::*;

    #[test]
    fn wrong_figures_are_not_believed() {
        let minute = Duration::from_secs(59);
        let good = Measured {
            server_first: Keeper { server: true, client: false, remaining: minute, finished: 1 },
            client_first: Keeper { server: false, client: true, remaining: minute, finished: 1 },
            plain: libc::EADDRINUSE,
            reusing: 0,
            plain_after_client: 0,
        };
        let spoil: &[fn(&mut Measured)] = &[
            |m| m.plain = 0,
            |m| m.reusing = libc::EADDRINUSE,
            |m| m.plain_after_client = libc::EADDRINUSE,
            |m| m.client_first.finished = 0,
        ];
        assert_judges(&good, judge, spoil);
        if kernel::shows_sockets() {
            assert_judges(
                &good,
                judge,
                &[
                    |m| m.server_first.server = false,
                    |m| m.client_first.server = true,
                    |m| m.server_first.remaining = Duration::from_secs(1),
                ],
            );
        }
    }
}
