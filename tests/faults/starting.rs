//! A server that cannot start prints the cause in one line, and ends.

use std::process::Stdio;

use super::harness::client::Client;
use super::on_each;
use super::strace::{Fault, SERVE, Trace, When};

#[test]
#[ignore = "needs strace(1)"]
fn a_server_that_cannot_start_prints_the_cause() {
    const FAULTS: [(&str, &str, &str); 12] = [
        ("epoll_create1", "EMFILE", "Too many open files"),
        ("eventfd2", "ENFILE", "Too many open files in system"),
        ("epoll_ctl", "ENOMEM", "Cannot allocate memory"),
        ("epoll_ctl", "ENOSPC", "No space left on device"),
        ("socketpair", "EMFILE", "Too many open files"),
        ("socket", "EMFILE", "Too many open files"),
        ("socket", "EAFNOSUPPORT", "Address family not supported by protocol"),
        ("setsockopt", "ENOBUFS", "No buffer space available"),
        ("bind", "EADDRINUSE", "Address already in use"),
        ("bind", "EACCES", "Permission denied"),
        ("listen", "EADDRINUSE", "Address already in use"),
        ("getsockname", "ENOBUFS", "No buffer space available"),
    ];
    let faults = FAULTS.iter().flat_map(|&(call, error, _)| [1, 2, 5].map(|n| Fault::new(call, error, When::OfAll(n))));
    on_each(faults.collect(), |fault| {
        let (trace, command) = Trace::of(fault, &SERVE);
        // The process makes one poll and one pair of sockets.
        if ["epoll_create1", "eventfd2", "socketpair"].contains(&fault.call) && !matches!(fault.when, When::OfAll(1)) {
            return;
        }
        let end = Client::spawn(command, Stdio::null(), Stdio::piped()).wait();
        trace.assert_injected();
        let cause = FAULTS.iter().find(|row| (row.0, row.1) == (fault.call, fault.error)).expect("a row").2;
        assert!(end.failure().ends_with(cause) || end.failure().contains(cause), "{end:?}");
        assert_eq!((end.stderr.lines().count(), &*end.stdout), (1, &b""[..]), "{end:?}");
    });
}
