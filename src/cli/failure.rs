//! The errors of the command, and its exit statuses: 0 is success, 1 a failure at run time, 2 wrong usage.
//!
//! Owns: [`Failure`], and the text and the status that end a command. Must not know: subcommands.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use reactor::stdio::Stderr;

/// The longest wait of the last text on standard error for its reader: no connection waits for the process any more.
pub(super) const FINAL_TIMEOUT: Duration = Duration::from_millis(500);

/// An error that ends the command.
#[derive(Debug)]
pub(super) enum Failure {
    /// Wrong usage: exit status 2.
    Usage(String),
    /// A failure at run time: exit status 1.
    Runtime(String),
}

impl Failure {
    /// Prints the failure on standard error, as one line, and returns the exit status.
    pub fn report(&self) -> ExitCode {
        // If standard error is closed, only the exit status shows the failure.
        let _ = writeln!(Stderr::with_timeout(FINAL_TIMEOUT), "error: {self}");
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Runtime(_) => ExitCode::from(1),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) => write!(f, "{text} (try --help)"),
            Failure::Runtime(text) => f.write_str(text),
        }
    }
}

/// Returns the failure of an `action`, such as "wait for events", with its cause.
pub(super) fn cannot(action: &str, error: &io::Error) -> Failure {
    Failure::Runtime(format!("cannot {action}: {}", cause(error)))
}

/// Returns the system's text for an error, without its number.
pub(super) fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
