//! Over real sockets: the same answers, in order, to every kind of client.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use super::answer::{Answer, answers, take_answer};
use super::samples::{get, post, samples};
use crate::harness::{PATIENCE, Server, pattern, read_all};

/// A client that keeps the bytes behind an answer.
pub struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub fn new(server: &Server) -> Self {
        Self { stream: server.connect("http"), read: Vec::new() }
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("write");
    }

    /// Returns the next response.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        let answer = self.answer_or_end();
        answer.unwrap_or_else(|| panic!("the end, after {:?}", String::from_utf8_lossy(&self.read)))
    }

    /// Returns the next response; `None` at the end of file and after a reset.
    pub fn answer_or_end(&mut self) -> Option<Answer> {
        loop {
            let mut rest = &self.read[..];
            if let Some(answer) = (!rest.is_empty()).then(|| take_answer(&mut rest, false)).flatten() {
                self.read = rest.to_vec();
                return Some(answer);
            }
            let mut piece = [0; 65_536];
            match self.stream.read(&mut piece) {
                Ok(n @ 1..) => self.read.extend_from_slice(&piece[..n]),
                Ok(_) => return None,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    return None;
                }
            }
        }
    }

    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.write(request);
        self.answer()
    }

    /// Asserts that only the end of file is left.
    pub fn assert_end(mut self) {
        assert!(self.read.is_empty());
        assert_eq!(read_all(&mut self.stream), b"");
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

pub const TIME: &str = "GET /time HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn every_sample_is_answered() {
    let server = Server::start(&["--max-body", "1000", "http=0", "echo=0"]);
    let descriptors = server.descriptors();
    for sample in samples() {
        let mut peer = server.connect("http");
        peer.write_all(&sample.bytes).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let answers = answers(&read_all(&mut peer), false);
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        let shown = String::from_utf8_lossy(&sample.bytes).chars().take(300).collect::<String>();
        assert_eq!(statuses, sample.statuses, "{shown:?}");
        if let Some(last) = answers.last() {
            assert!(last.closes() || !sample.ends, "{shown:?}");
        }
    }
    server.assert_unharmed(descriptors);
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_reset"), 0);
}

#[test]
fn pages_have_their_content_type() {
    let server = Server::start(&["http=0"]);
    let mut client = Client::new(&server);
    let time = client.ask(TIME);
    assert_eq!(time.header("Content-Type"), Some("text/plain"));
    assert!(jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S\n", &time.body).is_ok(), "{time:?}");
    let date = time.header("Date").unwrap();
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).expect(date);
    assert!(jiff::Timestamp::now().duration_since(date).abs() < jiff::SignedDuration::from_secs(10));

    let listing = client.ask("GET /headers HTTP/1.1\r\nHOST: a\r\nX-b:  c d \r\nx-B:\r\nAccept: */*\r\n\r\n");
    assert_eq!(listing.body, b"HOST:a\nX-b:c d\nx-B:\nAccept:*/*\n");
    assert_eq!(listing.header("Content-Type"), Some("text/plain"));

    let echo = client.ask(post("Content-Type: image/x-y; z=1\r\nContent-Length: 4\r\n", "\0\r\n\u{7f}"));
    assert_eq!((echo.header("Content-Type"), &echo.body[..]), (Some("image/x-y; z=1"), &b"\0\r\n\x7f"[..]));
    let echo =
        client.ask(post("Transfer-Encoding: chunked\r\n", "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nContent-Type: no\r\n\r\n"));
    assert_eq!((echo.header("Content-Type"), &echo.body[..]), (Some("application/octet-stream"), &b"abcde"[..]));

    let index = client.ask(get("Host: a\r\n"));
    assert_eq!(index.header("Content-Type"), Some("text/html; charset=utf-8"));
    let index = String::from_utf8(index.body).expect("UTF-8");
    assert!(index.starts_with("<!DOCTYPE html>") && index.contains("href=\"/headers\"") && index.contains("echo-udp"));
    assert!(!index.contains("http://") && !index.contains("src="), "the page needs another server");

    assert_eq!(client.ask("PUT /time HTTP/1.1\r\nHost: a\r\n\r\n").header("Allow"), Some("GET, HEAD, OPTIONS"));
    assert!(client.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").header("Allow").is_some());
    assert_eq!(client.ask("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").body, b"ok\n");
    server.stop().assert_clean();
}

#[test]
fn head_is_get_without_the_body() {
    let server = Server::start(&["http=0"]);
    for path in ["/", "/headers", "/healthz", "/echo", "/nothing"] {
        let ask = |method| {
            let mut peer = server.connect("http");
            write!(peer, "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            let mut bytes = &read_all(&mut peer)[..];
            let mut answer = take_answer(&mut bytes, method == "HEAD").expect("an answer");
            assert_eq!(bytes, b"", "{method} {path}");
            answer.headers.retain(|header| header.0 != "Date");
            answer
        };
        let (mut get, head) = (ask("GET"), ask("HEAD"));
        get.body.clear();
        assert_eq!(get, head, "{path}");
    }
    server.stop().assert_clean();
}

#[test]
fn a_thousand_requests_in_one_write_are_answered_in_order() {
    let server = Server::start(&["http=0"]);
    let mut peer = server.connect("http");
    let requests: String = (0..1000)
        .map(|n| match n % 3 {
            0 => post(&format!("Content-Length: {}\r\n", n.to_string().len()), &n.to_string()),
            1 => post("Transfer-Encoding: chunked\r\n", &format!("{:x}\r\n{n}\r\n0\r\n\r\n", n.to_string().len())),
            _ => format!("GET /headers HTTP/1.1\r\nHost: {n}\r\n\r\n"),
        })
        .collect();
    peer.write_all(requests.as_bytes()).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let answers = answers(&read_all(&mut peer), false);
    assert_eq!(answers.len(), 1000);
    for (n, answer) in answers.iter().enumerate() {
        let body = if n % 3 == 2 { format!("Host:{n}\n") } else { n.to_string() };
        assert_eq!((answer.status, &answer.body[..]), (200, body.as_bytes()));
    }
    server.stop().assert_clean();
}

#[test]
fn a_client_that_sends_without_reading_is_suspended_and_loses_nothing() {
    let server = Server::start(&["http=0", "echo=0"]);
    let mut client = Client::new(&server);
    let before = server.resident();
    let body = pattern(100_000);
    let request = [post("Content-Length: 100000\r\n", "").as_bytes(), &body].concat();
    let mut writer = client.stream().try_clone().unwrap();
    let writing = std::thread::spawn(move || (0..200).for_each(|_| writer.write_all(&request).expect("write")));
    // Other clients are served meanwhile.
    server.assert_serves();
    for _ in 0..200 {
        let answer = client.answer();
        assert!(answer.status == 200 && answer.body == body);
    }
    writing.join().unwrap();
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 2 * 1024 * 1024, "{grown} bytes for one client");
    server.stop().assert_clean();
}

#[test]
fn a_client_that_still_sends_reads_the_refusal() {
    let server = Server::start(&["http=0", "echo=0"]);
    let refusals: [(String, u16); 3] = [
        (post("Content-Length: 20000000\r\n", ""), 413),
        (post("Content-Length: x\r\n", ""), 400),
        (format!("GET /{}", "a".repeat(20_000)), 414),
    ];
    for (head, status) in refusals {
        let mut client = Client::new(&server);
        client.write(head);
        // Much more than the kernel's buffers hold: the write succeeds only if the server reads.
        let mut writer = client.stream().try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            writer.write_all(&pattern(20_000_000)).expect("write");
            writer.shutdown(Shutdown::Write).expect("shut down");
        });
        let answer = client.answer();
        assert!(answer.status == status && answer.closes(), "{answer:?}");
        writing.join().unwrap();
        client.assert_end();
    }
    let exit = server.stop();
    exit.assert_clean();
    assert_eq!(exit.count("closed_reset"), 0);
}

#[test]
fn a_body_waits_for_100_continue() {
    let server = Server::start(&["http=0"]);
    let mut client = Client::new(&server);
    assert_eq!(client.ask(post("Content-Length: 5\r\nExpect: 100-continue\r\n", "")).status, 100);
    assert_eq!(client.ask("hello").body, b"hello");
    assert_eq!(client.ask(post("Content-Length: 2000000\r\nExpect: 100-continue\r\n", "")).status, 413);
    client.assert_end();
    server.stop().assert_clean();
}

#[test]
fn a_body_is_held_once() {
    const CLIENTS: usize = 40;
    const BODY: usize = 1024 * 1024;
    let server = Server::start(&["http=0", "--body-timeout", "0"]);
    let before = server.resident();
    let grown = || server.resident().saturating_sub(before);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::new(&server)).collect();
    let body = pattern(BODY);
    for client in &mut clients {
        client.write(post(&format!("Content-Length: {BODY}\r\n"), ""));
        client.write(&body[..BODY - 1]);
    }
    let all = CLIENTS * BODY;
    assert!(server.within(PATIENCE, || grown() > all - all / 10), "{} of {all} bytes are there", grown());
    // Each answer takes the place of its body, whether its client reads or not.
    for client in &mut clients {
        client.write(&body[BODY - 1..]);
        assert!(grown() < all + all / 5, "{} bytes for {all}", grown());
    }
    for client in &mut clients {
        assert!(client.answer().body == body);
        assert!(grown() < all + all / 5, "{} bytes for {all}", grown());
    }
    server.stop().assert_clean();
}
