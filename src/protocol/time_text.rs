//! The time of day as a line of text: `2006-01-02 15:04:05`, in the local time zone.
//!
//! Owns: [`LocalTime`]. Must not know: what time it is.
//!
//! The rules of time zones are jiff's business. A line is made once per second, however many ask for it.

use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Turns instants into lines of local time, and remembers the last.
#[derive(Debug)]
pub struct LocalTime {
    zone: TimeZone,
    second: Option<i64>,
    line: String,
}

impl Default for LocalTime {
    /// The time zone of the system: `TZ`, or /etc/localtime.
    fn default() -> Self {
        Self::new(TimeZone::system())
    }
}

impl LocalTime {
    fn new(zone: TimeZone) -> Self {
        Self { zone, second: None, line: String::new() }
    }

    /// The time zone UTC.
    pub fn utc() -> Self {
        Self::new(TimeZone::UTC)
    }

    /// The line for `now`, with its newline.
    pub fn line(&mut self, now: SystemTime) -> &[u8] {
        // A clock outside of the years -9999 to 9999 is told as the epoch.
        let now = Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH);
        if self.second != Some(now.as_second()) {
            self.second = Some(now.as_second());
            self.line = now.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S\n").to_string();
        }
        self.line.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_line_a_second() {
        let mut local = LocalTime::utc();
        assert_eq!(local.line(UNIX_EPOCH + Duration::from_secs(1_136_214_245)), b"2006-01-02 15:04:05\n");
        assert_eq!(local.line(UNIX_EPOCH + Duration::from_millis(1_136_214_245_999)), b"2006-01-02 15:04:05\n");
        assert_eq!(local.line(UNIX_EPOCH + Duration::from_secs(1_136_214_246)), b"2006-01-02 15:04:06\n");
    }

    #[test]
    fn summer_time_is_in_the_zone() {
        let mut local = LocalTime::new(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a valid zone"));
        assert_eq!(local.line(UNIX_EPOCH + Duration::from_secs(1_720_000_000)), b"2024-07-03 11:46:40\n");
        assert_eq!(local.line(UNIX_EPOCH + Duration::from_secs(1_704_067_200)), b"2024-01-01 01:00:00\n");
    }

    #[test]
    fn no_clock_is_too_wrong() {
        let mut local = LocalTime::utc();
        let far = UNIX_EPOCH + Duration::from_secs(1 << 60);
        assert_eq!(local.line(far), b"1970-01-01 00:00:00\n");
        assert_eq!(local.line(UNIX_EPOCH - Duration::from_secs(1)), b"1969-12-31 23:59:59\n");
    }
}
