//! The lines of a server on standard output: its addresses, then `ready`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use super::{address, serve};
use crate::harness::process::{Table, bound_port};
use crate::harness::{PATIENCE, client, eventually, exchange, reactor};
use reactor::services::SERVICES;
use rustix::process::{Pid, Signal, kill_process};

/// Returns the address at which `reactor serve` listens for the argument `given`.
fn address_of(given: &str) -> SocketAddr {
    let mut found = None;
    let command = reactor(&["serve", &format!("echo={given}")]);
    serve(command, |lines| {
        let addr = address(&lines[0]);
        let reachable = if addr.ip().is_unspecified() { (Ipv4Addr::LOCALHOST, addr.port()).into() } else { addr };
        assert_eq!(exchange(&mut client(reachable), b"hello"), b"hello", "at {addr}");
        found = Some(addr);
    });
    found.unwrap()
}

#[test]
fn every_service_prints_its_address_before_the_line_ready() {
    let specs: Vec<_> = SERVICES.iter().map(|entry| format!("{}=0", entry.name)).collect();
    let mut command = reactor(&["serve"]);
    command.args(&specs);
    let (lines, _) = serve(command, |_| {});
    assert_eq!(lines.len(), SERVICES.len() + 1, "{lines:?}");
    for (entry, line) in SERVICES.iter().zip(&lines) {
        let addr = address(line);
        assert_eq!(*line, format!("listening {} {} {addr}", entry.name, entry.make.transport()));
        assert_eq!(addr.ip(), Ipv4Addr::LOCALHOST);
        assert_ne!(addr.port(), 0);
    }
    assert_eq!(lines.last().unwrap(), "ready");
}

#[test]
fn every_service_is_served_at_its_default_address_without_arguments() {
    // Other processes may have the default ports. A network namespace of its own has them free.
    let isolated = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script, env!("CARGO_BIN_EXE_reactor")]).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let able = isolated("ip link set lo up").output().is_ok_and(|output| output.status.success());
    if !able {
        eprintln!("skipped: cannot make a network namespace here");
        return;
    }
    let defaults = [
        "echo tcp 127.0.0.1:7007",
        "echo-udp udp 127.0.0.1:7007",
        "print-udp udp 127.0.0.1:7015",
        "discard tcp 127.0.0.1:7009",
        "time tcp 127.0.0.1:7013",
        "idle tcp 127.0.0.1:7014",
        "chat tcp 127.0.0.1:8000",
        "chat-raw tcp 127.0.0.1:8001",
        "chat-hub tcp 127.0.0.1:8002",
        "http tcp 127.0.0.1:8080",
    ];
    for script in ["ip link set lo up && exec \"$0\"", "ip link set lo up && exec \"$0\" serve"] {
        let (mut lines, _) = serve(isolated(script), |_| {});
        assert_eq!(lines.pop().unwrap(), "ready", "{script}");
        assert_eq!(lines.len(), SERVICES.len(), "{script}: {lines:?}");
        for line in lines {
            let at = line.strip_prefix("listening ").unwrap_or(&line);
            assert!(defaults.contains(&at), "{script}: {line}");
        }
    }
}

#[test]
fn a_service_may_be_given_more_than_once() {
    let (lines, _) = serve(reactor(&["serve", "echo=0", "echo=0", "echo=[::1]:0"]), |lines| {
        for line in &lines[..3] {
            assert_eq!(exchange(&mut client(address(line)), b"hello"), b"hello");
        }
    });
    assert_eq!(lines.len(), 4, "{lines:?}");
}

#[test]
fn addresses_have_the_usual_short_forms() {
    assert_eq!(address_of("0").ip(), Ipv4Addr::LOCALHOST);
    assert!(address_of(":0").ip().is_unspecified());
    assert_eq!(address_of("127.0.0.2:0").ip(), Ipv4Addr::new(127, 0, 0, 2));
    assert_eq!(address_of("0.0.0.0:0").ip(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(address_of("[::1]:0").to_string().split_once("]:").unwrap().0, "[::1");
    assert!(address_of("localhost:0").ip().is_loopback());
}

#[test]
fn a_server_at_every_interface_is_reached_by_both_families() {
    serve(reactor(&["serve", "echo=:0"]), |lines| {
        let port = address(&lines[0]).port();
        for host in ["127.0.0.1", "127.0.0.2", "[::1]"] {
            let addr = format!("{host}:{port}").parse().unwrap();
            assert_eq!(exchange(&mut client(addr), b"hello"), b"hello", "{host}");
        }
    });
}

#[test]
fn a_closed_standard_output_does_not_stop_a_server() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut child = reactor(&["serve", "echo=0"]).stdout(writer).spawn().unwrap();
    let mut addr = None;
    let listens = eventually(PATIENCE, || {
        addr = bound_port(child.id(), Table::Tcp);
        addr.is_some()
    });
    assert!(listens, "the server does not listen");
    // The loop answers, which begins after the lines could not be printed.
    assert_eq!(exchange(&mut client(addr.unwrap()), b"hello"), b"hello");
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), Signal::TERM).unwrap();
    assert!(eventually(PATIENCE, || child.try_wait().unwrap().is_some()), "the server does not stop");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
