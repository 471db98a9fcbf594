//! The examples as programs: their end, their form, and the one with all services.

use std::fs;
use std::io::BufReader;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use super::chats::room;
use super::{TWINS, line_of, start};
use crate::harness::conversation::{end, expected, open, receive, run, send, steps};
use crate::harness::{PATIENCE, Server, eventually, fill_up};
use reactor::limits::GRACE;
use reactor::services;
use rustix::process::Signal;

/// Stops `program` with one client. A `stuck` client has filled all buffers and does not read. Returns the status, the
/// wall-clock time of the stop, and the part of it in which the program could run.
fn stop_with_a_client(program: &str, service: &str, stuck: bool) -> (ExitStatus, Duration, Duration) {
    let server = start(program, service);
    let before = server.descriptors();
    let mut client = server.connect(service);
    assert!(eventually(PATIENCE, || server.descriptors() > before), "{program}: no accept");
    if stuck {
        fill_up(&server, &mut client);
    }
    let clock = server.stopwatch();
    let exit = server.stop();
    (exit.status, clock.elapsed(), clock.granted_to(exit.withheld))
}

/// The twins differ in this alone; the header of the echo explains it.
#[test]
fn a_signal_ends_the_blocking_twin_at_once_and_the_other_in_order() {
    let stop_both = |service: &str, stuck: bool| {
        let stem = service.replace('-', "_");
        let (status, ..) = stop_with_a_client(&format!("{stem}_blocking"), service, stuck);
        assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{service}");
        let (status, took, granted) = stop_with_a_client(&format!("{stem}_reactor"), service, stuck);
        assert_eq!(status.code(), Some(0), "{service}");
        // A stuck client uses up the grace period.
        assert_eq!(if stuck { took } else { granted } >= GRACE, stuck, "{service}: {granted:?} of {took:?}");
        assert!(granted < GRACE + Duration::from_secs(2), "{service}: {granted:?}");
    };
    thread::scope(|scope| {
        for service in TWINS.into_iter().filter(|service| *service != "echo-udp") {
            scope.spawn(move || stop_both(service, false));
        }
        scope.spawn(|| stop_both("echo", true));
    });
}

#[test]
fn one_reactor_serves_five_services() {
    let server = Server::example("all_in_one", "0", 6);
    assert_eq!(server.threads(), 1);
    server.assert_serves();
    let conversations = [
        ("echo-udp", steps([open(0), send(0, "hello"), receive(0, "hello")])),
        ("time", steps([open(0), receive(0, "{time}\n"), end(0)])),
        ("idle", steps([open(0), send(0, "x"), receive(0, "goodbye\n"), end(0)])),
        ("chat", room(2)),
    ];
    for (service, steps) in &conversations {
        assert_eq!(run(&server, service, steps), expected(steps), "{service}");
    }
    // Two listeners share one room.
    let mut front = BufReader::new(server.connect("chat"));
    assert!(line_of(&mut front).starts_with("You are "));
    let back = server.connect("chat-too");
    let name = back.local_addr().unwrap();
    let mut line = String::new();
    while line != format!("{name} has arrived\n") {
        // The members of the conversation before may still be leaving.
        assert!(line.is_empty() || line.ends_with(" has left\n"), "{line}");
        line = line_of(&mut front);
    }
    drop((front, back));
    server.stop().assert_clean();
}

#[cfg(target_os = "linux")]
#[test]
fn raw_syscalls_prints_its_first_eagain() {
    let server = Server::example("raw_syscalls", "127.0.0.1:0", 1);
    let _silent = server.connect("echo");
    for line in ["recvfrom = EAGAIN: ", "accept4 = EAGAIN: "] {
        assert!(eventually(PATIENCE, || server.log().contains(line)), "{line}: {}", server.log());
    }
}

#[test]
fn every_service_has_two_short_twins() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for service in TWINS {
        let port = services::find(service).expect("a service").port;
        let stem = service.replace('-', "_");
        // The ports differ, so that both run beside each other and beside `reactor serve`.
        for (name, twin, port) in [("blocking", "reactor", port + 10_000), ("reactor", "blocking", port + 20_000)] {
            let path = examples.join(format!("{stem}_{name}.rs"));
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let header = text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n");
            assert!(text.lines().count() <= 100, "{} is too long", path.display());
            assert!(text.contains(&format!("127.0.0.1:{port}\"")), "{} has another default port", path.display());
            for word in ["**Run**", "**Try**", "**Notice**", &format!("`{stem}_{twin}.rs`")] {
                assert!(header.contains(word), "{} does not say {word}", path.display());
            }
        }
    }
}
