//! Those who play against the server: each sort does one thing, again and again, and checks what comes back.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::answer::{Answer, take_answer};
use crate::harness::{Server, client, fill_up, pattern, read_all, reset, take};

/// What has been done.
#[derive(Debug, Default)]
pub struct Tally {
    pub connections: AtomicU64,
    /// Datagrams that were answered.
    pub datagrams: AtomicU64,
    pub requests: AtomicU64,
    pub lines: AtomicU64,
    /// Members that were dropped because they did not read.
    pub dropped: AtomicU64,
}

/// What a player has.
pub struct Stage<'a> {
    server: &'a Server,
    tally: &'a Tally,
    random: Rng,
    /// Tells it from others of its sort.
    twin: u64,
    until: Instant,
}

impl<'a> Stage<'a> {
    pub fn new(server: &'a Server, tally: &'a Tally, seed: u64, twin: u64, until: Instant) -> Self {
        Self { server, tally, random: Rng::with_seed(seed), twin, until }
    }

    /// Whether there is time left.
    pub fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    fn connect(&self, service: &str) -> TcpStream {
        let stream = client(self.server.addr(service));
        self.tally.connections.fetch_add(1, Relaxed);
        stream
    }

    /// Waits up to so many milliseconds.
    fn dawdle(&mut self, most: u64) {
        thread::sleep(Duration::from_millis(self.random.u64(0..=most)));
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let (size, salt) = (self.random.usize(1..=most), self.random.u8(..));
        pattern(size).into_iter().map(|byte| byte ^ salt).collect()
    }
}

type Player = fn(&mut Stage<'_>);

/// Every sort of player.
pub const PLAYERS: [(&str, Player); 16] = [
    ("visitor", visit),
    ("resetter", break_off),
    ("half-closer", half_close),
    ("stopped reader", stop_reading),
    ("big echo", echo_much),
    ("dripping echo", echo_in_drops),
    ("discarder", discard),
    ("reader of the time", read_the_time),
    ("idler", idle),
    ("speaker", speak),
    ("member", come_and_go),
    ("member of the crowd", crowd),
    ("deaf member", be_deaf),
    ("keep-alive client", keep_alive),
    ("slow loris", be_slow),
    ("sender of datagrams", send_datagrams),
];

const STREAMS: [&str; 8] = ["echo", "discard", "time", "idle", "chat", "chat-raw", "chat-hub", "http"];

/// In and out again, perhaps with a word.
fn visit(stage: &mut Stage<'_>) {
    let service = STREAMS[stage.random.usize(..STREAMS.len())];
    let mut peer = stage.connect(service);
    if stage.random.bool() {
        // It may be gone already: the time is told without being asked for.
        let _ = peer.write_all(b"hello\n");
    }
    stage.dawdle(3);
}

/// RST, at any moment.
fn break_off(stage: &mut Stage<'_>) {
    let service = STREAMS[stage.random.usize(..STREAMS.len())];
    let mut peer = stage.connect(service);
    // In a room it whispers, and says nothing that another member may take for its own.
    let bytes = if service.starts_with("chat") { b"...\n".to_vec() } else { stage.bytes(100_000) };
    peer.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    let _ = peer.write_all(&bytes);
    stage.dawdle(5);
    reset(peer);
}

/// Sends `bytes` and hears them while it does, then the end.
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

fn half_close(stage: &mut Stage<'_>) {
    let mut peer = stage.connect("echo");
    let bytes = stage.bytes(60_000);
    peer.write_all(&bytes).expect("write");
    peer.shutdown(Shutdown::Write).expect("shutdown");
    stage.dawdle(2);
    assert!(read_all(&mut peer) == bytes, "the echo differs");
}

/// Fills all buffers, stands still, and then leaves or reads what it has sent.
fn stop_reading(stage: &mut Stage<'_>) {
    let mut peer = stage.connect("echo");
    let sent = fill_up(stage.server, &mut peer);
    stage.dawdle(500);
    if stage.random.bool() {
        peer.shutdown(Shutdown::Write).expect("shutdown");
        let chunk = pattern(64 * 1024);
        let expected: Vec<u8> = chunk.iter().copied().cycle().take(sent).collect();
        assert!(read_all(&mut peer) == expected, "the echo of {sent} bytes differs");
    }
}

fn echo_much(stage: &mut Stage<'_>) {
    let bytes = stage.bytes(8 << 20);
    assert_echo(&mut stage.connect("echo"), &bytes);
}

/// Small pieces, each awaited, and some left to pile up.
fn echo_in_drops(stage: &mut Stage<'_>) {
    let mut peer = stage.connect("echo");
    for _ in 0..stage.random.usize(1..100) {
        let bytes = stage.bytes(200);
        for piece in bytes.chunks(stage.random.usize(1..=bytes.len())) {
            peer.write_all(piece).expect("write");
        }
        assert!(take(&mut peer, bytes.len()) == bytes, "the echo differs");
    }
}

fn discard(stage: &mut Stage<'_>) {
    let mut peer = stage.connect("discard");
    peer.write_all(&stage.bytes(1 << 20)).expect("write");
    peer.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(read_all(&mut peer), b"");
}

fn read_the_time(stage: &mut Stage<'_>) {
    let mut peer = stage.connect("time");
    assert_eq!(read_all(&mut peer).len(), "2006-01-02 15:04:05\n".len());
    stage.dawdle(5);
}

fn idle(stage: &mut Stage<'_>) {
    let mut peer = stage.connect("idle");
    stage.dawdle(1_000);
    peer.write_all(b"still here").expect("write");
    let start = Instant::now();
    assert_eq!(read_all(&mut peer), b"goodbye\n");
    assert!(start.elapsed() >= Duration::from_millis(2_990), "goodbye after {:?}", start.elapsed());
}

/// A member of the line chat, and what it is called.
fn join(stage: &Stage<'_>) -> (BufReader<TcpStream>, String) {
    let mut member = BufReader::new(stage.connect("chat"));
    let name = hear(&mut member).strip_prefix("You are ").expect("a greeting").to_owned();
    (member, name)
}

fn hear(member: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    member.read_line(&mut line).expect("read");
    assert!(line.ends_with('\n'), "the end, after {line:?}");
    line.trim_end().to_owned()
}

/// One speaks, another hears every line in order, whoever else comes, goes and talks.
fn speak(stage: &mut Stage<'_>) {
    let (mut witness, _) = join(stage);
    let (speaker, name) = join(stage);
    let mut next = 0;
    for _ in 0..stage.random.usize(1..50) {
        let end = next + stage.random.u64(1..20);
        let text: String = (next..end).map(|n| format!("line {n}\n")).collect();
        speaker.get_ref().write_all(text.as_bytes()).expect("write");
        stage.tally.lines.fetch_add(end - next, Relaxed);
        while next < end {
            let line = hear(&mut witness);
            let Some(rest) = line.strip_prefix(&format!("{name}: ")) else { continue };
            assert_eq!(rest, format!("line {next}"));
            next += 1;
        }
    }
    drop(speaker);
    // Its departure is told once; nothing of it comes afterwards.
    while hear(&mut witness) != format!("{name} has left") {}
}

/// A member who says something, hears it, and leaves in one way or another.
fn come_and_go(stage: &mut Stage<'_>) {
    let (mut member, name) = join(stage);
    for n in 0..stage.random.usize(0..5) {
        writeln!(member.get_ref(), "{n}").expect("write");
        while hear(&mut member) != format!("{name}: {n}") {}
    }
    match stage.random.u8(..3) {
        0 => reset(member.into_inner()),
        1 => member.get_ref().shutdown(Shutdown::Write).expect("shutdown"),
        _ => {}
    }
}

/// Bytes of its own, all of which it hears among those of others.
fn crowd(stage: &mut Stage<'_>) {
    let (service, letter) = [("chat-raw", b'a'), ("chat-hub", b'A')][stage.random.usize(..2)];
    let mine = letter + stage.twin as u8;
    let mut member = stage.connect(service);
    let mut buffer = vec![0; 64 * 1024];
    for _ in 0..stage.random.usize(1..20) {
        let mut missing = stage.random.usize(1..16 * 1024);
        member.write_all(&vec![mine; missing]).expect("write");
        while missing > 0 {
            let n = match member.read(&mut buffer) {
                Err(error) if error.kind() != ErrorKind::ConnectionReset => {
                    panic!("{missing} bytes are missing: {error}")
                }
                outcome => outcome.unwrap_or(0),
            };
            if n == 0 {
                // It has fallen behind by more than is kept for it.
                stage.tally.dropped.fetch_add(1, Relaxed);
                return;
            }
            let heard = buffer[..n].iter().filter(|byte| **byte == mine).count();
            missing = missing.checked_sub(heard).expect("no more than it has said");
        }
    }
}

/// One who is told everything and reads nothing.
fn be_deaf(stage: &mut Stage<'_>) {
    let service = ["chat", "chat-raw", "chat-hub"][stage.random.usize(..3)];
    let _member = stage.connect(service);
    stage.dawdle(2_000);
}

/// Takes `count` answers.
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
    assert!(read.is_empty(), "more than was asked for: {:?}", String::from_utf8_lossy(&read));
    all
}

fn keep_alive(stage: &mut Stage<'_>) {
    let mut peer = stage.connect("http");
    for _ in 0..stage.random.usize(1..50) {
        let count = if stage.random.bool() { 1 } else { stage.random.usize(1..100) };
        let bodies: Vec<_> = (0..count).map(|_| stage.bytes(if count == 1 { 200_000 } else { 500 })).collect();
        let mut text = Vec::new();
        for body in &bodies {
            write!(text, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
            text.extend_from_slice(body);
        }
        peer.write_all(&text).expect("write");
        for (answer, body) in answers(&mut peer, count).iter().zip(&bodies) {
            assert!(answer.status == 200 && answer.body == *body, "{}", answer.status);
        }
        stage.tally.requests.fetch_add(count as u64, Relaxed);
    }
}

/// Byte by byte, with pauses, until the server has had enough.
fn be_slow(stage: &mut Stage<'_>) {
    let mut peer = stage.connect("http");
    let start = Instant::now();
    for byte in b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".iter().cycle() {
        if peer.write_all(&[*byte]).is_err() || start.elapsed() > Duration::from_millis(1_500) {
            break;
        }
        stage.dawdle(100);
    }
    let mut answer = Vec::new();
    match peer.read_to_end(&mut answer) {
        Ok(_) => assert!(answer.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&answer)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(start.elapsed() < Duration::from_secs(5), "it was borne with for {:?}", start.elapsed());
}

fn send_datagrams(stage: &mut Stage<'_>) {
    let socket = stage.server.connect_udp("echo-udp");
    let silent = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let mut buffer = vec![0; 1 << 16];
    for _ in 0..stage.random.usize(1..50) {
        let longest = [1, 100, 1_472, 65_507][stage.random.usize(..4)];
        let mut bytes = stage.bytes(longest);
        if stage.random.u8(..) == 0 {
            bytes.clear();
        }
        socket.send(&bytes).expect("send");
        let n = socket.recv(&mut buffer).expect("an answer");
        assert!(buffer[..n] == bytes, "the answer to {} bytes differs", bytes.len());
        stage.tally.datagrams.fetch_add(1, Relaxed);
        // Nobody answers this one.
        let _ = silent.send_to(&bytes[..bytes.len().min(100)], stage.server.addr("print-udp"));
    }
}
