//! The command line as scripts see it: exit statuses, one line for each error, and the right stream for each output.

mod addresses;
mod descriptors;
mod failing;
mod help;
mod log;
mod usage;

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::channel;
use std::thread;

use crate::harness::{PATIENCE, eventually, reactor};
use rustix::process::{Pid, Signal, kill_process};

/// The end of a command.
#[derive(Debug)]
struct Output {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// Runs a command to its end. A command that does not end by itself fails the test.
fn run(mut command: Command) -> Output {
    let mut child = command.spawn().expect("start");
    let read = |mut from: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut text = Vec::new();
            from.read_to_end(&mut text).map(|_| String::from_utf8(text).expect("UTF-8"))
        })
    };
    let stdout = child.stdout.take().map(|pipe| read(Box::new(pipe)));
    let stderr = child.stderr.take().map(|pipe| read(Box::new(pipe)));
    let ended = eventually(PATIENCE, || child.try_wait().expect("wait").is_some());
    if !ended {
        let _ = child.kill();
    }
    let status = child.wait().expect("wait");
    let text = |reader: Option<thread::JoinHandle<io::Result<String>>>| {
        reader.map_or_else(String::new, |reader| reader.join().unwrap().expect("read"))
    };
    let output = Output { status, stdout: text(stdout), stderr: text(stderr) };
    assert!(ended, "no end: {command:?}: {output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
    output
}

/// Runs `reactor ARGS`, which must fail with `status` and one line. Returns the line.
fn fails(status: i32, args: &[impl AsRef<OsStr>]) -> String {
    let mut command = reactor(&[]);
    command.args(args);
    assert_failed(status, run(command))
}

fn assert_failed(status: i32, output: Output) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert_eq!(output.stdout, "", "{output:?}");
    assert!(output.stderr.starts_with("error: "), "{output:?}");
    assert!(output.stderr.ends_with('\n') && output.stderr.lines().count() == 1, "{output:?}");
    output.stderr.trim_end().to_owned()
}

/// Runs `reactor ARGS`, which must succeed with an empty standard error. Returns its standard output.
fn succeeds(args: &[&str]) -> String {
    let output = run(reactor(args));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stderr, "", "{output:?}");
    output.stdout
}

/// Starts a server, reads its lines until it is ready, calls `visit` with the lines, and stops it. Returns the lines and its
/// standard error.
fn serve(command: Command, visit: impl FnOnce(&[String])) -> (Vec<String>, String) {
    serve_process(command, |_, lines| visit(lines))
}

/// Does the same for a `visit` that also needs the number of the process.
fn serve_process(mut command: Command, visit: impl FnOnce(u32, &[String])) -> (Vec<String>, String) {
    let mut child = command.spawn().expect("start");
    let mut stderr = child.stderr.take().expect("piped");
    let stderr = thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).map(|_| text)
    });
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    let (sender, printed) = channel();
    let stdout = thread::spawn(move || {
        for line in stdout.lines() {
            let _ = sender.send(line.expect("UTF-8"));
        }
    });
    let mut lines: Vec<String> = Vec::new();
    while lines.last().is_none_or(|line| line != "ready") {
        match printed.recv_timeout(PATIENCE) {
            Ok(line) => lines.push(line),
            Err(error) => {
                let _ = child.kill();
                child.wait().expect("wait");
                panic!("the server did not start ({error}): {lines:?} {:?}", stderr.join());
            }
        }
    }
    visit(child.id(), &lines);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("send a signal");
    let ended = eventually(PATIENCE, || child.try_wait().expect("wait").is_some());
    if !ended {
        let _ = child.kill();
    }
    assert_eq!(child.wait().expect("wait").code(), Some(0));
    assert!(ended, "the server does not stop");
    stdout.join().unwrap();
    assert_eq!(printed.try_iter().collect::<Vec<_>>(), Vec::<String>::new(), "lines after `ready`");
    (lines, stderr.join().unwrap().expect("read"))
}

/// Returns the address in a line `listening SERVICE tcp|udp ADDR`.
fn address(line: &str) -> SocketAddr {
    line.rsplit(' ').next().unwrap().parse().expect("an address")
}
