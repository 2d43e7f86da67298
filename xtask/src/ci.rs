//! What has to be green before a commit, in the order in which a fault is cheapest to find.
//!
//! Why: CI runs exactly this, so that nobody finds out later what could be seen at home.
//! Invariant: the first failing step ends the run, and the closing lines say how long each took.

use crate::report::{say, seconds, title};
use crate::{test_run, tidy, tool};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// One step: what it is called, and what it does.
type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 5] = [
    ("format", format),
    ("tidy", tidy::run),
    ("clippy", clippy),
    ("test", test),
    ("documentation", documentation),
];

pub(crate) fn run() -> Result<()> {
    let mut done: Vec<(&str, Duration)> = Vec::new();
    for (name, step) in STEPS {
        title(name);
        let begun = Instant::now();
        let outcome = step();
        done.push((name, begun.elapsed()));
        if outcome.is_err() {
            summary(&done);
        }
        outcome.with_context(|| format!("step `{name}` failed"))?;
    }
    summary(&done);
    say("ci: all green");
    Ok(())
}

fn format() -> Result<()> {
    tool::run(tool::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    tool::run(tool::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))
}

fn test() -> Result<()> {
    test_run::run(&[])
}

fn documentation() -> Result<()> {
    tool::run(
        tool::cargo()
            .args(["doc", "--workspace", "--no-deps", "--locked"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

fn summary(done: &[(&str, Duration)]) {
    title("durations");
    for (name, duration) in done {
        say(&format!("{name:<14} {:>12}", seconds(*duration)));
    }
    let total: Duration = done.iter().map(|(_, duration)| *duration).sum();
    say(&format!("{:<14} {:>12}", "together", seconds(total)));
}
