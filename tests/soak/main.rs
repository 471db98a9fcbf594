//! One server under every kind of client at once: `cargo test --release --test soak -- --ignored --nocapture`.
//!
//! `SOAK_SECONDS` is the length of the run (60). Each run prints its `SOAK_SEED`. With the seed of an earlier run, every
//! client makes the same choices again, though not at the same moments. A quarter of the time warms the server up: it may
//! hold no more at the end than after the warm-up.
#![cfg(target_os = "linux")]

#[allow(dead_code)]
#[path = "../it/http/answer.rs"]
mod answer;
#[path = "../it/harness/mod.rs"]
mod harness;

mod clients;

use std::env;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use clients::{CLIENTS, Fixture, Totals};
use harness::Server;
use rustix::process::Signal;

const SERVE: [&str; 12] = [
    "echo=0",
    "echo-udp=0",
    "print-udp=0",
    "discard=0",
    "time=0",
    "idle=0",
    "chat=0",
    "chat-raw=0",
    "chat-hub=0",
    "http=0",
    "--header-timeout=1s",
    "--body-timeout=1s",
];

/// The number of clients of each kind at a time.
const COPIES: u64 = 2;

/// The interval between two reports of the server.
const REPORTS: Duration = Duration::from_millis(700);

/// Returns a number of the environment.
fn setting(name: &str, default: impl FnOnce() -> u64) -> u64 {
    env::var(name).map_or_else(|_| default(), |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Runs all clients for `time`, and waits until all have closed.
fn run(server: &Server, totals: &Totals, seed: u64, time: Duration) {
    let until = Instant::now() + time;
    thread::scope(|scope| {
        for (copy, (number, (name, client))) in (0..COPIES).flat_map(|copy| (0..).zip(CLIENTS).map(move |p| (copy, p)))
        {
            let mut fixture = Fixture::new(server, totals, seed ^ (number << 8 | copy), copy, until);
            let thread = thread::Builder::new().name(format!("{name} {copy}"));
            let repeat = move || {
                while fixture.goes_on() {
                    client(&mut fixture);
                }
            };
            thread.spawn_scoped(scope, repeat).expect("a thread");
        }
        while Instant::now() < until {
            server.signal(Signal::USR1);
            thread::sleep(REPORTS);
        }
    });
}

/// Asserts the state of a server without clients: its descriptors are those of the start, and its counters balance.
fn assert_at_rest(server: &Server, before: usize) {
    server.assert_unharmed(before);
    server.assert_idle();
    let (set, gone) =
        (server.counter("timers_set"), server.counter("timers_fired") + server.counter("timers_cancelled"));
    assert_eq!(set, gone, "timers are set without a client");
}

#[test]
#[ignore = "takes a minute, or as long as SOAK_SECONDS says"]
fn a_server_holds_after_a_day_what_it_held_after_an_hour() {
    let time = Duration::from_secs(setting("SOAK_SECONDS", || 60));
    let seed = setting("SOAK_SEED", || fastrand::u64(..));
    eprintln!("SOAK_SECONDS={} SOAK_SEED={seed}", time.as_secs());
    let server = Server::start(&SERVE);
    // Standard output has no reader. The service print-udp closes its descriptor when a write fails.
    let (before, totals) = (server.descriptors() - 1, Totals::default());

    run(&server, &totals, seed, time / 4);
    assert_at_rest(&server, before);
    let warm = server.resident();
    run(&server, &totals, !seed, time - time / 4);
    assert_at_rest(&server, before);
    let last = server.resident();
    eprintln!("resident memory: {} KiB warm, {} KiB in the end", warm / 1024, last / 1024);
    eprintln!("{totals:#?}");
    assert!(last <= warm + warm / 5, "resident memory has grown from {warm} to {last} bytes");

    let [connections, datagrams] = [&totals.connections, &totals.datagrams].map(|count| count.load(Relaxed));
    let exit = server.stop();
    exit.assert_clean();
    eprintln!("{}", exit.stderr.lines().last().unwrap_or_default());
    // Two connections are those of `assert_serves`.
    assert_eq!(exit.count("accepts") + exit.count("accept_errors"), connections + 2);
    assert_eq!(exit.count_closed(), exit.count("accepts"), "each connection has one end");
    assert_eq!((exit.count("refused"), exit.count("accept_backoffs")), (0, 0));
    assert_eq!((exit.count("closed_failed"), exit.count("closed_grace")), (0, 0));
    assert_eq!((exit.count("datagrams_out"), exit.count("datagrams_dropped")), (datagrams, 0));
    assert!(exit.count("closed_overflow") >= totals.dropped.load(Relaxed), "dropped without a reason");
    assert!(exit.count("resumes") <= exit.count("pauses"));
}
