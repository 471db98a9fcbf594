//! Addresses that cannot be used: one line with the address and the cause, and exit status 1.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};

use super::{assert_failed, fails, run};

#[test]
fn a_port_in_use_is_an_error_with_its_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let line = fails(1, &["serve", &format!("echo={addr}")]);
    assert_eq!(line, format!("error: echo: cannot listen on {addr}: Address already in use"));
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let line = fails(1, &["serve", "time=0", &format!("echo-udp={addr}")]);
    assert_eq!(line, format!("error: echo-udp: cannot listen on {addr}: Address already in use"));
}

#[test]
fn an_address_of_another_host_is_an_error_with_the_address() {
    for service in ["echo", "echo-udp"] {
        let line = fails(1, &["serve", &format!("{service}=192.0.2.1:0")]);
        let expected = format!("error: {service}: cannot listen on 192.0.2.1:0: Cannot assign requested address");
        assert!(line.starts_with(&expected), "{line}");
    }
}

#[test]
fn an_unknown_name_is_an_error() {
    for args in [["serve", "echo=no-such-host.invalid:0"].as_slice(), &["bench", "echo", "no-such-host.invalid:7"]] {
        let line = fails(1, args);
        assert!(line.starts_with("error: echo: cannot resolve no-such-host.invalid: "), "{line}");
    }
}

#[test]
fn a_privileged_port_is_an_error_with_a_remedy() {
    let sysctl = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let first: u16 = fs::read_to_string(sysctl).map_or(1024, |text| text.trim().parse().unwrap());
    let unprivileged = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_reactor")]);
        command.args(args).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let able = unprivileged(&["--version"]).output().is_ok_and(|output| output.status.success());
    if !able || first < 81 {
        eprintln!("skipped: cannot change the user here, or every port is unprivileged");
        return;
    }
    let line = assert_failed(1, run(unprivileged(&["serve", "echo=80"])));
    let expected = "error: echo: cannot listen on 127.0.0.1:80: Permission denied (";
    assert!(line.starts_with(expected) && line.contains("1024"), "{line}");
}
