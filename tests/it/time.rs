//! The time service over real sockets.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::harness::{Server, eventually, reactor, read_all};
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// The instant that a line of `2006-01-02 15:04:05\n` means at `offset`; anything else than such a line fails.
fn instant(line: &[u8], offset: Offset) -> Timestamp {
    let line = std::str::from_utf8(line).expect("text");
    let shape: String = line.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00 00:00:00\n", "{line:?}");
    let civil = DateTime::strptime("%Y-%m-%d %H:%M:%S", line.trim_end()).expect("a date and a time");
    civil.to_zoned(TimeZone::fixed(offset)).expect("a time that exists").timestamp()
}

/// A server in the time zone `tz`, as the environment names it.
fn start_in(tz: &str) -> Server {
    let mut command = reactor(&["serve", "time=0", "echo=0", "--ledger", "json"]);
    command.env("TZ", tz);
    Server::spawn(command)
}

#[test]
fn tells_the_time_of_its_zone_and_closes() {
    for (tz, offset) in [("UTC", Offset::UTC), ("XYZ-5", Offset::constant(5)), ("XYZ+3", Offset::constant(-3))] {
        let server = start_in(tz);
        let before = Timestamp::now();
        let line = read_all(&mut server.connect("time"));
        let told = instant(&line, offset);
        // The line says whole seconds.
        assert!(told >= before - SignedDuration::from_secs(1), "TZ={tz}: {told} was told after {before}");
        assert!(told <= Timestamp::now(), "TZ={tz}: {told} is in the future");
        server.assert_serves();
        server.stop().assert_clean();
    }
}

#[test]
fn the_time_goes_on() {
    let server = start_in("UTC");
    let told = || instant(&read_all(&mut server.connect("time")), Offset::UTC);
    let first = told();
    assert!(eventually(crate::harness::PATIENCE, || told() > first), "the time stands still");
    server.stop().assert_clean();
}

#[test]
fn who_speaks_first_is_answered_and_not_reset() {
    let server = start_in("UTC");
    for greeting in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0; 65_536]] {
        let mut peer = server.connect("time");
        peer.write_all(greeting).unwrap();
        let mut line = [0; 20];
        peer.read_exact(&mut line).unwrap();
        instant(&line, Offset::UTC);
        assert_eq!(peer.read(&mut line).unwrap(), 0, "more than a line");
        // What is said after the end is taken, too: a reset would show in one of these.
        for _ in 0..10 {
            peer.write_all(greeting).unwrap();
        }
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peer.read(&mut line).unwrap(), 0);
        assert!(peer.take_error().unwrap().is_none());
    }
    server.assert_serves();
    let remains = server.stop();
    remains.assert_clean();
    assert_eq!(remains.count("closed_finished"), 3);
    assert_eq!(remains.count("closed_reset"), 0);
}
