//! Listeners when system calls fail: a new client waits for a moment at most, and open connections are not affected.

use std::time::Instant;

use super::harness::Server;
use super::strace::{Fault, When};
use super::{SOON, assert_echoes, assert_ended, run};

/// Connects a second client while the first is served. Its accept is the third call, which fails; the second call has found
/// the backlog empty.
fn accept_two(server: &Server) {
    let mut first = server.connect("echo");
    assert_echoes(&mut first, b"first");
    let start = Instant::now();
    let mut second = server.connect("echo");
    assert_echoes(&mut first, b"not held up");
    assert_echoes(&mut second, b"second");
    assert!(start.elapsed() < SOON, "the second client waited {:?}", start.elapsed());
}

#[test]
#[ignore = "needs strace(1)"]
fn a_client_is_accepted_soon_after_a_lack_of_descriptors_or_memory() {
    let faults = Fault::each("accept4", &["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"], When::Ready(3));
    run(faults, accept_two, |_, exit| {
        assert_eq!(exit.count("accept_backoffs"), 1);
        assert!(exit.stderr.contains("accepting again"), "{}", exit.stderr);
    });
}

#[test]
#[ignore = "needs strace(1)"]
fn a_connection_that_failed_in_the_backlog_delays_no_other() {
    const ERRORS: [&str; 9] = [
        "ECONNABORTED",
        "EPROTO",
        "EPERM",
        "ENETDOWN",
        "ENOPROTOOPT",
        "EHOSTDOWN",
        "ENONET",
        "EHOSTUNREACH",
        "ENETUNREACH",
    ];
    run(Fault::each("accept4", &ERRORS, When::Ready(3)), accept_two, |_, exit| {
        assert_eq!((exit.count("accept_backoffs"), exit.count("accept_errors")), (0, 1));
    });
}

#[test]
#[ignore = "needs strace(1)"]
fn a_client_behind_many_failed_connections_is_served_soon() {
    const FAILED: u32 = 600;
    let conversation = |server: &Server| assert_echoes(&mut server.connect("echo"), b"alive");
    run(Fault::each("accept4", &["ECONNABORTED", "EPERM"], When::First(FAILED)), conversation, |_, exit| {
        // A back-off after each 256 calls, the limit of accepts in a turn.
        assert_eq!((exit.count("accept_backoffs"), exit.count("accept_errors")), (2, u64::from(FAILED)));
    });
}

#[test]
#[ignore = "needs strace(1)"]
fn a_connection_that_cannot_be_registered_is_refused_alone() {
    let conversation = |server: &Server| {
        let mut first = server.connect("echo");
        assert_echoes(&mut first, b"first");
        assert_ended(&mut server.connect("echo"));
        assert_echoes(&mut first, b"goes on");
    };
    run(Fault::each("epoll_ctl", &["ENOMEM", "ENOSPC"], When::Ready(2)), conversation, |_, exit| {
        assert_eq!(exit.count("refused"), 1);
    });
}
