//! One measurement: a server on one processor, the load on another.
//!
//! Owns: [`Sample`] and its figures from the kernel. Must not know: the output.

use std::error::Error;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use std::{fs, thread};

use nix::sys::resource::{UsageWho, getrusage};
use reactor::load::{self, End, Kind, Plan, Progress, Report};
use rustix::param::clock_ticks_per_second;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::servers::{Contender, Server};

/// The result of one run.
pub struct Sample {
    /// The report of the load generator.
    pub report: Report,
    /// Processor time of the server for each message, in microseconds; `None` without a message between two snapshots.
    pub cpu_micros: Option<f64>,
    /// Context switches of the server for each message, from the start of the process to its end.
    pub switches: f64,
    /// The highest number of threads of the server.
    pub threads: u64,
    /// The highest resident memory of the server, in bytes.
    pub memory: u64,
}

/// The processors of the server and of the load. Both are the same on a machine with one processor.
#[derive(Clone, Copy)]
pub struct Processors {
    server: CpuSet,
    load: CpuSet,
    /// True if the two differ.
    pub apart: bool,
}

impl Processors {
    /// The first two processors that this process may use.
    pub fn choose() -> Result<Self, Box<dyn Error>> {
        let allowed = sched_getaffinity(None)?;
        let mut numbers = (0..CpuSet::MAX_CPU).filter(|&number| allowed.is_set(number));
        let first = numbers.next().ok_or("no processor")?;
        let second = numbers.next();
        let one = |number| {
            let mut set = CpuSet::new();
            set.set(number);
            set
        };
        Ok(Self { server: one(first), load: one(second.unwrap_or(first)), apart: second.is_some() })
    }
}

/// The kernel's figures of a process at one instant.
struct Snapshot {
    ticks: u64,
    achieved: u64,
    threads: u64,
    memory: u64,
}

/// Runs `plan` against a fresh `contender`. Returns `None` if Ctrl-C has ended the run.
pub fn measure(contender: &Contender, plan: &Plan, processors: Processors) -> Result<Option<Sample>, Box<dyn Error>> {
    // A child inherits the processors of the thread that starts it.
    sched_setaffinity(None, &processors.server)?;
    let server = Server::start(contender);
    sched_setaffinity(None, &processors.load)?;
    let server = server?;
    let mut plan = plan.clone();
    plan.to = server.addr.into();
    let (sender, snapshots) = channel();
    let pid = server.pid();
    let run = thread::spawn(move || load::run(&plan, move |progress: &Progress| send_snapshot(&sender, pid, progress)));
    let report = run.join().map_err(|_| "the load generator has panicked")?;
    let switches_of_others = switches_of_ended_children()?;
    drop(server);
    let switches = switches_of_ended_children()? - switches_of_others;
    let report = report.map_err(|failure| failure.to_string())?;
    if report.end == End::Interrupted {
        return Ok(None);
    }
    let snapshots: Vec<_> = snapshots.into_iter().collect();
    let (Some(first), Some(last)) = (snapshots.first(), snapshots.last()) else {
        return Err("the run was too short".into());
    };
    let seconds = (last.ticks - first.ticks) as f64 / clock_ticks_per_second() as f64;
    let messages = (last.achieved - first.achieved) as f64;
    Ok(Some(Sample {
        cpu_micros: (messages > 0.0).then(|| seconds * 1e6 / messages),
        switches: switches as f64 / report.stats.sent.max(1) as f64,
        threads: snapshots.iter().map(|snapshot| snapshot.threads).max().unwrap_or(0),
        memory: snapshots.iter().map(|snapshot| snapshot.memory).max().unwrap_or(0),
        report,
    }))
}

/// Takes a snapshot of the server within the window. The cost for the load generator is some ten microseconds, ten times a
/// second.
fn send_snapshot(snapshots: &Sender<Snapshot>, pid: u32, progress: &Progress) {
    if let &Progress::Measuring { achieved, .. } = progress
        && let Some(snapshot) = snapshot(pid, achieved)
    {
        // After the run the receiver is gone.
        let _ = snapshots.send(snapshot);
    }
}

/// Reads the figures of a process: see proc(5).
fn snapshot(pid: u32, achieved: u64) -> Option<Snapshot> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name, may contain any byte and ends at the last bracket. utime and stime are fields 14 and 15.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let row = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Snapshot { ticks, achieved, threads: row("Threads:")?, memory: row("VmRSS:")? * 1024 })
}

/// Returns the context switches of all children that this process has waited for.
fn switches_of_ended_children() -> Result<i64, Box<dyn Error>> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok(usage.voluntary_context_switches() + usage.involuntary_context_switches())
}

/// Returns the plan of each measurement with `connections` connections. The address of the server is still to be set.
pub fn plan(connections: usize, duration: Duration) -> Plan {
    let mut plan = Plan::new(Kind::Echo, ([127, 0, 0, 1], 0));
    (plan.connections, plan.duration) = (connections, duration);
    plan
}
