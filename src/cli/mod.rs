//! The command line: one file per subcommand, without logic of its own.
//!
//! Owns: the arguments that all subcommands share, and logging.

mod bench;
mod connect;
mod descriptors;
mod failure;
mod inherited;
mod lab;
mod serve;
mod value;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use env_logger::Target;
use log::LevelFilter;
use reactor::stdio::Stderr;

use failure::{FINAL_TIMEOUT, Failure, cannot, cause};

/// An event loop in the open: the source shows every place that waits.
#[derive(Debug, Parser)]
#[command(name = "reactor", version, propagate_version = true)]
#[command(after_help = EXAMPLES, after_long_help = serve::with_services(EXAMPLES))]
struct Arguments {
    /// Level of the log on standard error: off, error, warn, info, debug or trace [default: RUST_LOG, or info; warn for lab and bench]
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<LevelFilter>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run services on one thread: those named, or all
    Serve(Box<serve::Arguments>),
    /// Connect standard input and output to a peer, over TCP or UDP
    Connect(connect::Arguments),
    /// Show hard situations of network programming, measure them, and judge the result
    Lab(lab::Arguments),
    /// Measure a server: throughput, latency, errors, losses
    Bench(bench::Arguments),
}

const EXAMPLES: &str = "\
Examples:
  reactor                             every service at its default address
  reactor serve echo time=:7013       two services, one of them on every interface
  reactor connect tcp://:7013         a client of the time service
  reactor bench echo 7007             throughput and latency of the echo service
  RUST_LOG=trace reactor serve echo   every system call of the loop
  reactor lab --all                   hard situations, shown and judged";

/// Runs the command of the process's arguments.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    start_log(arguments.log, default_log(arguments.command.as_ref()));
    let outcome = match arguments.command {
        None => serve::run(serve::Arguments::all_defaults()),
        Some(Command::Serve(arguments)) => serve::run(*arguments),
        Some(Command::Connect(arguments)) => connect::run(arguments),
        Some(Command::Lab(arguments)) => lab::run(arguments),
        Some(Command::Bench(arguments)) => bench::run(arguments),
    };
    match outcome {
        Ok(status) => status,
        Err(failure) => failure.report(),
    }
}

/// Returns the levels of the log without an option and without RUST_LOG.
fn default_log(command: Option<&Command>) -> &'static str {
    match command {
        // The loop's messages are for operators of servers.
        Some(Command::Connect(_)) => "info,reactor::reactor=warn",
        // The lab prints a story of its own, and a measurement prints figures: usual events would be noise.
        Some(Command::Lab(_) | Command::Bench(_)) => "warn",
        None | Some(Command::Serve(_)) => "info",
    }
}

fn start_log(level: Option<LevelFilter>, default: &str) {
    let default = if level.is_some() { "" } else { default };
    // The logger cannot see that its target is standard error.
    let colours = if AutoStream::choice(&io::stderr()) == ColorChoice::Never { "never" } else { "always" };
    let env = env_logger::Env::default().default_filter_or(default).default_write_style_or(colours);
    let mut builder = env_logger::Builder::from_env(env);
    builder.target(Target::Pipe(Box::new(Stderr::with_timeout(Stderr::LINE_TIMEOUT))));
    if let Some(level) = level {
        builder.filter_level(level);
    }
    builder.init();
}

/// The longest wait for a slow reader of a report: an operator has requested it, and it may have thousands of lines.
const REPORT_TIMEOUT: Duration = Duration::from_millis(30);

/// Prints the report that SIGUSR1 requests on standard error.
fn print_report(report: &str) {
    // This writer counts what it cannot write, and never fails.
    let _ = Stderr::with_timeout(REPORT_TIMEOUT).write_all(report.as_bytes());
}

/// Prints help and version on standard output; any other error of the parser is one line on standard error.
fn explain(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match error.print().and_then(|()| io::stdout().flush()) {
            // A reader that needs no more has closed the pipe.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                cannot("write to standard output", &error).report()
            }
            _ => ExitCode::SUCCESS,
        };
    }
    let text = error.render().to_string();
    let lines =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let line = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    Failure::Usage(line.trim_start_matches("error: ").to_owned()).report()
}
