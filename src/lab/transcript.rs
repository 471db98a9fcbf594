//! The text of a scenario: one line for each action, then its claims, then the verdict.
//!
//! Owns: [`Transcript`], [`Claims`] and [`Error`]. Must not know: any scenario.
//!
//! Invariants:
//! 1. A line reports measured values only; every conclusion from them is a claim.
//! 2. A claim is a comparison of measured values. A claim that fails makes its scenario fail.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

/// The reason why a scenario ended before its claims. The verdict is `FAIL` then, too.
#[derive(Debug)]
pub enum Error {
    /// A system call failed that the scenario needs.
    System(io::Error),
    /// A step did not complete in time; the text names the step.
    Timeout(String),
    /// The scenario met a state in which it cannot continue.
    Unexpected(String),
}

impl Error {
    /// The scenario cannot continue for this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Error::Unexpected(reason.into())
    }

    /// A step did not complete in time: `step` says in present tense what was expected.
    pub fn timeout(step: impl Into<String>) -> Self {
        Error::Timeout(step.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::System(error) => write!(f, "a system call failed: {error}"),
            Error::Timeout(step) => write!(f, "timed out before: {step}"),
            Error::Unexpected(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::System(error) => Some(error),
            Error::Timeout(_) | Error::Unexpected(_) => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::System(error)
    }
}

/// The result of a step of a scenario.
pub type Result<T> = std::result::Result<T, Error>;

/// The writer of a scenario's lines.
pub struct Transcript<'a> {
    out: &'a mut dyn Write,
    started: Instant,
    program: &'a Path,
    write_error: Option<io::Error>,
}

impl<'a> Transcript<'a> {
    /// A transcript to `out`. `program` is the path of the `reactor` binary: some scenarios start it as a child
    /// process.
    pub fn new(out: &'a mut dyn Write, program: &'a Path) -> Self {
        Self { out, started: Instant::now(), program, write_error: None }
    }

    /// The path of the `reactor` binary.
    pub fn program(&self) -> &Path {
        self.program
    }

    /// An action of the scenario itself.
    pub fn we(&mut self, text: impl fmt::Display) {
        self.timed("we", &text);
    }

    /// The kernel's answer, or a value from its tables.
    pub fn kernel(&mut self, text: impl fmt::Display) {
        self.timed("kernel", &text);
    }

    /// The loop's reaction.
    pub fn reactor(&mut self, text: impl fmt::Display) {
        self.timed("loop", &text);
    }

    /// The counterpart in Go.
    pub fn go(&mut self, text: impl fmt::Display) {
        self.line(format_args!("{:>9}  {:<6}  {text}", "", "Go"));
    }

    fn timed(&mut self, actor: &str, text: &dyn fmt::Display) {
        let at = self.started.elapsed().as_millis();
        self.line(format_args!("{at:>6} ms  {actor:<6}  {text}"));
    }

    /// Writes a line. After the first write error, lines are discarded.
    pub fn line(&mut self, line: fmt::Arguments<'_>) {
        if self.write_error.is_none() {
            self.write_error = writeln!(self.out, "{line}").and_then(|()| self.out.flush()).err();
        }
    }

    /// Ends the transcript.
    ///
    /// # Errors
    /// The first write error.
    pub fn finish(self) -> io::Result<()> {
        self.write_error.map_or(Ok(()), Err)
    }
}

/// The claims of a scenario, each with its result.
#[derive(Debug, Default)]
#[must_use]
pub struct Claims(Vec<(bool, String)>);

impl Claims {
    /// No claims yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a claim; `text` has the claim and the measured values.
    pub fn claim(mut self, holds: bool, text: impl Into<String>) -> Self {
        self.0.push((holds, text.into()));
        self
    }

    /// Adds a claim about a figure that only some systems provide; without the figure there is no claim.
    pub fn claim_if_known<T>(self, known: Option<T>, claim: impl FnOnce(T) -> (bool, String)) -> Self {
        match known.map(claim) {
            Some((holds, text)) => self.claim(holds, text),
            None => self,
        }
    }

    /// Each claim: true if it holds, and its text.
    pub fn iter(&self) -> impl Iterator<Item = (bool, &str)> {
        self.0.iter().map(|(holds, text)| (*holds, text.as_str()))
    }

    /// The first claim that does not hold.
    pub fn first_failure(&self) -> Option<&str> {
        self.iter().find(|(holds, _)| !holds).map(|(_, text)| text)
    }
}

/// Asserts that `judge` accepts `good`, and rejects each copy of it that one of `spoil` has changed.
#[cfg(test)]
#[track_caller]
pub fn assert_judges<M: Clone + fmt::Debug>(good: &M, judge: fn(&M) -> Claims, spoil: &[fn(&mut M)]) {
    assert_eq!(judge(good).first_failure(), None, "{good:?}");
    for (n, spoil) in spoil.iter().enumerate() {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert!(judge(&bad).first_failure().is_some(), "number {n} is accepted: {bad:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_report_the_first_failure() {
        let claims = Claims::new().claim(true, "one").claim(1 > 2, "1 > 2").claim(2 > 3, "2 > 3");
        assert_eq!(claims.first_failure(), Some("1 > 2"));
        assert_eq!(Claims::new().claim(true, "one").first_failure(), None);
        let unmet = Claims::new().claim_if_known(Some(3), |n| (n > 3, n.to_string()));
        assert_eq!(unmet.first_failure(), Some("3"));
        assert_eq!(Claims::new().claim_if_known(None::<u8>, |n| (n > 3, n.to_string())).first_failure(), None);
    }

    #[test]
    fn lines_name_their_actor_and_stop_at_a_write_error() {
        let mut text = Vec::new();
        let mut transcript = Transcript::new(&mut text, Path::new("reactor"));
        transcript.kernel("says no");
        transcript.go("hides it");
        transcript.finish().unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(" ms  kernel  says no\n") && text.ends_with("  Go      hides it\n"), "{text}");

        let (mut full, program) = ([0; 4], Path::new("reactor"));
        let mut out = &mut full[..];
        let mut transcript = Transcript::new(&mut out, program);
        transcript.we("write more than there is room for");
        assert!(transcript.finish().is_err());
    }

    #[test]
    fn errors_name_their_cause() {
        let system = Error::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(system.to_string(), "a system call failed: connection reset");
        assert!(std::error::Error::source(&system).is_some());
        assert_eq!(Error::timeout("a dial fails").to_string(), "timed out before: a dial fails");
        assert_eq!(Error::new("no socket").to_string(), "no socket");
    }
}
