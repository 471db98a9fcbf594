//! `reactor connect` over UDP: a line is a datagram; missing answers and long lines are errors.

use std::net::UdpSocket;
use std::time::Instant;

use super::millis;
use crate::harness::addresses::Vacant;
use crate::harness::client::{Client, file, udp};
use crate::harness::{PATIENCE, Server};

#[test]
fn lines_are_datagrams_and_both_directions_are_logged() {
    let server = Server::start(&["echo-udp=0"]);
    let addr = server.addr("echo-udp");
    let mut client = Client::start(&[&udp(addr)]);
    client.input("one\n");
    client.await_printed("one\n");
    client.input("two\n");
    client.await_printed("two\n");
    client.input("last");
    client.end_input();
    let end = client.wait();
    assert_eq!((end.code, &*end.stdout), (Some(0), &b"one\ntwo\nlast"[..]));
    let logged: Vec<_> = end.stderr.lines().map(str::to_owned).collect();
    let pair = |n| [format!("packet-written: bytes={n}"), format!("packet-received: bytes={n} from={addr}")];
    assert_eq!(logged, [pair(4), pair(4), pair(4)].concat());
    server.stop().assert_clean();
}

#[test]
fn a_refusing_udp_port_is_reported_at_once() {
    let vacant = Vacant::new();
    let peer = udp(vacant.addr);
    let mut client = Client::start(&[&peer]);
    client.input("anybody?\n");
    let end = client.wait();
    assert!(end.took < millis(1_000), "{:?}", end.took);
    assert_eq!(end.failure(), format!("error: read {peer}: Connection refused"));

    let mut client = Client::start(&[&peer, "--reconnect", "1"]);
    client.input("anybody?\n");
    client.await_log("Connection refused; reconnecting in ");
    client.input("anybody now?\n");
    assert!(client.wait().failure().ends_with("Connection refused (given up; attempts to reconnect: 1)"));
}

#[test]
fn the_refusal_of_the_last_datagram_is_reported() {
    let vacant = Vacant::new();
    let peer = udp(vacant.addr);
    let end = Client::with_input(&[&peer, "--reconnect", "2"], file(b"hi\n")).wait();
    assert!(end.failure().starts_with(&format!("error: read {peer}: Connection refused")), "{end:?}");
}

#[test]
fn a_socket_is_not_connected_to_itself() {
    let Vacant { addr, .. } = &Vacant::new();
    let end = Client::with_input(&[&udp(*addr), "--bind", &addr.to_string()], file(b"hi\n")).wait();
    assert!(end.failure().contains("connected to itself"), "{end:?}");
}

#[test]
fn udp_timeouts_and_long_lines_are_errors() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let peer = udp(socket.local_addr().unwrap());
    let start = Instant::now();
    let end = Client::with_input(&[&peer, "--read-timeout", "200ms"], file(b"hello?\n")).wait();
    assert_eq!(end.failure(), format!("error: read {peer}: i/o timeout after 200ms"));
    assert!(start.elapsed() >= millis(200));
    socket.recv(&mut [0; 9]).unwrap();

    let lines = [vec![b'x'; 70_000], vec![b'y'; 65_506], vec![b'z'; 65_507], b"ok".to_vec()].join(&b'\n');
    let end = Client::with_input(&[&peer], file(&lines)).wait();
    assert_eq!(end.failure(), format!("error: write {peer}: not all lines were sent"));
    let too_long =
        |len| format!("error: write {peer}: a line of {len} bytes is too long for a datagram: at most 65507; not sent");
    let logged: Vec<_> = end.stderr.lines().collect();
    let expected = [&*too_long(70_001), "packet-written: bytes=65507", &*too_long(65_508), "packet-written: bytes=2"];
    assert_eq!(logged[..4], expected);
    let mut buffer = vec![0; 70_000];
    assert_eq!([socket.recv(&mut buffer).unwrap(), socket.recv(&mut buffer).unwrap()], [65_507, 2]);
}

#[test]
fn a_name_stands_for_each_of_its_addresses() {
    // `localhost` is 127.0.0.1 and ::1; the first refuses.
    let Ok(socket) = UdpSocket::bind("[::1]:0") else { return };
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let client = Client::with_input(&[&format!("udp://localhost:{port}")], file(b"one\ntwo\n"));
    let mut line = [0; 16];
    for expected in [b"one\n", b"two\n"] {
        let (n, from) = socket.recv_from(&mut line).unwrap();
        assert_eq!(&line[..n], expected);
        socket.send_to(&line[..n], from).unwrap();
    }
    let end = client.wait();
    assert_eq!((end.code, &*end.stdout), (Some(0), &b"one\ntwo\n"[..]), "{end:?}");
    assert_eq!(end.stderr.matches("packet-written").count(), 2, "one for each line: {}", end.stderr);
}
