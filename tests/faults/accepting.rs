//! Listeners when system calls fail: a client is held up for a moment, or not at all, and those who are in do not notice.

use std::time::Instant;

use super::harness::Server;
use super::strace::{Fault, When};
use super::{SOON, assert_echoes, assert_ended, play};

/// One is served when the next comes, for whom the third call of accept fails: the second has found nobody.
fn accept_two(server: &Server) {
    let mut first = server.connect("echo");
    assert_echoes(&mut first, b"first");
    let start = Instant::now();
    let mut second = server.connect("echo");
    assert_echoes(&mut first, b"not held up");
    assert_echoes(&mut second, b"second");
    assert!(start.elapsed() < SOON, "it took {:?}", start.elapsed());
}

#[test]
#[ignore = "needs strace(1)"]
fn a_client_that_could_not_be_accepted_is_accepted_soon() {
    let faults = Fault::each("accept4", &["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"], When::Ready(3));
    play(faults, accept_two, |_, exit| {
        assert_eq!(exit.count("accept_backoffs"), 1);
        assert!(exit.stderr.contains("accepting again"), "{}", exit.stderr);
    });
}

#[test]
#[ignore = "needs strace(1)"]
fn a_client_that_died_in_the_backlog_holds_up_nobody() {
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
    play(Fault::each("accept4", &ERRORS, When::Ready(3)), accept_two, |_, exit| {
        assert_eq!((exit.count("accept_backoffs"), exit.count("accept_errors")), (0, 1));
    });
}

#[test]
#[ignore = "needs strace(1)"]
fn one_after_many_that_died_is_served_soon() {
    const DEAD: u32 = 600;
    let conversation = |server: &Server| assert_echoes(&mut server.connect("echo"), b"alive");
    play(Fault::each("accept4", &["ECONNABORTED", "EPERM"], When::First(DEAD)), conversation, |_, exit| {
        // A rest after each 256: that many are accepted in a turn.
        assert_eq!((exit.count("accept_backoffs"), exit.count("accept_errors")), (2, u64::from(DEAD)));
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
    play(Fault::each("epoll_ctl", &["ENOMEM", "ENOSPC"], When::Ready(2)), conversation, |_, exit| {
        assert_eq!(exit.count("refused"), 1);
    });
}
