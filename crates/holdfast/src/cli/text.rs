//! How times, durations and foreign text are shown.
//!
//! Invariant: text that a service wrote never reaches a terminal with its control characters: a
//! log line must not be able to repaint the operator's screen.

use super::output::{Paint, Tone};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::text::Span;
use std::time::Duration;

/// Text that grows by lines.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

impl Page {
    /// Adds a line.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) {
        self.0.push_str(line.as_ref());
        self.0.push('\n');
    }

    /// Adds a message behind a lead, broken between words, its later lines under its first.
    pub(crate) fn message(&mut self, lead: (&str, Tone), message: (&str, Tone), look: Look) {
        let (lead, lead_tone) = lead;
        let (message, tone) = message;
        let indent = width(lead);
        let columns = look.width.saturating_sub(indent).max(COLUMNS_MIN);
        for (number, line) in wrap(&clean(message), columns).iter().enumerate() {
            let begin = match number {
                0 => look.paint.tone(lead_tone, lead),
                _ => " ".repeat(indent),
            };
            self.line(format!("{begin}{}", look.paint.tone(tone, line)));
        }
    }

    /// Ends with exactly one empty line.
    pub(crate) fn gap(&mut self) {
        if !self.0.ends_with("\n\n") {
            self.0.push('\n');
        }
    }

    /// The whole text.
    pub(crate) fn text(self) -> String {
        self.0
    }
}

/// For whom a page is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Colours or none.
    pub(crate) paint: Paint,
    /// Columns.
    pub(crate) width: usize,
}

/// A message never gets less room than this, however narrow the terminal.
const COLUMNS_MIN: usize = 20;

/// The text without colour sequences and control characters, on one line.
pub(crate) fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\x1b' && chars.next_if_eq(&'[').is_some() {
            // A control sequence: parameters, then one final byte (ECMA-48, 5.4).
            while chars.next_if(|c| ('\x20'..='\x3f').contains(c)).is_some() {}
            chars.next_if(|c| ('\x40'..='\x7e').contains(c));
        } else {
            cleaned.push(if c.is_control() { ' ' } else { c });
        }
    }
    cleaned
}

/// Columns that a text takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// The text in exactly so many columns: padded, or cut with `…`.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    let mut fitted = cut(text, columns);
    let missing = columns.saturating_sub(width(&fitted));
    fitted.extend(std::iter::repeat_n(' ', missing));
    fitted
}

/// The text in at most so many columns, cut with `…`.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let room = columns.saturating_sub(1);
    let mut used = 0;
    for c in text.chars() {
        used += width(c.encode_utf8(&mut [0; 4]));
        if room < used {
            break;
        }
        kept.push(c);
    }
    if 0 < columns {
        kept.push('…');
    }
    kept
}

/// The text in lines of at most so many columns, broken between words. A longer word stays whole.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let fits = width(&line) + 1 + width(word) <= columns;
        if !line.is_empty() && !fits {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// How long something has lasted, in two units at most: `0s`, `42s`, `3m12s`, `2h05m`, `11d4h`.
pub(crate) fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

/// How long something took, to about three digits: `0.4 ms`, `38 ms`, `1.24 s`, `2m05s`.
pub(crate) fn took(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    match ms {
        ..10.0 => format!("{ms:.1} ms"),
        ..1000.0 => format!("{ms:.0} ms"),
        ..60_000.0 => format!("{:.2} s", ms / 1000.0),
        _ => age(duration),
    }
}

/// The time between two points of the wall clock; zero if it was set back.
pub(crate) fn between(from_us: i64, to_us: i64) -> Duration {
    Duration::from_micros(u64::try_from(to_us.saturating_sub(from_us)).unwrap_or(0))
}

/// Now, in microseconds since the epoch.
pub(crate) fn wall_now_us() -> i64 {
    Timestamp::now().as_microsecond()
}

/// A point of time in the machine's time zone, with the date unless it is that of `today_us`.
pub(crate) fn local_time(at_us: i64, today_us: i64) -> String {
    let zoned = |us| Some(Timestamp::from_microsecond(us).ok()?.to_zoned(TimeZone::system()));
    let (Some(at), Some(today)) = (zoned(at_us), zoned(today_us)) else {
        return format!("{at_us}us");
    };
    let format = if at.date() == today.date() { "%H:%M:%S%.3f" } else { "%F %H:%M:%S" };
    at.strftime(format).to_string()
}

/// A point in the past that a person wrote: `10m`, `2026-05-01`, `2026-05-01T12:00`, with a zone
/// or in the machine's. Microseconds since the epoch.
pub(crate) fn parse_when(text: &str, now_us: i64) -> Result<i64, String> {
    if let Ok(ago) = base::parse_duration(text) {
        return Ok(now_us.saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX)));
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.as_microsecond());
    }
    let local =
        text.parse::<jiff::civil::DateTime>().and_then(|at| at.to_zoned(TimeZone::system()));
    local.map(|at| at.timestamp().as_microsecond()).map_err(|_| {
        format!(
            "`{text}` is no time; write how long ago (`10m`, `1h`), or a date and time \
             (`2026-05-01T12:00`, `2026-05-01T12:00:00Z`)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_repaint_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\nc\u{9b}d\x1b[1;31mred\x1b"), "ab c dred ");
    }

    #[test]
    fn text_is_cut_by_columns_not_by_bytes() {
        assert_eq!(fit("web", 5), "web  ");
        assert_eq!(cut("webserver", 5), "webs…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(width(&fit("日本語", 4)), 4);
        assert_eq!(cut("abc", 0), "");
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("", 7), [""]);
    }

    #[test]
    fn durations_are_short_and_have_a_unit() {
        let ages = [(0, "0s"), (59, "59s"), (192, "3m12s"), (7500, "2h05m"), (964_800, "11d4h")];
        for (seconds, expect) in ages {
            assert_eq!(age(Duration::from_secs(seconds)), expect);
        }
        let times = [(400, "0.4 ms"), (38_000, "38 ms"), (1_240_000, "1.24 s")];
        for (micros, expect) in times {
            assert_eq!(took(Duration::from_micros(micros)), expect);
        }
        assert_eq!(between(5, 3), Duration::ZERO);
    }

    #[test]
    fn a_time_is_how_long_ago_or_a_date() {
        assert_eq!(parse_when("1h", 3_600_000_000), Ok(0));
        assert_eq!(parse_when("1970-01-01T00:00:01Z", 0), Ok(1_000_000));
        assert!(parse_when("2026-05-01", 0).is_ok());
        assert!(parse_when("2026-05-01T12:00", 0).is_ok());
        assert!(parse_when("yesterday", 0).unwrap_err().contains("no time"));
    }
}
