//! Sockets that a supervisor has opened (sd_listen_fds(3)).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use crate::harness::directory::Directory;
use crate::harness::{PATIENCE, Server, client, exchange, reactor};
use command_fds::{CommandFdExt, FdMapping};

/// Returns `reactor serve ARGS` with `sockets` as its descriptors from 3 on, for the process `pid` of a shell.
fn activated(sockets: Vec<OwnedFd>, pid: &str, args: &[&str]) -> Command {
    let template = reactor(&[]);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("LISTEN_FDS={} LISTEN_PID={pid} exec \"$@\"", sockets.len()), "sh"]);
    command.arg(template.get_program()).args(["serve", "--ledger", "json"]).args(args);
    command.env_remove("RUST_LOG").env_remove("NO_COLOR").stdin(std::process::Stdio::null());
    let mappings = sockets.into_iter().zip(3..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.collect()).expect("no number is given twice");
    command
}

#[test]
fn sockets_belong_to_services_by_address_or_in_order() {
    let directory = Directory::new();
    let unix = UnixListener::bind(directory.join("x.sock")).unwrap();
    let [by_order, by_address] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (time, http) = (by_order.local_addr().unwrap(), by_address.local_addr().unwrap());
    let udp = datagrams.local_addr().unwrap();
    let sockets = vec![by_order.into(), unix.into(), datagrams.into(), by_address.into()];
    let [http_spec, echo] = [format!("http={http}"), format!("echo={}", directory.unix("x.sock"))];
    let command = activated(sockets, "$$", &[&http_spec, &echo, "time", "echo-udp", "discard=0"]);
    let server = Server::spawn(command);
    assert_eq!((server.addr("http"), server.addr("time"), server.addr("echo-udp")), (http, time, udp));
    assert_ne!(server.addr("discard").port(), 0);
    let mut stream = server.connect_unix("echo");
    stream.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
    let mut text = String::new();
    client(time).read_to_string(&mut text).unwrap();
    assert_eq!(text.len(), "2006-01-02 15:04:05\n".len(), "{text}");
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut http = client(http);
    http.write_all(request).unwrap();
    let mut status = [0; 15];
    http.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");
    let socket = server.connect_udp("echo-udp");
    socket.send(b"datagram").unwrap();
    let mut answer = [0; 8];
    assert_eq!((socket.recv(&mut answer).unwrap(), &answer), (8, b"datagram"));
    drop((stream, http));
    server.stop().assert_clean();
    // The file belongs to the supervisor.
    assert_eq!(directory.names(), ["x.sock"]);
}

#[test]
fn a_restart_over_an_inherited_socket_refuses_no_client() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let start = || Server::spawn(activated(vec![listener.try_clone().unwrap().into()], "$$", &["echo"]));
    let first = start();
    assert_eq!(exchange(&mut client(addr), b"first"), b"first");
    first.stop().assert_clean();
    // The socket of the supervisor listens while there is no server.
    let mut waiting = TcpStream::connect(addr).unwrap();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    waiting.write_all(b"second").unwrap();
    let second = start();
    let mut answer = [0; 6];
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"second");
    drop(waiting);
    second.stop().assert_clean();
}

#[test]
fn the_sockets_of_another_process_are_left_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    for pid in ["1", ""] {
        let command = activated(vec![listener.try_clone().unwrap().into()], pid, &["echo=0"]);
        let server = Server::spawn(command);
        assert_ne!(server.addr("echo"), addr, "LISTEN_PID is '{pid}'");
        server.stop().assert_clean();
    }
}

/// Asserts that the server does not start, and why.
#[track_caller]
fn assert_fails(mut command: Command, status: i32, cause: &str) {
    let output = command.output().expect("start a shell");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(status), 1), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains(cause), "'{cause}' is missing from: {stderr}");
}

#[test]
fn sockets_without_a_service_are_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let sockets = || vec![OwnedFd::from(listener.try_clone().unwrap())];
    let cause = format!("the inherited socket 3 belongs to no service; name its address: SERVICE={addr}");
    assert_fails(activated(sockets(), "$$", &["echo=0"]), 2, &cause);
    assert_fails(activated(sockets(), "$$", &["echo-udp"]), 2, &cause);
    let (stream, _peer) = UnixStream::pair().unwrap();
    let cause = "cannot use the inherited socket 3 at unix:: the socket does not listen for connections";
    assert_fails(activated(vec![stream.into()], "$$", &["echo"]), 1, cause);
    let file = std::fs::File::open("/dev/null").unwrap();
    let cause = "cannot use the inherited descriptor 3: it is no socket";
    assert_fails(activated(vec![file.into()], "$$", &["echo"]), 1, cause);
    let mut missing = Command::new("sh");
    let script = "LISTEN_FDS=$0 LISTEN_PID=$$ exec \"$@\" serve echo=0";
    missing.args(["-c", script, "99999999999", env!("CARGO_BIN_EXE_reactor")]);
    assert_fails(missing, 2, "LISTEN_FDS is not a number from 0 to 1024: 99999999999");
}
