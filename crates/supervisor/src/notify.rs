//! Reads what a service says of itself: one datagram of sd_notify(3), lines of `NAME=value`.
//!
//! The bytes come from outside: unknown names are ignored, bad values are ignored, long texts are
//! cut, and the number of lines is bounded.
//! Source: sd_notify(3).

use crate::{NotifyMessage, Pid};
use std::time::Duration;

/// Lines of one datagram that are looked at.
const LINES_MAX: usize = 64;

/// Longest status text that is kept, in characters.
pub const STATUS_CHARS_MAX: usize = 256;

/// The known assignments of one datagram, in order.
pub fn parse_notify(datagram: &[u8]) -> Vec<NotifyMessage> {
    let text = String::from_utf8_lossy(datagram);
    text.lines().take(LINES_MAX).filter_map(parse_line).collect()
}

/// What a program counts up and says by `X_COUNTER=n` ([`crate::CounterSource::Notify`]): the last
/// word of one datagram.
pub fn parse_counter(datagram: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(datagram);
    let lines = text.lines().take(LINES_MAX);
    lines.filter_map(|line| line.strip_prefix("X_COUNTER=")?.parse().ok()).last()
}

fn parse_line(line: &str) -> Option<NotifyMessage> {
    let (name, value) = line.split_once('=')?;
    let micros = || value.parse::<u64>().ok().map(Duration::from_micros);
    match (name, value) {
        ("READY", "1") => Some(NotifyMessage::Ready),
        ("RELOADING", "1") => Some(NotifyMessage::Reloading),
        ("STOPPING", "1") => Some(NotifyMessage::Stopping),
        ("WATCHDOG", "1") => Some(NotifyMessage::Watchdog),
        ("WATCHDOG", "trigger") => Some(NotifyMessage::WatchdogTrigger),
        ("STATUS", text) => {
            let shown = text.chars().filter(|c| !c.is_control()).take(STATUS_CHARS_MAX);
            Some(NotifyMessage::Status(shown.collect()))
        }
        ("MAINPID", pid) => {
            let pid = pid.parse::<u32>().ok().filter(|pid| 1 < *pid)?;
            Some(NotifyMessage::MainPid(Pid(pid)))
        }
        ("EXTEND_TIMEOUT_USEC", _) => micros().map(NotifyMessage::ExtendTimeout),
        ("WATCHDOG_USEC", _) => micros().map(NotifyMessage::WatchdogPeriod),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_lines_are_read_and_others_ignored() {
        let datagram = b"READY=1\nSTATUS=up \x07and well\nX_OWN=3\nMAINPID=0\nMAINPID=77\n\
            WATCHDOG=trigger\nEXTEND_TIMEOUT_USEC=5000000\nnonsense\nREADY=yes\n\xFF\xFE=1";
        let expect = [
            NotifyMessage::Ready,
            NotifyMessage::Status("up and well".into()),
            NotifyMessage::MainPid(Pid(77)),
            NotifyMessage::WatchdogTrigger,
            NotifyMessage::ExtendTimeout(Duration::from_secs(5)),
        ];
        assert_eq!(parse_notify(datagram), expect);
    }

    #[test]
    fn h6_a_program_that_counts_is_heard() {
        assert_eq!(parse_counter(b"STATUS=x\nX_COUNTER=7\nX_COUNTER=8"), Some(8));
        for none in ["", "X_COUNTER=", "X_COUNTER=-1", "X_COUNTER=1.5", "XX_COUNTER=1"] {
            assert_eq!(parse_counter(none.as_bytes()), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_bounded_answer(bytes: Vec<u8>) {
            prop_assert!(parse_notify(&bytes).len() <= LINES_MAX);
            let _ = parse_counter(&bytes);
        }
    }
}
