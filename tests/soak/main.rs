//! One server under everything at once, for as long as one likes: `cargo test --release --test soak -- --ignored
//! --nocapture`.
//!
//! `SOAK_SECONDS` is the length of the run (60), `SOAK_SEED` that of an earlier one, which it prints: every player then
//! does the same as before, though not at the same moment. A quarter of the time warms the server up; what it holds then
//! is what it may hold in the end.
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

use harness::Server;
use clients::{PLAYERS, Stage, Tally};
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

/// Of each sort there are so many players at a time.
const TWINS: u64 = 2;

/// How often somebody asks the server for a report.
const REPORTS: Duration = Duration::from_millis(700);

/// A number of the environment.
fn setting(name: &str, default: impl FnOnce() -> u64) -> u64 {
    env::var(name).map_or_else(|_| default(), |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Lets all players play for `time`; none of them is there afterwards.
fn play(server: &Server, tally: &Tally, seed: u64, time: Duration) {
    let until = Instant::now() + time;
    thread::scope(|scope| {
        for (twin, (number, (name, player))) in (0..TWINS).flat_map(|twin| (0..).zip(PLAYERS).map(move |p| (twin, p))) {
            let mut stage = Stage::new(server, tally, seed ^ (number << 8 | twin), twin, until);
            let thread = thread::Builder::new().name(format!("{name} {twin}"));
            let playing = move || {
                while stage.goes_on() {
                    player(&mut stage);
                }
            };
            thread.spawn_scoped(scope, playing).expect("a thread");
        }
        while Instant::now() < until {
            server.signal(Signal::USR1);
            thread::sleep(REPORTS);
        }
    });
}

/// Nobody is there any more: the server holds what it held before, and its books balance.
fn assert_at_rest(server: &Server, before: usize) {
    server.assert_unharmed(before);
    server.assert_idle();
    let (set, gone) =
        (server.counter("timers_set"), server.counter("timers_fired") + server.counter("timers_cancelled"));
    assert_eq!(set, gone, "timers are set and nobody is there");
}

#[test]
#[ignore = "takes a minute, or as long as SOAK_SECONDS says"]
fn a_server_is_after_a_day_what_it_was_after_an_hour() {
    let time = Duration::from_secs(setting("SOAK_SECONDS", || 60));
    let seed = setting("SOAK_SEED", || fastrand::u64(..));
    eprintln!("SOAK_SECONDS={} SOAK_SEED={seed}", time.as_secs());
    let server = Server::start(&SERVE);
    // Nobody hears what print-udp says, and it lets go of its descriptor when it has found that out.
    let (before, tally) = (server.descriptors() - 1, Tally::default());

    play(&server, &tally, seed, time / 4);
    assert_at_rest(&server, before);
    let warm = server.resident();
    play(&server, &tally, !seed, time - time / 4);
    assert_at_rest(&server, before);
    let last = server.resident();
    eprintln!("resident memory: {} KiB warm, {} KiB in the end", warm / 1024, last / 1024);
    eprintln!("{tally:#?}");
    assert!(last <= warm + warm / 5, "resident memory has grown from {warm} to {last} bytes");

    let [connections, datagrams] = [&tally.connections, &tally.datagrams].map(|count| count.load(Relaxed));
    let exit = server.stop();
    exit.assert_clean();
    eprintln!("{}", exit.stderr.lines().last().unwrap_or_default());
    // Two fresh echoes have asked whether it still serves.
    assert_eq!(exit.count("accepts") + exit.count("accept_errors"), connections + 2);
    assert_eq!(exit.count_closed(), exit.count("accepts"), "each connection has one end");
    assert_eq!((exit.count("refused"), exit.count("accept_backoffs")), (0, 0));
    assert_eq!((exit.count("closed_failed"), exit.count("closed_grace")), (0, 0));
    assert_eq!((exit.count("datagrams_out"), exit.count("datagrams_dropped")), (datagrams, 0));
    assert!(exit.count("closed_overflow") >= tally.dropped.load(Relaxed), "dropped without a reason");
    assert!(exit.count("resumes") <= exit.count("pauses"));
}
