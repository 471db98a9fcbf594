//! Starts the real binary on free ports, talks to it, stops it, and looks at what it leaves behind.
//!
//! Every wait here has an end: a test that would hang fails instead.
#![allow(dead_code, missing_docs)]

pub mod spy;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running `reactor serve`.
pub struct Server {
    child: Child,
    addrs: HashMap<String, SocketAddr>,
    stderr: Option<JoinHandle<String>>,
}

/// What a server has left behind.
pub struct Remains {
    pub status: ExitStatus,
    pub stderr: String,
    /// The counters, if it was started with `--ledger json` (which [`Server::start`] does).
    pub ledger: HashMap<String, u64>,
}

/// The command, with its output captured and the environment's log level out of the way.
pub fn reactor(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reactor"));
    command.args(args).env_remove("RUST_LOG").env_remove("NO_COLOR");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Server {
    /// Starts `reactor serve ARGS` and waits until it is ready. Name services as `echo=0` to have free ports.
    pub fn start(args: &[&str]) -> Self {
        Self::spawn(reactor(&[&["serve", "--ledger", "json"], args].concat()))
    }

    /// Starts a command that is, or ends up as, a `reactor serve`.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start reactor");
        let mut stderr = child.stderr.take().expect("piped");
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut addrs = HashMap::new();
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        loop {
            match lines.next() {
                Some(Ok(line)) if line == "ready" => break,
                Some(Ok(line)) => {
                    let words: Vec<_> = line.split(' ').collect();
                    assert_eq!(words[0], "listening", "unexpected line: {line}");
                    addrs.insert(words[1].to_owned(), words[3].parse().expect("an address"));
                }
                _ => panic!("the server did not start: {}", stderr.join().unwrap_or_default()),
            }
        }
        Self { child, addrs, stderr: Some(stderr) }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn addr(&self, service: &str) -> SocketAddr {
        self.addrs[service]
    }

    /// A client of `service`, whose calls end after [`PATIENCE`].
    pub fn connect(&self, service: &str) -> TcpStream {
        client(self.addr(service))
    }

    /// A connected UDP client of `service`.
    pub fn connect_udp(&self, service: &str) -> UdpSocket {
        let addr = self.addr(service);
        let local: SocketAddr = if addr.is_ipv4() { ([127, 0, 0, 1], 0).into() } else { "[::1]:0".parse().unwrap() };
        let socket = UdpSocket::bind(local).expect("bind");
        socket.connect(addr).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("set timeout");
        socket
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        kill_process(pid, signal).expect("send a signal");
    }

    /// A fresh echo must be answered within a second, whatever has happened before.
    pub fn assert_serves(&self) {
        let start = Instant::now();
        let mut peer = self.connect("echo");
        peer.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        assert_eq!(exchange(&mut peer, b"still there?"), b"still there?");
        assert!(start.elapsed() < Duration::from_secs(1), "a fresh echo took {:?}", start.elapsed());
    }

    /// The descriptors that it holds.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("procfs").count()
    }

    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.pid())).expect("procfs").count()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("procfs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    /// Processor time that it has used.
    pub fn cpu(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.pid())).expect("procfs");
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }

    /// Waits until it holds as many descriptors as `before`, at most the two seconds that are promised.
    pub fn assert_descriptors(&self, before: usize) {
        let back = eventually(Duration::from_secs(2), || self.descriptors() == before);
        assert!(back, "{} descriptors, {before} before", self.descriptors());
    }

    /// Asks it to stop and waits for its end.
    pub fn stop(self) -> Remains {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Remains {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "the server does not stop");
            pause();
        };
        let stderr = self.stderr.take().expect("taken once").join().expect("stderr");
        assert!(!stderr.contains("panicked"), "{stderr}");
        let json = stderr.lines().find(|line| line.starts_with('{')).unwrap_or("{}");
        let members = json.trim_matches(['{', '}']).split(',').filter(|member| !member.is_empty());
        let ledger = members.map(|member| {
            let (name, count) = member.split_once(':').expect("a member");
            (name.trim_matches('"').to_owned(), count.parse().expect("a number"))
        });
        Remains { status, ledger: ledger.collect(), stderr }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Remains {
    /// It was served to the end: exit status 0.
    pub fn assert_clean(&self) {
        assert_eq!(self.status.code(), Some(0), "{}", self.stderr);
    }

    pub fn count(&self, name: &str) -> u64 {
        *self.ledger.get(name).unwrap_or_else(|| panic!("no counter {name} in: {}", self.stderr))
    }
}

/// A TCP client whose calls end after [`PATIENCE`].
pub fn client(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Writes `bytes` and reads as many.
pub fn exchange(peer: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    peer.write_all(bytes).expect("write");
    let mut back = vec![0; bytes.len()];
    peer.read_exact(&mut back).expect("read");
    back
}

/// Reads to the end of file.
pub fn read_all(peer: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    peer.read_to_end(&mut all).expect("read to the end");
    all
}

/// Bytes that differ from place to place, so that a loss, a swap or a repetition shows.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Looks again and again until `condition` holds, at most for `patience`.
pub fn eventually(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > patience {
            return false;
        }
        pause();
    }
}

/// Closes with RST instead of FIN.
pub fn reset(peer: TcpStream) {
    let socket = socket2::SockRef::from(&peer);
    socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

/// The step between two looks at something that another process changes.
fn pause() {
    thread::park_timeout(Duration::from_millis(1));
}
