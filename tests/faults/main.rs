//! The server when system calls fail. Needs strace(1), and takes longer than the other tests:
//! `cargo test --release --test faults -- --ignored`.
//!
//! Each test is a table: one conversation, with a server of its own for each fault, all at the same time. Afterwards the
//! server serves, holds the descriptors that it held before, has one thread, and is idle.
#![cfg(target_os = "linux")]

#[path = "../it/harness/mod.rs"]
mod harness;

mod accepting;
mod clients;
mod datagrams;
mod starting;
mod strace;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Exit, PATIENCE, Server, eventually, exchange, pattern, read_all, take};
use rustix::process::Signal;
use strace::{Fault, SERVE, Trace, When};

/// The limit for a client that a fault has delayed.
const SOON: Duration = Duration::from_secs(1);

/// Runs `conversation` with one server for each of `faults`, and `judge` with its exit.
fn run(faults: Vec<Fault>, conversation: impl Fn(&Server) + Sync, judge: impl Fn(&Fault, &Exit) + Sync) {
    on_each(faults, |fault| {
        let (trace, command) = Trace::of(fault, &SERVE);
        let server = Server::spawn(command);
        let before = server.descriptors();
        conversation(&server);
        trace.assert_injected();
        server.assert_unharmed(before);
        server.assert_idle();
        let exit = server.stop();
        exit.assert_clean();
        let ends = exit.count_closed() + exit.count("refused");
        assert_eq!(ends, exit.count("accepts"), "each connection has one end: {}", exit.stderr);
        judge(&fault, &exit);
    });
}

/// Calls `test` for each of `faults`, in a thread with the name of the fault, which a panic prints.
fn on_each(faults: Vec<Fault>, test: impl Fn(Fault) + Sync) {
    strace::assert_there();
    thread::scope(|scope| {
        for fault in faults {
            let test = &test;
            let named = thread::Builder::new().name(format!("{}={}", fault.call, fault.error));
            named.spawn_scoped(scope, move || test(fault)).expect("a thread");
        }
    });
}

/// Sends `text` and reads it back, in time.
#[track_caller]
fn assert_echoes(peer: &mut TcpStream, text: &[u8]) {
    let start = Instant::now();
    assert_eq!(exchange(peer, text), text);
    assert!(start.elapsed() < SOON, "it took {:?}", start.elapsed());
}

/// Sends `text` and receives it as one datagram, in time.
#[track_caller]
fn assert_answers(peer: &UdpSocket, text: &[u8]) {
    peer.set_read_timeout(Some(SOON)).unwrap();
    peer.send(text).expect("send");
    let mut buffer = [0; 2048];
    let n = peer.recv(&mut buffer).expect("an answer");
    assert_eq!(&buffer[..n], text);
}

/// Reads nothing but the end, in order or not, in time.
#[track_caller]
fn assert_ended(peer: &mut TcpStream) {
    peer.set_read_timeout(Some(SOON)).unwrap();
    let mut rest = Vec::new();
    match peer.read_to_end(&mut rest) {
        Ok(_) => assert_eq!(rest, b""),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// Reads the next line, without its end.
#[track_caller]
fn line_of(member: &mut TcpStream) -> String {
    let mut line = String::new();
    while !line.ends_with('\n') {
        line.push(char::from(take(member, 1)[0]));
    }
    line.trim_end().to_owned()
}

/// Connects two members that know of each other. Returns them with their names.
fn two_members(server: &Server) -> [(TcpStream, String); 2] {
    let join = || {
        let mut member = server.connect("chat");
        let name = line_of(&mut member).strip_prefix("You are ").expect("a greeting").to_owned();
        (member, name)
    };
    let (mut first, second) = (join(), join());
    assert_eq!(line_of(&mut first.0), format!("{} has arrived", second.1));
    [first, second]
}

const TIME: &[u8] = b"GET /time HTTP/1.1\r\nHost: a\r\n\r\n";

/// Sends one request on a connection that stays open.
#[track_caller]
fn assert_http(peer: &mut TcpStream) {
    peer.write_all(TIME).expect("write");
    let mut received = String::new();
    while !received.ends_with("\r\n\r\n") {
        received.push(char::from(take(peer, 1)[0]));
    }
    assert!(received.starts_with("HTTP/1.1 200 OK\r\n") && received.contains("Content-Length: 20\r\n"), "{received}");
    take(peer, 20);
}

/// Sends `size` bytes and half-closes while it reads them back: all of them, then the end.
#[track_caller]
fn assert_echoes_whole(server: &Server, size: usize) {
    let (mut peer, sent) = (server.connect("echo"), pattern(size));
    let mut writing = peer.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            writing.write_all(&sent).expect("write");
            writing.shutdown(Shutdown::Write).expect("shutdown");
        });
        assert!(read_all(&mut peer) == sent, "the echo differs");
    });
}

/// Uses every service. A lost byte fails the test.
fn converse(server: &Server) {
    assert_echoes_whole(server, 2 << 20);
    let socket = server.connect_udp("echo-udp");
    for n in 0..50 {
        assert_answers(&socket, &pattern(n));
    }
    let [(mut one, _), (mut other, name)] = two_members(server);
    for n in 0..50 {
        writeln!(other, "line {n}").expect("write");
        assert_eq!(line_of(&mut one), format!("{name}: line {n}"));
    }
    let mut http = server.connect("http");
    for _ in 0..50 {
        assert_http(&mut http);
    }
    assert_eq!(read_all(&mut server.connect("time")).len(), 20);
    assert_eq!(read_all(&mut server.connect("idle")), b"goodbye\n");
}

#[test]
#[ignore = "needs strace(1)"]
fn an_interrupted_call_costs_nothing() {
    let calls = ["accept4", "epoll_wait", "recvfrom", "sendto", "recvmmsg", "sendmmsg", "shutdown", "write"];
    let faults = calls.map(|call| Fault::new(call, "EINTR", When::Alternate));
    run(faults.to_vec(), converse, |fault, exit| {
        // Writes to the standard streams are not counted. SIGTERM interrupts at most one wait.
        assert_eq!(exit.count("interrupted") > 1, fault.call != "write", "{}", exit.stderr);
        assert_eq!(exit.count("datagrams_dropped"), 0);
    });
}

#[test]
#[ignore = "needs strace(1)"]
fn an_error_that_lasts_costs_little_processor_time_and_no_other_service() {
    const FAULTS: [(&str, &str); 6] = [
        ("accept4", "EMFILE"),
        ("accept4", "EPERM"),
        ("accept4", "EPROTO"),
        ("recvmmsg", "ENOMEM"),
        ("recvmmsg", "EPERM"),
        ("recvmmsg", "EIO"),
    ];
    on_each(FAULTS.map(|(call, error)| Fault::new(call, error, When::OnceReady)).to_vec(), |fault| {
        let (trace, command) = Trace::of(fault, &SERVE);
        let server = Server::spawn(command);
        let (stream, socket) = (server.connect("echo"), server.connect_udp("echo-udp"));
        socket.send(b"hello").unwrap();
        trace.assert_injected();
        let (before, start) = (server.cpu(), Instant::now());
        let busy = || server.cpu() - before > start.elapsed().max(SOON) / 20;
        assert!(!eventually(2 * SOON, busy), "the server used {:?} in {:?}", server.cpu() - before, start.elapsed());
        match fault.call {
            "accept4" => assert_answers(&server.connect_udp("echo-udp"), b"hello"),
            _ => server.assert_serves(),
        }
        drop(stream);
        server.stop().assert_clean();
    });
}

/// Makes two connections, and waits for them without a report: its signal takes system calls of its own.
fn two_connections(server: &Server, service: &str) -> (TcpStream, TcpStream) {
    let before = server.descriptors();
    let both = (server.connect(service), server.connect(service));
    assert!(eventually(PATIENCE, || server.descriptors() == before + 2), "they are not accepted");
    both
}

/// One connection has an error in its first exchange, another has none.
fn echo_two(server: &Server) {
    let (mut unlucky, mut other) = two_connections(server, "echo");
    unlucky.write_all(b"lost").unwrap();
    assert_ended(&mut unlucky);
    assert_echoes(&mut other, b"goes on");
}

/// The same in a room: the other member receives the departure.
fn chat_two(server: &Server) {
    let [(mut staying, _), (mut leaving, name)] = two_members(server);
    leaving.write_all(b"lost\n").unwrap();
    assert_ended(&mut leaving);
    assert_eq!(line_of(&mut staying), format!("{name} has left"));
}

/// The same over HTTP.
fn ask_two(server: &Server) {
    let (mut unlucky, mut other) = two_connections(server, "http");
    unlucky.write_all(TIME).unwrap();
    assert_ended(&mut unlucky);
    assert_http(&mut other);
}

/// Errors that end a connection. The last two concern the machine, and still end one connection alone.
const CONNECTION: [&str; 9] =
    ["ECONNRESET", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ENETDOWN", "ENOTCONN", "ENOBUFS", "ENOMEM"];

fn count_one_end(fault: &Fault, exit: &Exit) {
    let reset = ["ECONNRESET", "EPIPE", "ENOTCONN"].contains(&fault.error);
    let ends = (exit.count("closed_reset"), exit.count("closed_failed"));
    assert_eq!(ends, if reset { (1, 0) } else { (0, 1) });
}

#[test]
#[ignore = "needs strace(1)"]
fn a_read_that_fails_ends_its_connection_and_no_other() {
    for conversation in [echo_two, ask_two] {
        run(Fault::each("recvfrom", &CONNECTION, When::Ready(1)), conversation, count_one_end);
    }
    run(Fault::each("recvfrom", &["ECONNRESET", "ETIMEDOUT"], When::Ready(1)), chat_two, count_one_end);
}

#[test]
#[ignore = "needs strace(1)"]
fn a_write_that_fails_ends_its_connection_and_no_other() {
    for conversation in [echo_two, ask_two] {
        run(Fault::each("sendto", &CONNECTION, When::Ready(1)), conversation, count_one_end);
    }
}

#[test]
#[ignore = "needs strace(1)"]
fn a_member_whose_write_fails_has_left() {
    // Two greetings and one announcement precede the failing write.
    run(Fault::each("sendto", &CONNECTION, When::Ready(4)), broadcast_to_two, count_one_end);
}

/// A line that fails at one of the two members. The order of the writes is not promised.
fn broadcast_to_two(server: &Server) {
    let [(mut one, name_of_one), (mut other, name_of_other)] = two_members(server);
    let line = format!("{name_of_one}: can you hear me?\n");
    one.write_all(b"can you hear me?\n").unwrap();
    one.set_read_timeout(Some(SOON)).unwrap();
    let mut received = vec![0; line.len()];
    let (mut staying, mut leaving, name) = match one.read_exact(&mut received) {
        Ok(()) => (one, other, name_of_other),
        Err(_) => {
            received = take(&mut other, line.len());
            (other, one, name_of_one)
        }
    };
    assert_eq!(received, line.as_bytes());
    assert_ended(&mut leaving);
    assert_eq!(line_of(&mut staying), format!("{name} has left"));
}

#[test]
#[ignore = "needs strace(1)"]
fn a_failed_shutdown_ends_its_connection() {
    let conversation = |server: &Server| {
        let mut peer = server.connect("echo");
        assert_echoes(&mut peer, b"hello");
        peer.shutdown(Shutdown::Write).unwrap();
        assert_ended(&mut peer);
    };
    run(Fault::each("shutdown", &["ENOTCONN", "ENOBUFS", "ENOMEM"], When::Ready(1)), conversation, count_one_end);
}

#[test]
#[ignore = "needs strace(1)"]
fn a_log_that_cannot_be_written_blocks_no_connection() {
    let conversation = |server: &Server| {
        server.signal(Signal::USR1);
        server.assert_serves();
    };
    run(Fault::each("write", &["EIO", "ENOSPC", "EPIPE", "EINVAL"], When::Ready(1)), conversation, |_, exit| {
        assert_eq!(exit.count("signals"), 2);
    });
}

#[test]
#[ignore = "needs strace(1)"]
fn a_refused_mapping_is_replaced_by_other_memory() {
    // A complete lack of memory ends the process (`handle_alloc_error` of std). But malloc(3) has a second source, brk(2),
    // and a mapping that cannot grow or be released is no lack of memory. strace cannot inject an error into brk: the call
    // fails by returning an address, and the number of an error would count as one.
    let conversation = |server: &Server| {
        let mut stuck = server.connect("echo");
        harness::fill_up(server, &mut stuck);
        converse(server);
        // Many small allocations and a growing one.
        let mut crowd: Vec<_> = (0..400).map(|_| server.connect("chat")).collect();
        for member in &mut crowd {
            assert!(line_of(member).starts_with("You are "));
        }
        let mut http = server.connect("http");
        let body = pattern(1 << 20);
        write!(http, "POST /echo HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
        http.write_all(&body).unwrap();
        assert!(read_all(&mut http).ends_with(&body), "the body differs");
    };
    let calls = ["mmap", "mremap", "munmap"];
    let faults = calls.map(|call| Fault::new(call, "ENOMEM", When::OnceReady));
    run(faults.to_vec(), conversation, |_, _| {});
}
