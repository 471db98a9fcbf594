//! A running `reactor connect`: its input, its output and its exit.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::process::{self, Stopwatch};
use super::{PATIENCE, eventually, pause, reactor};

type Captured = Arc<Mutex<Vec<u8>>>;

/// A client process.
pub struct Client {
    child: Child,
    clock: Stopwatch,
    stdin: Option<ChildStdin>,
    stdout: Captured,
    stderr: Captured,
    readers: Vec<JoinHandle<()>>,
}

/// The end of a client process.
#[derive(Debug)]
pub struct End {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    /// Time from before the start to the exit in which the process could run.
    pub took: Duration,
    /// Time in which the process was ready to run while others had the processors.
    pub withheld: Duration,
}

impl End {
    /// Asserts exit status `code`, `stdout` on standard output and nothing on standard error.
    #[track_caller]
    pub fn assert(&self, code: i32, stdout: &str) {
        let printed = String::from_utf8_lossy(&self.stdout);
        assert_eq!((self.code, &*printed, &*self.stderr), (Some(code), stdout, ""));
    }

    /// Asserts exit status 1 and returns the last line, which is the error.
    #[track_caller]
    pub fn failure(&self) -> &str {
        assert_eq!(self.code, Some(1), "{self:?}");
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: "), "{self:?}");
        last
    }
}

impl Client {
    /// Starts `reactor connect ARGS` with a pipe as its input.
    pub fn start(args: &[&str]) -> Self {
        let mut client = Self::with_input(args, Stdio::piped());
        client.stdin = client.child.stdin.take();
        client
    }

    /// Starts `reactor connect ARGS` with the input `stdin`.
    pub fn with_input(args: &[&str], stdin: impl Into<Stdio>) -> Self {
        Self::with_streams(args, stdin.into(), Stdio::piped())
    }

    /// Starts `reactor connect ARGS` with the input `stdin` and the output `stdout`.
    pub fn with_streams(args: &[&str], stdin: Stdio, stdout: Stdio) -> Self {
        Self::spawn(reactor(&[&["connect"], args].concat()), stdin, stdout)
    }

    /// Starts any command that ends by itself.
    pub fn spawn(mut command: Command, stdin: Stdio, stdout: Stdio) -> Self {
        let clock = Stopwatch::of_none();
        let mut child = command.stdin(stdin).stdout(stdout).spawn().expect("start reactor");
        let (stdout, stderr) = (Captured::default(), Captured::default());
        let mut readers = vec![capture(child.stderr.take().expect("piped"), &stderr)];
        readers.extend(child.stdout.take().map(|pipe| capture(pipe, &stdout)));
        Self { child, clock, stdin: None, stdout, stderr, readers }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts a stopwatch that counts the time in which this client and the test could run.
    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch::of_process(self.pid())
    }

    /// Writes `text` to its input.
    pub fn input(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("its input has not ended");
        stdin.write_all(text.as_bytes()).expect("write to its input");
    }

    /// Closes its input.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Returns its standard output until now.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&self.stdout.lock().unwrap()).into_owned()
    }

    /// Returns its standard error until now.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned()
    }

    /// Waits until standard output contains `text`.
    #[track_caller]
    pub fn await_printed(&self, text: &str) {
        let there = eventually(PATIENCE, || self.printed().contains(text));
        assert!(there, "'{text}' is missing from: {:?} {:?}", self.printed(), self.log());
    }

    /// Waits until standard error contains `text`.
    #[track_caller]
    pub fn await_log(&self, text: &str) {
        let there = eventually(PATIENCE, || self.log().contains(text));
        assert!(there, "'{text}' is missing from: {:?}", self.log());
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("send a signal");
    }

    /// Waits for the exit.
    #[track_caller]
    pub fn wait(mut self) -> End {
        let start = Instant::now();
        // The process stays a zombie: its scheduling figures are final, and still there.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(Pid::from_child(&self.child)), options).expect("waitid").is_none() {
            assert!(start.elapsed() < PATIENCE, "the client does not end: {:?} {:?}", self.printed(), self.log());
            pause();
        }
        let withheld = process::withheld(self.pid());
        let took = self.clock.granted_to(withheld);
        let status = self.child.wait().expect("wait");
        for reader in self.readers.drain(..) {
            reader.join().expect("read");
        }
        let (code, stdout) = (status.code(), self.stdout.lock().unwrap().clone());
        let end = End { code, stdout, stderr: self.log(), took, withheld };
        assert!(!end.stderr.contains("panicked"), "{end:?}");
        end
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn capture(mut pipe: impl Read + Send + 'static, captured: &Captured) -> JoinHandle<()> {
    let captured = Arc::clone(captured);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = pipe.read(&mut buffer) {
            captured.lock().unwrap().extend_from_slice(&buffer[..n]);
        }
    })
}

/// Returns the two ends of a terminal: the user's end, and the end for a process.
pub fn terminal() -> (OwnedFd, OwnedFd) {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
    grantpt(&user).expect("grantpt");
    unlockpt(&user).expect("unlockpt");
    let name = ptsname(&user, Vec::new()).expect("ptsname");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let process = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("open the terminal");
    (user, process)
}

/// Returns the name of a TCP peer on the command line.
pub fn tcp(addr: SocketAddr) -> String {
    format!("tcp://{addr}")
}

/// Returns the name of a UDP peer on the command line.
pub fn udp(addr: SocketAddr) -> String {
    format!("udp://{addr}")
}

/// Returns a listener of the test and its name on the command line.
pub fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = tcp(listener.local_addr().unwrap());
    (listener, peer)
}

/// Accepts the connection of a client.
pub fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads until `text` has arrived.
pub fn await_text(peer: &mut TcpStream, text: &str) {
    let mut all = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&all).contains(text) {
        let n = peer.read(&mut buffer).unwrap();
        assert!(n > 0, "'{text}' is missing from {:?}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buffer[..n]);
    }
}

/// Returns a file with `bytes` that has no name any more.
pub fn file(bytes: &[u8]) -> File {
    let path =
        std::env::temp_dir().join(format!("reactor-connect-{}-{:?}", std::process::id(), thread::current().id()));
    fs::write(&path, bytes).unwrap();
    let file = File::open(&path).unwrap();
    fs::remove_file(path).unwrap();
    file
}
