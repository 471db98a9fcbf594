//! `reactor bench`: the load generator.
//!
//! Owns: its arguments, the progress bar, and the output of the report.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use reactor::addr::Addr;
use reactor::load::{self, Kind, Observer, Plan, Progress, Report};
use reactor::stdio::Stderr;

use super::value::{self, Url};
use super::{Failure, cannot, descriptors, print_report};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The service: echo, echo-udp, time (a connection for each request), chat (lines to every member), http
    #[arg(value_enum, value_name = "SERVICE", hide_possible_values = true)]
    kind: KindArgument,
    /// The server: PORT, :PORT, HOST:PORT, [IPv6]:PORT or unix:PATH; for http also http://HOST[:PORT]/PATH
    #[arg(value_name = "ADDR")]
    address: String,
    /// Concurrent connections (for echo-udp: sockets)
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Bytes of a message; for chat of a line with its line end [default: 64]
    #[arg(long, value_name = "SIZE", value_parser = value::size)]
    size: Option<usize>,
    /// Requests in flight per connection [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pipeline: Option<u32>,
    /// Measure for D; 0 measures until Ctrl-C, which also ends any other run early
    #[arg(long, value_name = "D", default_value = "3s", value_parser = value::duration)]
    duration: Duration,
    /// Open loop: N requests per second in total are due, and latency counts from when each was due [default: closed loop,
    /// as fast as the server answers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: Option<u64>,
    /// Chat members that send lines [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    speakers: Option<u32>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Draw the distribution of the latencies
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// A [`Kind`] on the command line.
#[derive(Clone, Copy, Debug)]
struct KindArgument(Kind);

impl ValueEnum for KindArgument {
    fn value_variants<'a>() -> &'a [Self] {
        const {
            &[
                KindArgument(Kind::ALL[0]),
                KindArgument(Kind::ALL[1]),
                KindArgument(Kind::ALL[2]),
                KindArgument(Kind::ALL[3]),
                KindArgument(Kind::ALL[4]),
            ]
        }
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.name()))
    }
}

const EXAMPLES: &str = "\
Examples:
  reactor bench echo 7007                                    50 connections, as fast as the server answers
  reactor bench echo 7007 --rate 20000 --plot latency.svg    20,000 messages a second, however fast the server answers
  reactor bench echo-udp 7007 --pipeline 8 --size 512        datagrams, with the number of lost ones
  reactor bench chat 8000 --connections 100 --speakers 5     every line to a hundred members
  reactor bench http http://localhost:8080/healthz --json    one object, for scripts
  reactor bench http http://unix:/run/http.sock:/healthz     the same at a Unix socket";

/// Measures and prints the result.
pub(super) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let plan = plan(&arguments)?;
    let addrs: Vec<_> = [&plan.to].into_iter().chain(&plan.fallbacks).map(Addr::to_string).collect();
    let failed = |why: &str| Failure::Runtime(format!("{}: {}: {why}", plan.kind.name(), addrs.join(", ")));
    // The file is opened before the run, so that a missing folder costs no measurement.
    let picture = arguments.plot.as_deref().map(Picture::open).transpose()?;
    descriptors::raise_limit();
    let screen = Screen::of_stderr();
    let server = if plan.fallbacks.is_empty() { plan.to.to_string() } else { arguments.address.clone() };
    let bar = Bar::new(screen, &plan, &server);
    let outcome = load::run(&plan, bar);
    screen.clear();
    let report = outcome.map_err(|error| failed(&error.to_string()))?;
    let printed = print(&report, arguments.json);
    if report.is_empty() {
        let picture = picture.map_or(String::new(), |picture| format!(", so {} is not drawn", picture.path.display()));
        return Err(failed(&format!("nothing was answered{picture}")));
    }
    let drawn = picture.map_or(Ok(()), |picture| picture.draw(&report.to_plot().to_svg()));
    printed.and(drawn).map(|()| ExitCode::SUCCESS)
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    let text = if json { report.to_json() + "\n" } else { report.to_string() };
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A closed standard output is no failure, as in `reactor bench … | head -1`.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(cannot("write to standard output", &error)),
        _ => Ok(()),
    }
}

/// A file that is opened before the run and written after it. Until then its content stays.
struct Picture<'a> {
    path: &'a Path,
    file: File,
    /// The file has been created here and is empty.
    new: bool,
}

impl<'a> Picture<'a> {
    fn open(path: &'a Path) -> Result<Self, Failure> {
        let fresh = OpenOptions::new().write(true).create_new(true).open(path);
        let new = fresh.is_ok();
        let file = match fresh {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                OpenOptions::new().write(true).create(true).truncate(false).open(path)
            }
            fresh => fresh,
        };
        let file = file.map_err(|error| cannot(&format!("write {}", path.display()), &error))?;
        Ok(Self { path, file, new })
    }

    fn draw(mut self, svg: &str) -> Result<(), Failure> {
        self.new = false;
        let mut write = || {
            self.file.write_all(svg.as_bytes())?;
            // Only a regular file has a length; a pipe has none.
            if self.file.metadata()?.is_file() { self.file.set_len(svg.len() as u64) } else { Ok(()) }
        };
        write().map_err(|error| cannot(&format!("write {}", self.path.display()), &error))
    }
}

impl Drop for Picture<'_> {
    fn drop(&mut self) {
        if self.new {
            let _ = fs::remove_file(self.path);
        }
    }
}

/// The progress that standard error can show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Screen {
    /// No progress: standard error is not a terminal.
    None,
    /// Lines: the terminal cannot move its cursor (`TERM=dumb`).
    Lines,
    /// One line that is drawn again and again.
    Redrawn,
}

impl Screen {
    fn of_stderr() -> Self {
        match env::var_os("TERM") {
            _ if !io::stderr().is_terminal() => Screen::None,
            Some(term) if !term.is_empty() && term != "dumb" => Screen::Redrawn,
            _ => Screen::Lines,
        }
    }

    /// Removes the bar: the report begins in its place.
    fn clear(self) {
        if self == Screen::Redrawn {
            Stderr::try_write("\r\x1b[K");
        }
    }
}

/// The progress bar.
struct Bar {
    screen: Screen,
    title: String,
    connections: usize,
    duration: Duration,
}

impl Bar {
    fn new(screen: Screen, plan: &Plan, server: &str) -> Self {
        let title = format!("{} {server}", plan.kind.name());
        Self { screen, title, connections: plan.connections, duration: plan.duration }
    }

    fn connecting(&self, elapsed: Duration, served: usize) -> String {
        let Self { title, connections, .. } = self;
        let (elapsed, most) = (elapsed.as_secs_f64(), load::SETUP_TIMEOUT.as_secs());
        format!("{title} waits for its connections: {served} of {connections} are served, {elapsed:.1} of {most} s")
    }

    fn measuring(&self, elapsed: Duration, rate: f64, errors: u64) -> String {
        const CELLS: usize = 24;
        let (title, elapsed) = (&self.title, elapsed.as_secs_f64());
        let errors = if errors > 0 { format!(", {errors} errors") } else { String::new() };
        if self.duration.is_zero() {
            return format!("{title} {elapsed:.1} s, {rate:.0}/s{errors}; Ctrl-C ends it");
        }
        let duration = self.duration.as_secs_f64();
        let full = ((elapsed / duration).min(1.0) * CELLS as f64) as usize;
        let (done, rest) = ("#".repeat(full), ".".repeat(CELLS - full));
        format!("{title} [{done}{rest}] {elapsed:.1} of {duration} s, {rate:.0}/s{errors}")
    }
}

impl Observer for Bar {
    fn on_progress(&mut self, progress: &Progress) {
        let (line, connecting_for) = match *progress {
            Progress::Connecting { elapsed, served, .. } => (self.connecting(elapsed, served), elapsed),
            Progress::Measuring { elapsed, rate, errors, .. } => {
                (self.measuring(elapsed, rate, errors), Duration::ZERO)
            }
            _ => return,
        };
        match self.screen {
            Screen::Redrawn => Stderr::try_write(&format!("\r{line}\x1b[K")),
            // One line, once the delay is long enough to need an explanation.
            Screen::Lines if connecting_for >= Duration::from_secs(1) => {
                Stderr::try_write(&format!("{line}\n"));
                self.screen = Screen::None;
            }
            Screen::Lines | Screen::None => {}
        }
    }

    fn on_report(&mut self, text: &str) {
        // The next progress draws the bar again, below the report.
        self.screen.clear();
        print_report(text);
    }
}

/// Returns the plan that the arguments describe.
fn plan(arguments: &Arguments) -> Result<Plan, Failure> {
    let kind = arguments.kind.0;
    let does_not_apply = |option: &str| Err(Failure::Usage(format!("{option} does not apply to {}", kind.name())));
    if arguments.size.is_some() && !kind.has_size() {
        return does_not_apply("--size");
    }
    if arguments.pipeline.is_some() && !kind.has_pipeline() {
        return does_not_apply("--pipeline");
    }
    if arguments.speakers.is_some() && kind != Kind::Chat {
        return does_not_apply("--speakers");
    }
    let wrong = |error: String| Failure::Usage(format!("invalid value '{}' for '<ADDR>': {error}", arguments.address));
    let Url { address, host, target } = match kind {
        Kind::Http => value::url(&arguments.address),
        _ => value::address(&arguments.address).map(|address| Url { address, host: None, target: None }),
    }
    .map_err(wrong)?;
    if address.port() == Some(0) {
        return Err(wrong("port 0 cannot be dialed".to_owned()));
    }
    let addrs = address.resolve_peer(|name| match load::resolve(name) {
        Ok(Some(addrs)) => Ok(addrs),
        Ok(None) => {
            Err(Failure::Runtime(format!("{}: {address}: interrupted before its name was resolved", kind.name())))
        }
        Err(error) => Err(Failure::Runtime(format!("{}: {error}", kind.name()))),
    })?;
    let Some((to, fallbacks)) = addrs.split_first() else {
        return Err(Failure::Runtime(format!("{}: {address} has no address", kind.name())));
    };
    let mut plan = Plan::new(kind, to.clone());
    plan.fallbacks = fallbacks.to_vec();
    plan.connections = arguments.connections as usize;
    plan.size = arguments.size.unwrap_or(plan.size);
    plan.pipeline = arguments.pipeline.map_or(plan.pipeline, |n| n as usize);
    plan.duration = arguments.duration;
    plan.rate = arguments.rate;
    plan.speakers = arguments.speakers.map_or(plan.speakers, |n| n as usize);
    plan.host = host.unwrap_or(plan.host);
    plan.path = target.unwrap_or(plan.path);
    plan.check().map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(plan)
}
