//! The counters of a run, and the time at which a request counts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, RwLock};
use std::thread;

use serde_json::Value;

use super::{assert_sound, count, figures, interrupt, measure, measure_enough, millis, serve, start};
use crate::harness::{PATIENCE, Server, eventually};

#[test]
fn each_kind_of_request_is_counted_completely() {
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
        let figures = measure_enough(kind, server.addr(kind), options, 10);
        assert_sound(&figures);
        assert_eq!(figures["interrupted"], false);
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
fn an_open_loop_keeps_its_schedule() {
    let server = Server::start(&["echo=0"]);
    let figures = measure("echo", server.addr("echo"), "--rate 1000 --duration 300ms --connections 3");
    assert_sound(&figures);
    assert_eq!(count(&figures, "sent"), 300);
}

/// Returns the number of answers that took longer than `millis`.
fn slower_than(millis: f64, figures: &Value) -> f64 {
    let steps = figures["distribution_us"].as_array().unwrap().iter();
    let steps = steps.map(|step| (step[0].as_f64().unwrap(), step[1].as_f64().unwrap()));
    let share = steps.filter(|&(_, micros)| micros <= millis * 1e3).map(|(share, _)| share).fold(0.0, f64::max);
    (1.0 - share) * count(figures, "answered") as f64
}

/// Starts an echo server that calls `before` with the peer and the number of each message. Returns its address and the
/// counter of its answers.
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
fn an_open_loop_shows_a_stall_that_a_closed_loop_hides() {
    // Two servers stall together in the middle of their runs. A third run is the clock of the stall: its server gets a
    // thousand requests a second, even without answers. The stall ends when 200 more of them wait there.
    const STALL: usize = 200;
    let gate = Arc::new(RwLock::new(()));
    let pass = {
        let gate = Arc::clone(&gate);
        move |_: &TcpStream, _| drop(gate.read().unwrap())
    };
    let [closed, open] = ["", "--rate 1000"].map(|options| {
        let (addr, answers) = serve_echo(pass.clone());
        let bench = start("echo", &addr.to_string(), &format!("--connections 4 --duration 60s --json {options}"));
        assert!(eventually(PATIENCE, || answers.load(Ordering::Relaxed) > 100), "no run begins");
        (bench, answers)
    });
    let (clock, ticks) = serve_echo(move |peer, n| {
        if n == 20 {
            let _stall = gate.write().unwrap();
            let mut waiting = vec![0; 2 * STALL * 64];
            let before = peer.peek(&mut waiting).unwrap();
            let is_over = || peer.peek(&mut waiting).unwrap() >= before + STALL * 64;
            assert!(eventually(PATIENCE, is_over), "no request is due");
        }
    });
    let clock = start("echo", &clock.to_string(), "--connections 1 --pipeline 1000 --rate 1000 --duration 60s");
    assert!(eventually(PATIENCE, || ticks.load(Ordering::Relaxed) > 20), "the stall has no end");
    let before = [&closed, &open].map(|(_, answers)| answers.load(Ordering::Relaxed));
    let [closed, open] = [(closed, before[0]), (open, before[1])].map(|((bench, answers), before)| {
        assert!(
            eventually(PATIENCE, || answers.load(Ordering::Relaxed) > before + 2 * STALL),
            "the run does not go on"
        );
        interrupt(&bench);
        figures(&bench.wait_with_output().unwrap())
    });
    interrupt(&clock);
    assert_eq!(clock.wait_with_output().unwrap().status.code(), Some(0));
    // The open loop has a late answer for each millisecond of the first half of the stall. The closed loop has one for each
    // of its four connections, and for each other time at which a busy machine holds up the servers.
    let late = [&open, &closed].map(|figures| slower_than(100.0, figures));
    assert!(late[0] > 75.0 && late[1] < late[0] / 4.0, "{late:?}: {open} {closed}");
    assert!([&open, &closed].iter().all(|figures| millis(figures, "max") > 100.0), "{open} {closed}");
}

#[test]
fn lost_datagrams_are_counted() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut datagram = [0; 100];
        for n in 0.. {
            let Ok((len, peer)) = socket.recv_from(&mut datagram) else { return };
            // The server loses every second datagram, and repeats every fourth one.
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
fn lost_repeated_and_reordered_lines_are_counted() {
    let addr = serve(|mut peer| {
        let mut lines = BufReader::new(peer.try_clone().unwrap()).lines().map_while(Result::ok);
        peer.write_all(b"You are client\n").unwrap();
        let first: Vec<_> = lines.by_ref().take(5).collect();
        // The first line comes twice, the third before the second, and the fourth never.
        for n in [0, 0, 2, 1, 4] {
            writeln!(peer, "client: {}", first[n]).unwrap();
        }
        let _ = lines.try_for_each(|line| writeln!(peer, "client: {line}"));
    });
    let figures = measure("chat", addr, "--connections 1 --pipeline 5 --duration 200ms");
    let deliveries = &figures["deliveries"];
    assert_eq!(["lost", "duplicated", "reordered"].map(|name| count(deliveries, name)), [1, 1, 1], "{figures}");
    assert_eq!(count(deliveries, "came"), count(deliveries, "due") - 1, "{figures}");
}

/// The size of a message, the number of messages in flight on each connection, and the rate, if any.
const IN_FLIGHT: [(usize, usize, &str); 3] = [(100 << 10, 100, ""), (1 << 20, 4, ""), (100 << 10, 50, "--rate 2000")];

#[test]
fn the_requested_number_of_messages_is_in_flight() {
    const CONNECTIONS: usize = 3;
    for (size, pipeline, rate) in IN_FLIGHT {
        let (full, all_full) = channel();
        // The server answers the first message, which opens the window. Then it reads, and does not answer until the
        // whole pipeline has arrived: a generator with less in flight would wait for ever.
        let addr = serve(move |mut peer| {
            let mut messages = vec![0; size];
            // The message after that shows that the generator has counted an answer.
            for count in [1, pipeline, 1] {
                messages.resize(count * size, 0);
                let exchanged = peer.read_exact(&mut messages).and_then(|()| peer.write_all(&messages));
                if exchanged.is_err() {
                    return;
                }
            }
            let _ = full.send(());
            let _ = std::io::copy(&mut peer.try_clone().unwrap(), &mut peer);
        });
        let options = format!("--connections {CONNECTIONS} --size {size} --pipeline {pipeline} --duration 60s {rate}");
        let bench = start("echo", &addr.to_string(), &format!("{options} --json"));
        for n in 0..CONNECTIONS {
            assert!(all_full.recv_timeout(PATIENCE).is_ok(), "{n} of {CONNECTIONS} have {options} in flight");
        }
        interrupt(&bench);
        let figures = figures(&bench.wait_with_output().unwrap());
        assert_eq!(count(&figures, "error_count"), 0, "{options}: {figures}");
    }
}

#[test]
fn no_message_in_flight_is_lost() {
    let server = Server::start(&["echo=0"]);
    for (size, pipeline, rate) in IN_FLIGHT {
        let options = format!("--connections 2 --size {size} --pipeline {pipeline} {}", rate.replace("2000", "500"));
        let figures = measure_enough("echo", server.addr("echo"), &options, 0);
        for name in ["unanswered", "error_count"] {
            assert_eq!(count(&figures, name), 0, "{options}: {figures}");
        }
    }
    server.stop().assert_clean();
}
