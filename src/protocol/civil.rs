//! Date and time of day in the Gregorian calendar, from the seconds of a clock.
//!
//! Owns: [`Civil`] and the conversion. Must not know: time zones, formats.
//!
//! Invariants:
//! 1. A year has four digits: formats that need them (RFC 9110 §5.6.7) never see another one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECONDS_A_DAY: i64 = 24 * 60 * 60;

/// A date and a time of day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Civil {
    /// From 0 to 9999.
    pub year: i64,
    /// From 1 to 12.
    pub month: u32,
    /// From 1 to 31.
    pub day: u32,
    /// Days since Sunday.
    pub weekday: usize,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
}

impl Civil {
    pub const EPOCH: Self = Self { year: 1970, month: 1, day: 1, weekday: 4, hour: 0, minute: 0, second: 0 };

    /// Returns the date and time of day `seconds` after the epoch; `None` outside of the years 0 to 9999.
    ///
    /// The conversion of days is `civil_from_days` in Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
    pub fn at(seconds: i64) -> Option<Self> {
        let days = seconds.div_euclid(SECONDS_A_DAY);
        let second_of_day = seconds.rem_euclid(SECONDS_A_DAY) as u32;
        // The algorithm counts days from 0000-03-01, so that a leap day is the last day of its year. An era of 400 years
        // has 146,097 days.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = (day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100)) as u32;
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        (0..=9999).contains(&year).then(|| Self {
            year,
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            weekday: (days + 4).rem_euclid(7) as usize,
            hour: second_of_day / 3_600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
        })
    }
}

/// Returns the whole seconds from the epoch to `now`, rounded down; negative before the epoch.
pub(super) fn seconds_since_epoch(now: SystemTime) -> i64 {
    match now.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(error) => {
            let before = error.duration();
            let seconds = before.as_secs().saturating_add(u64::from(before > Duration::from_secs(before.as_secs())));
            i64::try_from(seconds).map_or(i64::MIN, |seconds| -seconds)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn date(year: i64, month: u32, day: u32, weekday: usize) -> Civil {
        Civil { year, month, day, weekday, hour: 0, minute: 0, second: 0 }
    }

    #[test]
    fn dates_follow_the_gregorian_calendar() {
        for (days, expected) in [
            (0, date(1970, 1, 1, 4)),
            (-1, date(1969, 12, 31, 3)),
            (11_016, date(2000, 2, 29, 2)),
            (11_017, date(2000, 3, 1, 3)),
            (-25_509, date(1900, 2, 28, 3)),
            (-25_508, date(1900, 3, 1, 4)),
            (19_782, date(2024, 2, 29, 4)),
            (2_932_896, date(9999, 12, 31, 5)),
            (-719_528, date(0, 1, 1, 6)),
        ] {
            assert_eq!(Civil::at(days * SECONDS_A_DAY), Some(expected), "{days}");
        }
    }

    #[test]
    fn days_count_through_every_month_of_400_years() {
        let mut days = -719_528;
        for year in 0..400 {
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let february = if is_leap { 29 } else { 28 };
            for (month, length) in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].into_iter().enumerate() {
                for day in [1, length] {
                    let found = Civil::at((days + i64::from(day) - 1) * SECONDS_A_DAY).expect("a year of four digits");
                    assert_eq!((found.year, found.month, found.day), (year, month as u32 + 1, day));
                }
                days += i64::from(length);
            }
        }
    }

    #[test]
    fn a_day_has_its_time() {
        let last = Civil::at(-1).expect("a year of four digits");
        assert_eq!((last.hour, last.minute, last.second), (23, 59, 59));
        let noon = Civil::at(12 * 3_600 + 34 * 60 + 56).expect("a year of four digits");
        assert_eq!((noon.hour, noon.minute, noon.second), (12, 34, 56));
    }

    #[test]
    fn years_without_four_digits_have_no_date() {
        for seconds in [2_932_897 * SECONDS_A_DAY, -719_528 * SECONDS_A_DAY - 1, i64::MAX, i64::MIN] {
            assert_eq!(Civil::at(seconds), None, "{seconds}");
        }
    }

    #[test]
    fn seconds_are_rounded_down_on_both_sides_of_the_epoch() {
        let half = Duration::from_millis(500);
        assert_eq!(seconds_since_epoch(UNIX_EPOCH + 3 * half), 1);
        assert_eq!(seconds_since_epoch(UNIX_EPOCH - half), -1);
        assert_eq!(seconds_since_epoch(UNIX_EPOCH - 2 * half), -1);
        assert_eq!(seconds_since_epoch(UNIX_EPOCH - 3 * half), -2);
    }
}
