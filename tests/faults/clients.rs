//! Clients when system calls fail: no data is lost, or the client fails with the cause.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::harness::client::{Client, End, accept, file, listener, tcp, udp};
use super::harness::{Server, pattern, read_all};
use super::on_each;
use super::strace::{Fault, Trace, When};

/// Runs `reactor connect ARGS` with each of `faults`, and `input` on its standard input.
fn connect(faults: Vec<Fault>, args: &[&str], input: &[u8], judge: impl Fn(&Fault, End) + Sync) {
    on_each(faults, |fault| {
        let (trace, command) = Trace::of(fault, &[&["connect"], args].concat());
        let start = Instant::now();
        let end = Client::spawn(command, Stdio::from(file(input)), Stdio::piped()).wait();
        assert!(start.elapsed() < Duration::from_secs(5), "the client took {:?}", start.elapsed());
        trace.assert_injected();
        judge(&fault, end);
    });
}

/// Asserts a failure in one line.
#[track_caller]
fn assert_fails(end: &End) {
    end.failure();
    assert_eq!(end.stderr.lines().count(), 1, "{end:?}");
}

#[test]
#[ignore = "needs strace(1)"]
fn an_interrupted_call_costs_a_client_nothing() {
    let (server, input) = (Server::start(&["echo=0"]), pattern(2 << 20));
    let calls = ["epoll_wait", "recvfrom", "sendto", "poll"];
    let mut faults = calls.map(|call| Fault::new(call, "EINTR", When::Alternate)).to_vec();
    // The first reads are those of the loader of shared libraries.
    faults.push(Fault::new("read", "EINTR", When::AlternateLater));
    connect(faults, &[&tcp(server.addr("echo"))], &input, |_, end| {
        assert_eq!((end.code, &*end.stderr), (Some(0), ""));
        assert!(end.stdout == input, "{} of {} bytes came back", end.stdout.len(), input.len());
    });
    server.stop().assert_clean();

    let server = Server::start(&["echo-udp=0"]);
    let input: String = (0..50).map(|n| format!("line {n}\n")).collect();
    let faults = ["epoll_wait", "recvmmsg", "sendmmsg"].map(|call| Fault::new(call, "EINTR", When::Alternate));
    connect(faults.to_vec(), &[&udp(server.addr("echo-udp"))], input.as_bytes(), |_, end| {
        assert_eq!((end.code, &*end.stdout), (Some(0), input.as_bytes()), "{end:?}");
    });
    server.stop().assert_clean();
}

#[test]
#[ignore = "needs strace(1)"]
fn a_client_that_cannot_connect_fails_in_one_line() {
    let mut faults = vec![
        Fault::new("epoll_create1", "EMFILE", When::OfAll(1)),
        Fault::new("eventfd2", "EMFILE", When::OfAll(1)),
        Fault::new("socketpair", "EMFILE", When::OfAll(1)),
        Fault::new("setsockopt", "ENOBUFS", When::OfAll(1)),
        Fault::new("getsockopt", "ENOBUFS", When::OfAll(1)),
        Fault::new("getpeername", "ENOTCONN", When::OfAll(1)),
    ];
    faults.extend(Fault::each("socket", &["EMFILE", "ENOBUFS", "EACCES", "EAFNOSUPPORT"], When::OfAll(1)));
    faults.extend([1, 2, 3].map(|number| Fault::new("epoll_ctl", "ENOSPC", When::OfAll(number))));
    const CONNECT: [&str; 8] =
        ["ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH", "ETIMEDOUT", "EADDRNOTAVAIL", "EACCES", "EPERM", "ENOBUFS"];
    faults.extend(Fault::each("connect", &CONNECT, When::OfAll(1)));
    let server = Server::start(&["echo=0"]);
    connect(faults, &[&tcp(server.addr("echo"))], b"hello\n", |_, end| assert_fails(&end));
    server.stop().assert_clean();
}

#[test]
#[ignore = "needs strace(1)"]
fn a_conversation_that_breaks_is_a_failure() {
    const ERRORS: [&str; 6] = ["ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENETDOWN", "ENOBUFS", "ENOMEM"];
    let mut faults = Fault::each("sendto", &ERRORS, When::OfAll(1));
    faults.extend(Fault::each("recvfrom", &ERRORS, When::OfAll(1)));
    let server = Server::start(&["echo=0"]);
    connect(faults, &[&tcp(server.addr("echo"))], b"hello\n", |_, end| assert_fails(&end));
    server.stop().assert_clean();
}

#[test]
#[ignore = "needs strace(1)"]
fn a_client_reconnects_after_any_failure_of_a_dial() {
    let mut faults = Fault::each("connect", &["ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH", "ENOBUFS"], When::OfAll(1));
    faults.extend(Fault::each("socket", &["EMFILE", "ENOBUFS"], When::OfAll(1)));
    faults.push(Fault::new("getsockopt", "ENOBUFS", When::OfAll(1)));
    faults.push(Fault::new("epoll_ctl", "ENOSPC", When::OfAll(3)));
    on_each(faults, |fault| {
        let (listener, peer) = listener();
        let (trace, command) = Trace::of(fault, &["connect", &peer, "--reconnect", "2"]);
        let client = Client::spawn(command, Stdio::from(file(b"hello\n")), Stdio::piped());
        let mut stream = accept(&listener);
        while read_all(&mut stream) != b"hello\n" {
            // The first dial had succeeded in the kernel before the client got the error.
            stream = accept(&listener);
        }
        drop(stream);
        let end = client.wait();
        trace.assert_injected();
        assert_eq!(end.code, Some(0), "{end:?}");
    });
}

#[test]
#[ignore = "needs strace(1)"]
fn a_datagram_client_fails_with_the_cause() {
    const ERRORS: [&str; 6] = ["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EPERM", "ENOBUFS", "ENOMEM"];
    let server = Server::start(&["echo-udp=0"]);
    for call in ["recvmmsg", "sendmmsg"] {
        connect(
            Fault::each(call, &ERRORS, When::OfAll(1)),
            &[&udp(server.addr("echo-udp"))],
            b"hello\n",
            |fault, end| {
                match (call, fault.error) {
                    // These lose nothing: the datagram is still in the socket.
                    ("recvmmsg", "ENOBUFS" | "ENOMEM") => {
                        assert_eq!((end.code, &*end.stdout), (Some(0), &b"hello\n"[..]), "{end:?}");
                    }
                    _ => assert!(!end.failure().is_empty()),
                }
            },
        );
    }
    server.stop().assert_clean();
}
