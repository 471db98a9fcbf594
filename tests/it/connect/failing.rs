//! Dials that fail, timeouts, resets, signals, and wrong usage.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::process::Stdio;
use std::time::Instant;

use super::millis;
use crate::harness::addresses::{BlackHole, Vacant};
use crate::harness::client::{Client, accept, await_text, file, listener, tcp, udp};
use crate::harness::{PATIENCE, eventually, pattern, read_all, reset};
use rustix::process::Signal;

#[test]
fn a_refusal_is_reported_within_100_ms() {
    let vacant = Vacant::new();
    let peer = tcp(vacant.addr);
    let took = |()| {
        let end = Client::with_input(&[&peer], Stdio::null()).wait();
        assert_eq!(end.failure(), format!("error: dial {peer}: Connection refused"));
        assert_eq!(end.stderr.lines().count(), 1, "{end:?}");
        end.took
    };
    // The start of a process reads files, and other builds on this machine use the disk: one of a few must be quick.
    let best = [(); 10].map(took).into_iter().min().unwrap();
    assert!(best < millis(100), "{best:?}");
}

#[test]
fn a_dial_timeout_is_kept_and_named_in_the_error() {
    let hole = BlackHole::new();
    let peer = tcp(hole.addr);
    let took = |()| {
        let start = Instant::now();
        let end = Client::with_input(&[&peer, "--dial-timeout", "300ms"], Stdio::null()).wait();
        assert!(start.elapsed() >= millis(300), "early, after {:?}", start.elapsed());
        assert_eq!(end.failure(), format!("error: dial {peer}: i/o timeout after 300ms"));
        end.took
    };
    let times = [(); 4].map(took);
    assert!(*times.iter().min().unwrap() < millis(400), "{times:?}");
}

#[test]
fn read_and_write_timeouts_are_named_in_the_error() {
    let (listener, peer) = listener();
    // The client may connect before this thread goes on.
    let start = Instant::now();
    let client = Client::start(&[&peer, "--read-timeout", "200ms"]);
    let _stream = accept(&listener);
    let end = client.wait();
    assert_eq!(end.failure(), format!("error: read {peer}: i/o timeout after 200ms"));
    assert!(start.elapsed() >= millis(200));

    let client = Client::with_input(&[&peer, "--write-timeout", "200ms"], file(&pattern(32 << 20)));
    let _stream = accept(&listener);
    assert_eq!(client.wait().failure(), format!("error: write {peer}: i/o timeout after 200ms"));
}

#[test]
fn a_reset_is_a_failure() {
    let (listener, peer) = listener();
    let mut client = Client::start(&[&peer]);
    let mut stream = accept(&listener);
    client.input("hello");
    await_text(&mut stream, "hello");
    reset(stream);
    assert_eq!(client.wait().failure(), format!("error: read {peer}: Connection reset by peer"));
}

#[test]
fn control_c_cancels_at_every_stage() {
    let interrupt = |client: Client| {
        client.signal(Signal::INT);
        let end = client.wait();
        assert_eq!(end.code, Some(130), "{end:?}");
        end
    };
    // During a dial, and during the wait for the next attempt.
    let hole = BlackHole::new();
    let client = Client::start(&[&tcp(hole.addr), "--log", "trace"]);
    client.await_log("command Dial");
    interrupt(client);
    let vacant = Vacant::new();
    let client = Client::start(&[&tcp(vacant.addr), "--reconnect"]);
    client.await_log("(attempt 3)");
    interrupt(client);
    // During the conversation, after the end of input, and while the reader of its output pauses.
    let (listener, peer) = listener();
    for stdin in [true, false] {
        let mut client = Client::start(&[&peer]);
        let mut stream = accept(&listener);
        client.input("hello");
        await_text(&mut stream, "hello");
        if !stdin {
            client.end_input();
            assert_eq!(read_all(&mut stream), b"");
        }
        stream.write_all(b"kept").unwrap();
        client.await_printed("kept");
        assert_eq!(interrupt(client).stdout, b"kept");
    }
    let (_reader, writer) = std::io::pipe().unwrap();
    let client = Client::with_streams(&[&peer], Stdio::null(), writer.into());
    let mut stream = accept(&listener);
    stream.write_all(&pattern(200_000)).unwrap();
    let sockets = || {
        let links = fs::read_dir(format!("/proc/{}/fd", client.pid())).unwrap().flatten();
        let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    };
    let before = sockets();
    drop(stream);
    assert!(eventually(PATIENCE, || sockets() < before), "the connection is still there");
    interrupt(client);
    // A closed terminal and SIGTERM end the client in the same way.
    for (signal, code) in [(Signal::HUP, 129), (Signal::TERM, 143)] {
        let client = Client::start(&[&peer]);
        let _stream = accept(&listener);
        client.signal(signal);
        assert_eq!(client.wait().code, Some(code));
    }
    // UDP.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut client = Client::start(&[&udp(socket.local_addr().unwrap())]);
    client.input("hello\n");
    client.await_log("packet-written: bytes=6\n");
    interrupt(client);
}

#[test]
fn a_lookup_does_not_block_the_loop() {
    let client = Client::start(&["tcp://no-such-host.invalid:9", "--reconnect", "--dial-timeout", "300ms"]);
    client.await_log("dial tcp://no-such-host.invalid:9: ");
    client.signal(Signal::INT);
    assert_eq!(client.wait().code, Some(130));
    for peer in ["tcp://no-such-host.invalid:9", "udp://no-such-host.invalid:9"] {
        let end = Client::with_input(&[peer, "--dial-timeout", "5s"], Stdio::null()).wait();
        let failure = end.failure();
        let expected = [format!("error: dial {peer}: cannot resolve no-such-host.invalid: "), "timeout".to_owned()];
        assert!(expected.iter().any(|text| failure.contains(text)), "{failure}");
    }
}

#[test]
fn localhost_falls_back_to_the_family_that_answers() {
    let four = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = format!("tcp://localhost:{}", four.local_addr().unwrap().port());
    let client = Client::start(&[&peer]);
    accept(&four).write_all(b"four\n").unwrap();
    client.wait().assert(0, "four\n");
    // A host without IPv6 has no second family.
    if let Ok(six) = TcpListener::bind("[::1]:0") {
        let peer = format!("tcp://localhost:{}", six.local_addr().unwrap().port());
        let client = Client::start(&[&peer]);
        accept(&six).write_all(b"six\n").unwrap();
        client.wait().assert(0, "six\n");
    }
    let vacant = Vacant::new();
    let refusing = format!("tcp://localhost:{}", vacant.addr.port());
    let end = Client::with_input(&[&refusing], Stdio::null()).wait();
    assert_eq!(end.failure(), format!("error: dial {refusing}: Connection refused"));
}

#[test]
fn the_local_address_can_be_chosen() {
    let (listener, peer) = listener();
    for (bind, ip) in [("127.0.0.2", "127.0.0.2"), ("127.0.0.3:0", "127.0.0.3"), (":0", "127.0.0.1")] {
        let client = Client::with_input(&[&peer, "--bind", bind], Stdio::null());
        let (stream, from) = listener.accept().unwrap();
        assert_eq!(from.ip().to_string(), ip);
        drop(stream);
        client.wait().assert(0, "");
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let client = Client::with_input(&[&udp(socket.local_addr().unwrap()), "--bind", "127.0.0.2"], file(b"hello"));
    assert_eq!(socket.recv_from(&mut [0; 9]).unwrap().1.ip().to_string(), "127.0.0.2");
    assert_eq!(client.wait().code, Some(0));
    let end = Client::with_input(&[&peer, "--bind", "203.0.113.1:0"], Stdio::null()).wait();
    assert_eq!(end.failure(), format!("error: dial {peer}: Cannot assign requested address"));
}

#[test]
fn wrong_usage_is_one_line() {
    let wrong: [&[&str]; 13] = [
        &[],
        &["127.0.0.1:7007"],
        &["http://127.0.0.1:80"],
        &["tcp://"],
        &["tcp://host:port"],
        &["tcp://127.0.0.1:65536"],
        &["tcp://127.0.0.1:9", "--dial-timeout", "soon"],
        &["tcp://127.0.0.1:9", "--reconnect", "-1"],
        &["tcp://127.0.0.1:9", "--reconnect=+1"],
        &["tcp://127.0.0.1:9", "--reconnect", "often"],
        &["--reconnect", "http://x:1"],
        &["tcp://127.0.0.1:9", "--bind", "example.org:1"],
        &["tcp://127.0.0.1:9", "--bind", "]]127.0.0.1["],
    ];
    for args in wrong {
        let end = Client::with_input(args, Stdio::null()).wait();
        assert_eq!((end.code, &*end.stdout), (Some(2), &b""[..]), "{args:?}: {end:?}");
        assert!(end.stderr.starts_with("error: ") && end.stderr.lines().count() == 1, "{args:?}: {end:?}");
    }
    for (peer, wanted) in [("tcp://", "has no address"), ("tcp://[::1]", "has no port")] {
        let end = Client::with_input(&[peer], Stdio::null()).wait();
        assert!(end.code == Some(2) && end.stderr.contains(wanted), "{end:?}");
    }
    let help = Client::with_input(&["--help"], Stdio::null()).wait();
    assert_eq!(help.code, Some(0));
    let text = String::from_utf8(help.stdout).unwrap();
    for part in ["Examples:", "tcp://HOST:PORT", "--dial-timeout", "--reconnect [<MAX>]", "--heartbeat-text"] {
        assert!(text.contains(part), "{part} is missing from: {text}");
    }
}
