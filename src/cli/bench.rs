//! `reactor bench`: how fast a server answers.
//!
//! Owns: its arguments, the progress bar, and where the report goes.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use reactor::load::{self, Kind, Load, Progress, Report};

use super::Failure;
use super::value::{self, Address};

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
    let name = load.kind.name();
    // Before the run: nothing is lost for a folder that does not exist.
    let picture = arguments.plot.as_ref().map(|path| (path, fs::File::create(path)));
    let mut picture = match picture {
        Some((path, Err(error))) => {
            return Err(Failure::Runtime(format!("cannot write {}: {}", path.display(), super::cause(&error))));
        }
        Some((path, Ok(file))) => Some((path, file)),
        None => None,
    };
    let bar = io::stderr().is_terminal();
    let title = format!("{name} {}", load.to);
    let outcome = load::run(&load, move |progress| {
        if bar {
            draw(&title, progress);
        }
    });
    if bar {
        // The report begins where the bar was.
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    let report = outcome.map_err(|failure| Failure::Runtime(format!("{name}: {}: {failure}", load.to)))?;
    print(&report, arguments.json);
    if let Some((path, file)) = &mut picture {
        let written = file.write_all(report.to_plot().to_svg().as_bytes());
        written
            .map_err(|error| Failure::Runtime(format!("cannot write {}: {}", path.display(), super::cause(&error))))?;
    }
    if report.is_empty() {
        return Err(Failure::Runtime(format!("{name}: {}: nothing was answered", load.to)));
    }
    Ok(ExitCode::SUCCESS)
}

fn print(report: &Report, json: bool) {
    let text = if json { report.to_json() + "\n" } else { report.to_string() };
    // Whoever has closed standard output does not want to know.
    let _ = io::stdout().write_all(text.as_bytes());
}

/// One line that is drawn over itself.
fn draw(title: &str, progress: &Progress) {
    const CELLS: usize = 24;
    let Progress { elapsed, duration, rate, errors, .. } = *progress;
    let elapsed = elapsed.as_secs_f64();
    let errors = if errors > 0 { format!(", {errors} errors") } else { String::new() };
    let line = if duration.is_zero() {
        format!("{title} {elapsed:.1} s, {rate:.0}/s{errors}; Ctrl-C ends it")
    } else {
        let duration = duration.as_secs_f64();
        let full = ((elapsed / duration).min(1.0) * CELLS as f64) as usize;
        let (done, rest) = ("#".repeat(full), ".".repeat(CELLS - full));
        format!("{title} [{done}{rest}] {elapsed:.1} of {duration} s, {rate:.0}/s{errors}")
    };
    let _ = write!(io::stderr(), "\r{line}\x1b[K");
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
    let target = target(kind, &arguments.address)?;
    let to = target.address.resolve_peer().map_err(|error| Failure::Runtime(format!("{}: {error}", kind.name())))?;
    let defaults = Load::new(kind, to);
    let load = Load {
        connections: arguments.connections as usize,
        size: arguments.size.unwrap_or(defaults.size),
        pipeline: arguments.pipeline.map_or(defaults.pipeline, |n| n as usize),
        duration: arguments.duration,
        rate: arguments.rate,
        speakers: arguments.speakers.map_or(defaults.speakers, |n| n as usize),
        host: target.host.unwrap_or(defaults.host),
        path: target.path.unwrap_or(defaults.path),
        ..defaults
    };
    load.check().map_err(Failure::Usage)?;
    Ok(load)
}

/// Whom to ask, and of a URL what for.
struct Target {
    address: Address,
    host: Option<String>,
    path: Option<String>,
}

fn target(kind: Kind, text: &str) -> Result<Target, Failure> {
    let wrong = |error: String| Failure::Usage(format!("invalid value '{text}' for '<ADDR>': {error}"));
    let (authority, path) = match kind {
        Kind::Http => {
            let rest = text.strip_prefix("http://");
            let (authority, path) = split_path(rest.unwrap_or(text));
            let portless = rest.is_some() && !authority.rsplit(']').next().unwrap_or_default().contains(':');
            (if portless { format!("{authority}:80") } else { authority.to_owned() }, path)
        }
        _ => (text.to_owned(), None),
    };
    if path.is_some_and(|path| path.bytes().any(|byte| !byte.is_ascii_graphic())) {
        return Err(wrong("a path has no space, control or non-ASCII character".to_owned()));
    }
    let address = value::address(&authority).map_err(wrong)?;
    if address.port() == 0 {
        return Err(wrong("port 0 is nobody's".to_owned()));
    }
    let host = matches!(address, Address::Named(..)).then_some(authority);
    Ok(Target { address, host, path: path.map(ToOwned::to_owned) })
}

/// What stands before the first slash, and from there on.
fn split_path(text: &str) -> (&str, Option<&str>) {
    match text.find('/') {
        Some(at) => (&text[..at], Some(&text[at..])),
        None => (text, None),
    }
}
