//! What `supervisorctl maintail` shows: what happened lately, one line for each event.
//!
//! Why in memory: the journal keeps the events; this is only their last stretch in supervisord's
//! form, and it is filled again from the newest segment file when the duty starts.
//! Invariant: at most [`MAIN_LOG_BYTES_MAX`] bytes.

use control::{EventRecord, Severity};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::VecDeque;
use supervisord::Reading;

/// Some two thousand lines.
pub(crate) const MAIN_LOG_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(crate) struct MainLog {
    lines: VecDeque<String>,
    bytes: usize,
    /// Lines that were ever added.
    added: u64,
}

impl MainLog {
    pub(crate) fn push(&mut self, event: &EventRecord, zone: &TimeZone) {
        let line = line_of(event, zone);
        self.bytes += line.len();
        self.added += 1;
        self.lines.push_back(line);
        while MAIN_LOG_BYTES_MAX < self.bytes {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes -= oldest.len();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.lines.clear();
        self.bytes = 0;
    }

    /// A piece of it.
    pub(crate) fn read(&self, reading: Reading) -> String {
        let text: String = self.lines.iter().map(String::as_str).collect();
        let length = text.len() as u64;
        let (from, until) = match reading {
            Reading::Last(bytes) => (length.saturating_sub(bytes), length),
            Reading::From { offset, length: None } => (offset.min(length), length),
            Reading::From { offset, length: Some(bytes) } => {
                let from = offset.min(length);
                (from, from.saturating_add(bytes).min(length))
            }
        };
        String::from_utf8_lossy(&text.as_bytes()[from as usize..until as usize]).into_owned()
    }

    /// The lines that were added after so many, and how many there were by then.
    pub(crate) fn since(&self, seen: u64) -> (String, u64) {
        let new = usize::try_from(self.added.saturating_sub(seen)).unwrap_or(usize::MAX);
        let skip = self.lines.len().saturating_sub(new);
        (self.lines.iter().skip(skip).map(String::as_str).collect(), self.added)
    }
}

fn line_of(event: &EventRecord, zone: &TimeZone) -> String {
    let moment = Timestamp::from_microsecond(event.wall_us).unwrap_or(Timestamp::UNIX_EPOCH);
    let at = moment.to_zoned(zone.clone());
    let millis = event.wall_us.rem_euclid(1_000_000) / 1_000;
    let level = match event.severity {
        Severity::Info => "INFO",
        Severity::Warning => "WARN",
        Severity::Error => "ERRO",
    };
    let message = event.message.replace('\n', " | ");
    format!("{},{millis:03} {level} {message}\n", at.strftime("%Y-%m-%d %H:%M:%S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(log: &mut MainLog, message: &str) {
        let wall_us = 1_795_514_528_852_000;
        let event = super::super::house::event("web", "k", Severity::Info, message.to_owned());
        log.push(&EventRecord { wall_us, ..event }, &TimeZone::UTC);
    }

    #[test]
    fn lines_look_like_supervisords_and_are_read_by_bytes() {
        let mut log = MainLog::default();
        push(&mut log, "web is ready\nafter 3 ms");
        push(&mut log, "web is stopped");
        let first = "2026-11-24 10:02:08,852 INFO web is ready | after 3 ms\n";
        let all = format!("{first}2026-11-24 10:02:08,852 INFO web is stopped\n");
        assert_eq!(log.read(Reading::From { offset: 0, length: None }), all);
        assert_eq!(log.read(Reading::Last(9)), " stopped\n");
        assert_eq!(log.read(Reading::From { offset: 5, length: Some(2) }), "11");
        assert_eq!(log.read(Reading::From { offset: 9999, length: Some(2) }), "");
        assert_eq!(log.since(0), (all.clone(), 2));
        assert_eq!(log.since(1), (all[first.len()..].to_owned(), 2));
        log.clear();
        assert_eq!(log.read(Reading::Last(9)), "");
        assert_eq!(log.since(1), (String::new(), 2));
    }

    #[test]
    fn it_holds_the_last_stretch_only() {
        let mut log = MainLog::default();
        for number in 0..10_000 {
            push(&mut log, &format!("{number:0100}"));
        }
        let text = log.read(Reading::From { offset: 0, length: None });
        assert!(text.len() <= MAIN_LOG_BYTES_MAX && MAIN_LOG_BYTES_MAX < text.len() + 200);
        assert!(text.ends_with("9999\n"));
    }
}
