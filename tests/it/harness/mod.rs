//! Starts the real binary on free ports, talks to it, stops it, and looks at what it leaves behind.
//!
//! Every wait here has an end: a test that would hang fails instead.
#![allow(dead_code, missing_docs)]

pub mod addresses;
pub mod client;
pub mod conversation;

pub mod spy;

use std::collections::HashMap;
use std::env::consts::EXE_SUFFIX;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, fs};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running `reactor serve`.
pub struct Server {
    child: Child,
    addrs: HashMap<String, SocketAddr>,
    stderr: Arc<Mutex<String>>,
    listening: Option<JoinHandle<()>>,
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

/// The program that an example was built to. `cargo test` builds all of them, but not if it is told to run one file.
fn example(name: &str) -> PathBuf {
    let mut path = env::current_exe().expect("the path of the test");
    // target/PROFILE/deps/TEST
    path.pop();
    path.pop();
    path.extend(["examples", &format!("{name}{EXE_SUFFIX}")]);
    assert!(path.exists(), "{} is missing: cargo build --examples", path.display());
    path
}

impl Server {
    /// Starts `reactor serve ARGS` and waits until it is ready. Name services as `echo=0` to have free ports.
    pub fn start(args: &[&str]) -> Self {
        Self::spawn(reactor(&[&["serve", "--ledger", "json"], args].concat()))
    }

    /// Starts a command that is, or ends up as, a `reactor serve`.
    pub fn spawn(command: Command) -> Self {
        Self::spawn_with(command, usize::MAX)
    }

    /// Starts an example, which says where its services listen, and no more.
    pub fn example(name: &str, arg: &str, services: usize) -> Self {
        let mut command = Command::new(example(name));
        command.arg(arg).stdin(Stdio::null());
        Self::spawn_with(command, services)
    }

    /// Starts a command that says `ready` or where so many services listen.
    fn spawn_with(mut command: Command, services: usize) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start reactor");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (line, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        let mut server = Self::adopt(child, HashMap::new());
        server.read_addrs(&lines, services);
        server
    }

    /// Starts a command that is a `reactor serve` of `service` at `addr`, on whose standard output nobody listens.
    pub fn spawn_unheard(mut command: Command, service: &str, addr: SocketAddr) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().expect("start reactor");
        let server = Self::adopt(child, HashMap::from([(service.to_owned(), addr)]));
        assert!(eventually(PATIENCE, || TcpStream::connect(addr).is_ok()), "it does not listen: {}", server.log());
        server
    }

    fn adopt(mut child: Child, addrs: HashMap<String, SocketAddr>) -> Self {
        let mut source = BufReader::new(child.stderr.take().expect("piped"));
        let stderr = Arc::new(Mutex::new(String::new()));
        let listening = thread::spawn({
            let stderr = Arc::clone(&stderr);
            move || {
                let mut line = Vec::new();
                while source.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                    stderr.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                    line.clear();
                }
            }
        });
        Self { child, addrs, stderr, listening: Some(listening) }
    }

    fn read_addrs(&mut self, lines: &Receiver<String>, services: usize) {
        while self.addrs.len() < services {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) if line == "ready" => break,
                Ok(line) => {
                    let words: Vec<_> = line.split(' ').collect();
                    assert_eq!(words[0], "listening", "unexpected line: {line}");
                    self.addrs.insert(words[1].to_owned(), words[3].parse().expect("an address"));
                }
                Err(_) => {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    self.listening.take().expect("taken once").join().expect("stderr");
                    panic!("the server did not start: {}", self.log());
                }
            }
        }
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
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

    /// Members of a chat of bytes who are in: each has had a byte of its own back, and has read those of all who came
    /// later.
    pub fn crowd(&self, service: &str, count: usize) -> Vec<TcpStream> {
        let mut members: Vec<TcpStream> = Vec::new();
        for _ in 0..count {
            let mut newcomer = self.connect(service);
            assert_eq!(exchange(&mut newcomer, b"!"), b"!");
            for member in &mut members {
                assert_eq!(take(member, 1), b"!");
            }
            members.push(newcomer);
        }
        members
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

    /// Stops the process itself, so that what arrives from now on is all there when it goes on.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let stopped = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("procfs");
            // Of a process that is traced it says `t`.
            stat.rsplit_once(") ").expect("a state").1.starts_with(['T', 't'])
        };
        assert!(eventually(PATIENCE, stopped), "it goes on after SIGSTOP");
    }

    /// Lets a process go on that has been stopped.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// What it has printed on standard error so far.
    pub fn log(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until it has printed `text` on standard error.
    pub fn await_log(&self, text: &str) {
        assert!(eventually(PATIENCE, || self.log().contains(text)), "'{text}' is missing from: {}", self.log());
    }

    /// The counter `name`, as the report on SIGUSR1 has it.
    pub fn counter(&self, name: &str) -> u64 {
        const LAST_LINE: &str = "  timers: ";
        let reports = |log: &str| log.matches(LAST_LINE).count();
        let before = reports(&self.log());
        self.signal(Signal::USR1);
        assert!(eventually(PATIENCE, || reports(&self.log()) > before), "no report: {}", self.log());
        let log = self.log();
        let ledger = log.rsplit_once("ledger:\n").expect("a ledger").1;
        let rows = ledger.lines().filter_map(|line| line.trim().split_once(' '));
        // The report leaves out what has not happened.
        rows.into_iter().find(|row| row.0 == name).map_or(0, |row| row.1.trim().parse().expect("a number"))
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

    /// An idle server uses no processor time: at most 20 ms in two seconds.
    pub fn assert_idle(&self) {
        let before = self.cpu();
        let spins = || self.cpu() - before > Duration::from_millis(20);
        assert!(!eventually(Duration::from_secs(2), spins), "it used {:?} while idle", self.cpu() - before);
    }

    /// What must be true after everything: it serves, has one thread, and holds as many descriptors as `before`.
    pub fn assert_unharmed(&self, before: usize) {
        self.assert_serves();
        assert_eq!(self.threads(), 1);
        self.assert_descriptors(before);
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
        self.listening.take().expect("taken once").join().expect("stderr");
        let stderr = self.log();
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

    /// How many connections have ended: each once, so as many as were accepted.
    pub fn count_closed(&self) -> u64 {
        self.ledger.iter().filter(|(name, _)| name.starts_with("closed_")).map(|(_, count)| count).sum()
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
    take(peer, bytes.len())
}

/// Reads `count` bytes.
pub fn take(peer: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    peer.read_exact(&mut bytes).expect("read");
    bytes
}

/// Reads to the end of file.
pub fn read_all(peer: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    peer.read_to_end(&mut all).expect("read to the end");
    all
}

/// Writes without reading until nothing has been taken for a while; returns how much was.
pub fn fill_up(peer: &mut TcpStream) -> usize {
    let chunk = pattern(64 * 1024);
    peer.set_nonblocking(true).unwrap();
    let (mut total, mut last) = (0, Instant::now());
    let stuck = eventually(PATIENCE, || {
        while let Ok(n) = peer.write(&chunk[total % chunk.len()..]) {
            (total, last) = (total + n, Instant::now());
        }
        last.elapsed() > Duration::from_millis(300)
    });
    peer.set_nonblocking(false).unwrap();
    assert!(stuck, "it took {total} bytes and does not stop");
    total
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
