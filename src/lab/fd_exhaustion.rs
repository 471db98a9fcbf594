//! `fd-exhaustion`: accept(2) fails with EMFILE, and the connection stays in the backlog. The edge that announced it is
//! spent, so no event will announce it again: an alarm has to. The first part shows a spent edge with plain sockets.
//! The second runs `reactor serve` in a process that may open very few descriptors.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::fixture::{LOOPBACK, STEP_TIMEOUT, connect, holds_within, wait_until};
use super::kernel;
use super::transcript::{Claims, Error, Result, Transcript};
use crate::limits::BACKOFF;

/// The descriptor limit of the server, which needs about ten for itself.
const LIMIT: usize = 24;
const CLIENTS: usize = 24;
/// The time in which an accepted connection is answered.
const ANSWER: Duration = Duration::from_millis(500);
const WORD: &[u8] = b"hello?";

#[derive(Clone, Debug)]
struct Measured {
    edge: Edge,
    served: usize,
    recv_q: Option<u64>,
    warning: String,
    /// The time from the end of the first client to the answer of the first waiting client.
    served_after: Duration,
    accepts: u64,
    accept_backoffs: u64,
    /// The time from the first connect to the end of the server, in which the listener backs off again and again.
    short_for: Duration,
    exit: Option<i32>,
}

/// The number of events of an edge-triggered listener with two connections in its backlog.
#[derive(Clone, Debug)]
struct Edge {
    first: usize,
    again: usize,
    after_one_accept: usize,
    after_new_connection: usize,
}

pub fn run(transcript: &mut Transcript<'_>) -> Result<Claims> {
    let edge = spent_edge(transcript)?;

    let server = Server::start(transcript.program())?;
    let addr = server.addr;
    transcript
        .we(format_args!("now start `reactor serve echo` at {addr} with `ulimit -n {LIMIT}`, and {CLIENTS} clients"));
    let short_since = Instant::now();
    let mut clients = (0..CLIENTS).map(|_| connect(addr)).collect::<Result<Vec<_>>>()?;
    let warning = server.await_line("cannot accept")?;
    transcript.reactor(format_args!("logs: {warning}"));
    for client in &mut clients {
        client.write_all(WORD)?;
        client.set_nonblocking(true)?;
    }
    let mut answered = vec![false; CLIENTS];
    let mut count = || {
        for (client, answered) in clients.iter().zip(&mut answered) {
            *answered = *answered || is_answered(client);
        }
        answered.iter().filter(|answered| **answered).count()
    };
    let mut recv_q = None;
    wait_until("the others wait in the backlog", || {
        recv_q = kernel::listener(addr).map(|row| row.recv_q);
        let answered = count() as u64;
        Ok(kernel::is_settled(recv_q.map(|waiting| waiting + answered), CLIENTS as u64))
    })?;
    // The others must not be answered: wait as long as an answer takes.
    holds_within(ANSWER, || count() == CLIENTS);
    let served = answered.iter().take_while(|answered| **answered).count();
    transcript.we(format_args!("the first {served} are answered, the others are not, {} ms later", ANSWER.as_millis()));
    if let Some(n) = recv_q {
        transcript.kernel(format_args!(
            "EMFILE leaves the others in the backlog: Recv-Q of the listener is {n}. They see no error"
        ));
    }
    if served == 0 || answered.iter().filter(|answered| **answered).count() != served {
        return Err(Error::new(format!("the served clients are not the first: {answered:?}")));
    }
    if served == CLIENTS {
        return Err(Error::new(format!("{CLIENTS} clients fit into {LIMIT} descriptors")));
    }

    let start = Instant::now();
    drop(clients.remove(0));
    let waiting = &clients[served - 1];
    wait_until("a waiting client is served", || Ok(is_answered(waiting)))?;
    let served_after = start.elapsed();
    transcript.we("the first client closes, and no new one connects: no edge");
    transcript.reactor(format_args!(
        "{:.0} ms later the alarm has accepted the next; it fires every {} ms while descriptors are short",
        served_after.as_secs_f64() * 1e3,
        BACKOFF.as_millis()
    ));
    drop(clients);
    transcript.go("net/http sleeps 5 ms to 1 s when Accept fails so; a loop that returns the error is over");
    let (exit, ledger) = server.stop()?;
    let (short_for, exit) = (short_since.elapsed(), exit.code());
    let counter = |name: &str| counter(&ledger, name).ok_or_else(|| Error::new(format!("no {name} in: {ledger}")));
    let (accepts, accept_backoffs) = (counter("accepts")?, counter("accept_backoffs")?);
    transcript.reactor(format_args!(
        "its ledger: accepts = {accepts}, accept_backoffs = {accept_backoffs}; exit status {}",
        exit.unwrap_or(-1)
    ));
    Ok(judge(&Measured { edge, served, recv_q, warning, served_after, accepts, accept_backoffs, short_for, exit }))
}

/// Counts the events of a listener that is not accepted from.
fn spent_edge(transcript: &mut Transcript<'_>) -> Result<Edge> {
    let mut listener = mio::net::TcpListener::bind(LOOPBACK)?;
    let addr = listener.local_addr()?;
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(8));
    poll.registry().register(&mut listener, Token(0), Interest::READABLE)?;
    let mut events_within = |span: Duration| -> Result<usize> {
        poll.poll(&mut events, Some(span))?;
        Ok(events.iter().count())
    };
    let _two = [connect(addr)?, connect(addr)?];
    let first = events_within(STEP_TIMEOUT)?;
    // The second connection may have caused an edge of its own.
    while events_within(Duration::from_millis(20))? > 0 {}
    transcript.we("by hand: two connections wait at an edge-triggered listener, and no accept follows");
    let again = events_within(Duration::from_millis(100))?;
    transcript.kernel(format_args!("reports {first} event, and in the next 100 ms {again}, though both still wait"));
    let _accepted = listener.accept()?;
    let after_one_accept = events_within(Duration::from_millis(100))?;
    transcript.kernel(format_args!(
        "after one accept, {after_one_accept}: a loop that stops before EAGAIN has to remember it"
    ));
    let _third = connect(addr)?;
    let after_new_connection = events_within(STEP_TIMEOUT)?;
    transcript.kernel(format_args!(
        "reports {after_new_connection} when a third client connects: until then the second has waited"
    ));
    Ok(Edge { first, again, after_one_accept, after_new_connection })
}

fn is_answered(mut client: &TcpStream) -> bool {
    let mut back = [0; WORD.len()];
    // A few bytes arrive in one piece, and the echo sends no others.
    client.read(&mut back).is_ok_and(|n| back[..n] == *WORD)
}

fn counter(ledger: &str, name: &str) -> Option<u64> {
    let (_, rest) = ledger.split_once(&format!("\"{name}\":"))?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// `reactor serve echo` in a process of its own. Its shell waits for the end of standard input, so the server ends with
/// the scenario and with this process, whatever ends that.
struct Server {
    shell: Child,
    addr: SocketAddr,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
}

/// The server inherits the limit, which needs neither privileges nor unsafe code on any Unix. The shell closes its
/// standard output, so that only the server holds it.
const SHELL: &str = r#"ulimit -n "$0"; "$@" 2>&1 & server=$!; exec >&-; read -r _; kill "$server"; wait "$server""#;

impl Server {
    fn start(program: &Path) -> Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SHELL, &LIMIT.to_string()])
            .arg(program)
            .args(["--log", "warn", "serve", "echo=127.0.0.1:0", "--ledger", "json", "--grace", "1s"])
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (reader, lines) = read_lines(shell.stdout.take());
        let mut server = Self { shell, addr: LOOPBACK, lines, reader: Some(reader) };
        let line = server.await_line("")?;
        let addr = line.strip_prefix("listening echo tcp ").and_then(|addr| addr.parse().ok());
        server.addr = addr.ok_or_else(|| Error::new(format!("the server does not start: {line}")))?;
        Ok(server)
    }

    /// Waits for the next line of the server that contains `text`; returns it without the time.
    fn await_line(&self, text: &str) -> Result<String> {
        loop {
            let line = self.lines.recv_timeout(STEP_TIMEOUT);
            let line = line.map_err(|_| Error::new(format!("the server does not print '{text}'")))?;
            if line.contains(text) {
                return Ok(line.rsplit_once("] ").map_or(line.as_str(), |(_, said)| said).to_owned());
            }
        }
    }

    /// Stops the server; returns its exit status and its ledger.
    fn stop(mut self) -> Result<(ExitStatus, String)> {
        drop(self.shell.stdin.take());
        let ledger = self.await_line("{\"turns\"")?;
        let mut status = None;
        wait_until("the server ends", || {
            status = self.shell.try_wait()?;
            Ok(status.is_some())
        })?;
        status.map(|status| (status, ledger)).ok_or_else(|| Error::new("the server does not end"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // The exit status is not needed here. The server has a second of grace.
        let _ = self.shell.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn read_lines(stdout: Option<ChildStdout>) -> (JoinHandle<()>, Receiver<String>) {
    let (sender, lines) = channel();
    let reader = thread::spawn(move || {
        let lines = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
        // To the end, also when the receiver is gone: a full pipe must not block the server.
        lines.map_while(std::result::Result::ok).for_each(|line| drop(sender.send(line)));
    });
    (reader, lines)
}

fn judge(m: &Measured) -> Claims {
    let Measured { edge, served, accepts, accept_backoffs, .. } = m;
    let waiting = CLIENTS - served;
    let most = m.short_for.as_millis() / BACKOFF.as_millis() + 2;
    let waited = m.served_after.as_millis();
    Claims::new()
        .claim(edge.first == 1 && edge.again == 0, format!("an edge comes once: {}, then {}", edge.first, edge.again))
        .claim(edge.after_one_accept == 0, format!("accepting one does not renew it: {}", edge.after_one_accept))
        .claim(edge.after_new_connection == 1, format!("only a new connection does: {}", edge.after_new_connection))
        .claim((1..LIMIT).contains(served), format!("few descriptors serve few: {served} of {CLIENTS} with {LIMIT}"))
        .claim(m.warning.contains("Too many open files"), "the log names the cause, EMFILE")
        .claim_if_known(m.recv_q, |n| {
            (n == waiting as u64, format!("the others wait in the backlog: {n} of {waiting}"))
        })
        .claim(
            m.served_after < BACKOFF * 10,
            format!("when one leaves, the next is served within some rests: {waited} ms, without an edge"),
        )
        .claim(
            *accept_backoffs >= 2 && u128::from(*accept_backoffs) <= most,
            format!("the alarm is no busy loop: {accept_backoffs} rests in {} ms", m.short_for.as_millis()),
        )
        .claim(*accepts > *served as u64, format!("the listener has survived: {accepts} accepts"))
        .claim(m.exit == Some(0), format!("and the server ends in order: exit status {}", m.exit.unwrap_or(-1)))
}

#[cfg(test)]
mod tests {
    use super::super::transcript::assert_judges;
    use super::*;

    #[test]
    fn judge_rejects_wrong_figures() {
        let good = Measured {
            edge: Edge { first: 1, again: 0, after_one_accept: 0, after_new_connection: 1 },
            served: 15,
            recv_q: Some(CLIENTS as u64 - 15),
            warning: "echo: cannot accept: Too many open files; trying again every 100ms".to_owned(),
            served_after: Duration::from_millis(90),
            accepts: 16,
            accept_backoffs: 6,
            short_for: Duration::from_millis(600),
            exit: Some(0),
        };
        assert_judges(
            &good,
            judge,
            &[
                |m| m.edge.again = 1,
                |m| m.edge.after_one_accept = 1,
                |m| m.edge.after_new_connection = 0,
                |m| m.served = CLIENTS,
                |m| m.warning.clear(),
                |m| m.recv_q = Some(0),
                |m| m.served_after = STEP_TIMEOUT,
                |m| m.accept_backoffs = 0,
                |m| m.accept_backoffs = 9,
                |m| m.accepts = 15,
                |m| m.exit = Some(1),
            ],
        );
    }

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let ledger = r#"{"turns":7,"accepts":16,"accept_backoffs":6}"#;
        assert_eq!((counter(ledger, "accepts"), counter(ledger, "accept_backoffs")), (Some(16), Some(6)));
        assert_eq!(counter(ledger, "accept"), None);
    }
}
