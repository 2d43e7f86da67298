//! Durations and sizes as people write them: `250ms`, `1m30s`, `64MiB`.

use std::fmt::{self, Write};
use std::str::FromStr;
use std::time::Duration;

/// Why a text is no duration or size; the message says what would be right.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ParseHumanError(String);

const DURATION_HELP: &str = "write a number and a unit, such as \"250ms\", \"10s\" or \"1m30s\" \
                             (units: us, ms, s, m, h, d)";
const SIZE_HELP: &str = "write a number and a unit, such as \"64MiB\" or \"10MB\" (units: B, kB, MB, GB, KiB, MiB, GiB)";

/// Reads `250ms`, `10s`, `1m30s`, `2h`, `1d`. A unit is required, but for `0`.
pub fn parse_duration(text: &str) -> Result<Duration, ParseHumanError> {
    let fail = |why: String| ParseHumanError(format!("{why}; {DURATION_HELP}"));
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(fail("an empty duration".into()));
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| fail(format!("`{text}` is no duration")))?;
        let unit_micros: u64 = match unit {
            "us" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" | "min" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            "" => return Err(fail(format!("`{text}` has no unit"))),
            other => return Err(fail(format!("`{other}` is no unit of time"))),
        };
        let micros = number.checked_mul(unit_micros).ok_or_else(|| fail("too long".into()))?;
        total = total
            .checked_add(Duration::from_micros(micros))
            .ok_or_else(|| fail("too long".into()))?;
        rest = tail.trim_start();
    }
    Ok(total)
}

/// Writes a duration so that [`parse_duration`] reads the same back (below a microsecond is cut).
pub fn format_duration(duration: Duration) -> String {
    let mut micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if micros == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    let units: [(u64, &str); 6] = [
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "m"),
        (1_000_000, "s"),
        (1_000, "ms"),
        (1, "us"),
    ];
    for (size, unit) in units {
        if size <= micros {
            let _ = write!(text, "{}{unit}", micros / size);
            micros %= size;
        }
    }
    text
}

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `n` mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n * 1024 * 1024)
    }
}

impl FromStr for ByteSize {
    type Err = ParseHumanError;

    fn from_str(text: &str) -> Result<Self, ParseHumanError> {
        let fail = |why: String| ParseHumanError(format!("{why}; {SIZE_HELP}"));
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| fail(format!("`{text}` is no size")))?;
        let factor: u64 = match unit.trim() {
            "B" => 1,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" | "K" => 1 << 10,
            "MiB" | "M" => 1 << 20,
            "GiB" | "G" => 1 << 30,
            "" if number == 0 => 1,
            "" => return Err(fail(format!("`{text}` has no unit"))),
            other => return Err(fail(format!("`{other}` is no unit of size"))),
        };
        number.checked_mul(factor).map(Self).ok_or_else(|| fail(format!("`{text}` is too large")))
    }
}

impl fmt::Display for ByteSize {
    /// Exact, in the largest binary unit that divides it: reads back the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (size, unit) in [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
            if self.0 != 0 && self.0.is_multiple_of(size) {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        write!(f, "{}B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_say_what_is_wrong_with_them() {
        assert_eq!(parse_duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_duration("0").unwrap(), Duration::ZERO);
        for (bad, why) in [("10", "has no unit"), ("ten s", "is no duration"), ("5x", "`x` is no")]
        {
            let message = parse_duration(bad).unwrap_err().to_string();
            assert!(message.contains(why), "{bad}: {message}");
        }
        assert!(parse_duration("99999999999999999999s").is_err());
        assert!(parse_duration("").is_err());
    }

    proptest! {
        #[test]
        fn durations_and_sizes_read_back_as_written(micros: u64, bytes: u64) {
            let duration = Duration::from_micros(micros);
            prop_assert_eq!(parse_duration(&format_duration(duration)).unwrap(), duration);
            let size = ByteSize(bytes);
            prop_assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size);
        }

        #[test]
        fn any_text_is_answered_without_a_panic(text in ".{0,40}") {
            let _ = parse_duration(&text);
            let _ = text.parse::<ByteSize>();
        }
    }
}
