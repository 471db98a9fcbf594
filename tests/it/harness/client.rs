//! A running `reactor connect`: somebody types, reads, and looks at how it ends.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, eventually, pause, reactor};

type Heard = Arc<Mutex<Vec<u8>>>;

/// A client process.
pub struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Heard,
    stderr: Heard,
    listening: Vec<JoinHandle<()>>,
}

/// How a client has ended.
#[derive(Debug)]
pub struct End {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl End {
    /// It ended as `code` says, with `stdout` on standard output and nothing on standard error.
    #[track_caller]
    pub fn assert(&self, code: i32, stdout: &str) {
        let said = String::from_utf8_lossy(&self.stdout);
        assert_eq!((self.code, &*said, &*self.stderr), (Some(code), stdout, ""));
    }

    /// It failed, and its last line says so; returns it.
    #[track_caller]
    pub fn failure(&self) -> &str {
        assert_eq!(self.code, Some(1), "{self:?}");
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: "), "{self:?}");
        last
    }
}

impl Client {
    /// Starts `reactor connect ARGS`, to be typed into.
    pub fn start(args: &[&str]) -> Self {
        let mut client = Self::fed(args, Stdio::piped());
        client.stdin = client.child.stdin.take();
        client
    }

    /// Starts it with `stdin`.
    pub fn fed(args: &[&str], stdin: impl Into<Stdio>) -> Self {
        Self::with(args, stdin.into(), Stdio::piped())
    }

    /// Starts it with both.
    pub fn with(args: &[&str], stdin: Stdio, stdout: Stdio) -> Self {
        Self::spawn(reactor(&[&["connect"], args].concat()), stdin, stdout)
    }

    /// Starts any command that comes to an end.
    pub fn spawn(mut command: Command, stdin: Stdio, stdout: Stdio) -> Self {
        let mut child = command.stdin(stdin).stdout(stdout).spawn().expect("start reactor");
        let (stdout, stderr) = (Heard::default(), Heard::default());
        let mut listening = vec![listen(child.stderr.take().expect("piped"), &stderr)];
        listening.extend(child.stdout.take().map(|pipe| listen(pipe, &stdout)));
        Self { child, stdin: None, stdout, stderr, listening }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types `text`.
    pub fn say(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("its input has not ended");
        stdin.write_all(text.as_bytes()).expect("write to its input");
    }

    /// Ends its input.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&self.stdout.lock().unwrap()).into_owned()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned()
    }

    /// Waits until it has printed `text`.
    #[track_caller]
    pub fn await_printed(&self, text: &str) {
        let there = eventually(PATIENCE, || self.printed().contains(text));
        assert!(there, "'{text}' is missing from: {:?} {:?}", self.printed(), self.log());
    }

    /// Waits until it has logged `text`.
    #[track_caller]
    pub fn await_log(&self, text: &str) {
        let there = eventually(PATIENCE, || self.log().contains(text));
        assert!(there, "'{text}' is missing from: {:?}", self.log());
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).expect("a pid"), signal).expect("send a signal");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> End {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end: {:?} {:?}", self.printed(), self.log());
            pause();
        };
        for thread in self.listening.drain(..) {
            thread.join().expect("read");
        }
        let end = End { code: status.code(), stdout: self.stdout.lock().unwrap().clone(), stderr: self.log() };
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

fn listen(mut pipe: impl Read + Send + 'static, heard: &Heard) -> JoinHandle<()> {
    let heard = Arc::clone(heard);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = pipe.read(&mut buffer) {
            heard.lock().unwrap().extend_from_slice(&buffer[..n]);
        }
    })
}

/// A terminal: the end at which somebody sits, and the one that a process is given.
pub fn terminal() -> (OwnedFd, OwnedFd) {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let seat = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
    grantpt(&seat).expect("grantpt");
    unlockpt(&seat).expect("unlockpt");
    let name = ptsname(&seat, Vec::new()).expect("ptsname");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let process = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("open the terminal");
    (seat, process)
}

/// A peer on the command line.
pub fn tcp(addr: SocketAddr) -> String {
    format!("tcp://{addr}")
}

/// A peer on the command line.
pub fn udp(addr: SocketAddr) -> String {
    format!("udp://{addr}")
}

/// A server of the test, and what it is called on the command line.
pub fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = tcp(listener.local_addr().unwrap());
    (listener, peer)
}

/// The connection of a client.
pub fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads until `text` has come.
pub fn await_text(peer: &mut TcpStream, text: &str) {
    let mut all = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&all).contains(text) {
        let n = peer.read(&mut buffer).unwrap();
        assert!(n > 0, "'{text}' is missing from {:?}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buffer[..n]);
    }
}

/// A file with `bytes` that has no name any more.
pub fn file(bytes: &[u8]) -> File {
    let path =
        std::env::temp_dir().join(format!("reactor-connect-{}-{:?}", std::process::id(), thread::current().id()));
    fs::write(&path, bytes).unwrap();
    let file = File::open(&path).unwrap();
    fs::remove_file(path).unwrap();
    file
}
