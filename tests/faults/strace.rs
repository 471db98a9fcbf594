//! System calls that fail as the test wants: strace(1) answers them in the kernel's place.
//!
//! Only errors are injected, and only those that the kernel may give without an effect: strace skips the call, so a
//! caller that tries again loses nothing. EAGAIN and short reads are never injected: after them the program would wait for
//! an edge that does not come. Nor is `close`: its descriptor would stay open.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Server, eventually, reactor};

/// The arguments of every server here. A line with an address is one write, so the number of calls of the start does not
/// depend on the ports.
pub const SERVE: [&str; 10] = [
    "serve",
    "--ledger=json",
    "echo=0",
    "echo-udp=0",
    "chat=0",
    "http=0",
    "idle=0",
    "time=0",
    "--idle-timeout=300ms",
    "--recv-buffer=4MiB",
];

/// A call that fails.
#[derive(Clone, Copy)]
pub struct Fault {
    pub call: &'static str,
    pub error: &'static str,
    pub when: When,
}

/// The calls that fail, counted from 1.
#[derive(Clone, Copy)]
pub enum When {
    /// One call, counted from the start of the process.
    OfAll(u32),
    /// One call, counted from the moment at which the server is ready.
    Ready(u32),
    /// A number of calls from the moment at which the server is ready.
    First(u32),
    /// Every call from that moment.
    OnceReady,
    /// Every second one of the first hundred calls. Later calls succeed: the handler of a signal wakes the loop with a
    /// `sendto` that cannot be interrupted, and does not repeat the call.
    Alternate,
    /// Every second one of the calls 21 to 40.
    AlternateLater,
}

impl Fault {
    pub fn new(call: &'static str, error: &'static str, when: When) -> Self {
        Self { call, error, when }
    }

    /// The same with each of `errors`.
    pub fn each(call: &'static str, errors: &[&'static str], when: When) -> Vec<Self> {
        errors.iter().map(|error| Self::new(call, error, when)).collect()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:error={}:when=", self.call, self.error)?;
        match self.when {
            When::OfAll(number) => write!(f, "{number}"),
            When::Ready(number) => write!(f, "{}", calls_of_start(self.call) + number),
            When::First(count) => {
                let start = calls_of_start(self.call);
                write!(f, "{}..{}", start + 1, start + count)
            }
            When::OnceReady => write!(f, "{}+", calls_of_start(self.call) + 1),
            When::Alternate => f.write_str("1..100+2"),
            When::AlternateLater => f.write_str("21..40+2"),
        }
    }
}

/// The output of strace.
pub struct Trace {
    path: PathBuf,
}

impl Trace {
    /// Returns the command `reactor ARGS` under strace, with the fault `inject`.
    ///
    /// The tracer is a grandchild (`-D`), so that the child is the program itself. strace stops only at the traced calls
    /// (`--seccomp-bpf`), so that the others take their usual time.
    fn start(calls: &str, inject: Option<Fault>, args: &[&str]) -> (Self, Command) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("strace-{}-{number}.txt", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let program = reactor(&[]);
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "--seccomp-bpf", "-qqq", "-e", &format!("trace={calls}"), "-o"]).arg(&path);
        command.args(inject.map(|fault| format!("--inject={fault}")));
        command.arg(program.get_program()).args(args);
        command.env_remove("RUST_LOG").env_remove("NO_COLOR").stdin(Stdio::null()).stderr(Stdio::piped());
        (Self { path }, command)
    }

    /// Returns the command `reactor ARGS` with a call that fails.
    pub fn of(fault: Fault, args: &[&str]) -> (Self, Command) {
        Self::start(fault.call, Some(fault), args)
    }

    /// Returns the calls until now, each on a line of its own.
    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap_or_default()
    }

    /// Returns the number of injected failures.
    pub fn injected(&self) -> usize {
        self.text().matches("(INJECTED)").count()
    }

    /// Asserts that the fault has happened: the test has met it.
    #[track_caller]
    pub fn assert_injected(&self) {
        let injected = eventually(Duration::from_secs(1), || self.injected() > 0);
        assert!(injected, "no call has failed; there were:\n{}", self.text());
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if thread::panicking() {
            let text = self.text();
            let last: Vec<_> = text.lines().rev().take(40).collect();
            eprintln!("{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        let _ = fs::remove_file(&self.path);
    }
}

/// Fails with the remedy where strace is missing.
#[track_caller]
pub fn assert_there() {
    let found = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    assert!(
        found.is_ok(),
        "strace(1) is missing, and nothing else here makes a system call fail: apt-get install strace"
    );
}

/// The calls of which faults are counted from the moment at which the server is ready.
const COUNTED: [&str; 13] = [
    "accept4",
    "epoll_ctl",
    "epoll_wait",
    "mmap",
    "mremap",
    "munmap",
    "recvfrom",
    "recvmmsg",
    "sendmmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "write",
];

/// Returns the number of these calls that the server makes until it is ready, from one trace without a fault.
fn calls_of_start(call: &str) -> u32 {
    static COUNTS: OnceLock<HashMap<&str, u32>> = OnceLock::new();
    let counts = COUNTS.get_or_init(|| {
        let (trace, command) = Trace::start(&COUNTED.join(","), None, &SERVE);
        // Where strace may not trace, this panics with its error text.
        let server = Server::spawn(command);
        // The first wait returns at once, because services have to start. The second one is idle.
        let idle = || trace.text().matches(" epoll_wait(").count() == 2;
        assert!(eventually(Duration::from_secs(5), idle), "the server does not wait:\n{}", trace.text());
        let text = trace.text();
        server.stop().assert_clean();
        let count = |call: &str| {
            let called = format!(" {call}(");
            u32::try_from(text.lines().filter(|line| line.contains(&called)).count()).expect("few")
        };
        COUNTED.iter().map(|call| (*call, count(call))).collect()
    });
    *counts.get(call).unwrap_or_else(|| panic!("{call} is not counted"))
}
