//! The time of day as a line of text: `2006-01-02 15:04:05`, in the local time zone.
//!
//! Owns: [`LocalTime`], and [`Zone`], the rules of a time zone as the line needs them. Must not know: the current time,
//! where the rules of zones come from.
//!
//! Invariants:
//! 1. A line is made once a second, however many callers need it.

use std::fmt::{Debug, Write};
use std::time::SystemTime;

use super::civil::{Civil, seconds_since_epoch};

/// The rules of a time zone.
pub trait Zone: Debug + Send + Sync {
    /// Returns how far the clocks of the zone are ahead of UTC, in seconds, `unix_seconds` after the epoch. Negative west
    /// of Greenwich.
    fn offset(&self, unix_seconds: i64) -> i32;
}

/// Universal time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utc;

impl Zone for Utc {
    fn offset(&self, _unix_seconds: i64) -> i32 {
        0
    }
}

/// Turns instants into lines of local time, and remembers the last line.
#[derive(Debug)]
pub struct LocalTime {
    zone: Box<dyn Zone>,
    second: Option<i64>,
    line: String,
}

impl Default for LocalTime {
    /// The time zone UTC.
    fn default() -> Self {
        Self::utc()
    }
}

impl LocalTime {
    /// Lines in the time of `zone`.
    pub fn new(zone: impl Zone + 'static) -> Self {
        Self { zone: Box::new(zone), second: None, line: String::new() }
    }

    /// Lines in universal time.
    pub fn utc() -> Self {
        Self::new(Utc)
    }

    /// Lines in the time zone of the system: `TZ`, or /etc/localtime.
    #[cfg(feature = "cli")]
    pub fn of_system() -> Self {
        Self::new(SystemZone(jiff::tz::TimeZone::system()))
    }

    /// Returns the line for `now`, with its newline. A clock outside of the years 0 to 9999 gives the line of the epoch.
    pub fn line(&mut self, now: SystemTime) -> &[u8] {
        let seconds = seconds_since_epoch(now);
        if self.second != Some(seconds) {
            self.second = Some(seconds);
            let local = seconds.saturating_add(self.zone.offset(seconds).into());
            let Civil { year, month, day, hour, minute, second, .. } = Civil::at(local).unwrap_or(Civil::EPOCH);
            self.line.clear();
            // Writing to a String cannot fail.
            let _ = writeln!(self.line, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
        }
        self.line.as_bytes()
    }
}

/// A zone of which jiff knows the rules, from the zoneinfo files of the system.
#[cfg(feature = "cli")]
#[derive(Debug)]
struct SystemZone(jiff::tz::TimeZone);

#[cfg(feature = "cli")]
impl Zone for SystemZone {
    fn offset(&self, unix_seconds: i64) -> i32 {
        // jiff knows the years -9999 to 9999.
        let instant = jiff::Timestamp::from_second(unix_seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        self.0.to_offset(instant).seconds()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_second_has_one_line() {
        let mut local = LocalTime::utc();
        assert_eq!(local.line(UNIX_EPOCH + Duration::from_secs(1_136_214_245)), b"2006-01-02 15:04:05\n");
        assert_eq!(local.line(UNIX_EPOCH + Duration::from_millis(1_136_214_245_999)), b"2006-01-02 15:04:05\n");
        assert_eq!(local.line(UNIX_EPOCH + Duration::from_secs(1_136_214_246)), b"2006-01-02 15:04:06\n");
    }

    #[cfg(feature = "cli")]
    #[test]
    fn summer_time_is_in_the_zone() {
        let zone = jiff::tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a valid zone");
        let mut local = LocalTime::new(SystemZone(zone));
        assert_eq!(local.line(UNIX_EPOCH + Duration::from_secs(1_720_000_000)), b"2024-07-03 11:46:40\n");
        assert_eq!(local.line(UNIX_EPOCH + Duration::from_secs(1_704_067_200)), b"2024-01-01 01:00:00\n");
    }

    #[test]
    fn a_zone_west_of_greenwich_is_behind() {
        #[derive(Debug)]
        struct NewYorkInWinter;
        impl Zone for NewYorkInWinter {
            fn offset(&self, _unix_seconds: i64) -> i32 {
                -5 * 3_600
            }
        }
        let mut local = LocalTime::new(NewYorkInWinter);
        assert_eq!(local.line(UNIX_EPOCH), b"1969-12-31 19:00:00\n");
    }

    #[test]
    fn a_clock_far_from_the_present_gives_a_line() {
        let mut local = LocalTime::utc();
        let far = UNIX_EPOCH + Duration::from_secs(1 << 60);
        assert_eq!(local.line(far), b"1970-01-01 00:00:00\n");
        assert_eq!(local.line(UNIX_EPOCH - Duration::from_secs(1)), b"1969-12-31 23:59:59\n");
    }
}
