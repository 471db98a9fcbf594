//! Wrong usage: one line that names the argument, and exit status 2.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::unix::ffi::OsStringExt;

use super::fails;
use crate::harness::{PATIENCE, eventually, reactor};
use reactor::services::SERVICES;

#[test]
fn wrong_usage_is_one_line_and_status_2() {
    let long = "9".repeat(10_000);
    let huge = "18446744073709551616";
    let cases: &[&[&str]] = &[
        &["serve", "no-such-service"],
        &["serve", "no-such-service=7007"],
        &["serve", ""],
        &["serve", "=7007"],
        &["serve", "echo="],
        &["serve", "echo=x"],
        &["serve", "echo=:"],
        &["serve", "echo=host:"],
        &["serve", "echo=65536"],
        &["serve", "echo=127.0.0.1:65536"],
        &["serve", &format!("echo={huge}")],
        &["serve", &format!("echo=127.0.0.1:{huge}")],
        &["serve", &format!("echo={long}")],
        &["serve", "echo=-1"],
        &["serve", "echo=127.0.0.1:-1"],
        &["serve", "echo=256.0.0.1:7007"],
        &["serve", "echo=::1:7007"],
        &["serve", "echo=[::1]"],
        &["serve", "echo=[::g]:7007"],
        &["serve", "echo=[fe80::1%]:7007"],
        &["serve", "echo=[fe80::1%no-such-interface]:7007"],
        &["serve", "echo=a b:7007"],
        &["serve", "echo=7007=7008"],
        &["serve", "echo=127.0.0.1:0\necho=0"],
        &["serve", "--no-such-option"],
        &["serve", "-1"],
        &["serve", "-x"],
        &["serve", "--backlog"],
        &["serve", "--backlog", "many"],
        &["serve", "--backlog", "-1"],
        &["serve", "--backlog=-1"],
        &["serve", "--backlog", huge],
        &["serve", "--backlog", "1.5"],
        &["serve", "--backlog", ""],
        &["serve", "--max-connections=-1"],
        &["serve", "--max-connections", huge],
        &["serve", "--read-timeout", "1"],
        &["serve", "--read-timeout", "soon"],
        &["serve", "--read-timeout=-1s"],
        &["serve", "--write-timeout", &format!("{huge}s")],
        &["serve", "--idle-timeout", &format!("{huge}ms")],
        &["serve", "--idle-timeout", &format!("{long}h")],
        &["serve", "--grace", "5"],
        &["serve", "--grace", "5 s"],
        &["serve", "--high-water", "0"],
        &["serve", "--high-water", huge],
        &["serve", "--high-water", "16777216TiB"],
        &["serve", "--high-water", "18446744073709551615KiB"],
        &["serve", "--high-water=-1"],
        &["serve", "--low-water", "64KiB"],
        &["serve", "--low-water", "65537"],
        &["serve", "--high-water", "1KiB", "--low-water", "1KiB"],
        &["serve", "--high-water", "1KiB", "--low-water", "1025"],
        &["serve", "--send-buffer", "big"],
        &["serve", "--recv-buffer=-1"],
        &["serve", "--reuse-port=yes"],
        &["serve", "--ledger", "xml"],
        &["serve", "--ledger"],
        &["serve", "--log", "loud"],
        &["--log"],
        &["--no-such-option"],
        &["no-such-command"],
        &[""],
        &["-1"],
    ];
    for args in cases {
        fails(2, args);
    }
}

#[test]
fn an_argument_that_is_not_text_is_wrong_usage() {
    let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let [serve, backlog] = ["serve", "--backlog"].map(OsString::from);
    fails(2, &[bytes(b"\xff")]);
    fails(2, &[serve.clone(), bytes(b"\xff\xfe")]);
    fails(2, &[serve.clone(), bytes(b"echo=127.0.0.1\xff:0")]);
    fails(2, &[serve.clone(), bytes(b"--\xc3\x28")]);
    fails(2, &[serve.clone(), backlog, bytes(b"1\xff")]);
    fails(2, &[serve, bytes(b"--log=\xff")]);
}

#[test]
fn an_error_names_the_wrong_argument() {
    let line = fails(2, &["serve", "ehco"]);
    assert!(line.contains("ehco") && SERVICES.iter().all(|entry| line.contains(entry.name)), "{line}");
    assert!(fails(2, &["serve", "echo=65536"]).contains("65536"));
    assert!(fails(2, &["serve", "--backlog", "many"]).contains("many"));
    assert!(fails(2, &["serve", "--no-such-option"]).contains("--no-such-option"));
    let line = fails(2, &["serve", "--high-water", "1KiB", "--low-water", "2KiB"]);
    assert!(line.contains("--low-water") && line.contains("--high-water"), "{line}");
}

#[test]
fn two_services_at_one_address_are_wrong_usage() {
    for [one, other] in [
        ["echo=7", "discard=7"],
        ["echo=7", "echo=7"],
        ["echo=7", "time=127.0.0.1:7"],
        ["echo=:7", "time=127.0.0.1:7"],
        ["echo=127.0.0.1:7", "time=0.0.0.0:7"],
        ["echo=[::]:7", "time=[::1]:7"],
        ["echo=:7", "time=:7"],
        ["echo=localhost:7", "time=127.0.0.1:7"],
        ["echo-udp=7", "echo-udp=:7"],
    ] {
        let line = fails(2, &["serve", one, other]);
        let names = [one, other].map(|spec| spec.split('=').next().unwrap());
        assert!(names.iter().all(|name| line.contains(name)), "{line}");
    }
}

#[test]
fn services_may_share_a_port_where_the_kernel_permits_it() {
    // The port is free over UDP. Another process may have it over TCP, or take it meanwhile: then another port will do.
    let started = eventually(PATIENCE, || {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let output = |specs: &[String]| {
            let mut child = reactor(&["serve"]).args(specs).spawn().unwrap();
            let mut line = String::new();
            let _ = BufReader::new(child.stdout.take().unwrap()).read_line(&mut line);
            let _ = child.kill();
            let status = child.wait().unwrap();
            assert_ne!(status.code(), Some(2), "{specs:?} counted as wrong usage");
            line.starts_with("listening")
        };
        output(&[format!("echo={free}"), format!("echo-udp={free}")])
            && output(&[format!("echo={free}"), format!("discard=127.0.0.2:{free}")])
            && output(&[format!("echo=0.0.0.0:{free}"), format!("discard=[::1]:{free}")])
    });
    assert!(started, "services at different addresses do not start together");
}
