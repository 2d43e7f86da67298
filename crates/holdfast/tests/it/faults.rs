//! The quick part of the catalogue of faults, observed and enforced, in a real daemon.
//!
//! All of it, with how long each took, is `cargo xtask faults`; see docs/faults.md.

use crate::support::BINARY;
use std::path::Path;
use trial::{Mode, Programs, find, missing};

fn goes_as_the_catalogue_says(name: &str) {
    let fault = find(name).unwrap();
    if let Some(why) = missing(fault) {
        eprintln!("skipped: {why}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let programs = Programs::build(Path::new(BINARY), folder.path()).unwrap();
    for mode in Mode::ALL {
        let row = trial::run(&programs, fault, mode);
        assert!(row.is_as_expected(), "{}", trial::text(&row));
    }
}

#[test]
fn h25_h7_h12_a_leak_of_memory() {
    goes_as_the_catalogue_says("leak-fast");
}

#[test]
fn h25_a_leak_of_descriptors() {
    goes_as_the_catalogue_says("fd-leak");
}

#[test]
fn h25_a_leak_of_connections() {
    goes_as_the_catalogue_says("connection-leak");
}

#[test]
fn h25_h15_a_deadlock() {
    goes_as_the_catalogue_says("deadlock");
}

#[test]
fn h25_h2_accepted_and_not_answered() {
    goes_as_the_catalogue_says("no-answer");
}

#[test]
fn h25_a_stopped_process() {
    goes_as_the_catalogue_says("stopped");
}

#[test]
fn h25_uninterruptible_sleep() {
    goes_as_the_catalogue_says("uninterruptible");
}

#[test]
fn h25_a_fork_bomb_is_contained() {
    goes_as_the_catalogue_says("fork-bomb");
}

#[test]
fn h25_zombies() {
    goes_as_the_catalogue_says("zombies");
}

#[test]
fn h25_h18_sigterm_is_ignored() {
    goes_as_the_catalogue_says("ignores-term");
}

#[test]
fn h25_h18_nobody_escapes() {
    goes_as_the_catalogue_says("escape");
}

#[test]
fn h25_h19_a_dependency_that_is_slow() {
    goes_as_the_catalogue_says("dependency-slow");
}

#[test]
fn h25_h16_the_first_failing_component_is_replaced() {
    goes_as_the_catalogue_says("dependency-hangs");
}

#[test]
fn h25_a_start_that_hangs() {
    goes_as_the_catalogue_says("start-hangs");
}
