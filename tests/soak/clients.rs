//! The kinds of clients: each does one thing again and again, and checks the answers.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::answer::{Answer, take_answer};
use crate::harness::{Server, client, fill_up, pattern, read_all, reset, take};

/// Counters of all clients.
#[derive(Debug, Default)]
pub struct Totals {
    pub connections: AtomicU64,
    /// Datagrams that were answered.
    pub datagrams: AtomicU64,
    pub requests: AtomicU64,
    pub lines: AtomicU64,
    /// Members that were dropped because they did not read.
    pub dropped: AtomicU64,
}

/// The state of one client.
pub struct Fixture<'a> {
    server: &'a Server,
    totals: &'a Totals,
    random: Rng,
    /// Its number among the clients of its kind.
    copy: u64,
    until: Instant,
}

impl<'a> Fixture<'a> {
    pub fn new(server: &'a Server, totals: &'a Totals, seed: u64, copy: u64, until: Instant) -> Self {
        Self { server, totals, random: Rng::with_seed(seed), copy, until }
    }

    /// Returns true while time is left.
    pub fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    fn connect(&self, service: &str) -> TcpStream {
        let stream = client(self.server.addr(service));
        self.totals.connections.fetch_add(1, Relaxed);
        stream
    }

    /// Waits a random time of at most `most` milliseconds.
    fn pause(&mut self, most: u64) {
        thread::sleep(Duration::from_millis(self.random.u64(0..=most)));
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let (size, salt) = (self.random.usize(1..=most), self.random.u8(..));
        pattern(size).into_iter().map(|byte| byte ^ salt).collect()
    }
}

type Client = fn(&mut Fixture<'_>);

/// Every kind of client.
pub const CLIENTS: [(&str, Client); 16] = [
    ("visitor", visit),
    ("resetter", break_off),
    ("half-closer", half_close),
    ("stopped reader", stop_reading),
    ("big echo", echo_much),
    ("echo in small pieces", echo_in_pieces),
    ("discarder", discard),
    ("reader of the time", read_the_time),
    ("idler", idle),
    ("speaker", speak),
    ("member", come_and_go),
    ("member of a byte chat", byte_member),
    ("member without reads", read_nothing),
    ("keep-alive client", keep_alive),
    ("slow loris", be_slow),
    ("sender of datagrams", send_datagrams),
];

const STREAMS: [&str; 8] = ["echo", "discard", "time", "idle", "chat", "chat-raw", "chat-hub", "http"];

/// Connects and closes, perhaps after a line.
fn visit(fixture: &mut Fixture<'_>) {
    let service = STREAMS[fixture.random.usize(..STREAMS.len())];
    let mut peer = fixture.connect(service);
    if fixture.random.bool() {
        // The server may have closed already: the time service sends without a request.
        let _ = peer.write_all(b"hello\n");
    }
    fixture.pause(3);
}

/// Resets at any moment.
fn break_off(fixture: &mut Fixture<'_>) {
    let service = STREAMS[fixture.random.usize(..STREAMS.len())];
    let mut peer = fixture.connect(service);
    // In a room its bytes must differ from those that other members wait for.
    let bytes = if service.starts_with("chat") { b"...\n".to_vec() } else { fixture.bytes(100_000) };
    peer.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    let _ = peer.write_all(&bytes);
    fixture.pause(5);
    reset(peer);
}

/// Sends `bytes` while it reads them back, then reads the end.
fn assert_echo(peer: &mut TcpStream, bytes: &[u8]) {
    let mut writing = peer.try_clone().expect("a descriptor");
    thread::scope(|scope| {
        scope.spawn(move || {
            writing.write_all(bytes).expect("write");
            writing.shutdown(Shutdown::Write).expect("shutdown");
        });
        assert!(read_all(peer) == bytes, "the echo of {} bytes differs", bytes.len());
    });
}

fn half_close(fixture: &mut Fixture<'_>) {
    let mut peer = fixture.connect("echo");
    let bytes = fixture.bytes(60_000);
    peer.write_all(&bytes).expect("write");
    peer.shutdown(Shutdown::Write).expect("shutdown");
    fixture.pause(2);
    assert!(read_all(&mut peer) == bytes, "the echo differs");
}

/// Fills all buffers, pauses, and then closes or reads the echo.
fn stop_reading(fixture: &mut Fixture<'_>) {
    let mut peer = fixture.connect("echo");
    let sent = fill_up(fixture.server, &mut peer);
    fixture.pause(500);
    if fixture.random.bool() {
        peer.shutdown(Shutdown::Write).expect("shutdown");
        let chunk = pattern(64 * 1024);
        let expected: Vec<u8> = chunk.iter().copied().cycle().take(sent).collect();
        assert!(read_all(&mut peer) == expected, "the echo of {sent} bytes differs");
    }
}

fn echo_much(fixture: &mut Fixture<'_>) {
    let bytes = fixture.bytes(8 << 20);
    assert_echo(&mut fixture.connect("echo"), &bytes);
}

/// Sends small pieces, some of them in a row, and waits for the echo of all.
fn echo_in_pieces(fixture: &mut Fixture<'_>) {
    let mut peer = fixture.connect("echo");
    for _ in 0..fixture.random.usize(1..100) {
        let bytes = fixture.bytes(200);
        for piece in bytes.chunks(fixture.random.usize(1..=bytes.len())) {
            peer.write_all(piece).expect("write");
        }
        assert!(take(&mut peer, bytes.len()) == bytes, "the echo differs");
    }
}

fn discard(fixture: &mut Fixture<'_>) {
    let mut peer = fixture.connect("discard");
    peer.write_all(&fixture.bytes(1 << 20)).expect("write");
    peer.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(read_all(&mut peer), b"");
}

fn read_the_time(fixture: &mut Fixture<'_>) {
    let mut peer = fixture.connect("time");
    assert_eq!(read_all(&mut peer).len(), "2006-01-02 15:04:05\n".len());
    fixture.pause(5);
}

fn idle(fixture: &mut Fixture<'_>) {
    let mut peer = fixture.connect("idle");
    fixture.pause(1_000);
    peer.write_all(b"still here").expect("write");
    let start = Instant::now();
    assert_eq!(read_all(&mut peer), b"goodbye\n");
    assert!(start.elapsed() >= Duration::from_millis(2_990), "goodbye after {:?}", start.elapsed());
}

/// Joins the line chat. Returns the member and its name.
fn join(fixture: &Fixture<'_>) -> (BufReader<TcpStream>, String) {
    let mut member = BufReader::new(fixture.connect("chat"));
    let name = line_of(&mut member).strip_prefix("You are ").expect("a greeting").to_owned();
    (member, name)
}

fn line_of(member: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    member.read_line(&mut line).expect("read");
    assert!(line.ends_with('\n'), "the end, after {line:?}");
    line.trim_end().to_owned()
}

/// Speaks, and receives every line in order as a second member, among the lines of others.
fn speak(fixture: &mut Fixture<'_>) {
    let (mut witness, _) = join(fixture);
    let (speaker, name) = join(fixture);
    let mut next = 0;
    for _ in 0..fixture.random.usize(1..50) {
        let end = next + fixture.random.u64(1..20);
        let text: String = (next..end).map(|n| format!("line {n}\n")).collect();
        speaker.get_ref().write_all(text.as_bytes()).expect("write");
        fixture.totals.lines.fetch_add(end - next, Relaxed);
        while next < end {
            let line = line_of(&mut witness);
            let Some(rest) = line.strip_prefix(&format!("{name}: ")) else { continue };
            assert_eq!(rest, format!("line {next}"));
            next += 1;
        }
    }
    drop(speaker);
    // The departure comes after every line of the speaker.
    while line_of(&mut witness) != format!("{name} has left") {}
}

/// Sends lines, receives them, and leaves in one of three ways.
fn come_and_go(fixture: &mut Fixture<'_>) {
    let (mut member, name) = join(fixture);
    for n in 0..fixture.random.usize(0..5) {
        writeln!(member.get_ref(), "{n}").expect("write");
        while line_of(&mut member) != format!("{name}: {n}") {}
    }
    match fixture.random.u8(..3) {
        0 => reset(member.into_inner()),
        1 => member.get_ref().shutdown(Shutdown::Write).expect("shutdown"),
        _ => {}
    }
}

/// Sends bytes of its own, and receives all of them among those of others.
fn byte_member(fixture: &mut Fixture<'_>) {
    let (service, letter) = [("chat-raw", b'a'), ("chat-hub", b'A')][fixture.random.usize(..2)];
    let mine = letter + fixture.copy as u8;
    let mut member = fixture.connect(service);
    let mut buffer = vec![0; 64 * 1024];
    for _ in 0..fixture.random.usize(1..20) {
        let mut missing = fixture.random.usize(1..16 * 1024);
        member.write_all(&vec![mine; missing]).expect("write");
        while missing > 0 {
            let n = match member.read(&mut buffer) {
                Err(error) if error.kind() != ErrorKind::ConnectionReset => {
                    panic!("{missing} bytes are missing: {error}")
                }
                outcome => outcome.unwrap_or(0),
            };
            if n == 0 {
                // The server has dropped this member: more than its bound was queued.
                fixture.totals.dropped.fetch_add(1, Relaxed);
                return;
            }
            let received = buffer[..n].iter().filter(|byte| **byte == mine).count();
            missing = missing.checked_sub(received).expect("no more than it has sent");
        }
    }
}

/// Joins a room and reads nothing.
fn read_nothing(fixture: &mut Fixture<'_>) {
    let service = ["chat", "chat-raw", "chat-hub"][fixture.random.usize(..3)];
    let _member = fixture.connect(service);
    fixture.pause(2_000);
}

/// Reads `count` answers.
fn answers(peer: &mut TcpStream, count: usize) -> Vec<Answer> {
    let (mut read, mut all) = (Vec::new(), Vec::new());
    let mut piece = vec![0; 64 * 1024];
    while all.len() < count {
        let n = peer.read(&mut piece).expect("read");
        assert!(n > 0, "the end, after {} of {count} answers", all.len());
        read.extend_from_slice(&piece[..n]);
        let mut rest = &read[..];
        while let Some(answer) = (!rest.is_empty()).then(|| take_answer(&mut rest, false)).flatten() {
            all.push(answer);
        }
        read = rest.to_vec();
    }
    assert!(read.is_empty(), "bytes behind the last answer: {:?}", String::from_utf8_lossy(&read));
    all
}

fn keep_alive(fixture: &mut Fixture<'_>) {
    let mut peer = fixture.connect("http");
    for _ in 0..fixture.random.usize(1..50) {
        let count = if fixture.random.bool() { 1 } else { fixture.random.usize(1..100) };
        let bodies: Vec<_> = (0..count).map(|_| fixture.bytes(if count == 1 { 200_000 } else { 500 })).collect();
        let mut text = Vec::new();
        for body in &bodies {
            write!(text, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
            text.extend_from_slice(body);
        }
        peer.write_all(&text).expect("write");
        for (answer, body) in answers(&mut peer, count).iter().zip(&bodies) {
            assert!(answer.status == 200 && answer.body == *body, "{}", answer.status);
        }
        fixture.totals.requests.fetch_add(count as u64, Relaxed);
    }
}

/// Sends single bytes with pauses until the server closes.
fn be_slow(fixture: &mut Fixture<'_>) {
    let mut peer = fixture.connect("http");
    let start = Instant::now();
    for byte in b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".iter().cycle() {
        if peer.write_all(&[*byte]).is_err() || start.elapsed() > Duration::from_millis(1_500) {
            break;
        }
        fixture.pause(100);
    }
    let mut answer = Vec::new();
    match peer.read_to_end(&mut answer) {
        Ok(_) => assert!(answer.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&answer)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(start.elapsed() < Duration::from_secs(5), "the server waited {:?}", start.elapsed());
}

fn send_datagrams(fixture: &mut Fixture<'_>) {
    let socket = fixture.server.connect_udp("echo-udp");
    let silent = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let mut buffer = vec![0; 1 << 16];
    for _ in 0..fixture.random.usize(1..50) {
        let longest = [1, 100, 1_472, 65_507][fixture.random.usize(..4)];
        let mut bytes = fixture.bytes(longest);
        if fixture.random.u8(..) == 0 {
            bytes.clear();
        }
        socket.send(&bytes).expect("send");
        let n = socket.recv(&mut buffer).expect("an answer");
        assert!(buffer[..n] == bytes, "the answer to {} bytes differs", bytes.len());
        fixture.totals.datagrams.fetch_add(1, Relaxed);
        // This datagram has no answer.
        let _ = silent.send_to(&bytes[..bytes.len().min(100)], fixture.server.addr("print-udp"));
    }
}
