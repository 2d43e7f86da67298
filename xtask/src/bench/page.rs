//! The tables of docs/benchmarks.md: made from figures, never edited by hand.

use super::Size;
use super::cost::Build;
use super::run::{Fewer, Figures, Outcome, quantile};
use crate::report::seconds;
use std::fmt::Write;
use std::time::Duration;

/// The command that makes the page.
const COMMAND: &str = "cargo xtask bench supervisor";

/// The table of the supervisors, with what it was measured on.
pub(crate) fn supervisors(size: &Size, machine: &str, outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "Made by `{COMMAND}`: {} processes, {} starts, {} deaths, {} s at rest.\n\
         On: {machine}.\n\n\
         | supervisor | start of {}: median (range) | CPU at rest, of a core | RSS | PSS | own processes \
         | death to successor's exec: median | 95 % | worst |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        size.processes,
        size.starts,
        size.rounds,
        size.idle.as_secs(),
        size.processes,
    );
    for Outcome { name, version, figures } in outcomes {
        let row = match figures {
            Ok(figures) => format!("| {name} | {} |\n", cells(figures).join(" | ")),
            Err(why) => format!("| {name} {version} | {why} | | | | | | | |\n"),
        };
        text.push_str(&row);
    }
    let versions: Vec<String> = outcomes
        .iter()
        .filter(|outcome| !outcome.version.is_empty())
        .map(|outcome| format!("{} {}", outcome.name, outcome.version))
        .collect();
    let _ = write!(text, "\nVersions: {}.\n", versions.join(", "));
    for Outcome { name, figures, .. } in outcomes {
        let Ok(figures) = figures else { continue };
        if let Some(Fewer { started, within, processes }) = figures.fewer {
            let _ = writeln!(
                text,
                "\n{name} had started {started} of {} after {} s: its row is about {processes} processes.",
                size.processes,
                within.as_secs()
            );
        }
        if 0 < figures.lost {
            let _ =
                writeln!(text, "\n{name}: {} processes were not replaced in time.", figures.lost);
        }
        if name.starts_with("holdfast") && !figures.parts.is_empty() {
            let parts: Vec<String> = figures
                .parts
                .iter()
                .map(|(role, used)| {
                    format!("`{role}` {} RSS, {} PSS", mib(used.rss_kib), mib(used.pss_kib))
                })
                .collect();
            let _ = writeln!(text, "\n{name}, process by process: {}.", parts.join("; "));
        }
    }
    text
}

fn cells(figures: &Figures) -> Vec<String> {
    let starts = &figures.starts;
    let start = match (starts.first(), quantile(starts, 50), starts.last()) {
        (Some(_), Some(only), Some(_)) if starts.len() == 1 => {
            format!("{:.2} s (once)", only.as_secs_f64())
        }
        (Some(first), Some(median), Some(last)) => format!(
            "{:.2} s ({:.2}–{:.2})",
            median.as_secs_f64(),
            first.as_secs_f64(),
            last.as_secs_f64()
        ),
        _ => String::new(),
    };
    let start = match figures.fewer {
        Some(Fewer { processes, .. }) => format!("{start} of {processes} only"),
        None => start,
    };
    let time = |percent| quantile(&figures.successors, percent).map_or_else(String::new, millis);
    vec![
        start,
        format!("{:.3} %", figures.cpu_share * 100.0),
        mib(figures.rest.rss_kib),
        mib(figures.rest.pss_kib),
        figures.rest.processes.to_string(),
        time(50),
        time(95),
        time(100),
    ]
}

/// The table of the build.
pub(crate) fn build(machine: &str, build: &Build) -> String {
    format!(
        "Made by `{COMMAND} --cold`, with {}.\nOn: {machine}.\n\n\
         | cold `cargo build --release` | size of the program | crates of others | crates of ours |\n\
         |---|---|---|---|\n| {} | {} | {} | {} |\n",
        build.rustc,
        seconds(build.took),
        mib(build.binary_bytes / 1024),
        build.crates,
        build.own_crates,
    )
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1_000.0;
    if millis < 100.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::super::process::Use;
    use super::*;

    #[test]
    fn a_row_for_each_contender() {
        let figures = Figures {
            starts: vec![Duration::from_millis(900), Duration::from_millis(1_100)],
            cpu_share: 0.0015,
            rest: Use { processes: 3, cpu_ns: 0, rss_kib: 20_480, pss_kib: 10_240 },
            parts: vec![],
            successors: vec![Duration::from_micros(1_500)],
            lost: 1,
            fewer: None,
        };
        let within = Duration::from_mins(2);
        let slow = Figures {
            starts: vec![Duration::from_secs(50)],
            fewer: Some(Fewer { started: 480, within, processes: 200 }),
            parts: vec![],
            successors: vec![],
            lost: 0,
            ..figures
        };
        let outcomes = [
            Outcome { name: "ours", version: "1".to_owned(), figures: Ok(figures) },
            Outcome {
                name: "theirs",
                version: String::new(),
                figures: Err("not there".to_owned()),
            },
            Outcome { name: "slow", version: "2".to_owned(), figures: Ok(slow) },
        ];
        let size = Size { processes: 10, starts: 2, rounds: 1, idle: Duration::from_secs(1) };
        let text = supervisors(&size, "a machine", &outcomes);
        assert!(text.contains(
            "| ours | 1.10 s (0.90–1.10) | 0.150 % | 20.0 MiB | 10.0 MiB | 3 | 1.50 ms | 1.50 ms | 1.50 ms |"
        ), "{text}");
        assert!(text.contains("| theirs  | not there | | | | | | | |"), "{text}");
        assert!(text.contains("ours: 1 processes were not replaced in time"));
        assert!(text.contains("| slow | 50.00 s (once) of 200 only |"), "{text}");
        assert!(
            text.contains("slow had started 480 of 10 after 120 s: its row is about 200 processes"),
            "{text}"
        );
        assert!(text.contains("Versions: ours 1, slow 2."));
    }
}
