//! How a scenario is told: one line for each thing that somebody does, then what is claimed, then the verdict.
//!
//! Owns: [`Transcript`], [`Claims`] and [`Error`]. Must not know: any scenario.
//!
//! Invariants:
//! 1. A line tells what has been measured by then; what is to be believed beyond that is a claim.
//! 2. A claim is a comparison of measured values, and one that does not hold makes the scenario fail.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

/// A scenario could not be played to its end: that, too, is a failure.
#[derive(Debug)]
pub struct Error(String);

impl Error {
    /// Stops for this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self(format!("a system call that should not fail: {error}"))
    }
}

/// What the steps of a scenario come to.
pub type Result<T> = std::result::Result<T, Error>;

/// Who speaks, and to whom.
pub struct Transcript<'a> {
    out: &'a mut dyn Write,
    started: Instant,
    program: &'a Path,
    write_error: Option<io::Error>,
}

impl<'a> Transcript<'a> {
    /// A transcript for `out`, in which `program` is this program: some scenarios need a process of their own.
    pub fn new(out: &'a mut dyn Write, program: &'a Path) -> Self {
        Self { out, started: Instant::now(), program, write_error: None }
    }

    /// The file of this program.
    pub fn program(&self) -> &Path {
        self.program
    }

    /// What we do to bring it about.
    pub fn we(&mut self, text: impl fmt::Display) {
        self.tell("we", &text);
    }

    /// What the kernel answers, or shows when it is asked.
    pub fn kernel(&mut self, text: impl fmt::Display) {
        self.tell("kernel", &text);
    }

    /// What the loop does about it.
    pub fn reactor(&mut self, text: impl fmt::Display) {
        self.tell("loop", &text);
    }

    /// Where the same is found in Go.
    pub fn go(&mut self, text: impl fmt::Display) {
        self.line(format_args!("{:>9}  {:<6}  {text}", "", "Go"));
    }

    fn tell(&mut self, who: &str, text: &dyn fmt::Display) {
        let at = self.started.elapsed().as_millis();
        self.line(format_args!("{at:>6} ms  {who:<6}  {text}"));
    }

    /// Writes a line; once nobody listens, no more are written.
    pub fn line(&mut self, line: fmt::Arguments<'_>) {
        if self.write_error.is_none() {
            self.write_error = writeln!(self.out, "{line}").and_then(|()| self.out.flush()).err();
        }
    }

    /// The end of the transcript.
    ///
    /// # Errors
    /// The first that there was in writing it.
    pub fn finish(self) -> io::Result<()> {
        self.write_error.map_or(Ok(()), Err)
    }
}

/// What is claimed, and whether it is so.
#[derive(Debug, Default)]
#[must_use]
pub struct Claims(Vec<(bool, String)>);

impl Claims {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more: `text` says what is claimed and what was measured.
    pub fn that(mut self, holds: bool, text: impl Into<String>) -> Self {
        self.0.push((holds, text.into()));
        self
    }

    /// One that needs a figure which only some systems have.
    pub fn that_where_known<T>(self, known: Option<T>, claim: impl FnOnce(T) -> (bool, String)) -> Self {
        match known.map(claim) {
            Some((holds, text)) => self.that(holds, text),
            None => self,
        }
    }

    /// Each claim, and whether it holds.
    pub fn iter(&self) -> impl Iterator<Item = (bool, &str)> {
        self.0.iter().map(|(holds, text)| (*holds, text.as_str()))
    }

    /// The first claim that does not hold.
    pub fn broken(&self) -> Option<&str> {
        self.iter().find(|(holds, _)| !holds).map(|(_, text)| text)
    }
}

/// Checks that `judge` believes `good`, and that it believes none of the measurements that are wrong in one thing.
#[cfg(test)]
#[track_caller]
pub fn assert_judges<M: Clone + fmt::Debug>(good: &M, judge: fn(&M) -> Claims, spoil: &[fn(&mut M)]) {
    assert_eq!(judge(good).broken(), None, "{good:?}");
    for (n, spoil) in spoil.iter().enumerate() {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert!(judge(&bad).broken().is_some(), "number {n} is believed: {bad:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broken_claim_is_enough() {
        let claims = Claims::new().that(true, "one").that(1 > 2, "1 > 2").that(2 > 3, "2 > 3");
        assert_eq!(claims.broken(), Some("1 > 2"));
        assert_eq!(Claims::new().that(true, "one").broken(), None);
        assert_eq!(Claims::new().that_where_known(Some(3), |n| (n > 3, n.to_string())).broken(), Some("3"));
        assert_eq!(Claims::new().that_where_known(None::<u8>, |n| (n > 3, n.to_string())).broken(), None);
    }

    #[test]
    fn lines_name_who_acts_and_stop_when_nobody_listens() {
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
}
