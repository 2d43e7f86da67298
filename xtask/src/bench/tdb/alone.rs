//! What one user does alone: the price of each operation where nobody else is in the way.

use super::figures::{Pair, median, spread, time, times};
use super::programs::{Bench, Locks, Place, Side, Work, turns};
use crate::report::say;
use anyhow::Result;
use std::fmt::Write;

/// A row: what is done, how it is written, and what is wanted of it.
struct Row {
    label: &'static str,
    file: &'static str,
    work: Work,
    wanted: f64,
}

/// As fast as libtdb.
const AS_FAST: f64 = 1.0;
/// The row that databases live on has to be clearly ahead.
const AHEAD: f64 = 1.5;

const PLAIN: &str = "plain.tdb";
const MUTEXES: &str = "mutexes.tdb";
const LARGE: &str = "large.tdb";

pub(super) fn measure(bench: &Bench) -> Result<String> {
    bench.make(PLAIN, Locks::Bytes, &[])?;
    bench.make(MUTEXES, Locks::Mutexes, &[])?;
    let traversed = format!("records={}", bench.effort.traversed);
    bench.make(LARGE, Locks::Bytes, &[traversed.clone(), "chains=100001".to_owned()])?;
    let mut text = format!(
        "{} rounds of {} ms each, alternating; 10000 records of 16 + 100 bytes in 10007 chains, on \
         tmpfs; traversed: {} records in 100001 chains; the disk: {}.\n\n\
         | operation | locks | libtdb: median (range) | ours | ours is as fast: times (range) \
         | of processor time |\n|---|---|---|---|---|---|\n",
        bench.effort.rounds,
        bench.effort.ms,
        bench.effort.traversed,
        bench.disk_kind()
    );
    let mut missed = Vec::new();
    for row in rows(bench, &traversed) {
        let (took, used) = one(bench, &row)?;
        let (label, locks) = (row.label, row.work.locks.name());
        let line = format!(
            "| {label} | {locks} | {} | {} | {} | {} |",
            spread(&took.libtdb, time),
            spread(&took.ours, time),
            spread(&took.ratios(), times),
            times(median(&used.ratios())),
        );
        say(&line);
        let _ = writeln!(text, "{line}");
        if median(&took.ratios()) < row.wanted {
            missed.push(format!("{label} ({locks}), wanted {}", times(row.wanted)));
        }
    }
    let verdict = if missed.is_empty() {
        "Every row has what is wanted of it.".to_owned()
    } else {
        format!("**Missed**: {}.", missed.join("; "))
    };
    let _ = writeln!(text, "\n{verdict}");
    Ok(text)
}

fn rows(bench: &Bench, traversed: &str) -> Vec<Row> {
    let ms = format!("ms={}", bench.effort.ms);
    let row = |label, locks, name, options: &[&str], wanted| {
        let file = if locks == Locks::Mutexes { MUTEXES } else { PLAIN };
        let options = [&[&*ms], options].concat();
        Row { label, file, work: Work::new(name, locks, &options), wanted }
    };
    let mut rows = Vec::new();
    for locks in [Locks::Bytes, Locks::Mutexes] {
        let ahead = if locks == Locks::Mutexes { AHEAD } else { AS_FAST };
        rows.extend([
            row("fetch", locks, "fetch", &[], AS_FAST),
            row("store in place", locks, "store", &[], AS_FAST),
            row("store a new record and delete one", locks, "churn", &[], AS_FAST),
            row("the same, volatile", locks, "churn", &["volatile=1"], AS_FAST),
            row("lock, fetch, store, unlock one key", locks, "update", &["keys=1"], ahead),
            row("the same, random keys", locks, "update", &[], AS_FAST),
            row("the same, one key, a call for each", locks, "steps", &["keys=1"], AS_FAST),
            row("transaction of 10 stores, without sync", locks, "commit", &[], AS_FAST),
        ]);
    }
    let mut synced =
        row("transaction of 10 stores, with sync", Locks::Bytes, "commit", &["sync=1"], AS_FAST);
    synced.work.place = Place::Disk;
    let mut all = row("traverse, each record", Locks::Bytes, "traverse", &[traversed], AS_FAST);
    all.file = LARGE;
    rows.extend([
        synced,
        all,
        row("fetch", Locks::None, "fetch", &[], AS_FAST),
        row("store in place", Locks::None, "store", &[], AS_FAST),
        row("store a new record and delete one", Locks::None, "churn", &[], AS_FAST),
    ]);
    rows
}

/// Nanoseconds of each operation: by the clock, and of the processor.
fn one(bench: &Bench, row: &Row) -> Result<(Pair, Pair)> {
    let (mut took, mut used) = (Pair::default(), Pair::default());
    for round in 0..bench.effort.rounds {
        for side in turns(round) {
            // A large file takes longer to be copied than to be looked at.
            let told = match row.work.name {
                "traverse" => bench.look(side, row.file, &row.work)?,
                _ => bench.run(side, row.file, &row.work)?,
            };
            let each = |ns: u64| ns as f64 / told.operations.max(1) as f64;
            let (took, used) = match side {
                Side::Ours => (&mut took.ours, &mut used.ours),
                Side::Libtdb => (&mut took.libtdb, &mut used.libtdb),
            };
            took.push(each(told.ns));
            used.push(each(told.cpu_ns));
        }
    }
    Ok((took, used))
}
