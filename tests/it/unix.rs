//! Unix sockets: `serve`, `connect`, `bench` and the library, and the files of the sockets.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use crate::harness::client::{Client, file};
use crate::harness::directory::Directory;
use crate::harness::spy::{Callback, Loop};
use crate::harness::{PATIENCE, Server, eventually, pattern, reactor};
use reactor::services::{Make, SERVICES};
use reactor::{Addr, CloseReason, Credentials, Dial, Errno, ListenOptions, Policy};
use rustix::process::Signal;
use serde_json::Value;

/// Returns the output of a command that ends by itself.
fn run(args: &[&str]) -> Output {
    reactor(args).output().expect("start reactor")
}

/// Asserts one line on standard error, which contains `cause`.
#[track_caller]
fn assert_fails(output: &Output, status: i32, cause: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert!(stderr.lines().count() == 1 && stderr.contains(cause), "'{cause}' is missing from: {stderr}");
}

/// Returns the standard output of a client program, or `None` if the program is not installed.
fn installed(program: &str, args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let command = Command::new(program).args(args).stdin(file(input)).stderr(Stdio::inherit()).output();
    match command {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: {program} is not installed");
            None
        }
        output => Some(output.expect("a client").stdout),
    }
}

#[test]
fn every_stream_service_serves_at_a_unix_socket() {
    let directory = Directory::new();
    let stream_services = SERVICES.iter().filter(|entry| matches!(entry.make, Make::Tcp(_)));
    let specs: Vec<_> = stream_services.map(|entry| format!("{}={}", entry.name, directory.unix(entry.name))).collect();
    let server = Server::start(&specs.iter().map(String::as_str).collect::<Vec<_>>());
    let mut echo = server.connect_unix("echo");
    let bytes = pattern(1 << 20);
    thread::scope(|scope| {
        let mut writer = echo.try_clone().unwrap();
        let bytes = &bytes;
        scope.spawn(move || {
            writer.write_all(bytes).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut answer = Vec::new();
        echo.read_to_end(&mut answer).unwrap();
        assert!(answer == *bytes, "{} bytes came back", answer.len());
    });
    let mut time = String::new();
    server.connect_unix("time").read_to_string(&mut time).unwrap();
    assert_eq!(time.len(), "2006-01-02 15:04:05\n".len(), "{time}");
    let mut http = server.connect_unix("http");
    http.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let mut hub = [server.connect_unix("chat-hub"), server.connect_unix("chat-hub")];
    hub[1].write_all(b"to all").unwrap();
    for member in &mut hub {
        let mut text = [0; 6];
        member.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"to all");
    }
    drop(hub);
    let mut names: Vec<_> = specs.iter().map(|spec| spec.split_once('=').unwrap().0.to_owned()).collect();
    names.sort();
    assert_eq!(directory.names(), names);
    server.stop().assert_clean();
    assert_eq!(directory.names(), [""; 0], "the files of a stopped server");
}

#[test]
fn the_first_line_shows_the_path() {
    let directory = Directory::new();
    let mut server = reactor(&["serve", &format!("echo={}", directory.unix("x.sock"))]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(line, format!("listening echo unix {}\n", directory.join("x.sock").display()));
}

#[test]
fn the_usual_clients_reach_a_unix_socket() {
    let directory = Directory::new();
    let [echo, http] = ["echo", "http"].map(|name| format!("{name}={}", directory.unix(name)));
    let _server = Server::start(&[&echo, &http]);
    let path = |name: &str| directory.join(name).display().to_string();
    if let Some(answer) = installed("nc", &["-N", "-U", &path("echo")], b"hello\n") {
        assert_eq!(answer, b"hello\n");
    }
    if let Some(answer) = installed("socat", &["-", &format!("UNIX-CONNECT:{}", path("echo"))], b"hello\n") {
        assert_eq!(answer, b"hello\n");
    }
    let args = ["-s", "--unix-socket", &path("http"), "http://localhost/headers"];
    if let Some(answer) = installed("curl", &args, b"") {
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.lines().any(|line| line == "Host:localhost"), "{answer}");
    }
}

#[test]
fn a_server_replaces_the_file_of_a_killed_server() {
    let directory = Directory::new();
    let echo = format!("echo={}", directory.unix("x.sock"));
    let killed = Server::start(&[&echo]);
    killed.signal(Signal::KILL);
    drop(killed);
    assert_eq!(directory.names(), ["x.sock"]);
    let server = Server::start(&[&echo]);
    server.connect_unix("echo").write_all(b"alive").unwrap();
    server.stop().assert_clean();
    assert_eq!(directory.names(), [""; 0]);
}

#[test]
fn a_server_does_not_take_the_place_of_a_live_server() {
    let directory = Directory::new();
    let echo = format!("echo={}", directory.unix("x.sock"));
    let server = Server::start(&[&echo]);
    let output = run(&["serve", &echo]);
    assert_fails(&output, 1, "error: echo: cannot listen on unix:");
    assert_fails(&output, 1, "x.sock: Address already in use");
    server.connect_unix("echo").write_all(b"alive").unwrap();
    fs::write(directory.join("file"), "text").unwrap();
    let output = run(&["serve", &format!("echo={}", directory.unix("file"))]);
    assert_fails(&output, 1, "file: a file that is no socket has this path (remove it, or choose another path)");
    assert_eq!(fs::read(directory.join("file")).unwrap(), b"text");
    let output = run(&["serve", &format!("echo={}", directory.unix("none/x.sock"))]);
    assert_fails(&output, 1, "x.sock: No such file or directory (the directory must exist)");
}

#[test]
fn a_file_that_another_process_has_put_in_place_stays() {
    let directory = Directory::new();
    let server = Server::start(&[&format!("echo={}", directory.unix("x.sock"))]);
    let other = UnixListener::bind(directory.join("other.sock")).unwrap();
    fs::rename(directory.join("other.sock"), directory.join("x.sock")).unwrap();
    server.stop().assert_clean();
    UnixStream::connect(directory.join("x.sock")).unwrap();
    drop(other);
}

#[test]
fn a_forced_stop_removes_the_file_as_well() {
    let directory = Directory::new();
    let server = Server::start(&[&format!("echo={}", directory.unix("x.sock")), "--grace", "0"]);
    let mut busy = server.connect_unix("echo");
    busy.write_all(b"x").unwrap();
    busy.read_exact(&mut [0]).unwrap();
    // A peer that reads nothing keeps the server from an orderly end.
    busy.set_nonblocking(true).unwrap();
    while busy.write(&[b'x'; 1 << 16]).is_ok() {}
    server.signal(Signal::INT);
    server.await_log("stopping");
    assert_eq!(directory.names(), [""; 0], "the file ends with the listener");
    server.signal(Signal::INT);
    assert_eq!(server.wait().status.code(), Some(1));
}

#[test]
fn the_mode_of_the_file_is_exact() {
    let directory = Directory::new();
    let mode = |name: &str| fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
    for (option, expected) in [("660", 0o660), ("0600", 0o600), ("777", 0o777)] {
        let _server = Server::start(&[&format!("echo={}", directory.unix(option)), "--unix-mode", option]);
        assert!(fs::metadata(directory.join(option)).unwrap().file_type().is_socket());
        assert_eq!(mode(option), expected);
    }
    for wrong in ["0o660", "888", "1777", "rw"] {
        assert_fails(&run(&["serve", "echo=0", "--unix-mode", wrong]), 2, "is not a mode such as 660");
    }
}

#[test]
fn wrong_addresses_are_wrong_usage() {
    let long = format!("echo=unix:/{}", "x".repeat(107));
    assert_fails(&run(&["serve", &long]), 2, "the name of a Unix socket has at most 107 bytes, and this one 108");
    assert_fails(&run(&["serve", "echo=unix:"]), 2, "the name of a Unix socket is empty");
    assert_fails(&run(&["serve", "echo-udp=unix:/x"]), 2, "echo-udp goes over UDP, and not over a Unix socket");
    assert_fails(&run(&["bench", "echo-udp", "unix:/x"]), 2, "echo-udp goes over UDP, and not over a Unix socket");
    assert_fails(&run(&["serve", "echo=unix:x", "time=unix:x"]), 2, "echo and time cannot both listen on unix:x");
    assert_fails(&run(&["connect", "unix://run/x"]), 2, "unix:// needs an absolute path: unix:///run/x");
    assert_fails(&run(&["connect", "unix:/x", "--bind", "0"]), 2, "--bind does not apply to a Unix socket");
}

#[test]
fn a_client_connects_to_a_unix_socket() {
    let directory = Directory::new();
    let _server = Server::start(&[&format!("echo={}", directory.unix("x.sock"))]);
    for peer in [directory.unix("x.sock"), format!("unix://{}", directory.join("x.sock").display())] {
        Client::with_input(&[&peer], file(b"hello\n")).wait().assert(0, "hello\n");
    }
    let missing = Client::with_input(&[&directory.unix("none")], file(b"")).wait();
    assert_eq!(missing.failure(), format!("error: dial {}: No such file or directory", directory.unix("none")));
    drop(UnixListener::bind(directory.join("stale")).unwrap());
    let refused = Client::with_input(&[&directory.unix("stale"), "--reconnect", "1"], file(b"")).wait();
    assert!(refused.failure().contains("Connection refused (given up; attempts to reconnect: 1)"), "{refused:?}");
}

#[test]
fn a_full_backlog_is_an_error_of_the_dial() {
    let directory = Directory::new();
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    listener.bind(&socket2::SockAddr::unix(directory.join("x.sock")).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let _waiting = UnixStream::connect(directory.join("x.sock")).unwrap();
    let client = Client::with_input(&[&directory.unix("x.sock")], file(b"")).wait();
    assert!(client.failure().ends_with("Resource temporarily unavailable"), "{client:?}");
}

#[test]
fn the_load_generator_measures_a_unix_socket() {
    let directory = Directory::new();
    let specs: Vec<_> =
        ["echo", "time", "chat", "http"].iter().map(|name| format!("{name}={}", directory.unix(name))).collect();
    let _server = Server::start(&specs.iter().map(String::as_str).collect::<Vec<_>>());
    let path = format!("http://{}:/headers", directory.unix("http"));
    let [echo, time, chat, http] = ["echo", "time", "chat", "http"].map(|name| directory.unix(name));
    for (kind, addr) in [("echo", echo), ("time", time), ("chat", chat), ("http", http), ("http", path)] {
        let output = run(&["bench", kind, &addr, "--duration", "200ms", "--connections", "8", "--json"]);
        let text = String::from_utf8_lossy(&output.stderr);
        let figures: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(figures["answered"].as_u64() > Some(0), "{figures}");
        assert_eq!((figures["error_count"].as_u64(), figures["unanswered"].as_u64()), (Some(0), Some(0)), "{figures}");
        let address = figures["address"].as_str().unwrap();
        assert!(address.starts_with("unix:/") && address.ends_with(kind), "{address}");
    }
}

#[test]
fn members_at_a_unix_socket_have_names_of_their_own() {
    let directory = Directory::new();
    let server = Server::start(&[&format!("chat={}", directory.unix("x.sock"))]);
    let [mut first, mut second] = [(); 2].map(|()| BufReader::new(server.connect_unix("chat")));
    let line = |member: &mut BufReader<UnixStream>| {
        let mut line = String::new();
        member.read_line(&mut line).unwrap();
        line
    };
    let [one, two] = [line(&mut first), line(&mut second)].map(|greeting| {
        let name = greeting.strip_prefix("You are unix#").expect("a greeting").trim_end();
        format!("unix#{name}")
    });
    assert_ne!(one, two);
    assert_eq!(line(&mut first), format!("{two} has arrived\n"));
    second.get_mut().write_all(b"hello\n").unwrap();
    assert_eq!(line(&mut first), format!("{two}: hello\n"));
    drop(second);
    assert_eq!(line(&mut first), format!("{two} has left\n"));
}

/// The facts that a service sees of its connection.
type Facts = (Addr, Addr, Option<Credentials>);

/// Starts a loop that listens at `path` as well, and reports the facts of each connection.
fn facts_at(path: &Path) -> (Loop, std::sync::mpsc::Receiver<Facts>) {
    let (sender, facts) = channel();
    let path = path.to_owned();
    let spy = Loop::prepared(
        Policy::default(),
        move |ctx, callback| {
            if *callback == Callback::Open {
                let _ = sender.send((ctx.peer_addr(), ctx.local_addr(), ctx.peer_credentials()));
            }
        },
        move |reactor, service| {
            reactor.listen(service, Addr::unix(path), &ListenOptions::default(), Policy::default()).unwrap();
        },
    );
    (spy, facts)
}

/// Asserts that the credentials are those of this process.
#[track_caller]
fn assert_own(credentials: Option<Credentials>) {
    if cfg!(target_os = "linux") {
        let credentials = credentials.expect("credentials");
        let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        assert_eq!((credentials.pid, credentials.uid, credentials.gid), (Some(std::process::id()), user, group));
    }
}

#[test]
fn a_service_sees_the_addresses_and_the_process_of_its_peer() {
    let directory = Directory::new();
    let (spy, facts) = facts_at(&directory.join("x.sock"));
    let client = UnixStream::connect(directory.join("x.sock")).unwrap();
    let (peer, local, credentials) = facts.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(&peer, Addr::Unix(peer) if peer.is_unnamed()), "{peer}");
    assert_eq!(local, Addr::unix(directory.join("x.sock")));
    assert_own(credentials);
    drop(client);
    let (_tcp, _) = spy.connect();
    assert_eq!(facts.recv_timeout(PATIENCE).unwrap().2, None, "credentials over TCP");
    spy.stop();
}

#[test]
fn a_dial_of_a_unix_socket_is_a_connection() {
    let directory = Directory::new();
    let listener = UnixListener::bind(directory.join("x.sock")).unwrap();
    let (spy, facts) = facts_at(&directory.join("own.sock"));
    let to = Addr::unix(directory.join("x.sock"));
    spy.run({
        let to = to.clone();
        move |ctx| {
            ctx.dial(Dial::to(to));
        }
    });
    let (mut stream, _) = listener.accept().unwrap();
    spy.expect(Callback::Open);
    let (peer, local, credentials) = facts.recv_timeout(PATIENCE).unwrap();
    assert_eq!((peer, local.to_string().as_str()), (to, "unix:"));
    assert_own(credentials);
    stream.write_all(b"hello").unwrap();
    spy.expect(Callback::Data(b"hello".to_vec()));
    drop(stream);
    spy.expect(Callback::Eof);
    spy.expect(Callback::Close(CloseReason::Finished));
    spy.run(move |ctx| {
        ctx.dial(Dial::to(Addr::unix("/nonexistent/x.sock")));
    });
    spy.expect(Callback::DialError(CloseReason::Unreachable(Errno(libc::ENOENT))));
    spy.stop();
}

#[test]
fn output_that_was_blocked_goes_on_when_the_peer_reads() {
    let directory = Directory::new();
    let server = Server::start(&[&format!("echo={}", directory.unix("x.sock"))]);
    let mut peer = server.connect_unix("echo");
    let bytes = pattern(8 << 20);
    thread::scope(|scope| {
        let (mut writer, bytes) = (peer.try_clone().unwrap(), &bytes);
        scope.spawn(move || writer.write_all(bytes).unwrap());
        assert!(eventually(PATIENCE, || server.counter("write_blocked") > 0));
        let mut answer = vec![0; bytes.len()];
        peer.read_exact(&mut answer).unwrap();
        assert!(answer == *bytes, "other bytes came back");
    });
    drop(peer);
    server.stop().assert_clean();
}

#[test]
fn output_of_a_dialed_connection_that_was_blocked_goes_on() {
    let directory = Directory::new();
    let listener = UnixListener::bind(directory.join("x.sock")).unwrap();
    let spy = Loop::start();
    let to = Addr::unix(directory.join("x.sock"));
    spy.run(move |ctx| {
        ctx.dial(Dial::to(to));
    });
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let id = spy.expect(Callback::Open).id.unwrap();
    let bytes = pattern(8 << 20);
    let sent = bytes.clone();
    spy.run(move |ctx| ctx.connection(id).unwrap().send(&sent));
    // Another task runs in a later turn: the kernel has taken what it could by then.
    spy.run(|_| {});
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer == bytes, "other bytes have come");
    let (_, ledger, _) = spy.stop();
    assert!(ledger.write_blocked > 0, "{ledger}");
}

#[test]
fn a_read_of_the_peer_is_no_event() {
    let directory = Directory::new();
    let server = Server::start(&[&format!("echo={}", directory.unix("x.sock"))]);
    let mut peer = server.connect_unix("echo");
    // The signal that requests a report is an event as well.
    let (before, after) = (server.counter("events"), server.counter("events"));
    for _ in 0..20 {
        peer.write_all(b"x").unwrap();
        assert!(eventually(PATIENCE, || peek(&peer)));
        let unread = server.counter("events");
        // Linux reports the read to a socket that is registered for writes.
        peer.read_exact(&mut [0]).unwrap();
        assert_eq!(server.counter("events") - unread, after - before);
    }
}

#[test]
fn unread_bytes_of_a_peer_that_closes_are_a_reset() {
    let directory = Directory::new();
    let (spy, _facts) = facts_at(&directory.join("x.sock"));
    let client = UnixStream::connect(directory.join("x.sock")).unwrap();
    let id = spy.expect(Callback::Open).id.unwrap();
    spy.run(move |ctx| ctx.connection(id).unwrap().send(b"unread"));
    assert!(eventually(PATIENCE, || client.take_error().is_ok() && peek(&client)));
    drop(client);
    spy.expect(Callback::Close(CloseReason::Reset));
    spy.stop();
}

/// Returns true if a byte can be read.
fn peek(stream: &UnixStream) -> bool {
    rustix::net::recv(stream, &mut [0u8; 1][..], rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT)
        .is_ok()
}

#[test]
fn a_reactor_serves_unix_sockets_that_the_program_has_made() {
    let directory = Directory::new();
    let listener = UnixListener::bind(directory.join("x.sock")).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let spy = Loop::prepared(
        Policy::default(),
        |ctx, callback| {
            if let Callback::Data(bytes) = callback {
                ctx.send(bytes);
            }
        },
        move |reactor, service| {
            reactor.listen_on(service, listener, Policy::default()).unwrap();
            reactor.adopt(service, theirs, Policy::default()).unwrap();
            // A connected stream does not listen.
            let (stream, _peer) = UnixStream::pair().unwrap();
            let error = reactor.listen_on(service, stream, Policy::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        },
    );
    for mut stream in [ours, UnixStream::connect(directory.join("x.sock")).unwrap()] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
    }
    spy.stop();
    assert_eq!(directory.names(), ["x.sock"], "the file belongs to its maker");
}
