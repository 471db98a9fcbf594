//! The grammar of values on the command line: addresses, URLs, durations, sizes.
//!
//! Owns: the grammar of durations and sizes, and the errors of texts outside of it. Must not know: the use of values.

mod address;
mod url;

use std::time::Duration;

pub use self::address::{Address, address};
pub use self::url::{Url, url};

/// Parses the permissions of a file, in octal: `660` or `0660`.
pub fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(mode),
        _ => Err(format!("'{text}' is not a mode such as 660: octal, from 0 to 777")),
    }
}

/// Parses a duration: `250ms`, `3s`, `2m`, `1h`, or `0`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration such as 250ms, 3s or 2m (0 is off)");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit);
    let nanos: u64 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    let mut total = digits(whole)?.checked_mul(nanos);
    if number.contains('.') {
        if fraction.is_empty() || fraction.len() > 9 {
            return Err(wrong());
        }
        let part = u128::from(digits(fraction)?) * u128::from(nanos) / 10u128.pow(fraction.len() as u32);
        total = total.and_then(|total| total.checked_add(u64::try_from(part).ok()?));
    }
    total.map(Duration::from_nanos).ok_or_else(|| format!("'{text}' is longer than 584 years"))
}

/// Parses a size in bytes, or with the unit `KiB`, `MiB` or `GiB`.
pub fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("'{text}' is not a size such as 4096, 64KiB or 1MiB");
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(wrong()),
    };
    let number: usize = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// Parses the size of a kernel buffer, which has the type int in setsockopt(2).
pub fn buffer_size(text: &str) -> Result<usize, String> {
    match size(text)? {
        0 => Err("a kernel buffer needs a size above 0".to_owned()),
        bytes if i32::try_from(bytes).is_ok() => Ok(bytes),
        _ => Err(format!("'{text}' is above the limit of a kernel buffer: {} bytes", i32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let good = [
            ("0", 0),
            ("250ms", 250_000),
            ("3s", 3_000_000),
            ("2m", 120_000_000),
            ("1h", 3_600_000_000),
            ("0s", 0),
            ("1.5s", 1_500_000),
            ("10us", 10),
        ];
        for (text, micros) in good {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in
            ["", "1", "-1s", "s", "1.s", ".5s", "1.2.3s", "1x", "1 s", "18446744073709551616s", "99999999999h", "1e3s"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2GiB", 2 << 30), ("5B", 5)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "-1", "1KB", "KiB", "1.5MiB", "18446744073709551616", "18446744073709551615KiB", "1 KiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(buffer_size("16KiB"), Ok(16_384));
        assert!(buffer_size("2GiB").is_err() && buffer_size("0").is_err());
    }
}
