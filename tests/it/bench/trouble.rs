//! Servers that send wrong bytes, close, stall, or die.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{
    assert_fails, assert_sound, bench, count, figures, interrupt, measure, measure_enough, serve, start, work,
};
use crate::harness::addresses::Vacant;
use crate::harness::{PATIENCE, Server, eventually, reactor, scaled};

#[test]
fn wrong_bytes_are_an_error() {
    let addr = serve(|mut peer| {
        let mut message = [0; 64];
        for n in 0.. {
            let Ok(()) = peer.read_exact(&mut message) else { return };
            if n == 5 {
                message.swap(30, 31);
            }
            peer.write_all(&message).unwrap();
        }
    });
    let figures = measure("echo", addr, "--connections 3 --duration 5s");
    // A run without connections does not wait for the end of its window.
    assert!(figures["seconds"].as_f64().unwrap() < 4.0, "{figures}");
    assert_eq!(count(&figures["errors"], "wrong bytes"), 3, "{figures}");
    assert_eq!([count(&figures, "answered"), count(&figures, "unanswered")], [12, 3], "{figures}");
}

#[test]
fn a_server_that_closes_is_an_error() {
    let addr = serve(|mut peer| {
        // The first exchange does not count: it shows that the connection is served.
        let mut message = [0; 64];
        for _ in 0..2 {
            peer.read_exact(&mut message).unwrap();
            peer.write_all(&message).unwrap();
        }
    });
    let figures = measure("echo", addr, "--connections 2 --duration 5s");
    assert_eq!(count(&figures, "error_count"), 2, "{figures}");
    assert_eq!(count(&figures, "answered"), 2, "{figures}");
    let closing = serve(drop);
    assert_fails(&bench("echo", closing, "--duration 5s"), "connected, but not served: ");
    assert_fails(&bench("time", closing, "--duration 200ms"), "nothing was answered");
}

/// Starts a server and a run against it, and disturbs the server in the middle of the run. Returns the figures.
fn disturb(kind: &str, options: &str, disturbance: impl Fn(&Server)) -> serde_json::Value {
    let server = Server::start(&[&format!("{kind}=0")]);
    let bench = start(kind, &server.addr(kind).to_string(), &format!("--json {options}"));
    // More than the server sends before the window.
    let enough = || server.counter("bytes_out") > 4_000 || server.counter("datagrams_out") > 60;
    assert!(eventually(PATIENCE, enough), "the run of {kind} does not begin");
    disturbance(&server);
    figures(&bench.wait_with_output().unwrap())
}

#[test]
fn a_schedule_stays_due_after_the_server_dies() {
    thread::scope(|scope| {
        for kind in ["echo", "echo-udp", "time", "chat", "http"] {
            scope.spawn(move || {
                let options = "--connections 5 --rate 500 --duration 2s";
                let figures = disturb(kind, options, |server| server.signal(Signal::KILL));
                assert_eq!(figures["interrupted"], false, "{figures}");
                assert_eq!(figures["seconds"], 2.0, "{figures}");
                assert_eq!(count(&figures, "sent") + count(&figures, "unsent"), 1_000, "{figures}");
                assert!(count(&figures, "answered") > 0 && count(&figures, "unanswered") > 100, "{figures}");
                assert!(count(&figures, "error_count") > 0, "{figures}");
                // A run that cannot dial again gives up. The others dial until the end.
                assert_eq!(figures["gave_up_after"].is_number(), ["echo", "chat"].contains(&kind), "{figures}");
                if kind == "chat" {
                    let [due, came, lost] = ["due", "came", "lost"].map(|name| count(&figures["deliveries"], name));
                    assert_eq!(lost, due - came, "{figures}");
                }
                if ["http", "time"].contains(&kind) {
                    assert!(count(&figures["errors"], "cannot connect: Connection refused") > 5, "{figures}");
                }
            });
        }
    });
}

#[test]
fn requests_to_a_suspended_server_are_unanswered() {
    thread::scope(|scope| {
        for kind in ["echo", "echo-udp", "time", "http"] {
            scope.spawn(move || {
                let figures = disturb(kind, "--connections 3 --duration 2s", Server::freeze);
                let [unanswered, errors] = ["unanswered", "error_count"].map(|name| count(&figures, name));
                // A datagram counts as lost after a second, and the next one is sent.
                let most = if kind == "echo-udp" { 9 } else { 3 };
                assert!(unanswered % 3 == 0 && (3..=most).contains(&unanswered) && errors == 0, "{kind}: {figures}");
                assert_eq!(figures["interrupted"], false, "{figures}");
            });
        }
    });
}

#[test]
fn a_restarted_http_server_gets_requests_again() {
    let Vacant { addr, .. } = &Vacant::new();
    let server = Server::start(&[&format!("http={addr}")]);
    let bench = start("http", &addr.to_string(), "--connections 3 --duration 60s --json");
    assert!(eventually(PATIENCE, || work(&server) > 4_000), "the run does not begin");
    server.signal(Signal::KILL);
    server.wait();
    let server = Server::spawn(reactor(&["serve", &format!("http={addr}")]));
    assert!(eventually(PATIENCE, || work(&server) > 4_000), "no request comes again");
    interrupt(&bench);
    let figures = figures(&bench.wait_with_output().unwrap());
    assert!(figures["interrupted"] == true && count(&figures, "unanswered") < 10, "{figures}");
}

#[test]
fn bytes_behind_the_first_answer_end_the_run_at_once() {
    let addr = serve(|mut peer| {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let _ = BufReader::new(peer.try_clone().unwrap()).lines().map_while(Result::ok).find(String::is_empty);
        let _ = peer.write_all(answer.repeat(2).as_bytes());
    });
    let begin = Instant::now();
    assert_fails(&bench("http", addr, "--connections 3"), "connected, but not served: an answer to no request");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn no_request_is_lost_behind_a_connection_close() {
    // Many servers do the same: they close after a number of requests, and discard further input.
    let addr = serve(|mut peer| {
        let mut lines = BufReader::new(peer.try_clone().unwrap()).lines().map_while(Result::ok);
        for connection in ["keep-alive", "keep-alive", "close"] {
            if lines.by_ref().take_while(|line| !line.is_empty()).count() == 0 {
                return;
            }
            write!(peer, "HTTP/1.1 200 OK\r\nConnection: {connection}\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
        peer.shutdown(Shutdown::Write).unwrap();
        let _ = lines.count();
    });
    // A server of HTTP/1.0 closes after each answer.
    let old = serve(|mut peer| {
        let mut lines = BufReader::new(peer.try_clone().unwrap()).lines().map_while(Result::ok);
        if lines.by_ref().take_while(|line| !line.is_empty()).count() > 0 {
            peer.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            // Unread requests would turn the close into a reset, which can discard the answer. The peer may be gone.
            let _ = peer.shutdown(Shutdown::Write);
            let _ = lines.count();
        }
    });
    for (addr, options) in [(addr, "--pipeline 1"), (addr, "--pipeline 5"), (addr, "--rate 500"), (old, "--pipeline 2")]
    {
        assert_sound(&measure_enough("http", addr, &format!("--connections 3 {options}"), 10));
    }
}

#[test]
fn a_connection_is_closed_after_connection_close_without_waiting_for_the_server() {
    let addr = serve(|mut peer| {
        let mut lines = BufReader::new(peer.try_clone().unwrap()).lines().map_while(Result::ok);
        if lines.by_ref().take_while(|line| !line.is_empty()).count() > 0 {
            peer.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").unwrap();
            let _ = lines.count();
        }
    });
    assert_sound(&measure_enough("http", addr, "--connections 3", 10));
}

#[test]
fn a_run_without_a_speaker_ends_at_once() {
    let addr = serve(|mut peer| {
        writeln!(peer, "You are {}", peer.peer_addr().unwrap()).unwrap();
        // A line closes the connection of its speaker. The listeners stay.
        let _ = BufReader::new(peer).lines().next();
    });
    let start = Instant::now();
    assert_fails(&bench("chat", addr, "--connections 3 --speakers 1 --duration 60s"), "nothing was answered");
    assert!(start.elapsed() < Duration::from_secs(30), "the run took {:?}", start.elapsed());
}

#[test]
fn http_answers_are_framed_and_closed_connections_are_dialed_again() {
    let addr = serve(|mut peer| {
        let mut lines = BufReader::new(peer.try_clone().unwrap()).lines().map_while(Result::ok);
        for n in 0..10 {
            let request: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            let Some(line) = request.first() else { return };
            assert_eq!(line, "GET /a/b?c HTTP/1.1");
            assert!(request[1..].iter().any(|line| line.starts_with("Host: 127.0.0.1:")), "{request:?}");
            let answer: &[u8] = match n {
                9 => b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
                n if n % 3 == 0 => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nHTTP\r\n0\r\n\r\n",
                5 => b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n",
                _ => b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nHTTP/1.1 200",
            };
            peer.write_all(answer).unwrap();
        }
    });
    let url = format!("http://{addr}/a/b?c");
    let (answered, figures) = scaled(|scale| {
        let options = format!("--connections 2 --duration {}ms --json", 200 * scale);
        let figures = figures(&start("http", &url, &options).wait_with_output().unwrap());
        let answered = count(&figures, "answered") + count(&figures, "answered_late");
        (answered > 40).then_some((answered, figures))
    });
    assert_eq!(count(&figures, "unanswered"), 0, "{figures}");
    // One answer in ten has an error status. There is no other error.
    let errors = count(&figures["errors"], "status 503");
    assert!(errors.abs_diff(answered / 10) <= 2, "{figures}");
    assert_eq!(count(&figures, "error_count"), errors, "{figures}");
}
