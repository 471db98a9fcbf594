//! One measurement: a server on one processor, the load on another.
//!
//! Owns: [`Sample`], and what of it comes from the kernel. Must not know: how it is shown.

use std::error::Error;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use std::{fs, thread};

use nix::sys::resource::{UsageWho, getrusage};
use reactor::load::{self, End, Kind, Plan, Progress, Report};
use rustix::param::clock_ticks_per_second;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::servers::{Contender, Server};

/// What one run has shown.
pub struct Sample {
    /// What the load generator says.
    pub report: Report,
    /// Processor time of the server for each message, in microseconds; `None` if there were too few to say.
    pub cpu_micros: Option<f64>,
    /// Context switches of the server for each message, from its start to its end.
    pub switches: f64,
    /// Threads of the server, at most.
    pub threads: u64,
    /// Its resident memory in bytes, at most.
    pub memory: u64,
}

/// The two processors: the server's and the load's. The same one twice where there is only one.
#[derive(Clone, Copy)]
pub struct Processors {
    server: CpuSet,
    load: CpuSet,
    /// Whether they are different ones.
    pub apart: bool,
}

impl Processors {
    /// The first two of those that this process may use.
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

/// What the kernel says of a process at one moment.
struct Look {
    ticks: u64,
    achieved: u64,
    threads: u64,
    memory: u64,
}

/// Runs `plan` against a fresh `contender`. Returns `None` if Ctrl-C has ended the run.
pub fn measure(contender: &Contender, plan: &Plan, processors: Processors) -> Result<Option<Sample>, Box<dyn Error>> {
    // A child has the processors of the thread that starts it.
    sched_setaffinity(None, &processors.server)?;
    let server = Server::start(contender);
    sched_setaffinity(None, &processors.load)?;
    let server = server?;
    let mut plan = plan.clone();
    plan.to = server.addr;
    let (sender, looks) = channel();
    let pid = server.pid();
    let run = thread::spawn(move || load::run(&plan, move |progress| send_look(&sender, pid, progress)));
    let report = run.join().map_err(|_| "the load generator has panicked")?;
    let switches_of_others = switches_of_ended_children()?;
    drop(server);
    let switches = switches_of_ended_children()? - switches_of_others;
    let report = report.map_err(|failure| failure.to_string())?;
    if report.end == End::Interrupted {
        return Ok(None);
    }
    let looks: Vec<_> = looks.into_iter().collect();
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return Err("the run was too short".into()) };
    let seconds = (last.ticks - first.ticks) as f64 / clock_ticks_per_second() as f64;
    let messages = (last.achieved - first.achieved) as f64;
    Ok(Some(Sample {
        cpu_micros: (messages > 0.0).then(|| seconds * 1e6 / messages),
        switches: switches as f64 / report.stats.sent.max(1) as f64,
        threads: looks.iter().map(|look| look.threads).max().unwrap_or(0),
        memory: looks.iter().map(|look| look.memory).max().unwrap_or(0),
        report,
    }))
}

/// Looks at the server while the window lasts. Costs the load generator some ten microseconds, ten times a second.
fn send_look(looks: &Sender<Look>, pid: u32, progress: &Progress) {
    if let &Progress::Measuring { achieved, .. } = progress
        && let Some(look) = look(pid, achieved)
    {
        // Nobody listens any more after the run.
        let _ = looks.send(look);
    }
}

/// See proc(5).
fn look(pid: u32, achieved: u64) -> Option<Look> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, which comes second, may contain anything but ends at the last bracket. utime and stime are fields 14, 15.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let row = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Look { ticks, achieved, threads: row("Threads:")?, memory: row("VmRSS:")? * 1024 })
}

/// Context switches of all children that have been waited for.
fn switches_of_ended_children() -> Result<i64, Box<dyn Error>> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok(usage.voluntary_context_switches() + usage.involuntary_context_switches())
}

/// Returns the plan of each measurement with `connections` connections. The address of the server is still to be set.
pub fn plan(connections: usize, duration: Duration) -> Plan {
    let mut plan = Plan::new(Kind::Echo, ([127, 0, 0, 1], 0).into());
    (plan.connections, plan.duration) = (connections, duration);
    plan
}
