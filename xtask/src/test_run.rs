//! The one test command: what the real-peer tests need, then every test of the workspace.
//!
//! Why: a person on a clean clone types one command and gets the same verdict as CI.
//! Invariant: cargo-nextest is used where it is installed, plain `cargo test` otherwise; both run
//! the same tests.

use crate::report::{say, seconds, title};
use crate::{packages, tool, wheels};
use anyhow::Result;
use std::time::Instant;

/// Runs everything; `filter` is passed on to the test runner.
pub(crate) fn run(filter: &[&str]) -> Result<()> {
    let begun = Instant::now();
    packages::ensure()?;
    let python = wheels::ensure()?;
    // With every peer here, a test that skips itself for want of one has a fault.
    let peers = if packages::all_are_here() && python.is_some() { "require" } else { "" };
    let python = python.unwrap_or_default();
    let runner = if tool::find("cargo-nextest").is_some() { "cargo nextest" } else { "cargo test" };
    title(runner);
    let outcome = if runner == "cargo nextest" {
        tool::run(
            tool::cargo()
                .args(["nextest", "run", "--workspace", "--locked"])
                .args(["--no-fail-fast", "--no-tests", "warn"])
                .args(filter)
                .env("HOLDFAST_PEERS", peers)
                .env(wheels::VARIABLE, &python),
        )
    } else {
        tool::run(
            tool::cargo()
                .args(["test", "--workspace", "--locked", "--no-fail-fast", "--all-targets"])
                .args(filter)
                .env("HOLDFAST_PEERS", peers)
                .env(wheels::VARIABLE, &python),
        )
    };
    // A filter asks for something in particular; the examples in documentation have no names.
    let examples = if filter.is_empty() {
        title("examples in documentation");
        tool::run(tool::cargo().args(["test", "--workspace", "--locked", "--doc", "--quiet"]))
    } else {
        Ok(())
    };
    let verdict = if outcome.is_ok() && examples.is_ok() { "passed" } else { "FAILED" };
    say(&format!("\ntest: {verdict} ({runner}), {}", seconds(begun.elapsed())));
    outcome.and(examples)
}
