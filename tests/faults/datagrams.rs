//! Datagram sockets when system calls fail: no error ends a socket, and every loss is counted.

use super::harness::{PATIENCE, Server, eventually};
use super::strace::{Fault, When};
use super::{SOON, assert_answers, run};

#[test]
#[ignore = "needs strace(1)"]
fn a_datagram_is_received_after_an_error() {
    const ERRORS: [&str; 8] =
        ["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "ENETDOWN", "EPERM", "EIO", "ENOBUFS", "ENOMEM"];
    let conversation = |server: &Server| {
        let socket = server.connect_udp("echo-udp");
        assert_answers(&socket, b"held up");
        assert_answers(&socket, b"not held up");
    };
    run(Fault::each("recvmmsg", &ERRORS, When::Ready(1)), conversation, |_, exit| {
        assert_eq!((exit.count("datagram_errors"), exit.count("datagrams_dropped")), (1, 0));
        assert_eq!((exit.count("datagrams_in"), exit.count("datagrams_out")), (2, 2));
    });
}

#[test]
#[ignore = "needs strace(1)"]
fn a_datagram_that_cannot_be_sent_is_dropped_and_counted() {
    const ERRORS: [&str; 9] =
        ["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "ENETDOWN", "EPERM", "EMSGSIZE", "EINVAL", "ENOBUFS", "ENOMEM"];
    let conversation = |server: &Server| {
        let socket = server.connect_udp("echo-udp");
        socket.send(b"dropped").unwrap();
        assert!(eventually(SOON, || server.counter("datagrams_dropped") == 1));
        assert_answers(&socket, b"sent");
    };
    run(Fault::each("sendmmsg", &ERRORS, When::Ready(1)), conversation, |_, exit| {
        assert_eq!((exit.count("datagram_errors"), exit.count("datagrams_dropped")), (1, 1));
        assert_eq!((exit.count("datagrams_in"), exit.count("datagrams_out")), (2, 1));
    });
}

#[test]
#[ignore = "needs strace(1)"]
fn a_busy_datagram_socket_survives_a_failed_change_of_its_registration() {
    let conversation = |server: &Server| {
        let socket = server.connect_udp("echo-udp");
        server.freeze();
        for n in 0..600 {
            socket.send(&[n as u8; 8]).unwrap();
        }
        server.thaw();
        // Datagrams beyond the receive buffer are lost. The next ones come after the flood.
        let drained = || server.counter("datagrams_in") >= 256;
        assert!(eventually(PATIENCE, drained), "{}", server.counter("datagrams_in"));
        assert_answers(&server.connect_udp("echo-udp"), b"once more");
    };
    // After four full batches the socket is deregistered, which never fails. When it is empty, it is registered again.
    run(Fault::each("epoll_ctl", &["ENOMEM", "ENOSPC"], When::Ready(2)), conversation, |_, exit| {
        assert!(exit.stderr.contains("cannot change the registration"), "{}", exit.stderr);
    });
}
