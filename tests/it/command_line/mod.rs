//! The command line as scripts see it: exit statuses, one line for each error, and what goes to which stream.

mod descriptors;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use crate::harness::{PATIENCE, client, eventually, exchange, reactor};
use reactor::services::SERVICES;
use rustix::process::{Pid, Signal, kill_process};

/// What a command that ends by itself has left.
#[derive(Debug)]
struct Output {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// Runs a command to its end; one that goes on instead is a failure.
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
    assert!(ended, "it goes on: {command:?}: {output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
    output
}

/// Runs `reactor ARGS`, which must fail with `status` and one line; returns the line.
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

/// Runs `reactor ARGS`, which must succeed and say nothing on standard error; returns its standard output.
fn succeeds(args: &[&str]) -> String {
    let output = run(reactor(args));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stderr, "", "{output:?}");
    output.stdout
}

/// Starts a server, reads what it prints until it is ready, lets `visit` talk to it, stops it; returns the lines that it
/// has printed and what it has written on standard error.
fn serve(mut command: Command, visit: impl FnOnce(&[String])) -> (Vec<String>, String) {
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
                panic!("it did not start ({error}): {lines:?} {:?}", stderr.join());
            }
        }
    }
    visit(&lines);
    let pid = Pid::from_raw(child.id() as i32).expect("a pid");
    kill_process(pid, Signal::TERM).expect("send a signal");
    let ended = eventually(PATIENCE, || child.try_wait().expect("wait").is_some());
    if !ended {
        let _ = child.kill();
    }
    assert_eq!(child.wait().expect("wait").code(), Some(0));
    assert!(ended, "the server does not stop");
    stdout.join().unwrap();
    assert_eq!(printed.try_iter().collect::<Vec<_>>(), Vec::<String>::new(), "results after `ready`");
    (lines, stderr.join().unwrap().expect("read"))
}

/// The address in a line `listening SERVICE tcp|udp ADDR`.
fn address(line: &str) -> SocketAddr {
    line.rsplit(' ').next().unwrap().parse().expect("an address")
}

/// `serve` of one TCP service at `address`: the real address.
fn address_of(address_given: &str) -> SocketAddr {
    let mut found = None;
    let command = reactor(&["serve", &format!("echo={address_given}")]);
    serve(command, |lines| {
        let addr = address(&lines[0]);
        let reachable = if addr.ip().is_unspecified() { (Ipv4Addr::LOCALHOST, addr.port()).into() } else { addr };
        assert_eq!(exchange(&mut client(reachable), b"hello"), b"hello", "at {addr}");
        found = Some(addr);
    });
    found.unwrap()
}

// What fails at run time.

#[test]
fn a_port_in_use_is_told_with_its_address() {
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
fn an_address_of_another_host_is_told_with_a_remedy() {
    for service in ["echo", "echo-udp"] {
        let line = fails(1, &["serve", &format!("{service}=192.0.2.1:0")]);
        let expected = format!("error: {service}: cannot listen on 192.0.2.1:0: Cannot assign requested address");
        assert!(line.starts_with(&expected), "{line}");
    }
}

#[test]
fn a_name_that_nobody_knows_is_told() {
    let line = fails(1, &["serve", "echo=no-such-host.invalid:0"]);
    assert!(line.starts_with("error: echo: cannot resolve no-such-host.invalid: "), "{line}");
}

#[test]
fn a_privileged_port_is_told_with_a_remedy() {
    let sysctl = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let first: u16 = fs::read_to_string(sysctl).map_or(1024, |text| text.trim().parse().unwrap());
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_reactor")]);
        command.args(args).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let able = as_nobody(&["--version"]).output().is_ok_and(|output| output.status.success());
    if !able || first < 81 {
        eprintln!("skipped: cannot become nobody here, or every port is free for all");
        return;
    }
    let line = assert_failed(1, run(as_nobody(&["serve", "echo=80"])));
    let expected = "error: echo: cannot listen on 127.0.0.1:80: Permission denied (";
    assert!(line.starts_with(expected) && line.contains("1024"), "{line}");
}

// What is wrong usage.

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
fn a_message_names_what_was_wrong() {
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
fn services_may_share_a_port_where_the_kernel_lets_them() {
    // A free port of both transports; if somebody takes it meanwhile, there are others.
    let started = eventually(PATIENCE, || {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let output = |specs: &[String]| {
            let mut child = reactor(&["serve"]).args(specs).spawn().unwrap();
            let mut line = String::new();
            let _ = BufReader::new(child.stdout.take().unwrap()).read_line(&mut line);
            let _ = child.kill();
            let status = child.wait().unwrap();
            assert_ne!(status.code(), Some(2), "{specs:?} was called wrong usage");
            line.starts_with("listening")
        };
        output(&[format!("echo={free}"), format!("echo-udp={free}")])
            && output(&[format!("echo={free}"), format!("discard=127.0.0.2:{free}")])
            && output(&[format!("echo=0.0.0.0:{free}"), format!("discard=[::1]:{free}")])
    });
    assert!(started, "services that are not in each other's way do not start together");
}

// Help.

#[test]
fn help_and_version_go_to_standard_output() {
    for args in [&["--help"][..], &["serve", "--help"]] {
        let help = succeeds(args);
        for entry in SERVICES {
            assert!(help.contains(entry.name) && help.contains(entry.about), "{args:?}: {}: {help}", entry.name);
            assert!(help.contains(&entry.port.to_string()), "{args:?}: {}: {help}", entry.port);
        }
        assert!(help.contains("Examples:"), "{args:?}: {help}");
        assert!(!help.contains('\u{1b}'), "escape codes in a pipe: {help}");
    }
    for args in [["--help"].as_slice(), &["-h"], &["serve", "-h"], &["help"], &["help", "serve"]] {
        assert!(succeeds(args).contains("Usage:"), "{args:?}");
    }
    for option in [
        "--backlog",
        "--max-connections",
        "--read-timeout",
        "--write-timeout",
        "--idle-timeout",
        "--high-water",
        "--low-water",
        "--grace",
        "--send-buffer",
        "--recv-buffer",
        "--reuse-port",
        "--ledger",
        "--log",
    ] {
        assert!(succeeds(&["serve", "--help"]).contains(option), "{option}");
    }
    for args in [["--version"].as_slice(), &["-V"], &["serve", "--version"]] {
        assert!(succeeds(args).ends_with(concat!(env!("CARGO_PKG_VERSION"), "\n")), "{args:?}");
    }
}

#[test]
fn a_reader_who_has_gone_away_is_no_reason_to_panic() {
    for args in [&["--help"][..], &["serve", "--help"], &["--version"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut command = reactor(args);
        command.stdout(writer);
        let output = run(command);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(output.stderr, "", "{output:?}");
    }
    // A disk that is full has not gone away: the user has not got the help.
    for args in [&["--help"][..], &["serve", "--help"], &["--version"]] {
        let mut command = reactor(args);
        command.stdout(fs::OpenOptions::new().write(true).open("/dev/full").expect("open"));
        let line = assert_failed(1, run(command));
        assert_eq!(line, "error: cannot write to standard output: No space left on device");
    }
    // The same with standard error, where an error should go.
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut command = reactor(&["serve", "no-such-service"]);
    command.stderr(writer);
    assert_eq!(run(command).status.code(), Some(2));
}

// What a server prints.

#[test]
fn every_service_says_where_it_listens_and_then_that_it_is_ready() {
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
fn without_arguments_everything_is_served_at_its_default_address() {
    // The default ports may be taken; in a network of its own they are not.
    let alone = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script, env!("CARGO_BIN_EXE_reactor")]).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let able = alone("ip link set lo up").output().is_ok_and(|output| output.status.success());
    if !able {
        eprintln!("skipped: cannot make a network here");
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
        let (mut lines, _) = serve(alone(script), |_| {});
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
fn addresses_are_written_as_everywhere_else() {
    assert_eq!(address_of("0").ip(), Ipv4Addr::LOCALHOST);
    assert!(address_of(":0").ip().is_unspecified());
    assert_eq!(address_of("127.0.0.2:0").ip(), Ipv4Addr::new(127, 0, 0, 2));
    assert_eq!(address_of("0.0.0.0:0").ip(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(address_of("[::1]:0").to_string().split_once("]:").unwrap().0, "[::1");
    assert!(address_of("localhost:0").ip().is_loopback());
}

#[test]
fn every_interface_is_reached_by_both_families() {
    serve(reactor(&["serve", "echo=:0"]), |lines| {
        let port = address(&lines[0]).port();
        for host in ["127.0.0.1", "127.0.0.2", "[::1]"] {
            let addr = format!("{host}:{port}").parse().unwrap();
            assert_eq!(exchange(&mut client(addr), b"hello"), b"hello", "{host}");
        }
    });
}

/// Where a process listens on TCP, if it does; for one that cannot say it.
fn listens_at(pid: u32) -> Option<SocketAddr> {
    let held = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let held: Vec<_> = held.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    let table = fs::read_to_string("/proc/net/tcp").expect("procfs");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut mine = rows.filter(|row| held.iter().any(|file| file.as_os_str() == &*format!("socket:[{}]", row[9])));
    let row = mine.find(|row| row[3] == "0A")?;
    let port = row[1].split_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    Some((Ipv4Addr::LOCALHOST, port.expect("a port")).into())
}

#[test]
fn a_closed_standard_output_does_not_stop_a_server() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut child = reactor(&["serve", "echo=0"]).stdout(writer).spawn().unwrap();
    let mut addr = None;
    let listens = eventually(PATIENCE, || {
        addr = listens_at(child.id());
        addr.is_some()
    });
    assert!(listens, "it does not listen");
    // It is answered by the loop, which begins when the lines have been printed in vain.
    assert_eq!(exchange(&mut client(addr.unwrap()), b"hello"), b"hello");
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), Signal::TERM).unwrap();
    assert!(eventually(PATIENCE, || child.try_wait().unwrap().is_some()), "the server does not stop");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

// The ledger and the log.

/// Starts a server with `args` and `env`, has one echo, stops it; returns its standard error.
fn stderr_of(args: &[&str], env: &[(&str, &str)]) -> String {
    let mut command = reactor(&["serve", "echo=0"]);
    command.args(args).envs(env.iter().copied()).env_remove("CLICOLOR").env_remove("FORCE_COLOR");
    let (_, stderr) = serve(command, |lines| {
        let mut peer = client(address(&lines[0]));
        for _ in 0..3 {
            assert_eq!(exchange(&mut peer, b"hello"), b"hello");
        }
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    });
    stderr
}

#[test]
fn the_ledger_is_text_json_or_nothing() {
    for args in [&["--log", "error"][..], &["--log", "error", "--ledger", "text"]] {
        let text = stderr_of(args, &[]);
        assert!(text.starts_with("ledger:\n"), "{text}");
        let accepts = text.lines().find(|line| line.trim_start().starts_with("accepts")).expect("a line for accepts");
        assert_eq!(accepts.split_whitespace().nth(1), Some("1"));
    }
    let json = stderr_of(&["--log", "error", "--ledger", "json"], &[]);
    assert!(json.starts_with('{') && json.ends_with("}\n") && json.lines().count() == 1, "{json}");
    assert!(json.contains("\"accepts\":1,") && json.contains("\"bytes_in\":15,"), "{json}");
    assert_eq!(stderr_of(&["--log", "error", "--ledger", "none"], &[]), "");
}

#[test]
fn the_log_tells_as_much_as_is_asked_for() {
    let none = ["--ledger", "none"];
    let trace = stderr_of(&none, &[("RUST_LOG", "trace")]);
    assert!(trace.contains(") = 5") && trace.contains(" read(") && trace.contains(" write(5) = 5"), "{trace}");
    let usual = stderr_of(&none, &[]);
    assert!(usual.contains("stopping") && !usual.contains(" read(") && usual.lines().count() < 5, "{usual}");
    assert_eq!(stderr_of(&none, &[("RUST_LOG", "error")]), "");
    assert_eq!(stderr_of(&none, &[("RUST_LOG", "off")]), "");
    assert!(stderr_of(&["--ledger", "none", "--log", "trace"], &[]).contains(" write(5) = 5"));
    // The option beats the environment.
    assert_eq!(stderr_of(&["--ledger", "none", "--log", "error"], &[("RUST_LOG", "trace")]), "");
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let coloured = |env: &[(&str, &str)]| stderr_of(&[], env).contains('\u{1b}');
    assert!(!coloured(&[]), "escape codes in a pipe");
    assert!(coloured(&[("CLICOLOR_FORCE", "1")]), "colours were asked for");
    assert!(!coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), "NO_COLOR was not honoured");
}
