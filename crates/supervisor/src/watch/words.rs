//! Numbers as people read them in a sentence: rounded, unlike `base`'s exact forms, which are for
//! settings.

use crate::HealthProbe;
use base::format_duration;
use std::time::Duration;

/// `380ms`, `14s`, `12m30s`, `3h20m`, `2d4h`: two units at most.
pub(super) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let step = match seconds {
        ..1.0 => Duration::from_millis(1),
        ..10.0 => Duration::from_millis(100),
        ..3_600.0 => Duration::from_secs(1),
        ..86_400.0 => Duration::from_mins(1),
        _ => Duration::from_hours(1),
    };
    let steps = (seconds / step.as_secs_f64()).round() as u32;
    format_duration(step.saturating_mul(steps))
}

/// `312 MiB`, `1.50 GiB`: three digits.
pub(super) fn bytes(bytes: f64) -> String {
    let (mut value, mut unit) = (bytes, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value.abs() < 1_000.0 {
            break;
        }
        value /= 1_024.0;
        unit = larger;
    }
    match value.abs() {
        _ if unit == "B" => format!("{value:.0} B"),
        ..10.0 => format!("{value:.2} {unit}"),
        ..100.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// `1 connection`, `3 connections`.
pub(super) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// `tcp 127.0.0.1:80`, `http://host/path`, `command check-db`.
pub(super) fn probe(probe: &HealthProbe) -> String {
    match probe {
        HealthProbe::Tcp(address) => format!("tcp {address}"),
        HealthProbe::Http { url, .. } => url.clone(),
        // Arguments may hold secrets.
        HealthProbe::Command(words) => {
            format!("command {}", words.first().map_or("", String::as_str))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_what_one_reads() {
        assert_eq!(time(Duration::from_micros(1_234)), "1ms");
        assert_eq!(time(Duration::from_micros(383_900)), "384ms");
        assert_eq!(time(Duration::from_millis(2_345)), "2s300ms");
        assert_eq!(time(Duration::from_millis(750_400)), "12m30s");
        assert_eq!(time(Duration::from_secs(12_011)), "3h20m");
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(1_536.0 * 1_048_576.0), "1.50 GiB");
        assert_eq!(bytes(312.4 * 1_048_576.0), "312 MiB");
        assert_eq!(count(1, "thread"), "1 thread");
        assert_eq!(count(0, "thread"), "0 threads");
    }
}
