//! The settings of the services, and their defaults.
//!
//! Owns: [`Settings`]. Must not know: how an operator writes them.

use std::time::Duration;

use super::{Nowhere, Sink};
use crate::protocol::time_text::LocalTime;

/// The settings that an operator may change. Each service takes those that concern it.
///
/// ```
/// use reactor::services::{Http, Settings};
///
/// let mut settings = Settings::default();
/// settings.max_body = 64 * 1024;
/// let http = Http::new(&settings, String::new());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The longest line, in bytes, without its end.
    pub max_line: usize,
    /// The longest body of an HTTP request, in bytes.
    pub max_body: usize,
    /// The longest time from the first to the last byte of the head of an HTTP request; zero is no limit.
    pub header_timeout: Duration,
    /// The longest pause within the body of an HTTP request, and the longest time for the whole body, to which every KiB
    /// adds a second; zero is no limit.
    pub body_timeout: Duration,
    /// Makes the sink to which services print.
    pub print_to: fn() -> Box<dyn Sink>,
    /// Makes the lines of local time, in the zone that the program has chosen.
    pub local_time: fn() -> LocalTime,
}

impl Default for Settings {
    /// Lines of 64 KiB, as Go's `bufio.Scanner` takes them, and bodies of 1 MiB, as nginx takes them. 10 s for a head: a
    /// client that is not slow on purpose sends it in one piece. A pause of 30 s in a body: meanwhile TCP sends a lost
    /// segment again several times. Services print nowhere, and times are those of UTC.
    fn default() -> Self {
        Self {
            max_line: 64 * 1024,
            max_body: 1024 * 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            print_to: || Box::new(Nowhere),
            local_time: LocalTime::utc,
        }
    }
}
