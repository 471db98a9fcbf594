//! `socks5`: the handshake byte by byte, its failures, and curl.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::clients::{are_installed, output, run};
use crate::harness::addresses::Vacant;
use crate::harness::{PATIENCE, Server, eventually, read_all, take};
use rustix::process::Signal;

const GREETING: &[u8] = &[5, 1, 0];

fn start() -> Server {
    Server::example("socks5", "127.0.0.1:0", 1)
}

/// Returns a request to connect to `addr`.
fn request(addr: SocketAddr) -> Vec<u8> {
    let (kind, ip) = match addr.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (4, ip.octets().to_vec()),
    };
    [&[5, 1, 0, kind], &ip[..], &addr.port().to_be_bytes()].concat()
}

/// Returns a request to connect to a name.
fn request_name(name: &str, port: u16) -> Vec<u8> {
    [&[5, 1, 0, 3, name.len() as u8], name.as_bytes(), &port.to_be_bytes()].concat()
}

/// Returns the code and the address of a reply.
fn reply(peer: &mut TcpStream) -> (u8, SocketAddr) {
    let head = take(peer, 4);
    assert_eq!((head[0], head[2]), (5, 0));
    let ip: IpAddr = match head[3] {
        1 => <[u8; 4]>::try_from(take(peer, 4)).unwrap().into(),
        4 => <[u8; 16]>::try_from(take(peer, 16)).unwrap().into(),
        kind => panic!("address of kind {kind}"),
    };
    let port = u16::from_be_bytes(take(peer, 2).try_into().unwrap());
    (head[1], (ip, port).into())
}

/// Returns the code of the reply to a request that fails, after which the connection ends.
fn failure(server: &Server, request: &[u8]) -> u8 {
    let mut peer = server.connect("socks5");
    peer.write_all(GREETING).unwrap();
    assert_eq!(take(&mut peer, 2), [5, 0]);
    peer.write_all(request).unwrap();
    let (code, addr) = reply(&mut peer);
    assert_eq!(addr, SocketAddr::from(([0, 0, 0, 0], 0)));
    assert_eq!(read_all(&mut peer), b"");
    code
}

#[test]
fn socks5_joins_a_client_at_every_split_of_its_handshake() {
    let server = start();
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = upstream.local_addr().unwrap();
    for request in [request(addr), request_name("127.0.0.1", addr.port())] {
        // Early bytes of the client wait until the upstream is there.
        let bytes = [GREETING, &request, b"early"].concat();
        for split in 0..bytes.len() {
            let mut peer = server.connect("socks5");
            peer.write_all(&bytes[..split]).unwrap();
            if split >= GREETING.len() {
                assert_eq!(take(&mut peer, 2), [5, 0]);
            }
            peer.write_all(&bytes[split..]).unwrap();
            if split < GREETING.len() {
                assert_eq!(take(&mut peer, 2), [5, 0]);
            }
            let (mut far, seen) = upstream.accept().unwrap();
            assert_eq!(reply(&mut peer), (0, seen), "split at {split}");
            assert_eq!(take(&mut far, 5), b"early");
            peer.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_all(&mut far), b"");
            far.write_all(b"answer").unwrap();
            drop(far);
            assert_eq!(read_all(&mut peer), b"answer");
        }
    }
    server.signal(Signal::TERM);
    assert!(server.wait().status.success());
}

#[test]
fn socks5_connects_over_ipv6() {
    let Ok(upstream) = TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: this machine has no ::1");
        return;
    };
    let server = start();
    for request in [request(upstream.local_addr().unwrap()), request_name("::1", upstream.local_addr().unwrap().port())]
    {
        let mut peer = server.connect("socks5");
        peer.write_all(&[GREETING, &request].concat()).unwrap();
        assert_eq!(take(&mut peer, 2), [5, 0]);
        let (mut far, seen) = upstream.accept().unwrap();
        assert_eq!(reply(&mut peer), (0, seen));
        far.write_all(b"hello").unwrap();
        assert_eq!(take(&mut peer, 5), b"hello");
    }
}

#[test]
fn socks5_tries_each_address_of_a_name() {
    // `localhost` is ::1 first, where nothing listens.
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = start();
    let mut peer = server.connect("socks5");
    let request = request_name("localhost", upstream.local_addr().unwrap().port());
    peer.write_all(&[GREETING, &request].concat()).unwrap();
    assert_eq!(take(&mut peer, 2), [5, 0]);
    let (_far, seen) = upstream.accept().unwrap();
    assert_eq!(reply(&mut peer), (0, seen));
}

#[test]
fn socks5_replies_with_the_code_of_each_failure() {
    let server = start();
    let vacant = Vacant::new();
    assert_eq!(failure(&server, &request(vacant.addr)), 5);
    // RFC 6761: no name below `invalid` exists.
    assert_eq!(failure(&server, &request_name("name.invalid", 80)), 4);
    assert_eq!(failure(&server, &request_name("\0", 80)), 4);
    let bind = [&[5, 2], &request(vacant.addr)[2..]].concat();
    assert_eq!(failure(&server, &bind), 7);
    let unknown_kind = [&[5, 1, 0, 9], &request(vacant.addr)[4..]].concat();
    assert_eq!(failure(&server, &unknown_kind), 8);
    // A login, and another protocol.
    for greeting in
        [&[5, 1, 2][..], b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: another protocol that does not end soon\r\n\r\n"]
    {
        let mut peer = server.connect("socks5");
        peer.write_all(greeting).unwrap();
        assert_eq!(read_all(&mut peer), [5, 0xff]);
    }
}

#[test]
fn socks5_passes_resets_on_and_cancels_the_dial_of_a_client_that_goes() {
    let server = start();
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let joined = || {
        let mut peer = server.connect("socks5");
        peer.write_all(&[GREETING, &request(upstream.local_addr().unwrap())].concat()).unwrap();
        take(&mut peer, 12);
        let (far, _) = upstream.accept().unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        (peer, far)
    };
    let before = server.descriptors();
    let (mut peer, far) = joined();
    crate::harness::reset(far);
    assert!(peer.read(&mut [0]).is_err());
    let (peer, mut far) = joined();
    crate::harness::reset(peer);
    assert!(far.read(&mut [0]).is_err());
    let hole = crate::harness::addresses::BlackHole::new();
    let mut peer = server.connect("socks5");
    peer.write_all(&[GREETING, &request(hole.addr)].concat()).unwrap();
    assert_eq!(take(&mut peer, 2), [5, 0]);
    assert!(eventually(PATIENCE, || server.descriptors() == before + 2), "no dial");
    crate::harness::reset(peer);
    server.assert_descriptors(before);
}

#[test]
fn socks5_ends_a_handshake_that_takes_too_long() {
    let server = start();
    let mut peer = server.connect("socks5");
    let start = Instant::now();
    peer.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    // A byte now and then does not renew the deadline.
    let mut bytes = [5, 200].into_iter().chain([1; 200]);
    let ended = eventually(PATIENCE, || {
        let _ = peer.write_all(&[bytes.next().unwrap_or(1)]);
        !matches!(peer.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    });
    assert!(ended && start.elapsed() > Duration::from_secs(9), "the handshake ended after {:?}", start.elapsed());
}

#[test]
fn socks5_serves_curl() {
    if !are_installed(&["curl"]) {
        return;
    }
    let http = Server::start(&["http=0"]);
    let server = start();
    let proxy = server.addr("socks5").to_string();
    let url = |host: &str| format!("http://{host}:{}/echo", http.addr("http").port());
    let body = "x".repeat(100_000);
    for (option, host) in
        [("--socks5-hostname", "localhost"), ("--socks5-hostname", "127.0.0.1"), ("--socks5", "127.0.0.1")]
    {
        let answer = output("curl", &["-sS", option, &proxy, "--data-binary", &body, &url(host)]);
        assert!(answer == body, "{option} {host}");
    }
    // curl reports the code of the reply (CURLE_PROXY).
    let failed = run("curl", &["-sS", "--socks5-hostname", &proxy, &url("name.invalid")], b"");
    assert_eq!(failed.status.code(), Some(97), "{}", String::from_utf8_lossy(&failed.stderr));
}
