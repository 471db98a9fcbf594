//! `reactor bench`: its counters and its output, against servers that keep the protocol and servers that do not.

mod command;
mod counting;
mod tolerance;
mod trouble;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Output};
use std::thread;
use std::time::Duration;

use crate::harness::{Server, process, reactor, scaled};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;

/// Runs `reactor bench KIND ADDR OPTIONS`.
fn bench(kind: &str, addr: SocketAddr, options: &str) -> Output {
    start(kind, &addr.to_string(), options).wait_with_output().expect("wait")
}

fn start(kind: &str, addr: &str, options: &str) -> Child {
    let options: Vec<_> = options.split_whitespace().collect();
    reactor(&[&["bench", kind, addr], &options[..]].concat()).spawn().expect("start reactor bench")
}

/// Returns the figures of a successful run.
#[track_caller]
fn figures(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.is_empty(), "{stderr}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    // Each request has one outcome.
    let sum = |names: &[&str]| names.iter().map(|name| count(&figures, name)).sum::<u64>();
    let outcomes = sum(&["answered", "answered_late", "unanswered", "cut_off"]);
    assert_eq!(sum(&["sent", "unsent"]), outcomes, "{figures}");
    figures
}

/// Ends a run as Ctrl-C does.
fn interrupt(bench: &Child) {
    kill_process(Pid::from_child(bench), Signal::INT).unwrap();
}

/// Returns the number of bytes and datagrams that a server has sent.
fn work(server: &Server) -> u64 {
    server.counter("bytes_out") + server.counter("datagrams_out")
}

#[track_caller]
fn measure(kind: &str, addr: SocketAddr, options: &str) -> Value {
    figures(&bench(kind, addr, &format!("{options} --json")))
}

fn count(figures: &Value, name: &str) -> u64 {
    figures[name].as_u64().unwrap_or_else(|| panic!("no {name} in {figures}"))
}

fn millis(figures: &Value, name: &str) -> f64 {
    figures["latency_us"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {figures}")) / 1e3
}

/// Measures with longer and longer windows until more than `least` requests are answered in one: a busy machine answers
/// few in 200 ms.
///
/// A run is repeated, too, if the processor was withheld from the generator for half of the time in which answers count.
#[track_caller]
fn measure_enough(kind: &str, addr: SocketAddr, options: &str, least: u64) -> Value {
    const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
    scaled(|scale| {
        let duration = Duration::from_millis(200) * scale;
        let options = format!("{options} --duration {}ms --json", duration.as_millis());
        let bench = start(kind, &addr.to_string(), &options);
        waitid(WaitId::Pid(Pid::from_child(&bench)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).expect("waitid");
        let withheld = process::withheld(bench.id());
        let figures = figures(&bench.wait_with_output().expect("wait"));
        assert!((figures["seconds"].as_f64().unwrap() - duration.as_secs_f64()).abs() < 1e-6, "{figures}");
        let was_lossless = count(&figures, "unanswered") == 0;
        let is_valid = count(&figures, "answered") > least && (was_lossless || withheld < ANSWER_TIMEOUT / 2);
        is_valid.then_some(figures)
    })
}

/// Asserts what every run against a healthy server shows.
#[track_caller]
fn assert_sound(figures: &Value) {
    let (sent, answered) = (count(figures, "sent"), count(figures, "answered") + count(figures, "answered_late"));
    assert!(answered > 10, "{figures}");
    assert_eq!(sent, answered, "{figures}");
    for name in ["unanswered", "strays", "error_count"] {
        assert_eq!(count(figures, name), 0, "{figures}");
    }
    let quantiles = ["min", "p50", "p90", "p99", "p99.9", "max"].map(|name| millis(figures, name));
    assert!(quantiles.is_sorted() && quantiles[0] > 0.0, "{figures}");
    let seconds = figures["seconds"].as_f64().unwrap();
    let rate = figures["per_second"].as_f64().unwrap();
    assert!((rate * seconds - count(figures, "answered") as f64).abs() < 1.0, "{figures}");
}

#[track_caller]
fn assert_fails(output: &Output, cause: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains(cause), "{stderr}");
}

/// Starts a server that handles each connection in a thread of its own.
fn serve(answer: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for peer in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            thread::spawn(move || answer(peer));
        }
    });
    addr
}
