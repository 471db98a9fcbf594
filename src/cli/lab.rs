//! `reactor lab`: hard situations of network programming, shown, measured and judged.
//!
//! Owns: its arguments and exit status. Must not know: any scenario.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::Args;
use reactor::lab::{self, SCENARIOS, Scenario};

use super::{Failure, cannot};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("Scenarios:\n{}\n{EXAMPLES}", table("  ")))]
pub(super) struct Arguments {
    /// Scenarios to run, in this order; without one they are listed
    #[arg(value_name = "NAME", value_parser = scenario)]
    names: Vec<&'static Scenario>,
    /// Run every scenario
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

const EXAMPLES: &str = "\
Examples:
  reactor lab                        the list of scenarios
  reactor lab backlog slow-reader    two scenarios
  reactor lab --all                  all of them; exit status 1 if any fails";

/// The names, each with its subject.
fn table(indent: &str) -> String {
    SCENARIOS.iter().map(|scenario| format!("{indent}{:<16} {}\n", scenario.name, scenario.about)).collect()
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    lab::find(name).ok_or_else(|| {
        let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        format!("no scenario is called '{name}'; there are {}", names.join(", "))
    })
}

/// Runs the scenarios in order. The exit status is 1 if one of them fails.
pub(super) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let mut out = io::stdout();
    let written = if arguments.all {
        run_all(&mut SCENARIOS.iter(), &mut out)?
    } else if arguments.names.is_empty() {
        out.write_all(table("").as_bytes()).map(|()| true)
    } else {
        run_all(&mut arguments.names.iter().copied(), &mut out)?
    };
    match written {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::from(1)),
        // A closed standard output (`| head -1`) ends the command quietly.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(cannot("write to standard output", &error)),
    }
}

fn run_all(
    scenarios: &mut dyn Iterator<Item = &'static Scenario>,
    out: &mut dyn Write,
) -> Result<io::Result<bool>, Failure> {
    let program = std::env::current_exe();
    let program =
        program.map_err(|error| Failure::Runtime(format!("cannot find the file of this program: {error}")))?;
    let mut all_passed = true;
    for (n, scenario) in scenarios.enumerate() {
        let gap = if n > 0 { writeln!(out) } else { Ok(()) };
        match gap.and_then(|()| scenario.run(&program, out)) {
            Ok(verdict) => all_passed &= verdict.is_pass(),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(all_passed))
}
