//! `resp`: byte by byte, beside redis-server where that is installed, and by the clients of Redis.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::clients::{are_installed, output, run};
use crate::harness::{PATIENCE, Server, client, eventually, pattern, read_all, take};
use rustix::process::Signal;

/// Requests, and the answers of Redis 7.
const SAMPLES: [(&str, &str); 32] = [
    ("PING\r\n", "+PONG\r\n"),
    ("ping hello\n", "$5\r\nhello\r\n"),
    ("  \r\n", ""),
    ("*0\r\n", ""),
    ("*-1\r\n", ""),
    ("*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n"),
    ("*1\r\n$4\r\nPiNg\r\n", "+PONG\r\n"),
    ("get k\r\n", "$-1\r\n"),
    ("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nv1\r\n", "+OK\r\n"),
    ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "$2\r\nv1\r\n"),
    ("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", "+OK\r\n"),
    ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "$0\r\n\r\n"),
    ("ttl k\r\n", ":-1\r\n"),
    ("expire k 100\r\n", ":1\r\n"),
    ("ttl k\r\n", ":100\r\n"),
    ("set k v2\r\n", "+OK\r\n"),
    ("ttl k\r\n", ":-1\r\n"),
    ("expire k 0\r\n", ":1\r\n"),
    ("ttl k\r\n", ":-2\r\n"),
    ("expire k 10\r\n", ":0\r\n"),
    ("set a 1\r\nset b 2\r\ndel a b c\r\n", "+OK\r\n+OK\r\n:2\r\n"),
    ("publish news hello\r\n", ":0\r\n"),
    ("get\r\n", "-ERR wrong number of arguments for 'get' command\r\n"),
    ("GET a b\r\n", "-ERR wrong number of arguments for 'get' command\r\n"),
    ("set a\r\n", "-ERR wrong number of arguments for 'set' command\r\n"),
    ("set a b c\r\n", "-ERR syntax error\r\n"),
    ("ping a b\r\n", "-ERR wrong number of arguments for 'ping' command\r\n"),
    ("expire k soon\r\n", "-ERR value is not an integer or out of range\r\n"),
    ("nonsense\r\n", "-ERR unknown command 'nonsense', with args beginning with: \r\n"),
    ("Nonsense one two\r\n", "-ERR unknown command 'Nonsense', with args beginning with: 'one' 'two' \r\n"),
    ("subscribe\r\n", "-ERR wrong number of arguments for 'subscribe' command\r\n"),
    ("subscribe a b\r\n", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"),
];

/// Requests after which the server closes the connection, and the answers of Redis 7.
const BROKEN: [(&str, &str); 7] = [
    ("*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
    ("*99999999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
    ("*1\r\nPING\r\n", "-ERR Protocol error: expected '$', got 'P'\r\n"),
    ("*1\r\n$x\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
    ("*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
    ("*1\r\n$99999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
    ("PING\r\n*1\r\n$x\r\nPING\r\n", "+PONG\r\n-ERR Protocol error: invalid bulk length\r\n"),
];

fn start() -> Server {
    Server::example("resp", "127.0.0.1:0", 1)
}

/// Sends `requests`, then FIN, and returns all answers.
fn ask(addr: SocketAddr, requests: &[u8]) -> String {
    let mut peer = client(addr);
    peer.write_all(requests).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    String::from_utf8(read_all(&mut peer)).unwrap()
}

/// Asserts that the server at `addr` gives the expected answers.
fn assert_samples(addr: SocketAddr) {
    for (requests, answers) in SAMPLES.into_iter().chain(BROKEN) {
        assert_eq!(ask(addr, requests.as_bytes()), answers, "{requests:?}");
    }
    let line = "x".repeat(70_000);
    assert_eq!(ask(addr, line.as_bytes()), "-ERR Protocol error: too big inline request\r\n");
}

/// A `redis-server`, killed at the end of the test.
struct Redis(Child, SocketAddr);

impl Redis {
    fn start() -> Self {
        // Another program may take the port between its release and its use: then the server ends, and the test fails.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let port = addr.port().to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--save", "", "--appendonly", "no"]).stdout(Stdio::null());
        let redis = Self(command.spawn().unwrap(), addr);
        assert!(eventually(PATIENCE, || TcpStream::connect(addr).is_ok()), "redis-server does not listen on {addr}");
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn resp_answers_as_redis() {
    let server = start();
    assert_samples(server.addr("resp"));
    if are_installed(&["redis-server"]) {
        assert_samples(Redis::start().1);
    }
    server.signal(Signal::TERM);
    assert!(server.wait().status.success());
}

#[test]
fn resp_decodes_requests_at_every_split() {
    let server = start();
    let requests: String = SAMPLES[..26].iter().map(|(requests, _)| *requests).collect();
    let answers: String = SAMPLES[..26].iter().map(|(_, answers)| *answers).collect();
    let mut other = server.connect("resp");
    for split in 0..requests.len() {
        let mut peer = server.connect("resp");
        let (front, back) = requests.as_bytes().split_at(split);
        peer.write_all(front).unwrap();
        // The kernel reports the first part before this request, so its answer comes after the first part is read.
        other.write_all(b"PING\r\n").unwrap();
        assert_eq!(take(&mut other, 7), b"+PONG\r\n");
        peer.write_all(back).unwrap();
        assert_eq!(String::from_utf8(take(&mut peer, answers.len())).unwrap(), answers, "split at {split}");
    }
}

#[test]
fn resp_answers_all_requests_of_a_client_that_reads_late() {
    let server = start();
    let mut peer = server.connect("resp");
    let value = pattern(500_000);
    peer.write_all(format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n", value.len()).as_bytes()).unwrap();
    peer.write_all(&[&value[..], b"\r\n"].concat()).unwrap();
    assert_eq!(take(&mut peer, 5), b"+OK\r\n");
    let before = server.resident();
    // The answers are 100 MB: more than the kernel takes, so most requests are unread until the client reads.
    peer.write_all(&b"GET big\r\n".repeat(200)).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let mut other = server.connect("resp");
    other.write_all(b"PING\r\n").unwrap();
    assert_eq!(take(&mut other, 7), b"+PONG\r\n");
    assert!(server.resident() < before + 16_000_000, "{} bytes, {before} before", server.resident());
    for _ in 0..200 {
        assert_eq!(take(&mut peer, 9), b"$500000\r\n");
        assert!(take(&mut peer, value.len()) == value);
        assert_eq!(take(&mut peer, 2), b"\r\n");
    }
    assert_eq!(read_all(&mut peer), b"");
}

#[test]
fn resp_bounds_a_request_that_never_ends() {
    let server = start();
    let before = server.resident();
    let many = format!("$2000\r\n{}\r\n", "x".repeat(2000));
    let padded = format!("${}1\r\nx\r\n", "0".repeat(60_000));
    for argument in [many, padded] {
        let mut peer = server.connect("resp");
        peer.write_all(b"*1024\r\n").unwrap();
        for _ in 0..1024 {
            peer.write_all(argument.as_bytes()).unwrap();
        }
        let answer = b"-ERR Protocol error: invalid bulk length\r\n";
        assert_eq!(take(&mut peer, answer.len()), answer);
    }
    assert!(server.resident() < before + 16_000_000, "{} bytes, {before} before", server.resident());
}

#[test]
fn resp_expires_more_keys_than_one_turn_takes() {
    let server = start();
    let mut peer = BufReader::new(server.connect("resp"));
    let mut ask = |requests: &str| {
        peer.get_mut().write_all(requests.as_bytes()).unwrap();
        let mut answers = String::new();
        for _ in requests.lines() {
            peer.read_line(&mut answers).unwrap();
        }
        answers
    };
    let sets: String = (0..5000).map(|n| format!("set {n} x\nexpire {n} 1\n")).collect();
    assert_eq!(ask(&sets), "+OK\r\n:1\r\n".repeat(5000));
    assert!(eventually(PATIENCE, || ask("ttl 0\nttl 4999\n") == ":-2\r\n:-2\r\n"), "keys do not expire");
    assert_eq!(ask("get 2500\ndel 1 2 3 2500\n"), "$-1\r\n:0\r\n");
}

#[test]
fn resp_drops_a_subscriber_that_does_not_read_and_no_other() {
    let server = start();
    let [mut reader, mut slow] = ["reader", "slow"].map(|_| {
        let mut peer = server.connect("resp");
        peer.write_all(b"subscribe news\n").unwrap();
        assert_eq!(take(&mut peer, 33), b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
        peer
    });
    let mut publisher = server.connect("resp");
    let text = pattern(100_000);
    let request = [b"*3\r\n$7\r\npublish\r\n$4\r\nnews\r\n$100000\r\n", &text[..], b"\r\n"].concat();
    let message = [b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$100000\r\n", &text[..], b"\r\n"].concat();
    let dropped = (0..1000).any(|_| {
        publisher.write_all(&request).unwrap();
        let members = take(&mut publisher, 4);
        assert!(take(&mut reader, message.len()) == message);
        members == b":1\r\n"
    });
    assert!(dropped, "the subscriber is still there");
    // The end is a reset: the peer cannot take a cut stream for a complete one.
    let mut rest = Vec::new();
    assert!(slow.read_to_end(&mut rest).is_err());
}

#[test]
fn resp_refuses_values_above_its_memory_until_keys_are_deleted() {
    let server = start();
    let mut peer = server.connect("resp");
    let value = vec![b'x'; 1_000_000];
    let mut set = |key: usize| {
        peer.write_all(format!("*3\r\n$3\r\nSET\r\n$3\r\n{key:03}\r\n${}\r\n", value.len()).as_bytes()).unwrap();
        peer.write_all(&[&value[..], b"\r\n"].concat()).unwrap();
        take(&mut peer, 5) == b"+OK\r\n"
    };
    let full = (0..500).find(|&key| !set(key));
    assert_eq!(full, Some(269), "256 MiB are 268.4 MB");
    let answer = ask(server.addr("resp"), b"get 500\r\ndel 000 001\r\nset small value\r\n");
    assert_eq!(answer, "$-1\r\n:2\r\n+OK\r\n");
    assert!(server.resident() < 320_000_000, "{} bytes", server.resident());
}

#[test]
fn resp_finishes_its_clients_on_a_stop() {
    let server = start();
    let mut peer = server.connect("resp");
    peer.write_all(b"subscribe news\r\n").unwrap();
    take(&mut peer, 33);
    server.signal(Signal::TERM);
    assert_eq!(read_all(&mut peer), b"");
    assert!(server.wait().status.success());
}

#[test]
fn resp_serves_redis_cli() {
    if !are_installed(&["redis-cli"]) {
        return;
    }
    let server = start();
    let port = server.addr("resp").port().to_string();
    let cli = |args: &[&str]| output("redis-cli", &[&["-p", &port], args].concat());
    assert_eq!(cli(&["ping"]), "PONG\n");
    assert_eq!(cli(&["set", "the key", "the value"]), "OK\n");
    assert_eq!(cli(&["get", "the key"]), "the value\n");
    assert_eq!(cli(&["expire", "the key", "100"]), "1\n");
    assert!(["100\n", "99\n"].contains(&&*cli(&["ttl", "the key"])));
    assert_eq!(cli(&["del", "the key", "nothing"]), "1\n");
    assert_eq!(cli(&["get", "the key"]), "\n");
    assert!(cli(&["flushall"]).starts_with("ERR unknown command 'flushall'"));
    let answers = run("redis-cli", &["-p", &port, "--no-raw"], b"set a 1\nget a\nget b\nexpire a x\n");
    let expected = "OK\n\"1\"\n(nil)\n(error) ERR value is not an integer or out of range\n";
    let answers = String::from_utf8(answers.stdout).unwrap();
    assert!(
        answers == expected || answers == expected.replace('"', "").replace("(nil)", "").replace("(error) ", "") + "\n"
    );

    let mut subscriber = Command::new("redis-cli");
    subscriber.args(["-p", &port, "subscribe", "news"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut subscriber = subscriber.spawn().unwrap();
    assert!(eventually(PATIENCE, || cli(&["publish", "news", "hello"]) == "1\n"), "redis-cli does not subscribe");
    let lines = BufReader::new(subscriber.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(lines.take(6).collect::<Vec<_>>(), ["subscribe", "news", "1", "message", "news", "hello"]);
    subscriber.kill().unwrap();
    subscriber.wait().unwrap();
    let left = eventually(PATIENCE, || cli(&["publish", "news", "hello"]) == "0\n");
    assert!(left, "the subscription outlives its connection");
}

#[test]
fn resp_serves_redis_benchmark() {
    if !are_installed(&["redis-benchmark"]) {
        return;
    }
    let server = start();
    let port = server.addr("resp").port().to_string();
    for pipeline in ["1", "16"] {
        let args = ["-p", &port, "-t", "ping,set,get", "-n", "5000", "-P", pipeline, "-q"];
        let report = output("redis-benchmark", &args);
        assert_eq!(report.matches("requests per second").count(), 4, "{report}");
    }
}
