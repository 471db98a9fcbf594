//! The kernel's records of a process: descriptors, threads, memory and scheduling (proc(5)).
//!
//! Owns: every read of procfs about a process. Must not know: which program runs in the process.

use std::cell::Cell;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Returns the number of open descriptors.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("procfs").count()
}

/// Returns the number of threads.
pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).expect("procfs").count()
}

/// Returns the resident memory in bytes.
pub fn resident(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Returns the state of the main thread: `T` is stopped, `S` waits for an event, `R` runs or could run
/// (proc_pid_stat(5)).
pub fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("procfs");
    stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next()).expect("a state")
}

/// Returns the processor time that the main thread has used.
pub fn cpu(pid: u32) -> Duration {
    schedstat(&PathBuf::from(format!("/proc/{pid}"))).expect("procfs").0
}

/// Returns the time that the thread of `directory` has run, and the time that it has waited for a processor (the
/// kernel's `Documentation/scheduler/sched-stats.rst`).
fn schedstat(directory: &Path) -> Option<(Duration, Duration)> {
    let text = fs::read_to_string(directory.join("schedstat")).ok()?;
    let mut nanos = text.split(' ').map(|field| field.trim().parse().ok().map(Duration::from_nanos));
    Some((nanos.next()??, nanos.next()??))
}

/// Returns the time for which the threads of a process were ready to run while other threads had the processors.
pub fn withheld(pid: u32) -> Duration {
    withheld_of(&Subject::Process(pid)).unwrap_or_default()
}

/// Returns the same for the calling thread.
pub fn withheld_here() -> Duration {
    schedstat(Path::new("/proc/thread-self")).map_or(Duration::ZERO, |(_, withheld)| withheld)
}

/// The threads that a stopwatch watches.
#[derive(Clone, Copy, Debug)]
enum Subject {
    Process(u32),
    /// A thread of this process.
    Thread(i32),
}

fn withheld_of(subject: &Subject) -> Option<Duration> {
    match subject {
        Subject::Process(pid) => {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
            Some(tasks.filter_map(|task| schedstat(&task.path())).map(|(_, withheld)| withheld).sum())
        }
        Subject::Thread(tid) => schedstat(Path::new(&format!("/proc/self/task/{tid}"))).map(|(_, withheld)| withheld),
    }
}

/// A clock that stands still while the machine withholds the processor from the tested threads or from the test.
///
/// An upper bound on wall-clock time fails on a busy machine, whatever the tested program does. The same bound on
/// granted time fails only for a program that is late. Lower bounds belong to [`elapsed`](Self::elapsed).
#[derive(Debug)]
pub struct Stopwatch {
    start: Instant,
    subject: Subject,
    withheld: Duration,
    withheld_here: Duration,
    /// The last figure of the subject, which may end before the measurement does.
    last: Cell<Duration>,
}

impl Stopwatch {
    /// Starts a stopwatch for a process and the calling thread.
    pub fn of_process(pid: u32) -> Self {
        Self::start(Subject::Process(pid))
    }

    /// Starts a stopwatch for another thread of this process and the calling thread.
    pub fn of_thread(tid: i32) -> Self {
        Self::start(Subject::Thread(tid))
    }

    /// Starts a stopwatch before the process exists: [`granted_to`](Self::granted_to) reads it.
    pub fn of_none() -> Self {
        let (start, withheld) = (Instant::now(), Duration::ZERO);
        Self { start, subject: Subject::Thread(0), withheld, withheld_here: withheld_here(), last: Cell::new(withheld) }
    }

    fn start(subject: Subject) -> Self {
        let withheld = withheld_of(&subject).unwrap_or_default();
        let (start, last) = (Instant::now(), Cell::new(withheld));
        Self { start, subject, withheld, withheld_here: withheld_here(), last }
    }

    /// Returns the wall-clock time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Returns the elapsed time less the withheld time.
    pub fn granted(&self) -> Duration {
        let elapsed = self.elapsed();
        self.less_withheld(elapsed, withheld_of(&self.subject).unwrap_or(self.last.get()))
    }

    /// Returns the same for a process that has ended after it had waited for `withheld` in total.
    pub fn granted_to(&self, withheld: Duration) -> Duration {
        self.less_withheld(self.elapsed(), withheld)
    }

    /// Returns the time that the machine withheld since the start.
    pub fn withheld(&self) -> Duration {
        let elapsed = self.elapsed();
        elapsed - self.granted().min(elapsed)
    }

    fn less_withheld(&self, elapsed: Duration, withheld: Duration) -> Duration {
        self.last.set(withheld);
        let here = withheld_here().saturating_sub(self.withheld_here);
        elapsed.saturating_sub(withheld.saturating_sub(self.withheld)).saturating_sub(here)
    }
}

/// The tables of `/proc/net` in which sockets stand.
#[derive(Clone, Copy, Debug)]
pub enum Table {
    /// Sockets that listen.
    Tcp,
    Udp,
}

/// Returns the port on 127.0.0.1 at which a process listens or receives, for a process that cannot print the port.
pub fn bound_port(pid: u32, table: Table) -> Option<SocketAddr> {
    let held = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let held: Vec<_> = held.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    // The states of the kernel's include/net/tcp_states.h: TCP_LISTEN, and TCP_CLOSE for an unconnected socket.
    let (name, state) = match table {
        Table::Tcp => ("tcp", "0A"),
        Table::Udp => ("udp", "07"),
    };
    let table = fs::read_to_string(format!("/proc/net/{name}")).expect("procfs");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut own = rows.filter(|row| held.iter().any(|file| file.as_os_str() == &*format!("socket:[{}]", row[9])));
    let row = own.find(|row| row[3] == state)?;
    let port = row[1].split_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    Some((Ipv4Addr::LOCALHOST, port.expect("a port")).into())
}
