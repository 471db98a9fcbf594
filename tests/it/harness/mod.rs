//! Starts the real binary on free ports, exchanges bytes with it, stops it and inspects its exit.
//!
//! Owns: processes, sockets and clocks of the tests. Must not know: what any single test proves.
//!
//! Invariants:
//! 1. Every wait has an end: a test that would hang fails instead.
//! 2. No address is used after it was given back: other tests may have it by then ([`addresses`]).
//! 3. Upper bounds count only the time in which the tested process could run ([`process::Stopwatch`]).
//! 4. Children have the default actions of signals, whatever the test program has inherited.
#![allow(dead_code, missing_docs, unused_imports)]

pub mod addresses;
pub mod client;
pub mod conversation;
pub mod directory;
pub mod process;
pub mod server;
pub mod spy;
pub mod streams;

use std::process::{Command, Stdio};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

pub use self::server::{Exit, Server, example};
pub use self::streams::{client, exchange, fill_up, pattern, read_all, reset, take};

/// Longer than anything in these tests takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Returns the command `reactor ARGS` with captured output, unaffected by the environment's log level and colours.
pub fn reactor(args: &[&str]) -> Command {
    handle_ignored_signals();
    let mut command = Command::new(env!("CARGO_BIN_EXE_reactor"));
    command.args(args).env_remove("RUST_LOG").env_remove("NO_COLOR");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Gives the default actions of signals to children of a test program that ignores them, below nohup(1) or in the
/// background of a shell. The server rightly leaves an ignored signal ignored.
///
/// execve(2) keeps an ignored signal ignored, and resets a handled one. The handlers have no other effect.
fn handle_ignored_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        for signal in [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2] {
            if mask >> (signal - 1) & 1 == 1 {
                signal_hook::flag::register(signal, Arc::default()).expect("a handler");
            }
        }
    });
}

/// Polls until `condition` holds, for at most `patience`. Returns false if time ran out.
pub fn eventually(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > patience {
            return false;
        }
        pause();
    }
}

/// Waits for one millisecond between two polls of something that another process changes.
fn pause() {
    thread::park_timeout(Duration::from_millis(1));
}

/// Lets `span` pass as a part of the scenario, and not as a wait for an event.
pub fn hold(span: Duration) {
    let start = Instant::now();
    while let Some(rest) = span.checked_sub(start.elapsed()).filter(|rest| !rest.is_zero()) {
        thread::park_timeout(rest);
    }
}

/// Runs `attempt` with the scales 1, 2, 4 … until it returns a value.
///
/// For scenarios in which the test itself must act before a timeout of the server. The scenario multiplies its times by
/// the scale. It returns `None` if the machine withheld the processor for longer than those times allow, because its
/// outcome proves nothing then.
#[track_caller]
pub fn scaled<T>(mut attempt: impl FnMut(u32) -> Option<T>) -> T {
    const SCALES: [u32; 6] = [1, 2, 4, 8, 16, 32];
    let outcome = SCALES.into_iter().find_map(&mut attempt);
    outcome.expect("the machine withheld the processor in every attempt")
}
