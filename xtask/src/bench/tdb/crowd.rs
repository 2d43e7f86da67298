//! Many users of one file: threads with a handle each here, processes there, because libtdb's locks
//! belong to the process.

use super::figures::{Pair, median, spread, time, times};
use super::programs::{Bench, Locks, Side, Work, turns};
use crate::report::say;
use anyhow::Result;
use std::fmt::Write;

const USERS: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];
/// A table has many cells, and each is of two runs a round.
const ROUNDS_MAX: usize = 5;

/// What was measured of a number of users.
#[derive(Default)]
struct Measured {
    /// Nanoseconds for each operation of all users together.
    each: Pair,
    /// The longest operation.
    longest: Pair,
    /// The operations of the user who did fewest, of those that each did on the average.
    fewest: Pair,
}

pub(super) fn measure(bench: &Bench) -> Result<String> {
    let rounds = bench.effort.rounds.min(ROUNDS_MAX);
    let mut text = format!(
        "Lock, fetch, store, unlock by many at once, {rounds} rounds of {} ms each, alternating. \
         Operations a second of all together; the longest operation; and what the one who did fewest \
         did, of the average.\n\n\
         | keys | locks | users | libtdb, processes | ours, threads | ours is as fast: times (range) \
         | longest: libtdb | ours | fewest: libtdb | ours |\n|---|---|---|---|---|---|---|---|---|---|\n",
        bench.effort.ms
    );
    for locks in [Locks::Bytes, Locks::Mutexes] {
        bench.make(locks.name(), locks, &[])?;
        for (label, keys) in [("random", "keys=0"), ("one", "keys=1")] {
            for users in USERS {
                let measured = one(bench, locks, keys, users, rounds)?;
                let line = line(label, locks, users, &measured);
                say(&line);
                let _ = writeln!(text, "{line}");
            }
        }
    }
    Ok(text)
}

fn line(label: &str, locks: Locks, users: u64, measured: &Measured) -> String {
    let Measured { each, longest, fewest } = measured;
    let rate = |ns: &[f64]| format!("{:.0} k", 1e6 / median(ns));
    let share = |shares: &[f64]| format!("{:.0} %", 100.0 * median(shares));
    format!(
        "| {label} | {} | {users} | {} | {} | {} | {} | {} | {} | {} |",
        locks.name(),
        rate(&each.libtdb),
        rate(&each.ours),
        spread(&each.ratios(), times),
        time(median(&longest.libtdb)),
        time(median(&longest.ours)),
        share(&fewest.libtdb),
        share(&fewest.ours),
    )
}

fn one(bench: &Bench, locks: Locks, keys: &str, users: u64, rounds: usize) -> Result<Measured> {
    let options = [keys.to_owned(), format!("users={users}"), format!("ms={}", bench.effort.ms)];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let work = Work::new("crowd", locks, &options);
    let mut measured = Measured::default();
    for round in 0..rounds {
        for side in turns(round) {
            let told = bench.run(side, locks.name(), &work)?;
            let operations = told.operations.max(1) as f64;
            let of = |pair: &mut Pair, figure| match side {
                Side::Ours => pair.ours.push(figure),
                Side::Libtdb => pair.libtdb.push(figure),
            };
            of(&mut measured.each, told.ns as f64 / operations);
            of(&mut measured.longest, told.longest_ns as f64);
            of(&mut measured.fewest, told.fewest as f64 * users as f64 / operations);
        }
    }
    Ok(measured)
}
