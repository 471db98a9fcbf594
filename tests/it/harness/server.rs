//! A running `reactor serve`, or an example in its place, and its exit.
//!
//! Owns: the process, its addresses, its log. Must not know: which answers the services give.

use std::collections::HashMap;
use std::env;
use std::env::consts::EXE_SUFFIX;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use reactor::Addr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::process::{self, Stopwatch, Table};
use super::{PATIENCE, client, eventually, exchange, handle_ignored_signals, pause, reactor, take};

/// A server process.
pub struct Server {
    child: Child,
    addrs: HashMap<String, Addr>,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// The end of a server process.
pub struct Exit {
    pub status: ExitStatus,
    pub stderr: String,
    /// The counters of a server with `--ledger json`, which [`Server::start`] sets.
    pub ledger: HashMap<String, u64>,
    /// Time in which the process was ready to run while others had the processors.
    pub withheld: Duration,
}

/// Returns the command of a built example. `cargo test` builds all of them, but `cargo test --test it` none.
pub fn example(name: &str, args: &[&str]) -> Command {
    handle_ignored_signals();
    let mut path = env::current_exe().expect("the path of the test");
    // target/PROFILE/deps/TEST
    path.pop();
    path.pop();
    path.extend(["examples", &format!("{name}{EXE_SUFFIX}")]);
    assert!(path.exists(), "{} is missing: cargo build --examples", path.display());
    let mut command = Command::new(path);
    command.args(args).stdin(Stdio::null());
    command
}

impl Server {
    /// Starts `reactor serve ARGS` and waits until the server is ready. `echo=0` gives the service a free port.
    pub fn start(args: &[&str]) -> Self {
        Self::spawn(reactor(&[&["serve", "--ledger", "json"], args].concat()))
    }

    /// Starts a command that is, or execs, a `reactor serve`.
    pub fn spawn(command: Command) -> Self {
        Self::spawn_with(command, usize::MAX)
    }

    /// Starts an example, which prints the address of each of its `services` and no more.
    pub fn example(name: &str, arg: &str, services: usize) -> Self {
        Self::example_with(name, &[arg], services)
    }

    /// Starts an example with several arguments.
    pub fn example_with(name: &str, args: &[&str], services: usize) -> Self {
        Self::spawn_with(example(name, args), services)
    }

    /// Starts a command and waits for the line `ready` or for the addresses of `services` services.
    fn spawn_with(mut command: Command, services: usize) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start reactor");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (line, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        let mut server = Self::adopt(child);
        server.read_addrs(&lines, services);
        server
    }

    /// Starts `reactor serve ARGS` with a standard output that the reader has closed. `services` are the names of its TCP
    /// and of its UDP service, if any; their ports are read from the kernel's tables.
    pub fn with_closed_stdout(args: &[&str], services: [Option<&str>; 2]) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = reactor(&[&["serve", "--ledger", "json"], args].concat());
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().expect("start reactor");
        let mut server = Self::adopt(child);
        for (service, table) in services.into_iter().zip([Table::Tcp, Table::Udp]) {
            let Some(service) = service else { continue };
            let mut addr = None;
            let bound = eventually(PATIENCE, || {
                addr = process::bound_port(server.pid(), table);
                addr.is_some()
            });
            assert!(bound, "{service} is not bound: {}", server.log());
            server.addrs.insert(service.to_owned(), addr.expect("bound").into());
        }
        server
    }

    fn adopt(mut child: Child) -> Self {
        let mut source = BufReader::new(child.stderr.take().expect("piped"));
        let stderr = Arc::new(Mutex::new(String::new()));
        let reader = thread::spawn({
            let stderr = Arc::clone(&stderr);
            move || {
                let mut line = Vec::new();
                while source.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                    stderr.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                    line.clear();
                }
            }
        });
        Self { child, addrs: HashMap::new(), stderr, reader: Some(reader) }
    }

    fn read_addrs(&mut self, lines: &Receiver<String>, services: usize) {
        while self.addrs.len() < services {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) if line == "ready" => break,
                Ok(line) => {
                    let words: Vec<_> = line.split(' ').collect();
                    assert_eq!(words[0], "listening", "unexpected line: {line}");
                    let text = if words[2] == "unix" { format!("unix:{}", words[3]) } else { words[3].to_owned() };
                    self.addrs.insert(words[1].to_owned(), text.parse().expect("an address"));
                }
                Err(_) => {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    self.reader.take().expect("taken once").join().expect("stderr");
                    panic!("the server did not start: {}", self.log());
                }
            }
        }
    }

    /// Returns true until the process has ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn addr(&self, service: &str) -> SocketAddr {
        self.addrs[service].as_socket().expect("an IP address")
    }

    /// Connects a client of `service` at a Unix socket, whose calls end after [`PATIENCE`].
    pub fn connect_unix(&self, service: &str) -> UnixStream {
        let path = self.addrs[service].as_pathname().expect("the path of a Unix socket");
        let stream = UnixStream::connect(path).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("set timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("set timeout");
        stream
    }

    /// Connects a client of `service`, whose calls end after [`PATIENCE`].
    pub fn connect(&self, service: &str) -> TcpStream {
        client(self.addr(service))
    }

    /// Connects `count` members of a byte chat. Each member has received its own first byte and those of all later members.
    pub fn members(&self, service: &str, count: usize) -> Vec<TcpStream> {
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

    /// Connects a UDP client of `service`.
    pub fn connect_udp(&self, service: &str) -> UdpSocket {
        let addr = self.addr(service);
        let local: SocketAddr = if addr.is_ipv4() { ([127, 0, 0, 1], 0).into() } else { "[::1]:0".parse().unwrap() };
        let socket = UdpSocket::bind(local).expect("bind");
        socket.connect(addr).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("set timeout");
        socket
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("send a signal");
    }

    /// Suspends the process: whatever the test sends from now on has arrived when the process goes on.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        // A traced process has the state `t`.
        assert!(eventually(PATIENCE, || ['T', 't'].contains(&process::state(self.pid()))), "no stop after SIGSTOP");
    }

    /// Resumes a suspended process.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Returns the standard error until now.
    pub fn log(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until standard error contains `text`.
    pub fn await_log(&self, text: &str) {
        assert!(eventually(PATIENCE, || self.log().contains(text)), "'{text}' is missing from: {}", self.log());
    }

    /// Returns the counter `name` from the report on SIGUSR1.
    pub fn counter(&self, name: &str) -> u64 {
        const LAST_LINE: &str = "  timers: ";
        let reports = |log: &str| log.matches(LAST_LINE).count();
        let before = reports(&self.log());
        self.signal(Signal::USR1);
        assert!(eventually(PATIENCE, || reports(&self.log()) > before), "no report: {}", self.log());
        let log = self.log();
        let ledger = log.rsplit_once("ledger:\n").expect("a ledger").1;
        let rows = ledger.lines().filter_map(|line| line.trim().split_once(' '));
        // The report leaves out counters that are zero.
        rows.into_iter().find(|row| row.0 == name).map_or(0, |row| row.1.trim().parse().expect("a number"))
    }

    /// Starts a stopwatch that counts the time in which this server and the test could run.
    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch::of_process(self.pid())
    }

    /// Runs `action` and returns its granted time ([`Stopwatch`]).
    pub fn time<T>(&self, action: impl FnOnce() -> T) -> (T, Duration) {
        let clock = self.stopwatch();
        let value = action();
        (value, clock.granted())
    }

    /// Polls until `condition` holds, for at most `limit` of granted time.
    pub fn within(&self, limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let clock = self.stopwatch();
        eventually(PATIENCE, || clock.granted() > limit || condition()) && condition()
    }

    /// Asserts the first promise after every case: a fresh echo is answered within a second.
    pub fn assert_serves(&self) {
        let (answer, took) = self.time(|| exchange(&mut self.connect("echo"), b"still there?"));
        assert_eq!(answer, b"still there?");
        assert!(took < Duration::from_secs(1), "a fresh echo took {took:?}");
    }

    pub fn descriptors(&self) -> usize {
        process::descriptors(self.pid())
    }

    pub fn threads(&self) -> usize {
        process::threads(self.pid())
    }

    /// Returns the resident memory in bytes.
    pub fn resident(&self) -> usize {
        process::resident(self.pid())
    }

    /// Returns the processor time used.
    pub fn cpu(&self) -> Duration {
        process::cpu(self.pid())
    }

    /// Asserts that the server holds `before` descriptors again within the promised two seconds.
    pub fn assert_descriptors(&self, before: usize) {
        let back = self.within(Duration::from_secs(2), || self.descriptors() == before);
        assert!(back, "{} descriptors, {before} before", self.descriptors());
    }

    /// Asserts that an idle server uses at most 20 ms of processor time in two seconds.
    pub fn assert_idle(&self) {
        let before = self.cpu();
        let spins = || self.cpu() - before > Duration::from_millis(20);
        assert!(!eventually(Duration::from_secs(2), spins), "the idle server used {:?}", self.cpu() - before);
    }

    /// Asserts what holds after every case: the server serves, has one thread, and holds `before` descriptors.
    pub fn assert_unharmed(&self, before: usize) {
        self.assert_serves();
        assert_eq!(self.threads(), 1);
        self.assert_descriptors(before);
    }

    /// Sends SIGTERM and waits for the exit.
    pub fn stop(self) -> Exit {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the exit.
    pub fn wait(mut self) -> Exit {
        let start = Instant::now();
        // The process stays a zombie: its scheduling figures are final, and still there.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(Pid::from_child(&self.child)), options).expect("waitid").is_none() {
            assert!(start.elapsed() < PATIENCE, "the server does not stop");
            pause();
        }
        let withheld = process::withheld(self.pid());
        let status = self.child.wait().expect("wait");
        self.reader.take().expect("taken once").join().expect("stderr");
        let stderr = self.log();
        assert!(!stderr.contains("panicked"), "{stderr}");
        let json = stderr.lines().find(|line| line.starts_with('{')).unwrap_or("{}");
        let entries = json.trim_matches(['{', '}']).split(',').filter(|entry| !entry.is_empty());
        let ledger = entries.map(|entry| {
            let (name, count) = entry.split_once(':').expect("a name and a count");
            (name.trim_matches('"').to_owned(), count.parse().expect("a number"))
        });
        Exit { status, ledger: ledger.collect(), stderr, withheld }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Exit {
    /// Asserts exit status 0: every connection was served to its end.
    pub fn assert_clean(&self) {
        assert_eq!(self.status.code(), Some(0), "{}", self.stderr);
    }

    pub fn count(&self, name: &str) -> u64 {
        *self.ledger.get(name).unwrap_or_else(|| panic!("no counter {name} in: {}", self.stderr))
    }

    /// Returns the number of closed connections. Each accepted connection has one end.
    pub fn count_closed(&self) -> u64 {
        self.ledger.iter().filter(|(name, _)| name.starts_with("closed_")).map(|(_, count)| count).sum()
    }
}
