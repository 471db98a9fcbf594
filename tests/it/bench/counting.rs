//! What a run counts, and when.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;

use serde_json::Value;

use super::{assert_sound, count, figures, interrupt, measure, millis, serve, start};
use crate::harness::{PATIENCE, Server, eventually};

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

/// How many answers took longer than `millis`.
fn slower_than(millis: f64, figures: &Value) -> f64 {
    let steps = figures["distribution_us"].as_array().unwrap().iter();
    let steps = steps.map(|step| (step[0].as_f64().unwrap(), step[1].as_f64().unwrap()));
    let share = steps.filter(|&(_, micros)| micros <= millis * 1e3).map(|(share, _)| share).fold(0.0, f64::max);
    (1.0 - share) * count(figures, "answered") as f64
}

/// Starts a server of echo that asks `before` about each message, with the peer and how many there were before. Returns
/// where it is, and how many it has answered.
fn serve_echo(before: impl Fn(&TcpStream, usize) + Clone + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let answers = Arc::new(AtomicUsize::new(0));
    let answered = Arc::clone(&answers);
    let addr = serve(move |mut peer| {
        let mut message = [0; 64];
        for n in 0.. {
            let Ok(()) = peer.read_exact(&mut message) else { return };
            before(&peer, n);
            answered.fetch_add(1, Ordering::Relaxed);
            if peer.write_all(&message).is_err() {
                return;
            }
        }
    });
    (addr, answers)
}

#[test]
fn a_stall_shows_in_an_open_loop() {
    // Two servers stand still together, in the middle of their runs. How long is told by a third run, of which a thousand
    // requests a second come to its server, whether or not that answers: until another 200 of them wait there.
    const STALL: usize = 200;
    let gate = Arc::new(RwLock::new(()));
    let pass = {
        let gate = Arc::clone(&gate);
        move |_: &TcpStream, _| drop(gate.read().unwrap())
    };
    let [closed, open] = ["", "--rate 1000"].map(|options| {
        let (addr, answers) = serve_echo(pass.clone());
        let bench = start("echo", &addr.to_string(), &format!("--connections 4 --duration 60s --json {options}"));
        assert!(eventually(PATIENCE, || answers.load(Ordering::Relaxed) > 100), "it does not begin");
        (bench, answers)
    });
    let (clock, ticks) = serve_echo(move |peer, n| {
        if n == 20 {
            let _stall = gate.write().unwrap();
            let mut waiting = vec![0; 2 * STALL * 64];
            let before = peer.peek(&mut waiting).unwrap();
            let is_over = || peer.peek(&mut waiting).unwrap() >= before + STALL * 64;
            assert!(eventually(PATIENCE, is_over), "nothing is due");
        }
    });
    let clock = start("echo", &clock.to_string(), "--connections 1 --pipeline 1000 --rate 1000 --duration 60s");
    assert!(eventually(PATIENCE, || ticks.load(Ordering::Relaxed) > 20), "it stands still for ever");
    let before = [&closed, &open].map(|(_, answers)| answers.load(Ordering::Relaxed));
    let [closed, open] = [(closed, before[0]), (open, before[1])].map(|((bench, answers), before)| {
        assert!(eventually(PATIENCE, || answers.load(Ordering::Relaxed) > before + 2 * STALL), "it does not go on");
        interrupt(&bench);
        figures(&bench.wait_with_output().unwrap())
    });
    interrupt(&clock);
    assert_eq!(clock.wait_with_output().unwrap().status.code(), Some(0));
    // A request that was due early in the stall has waited long. The closed loop has made four then.
    assert!(slower_than(50.0, &open) > 75.0 && millis(&open, "max") > 100.0, "{open}");
    assert!(slower_than(50.0, &closed) < 10.0 && millis(&closed, "max") > 100.0, "{closed}");
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

#[test]
fn as_much_is_under_way_as_was_asked_for() {
    let server = Server::start(&["echo=0"]);
    for options in
        ["--size 100KiB --pipeline 100", "--size 1MiB --pipeline 4", "--size 100KiB --pipeline 50 --rate 2000"]
    {
        let figures = measure("echo", server.addr("echo"), &format!("--connections 5 --duration 300ms {options}"));
        for name in ["unanswered", "error_count"] {
            assert_eq!(count(&figures, name), 0, "{options}: {figures}");
        }
    }
    server.stop().assert_clean();
}
