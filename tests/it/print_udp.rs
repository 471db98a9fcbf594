//! The print service over UDP: its lines on standard output, also to a reader that pauses.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdout};

use crate::harness::{PATIENCE, Server, client as client_of, eventually, exchange, process, reactor};
use rustix::process::{Pid, Signal, kill_process};

/// A server whose standard output the test reads line by line.
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
        assert!(self.stdout.read_until(b'\n', &mut line).unwrap() > 0, "standard output has ended");
        String::from_utf8(line).unwrap().trim_end_matches('\n').to_owned()
    }

    fn client(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.addrs[0]).unwrap();
        socket
    }

    fn threads(&self) -> usize {
        process::threads(self.child.id())
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sender_length_and_text_are_printed_and_not_answered() {
    let mut printer = Printer::start();
    let client = printer.client();
    let from = client.local_addr().unwrap();
    for (sent, printed) in [
        (&b"can you hear me?\n"[..], "can you hear me?"),
        (b"", ""),
        (b"no end", "no end"),
        (b"two\nlines\r\n", "two\\nlines"),
        (b"\x1b]0;title\x07 \xff", "\\u{1b}]0;title\\u{7} \u{fffd}"),
        ("grüß\n".as_bytes(), "grüß"),
    ] {
        client.send(sent).unwrap();
        assert_eq!(printer.line(), format!("packet-received: bytes={} from={from}", sent.len()));
        assert_eq!(printer.line(), printed);
    }
    client.set_nonblocking(true).unwrap();
    assert!(client.recv(&mut [0; 9]).is_err(), "the service has answered");
    kill_process(Pid::from_raw(printer.child.id() as i32).unwrap(), Signal::TERM).unwrap();
    assert!(eventually(PATIENCE, || printer.child.try_wait().unwrap().is_some()));
    assert_eq!(printer.child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_output_without_a_reader_does_not_block_the_service() {
    let mut printer = Printer::start();
    let client = printer.client();
    let text = "x".repeat(999) + "\n";
    // More than the pipe and the queue hold. The echoes in between keep the socket's receive buffer from overflowing.
    let mut peer = client_of(printer.addrs[1]);
    for _ in 0..1_000 {
        client.send(text.as_bytes()).unwrap();
        assert_eq!(exchange(&mut peer, b"?"), b"?");
    }
    assert_eq!(printer.threads(), 1);
    client.send(b"not printed").unwrap();
    assert_eq!(exchange(&mut peer, b"still there?"), b"still there?");
    // Each printed datagram is whole. After the pipe has room again, later datagrams are whole, too.
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
    let server = Server::with_closed_stdout(&["echo=0", "print-udp=0"], [Some("echo"), Some("print-udp")]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..10 {
        client.send_to(b"anybody?\n", server.addr("print-udp")).unwrap();
        server.assert_serves();
    }
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("datagrams_in"), 10);
}
