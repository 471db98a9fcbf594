//! `reactor connect` that was stopped itself: its own sleep says nothing about its peer.

use std::io::{Read, Write};
use std::net::{Shutdown, UdpSocket};
use std::time::Duration;

use super::millis;
use crate::harness::addresses::BlackHole;
use crate::harness::client::{Client, accept, file, listener, tcp, udp};
use crate::harness::{PATIENCE, eventually, hold, process};
use rustix::process::Signal;

/// Stops a client, calls `meanwhile`, and lets it go on after `span`.
fn suspend(client: &Client, span: Duration, meanwhile: impl FnOnce()) {
    client.signal(Signal::STOP);
    let stopped = eventually(PATIENCE, || process::state(client.pid()) == 'T');
    assert!(stopped, "the client runs");
    meanwhile();
    hold(span);
    client.signal(Signal::CONT);
}

#[test]
fn a_suspended_client_reads_waiting_bytes_before_it_judges() {
    let (listener, peer) = listener();
    let client = Client::start(&[&peer, "--heartbeat", "500ms"]);
    let mut stream = accept(&listener);
    suspend(&client, millis(2_000), || stream.write_all(b"meanwhile\n").unwrap());
    client.await_printed("meanwhile\n");
    stream.write_all(b"later\n").unwrap();
    client.await_printed("later\n");
    // A close over an unread ping would send RST.
    stream.shutdown(Shutdown::Write).unwrap();
    client.wait().assert(0, "meanwhile\nlater\n");
}

#[test]
fn a_suspended_client_asks_before_it_judges() {
    let (listener, peer) = listener();
    let client = Client::start(&[&peer, "--heartbeat", "500ms"]);
    let mut stream = accept(&listener);
    suspend(&client, millis(2_000), || {});
    // The peer speaks only when it is asked.
    let mut asked = [0; 5];
    stream.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"ping\n");
    stream.write_all(b"pong\n").unwrap();
    client.await_printed("pong\n");
    drop(stream);
    client.wait().assert(0, "pong\n");
}

#[test]
fn a_read_timeout_follows_the_bytes_that_have_waited() {
    let (listener, peer) = listener();
    let client = Client::start(&[&peer, "--read-timeout", "500ms"]);
    let mut stream = accept(&listener);
    suspend(&client, millis(1_000), || stream.write_all(b"meanwhile\n").unwrap());
    let end = client.wait();
    assert_eq!(end.failure(), format!("error: read {peer}: i/o timeout after 500ms"));
    assert_eq!(end.stdout, b"meanwhile\n");
}

#[test]
fn a_datagram_that_has_waited_is_no_missing_answer() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let client = Client::with_input(&[&udp(socket.local_addr().unwrap()), "--read-timeout", "1s"], file(b"one\n"));
    let mut line = [0; 16];
    let (n, from) = socket.recv_from(&mut line).unwrap();
    suspend(&client, millis(1_500), || assert_eq!(socket.send_to(&line[..n], from).unwrap(), n));
    let end = client.wait();
    assert_eq!((end.code, &*end.stdout), (Some(0), &b"one\n"[..]), "{end:?}");
}

#[test]
fn a_connection_that_was_established_meanwhile_beats_the_dial_timeout() {
    let hole = BlackHole::new();
    let client = Client::start(&[&tcp(hole.addr), "--dial-timeout", "2s", "--log", "trace"]);
    client.await_log("command Dial");
    let mut stream = None;
    // The kernel repeats the SYN after a second (RFC 6298, section 2).
    suspend(&client, millis(2_000), || stream = Some(hole.answer()));
    stream.unwrap().write_all(b"established\n").unwrap();
    let end = client.wait();
    assert_eq!((end.code, &*end.stdout), (Some(0), &b"established\n"[..]), "{end:?}");
}
