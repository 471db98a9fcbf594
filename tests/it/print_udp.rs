//! The print service over UDP: what it prints, and that nobody who does not read holds it up.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, ChildStdout};
use std::time::Duration;

use crate::harness::{PATIENCE, Server, eventually, exchange, reactor};
use rustix::process::{Pid, Signal, kill_process};

/// A server whose standard output is read when the test wants to.
struct Printer {
    child: Child,
    stdout: BufReader<ChildStdout>,
    addrs: Vec<SocketAddr>,
}

impl Printer {
    fn start() -> Self {
        let mut child = reactor(&["serve", "print-udp=0", "echo=0"]).spawn().unwrap();
        let mut this = Self { stdout: BufReader::new(child.stdout.take().unwrap()), child, addrs: Vec::new() };
        loop {
            let line = this.line();
            match line.strip_prefix("listening ") {
                Some(rest) => this.addrs.push(rest.rsplit(' ').next().unwrap().parse().unwrap()),
                None => break assert_eq!(line, "ready"),
            }
        }
        this
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        assert!(self.stdout.read_until(b'\n', &mut line).unwrap() > 0, "the end of its output");
        String::from_utf8(line).unwrap().trim_end_matches('\n').to_owned()
    }

    fn client(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.addrs[0]).unwrap();
        socket
    }

    fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count()
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prints_sender_length_and_text_and_answers_nothing() {
    let mut printer = Printer::start();
    let client = printer.client();
    let from = client.local_addr().unwrap();
    for (said, shown) in [
        (&b"can you hear me?\n"[..], "can you hear me?"),
        (b"", ""),
        (b"no end", "no end"),
        (b"two\nlines\r\n", "two\\nlines"),
        (b"\x1b]0;title\x07 \xff", "\\u{1b}]0;title\\u{7} \u{fffd}"),
        ("grüß\n".as_bytes(), "grüß"),
    ] {
        client.send(said).unwrap();
        assert_eq!(printer.line(), format!("packet-received: bytes={} from={from}", said.len()));
        assert_eq!(printer.line(), shown);
    }
    client.set_nonblocking(true).unwrap();
    assert!(client.recv(&mut [0; 9]).is_err(), "it has answered");
    kill_process(Pid::from_raw(printer.child.id() as i32).unwrap(), Signal::TERM).unwrap();
    assert!(eventually(PATIENCE, || printer.child.try_wait().unwrap().is_some()));
    assert_eq!(printer.child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_output_that_nobody_reads_holds_up_nothing() {
    let mut printer = Printer::start();
    let client = printer.client();
    let text = "x".repeat(999) + "\n";
    // More than the pipe and the queue hold; echoes in between make sure that the socket's own buffer does not overflow.
    let mut peer = crate::harness::client(printer.addrs[1]);
    peer.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    for _ in 0..1_000 {
        client.send(text.as_bytes()).unwrap();
        assert_eq!(exchange(&mut peer, b"?"), b"?");
    }
    assert_eq!(printer.threads(), 1);
    client.send(b"not printed").unwrap();
    assert_eq!(exchange(&mut peer, b"still there?"), b"still there?");
    // What is printed is whole, and when there is room again so is the rest.
    let header = format!("packet-received: bytes=1000 from={}", client.local_addr().unwrap());
    let mut printed = 0;
    loop {
        assert_eq!(printer.line(), header);
        assert_eq!(printer.line(), text.trim_end());
        printed += 1;
        if printed % 50 == 0 && printed >= 200 {
            break;
        }
    }
    assert!(eventually(PATIENCE, || {
        client.send(b"last").unwrap();
        printer.stdout.fill_buf().is_ok()
    }));
    let mut rest = String::new();
    while !rest.ends_with("\nlast\n") {
        rest += &printer.line();
        rest.push('\n');
        assert!(rest.len() < 2 << 20, "the last datagram is missing");
    }
    assert!(printed < 1_000);
}

#[test]
fn a_closed_output_never_kills_the_server() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let command = reactor(&["serve", "--ledger", "json", &format!("echo={free}"), &format!("print-udp={udp}")]);
    let server = Server::spawn_unheard(command, "echo", free);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..10 {
        client.send_to(b"anybody?\n", udp).unwrap();
        server.assert_serves();
    }
    let remains = server.stop();
    remains.assert_clean();
    assert_eq!(remains.count("datagrams_in"), 10);
}
