//! What a run counts, and when.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;

use super::harness::{PATIENCE, Server, eventually};
use super::{assert_sound, count, figures, interrupt, measure, millis, serve, start};

#[test]
fn each_kind_of_request_is_counted_whole() {
    let server = Server::start(&["echo=0", "echo-udp=0", "time=0", "chat=0", "http=0"]);
    let runs = [
        ("echo", "--connections 20"),
        ("echo", "--connections 3 --size 200KiB --pipeline 3"),
        ("echo", "--connections 7 --pipeline 20 --size 1"),
        ("echo-udp", "--connections 5 --pipeline 3"),
        ("echo-udp", "--connections 2 --size 20000 --rate 400"),
        ("time", "--connections 5"),
        ("time", "--connections 5 --rate 300"),
        ("http", "--connections 5 --pipeline 10"),
        ("http", "--connections 5 --rate 500"),
        ("chat", "--connections 10 --speakers 3 --pipeline 2"),
        ("chat", "--connections 4 --speakers 4 --rate 500 --size 500"),
    ];
    for (kind, options) in runs {
        let figures = measure(kind, server.addr(kind), &format!("{options} --duration 200ms"));
        assert_sound(&figures);
        assert_eq!(figures["interrupted"], false);
        assert!((figures["seconds"].as_f64().unwrap() - 0.2).abs() < 1e-6, "{figures}");
        if kind == "chat" {
            let deliveries = &figures["deliveries"];
            assert_eq!(count(deliveries, "due"), count(&figures, "sent") * count(&figures, "connections"), "{figures}");
            assert_eq!(count(deliveries, "came"), count(deliveries, "due"), "{figures}");
            let wrong = ["lost", "reordered", "duplicated"].map(|name| count(deliveries, name));
            assert_eq!(wrong, [0; 3], "{figures}");
        }
    }
    server.assert_serves();
    server.stop().assert_clean();
}

#[test]
fn the_schedule_of_an_open_loop_is_kept() {
    let server = Server::start(&["echo=0"]);
    let figures = measure("echo", server.addr("echo"), "--rate 1000 --duration 300ms --connections 3");
    assert_sound(&figures);
    assert_eq!(count(&figures, "sent"), 300);
}

/// Sends messages back, each after `before` has been called with the peer and how many there were.
fn echo(mut peer: TcpStream, mut before: impl FnMut(&TcpStream, usize)) {
    let mut message = [0; 64];
    for n in 0.. {
        let Ok(()) = peer.read_exact(&mut message) else { return };
        before(&peer, n);
        if peer.write_all(&message).is_err() {
            return;
        }
    }
}

#[test]
fn a_stall_shows_in_an_open_loop() {
    const STALL: usize = 200;
    // Two servers that stand still together: until so many requests of the open loop wait as are due in 200 ms.
    let gate = Arc::new(RwLock::new(()));
    let answers = Arc::new(AtomicU64::new(0));
    let to_closed = serve({
        let (gate, answers) = (Arc::clone(&gate), Arc::clone(&answers));
        move |peer| {
            echo(peer, |_, _| {
                drop(gate.read().unwrap());
                answers.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    let to_open = serve(move |peer| {
        echo(peer, |peer, n| {
            if n == STALL {
                let _stall = gate.write().unwrap();
                let mut waiting = [0; STALL * 64];
                assert!(eventually(PATIENCE, || peer.peek(&mut waiting).unwrap() == waiting.len()), "too few are due");
            }
        });
    });
    let closed = start("echo", &to_closed.to_string(), "--connections 4 --duration 60s --json");
    assert!(eventually(PATIENCE, || answers.load(Ordering::Relaxed) > 1_000), "it does not begin");
    let open = measure("echo", to_open, "--connections 1 --pipeline 1000 --rate 1000 --duration 600ms");
    interrupt(&closed);
    let closed = figures(&closed.wait_with_output().unwrap());
    // Of 600 requests 200 are due while nobody answers. The latest of them wait least; a tenth of all waits 140 ms.
    assert_sound(&open);
    assert_eq!(count(&open, "sent"), 600);
    assert!(millis(&open, "p90") > 100.0 && millis(&open, "p99") > 150.0, "{open}");
    // The closed loop asks four times during the stall: few, where nothing else holds it up.
    assert!(millis(&closed, "max") > 100.0 && millis(&closed, "p90") < 100.0, "{closed}");
}

#[test]
fn lost_datagrams_are_counted() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut datagram = [0; 100];
        for n in 0.. {
            let Ok((len, peer)) = socket.recv_from(&mut datagram) else { return };
            // Every other one is lost, and every fourth comes twice.
            for _ in 0..[0, 1, 0, 2][n % 4] {
                socket.send_to(&datagram[..len], peer).unwrap();
            }
        }
    });
    let figures = measure("echo-udp", addr, "--connections 1 --rate 400 --pipeline 1000 --duration 200ms");
    let answered = count(&figures, "answered") + count(&figures, "answered_late");
    assert_eq!(["sent", "unanswered", "strays"].map(|name| count(&figures, name)), [80, 40, 20], "{figures}");
    assert_eq!(answered, 40, "{figures}");
}

#[test]
fn lines_that_a_room_loses_repeats_and_swaps_are_counted() {
    let addr = serve(|mut peer| {
        let mut lines = BufReader::new(peer.try_clone().unwrap()).lines().map_while(Result::ok);
        peer.write_all(b"You are somebody\n").unwrap();
        let first: Vec<_> = lines.by_ref().take(5).collect();
        // The first comes twice, the third before the second, and the fourth never.
        for n in [0, 0, 2, 1, 4] {
            writeln!(peer, "somebody: {}", first[n]).unwrap();
        }
        let _ = lines.try_for_each(|line| writeln!(peer, "somebody: {line}"));
    });
    let figures = measure("chat", addr, "--connections 1 --pipeline 5 --duration 200ms");
    let deliveries = &figures["deliveries"];
    assert_eq!(["lost", "duplicated", "reordered"].map(|name| count(deliveries, name)), [1, 1, 1], "{figures}");
    assert_eq!(count(deliveries, "came"), count(deliveries, "due") - 1, "{figures}");
}
