//! The lab: hard situations of network programming, played on loopback, measured, and judged.
//!
//! Owns: the list of scenarios, and how one is played. Must not know: the command line.
//!
//! A scenario sets up both ends itself: a [`Reactor`](crate::reactor::Reactor) on a thread, which is what it is about,
//! and the other end by hand with plain sockets. It tells what is done, what the kernel answers and what the loop does
//! about it, and returns claims about what it has measured. A claim that does not hold fails the scenario.
//!
//! Invariants:
//! 1. No scenario needs privileges, a network, or more than about ten seconds.
//! 2. None leaves a descriptor, a thread or a process behind: that is claimed of each.

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

use resources::Traces;
use transcript::{Claims, Result, Transcript};

/// One hard situation.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in one line.
    pub about: &'static str,
    play: fn(&mut Transcript<'_>) -> Result<Claims>,
}

impl Scenario {
    const fn new(name: &'static str, play: fn(&mut Transcript<'_>) -> Result<Claims>, about: &'static str) -> Self {
        Self { name, about, play }
    }

    /// Plays it, and tells it to `out`; the last line is `PASS name` or `FAIL name: why`. Says whether it has passed.
    /// `program` is the file of the `reactor` command, for those that need a process of their own.
    ///
    /// # Errors
    /// Those of writing to `out`.
    pub fn play(&self, program: &Path, out: &mut dyn Write) -> io::Result<bool> {
        let mut transcript = Transcript::new(out, program);
        transcript.line(format_args!("{}: {}", self.name, self.about));
        if !kernel::shows_sockets() {
            transcript.we("this system does not show its sockets as Linux does: queues and states are left out");
        }
        let before = Traces::now();
        let played = (self.play)(&mut transcript);
        let verdict = played.map_err(|error| error.to_string()).and_then(|claims| {
            let claims = claims.claim_if_known(before, |before| match before.left_behind() {
                None => (true, "no descriptor, thread or process is left behind".to_owned()),
                Some(after) => (false, format!("nothing is left behind: before {before:?}, after {after:?}")),
            });
            for (holds, text) in claims.iter() {
                transcript.line(format_args!("{:>9}  {:<6}  {text}", "claim", if holds { "holds" } else { "BROKEN" }));
            }
            claims.first_failure().map_or(Ok(()), |text| Err(format!("it does not hold that {text}")))
        });
        match &verdict {
            Ok(()) => transcript.line(format_args!("PASS {}", self.name)),
            Err(why) => transcript.line(format_args!("FAIL {}: {why}", self.name)),
        }
        transcript.finish()?;
        Ok(verdict.is_ok())
    }
}

/// Every scenario, in the order in which they teach.
pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("backlog", backlog::play, "connections are complete before anybody accepts them"),
    Scenario::new("dial-timeout", dial_timeout::play, "a black hole answers nothing; only a deadline ends the dial"),
    Scenario::new("partial-write", partial_write::play, "a write takes what there is room for; an edge says go on"),
    Scenario::new("slow-reader", slow_reader::play, "who does not read is not read; what the kernel hides meanwhile"),
    Scenario::new("half-close", half_close::play, "FIN ends one direction, not the connection"),
    Scenario::new("sticky-packets", sticky_packets::play, "a stream has bytes and no messages; framing is the cure"),
    Scenario::new("time-wait", time_wait::play, "who closes first keeps the address; SO_REUSEADDR"),
    Scenario::new("fd-exhaustion", fd_exhaustion::play, "without descriptors the edge is spent; an alarm saves it"),
    Scenario::new("udp-refused", udp_refused::play, "UDP can be refused, one call too late, if it is connected"),
    Scenario::new("self-connect", self_connect::play, "a dialed socket can connect to itself"),
    Scenario::new("slow-loris", slow_loris::play, "a byte now and then beats an idle timeout, not a deadline"),
    Scenario::new("stale-event", stale_event::play, "numbers are used again: why ids carry a generation"),
];

/// The scenario called `name`.
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::transcript::Error;
    use super::*;

    fn told(play: fn(&mut Transcript<'_>) -> Result<Claims>) -> (bool, String) {
        let mut text = Vec::new();
        let scenario = Scenario::new("example", play, "what it shows");
        let passed = scenario.play(Path::new("reactor"), &mut text).expect("memory can be written to");
        (passed, String::from_utf8(text).expect("UTF-8"))
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
        let (passed, text) = told(|_| Ok(Claims::new().claim(1 > 2, "one is more than two")));
        assert!(!passed && text.ends_with("FAIL example: it does not hold that one is more than two\n"), "{text}");
        let (passed, text) = told(|_| Err(Error::new("the network is down")));
        assert!(!passed && text.ends_with("\nFAIL example: the network is down\n"), "{text}");
    }
}
