//! `reactor bench`: how fast a server answers.
//!
//! Owns: its arguments, the progress bar, and where the report goes.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use reactor::load::{self, Kind, Load, Progress, Report};
use reactor::stdio::Stderr;

use super::value::{self, Url};
use super::{Failure, cannot};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// What to ask: echo, echo-udp, time (a connection for each request), chat (lines that all hear), http
    #[arg(value_enum, value_name = "SERVICE", hide_possible_values = true)]
    kind: Asked,
    /// Whom: PORT, :PORT, HOST:PORT, [IPv6]:PORT; for http also with http:// in front and a path behind
    #[arg(value_name = "ADDR")]
    address: String,
    /// Connections (for echo-udp: sockets) at a time
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Bytes of a message; for chat of a line, its end included [default: 64]
    #[arg(long, value_name = "SIZE", value_parser = value::size)]
    size: Option<usize>,
    /// Requests under way on each connection [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pipeline: Option<u32>,
    /// How long to measure; 0 until Ctrl-C, which also ends it early
    #[arg(long, value_name = "D", default_value = "3s", value_parser = value::duration)]
    duration: Duration,
    /// Requests a second in all, due whatever the server does; latency counts from when each was due [default: as fast
    /// as it answers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: Option<u64>,
    /// How many members of a chat speak [default: 1]
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
struct Asked(Kind);

impl ValueEnum for Asked {
    fn value_variants<'a>() -> &'a [Self] {
        const { &[Asked(Kind::ALL[0]), Asked(Kind::ALL[1]), Asked(Kind::ALL[2]), Asked(Kind::ALL[3]), Asked(Kind::ALL[4])] }
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.name()))
    }
}

const EXAMPLES: &str = "\
Examples:
  reactor bench echo 7007                                    50 connections, as fast as the server answers
  reactor bench echo 7007 --rate 20000 --plot latency.svg    20,000 messages a second, come what may
  reactor bench echo-udp 7007 --pipeline 8 --size 512        datagrams, and how many were lost
  reactor bench chat 8000 --connections 100 --speakers 5       every line to a hundred members
  reactor bench http http://localhost:8080/healthz --json    one object, for scripts";

/// Measures, and prints what has been measured.
pub(super) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let load = load(&arguments)?;
    let failed = |why: &str| Failure::Runtime(format!("{}: {}: {why}", load.kind.name(), load.to));
    // Before the run: nothing is lost for a folder that does not exist.
    let picture = arguments.plot.as_deref().map(Picture::open).transpose()?;
    let screen = Screen::of_stderr();
    let mut bar = Bar::new(screen, &load);
    let outcome = load::run(&load, move |progress| bar.show(progress));
    screen.clear();
    let report = outcome.map_err(|failure| failed(&failure.to_string()))?;
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
        // Whoever has closed standard output does not want to know.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(cannot("write to standard output", &error)),
        _ => Ok(()),
    }
}

/// A file that is open before the run and written after it. Until then it is as it was.
struct Picture<'a> {
    path: &'a Path,
    file: File,
    /// It was not there before, and has nothing in it.
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
            // What is no file, such as a pipe, has no length.
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

/// What standard error is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Screen {
    /// Nobody looks.
    None,
    /// A terminal that can only go on (`TERM=dumb`).
    Lines,
    /// A terminal on which a line can be drawn over itself.
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

    /// The report begins where the bar was.
    fn clear(self) {
        if self == Screen::Redrawn {
            Stderr::offer("\r\x1b[K");
        }
    }
}

/// What is shown while it runs.
struct Bar {
    screen: Screen,
    title: String,
    connections: usize,
    duration: Duration,
}

impl Bar {
    fn new(screen: Screen, load: &Load) -> Self {
        let title = format!("{} {}", load.kind.name(), load.to);
        Self { screen, title, connections: load.connections, duration: load.duration }
    }

    fn show(&mut self, progress: &Progress) {
        let line = match *progress {
            Progress::Preparing { elapsed, served } => self.waiting(elapsed, served),
            Progress::Measuring { elapsed, rate, errors, .. } => self.measuring(elapsed, rate, errors),
        };
        match self.screen {
            Screen::Redrawn => Stderr::offer(&format!("\r{line}\x1b[K")),
            // Once, if it takes so long that somebody may wonder.
            Screen::Lines => {
                if let Progress::Preparing { elapsed, .. } = progress
                    && *elapsed >= Duration::from_secs(1)
                {
                    Stderr::offer(&format!("{line}\n"));
                    self.screen = Screen::None;
                }
            }
            Screen::None => {}
        }
    }

    fn waiting(&self, elapsed: Duration, served: usize) -> String {
        let Self { title, connections, .. } = self;
        let (elapsed, most) = (elapsed.as_secs_f64(), load::PREPARATION.as_secs());
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

/// The run that the arguments ask for.
fn load(arguments: &Arguments) -> Result<Load, Failure> {
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
    if address.port() == 0 {
        return Err(wrong("port 0 is nobody's".to_owned()));
    }
    let to = address.resolve_peer().map_err(|error| Failure::Runtime(format!("{}: {error}", kind.name())))?;
    let defaults = Load::new(kind, to);
    let load = Load {
        connections: arguments.connections as usize,
        size: arguments.size.unwrap_or(defaults.size),
        pipeline: arguments.pipeline.map_or(defaults.pipeline, |n| n as usize),
        duration: arguments.duration,
        rate: arguments.rate,
        speakers: arguments.speakers.map_or(defaults.speakers, |n| n as usize),
        host: host.unwrap_or(defaults.host),
        path: target.unwrap_or(defaults.path),
        ..defaults
    };
    load.check().map_err(Failure::Usage)?;
    Ok(load)
}
