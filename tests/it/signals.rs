//! The dispositions and the signal mask that a program inherits.

use std::process::{Child, Command, Stdio};

use crate::harness::client::{Client, accept, listener};
use crate::harness::{PATIENCE, eventually, process, reactor};
use rustix::process::{Pid, Signal, kill_process};

/// Returns a command that runs `shell`, in which `exec "$@"` becomes `reactor ARGS`.
fn through(shell: &str, args: &[&str]) -> Command {
    let inner = reactor(args);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", shell, "sh"]).arg(inner.get_program()).args(inner.get_args()).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).expect("send a signal");
}

/// Waits until a process has handlers: then it has read its dispositions.
fn await_handlers(pid: u32) {
    let handles = |signal: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).map(str::trim);
        caught.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
    };
    // SIGUSR1, which no test here ignores.
    assert!(eventually(PATIENCE, || handles(10)), "no handler");
}

fn exit_code(mut child: Child) -> Option<i32> {
    let mut status = None;
    let ended = eventually(PATIENCE, || {
        status = child.try_wait().expect("wait");
        status.is_some()
    });
    if !ended {
        child.kill().expect("kill");
        panic!("the process does not end");
    }
    status.and_then(|status| status.code())
}

#[test]
fn ignored_signals_stay_ignored() {
    let (listener, peer) = listener();
    let command = through("trap '' HUP INT; exec \"$@\"", &["connect", &peer]);
    let client = Client::spawn(command, Stdio::piped(), Stdio::piped());
    let stream = accept(&listener);
    await_handlers(client.pid());
    for ignored in [Signal::HUP, Signal::INT] {
        client.signal(ignored);
    }
    // Signals of other kinds keep their meaning, and would be second to those.
    client.signal(Signal::TERM);
    assert_eq!(client.wait().code, Some(143));
    drop(stream);

    let server = through("trap '' INT; exec \"$@\"", &["serve", "echo=0"]).spawn().expect("start a shell");
    await_handlers(server.id());
    signal(server.id(), Signal::INT);
    signal(server.id(), Signal::TERM);
    // A second signal would end the server with status 1.
    assert_eq!(exit_code(server), Some(0));
}

#[test]
fn blocked_signals_are_unblocked() {
    let probe = Command::new("env").args(["--block-signal=TERM", "true"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        // This env(1) cannot block signals.
        return;
    }
    let shell = "exec env --block-signal=TERM,INT,USR1 \"$@\"";
    let server = through(shell, &["serve", "echo=0"]).spawn().expect("start a shell");
    await_handlers(server.id());
    assert_eq!(process::threads(server.id()), 1);
    signal(server.id(), Signal::TERM);
    assert_eq!(exit_code(server), Some(0));
}
