//! The command line: one file per subcommand, no logic of its own.
//!
//! Owns: the arguments that all subcommands share, and logging.

mod bench;
mod connect;
mod descriptors;
mod failure;
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

use failure::{FINAL_PATIENCE, Failure, cannot, cause};

/// An event loop in the open: every wait is one that you can read.
#[derive(Debug, Parser)]
#[command(name = "reactor", version, propagate_version = true)]
#[command(after_help = EXAMPLES, after_long_help = serve::with_services(EXAMPLES))]
struct Arguments {
    /// How much to log on standard error: off, error, warn, info, debug or trace (default: RUST_LOG, or info; warn in the lab)
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<LevelFilter>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run services on one thread; without a service named, all of them
    Serve(Box<serve::Arguments>),
    /// Connect standard input and output to a peer, over TCP or UDP
    Connect(connect::Arguments),
    /// Show hard situations of network programming, measure them, and judge
    Lab(lab::Arguments),
    /// Measure how fast a server answers: throughput, latency, errors, losses
    Bench(bench::Arguments),
}

const EXAMPLES: &str = "\
Examples:
  reactor                             every service at its default address
  reactor serve echo time=:7013       two services, one of them on every interface
  reactor connect tcp://:7013         a client of one of them
  reactor bench echo 7007             how fast another one answers
  RUST_LOG=trace reactor serve echo   the life of every byte
  reactor lab --all                   what networks do to programs, shown and judged";

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    start_log(arguments.log, usual_log(arguments.command.as_ref()));
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

/// What is logged if nobody says otherwise.
fn usual_log(command: Option<&Command>) -> &'static str {
    match command {
        // What a server's loop has to tell, a client's user has not asked for.
        Some(Command::Connect(_)) => "info,reactor::reactor=warn",
        // The lab tells its own story, and a measurement only figures: what is usual on the way is no news.
        Some(Command::Lab(_) | Command::Bench(_)) => "warn",
        None | Some(Command::Serve(_)) => "info",
    }
}

fn start_log(level: Option<LevelFilter>, usual: &str) {
    let usual = if level.is_some() { "" } else { usual };
    // The logger cannot see that what it writes to is standard error.
    let colours = if AutoStream::choice(&io::stderr()) == ColorChoice::Never { "never" } else { "always" };
    let env = env_logger::Env::default().default_filter_or(usual).default_write_style_or(colours);
    let mut builder = env_logger::Builder::from_env(env);
    builder.target(Target::Pipe(Box::new(Stderr::with_timeout(Stderr::LINE_TIMEOUT))));
    if let Some(level) = level {
        builder.filter_level(level);
    }
    builder.init();
}

/// The patience with a slow reader of a report, which can have thousands of lines and which an operator has requested.
const REPORT_PATIENCE: Duration = Duration::from_millis(30);

/// Prints the report that SIGUSR1 requests on standard error.
fn print_report(report: &str) {
    // This writer counts what it cannot write, and never fails.
    let _ = Stderr::with_timeout(REPORT_PATIENCE).write_all(report.as_bytes());
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
