//! The examples that build on the crate and are no service of `reactor serve`.

mod clients;
mod proxy;
mod reliable_udp;
mod resp;
mod socks5;
mod tls;

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::thread;

use crate::harness::{PATIENCE, Server, eventually, example, read_all};
use rustix::process::Signal;

/// The SHA-256 of no bytes (FIPS 180-4, as every implementation lists it).
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Makes a folder of this process for temporary files.
fn tempfolder(name: &str) -> String {
    let folder = format!("{}/{name}-{}", std::env::temp_dir().display(), std::process::id());
    fs::create_dir(&folder).unwrap();
    folder
}

#[test]
fn programs_refuse_wrong_arguments() {
    let calls: [&[&str]; 14] = [
        &["proxy"],
        &["proxy", "127.0.0.1:0"],
        &["proxy", "127.0.0.1:0", "nowhere"],
        &["proxy_blocking", "127.0.0.1:0"],
        &["reliable_udp", "serve"],
        &["reliable_udp", "ping", "127.0.0.1:1"],
        &["reliable_udp", "ping", "127.0.0.1:1", "-1"],
        &["resp"],
        &["resp", "6379x"],
        &["resp", "127.0.0.1:0", "more"],
        &["socks5"],
        &["socks5", "localhost"],
        &["tls", "127.0.0.1:0", "cert.pem"],
        &["tls", "localhost", "cert.pem", "key.pem"],
    ];
    for call in calls {
        let output = example(call[0], &call[1..]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{call:?}: {text}");
        assert!(text.starts_with(&format!("usage: {} ", call[0])) && text.lines().count() == 1, "{call:?}: {text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn offload_answers_each_line_in_order() {
    let server = Server::example("offload", "127.0.0.1:0", 1);
    let path = format!("{}/target-offload-{}", std::env::temp_dir().display(), std::process::id());
    fs::write(&path, b"").unwrap();
    let mut peer = server.connect("offload");
    let lines = format!("{path}\n/no/such/file\n{path}\r\n");
    peer.write_all(lines.as_bytes()).unwrap();
    // The answers are under way when the FIN arrives.
    peer.shutdown(Shutdown::Write).unwrap();
    let answer = String::from_utf8(read_all(&mut peer)).unwrap();
    fs::remove_file(&path).unwrap();
    let answers: Vec<_> = answer.lines().collect();
    assert_eq!(answers.len(), 3, "{answer}");
    assert_eq!(answers[0], format!("{EMPTY}  {path}"));
    assert!(answers[1].starts_with("error: /no/such/file: No such file"), "{answer}");
    assert_eq!(answers[2], answers[0]);
    server.signal(Signal::TERM);
    assert!(server.wait().status.success());
}

/// Returns the answers of `server` to `lines`, which are sent in one write with a FIN behind them.
fn answers(server: &Server, lines: &[u8]) -> Vec<String> {
    let mut peer = server.connect("offload");
    peer.write_all(lines).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let answers = String::from_utf8_lossy(&read_all(&mut peer)).into_owned();
    answers.lines().map(str::to_owned).collect()
}

#[test]
fn offload_keeps_the_order_of_a_large_and_a_small_file() {
    let server = Server::example("offload", "127.0.0.1:0", 1);
    let folder = tempfolder("offload-order");
    let (large, small, odd) = (format!("{folder}/large"), format!("{folder}/small"), b"/\xff name ".as_slice());
    // NIST's long message: a million times the letter a.
    fs::write(&large, vec![b'a'; 1_000_000]).unwrap();
    fs::write(&small, b"abc").unwrap();
    let odd = [folder.as_bytes(), odd].concat();
    fs::write(std::ffi::OsStr::from_bytes(&odd), b"").unwrap();
    let lines = [large.as_bytes(), b"\n", small.as_bytes(), b"\n", &odd, b"\n"].concat();
    let answers = answers(&server, &lines);
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(answers[0], format!("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0  {large}"));
    assert_eq!(answers[1], format!("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  {small}"));
    assert!(answers[2].starts_with(EMPTY), "{answers:?}");
    assert_eq!(answers.len(), 3);
}

#[test]
fn offload_reports_a_directory_and_a_missing_file() {
    let server = Server::example("offload", "127.0.0.1:0", 1);
    let answers = answers(&server, b"/\n/no/such/file\n\n/dev/null\n");
    assert!(answers[0].starts_with("error: /: Is a directory"), "{answers:?}");
    assert!(answers[1].starts_with("error: /no/such/file: No such file"), "{answers:?}");
    assert!(answers[2].starts_with("error: : No such file"), "{answers:?}");
    assert_eq!(answers[3..], [format!("{EMPTY}  /dev/null")]);
}

#[test]
fn offload_answers_a_thousand_lines_of_one_write() {
    let server = Server::example("offload", "127.0.0.1:0", 1);
    let lines: String = (0..1000).map(|n| format!("/dev/null/{n}\n")).collect();
    let answers = answers(&server, lines.as_bytes());
    for (n, answer) in answers.iter().enumerate() {
        assert!(answer.starts_with(&format!("error: /dev/null/{n}: Not a directory")), "{answer}");
    }
    assert_eq!(answers.len(), 1000);
}

#[test]
fn offload_serves_others_while_a_file_never_ends() {
    let server = Server::example("offload", "127.0.0.1:0", 1);
    // A FIFO blocks the thread that opens it (fifo(7)).
    let fifo = format!("{}/offload-fifo-{}", std::env::temp_dir().display(), std::process::id());
    rustix::fs::mknodat(rustix::fs::CWD, &*fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut blocked = server.connect("offload");
    blocked.write_all(format!("{fifo}\n").as_bytes()).unwrap();
    let mut served = server.connect("offload");
    served.write_all(b"/dev/null\n").unwrap();
    let mut answer = [0; EMPTY.len()];
    served.read_exact(&mut answer).unwrap();
    assert_eq!(std::str::from_utf8(&answer).unwrap(), EMPTY);
    // A writer ends the file.
    fs::write(&fifo, b"").unwrap();
    blocked.read_exact(&mut answer).unwrap();
    fs::remove_file(&fifo).unwrap();
}

#[test]
fn offload_ends_a_line_that_is_too_long() {
    let server = Server::example("offload", "127.0.0.1:0", 1);
    let mut peer = server.connect("offload");
    peer.write_all(&[b'x'; 5000]).unwrap();
    assert_eq!(read_all(&mut peer), b"error: the line is too long\n");
}

#[test]
fn per_core_serves_on_every_loop_and_stops_all_of_them() {
    let server = Server::example("per_core", "127.0.0.1:0", 1);
    thread::scope(|scope| {
        for n in 0..64 {
            let server = &server;
            scope.spawn(move || {
                let mut peer = server.connect("per_core");
                let text = format!("connection {n}");
                peer.write_all(text.as_bytes()).unwrap();
                peer.shutdown(Shutdown::Write).unwrap();
                assert_eq!(read_all(&mut peer), text.as_bytes());
            });
        }
    });
    server.signal(Signal::TERM);
    assert!(eventually(PATIENCE, || server.log().contains("loop 0: ")), "{}", server.log());
    let exit = server.wait();
    assert!(exit.status.success());
}
