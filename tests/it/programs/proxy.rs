//! `proxy` and its blocking twin: bytes, half-closes and resets pass in both directions.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread;

use super::clients::{are_installed, output};
use crate::harness::addresses::Vacant;
use crate::harness::{PATIENCE, Server, fill_up, pattern, read_all, reset, take};
use rustix::process::Signal;

const PROXIES: [&str; 2] = ["proxy", "proxy_blocking"];

/// A proxy, and its upstream in the hands of the test.
struct Fixture {
    name: &'static str,
    proxy: Server,
    upstream: TcpListener,
}

impl Fixture {
    fn start(name: &'static str) -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = start(name, &upstream.local_addr().unwrap().to_string());
        Self { name, proxy, upstream }
    }

    /// Returns a client and the connection of the upstream that is joined to it.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let near = self.proxy.connect(self.name);
        let (far, _) = self.upstream.accept().unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        far.set_write_timeout(Some(PATIENCE)).unwrap();
        (near, far)
    }
}

fn start(name: &str, upstream: &str) -> Server {
    Server::example_with(name, &["127.0.0.1:0", upstream], 1)
}

/// Asserts that `peer` meets a reset after at most the bytes that were under way.
#[track_caller]
fn assert_reset(peer: &mut TcpStream, name: &str) {
    let error = peer.read_to_end(&mut Vec::new()).expect_err(name);
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{name}");
}

#[test]
fn proxies_pass_all_bytes_both_ways_at_once() {
    for name in PROXIES {
        let fixture = Fixture::start(name);
        let (near, far) = fixture.connect();
        let bytes = [pattern(8_000_000), pattern(8_000_001)];
        thread::scope(|scope| {
            for (mut peer, bytes) in [(&near, &bytes[0]), (&far, &bytes[1])] {
                scope.spawn(move || {
                    peer.write_all(bytes).unwrap();
                    peer.shutdown(Shutdown::Write).unwrap();
                });
            }
            for (peer, bytes) in [(&near, &bytes[1]), (&far, &bytes[0])] {
                scope.spawn(move || assert!(read_all(&mut peer.try_clone().unwrap()) == *bytes, "{name}"));
            }
        });
    }
}

#[test]
fn proxies_pass_half_closes_on() {
    for name in PROXIES {
        let fixture = Fixture::start(name);
        let (mut near, mut far) = fixture.connect();
        near.write_all(b"question").unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut far), b"question", "{name}");
        far.write_all(b"answer").unwrap();
        assert_eq!(take(&mut near, 6), b"answer", "{name}");
        far.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut near), b"", "{name}");

        let (mut near, mut far) = fixture.connect();
        far.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut near), b"", "{name}");
        near.write_all(b"late").unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut far), b"late", "{name}");
    }
}

#[test]
fn proxies_pass_a_reset_on_at_every_moment() {
    for name in PROXIES {
        let fixture = Fixture::start(name);
        for end in 0..2 {
            // Silence.
            let (near, far) = fixture.connect();
            let [resetting, mut other] = if end == 0 { [near, far] } else { [far, near] };
            reset(resetting);
            assert_reset(&mut other, name);

            // A half-close of the other end came first.
            let (near, far) = fixture.connect();
            let [mut resetting, mut other] = if end == 0 { [near, far] } else { [far, near] };
            other.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_all(&mut resetting), b"", "{name}");
            reset(resetting);
            assert_reset(&mut other, name);

            // All buffers on the way to the end that resets are full.
            for _ in 0..3 {
                let (near, far) = fixture.connect();
                let [mut resetting, mut other] = if end == 0 { [near, far] } else { [far, near] };
                resetting.write_all(b"cut").unwrap();
                fill_up(&fixture.proxy, &mut other);
                reset(resetting);
                assert_reset(&mut other, name);
            }
        }
    }
}

#[test]
fn proxies_reset_the_client_of_an_upstream_that_refuses() {
    for name in PROXIES {
        let vacant = Vacant::new();
        let proxy = start(name, &vacant.addr.to_string());
        for _ in 0..10 {
            // The reset can come before `connect` has returned.
            match TcpStream::connect_timeout(&proxy.addr(name), PATIENCE) {
                Ok(mut peer) => assert_reset(&mut peer, name),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{name}"),
            }
        }
    }
}

#[test]
fn proxies_end_well_on_sigterm() {
    for name in PROXIES {
        let fixture = Fixture::start(name);
        let (mut near, mut far) = fixture.connect();
        near.write_all(b"hello").unwrap();
        assert_eq!(take(&mut far, 5), b"hello");
        drop((near, far));
        fixture.proxy.signal(Signal::TERM);
        assert!(fixture.proxy.wait().status.success(), "{name}");
    }
}

#[test]
fn proxy_lets_connections_end_after_a_stop() {
    let fixture = Fixture::start("proxy");
    let (mut near, mut far) = fixture.connect();
    near.write_all(b"question").unwrap();
    assert_eq!(take(&mut far, 8), b"question");
    fixture.proxy.signal(Signal::TERM);
    // The listener is closed: the stop has begun.
    while TcpStream::connect(fixture.proxy.addr("proxy")).is_ok() {
        thread::yield_now();
    }
    far.write_all(b"answer").unwrap();
    drop(far);
    assert_eq!(read_all(&mut near), b"answer");
    drop(near);
    assert!(fixture.proxy.wait().status.success());
}

#[test]
fn proxy_resets_pairs_that_outlive_the_grace_period() {
    let fixture = Fixture::start("proxy");
    let (mut near, mut far) = fixture.connect();
    near.write_all(b"hello").unwrap();
    assert_eq!(take(&mut far, 5), b"hello");
    fixture.proxy.signal(Signal::TERM);
    assert_reset(&mut near, "client");
    assert_reset(&mut far, "upstream");
    assert!(fixture.proxy.wait().status.success());
}

#[test]
fn proxy_reaches_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("proxy-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let upstream = UnixListener::bind(&path).unwrap();
    let proxy = start("proxy", &format!("unix:{}", path.display()));
    let mut near = proxy.connect("proxy");
    let (mut far, _) = upstream.accept().unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    near.write_all(b"question").unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    let mut question = Vec::new();
    far.read_to_end(&mut question).unwrap();
    assert_eq!(question, b"question");
    far.write_all(b"answer").unwrap();
    drop(far);
    assert_eq!(read_all(&mut near), b"answer");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn proxies_serve_curl() {
    if !are_installed(&["curl"]) {
        return;
    }
    let server = Server::start(&["http=0"]);
    for name in PROXIES {
        let proxy = start(name, &server.addr("http").to_string());
        let body = "x".repeat(100_000);
        let url = format!("http://{}/echo", proxy.addr(name));
        let answer = output("curl", &["-sS", "--data-binary", &body, &url, &url]);
        assert!(answer == body.repeat(2), "{name}");
    }
}
