//! The lab: hard situations of network programming, staged on loopback, measured and judged.
//!
//! Owns: the list of scenarios, and how a scenario runs. Must not know: the command line.
//!
//! A scenario sets up both ends itself: a [`Reactor`](crate::reactor::Reactor) on a thread, which is its subject, and
//! plain sockets at the other end. It reports each action, the kernel's answer and the loop's reaction, and returns
//! claims about the measured values. A claim that does not hold fails the scenario. All text goes to the writer that
//! the caller passes in.
//!
//! Invariants:
//! 1. No scenario needs privileges, a network, or more than about ten seconds.
//! 2. No scenario leaks a descriptor, a thread or a process: the last claim of each checks this.

mod backlog;
mod dial_timeout;
mod fd_exhaustion;
mod fixture;
mod half_close;
mod kernel;
mod partial_write;
mod resources;
mod self_connect;
mod slow_loris;
mod slow_reader;
mod spy;
mod stale_event;
mod sticky_packets;
mod time_wait;
mod transcript;
mod udp_refused;

use std::io::{self, Write};
use std::path::Path;

use resources::Resources;
use transcript::{Claims, Result, Transcript};

/// One hard situation.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its subject, in one line.
    pub about: &'static str,
    run: fn(&mut Transcript<'_>) -> Result<Claims>,
}

/// The result of a scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Verdict {
    /// Every claim holds.
    Pass,
    /// A claim does not hold, or the scenario could not reach its claims.
    Fail {
        /// The claim or the cause, as on the last line of the transcript.
        reason: String,
    },
}

impl Verdict {
    /// Returns true for [`Verdict::Pass`].
    pub fn is_pass(&self) -> bool {
        *self == Verdict::Pass
    }
}

impl Scenario {
    const fn new(name: &'static str, run: fn(&mut Transcript<'_>) -> Result<Claims>, about: &'static str) -> Self {
        Self { name, about, run }
    }

    /// Runs the scenario and writes its transcript to `out`; the last line is `PASS name` or `FAIL name: reason`.
    /// `program` is the path of the `reactor` binary: some scenarios start it as a child process.
    ///
    /// # Errors
    /// Those of writing to `out`.
    pub fn run(&self, program: &Path, out: &mut dyn Write) -> io::Result<Verdict> {
        let mut transcript = Transcript::new(out, program);
        transcript.line(format_args!("{}: {}", self.name, self.about));
        if !kernel::shows_sockets() {
            transcript.we("this system does not show its sockets as Linux does: queues and states are left out");
        }
        let before = Resources::now();
        let verdict = match (self.run)(&mut transcript) {
            Ok(claims) => judge(&mut transcript, before, claims),
            Err(error) => Verdict::Fail { reason: error.to_string() },
        };
        match &verdict {
            Verdict::Pass => transcript.line(format_args!("PASS {}", self.name)),
            Verdict::Fail { reason } => transcript.line(format_args!("FAIL {}: {reason}", self.name)),
        }
        transcript.finish()?;
        Ok(verdict)
    }
}

/// Adds the claim about leaked resources, writes every claim, and judges them.
fn judge(transcript: &mut Transcript<'_>, before: Option<Resources>, claims: Claims) -> Verdict {
    let claims = claims.claim_if_known(before, |before| match before.leaked() {
        None => (true, "no descriptor, thread or process is left behind".to_owned()),
        Some(after) => (false, format!("nothing is left behind: before {before:?}, after {after:?}")),
    });
    for (holds, text) in claims.iter() {
        transcript.line(format_args!("{:>9}  {:<6}  {text}", "claim", if holds { "holds" } else { "BROKEN" }));
    }
    match claims.first_failure() {
        None => Verdict::Pass,
        Some(text) => Verdict::Fail { reason: format!("it does not hold that {text}") },
    }
}

/// Every scenario, in teaching order.
pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("backlog", backlog::run, "connections are complete before anybody accepts them"),
    Scenario::new("dial-timeout", dial_timeout::run, "a black hole answers nothing; only a deadline ends the dial"),
    Scenario::new("partial-write", partial_write::run, "a write takes what there is room for; an edge says go on"),
    Scenario::new("slow-reader", slow_reader::run, "a peer that does not read is not read; what the kernel hides"),
    Scenario::new("half-close", half_close::run, "FIN ends one direction, not the connection"),
    Scenario::new("sticky-packets", sticky_packets::run, "a stream has bytes and no messages; framing is the cure"),
    Scenario::new("time-wait", time_wait::run, "the end that closes first keeps the address; SO_REUSEADDR"),
    Scenario::new("fd-exhaustion", fd_exhaustion::run, "without descriptors the edge is spent; an alarm saves it"),
    Scenario::new("udp-refused", udp_refused::run, "UDP can be refused, one call too late, if it is connected"),
    Scenario::new("self-connect", self_connect::run, "a dialed socket can connect to itself"),
    Scenario::new("slow-loris", slow_loris::run, "a byte now and then beats an idle timeout, not a deadline"),
    Scenario::new("stale-event", stale_event::run, "numbers are used again: why ids carry a generation"),
];

/// Returns the scenario called `name`.
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::transcript::Error;
    use super::*;

    fn run(run: fn(&mut Transcript<'_>) -> Result<Claims>) -> (Verdict, String) {
        let mut text = Vec::new();
        let scenario = Scenario::new("example", run, "its subject");
        let verdict = scenario.run(Path::new("reactor"), &mut text).expect("memory can be written to");
        (verdict, String::from_utf8(text).expect("UTF-8"))
    }

    #[test]
    fn names_are_unique() {
        for (n, scenario) in SCENARIOS.iter().enumerate() {
            assert!(SCENARIOS[..n].iter().all(|other| other.name != scenario.name), "{}", scenario.name);
        }
        assert!(find("backlog").is_some() && find("front log").is_none());
    }

    #[test]
    fn the_last_line_is_the_verdict() {
        let (verdict, text) = run(|_| Ok(Claims::new().claim(true, "one is one")));
        assert!(verdict.is_pass() && text.ends_with("\nPASS example\n"), "{text}");
        let (verdict, text) = run(|_| Ok(Claims::new().claim(1 > 2, "one is more than two")));
        let reason = "it does not hold that one is more than two";
        assert_eq!(verdict, Verdict::Fail { reason: reason.to_owned() });
        assert!(text.ends_with(&format!("\nFAIL example: {reason}\n")), "{text}");
        let (verdict, text) = run(|_| Err(Error::new("the network is down")));
        assert!(!verdict.is_pass() && text.ends_with("\nFAIL example: the network is down\n"), "{text}");
    }
}
