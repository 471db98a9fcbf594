//! The time service over real sockets.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::harness::{PATIENCE, Server, eventually, reactor, read_all};
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// Returns the instant of a line in the form `2006-01-02 15:04:05\n` at `offset`. Panics at any other line.
fn instant(line: &[u8], offset: Offset) -> Timestamp {
    let line = std::str::from_utf8(line).expect("text");
    let shape: String = line.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00 00:00:00\n", "{line:?}");
    let civil = DateTime::strptime("%Y-%m-%d %H:%M:%S", line.trim_end()).expect("a date and a time");
    civil.to_zoned(TimeZone::fixed(offset)).expect("a time that exists").timestamp()
}

/// Starts a server with `TZ=tz`.
fn start_in(tz: &str) -> Server {
    let mut command = reactor(&["serve", "time=0", "echo=0", "--ledger", "json"]);
    command.env("TZ", tz);
    Server::spawn(command)
}

#[test]
fn the_service_sends_the_time_of_its_zone_and_closes() {
    for (tz, offset) in [("UTC", Offset::UTC), ("XYZ-5", Offset::constant(5)), ("XYZ+3", Offset::constant(-3))] {
        let server = start_in(tz);
        let before = Timestamp::now();
        let line = read_all(&mut server.connect("time"));
        let served = instant(&line, offset);
        // The line has no fraction of a second.
        assert!(served >= before - SignedDuration::from_secs(1), "TZ={tz}: {served} after {before}");
        assert!(served <= Timestamp::now(), "TZ={tz}: {served} is in the future");
        server.assert_serves();
        server.stop().assert_clean();
    }
}

#[test]
fn the_served_time_advances() {
    let server = start_in("UTC");
    let served = || instant(&read_all(&mut server.connect("time")), Offset::UTC);
    let first = served();
    assert!(eventually(PATIENCE, || served() > first), "the time stands still");
    server.stop().assert_clean();
}

#[test]
fn a_client_that_sends_first_is_answered_and_not_reset() {
    let server = start_in("UTC");
    for greeting in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0; 65_536]] {
        let mut peer = server.connect("time");
        peer.write_all(greeting).unwrap();
        let mut line = [0; 20];
        peer.read_exact(&mut line).unwrap();
        instant(&line, Offset::UTC);
        assert_eq!(peer.read(&mut line).unwrap(), 0, "more than a line");
        // The server takes input after its FIN: a reset would show in one of these writes.
        for _ in 0..10 {
            peer.write_all(greeting).unwrap();
        }
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peer.read(&mut line).unwrap(), 0);
        assert!(peer.take_error().unwrap().is_none());
    }
    server.assert_serves();
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_finished"), 3);
    assert_eq!(exit.count("closed_reset"), 0);
}
