//! Deadlines: of the services over real sockets, and of the library with the semantics of Go's `SetDeadline`.

mod library;
mod served;

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::PATIENCE;

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The largest accepted lateness in a debug build, in time in which the program could run.
const SLACK: Duration = millis(300);

/// Waits for `span` during which no byte may arrive.
fn expect_silence(peer: &mut TcpStream, span: Duration) {
    peer.set_read_timeout(Some(span)).unwrap();
    let silence = peer.read(&mut [0; 16]);
    assert!(silence.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{silence:?}");
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
}

/// Repeats `scenario`, which returns its lateness, until one is within [`SLACK`]. Returns the latenesses before that.
///
/// A program that is late is late every time. The machine can hold up one scenario in ways that no counter of the kernel
/// shows: the softirq thread that carries loopback packets waits for a processor, too.
#[track_caller]
fn assert_on_time(mut scenario: impl FnMut() -> Duration) {
    let late: Vec<_> = (0..5).map(|_| scenario()).take_while(|late| *late > SLACK).collect();
    assert!(late.len() < 5, "late every time: {late:?}");
}
