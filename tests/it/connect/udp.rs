//! `reactor connect` over UDP: lines and datagrams, answers that do not come, and lines that are too long.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::harness::client::{Client, file, udp};
use crate::harness::{PATIENCE, Server};

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn datagrams_are_lines_and_both_ways_are_told() {
    let server = Server::start(&["echo-udp=0"]);
    let addr = server.addr("echo-udp");
    let mut client = Client::start(&[&udp(addr)]);
    client.say("one\n");
    client.await_printed("one\n");
    client.say("two\n");
    client.await_printed("two\n");
    client.say("last");
    client.end_input();
    let end = client.wait();
    assert_eq!((end.code, &*end.stdout), (Some(0), &b"one\ntwo\nlast"[..]));
    let told: Vec<_> = end.stderr.lines().map(str::to_owned).collect();
    let pair = |n| [format!("packet-written: bytes={n}"), format!("packet-received: bytes={n} from={addr}")];
    assert_eq!(told, [pair(4), pair(4), pair(4)].concat());
    server.stop().assert_clean();
}

#[test]
fn a_dead_udp_port_is_told_at_once() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = udp(socket.local_addr().unwrap());
    drop(socket);
    let mut client = Client::start(&[&peer]);
    let start = Instant::now();
    client.say("anybody?\n");
    let end = client.wait();
    assert!(start.elapsed() < millis(1_000), "{:?}", start.elapsed());
    assert_eq!(end.failure(), format!("error: read {peer}: Connection refused"));

    let mut client = Client::start(&[&peer, "--reconnect", "1"]);
    client.say("anybody?\n");
    client.await_log("Connection refused; reconnecting in ");
    client.say("anybody now?\n");
    assert!(client.wait().failure().ends_with("Connection refused (given up; attempts to reconnect: 1)"));
}

#[test]
fn the_last_datagram_is_not_lost_in_silence() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = udp(socket.local_addr().unwrap());
    drop(socket);
    let end = Client::fed(&[&peer, "--reconnect", "2"], file(b"hi\n")).wait();
    assert!(end.failure().starts_with(&format!("error: read {peer}: Connection refused")), "{end:?}");
}

#[test]
fn a_socket_does_not_talk_to_itself() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    drop(socket);
    let end = Client::fed(&[&udp(addr), "--bind", &addr.to_string()], file(b"hi\n")).wait();
    assert!(end.failure().contains("connected to itself"), "{end:?}");
}

#[test]
fn udp_timeouts_and_lines_that_are_too_long_are_told() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let peer = udp(socket.local_addr().unwrap());
    let start = Instant::now();
    let end = Client::fed(&[&peer, "--read-timeout", "200ms"], file(b"hello?\n")).wait();
    assert_eq!(end.failure(), format!("error: read {peer}: i/o timeout after 200ms"));
    assert!(start.elapsed() >= millis(200));
    socket.recv(&mut [0; 9]).unwrap();

    let lines = [vec![b'x'; 70_000], vec![b'y'; 65_506], vec![b'z'; 65_507], b"ok".to_vec()].join(&b'\n');
    let end = Client::fed(&[&peer], file(&lines)).wait();
    assert_eq!(end.failure(), format!("error: write {peer}: not all lines were sent"));
    let too_long =
        |len| format!("error: write {peer}: a line of {len} bytes is too long for a datagram: at most 65507; not sent");
    let told: Vec<_> = end.stderr.lines().collect();
    let expected = [&*too_long(70_001), "packet-written: bytes=65507", &*too_long(65_508), "packet-written: bytes=2"];
    assert_eq!(told[..4], expected);
    let mut buffer = vec![0; 70_000];
    assert_eq!([socket.recv(&mut buffer).unwrap(), socket.recv(&mut buffer).unwrap()], [65_507, 2]);
}
